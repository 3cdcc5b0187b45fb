//! Tells whether the kernel holds what a policy says: two listings by the same nft, of the running table
//! and of the same policy loaded where nothing has happened yet, compared part by part.
//!
//! Comparing what one nft prints of both needs no knowledge of how each release writes a rule.

use std::collections::BTreeMap;

use serde_json::Value;

use super::elements::{Part, grant_element, grant_set, opened_element, opened_set};
use super::listed_set::{ListedSet, is_endless, is_for_all, key_of};
use super::listing::{ListedChain, Listing};
use super::script::Script;
use super::{SetId, is_by_source, is_compared, is_left};
use crate::held::{Drift, Fault, Rights, Subject};
use crate::knock::display_source;
use crate::policy::Policy;

/// The differences between what should be there and what is. Empty when there are none. What the
/// kernel fills itself (grants, progress, counts) is no difference.
pub fn compare(expected: &Listing, actual: &Listing) -> Vec<Drift> {
    let mut drifts = Vec::new();
    pairs(
        "chain",
        &expected.chains,
        &actual.chains,
        &mut drifts,
        chain,
    );
    let has_fleet = expected.has_fleet();
    let left = |name: &str| is_left(name, has_fleet) && !expected.sets.contains_key(name);
    let found = actual.sets.iter().filter(|(name, _)| !left(name));
    let found: BTreeMap<String, &ListedSet> = found.map(|(n, set)| (n.clone(), set)).collect();
    pairs("set", &expected.sets, &found, &mut drifts, |n, e, a, d| {
        set(n, e, a, d);
    });
    // One too many counts nothing: rules are compared above.
    let missing = expected.counters.keys();
    let missing = missing.filter(|name| !actual.counters.contains_key(*name));
    let lost = || Subject::Said("some openings or packets are not counted".to_string());
    drifts.extend(
        missing.map(|name| Drift::new(format!("counter {name}"), "is missing").about(lost())),
    );
    drifts
}

/// The differences that an outline (a listing without rules) shows: chains, where they are
/// called, and sets.
pub fn compare_outline(script: &Script, actual: &Listing) -> Vec<Drift> {
    let mut drifts = Vec::new();
    let chains = script.chains.iter().map(|chain| {
        let base = chain.base.map(|base| base.listed());
        (chain.name.clone(), base)
    });
    let found = actual.chains.iter();
    let found = found.map(|(name, chain)| (name.clone(), chain.base.clone()));
    pairs(
        "chain",
        &chains.collect(),
        &found.collect(),
        &mut drifts,
        |name, wanted, found, drifts| {
            if wanted != found {
                let what = "is called at another place of the packet's path";
                let subject = Subject::Chain(name.to_string(), Fault::Changed);
                drifts.push(Drift::new(format!("chain {name}"), what).about(subject));
            }
        },
    );
    let sets = script.sets.iter().map(|set| (set.name.clone(), set));
    let sets: BTreeMap<String, _> = sets.collect();
    let found = actual.sets.iter().map(|(name, set)| (name.clone(), set));
    let has_fleet = script.has_fleet();
    let found = found.filter(|(name, _)| sets.contains_key(name) || !is_left(name, has_fleet));
    pairs(
        "set",
        &sets,
        &found.collect(),
        &mut drifts,
        |name, wanted, found, drifts| {
            let same = match wanted.id.row().is_kept() {
                true => found.is_declared(&wanted.types, wanted.size),
                false => found.word() == wanted.id.word(),
            };
            if !same {
                let subject = Subject::Set(name.to_string(), Fault::Changed);
                let drift = Drift::new(format!("set {name}"), "is declared differently");
                drifts.push(drift.about(subject));
            }
        },
    );
    drifts
}

