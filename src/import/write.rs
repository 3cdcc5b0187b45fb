//! A draft as the text of a policy: doors first, then keys and remarks in the order of the other file.

use std::fmt::{self, Write};

use super::draft::{Draft, DraftKey, DraftWay, Item};
use super::drafted::{DraftDoor, Names, doors};
use crate::knock::{PortRange, Protocol, display_source};
use crate::policy::{KnockAt, Sender};

/// The times that a policy may have, in seconds.
const LONGEST_WITHIN: u64 = 3_600;
const LONGEST_GRANT: u64 = 30 * 86_400;

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
        write_door(text, door)?;
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

fn write_door(text: &mut String, door: &DraftDoor) -> fmt::Result {
    writeln!(
        text,
        "\n[door.{}]\nports = [{}]",
        door.name,
        list([door.ports])
    )?;
    let quoted = |words: Vec<String>| {
        let words: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
        words.join(", ")
    };
    if !door.to.is_empty() {
        writeln!(
            text,
            "to = [{}]",
            quoted(door.to.iter().map(display_source).collect())
        )?;
    }
    if door.knock_at == KnockAt::Both {
        writeln!(text, "knock_at = \"both\"")?;
    }
    match &door.forward[..] {
        [] => {}
        [one] => writeln!(text, "forward = \"{one}\"")?,
        several => {
            let several = several.iter().map(ToString::to_string).collect();
            writeln!(text, "forward = [{}]", quoted(several))?;
        }
    }
    if door.sender == Sender::ThisHost {
        writeln!(text, "masquerade = true")?;
    }
    if let Some(seconds) = door.open_for {
        writeln!(text, "open_for = \"{}s\"", seconds.clamp(1, LONGEST_GRANT))?;
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
        .filter(|door| key.opens.iter().any(|opened| door.is_opened_by(opened)));
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
