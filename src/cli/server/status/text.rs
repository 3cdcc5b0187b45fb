//! The status for people: doors, grants, keys, and what differs

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;

use super::super::count;
use super::about::{about_the_file, about_the_fleet};
use crate::firewall::status::{
    DoorStatus, GrantStatus, ScratchStatus, Status, TokenStatus, guarded_on,
};
use crate::policy::show;

/// More differences than this are counted: somebody looks at another policy.
const SHOWN: usize = 8;

/// The words for what differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Words {
    OfThePolicy,
    /// Those, and then chains, sets and elements.
    OfTheKernel,
}

/// The status for people.
pub(in super::super) fn text(status: &Status, words: Words) -> String {
    let mut text = String::from("doors\n");
    let ports = |door: &DoorStatus| match door.in_policy {
        true if !door.forward.is_empty() => {
            format!("{} to {}", door.ports.join(" "), door.forward.join(" "))
        }
        true if door.every_port => "every port".to_string(),
        true if door.to.is_empty() => door.ports.join(" "),
        true => format!("{} at {}", door.ports.join(" "), door.to.join(" ")),
        false => "not in this policy".to_string(),
    };
    let width = |length: fn(&DoorStatus) -> usize| status.doors.iter().map(length).max();
    let names = width(|door| door.name.len()).unwrap_or(0).max(12);
    let widest = status.doors.iter().map(|door| ports(door).len()).max();
    // A door of thousands of ports does not push the others' state away, and a width has an end.
    let widest = widest.unwrap_or(0).clamp(14, 40);
    for door in &status.doors {
        let (name, ports) = (&door.name, ports(door));
        let state = state(status, door);
        let _ = writeln!(text, "  {name:<names$} {ports:<widest$} {state}");
        for grant in &door.grants {
            let _ = writeln!(text, "    {}", holder(grant));
        }
    }
    if let Some(allowed) = &status.allowed {
        let everything_else = match status.drift.is_empty() {
            true => everything_else(allowed),
            false => "not as the policy says, see below".to_string(),
        };
        let _ = writeln!(text, "everything else\n  {everything_else}");
    }
    if !status.progress.is_empty() {
        text.push_str("midway\n");
        for entry in &status.progress {
            let how_far = match entry.knocks {
                0 => String::new(),
                knocks => format!("  {} of {}", count(knocks, "knock"), some(&entry.keys)),
            };
            let left = seconds(entry.expires_in);
            let _ = writeln!(text, "  {:<39} {left} left{how_far}", entry.source);
        }
    }
    if !status.keys.is_empty() {
        text.push_str("keys\n");
    }
    for key in &status.keys {
        let opened = match key.opened {
            0 => "no opening counted".to_string(),
            1 => "opened 1 time".to_string(),
            times => format!("opened {times} times"),
        };
        let expired = if key.expired { ", expired" } else { "" };
        let tokens = key.tokens.as_ref().map_or(String::new(), tokens);
        let scratch = key.scratch.as_ref().map_or(String::new(), scratch);
        let _ = writeln!(
            text,
            "  {:<12} {opened}{expired}{tokens}{scratch}",
            key.name
        );
    }
    if status.drift.is_empty() {
        text.push_str(match status.noted.file_changed {
            false => "the kernel holds what the policy says\n",
            true => "the kernel holds what was applied\n",
        });
    } else {
        text.push_str(match status.noted.file_changed {
            false => "the kernel differs from the policy\n",
            true => "the kernel differs from what was applied\n",
        });
        for difference in status.differences.iter().take(SHOWN) {
            let _ = writeln!(text, "  {difference}");
        }
        if status.differences.len() > SHOWN {
            let more = status.differences.len() - SHOWN;
            let _ = writeln!(
                text,
                "  ... and {more} more: it may hold another policy than this file"
            );
        }
        if words == Words::OfTheKernel {
            text.push_str("in the kernel's words\n");
            for drift in &status.drift {
                let _ = writeln!(text, "  {drift}");
            }
        }
        let next = status.noted.absence.as_deref().unwrap_or(match status.noted.restores {
            true => "`toctoc heal` restores the rules that were applied last; `toctoc apply` applies the file",
            false => "`toctoc apply` applies the file",
        });
        let _ = writeln!(text, "  {next}");
    }
    if status.backend == "iptables" {
        let room = status.max_sources;
        let _ = writeln!(text, "a list of this kernel holds {room} sources");
    }
    if let (Some(on), false) = (&status.guarded_on, status.not_guarded_on.is_empty())
        && let Some(words) = guarded_on(on, &status.not_guarded_on)
    {
        let _ = writeln!(text, "{words}");
    }
    for gap in &status.gaps {
        let _ = writeln!(text, "STRANGERS ENTER: {gap}");
    }
    for warning in &status.warnings {
        let _ = writeln!(text, "{warning}");
    }
    if let Some(fleet) = &status.fleet {
        text.push_str(&about_the_fleet(fleet));
    }
    text.push_str(&about_the_file(&status.noted));
    text
}

