//! `toctoc apply`

use std::fmt::Write as _;

use super::refill::refilled;
use super::status::everything_else;
use super::{Answer, PolicyPath, complain, count, now, policy, report, warn_of_readers};
use crate::firewall::apply::apply;
use crate::firewall::status::interface_warnings;
use crate::firewall::tokens::clocks;
use crate::firewall::{Firewall, list_size};
use crate::knock::display_source;
use crate::policy::show;
use crate::policy::{Door, DoorIndex, Interfaces, KeyKind, Policy};

pub(super) fn run(path: &PolicyPath) -> Answer {
    let policy = match policy(path) {
        Ok(policy) => policy,
        Err(answer) => {
            complain("the running firewall was not changed");
            return answer;
        }
    };
    let applied = match apply(&Firewall::default(), &policy, clocks()) {
        Ok(applied) => applied,
        Err(failure) => {
            complain(&failure.to_string());
            return Answer::CouldNot;
        }
    };
    let mut text = format!("applied {}\n", path.path.display());
    if let Some(before) = applied.moved_from {
        let (from, to) = (before.name(), policy.backend.name());
        let _ = writeln!(text, "moved from {from} to {to}");
    }
    for index in policy.door_indices() {
        let _ = writeln!(text, "{}", door(&policy, index, policy.door(index)));
    }
    if let Some(firewall) = &policy.firewall {
        let allowed: Vec<String> = firewall.allow.iter().map(|port| port.to_string()).collect();
        let _ = writeln!(
            text,
            "everything else that comes in is {}",
            everything_else(&allowed)
        );
    }
    if let Interfaces::Only(names) = &policy.interfaces {
        let _ = writeln!(text, "guarded on {} only", names.join(", "));
    }
    if let Some(done) = &applied.refilled {
        if policy.has_tokens() {
            text.push_str(&refilled(&policy, done));
        }
        for warning in &done.warnings {
            complain(warning);
        }
    }
    if applied.kept + applied.removed > 0 {
        let _ = writeln!(
            text,
            "{} kept, {} ended because their door or key is gone",
            count(applied.kept, "live grant"),
            applied.removed
        );
    }
    if applied.ended_once > 0 {
        let _ = writeln!(
            text,
            "{} for one connection ended: `max_sources`, `[grant]` or `once` changed",
            count(applied.ended_once, "live grant")
        );
    }
    if applied.drifts.is_empty() {
        text.push_str("the kernel holds what the policy says\n");
    }
    let written = report(&text);
    if applied.pushed_out > 0 {
        let room = list_size().map_or(String::new(), |size| format!(" (it holds {size} sources)"));
        complain(&format!(
            "{} could not be moved: a list of iptables was full{room}; those with the least time left \
             ended",
            count(applied.pushed_out, "live grant")
        ));
    }
    if applied.readable_lists > 0 {
        complain(
            "every user of this host can read the lists of iptables, see who knocks where, and so learn \
             a sequence (`chmod` is for root of the host; or load xt_recent with `ip_list_perms=0600`)",
        );
    }
    warn_of_readers(path, &policy);
    if applied.drifts.is_empty() {
        for warning in interface_warnings(&policy) {
            complain(&warning);
        }
        return if written {
            Answer::Yes
        } else {
            Answer::CouldNot
        };
    }
    for drift in &applied.drifts {
        complain(&format!("differs from the policy: {drift}"));
    }
    complain("somebody else changed the table while it was applied; apply again");
    if written {
        Answer::No
    } else {
        Answer::CouldNot
    }
}

/// "  ssh  22/tcp  closed; yves opens it for 1m with 5 knocks"
fn door(policy: &Policy, index: DoorIndex, door: &Door) -> String {
    let ports: Vec<String> = door.ports.iter().map(|port| port.to_string()).collect();
    let mut line = format!("  {:<12} {:<14}", door.name, ports.join(" "));
    let mut openers = Vec::new();
    for key in &policy.keys {
        for opening in key.opens.iter().filter(|opening| opening.door == index) {
            let with = match &key.kind {
                KeyKind::Sequence(knocks) => count(knocks.len(), "knock"),
                KeyKind::Token(_) => "a token".to_string(),
                KeyKind::Scratch(_) => "a scratch sequence".to_string(),
            };
            let lasting = show(opening.open_for);
            let once = if key.once { " (one connection)" } else { "" };
            if !key.expired(now()) {
                openers.push(format!(
                    "{} opens it for {lasting}{once} with {with}",
                    key.name
                ));
            }
        }
    }
    line.push_str(" closed; ");
    match openers.as_slice() {
        [] => line.push_str("no key opens it"),
        [one] => line.push_str(one),
        [first, rest @ ..] => {
            line.push_str(&format!("{first}, and {} more", count(rest.len(), "key")));
        }
    }
    if !door.trust.is_empty() {
        let trust: Vec<String> = door.trust.iter().map(display_source).collect();
        line.push_str(&format!("; trusts {}", trust.join(", ")));
    }
    line
}
