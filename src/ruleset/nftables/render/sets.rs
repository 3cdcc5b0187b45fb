//! The sets of a script, row by row of the [table](crate::ruleset::nftables::SETS), and the automaton as data.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::first_knocks::{self, FirstKnocks};
use crate::automaton::{Automaton, Place, State, Step};
use crate::knock::{Knock, PortRange, Protocol};
use crate::policy::{KeyKind, Policy, SequenceIndex};
use crate::ruleset::nftables::script::Set;
use crate::ruleset::nftables::{
    ECHO, Row, SETS, SetId, Size, Time, classid, door_chain, key_chain, scratch_chain, signed_chain,
};
use crate::signed::Signer;
use crate::single_use::{GRACE, TOKENS_PER_WINDOW, WINDOW};

/// An element, and a comment on it.
type Elements = Vec<(String, String)>;

/// All sets that a policy needs.
pub(super) fn sets(policy: &Policy, automaton: &Automaton, first: &FirstKnocks) -> Vec<Set> {
    let rows = SETS.iter().filter(|row| row.is_needed(policy));
    let sets = rows.flat_map(|row| {
        let families = row.families().iter();
        families.map(move |&family| Set {
            id: row.id,
            name: row.name_in(policy, family),
            types: row.types_of(family),
            size: size(row, policy),
            timeout: timeout(row, policy),
            elements: elements(row.id, policy, automaton, first),
        })
    });
    sets.collect()
}

fn size(row: &Row, policy: &Policy) -> Option<u32> {
    match row.size {
        Size::Any => None,
        Size::Sources => Some(policy.max_sources),
        Size::FirstKnocks => Some(first_knocks::room(policy)),
        Size::Tokens => Some(room_for(policy.token_horizon, policy.token_keys().count())),
        Size::Exactly(size) => Some(size),
    }
}

/// Room for twice the tokens that are loaded at once, in powers of two: to make the set anew is
/// seldom needed.
fn room_for(horizon: Duration, keys: usize) -> u32 {
    let windows = (horizon + GRACE).as_secs() / WINDOW.as_secs() + 2;
    let tokens = windows * u64::from(TOKENS_PER_WINDOW) * keys as u64;
    let room = (2 * tokens).next_power_of_two().max(4096);
    u32::try_from(room).unwrap_or(1 << 31)
}

fn timeout(row: &Row, policy: &Policy) -> Option<Duration> {
    let longest = || {
        let openings = policy.keys.iter().flat_map(|key| &key.opens);
        openings.map(|opening| policy.longest(opening)).max()
    };
    match row.time {
        Time::Endless | Time::Each => None,
        Time::Within => Some(policy.within),
        Time::LongestGrant => Some(longest().unwrap_or_default()),
        Time::Always(time) => Some(time),
    }
}

/// The elements that the policy says.
fn elements(id: SetId, policy: &Policy, automaton: &Automaton, first: &FirstKnocks) -> Elements {
    match id {
        SetId::Terms => vec![(classid(policy.terms()), String::new())],
        SetId::Heard => heard(policy, automaton, first),
        SetId::Second => second(first),
        SetId::Ports => ports(policy),
        SetId::Steps => steps(policy, automaton, first),
        SetId::Arrivals => arrivals(policy, automaton),
        SetId::Signed => signed(policy),
        _ => Vec::new(),
    }
}

fn heard(policy: &Policy, automaton: &Automaton, knocks: &FirstKnocks) -> Elements {
    // Ranges have rules of their own.
    let doors = policy.guarded().filter_map(PortRange::only);
    let steps = automaton.table();
    let first = steps
        .filter(|(state, ..)| *state == State::ROOT)
        .map(|(_, knock, _)| knock);
    let tcp: BTreeSet<u16> = doors
        .chain(first)
        .chain(knocks.seconds())
        .filter(|knock| knock.protocol == Protocol::Tcp)
        .map(|knock| knock.port.get())
        .collect();
    let element = |port: u16| (port.to_string(), String::new());
    tcp.into_iter().map(element).collect()
}

