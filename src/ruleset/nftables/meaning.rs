//! The meaning of a difference of the ruleset in the words of the policy.

use super::{SetId, door_chain, key_chain, parse_classid, scratch_chain};
use crate::automaton::{Automaton, Place, State, Step};
use crate::held::{Drift, Fault, Subject};
use crate::knock::Knock;
use crate::policy::{KeyKind, Policy};
use crate::ruleset::meaning::{Meanings, of_part};

/// The differences in the words of the policy, each sentence once. What has no meaning there is told as it stands.
pub fn meanings(drifts: &[Drift], policy: &Policy, automaton: &Automaton) -> Vec<String> {
    let mut meanings = Meanings::default();
    for drift in drifts {
        match &drift.subject {
            Subject::Chain(name, fault) => meanings.add(of_chain(policy, name, *fault)),
            Subject::Set(name, fault) => meanings.add(of_set(name, *fault)),
            Subject::Elements(set, fault, elements) => {
                of_elements(&mut meanings, policy, automaton, set, *fault, elements);
            }
            Subject::Said(meaning) => meanings.add(meaning.clone()),
            Subject::Other => meanings.add(drift.to_string()),
        }
    }
    meanings.list()
}

fn of_chain(policy: &Policy, name: &str, fault: Fault) -> String {
    let doors = policy.doors.iter().map(|door| &door.name);
    for door in doors {
        if door_chain(door) == name {
            return of_part(&format!("the rules that guard {door}"), fault);
        }
    }
    for key in &policy.keys {
        let is_scratch = |number| scratch_chain(&key.name, number) == name;
        let of_key = key_chain(&key.name) == name || (0..key.sequences().len()).any(is_scratch);
        if of_key {
            return of_part(&format!("the rules that let {} in", key.name), fault);
        }
    }
    let part = match name {
        "fragments" | "leading" | "headers" => "the rules against odd IPv6 headers",
        "knocks-tcp" | "knocks-udp" | "glance" | "judge" | "arrived" | "leave" | "remember"
        | "tooquick" | "ranges" | "judge-behind" | "near" | "first-knock" | "second-knock" => {
            "the rules that hear knocks and find the door"
        }
        "knocks-token" | "judge-token" | "arrived-token" => "the rules that hear tokens",
        "incoming" => "the rules that ask once more where a packet is delivered",
        "forwarded" | "torn" => "the rules for packets to other hosts",
        "destinations" | "sources" => "the rules that pass connections on",
        _ if name.starts_with("forward-") => "the rules that pass connections on",
        "shut" => "the rules that stop strangers at a door",
        "pass" | "begun" | "admit" | "again" => "the rules for grants of one connection",
        "crowded" | "told" => "the rules that limit what one source may do",
        _ if name.starts_with("opens-") => "the rules that give grants",
        _ if fault == Fault::Besides => {
            return format!("somebody has added the chain {name} to our table");
        }
        _ => "some of the rules",
    };
    of_part(part, fault)
}

fn of_set(name: &str, fault: Fault) -> String {
    let Some(row) = SetId::of(name) else {
        return format!("somebody has added the set {name} to our table");
    };
    let part = match row.id {
        SetId::Steps => "the steps from knock to knock",
        SetId::Arrivals => "what the last knock of a sequence opens",
        SetId::Ports | SetId::Heard => "the ports of doors, first and second knocks",
        SetId::Grants | SetId::Once | SetId::Opened | SetId::Elsewhere => "the lists of grants",
        SetId::Progress => "the lists of sources midway",
        SetId::Tokens | SetId::Spent | SetId::SpentElsewhere => "the lists of tokens",
        _ => return of_part(&format!("the elements of the list {name}"), fault),
    };
    of_part(part, fault)
}

fn of_elements(
    meanings: &mut Meanings,
    policy: &Policy,
    automaton: &Automaton,
    set: &str,
    fault: Fault,
    elements: &[String],
) {
    let id = SetId::of(set).map(|row| row.id);
    if fault == Fault::Besides {
        return meanings.add(match id {
            Some(SetId::Steps) => {
                "there are steps from knock to knock that no sequence has".to_string()
            }
            Some(SetId::Ports | SetId::Heard) => {
                "ports are doors, or ignored, that the policy does not name so".to_string()
            }
            _ => format!("somebody has added elements to the list {set}"),
        });
    }
    match id {
        Some(SetId::Steps) => {
            for (state, knock) in elements.iter().filter_map(|element| step_key(element)) {
                if automaton.place(state).is_some() {
                    let step = automaton.step(state, knock);
                    meanings.add(without_step(policy, automaton, knock, step));
                } else {
                    let what = "is not heard in a flood of first knocks";
                    meanings.add(format!("the second knock at {knock} {what}"));
                }
            }
        }
        Some(SetId::Ports) => {
            for door in &policy.doors {
                let single = door.ports.iter().filter_map(|ports| ports.only());
                for port in single.filter(|_| door.is_here()) {
                    let start = format!("{} . {} : ", port.protocol, port.port);
                    if elements.iter().any(|element| element.starts_with(&start)) {
                        meanings.add(format!("{} is not guarded at {port}", door.name));
                    }
                }
            }
            for port in &policy.ignore {
                let start = format!("{} . {} : ", port.protocol, port.port);
                if elements.iter().any(|element| element.starts_with(&start)) {
                    meanings.add(format!("{port} counts as a knock, and is to be ignored"));
                }
            }
        }
        Some(SetId::Heard) => {
            for port in elements {
                meanings.add(format!("a door or knock at {port}/tcp is not heard"));
            }
        }
        Some(SetId::Arrivals | SetId::Signed) => {
            for key in &policy.keys {
                let chain = match key.kind {
                    KeyKind::Scratch(_) => format!("goto scratch-{}/", key.name),
                    KeyKind::Sequence(_) | KeyKind::Token(_) | KeyKind::Signed(_) => {
                        format!("goto {}", key_chain(&key.name))
                    }
                };
                let is_its = |element: &String| match &key.kind {
                    KeyKind::Scratch(_) => element.contains(&chain),
                    _ => element.ends_with(&chain),
                };
                if elements.iter().any(is_its) {
                    meanings.add(format!("{} opens nothing", key.name));
                }
            }
        }
        _ => meanings.add(format!("the list {set} is not complete")),
    }
}

/// The state and the knock of an element of the map of steps, as nft prints it.
fn step_key(element: &str) -> Option<(State, Knock)> {
    let (key, _) = element.split_once(" : ")?;
    let mut parts = key.split(" . ");
    let (state, protocol, port) = (parts.next()?, parts.next()?, parts.next()?);
    let knock = format!("{port}/{protocol}").parse().ok()?;
    Some((State(parse_classid(state)?), knock))
}

/// The effect of a missing step.
fn without_step(policy: &Policy, automaton: &Automaton, knock: Knock, step: Step) -> String {
    match step {
        Step::Echo => {
            "a knock that the network repeats (an echo) costs a guest the progress".to_string()
        }
        Step::To(next) => match automaton.place(next) {
            Some(Place::Midway { knocks, keys }) => {
                let key = keys.first().map(|&key| policy.key(key).name.as_str());
                let key = key.unwrap_or_default();
                match knocks {
                    1 => format!("the first knock of {key} is not heard"),
                    _ => format!(
                        "the step from knock {} to knock {knocks} of {key} is missing",
                        knocks - 1
                    ),
                }
            }
            _ => format!("a knock at {knock} leads elsewhere than it should"),
        },
        Step::Complete(sequence) => {
            format!(
                "the last knock of {} opens nothing",
                policy.key(sequence.key).name
            )
        }
    }
}
