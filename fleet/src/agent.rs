//! The loop of `toctoc fleet`. It waits until the kernel or the engine says something, or it is time to say
//! that this host is there; nothing else wakes it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use toctoc::fleet_report::Report;

use crate::clock::{Clock, Moment};
use crate::engine::{Address, Ask, Link, asleep, now};
use crate::kernel::{Kernel, There};
use crate::ledger::{Item, Ledger};
use crate::report::report;
use crate::rules::Rules;

/// The time between an agent's looks at itself, and at the engine's clock, in milliseconds.
pub(crate) const BEAT: i64 = 2000;

/// The longest wait, in milliseconds. An opening may have been told at any time in it, since the agent may
/// have stood still, and is reckoned from its beginning.
const NAP: i64 = 250;

/// The rest after a change of the kernel, as a multiple of its time: many grants take a third of a processor
/// at most, and one that comes alone does not wait.
const REST: i64 = 2;

/// But no longer than this, in milliseconds.
const LONGEST_REST: i64 = 100;

/// The time that this host's words may take to come back to it, in milliseconds.
pub(crate) const PATIENCE: i64 = 10_000;

/// The pause after the kernel has refused something, in milliseconds.
const PAUSE: i64 = 1000;

/// The least time between two reports because of new grants, in milliseconds.
const SPACING: i64 = 500;

/// So much is told at once, and so much heard before the kernel is given what follows from it, but for no longer
/// than this, in milliseconds.
const TOGETHER: usize = 2000;
const TURN: i64 = 100;

/// The least time between two words about what the kernel refuses, in milliseconds.
const COMPLAINTS: i64 = 60_000;

/// More than the two clocks of this host part by themselves, in milliseconds.
const SLEPT: i64 = 100;

/// Why the agent has ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Ended {
    /// A policy was applied, and may be another one.
    Applied,
    /// Nobody can go on: a sentence.
    Failed(String),
}

/// The listener that is told what happens, a sentence each.
pub type Say<'s> = &'s mut dyn FnMut(&str);

/// The state of the connection that asks.
pub(crate) enum Teller {
    Down,
    Idle,
    Reading,
    /// These are being told.
    Telling(Vec<Item>),
}

pub(crate) struct Agent<'s> {
    pub(crate) say: Say<'s>,
    pub(crate) ledger: Ledger,
    pub(crate) kernel: Kernel,
    pub(crate) link: Link,
    pub(crate) clock: Clock,
    pub(crate) listening: bool,
    pub(crate) teller: Teller,
    /// It is to be read what is kept, since nobody has listened for some time.
    pub(crate) unread: bool,
    /// The items that the engine would not keep; they are told again at each beat.
    pub(crate) unkept: BTreeSet<Item>,
    /// The number of these at the last beat.
    still_unkept: usize,
    /// Where it is written down what there is, and when that was done last.
    report: Option<File>,
    reported: Moment,
    /// `true` if it is to be said at once that this host is there.
    pub(crate) unsaid: bool,
    /// More was heard than is taken in at once.
    more: bool,
    /// The policy in the kernel, as far as it was read. Only while it is this one anything is told or done.
    there: Option<There>,
    /// It could not be read what is there.
    unseen: bool,
    /// For how long this machine has been asleep since its start.
    asleep: i64,
    /// All is told again then.
    pub(crate) tell_all_at: Option<Moment>,
    /// The engine's clock is to be looked at, even if there is nothing to tell.
    unlooked: bool,
    /// The engine does not keep the offset of the fleet's clock, and when it was told that last.
    pub(crate) is_untold: bool,
    offset_told: Moment,
    /// Something was said by a clock that this host has not seen yet, and when all was read again because of that.
    pub(crate) to_come: bool,
    read_again: Moment,
    /// The first time this host said something, or wanted to, that it has not heard itself yet.
    pub(crate) unheard: Option<Moment>,
    pub(crate) lag: Option<i64>,
    pub(crate) why: Option<String>,
    pub(crate) why_unkept: Option<String>,
    /// Why, how often since that was told last, and when that was.
    pub(crate) refused: BTreeMap<String, (u64, Moment)>,
    pub(crate) all_refused: u64,
    pub(crate) last_refused: Option<(String, Moment)>,
    next_beat: Moment,
    /// When it is to be said again that this host is there.
    next_here: Moment,
    /// When it was last told that the kernel refused something.
    complained: Moment,
    /// The kernel is left alone until then.
    pause_until: Moment,
    pub(crate) engine: String,
}

