//! An nft script as data: sets, counters and chains with their comments, in the order they print.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use super::sets::{Filler, SetId};
use super::{TABLE, classid};
use crate::ruleset::Family;

/// Our whole table.
#[derive(Debug, Clone, PartialEq)]
pub struct Script {
    /// The origin of the ruleset, as comment lines.
    pub header: Vec<String>,
    pub sets: Vec<Set>,
    pub counters: Vec<String>,
    pub chains: Vec<Chain>,
}

/// Filled within some hundredths of a second.
const MOST_IN_A_BITMAP: usize = 4096;

#[derive(Debug, Clone, PartialEq)]
pub struct Set {
    pub id: SetId,
    pub name: String,
    /// `ipv4_addr . classid`, or `ipv4_addr : classid` for a map; or what its keys are taken from,
    /// `@th,64,128`.
    pub types: String,
    pub size: Option<u32>,
    /// The life of an element that has no time of its own.
    pub timeout: Option<Duration>,
    /// Each with a comment (may be empty).
    pub elements: Vec<(String, String)>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Chain {
    pub comment: Vec<String>,
    pub name: String,
    /// For a chain that the kernel calls.
    pub base: Option<Base>,
    pub lines: Vec<Line>,
}

/// The hook and the priority at which the kernel calls a chain.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Base {
    /// Where packets arrive, before fragments are put together.
    Fragments,
    /// Where packets arrive, before connection tracking.
    Raw,
    /// Where packets arrive, after connection tracking, before destination NAT.
    Mangle,
    /// On the way to the host's own programs.
    Input,
    /// On the way to other hosts.
    Forward,
    /// Where destinations are translated, for the first packet of a connection.
    Destination,
    /// Where sources are translated, likewise.
    Source,
}

impl Base {
    /// As nft's JSON lists it: hook, priority, policy (`linux/netfilter_ipv4.h`).
    pub fn listed(self) -> String {
        let listed = match self {
            Base::Fragments => "prerouting -450 accept",
            Base::Raw => "prerouting -300 accept",
            Base::Mangle => "prerouting -150 accept",
            Base::Input => "input 0 accept",
            Base::Forward => "forward 0 accept",
            Base::Destination => "prerouting -100 accept",
            Base::Source => "postrouting 100 accept",
        };
        listed.to_string()
    }
}

impl fmt::Display for Base {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (hook, priority) = match self {
            Base::Fragments => ("prerouting", "-450"),
            Base::Raw => ("prerouting", "raw"),
            Base::Mangle => ("prerouting", "mangle"),
            Base::Input => ("input", "filter"),
            Base::Forward => ("forward", "filter"),
            Base::Destination => ("prerouting", "-100"),
            Base::Source => ("postrouting", "100"),
        };
        let kind = match self {
            Base::Destination | Base::Source => "nat",
            _ => "filter",
        };
        write!(
            f,
            "type {kind} hook {hook} priority {priority}; policy accept;"
        )
    }
}

#[derive(Debug, Clone, PartialEq)]
pub enum Line {
    Rule(String),
    Comment(String),
}

impl Set {
    /// The declaration as a command of one line, without elements.
    pub fn announcement(&self) -> String {
        let kind = self.id.word();
        let details = self.details().join("; ");
        let name = &self.name;
        format!("add {kind} {TABLE} {name} {{ {details}; }}")
    }

    /// The set for a [seal](SetId::Seal), which no script has.
    pub fn seal() -> Set {
        Set {
            id: SetId::Seal,
            name: SetId::Seal.to_string(),
            types: SetId::Seal.row().types.to_string(),
            size: None,
            timeout: None,
            elements: Vec::new(),
        }
    }

    /// Takes its elements away.
    pub(super) fn clear(&mut self) {
        self.elements.clear();
    }

    /// Returns whether this is the first set of its row.
    fn is_first(&self) -> bool {
        SetId::by_family(&self.name).is_none_or(|(_, family, _)| family == Family::V4)
    }

    /// The kernel keeps a set of ports as a bitmap, which is the fastest to ask and fills in quadratic time: 5 s
    /// for 30,000. With timeouts, though no element has one, it is a hash.
    pub fn is_hashed(&self) -> bool {
        self.types == "inet_service" && self.elements.len() > MOST_IN_A_BITMAP
    }

    /// The lines of the declaration.
    fn details(&self) -> Vec<String> {
        // Values that are no field of a protocol have no type that nft could name.
        let word = if self.types.starts_with('@') {
            "typeof"
        } else {
            "type"
        };
        let mut lines = vec![format!("{word} {}", self.types)];
        lines.extend(self.size.map(|size| format!("size {size}")));
        let flags = match self.id.row().filler {
            Filler::Policy if !self.is_hashed() => None,
            Filler::Policy | Filler::Commands => Some("flags timeout"),
            Filler::Packets | Filler::PacketsAndCommands | Filler::Fleet => {
                Some("flags dynamic,timeout")
            }
        };
        lines.extend(flags.map(str::to_string));
        lines.extend(self.timeout.map(|life| format!("timeout {}", time(life))));
        lines
    }
}

impl Chain {
    pub fn new(name: impl Into<String>, comment: &[&str]) -> Chain {
        Chain {
            comment: comment.iter().map(|c| c.to_string()).collect(),
            name: name.into(),
            base: None,
            lines: Vec::new(),
        }
    }

    pub fn base(mut self, base: Base) -> Chain {
        self.base = Some(base);
        self
    }

