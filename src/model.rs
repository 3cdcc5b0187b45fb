//! The rules of the system as the plainest possible program: the judge in every test.
//!
//! Nothing here is clever, fast or shared with the [automaton](crate::automaton). Each source's
//! counted knocks are kept as a list; each numbered comment is a rule of the contract:
//!
//! 1. A grant comes first. 2. Echoes do not count. 3. The last knocks decide. 4. Time.
//! 5. Opening. 6. Closed means closed. 7. Nothing else changes.
//!
//! Where a door says so, a grant stays while it is used: each connection extends it, up to a time after the opening.
//!
//! 8. A full room: while there is no room for more sources with one knock, a source counts as having made each first knock
//!    that others have made, of sequences of three or more whose second knock begins none; two knocks and more are
//!    remembered as ever.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use crate::knock::{Knock, Protocol};
use crate::policy::{DoorIndex, Key, KeyIndex, KeyKind, Policy, SequenceIndex};
use crate::trace::{Holding, Packet};

/// The fate of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It goes on exactly as it would have.
    Untouched,
    /// A new connection to a door, and it may, by a grant for this door.
    Passes(DoorIndex),
    /// A new connection to a door, and it may not.
    Refused(DoorIndex),
    /// It completed this key's sequence; besides that it goes on as it would have.
    Opens(KeyIndex),
}

/// The state of everything, for all sources.
#[derive(Clone)]
pub struct Model<'p> {
    policy: &'p Policy,
    /// When the trace began, in seconds since 1970: for keys that expire.
    began: i64,
    visitors: BTreeMap<IpAddr, Visitor>,
    /// Each grant and the time it ends.
    grants: BTreeMap<Holding, Duration>,
    /// The latest end of each grant that stays while it is used.
    latest: BTreeMap<Holding, Duration>,
    opened: Vec<u64>,
    /// Scratch sequences that have opened.
    burnt: BTreeSet<SequenceIndex>,
    room: Room,
}

/// The room for sources with one knock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Room {
    Free,
    /// A flood of first knocks: others make these all the time.
    Full(BTreeSet<Knock>),
}

/// The memory of one source.
#[derive(Default, Clone)]
struct Visitor {
    /// The counted knocks since the last pause or opening, oldest first.
    knocks: Vec<Knock>,
    /// The knock just before, and when it was counted.
    last: Option<(Knock, Duration)>,
}

