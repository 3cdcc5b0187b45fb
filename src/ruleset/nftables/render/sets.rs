//! The sets: what the kernel remembers, and the automaton as data.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::limits::{CROWD, LINES_FOR, crowd_for};
use crate::automaton::{Automaton, Place, State, Step};
use crate::knock::Protocol;
use crate::policy::{KeyKind, Policy, SequenceIndex};
use crate::ruleset::Family;
use crate::ruleset::nftables::script::{Set, SetKind};
use crate::ruleset::nftables::{
    BURNING, BURNT, ECHO, Kept, REVOKED, REVOKED_ELSEWHERE, TERMS, classid, door_chain, key_chain,
    scratch_chain, set_name,
};

pub(super) fn kept_sets(policy: &Policy) -> Vec<Set> {
    let mut sets = Vec::new();
    let mut add = |kept, comment: &[&str], types: &str| {
        // `admitted4/6` has both ends.
        let types = |family: Family| types.replace("ADDRESS", family.address_type());
        for family in Family::BOTH {
            let first = family == Family::V4;
            let comment: Vec<String> = comment.iter().map(|c| c.to_string()).collect();
            sets.push(Set {
                comment: if first { comment } else { Vec::new() },
                name: set_name(kept, family, family.prefix_of(policy.grant)),
                types: format!("{} . {}", family.address_type(), types(family)),
                kind: SetKind::Kept {
                    size: match kept {
                        // Notes of a day, and no closing may fail for want of room.
                        Kept::Closed | Kept::Ended => MOST_CLOSED,
                        _ => policy.max_sources,
                    },
                },
                elements: Vec::new(),
            });
        }
    };
    add(
        Kept::Opened,
        &["Openings: source . door . key, for as long as the grant was given."],
        "classid . classid",
    );
    add(
        Kept::Grants,
        &["Grants: source . door. While an element is here, new connections pass."],
        "classid",
    );
    if policy.has_once() {
        add(
            Kept::Once,
            &["Grants that are used up by their first connection."],
            "classid",
        );
        add(
            Kept::Admitted,
            &[
                "The connection that used up a grant: until it begins, its first packet may come again.",
            ],
            "ADDRESS . inet_proto . inet_service . inet_service",
        );
    }
    if policy.fleet.is_some() {
        add(
            Kept::Elsewhere,
            &["Grants that other hosts of the fleet gave: source . door."],
            "classid",
        );
        add(
            Kept::Closed,
            &["Grants that were ended by hand: the other hosts are told."],
            "classid",
        );
        add(
            Kept::Ended,
            &["Grants that other hosts have ended, source . door . length: they do not come back."],
            "classid . classid",
        );
    }
    sets
}

/// Far more than anybody ends in a day; it takes memory for what is in it alone.
const MOST_CLOSED: u32 = 1 << 20;

/// Keys that were revoked, here and at other hosts of the fleet.
pub(super) fn revoked() -> [Set; 2] {
    [
        (REVOKED, "Keys that were revoked: the other hosts are told."),
        (REVOKED_ELSEWHERE, "Keys that other hosts have revoked."),
    ]
    .map(|(name, comment)| Set {
        comment: vec![comment.to_string()],
        name: name.to_string(),
        types: "classid".to_string(),
        kind: SetKind::Kept { size: MOST_REVOKED },
        elements: Vec::new(),
    })
}

/// Far more than anybody revokes in a day.
const MOST_REVOKED: u32 = 65_536;

/// What the agent of the fleet compares with what it has read.
pub(super) fn terms(policy: &Policy) -> Set {
    Set {
        comment: vec!["What this policy says to a fleet, as a number.".to_string()],
        name: TERMS.to_string(),
        types: "classid".to_string(),
        kind: SetKind::Fixed,
        elements: vec![(classid(policy.terms()), String::new())],
    }
}

/// Scratch sequences that have opened stay in here as long as the table is there.
pub(super) fn burnt() -> [Set; 2] {
    let set = |name: &str, comment: &str| Set {
        comment: vec![comment.to_string()],
        name: name.to_string(),
        types: "classid".to_string(),
        kind: SetKind::Kept { size: MOST_BURNT },
        elements: Vec::new(),
    };
    [
        set(
            BURNT,
            "Scratch sequences that have opened, and never will again.",
        ),
        set(
            BURNING,
            "Those that are just opening: the first of several at one moment may.",
        ),
    ]
}

