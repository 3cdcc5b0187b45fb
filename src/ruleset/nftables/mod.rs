//! The nftables backend: one private table, `inet toctoc`.
//!
//! # The way of a packet
//!
//! ```text
//!  prerouting, before fragments are put together
//!  chain fragments: IPv6 headers that the stack would read differently? drop.
//!
//!  prerouting, raw                    prerouting, mangle (only if the policy has UDP ports)
//!  chain knocks-tcp: SYN?             chain knocks-udp: starts a flow?
//!          |                                  |
//!  chain glance: a door's port, a first       |
//!     knock's, or from a source midway? (chain |
//!     near: a second knock's, in a flood?)    |
//!          +-------------+--------------------+
//!                        v
//!  chain judge:  a door's port? ------> chain door-NAME: grant? pass. else forget progress, shut.
//!                        | no
//!                   recall progress (map progress4/6: source -> state)
//!                   look up the step (map steps: state, protocol, port -> next state)
//!                        |
//!  chain arrived: sequence complete? --> chain key-NAME: grant, count, log
//!                        | no
//!  chain remember: too many steps of late? forget. else store the new state, with a timeout
//!                        | a first knock, and no room for more of them
//!  chain first-knock: note it for the network of the source
//! ```
//!
//! The state travels through `meta priority`: nft's grammar allows no map look-up inside a
//! concatenation, so a looked-up state needs a field of the packet to stand in, and the packet mark
//! belongs to others. It is set before it is read (an ingress VLAN map could have set it, which a
//! sender could exploit) and back to 0 before the packet leaves the table.
//!
//! # Tokens
//!
//! Only if a key has a token. Datagrams to the port for tokens are judged in a chain of their own at
//! raw and always dropped:
//!
//! ```text
//!  prerouting, raw
//!  chain knocks-token: our port? ---> chain judge-token: spent? drop.
//!                                       whose is it (map tokens); add to spent, take from tokens
//!                                     chain arrived-token --> chain key-NAME: grant, count, log, drop
//! ```
//!
//! Where a key has `ping = true`, echo requests are judged likewise in `judge-echo`, and go on in any case: what drops a
//! datagram after `arrived-token` is then the chain `judged`.
//!
//! # A fleet
//!
//! Only with `[fleet]`. What other hosts granted is in sets of its own, `elsewhere4/6` (address . door), so
//! that no packet of this host and no message of another ever changes the time of the same element: the
//! later end decides by itself. `spent-elsewhere` has tokens that opened at another host. `closed4/6`
//! (address . door) and `revoked` (key) are notes of what an administrator ended: the kernel keeps them
//! until `toctoc fleet` has told the others. `ended4/6` (address . door . length of the network) and
//! `revoked-elsewhere` are notes of what other hosts ended: the way back of a trial asks for them, and an
//! agent that is started anew. `terms` is a number by which that sees whether the policy that it
//! has read is the one that runs; no rule asks for it.
//!
//! # What is kept over an apply
//!
//! Grants live in sets that no apply recreates: `grants4/6` (address . door), `once4/6` likewise for
//! grants used up by their first connection, `opened4/6` (address . door . key) for who opened, and
//! `admitted4/6` for the one packet that has just used up a grant and may be repeated. Doors and
//! keys are stored as [`Name::id`](crate::policy::Name::id). Progress is recreated, since states are
//! numbered afresh: a stale number must not mean something in the new automaton.

mod by_hand;
mod change;
mod compare;
mod elements;
mod from_kernel;
mod guards;
mod held;
mod listed_set;
mod listing;
mod marks;
mod meaning;
mod open;
mod render;
mod script;
mod sets;
mod tokens;
mod transaction;

