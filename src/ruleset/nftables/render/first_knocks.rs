//! First knocks while there is no room for more of them, as in a flood of them from forged addresses.
//!
//! Sources with one knock share a part of the room (`limits::first_knocks`), so that sources further on always find some.
//! When that part is used up, a first knock is noted for a group of addresses around the source: one element for each group and
//! first knock, renewed and never replaced, so that this set cannot be full. A source without progress that makes a second
//! knock then goes on, if its group has made the first. Nothing else of a sequence is given away. Of a sequence of two
//! knocks that would be half, and a scan would open it: such a one has to wait for room. So has one whose second knock is
//! the first of another: a flood of both would make sources midway with two knocks.

use std::collections::{BTreeMap, BTreeSet};

use super::chains::{forget, step};
use crate::automaton::{Automaton, Place, State, Step};
use crate::knock::Knock;
use crate::policy::Policy;
use crate::ruleset::Family;
use crate::ruleset::nftables::script::Chain;
use crate::ruleset::nftables::{ECHO, SetId, classid};

/// The chain that notes a first knock for which there is no room.
pub(super) const NOTE: &str = "first-knock";

/// The chain that judges a second knock of a source without progress.
pub(super) const SECOND: &str = "second-knock";

/// The chain that tells second knocks from other ports that mean something.
pub(super) const NEAR: &str = "near";

/// The least sequence whose first knock may be given away.
const LEAST: usize = 3;

/// The most bits by which groups of addresses are told apart.
const MOST_BITS: u32 = 12;

/// The most first knocks that one second knock may follow, since each takes a look-up. Sequences beyond them wait for
/// room in a flood.
const MOST_BEFORE: usize = 8;

/// The rows of `steps` for second knocks: in row `i` a second knock leads to the `i`th first knock that it may follow.
const ROWS: u32 = ECHO - 0x1_0000;

/// Returns whether a policy has sequences whose first knock is noted so.
pub(in crate::ruleset::nftables) fn are_noted(policy: &Policy) -> bool {
    policy.sequences().any(|(_, knocks)| knocks.len() >= LEAST)
}

/// The first knocks of a policy, and the knocks that follow them.
pub(super) struct FirstKnocks {
    /// The last of the states that are reached by one knock. They are numbered from 1.
    pub last: State,
    /// For each second knock, the states that it leads on from.
    before: BTreeMap<Knock, Vec<State>>,
}

impl FirstKnocks {
    pub fn of(automaton: &Automaton) -> FirstKnocks {
        let depth = |state| match automaton.place(state) {
            Some(Place::Midway { knocks, .. }) => *knocks,
            _ => 0,
        };
        let mut before: BTreeMap<Knock, Vec<State>> = BTreeMap::new();
        let mut first = BTreeMap::new();
        for (state, knock, step) in automaton.table() {
            match step {
                Step::To(next) if state == State::ROOT => {
                    first.insert(knock, next);
                }
                Step::To(next) if depth(state) == 1 && depth(next) == 2 => {
                    let states = before.entry(knock).or_default();
                    if states.len() < MOST_BEFORE {
                        states.push(state);
                    }
                }
                _ => {}
            }
        }
        // A flood of first knocks has this one in it too, and would fill the room of those further on.
        before.retain(|knock, _| !first.contains_key(knock));
        let last = first.values().max().copied().unwrap_or(State::ROOT);
        FirstKnocks { last, before }
    }

    /// The second knocks.
    pub fn seconds(&self) -> impl Iterator<Item = Knock> {
        self.before.keys().copied()
    }

    /// The elements of `steps` for second knocks: row, knock and state.
    pub fn rows(&self) -> impl Iterator<Item = (u32, Knock, State)> {
        self.before.iter().flat_map(|(&knock, states)| {
            let rows = (ROWS..).zip(states);
            rows.map(move |(row, &state)| (row, knock, state))
        })
    }

    /// The chain that judges a second knock.
    pub fn second(&self, policy: &Policy) -> Chain {
        let mut chain = Chain::new(
            SECOND,
            &[
                "No step from here. In a flood of first knocks, the first of a sequence may have been noted for a group of",
                "addresses around the source: then this is its second.",
            ],
        );
        // Each row is filled from the first on: what one does not have, the next has not either.
        let otherwise = "goto leave";
        chain.rule(format!("meta nfproto != @{} {otherwise}", SetId::Flood));
        let most = self.before.values().map(Vec::len).max().unwrap_or(0);
        for row in (ROWS..).take(most) {
            let number = classid(row);
            chain.rule(format!(
                "meta priority set {number} meta priority set {} map @{}",
                "meta priority . meta l4proto . th dport",
                SetId::Steps
            ));
            chain.rule(format!("meta priority {number} {otherwise}"));
            for family in Family::BOTH {
                let (group, first) = (group(policy, family), SetId::First.of_family(family));
                chain.rule(format!("{group} . meta priority @{first} {}", step()));
            }
        }
        chain.rule(otherwise);
        chain
    }
}

/// The chain for ports that mean something. A service may be at one that is only a second knock: without a flood its
/// clients go on as others do.
pub(super) fn near() -> Chain {
    let about =
        "A second knock of a source without progress counts only in a flood of first knocks.";
    let mut chain = Chain::new(NEAR, &[about]);
    let here = "fib daddr type local goto judge";
    chain.rule(format!("th dport != @{} {here}", SetId::Second));
    chain.rule(format!("meta nfproto @{} {here}", SetId::Flood));
    chain
}

/// The chain that notes a first knock for a group of addresses around the source.
pub(super) fn note(policy: &Policy) -> Chain {
    let about = "No room for more sources with one knock: it is noted for a group of addresses around the source.";
    let mut chain = Chain::new(NOTE, &[about]);
    forget(&mut chain);
    for family in Family::BOTH {
        let (group, first) = (group(policy, family), SetId::First.of_family(family));
        chain.rule(format!("update @{first} {{ {group} . meta priority }}"));
    }
    chain.rule(format!("update @{} {{ meta nfproto }}", SetId::Flood));
    chain.rule("goto leave");
    chain
}

/// Room for all groups with all first knocks, and for expired elements, which the kernel counts for up to a second.
pub(super) fn room(policy: &Policy) -> u32 {
    let all = firsts(policy).saturating_mul(1 << bits(policy));
    let over = 1 + 1000 / policy.within.as_millis().max(100) as u32;
    all.saturating_mul(1 + over)
}

/// The number of bits whose groups all have room with each first knock.
fn bits(policy: &Policy) -> u32 {
    let each = policy.max_sources / firsts(policy).max(1);
    each.checked_ilog2().unwrap_or(0).clamp(1, MOST_BITS)
}

fn firsts(policy: &Policy) -> u32 {
    let sequences = policy.sequences();
    let firsts: BTreeSet<Knock> = sequences
        .filter_map(|(_, knocks)| knocks.first().copied())
        .collect();
    u32::try_from(firsts.len()).unwrap_or(u32::MAX)
}

/// The expression for the group of addresses around the source. Of an IPv6 address those bits count in which customers of one provider
/// differ.
fn group(policy: &Policy, family: Family) -> String {
    let (saddr, bits) = (family.saddr(), bits(policy));
    match family {
        Family::V4 => format!("{saddr} & {}", family.mask(bits as u8)),
        Family::V6 => format!("{saddr} & 0:0:{:x}::", (1u32 << bits) - 1),
    }
}