/// ", tokens for 5h 58m"
fn tokens(tokens: &TokenStatus) -> String {
    let lasting = match tokens.loaded {
        0 => ", NO TOKENS".to_string(),
        _ => format!(", tokens for {}", minutes(tokens.last_for)),
    };
    match tokens.low {
        true if tokens.loaded == 0 => {
            format!("{lasting}: `toctoc apply` loads some (and the timer keeps them coming)")
        }
        true => format!("{lasting} only: `toctoc refill` loads more, is its timer running?"),
        false => lasting,
    }
}

/// ", 3 of 5 scratch sequences left"
fn scratch(scratch: &ScratchStatus) -> String {
    let ScratchStatus { left, of } = scratch;
    match left {
        0 => format!(", NONE of {of} scratch sequences left"),
        left => format!(", {left} of {of} scratch sequences left"),
    }
}

/// "5h 58m": the seconds only if that is all there is.
fn minutes(seconds: f64) -> String {
    let whole = seconds.max(0.0) as u64;
    show(Duration::from_secs(match whole {
        0..60 => whole,
        _ => whole / 60 * 60,
    }))
}

/// "dropped, but for 80/tcp (5432/tcp vrrp from 10.0.0.0/8)"
pub(in super::super) fn everything_else(allowed: &[String]) -> String {
    match allowed {
        [] => "dropped".to_string(),
        allowed => {
            let grouped = allowed.iter().map(|one| match one.contains(' ') {
                true => format!("({one})"),
                false => one.clone(),
            });
            let grouped: Vec<String> = grouped.collect();
            format!("dropped, but for {}", grouped.join(" "))
        }
    }
}

/// "closed to all", "open to 2 sources", ...
fn state(status: &Status, door: &DoorStatus) -> String {
    match &door.guarded_by {
        None => return "OPEN TO EVERYONE".to_string(),
        Some(backend) if *backend != status.backend => {
            return format!("guarded by {backend}, not as this policy says");
        }
        Some(_) => {}
    }
    let trusted = match trusted(door).as_slice() {
        [] => String::new(),
        trust => format!(", trusts {}", some(trust)),
    };
    // A source that is in here and at another host is one.
    let sources: BTreeSet<&str> = door.grants.iter().map(|g| g.source.as_str()).collect();
    let all = with_every_port(door);
    let state = match sources.len() {
        0 if status.rules_differ && !door.with_every_port.is_empty() => {
            format!("open to {all}, MAYBE TO ALL: its rules were changed")
        }
        0 if !door.with_every_port.is_empty() => format!("open to {all}"),
        0 if status.rules_differ => "MAY BE OPEN to all: its rules were changed".to_string(),
        0 if !status.drift.is_empty() => "no grants".to_string(),
        0 if status.open_on.is_empty() && !status.gaps.is_empty() => "not known".to_string(),
        0 if status.guarded_on.is_none() && !status.open_on.is_empty() => {
            "closed to all on other interfaces".to_string()
        }
        0 => format!("closed to all{}", on(status)),
        holders => {
            let also = match door.with_every_port.is_empty() {
                true => String::new(),
                false => format!(" and to {all}"),
            };
            let maybe = match status.rules_differ {
                true => ", MAYBE TO ALL: its rules were changed",
                false => "",
            };
            format!("open to {}{also}{maybe}", count(holders, "source"))
        }
    };
    let past = match status.open_on.as_slice() {
        [] => String::new(),
        names => format!(", OPEN TO EVERYONE on {}", some(names)),
    };
    format!("{state}{trusted}{past}")
}

