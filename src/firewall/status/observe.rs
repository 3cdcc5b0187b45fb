//! Reading the kernel.

use super::super::links::resolved;
use super::super::seal::Sealed;
use super::super::state_file::Kept;
use super::super::tokens::Wait;
use super::super::verified::{Verified, digest};
use super::super::{Failure, Firewall, Iptables, Nft, apply_iptables, hidden, nf_tables};
use super::assemble::status;
use super::interfaces::Guard;
use super::other::{guarded_by_the_other, of_the_other, table_missing, whole};
use super::{Status, tokens};
use crate::automaton::Automaton;
use crate::held::{Drift, Grant, Progress};
use crate::policy::{Backend, Policy};
use crate::ruleset::Family;
use crate::ruleset::iptables::{self, Saved};
use crate::ruleset::nftables::{
    Listing, Script, SetId, burnt, compare, render, strange, strange_tokens,
};
use crate::single_use::Journal;
use std::collections::{BTreeSet, HashMap};
use std::thread;
use std::time::Duration;

/// The state of the kernel, of whatever backend.
#[derive(Default)]
pub(super) struct Observed {
    pub(super) applied: bool,
    /// For each door of the policy, in their order, `true` if our rules guard it. Empty where they guard all or none.
    pub(super) guarded: Vec<bool>,
    /// The same for the other backend, if it has rules at all.
    pub(super) other: Option<Vec<bool>>,
    pub(super) drifts: Vec<Drift>,
    /// `true` if rules are among what differs.
    pub(super) rules_differ: bool,
    pub(super) doors: Vec<String>,
    pub(super) grants: Vec<Grant>,
    /// Those of other hosts.
    pub(super) elsewhere: Vec<Grant>,
    pub(super) progress: Vec<Progress>,
    /// The number of openings of each key of the policy, in its order.
    pub(super) opened: Vec<u64>,
    pub(super) wrong: u64,
    pub(super) shut_out: u64,
    /// The number of tokens of each [secret](crate::single_use::Secret::id), and the time the last lasts. `None` where
    /// they were not counted.
    pub(super) tokens: Option<HashMap<u32, (usize, Duration)>>,
    /// The scratch sequences that open no more, where that is known.
    pub(super) used_up: Option<BTreeSet<u32>>,
    pub(super) wait: Option<Wait>,
}

/// Reads the kernel and holds it against the policy. `now` is in seconds since 1970.
///
/// # Errors
/// When the kernel could not be read.
pub fn observe(firewall: &Firewall, policy: &Policy, now: i64) -> Result<Status, Failure> {
    let guard = Guard::of(policy);
    let policy = &*resolved(policy);
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
    Ok(status(policy, &automaton, observed, guard, now))
}

/// Reads what changes from one second to the next: grants, progress, and how often keys have opened. That
/// is quick also where the ruleset is large; whether it is the policy's is not asked, and tokens are left
/// out. `None` when nothing of ours is there. `now` is in seconds since 1970.
///
/// # Errors
/// When the kernel could not be read.
pub fn glance(
    firewall: &Firewall,
    policy: &Policy,
    automaton: &Automaton,
    now: i64,
) -> Result<Option<Status>, Failure> {
    let observed = match policy.backend {
        Backend::Nftables => match firewall.nft.glance()? {
            Some(listing) => Observed {
                applied: true,
                tokens: None,
                ..nftables(policy, &listing)
            },
            None => return Ok(None),
        },
        Backend::Iptables if Iptables::has_rules()? => {
            let saved = saved(firewall.iptables)?;
            iptables_at(policy, automaton, &saved)?
        }
        Backend::Iptables => return Ok(None),
    };
    let guard = Guard::of(policy);
    Ok(Some(status(policy, automaton, observed, guard, now)))
}

fn observe_nftables(
    firewall: &Firewall,
    policy: &Policy,
    automaton: &Automaton,
    now: i64,
) -> Result<Observed, Failure> {
    let nft = &firewall.nft;
    let (journal, is_broken) = match firewall.state.read() {
        Kept::Journal(journal) if policy.is_single_use() => (Some(journal), false),
        Kept::Broken(_) => (None, true),
        Kept::Journal(_) | Kept::Nothing => (None, false),
    };
    let script = render(policy, automaton);
    if Verified::holds(nft, &firewall.state, &script)
        && let Some(observed) = unchanged(nft, policy, journal.as_ref(), now)
    {
        return Ok(Observed {
            used_up: observed.used_up.filter(|_| !is_broken),
            wait: journal.and_then(|journal| wait(journal, policy, now)),
            ..observed
        });
    }
    let before = nf_tables::generation();
    let (listing, expected) = thread::scope(|scope| {
        let expected = scope.spawn(|| nft.list_fresh(&script));
        (nft.list(), expected.join())
    });
    let Some(listing) = listing? else {
        let drifts = vec![table_missing()];
        let nothing = Observed {
            drifts,
            tokens: Some(HashMap::new()),
            ..Observed::default()
        };
        return Ok(nothing);
    };
    let is_stopped = journal.as_ref().is_some_and(|journal| journal.clean);
    let mut rules_differ = false;
    let drifts = if listing.dormant {
        vec![Drift::new(
            "table inet toctoc",
            "is dormant and guards no door",
        )]
    } else {
        let expected = expected.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        let mut drifts = compare(&expected, &listing);
        rules_differ = !drifts.is_empty() && !is_stopped;
        if drifts.is_empty() {
            note(firewall, &script, before);
        }
        drifts.extend(strange(policy, &listing));
        drifts.extend(strange_tokens(policy, &listing, now));
        drifts.extend(revived(journal.as_ref(), policy, &listing));
        if nft.sealed() == Sealed::Copy {
            drifts.insert(0, copied());
        }
        drifts
    };
    let guarded = match rules_differ {
        true => whole(policy, |ports| listing.guards(ports)),
        false => Vec::new(),
    };
    Ok(Observed {
        applied: !listing.dormant,
        guarded,
        drifts,
        rules_differ,
        used_up: used_up(journal.as_ref(), &listing).filter(|_| !is_broken),
        wait: journal.and_then(|journal| wait(journal, policy, now)),
        ..nftables(policy, &listing)
    })
}

