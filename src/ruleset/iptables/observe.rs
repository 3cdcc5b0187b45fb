//! Grants and progress from the kernel's lists.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::OPENED;
use super::lists::{Clock, Entry};
use super::names::{self, GrantList, Spot};
use super::saved::{Saved, option};
use crate::automaton::{Automaton, State};
use crate::held::{Departure, Grant, Guest, Guests, Opened, Progress, Spared, first_to_end};
use crate::policy::{Name, Policy};

/// The lists of `/proc/net/xt_recent` by name, and the time by which they are read.
#[derive(Debug, Clone)]
pub struct Lists {
    pub entries: BTreeMap<String, Vec<Entry>>,
    pub clock: Clock,
}

/// A source on a list of grants, with the time it has left.
#[derive(Debug, Clone, PartialEq)]
pub struct Membership {
    pub list: GrantList,
    pub source: IpAddr,
    pub left: Duration,
}

/// The room on a list for one more source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Vacancy {
    Free,
    /// This one, whose grant has ended, goes first.
    InsteadOf(IpAddr),
    /// All who are on it are in.
    Full,
}

/// Vacancy for one more: sources that leave lists.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Clearance {
    /// Lists, and the sources that are taken off them.
    pub off: Vec<(String, IpAddr)>,
    /// The live grants that end with that.
    pub ended: Vec<Grant>,
}

impl Lists {
    /// Returns whether a source is on a list, live grant or not.
    pub fn has(&self, list: &str, source: IpAddr) -> bool {
        let entries = self.entries.get(list);
        entries.is_some_and(|entries| entries.iter().any(|entry| entry.source == source))
    }

    /// Makes room for a source on a list of grants and on that of the door's guests. Each holds `size` sources, and would
    /// drop the one that was put on it first, whatever it has left.
    pub fn make_room(
        mut self,
        list: &GrantList,
        source: IpAddr,
        size: usize,
        spared: &Spared,
    ) -> Clearance {
        let guests = names::guests(list.family, list.prefix, &list.door);
        let mut leaving = Clearance::default();
        for name in [&list.to_string(), &guests] {
            match self.room(name, source, size) {
                Vacancy::Free => {}
                Vacancy::InsteadOf(ended) => leaving.off.push((name.clone(), ended)),
                Vacancy::Full => {
                    let on_list = self
                        .memberships()
                        .into_iter()
                        .filter(|held| is_on(&held.list, name));
                    let grants: Vec<Grant> = on_list.map(|held| grant(&held)).collect();
                    if let Some(chosen) = first_to_end(&grants, spared) {
                        leaving
                            .off
                            .extend(self.places(&guests, chosen.source.addr()));
                        leaving.ended.push(chosen.clone());
                    }
                }
            }
            for (name, gone) in &leaving.off {
                if let Some(entries) = self.entries.get_mut(name) {
                    entries.retain(|entry| entry.source != *gone);
                }
            }
        }
        leaving
    }

    /// A list of guests and the lists of grants of these guests, as far as a source is on them.
    fn places(&self, guests: &str, source: IpAddr) -> Vec<(String, IpAddr)> {
        let names = self.entries.keys().filter(|name| {
            name.as_str() == guests || GrantList::parse(name).is_some_and(|l| is_on(&l, guests))
        });
        let names = names.filter(|name| self.has(name, source));
        names.map(|name| (name.clone(), source)).collect()
    }

    /// The lists of grants, and the sources that are taken off them so that all of this goes.
    pub fn places_of(&self, departure: &Departure) -> Vec<(String, IpAddr)> {
        let of = |grant: &Grant| (grant.guest(), grant.once);
        let ended: HashSet<(Guest, bool)> = departure.grants.iter().map(of).collect();
        let held = self.memberships().into_iter();
        let ended = held.filter(|held| ended.contains(&of(&grant(held))));
        ended
            .map(|held| (held.list.to_string(), held.source))
            .collect()
    }

    /// The room for a source on a list of grants, or of a door's guests, that holds `size` sources.
    fn room(&self, list: &str, source: IpAddr, size: usize) -> Vacancy {
        let entries = self.entries.get(list).map_or(&[][..], Vec::as_slice);
        if entries.len() < size || self.has(list, source) {
            return Vacancy::Free;
        }
        let held = self.memberships().into_iter();
        let held = held.filter(|held| is_on(&held.list, list));
        let live: HashSet<IpAddr> = held.map(|held| held.source).collect();
        let mut ended = entries.iter().filter(|e| !live.contains(&e.source));
        ended
            .next()
            .map_or(Vacancy::Full, |entry| Vacancy::InsteadOf(entry.source))
    }

    /// All live grants, one for each list a source is on.
    pub fn memberships(&self) -> Vec<Membership> {
        let mut held = Vec::new();
        for (name, entries) in &self.entries {
            let Some(list) = GrantList::parse(name) else {
                continue;
            };
            // A source that is not among the door's guests any more is not let in, whatever this list says.
            let guests = names::guests(list.family, list.prefix, &list.door);
            let guests = self.entries.get(&guests).map_or(&[][..], Vec::as_slice);
            let guests: HashSet<IpAddr> = guests.iter().map(|entry| entry.source).collect();
            for entry in entries {
                let left = self.clock.left(entry.last_seen, list.seconds);
                if let Some(left) = left.filter(|_| guests.contains(&entry.source)) {
                    let (list, source) = (list.clone(), entry.source);
                    held.push(Membership { list, source, left });
                }
            }
        }
        held
    }

