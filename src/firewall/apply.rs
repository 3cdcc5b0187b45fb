//! `Script --apply--> kernel`: check, one transaction, verify.

use super::lock::Lock;
use super::{Failure, Left, Nft};
use crate::automaton::Automaton;
use crate::policy::Policy;
use crate::ruleset::nftables::{Drift, TABLE, compare, leftovers, render, transaction};

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

/// Makes the policy the running one.
///
/// # Errors
/// Anything that stopped it, with the state the firewall was left in.
pub fn apply(nft: &Nft, policy: &Policy) -> Result<Applied, Failure> {
    let automaton = Automaton::build(policy.sequences());
    let script = render(policy, &automaton);
    let _lock = Lock::take()?;
    let running = nft.list_awake()?;
    let change = transaction(policy, &script, running.as_ref());
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
    for _ in 0..5 {
        let Some(running) = nft.list()? else {
            break;
        };
        let change = leftovers(policy, &running);
        if !change.text.is_empty() {
            nft.load(&change.text)?;
        }
        removed += change.removed;
        let unowned = running.grants().iter().any(|g| g.opened_by.is_none());
        if change.removed == 0 && !unowned {
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

/// Removes our table. Returns whether there was one.
///
/// # Errors
/// As for [`apply`].
pub fn remove(nft: &Nft) -> Result<bool, Failure> {
    let _lock = Lock::take()?;
    if nft.list()?.is_none() {
        return Ok(false);
    }
    nft.load(&format!("delete table {TABLE}\n"))?;
    Ok(true)
}
