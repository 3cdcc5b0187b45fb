//! Keeps what was applied in the kernel, without a process that stays: a timer runs `toctoc heal`. Somebody may
//! have flushed or reloaded our rules, or loaded a saved ruleset. What is restored is what was applied last,
//! whatever its file says by now. What was removed stays removed, and a trial goes on.

use std::time::Duration;

use super::apply::{Applied, apply_with};
use super::links::NamedInterface;
use super::lock::Lock;
use super::look::Look;
use super::record::{Origin, Record};
use super::sighting::{Sighting, Verdict};
use super::state_file::Kept;
use super::status::{observe, table_missing};
use super::tokens::{Load, stop, top_up};
use super::trusted_names::{TrustedNames, resolve};
use super::{Failure, Firewall, signed};
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
    /// It is not known what should be there, so nothing was changed: a sentence.
    Unknown(String),
    Healed(Box<Healed>),
    /// Only the program of signed keys was missing somewhere, and it is back everywhere.
    Program,
    /// These names of hosts have other addresses than before, and the rules have them now.
    Moved(Vec<String>),
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
    /// Time since all was well, if that is known.
    pub unseen: Option<Duration>,
}

/// Restores what was applied last, if something of it is missing or changed. Where nothing is, this takes
/// some milliseconds.
///
/// # Errors
/// Anything that stopped it, with the state the firewall was left in.
pub fn heal(firewall: &Firewall, clocks: Clocks) -> Result<Healing, Failure> {
    // Before the lock: others need not wait for an answer.
    let names = TrustedNames::in_force(&firewall.state, Sighting::last().as_ref());
    let answers = resolve(names);
    let _lock = Lock::take()?;
    let last = Sighting::last();
    // Another policy may have been applied meanwhile.
    let names = TrustedNames::in_force(&firewall.state, last.as_ref());
    let (known, moved) = TrustedNames::note(&firewall.state, &names, answers, clocks.now);
    if moved.is_empty()
        && let Some(outcome) = last.as_ref().map(|last| glance(firewall, last))
        && let Some(outcome) = outcome?
        && signed::is_well(last.as_ref().is_some_and(|last| last.signed))
    {
        let of_the_past = false;
        return Ok(Healing {
            outcome,
            of_the_past,
        });
    }
    let of_the_past = firewall.nft.end_the_past()?;
    let outcome = match noted(firewall, last.as_ref())? {
        Noted::Running(origin, since) => match moved.is_empty() || since == Since::Earlier {
            true => keep(firewall, origin, since, last, of_the_past, known, clocks)?,
            false => follow(firewall, origin, moved, known, clocks)?,
        },
        Noted::Otherwise(last) => {
            last.again(Verdict::Strange(firewall.side(last.backend).look()?));
            Outcome::Unknown(
                "the policy that runs could not be noted when it was applied, so it is not known what to restore: \
                 nothing was changed; `toctoc apply` applies and notes it"
                    .to_string(),
            )
        }
        Noted::Unknown => {
            Sighting::note_unknown(|backend| firewall.side(backend).look())?;
            Outcome::Unknown(
                "there are rules of toctoc, and nothing is noted of what was applied: nothing was changed; `toctoc \
                 apply` applies a policy and notes it, `toctoc remove` takes them away"
                    .to_string(),
            )
        }
        Noted::Nothing => Outcome::NothingToKeep,
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
        Verdict::Applied | Verdict::Removed => None,
        Verdict::Well(look) => again(look)?.map(|look| {
            last.again(Verdict::Well(look));
            Outcome::Well
        }),
        Verdict::Unhealed(look) | Verdict::Strange(look) => again(look)?.map(|_| Outcome::Unhealed),
    })
}

/// The findings in the record.
enum Noted {
    /// Nothing of ours is to be there, or a trial has still to end that left something else.
    Nothing,
    Running(Origin, Since),
    /// Something else was applied than is noted; this was seen of it.
    Otherwise(Box<Sighting>),
    /// There are rules of ours, and neither the record nor a sighting knows of them.
    Unknown,
}

/// When the policy that is noted was applied.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Since {
    /// Since this start of the machine: it is to be there.
    Start,
    /// Before, or by an earlier release, which did not note it: it may be that nobody wants it now.
    Earlier,
}

