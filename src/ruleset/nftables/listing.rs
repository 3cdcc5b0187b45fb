//! Reading our table back: `nft -j list table inet toctoc`, tolerantly.
//!
//! nft's JSON differs between releases (scalars for arrays, flags left out, statements as text), so
//! only what is needed is looked at, in every form it has been seen in (0.9.8 to 1.1.3). What cannot
//! be read is skipped, never guessed: an element we do not understand is not a grant.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use serde_json::Value;

use super::by_hand::everybody;
use super::elements::{Part, place_key};
use super::listed_set::{
    ListedSet, address_of, ago, classid_of, element_parts, exactly_left, is_endless, opened_of,
    timeout_of,
};
use super::{SetId, TABLE, admits, is_by_source};
use crate::held::{EndsElsewhere, Grant, Guest, Opened, Progress, Stay};
use crate::policy::{DoorId, KeyId, Name};
use crate::ruleset::Family;

/// Our table as the kernel holds it.
#[derive(Debug, Default, Clone)]
pub struct Listing {
    /// The table is there and switched off: its chains are on no hook.
    pub dormant: bool,
    /// The table is a copy, and what it grants is of the past: see [`Listing::forget_the_past`].
    pub(super) is_copy: bool,
    /// The table has flags. Which, nft up to 1.0.6 prints wrongly as JSON.
    pub flagged: bool,
    pub(super) chains: BTreeMap<String, ListedChain>,
    pub(super) sets: BTreeMap<String, ListedSet>,
    pub(super) counters: BTreeMap<String, u64>,
}

/// An element of a set of source and door, with the time that is left of it, and that it had.
struct Timed {
    guest: Guest,
    left: Duration,
    /// What is left, as exactly as it is told.
    exactly: Duration,
    all: Duration,
}

#[derive(Debug, Default, Clone)]
pub(super) struct ListedChain {
    /// Hook, priority and policy of a base chain, as nft prints them.
    pub base: Option<String>,
    /// Each rule without its handle: its statements, and its comment.
    pub rules: Vec<Value>,
}

/// Why there is no listing.
#[derive(Debug)]
pub enum ListingError {
    /// The text is not nft's JSON at all.
    NoListing(String),
    /// A name in our table. Only a program that speaks to the kernel without nft can have made it; in a
    /// script it could mean anything.
    OddName(String),
}

impl fmt::Display for ListingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListingError::NoListing(what) => {
                write!(f, "nft printed something that is no listing: {what}")
            }
            ListingError::OddName(name) => write!(
                f,
                "the table {TABLE} holds something called {name:?}, which nft has no way to write: \
                 `nft delete table {TABLE}` takes the table away, and every door is open until the \
                 next apply"
            ),
        }
    }
}

impl std::error::Error for ListingError {}

/// The properties that make a set another set: all that nft prints of its declaration.
const DECLARED: [&str; 10] = [
    "type",
    "map",
    "size",
    "timeout",
    "flags",
    "gc-interval",
    "policy",
    "auto-merge",
    "stmt",
    "comment",
];

/// Returns whether nft takes this for the name of a chain, a set or a counter.
pub(super) fn is_name(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || "_-./".contains(c);
    !name.is_empty() && name.chars().all(fits)
}

impl Listing {
    /// A table that is switched off. What it holds is not looked at.
    pub fn dormant() -> Listing {
        Listing {
            dormant: true,
            ..Listing::default()
        }
    }

    /// The table was loaded from a saved ruleset: whoever it let in is not let in any more. Returns how many
    /// live grants end with that.
    pub fn forget_the_past(&mut self) -> usize {
        let grants = self.grants().len() + self.elsewhere().len();
        let sets = self.sets.iter_mut();
        for (_, set) in sets.filter(|(name, _)| admits(name)) {
            set.elements.clear();
        }
        self.is_copy = true;
        grants
    }

    /// Reads what `nft -j list table` prints. Objects of other tables are passed over.
    ///
    /// # Errors
    /// When the text is not JSON, has no list of objects, or a name in it that nft cannot write.
    pub fn parse(json: &str) -> Result<Listing, ListingError> {
        // 0.9.8 prints its warnings where the listing goes, before it.
        let start = json.find("{\"nftables\"").unwrap_or_default();
        let value: Value = serde_json::from_str(&json[start..])
            .map_err(|e| ListingError::NoListing(e.to_string()))?;
        let objects = value["nftables"]
            .as_array()
            .ok_or_else(|| ListingError::NoListing("no `nftables` in it".to_string()))?;
        let mut listing = Listing::default();
        for object in objects.iter().filter_map(Value::as_object) {
            for (kind, value) in object {
                let table = value["table"].as_str().unwrap_or_default();
                let family = value["family"].as_str().unwrap_or_default();
                if kind == "table" && family == "inet" && value["name"] == "toctoc" {
                    listing.flagged = !value["flags"].is_null();
                }
                if table == "toctoc" && family == "inet" {
                    for name in ["name", "chain"]
                        .iter()
                        .filter_map(|key| value[*key].as_str())
                    {
                        if !is_name(name) {
                            return Err(ListingError::OddName(name.to_string()));
                        }
                    }
                    listing.add(kind, value);
                }
            }
        }
        Ok(listing)
    }