pub use by_hand::{NOTED_FOR, close, elsewhere, end, note_ended_elsewhere, note_revoked};
pub use change::{Carried, Transition, carry, leftovers, shorten, transaction};
pub use compare::{compare, compare_outline, strange};
pub use elements::{Element, Lasting, Part};
pub use listed_set::EXACTLY_LEFT;
pub use listing::{Listing, ListingError};
pub use marks::{ChainMarks, Mark, Marks, SetMarks};
pub use meaning::meanings;
pub use open::{Admission, Room, open};
pub use render::render;
pub use script::{Script, Set};
pub use sets::{
    AtApply, Filler, Form, Meaning, Need, Row, SETS, SetId, Size, Time, admits, is_compared,
    is_left,
};
pub use tokens::{
    burn, burnt, change as change_tokens, if_there, loaded, spend_elsewhere, spent_and_life,
    strange_tokens, tags, tokens_among,
};

pub use transaction::{Command, Transaction};

use sets::{LINES_FOR, is_by_source};

use crate::policy::Name;
use crate::ruleset::Family;

/// The table that is ours, as nft names it. Nothing else is ever changed.
pub const TABLE: &str = "inet toctoc";

/// The same without its family.
pub const TABLE_NAME: &str = "toctoc";

/// Step value for "the same knock again".
const ECHO: u32 = 0xffff_0000;

/// The words for a family in rules and sets.
impl Family {
    /// The source address in a rule.
    pub(super) fn saddr(self) -> &'static str {
        match self {
            Family::V4 => "ip saddr",
            Family::V6 => "ip6 saddr",
        }
    }

    /// The destination address in a rule.
    pub(super) fn daddr(self) -> &'static str {
        match self {
            Family::V4 => "ip daddr",
            Family::V6 => "ip6 daddr",
        }
    }

    /// The type of an address in a set.
    fn address_type(self) -> &'static str {
        match self {
            Family::V4 => "ipv4_addr",
            Family::V6 => "ipv6_addr",
        }
    }
}

/// The upper half of the class that stands for the length of a network in `ended4/6`: 0 has a meaning of its own.
const LENGTH: u32 = 0x1_0000;

/// The name of the chain that sends a packet to the door with a range that its port is in.
const RANGES: &str = "ranges";

fn door_chain(name: &Name) -> String {
    format!("door-{name}")
}

fn key_chain(name: &Name) -> String {
    format!("key-{name}")
}

/// The chain for a good datagram of a signed key.
fn signed_chain(name: &Name) -> String {
    format!("signed-{name}")
}

/// The chain that sees whether one of the sequences of a scratch key is used up. A key's name has no `/`.
fn scratch_chain(name: &Name, number: usize) -> String {
    format!("scratch-{name}/{}", number + 1)
}

/// The chain of one of the sequences of a scratch key.
fn scratch_key_chain(name: &Name, number: usize) -> String {
    format!("{}/{}", key_chain(name), number + 1)
}

/// The counters of knocks of sources midway that led nowhere, and of new connections that came to a door
/// without a grant.
const WRONG: &str = "wrong";
const SHUT_OUT: &str = "shut-out";

fn counter(name: &Name) -> String {
    format!("opened-{name}")
}

/// A 32-bit value as nft writes the type classid: two halves in hexadecimal.
pub fn classid(value: u32) -> String {
    format!("{:x}:{:x}", value >> 16, value & 0xffff)
}

/// Reads [`classid`] back, and nft's two special names.
fn parse_classid(text: &str) -> Option<u32> {
    match text {
        "none" => return Some(0),
        "root" => return Some(u32::MAX),
        _ => {}
    }
    let (major, minor) = text.split_once(':')?;
    let half = |text: &str| u16::from_str_radix(if text.is_empty() { "0" } else { text }, 16);
    Some(u32::from(half(major).ok()?) << 16 | u32::from(half(minor).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classids_are_read_back() {
        for value in [0, 1, 0xffff, 0x1_0000, 0x8f3a_11c2, ECHO, u32::MAX] {
            assert_eq!(parse_classid(&classid(value)), Some(value));
        }
        assert_eq!(parse_classid("none"), Some(0));
        assert_eq!(parse_classid("root"), Some(u32::MAX));
        assert_eq!(parse_classid(":5"), Some(5));
        assert_eq!(parse_classid("x:5"), None);
    }
}
