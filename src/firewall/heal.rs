//! Keeps what was applied in the kernel, without a process that stays: a timer runs `toctoc heal`. Somebody may
//! have flushed or reloaded our rules, or loaded a saved ruleset. What is restored is what was applied last,
//! whatever its file says by now. What was removed stays removed, and a trial goes on.

use std::time::Duration;

use super::apply::{Applied, apply_locked};
use super::links::NamedInterface;
use super::lock::Lock;
use super::look::Look;
use super::record::{Origin, Record};
use super::sighting::{Sighting, Verdict};
use super::state_file::Kept;
use super::status::{observe, table_missing};
use super::tokens::{Load, stop, top_up};
use super::{Failure, Firewall, Iptables};
use crate::policy::{Backend, Policy};
use crate::single_use::journal::Clocks;

/// More keys than this take seconds to list.
const MANY: usize = 250;

/// The result of a healing.
#[derive(Debug)]
pub struct Healing {
    pub outcome: Outcome,
    /// A saved ruleset had been loaded, and what that granted was ended.
    pub of_the_past: bool,
}

#[derive(Debug)]
pub enum Outcome {
    /// Nothing was applied since this start of the machine, or it was removed.
    NothingToKeep,
    /// All is as it was applied.
    Well,
    /// It was not, and an earlier healing has said that it cannot change that.
    Unhealed,
    Healed(Box<Healed>),
}

/// Something was missing or changed.
#[derive(Debug)]
pub struct Healed {
    /// The policy that was restored.
    pub origin: Origin,
    pub policy: Policy,
    pub applied: Applied,
    /// The faults that were found, a sentence each.
    pub found: Vec<String>,
    /// Time since all was well.
    pub unseen: Duration,
}

/// Restores what was applied last, if something of it is missing or changed. Where nothing is, this takes
/// some milliseconds.
///
/// # Errors
/// Anything that stopped it, with the state the firewall was left in.
pub fn heal(firewall: &Firewall, clocks: Clocks) -> Result<Healing, Failure> {
    let _lock = Lock::take()?;
    let last = Sighting::last();
    if let Some(outcome) = last.as_ref().map(|last| glance(firewall, last))
        && let Some(outcome) = outcome?
    {
        let of_the_past = false;
        return Ok(Healing {
            outcome,
            of_the_past,
        });
    }
    let of_the_past = firewall.nft.end_the_past()?;
    let outcome = match running(firewall, last.as_ref())? {
        Some(origin) => keep(firewall, origin, last, of_the_past, clocks)?,
        None => Outcome::NothingToKeep,
    };
    Ok(Healing {
        outcome,
        of_the_past,
    })
}

/// Decides without reading any rule, by what was seen last. `None`: the rules must be read.
fn glance(firewall: &Firewall, last: &Sighting) -> Result<Option<Outcome>, Failure> {
    if !NamedInterface::names_unchanged(&last.interfaces) {
        return Ok(None);
    }
    let again = |look: &Look| look.again(firewall, last.backend);
    Ok(match &last.verdict {
        Verdict::Applied => None,
        Verdict::Well(look) => again(look)?.map(|look| {
            last.again(Verdict::Well(look));
            Outcome::Well
        }),
        Verdict::Unhealed(look) => again(look)?.map(|_| Outcome::Unhealed),
        Verdict::Strange(look) => again(look)?.map(|_| Outcome::NothingToKeep),
    })
}

/// The policy to keep: the one that is noted as running, if it was applied since this start of the machine, or if
/// something of ours is there (an earlier release noted no sightings).
fn running(firewall: &Firewall, last: Option<&Sighting>) -> Result<Option<Origin>, Failure> {
    let record = firewall
        .record()
        .map_err(|why| Failure::unchanged(format!("what was applied last is not known: {why}")))?;
    let Some(origin) = record.running else {
        return Ok(None);
    };
    let there =
        || firewall.nft.is_there().unwrap_or(false) || Iptables::has_rules().unwrap_or(false);
    let is_kept = match last {
        Some(last) => last.is_of(&origin),
        None => there(),
    };
    Ok(is_kept.then_some(origin))
}

fn keep(
    firewall: &Firewall,
    origin: Origin,
    last: Option<Sighting>,
    of_the_past: bool,
    clocks: Clocks,
) -> Result<Outcome, Failure> {
    let policy = origin.policy().map_err(|error| {
        Failure::unchanged(format!(
            "what was applied last cannot be restored: {}: {error}",
            origin.path.display()
        ))
    })?;
    let look = Look::take(firewall, policy.backend)?;
    let gone = policy.backend == Backend::Nftables && !look.has_table();
    let was_well = last
        .as_ref()
        .is_some_and(|last| matches!(last.verdict, Verdict::Well(_)));
    let (found, guards) = match gone {
        true => (vec![table_missing().to_string()], false),
        // Doors may be open: finding out what was changed takes longer than restoring it.
        false if was_well && policy.keys.len() > MANY => (
            vec!["its chains, rules or sets are not as they were".to_string()],
            false,
        ),
        false => {
            let status = observe(firewall, &policy, clocks.now)?;
            (status.drift, status.applied)
        }
    };
    let stopped = policy.is_single_use()
        && matches!(firewall.state.read(), Kept::Journal(journal) if journal.clean);
    if found.is_empty() || (stopped && guards) {
        if of_the_past && !stopped && policy.is_single_use() {
            // Its tokens went too.
            top_up(&firewall.nft, &firewall.state, &policy, clocks, Load::All)?;
        }
        // Somebody may have changed something meanwhile.
        let verdict = match look.again(firewall, policy.backend)? {
            Some(look) => Verdict::Well(look),
            None => Verdict::Applied,
        };
        Sighting::note(&origin, &policy, verdict);
        return Ok(Outcome::Well);
    }
    let Some(last) = last.filter(|last| !matches!(last.verdict, Verdict::Strange(_))) else {
        Sighting::note(&origin, &policy, Verdict::Strange(look));
        return Ok(Outcome::NothingToKeep);
    };
    let mut applied = apply_locked(firewall, &policy, clocks, &[])?;
    if stopped {
        // It was stopped for a reboot: doors are shut, and nothing that opens once does.
        stop(&firewall.nft, &firewall.state, clocks)?;
    }
    let unseen = last.at.ago();
    let verdict = match (applied.drifts.is_empty(), applied.look.take()) {
        (true, Some(look)) => Verdict::Well(look),
        (true, None) => Verdict::Applied,
        (false, _) => Verdict::Unhealed(Look::take(firewall, policy.backend)?),
    };
    Sighting::note(&origin, &policy, verdict);
    Ok(Outcome::Healed(Box::new(Healed {
        origin,
        policy,
        applied,
        found,
        unseen,
    })))
}

/// Notes what was applied just now, for the next healing.
pub(super) fn note_applied(origin: &Origin, policy: &Policy, applied: &mut Applied) {
    let verdict = match applied.look.take() {
        Some(look) if applied.drifts.is_empty() => Verdict::Well(look),
        _ => Verdict::Applied,
    };
    Sighting::note(origin, policy, verdict);
}

/// Returns whether a removal of `backend` (`None`: both) removes what the record calls running.
pub(super) fn concerns_running(record: &Record, backend: Option<Backend>) -> bool {
    let running = record.running.as_ref();
    backend.is_none_or(|backend| running.is_some_and(|origin| origin.backend == backend.name()))
}
