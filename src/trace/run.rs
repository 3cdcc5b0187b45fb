//! The machine at work on a trace: the automaton plus time and grants, and the reason for each step.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use super::{Holding, Packet};
use crate::automaton::{Automaton, Place, State, Step};
use crate::knock::Protocol;
use crate::policy::{DoorIndex, KeyIndex, KeyKind, Policy, SequenceIndex};

/// The meaning of a packet, and why.
#[derive(Debug, Clone, PartialEq)]
pub enum Meaning {
    /// UDP, and the policy has no UDP port: datagrams are not looked at.
    NotJudged,
    /// A port of `ignore`.
    Ignored,
    /// A connection to a door from a trusted source.
    Trusted(DoorIndex),
    /// A connection to a door by a source that holds a grant for `left` longer.
    Granted {
        door: DoorIndex,
        left: Duration,
        once: bool,
        /// The time that is left of it from now on, where the connection has extended it.
        extended: Option<Duration>,
    },
    /// For a host behind this one at which no knocks are heard.
    NotHeard,
    Echo,
    /// A knock that counts (or leads nowhere).
    Knock {
        effect: Effect,
        /// The progress before this knock, and how long ago the last counted knock was.
        before: Before,
    },
}

/// The effect of a counted knock.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Effect {
    /// A stranger at a door.
    Refused(DoorIndex),
    Nowhere,
    Progress(State),
    Opens(KeyIndex),
    /// The sequence of a key that has expired.
    Expired(KeyIndex),
    /// A scratch sequence that has opened before.
    Burnt(KeyIndex),
}

/// The state that a knock found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Before {
    Nothing,
    Progress(State),
    /// Progress that had run out: the last counted knock was this long ago.
    TooLate(State, Duration),
}

/// The machine and everything it remembers, for all sources.
#[derive(Clone)]
pub struct Run<'p> {
    policy: &'p Policy,
    automaton: &'p Automaton,
    began: i64,
    visitors: BTreeMap<IpAddr, (State, Duration)>,
    grants: BTreeMap<Holding, (Duration, KeyIndex)>,
    /// The end that no connection extends, of each grant that stays while it is used.
    latest: BTreeMap<Holding, Duration>,
    opened: Vec<u64>,
    burnt: BTreeSet<SequenceIndex>,
}

