//! `Script --apply--> kernel`: check, one transaction, verify.

use super::apply_iptables;
use super::lock::Lock;
use super::{Failure, Firewall, Iptables, Left, Nft};
use crate::automaton::Automaton;
use crate::policy::{Backend, Policy};
use crate::ruleset::nftables::{TABLE, carry, compare, leftovers, render, transaction};
use crate::ruleset::{Drift, Grant};

/// What an apply did.
#[derive(Debug)]
pub struct Applied {
    /// Live grants that were kept.
    pub kept: usize,
    /// Live grants that ended, their door or key being gone.
    pub removed: usize,
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
            let other = Iptables::has_lists();
            let moving = if other {
                Iptables::lists()?.grants()
            } else {
                Vec::new()
            };
            let applied = apply_nftables(&firewall.nft, policy, &moving)?;
            if other {
                remove_iptables(firewall, true).map_err(changed)?;
            }
            Ok(applied)
        }
        Backend::Iptables => {
            let other = firewall.nft.list_if_there()?;
            let moving = other.as_ref().map(|listing| listing.grants());
            let moving = moving.unwrap_or_default();
            let applied = apply_iptables::apply(firewall.iptables, policy, &moving)?;
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

fn apply_nftables(nft: &Nft, policy: &Policy, moving: &[Grant]) -> Result<Applied, Failure> {
    let automaton = Automaton::build(policy.sequences());
    let script = render(policy, &automaton);
    let running = nft.list_awake()?;
    let mut change = transaction(policy, &script, running.as_ref());
    let carried = carry(policy, moving);
    change.text.push_str(&carried.text);
    change.kept += carried.kept;
    change.removed += carried.removed;
    nft.check(&change.text)?;
    let loaded = nft.load(&change.text);
    if let Err(failure) = loaded {
        if failure.left != Left::Unknown {
            return Err(failure);
        }
        // nft died on the way; what the kernel holds tells whether its message had arrived.
        let drifts = verify(nft, &script).map_err(|_| Failure {
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
    let late = sweep(nft, policy).map_err(changed)?;
    let drifts = verify(nft, &script).map_err(changed)?;
    Ok(Applied {
        kept: change.kept,
        removed: change.removed + late,
        drifts,
    })
}

/// Ends grants that keys which are gone now gave after the listing and before the commit. The new
/// rules know those keys no more, so it is done when a listing shows none of them, and the owner of
/// every grant. Returns how many were ended.
fn sweep(nft: &Nft, policy: &Policy) -> Result<usize, Failure> {
    let mut removed = 0;
    let mut ownerless: Vec<Grant> = Vec::new();
    let mut clean = 0;
    for _ in 0..8 {
        let Some(running) = nft.list()? else {
            break;
        };
        let change = leftovers(policy, &running, &ownerless);
        if !change.text.is_empty() {
            nft.load(&change.text)?;
        }
        removed += change.removed;
        ownerless = running.grants();
        ownerless.retain(|grant| grant.opened_by.is_none());
        let nothing = change.text.is_empty() && ownerless.is_empty();
        clean = if nothing { clean + 1 } else { 0 };
        // What has just been shrunk is listed with gaps: look twice.
        if clean > usize::from(removed > 0) {
            break;
        }
    }
    Ok(removed)
}

fn verify(nft: &Nft, script: &crate::ruleset::nftables::Script) -> Result<Vec<Drift>, Failure> {
    let expected = nft.list_fresh(script)?;
    Ok(match nft.list()? {
        Some(actual) => compare(&expected, &actual),
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
