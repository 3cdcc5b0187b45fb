//! A draft as the text of a policy: doors first, then keys and remarks in the order of the other file.

use std::collections::HashSet;
use std::fmt::{self, Write};

use super::draft::{Draft, DraftKey, DraftWay, Item};
use super::services;
use crate::knock::{PortRange, Protocol};

/// The times that a policy may have, in seconds.
const LONGEST_WITHIN: u64 = 3_600;
const LONGEST_GRANT: u64 = 30 * 86_400;

struct DraftDoor {
    name: String,
    ports: PortRange,
    /// Seconds, where no key says it.
    open_for: Option<u64>,
}

/// The door of every port.
const EVERYTHING: &str = "everything";

/// The text of the policy.
pub(super) fn write(draft: &Draft) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = all(draft, &mut text);
    text
}

fn all(draft: &Draft, text: &mut String) -> fmt::Result {
    writeln!(
        text,
        "# Made from {} by `toctoc import`. Read it, then `toctoc check` it.",
        draft.source
    )?;
    for remark in &draft.remarks {
        comment(text, remark)?;
    }
    if draft.within.is_some() || !draft.interfaces.is_empty() {
        writeln!(text)?;
    }
    if let Some(within) = draft.within {
        if within > LONGEST_WITHIN {
            comment(text, &format!("{within} s there: an hour is the most"))?;
        }
        writeln!(text, "within = \"{}s\"", within.clamp(1, LONGEST_WITHIN))?;
    }
    if !draft.interfaces.is_empty() {
        comment(
            text,
            "The doors are guarded at these interfaces alone: what comes in by another one needs no knock.",
        )?;
        let names: Vec<String> = draft
            .interfaces
            .iter()
            .map(|n| format!("\"{n}\""))
            .collect();
        writeln!(text, "interfaces = [{}]", names.join(", "))?;
    }
    if draft.opens_everything() {
        writeln!(text)?;
        comment(
            text,
            "A rule opens every port. toctoc can open what it has closed itself: `[firewall]` drops all that comes in and is",
        )?;
        comment(
            text,
            "not listed. Write what everyone reaches into `allow` before you apply this (`toctoc apply --confirm 5m`).",
        )?;
        writeln!(
            text,
            "[firewall]\ndefault = \"drop\"\nallow = []\n\n[door.{EVERYTHING}]\nports = \"all\""
        )?;
    }
    let doors = doors(draft);
    for door in &doors {
        writeln!(
            text,
            "\n[door.{}]\nports = [{}]",
            door.name,
            list([door.ports])
        )?;
        if let Some(seconds) = door.open_for {
            writeln!(text, "open_for = \"{}s\"", seconds.clamp(1, LONGEST_GRANT))?;
        }
    }
    let mut names = Names::default();
    let mut in_remarks = false;
    for item in &draft.items {
        match item {
            Item::Key(key) => {
                writeln!(text)?;
                write_key(text, key, &doors, &mut names)?;
                in_remarks = false;
            }
            Item::Remark(_) | Item::LeftOut { .. } => {
                if !in_remarks {
                    writeln!(text)?;
                }
                in_remarks = true;
                match item {
                    Item::LeftOut { name, reason } => {
                        comment(text, &format!("left out: {name}: {reason}"))?;
                    }
                    Item::Remark(remark) => comment(text, remark)?,
                    Item::Key(_) => {}
                }
            }
        }
    }
    Ok(())
}

fn write_key(
    text: &mut String,
    key: &DraftKey,
    doors: &[DraftDoor],
    names: &mut Names,
) -> fmt::Result {
    for remark in &key.remarks {
        comment(text, remark)?;
    }
    let name = names.free(&key.called, "key");
    let opened = doors
        .iter()
        .filter(|door| key.opens.iter().any(|range| range.overlaps(door.ports)));
    let opened = opened.map(|door| door.name.as_str());
    let everything = key.everything.then_some(EVERYTHING);
    let opened: Vec<&str> = everything.into_iter().chain(opened).collect();
    match &key.way {
        DraftWay::New => {
            let opens: Vec<String> = opened
                .iter()
                .map(|door| format!(" --opens {door}"))
                .collect();
            comment(
                text,
                "its secret cannot be carried over; this makes a key in its place:",
            )?;
            comment(text, &format!("  toctoc key new {name}{}", opens.concat()))?;
        }
        DraftWay::Sequence(sequence) => {
            let opens: Vec<String> = opened.iter().map(|door| format!("\"{door}\"")).collect();
            if key.open_for.is_some_and(|seconds| seconds > LONGEST_GRANT) {
                comment(text, "open for longer there: 30 days are the most")?;
            }
            writeln!(text, "[key.{name}]")?;
            writeln!(text, "opens    = [{}]", opens.join(", "))?;
            writeln!(
                text,
                "sequence = [{}]",
                list(sequence.iter().map(|&knock| knock.into()))
            )?;
            if let Some(seconds) = key.open_for {
                writeln!(text, "open_for = \"{}s\"", seconds.clamp(1, LONGEST_GRANT))?;
            }
        }
    }
    Ok(())
}