impl<'p> Run<'p> {
    /// `began` is the time of the trace's beginning in seconds since 1970, for keys that expire.
    pub fn new(policy: &'p Policy, automaton: &'p Automaton, began: i64) -> Run<'p> {
        Run {
            policy,
            automaton,
            began,
            visitors: BTreeMap::new(),
            grants: BTreeMap::new(),
            latest: BTreeMap::new(),
            opened: vec![0; policy.keys.len()],
            burnt: BTreeSet::new(),
        }
    }

    /// Takes the next packet. Times never go back.
    pub fn packet(&mut self, packet: Packet) -> Meaning {
        let Packet {
            at,
            source,
            host,
            to,
        } = packet;
        if to.protocol == Protocol::Udp && !self.policy.judges_udp() {
            return Meaning::NotJudged;
        }
        if self.policy.ignore.contains(&to) {
            return Meaning::Ignored;
        }
        let door = self.policy.door_of(host, to);
        let entrance = door.filter(|&door| !self.policy.door(door).leads_nowhere_for(source));
        if let Some(door) = entrance.filter(|&door| self.trusts(source, door)) {
            return Meaning::Trusted(door);
        }
        for asked in entrance
            .iter()
            .flat_map(|&door| self.policy.asked_for(door))
        {
            if let Some(admitted) = self.admit(at, source, asked) {
                return admitted;
            }
        }
        if door.is_none() && host.is_some_and(|host| !self.policy.hears_at(host)) {
            return Meaning::NotHeard;
        }
        let before = self.before(at, source);
        let state = match before {
            Before::Progress(state) => state,
            _ => State::ROOT,
        };
        let step = self.automaton.step(state, to);
        if step == Step::Echo {
            return Meaning::Echo;
        }
        let effect = self.take(at, source, step);
        let effect = match door {
            Some(door) => Effect::Refused(door),
            None => effect,
        };
        Meaning::Knock { effect, before }
    }

    fn trusts(&self, source: IpAddr, door: DoorIndex) -> bool {
        let trust = &self.policy.door(door).trust;
        trust.iter().any(|network| network.contains(&source))
    }

    fn admit(&mut self, at: Duration, source: IpAddr, door: DoorIndex) -> Option<Meaning> {
        if self.trusts(source, door) {
            return Some(Meaning::Trusted(door));
        }
        for once in [false, true] {
            let holding = self.holding(source, door, once);
            let Some(&(end, _)) = self.grants.get(&holding) else {
                continue;
            };
            if at < end {
                if once {
                    self.grants.remove(&holding);
                }
                let left = end - at;
                let extended = self.extend(at, holding, end).map(|end| end - at);
                return Some(Meaning::Granted {
                    door,
                    left,
                    once,
                    extended,
                });
            }
        }
        None
    }

    /// The new end of a grant, if a connection extends it.
    fn extend(&mut self, at: Duration, holding: Holding, end: Duration) -> Option<Duration> {
        let by = self.policy.door(holding.door).extension?.extend;
        let later = (at + by).min(*self.latest.get(&holding)?);
        let grant = self.grants.get_mut(&holding)?;
        (later > end).then(|| {
            grant.0 = later;
            later
        })
    }

    fn holding(&self, source: IpAddr, door: DoorIndex, once: bool) -> Holding {
        Holding {
            source: self.policy.grant.around(source),
            door,
            once,
        }
    }

    fn before(&self, at: Duration, source: IpAddr) -> Before {
        match self.visitors.get(&source) {
            None => Before::Nothing,
            Some(&(state, counted)) if at - counted > self.policy.within => {
                Before::TooLate(state, at - counted)
            }
            Some(&(state, _)) => Before::Progress(state),
        }
    }

    fn take(&mut self, at: Duration, source: IpAddr, step: Step) -> Effect {
        match step {
            Step::Echo | Step::To(State::ROOT) => {
                self.visitors.remove(&source);
                Effect::Nowhere
            }
            Step::To(state) => {
                self.visitors.insert(source, (state, at));
                Effect::Progress(state)
            }
            Step::Complete(sequence) => {
                let after = self.automaton.after(sequence);
                self.visitors.insert(source, (after, at));
                self.open(at, source, sequence)
            }
        }
    }

    fn open(&mut self, at: Duration, source: IpAddr, sequence: SequenceIndex) -> Effect {
        let index = sequence.key;
        let key = self.policy.key(index);
        let now = self.began + i64::try_from(at.as_secs()).unwrap_or(i64::MAX);
        if key.expired(now) {
            return Effect::Expired(index);
        }
        if matches!(key.kind, KeyKind::Scratch(_)) && !self.burnt.insert(sequence) {
            return Effect::Burnt(index);
        }
        for opening in &key.opens {
            let holding = self.holding(source, opening.door, key.once);
            self.grants.insert(holding, (at + opening.open_for, index));
            if let Some(extension) = self.policy.door(opening.door).extension {
                self.latest.insert(holding, at + extension.at_most);
            }
        }
        self.opened[index.0] += 1;
        Effect::Opens(index)
    }

    /// The grants that hold at `at`: the time each ends and the key that opened it.
    pub fn grants(&self, at: Duration) -> BTreeMap<Holding, (Duration, KeyIndex)> {
        let live = self.grants.iter().filter(|(_, grant)| at < grant.0);
        live.map(|(&holding, &grant)| (holding, grant)).collect()
    }

    /// The number of knocks of some sequence that each source has made, for those that have made any.
    pub fn progress(&self, at: Duration) -> BTreeMap<IpAddr, usize> {
        let fresh = |counted: Duration| at - counted <= self.policy.within;
        self.visitors
            .iter()
            .filter(|(_, (_, counted))| fresh(*counted))
            .filter_map(|(&source, (state, _))| match self.automaton.place(*state) {
                Some(Place::Midway { knocks, .. }) => Some((source, *knocks)),
                _ => None,
            })
            .collect()
    }

    /// The number of openings of each key.
    pub fn opened(&self) -> &[u64] {
        &self.opened
    }
}