/// Far more than anybody carries along.
const MOST_BURNT: u32 = 65_536;

pub(super) fn progress(policy: &Policy) -> Vec<Set> {
    let make = |family: Family, comment: &[&str]| Set {
        comment: comment.iter().map(|c| c.to_string()).collect(),
        name: progress_name(family),
        types: format!("{} : classid", family.address_type()),
        kind: SetKind::Fresh {
            size: policy.max_sources,
            timeout: policy.within,
        },
        elements: Vec::new(),
    };
    vec![
        make(
            Family::V4,
            &["Progress: source -> state, forgotten when the next knock is late."],
        ),
        make(Family::V6, &[]),
    ]
}

pub(super) fn steady(policy: &Policy) -> Vec<Set> {
    let comment = "How many steps a source makes: no more than it takes to knock.";
    Family::BOTH
        .map(|family| Set {
            comment: first_only(family, comment),
            name: steady_name(family),
            types: family.address_type().to_string(),
            kind: SetKind::Fresh {
                size: policy.max_sources,
                timeout: STEADY_FOR,
            },
            elements: Vec::new(),
        })
        .to_vec()
}

/// The sets that limit the lines in the kernel's log. Where it is full, all openings are logged.
pub(super) fn logged(policy: &Policy) -> Vec<Set> {
    let comment = "How often a source has opened of late with a key: the log does not tell of all.";
    Family::BOTH
        .map(|family| Set {
            comment: first_only(family, comment),
            name: logged_name(family),
            types: format!("{} . classid", family.address_type()),
            kind: SetKind::Fresh {
                size: policy.max_sources,
                timeout: LINES_FOR,
            },
            elements: Vec::new(),
        })
        .to_vec()
}

pub(super) fn logged_name(family: Family) -> String {
    format!("logged{}", family.digit())
}

pub(super) fn claim(policy: &Policy) -> Vec<Set> {
    let comment = "Claims: of two packets that use the same grant at once, only the first passes.";
    Family::BOTH
        .map(|family| Set {
            comment: first_only(family, comment),
            name: claim_name(family),
            types: format!("{} . classid", family.address_type()),
            kind: SetKind::Fresh {
                size: policy.max_sources,
                timeout: CLAIM_FOR,
            },
            elements: Vec::new(),
        })
        .to_vec()
}

/// How often a first packet came again, and which packets have passed their door.
pub(super) fn once_sets(policy: &Policy) -> Vec<Set> {
    let pair = |names: [String; 2], comment: &str, timeout: Duration| {
        let [name4, name6] = names;
        [(Family::V4, name4), (Family::V6, name6)].map(|(family, name)| {
            let address = family.address_type();
            Set {
                comment: first_only(family, comment),
                name,
                types: format!("{address} . {address} . inet_proto . inet_service . inet_service"),
                kind: SetKind::Fresh {
                    size: policy.max_sources,
                    timeout,
                },
                elements: Vec::new(),
            }
        })
    };
    let repeats = pair(
        Family::BOTH.map(repeats_name),
        "How often a first packet has come again.",
        CLAIM_FOR,
    );
    let passed = pair(
        Family::BOTH.map(passed_name),
        "Packets between their door and the input hook.",
        PASSED_FOR,
    );
    repeats.into_iter().chain(passed).collect()
}

pub(super) fn repeats_name(family: Family) -> String {
    format!("repeats{}", family.digit())
}

pub(super) fn passed_name(family: Family) -> String {
    format!("passed{}", family.digit())
}

/// Far longer than a packet takes from one hook to the next.
const PASSED_FOR: Duration = Duration::from_secs(1);

pub(super) fn crowd(policy: &Policy) -> Set {
    Set {
        comment: vec!["How many grants each IPv6 network has got by a key.".to_string()],
        name: CROWD.to_string(),
        types: "ipv6_addr . classid".to_string(),
        kind: SetKind::Fresh {
            size: policy.max_sources,
            timeout: crowd_for(policy),
        },
        elements: Vec::new(),
    }
}

/// The comment of a pair of sets stands above its first.
fn first_only(family: Family, comment: &str) -> Vec<String> {
    match family {
        Family::V4 => vec![comment.to_string()],
        Family::V6 => Vec::new(),
    }
}