    fn add(&mut self, kind: &str, value: &Value) {
        let name = value["name"].as_str().unwrap_or_default().to_string();
        match kind {
            "chain" => {
                let base = value.get("hook").map(|hook| {
                    format!(
                        "{} {} {}",
                        hook.as_str().unwrap_or_default(),
                        value["prio"],
                        value["policy"].as_str().unwrap_or("accept")
                    )
                });
                self.chains.entry(name).or_default().base = base;
            }
            "rule" => {
                let chain = value["chain"].as_str().unwrap_or_default().to_string();
                let rule = serde_json::json!([value["expr"], value["comment"]]);
                self.chains.entry(chain).or_default().rules.push(rule);
            }
            "set" | "map" => {
                let declared = DECLARED
                    .iter()
                    .filter(|key| !value[**key].is_null())
                    .map(|&key| (key, value[key].clone()));
                let set = ListedSet {
                    declaration: declared.collect(),
                    is_map: kind == "map",
                    elements: value["elem"].as_array().cloned().unwrap_or_default(),
                };
                self.sets.insert(name, set);
            }
            "counter" => {
                let packets = value["packets"].as_u64().unwrap_or_default();
                self.counters.insert(name, packets);
            }
            _ => {}
        }
    }

    /// Adds what another listing of the same table shows.
    pub fn merge(&mut self, other: Listing) {
        self.chains.extend(other.chains);
        self.sets.extend(other.sets);
        self.counters.extend(other.counters);
    }

    /// Takes the counters to be there that the keys' chains use.
    pub fn expect_counters(&mut self) {
        let keys = self
            .chains
            .keys()
            .filter_map(|name| name.strip_prefix("key-"));
        // Each sequence of a scratch key has a chain: `key-paper/1`.
        let keys = keys.map(|name| name.split('/').next().unwrap_or(name));
        let names = keys.filter_map(Name::new);
        let ours = [super::WRONG, super::SHUT_OUT].map(str::to_string);
        let counters = names.map(|name| super::counter(&name)).chain(ours);
        self.counters = counters.map(|name| (name, 0)).collect();
    }

    /// The chains that ask whether a scratch sequence is used up.
    pub fn scratch_chains(&self) -> Vec<String> {
        let names = self.chains.keys();
        names
            .filter(|name| name.starts_with("scratch-"))
            .cloned()
            .collect()
    }

    pub fn has_map(&self, name: &str) -> bool {
        self.sets.get(name).is_some_and(|set| set.is_map)
    }

    pub fn chain_count(&self) -> usize {
        self.chains.len()
    }

    /// The only set of its row.
    pub(super) fn set(&self, id: SetId) -> Option<&ListedSet> {
        self.sets.get(id.name())
    }

    /// The sets of a row, each with its family and the length of its networks.
    pub(super) fn sets_of(&self, id: SetId) -> impl Iterator<Item = (&ListedSet, Family, u8)> {
        self.sets.iter().filter_map(move |(name, set)| {
            let (found, family, prefix) = SetId::by_family(name)?;
            (found == id).then_some((set, family, prefix))
        })
    }

    /// Returns whether it is made of a policy with a fleet.
    pub(super) fn has_fleet(&self) -> bool {
        self.set(SetId::Terms).is_some()
    }

    /// The names of the sets by source that an apply keeps.
    pub fn kept_sets(&self) -> Vec<String> {
        let names = self.sets.keys();
        let kept = names.filter(|name| is_by_source(name));
        kept.cloned().collect()
    }

