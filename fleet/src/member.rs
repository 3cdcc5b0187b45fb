//! A host of the fleet as a state machine: `step(event, now)` gives the effects. It has no clock and no socket; the loop
//! in [`agent`](crate::agent) hands it what happens, and does what it says.
//!
//! Its state is a handful of values: the [`Ledger`] (who is in, and what is to be told of it), the [`Clock`] of the fleet,
//! the [`Connection`] to the engine, what is [`Due`], and which policy runs [`There`].

use std::collections::BTreeSet;
use std::mem::take;

use toctoc::fleet_report::Report;

use crate::clock::{Clock, Moment};
use crate::connection::{Connection, PATIENCE, Teller};
use crate::exchange::{Ask, Heard};
use crate::ledger::{Item, Ledger, Work};
use crate::own_clock::Now;
use crate::reading::{
    Done, Reading, Seen, There, Told, Unread, opened, take_in, take_note, used_up,
};
use crate::refusals::Refusals;
use crate::report::report;
use crate::rules::Rules;

/// The time between two looks of a host at itself and at the engine's clock, in milliseconds.
pub const BEAT: i64 = 2000;

/// So much is told at once.
const TOGETHER: usize = 2000;

/// The rest after a change of the kernel, as a multiple of its time: many grants take a third of a processor
/// at most, and one that comes alone does not wait.
const REST: i64 = 2;

/// But no longer than this, in milliseconds.
const LONGEST_REST: i64 = 100;

/// The pause after the kernel has refused something, in milliseconds.
const PAUSE: i64 = 1000;

/// The least time between two reports because of new grants, in milliseconds.
const SPACING: i64 = 500;

/// The least time between two words about what the kernel refuses, in milliseconds.
const COMPLAINTS: i64 = 60_000;

/// Something that has happened.
#[derive(Debug)]
pub enum Event {
    /// The kernel told this.
    Told(Told),
    /// The sets that were asked for were looked at; `None`: they could not be.
    Seen(Option<Seen>),
    /// The whole table was read, or could not be: why.
    Read(Result<Reading, String>),
    /// Work was done in the kernel.
    Done(Done),
    /// The engine says this.
    Heard(Heard),
    /// This machine was asleep. Sets of the kernel do not count that time.
    Slept,
    /// All that waited was heard: it is time to act.
    Time,
}

/// A thing to do, in this order.
#[derive(Debug, PartialEq)]
pub enum Effect {
    /// Tell people: a sentence.
    Say(String),
    Ask(Ask),
    /// This host will say something again within so many milliseconds: if nothing is heard for much longer, the connection
    /// is broken.
    Expect(i64),
    /// Look at these sets of the kernel: [`Event::Seen`].
    See(Unread),
    /// Read the whole table: [`Event::Read`].
    Read,
    /// Change the kernel: [`Event::Done`].
    Work(Work),
    /// Write it down for `toctoc status`.
    Report(Report),
    End(End),
}

/// Why it ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// A policy was applied, and may be another one.
    Applied,
    /// Nobody can go on: a sentence.
    Failed(String),
}

/// The things to say to the engine, and when.
#[derive(Debug)]
pub struct Due {
    /// That this host is there; at `next_here` again.
    pub here: bool,
    next_here: Moment,
    /// A look at the engine's clock, even if there is nothing to tell.
    look: bool,
    /// The offset of the fleet's clock, which the engine does not keep; and when it was told that last.
    pub offset: bool,
    offset_told: Moment,
    /// The items that the engine would not keep, and why: they are told again at each beat.
    pub unkept: BTreeSet<Item>,
    pub why_unkept: Option<String>,
    /// The number of these at the last beat.
    still_unkept: usize,
    /// All is told again then: every host has noticed by then that the clock was set.
    pub all_at: Option<Moment>,
    /// Something was said by a clock that this host has not seen yet; and when all was read again because of that.
    pub to_come: bool,
    read_again: Moment,
}

/// See the module.
pub struct Member {
    pub ledger: Ledger,
    pub clock: Clock,
    pub connection: Connection,
    pub due: Due,
    pub refusals: Refusals,
    /// The policy in the kernel, as far as it was read. Only while it is this one anything is told or done.
    there: Option<There>,
    /// It could not be read what is there.
    unseen: bool,
    next_beat: Moment,
    reported: Moment,
    /// When it was last told that the kernel refused something.
    complained: Moment,
    /// The kernel is left alone until then.
    pause_until: Moment,
    pub(crate) effects: Vec<Effect>,
}

