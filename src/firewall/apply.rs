//! `Script --apply--> kernel`, whichever backend it is and was.

use std::thread;
use std::time::{Duration, Instant};

use super::apply_nftables::MARGIN;
use super::heal::{concerns_running, note_applied};
use super::links::resolved;
use super::lock::Lock;
use super::look::Look;
use super::record::{Origin, Record, Refused};
use super::seal::Sealed;
use super::sighting::{Sighting, Verdict};
use super::tokens::{Load, Refilled, burnt_before, stop, top_up};
use super::{Failure, Firewall, Iptables, Left, apply_iptables, apply_nftables, hidden};
use crate::held::{Drift, Grant};
use crate::policy::{Backend, Policy};
use crate::ruleset::Family;
use crate::ruleset::iptables::Saved;
use crate::ruleset::nftables::{Command, TABLE, carry};
use crate::single_use::journal::Clocks;

/// The result of an apply.
#[derive(Debug)]
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
    let changed = |failure| Failure {
        left: Left::Changed,
        ..failure
    };
    let policy = &*resolved(policy);
    match policy.backend {
        Backend::Nftables => {
            let began = Instant::now();
            let other = Iptables::has_rules()?;
            // Before anything is changed: what cannot be read cannot be removed later.
            let chains = match other {
                true => Chains::read(firewall, Variants::All)?,
                false => Chains::default(),
            };
            let moving = if other {
                Iptables::lists()?.grants()
            } else {
                Vec::new()
            };
            let burnt = burnt_before(&firewall.state, policy)?;
            let (once, mut lasting): (Vec<Grant>, Vec<Grant>) =
                moving.into_iter().partition(|grant| grant.once);
            lasting.extend_from_slice(returning);
            let mut applied = apply_nftables::apply(firewall, policy, &lasting, began, &burnt)?;
            if !once.is_empty() {
                // Now that both guard, none can be used up in the one and stay in the other.
                let mut unused = Iptables::lists().map_err(changed)?.grants();
                unused.retain(|grant| grant.once);
                let carried = carry(policy, &unused, began.elapsed() + MARGIN);
                firewall.nft.edit(&carried.transaction).map_err(changed)?;
                applied.kept += carried.kept;
                applied.removed += carried.removed;
            }
            if other {
                chains.remove().map_err(changed)?;
                applied.moved_from = Some(Backend::Iptables);
            }
            if policy.is_single_use() {
                let (nft, state) = (&firewall.nft, &firewall.state);
                let refilled = top_up(nft, state, policy, clocks, Load::All);
                applied.refilled = Some(refilled.map_err(changed)?);
            }
            Ok(applied)
        }
        Backend::Iptables => {
            let began = Instant::now();
            let other = firewall.nft.list_if_there()?;
            // Rules of the host's other iptables are not seen by this one.
            let chains = Chains::read(firewall, Variants::Others)?;
            let is_copy = other.is_some() && firewall.nft.sealed() == Sealed::Copy;
            let there = other.as_ref().map(|listing| listing.grants());
            let there = there.unwrap_or_default();
            let (of_the_past, mut moving) = match is_copy {
                true => (there.len(), Vec::new()),
                false => (0, there),
            };
            moving.extend_from_slice(returning);
            let again = || {
                let listing = firewall.nft.list()?.filter(|_| !is_copy);
                Ok(listing.map(|listing| listing.grants()).unwrap_or_default())
            };
            let mut applied =
                apply_iptables::apply(firewall.iptables, policy, &moving, began, again)?;
            applied.of_the_past = of_the_past;
            applied.readable_lists = Iptables::readable_lists();
            if other.is_some() {
                applied.moved_from = Some(Backend::Nftables);
                // With iptables there is nothing that opens once; what was not saved is not known later.
                let _unsaved = stop(&firewall.nft, &firewall.state, clocks);
                firewall
                    .nft
                    .load(&Command::DeleteTable.into())
                    .map_err(changed)?;
            }
            chains.remove().map_err(changed)?;
            Ok(applied)
        }
    }
}

