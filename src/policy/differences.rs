//! The differences between two policies, in the policy's words. Secrets are not shown: a sequence that is
//! another one is only said to be so.

use std::fmt::Debug;

use super::{Behind, Door, Extension, Interfaces, Key, KeyKind, Policy, Sender, Target, show};
use crate::knock::PortRange;

/// One line for each difference: `+` comes, `-` goes, `~` changes.
pub fn differences(before: Option<&Policy>, after: &Policy) -> Vec<String> {
    let mut lines = Vec::new();
    let nothing = (Vec::new(), Vec::new());
    let (doors, keys) = before.map_or(nothing, |policy| {
        (policy.doors.iter().collect(), policy.keys.iter().collect())
    });
    for door in &after.doors {
        match doors.iter().find(|old: &&&Door| old.name == door.name) {
            None => lines.push(format!("+ door {} {}", door.name, ports(door))),
            Some(old) => lines.extend(of_door(old, door)),
        }
    }
    for old in &doors {
        if after.doors.iter().all(|door| door.name != old.name) {
            lines.push(format!(
                "- door {} {}: open to everyone, unless something else shuts it",
                old.name,
                ports(old)
            ));
        }
    }
    for key in &after.keys {
        let old = keys.iter().find(|old: &&&Key| old.name == key.name);
        match (old, before) {
            (Some(old), Some(before)) => lines.extend(of_key(before, old, after, key)),
            _ => lines.push(format!("+ key {} opens {}", key.name, opens(after, key))),
        }
    }
    for old in &keys {
        if after.keys.iter().all(|key| key.name != old.name) {
            lines.push(format!("- key {}: what it opened is shut", old.name));
        }
    }
    match (before, &after.firewall) {
        (Some(before), _) => lines.extend(of_all(before, after)),
        (None, Some(firewall)) => {
            let dropped = "+ [firewall]: everything else that comes in is dropped";
            lines.push(match firewall.words().as_slice() {
                [] => dropped.to_string(),
                words => format!("{dropped}, but for {}", list(words)),
            });
        }
        (None, None) => {}
    }
    lines
}

fn of_door(old: &Door, new: &Door) -> Vec<String> {
    let mut lines = Vec::new();
    let name = &new.name;
    if old.reach != new.reach {
        lines.push(format!(
            "~ door {name} is {} (was {})",
            ports(new),
            ports(old)
        ));
    }
    for ports in without(&new.ports, &old.ports) {
        lines.push(format!("+ {} {ports} of door {name}", word(ports)));
    }
    for ports in without(&old.ports, &new.ports) {
        lines.push(format!(
            "- {} {ports} of door {name}: open to everyone",
            word(ports)
        ));
    }
    if old.place != new.place {
        let hosts = |door: &Door| door.behind().map(Behind::shown);
        let shown = |door: &Door| hosts(door).map_or("this host".to_string(), |to| list(&to));
        let (was, is) = (shown(old), shown(new));
        lines.push(match was == is {
            true => format!("~ door {name} hears knocks elsewhere"),
            false => format!("~ door {name} stands in front of {is} (was {was})"),
        });
    }
    if old.forward != new.forward {
        let shown = |door: &Door| match &door.forward {
            Some(forward) => {
                let targets = forward.to.iter().map(Target::to_string);
                let targets = list(&targets.collect::<Vec<_>>());
                match forward.sender {
                    Sender::Client => targets,
                    Sender::ThisHost => format!("{targets} (masquerade)"),
                }
            }
            None => "nowhere else".to_string(),
        };
        let (was, is) = (shown(old), shown(new));
        lines.push(format!(
            "~ door {name} passes connections on to {is} (was {was})"
        ));
    }
    if old.trusted() != new.trusted() {
        let (old, new) = (list(&old.trusted()), list(&new.trusted()));
        lines.push(format!("~ door {name} trusts {new} (was {old})"));
    }
    let extension = |door: &Door| match door.extension {
        None => "does not extend grants".to_string(),
        Some(Extension { extend, at_most }) => {
            format!("extends grants by {} up to {}", show(extend), show(at_most))
        }
    };
    if old.extension != new.extension {
        let (old, new) = (extension(old), extension(new));
        lines.push(format!("~ door {name} {new} (before: {old})"));
    }
    lines
}

