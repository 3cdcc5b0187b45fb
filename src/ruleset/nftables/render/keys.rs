//! What completing a sequence does: one chain for each kind of rights, and one of two rules for each
//! key.

use super::chains::forget;
use super::{prefix, source};
use crate::automaton::State;
use crate::policy::{Key, Log, Opening, Policy, show};
use crate::ruleset::nftables::script::{Chain, time};
use crate::ruleset::nftables::{Family, Kept, classid, counter, key_chain, set_name};

/// A key's own chain: who it is, what it may open, and what is counted and logged when that worked.
pub(super) fn key_of(policy: &Policy, key: &Key, after: State, opens: &str) -> Chain {
    let doors: Vec<&str> = key
        .opens
        .iter()
        .map(|o| policy.door(o.door).name.as_str())
        .collect();
    let about = format!("Key {}: opens {}.", key.name, doors.join(" and "));
    let mut chain = Chain::new(key_chain(&key.name), &[&about]);
    let done = format!("meta priority set {} goto remember", classid(after.0));
    if let Some(end) = key.expires {
        chain.note(format!("Expired from {} on.", moment(end)));
        chain.rule(format!("meta time >= {end} {done}"));
    }
    let id = classid(key.name.id());
    chain.rule(format!("meta priority set {id} jump {opens}"));
    let logs: String = doors.iter().map(|door| logged(policy, door, key)).collect();
    let counter = counter(&key.name);
    chain.rule(format!("counter name \"{counter}\"{logs} {done}"));
    chain
}

/// What keys open, and how: keys with the same rights share one chain.
pub(super) struct Opens<'p>(pub Vec<(&'p [Opening], bool)>);

impl<'p> Opens<'p> {
    pub fn of(policy: &'p Policy) -> (Opens<'p>, Vec<usize>) {
        let mut kinds: Vec<(&[Opening], bool)> = Vec::new();
        let numbers = policy
            .keys
            .iter()
            .map(|key| {
                let kind = (key.opens.as_slice(), key.once);
                kinds.iter().position(|k| *k == kind).unwrap_or_else(|| {
                    kinds.push(kind);
                    kinds.len() - 1
                })
            })
            .collect();
        (Opens(kinds), numbers)
    }

    pub fn name(number: usize) -> String {
        format!("opens-{}", number + 1)
    }

    /// `meta priority` is the key. Returns when the grants are given; when there is no room for them
    /// (a full set ends a rule) nothing is counted or logged.
    pub fn chain(&self, number: usize, policy: &Policy) -> Chain {
        let (opens, once) = self.0[number];
        let rights: Vec<String> = opens
            .iter()
            .map(|o| format!("{} for {}", policy.door(o.door).name, show(o.open_for)))
            .collect();
        let rights = rights.join(", ");
        let single = if once { ", one connection each" } else { "" };
        let mut chain = Chain::new(Opens::name(number), &[&format!("Grants {rights}{single}.")]);
        let granted = if once { Kept::Once } else { Kept::Grants };
        for family in Family::BOTH {
            let prefix = prefix(policy.grant, family);
            let (opened, grants) = (
                set_name(Kept::Opened, family, prefix),
                set_name(granted, family, prefix),
            );
            let saddr = family.saddr();
            let source = source(policy.grant, family);
            let updates: Vec<String> = opens
                .iter()
                .map(|opening| {
                    let door = classid(policy.door(opening.door).name.id());
                    let lasting = time(opening.open_for);
                    format!(
                        "update @{opened} {{ {saddr} . {door} . meta priority timeout {lasting} }} \
                         update @{grants} {{ {source} . {door} timeout {lasting} }}"
                    )
                })
                .collect();
            let comment: String = rights.chars().take(LONGEST_COMMENT).collect();
            chain.rule(format!(
                "{} return comment \"{comment}\"",
                updates.join(" ")
            ));
        }
        chain.note("No room: nothing is granted.");
        forget(&mut chain);
        chain.rule("goto leave");
        chain
    }
}

/// nft's limit for a comment is 128 bytes.
const LONGEST_COMMENT: usize = 120;

fn logged(policy: &Policy, door: &str, key: &Key) -> String {
    let prefix = format!("toctoc: opened door={door} key={} ", key.name);
    match policy.log {
        Log::Kernel => format!(" log prefix \"{prefix}\" level info"),
        Log::Nflog(group) => format!(" log prefix \"{prefix}\" group {group}"),
        Log::Off => String::new(),
    }
}

fn moment(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map_or_else(|_| seconds.to_string(), |t| t.to_string())
}
