//! Our table as the kernel tells it, in the form in which nft lists it (`linux/netfilter/nf_tables.h`). Pure. What
//! is cut or odd is passed over: an element that cannot be read is no grant.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use serde_json::{Value, json};

use super::super::netlink::{
    Attributes, Message, NEW_CHAIN, NEW_ELEMENTS, NEW_OBJECT, NEW_SET, NEW_TABLE, find, number,
    utf8,
};
use super::{KEY, OF_TABLE, VALUE, name};
use crate::ruleset::nftables::{Listing, ListingError, classid};

/// `NFTA_TABLE_FLAGS`, and `NFT_TABLE_F_DORMANT` in it.
const TABLE_FLAGS: u16 = 2;
const DORMANT: u64 = 1;

/// `NFTA_CHAIN_NAME`, `_HOOK` and `_POLICY`; `NFTA_HOOK_HOOKNUM` and `_PRIORITY`.
const CHAIN_NAME: u16 = 3;
const HOOK: u16 = 4;
const CHAIN_POLICY: u16 = 5;
const HOOK_NUMBER: u16 = 1;
const PRIORITY: u16 = 2;

/// `NFTA_SET_NAME`, `_FLAGS`, `_KEY_TYPE`, `_DATA_TYPE`, `_DESC`; `NFTA_SET_DESC_SIZE` in that; `NFT_SET_ANONYMOUS` and
/// `_MAP` among the flags.
const SET_NAME: u16 = 2;
const SET_FLAGS: u16 = 3;
const KEY_TYPE: u16 = 4;
const DATA_TYPE: u16 = 6;
const DESCRIPTION: u16 = 9;
const SIZE: u16 = 1;
const ANONYMOUS: u64 = 1;
const MAP: u64 = 8;

/// `NFTA_SET_ELEM_DATA`, `_FLAGS`, `_TIMEOUT`, `_EXPIRATION`; `NFT_SET_ELEM_CATCHALL`; `NFTA_SET_ELEM_LIST_ELEMENTS`.
const DATA: u16 = 2;
const ELEMENT_FLAGS: u16 = 3;
const TIMEOUT: u16 = 4;
const EXPIRATION: u16 = 5;
const CATCHALL: u64 = 2;
const ELEMENTS: u16 = 3;

/// `NFTA_OBJ_NAME`, `_TYPE`, `_DATA`; `NFT_OBJECT_COUNTER`; `NFTA_COUNTER_PACKETS`.
const OBJECT_NAME: u16 = 2;
const OBJECT_TYPE: u16 = 3;
const OBJECT_DATA: u16 = 4;
const COUNTER: u64 = 1;
const PACKETS: u16 = 2;

/// The types of nft, by their numbers in what it tells the kernel of a set.
const INTEGER: u32 = 4;
const IPV4: u32 = 7;
const IPV6: u32 = 8;
const PROTOCOL: u32 = 12;
const SERVICE: u32 = 13;
const CLASSID: u32 = 23;

/// So many bits of a number say one of several types.
const TYPE_BITS: u32 = 6;

/// The part of a table that has been read so far.
#[derive(Debug, Default)]
pub struct Reading {
    pub listing: Listing,
    /// The types of the keys of each set, and of what a map holds.
    types: BTreeMap<String, (u32, u32)>,
}