/// The ports that the others lack, as ranges.
fn without(ports: &[PortRange], others: &[PortRange]) -> Vec<PortRange> {
    let mut left = ports.to_vec();
    for other in others {
        left = left
            .iter()
            .flat_map(|ports| ports.without(*other))
            .collect();
    }
    left
}

fn word(ports: PortRange) -> &'static str {
    match ports.is_several() {
        true => "ports",
        false => "port",
    }
}

/// Returns whether two keys have the same secret, whatever the form of their tokens.
fn same_secret(old: &KeyKind, new: &KeyKind) -> bool {
    match (old, new) {
        (KeyKind::Token(old), KeyKind::Token(new)) => old.is_same(new),
        (KeyKind::Signed(old), KeyKind::Signed(new)) => old.secret.is_same(&new.secret),
        _ => false,
    }
}

fn of_key(before: &Policy, old: &Key, after: &Policy, new: &Key) -> Vec<String> {
    let mut lines = Vec::new();
    let name = &new.name;
    let (was, is) = (opens(before, old), opens(after, new));
    if was != is {
        lines.push(format!("~ key {name} opens {is} (was {was})"));
    }
    let with = |kind: &KeyKind| match kind {
        KeyKind::Sequence(_) => "a sequence",
        KeyKind::Token(_) => "tokens",
        KeyKind::Scratch(_) => "scratch sequences",
        KeyKind::Signed(_) => "signed datagrams",
    };
    let (was, is) = (with(&old.kind), with(&new.kind));
    let same = match (&old.kind, &new.kind) {
        (KeyKind::Token(old), KeyKind::Token(new)) => old.id() == new.id(),
        (KeyKind::Signed(old), KeyKind::Signed(new)) => old == new,
        _ => old.sequences() == new.sequences(),
    };
    if was != is {
        lines.push(format!("~ key {name} has {is} (was {was})"));
    } else if !same {
        let what = match new.kind {
            KeyKind::Sequence(_) => "another sequence",
            KeyKind::Token(_) if same_secret(&old.kind, &new.kind) => "tokens of another form",
            KeyKind::Token(_) => "another secret",
            KeyKind::Scratch(_) => "other scratch sequences",
            KeyKind::Signed(_) if same_secret(&old.kind, &new.kind) => "another binding",
            KeyKind::Signed(_) => "another secret",
        };
        lines.push(format!("~ key {name} has {what}"));
    }
    if old.ping != new.ping {
        let what = match new.ping {
            true => "may come in a ping",
            false => "come in a datagram alone",
        };
        lines.push(format!("~ the tokens of key {name} {what}"));
    }
    if old.expires != new.expires {
        lines.push(format!("~ key {name} expires at another time"));
    }
    if old.once != new.once {
        let what = match new.once {
            true => "one connection",
            false => "any number of connections",
        };
        lines.push(format!("~ key {name} opens for {what}"));
    }
    lines
}

/// Settings of the whole policy.
fn of_all(before: &Policy, after: &Policy) -> Vec<String> {
    let mut lines = Vec::new();
    let mut setting = |name: &str, old: String, new: String| {
        if old != new {
            lines.push(format!("~ {name} is {new} (was {old})"));
        }
    };
    setting(
        "backend",
        before.backend.name().into(),
        after.backend.name().into(),
    );
    setting("within", show(before.within), show(after.within));
    let interfaces = |policy: &Policy| match &policy.interfaces {
        Interfaces::Only(names) => names.join(", "),
        _ => "all".to_string(),
    };
    setting("interfaces", interfaces(before), interfaces(after));
    let allow = |policy: &Policy| match &policy.firewall {
        None => "none".to_string(),
        Some(firewall) => {
            format!("drop but for {}", list(&firewall.words()))
        }
    };
    setting("firewall", allow(before), allow(after));
    let port = |policy: &Policy| {
        policy
            .token_port
            .map_or("none".into(), |port| port.to_string())
    };
    setting("token_port", port(before), port(after));
    let mark = |policy: &Policy| format!("{:#x}", policy.signed_mark);
    setting("signed_mark", mark(before), mark(after));
    setting(
        "max_sources",
        before.max_sources.to_string(),
        after.max_sources.to_string(),
    );
    let mut other = |name: &str, same: bool| {
        if !same {
            lines.push(format!("~ {name} changes"));
        }
    };
    other("grant", same(&before.grant, &after.grant));
    other("ignore", same(&before.ignore, &after.ignore));
    other("closed", same(&before.closed, &after.closed));
    other("log", same(&before.log, &after.log));
    other("token_horizon", before.token_horizon == after.token_horizon);
    let details = |policy: &Policy| {
        let firewall = policy.firewall.as_ref();
        firewall.map(|firewall| (firewall.ping, firewall.drop_forwarded))
    };
    other(
        "what else [firewall] says",
        before.firewall.is_none() != after.firewall.is_none() || details(before) == details(after),
    );
    other("fleet", same(&before.fleet, &after.fleet));
    lines
}

