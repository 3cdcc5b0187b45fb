//! The findings, in the words of the policy.

use super::super::noted::Noted;
use super::interfaces::Guard;
use super::observe::Observed;
use super::{
    DoorStatus, GrantStatus, KeyStatus, ProgressStatus, ScratchStatus, Status, TokenStatus,
};
use crate::automaton::{Automaton, Place, State};
use crate::held::{Drift, Grant, Progress};
use crate::knock::display_source;
use crate::policy::{Backend, HostFirewall, Key, KeyKind, Name, Policy};
use crate::ruleset::{iptables, nftables};
use std::collections::HashMap;
use std::time::Duration;

/// The tokens of a key, if it has any and they were counted; `end` is when it expires, in seconds from now.
fn token_status(
    policy: &Policy,
    key: &Key,
    loaded: Option<&HashMap<u32, (usize, Duration)>>,
    end: Option<Duration>,
) -> Option<TokenStatus> {
    let KeyKind::Token(secret) = &key.kind else {
        return None;
    };
    let (number, last) = loaded?.get(&secret.id()).copied().unwrap_or_default();
    let wanted = policy.token_horizon / 4;
    Some(TokenStatus {
        loaded: number,
        last_for: last.as_secs_f64(),
        low: last < end.map_or(wanted, |end| end.min(wanted)),
    })
}

/// Puts what was seen into the policy's words. Pure.
pub(super) fn status(
    policy: &Policy,
    automaton: &Automaton,
    observed: Observed,
    guard: Guard,
    now: i64,
) -> Status {
    let Observed {
        applied,
        guarded,
        other,
        drifts,
        rules_differ,
        doors,
        grants,
        elsewhere,
        progress: entries,
        opened,
        wrong,
        shut_out,
        tokens,
        used_up,
        wait,
    } = observed;
    let waiting = wait.map(|wait| wait.to_string());
    let crowded = no_room(policy, &grants);
    let granted = |name: &Name| {
        let own = grants.iter().filter(|grant| grant.door == name.id());
        let others = elsewhere.iter().filter(|grant| grant.door == name.id());
        let others = others.map(|grant| GrantStatus {
            elsewhere: true,
            ..grant_status(policy, grant)
        });
        own.map(|grant| grant_status(policy, grant))
            .chain(others)
            .collect()
    };
    let is_open = guard.is_open();
    let by_the_other = |index: usize| {
        let guarded = !is_open && other.as_ref().is_some_and(|doors| doors[index]);
        let name = match policy.backend {
            Backend::Nftables => Backend::Iptables.name(),
            Backend::Iptables => Backend::Nftables.name(),
        };
        guarded.then(|| name.to_string())
    };
    let by_own = |guards: bool| (guards && !is_open).then(|| policy.backend.name().to_string());
    let own = |index: usize| by_own(guarded.get(index).copied().unwrap_or(applied));
    let known = policy.doors.iter().enumerate();
    let known = known.map(|(index, door)| DoorStatus {
        name: door.name.to_string(),
        ports: door.ports.iter().map(|port| port.to_string()).collect(),
        in_policy: true,
        guarded_by: own(index).or_else(|| by_the_other(index)),
        trust: door.trust.iter().map(display_source).collect(),
        grants: granted(&door.name),
    });
    let others = doors.iter().filter_map(|name| Name::new(name));
    let others = others.filter(|name| policy.doors.iter().all(|door| door.name != *name));
    let others = others.map(|name| DoorStatus {
        name: name.to_string(),
        ports: Vec::new(),
        in_policy: false,
        guarded_by: by_own(applied),
        trust: Vec::new(),
        grants: granted(&name),
    });
    let doors = known.chain(others);
    let progress = entries.iter().filter_map(|entry| {
        let Some(Place::Midway { knocks, keys }) = automaton.place(State(entry.state)) else {
            return None;
        };
        Some(ProgressStatus {
            source: entry.source.to_string(),
            expires_in: entry.expires_in.as_secs_f64(),
            knocks: *knocks,
            keys: keys
                .iter()
                .map(|&key| policy.key(key).name.to_string())
                .collect(),
        })
    });
    Status {
        backend: policy.backend.name().to_string(),
        matches_policy: drifts.is_empty(),
        applied: applied || other.as_ref().is_some_and(|doors| doors.contains(&true)),
        missing_interfaces: guard.missing,
        guarded_on: guard.on,
        not_guarded_on: guard.not_on,
        open_on: guard.open_on,
        gaps: guard.gaps,
        noted: Noted::default(),
        fleet: None,
        warnings: guard
            .notes
            .into_iter()
            .chain(waiting)
            .chain(crowded)
            .collect(),
        doors: doors.collect(),
        allowed: policy.firewall.as_ref().map(HostFirewall::words),
        // States are only meaningful in the automaton that numbered them.
        progress: if drifts.is_empty() {
            progress.collect()
        } else {
            nameless(&entries)
        },
        keys: policy
            .keys
            .iter()
            .zip(opened.into_iter().chain(std::iter::repeat(0)))
            .map(|(key, opened)| KeyStatus {
                name: key.name.to_string(),
                opened,
                expired: key.expired(now),
                tokens: token_status(policy, key, tokens.as_ref(), left_of(key, now)),
                scratch: used_up.as_ref().and_then(|used_up| {
                    Some(ScratchStatus {
                        left: key.scratch_left(used_up)?,
                        of: key.sequences().len(),
                    })
                }),
            })
            .collect(),
        wrong,
        shut_out,
        differences: match policy.backend {
            Backend::Nftables => nftables::meanings(&drifts, policy, automaton),
            Backend::Iptables => iptables::meanings(&drifts, policy),
        },
        drift: drifts.iter().map(Drift::to_string).collect(),
        rules_differ,
        max_sources: policy.max_sources,
    }
}