impl<'p> Model<'p> {
    pub fn new(policy: &'p Policy, began: i64) -> Model<'p> {
        Model::with_room(policy, began, Room::Free)
    }

    /// The same where there is this room for sources with one knock.
    pub fn with_room(policy: &'p Policy, began: i64, room: Room) -> Model<'p> {
        Model {
            policy,
            began,
            visitors: BTreeMap::new(),
            grants: BTreeMap::new(),
            latest: BTreeMap::new(),
            opened: vec![0; policy.keys.len()],
            burnt: BTreeSet::new(),
            room,
        }
    }

    /// Takes the next packet. Times never go back.
    pub fn packet(&mut self, packet: Packet) -> Outcome {
        let Packet {
            at,
            source,
            host,
            to,
        } = packet;
        if to.protocol == Protocol::Udp && !self.policy.judges_udp() {
            return Outcome::Untouched;
        }
        if self.policy.ignore.contains(&to) {
            return Outcome::Untouched;
        }
        let door = self.policy.door_of(host, to);
        let entrance = door.filter(|&door| !self.policy.door(door).leads_nowhere_for(source));
        // 1. A grant (or the policy's trust) comes first, and is not a knock.
        if let Some(door) = entrance.filter(|&door| self.trusts(source, door)) {
            return Outcome::Passes(door);
        }
        // A grant for everything is for each door of this host.
        for asked in entrance
            .iter()
            .flat_map(|&door| self.policy.asked_for(door))
        {
            if self.admits(at, source, asked) {
                return Outcome::Passes(asked);
            }
        }
        // What goes on to other hosts is no knock, unless the policy says so.
        if door.is_none() && host.is_some_and(|host| !self.policy.hears_at(host)) {
            return Outcome::Untouched;
        }
        let opens = self.knock(at, source, to);
        // 6. Closed means closed.
        if let Some(door) = door {
            return Outcome::Refused(door);
        }
        match opens {
            Some(key) => Outcome::Opens(key),
            None => Outcome::Untouched,
        }
    }

    fn trusts(&self, source: IpAddr, door: DoorIndex) -> bool {
        let trust = &self.policy.door(door).trust;
        trust.iter().any(|network| network.contains(&source))
    }

    fn admits(&mut self, at: Duration, source: IpAddr, door: DoorIndex) -> bool {
        if self.trusts(source, door) {
            return true;
        }
        let holding = |once| Holding {
            source: self.policy.grant.around(source),
            door,
            once,
        };
        let (lasting, once) = (holding(false), holding(true));
        let holds = |grants: &BTreeMap<Holding, Duration>, holding| {
            grants.get(holding).is_some_and(|&end| at < end)
        };
        if holds(&self.grants, &lasting) {
            self.extend(at, lasting);
            return true;
        }
        if holds(&self.grants, &once) {
            self.grants.remove(&once);
            return true;
        }
        false
    }

    /// A grant that stays while it is used ends so long after its last connection, and at its latest end at the latest.
    fn extend(&mut self, at: Duration, holding: Holding) {
        let extension = self.policy.door(holding.door).extension;
        let (Some(extension), Some(&latest)) = (extension, self.latest.get(&holding)) else {
            return;
        };
        let extended = latest.min(at + extension.extend);
        let end = self.grants.entry(holding).or_default();
        *end = extended.max(*end);
    }

    fn knock(&mut self, at: Duration, source: IpAddr, knock: Knock) -> Option<KeyIndex> {
        let visitor = self.visitors.entry(source).or_default();
        // 4. Time: a long pause finds nothing.
        if let Some((_, counted)) = visitor.last
            && at - counted > self.policy.within
        {
            *visitor = Visitor::default();
        }
        // 2. Echoes do not count.
        if visitor.last.is_some_and(|(last, _)| last == knock) {
            return None;
        }
        visitor.last = Some((knock, at));
        // 3. The last knocks decide.
        visitor.knocks.push(knock);
        let mut sequences = self.policy.sequences();
        let complete = sequences.find(|(_, knocks)| visitor.knocks.ends_with(knocks));
        if complete.is_none() {
            self.forget_one_knock(source, knock);
        }
        let (complete, _) = complete?;
        let visitor = self.visitors.entry(source).or_default();
        // 5. Opening, and progress is forgotten.
        visitor.knocks.clear();
        self.open(at, source, complete)
    }

    /// 8. A full room: less than two knocks are not remembered, and the first may be missing.
    fn forget_one_knock(&mut self, source: IpAddr, knock: Knock) {
        let Room::Full(given) = &self.room else {
            return;
        };
        let visitor = self.visitors.entry(source).or_default();
        if longest_beginning(self.policy, &visitor.knocks) > 1 {
            return;
        }
        // A second knock that begins a sequence is a first one.
        let begins = |knock: Knock| {
            let mut sequences = self.policy.sequences();
            sequences.any(|(_, knocks)| knocks[0] == knock)
        };
        let sequences = self.policy.sequences().filter(|_| !begins(knock));
        let long = sequences.filter(|(_, knocks)| knocks.len() > 2 && knocks[1] == knock);
        let firsts = long.map(|(_, knocks)| knocks[0]);
        match firsts.filter(|first| given.contains(first)).min() {
            Some(first) => visitor.knocks = vec![first, knock],
            None => *visitor = Visitor::default(),
        }
    }

    fn open(&mut self, at: Duration, source: IpAddr, which: SequenceIndex) -> Option<KeyIndex> {
        let index = which.key;
        let key: &Key = self.policy.key(index);
        let now = self.began + i64::try_from(at.as_secs()).unwrap_or(i64::MAX);
        if key.expired(now) {
            return None;
        }
        // A scratch sequence opens once.
        if matches!(key.kind, KeyKind::Scratch(_)) && !self.burnt.insert(which) {
            return None;
        }
        for opening in &key.opens {
            let holding = Holding {
                source: self.policy.grant.around(source),
                door: opening.door,
                once: key.once,
            };
            self.grants.insert(holding, at + opening.open_for);
            if let Some(extension) = self.policy.door(opening.door).extension {
                self.latest.insert(holding, at + extension.at_most);
            }
        }
        self.opened[index.0] += 1;
        Some(index)
    }

    /// The grants that hold at `at`, each with the time it ends.
    pub fn grants(&self, at: Duration) -> BTreeMap<Holding, Duration> {
        let live = self.grants.iter().filter(|&(_, &end)| at < end);
        live.map(|(&holding, &end)| (holding, end)).collect()
    }

    /// The number of knocks of some sequence that each source has made, for those that have made any.
    pub fn progress(&self, at: Duration) -> BTreeMap<IpAddr, usize> {
        let mut progress = BTreeMap::new();
        for (&source, visitor) in &self.visitors {
            let fresh = visitor
                .last
                .is_some_and(|(_, counted)| at - counted <= self.policy.within);
            let longest = longest_beginning(self.policy, &visitor.knocks);
            if fresh && longest > 0 {
                progress.insert(source, longest);
            }
        }
        progress
    }

    /// The number of openings of each key.
    pub fn opened(&self) -> &[u64] {
        &self.opened
    }
}

/// The longest run of the last knocks that is the beginning of some sequence.
fn longest_beginning(policy: &Policy, knocks: &[Knock]) -> usize {
    (1..=knocks.len())
        .filter(|&length| {
            let run = &knocks[knocks.len() - length..];
            let mut sequences = policy.sequences();
            sequences.any(|(_, knocks)| knocks.starts_with(run))
        })
        .max()
        .unwrap_or(0)
}
