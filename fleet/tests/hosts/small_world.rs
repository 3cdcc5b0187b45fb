//! A small world of hosts and an engine, with clocks that differ and words that take their time, in which no
//! grant ever lives longer than it was given.

use std::collections::BTreeMap;
use std::net::IpAddr;

use proptest::prelude::*;

use super::{SECONDS, ledger, name};
use toctoc::policy::Name;
use toctoc_fleet::clock::{Clock, Moment};
use toctoc_fleet::ledger::{By, Ledger};
use toctoc_fleet::message::{Message, News, OFFSET};
use toctoc_fleet::take::take;

/// A step in the small world, by the host of this number.
#[derive(Debug, Clone)]
enum Step {
    Opens(usize, u8),
    Closes(usize, u8),
    /// Its agent is started anew: what it heard is gone, also of the engine's clock, and what the kernel has is there.
    Restarts(usize),
    /// Reads all that is kept.
    Reads(usize),
    EngineIsEmptied,
    /// Its clock is set ahead by so many milliseconds, or back; then this host notices it first. (Whoever has not
    /// looked yet, when the clock of the fleet goes ahead, takes what is under way for newer than it is, by no more than
    /// it was under way: that is not judged here.)
    EngineIsSet(i64, usize),
    Passes(i64),
}

struct Small {
    now: Moment,
    hosts: Vec<Ledger>,
    /// The time that each host's clock is ahead.
    ahead: Vec<i64>,
    clocks: Vec<Clock>,
    kept: BTreeMap<String, String>,
    /// Words under way: when each arrives, where, and the text.
    under_way: Vec<(Moment, usize, String)>,
    /// The grants of other hosts in each host's kernel, by its own clock.
    kernels: Vec<BTreeMap<(Name, ipnet::IpNet), Moment>>,
    /// When each source's grants really end.
    ends: BTreeMap<u8, Moment>,
    /// The time that the engine's clock is ahead of real time.
    engine: i64,
}

/// The engine's clock is ahead of real time by this at first.
const ENGINE: i64 = 987_654_321;

/// The longest time for a look or a word.
const SLOWEST: i64 = 3000;

impl Small {
    fn new(ahead: Vec<i64>) -> Small {
        let count = ahead.len();
        let names = ["a", "b", "c"];
        Small {
            now: 0,
            hosts: names[..count].iter().map(|me| ledger(me, "")).collect(),
            clocks: vec![Clock::default(); count],
            ahead,
            kept: BTreeMap::new(),
            under_way: Vec::new(),
            kernels: vec![BTreeMap::new(); count],
            ends: BTreeMap::new(),
            engine: ENGINE,
        }
    }

