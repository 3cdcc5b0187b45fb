//! `Script --apply--> kernel`: check, one transaction, verify.

use std::time::{Duration, Instant};

use super::apply_iptables;
use super::lock::Lock;
use super::{Failure, Firewall, Iptables, Left, Nft};
use crate::automaton::Automaton;
use crate::policy::{Backend, Policy};
use crate::ruleset::nftables::{
    Carried, Script, TABLE, carry, compare, leftovers, render, shorten, strange, transaction,
};
use crate::ruleset::{Drift, Grant};

/// What an apply did.
#[derive(Debug)]
pub struct Applied {
    /// Live grants that were kept.
    pub kept: usize,
    /// Live grants that ended, their door or key being gone.
    pub removed: usize,
    /// Live grants for one connection that ended, their set being made anew.
    pub ended_once: usize,
    /// What differs from the policy right after: nothing, unless somebody else interfered.
    pub drifts: Vec<Drift>,
}

/// Makes the policy the running one. When the other backend was the running one, its live grants move
/// along and it is removed last: until then both guard the doors.
///
/// # Errors
/// Anything that stopped it, with the state the firewall was left in.
pub fn apply(firewall: &Firewall, policy: &Policy) -> Result<Applied, Failure> {
    let _lock = Lock::take()?;
    let changed = |failure| Failure {
        left: Left::Changed,
        ..failure
    };
    match policy.backend {
        Backend::Nftables => {
            let began = Instant::now();
            let other = Iptables::has_lists();
            let moving = if other {
                Iptables::lists()?.grants()
            } else {
                Vec::new()
            };
            let (once, lasting): (Vec<Grant>, Vec<Grant>) =
                moving.into_iter().partition(|grant| grant.once);
            let mut applied = apply_nftables(&firewall.nft, policy, &lasting, began)?;
            if !once.is_empty() {
                // Now that both guard, none can be used up in the one and stay in the other.
                let mut unused = Iptables::lists().map_err(changed)?.grants();
                unused.retain(|grant| grant.once);
                let carried = carry(policy, &unused, began.elapsed() + MARGIN);
                firewall.nft.load(&carried.text).map_err(changed)?;
                applied.kept += carried.kept;
                applied.removed += carried.removed;
            }
            if other {
                remove_iptables(firewall, true).map_err(changed)?;
            }
            Ok(applied)
        }
        Backend::Iptables => {
            let began = Instant::now();
            let other = firewall.nft.list_if_there()?;
            let moving = other.as_ref().map(|listing| listing.grants());
            let moving = moving.unwrap_or_default();
            let again = || {
                let listing = firewall.nft.list()?;
                Ok(listing.map(|listing| listing.grants()).unwrap_or_default())
            };
            let applied = apply_iptables::apply(firewall.iptables, policy, &moving, began, again)?;
            if other.is_some() {
                firewall
                    .nft
                    .load(&format!("delete table {TABLE}\n"))
                    .map_err(changed)?;
            }
            // What the host's other iptables holds is not seen by this one.
            remove_iptables(firewall, false).map_err(changed)?;
            Ok(applied)
        }
    }
}

/// Removes our chains from the variants of iptables by name, and from the host's own if that is meant
/// too. Returns whether there were any.
fn remove_iptables(firewall: &Firewall, own_too: bool) -> Result<bool, Failure> {
    let own = firewall.iptables;
    let mut any = own_too && apply_iptables::remove(own)?;
    for variant in Iptables::BY_NAME {
        if own_too || !own.is(variant)? {
            any |= apply_iptables::remove(variant)?;
        }
    }
    Ok(any)
}