impl Member {
    /// A host that begins, with what is in its kernel. `run` is a random number, `engine` for people.
    pub fn begin(
        rules: Rules,
        run: u64,
        engine: String,
        read: Result<Reading, String>,
        now: Now,
    ) -> (Member, Vec<Effect>) {
        let mut member = Member {
            ledger: Ledger::new(rules, run),
            clock: Clock::default(),
            connection: Connection::new(engine),
            due: Due {
                here: true,
                next_here: now.moment,
                look: false,
                offset: false,
                offset_told: Moment::MIN,
                unkept: BTreeSet::new(),
                why_unkept: None,
                still_unkept: 0,
                all_at: None,
                to_come: false,
                read_again: Moment::MIN,
            },
            refusals: Refusals::default(),
            there: None,
            unseen: false,
            next_beat: now.moment,
            reported: Moment::MIN,
            complained: Moment::MIN,
            pause_until: now.moment,
            effects: Vec::new(),
        };
        member.read(read, now);
        let effects = take(&mut member.effects);
        (member, effects)
    }

    /// Takes in an event. Returns what is to be done about it.
    pub fn step(&mut self, event: Event, now: Now) -> Vec<Effect> {
        match event {
            Event::Told(told) => self.told(told, now),
            Event::Seen(seen) => self.seen(seen, now),
            Event::Read(read) => {
                let was_ours = self.is_ours();
                self.read(read, now);
                // Changes that were heard of before are to be done there too.
                if self.is_ours() && !was_ours {
                    self.effects.push(Effect::End(End::Applied));
                }
            }
            Event::Done(done) => self.done(done, now.moment),
            Event::Heard(heard) => self.hear(heard, now),
            Event::Slept => self.ledger.rewrite_all(),
            Event::Time => {
                self.work(now.moment);
                if now.moment >= self.next_beat {
                    self.next_beat = now.moment + BEAT;
                    self.beat(now);
                }
                self.tell(now);
            }
        }
        take(&mut self.effects)
    }

    /// The time of the next thing to do, if nothing happens before.
    pub fn next(&self) -> Moment {
        match self.is_ours() && self.ledger.has_work() {
            true => self.next_beat.min(self.pause_until),
            false => self.next_beat,
        }
    }

    /// Returns whether the kernel runs this policy.
    fn is_ours(&self) -> bool {
        self.there == Some(There::This)
    }

    pub(crate) fn say(&mut self, what: impl Into<String>) {
        self.effects.push(Effect::Say(what.into()));
    }

    /// Takes in what the kernel told.
    fn told(&mut self, told: Told, now: Now) {
        if told.applied {
            self.effects.push(Effect::End(End::Applied));
            return;
        }
        if self.is_ours() {
            let unread = opened(&mut self.ledger, &told, now.seconds);
            for note in &told.notes {
                take_note(&mut self.ledger, note, told.since, now.moment);
            }
            if !unread.is_empty() && !told.lost {
                self.effects.push(Effect::See(unread));
            }
        }
        if told.lost {
            self.look_again();
        }
    }

    fn look_again(&mut self) {
        self.say("not all that happened was heard: reading what is there");
        self.effects.push(Effect::Read);
    }

    fn seen(&mut self, seen: Option<Seen>, now: Now) {
        match seen {
            Some(seen) => used_up(&mut self.ledger, &seen, now.moment, now.seconds),
            None => self.look_again(),
        }
    }

    /// Takes in what is in the kernel.
    fn read(&mut self, read: Result<Reading, String>, now: Now) {
        let reading = match read {
            Ok(reading) => reading,
            Err(why) => {
                self.say(why);
                // At the next beat again.
                self.unseen = true;
                return;
            }
        };
        self.unseen = false;
        let there = reading.there();
        if let Reading::This(contents) = &reading {
            take_in(&mut self.ledger, contents, now.seconds);
        }
        let before = self.there.replace(there);
        if before == Some(there) {
            return;
        }
        if let Some(waits) = there.words() {
            self.say(waits);
        }
        self.report(now.moment);
    }

    /// Gives the kernel what follows from what was heard.
    fn work(&mut self, now: Moment) {
        if !self.is_ours() {
            // It begins anew when that changes.
            let _ = self.ledger.take_work(now);
            return;
        }
        if now < self.pause_until {
            return;
        }
        let work = self.ledger.take_work(now);
        if !work.is_empty() {
            self.effects.push(Effect::Work(work));
        }
    }