    fn source(number: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, number])
    }

    fn clock(&self, host: usize) -> Moment {
        self.now + self.ahead[host]
    }

    /// A host looks at the engine's clock; the answer takes as long as `slow`.
    fn look(&mut self, host: usize, slow: i64) {
        let asked = self.clock(host);
        let told = self.now + slow / 3 + self.engine;
        let kept = self
            .kept
            .get(OFFSET)
            .map(|text| Message::parse(text.as_bytes()).unwrap());
        let kept = kept.map(|message| match message.news {
            News::Offset { by } => by,
            other => panic!("{other:?}"),
        });
        let looked = self.clocks[host].look(asked, told, asked + slow, kept);
        let now = self.clock(host);
        if looked.tell
            && let Some(telling) = self.hosts[host].offset(now, &self.clocks[host])
        {
            self.kept.insert(telling.key, telling.text.unwrap());
        }
        if looked.ahead > 0 {
            self.hosts[host].shorten(looked.ahead);
            self.hosts[host].tell_all();
        }
    }

    fn speak(&mut self, host: usize, slow: i64) {
        let now = self.clock(host);
        let items = std::mem::take(&mut self.hosts[host].to_tell);
        for item in items {
            let telling = self.hosts[host].telling(&item, now, &self.clocks[host], SECONDS);
            let Some(telling) = telling else { continue };
            match telling.text {
                None => {
                    self.kept.remove(&telling.key);
                }
                Some(text) => {
                    self.kept.insert(telling.key, text.clone());
                    for other in 0..self.hosts.len() {
                        let arrives = self.now + slow * (1 + other as i64);
                        self.under_way.push((arrives, other, text.clone()));
                    }
                }
            }
        }
    }

    fn arrive(&mut self, host: usize, text: &str, kept: bool) {
        let now = self.clock(host);
        let message = Message::parse(text.as_bytes()).unwrap();
        let (ledger, clock) = (&mut self.hosts[host], &self.clocks[host]);
        let _ = take(ledger, clock, &message, kept, now, SECONDS);
    }

    /// Gives the kernels what follows, and sees that nobody is in for too long.
    fn settle(&mut self) {
        for host in 0..self.hosts.len() {
            let now = self.clock(host);
            let work = self.hosts[host].take_work(now);
            for (place, end) in work.elsewhere {
                match end {
                    Some(end) => self.kernels[host].insert(place, end),
                    None => self.kernels[host].remove(&place),
                };
            }
            self.kernels[host].retain(|_, end| *end > now);
            let ahead = self.ahead[host];
            for ((_, source), end) in &self.kernels[host] {
                let IpAddr::V4(v4) = source.addr() else {
                    unreachable!()
                };
                let number = v4.octets()[3];
                let real = self.ends.get(&number).copied().unwrap_or(Moment::MIN);
                assert!(end - ahead <= real, "{number} is in too long at {host}");
            }
        }
    }

    fn pass(&mut self, time: i64) {
        let until = self.now + time;
        self.under_way.sort_by_key(|(arrives, ..)| *arrives);
        let due = self
            .under_way
            .partition_point(|(arrives, ..)| *arrives <= until);
        let due: Vec<_> = self.under_way.drain(..due).collect();
        for (arrives, host, text) in due {
            self.now = self.now.max(arrives);
            self.arrive(host, &text, false);
            self.settle();
        }
        self.now = until;
    }

    fn step(&mut self, step: &Step, slow: i64) {
        match *step {
            Step::Opens(host, number) => {
                let now = self.clock(host);
                self.hosts[host].opened(&name("ssh"), &name("yves"), Self::source(number), now);
                let end = self.ends.entry(number).or_insert(Moment::MIN);
                *end = (self.now + 60_000).max(*end);
            }
            Step::Closes(host, number) => {
                let network = ipnet::IpNet::from(Self::source(number));
                let now = self.clock(host);
                self.kernels[host].remove(&(name("ssh"), network));
                self.hosts[host].closed_here(&name("ssh"), network, now);
            }
            Step::Restarts(host) => {
                let now = self.clock(host);
                let me = self.hosts[host].rules.me.to_string();
                let old = std::mem::replace(&mut self.hosts[host], ledger(&me, ""));
                for (place, given) in &old.own {
                    let (door, key) = (&place.0, given.key.as_ref());
                    self.hosts[host].grant(door, key, given.source, given.began, given.end);
                }
                for (place, end) in &self.kernels[host] {
                    self.hosts[host].found_elsewhere(place.clone(), now, *end);
                }
                for ((door, source), ended) in old.closed.iter().filter(|(_, e)| e.by == By::Here) {
                    self.hosts[host].closed_here(door, *source, ended.at);
                }
                for ((door, source), ended) in old.closed.iter().filter(|(_, e)| e.by != By::Here) {
                    self.hosts[host].remember_ended(door, *source, ended.at);
                }
                self.clocks[host] = Clock::default();
                self.look(host, slow);
                self.read(host);
            }
            Step::Reads(host) => self.read(host),
            Step::EngineIsEmptied => {
                self.kept.clear();
                for host in &mut self.hosts {
                    host.tell_all();
                }
            }
            Step::EngineIsSet(ahead, _) => self.engine += ahead,
            Step::Passes(time) => self.pass(time),
        }
        let first = match *step {
            Step::EngineIsSet(_, first) => first,
            _ => 0,
        };
        for number in 0..self.hosts.len() {
            let host = (first + number) % self.hosts.len();
            self.look(host, slow);
            self.speak(host, slow);
        }
        self.settle();
    }

    fn read(&mut self, host: usize) {
        for text in self.kept.clone().into_values() {
            self.arrive(host, &text, true);
        }
        self.hosts[host].tell_all();
    }
}

fn step() -> impl Strategy<Value = Step> {
    let (host, source) = (0..3_usize, 1..4_u8);
    prop_oneof![
        4 => (host.clone(), source.clone()).prop_map(|(h, s)| Step::Opens(h, s)),
        1 => (host.clone(), source).prop_map(|(h, s)| Step::Closes(h, s)),
        1 => host.clone().prop_map(Step::Restarts),
        1 => host.prop_map(Step::Reads),
        1 => Just(Step::EngineIsEmptied),
        // By less than two looks take, nobody notices.
        1 => (2 * SLOWEST..20_000, 0..3_usize).prop_map(|(a, h)| Step::EngineIsSet(a, h)),
        1 => (2 * SLOWEST..20_000, 0..3_usize).prop_map(|(a, h)| Step::EngineIsSet(-a, h)),
        4 => (0..40_000_i64).prop_map(Step::Passes),
    ]
}

proptest! {
    /// However words and clocks go, nobody is in at another host for longer than where the knock came. At the end,
    /// when all has been said, what was closed is closed everywhere.
    #[test]
    fn nobody_is_in_for_longer_than_he_was_let_in(
        ahead in prop::collection::vec(-1_000_000_000..1_000_000_000_i64, 3),
        steps in prop::collection::vec((step(), 0..SLOWEST), 0..60),
    ) {
        let mut small = Small::new(ahead);
        for host in 0..3 {
            small.look(host, 10);
        }
        for (step, slow) in &steps {
            small.step(step, *slow);
        }
        for number in 1..4 {
            small.step(&Step::Closes(usize::from(number) % 3, number), 10);
        }
        small.step(&Step::Passes(20_000), 10);
        for host in 0..3 {
            small.step(&Step::Reads(host), 10);
        }
        small.step(&Step::Passes(1000), 10);
        for kernel in &small.kernels {
            prop_assert_eq!(kernel.len(), 0);
        }
    }
}
