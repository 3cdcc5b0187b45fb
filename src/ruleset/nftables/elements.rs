//! Elements of sets, and transactions that change nothing else: as data, and as commands of nft. The kernel
//! takes the same data as messages.

use std::collections::HashSet;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use super::script::time;
use super::{SetId, TABLE, classid};
use crate::ruleset::{Family, Grant, Opened};
use crate::single_use::Token;

/// No element is given less time. Kernels before 6.12 (and stable ones of before October 2024) round what is less
/// than a tick to nothing, and an element without a time never ends.
pub(super) const SHORTEST: Duration = Duration::from_millis(20);

/// So many elements go into one command: a line of nft may be long, but not that long.
const TOGETHER: usize = 500;

/// A part of an element.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    Address(IpAddr),
    Class(u32),
    Port(u16),
    Token(Token),
}

/// An element: what it is found by, how long it lasts, and what a map holds for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Element {
    pub key: Vec<Part>,
    pub lasting: Option<Lasting>,
    pub value: Option<Part>,
}

/// The whole life of an element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lasting {
    pub timeout: Duration,
    /// The rest of its life, if that is less.
    pub left: Option<Duration>,
}

/// A change of elements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edit {
    /// Our table is made active, should somebody have made it dormant.
    Wake,
    Add {
        set: String,
        elements: Vec<Element>,
    },
    Delete {
        set: String,
        keys: Vec<Vec<Part>>,
    },
    /// All elements of a set go, or of a map.
    Flush {
        kind: &'static str,
        set: String,
    },
}

/// A transaction of such changes: all of them or none.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Edits(pub Vec<Edit>);

impl Edits {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The same, and our table is active from then on.
    #[must_use]
    pub fn awake(mut self) -> Edits {
        self.0.insert(0, Edit::Wake);
        self
    }

    /// What another transaction does, behind this.
    pub fn append(&mut self, mut other: Edits) {
        self.0.append(&mut other.0);
    }

    pub(super) fn add(&mut self, set: &str, elements: Vec<Element>) {
        if !elements.is_empty() {
            let set = set.to_string();
            self.0.push(Edit::Add { set, elements });
        }
    }

    pub(super) fn delete(&mut self, set: &str, keys: Vec<Vec<Part>>) {
        if !keys.is_empty() {
            let set = set.to_string();
            self.0.push(Edit::Delete { set, keys });
        }
    }

    pub(super) fn flush(&mut self, kind: &'static str, set: &str) {
        let set = set.to_string();
        self.0.push(Edit::Flush { kind, set });
    }

    /// Adds an element with this time, whether it is there or not.
    pub(super) fn put(&mut self, set: &str, key: Vec<Part>, lasting: Duration) {
        self.remove(set, key.clone());
        self.add(set, vec![Element::timed(key, lasting)]);
    }

    /// An element that may have expired since it was listed can only be deleted after it was added:
    /// deleting what is not there would fail the whole transaction.
    pub(super) fn remove(&mut self, set: &str, key: Vec<Part>) {
        let minute = Duration::from_secs(60);
        self.add(set, vec![Element::timed(key.clone(), minute)]);
        self.delete(set, vec![key]);
    }

    pub(super) fn remove_grant(&mut self, grant: &Grant, sets: &HashSet<String>) {
        self.remove_from(&grant_set(grant), grant, sets);
    }

    pub(super) fn remove_from(&mut self, set: &str, grant: &Grant, sets: &HashSet<String>) {
        if sets.contains(set) {
            self.remove(set, grant_key(grant));
        }
    }

    pub(super) fn remove_opened(&mut self, opened: &Opened, sets: &HashSet<String>) {
        let set = opened_set(opened);
        if sets.contains(&set) {
            self.remove(&set, opened_key(opened));
        }
    }
}

impl Element {
    /// An element that lasts so long.
    pub fn timed(key: Vec<Part>, timeout: Duration) -> Element {
        Element {
            key,
            lasting: Some(Lasting {
                timeout,
                left: None,
            }),
            value: None,
        }
    }
}

/// As nft reads it.
impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Part::Address(address) => write!(f, "{address}"),
            Part::Class(value) => f.write_str(&classid(*value)),
            Part::Port(port) => write!(f, "{port}"),
            Part::Token(token) => write!(f, "0x{}", token.hex()),
        }
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&key_text(&self.key))?;
        if let Some(lasting) = self.lasting {
            write!(f, " timeout {}", time(lasting.timeout))?;
            if let Some(left) = lasting.left {
                write!(f, " expires {}", time(left))?;
            }
        }
        match self.value {
            Some(value) => write!(f, " : {value}"),
            None => Ok(()),
        }
    }
}

/// The commands of nft.
impl fmt::Display for Edits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let some = |f: &mut fmt::Formatter<'_>, verb: &str, set: &str, some: Vec<String>| {
            let some = some.join(", ");
            writeln!(f, "{verb} element {TABLE} {set} {{ {some} }}")
        };
        for edit in &self.0 {
            match edit {
                Edit::Wake => writeln!(f, "add table {TABLE}")?,
                Edit::Add { set, elements } => {
                    for elements in elements.chunks(TOGETHER) {
                        let texts = elements.iter().map(Element::to_string);
                        some(f, "add", set, texts.collect())?;
                    }
                }
                Edit::Delete { set, keys } => {
                    for keys in keys.chunks(TOGETHER) {
                        let texts = keys.iter().map(|key| key_text(key));
                        some(f, "delete", set, texts.collect())?;
                    }
                }
                Edit::Flush { kind, set } => writeln!(f, "flush {kind} {TABLE} {set}")?,
            }
        }
        Ok(())
    }
}

/// For messages, and as nft reads it.
pub(super) fn key_text(key: &[Part]) -> String {
    let parts: Vec<String> = key.iter().map(Part::to_string).collect();
    parts.join(" . ")
}

pub(super) fn opened_set(opened: &Opened) -> String {
    SetId::Opened.of_family(Family::of(opened.source))
}

pub(super) fn grant_set(grant: &Grant) -> String {
    set_in(
        if grant.once {
            SetId::Once
        } else {
            SetId::Grants
        },
        grant,
    )
}

/// The set of a grant of another host.
pub(super) fn elsewhere_set(grant: &Grant) -> String {
    set_in(SetId::Elsewhere, grant)
}

fn set_in(set: SetId, grant: &Grant) -> String {
    let family = Family::of(grant.source.addr());
    set.of_network(family, grant.source.prefix_len())
}

/// A grant's set and its element there.
pub(super) fn in_set(grant: &Grant) -> (String, Vec<Part>) {
    (grant_set(grant), grant_key(grant))
}

pub(super) fn place_key(source: IpAddr, door: u32) -> Vec<Part> {
    vec![Part::Address(source), Part::Class(door)]
}

pub(super) fn grant_key(grant: &Grant) -> Vec<Part> {
    place_key(grant.source.addr(), grant.door)
}

pub(super) fn opened_key(opened: &Opened) -> Vec<Part> {
    vec![
        Part::Address(opened.source),
        Part::Class(opened.door),
        Part::Class(opened.key),
    ]
}

/// For messages.
pub(super) fn grant_element(grant: &Grant) -> String {
    key_text(&grant_key(grant))
}

/// For messages.
pub(super) fn opened_element(opened: &Opened) -> String {
    key_text(&opened_key(opened))
}