    pub fn rule(&mut self, rule: impl Into<String>) {
        self.lines.push(Line::Rule(rule.into()));
    }

    pub fn note(&mut self, comment: impl Into<String>) {
        self.lines.push(Line::Comment(comment.into()));
    }

    pub fn rules(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().filter_map(|line| match line {
            Line::Rule(rule) => Some(rule.as_str()),
            Line::Comment(_) => None,
        })
    }
}

impl Script {
    /// The number of tokens that the table has room for.
    pub fn token_room(&self) -> u32 {
        self.set(SetId::Tokens)
            .and_then(|set| set.size)
            .unwrap_or_default()
    }

    /// Returns whether it is made of a policy with a fleet.
    pub fn has_fleet(&self) -> bool {
        self.set(SetId::Terms).is_some()
    }

    fn set(&self, id: SetId) -> Option<&Set> {
        self.sets.iter().find(|set| set.id == id)
    }

    /// Makes scratch sequences used up from the start, by their numbers.
    pub fn burn(&mut self, burnt: &BTreeSet<u32>) {
        for set in self.sets.iter_mut().filter(|set| set.id == SetId::Burnt) {
            let elements = burnt.iter().map(|&id| (classid(id), String::new()));
            set.elements = elements.collect();
        }
    }

    /// A script that makes the table anew whatever was there: what `render` prints. Live grants are
    /// forgotten; [`transaction`](super::transaction) keeps them.
    pub fn standalone(&self) -> String {
        let mut text = String::from("#!/usr/sbin/nft -f\n");
        for line in &self.header {
            text.push_str(&comment(line));
        }
        text.push_str("#\n");
        text.push_str("# Loading this by hand makes the table anew and forgets live grants; ");
        text.push_str("`toctoc apply` keeps them.\n\n");
        text.push_str(&format!("table {TABLE}\ndelete table {TABLE}\n\n{self}"));
        text
    }
}

fn comment(line: &str) -> String {
    if line.is_empty() {
        "#\n".to_string()
    } else {
        format!("# {line}\n")
    }
}

/// The table itself, without anything that removes an old one.
impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "table {TABLE} {{")?;
        let mut first = true;
        let mut gap = |f: &mut fmt::Formatter<'_>| {
            if std::mem::take(&mut first) {
                Ok(())
            } else {
                writeln!(f)
            }
        };
        for set in &self.sets {
            gap(f)?;
            write_set(f, set)?;
        }
        if !self.counters.is_empty() {
            gap(f)?;
            writeln!(
                f,
                "\t# How often each key has opened, and what led nowhere."
            )?;
            for name in &self.counters {
                writeln!(f, "\tcounter {name} {{\n\t}}")?;
            }
        }
        for chain in &self.chains {
            gap(f)?;
            write_chain(f, chain)?;
        }
        writeln!(f, "}}")
    }
}

fn write_set(f: &mut fmt::Formatter<'_>, set: &Set) -> fmt::Result {
    let row = set.id.row();
    // That of a pair stands above its first.
    if set.is_first() {
        write!(f, "\t{}", comment(row.about))?;
    }
    writeln!(f, "\t{} {} {{", row.word(), set.name)?;
    for line in set.details() {
        writeln!(f, "\t\t{line}")?;
    }
    if !set.elements.is_empty() {
        writeln!(f, "\t\telements = {{")?;
        for (element, note) in &set.elements {
            if note.is_empty() {
                writeln!(f, "\t\t\t{element},")?;
            } else {
                writeln!(f, "\t\t\t{:<36} # {note}", format!("{element},"))?;
            }
        }
        writeln!(f, "\t\t}}")?;
    }
    writeln!(f, "\t}}")
}

fn write_chain(f: &mut fmt::Formatter<'_>, chain: &Chain) -> fmt::Result {
    for line in &chain.comment {
        write!(f, "\t{}", comment(line))?;
    }
    writeln!(f, "\tchain {} {{", chain.name)?;
    if let Some(base) = &chain.base {
        writeln!(f, "\t\t{base}")?;
    }
    for line in &chain.lines {
        match line {
            Line::Rule(rule) => writeln!(f, "\t\t{rule}")?,
            Line::Comment(note) => write!(f, "\t\t{}", comment(note))?,
        }
    }
    writeln!(f, "\t}}")
}

/// A duration as nft reads it, in whole milliseconds. Large numbers go in parts: nft takes no more
/// than a few digits of each.
pub fn time(duration: Duration) -> String {
    let (seconds, milliseconds) = (duration.as_secs(), duration.subsec_millis());
    if milliseconds == 0 && seconds < 1_000_000 {
        return format!("{seconds}s");
    }
    let parts = [
        (seconds / 86_400, "d"),
        (seconds / 3600 % 24, "h"),
        (seconds / 60 % 60, "m"),
        (seconds % 60, "s"),
        (u64::from(milliseconds), "ms"),
    ];
    let parts = parts.iter().filter(|(number, _)| *number > 0);
    parts
        .map(|(number, unit)| format!("{number}{unit}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_nft_reads_them() {
        for (milliseconds, written) in [
            (60_000, "60s"),
            (1_500, "1s500ms"),
            (100, "100ms"),
            (999_999_000, "999999s"),
            (1_000_000_000, "11d13h46m40s"),
            (2_592_000_000, "30d"),
            (2_591_999_999, "29d23h59m59s999ms"),
        ] {
            assert_eq!(time(Duration::from_millis(milliseconds)), written);
        }
    }
}
