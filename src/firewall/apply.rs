//! `Script --apply--> kernel`: check, one transaction, verify.

use std::time::{Duration, Instant};

use super::lock::Lock;
use super::{Failure, Left, Nft};
use crate::automaton::Automaton;
use crate::policy::Policy;
use crate::ruleset::nftables::{
    Carried, Drift, Script, TABLE, compare, leftovers, render, shorten, strange, transaction,
};

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

/// Makes the policy the running one.
///
/// # Errors
/// Anything that stopped it, with the state the firewall was left in.
pub fn apply(nft: &Nft, policy: &Policy) -> Result<Applied, Failure> {
    let automaton = Automaton::build(policy.sequences());
    let script = render(policy, &automaton);
    let _lock = Lock::take()?;
    let began = Instant::now();
    let running = nft.list_awake()?;
    let change = |late| transaction(policy, &script, running.as_ref(), late);
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
    for _ in 0..5 {
        let Some(running) = nft.list()? else {
            break;
        };
        let change = leftovers(policy, &running, before.as_ref());
        if !change.text.is_empty() {
            nft.load(&change.text)?;
        }
        removed += change.removed;
        let unowned = running.grants().iter().any(|g| g.opened_by.is_none());
        if change.removed == 0 && !unowned {
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
