//! Tokens in the kernel: what is there, and the transaction that changes it.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt::Write as _;
use std::time::Duration;

use super::listing::Listing;
use super::script::time;
use super::{BURNT, SPENT, TABLE, TOKENS, classid, parse_classid};
use crate::single_use::Token;
use crate::single_use::plan::{Loaded, Plan};

/// What the element that says the table's life begins with. No more likely to be a token than any
/// other 16 bytes; and what is in `spent` opens nothing.
const LIFE: [u8; 8] = *b"toctoc\0\0";

/// So many elements go into one command: a line of nft may be long, but not that long.
const TOGETHER: usize = 500;

/// The tokens that the kernel would accept. `None` when there is no such map.
pub fn loaded(listing: &Listing) -> Option<HashMap<Token, Loaded>> {
    let map = listing.sets.get(TOKENS)?;
    let read = map.elements.iter().filter_map(|pair| {
        let (key, value) = (&pair[0], &pair[1]);
        let token = Token::from_hex(hex(key.pointer("/elem/val").unwrap_or(key).as_str()?))?;
        let expires_in = key.pointer("/elem/expires").and_then(|left| left.as_u64());
        let loaded = Loaded {
            id: parse_classid(value.as_str()?)?,
            expires_in: expires_in.map(Duration::from_secs),
        };
        Some((token, loaded))
    });
    Some(read.collect())
}

/// The tokens that the kernel knows to be spent, and the life of the table. `None` when there is no
/// such set.
pub fn spent_and_life(listing: &Listing) -> Option<(HashSet<Token>, Option<u64>)> {
    let set = listing.sets.get(SPENT)?;
    let mut spent = HashSet::new();
    let mut life = None;
    for element in &set.elements {
        let value = element.pointer("/elem/val").unwrap_or(element);
        let Some(token) = value.as_str().and_then(|text| Token::from_hex(hex(text))) else {
            continue;
        };
        let (head, tail) = token.0.split_at(LIFE.len());
        if head == LIFE {
            life = tail.try_into().ok().map(u64::from_be_bytes);
        } else {
            spent.insert(token);
        }
    }
    Some((spent, life))
}

/// The scratch sequences that the kernel knows to be used up. `None` when there is no such set.
pub fn burnt(listing: &Listing) -> Option<BTreeSet<u32>> {
    let set = listing.sets.get(BURNT)?;
    let ids = set.elements.iter().filter_map(|element| {
        let value = element.pointer("/elem/val").unwrap_or(element);
        parse_classid(value.as_str()?)
    });
    Some(ids.collect())
}

/// The transaction that makes scratch sequences used up.
pub fn burn(ids: &[u32]) -> String {
    let ids: Vec<String> = ids.iter().map(|&id| classid(id)).collect();
    format!("add element {TABLE} {BURNT} {{ {} }}\n", ids.join(", "))
}

fn hex(text: &str) -> &str {
    text.strip_prefix("0x").unwrap_or(text)
}

/// The transaction that carries a plan out. `old_life` is what the table has, `life` what it shall
/// have. Empty when there is nothing to do.
pub fn change(plan: &Plan, old_life: Option<u64>, life: u64) -> String {
    let mut text = String::new();
    if old_life != Some(life) {
        if let Some(old) = old_life {
            let _ = writeln!(text, "delete element {TABLE} {SPENT} {{ {} }}", marked(old));
        }
        let _ = writeln!(text, "add element {TABLE} {SPENT} {{ {} }}", marked(life));
    }
    // A token may have been spent or have ended since it was listed: it is added, so that taking it
    // away cannot fail.
    let removed = |timeout: &str| {
        let elements = plan.remove.iter();
        let elements = elements.map(|(token, id)| match timeout {
            "" => written(token),
            _ => format!("{} timeout {timeout} : {}", written(token), classid(*id)),
        });
        elements.collect::<Vec<String>>()
    };
    commands(&mut text, "add", &removed("60s"));
    commands(&mut text, "delete", &removed(""));
    let added = plan.add.iter().map(|(token, (id, lasting))| {
        let (token, id) = (written(token), classid(*id));
        format!("{token} timeout {} : {id}", time(*lasting))
    });
    commands(&mut text, "add", &added.collect::<Vec<String>>());
    text
}

fn commands(text: &mut String, verb: &str, elements: &[String]) {
    for some in elements.chunks(TOGETHER) {
        let some = some.join(", ");
        let _ = writeln!(text, "{verb} element {TABLE} {TOKENS} {{ {some} }}");
    }
}

fn written(token: &Token) -> String {
    format!("0x{}", token.hex())
}

fn marked(life: u64) -> String {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&LIFE);
    bytes[8..].copy_from_slice(&life.to_be_bytes());
    written(&Token(bytes))
}