    /// The live grants with who opened each.
    pub fn grants(&self) -> Vec<Grant> {
        let opened: Vec<(Opened, Duration)> = self.opened_exactly().collect();
        let mut by_door: BTreeMap<DoorId, Vec<&(Opened, Duration)>> = BTreeMap::new();
        for entry in &opened {
            by_door.entry(entry.0.door).or_default().push(entry);
        }
        let mut by_source: BTreeMap<(IpAddr, DoorId), Vec<&(Opened, Duration)>> = BTreeMap::new();
        for entry in &opened {
            by_source
                .entry((entry.0.source, entry.0.door))
                .or_default()
                .push(entry);
        }
        let opened_by = |Guest { source, door }: Guest, single: bool, ends: Duration| {
            let candidates = match single {
                true => by_source.get(&(source.addr(), door)),
                false => by_door.get(&door),
            };
            let candidates = candidates.into_iter().flatten();
            candidates
                .filter(|(entry, _)| source.contains(&entry.source))
                .min_by_key(|(_, its)| its.abs_diff(ends))
                .map(|(entry, _)| *entry)
        };
        let mut stays = self.stays();
        let mut grants = Vec::new();
        for (name, set) in &self.sets {
            let Some((id @ (SetId::Grants | SetId::Once), family, prefix)) = SetId::by_family(name)
            else {
                continue;
            };
            for element in &set.elements {
                let Some((parts, expires_in)) = element_parts(element) else {
                    continue;
                };
                let [address, door] = parts.as_slice() else {
                    continue;
                };
                let (Some(address), Some(door)) = (address_of(address), classid_of(door)) else {
                    continue;
                };
                let Ok(source) = IpNet::new(address, prefix) else {
                    continue;
                };
                let guest = Guest {
                    source,
                    door: DoorId(door),
                };
                let once = id == SetId::Once;
                let stay = stays.remove(&guest).filter(|_| !once);
                // The opening of a grant is the one that ends at the same moment.
                let ends = stay.map_or(exactly_left(element), |(_, ends)| ends);
                grants.push(Grant {
                    source,
                    door: guest.door,
                    once,
                    opened_by: opened_by(guest, prefix == family.longest_prefix(), ends),
                    expires_in,
                    is_endless: is_endless(element),
                    stay: stay.map(|(stay, _)| Stay {
                        given: Some(expires_in),
                        ..stay
                    }),
                });
            }
        }
        // Their own time is over.
        let used = stays
            .into_iter()
            .filter(|(_, (stay, _))| stay.used.is_some());
        grants.extend(used.map(|(guest, (stay, ends))| Grant {
            source: guest.source,
            door: guest.door,
            once: false,
            opened_by: opened_by(
                guest,
                guest.source.prefix_len() == guest.source.max_prefix_len(),
                ends,
            ),
            expires_in: Duration::ZERO,
            is_endless: false,
            stay: Some(stay),
        }));
        for grant in &mut grants {
            if let Some(stay) = grant.stay {
                grant.expires_in = stay.left();
            }
        }
        grants.sort_by_key(|grant| (grant.source, grant.door, grant.once));
        grants
    }

    /// The openings of doors that extend their grants, live grant or not: what connections have added, and the time left
    /// as exactly as it is told.
    pub(super) fn stays(&self) -> HashMap<Guest, (Stay, Duration)> {
        let used = self
            .timed(SetId::Use)
            .map(|timed| (timed.guest, timed.left));
        let used: HashMap<Guest, Duration> = used.collect();
        let stays = self.timed(SetId::Stay).map(|timed| {
            let stay = Stay {
                given: None,
                used: used.get(&timed.guest).copied(),
                at_most: timed.left,
            };
            (timed.guest, (stay, timed.exactly))
        });
        stays.collect()
    }

    /// The live grants that other hosts of the fleet gave. Who opened them, the kernel does not know.
    pub fn elsewhere(&self) -> Vec<Grant> {
        let grants = self.elsewhere_and_since().into_iter();
        grants.map(|(grant, _)| grant).collect()
    }

    /// The same, each with how long it has been there at least.
    pub fn elsewhere_and_since(&self) -> Vec<(Grant, Duration)> {
        self.timed(SetId::Elsewhere)
            .map(
                |Timed {
                     guest, left, all, ..
                 }| {
                    let grant = Grant {
                        source: guest.source,
                        door: guest.door,
                        once: false,
                        opened_by: None,
                        expires_in: left,
                        is_endless: all.is_zero() && left.is_zero(),
                        stay: None,
                    };
                    (grant, ago(all, left))
                },
            )
            .collect()
    }

    /// The notes of guests whose grants were ended by hand (a network of length 0 for everybody), and how long ago at
    /// least.
    pub fn closed(&self) -> Vec<(Guest, Duration)> {
        self.timed(SetId::Closed)
            .map(|Timed { guest, left, .. }| {
                let source = match guest.source.addr().is_unspecified() {
                    true => everybody(Family::of(guest.source.addr())),
                    false => guest.source,
                };
                (Guest { source, ..guest }, ago(super::NOTED_FOR, left))
            })
            .collect()
    }

    /// The terms of the policy that made this table, if it has a fleet.
    pub fn terms(&self) -> Option<u32> {
        let set = self.set(SetId::Terms)?;
        let (parts, _) = element_parts(set.elements.first()?)?;
        classid_of(parts.first()?)
    }

    /// The notes of keys that were revoked, and how long ago at least.
    pub fn revoked(&self) -> Vec<(KeyId, Duration)> {
        self.keys_in(SetId::Revoked)
    }

