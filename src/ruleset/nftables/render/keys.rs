//! The effect of a complete sequence: one chain for each kind of rights, and one of two or three rules for
//! each key.

use super::chains::forget;
use super::extend;
use super::limits;
use super::source;
use super::tokens;
use crate::automaton::State;
use crate::knock::Knock;
use crate::policy::{Fleet, Key, KeyKind, Log, Opening, Policy, scratch_id, show};
use crate::ruleset::Family;
use crate::ruleset::log_prefix;
use crate::ruleset::nftables::SetId::{Burning, Burnt};
use crate::ruleset::nftables::script::{Chain, time};
use crate::ruleset::nftables::{
    SetId, classid, counter, key_chain, scratch_chain, scratch_key_chain,
};

/// A key's own chain: who it is, what it may open, and what is counted and logged when that worked.
pub(super) fn key_of(policy: &Policy, key: &Key, after: State, opens: &str) -> Chain {
    let done = format!("meta priority set {} goto remember", classid(after.0));
    chain_of(policy, key, opens, &done)
}

/// The same for a token: a datagram that has opened is dropped.
pub(super) fn token_key_of(policy: &Policy, key: &Key, opens: &str) -> Chain {
    chain_of(policy, key, opens, tokens::done(policy))
}

/// Returns whether a scratch sequence is used up. Of two sources that complete it at the same moment only one
/// gets on.
pub(super) fn scratch_of(key: &Key, number: usize, knocks: &[Knock], after: State) -> Chain {
    let about = format!("Sequence {} of {}: used up?", number + 1, key.name);
    let mut chain = Chain::new(scratch_chain(&key.name, number), &[&about]);
    let id = classid(scratch_id(knocks));
    let lost = format!("meta priority set {} goto remember", classid(after.0));
    let own = scratch_key_chain(&key.name, number);
    chain.rule(format!("meta priority set {id}"));
    chain.rule(format!("meta priority @{Burnt} {lost}"));
    chain.rule(format!(
        "add @{Burning} {{ meta priority timeout 1h limit rate 1/week burst 1 packets }} \
         add @{Burnt} {{ meta priority }} goto {own}"
    ));
    chain.rule(lost);
    chain
}

/// The chain of a scratch sequence that has just been used up.
pub(super) fn scratch_key_of(
    policy: &Policy,
    key: &Key,
    number: usize,
    after: State,
    opens: &str,
) -> Chain {
    Chain {
        name: scratch_key_chain(&key.name, number),
        ..key_of(policy, key, after, opens)
    }
}

fn chain_of(policy: &Policy, key: &Key, opens: &str, done: &str) -> Chain {
    let doors: Vec<&str> = key
        .opens
        .iter()
        .map(|o| policy.door(o.door).name.as_str())
        .collect();
    let about = format!("Key {}: opens {}.", key.name, doors.join(" and "));
    let mut chain = Chain::new(key_chain(&key.name), &[&about]);
    if let Some(end) = key.expires {
        chain.note(format!("Expired from {} on.", moment(end)));
        chain.rule(format!("meta time >= {end} {done}"));
    }
    let id = classid(key.name.id());
    chain.rule(format!("meta priority set {id} jump {opens}"));
    if policy.log == Log::Kernel {
        // A source that is not to be told of comes back with another priority.
        for rule in logs(&doors, key, &["level info".to_string()]) {
            chain.rule(format!("meta priority {id} {rule}"));
        }
    }
    // Programs that listen hear of every opening.
    let told = logs(&doors, key, &groups(policy));
    let (last, others) = match told.split_last() {
        Some((last, others)) => (format!(" {last}"), others),
        None => (String::new(), &[][..]),
    };
    for rule in others {
        chain.rule(rule);
    }
    let counter = counter(&key.name);
    chain.rule(format!("counter name \"{counter}\"{last} {done}"));
    chain
}

/// Returns to a key's chain; with another priority where the kernel's log is not told of the source again. Where the set
/// is full, it is.
pub(super) fn told() -> Chain {
    let about = "No source fills the kernel's log. Its first opening is always told.";
    let mut chain = Chain::new(TOLD, &[about]);
    for family in Family::BOTH {
        let (saddr, logged, limit) = (
            family.saddr(),
            SetId::Logged.of_family(family),
            limits::lines(),
        );
        chain.rule(format!(
            "update @{logged} {{ {saddr} . meta priority limit rate over {limit} }} meta priority set 0:0 return"
        ));
    }
    chain
}

const TOLD: &str = "told";

/// The end of a chain that has granted what it should.
fn granted(policy: &Policy) -> String {
    match policy.log {
        Log::Kernel => format!("goto {TOLD}"),
        Log::Nflog(_) | Log::Off => "return".to_string(),
    }
}

/// Where programs listen.
fn groups(policy: &Policy) -> Vec<String> {
    let own = match policy.log {
        Log::Nflog(group) => Some(group),
        Log::Kernel | Log::Off => None,
    };
    // Those who read the log are not disturbed: one program at a time can listen to a group.
    let fleet = policy.fleet.as_ref().map(|Fleet { group, .. }| *group);
    let groups = own.into_iter().chain(fleet);
    groups.map(|group| format!("group {group}")).collect()
}