/// Runs until something ends it. `run` is a random number.
///
/// # Errors
/// As an [`Ended`]: it returns nothing else.
pub fn run(rules: Rules, group: u16, address: &Address, run: u64, say: Say<'_>) -> Ended {
    let begun = Kernel::listen(group).and_then(|kernel| {
        let link = Link::start(address);
        Ok((kernel, link.map_err(|error| error.to_string())?))
    });
    let (kernel, link) = match begun {
        Ok(begun) => begun,
        Err(why) => return Ended::Failed(why),
    };
    let mut agent = Agent {
        say,
        ledger: Ledger::new(rules, run),
        kernel,
        link,
        clock: Clock::default(),
        listening: false,
        teller: Teller::Down,
        unread: true,
        unkept: BTreeSet::new(),
        still_unkept: 0,
        report: None,
        reported: Moment::MIN,
        unsaid: true,
        more: false,
        there: None,
        unseen: false,
        asleep: asleep(),
        tell_all_at: None,
        unlooked: false,
        is_untold: false,
        offset_told: Moment::MIN,
        to_come: false,
        read_again: Moment::MIN,
        unheard: None,
        lag: None,
        why: Some("not connected yet".to_string()),
        why_unkept: None,
        refused: BTreeMap::new(),
        all_refused: 0,
        last_refused: None,
        next_beat: now(),
        next_here: now(),
        complained: Moment::MIN,
        pause_until: now(),
        engine: address.engine.to_string(),
    };
    agent.look();
    loop {
        if let Some(ended) = agent.turn() {
            return ended;
        }
    }
}

pub(crate) fn seconds() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    })
}

