//! `Script --apply--> kernel`, whichever backend it is and was.

use std::thread;
use std::time::{Duration, Instant};

use super::backend::{Moving, Reason};
use super::heal::{concerns_running, note_applied};
use super::links::named;
use super::lock::Lock;
use super::look::Look;
use super::record::{Origin, Record, Refused};
use super::sighting::{Sighting, Verdict};
use super::tokens::Refilled;
use super::trusted_names::TrustedNames;
use super::{Failure, Firewall, Left, signed};
use crate::held::{Drift, Grant};
use crate::policy::{Backend, Policy};
use crate::single_use::journal::Clocks;

/// The result of an apply.
#[derive(Debug, Default)]
pub struct Applied {
    /// Live grants that were kept.
    pub kept: usize,
    /// Live grants that ended, their door or key being gone.
    pub removed: usize,
    /// Live grants for one connection that ended, their set being made anew.
    pub ended_once: usize,
    /// Grants that ended because they came from a saved ruleset that was loaded again.
    pub of_the_past: usize,
    /// Live grants of the other backend for which a list of iptables had no room.
    pub pushed_out: usize,
    /// The backend that guarded before, if it was the other one.
    pub moved_from: Option<Backend>,
    /// Lists of iptables that every user of this host can read, who could not be kept from it.
    pub readable_lists: usize,
    /// The differences from the policy right after: none, unless somebody else interfered.
    pub drifts: Vec<Drift>,
    /// The result for the tokens, if a key has any.
    pub refilled: Option<Refilled>,
    /// Why signed keys do not open on some interfaces, a sentence each.
    pub unsigned: Vec<String>,
    /// Why a name that is trusted has no address, or an old one, a sentence each.
    pub unresolved: Vec<String>,
    /// The look before and after it was compared with the policy.
    pub(super) look: Option<Look>,
}

/// Makes the policy the running one. When the other backend was the running one, its live grants move
/// along and it is removed last: until then both guard the doors.
///
/// # Errors
/// Anything that stopped it, with the state the firewall was left in.
pub fn apply(firewall: &Firewall, policy: &Policy, clocks: Clocks) -> Result<Applied, Failure> {
    let _lock = Lock::take()?;
    apply_locked(firewall, policy, clocks, &[])
}

/// The result of an apply for the record.
#[derive(Debug)]
pub struct Recorded {
    /// A trial was under way. It ended with this, unless that could not be noted.
    pub in_trial: bool,
    /// Why it could not be noted what was applied, if so: a sentence.
    pub unnoted: Option<String>,
}

/// The same of a policy that was read from somewhere, which is noted; a trial that is under way ends with
/// it. `refused` is what shall stay refused.
///
/// # Errors
/// As for [`apply`].
pub fn apply_from(
    firewall: &Firewall,
    policy: &Policy,
    origin: Origin,
    refused: Option<Refused>,
    clocks: Clocks,
) -> Result<(Applied, Recorded), Failure> {
    let _lock = Lock::take()?;
    let in_trial = Record::read(&firewall.state).is_ok_and(|record| record.trial.is_some());
    let mut applied = match apply_locked(firewall, policy, clocks, &[]) {
        Ok(applied) => applied,
        Err(failure) => {
            if failure.left == Left::Changed && !in_trial {
                Sighting::note(&origin, policy, Verdict::Applied);
            }
            // A trial that is under way goes on.
            let _unnoted = match failure.left {
                Left::Changed if !in_trial => {
                    Record::note_applied(&firewall.state, Some(origin), refused)
                }
                Left::Unknown if !in_trial => Record::note_applied(&firewall.state, None, None),
                _ => Ok(()),
            };
            return Err(failure);
        }
    };
    let seen = note_applied(&origin, policy, &mut applied);
    let noted = Record::note_applied(&firewall.state, Some(origin), refused);
    if noted.is_err() && !seen {
        // No healing shall take what was noted before for what runs.
        Record::forget(&firewall.state);
    }
    let recorded = Recorded {
        in_trial,
        unnoted: noted.err(),
    };
    Ok((applied, recorded))
}

/// The same for who holds the lock. `returning` are grants that ended and are to be given again, with
/// the time that is left of them.
pub(super) fn apply_locked(
    firewall: &Firewall,
    policy: &Policy,
    clocks: Clocks,
    returning: &[Grant],
) -> Result<Applied, Failure> {
    let names = TrustedNames::asked_for(&firewall.state, policy, clocks.now);
    apply_with(firewall, policy, names, clocks, returning)
}

