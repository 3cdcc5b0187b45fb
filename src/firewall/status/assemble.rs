//! The findings, in the words of the policy.

use super::super::noted::Noted;
use super::super::tokens::Wait;
use super::interfaces::Guard;
use super::other::of_the_other;
use super::{
    DoorStatus, GrantStatus, KeyStatus, ProgressStatus, ScratchStatus, Status, TokenStatus,
};
use crate::automaton::{Automaton, Place, State};
use crate::held::{Drift, Glance, Grant, Guests, Held, Presence, Progress, TokenCount};
use crate::knock::display_source;
use crate::policy::{
    Behind, Door, DoorIndex, HostFirewall, Key, KeyKind, Name, Policy, Reach, Target,
};
use crate::ruleset::meanings;
use crate::single_use::Journal;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::Duration;

/// The findings beyond a glance.
#[derive(Default)]
pub(super) struct Findings {
    drifts: Vec<Drift>,
    rules_differ: bool,
    /// For each door of the policy, `true` if the backend that it does not use guards it. `None` when that has no rules.
    other: Option<Vec<bool>>,
    tokens: Option<HashMap<u32, TokenCount>>,
    /// The scratch sequences that open no more, where that is known.
    pub used_up: Option<BTreeSet<u32>>,
    wait: Option<Wait>,
}

impl Findings {
    /// Holds what the kernel has against the policy and the journal. `other` are the doors that the other backend guards.
    pub fn of(
        policy: &Policy,
        held: &Held,
        journal: Option<Journal>,
        other: Option<Vec<bool>>,
        now: i64,
    ) -> Findings {
        let before = journal.iter().flat_map(|journal| &journal.burnt);
        let used_up = held.burnt.as_ref().map(|burnt| burnt.iter().chain(before));
        let mut findings = Findings {
            drifts: held.drifts.clone(),
            rules_differ: held.rules_differ,
            tokens: held.tokens.clone(),
            used_up: used_up.map(|ids| ids.copied().collect()),
            ..Findings::default()
        };
        if let Some(journal) = journal.filter(|_| held.glance.rules != Presence::Absent) {
            if held.glance.rules == Presence::Guard {
                findings.drifts.extend(revived(&journal, policy, held));
            }
            findings.wait = wait(journal, policy, now);
        }
        if let Some(doors) = other {
            let drift = of_the_other(policy.backend, held.glance.rules);
            findings.drifts.push(drift);
            findings.other = Some(doors);
        }
        findings
    }
}

/// Scratch sequences that were used up and could open again: somebody has flushed what remembers them.
fn revived(journal: &Journal, policy: &Policy, held: &Held) -> Option<Drift> {
    let is_there = |id: &u32| held.burnt.as_ref().is_some_and(|burnt| burnt.contains(id));
    let ours = policy.scratch_ids();
    let used_up = journal.burnt.intersection(&ours);
    let missing = used_up.filter(|id| !is_there(id)).count();
    let what = "scratch sequences less than were used up (`toctoc refill` adds them)";
    (missing > 0).then(|| Drift::new("set burnt", format!("has {missing} {what}")))
}

/// Why tokens of the policy do not open yet.
fn wait(mut journal: Journal, policy: &Policy, now: i64) -> Option<Wait> {
    let secrets = policy.token_keys();
    let barred = secrets.filter_map(|(_, secret)| journal.barred_for(secret.id()));
    let barred = barred.max();
    Wait::of(&journal, barred, now)
}

