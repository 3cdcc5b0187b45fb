//! Our table as the kernel tells it, in the form in which nft lists it (`linux/netfilter/nf_tables.h`). Pure. What
//! is cut or odd is passed over: an element that cannot be read is no grant.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use serde_json::{Value, json};

use super::super::netlink::{
    Message, NEW_CHAIN, NEW_ELEMENTS, NEW_OBJECT, NEW_SET, NEW_TABLE, find, find_number, find_text,
};
use super::attributes::{
    about_ours, chain, class, data_of, element, elements, elements_in, hook, key_of, object, set,
    table, time_of, verdict, verdict_of,
};
use crate::ruleset::nftables::{EXACTLY_LEFT, Listing, ListingError, classid};

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
        let Some(told) = about_ours(&message) else {
            return Ok(());
        };
        let named = |kind| find_text(told, kind);
        let numbered = |kind| find_number(told, kind).unwrap_or_default();
        match message.kind {
            NEW_TABLE => {
                let flags = numbered(table::FLAGS);
                self.listing.flagged = flags != 0;
                self.listing.dormant = flags & table::DORMANT != 0;
            }
            NEW_CHAIN => {
                if let Some(name) = named(chain::NAME) {
                    let hook = find(told, chain::HOOK);
                    let base = hook.and_then(|hook| base(hook, find_number(told, chain::POLICY)));
                    self.listing.add_chain(name, base)?;
                }
            }
            NEW_SET => {
                if let Some(name) = named(set::NAME) {
                    let flags = numbered(set::FLAGS);
                    // It is a part of a rule.
                    if flags & set::ANONYMOUS == 0 {
                        let of_type = |kind| u32::try_from(numbered(kind)).unwrap_or_default();
                        let types = (of_type(set::KEY_TYPE), of_type(set::DATA_TYPE));
                        self.types.insert(name.to_string(), types);
                        let size = find(told, set::DESCRIPTION);
                        let size = size.and_then(|text| find_number(text, set::SIZE));
                        self.listing.add_set(name, flags & set::MAP != 0, size)?;
                    }
                }
            }
            NEW_ELEMENTS => {
                let Some(name) = named(elements::SET) else {
                    return Ok(());
                };
                let Some(&(key, data)) = self.types.get(name) else {
                    return Ok(());
                };
                let read = elements_in(told).filter_map(|one| listed(one, key, data));
                self.listing.add_elements(name, read);
            }
            NEW_OBJECT if numbered(object::TYPE) == object::COUNTER => {
                if let Some(name) = named(object::NAME) {
                    let data = find(told, object::DATA);
                    let packets = data.and_then(|data| find_number(data, object::PACKETS));
                    self.listing
                        .add_counter(name, packets.unwrap_or_default())?;
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// Hook, priority and policy, as nft's listing has them.
fn base(hook: &[u8], policy: Option<u64>) -> Option<String> {
    let names = [
        "prerouting",
        "input",
        "forward",
        "output",
        "postrouting",
        "ingress",
    ];
    let place = usize::try_from(find_number(hook, hook::NUMBER)?).ok()?;
    let priority = u32::try_from(find_number(hook, hook::PRIORITY)?).ok()?;
    let priority = priority.cast_signed();
    let policy = match policy {
        Some(0) => "drop",
        _ => "accept",
    };
    let unknown = place.to_string();
    let place = names.get(place).copied().unwrap_or(&unknown);
    Some(format!("{place} {priority} {policy}"))
}

/// An element: of a map with what it holds.
fn listed(told: &[u8], key_type: u32, data_type: u32) -> Option<Value> {
    let flags = find_number(told, element::FLAGS).unwrap_or_default();
    let key = match key_of(told) {
        Some(bytes) => value(key_type, bytes)?,
        None if flags & element::CATCHALL != 0 => json!("*"),
        None => return None,
    };
    let mut timed = serde_json::Map::new();
    let times = [
        (element::TIMEOUT, "timeout"),
        (element::EXPIRATION, "expires"),
    ];
    for (kind, called) in times {
        if let Some(time) = time_of(told, kind).filter(|time| !time.is_zero()) {
            timed.insert(called.to_string(), json!(time.as_secs()));
            if kind == element::EXPIRATION {
                timed.insert(EXACTLY_LEFT.to_string(), json!(time.as_millis() as u64));
            }
        }
    }
    let key = match timed.is_empty() {
        true => key,
        false => {
            timed.insert("val".to_string(), key);
            json!({ "elem": timed })
        }
    };
    if let Some(bytes) = data_of(told) {
        return Some(json!([key, value(data_type, bytes)?]));
    }
    match verdict_of(told) {
        Some((code, chain)) => Some(json!([key, leading(code, chain)?])),
        None => Some(key),
    }
}

/// A verdict.
fn leading(code: i32, chain: Option<&str>) -> Option<Value> {
    let word = match code {
        verdict::DROP => "drop",
        verdict::ACCEPT => "accept",
        verdict::CONTINUE => "continue",
        verdict::RETURN => "return",
        verdict::JUMP => "jump",
        verdict::GOTO => "goto",
        _ => return None,
    };
    Some(match chain {
        Some(chain) => json!({ word: { "target": chain } }),
        None => json!({ word: null }),
    })
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
        CLASSID => json!(classid(class(bytes)?.0)),
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
    use super::super::attributes::OF_TABLE;
    use super::super::told;
    use super::*;

    fn set(of: &str, called: &str, types: u32, flags: u64) -> Vec<u8> {
        let names = texts(&[(OF_TABLE, of), (set::NAME, called)]);
        let flags = attribute(set::FLAGS, &(flags as u32).to_be_bytes());
        let types = attribute(set::KEY_TYPE, &types.to_be_bytes());
        creation(NEW_SET, &[names, flags, types].concat())
    }

    fn one(key: &[u8], left: Option<u64>) -> Vec<u8> {
        let key = nested(element::KEY, &attribute(element::VALUE, key));
        let left = left.map(|left| attribute(element::EXPIRATION, &left.to_be_bytes()));
        nested(elements::ONE, &[key, left.unwrap_or_default()].concat())
    }

    fn elements(of: &str, called: &str, list: &[Vec<u8>]) -> Vec<u8> {
        let names = texts(&[(OF_TABLE, of), (set::NAME, called)]);
        creation(
            NEW_ELEMENTS,
            &[names, nested(elements::LIST, &list.concat())].concat(),
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
            (crate::policy::DoorId(0x2_0002), Duration::from_secs(41))
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
        assert!(told(&set("toctoc", "a b", PLACE, set::ANONYMOUS)).is_ok());
    }
}