/// Elements that cannot come from this policy, in the sets that the kernel fills: those that never end,
/// and grants of doors or by keys that it does not have.
pub fn strange(policy: &Policy, actual: &Listing) -> Vec<Drift> {
    let mut drifts = Vec::new();
    for (set, element) in endless(actual).filter(|(_, element)| !is_for_all(element)) {
        let drift = Drift::new(
            format!("set {set}"),
            format!("has {}, which never ends", readable(element)),
        );
        drifts.push(drift.about(Subject::Said(endless_meaning(policy, set, element))));
    }
    // That of tokens is told of by [`strange_tokens`](super::strange_tokens).
    for name in actual
        .open_to_all()
        .filter(|name| *name != SetId::Tokens.name())
    {
        let drift = Drift::new(
            format!("list {name}"),
            "has *, which stands for everybody (`toctoc apply` takes it away)",
        );
        let meaning = format!("everybody is on the list {name}: strangers may enter");
        drifts.push(drift.about(Subject::Said(meaning)));
    }
    let rights = Rights::of(policy);
    for grant in actual.grants() {
        if !rights.know(grant.door) {
            let drift = Drift::new(
                format!("set {}", grant_set(&grant)),
                format!(
                    "has {}, a grant for a door that the policy does not have",
                    grant_element(&grant)
                ),
            );
            let source = display_source(&grant.source);
            let meaning = format!("{source} has a grant for a door that the policy does not have");
            drifts.push(drift.about(Subject::Said(meaning)));
        }
    }
    for grant in actual.elsewhere() {
        if !rights.accept(&grant) {
            let drift = Drift::new(
                "grants of other hosts",
                format!(
                    "have {}, for a door for which they do not count",
                    grant_element(&grant)
                ),
            );
            let source = display_source(&grant.source);
            let meaning =
                format!("{source} has a grant of another host for a door that `accept` lacks");
            drifts.push(drift.about(Subject::Said(meaning)));
        }
    }
    for opened in actual.opened() {
        if !rights.include(&opened) {
            let drift = Drift::new(
                format!("set {}", opened_set(&opened)),
                format!(
                    "has {}, an opening by a key that may not",
                    opened_element(&opened)
                ),
            );
            let meaning = format!("{} was let in by a key that may not", opened.source);
            drifts.push(drift.about(Subject::Said(meaning)));
        }
    }
    drifts
}

/// An element that never ends, in the words of the policy.
fn endless_meaning(policy: &Policy, set: &str, element: &Value) -> String {
    let key = key_of(element).unwrap_or_default();
    let door = |id: u32| {
        let mut doors = policy.doors.iter().map(|door| &door.name);
        doors.find(|name| name.id() == id)
    };
    match key[..] {
        [Part::Address(source), Part::Class(id), ..] => match door(id) {
            Some(door) => format!("{source} has a grant for {door} that never ends"),
            None => format!("{source} has a grant that never ends"),
        },
        _ => format!("something in the list {set} never ends"),
    }
}

impl Listing {
    /// The sets that packets or commands fill, and that have an element for everybody.
    pub fn open_to_all(&self) -> impl Iterator<Item = &str> {
        let sets = self.sets.iter();
        let sets = sets.filter(|(name, _)| !is_compared(name));
        let open = sets.filter(|(_, set)| set.elements.iter().any(is_for_all));
        open.map(|(name, _)| name.as_str())
    }
}

/// The elements of kept sets that never end, or stand for everybody: set and element. What is of no type of ours is left out: in a set
/// of a type that somebody else has chosen an element could be anything.
pub(super) fn for_ever(listing: &Listing) -> Vec<(String, Vec<Part>)> {
    let elements = kept(listing).filter(|(_, one)| is_endless(one) || is_for_all(one));
    elements
        .filter_map(|(set, element)| Some((set.clone(), key_of(element)?)))
        .collect()
}

fn endless(listing: &Listing) -> impl Iterator<Item = (&String, &Value)> {
    kept(listing).filter(|(_, element)| is_endless(element))
}

/// The elements of the sets by source that an apply keeps.
fn kept(listing: &Listing) -> impl Iterator<Item = (&String, &Value)> {
    let kept = listing.sets.iter();
    let kept = kept.filter(|(name, _)| is_by_source(name));
    kept.flat_map(|(name, set)| set.elements.iter().map(move |element| (name, element)))
}