impl Reading {
    /// Takes in a message. Those about other tables are passed over.
    ///
    /// # Errors
    /// When something is called as nft can call nothing.
    pub fn take(&mut self, message: Message<'_>) -> Result<(), ListingError> {
        let attributes = message.attributes();
        if find(attributes, OF_TABLE).and_then(utf8) != Some(name()) {
            return Ok(());
        }
        let told = |kind| find(attributes, kind);
        match message.kind {
            NEW_TABLE => {
                let flags = told(TABLE_FLAGS).and_then(number).unwrap_or_default();
                self.listing.flagged = flags != 0;
                self.listing.dormant = flags & DORMANT != 0;
            }
            NEW_CHAIN => {
                if let Some(name) = told(CHAIN_NAME).and_then(utf8) {
                    let base = told(HOOK).and_then(|hook| base(hook, told(CHAIN_POLICY)));
                    self.listing.add_chain(name, base)?;
                }
            }
            NEW_SET => {
                if let Some(name) = told(SET_NAME).and_then(utf8) {
                    let numbered = |kind| told(kind).and_then(number).unwrap_or_default();
                    let flags = numbered(SET_FLAGS);
                    // It is a part of a rule.
                    if flags & ANONYMOUS == 0 {
                        let of_type = |kind| u32::try_from(numbered(kind)).unwrap_or_default();
                        let types = (of_type(KEY_TYPE), of_type(DATA_TYPE));
                        self.types.insert(name.to_string(), types);
                        let size = told(DESCRIPTION).and_then(|text| find(text, SIZE));
                        let size = size.and_then(number);
                        self.listing.add_set(name, flags & MAP != 0, size)?;
                    }
                }
            }
            NEW_ELEMENTS => {
                let Some(name) = told(SET_NAME).and_then(utf8) else {
                    return Ok(());
                };
                let Some(&(key, data)) = self.types.get(name) else {
                    return Ok(());
                };
                let list = told(ELEMENTS).unwrap_or_default();
                let read = Attributes(list).filter_map(|(_, one)| element(one, key, data));
                self.listing.add_elements(name, read);
            }
            NEW_OBJECT if told(OBJECT_TYPE).and_then(number) == Some(COUNTER) => {
                if let Some(name) = told(OBJECT_NAME).and_then(utf8) {
                    let packets = told(OBJECT_DATA).and_then(|data| find(data, PACKETS));
                    let packets = packets.and_then(number).unwrap_or_default();
                    self.listing.add_counter(name, packets)?;
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// Hook, priority and policy, as nft's listing has them.
fn base(hook: &[u8], policy: Option<&[u8]>) -> Option<String> {
    let names = [
        "prerouting",
        "input",
        "forward",
        "output",
        "postrouting",
        "ingress",
    ];
    let number_of = |kind| find(hook, kind).and_then(number);
    let place = usize::try_from(number_of(HOOK_NUMBER)?).ok()?;
    let priority = u32::try_from(number_of(PRIORITY)?).ok()?.cast_signed();
    let policy = match policy.and_then(number) {
        Some(0) => "drop",
        _ => "accept",
    };
    let unknown = place.to_string();
    let place = names.get(place).copied().unwrap_or(&unknown);
    Some(format!("{place} {priority} {policy}"))
}

/// An element: of a map with what it holds.
fn element(element: &[u8], key_type: u32, data_type: u32) -> Option<Value> {
    let told = |kind| find(element, kind);
    let flags = told(ELEMENT_FLAGS).and_then(number).unwrap_or_default();
    let key = match told(KEY).and_then(|key| find(key, VALUE)) {
        Some(bytes) => value(key_type, bytes)?,
        None if flags & CATCHALL != 0 => json!("*"),
        None => return None,
    };
    let mut timed = serde_json::Map::new();
    for (kind, called) in [(TIMEOUT, "timeout"), (EXPIRATION, "expires")] {
        let time = told(kind).and_then(number).filter(|time| *time > 0);
        if let Some(milliseconds) = time {
            timed.insert(called.to_string(), json!(milliseconds / 1000));
        }
    }
    let key = match timed.is_empty() {
        true => key,
        false => {
            timed.insert("val".to_string(), key);
            json!({ "elem": timed })
        }
    };
    match told(DATA).and_then(|data| find(data, VALUE)) {
        Some(bytes) => Some(json!([key, value(data_type, bytes)?])),
        None => Some(key),
    }
}

/// A value of one type or several, each with room up to a multiple of 4.
fn value(types: u32, bytes: &[u8]) -> Option<Value> {
    let mut parts = Vec::new();
    let mut rest = bytes;
    let count = (32 - types.leading_zeros()).div_ceil(TYPE_BITS).max(1);
    for place in (0..count).rev() {
        let of_type = types >> (place * TYPE_BITS) & ((1 << TYPE_BITS) - 1);
        let length = match of_type {
            IPV4 | CLASSID => 4,
            IPV6 => 16,
            PROTOCOL => 1,
            SERVICE => 2,
            _ if count == 1 => rest.len(),
            _ => return None,
        };
        parts.push(part(of_type, rest.get(..length)?)?);
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    match parts.len() {
        1 => parts.pop(),
        _ => Some(json!({ "concat": parts })),
    }
}

fn part(of_type: u32, bytes: &[u8]) -> Option<Value> {
    Some(match of_type {
        IPV4 => json!(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).to_string()),
        IPV6 => json!(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).to_string()),
        CLASSID => json!(classid(u32::from_ne_bytes(bytes.try_into().ok()?))),
        PROTOCOL => match bytes {
            [6] => json!("tcp"),
            [17] => json!("udp"),
            [other] => json!(other),
            _ => return None,
        },
        SERVICE => json!(u16::from_be_bytes(bytes.try_into().ok()?)),
        INTEGER => {
            let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            json!(format!("0x{digits}"))
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::super::netlink::{attribute, creation, nested, texts};
    use super::super::{OF_SET, told};
    use super::*;

    fn set(of: &str, called: &str, types: u32, flags: u64) -> Vec<u8> {
        let names = texts(&[(OF_TABLE, of), (OF_SET, called)]);
        let flags = attribute(SET_FLAGS, &(flags as u32).to_be_bytes());
        let types = attribute(KEY_TYPE, &types.to_be_bytes());
        creation(NEW_SET, &[names, flags, types].concat())
    }

    fn one(key: &[u8], left: Option<u64>) -> Vec<u8> {
        let key = nested(KEY, &attribute(VALUE, key));
        let left = left.map(|left| attribute(EXPIRATION, &left.to_be_bytes()));
        nested(1, &[key, left.unwrap_or_default()].concat())
    }

    fn elements(of: &str, called: &str, list: &[Vec<u8>]) -> Vec<u8> {
        let names = texts(&[(OF_TABLE, of), (OF_SET, called)]);
        creation(
            NEW_ELEMENTS,
            &[names, nested(ELEMENTS, &list.concat())].concat(),
        )
    }

    const PLACE: u32 = IPV4 << TYPE_BITS | CLASSID;

    fn place(last: u8) -> Vec<u8> {
        [&[192, 0, 2, last][..], &0x2_0002_u32.to_ne_bytes()].concat()
    }

    #[test]
    fn grants_are_read_and_what_is_cut_or_odd_is_none() {
        let whole = [
            set("toctoc", "grants4", PLACE, 0),
            elements("toctoc", "grants4", &[one(&place(7), Some(41_900))]),
        ]
        .concat();
        let grants = |bytes: &[u8]| told(bytes).unwrap().0.grants();
        let read = grants(&whole);
        assert_eq!(read.len(), 1);
        assert_eq!(read[0].source.to_string(), "192.0.2.7/32");
        assert_eq!(
            (read[0].door, read[0].expires_in),
            (0x2_0002, Duration::from_secs(41))
        );
        for length in 0..whole.len() {
            assert!(grants(&whole[..length]).is_empty(), "{length}");
        }
        for at in 0..whole.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut odd = whole.clone();
                odd[at] = value;
                if let Ok((listing, parts)) = told(&odd) {
                    assert!(listing.grants().len() < 2);
                    let _ = parts.digest();
                }
            }
        }
    }

    #[test]
    fn only_what_is_a_grant_of_ours_is_one() {
        for (of, types, key) in [
            ("other", PLACE, place(7)),
            ("toctoc", IPV4, place(7)),
            ("toctoc", CLASSID << TYPE_BITS | CLASSID, place(7)),
            ("toctoc", PLACE, place(7)[..7].to_vec()),
            ("toctoc", PLACE, Vec::new()),
            ("toctoc", 0, place(7)),
            ("toctoc", u32::MAX, place(7)),
            ("toctoc", PLACE << TYPE_BITS, place(7)),
        ] {
            let bytes = [
                set(of, "grants4", types, 0),
                elements(of, "grants4", &[one(&key, Some(41_900))]),
            ];
            let (listing, _) = told(&bytes.concat()).unwrap();
            assert!(listing.grants().is_empty(), "{of} {types:x} {key:?}");
        }
        // Elements of a set that nobody has spoken of.
        let (listing, _) =
            told(&elements("toctoc", "grants4", &[one(&place(7), Some(1))])).unwrap();
        assert!(listing.grants().is_empty());
    }

    #[test]
    fn a_name_that_nft_cannot_write_is_named() {
        for name in ["x; flush ruleset", "a b", ""] {
            let error = told(&set("toctoc", name, PLACE, 0))
                .unwrap_err()
                .to_string();
            assert!(error.contains("nft delete table inet toctoc"), "{error}");
        }
        // That of a part of a rule is not ours to write.
        assert!(told(&set("toctoc", "a b", PLACE, ANONYMOUS)).is_ok());
    }
}
