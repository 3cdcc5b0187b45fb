//! `Policy, Automaton --render--> Script`. Pure, and the same text for the same policy.

mod behind;
mod chains;
mod extend;
mod first_knocks;
mod forward;
mod headers;
mod host;
mod inner;
mod keys;
mod limits;
mod once;
mod ranges;
mod sets;
mod tokens;

use super::script::Script;
use super::{SHUT_OUT, WRONG, classid, counter};
use crate::automaton::Automaton;
use crate::knock::{GrantPrefix, SequenceIndex};
use crate::policy::{Key, KeyKind, Log, Policy, show};
use crate::ruleset::Family;
use chains::{
    arrived, door_of, glance, judge, knocks_tcp, knocks_udp, leave, remember, shut, tooquick,
};
use first_knocks::FirstKnocks;
pub(super) use first_knocks::are_noted as first_knocks_are_noted;
use keys::{Opens, key_of, scratch_key_of, scratch_of, token_key_of};

/// Compiles a policy. `automaton` is that of the same policy.
pub fn render(policy: &Policy, automaton: &Automaton) -> Script {
    let first = FirstKnocks::of(automaton);
    let mut chains = vec![headers::fragments(), knocks_tcp(policy)];
    if policy.judges_udp() {
        chains.push(knocks_udp(policy));
    }
    chains.extend([
        glance(policy),
        judge(policy),
        arrived(),
        remember(policy, &first),
        tooquick(),
        leave(),
    ]);
    if first_knocks_are_noted(policy) {
        chains.extend([first_knocks::near(), first_knocks::note(policy)]);
        chains.push(first.second(policy));
    }
    chains.extend(ranges::ranges(policy));
    chains.extend(behind::judge_behind(policy));
    let token_port = policy
        .token_port
        .filter(|_| policy.has_tokens() || policy.has_signed());
    if let Some(port) = token_port {
        chains.extend([
            tokens::knocks_token(policy, port),
            tokens::judge_token(policy),
        ]);
        if policy.has_tokens() {
            chains.push(tokens::arrived_token(policy));
        }
        if policy.has_pings() {
            chains.extend(tokens::echoes(policy));
        }
    }
    for door in &policy.doors {
        chains.push(door_of(policy, door));
    }
    if policy.has_once() {
        chains.extend(once::chains());
    }
    chains.push(shut(policy));
    chains.extend([headers::leading(policy), headers::delivered(policy)]);
    match &policy.firewall {
        None => chains.push(inner::incoming(policy)),
        Some(firewall) => chains.push(host::incoming(policy, firewall)),
    }
    chains.extend(behind::forwarded(policy));
    chains.extend(forward::chains(policy));
    let (opens, numbers) = Opens::of(policy);
    let knocks = |key: &Key| !matches!(key.kind, KeyKind::Token(_) | KeyKind::Signed(_));
    if policy.keys.iter().any(knocks) {
        chains.push(keys::crowded());
    }
    if policy.log == Log::Kernel && !policy.keys.is_empty() {
        chains.push(keys::told());
    }
    for number in 0..opens.0.len() {
        chains.extend(opens.chains(number, policy));
    }
    for (index, number) in policy.key_indices().zip(numbers) {
        let (key, opens) = (policy.key(index), Opens::name(number));
        let after = |number| automaton.after(SequenceIndex { key: index, number });
        match &key.kind {
            KeyKind::Sequence(_) => chains.push(key_of(policy, key, after(0), &opens)),
            KeyKind::Token(_) | KeyKind::Signed(_) => {
                if matches!(key.kind, KeyKind::Signed(_)) {
                    chains.push(tokens::signed_of(policy, key));
                }
                chains.push(token_key_of(policy, key, &opens));
            }
            KeyKind::Scratch(sequences) => {
                for (number, knocks) in sequences.iter().enumerate() {
                    let after = after(number);
                    chains.push(scratch_of(key, number, knocks, after));
                    chains.push(scratch_key_of(policy, key, number, after, &opens));
                }
            }
        }
    }
    Script {
        header: header(policy),
        sets: sets::sets(policy, automaton, &first),
        counters: counters(policy),
        chains,
    }
}

fn counters(policy: &Policy) -> Vec<String> {
    let keys = policy.keys.iter().map(|key| counter(&key.name));
    keys.chain([WRONG, SHUT_OUT].map(str::to_string)).collect()
}

fn header(policy: &Policy) -> Vec<String> {
    let mut lines = vec![
        format!(
            "toctoc: {}, {}; knocks at most {} apart.",
            count(policy.doors.len(), "door"),
            count(policy.keys.len(), "key"),
            show(policy.within),
        ),
        "Written from a policy file. Change that, not this.".to_string(),
        String::new(),
        "States, doors and keys are numbers of the type classid, two hexadecimal halves:".into(),
        "0:1 and up are states of the automaton (one with no step but an echo: a sequence has just"
            .into(),
        "been completed) and complete sequences; ffff:0 is an echo; the others are names:".into(),
    ];
    for door in &policy.doors {
        lines.push(format!(
            "  {:<9} door {}",
            classid(door.name.id()),
            door.name
        ));
    }
    for key in &policy.keys {
        lines.push(format!("  {:<9} key {}", classid(key.name.id()), key.name));
    }
    lines
}

fn count(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

/// The source as grants hold it: the address, or its network.
fn source(grant: GrantPrefix, family: Family) -> String {
    let length = family.prefix_of(grant);
    if length == family.longest_prefix() {
        return family.saddr().to_string();
    }
    format!("{} & {}", family.saddr(), family.mask(length))
}

/// The expression for one source where all share the room: an address, in IPv6 the 64-bit network around it.
fn per_source(family: Family) -> String {
    match family {
        Family::V4 => family.saddr().to_string(),
        Family::V6 => format!("{} & {}", family.saddr(), family.mask(64)),
    }
}