    fn keys_in(&self, set: SetId) -> Vec<(KeyId, Duration)> {
        let set = self.set(set);
        let elements = set.into_iter().flat_map(|set| &set.elements);
        elements
            .filter_map(|element| {
                let (parts, left) = element_parts(element)?;
                let id = parts.first().and_then(|part| classid_of(part))?;
                Some((KeyId(id), ago(super::NOTED_FOR, left)))
            })
            .collect()
    }

    /// Reads what other hosts of the fleet have ended.
    pub fn ended_elsewhere(&self) -> EndsElsewhere {
        let ended = self.sets_of(SetId::Ended);
        let elements = ended.flat_map(|(set, ..)| &set.elements);
        let read = elements.filter_map(|element| {
            let (parts, left) = element_parts(element)?;
            let [address, door, length] = parts.as_slice() else {
                return None;
            };
            let length = u8::try_from(classid_of(length)? ^ super::LENGTH).ok()?;
            let source = IpNet::new(address_of(address)?, length).ok()?;
            let door = DoorId(classid_of(door)?);
            Some((Guest { source, door }, ago(super::NOTED_FOR, left)))
        });
        EndsElsewhere {
            guests: read.collect(),
            keys: self.keys_in(SetId::RevokedElsewhere),
        }
    }

    /// The same, as elements: the name of the set, and what each is found by.
    pub(super) fn places(&self, id: SetId) -> Vec<(String, Vec<Part>)> {
        let place = |timed: Timed| {
            let Guest { source, door } = timed.guest;
            let set = id.of_network(Family::of(source.addr()), source.prefix_len());
            (set, place_key(source.addr(), door))
        };
        self.timed(id).map(place).collect()
    }

    /// The elements of a set of source and door.
    fn timed(&self, id: SetId) -> impl Iterator<Item = Timed> {
        self.sets_of(id).flat_map(|(set, _, prefix)| {
            set.elements.iter().filter_map(move |element| {
                let (parts, left) = element_parts(element)?;
                let [address, door] = parts.as_slice() else {
                    return None;
                };
                let source = IpNet::new(address_of(address)?, prefix).ok()?;
                let door = DoorId(classid_of(door)?);
                Some(Timed {
                    guest: Guest { source, door },
                    left,
                    exactly: exactly_left(element),
                    all: timeout_of(element),
                })
            })
        })
    }

    /// All elements of `opened4/6`, live grant or not.
    pub fn opened(&self) -> Vec<Opened> {
        self.opened_exactly().map(|(opened, _)| opened).collect()
    }

    /// The same, each with the time that is left of it as exactly as it is told.
    fn opened_exactly(&self) -> impl Iterator<Item = (Opened, Duration)> {
        let sets = self.sets_of(SetId::Opened);
        let elements = sets.flat_map(|(set, ..)| &set.elements);
        elements.filter_map(|element| Some((opened_of(element)?, exactly_left(element))))
    }

    /// The sources that have a state, midway or just done.
    pub fn progress(&self) -> Vec<Progress> {
        let mut progress = Vec::new();
        for (set, ..) in self.sets_of(SetId::Progress) {
            for element in &set.elements {
                let (key, state) = (&element[0], &element[1]);
                let Some((parts, expires_in)) = element_parts(key) else {
                    continue;
                };
                let source = parts.first().and_then(|part| address_of(part));
                if let (Some(source), Some(state)) = (source, classid_of(state)) {
                    progress.push(Progress {
                        source,
                        state,
                        expires_in,
                    });
                }
            }
        }
        progress.sort_by_key(|p| p.source);
        progress
    }

    /// The number of openings that a key's counter shows.
    pub fn opened_count(&self, key: &Name) -> u64 {
        let name = super::counter(key);
        self.counters.get(&name).copied().unwrap_or_default()
    }

    /// The number of knocks of sources midway that led nowhere.
    pub fn wrong_count(&self) -> u64 {
        self.counters.get(super::WRONG).copied().unwrap_or_default()
    }

    /// The number of new connections that came to a door without a grant.
    pub fn shut_out_count(&self) -> u64 {
        let count = self.counters.get(super::SHUT_OUT);
        count.copied().unwrap_or_default()
    }

    /// Returns whether this door is in the running firewall.
    pub fn has_door(&self, door: &Name) -> bool {
        self.chains.contains_key(&super::door_chain(door))
    }

    /// The doors in the running firewall, in the order of their names.
    pub fn doors(&self) -> Vec<Name> {
        let doors = self.chains.keys();
        let doors = doors.filter_map(|chain| chain.strip_prefix("door-"));
        doors.filter_map(Name::new).collect()
    }
}

#[cfg(test)]
#[path = "listing_tests.rs"]
mod tests;
