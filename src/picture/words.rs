//! The words of a picture for keys, doors and the whole.

use std::time::Duration;

use super::Ports;
use crate::knock::{Knock, Protocol};
pub(super) use crate::policy::and;
use crate::policy::{Closed, Door, Interfaces, Key, KeyKind, Policy, show};

/// More doors of one key than this are counted in its words. Lines lead to each.
const DOORS_NAMED: usize = 4;

/// More networks and hosts that a door trusts than this are counted.
const SOURCES_NAMED: usize = 3;

/// A knock as the policy file writes it: TCP goes without saying.
pub(super) fn knock(knock: Knock) -> String {
    match knock.protocol {
        Protocol::Tcp => knock.port.to_string(),
        Protocol::Udp => knock.to_string(),
    }
}

pub(super) fn title(policy: &Policy) -> String {
    let keys = match policy.keys.len() {
        0 => "no key".to_string(),
        keys => count(keys, "key"),
    };
    format!("{keys} for {}", count(policy.doors.len(), "door"))
}

pub(super) fn notes(policy: &Policy, ports: Ports) -> Vec<String> {
    let mut notes = Vec::new();
    if policy.sequences().next().is_some() {
        let tcp = match ports {
            Ports::Shown => " They are TCP where they do not say udp.",
            Ports::LeftOut => "",
        };
        let within = show(policy.within);
        notes.push(format!("Between two knocks are at most {within}.{tcp}"));
        notes.push(
            "Only the last knocks count: a wrong one loses what it breaks, the same one again \
             changes nothing."
                .to_string(),
        );
    }
    let meets = match policy.closed {
        Closed::Drop => "gets no answer",
        Closed::Reject => "is refused",
    };
    notes.push(format!("Who has not knocked {meets} at a door."));
    if ports == Ports::Shown && !policy.ignore.is_empty() {
        let ignored: Vec<String> = policy.ignore.iter().map(Knock::to_string).collect();
        notes.push(format!("Never a knock: {}.", ignored.join(" ")));
    }
    if let Interfaces::Only(names) = &policy.interfaces {
        notes.push(format!("Only what arrives on {} is judged.", and(names)));
    }
    notes
}

/// The way a key is knocked when not by a plain sequence; otherwise its knocks.
pub(super) fn way(policy: &Policy, key: &Key, ports: Ports) -> String {
    match (&key.kind, ports, policy.token_port) {
        (KeyKind::Sequence(knocks), Ports::Shown, _) => {
            let knocks: Vec<String> = knocks.iter().copied().map(knock).collect();
            knocks.join(", ")
        }
        (KeyKind::Sequence(knocks), Ports::LeftOut, _) => count(knocks.len(), "knock"),
        (KeyKind::Token(_), Ports::Shown, Some(port)) => format!("a token to {port}/udp"),
        (KeyKind::Token(_), _, _) => "a token".to_string(),
        (KeyKind::Signed(_), Ports::Shown, Some(port)) => {
            format!("a signed datagram to {port}/udp")
        }
        (KeyKind::Signed(_), _, _) => "a signed datagram".to_string(),
        (KeyKind::Scratch(sequences), _, _) => match sequences.len() {
            1 => "1 sequence, good once".to_string(),
            more => format!("{more} sequences, each good once"),
        },
    }
}

/// "ssh for 1m, vpn for 5m"
pub(super) fn grants(policy: &Policy, key: &Key) -> String {
    let mut by_time: Vec<(Duration, Vec<String>)> = Vec::new();
    for opening in &key.opens {
        let door = policy.door(opening.door).name.to_string();
        match by_time.iter_mut().find(|(t, _)| *t == opening.open_for) {
            Some((_, doors)) => doors.push(door),
            None => by_time.push((opening.open_for, vec![door])),
        }
    }
    if key.opens.len() > DOORS_NAMED {
        let times = || by_time.iter().map(|(time, _)| *time);
        let (least, most) = (times().min(), times().max());
        let time = match (least, most) {
            (Some(least), Some(most)) if least != most => {
                format!("{} to {}", show(least), show(most))
            }
            _ => show(least.unwrap_or_default()),
        };
        return format!("{} for {time}", count(key.opens.len(), "door"));
    }
    let parts = by_time
        .iter()
        .map(|(time, doors)| format!("{} for {}", and(doors), show(*time)));
    parts.collect::<Vec<_>>().join(", ")
}