/// The trusted sources: names with the addresses that the rules have for them.
fn trusted(door: &DoorStatus) -> Vec<String> {
    let shown = door
        .trust
        .iter()
        .map(|source| match door.addresses.get(source) {
            None => source.clone(),
            Some(addresses) => match addresses.as_slice() {
                [] => format!("{source} (no address)"),
                addresses => format!("{source} ({})", some(addresses)),
            },
        });
    shown.collect()
}

/// "the 1 source that has every port"
fn with_every_port(door: &DoorStatus) -> String {
    match door.with_every_port.len() {
        1 => "the 1 source that has every port".to_string(),
        many => format!("the {many} sources that have every port"),
    }
}

/// " on eth0", where the policy names interfaces.
fn on(status: &Status) -> String {
    match status.guarded_on.as_deref() {
        None | Some([]) => String::new(),
        Some(names) => format!(" on {}", some(names)),
    }
}

/// "192.0.2.7  41s left, by yves"
fn holder(grant: &GrantStatus) -> String {
    let at = match (&grant.host, grant.elsewhere) {
        (Some(host), _) => format!(" at {host}"),
        (None, true) => " at another host".to_string(),
        (None, false) => String::new(),
    };
    let by = match &grant.key {
        None if grant.elsewhere => String::new(),
        Some(key) => format!(", by {key}"),
        None if grant.by_hand => ", by hand".to_string(),
        None => String::new(),
    };
    let once = if grant.once {
        ", for one connection"
    } else {
        ""
    };
    let used = grant.extendable_for.map_or(String::new(), |left| {
        format!(", at most {} while it is used", seconds(left))
    });
    format!(
        "{:<39} {} left{used}{by}{at}{once}",
        grant.source,
        seconds(grant.expires_in)
    )
}

/// "41s", "1h 30m"
pub(super) fn seconds(seconds: f64) -> String {
    // To the second below, as far as there is one.
    let left = Duration::from_secs_f64(seconds.max(0.0));
    match left.as_secs() {
        0 => show(Duration::from_millis(left.as_millis() as u64)),
        whole => show(Duration::from_secs(whole)),
    }
}

fn some(names: &[String]) -> String {
    match names {
        [one] => one.clone(),
        [one, two] => format!("{one} and {two}"),
        [one, ..] => format!("{one} and {} more", names.len() - 1),
        [] => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn door(trust: &[&str]) -> DoorStatus {
        DoorStatus {
            guarded_by: Some("nftables".to_string()),
            trust: trust.iter().map(|source| source.to_string()).collect(),
            ..DoorStatus::default()
        }
    }

    fn said(door: &DoorStatus) -> String {
        let status = Status {
            backend: "nftables".to_string(),
            ..Status::default()
        };
        state(&status, door)
    }

    #[test]
    fn a_trusted_name_is_told_once_with_its_addresses() {
        let mut door = door(&["192.0.2.99", "home.example.org"]);
        for (addresses, wanted) in [
            (&["192.0.2.7"][..], "home.example.org (192.0.2.7)"),
            (
                &["192.0.2.7", "2001:db8::7"],
                "home.example.org (192.0.2.7 and 2001:db8::7)",
            ),
            (&[], "home.example.org (no address)"),
        ] {
            let addresses = addresses.iter().map(|address| address.to_string());
            let name = "home.example.org".to_string();
            door.addresses = [(name, addresses.collect())].into();
            let wanted = format!("closed to all, trusts 192.0.2.99 and {wanted}");
            assert_eq!(said(&door), wanted);
        }
    }

    #[test]
    fn a_door_that_a_grant_for_every_port_opens_is_not_said_to_be_closed() {
        let mut door = door(&[]);
        assert_eq!(said(&door), "closed to all");
        door.with_every_port = vec!["192.0.2.7".to_string()];
        assert_eq!(said(&door), "open to the 1 source that has every port");
        door.with_every_port.push("192.0.2.8".to_string());
        assert_eq!(said(&door), "open to the 2 sources that have every port");
        door.grants.push(GrantStatus {
            source: "192.0.2.9".to_string(),
            key: None,
            by_hand: true,
            once: false,
            elsewhere: false,
            host: None,
            expires_in: 9.0,
            extendable_for: None,
        });
        assert_eq!(
            said(&door),
            "open to 1 source and to the 2 sources that have every port"
        );
    }
}
