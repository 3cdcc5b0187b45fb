//! A fingerprint of all in our table that decides who passes, but for what the kernel and a refill fill themselves:
//! flags, chains with their places, rules, counters by name, how sets are declared, and the elements of those that only
//! an apply changes. Equal fingerprints say that nothing of that has changed; different ones may say nothing. Pure.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use super::super::netlink::{
    Attributes, Message, NEW_CHAIN, NEW_ELEMENTS, NEW_OBJECT, NEW_RULE, NEW_SET, NEW_TABLE, find,
    find_number, find_text,
};
use super::attributes::{
    about_ours, chain, element, elements, elements_in, expression, object, rule, set, table,
};
use crate::ruleset::nftables::{
    ChainMarks, Filler, Mark, Marks, Script, SetId, SetMarks, is_compared, is_left,
};

/// Attributes of each kind of message that change from one moment to the next, and with nothing that matters:
/// numbers that the kernel gave, counts, and the addresses of its own functions.
const PASSING: [(u16, &[u16]); 5] = [
    (NEW_TABLE, &[table::USE, table::HANDLE]),
    (NEW_CHAIN, &[chain::HANDLE, chain::USE, chain::COUNTERS]),
    (NEW_RULE, &[rule::HANDLE, rule::POSITION]),
    (NEW_SET, &[set::HANDLE, set::TYPE, set::COUNT]),
    (NEW_OBJECT, &[object::USE, object::HANDLE]),
];

/// The parts of a table as they come, in whatever order.
#[derive(Debug, Default)]
pub struct Parts {
    table: Vec<u8>,
    chains: BTreeMap<String, Vec<u8>>,
    /// Each rule of a chain, in their order.
    rules: BTreeMap<String, Vec<[u8; 32]>>,
    sets: BTreeMap<String, Vec<u8>>,
    /// The elements of those sets that are asked for.
    elements: BTreeMap<String, Vec<[u8; 32]>>,
    objects: BTreeMap<String, Vec<u8>>,
}

impl Parts {
    /// Takes in a message. Those about other tables are passed over.
    pub fn take(&mut self, message: Message<'_>) {
        let Some(told) = about_ours(&message) else {
            return;
        };
        let called = |kind| find_text(told, kind).map(str::to_string);
        match message.kind {
            NEW_TABLE => self.table = lasting(message),
            NEW_CHAIN => {
                if let Some(name) = called(chain::NAME) {
                    self.chains.insert(name, lasting(message));
                }
            }
            NEW_RULE => {
                if let Some(chain) = called(rule::CHAIN) {
                    let rule = Sha256::digest(lasting(message)).into();
                    self.rules.entry(chain).or_default().push(rule);
                }
            }
            NEW_SET => {
                // The seal is left out: no rule asks whether grants are of the past.
                if let Some(name) = called(set::NAME).filter(|name| *name != SetId::Seal.name()) {
                    self.sets.insert(name, lasting(message));
                }
            }
            NEW_ELEMENTS => {
                if let Some(set) = called(elements::SET) {
                    let digests = elements_in(told).map(|one| {
                        let mut digest = Sha256::new();
                        for (kind, value) in Attributes(one) {
                            if kind != element::EXPIRATION {
                                digest.update(kind.to_ne_bytes());
                                framed(&mut digest, value);
                            }
                        }
                        <[u8; 32]>::from(digest.finalize())
                    });
                    self.elements.entry(set).or_default().extend(digests);
                }
            }
            NEW_OBJECT => {
                if let Some(name) = called(object::NAME) {
                    self.objects.insert(name, lasting(message));
                }
            }
            _ => {}
        }
    }

    /// The sets whose elements belong to the fingerprint.
    pub fn fixed_sets(&self) -> Vec<String> {
        let names = self.sets.keys();
        names.filter(|name| is_compared(name)).cloned().collect()
    }

    /// The marks of all parts that are compared.
    pub fn marks(&self) -> Marks {
        let chains = self.chains.iter().map(|(name, declared)| {
            let rules = self.rules.get(name).into_iter().flatten();
            let marks = ChainMarks(mark_of(declared), rules.map(mark).collect());
            (name.clone(), marks)
        });
        let named = |name: &&String| !is_anonymous(name);
        let sets = self.sets.keys().filter(named).map(|name| {
            let elements = is_compared(name).then(|| {
                let mut digest = Sha256::new();
                self.elements_of(name).for_each(|one| digest.update(one));
                mark(&digest.finalize().into())
            });
            (name.clone(), SetMarks(mark_of(&self.sets[name]), elements))
        });
        Marks {
            chains: chains.collect(),
            sets: sets.collect(),
            counters: self.objects.keys().cloned().collect(),
        }
    }