    /// Takes in what became of it.
    fn done(&mut self, done: Done, now: Moment) {
        self.ledger.give_back(done.again);
        self.pause_until = now;
        match &done.failure {
            // Work that comes in the meantime is done together.
            None => self.pause_until += (REST * done.took).min(LONGEST_REST),
            Some(_) => {
                self.pause_until += PAUSE;
                // The table may be gone.
                self.effects.push(Effect::Read);
            }
        }
        let complaints: Vec<String> = done.failure.into_iter().chain(done.forgotten).collect();
        // They have times in them, each time others.
        if !complaints.is_empty() && now >= self.complained.saturating_add(COMPLAINTS) {
            complaints
                .into_iter()
                .for_each(|complaint| self.say(complaint));
            self.complained = now;
        }
        // Whoever looks who is in wants to know from where.
        if now >= self.reported.saturating_add(SPACING) {
            self.report(now);
        }
    }

    /// Tells the engine what there is to tell, unless it is still busy.
    fn tell(&mut self, now: Now) {
        if !self.connection.is_free() {
            return;
        }
        let moment = now.moment;
        // By this the others reckon: it goes before all else, and alone.
        if self.due.offset && moment >= self.due.offset_told.saturating_add(BEAT) {
            self.due.offset_told = moment;
            self.connection.teller = Teller::Telling(Vec::new());
            let offset = self.ledger.offset(moment, &self.clock);
            self.ask(Ask::Tell(offset.into_iter().collect()));
            return;
        }
        if take(&mut self.connection.unread) {
            self.connection.teller = Teller::Reading;
            self.ask(Ask::Read);
            return;
        }
        let mut items = Vec::new();
        let mut tellings = Vec::new();
        while self.is_ours()
            && tellings.len() < TOGETHER
            && let Some(item) = self.ledger.to_tell.pop_first()
        {
            let telling = self.ledger.telling(&item, moment, &self.clock, now.seconds);
            if let Some(telling) = telling {
                tellings.push(telling);
                items.push(item);
            }
        }
        if take(&mut self.due.here) {
            tellings.extend(self.ledger.here(moment, &self.clock));
            self.connection.unheard.get_or_insert(moment);
        }
        if take(&mut self.due.look) || !tellings.is_empty() {
            self.connection.teller = Teller::Telling(items);
            self.ask(Ask::Tell(tellings));
        }
    }

    fn ask(&mut self, ask: Ask) {
        self.effects.push(Effect::Ask(ask));
    }

    /// Does what is done every two seconds.
    fn beat(&mut self, now: Now) {
        let Now { moment, seconds } = now;
        if moment >= self.due.next_here {
            self.due.here = true;
            self.due.next_here = moment + self.ledger.beat(moment);
            // An answer that drips keeps it from being said at all. Reading has a limit of its own.
            let connection = &mut self.connection;
            if connection.is_listening
                && matches!(connection.teller, Teller::Idle | Teller::Telling(_))
            {
                connection.unheard.get_or_insert(moment);
            }
        }
        self.due.look = true;
        if self.connection.is_unheard(moment) {
            self.broke("it passes on nothing of what it is told".to_string());
        }
        if self.due.all_at.is_some_and(|at| moment >= at) {
            self.due.all_at = None;
            self.ledger.tell_all();
            self.connection.unread = true;
        }
        // By now it has been looked at.
        if self.due.to_come && moment >= self.due.read_again.saturating_add(PATIENCE) {
            self.due.to_come = false;
            self.due.read_again = moment;
            self.connection.unread = true;
        }
        let again = take(&mut self.due.unkept);
        self.due.still_unkept = again.len();
        self.ledger.to_tell.extend(again);
        self.ledger.tidy(moment, seconds);
        self.effects.push(Effect::Expect(self.ledger.beat(moment)));
        if !self.is_ours() || self.unseen {
            self.effects.push(Effect::Read);
        }
        for due in self.refusals.take_due(moment) {
            self.say(due);
        }
        self.report(moment);
    }

    pub(crate) fn broke(&mut self, why: String) {
        if let Some(said) = self.connection.broke(why) {
            self.say(said);
        }
    }

    /// Writes down what `toctoc status` shows.
    pub(crate) fn report(&mut self, now: Moment) {
        self.reported = now;
        let (connection, due) = (&self.connection, &self.due);
        let last = self.refusals.last.as_ref();
        let report = Report {
            engine: connection.engine.clone(),
            connected: connection.is_up(now),
            why: connection.why.as_ref().or(due.why_unkept.as_ref()).cloned(),
            lag: connection.lag,
            refused: self.refusals.count,
            last_refused: last.map(|(why, _)| why.clone()),
            refused_ago: last.map(|(_, at)| now.saturating_sub(*at).max(0) as f64 / 1000.0),
            unkept: due.still_unkept.max(due.unkept.len()),
            waits: self.there.and_then(There::words).map(str::to_string),
            ..report(&self.ledger, now)
        };
        self.effects.push(Effect::Report(report));
    }
}