/// Doors such that each port is of one door, and each key opens whole doors: ranges that overlap are cut.
fn doors(draft: &Draft) -> Vec<DraftDoor> {
    let ranges = || draft.keys().flat_map(|key| &key.opens);
    let mut cuts: Vec<(Protocol, u32)> = ranges()
        .flat_map(|range| {
            let [first, last] = [range.first(), range.last()].map(|end| u32::from(end.port.get()));
            [(range.protocol(), first), (range.protocol(), last + 1)]
        })
        .collect();
    cuts.sort_unstable();
    cuts.dedup();
    let mut doors: Vec<DraftDoor> = Vec::new();
    let mut names = Names::default();
    let mut known = HashSet::new();
    for range in ranges() {
        let mut rest = Some(*range);
        while let Some(whole) = rest.take() {
            let start = (whole.protocol(), u32::from(whole.first().port.get()));
            let next = cuts.partition_point(|cut| *cut <= start);
            let cut = cuts
                .get(next)
                .and_then(|(_, port)| u16::try_from(*port).ok());
            let after = cut
                .and_then(|port| PortRange::new(whole.protocol(), port, whole.last().port.get()));
            let after = after.filter(|after| after.overlaps(whole));
            let part = match after {
                Some(after) => whole.without(after).into_iter().next(),
                None => Some(whole),
            };
            rest = after;
            if let Some(part) = part.filter(|part| known.insert(*part)) {
                doors.push(DraftDoor {
                    name: door_name(part, &mut names),
                    ports: part,
                    open_for: time_of(draft, part),
                });
            }
        }
    }
    doors
}

/// The time of a door that the other file gives it, the shortest of several.
fn time_of(draft: &Draft, ports: PortRange) -> Option<u64> {
    let times = draft
        .times
        .iter()
        .filter(|(range, _)| range.overlaps(ports));
    times.map(|(_, seconds)| *seconds).min()
}

/// `ssh` for port 22, `port-8443` for others.
fn door_name(ports: PortRange, names: &mut Names) -> String {
    if let Some(name) = ports.only().and_then(services::name)
        && !names.taken.contains(name)
    {
        return names.free(name, "door");
    }
    let protocol = match ports.protocol() {
        Protocol::Tcp => "port",
        Protocol::Udp => "udp",
    };
    let name = format!("{protocol}-{}", ports.numbers('-'));
    names.free(&name, "door")
}

/// The names that are taken.
#[derive(Default)]
struct Names {
    taken: HashSet<String>,
    /// The number that the last of several with one name has.
    last: usize,
}

impl Names {
    /// A name that no other has, from whatever it was called.
    fn free(&mut self, called: &str, otherwise: &str) -> String {
        let kept = |c: char| match c {
            c if c.is_ascii_alphanumeric() || matches!(c, '-' | '_') => c,
            _ => '-',
        };
        let name: String = called.chars().map(kept).collect();
        let parts: Vec<&str> = name.split('-').filter(|part| !part.is_empty()).collect();
        let name: String = parts.join("-").chars().take(26).collect();
        let name = name.trim_start_matches(['-', '_']);
        let name = if name.is_empty() { otherwise } else { name };
        let mut free = name.to_string();
        let mut number = self.last.max(1);
        while self.taken.contains(&free) {
            number += 1;
            free = format!("{name}-{number}");
        }
        // With a great many of one name, the numbers go on where they were.
        self.last = if number > 100 { number } else { 0 };
        self.taken.insert(free.clone());
        free
    }
}

fn list(ports: impl IntoIterator<Item = PortRange>) -> String {
    let one = |ports: PortRange| match (ports.protocol(), ports.is_several()) {
        (Protocol::Tcp, false) => ports.numbers('-'),
        (Protocol::Tcp, true) => format!("\"{}\"", ports.numbers('-')),
        (Protocol::Udp, _) => format!("\"{ports}\""),
    };
    let ports: Vec<String> = ports.into_iter().map(one).collect();
    ports.join(", ")
}

fn comment(text: &mut String, remark: &str) -> fmt::Result {
    writeln!(text, "# {}", harmless(remark))
}

/// Text of the other file inside a comment: one line, no control characters, not endless.
pub(super) fn harmless(text: &str) -> String {
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    let line: String = text.chars().map(clean).take(240).collect();
    line.trim_end().to_string()
}