/// `began` is when the grants that move were read.
fn apply_nftables(
    nft: &Nft,
    policy: &Policy,
    moving: &[Grant],
    began: Instant,
) -> Result<Applied, Failure> {
    let automaton = Automaton::build(policy.sequences());
    let script = render(policy, &automaton);
    let running = nft.list_awake()?;
    let change = |late| {
        let mut change = transaction(policy, &script, running.as_ref(), late);
        let carried = carry(policy, moving, late);
        change.text.push_str(&carried.text);
        change.kept += carried.kept;
        change.removed += carried.removed;
        change
    };
    nft.check(&change(began.elapsed()).text)?;
    let in_time = began.elapsed() + MARGIN;
    let change = change(in_time);
    let loaded = nft.load(&change.text);
    if let Err(failure) = loaded {
        if failure.left != Left::Unknown {
            return Err(failure);
        }
        // nft died on the way; what the kernel holds tells whether its message had arrived.
        let drifts = verify(nft, policy, &script).map_err(|_| Failure {
            left: Left::Unknown,
            message: failure.message.clone(),
        })?;
        let left = if drifts.is_empty() {
            Left::Changed
        } else {
            Left::Unchanged
        };
        return Err(Failure { left, ..failure });
    }
    let changed = |failure| Failure {
        left: Left::Changed,
        ..failure
    };
    if began.elapsed() > in_time {
        shortened(nft, &change.carried, began).map_err(changed)?;
    }
    let late = sweep(nft, policy).map_err(changed)?;
    let drifts = verify(nft, policy, &script).map_err(changed)?;
    Ok(Applied {
        kept: change.kept,
        removed: change.removed + late,
        ended_once: change.ended_once,
        drifts,
    })
}

/// How long a commit may take before what it carried over is looked at again.
const MARGIN: Duration = Duration::from_secs(1);

/// Takes back the time that a slow commit gave to what it carried over. Here, too, the commit comes
/// a moment after the text is written; that moment is short, or else it is done once more.
fn shortened(nft: &Nft, carried: &[Carried], began: Instant) -> Result<(), Failure> {
    for _ in 0..5 {
        let in_time = began.elapsed() + MARGIN;
        let text = shorten(carried, in_time);
        if !text.is_empty() {
            nft.load(&text)?;
        }
        if began.elapsed() <= in_time {
            break;
        }
    }
    Ok(())
}

/// Ends grants that keys which are gone now gave after the listing and before the commit. The new
/// rules know those keys no more, so it is done when a listing shows none of them, and the owner of
/// every grant. Returns how many were ended.
fn sweep(nft: &Nft, policy: &Policy) -> Result<usize, Failure> {
    let mut removed = 0;
    let mut before = None;
    let mut clean = 0;
    for _ in 0..8 {
        let Some(running) = nft.list()? else {
            break;
        };
        let change = leftovers(policy, &running, before.as_ref());
        if !change.text.is_empty() {
            nft.load(&change.text)?;
        }
        removed += change.removed;
        let ownerless = running.grants().iter().any(|g| g.opened_by.is_none());
        let nothing = change.text.is_empty() && !ownerless;
        clean = if nothing { clean + 1 } else { 0 };
        // What has just been shrunk is listed with gaps: look twice.
        if clean > usize::from(removed > 0) {
            break;
        }
        before = Some(running);
    }
    Ok(removed)
}

fn verify(nft: &Nft, policy: &Policy, script: &Script) -> Result<Vec<Drift>, Failure> {
    let expected = nft.list_fresh(script)?;
    Ok(match nft.list()? {
        Some(actual) => {
            let mut drifts = compare(&expected, &actual);
            drifts.extend(strange(policy, &actual));
            drifts
        }
        None => vec![super::status::table_missing()],
    })
}

/// Takes what is ours out of the firewall: of one backend, or of both. Returns whether there was
/// anything.
///
/// # Errors
/// As for [`apply`].
pub fn remove(firewall: &Firewall, backend: Option<Backend>) -> Result<bool, Failure> {
    let _lock = Lock::take()?;
    let mut any = false;
    if backend != Some(Backend::Iptables) {
        let listed = match backend {
            Some(_) => firewall.nft.list()?,
            None => firewall.nft.list_if_there()?,
        };
        if listed.is_some() {
            firewall.nft.load(&format!("delete table {TABLE}\n"))?;
            any = true;
        }
    }
    if backend != Some(Backend::Nftables) && (backend.is_some() || Iptables::has_lists()) {
        any |= remove_iptables(firewall, true)?;
    }
    Ok(any)
}
