//! `Script --apply--> kernel` for the nftables backend: one transaction, verify.

use std::collections::{BTreeSet, HashSet};
use std::thread;
use std::time::{Duration, Instant};

use super::apply::Applied;
use super::backend::Moving;
use super::look::Look;
use super::nf_tables::Parts;
use super::nft::Extent;
use super::seal::Sealed;
use super::tokens::burnt_before;
use super::verified::{Verified, digest};
use super::{Failure, Firewall, Left, Nft, nf_tables};
use crate::automaton::Automaton;
use crate::held::{Grant, Guests};
use crate::policy::Policy;
use crate::ruleset::nftables::{
    Carried, Listing, Script, Transition, carry, compare, compare_outline, leftovers, render,
    shorten, strange, transaction,
};

/// Makes the policy the running one. Whoever calls holds the lock.
///
/// # Errors
/// Anything that stopped it, with the state the firewall was left in.
pub fn apply(firewall: &Firewall, policy: &Policy, moving: Moving<'_>) -> Result<Applied, Failure> {
    let Moving {
        grants,
        began,
        again,
    } = moving;
    let burnt = burnt_before(&firewall.state, policy)?;
    let (once, lasting): (Vec<Grant>, Vec<Grant>) =
        grants.into_iter().partition(|grant| grant.once);
    let mut applied = apply_lasting(firewall, policy, &lasting, began, &burnt)?;
    if !once.is_empty() {
        // Now that both guard, none can be used up in the one and stay in the other.
        let mut unused = again().map_err(changed)?;
        unused.retain(|grant| grant.once);
        let carried = carry(policy, &unused, began.elapsed() + MARGIN);
        firewall.nft.edit(&carried.transaction).map_err(changed)?;
        applied.kept += carried.kept;
        applied.removed += carried.removed;
    }
    Ok(applied)
}

fn changed(failure: Failure) -> Failure {
    failure.leaving(Left::Changed)
}

/// The same without grants for one connection. `burnt` are scratch sequences that were used up before.
fn apply_lasting(
    firewall: &Firewall,
    policy: &Policy,
    moving: &[Grant],
    began: Instant,
    burnt: &BTreeSet<u32>,
) -> Result<Applied, Failure> {
    let nft = &firewall.nft;
    let automaton = Automaton::build(policy.sequences());
    let mut script = render(policy, &automaton);
    let digest = digest(&script);
    script.burn(burnt);
    let (applied, parts) = thread::scope(|scope| {
        // Listing a small script takes nft a moment; meanwhile the rest goes on.
        let small = !nft.is_large(&script);
        let expected = small.then(|| scope.spawn(|| nft.list_fresh(&script)));
        let expected = || expected.map(join).transpose();
        load_and_verify(nft, policy, &script, moving, began, expected)
    })?;
    if let Some(parts) = parts.filter(|_| applied.drifts.is_empty())
        && let Some(verified) = Verified::now(nft, digest, &parts)
    {
        verified.note(&firewall.state);
    }
    Ok(applied)
}

/// The rest of [`apply`]. `expected` is how nft lists the script, `None` if that takes too long. Also returns the
/// parts of what was loaded, if nobody has touched it since.
fn load_and_verify(
    nft: &Nft,
    policy: &Policy,
    script: &Script,
    moving: &[Grant],
    began: Instant,
    expected: impl FnOnce() -> Result<Option<Listing>, Failure>,
) -> Result<(Applied, Option<Parts>), Failure> {
    let is_copy = nft.sealed() == Sealed::Copy;
    let mut of_the_past = 0;
    let mut forget = |running: Option<Listing>| {
        running.map(|mut running| {
            if is_copy {
                of_the_past = running.forget_the_past();
            }
            running
        })
    };
    let (running, extent) = nft.list_for_change(script)?;
    let mut running = forget(running);
    let mut generation = nf_tables::generation();
    let (mut change, mut in_time, mut loaded) =
        load(nft, policy, script, running.as_ref(), moving, began);
    if extent != Extent::Whole && loaded.as_ref().is_err_and(|f| f.left == Left::Unchanged) {
        // The outline of a table that somebody changed may leave something out.
        running = forget(nft.list_awake()?);
        generation = nf_tables::generation();
        (change, in_time, loaded) = load(nft, policy, script, running.as_ref(), moving, began);
    }
    if let Err(failure) = loaded {
        if failure.left != Left::Unknown {
            return Err(failure);
        }
        let before = match (extent, &running) {
            (Extent::Whole, Some(running)) => Before::Listed(running),
            (Extent::Whole, None) => Before::Absent,
            _ => Before::Unknown,
        };
        let left = left_by_a_killed(nft, policy, script, before);
        return Err(failure.leaving(left));
    }
    let parts = loaded_whole(script, generation);
    if began.elapsed() > in_time {
        shortened(nft, &change.carried, began).map_err(changed)?;
    }
    nft.seal().map_err(changed)?;
    let extent = match extent {
        Extent::Crowded => Extent::Crowded,
        _ if nft.is_large(script) => Extent::Outline,
        _ => Extent::Whole,
    };
    let look = Look::of_nftables().ok();
    let (late, running) = sweep(nft, policy, extent).map_err(changed)?;
    let place = |grant: &Grant| (grant.guest(), grant.once);
    let staying: HashSet<_> = change.staying.iter().map(place).collect();
    let late_staying = late.iter().map(place).filter(|at| staying.contains(at));
    let late_staying = late_staying.collect::<HashSet<_>>().len();
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
    let applied = Applied {
        kept: change.kept.saturating_sub(late_staying),
        removed: change.removed + late.len(),
        ended_once: change.ended_once,
        of_the_past,
        drifts,
        look: look.filter(Look::is_still),
        ..Applied::default()
    };
    Ok((applied, parts))
}

