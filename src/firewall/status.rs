//! `kernel --observe--> Status`: doors, grants, progress, openings, and whether the kernel still
//! holds what the policy says.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::noted::Noted;
use super::state_file::Kept;
use super::tokens::Wait;
use super::{Failure, Firewall, Iptables, apply_iptables};
use crate::automaton::{Automaton, Place, State};
use crate::knock::{Knock, display_source};
use crate::policy::{Backend, Interfaces, Key, KeyKind, Name, Policy};
use crate::ruleset::iptables::{self, Saved};
use crate::ruleset::nftables::{Listing, burnt, compare, loaded, render, strange, strange_tokens};
use crate::ruleset::{Drift, Grant, Progress};
use crate::single_use::Journal;

/// All there is to see, in the words of the policy. Serialized as it stands for `--json`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Status {
    /// `nftables` or `iptables`, as the policy says.
    pub backend: String,
    /// Whether the kernel holds what the file of the policy says.
    pub matches_policy: bool,
    /// Whether a ruleset of ours is in the kernel at all, this backend's or the other's. If not, every
    /// door is open to everyone.
    pub applied: bool,
    /// What differs, one sentence each.
    pub drift: Vec<String>,
    pub doors: Vec<DoorStatus>,
    /// With `[firewall]`, the ports that are open to everyone; everything else is dropped.
    pub allowed: Option<Vec<String>>,
    pub progress: Vec<ProgressStatus>,
    pub keys: Vec<KeyStatus>,
    pub max_sources: u32,
    /// Interfaces that the policy names and this host does not have now.
    pub missing_interfaces: Vec<String>,
    /// Where nothing is guarded although the policy names it, and why tokens do not open yet; one
    /// sentence each.
    pub warnings: Vec<String>,
    /// What is noted of the policy, its file and its trial.
    pub noted: Noted,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct DoorStatus {
    pub name: String,
    /// Empty for a door that the kernel guards and this policy does not know.
    pub ports: Vec<String>,
    pub in_policy: bool,
    /// The backend whose rules guard it: `null` if none do, it is open to everyone then.
    pub guarded_by: Option<String>,
    /// Sources that never need to knock.
    pub trust: Vec<String>,
    pub grants: Vec<GrantStatus>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct GrantStatus {
    /// An address, or a network where grants are by prefix.
    pub source: String,
    /// `null` for a grant by hand, or when nobody knows.
    pub key: Option<String>,
    pub by_hand: bool,
    pub once: bool,
    /// Seconds, to the second below.
    pub expires_in: f64,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct ProgressStatus {
    pub source: String,
    pub expires_in: f64,
    /// How many knocks are done.
    pub knocks: usize,
    /// The keys whose sequences begin with them.
    pub keys: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct KeyStatus {
    pub name: String,
    /// How often it has opened since the table was made.
    pub opened: u64,
    pub expired: bool,
    /// `null` for a key without tokens.
    pub tokens: Option<TokenStatus>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct TokenStatus {
    /// How many the kernel holds, of this minute and later ones.
    pub loaded: usize,
    /// Seconds until the last of them ends.
    pub last_for: f64,
    /// They last for less than a quarter of what they should: the timer has not come for hours.
    pub low: bool,
}

impl Status {
    /// Whether some key is about to run out of tokens.
    pub fn tokens_low(&self) -> bool {
        let mut tokens = self.keys.iter().filter_map(|key| key.tokens.as_ref());
        tokens.any(|tokens| tokens.low)
    }
}

/// What the kernel holds, of whatever backend.
#[derive(Default)]
struct Observed {
    applied: bool,
    /// What of the policy's doors the other backend guards, in their order, if it has rules at all.
    other: Option<Vec<bool>>,
    drifts: Vec<Drift>,
    doors: Vec<String>,
    grants: Vec<Grant>,
    progress: Vec<Progress>,
    /// How often each key of the policy has opened, in its order.
    opened: Vec<u64>,
    /// How many tokens each [secret](crate::single_use::Secret::id) has, and how long the last lasts.
    tokens: HashMap<u32, (usize, Duration)>,
    wait: Option<Wait>,
}

/// Reads the kernel and holds it against the policy. `now` is in seconds since 1970.
///
/// # Errors
/// When the kernel could not be read.
pub fn observe(firewall: &Firewall, policy: &Policy, now: i64) -> Result<Status, Failure> {
    let automaton = Automaton::build(policy.sequences());
    let mut observed = match policy.backend {
        Backend::Nftables => observe_nftables(firewall, policy, &automaton, now)?,
        Backend::Iptables => observe_iptables(firewall.iptables, policy, &automaton)?,
    };
    if let Some(doors) = guarded_by_the_other(firewall, policy)? {
        let drift = of_the_other(policy.backend, observed.applied);
        observed.drifts.push(drift);
        observed.other = Some(doors);
    }
    Ok(status(policy, &automaton, observed, now))
}

fn observe_nftables(
    firewall: &Firewall,
    policy: &Policy,
    automaton: &Automaton,
    now: i64,
) -> Result<Observed, Failure> {
    let nft = &firewall.nft;
    let journal = match firewall.state.read() {
        Kept::Journal(journal) if policy.is_single_use() => Some(journal),
        _ => None,
    };
    let script = render(policy, automaton);
    let (listing, expected) = thread::scope(|scope| {
        let expected = scope.spawn(|| nft.list_fresh(&script));
        (nft.list(), expected.join())
    });
    let Some(listing) = listing? else {
        let drifts = vec![table_missing()];
        let nothing = Observed {
            drifts,
            ..Observed::default()
        };
        return Ok(nothing);
    };
    let drifts = if listing.dormant {
        let what = "is dormant and guards no door (`toctoc apply` wakes it)";
        vec![Drift::new("table inet toctoc", what)]
    } else {
        let expected = expected.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        let mut drifts = compare(&expected, &listing);
        drifts.extend(strange(policy, &listing));
        drifts.extend(strange_tokens(policy, &listing, now));
        drifts.extend(revived(journal.as_ref(), policy, &listing));
        drifts
    };
    Ok(Observed {
        applied: !listing.dormant,
        drifts,
        wait: journal.and_then(|journal| wait(journal, policy, now)),
        ..nftables(policy, &listing)
    })
}

fn nftables(policy: &Policy, listing: &Listing) -> Observed {
    let opened = policy
        .keys
        .iter()
        .map(|key| listing.opened_count(&key.name));
    Observed {
        doors: listing.doors().into_iter().map(str::to_string).collect(),
        grants: listing.grants(),
        progress: listing.progress(),
        opened: opened.collect(),
        tokens: tokens(listing),
        ..Observed::default()
    }
}

/// Scratch sequences that were used up and could open again: somebody has flushed what remembers them.
fn revived(journal: Option<&Journal>, policy: &Policy, listing: &Listing) -> Option<Drift> {
    let journal = journal.filter(|_| policy.has_scratch())?;
    let there = burnt(listing).unwrap_or_default();
    let ours = policy.scratch_ids();
    let missing = journal
        .burnt
        .intersection(&ours)
        .filter(|id| !there.contains(id))
        .count();
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

/// How many tokens the kernel holds of each secret, and how long the last of them lasts.
fn tokens(listing: &Listing) -> HashMap<u32, (usize, Duration)> {
    let mut tokens: HashMap<u32, (usize, Duration)> = HashMap::new();
    for token in loaded(listing).unwrap_or_default().values() {
        let (number, last) = tokens.entry(token.id).or_default();
        *number += 1;
        *last = token.expires_in.unwrap_or_default().max(*last);
    }
    tokens
}

/// The tokens of a key, if it has any; `end` is when it expires, in seconds from now.
fn token_status(
    policy: &Policy,
    key: &Key,
    loaded: &HashMap<u32, (usize, Duration)>,
    end: Option<Duration>,
) -> Option<TokenStatus> {
    let KeyKind::Token(secret) = &key.kind else {
        return None;
    };
    let (number, last) = loaded.get(&secret.id()).copied().unwrap_or_default();
    let wanted = policy.token_horizon / 4;
    Some(TokenStatus {
        loaded: number,
        last_for: last.as_secs_f64(),
        low: last < end.map_or(wanted, |end| end.min(wanted)),
    })
}

fn observe_iptables(
    programs: Iptables,
    policy: &Policy,
    automaton: &Automaton,
) -> Result<Observed, Failure> {
    let mut observed = Observed {
        opened: vec![0; policy.keys.len()],
        ..Observed::default()
    };
    let mut applied = true;
    for family in Iptables::families() {
        let saved = programs.save(family)?;
        let drifts = apply_iptables::differences(programs, policy, automaton, family, &saved)?;
        observed.drifts.extend(drifts);
        applied &= saved.guards();
        observed.doors.extend(iptables::doors(&saved));
        for (count, key) in observed.opened.iter_mut().zip(&policy.keys) {
            *count += iptables::opened_count(&saved, &key.name);
        }
    }
    observed.doors.sort();
    observed.doors.dedup();
    observed.applied = applied;
    if Iptables::has_rules() {
        let lists = Iptables::lists()?;
        observed.grants = lists.grants();
        observed.progress = lists.progress(policy, automaton);
    }
    Ok(observed)
}

/// The backend whose rules are in the kernel, if it is one alone.
pub fn running_backend(firewall: &Firewall) -> Option<Backend> {
    let nftables = firewall.nft.is_there().ok()?;
    match (nftables, Iptables::has_rules()) {
        (true, false) => Some(Backend::Nftables),
        (false, true) => Some(Backend::Iptables),
        _ => None,
    }
}

/// Which doors of the policy are guarded by the backend that it does not use; `None` when that has no
/// rules.
fn guarded_by_the_other(
    firewall: &Firewall,
    policy: &Policy,
) -> Result<Option<Vec<bool>>, Failure> {
    let whole = |guards: &dyn Fn(Knock) -> bool| {
        let doors = policy.doors.iter();
        let doors = doors.map(|door| door.ports.iter().all(|port| guards(*port)));
        Some(doors.collect())
    };
    match policy.backend {
        Backend::Nftables if Iptables::has_rules() => {
            // What the host's other iptables has loaded guards as well.
            let mut variants: Vec<Vec<Saved>> = Vec::new();
            for variant in [&[firewall.iptables][..], &Iptables::BY_NAME].concat() {
                let families = Iptables::families().into_iter();
                let saved = families.map(|family| variant.save_if_there(family));
                variants.push(saved.collect::<Result<_, _>>()?);
            }
            Ok(whole(&|port| {
                let mut variants = variants.iter();
                variants.any(|families| families.iter().all(|saved| saved.guards_port(port)))
            }))
        }
        Backend::Nftables => Ok(None),
        Backend::Iptables => {
            let listing = firewall.nft.list_if_there()?;
            Ok(listing.and_then(|listing| whole(&|port| listing.guards_port(port))))
        }
    }
}

/// The difference that rules of the other backend make.
fn of_the_other(backend: Backend, applied: bool) -> Drift {
    match (backend, applied) {
        (Backend::Nftables, true) => Drift::new(
            "iptables: our chains",
            "guard too, besides nftables (`toctoc apply` removes them)",
        ),
        (Backend::Nftables, false) => Drift::new(
            "iptables: our chains",
            "are there instead (`toctoc status --backend iptables` shows them)",
        ),
        (Backend::Iptables, true) => Drift::new(
            "table inet toctoc",
            "guards too, besides iptables (`toctoc apply` removes it)",
        ),
        (Backend::Iptables, false) => Drift::new(
            "table inet toctoc",
            "is there instead (`toctoc status --backend nftables` shows it)",
        ),
    }
}

/// The difference between everything and nothing.
pub fn table_missing() -> Drift {
    Drift::new(
        "table inet toctoc",
        "is missing and guards no door (`toctoc apply` brings it back)",
    )
}

/// Puts what was seen into the policy's words. Pure.
fn status(policy: &Policy, automaton: &Automaton, observed: Observed, now: i64) -> Status {
    let Observed {
        applied,
        other,
        drifts,
        doors,
        grants,
        progress: entries,
        opened,
        tokens,
        wait,
    } = observed;
    let waiting = wait.map(|wait| wait.to_string());
    let granted = |name: &Name| {
        let own = grants.iter().filter(|grant| grant.door == name.id());
        own.map(|grant| grant_status(policy, grant)).collect()
    };
    let by_the_other = |index: usize| {
        let guarded = other.as_ref().is_some_and(|doors| doors[index]);
        let name = match policy.backend {
            Backend::Nftables => Backend::Iptables.name(),
            Backend::Iptables => Backend::Nftables.name(),
        };
        guarded.then(|| name.to_string())
    };
    let own = applied.then(|| policy.backend.name().to_string());
    let known = policy.doors.iter().enumerate();
    let known = known.map(|(index, door)| DoorStatus {
        name: door.name.to_string(),
        ports: door.ports.iter().map(|port| port.to_string()).collect(),
        in_policy: true,
        guarded_by: own.clone().or_else(|| by_the_other(index)),
        trust: door.trust.iter().map(display_source).collect(),
        grants: granted(&door.name),
    });
    let others = doors.iter().filter_map(|name| Name::new(name));
    let others = others.filter(|name| policy.doors.iter().all(|door| door.name != *name));
    let others = others.map(|name| DoorStatus {
        name: name.to_string(),
        ports: Vec::new(),
        in_policy: false,
        guarded_by: own.clone(),
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
        missing_interfaces: missing_interfaces(policy),
        noted: Noted::default(),
        warnings: interface_warnings(policy)
            .into_iter()
            .chain(waiting)
            .collect(),
        doors: doors.collect(),
        allowed: policy.firewall.as_ref().map(|firewall| {
            let ports = firewall.allow.iter();
            ports.map(|port| port.to_string()).collect()
        }),
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
                tokens: token_status(policy, key, &tokens, left_of(key, now)),
            })
            .collect(),
        drift: drifts.iter().map(Drift::to_string).collect(),
        max_sources: policy.max_sources,
    }
}

/// How long it is until a key expires.
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
        expires_in: grant.expires_in.as_secs_f64(),
    }
}

/// What an administrator should know about the interfaces that a policy names: nothing is guarded at
/// those that are not there, nor at those whose packets arrive under another name.
pub fn interface_warnings(policy: &Policy) -> Vec<String> {
    let Interfaces::Only(names) = &policy.interfaces else {
        return Vec::new();
    };
    let missing = missing_interfaces(policy);
    let so = match policy.firewall {
        None => "nothing is guarded there",
        Some(_) => "NOBODY gets to a door there, whatever he knocks",
    };
    let warning = |name: &String| {
        if missing.contains(name) {
            return Some(format!(
                "there is no interface {name} now: {so} until it comes (if it is another name for an \
                 interface, write the name that `ip link` shows first)"
            ));
        }
        let (kind, master) = master(name)?;
        Some(format!(
            "{name} is a part of the {kind} {master}: {so}, its packets arrive at {master}; name that \
             one"
        ))
    };
    names.iter().filter_map(warning).collect()
}

/// The bridge or bond that takes an interface's packets over before any rule sees them.
fn master(name: &str) -> Option<(&'static str, String)> {
    let directory = Path::new("/sys/class/net").join(name);
    let has = |entry: &str| directory.join(entry).exists();
    let kind = match (has("brport"), has("bonding_slave")) {
        (true, _) => "bridge",
        (_, true) => "bond",
        _ => return None,
    };
    let link = fs::read_link(directory.join("master")).ok()?;
    Some((kind, link.file_name()?.to_string_lossy().into_owned()))
}

/// The interfaces that a policy names and this host (its network namespace) does not have now.
fn missing_interfaces(policy: &Policy) -> Vec<String> {
    let Interfaces::Only(names) = &policy.interfaces else {
        return Vec::new();
    };
    let Ok(table) = fs::read_to_string("/proc/thread-self/net/dev") else {
        return Vec::new();
    };
    let there = |name: &String| {
        let mut lines = table.lines();
        lines.any(|line| line.trim_start().starts_with(&format!("{name}:")))
    };
    names.iter().filter(|name| !there(name)).cloned().collect()
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
