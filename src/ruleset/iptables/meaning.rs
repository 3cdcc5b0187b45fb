//! The meaning of a difference of our chains in the words of the policy.

use crate::held::{Drift, Fault, Subject};
use crate::policy::Policy;
use crate::ruleset::meaning::{Meanings, of_part};

/// The differences in the words of the policy, each sentence once. What has no meaning there is told as it stands.
pub fn meanings(drifts: &[Drift], policy: &Policy) -> Vec<String> {
    let mut meanings = Meanings::default();
    for drift in drifts {
        meanings.add(match &drift.subject {
            Subject::Chain(name, fault) => of_chain(policy, name, *fault),
            _ => drift.to_string(),
        });
    }
    meanings.list()
}

fn of_chain(policy: &Policy, name: &str, fault: Fault) -> String {
    let own = name.strip_prefix("toctoc-").unwrap_or_default();
    let own = own.strip_prefix("inner-").unwrap_or(own);
    for door in policy.doors.iter().map(|door| &door.name) {
        if own == format!("door-{door}") || own == format!("renew-{door}") {
            return of_part(&format!("the rules that guard {door}"), fault);
        }
    }
    for key in policy.keys.iter().map(|key| &key.name) {
        if own == format!("opens-{key}") {
            return of_part(&format!("the rules that let {key} in"), fault);
        }
        let step = own.strip_prefix(&format!("knock-{key}-"));
        if let Some(knocks) = step.and_then(|step| step.parse::<usize>().ok()) {
            let (from, to) = (knocks, knocks + 1);
            return match fault {
                Fault::Missing => {
                    format!("the step from knock {from} to knock {to} of {key} is missing")
                }
                _ => of_part(&format!("the rules for knock {to} of {key}"), fault),
            };
        }
        if own == format!("forget-{key}") {
            return of_part(&format!("the rules that take progress from {key}"), fault);
        }
    }
    let known = matches!(
        own,
        "" | "ports" | "wrong" | "forget" | "tcp" | "udp" | "inner" | "wide"
    ) || own.starts_with("tcp-")
        || own.starts_with("udp-");
    let part = match own {
        "shut" => "the rules that stop strangers at a door",
        "incoming" | "forwarded" => "the rules of `[firewall]`",
        _ if known => "the rules that hear knocks and find the door",
        _ if fault == Fault::Besides => return format!("somebody has added the chain {name}"),
        _ => "some of the rules",
    };
    of_part(part, fault)
}