/// Walks two collections side by side; what is in one alone is a difference.
fn pairs<T, U>(
    kind: &str,
    expected: &BTreeMap<String, T>,
    actual: &BTreeMap<String, U>,
    drifts: &mut Vec<Drift>,
    mut both: impl FnMut(&str, &T, &U, &mut Vec<Drift>),
) {
    let subject = |name: &str, fault: Fault| match kind {
        "chain" => Subject::Chain(name.to_string(), fault),
        _ => Subject::Set(name.to_string(), fault),
    };
    for (name, wanted) in expected {
        match actual.get(name) {
            None => {
                let drift = Drift::new(format!("{kind} {name}"), "is missing");
                drifts.push(drift.about(subject(name, Fault::Missing)));
            }
            Some(found) => both(name, wanted, found, drifts),
        }
    }
    for name in actual.keys().filter(|name| !expected.contains_key(*name)) {
        let drift = Drift::new(format!("{kind} {name}"), "is not in the policy's ruleset");
        drifts.push(drift.about(subject(name, Fault::Besides)));
    }
}

fn chain(name: &str, expected: &ListedChain, actual: &ListedChain, drifts: &mut Vec<Drift>) {
    let part = format!("chain {name}");
    let about = |fault| Subject::Chain(name.to_string(), fault);
    if expected.base != actual.base {
        let what = "is called at another place of the packet's path";
        drifts.push(Drift::new(&part, what).about(about(Fault::Changed)));
    }
    let (wanted, found) = (&expected.rules, &actual.rules);
    if wanted == found {
        return;
    }
    if found.is_empty() {
        drifts.push(Drift::new(part, "has been flushed").about(about(Fault::Missing)));
        return;
    }
    let same = wanted.iter().zip(found).take_while(|(a, b)| a == b).count();
    let what = match wanted.len() as i64 - found.len() as i64 {
        0 => format!("differs from rule {} on", same + 1),
        missing if missing > 0 => {
            format!(
                "lacks {missing} of its {} rules, from rule {} on",
                wanted.len(),
                same + 1
            )
        }
        -1 => format!("has a rule too many, rule {}", same + 1),
        extra => format!("has {} rules too many, from rule {} on", -extra, same + 1),
    };
    let fault = match found.len() > wanted.len() {
        true => Fault::Besides,
        false => Fault::Changed,
    };
    drifts.push(Drift::new(part, what).about(about(fault)));
}

fn set(name: &str, expected: &ListedSet, actual: &ListedSet, drifts: &mut Vec<Drift>) {
    let part = format!("{} {name}", expected.word());
    if expected.declaration != actual.declaration || expected.is_map != actual.is_map {
        let subject = Subject::Set(name.to_string(), Fault::Changed);
        drifts.push(Drift::new(&part, "is declared differently").about(subject));
    }
    if !is_compared(name) {
        return;
    }
    let wanted = elements(expected);
    let found = elements(actual);
    let missing: Vec<&String> = wanted.keys().filter(|e| !found.contains_key(*e)).collect();
    let extra: Vec<&String> = found.keys().filter(|e| !wanted.contains_key(*e)).collect();
    for (list, verb, fault) in [
        (missing, "lacks", Fault::Missing),
        (extra, "has, besides,", Fault::Besides),
    ] {
        if let Some(first) = list.first() {
            let more = match list.len() {
                1 => String::new(),
                n => format!(" and {} more", n - 1),
            };
            let elements = list.iter().map(ToString::to_string).collect();
            let subject = Subject::Elements(name.to_string(), fault, elements);
            drifts.push(Drift::new(&part, format!("{verb} {first}{more}")).about(subject));
        }
    }
}

/// The elements as a person reads them, in any order.
fn elements(set: &ListedSet) -> BTreeMap<String, ()> {
    set.elements.iter().map(|e| (readable(e), ())).collect()
}

fn readable(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(pair) => {
            let parts: Vec<String> = pair.iter().map(readable).collect();
            parts.join(" : ")
        }
        Value::Object(object) => {
            if let Some(parts) = object.get("concat").and_then(Value::as_array) {
                let parts: Vec<String> = parts.iter().map(readable).collect();
                return parts.join(" . ");
            }
            for verdict in ["goto", "jump"] {
                if let Some(target) = object.get(verdict).map(|to| &to["target"]) {
                    return format!("{verdict} {}", readable(target));
                }
            }
            match object.iter().next() {
                Some((verdict, Value::Null)) => verdict.clone(),
                _ => value.to_string(),
            }
        }
        other => other.to_string(),
    }
}