    /// The elements of a set, in an order of their own.
    fn elements_of(&self, set: &str) -> impl Iterator<Item = [u8; 32]> {
        let mut elements = self.elements.get(set).cloned().unwrap_or_default();
        elements.sort_unstable();
        elements.into_iter()
    }

    /// The fingerprint, in hexadecimal.
    pub fn digest(&self) -> String {
        let mut digest = Sha256::new();
        framed(&mut digest, &self.table);
        for part in [&self.chains, &self.sets, &self.objects] {
            digest.update((part.len() as u64).to_be_bytes());
            for (name, told) in part {
                framed(&mut digest, name.as_bytes());
                framed(&mut digest, told);
            }
        }
        digest.update((self.rules.len() as u64).to_be_bytes());
        for (chain, rules) in &self.rules {
            framed(&mut digest, chain.as_bytes());
            digest.update((rules.len() as u64).to_be_bytes());
            rules.iter().for_each(|rule| digest.update(rule));
        }
        for (set, elements) in &self.elements {
            framed(&mut digest, set.as_bytes());
            digest.update((elements.len() as u64).to_be_bytes());
            self.elements_of(set).for_each(|one| digest.update(one));
        }
        let digest = digest.finalize();
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Returns whether these are as many chains, rules and elements as a script has: what a transaction has loaded whole, and
    /// nobody has touched since, is then what the script says.
    pub fn count_as(&self, script: &Script) -> bool {
        let chains = script.chains.len() == self.chains.len()
            && script.chains.iter().all(|chain| {
                let rules = self.rules.get(&chain.name).map_or(0, Vec::len);
                self.chains.contains_key(&chain.name) && rules == chain.rules().count()
            });
        let has_fleet = script.has_fleet();
        let named = |name: &str| script.sets.iter().any(|set| set.name == *name);
        let mut found = self.sets.keys();
        let sets = found.all(|name| named(name) || is_anonymous(name) || is_left(name, has_fleet))
            && script.sets.iter().all(|set| {
                let fixed = set.id.row().filler == Filler::Policy;
                let held = self.elements.get(&set.name).map_or(0, Vec::len);
                self.sets.contains_key(&set.name) && (!fixed || held == set.elements.len())
            });
        let counters = script.counters.len() == self.objects.len()
            && script
                .counters
                .iter()
                .all(|name| self.objects.contains_key(name));
        chains && sets && counters
    }
}

/// Returns whether a set is a part of a rule.
fn is_anonymous(set: &str) -> bool {
    set.starts_with("__")
}

fn mark(digest: &[u8; 32]) -> Mark {
    let start = digest.first_chunk::<8>().copied().unwrap_or_default();
    Mark(u64::from_be_bytes(start))
}

fn mark_of(bytes: &[u8]) -> Mark {
    mark(&Sha256::digest(bytes).into())
}

/// Bytes with their length before them.
fn framed(digest: &mut Sha256, bytes: &[u8]) {
    digest.update((bytes.len() as u64).to_be_bytes());
    digest.update(bytes);
}

/// The attributes of a message that do not change by themselves.
fn lasting(message: Message<'_>) -> Vec<u8> {
    let passing = PASSING.iter().find(|(kind, _)| *kind == message.kind);
    let passing = passing.map_or(&[][..], |(_, kinds)| kinds);
    let attributes = message.attributes();
    // Of other objects, what they hold is what they do.
    let is_counter = message.kind == NEW_OBJECT
        && find_number(attributes, object::TYPE) == Some(object::COUNTER);
    let mut bytes = Vec::new();
    let mut keep = |kind: u16, value: &[u8]| {
        bytes.extend(kind.to_ne_bytes());
        bytes.extend((value.len() as u32).to_ne_bytes());
        bytes.extend(value);
    };
    for (kind, value) in Attributes(attributes) {
        match kind {
            _ if passing.contains(&kind) => {}
            object::DATA if is_counter => {}
            rule::EXPRESSIONS if message.kind == NEW_RULE => {
                for (kind, one) in Attributes(value) {
                    keep(kind, find(one, expression::NAME).unwrap_or_default());
                    if find_text(one, expression::NAME) != Some("counter") {
                        keep(kind, find(one, expression::DATA).unwrap_or_default());
                    }
                }
            }
            _ => keep(kind, value),
        }
    }
    bytes
}