pub(super) fn limits(key: &Key, now: i64) -> Vec<String> {
    let once = key.once.then(|| "one connection".to_string());
    let ends = key.expires.map(|end| match key.expired(now) {
        true => format!("expired {}", last_moment(end)),
        false => format!("until {}", last_moment(end)),
    });
    once.into_iter().chain(ends).collect()
}

/// The last day (UTC) for an end at midnight, as the policy file writes it, otherwise the moment.
fn last_moment(end: i64) -> String {
    let (second, form) = match (end.rem_euclid(86_400), end.rem_euclid(60)) {
        (0, _) => (end - 1, "%Y-%m-%d"),
        (_, 0) => (end, "%Y-%m-%d %H:%M UTC"),
        _ => (end, "%Y-%m-%d %H:%M:%S UTC"),
    };
    jiff::Timestamp::from_second(second)
        .map_or_else(|_| end.to_string(), |t| t.strftime(form).to_string())
}

pub(super) fn trusts(door: &Door, ports: Ports) -> String {
    let mut named = match ports {
        Ports::LeftOut => {
            let counted = [
                (door.trust.len(), "network"),
                (door.trusted_names.len(), "host"),
            ];
            let some = counted.into_iter().filter(|(number, _)| *number > 0);
            some.map(|(number, what)| count(number, what)).collect()
        }
        Ports::Shown => door.trusted(),
    };
    if named.len() > SOURCES_NAMED {
        let more = named.split_off(SOURCES_NAMED).len();
        named.push(format!("{more} more"));
    }
    match named.as_slice() {
        [] => String::new(),
        named => format!("trusts {}", and(named)),
    }
}

/// "1 door", "2 doors", "10,000 doors"
pub(super) fn count(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    let digits = number.to_string();
    let mut shown = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(digit);
    }
    format!("{shown} {what}{plural}")
}

/// Breaks text at spaces into lines of at most `width` characters; longer words stay whole.
pub(super) fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        match lines.last_mut() {
            Some(line) if length(line) + 1 + length(word) <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_string()),
        }
    }
    lines
}

/// Columns in a terminal, and letters of a monospaced font: nothing here is wide or combining.
pub(super) fn length(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_said_as_the_policy_writes_them() {
        for (written, said) in [
            ("2031-01-31", "until 2031-01-31"),
            ("2031-01-31T18:00:00Z", "until 2031-01-31 18:00 UTC"),
            ("2031-01-31T18:00:05Z", "until 2031-01-31 18:00:05 UTC"),
            ("2020-02-29", "expired 2020-02-29"),
        ] {
            let text = format!(
                "[door.ssh]\nports = [22]\n[key.k]\nopens = [\"ssh\"]\nsequence = [443, 2387, 920]\n\
                 expires = {written}\n"
            );
            let policy = crate::policy::read("p", &text).unwrap();
            assert_eq!(limits(&policy.keys[0], 1_800_000_000), [said]);
        }
    }

    #[test]
    fn hosts_that_are_trusted_by_name_are_told_and_counted() {
        for (trust, shown, left_out) in [
            ("", "", ""),
            (
                "\"home.example.org\"",
                "trusts home.example.org",
                "trusts 1 host",
            ),
            (
                "\"home.example.org\", \"192.0.2.99\", \"198.51.100.0/24\", \"a.example.org\"",
                "trusts 192.0.2.99, 198.51.100.0/24, home.example.org and 1 more",
                "trusts 2 networks and 2 hosts",
            ),
        ] {
            let text = format!("[door.ssh]\nports = [22]\ntrust = [{trust}]\n");
            let policy = crate::policy::read("p", &text).unwrap();
            let door = &policy.doors[0];
            assert_eq!(trusts(door, Ports::Shown), shown);
            assert_eq!(trusts(door, Ports::LeftOut), left_out);
        }
    }

    #[test]
    fn words_are_joined_counted_and_broken() {
        let names = ["a", "b", "c"].map(str::to_string);
        assert_eq!(
            [
                and(&names[..0]),
                and(&names[..1]),
                and(&names[..2]),
                and(&names)
            ],
            ["", "a", "a and b", "a, b and c"]
        );
        for (number, said) in [
            (1, "1 key"),
            (999, "999 keys"),
            (1_234_567, "1,234,567 keys"),
        ] {
            assert_eq!(count(number, "key"), said);
        }
        assert_eq!(wrap("aa bb cc dddddd e", 5), ["aa bb", "cc", "dddddd", "e"]);
        assert_eq!(wrap("", 5), [""; 0]);
    }
}
