//! Tokens in the kernel: what is there, and the transaction that changes it.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Duration;

use serde_json::Value;

use super::elements::{Element, Lasting, Part};
use super::listed_set::is_for_all;
use super::listing::Listing;
use super::transaction::Transaction;
use super::{SetId, parse_classid};
use crate::held::Drift;
use crate::policy::Policy;
use crate::single_use::plan::{Loaded, Plan};
use crate::single_use::{TOKENS_PER_WINDOW, Token, WINDOW, Window, token};

/// The beginning of the element that says the table's life. No more likely to be a token than any
/// other 16 bytes; and what is in `spent` opens nothing.
const LIFE: [u8; 8] = *b"toctoc\0\0";

/// The tokens that the kernel would accept. `None` when there is no such map.
pub fn loaded(listing: &Listing) -> Option<HashMap<Token, Loaded>> {
    let map = listing.set(SetId::Tokens)?;
    let read = map.elements.iter().filter_map(|pair| {
        let (key, value) = (&pair[0], &pair[1]);
        let token = read(key.pointer("/elem/val").unwrap_or(key))?;
        let expires_in = key.pointer("/elem/expires").and_then(|left| left.as_u64());
        let loaded = Loaded {
            id: parse_classid(value.as_str()?)?,
            expires_in: expires_in.map(Duration::from_secs),
        };
        Some((token, loaded))
    });
    Some(read.collect())
}

/// Returns whether all of these are among the tokens that the kernel would accept.
pub fn tokens_among(listing: &Listing, tokens: &[Token]) -> bool {
    let held = loaded(listing).unwrap_or_default();
    tokens.iter().all(|token| held.contains_key(token))
}

/// Tokens in the kernel that cannot come from a refill: of no key that the policy has, too far ahead or
/// too old, or without an end. `now` is in seconds since 1970.
pub fn strange_tokens(policy: &Policy, listing: &Listing, now: i64) -> Vec<Drift> {
    let mut found = match policy.has_tokens() {
        true => loaded(listing).unwrap_or_default(),
        // Then the map itself is a difference.
        false => HashMap::new(),
    };
    let (mut others, mut endless) = (found.len(), 0);
    let ahead = policy.token_horizon.as_secs() / WINDOW.as_secs();
    let current = Window::at(now).0;
    // A minute may be over by now.
    let windows = current.saturating_sub(3)..=current + ahead + 1;
    for (_, secret) in policy.token_keys() {
        for window in windows.clone() {
            for number in 0..TOKENS_PER_WINDOW {
                let there = found.remove(&token(secret, Window(window), number));
                let Some(there) = there.filter(|there| there.id == secret.id()) else {
                    continue;
                };
                others -= 1;
                endless += usize::from(there.expires_in.is_none());
            }
        }
    }
    let some = |number: usize, one: &str, several: &str| {
        let what = if number == 1 { one } else { several };
        let healed = "(`toctoc apply` puts that right)";
        let text = format!("has {number} {what} {healed}");
        (number > 0).then(|| Drift::new(format!("map {}", SetId::Tokens), text))
    };
    let others = some(
        others,
        "token that no key of this policy has",
        "tokens that no key of this policy has",
    );
    let endless = some(endless, "token that never ends", "tokens that never end");
    let elements = listing
        .set(SetId::Tokens)
        .into_iter()
        .flat_map(|set| &set.elements);
    let for_all = some(
        elements.filter(|element| is_for_all(element)).count(),
        "element for every token that nobody has",
        "elements for every token that nobody has",
    );
    others.into_iter().chain(endless).chain(for_all).collect()
}

/// The tokens that the kernel knows to be spent, and the life of the table. `None` when there is no
/// such set.
pub fn spent_and_life(listing: &Listing) -> Option<(HashSet<Token>, Option<u64>)> {
    let set = listing.set(SetId::Spent)?;
    let mut spent = HashSet::new();
    let mut life = None;
    for element in &set.elements {
        let value = element.pointer("/elem/val").unwrap_or(element);
        let Some(token) = read(value) else {
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

/// The tags of the signed datagrams that have come. `None` when there is no such set.
pub fn tags(listing: &Listing) -> Option<HashSet<Token>> {
    let set = listing.set(SetId::Tags)?;
    let values = set.elements.iter();
    let values = values.map(|element| element.pointer("/elem/val").unwrap_or(element));
    Some(values.filter_map(read).collect())
}

/// The scratch sequences that the kernel knows to be used up. `None` when there is no such set.
pub fn burnt(listing: &Listing) -> Option<BTreeSet<u32>> {
    let set = listing.set(SetId::Burnt)?;
    let ids = set.elements.iter().filter_map(|element| {
        let value = element.pointer("/elem/val").unwrap_or(element);
        parse_classid(value.as_str()?)
    });
    Some(ids.collect())
}

/// The transaction that makes scratch sequences used up.
pub fn burn(ids: &[u32]) -> Transaction {
    let mut transaction = Transaction::default();
    let elements = ids.iter().map(|&id| endless(Part::Class(id)));
    transaction.add(SetId::Burnt.name(), elements.collect());
    transaction
}

fn endless(part: Part) -> Element {
    Element {
        key: vec![part],
        lasting: None,
        value: None,
    }
}

/// The transaction that refuses tokens which another host has taken, until they would have ended.
pub fn spend_elsewhere(tokens: &[(Token, Duration)]) -> Transaction {
    let mut transaction = Transaction::default();
    let timed =
        |(token, lasting): &(Token, Duration)| Element::timed(vec![Part::Token(*token)], *lasting);
    transaction.add(
        SetId::SpentElsewhere.name(),
        tokens.iter().map(timed).collect(),
    );
    transaction
}

/// nft writes small ones as numbers.
fn read(value: &Value) -> Option<Token> {
    match value.as_u64() {
        Some(number) => Some(Token(u128::from(number).to_be_bytes())),
        None => {
            let text = value.as_str()?;
            Token::from_hex(text.strip_prefix("0x").unwrap_or(text))
        }
    }
}

/// The transaction that carries a plan out. `old_life` is what the table has, `life` what it shall
/// have. Empty when there is nothing to do.
pub fn change(plan: &Plan, old_life: Option<u64>, life: u64) -> Transaction {
    let mut transaction = Transaction::default();
    if old_life != Some(life) {
        transaction.delete(
            SetId::Spent.name(),
            old_life.into_iter().map(|old| vec![marked(old)]).collect(),
        );
        transaction.add(SetId::Spent.name(), vec![endless(marked(life))]);
    }
    // A token spent in this moment stays spent: the kernel refuses what is in `spent`.
    if plan.anew {
        transaction.flush("map", SetId::Tokens.name());
    }
    let added = plan.add.iter().map(|(token, (id, timeout))| Element {
        key: vec![Part::Token(*token)],
        lasting: Some(Lasting {
            timeout: *timeout,
            left: None,
        }),
        value: Some(Part::Class(*id)),
    });
    transaction.add(SetId::Tokens.name(), added.collect());
    transaction
}

/// A transaction that the kernel refuses unless it has all these tokens. Only to be checked.
pub fn if_there(tokens: &[Token]) -> Transaction {
    let keys = tokens.iter().map(|token| vec![Part::Token(*token)]);
    let mut transaction = Transaction::default();
    transaction.delete(SetId::Tokens.name(), keys.collect());
    transaction
}

fn marked(life: u64) -> Part {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&LIFE);
    bytes[8..].copy_from_slice(&life.to_be_bytes());
    Part::Token(Token(bytes))
}