    /// The sources that are let in.
    pub fn guests(&self) -> Guests {
        let opened = self
            .memberships()
            .into_iter()
            .filter_map(|h| grant(&h).opened_by);
        Guests {
            grants: self.grants(),
            opened: opened.collect(),
            elsewhere: Vec::new(),
        }
    }

    /// The live grants, each source and door once: with who opened last.
    pub fn grants(&self) -> Vec<Grant> {
        let mut grants: BTreeMap<(Guest, bool), Grant> = BTreeMap::new();
        for held in self.memberships() {
            let grant = grant(&held);
            let place = (grant.guest(), grant.once);
            let longer = |other: &Grant| other.expires_in >= grant.expires_in;
            if !grants.get(&place).is_some_and(longer) {
                grants.insert(place, grant);
            }
        }
        grants.into_values().collect()
    }

    /// The sources midway or just done, as states of the policy's automaton.
    pub fn progress(&self, policy: &Policy, automaton: &Automaton) -> Vec<Progress> {
        let within = policy.within.as_secs();
        let mut states = BTreeMap::new();
        for state in (0u32..).map(State).take(automaton.state_count()) {
            if let Some(spot) = automaton.place(state).and_then(|p| Spot::of(policy, p)) {
                states.insert(spot, state);
            }
        }
        let fresh = |list: &str, source: IpAddr| {
            let entries = self.entries.get(list).map_or(&[][..], Vec::as_slice);
            let entry = entries.iter().find(|entry| entry.source == source);
            entry.is_some_and(|entry| self.clock.left(entry.last_seen, within).is_some())
        };
        let mut progress = Vec::new();
        for (name, entries) in &self.entries {
            let Some((family, spot)) = Spot::parse(name) else {
                continue;
            };
            let Some(state) = states.get(&spot) else {
                continue;
            };
            for entry in entries {
                let stands = fresh(&names::midway(family), entry.source)
                    && fresh(&spot.group_list(family), entry.source);
                if let Some(expires_in) = self.clock.left(entry.last_seen, within)
                    && stands
                {
                    let (source, state) = (entry.source, state.0);
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
}

/// Returns whether this is the list of that name, or its guests are on that.
fn is_on(list: &GrantList, name: &str) -> bool {
    list.to_string() == name || names::guests(list.family, list.prefix, &list.door) == name
}

fn grant(held: &Membership) -> Grant {
    let Membership { list, source, left } = held;
    let opened = Opened {
        source: *source,
        door: list.door.door_id(),
        key: list.holder.id(),
        expires_in: *left,
        given_for: Duration::ZERO,
    };
    let network =
        IpNet::new(*source, list.prefix).map_or_else(|_| IpNet::from(*source), |n| n.trunc());
    Grant {
        source: network,
        door: list.door.door_id(),
        once: list.once,
        opened_by: Some(opened),
        expires_in: *left,
        is_endless: false,
        stay: None,
    }
}

/// The number of openings of a key, by the counters of its rules.
pub fn opened_count(saved: &Saved, key: &Name) -> u64 {
    let chains = [
        names::opens_chain(key),
        names::chain(&format!("gives-{key}")),
    ];
    let rules = chains.iter().flat_map(|chain| saved.rules(chain));
    let counted = rules.filter(|rule| option(&rule.rule, "--comment") == Some(OPENED));
    counted.map(|rule| rule.packets).sum()
}

/// The number of knocks that led nowhere: their sources are forgotten where their port is judged.
pub fn wrong_count(saved: &Saved) -> u64 {
    let forget = format!("-j {}", names::chain("forget"));
    let judged = ["wrong", "tcp-", "udp-"].map(names::chain);
    let rules = saved.all_rules().filter(|(chain, rule)| {
        judged.iter().any(|prefix| chain.starts_with(prefix)) && rule.rule.ends_with(&forget)
    });
    rules.map(|(_, rule)| rule.packets).sum()
}

/// The number of new connections that came to a door without a grant.
pub fn shut_out_count(saved: &Saved) -> u64 {
    let shut = ["shut", "inner-shut"].map(names::chain);
    let rules = shut.iter().flat_map(|chain| saved.rules(chain));
    let dropped = rules.filter(|rule| rule.rule.ends_with("-j DROP"));
    dropped.map(|rule| rule.packets).sum()
}

/// The doors that the rules in the kernel guard, by the lists of their guests: a chain's name may be
/// cut.
pub fn doors(saved: &Saved) -> BTreeSet<Name> {
    let rules = saved.rules(names::CHAIN);
    let lists = rules.filter_map(|rule| option(&rule.rule, "--name"));
    let doors = lists.filter_map(|list| Some(names::parse_guests(list)?.1.clone()));
    doors.collect()
}
