//! The loop of `toctoc-fleet`. It waits until the kernel or the engine says something, or it is time to say that this host
//! is there; nothing else wakes it. It hands all that happens to the [`Member`], and does what that says.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::clock::Moment;
use crate::engine::{Address, Link};
use crate::kernel::Kernel;
use crate::member::{Effect, End, Event, Member};
use crate::own_clock::{Now, asleep, now};
use crate::rules::Rules;

/// The longest wait, in milliseconds. An opening may have been told at any time in it, since the agent may
/// have stood still, and is reckoned from its beginning.
const NAP: i64 = 250;

/// The most messages that are read before the kernel is updated.
const TOGETHER: usize = 2000;
/// The longest time until then, in milliseconds.
const TURN: i64 = 100;

/// More than the two clocks of this host part by themselves, in milliseconds.
const SLEPT: i64 = 100;

/// The listener that is told what happens, a sentence each.
pub type Say<'s> = &'s mut dyn FnMut(&str);

/// The clocks, the sockets, and the value that decides.
struct Agent<'s> {
    say: Say<'s>,
    kernel: Kernel,
    link: Link,
    member: Member,
    /// The last report. Who reads it knows by its lock that this process is there.
    report: Option<File>,
    /// More was heard than is taken in at once.
    more: bool,
    /// For how long this machine has been asleep since its start.
    asleep: i64,
}

/// Runs until something ends it. `run` is a random number.
pub fn run(rules: Rules, group: u16, address: &Address, run: u64, say: Say<'_>) -> End {
    let begun = Kernel::listen(group).and_then(|kernel| {
        let link = Link::start(address);
        Ok((kernel, link.map_err(|error| error.to_string())?))
    });
    let (kernel, link) = match begun {
        Ok(begun) => begun,
        Err(why) => return End::Failed(why),
    };
    let asleep = asleep();
    let read = kernel.read(rules.terms).map_err(|failure| failure.message);
    let engine = address.engine.to_string();
    let (member, effects) = Member::begin(rules, run, engine, read, Now::read());
    let mut agent = Agent {
        say,
        kernel,
        link,
        member,
        report: None,
        more: false,
        asleep,
    };
    let mut ended = agent.perform(effects);
    loop {
        if let Some(end) = ended {
            return end;
        }
        ended = agent.turn();
    }
}

impl Agent<'_> {
    fn turn(&mut self) -> Option<End> {
        if let Err(error) = self.wait() {
            return Some(End::Failed(format!("nothing can be waited for: {error}")));
        }
        let told = match self.kernel.hear() {
            Ok(told) => told,
            Err(why) => return Some(End::Failed(why)),
        };
        if let Some(end) = self.step(Event::Told(told)) {
            return Some(end);
        }
        let asleep = asleep();
        if asleep > self.asleep + SLEPT
            && let Some(end) = self.step(Event::Slept)
        {
            return Some(end);
        }
        self.asleep = asleep;
        let until = now() + TURN;
        let mut taken = 0;
        self.more = loop {
            let Ok(heard) = self.link.heard.try_recv() else {
                break false;
            };
            if let Some(end) = self.step(Event::Heard(heard)) {
                return Some(end);
            }
            taken += 1;
            if taken == TOGETHER || now() >= until {
                break true;
            }
        };
        self.step(Event::Time)
    }

    /// Hands over an event, and does what follows.
    fn step(&mut self, event: Event) -> Option<End> {
        let effects = self.member.step(event, Now::read());
        self.perform(effects)
    }

    /// Does these things one after the other. What comes of one is an event of its own.
    fn perform(&mut self, effects: Vec<Effect>) -> Option<End> {
        for effect in effects {
            let event = match effect {
                Effect::Say(what) => {
                    (self.say)(&what);
                    continue;
                }
                Effect::Ask(ask) => {
                    self.link.ask(ask);
                    continue;
                }
                Effect::Expect(milliseconds) => {
                    self.link.expect_a_word_within(milliseconds);
                    continue;
                }
                Effect::Report(report) => {
                    // Whoever asks for it sees that there is none.
                    self.report = report.write().ok();
                    continue;
                }
                Effect::End(end) => return Some(end),
                Effect::See(unread) => Event::Seen(self.kernel.see(unread).ok()),
                Effect::Read => {
                    let read = self.kernel.read(self.member.ledger.rules.terms);
                    Event::Read(read.map_err(|failure| failure.message))
                }
                Effect::Work(work) => {
                    let rules = &self.member.ledger.rules;
                    Event::Done(self.kernel.work(work, rules, Now::read().seconds))
                }
            };
            if let Some(end) = self.step(event) {
                return Some(end);
            }
        }
        None
    }

    /// Waits for the kernel, the engine or the next thing to do.
    fn wait(&mut self) -> io::Result<()> {
        let now = now();
        let left = match self.more {
            true => 0,
            false => self.member.next().saturating_sub(now).clamp(0, NAP),
        };
        let [group, events] = self.kernel.wakes();
        let woken = self.link.woken.as_fd();
        let mut all = [group, events, woken].map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
        // First whether something waits already: what has not come by now comes after it.
        if waits(&mut all, 0)? == Some(0) {
            waits(&mut all, left)?;
            self.kernel.was_quiet_at(now);
        }
        let mut bytes = [0; 512];
        // As many as there are: what woke us is in the queue.
        while matches!((&self.link.woken).read(&mut bytes), Ok(read) if read == bytes.len()) {}
        Ok(())
    }
}

/// The number of those that can be read, within so many milliseconds; `None`: a signal came first.
fn waits(all: &mut [PollFd<'_>], milliseconds: Moment) -> io::Result<Option<usize>> {
    let time = Timespec {
        tv_sec: milliseconds / 1000,
        tv_nsec: milliseconds % 1000 * 1_000_000,
    };
    match poll(all, Some(&time)) {
        Ok(number) => Ok(Some(number)),
        Err(rustix::io::Errno::INTR) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