/// Says so where nobody new gets in, for want of room. (A list of iptables drops its oldest entry instead.)
fn no_room(policy: &Policy, grants: &[Grant]) -> Option<String> {
    let most = policy.max_sources;
    let is_full = |is_v4: bool| {
        let of_family = grants
            .iter()
            .filter(|grant| grant.source.addr().is_ipv4() == is_v4);
        of_family.count() >= most as usize
    };
    let is_full = policy.backend == Backend::Nftables && (is_full(true) || is_full(false));
    is_full.then(|| {
        format!(
            "NO ROOM for more grants: all {most} (`max_sources`) are given, and right knocks open nothing; \
             `toctoc close` ends grants, a larger `max_sources` makes room"
        )
    })
}

/// The time until a key expires.
fn left_of(key: &Key, now: i64) -> Option<Duration> {
    let left = key.expires?.saturating_sub(now);
    Some(Duration::from_secs(u64::try_from(left).unwrap_or(0)))
}

fn grant_status(policy: &Policy, grant: &Grant) -> GrantStatus {
    let by = grant.opened_by;
    let mut names = policy.keys.iter().map(|key| &key.name);
    let key = by.and_then(|by| names.find(|name| name.id() == by.key));
    GrantStatus {
        source: display_source(&grant.source),
        key: key.map(|name| name.to_string()),
        by_hand: by.is_some_and(|by| by.by_hand()),
        once: grant.once,
        elsewhere: false,
        host: None,
        expires_in: grant.expires_in.as_secs_f64(),
    }
}

/// Progress when the kernel runs another automaton than the policy's: who, but not how far.
fn nameless(entries: &[Progress]) -> Vec<ProgressStatus> {
    let entries = entries.iter().map(|entry| ProgressStatus {
        source: entry.source.to_string(),
        expires_in: entry.expires_in.as_secs_f64(),
        knocks: 0,
        keys: Vec::new(),
    });
    entries.collect()
}