fn same<T: Debug>(one: &T, other: &T) -> bool {
    format!("{one:?}") == format!("{other:?}")
}

fn opens(policy: &Policy, key: &Key) -> String {
    let opens = key.opens.iter();
    let opens = opens.map(|opening| {
        format!(
            "{} for {}",
            policy.door(opening.door).name,
            show(opening.open_for)
        )
    });
    list(&opens.collect::<Vec<_>>())
}

fn ports(door: &Door) -> String {
    door.words().join(" ")
}

fn list(words: &[String]) -> String {
    match words {
        [] => "nothing".to_string(),
        words => words.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(text: &str) -> Policy {
        crate::policy::read("p", text).unwrap_or_else(|report| panic!("{report}"))
    }

    const BEFORE: &str = "[door.ssh]\nports = [22, 2222]\n[door.old]\nports = [99]\n\
        [key.yves]\nopens = [\"ssh\"]\nsequence = [4431, 2387, 9920]\n\
        [key.anna]\nopens = [\"old\"]\nsequence = [4432, 2387, 9921]\n";

    #[test]
    fn what_changes_is_told_in_the_words_of_the_policy() {
        let after = "within = '5s'\n[door.ssh]\nports = [22, 2022]\ntrust = ['10.0.0.0/8']\n[door.web]\nports = [443]\n\
            [key.yves]\nopens = [\"ssh\", \"web\"]\nsequence = [4431, 2387, 9922]\n\
            [key.bob]\nopens = [\"web\"]\nsequence = [4433, 2387, 9923]\n";
        let (before, after) = (policy(BEFORE), policy(after));
        let lines = differences(Some(&before), &after);
        let wanted = [
            "+ port 2022/tcp of door ssh",
            "- port 2222/tcp of door ssh: open to everyone",
            "~ door ssh trusts 10.0.0.0/8 (was nothing)",
            "+ door web 443/tcp",
            "- door old 99/tcp: open to everyone, unless something else shuts it",
            "~ key yves opens ssh for 1m, web for 1m (was ssh for 1m)",
            "~ key yves has another sequence",
            "+ key bob opens web for 1m",
            "- key anna: what it opened is shut",
            "~ within is 5s (was 10s)",
        ];
        assert_eq!(lines, wanted);
        assert!(lines.iter().all(|line| !line.contains("9922")), "a secret");
        assert_eq!(differences(Some(&before), &before), [""; 0]);
        assert_eq!(differences(None, &before).len(), 4);
    }

    #[test]
    fn a_first_policy_tells_that_all_else_is_dropped() {
        let told = |text: &str| differences(None, &policy(text));
        let door = "[door.a]\nports = [22]\n";
        assert_eq!(told(door), ["+ door a 22/tcp"]);
        let firewall = format!("[firewall]\ndefault = 'drop'\nallow = [80, 443]\n{door}");
        assert_eq!(
            told(&firewall)[1..],
            ["+ [firewall]: everything else that comes in is dropped, but for 80/tcp, 443/tcp"]
        );
    }

    #[test]
    fn of_a_range_only_the_ports_that_come_and_go_are_told() {
        let door = |ports: &str| policy(&format!("[door.a]\nports = [{ports}]\n"));
        let told = |before: &str, after: &str| differences(Some(&door(before)), &door(after));
        assert_eq!(told("'80-90', 92", "'80-90', 92"), [""; 0]);
        assert_eq!(told("'80-90'", "'80-85', '86-90'"), [""; 0]);
        assert_eq!(
            told("'80-90'", "'85-95', '80-90/udp'"),
            [
                "+ ports 91-95/tcp of door a",
                "+ ports 80-90/udp of door a",
                "- ports 80-84/tcp of door a: open to everyone"
            ]
        );
        assert_eq!(
            told("'1-65535'", "2"),
            [
                "- port 1/tcp of door a: open to everyone",
                "- ports 3-65535/tcp of door a: open to everyone"
            ]
        );
    }
}