/// Our chains in the variants of iptables, as they were read.
#[derive(Debug, Default)]
struct Chains(Vec<(Iptables, Vec<(Family, Saved)>)>);

/// Which variants are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Variants {
    All,
    /// Those that are not the host's own choice.
    Others,
}

impl Chains {
    /// Reads them. Nothing is changed before all could be read.
    fn read(firewall: &Firewall, which: Variants) -> Result<Chains, Failure> {
        let own = firewall.iptables;
        let mut chains = Chains::default();
        if which == Variants::All {
            chains.0.push((own, apply_iptables::chains(own)?));
        }
        for variant in Iptables::BY_NAME {
            let same = match which {
                Variants::Others => match own.is(variant) {
                    Ok(same) => same,
                    Err(failure) => {
                        // That there is no such program at all is the better word.
                        own.save(Family::V4)?;
                        return Err(failure);
                    }
                },
                // Where the host's own is missing, nothing was read of it.
                Variants::All => own.is(variant).unwrap_or(false),
            };
            if !same {
                chains.0.push((variant, apply_iptables::chains(variant)?));
            }
        }
        Ok(chains)
    }

    fn is_empty(&self) -> bool {
        self.0.iter().all(|(_, found)| found.is_empty())
    }

    /// The families in which there are any.
    fn families(&self) -> Vec<Family> {
        let found = self.0.iter().flat_map(|(_, found)| found);
        found.map(|(family, _)| *family).collect()
    }

    fn remove(&self) -> Result<(), Failure> {
        let mut variants = self.0.iter();
        variants.try_for_each(|(variant, found)| apply_iptables::remove(*variant, found))
    }
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
    // All is read before anything is removed: what cannot be read is not absent.
    let mut chains = Chains::default();
    if backend != Some(Backend::Nftables) {
        chains = Chains::read(firewall, Variants::All)?;
        if chains.is_empty() && Iptables::has_rules()? {
            // That there is no such program is the better word.
            firewall.iptables.save(Family::V4)?;
        }
        // Chains that somebody has emptied mention no list any more: that they are not asked for is right.
        hidden::none_is_missing(&chains.families())?;
    }
    let mut any = false;
    let mut unsaved = None;
    if backend != Some(Backend::Iptables) {
        let listed = match backend {
            Some(_) => firewall.nft.list()?,
            None => firewall.nft.list_if_there()?,
        };
        if listed.is_some() {
            // The way out stays open, whatever the disk says.
            unsaved = stop(&firewall.nft, &firewall.state, clocks).err();
            firewall.nft.load(&Command::DeleteTable.into())?;
            any = true;
        }
    }
    if !chains.is_empty() {
        let half = |failure: Failure| match any {
            true => Failure {
                left: Left::Unknown,
                ..failure
            },
            false => failure,
        };
        chains.remove().map_err(half)?;
        any = true;
    }
    if any {
        gone(firewall, backend)?;
    } else if backend.is_none() {
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
fn gone(firewall: &Firewall, backend: Option<Backend>) -> Result<(), Failure> {
    let unknown = |failure| Failure {
        left: Left::Unknown,
        ..failure
    };
    let start = Instant::now();
    loop {
        let table =
            backend != Some(Backend::Iptables) && firewall.nft.is_there().map_err(unknown)?;
        let rules = backend != Some(Backend::Nftables) && Iptables::has_rules().map_err(unknown)?;
        let what = match (table, rules) {
            (false, false) => return Ok(()),
            (true, _) => format!("table {TABLE} is there still, or again"),
            (false, true) => "the kernel keeps lists of toctoc's rules still".to_string(),
        };
        if start.elapsed() > FORGETTING {
            return Err(unknown(Failure::unchanged(format!(
                "it was removed, and {what}"
            ))));
        }
        thread::sleep(Duration::from_millis(10));
    }
}