/// The tokens of a key, if it has any and they were counted; `end` is when it expires, in seconds from now.
fn token_status(
    policy: &Policy,
    key: &Key,
    loaded: Option<&HashMap<u32, TokenCount>>,
    end: Option<Duration>,
) -> Option<TokenStatus> {
    let KeyKind::Token(secret) = &key.kind else {
        return None;
    };
    let TokenCount { number, last } = loaded?.get(&secret.id()).copied().unwrap_or_default();
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
    seen: &Glance,
    findings: Findings,
    guard: Guard,
    now: i64,
) -> Status {
    let Findings {
        drifts,
        rules_differ,
        other,
        tokens,
        used_up,
        wait,
    } = findings;
    let applied = seen.rules == Presence::Guard;
    let (grants, elsewhere) = (&seen.guests.grants, &seen.guests.elsewhere);
    let counts = &seen.counts;
    let waiting = wait.map(|wait| wait.to_string());
    let crowded = no_room(policy, &seen.guests);
    let granted = |name: &Name| {
        let own = grants.iter().filter(|grant| grant.door == name.door_id());
        let others = elsewhere
            .iter()
            .filter(|grant| grant.door == name.door_id());
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
        guarded.then(|| policy.backend.other().name().to_string())
    };
    let by_own = |guards: bool| (guards && !is_open).then(|| policy.backend.name().to_string());
    let guarded = seen.guarded.as_ref();
    let own = |index: usize| by_own(guarded.map_or(applied, |guarded| guarded[index]));
    let known = policy.doors.iter().enumerate();
    let known = known.map(|(index, door)| DoorStatus {
        name: door.name.to_string(),
        ports: door.ports_shown(),
        every_port: door.reach == Reach::EveryPort,
        to: door.behind().map(Behind::shown).unwrap_or_default(),
        forward: forward(door),
        in_policy: true,
        guarded_by: own(index).or_else(|| by_the_other(index)),
        trust: door.trusted(),
        addresses: BTreeMap::new(),
        grants: granted(&door.name),
        with_every_port: with_every_port(policy, DoorIndex(index), &seen.guests),
    });
    let others = seen.doors.iter();
    let others = others.filter(|name| policy.doors.iter().all(|door| door.name != **name));
    let others = others.map(|name| DoorStatus {
        name: name.to_string(),
        guarded_by: by_own(applied),
        grants: granted(name),
        ..DoorStatus::default()
    });
    let doors = known.chain(others);
    let progress = seen.progress.iter().filter_map(|entry| {
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
            nameless(&seen.progress)
        },
        keys: policy
            .keys
            .iter()
            .map(|key| KeyStatus {
                name: key.name.to_string(),
                opened: counts.opened.get(&key.name).copied().unwrap_or_default(),
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
        wrong: counts.wrong,
        shut_out: counts.shut_out,
        differences: meanings(&drifts, policy, automaton),
        drift: drifts.iter().map(Drift::to_string).collect(),
        rules_differ,
        max_sources: policy.max_sources,
    }
}

/// The places to which a door passes connections on.
fn forward(door: &Door) -> Vec<String> {
    let targets = door.forward.iter().flat_map(|forward| &forward.to);
    targets.map(Target::to_string).collect()
}

/// The sources without a grant for a door that the door of every port lets in there.
fn with_every_port(policy: &Policy, door: DoorIndex, guests: &Guests) -> Vec<String> {
    let holders = |door: DoorIndex| -> BTreeSet<_> {
        let id = policy.door(door).name.door_id();
        let all = guests.grants.iter().chain(&guests.elsewhere);
        let held = all.filter(|grant| grant.door == id);
        held.map(|grant| grant.source).collect()
    };
    let own = holders(door);
    let others = policy.asked_for(door).filter(|asked| *asked != door);
    let all: BTreeSet<_> = others.flat_map(holders).collect();
    all.difference(&own).map(display_source).collect()
}

/// Says so where nobody new gets in, for want of room.
fn no_room(policy: &Policy, guests: &Guests) -> Option<String> {
    let most = policy.max_sources;
    let is_full = |is_v4: bool| {
        let of_family = |address: IpAddr| address.is_ipv4() == is_v4;
        let grants = guests.grants.iter();
        let grants = grants
            .filter(|grant| of_family(grant.source.addr()))
            .count();
        // Where grants stay while they are used, each opening is noted for longer than its grant may last.
        let noted = guests
            .opened
            .iter()
            .filter(|opened| of_family(opened.source));
        let noted = noted.filter(|_| policy.has_extensions()).count();
        grants.max(noted) >= most as usize
    };
    let is_full = policy.backend.refuses_when_full() && (is_full(true) || is_full(false));
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
    let key = by.and_then(|by| names.find(|name| name.key_id() == by.key));
    GrantStatus {
        source: display_source(&grant.source),
        key: key.map(|name| name.to_string()),
        by_hand: by.is_some_and(|by| by.by_hand()),
        once: grant.once,
        elsewhere: false,
        host: None,
        expires_in: grant.expires_in.as_secs_f64(),
        extendable_for: grant.stay.map(|stay| stay.at_most.as_secs_f64()),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::held::Tally;

    const POLICY: &str = "[door.ssh]\nports = [22]\n[door.web]\nports = [443]\n\
                          [key.yves]\nopens = ['ssh']\nsequence = [4431, 2387, 920]\n";

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    /// A grant for a door that the policy has and one for a door that it has not; a source after its first knock.
    fn held() -> Held {
        let expires_in = Duration::from_secs(50);
        let grant = |door: &str| Grant {
            source: "192.0.2.7/32".parse().unwrap(),
            door: name(door).door_id(),
            once: false,
            opened_by: None,
            expires_in,
            is_endless: false,
            stay: None,
        };
        let glance = Glance {
            rules: Presence::Guard,
            guarded: None,
            doors: ["old", "ssh", "web"].map(name).to_vec(),
            guests: Guests {
                grants: vec![grant("old"), grant("ssh")],
                elsewhere: vec![grant("web")],
                ..Guests::default()
            },
            progress: vec![Progress {
                source: "192.0.2.9".parse().unwrap(),
                state: 1,
                expires_in,
            }],
            counts: Tally {
                opened: [(name("yves"), 3), (name("gone"), 5)].into(),
                wrong: 7,
                shut_out: 9,
            },
        };
        Held {
            glance,
            ..Held::default()
        }
    }

    /// The same values of either backend give the same words.
    fn words(held: &Held, other: Option<Vec<bool>>) -> Status {
        let of = |backend: &str| {
            let text = format!("backend = \"{backend}\"\n{POLICY}");
            let policy = crate::policy::read("p", &text).unwrap();
            let automaton = Automaton::build(policy.sequences());
            let findings = Findings::of(&policy, held, None, other.clone(), 0);
            let seen = &held.glance;
            status(&policy, &automaton, seen, findings, Guard::default(), 0)
        };
        let (status, iptables) = (of("nftables"), of("iptables"));
        let doors = |status: &Status| {
            let text = serde_json::to_string(&(&status.doors, &status.keys, &status.progress));
            text.unwrap()
                .replace("nftables", "B")
                .replace("iptables", "B")
        };
        assert_eq!(doors(&status), doors(&iptables));
        status
    }

    /// For each door, its backend and the number of its grants.
    fn doors(status: &Status) -> Vec<(&str, Option<&str>, usize)> {
        let doors = status.doors.iter();
        let doors = doors.map(|d| (&*d.name, d.guarded_by.as_deref(), d.grants.len()));
        doors.collect()
    }

    #[test]
    fn what_is_held_is_said_in_the_words_of_the_policy() {
        let status = words(&held(), None);
        assert!(status.applied && status.matches_policy);
        let own = Some("nftables");
        let all = [("ssh", own, 1), ("web", own, 1), ("old", own, 1)];
        assert_eq!(doors(&status), all);
        assert!(status.doors[1].grants[0].elsewhere && !status.doors[2].in_policy);
        assert_eq!((status.wrong, status.shut_out), (7, 9));
        assert_eq!((status.keys.len(), status.keys[0].opened), (1, 3));
        assert_eq!(status.progress[0].knocks, 1);
        assert_eq!(status.progress[0].keys, ["yves"]);
    }

    /// A source that holds a grant for every port gets in at each door of this host, and at no door in front of another.
    #[test]
    fn a_grant_for_every_port_is_told_at_each_door_of_this_host() {
        let text = "[firewall]\ndefault = \"drop\"\n[door.old]\nports = \"all\"\n[door.ssh]\nports = [22]\n\
            [door.web]\nports = [443]\n[door.nas]\nports = [443]\nto = [\"192.0.2.50\"]\n";
        let policy = crate::policy::read("p", text).unwrap_or_else(|report| panic!("{report}"));
        let told = |guests: &Guests| -> Vec<Vec<String>> {
            let doors = policy.door_indices();
            doors
                .map(|door| with_every_port(&policy, door, guests))
                .collect()
        };
        let mut guests = held().glance.guests;
        let source = vec!["192.0.2.7".to_string()];
        let (all, none) = (source.clone(), Vec::new());
        // It holds one for ssh itself, and from elsewhere one for web.
        assert_eq!(told(&guests), [&none, &none, &none, &none].map(Vec::clone));
        guests.elsewhere.clear();
        assert_eq!(told(&guests), [&none, &none, &all, &none].map(Vec::clone));
        guests
            .grants
            .retain(|grant| grant.door != name("old").door_id());
        assert_eq!(told(&guests), [&none, &none, &none, &none].map(Vec::clone));
    }

    /// Whatever is not sure is not said: a door that rules do not guard, and how far a source is in another automaton.
    #[test]
    fn a_difference_takes_back_what_it_makes_unsure() {
        let mut held = held();
        held.drifts = vec![Drift::new("chain judge", "has been flushed")];
        held.rules_differ = true;
        held.glance.guarded = Some(vec![false, true]);
        let status = words(&held, None);
        assert!(status.applied && !status.matches_policy && status.rules_differ);
        assert_eq!(status.drift, ["chain judge has been flushed"]);
        assert_eq!(doors(&status)[0], ("ssh", None, 1));
        assert_eq!(doors(&status)[1], ("web", Some("nftables"), 1));
        assert_eq!(
            (status.progress[0].knocks, status.progress[0].keys.len()),
            (0, 0)
        );
    }

    #[test]
    fn nothing_held_is_nothing_applied_unless_the_other_backend_guards() {
        let nothing = Held::default();
        let status = words(&nothing, None);
        assert!(!status.applied);
        assert_eq!(doors(&status), [("ssh", None, 0), ("web", None, 0)]);
        let status = words(&nothing, Some(vec![true, false]));
        assert!(status.applied && !status.matches_policy);
        assert_eq!(doors(&status)[0].1, Some("iptables"));
        assert_eq!(doors(&status)[1].1, None);
        let dormant = Glance {
            rules: Presence::Idle,
            ..held().glance
        };
        let status = words(
            &Held {
                glance: dormant,
                ..nothing
            },
            None,
        );
        assert!(!status.applied && doors(&status).iter().all(|door| door.1.is_none()));
    }
}