/// The parts of a script that was loaded whole by the only transaction since that of this number: what the kernel
/// has of it is then what nft has made of it.
fn loaded_whole(script: &Script, before: Option<u64>) -> Option<Parts> {
    let (parts, generation) = nf_tables::parts().ok()??;
    // Of 32 bits, and the kernel passes over 0.
    let next = before? % u64::from(u32::MAX) + 1;
    (generation == next && parts.count_as(script)).then_some(parts)
}

/// Loads the transaction from `running` to `script`. Returns it, with the time since `began` that it
/// allows for.
fn load(
    nft: &Nft,
    policy: &Policy,
    script: &Script,
    running: Option<&Listing>,
    moving: &[Grant],
    began: Instant,
) -> (Transition, Duration, Result<(), Failure>) {
    let in_time = began.elapsed() + MARGIN;
    let mut change = transaction(policy, script, running, in_time);
    let carried = carry(policy, moving, in_time);
    change.transaction.append(carried.transaction);
    change.kept += carried.kept;
    change.removed += carried.removed;
    let loaded = nft.load(&change.transaction);
    (change, in_time, loaded)
}

/// The time that a commit may take before what it carried over is looked at again.
const MARGIN: Duration = Duration::from_secs(1);

/// Takes back the time that a slow commit gave to what it carried over. Here, too, the commit comes
/// a moment after the text is written; that moment is short, or else it is done once more.
fn shortened(nft: &Nft, carried: &[Carried], began: Instant) -> Result<(), Failure> {
    for _ in 0..5 {
        let in_time = began.elapsed() + MARGIN;
        let transaction = shorten(carried, in_time);
        if !transaction.is_empty() {
            nft.edit(&transaction)?;
        }
        if began.elapsed() <= in_time {
            break;
        }
    }
    Ok(())
}

/// Ends grants that keys which are gone now gave after the listing and before the commit. The new
/// rules know those keys no more, so it is done when a listing shows none of them, and the owner of
/// every grant. Returns those that were ended, and the last listing, of that extent.
fn sweep(
    nft: &Nft,
    policy: &Policy,
    extent: Extent,
) -> Result<(Vec<Grant>, Option<Listing>), Failure> {
    let mut ended = Vec::new();
    let mut before: Option<Guests> = None;
    let mut clean = 0;
    for _ in 0..8 {
        let Some(running) = nft.list_again(extent)? else {
            return Ok((ended, None));
        };
        let change = leftovers(policy, &running, before.as_ref());
        if !change.transaction.is_empty() {
            nft.edit(&change.transaction)?;
        }
        ended.extend(change.ended);
        let unowned = running.grants().iter().any(|g| g.opened_by.is_none());
        let nothing = change.transaction.is_empty() && !unowned;
        clean = if nothing { clean + 1 } else { 0 };
        // Sets that have just been shrunk are listed with gaps: look twice.
        if clean > usize::from(!ended.is_empty()) {
            return Ok((ended, Some(running)));
        }
        before = Some(running.guests());
    }
    Ok((ended, nft.list_again(extent)?))
}

/// The table as it was.
enum Before<'l> {
    Absent,
    /// In whole.
    Listed(&'l Listing),
    /// It was not listed in whole.
    Unknown,
}

/// Judges what an nft left that died on the way: the kernel's table tells whether its message had arrived.
/// That nothing was changed is said only of a table that is as it was, and not as it was to be.
fn left_by_a_killed(nft: &Nft, policy: &Policy, script: &Script, before: Before<'_>) -> Left {
    let (Ok(expected), Ok(actual)) = (nft.list_fresh(script), nft.list()) else {
        return Left::Unknown;
    };
    let Some(actual) = actual else {
        return match before {
            Before::Absent => Left::Unchanged,
            Before::Listed(_) | Before::Unknown => Left::Unknown,
        };
    };
    if compare(&expected, &actual).is_empty() {
        return match strange(policy, &actual).as_slice() {
            [] => Left::Changed,
            _ => Left::Unknown,
        };
    }
    match before {
        Before::Listed(before) if compare(before, &actual).is_empty() => Left::Unchanged,
        _ => Left::Unknown,
    }
}

fn join<T>(worker: thread::ScopedJoinHandle<'_, T>) -> T {
    match worker.join() {
        Ok(value) => value,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}
