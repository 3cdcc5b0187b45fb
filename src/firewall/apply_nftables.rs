//! `Script --apply--> kernel` for the nftables backend: one transaction, verify.

use std::thread;
use std::time::{Duration, Instant};

use super::apply::Applied;
use super::nft::Extent;
use super::{Failure, Left, Nft};
use crate::automaton::Automaton;
use crate::policy::Policy;
use crate::ruleset::nftables::{
    Carried, Change, Listing, Script, carry, compare, compare_outline, leftovers, render, shorten,
    strange, transaction,
};
use crate::ruleset::{Drift, Grant};

/// Makes the policy the running one. `moving` are live grants that another backend has given, read
/// when it all `began`. Whoever calls holds the lock.
///
/// # Errors
/// Anything that stopped it, with the state the firewall was left in.
pub fn apply(
    nft: &Nft,
    policy: &Policy,
    moving: &[Grant],
    began: Instant,
) -> Result<Applied, Failure> {
    let automaton = Automaton::build(policy.sequences());
    let script = render(policy, &automaton);
    thread::scope(|scope| {
        // What nft prints of a small script takes it a moment to say; meanwhile the rest goes on.
        let small = !nft.is_large(&script);
        let expected = small.then(|| scope.spawn(|| nft.list_fresh(&script)));
        let expected = || match expected.map(|worker| worker.join()) {
            Some(Ok(expected)) => expected.map(Some),
            Some(Err(panic)) => std::panic::resume_unwind(panic),
            None => Ok(None),
        };
        load_and_verify(nft, policy, &script, moving, began, expected)
    })
}

/// The rest of [`apply`]. `expected` is how nft lists the script, `None` if that takes too long.
fn load_and_verify(
    nft: &Nft,
    policy: &Policy,
    script: &Script,
    moving: &[Grant],
    began: Instant,
    expected: impl FnOnce() -> Result<Option<Listing>, Failure>,
) -> Result<Applied, Failure> {
    let (running, extent) = nft.list_for_change()?;
    let (mut change, mut in_time, mut loaded) = load(nft, policy, script, running, moving, began);
    if extent != Extent::Whole && loaded.as_ref().is_err_and(|f| f.left == Left::Unchanged) {
        // The outline of a table that somebody changed may leave something out.
        let running = nft.list_awake()?;
        (change, in_time, loaded) = load(nft, policy, script, running, moving, began);
    }
    if let Err(failure) = loaded {
        if failure.left != Left::Unknown {
            return Err(failure);
        }
        // nft died on the way; what the kernel holds tells whether its message had arrived.
        let drifts = verify(nft, policy, script).map_err(|_| Failure {
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
    let extent = match extent {
        Extent::Crowded => Extent::Crowded,
        _ if nft.is_large(script) => Extent::Outline,
        _ => Extent::Whole,
    };
    let (late, running) = sweep(nft, policy, extent).map_err(changed)?;
    let expected = expected().map_err(changed)?;
    let drifts = match running {
        Some(running) => {
            let mut drifts = match expected {
                Some(expected) if extent == Extent::Whole => compare(&expected, &running),
                // The commit was all or nothing. What can be read in a moment is looked at again.
                _ => compare_outline(script, &running),
            };
            drifts.extend(strange(policy, &running));
            drifts
        }
        None => vec![super::status::table_missing()],
    };
    Ok(Applied {
        kept: change.kept,
        removed: change.removed + late,
        ended_once: change.ended_once,
        drifts,
        refilled: None,
    })
}

/// Loads the transaction from `running` to `script`. Returns it, with the time since `began` that it
/// allows for.
fn load(
    nft: &Nft,
    policy: &Policy,
    script: &Script,
    running: Option<Listing>,
    moving: &[Grant],
    began: Instant,
) -> (Change, Duration, Result<(), Failure>) {
    let in_time = began.elapsed() + MARGIN;
    let mut change = transaction(policy, script, running.as_ref(), in_time);
    let carried = carry(policy, moving, in_time);
    change.text.push_str(&carried.text);
    change.kept += carried.kept;
    change.removed += carried.removed;
    let loaded = nft.load(&change.text);
    (change, in_time, loaded)
}

/// How long a commit may take before what it carried over is looked at again.
pub const MARGIN: Duration = Duration::from_secs(1);

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
/// every grant. Returns how many were ended, and the last listing, of that extent.
fn sweep(nft: &Nft, policy: &Policy, extent: Extent) -> Result<(usize, Option<Listing>), Failure> {
    let mut removed = 0;
    let mut before = None;
    let mut clean = 0;
    for _ in 0..8 {
        let Some(running) = nft.list_again(extent)? else {
            return Ok((removed, None));
        };
        let change = leftovers(policy, &running, before.as_ref());
        if !change.text.is_empty() {
            nft.load(&change.text)?;
        }
        removed += change.removed;
        let unowned = running.grants().iter().any(|g| g.opened_by.is_none());
        let nothing = change.text.is_empty() && !unowned;
        clean = if nothing { clean + 1 } else { 0 };
        // What has just been shrunk is listed with gaps: look twice.
        if clean > usize::from(removed > 0) {
            return Ok((removed, Some(running)));
        }
        before = Some(running);
    }
    Ok((removed, nft.list_again(extent)?))
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
