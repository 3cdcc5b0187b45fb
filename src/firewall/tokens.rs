//! Tokens into the kernel, and what was spent out of it.

use std::time::Duration;

use super::lock::Lock;
use super::nft::Nft;
use super::state_file::{Kept, StateFile};
use super::{Failure, Firewall, Left};
use crate::policy::Policy;
use crate::ruleset::nftables::{SPENT, TABLE, TOKENS, change_tokens, loaded, spent_and_life};
use crate::single_use::Journal;
use crate::single_use::journal::Clocks;
use crate::single_use::plan::{Known, Source, plan};

/// What a refill did.
#[derive(Debug)]
pub struct Refilled {
    /// Tokens that were loaded, or loaded again with another time.
    pub added: usize,
    /// Tokens that were taken away: of keys that are gone, or good for too long.
    pub removed: usize,
    /// When the first token opens, in seconds since 1970, if that is not now.
    pub from: Option<i64>,
    /// The clock is behind what it was before; nothing is loaded before this moment.
    pub waiting_for: Option<i64>,
    /// What the administrator should know, a sentence each.
    pub warnings: Vec<String>,
}

/// What the clocks say now.
pub fn clocks() -> Clocks {
    let seconds = |id| rustix::time::clock_gettime(id).tv_sec;
    Clocks {
        now: seconds(rustix::time::ClockId::Realtime),
        since_start: Duration::from_secs(
            u64::try_from(seconds(rustix::time::ClockId::Boottime)).unwrap_or(0),
        ),
    }
}

/// Loads the tokens of the coming hours that are not in the kernel yet. Changes no rule.
///
/// # Errors
/// Anything that stopped it, with the state the firewall was left in.
pub fn refill(firewall: &Firewall, policy: &Policy, clocks: Clocks) -> Result<Refilled, Failure> {
    let _lock = Lock::take()?;
    top_up(&firewall.nft, &firewall.state, policy, clocks)
}

/// The same for who holds the lock.
pub(super) fn top_up(
    nft: &Nft,
    state: &StateFile,
    policy: &Policy,
    clocks: Clocks,
) -> Result<Refilled, Failure> {
    let missing = || {
        Failure::unchanged(
            "the running firewall has no place for tokens: apply the policy first (`toctoc apply`)",
        )
    };
    // What is spent after this stays spent: the kernel refuses it even if it is loaded again.
    let listing = nft.list_part("map", TOKENS)?.ok_or_else(missing)?;
    let tokens = loaded(&listing).ok_or_else(missing)?;
    let listing = nft.list_part("set", SPENT)?.ok_or_else(missing)?;
    let (spent, life) = spent_and_life(&listing).ok_or_else(missing)?;
    let mut warnings = Vec::new();
    let before = match state.read() {
        Kept::Journal(journal) => Some(journal),
        Kept::Nothing => None,
        Kept::Broken(message) => {
            warnings.push(format!("{message}: taken as after a power cut"));
            None
        }
    };
    let lost = before.is_none() && life.is_some() && warnings.is_empty();
    if lost {
        warnings.push("the state file is gone: taken as after a power cut".to_string());
    }
    let (mut journal, _) = Journal::go_on(before, life, random()?, clocks);
    journal.remember(spent, clocks.now);
    // First on disk: should this end here, the kernel's table has another life, or none.
    state.write(&journal).map_err(Failure::unchanged)?;
    let known = Known {
        loaded: tokens,
        spent: journal.spent().collect(),
        barred: journal.barred(),
    };
    let sources: Vec<Source> = policy
        .token_keys()
        .map(|(key, secret)| Source {
            secret,
            expires: key.expires,
        })
        .collect();
    let plan = plan(&sources, &known, clocks.now, policy.token_horizon);
    let text = change_tokens(&plan, life, journal.life);
    if !text.is_empty() {
        nft.load(&text)?;
    }
    let from = journal.barred().map(|window| window.end());
    let from = from.filter(|at| *at > clocks.now && journal.waiting_for.is_none());
    Ok(Refilled {
        added: plan.add.len(),
        removed: plan
            .remove
            .keys()
            .filter(|token| !plan.add.contains_key(*token))
            .count(),
        from,
        waiting_for: journal.waiting_for,
        warnings,
    })
}

/// Before the table is taken away: nobody can spend a token any more, and what was spent is saved, so
/// that a later start loads exactly the others.
pub(super) fn stop(nft: &Nft, state: &StateFile, clocks: Clocks) -> Result<(), Failure> {
    let Some(listing) = nft.list_part("set", SPENT)? else {
        return Ok(());
    };
    let Some((_, Some(life))) = spent_and_life(&listing) else {
        return Ok(());
    };
    let Kept::Journal(before) = state.read() else {
        return Ok(());
    };
    if before.life != life {
        return Ok(());
    }
    nft.load(&format!("flush map {TABLE} {TOKENS}\n"))?;
    let changed = |failure| Failure {
        left: Left::Changed,
        ..failure
    };
    let listing = nft.list_part("set", SPENT).map_err(changed)?;
    let spent = listing.as_ref().and_then(spent_and_life);
    let (mut journal, _) = Journal::go_on(Some(before), Some(life), life, clocks);
    journal.remember(spent.into_iter().flat_map(|(spent, _)| spent), clocks.now);
    journal.clean = true;
    state.write(&journal).map_err(|message| Failure {
        message: format!("{message}; the rules are still there, the tokens are not"),
        left: Left::Changed,
    })
}

/// A random number.
fn random() -> Result<u64, Failure> {
    getrandom::u64().map_err(|error| Failure::unchanged(format!("no random numbers: {error}")))
}