/// The rules that tell of an opening of these doors at each of some places.
fn logs(doors: &[&str], key: &Key, places: &[String]) -> Vec<String> {
    let each = doors.iter().flat_map(|door| {
        let prefix = log_prefix::whole(door, key.name.as_str());
        places
            .iter()
            .map(move |place| format!("log prefix \"{prefix}\" {place}"))
    });
    let each: Vec<String> = each.collect();
    let rules = each.chunks(LOGS_PER_RULE);
    rules.map(|some| some.join(" ")).collect()
}

/// Far below the 128 expressions of a rule.
const LOGS_PER_RULE: usize = 32;

/// The rights of keys: keys with the same rights share one chain.
pub(super) struct Opens<'p>(pub Vec<Rights<'p>>);

#[derive(Clone, Copy, PartialEq)]
pub(super) struct Rights<'p> {
    opens: &'p [Opening],
    once: bool,
    /// `true` if the packet had a token.
    token: bool,
}

impl<'p> Opens<'p> {
    pub fn of(policy: &'p Policy) -> (Opens<'p>, Vec<usize>) {
        let mut kinds: Vec<Rights<'p>> = Vec::new();
        let numbers = policy
            .keys
            .iter()
            .map(|key| {
                let kind = Rights {
                    opens: &key.opens,
                    once: key.once,
                    token: matches!(key.kind, KeyKind::Token(_) | KeyKind::Signed(_)),
                };
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
    /// (a full set ends a rule) nothing more is granted, and nothing counted or logged. Many doors take a chain for
    /// every few of them, and one that calls those in turn: the kernel takes no more than 16 calls within
    /// one another.
    pub fn chains(&self, number: usize, policy: &Policy) -> Vec<Chain> {
        let rights = self.0[number];
        let name = Opens::name(number);
        let parts: Vec<&[Opening]> = rights.opens.chunks(DOORS_PER_RULE).collect();
        let [part] = parts.as_slice() else {
            let mut all = Chain::new(&name, &[&format!("Grants {} doors.", rights.opens.len())]);
            limits::no_more_than_a_share(
                &mut all,
                policy,
                rights.opens,
                refused(policy, rights.token),
            );
            let mut chains = Vec::new();
            for (index, part) in parts.into_iter().enumerate() {
                let own = format!("{name}-{}", index + 1);
                all.rule(format!("jump {own}"));
                chains.push(grant(policy, Chain::new(own, &[]), part, rights, "return"));
            }
            all.rule(granted(policy));
            chains.insert(0, all);
            return chains;
        };
        let mut chain = Chain::new(name, &[]);
        limits::no_more_than_a_share(&mut chain, policy, part, refused(policy, rights.token));
        vec![grant(policy, chain, part, rights, &granted(policy))]
    }
}

/// A rule has room for 128 expressions and a comment of 128 bytes; two doors with the longest names
/// fit both.
const DOORS_PER_RULE: usize = 2;

/// Grants some doors and ends as `done` says, or forgets and leaves.
fn grant(
    policy: &Policy,
    mut chain: Chain,
    opens: &[Opening],
    Rights { once, token, .. }: Rights<'_>,
    done: &str,
) -> Chain {
    let rights: Vec<String> = opens
        .iter()
        .map(|o| format!("{} for {}", policy.door(o.door).name, show(o.open_for)))
        .collect();
    let rights = rights.join(", ");
    let single = if once { ", one connection each" } else { "" };
    chain.comment = vec![format!("Grants {rights}{single}.")];
    let granted = if once { SetId::Once } else { SetId::Grants };
    for family in Family::BOTH {
        let prefix = family.prefix_of(policy.grant);
        let (opened, grants) = (
            SetId::Opened.of_family(family),
            granted.of_network(family, prefix),
        );
        let saddr = family.saddr();
        let source = source(policy.grant, family);
        let updates: Vec<String> = opens
            .iter()
            .map(|opening| {
                let door = classid(policy.door(opening.door).name.id());
                let lasting = time(opening.open_for);
                let recorded = time(policy.longest(opening));
                let stay = extend::opening(policy, opening, family);
                // A new grant may be claimed anew.
                let unclaimed = match once {
                    true => format!(
                        "delete @{} {{ {source} . {door} }} ",
                        SetId::Claim.of_family(family)
                    ),
                    false => String::new(),
                };
                format!(
                    "update @{opened} {{ {saddr} . {door} . meta priority timeout {recorded} }} \
                     {unclaimed}{stay}update @{grants} {{ {source} . {door} timeout {lasting} }}"
                )
            })
            .collect();
        let updates = updates.join(" ");
        chain.rule(format!("{updates} {done} comment \"{rights}\""));
    }
    chain.note("The set is full.");
    chain.rule(refused(policy, token));
    chain
}

/// The verdict on a packet that has completed a sequence, or had a token, and is granted nothing.
fn refused(policy: &Policy, token: bool) -> &'static str {
    match token {
        true => tokens::done(policy),
        false => "goto crowded",
    }
}

/// The end of a sequence for which there is no room.
pub(super) fn crowded() -> Chain {
    let mut chain = Chain::new("crowded", &["No room: nothing is granted."]);
    forget(&mut chain);
    chain.rule("goto leave");
    chain
}

fn moment(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map_or_else(|_| seconds.to_string(), |t| t.to_string())
}
