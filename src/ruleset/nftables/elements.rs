//! Elements of sets as data, and as nft reads them. The kernel takes the same data as messages.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use super::script::time;
use super::{SetId, classid};
use crate::held::{Grant, Opened};
use crate::policy::DoorId;
use crate::ruleset::Family;
use crate::single_use::Token;

/// No element is given less time. Kernels before 6.12 (and stable ones of before October 2024) round what is less
/// than a tick to nothing, and an element without a time never ends.
pub(super) const SHORTEST: Duration = Duration::from_millis(20);

/// A part of an element.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    Address(IpAddr),
    Class(u32),
    Port(u16),
    Token(Token),
    /// Every key that no other element has (`*`). None of ours is so.
    Everything,
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
            Part::Everything => f.write_str("*"),
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

/// The sets of a grant that stays while it is used: its opening, and its last connection.
pub(super) fn stay_sets(grant: &Grant) -> [String; 2] {
    [SetId::Stay, SetId::Use].map(|set| set_in(set, grant))
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

pub(super) fn place_key(source: IpAddr, door: DoorId) -> Vec<Part> {
    vec![Part::Address(source), Part::Class(door.0)]
}

pub(super) fn grant_key(grant: &Grant) -> Vec<Part> {
    place_key(grant.source.addr(), grant.door)
}

pub(super) fn opened_key(opened: &Opened) -> Vec<Part> {
    vec![
        Part::Address(opened.source),
        Part::Class(opened.door.0),
        Part::Class(opened.key.0),
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