/// The table again whose rules are known to be the policy's: what the kernel and a refill fill. `None` when the kernel
/// does not say.
fn unchanged(nft: &Nft, policy: &Policy, journal: Option<&Journal>, now: i64) -> Option<Observed> {
    let mut listing = nf_tables::read(nf_tables::Extent::Glance).ok()??;
    if policy.has_scratch() {
        listing.merge(nf_tables::set(SetId::Burnt.name()).ok()??);
    }
    let seen = tokens::seen(policy, journal, now)?;
    let mut drifts = strange(policy, &listing);
    drifts.extend(seen.drifts);
    drifts.extend(revived(journal, policy, &listing));
    if nft.sealed() == Sealed::Copy {
        drifts.insert(0, copied());
    }
    Some(Observed {
        applied: true,
        drifts,
        used_up: used_up(journal, &listing),
        tokens: Some(seen.tokens),
        ..nftables(policy, &listing)
    })
}

/// Notes that the rules were seen to be the policy's, if nothing has changed since the transaction of this number.
fn note(firewall: &Firewall, script: &Script, before: Option<u64>) {
    if let Ok(Some((parts, generation))) = nf_tables::parts()
        && before == Some(generation)
        && let Some(seen) = Verified::now(&firewall.nft, digest(script), parts.digest())
    {
        seen.note(&firewall.state);
    }
}

fn nftables(policy: &Policy, listing: &Listing) -> Observed {
    let opened = policy
        .keys
        .iter()
        .map(|key| listing.opened_count(&key.name));
    Observed {
        doors: listing.doors().into_iter().map(str::to_string).collect(),
        grants: listing.grants(),
        elsewhere: listing.elsewhere(),
        progress: listing.progress(),
        opened: opened.collect(),
        wrong: listing.wrong_count(),
        shut_out: listing.shut_out_count(),
        tokens: Some(tokens::listed(listing)),
        ..Observed::default()
    }
}

/// The scratch sequences that the journal or the kernel calls used up. `None` when the kernel does not say.
fn used_up(journal: Option<&Journal>, listing: &Listing) -> Option<BTreeSet<u32>> {
    let before = journal.iter().flat_map(|journal| &journal.burnt).copied();
    Some(before.chain(burnt(listing)?).collect())
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

/// Grants of the past count again.
fn copied() -> Drift {
    let what = "was loaded from a saved ruleset: what that granted is of the past";
    Drift::new("table inet toctoc", what)
}

/// Why tokens of the policy do not open yet.
fn wait(mut journal: Journal, policy: &Policy, now: i64) -> Option<Wait> {
    let secrets = policy.token_keys();
    let barred = secrets.filter_map(|(_, secret)| journal.barred_for(secret.id()));
    let barred = barred.max();
    Wait::of(&journal, barred, now)
}

fn observe_iptables(
    programs: Iptables,
    policy: &Policy,
    automaton: &Automaton,
) -> Result<Observed, Failure> {
    let saved = saved(programs)?;
    let shown = saved.iter().filter(|(_, saved)| !saved.is_empty());
    let shown: Vec<Family> = shown.map(|(family, _)| *family).collect();
    hidden::none_is_missing(&shown)?;
    let mut observed = iptables_at(policy, automaton, &saved)?;
    for (family, saved) in &saved {
        let drifts = apply_iptables::differences(programs, policy, automaton, *family, saved)?;
        observed.drifts.extend(drifts);
    }
    observed.rules_differ = !observed.drifts.is_empty();
    Ok(observed)
}

fn saved(programs: Iptables) -> Result<Vec<(Family, Saved)>, Failure> {
    let families = Iptables::families().into_iter();
    families
        .map(|family| Ok((family, programs.save(family)?)))
        .collect()
}

/// The state in these rules and the kernel's lists.
fn iptables_at(
    policy: &Policy,
    automaton: &Automaton,
    saved: &[(Family, Saved)],
) -> Result<Observed, Failure> {
    let guarded = whole(policy, |ports| {
        saved.iter().all(|(_, saved)| saved.guards(ports))
    });
    let mut observed = Observed {
        applied: guarded.contains(&true) || policy.doors.is_empty(),
        guarded,
        opened: vec![0; policy.keys.len()],
        ..Observed::default()
    };
    for (_, saved) in saved {
        observed.doors.extend(iptables::doors(saved));
        observed.wrong += iptables::wrong_count(saved);
        observed.shut_out += iptables::shut_out_count(saved);
        for (count, key) in observed.opened.iter_mut().zip(&policy.keys) {
            *count += iptables::opened_count(saved, &key.name);
        }
    }
    observed.doors.sort();
    observed.doors.dedup();
    if Iptables::has_rules()? {
        let lists = Iptables::lists()?;
        observed.grants = lists.grants();
        observed.progress = lists.progress(policy, automaton);
    }
    Ok(observed)
}