impl Agent<'_> {
    fn turn(&mut self) -> Option<Ended> {
        if let Err(error) = self.wait() {
            return Some(Ended::Failed(format!("nothing can be waited for: {error}")));
        }
        let is_ours = self.there == Some(There::This);
        match self.kernel.hear(&mut self.ledger, is_ours, seconds()) {
            Ok(told) if told.applied => return Some(Ended::Applied),
            Ok(told) if told.lost => {
                (self.say)("not all that happened was heard: reading what is there");
                self.look();
            }
            Ok(_) => {}
            Err(why) => return Some(Ended::Failed(why)),
        }
        let until = now() + TURN;
        let mut taken = 0;
        // Sets of the kernel do not count the time asleep.
        let asleep = asleep();
        if asleep > self.asleep + SLEPT {
            self.ledger.rewrite_all();
        }
        self.asleep = asleep;
        self.more = loop {
            let Ok(heard) = self.link.heard.try_recv() else {
                break false;
            };
            self.hear(heard);
            taken += 1;
            if taken == TOGETHER || now() >= until {
                break true;
            }
        };
        self.work();
        let now = now();
        if now >= self.next_beat {
            self.next_beat = now + BEAT;
            self.beat(now);
        }
        // Changes that were heard of before are to be done there too.
        if self.there == Some(There::This) && !is_ours {
            return Some(Ended::Applied);
        }
        self.tell(now);
        None
    }

    /// Waits for the kernel, the engine or the next beat.
    fn wait(&mut self) -> std::io::Result<()> {
        let now = now();
        let mut until = self.next_beat;
        if self.there == Some(There::This) && self.ledger.has_work() {
            until = until.min(self.pause_until);
        }
        let left = match self.more {
            true => 0,
            false => until.saturating_sub(now).clamp(0, NAP),
        };
        let timeout = Timespec {
            tv_sec: left / 1000,
            tv_nsec: left % 1000 * 1_000_000,
        };
        let [group, events] = self.kernel.wakes();
        let woken = self.link.woken.as_fd();
        let mut all = [group, events, woken].map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
        match poll(
            &mut all,
            Some(&Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            }),
        ) {
            Ok(0) => {
                match poll(&mut all, Some(&timeout)) {
                    Ok(_) | Err(rustix::io::Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
                self.kernel.was_quiet_at(now);
            }
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let mut bytes = [0; 512];
        // As many as there are: what woke us is in the queue.
        while matches!((&self.link.woken).read(&mut bytes), Ok(read) if read == bytes.len()) {}
        Ok(())
    }

    /// Reads what is in the kernel.
    fn look(&mut self) {
        self.unseen = false;
        match self.kernel.read(&mut self.ledger, seconds()) {
            Ok(there) => {
                let before = self.there.replace(there);
                if let Some(waits) = there.words().filter(|_| before != Some(there)) {
                    (self.say)(waits);
                }
            }
            Err(failure) => {
                (self.say)(&failure.message);
                // At the next beat again.
                self.unseen = true;
            }
        }
    }

    /// Gives the kernel what follows from what was heard.
    fn work(&mut self) {
        let now = now();
        if self.there != Some(There::This) {
            // It begins anew when that changes.
            let _ = self.ledger.take_work(now);
            return;
        }
        if now < self.pause_until {
            return;
        }
        let work = self.ledger.take_work(now);
        if work.is_empty() {
            return;
        }
        let done = self.kernel.work(work, &self.ledger.rules, seconds());
        self.ledger.give_back(done.again);
        match &done.failure {
            // Work that comes in the meantime is done together.
            None => {
                self.pause_until = self::now() + (REST * self.kernel.took()).min(LONGEST_REST);
            }
            Some(_) => {
                self.pause_until = now + PAUSE;
                // The table may be gone.
                self.look();
            }
        }
        let complaints = done.failure.map(|failure| failure.message);
        let complaints: Vec<String> = complaints.into_iter().chain(done.forgotten).collect();
        // They have times in them, each time others.
        if !complaints.is_empty() && now >= self.complained.saturating_add(COMPLAINTS) {
            complaints
                .iter()
                .for_each(|complaint| (self.say)(complaint));
            self.complained = now;
        }
        // Whoever looks who is in wants to know from where.
        if now >= self.reported.saturating_add(SPACING) {
            self.report();
        }
    }

    /// Tells the engine what there is to tell, unless it is still busy.
    fn tell(&mut self, now: Moment) {
        if !self.listening || !matches!(self.teller, Teller::Idle) {
            return;
        }
        let is_ours = self.there == Some(There::This);
        let mut items = Vec::new();
        let mut tellings = Vec::new();
        // By this the others reckon: it goes before all else, and alone.
        if self.is_untold && now >= self.offset_told.saturating_add(BEAT) {
            self.offset_told = now;
            self.teller = Teller::Telling(items);
            let offset = self.ledger.offset(now, &self.clock);
            self.link.ask(Ask::Tell(offset.into_iter().collect()));
            return;
        }
        if std::mem::take(&mut self.unread) {
            self.teller = Teller::Reading;
            self.link.ask(Ask::Read);
            return;
        }
        while is_ours
            && tellings.len() < TOGETHER
            && let Some(item) = self.ledger.to_tell.pop_first()
        {
            if let Some(telling) = self.ledger.telling(&item, now, &self.clock, seconds()) {
                tellings.push(telling);
                items.push(item);
            }
        }
        if std::mem::take(&mut self.unsaid) {
            tellings.extend(self.ledger.here(now, &self.clock));
            self.unheard.get_or_insert(now);
        }
        if std::mem::take(&mut self.unlooked) || !tellings.is_empty() {
            self.teller = Teller::Telling(items);
            self.link.ask(Ask::Tell(tellings));
        }
    }

    /// Returns whether what this host said does not come back to it. An engine that hangs breaks the connection; one that
    /// sends its answers a byte at a time, or keeps words back, does not.
    pub(crate) fn is_unheard(&self, now: Moment) -> bool {
        self.unheard
            .is_some_and(|said| now.saturating_sub(said) > PATIENCE)
    }

    fn beat(&mut self, now: Moment) {
        if now >= self.next_here {
            self.unsaid = true;
            self.next_here = now + self.ledger.beat(now);
            // An answer that drips keeps it from being said at all. Reading has a limit of its own.
            if self.listening && matches!(self.teller, Teller::Idle | Teller::Telling(_)) {
                self.unheard.get_or_insert(now);
            }
        }
        self.unlooked = true;
        if self.is_unheard(now) {
            self.broke("it passes on nothing of what it is told".to_string());
        }
        if self.tell_all_at.is_some_and(|at| now >= at) {
            self.tell_all_at = None;
            self.ledger.tell_all();
            self.unread = true;
        }
        // By now it has been looked at.
        if self.to_come && now >= self.read_again.saturating_add(PATIENCE) {
            self.to_come = false;
            self.read_again = now;
            self.unread = true;
        }
        let again = std::mem::take(&mut self.unkept);
        self.still_unkept = again.len();
        self.ledger.to_tell.extend(again);
        self.ledger.tidy(now, seconds());
        self.link.expect_a_word_within(self.ledger.beat(now));
        if self.there != Some(There::This) || self.unseen {
            self.look();
        }
        for (why, (count, told)) in &mut self.refused {
            if *count > 0 && now >= told.saturating_add(COMPLAINTS) {
                (self.say)(&format!("refused {count} of what others say: {why}"));
                (*count, *told) = (0, now);
            }
        }
        self.report();
    }

    /// Writes down what `toctoc status` shows.
    pub(crate) fn report(&mut self) {
        self.reported = now();
        let connected =
            self.listening && !matches!(self.teller, Teller::Down) && !self.is_unheard(now());
        let report = Report {
            engine: self.engine.clone(),
            connected,
            why: self.why.as_ref().or(self.why_unkept.as_ref()).cloned(),
            lag: self.lag,
            refused: self.all_refused,
            last_refused: self.last_refused.as_ref().map(|(why, _)| why.clone()),
            refused_ago: self
                .last_refused
                .as_ref()
                .map(|(_, at)| self.reported.saturating_sub(*at).max(0) as f64 / 1000.0),
            unkept: self.still_unkept.max(self.unkept.len()),
            waits: self.there.and_then(There::words).map(str::to_string),
            ..report(&self.ledger, self.reported)
        };
        // Whoever asks for it sees that there is none.
        self.report = report.write().ok();
    }
}