fn second(first: &FirstKnocks) -> Elements {
    let tcp = first
        .seconds()
        .filter(|knock| knock.protocol == Protocol::Tcp);
    tcp.map(|knock| (knock.port.to_string(), String::new()))
        .collect()
}

fn ports(policy: &Policy) -> Elements {
    let mut elements = Vec::new();
    for door in policy.doors_here() {
        for port in door.ports.iter().filter_map(|ports| ports.only()) {
            let target = door_chain(&door.name);
            let element = format!("{} . {} : goto {target}", port.protocol, port.port);
            elements.push((element, String::new()));
        }
    }
    for port in &policy.ignore {
        let element = format!("{} . {} : accept", port.protocol, port.port);
        elements.push((element, "ignored".to_string()));
    }
    elements
}

fn steps(policy: &Policy, automaton: &Automaton, first: &FirstKnocks) -> Elements {
    let numbers = completed(policy, automaton);
    let element = |state, knock: Knock, next| {
        let (state, next) = (classid(state), classid(next));
        format!("{state} . {} . {} : {next}", knock.protocol, knock.port)
    };
    let steps = automaton.table().map(|(state, knock, step)| {
        let (next, note) = match step {
            Step::Echo => (ECHO, "echo".to_string()),
            Step::To(next) => (next.0, place_note(policy, automaton, next)),
            Step::Complete(sequence) => (
                numbers[&sequence],
                format!("{} complete", policy.key(sequence.key).name),
            ),
        };
        (element(state.0, knock, next), note)
    });
    let seconds = first.rows().map(|(row, knock, state)| {
        let note = format!("after {}", place_note(policy, automaton, state));
        (element(row, knock, state.0), note)
    });
    steps.chain(seconds).collect()
}

/// The numbers that stand for "this sequence is complete": after those of the states.
fn completed(policy: &Policy, automaton: &Automaton) -> BTreeMap<SequenceIndex, u32> {
    let sequences = policy.sequences().map(|(index, _)| index);
    sequences.zip(automaton.state_count() as u32..).collect()
}

fn place_note(policy: &Policy, automaton: &Automaton, state: State) -> String {
    match automaton.place(state) {
        Some(Place::Midway { knocks, keys }) => {
            let first = policy.key(keys[0]);
            let more = match keys.len() {
                1 => String::new(),
                n => format!(" and {} more", n - 1),
            };
            let length = first.sequences().first().map_or(0, Vec::len);
            format!("{} {knocks}/{length}{more}", first.name)
        }
        _ => String::new(),
    }
}

fn arrivals(policy: &Policy, automaton: &Automaton) -> Elements {
    let mut elements = vec![(
        format!("{} : goto leave", classid(ECHO)),
        "echo".to_string(),
    )];
    for (index, number) in completed(policy, automaton) {
        let key = policy.key(index.key);
        let chain = match key.kind {
            KeyKind::Scratch(_) => scratch_chain(&key.name, index.number),
            KeyKind::Sequence(_) | KeyKind::Token(_) | KeyKind::Signed(_) => key_chain(&key.name),
        };
        elements.push((format!("{} : goto {chain}", classid(number)), String::new()));
    }
    for (key, secret) in policy.token_keys() {
        let element = format!("{} : goto {}", classid(secret.id()), key_chain(&key.name));
        elements.push((element, String::new()));
    }
    elements
}

fn signed(policy: &Policy) -> Elements {
    let keys = policy.signed_keys().map(|(key, signed)| {
        let class = classid(Signer::of(&signed.secret).class());
        let element = format!("{class} : goto {}", signed_chain(&key.name));
        (element, String::new())
    });
    keys.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_for_twice_what_is_loaded() {
        let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
        assert_eq!(room_for(minutes(360), 0), 4096);
        // 512 windows, then 514: eight tokens each.
        assert_eq!(room_for(minutes(508), 1), 4096);
        assert_eq!(room_for(minutes(510), 1), 8192);
        assert_eq!(room_for(minutes(1440), 100), 1 << 21);
        assert_eq!(room_for(minutes(60), 1 << 40), 1 << 31);
    }
}