fn noted(firewall: &Firewall, last: Option<&Sighting>) -> Result<Noted, Failure> {
    let record = firewall
        .record()
        .map_err(|why| Failure::unchanged(format!("what was applied last is not known: {why}")))?;
    let there = || firewall.is_guarded().unwrap_or(false);
    let is_of = |origin: &Origin| last.is_none_or(|last| last.is_of(origin));
    let was_applied = |last: &Sighting| !matches!(last.verdict, Verdict::Strange(_));
    let this_start = record.is_of_this_start() || last.is_some_and(was_applied);
    Ok(match (record.running, last) {
        // Without a sighting it could not be noted what was seen, or that note is gone.
        (Some(origin), _) if is_of(&origin) => match this_start {
            true => Noted::Running(origin, Since::Start),
            false if there() => Noted::Running(origin, Since::Earlier),
            false => Noted::Nothing,
        },
        (_, Some(last)) if !matches!(last.verdict, Verdict::Removed) && record.trial.is_none() => {
            Noted::Otherwise(Box::new(last.clone()))
        }
        (None, None) if there() => Noted::Unknown,
        _ => Noted::Nothing,
    })
}

fn keep(
    firewall: &Firewall,
    origin: Origin,
    since: Since,
    last: Option<Sighting>,
    of_the_past: bool,
    known: TrustedNames,
    clocks: Clocks,
) -> Result<Outcome, Failure> {
    let policy = origin.policy().map_err(|error| {
        Failure::unchanged(format!(
            "what was applied last cannot be restored: {}: {error}",
            origin.path.display()
        ))
    })?;
    let look = firewall.side(policy.backend).look()?;
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
        let mut outcome = Outcome::Well;
        if !signed::is_well(policy.has_signed()) {
            // What cannot be at some interface would be told every half minute.
            let missing = signed::place(&policy)?;
            if missing.is_empty() && signed::is_well(policy.has_signed()) {
                outcome = Outcome::Program;
            }
        }
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
        return Ok(outcome);
    }
    if since == Since::Earlier {
        Sighting::note(&origin, &policy, Verdict::Strange(look));
        let path = origin.path.display();
        return Ok(Outcome::Unknown(format!(
            "there are rules of toctoc that differ from {path}, and nobody has applied it since this machine was \
             started ({}): nothing was changed; `toctoc apply {path}` puts them right, `toctoc remove` takes them away",
            found[0]
        )));
    }
    let mut applied = apply_with(firewall, &policy, known, clocks, &[])?;
    if stopped {
        // It was stopped for a reboot: doors are shut, and nothing that opens once does.
        stop(&firewall.nft, &firewall.state, clocks)?;
    }
    let unseen = last.map(|last| last.at.ago());
    let verdict = match (applied.drifts.is_empty(), applied.look.take()) {
        (true, Some(look)) => Verdict::Well(look),
        (true, None) => Verdict::Applied,
        (false, _) => Verdict::Unhealed(firewall.side(policy.backend).look()?),
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

/// Applies what was applied again, with the addresses that names have now.
fn follow(
    firewall: &Firewall,
    origin: Origin,
    names: Vec<String>,
    known: TrustedNames,
    clocks: Clocks,
) -> Result<Outcome, Failure> {
    let policy = origin.policy().map_err(|error| {
        Failure::unchanged(format!(
            "what was applied last cannot be applied again: {}: {error}",
            origin.path.display()
        ))
    })?;
    let stopped = policy.is_single_use()
        && matches!(firewall.state.read(), Kept::Journal(journal) if journal.clean);
    let mut applied = apply_with(firewall, &policy, known, clocks, &[])?;
    if stopped {
        stop(&firewall.nft, &firewall.state, clocks)?;
    }
    note_applied(&origin, &policy, &mut applied);
    Ok(Outcome::Moved(names))
}

/// Notes what was applied just now, for the next healing. Returns whether that could be noted.
pub(super) fn note_applied(origin: &Origin, policy: &Policy, applied: &mut Applied) -> bool {
    let verdict = match applied.look.take() {
        Some(look) if applied.drifts.is_empty() => Verdict::Well(look),
        _ => Verdict::Applied,
    };
    Sighting::note(origin, policy, verdict)
}

/// Returns whether a healing would restore what the record calls running, should it be gone.
pub fn restores(record: &Record) -> bool {
    let Some(origin) = &record.running else {
        return false;
    };
    let this_start = record.is_of_this_start();
    Sighting::last().map_or(this_start, |last| {
        last.is_of(origin) && (this_start || !matches!(last.verdict, Verdict::Strange(_)))
    })
}

/// Returns whether something else was applied, or all was removed, than is noted.
pub fn is_unnoted(record: &Record) -> bool {
    let is_of = |last: Sighting| {
        record
            .running
            .as_ref()
            .is_some_and(|origin| last.is_of(origin))
    };
    record.trial.is_none() && Sighting::last().is_some_and(|last| !is_of(last))
}

/// Returns whether a removal of `backend` (`None`: both) removes what the record calls running.
pub(super) fn concerns_running(record: &Record, backend: Option<Backend>) -> bool {
    let running = record.running.as_ref();
    backend.is_none_or(|backend| running.is_some_and(|origin| origin.backend == backend.name()))
}