/// Far longer than two packets take that look at one grant at the same moment.
const CLAIM_FOR: Duration = Duration::from_secs(10);

pub(super) fn claim_name(family: Family) -> String {
    format!("claim{}", family.digit())
}

/// A source that rests as long as this may do all it could at first.
const STEADY_FOR: Duration = Duration::from_secs(5);

pub(super) fn steady_name(family: Family) -> String {
    format!("steady{}", family.digit())
}

pub(super) fn progress_name(family: Family) -> String {
    format!("progress{}", family.digit())
}

/// Refilled, like `ports`: a door must be in here all the time.
pub(super) fn heard(policy: &Policy, automaton: &Automaton) -> Set {
    let doors = policy.doors.iter().flat_map(|door| &door.ports).copied();
    let steps = automaton.table();
    let first = steps
        .filter(|(state, ..)| *state == State::ROOT)
        .map(|(_, knock, _)| knock);
    let tcp: BTreeSet<u16> = doors
        .chain(first)
        .filter(|knock| knock.protocol == Protocol::Tcp)
        .map(|knock| knock.port.get())
        .collect();
    let element = |port: u16| (port.to_string(), String::new());
    Set {
        comment: vec![
            "TCP ports that mean something from anybody: doors and first knocks.".to_string(),
        ],
        name: "heard".to_string(),
        types: "inet_service".to_string(),
        kind: SetKind::Refilled,
        elements: tcp.into_iter().map(element).collect(),
    }
}

pub(super) fn ports(policy: &Policy) -> Set {
    let mut elements = Vec::new();
    for door in &policy.doors {
        for port in &door.ports {
            let target = door_chain(&door.name);
            let element = format!("{} . {} : goto {target}", port.protocol, port.port);
            elements.push((element, String::new()));
        }
    }
    for port in &policy.ignore {
        let element = format!("{} . {} : accept", port.protocol, port.port);
        elements.push((element, "ignored".to_string()));
    }
    Set {
        comment: vec!["Ports that are not knocks: doors and ignored ones.".to_string()],
        name: "ports".to_string(),
        types: "inet_proto . inet_service : verdict".to_string(),
        kind: SetKind::Refilled,
        elements,
    }
}

pub(super) fn steps(policy: &Policy, automaton: &Automaton) -> Set {
    let numbers = completed(policy, automaton);
    let elements = automaton
        .table()
        .map(|(state, knock, step)| {
            let (next, note) = match step {
                Step::Echo => (ECHO, "echo".to_string()),
                Step::To(next) => (next.0, place_note(policy, automaton, next)),
                Step::Complete(sequence) => (
                    numbers[&sequence],
                    format!("{} complete", policy.key(sequence.key).name),
                ),
            };
            let element = format!(
                "{} . {} . {} : {}",
                classid(state.0),
                knock.protocol,
                knock.port,
                classid(next)
            );
            (element, note)
        })
        .collect();
    Set {
        comment: vec![
            "The automaton: state . protocol . port -> next state. What is not here leads nowhere."
                .to_string(),
        ],
        name: "steps".to_string(),
        types: "classid . inet_proto . inet_service : classid".to_string(),
        kind: SetKind::Fixed,
        elements,
    }
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

pub(super) fn arrivals(policy: &Policy, automaton: &Automaton) -> Set {
    let mut elements = vec![(
        format!("{} : goto leave", classid(ECHO)),
        "echo".to_string(),
    )];
    for (index, number) in completed(policy, automaton) {
        let key = policy.key(index.key);
        let chain = match key.kind {
            KeyKind::Scratch(_) => scratch_chain(&key.name, index.number),
            KeyKind::Sequence(_) | KeyKind::Token(_) => key_chain(&key.name),
        };
        elements.push((format!("{} : goto {chain}", classid(number)), String::new()));
    }
    for (key, secret) in policy.token_keys() {
        let element = format!("{} : goto {}", classid(secret.id()), key_chain(&key.name));
        elements.push((element, String::new()));
    }
    Set {
        comment: vec!["What a step can be besides progress, and whose a token is.".to_string()],
        name: "arrivals".to_string(),
        types: "classid : verdict".to_string(),
        kind: SetKind::Fixed,
        elements,
    }
}
