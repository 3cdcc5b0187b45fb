//! The attributes of nf_tables messages, by the kernel's names (`linux/netfilter/nf_tables.h`), and what several
//! readers need of them. Pure. What is cut or odd is `None`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::super::netlink::{Attributes, Message, find, find_number, find_text};
use crate::ruleset::Family;
use crate::ruleset::nftables::TABLE_NAME;

/// The table, in messages of every kind: `NFTA_TABLE_NAME`, and `NFTA_CHAIN_TABLE`, `NFTA_SET_TABLE` and so on.
pub const OF_TABLE: u16 = 1;

/// `NFTA_TABLE_*`, and `NFT_TABLE_F_DORMANT`.
pub mod table {
    pub const FLAGS: u16 = 2;
    pub const USE: u16 = 3;
    pub const HANDLE: u16 = 4;
    pub const DORMANT: u64 = 1;
}

/// `NFTA_CHAIN_*`
pub mod chain {
    pub const HANDLE: u16 = 2;
    pub const NAME: u16 = 3;
    pub const HOOK: u16 = 4;
    pub const POLICY: u16 = 5;
    pub const USE: u16 = 6;
    pub const TYPE: u16 = 7;
    pub const COUNTERS: u16 = 8;
}

/// `NFTA_HOOK_*`, inside [`chain::HOOK`].
pub mod hook {
    pub const NUMBER: u16 = 1;
    pub const PRIORITY: u16 = 2;
}

/// `NFTA_RULE_*`
pub mod rule {
    pub const CHAIN: u16 = 2;
    pub const HANDLE: u16 = 3;
    pub const EXPRESSIONS: u16 = 4;
    pub const POSITION: u16 = 6;
}

/// `NFTA_EXPR_*`, inside [`rule::EXPRESSIONS`].
pub mod expression {
    pub const NAME: u16 = 1;
    pub const DATA: u16 = 2;
}

/// `NFTA_SET_*`, `NFTA_SET_DESC_SIZE` inside the description, and `NFT_SET_*` among the flags.
pub mod set {
    pub const NAME: u16 = 2;
    pub const FLAGS: u16 = 3;
    pub const KEY_TYPE: u16 = 4;
    pub const DATA_TYPE: u16 = 6;
    pub const DESCRIPTION: u16 = 9;
    pub const TIMEOUT: u16 = 11;
    pub const HANDLE: u16 = 16;
    pub const TYPE: u16 = 19;
    /// The number of elements, which new kernels tell.
    pub const COUNT: u16 = 20;
    pub const SIZE: u16 = 1;
    pub const ANONYMOUS: u64 = 1;
    pub const MAP: u64 = 8;
    pub const TIMES_OUT: u64 = 0x10;
}

/// `NFTA_SET_ELEM_LIST_*`, and `NFTA_LIST_ELEM` for each one in the list.
pub mod elements {
    pub const SET: u16 = 2;
    pub const LIST: u16 = 3;
    pub const ONE: u16 = 1;
}

/// `NFTA_SET_ELEM_*`, `NFTA_DATA_VALUE` and `NFTA_DATA_VERDICT` inside key and data, and `NFT_SET_ELEM_CATCHALL` among the flags.
pub mod element {
    pub const KEY: u16 = 1;
    pub const DATA: u16 = 2;
    pub const FLAGS: u16 = 3;
    pub const TIMEOUT: u16 = 4;
    pub const EXPIRATION: u16 = 5;
    pub const KEY_END: u16 = 10;
    pub const VALUE: u16 = 1;
    pub const VERDICT: u16 = 2;
    pub const CATCHALL: u64 = 2;
}

/// `NFTA_VERDICT_*` inside the data of a map, and the codes that a map of ours may have (`linux/netfilter.h`, nf_tables.h).
pub mod verdict {
    pub const CODE: u16 = 1;
    pub const CHAIN: u16 = 2;
    pub const DROP: i32 = 0;
    pub const ACCEPT: i32 = 1;
    pub const CONTINUE: i32 = -1;
    pub const JUMP: i32 = -3;
    pub const GOTO: i32 = -4;
    pub const RETURN: i32 = -5;
}

/// `NFTA_OBJ_*`, `NFT_OBJECT_COUNTER` among the types, and `NFTA_COUNTER_PACKETS` inside its data.
pub mod object {
    pub const NAME: u16 = 2;
    pub const TYPE: u16 = 3;
    pub const DATA: u16 = 4;
    pub const USE: u16 = 5;
    pub const HANDLE: u16 = 6;
    pub const COUNTER: u64 = 1;
    pub const PACKETS: u16 = 2;
}

/// `NFTA_GEN_*`
pub mod generation {
    pub const ID: u16 = 1;
}

/// The attributes of a message about our table.
pub fn about_ours<'b>(message: &Message<'b>) -> Option<&'b [u8]> {
    let attributes = message.attributes();
    (find_text(attributes, OF_TABLE) == Some(TABLE_NAME)).then_some(attributes)
}

/// The elements in a message, each as its attributes.
pub fn elements_in(attributes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let list = find(attributes, elements::LIST).unwrap_or_default();
    Attributes(list).map(|(_, element)| element)
}

/// The key of an element.
pub fn key_of(element: &[u8]) -> Option<&[u8]> {
    find(find(element, element::KEY)?, element::VALUE)
}

/// The data of a map for an element.
pub fn data_of(element: &[u8]) -> Option<&[u8]> {
    find(find(element, element::DATA)?, element::VALUE)
}

/// The verdict of a map for an element: its code, and the chain where it leads.
pub fn verdict_of(element: &[u8]) -> Option<(i32, Option<&str>)> {
    let told = find(find(element, element::DATA)?, element::VERDICT)?;
    let code = u32::try_from(find_number(told, verdict::CODE)?).ok()?;
    Some((code.cast_signed(), find_text(told, verdict::CHAIN)))
}

/// A time of an element: [`element::TIMEOUT`] or [`element::EXPIRATION`].
pub fn time_of(element: &[u8], which: u16) -> Option<Duration> {
    find_number(element, which).map(Duration::from_millis)
}

/// A value of the type classid at the start of some bytes, and the bytes behind it.
pub fn class(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (class, rest) = bytes.split_first_chunk::<4>()?;
    Some((u32::from_ne_bytes(*class), rest))
}

/// An address at the start of some bytes, and the bytes behind it.
pub fn address(family: Family, bytes: &[u8]) -> Option<(IpAddr, &[u8])> {
    match family {
        Family::V4 => {
            let (octets, rest) = bytes.split_first_chunk::<4>()?;
            Some((Ipv4Addr::from(*octets).into(), rest))
        }
        Family::V6 => {
            let (octets, rest) = bytes.split_first_chunk::<16>()?;
            Some((Ipv6Addr::from(*octets).into(), rest))
        }
    }
}