/// The same where it is known which addresses the names of hosts have.
pub(super) fn apply_with(
    firewall: &Firewall,
    policy: &Policy,
    names: TrustedNames,
    clocks: Clocks,
    returning: &[Grant],
) -> Result<Applied, Failure> {
    let changed = |failure: Failure| failure.leaving(Left::Changed);
    let written = policy;
    let policy = &*names.resolved(named(policy));
    let began = Instant::now();
    let other = policy.backend.other();
    let (own, before) = (firewall.side(policy.backend), firewall.side(other));
    // Before anything is changed: what cannot be read cannot be removed later.
    let old = before.old(Reason::Replaced)?;
    let mut moving = match old {
        Some(_) => before.grants()?,
        None => Vec::new(),
    };
    moving.extend_from_slice(returning);
    let again = || before.grants();
    signed::probe(policy).map_err(Failure::unchanged)?;
    signed::prepare()?;
    let mut applied = own.apply(
        policy,
        Moving {
            grants: moving,
            began,
            again: &again,
        },
    )?;
    if let Some(old) = old {
        // What was not saved is not known later.
        let _unsaved = before.remove(&old, clocks).map_err(changed)?;
        applied.of_the_past += old.of_the_past;
        applied.moved_from = Some(other);
    }
    applied.unresolved = names.failures(written);
    let noted = names.note_applied(&firewall.state, written, clocks.now);
    applied.unresolved.extend(noted.err());
    applied.refilled = own.load_tokens(policy, clocks).map_err(changed)?;
    applied.unsigned = signed::place(policy).map_err(changed)?;
    Ok(applied)
}

/// The result of a removal.
#[derive(Debug)]
pub struct Removed {
    /// `true` if there was anything to remove.
    pub any: bool,
    /// Why it could not be saved what was used up, if so: a sentence.
    pub unsaved: Option<String>,
    /// Why a trial that is under way could not be ended, if so: a sentence. Its end would bring the rules
    /// back.
    pub unnoted: Option<String>,
}

/// Takes what is ours out of the firewall: of one backend, or of both.
///
/// # Errors
/// As for [`apply`].
pub fn remove(
    firewall: &Firewall,
    backend: Option<Backend>,
    clocks: Clocks,
) -> Result<Removed, Failure> {
    let _lock = Lock::take()?;
    let record = Record::read(&firewall.state);
    let nothing_left = || matches!(firewall.is_guarded(), Ok(false));
    let mut removed = remove_locked(firewall, backend, clocks)?;
    let is_running = |record: &Record| concerns_running(record, backend);
    if record.as_ref().is_ok_and(is_running) || nothing_left() {
        TrustedNames::note_removed(&firewall.state);
        Sighting::forget();
        let noted = Record::note_removed(&firewall.state, clocks.now);
        if noted.is_err() {
            Sighting::note_removed();
        }
        removed.unnoted = noted.err();
    }
    Ok(removed)
}

/// The same for who holds the lock.
pub(super) fn remove_locked(
    firewall: &Firewall,
    backend: Option<Backend>,
    clocks: Clocks,
) -> Result<Removed, Failure> {
    let meant = |is: &Backend| backend.is_none_or(|backend| backend == *is);
    // All is read before anything is removed: what cannot be read is not absent.
    let mut there = Vec::new();
    for backend in Backend::ALL.into_iter().filter(meant) {
        let side = firewall.side(backend);
        if let Some(old) = side.old(Reason::Removed)? {
            there.push((side, old));
        }
    }
    if meant(&Backend::Nftables) {
        signed::take_away()?;
    }
    let mut unsaved = None;
    for (number, (side, old)) in there.iter().enumerate() {
        let removed = side.remove(old, clocks).map_err(|failure| match number {
            0 => failure,
            _ => failure.leaving(Left::Unknown),
        })?;
        unsaved = unsaved.or(removed);
    }
    let any = !there.is_empty();
    if any {
        gone(
            firewall,
            &Backend::ALL.into_iter().filter(meant).collect::<Vec<_>>(),
        )?;
    } else if meant(&Backend::Nftables) {
        firewall.nft.installed()?;
    }
    Ok(Removed {
        any,
        unsaved: unsaved.map(|failure| failure.message),
        unnoted: None,
    })
}

/// The longest time for the kernel to forget the lists of rules that are gone.
const FORGETTING: Duration = Duration::from_secs(5);

/// Looks whether what was removed is gone.
fn gone(firewall: &Firewall, backends: &[Backend]) -> Result<(), Failure> {
    let unknown = |failure: Failure| failure.leaving(Left::Unknown);
    let start = Instant::now();
    loop {
        let mut still = None;
        for backend in backends {
            let side = firewall.side(*backend);
            if still.is_none() && side.is_there().map_err(unknown)? {
                still = Some(side.rest());
            }
        }
        let Some(still) = still else {
            return Ok(());
        };
        if start.elapsed() > FORGETTING {
            let message = format!("it was removed, and {still}");
            return Err(unknown(Failure::unchanged(message)));
        }
        thread::sleep(Duration::from_millis(10));
    }
}
