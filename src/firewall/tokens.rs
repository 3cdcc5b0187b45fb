//! Tokens into the kernel, and what was spent out of it; the same for scratch sequences.

use std::collections::BTreeSet;
use std::time::Duration;

use super::lock::Lock;
use super::nft::Nft;
use super::state_file::{Kept, StateFile};
use super::{Failure, Firewall, Left};
use crate::policy::Policy;
use crate::ruleset::nftables::{
    BURNT, SPENT, TABLE, TOKENS, burn, burnt, change_tokens, loaded, spent_and_life,
};
use crate::single_use::journal::Clocks;
use crate::single_use::plan::{Known, Source, plan};
use crate::single_use::{Journal, Secret};

/// What a refill did.
#[derive(Debug, Default)]
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
    if let Kept::Journal(journal) = firewall.state.read()
        && journal.clean
    {
        return Err(Failure::unchanged(
            "it was stopped (`toctoc refill --stop`, or the unit): `toctoc apply` starts it again",
        ));
    }
    top_up(&firewall.nft, &firewall.state, policy, clocks)
}

/// Notes that a secret has just been made: nothing of it can have been spent.
///
/// # Errors
/// When the state file cannot be written. Then its first tokens open two minutes later.
pub fn note_new(state: &StateFile, secret: &Secret, clocks: Clocks) -> Result<(), Failure> {
    let _lock = Lock::take()?;
    let mut journal = match state.read() {
        Kept::Journal(journal) => journal,
        Kept::Nothing => Journal::go_on(None, None, random()?, clocks).0,
        Kept::Broken(message) => return Err(Failure::unchanged(message)),
    };
    journal.new.insert(secret.id());
    state.write(&journal).map_err(Failure::unchanged)
}

/// Saves what was spent, for a clean stop: from now to the next apply nothing that opens once does.
/// Returns whether there was anything to save. Doors stay shut, and grants stay.
///
/// # Errors
/// As for [`refill`].
pub fn halt(firewall: &Firewall, clocks: Clocks) -> Result<bool, Failure> {
    let _lock = Lock::take()?;
    stop(&firewall.nft, &firewall.state, clocks)
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
    let has_tokens = policy.has_tokens();
    // What is spent after this stays spent: the kernel refuses it even if it is loaded again.
    let (mut tokens, mut spent, mut life) = Default::default();
    if has_tokens {
        let listing = nft.list_part("map", TOKENS)?.ok_or_else(missing)?;
        tokens = loaded(&listing).ok_or_else(missing)?;
        let listing = nft.list_part("set", SPENT)?.ok_or_else(missing)?;
        (spent, life) = spent_and_life(&listing).ok_or_else(missing)?;
    }
    let mut used_up = BTreeSet::new();
    if policy.has_scratch() {
        let listing = nft.list_part("set", BURNT)?.ok_or_else(missing)?;
        used_up = burnt(&listing).ok_or_else(missing)?;
    }
    let mut warnings = Vec::new();
    let mut lost_scratch = BTreeSet::new();
    let before = match state.read() {
        Kept::Journal(journal) => Some(journal),
        Kept::Nothing => None,
        Kept::Broken(message) => {
            warnings.push(format!("{message}: taken as after a power cut"));
            // Which were used up is not known: none opens any more.
            lost_scratch = policy.scratch_ids();
            None
        }
    };
    if !lost_scratch.is_empty() {
        warnings.push("all scratch sequences are taken as used up: make new ones".to_string());
    }
    let lost = before.is_none() && life.is_some() && warnings.is_empty();
    if lost {
        warnings.push("the state file is gone: taken as after a power cut".to_string());
    }
    let (mut journal, _) = Journal::go_on(before, life, random()?, clocks);
    // A new one each time: a table that somebody has saved and loaded again is told by its old one.
    journal.life = random()?;
    journal.remember(spent, clocks.now);
    journal.burnt.append(&mut lost_scratch);
    let forgotten: Vec<u32> = journal.burnt.difference(&used_up).copied().collect();
    journal.burnt.append(&mut used_up);
    let sources: Vec<Source> = policy
        .token_keys()
        .map(|(key, secret)| Source {
            secret,
            expires: key.expires,
            barred: journal.barred_for(secret.id()),
        })
        .collect();
    // First on disk: should this end here, the kernel's table has another life, or none.
    state.write(&journal).map_err(Failure::unchanged)?;
    if policy.has_scratch() && !forgotten.is_empty() {
        nft.load(&burn(&forgotten))?;
    }
    if !has_tokens {
        return Ok(Refilled {
            warnings,
            ..Refilled::default()
        });
    }
    let known = Known {
        loaded: tokens,
        spent: journal.spent().collect(),
    };
    let plan = plan(&sources, &known, clocks.now, policy.token_horizon);
    let text = change_tokens(&plan, life, journal.life);
    if !text.is_empty() {
        nft.load(&text)?;
    }
    let barred = sources.iter().filter_map(|source| source.barred).max();
    let from = barred.map(|window| window.end());
    let from = from.filter(|at| *at > clocks.now && journal.waiting_for.is_none());
    Ok(Refilled {
        added: plan.add.len(),
        removed: plan
            .remove
            .keys()
            .filter(|token| !plan.add.contains_key(*token))
            .count(),
        from,
        waiting_for: journal.waiting_for.filter(|_| barred.is_some()),
        warnings,
    })
}

/// The scratch sequences that were used up under an earlier table. They have to be in the new one from
/// its first moment.
pub(super) fn burnt_before(state: &StateFile, policy: &Policy) -> Result<BTreeSet<u32>, Failure> {
    if !policy.has_scratch() {
        return Ok(BTreeSet::new());
    }
    Ok(match state.read() {
        Kept::Journal(journal) => journal.burnt,
        Kept::Nothing => BTreeSet::new(),
        Kept::Broken(_) => policy.scratch_ids(),
    })
}

/// Before the table is taken away: nobody can spend anything any more, and what was spent is saved, so
/// that a later start knows it. Returns whether there was anything to save.
pub(super) fn stop(nft: &Nft, state: &StateFile, clocks: Clocks) -> Result<bool, Failure> {
    let spent = nft.list_part("set", SPENT)?;
    let scratch = nft.list_part("set", BURNT)?;
    let mut last = String::new();
    if nft.list_part("map", TOKENS)?.is_some() {
        last.push_str(&format!("flush map {TABLE} {TOKENS}\n"));
    }
    if scratch.is_some() {
        // What completes one of them finds nothing any more; other keys go on.
        let chains = nft.scratch_chains()?;
        last.extend(
            chains
                .iter()
                .map(|name| format!("flush chain {TABLE} {name}\n")),
        );
    }
    if spent.is_none() && scratch.is_none() {
        return Ok(false);
    }
    let before = match state.read() {
        Kept::Journal(journal) => Some(journal),
        Kept::Nothing | Kept::Broken(_) => None,
    };
    if !last.is_empty() {
        nft.load(&last)?;
    }
    let changed = |failure| Failure {
        left: Left::Changed,
        ..failure
    };
    // Now that all stands still.
    let listing = nft.list_part("set", SPENT).map_err(changed)?;
    let (spent, life) = listing
        .as_ref()
        .and_then(spent_and_life)
        .unwrap_or_default();
    let listing = nft.list_part("set", BURNT).map_err(changed)?;
    let known = before.is_some() && (life.is_none() || before.as_ref().map(|b| b.life) == life);
    let (mut journal, _) = Journal::go_on(before, life, random()?, clocks);
    journal.remember(spent, clocks.now);
    journal
        .burnt
        .extend(listing.as_ref().and_then(burnt).unwrap_or_default());
    journal.clean = known;
    state.write(&journal).map_err(|message| Failure {
        message: format!("{message}; until the next apply nothing that opens once does"),
        left: Left::Stopped,
    })?;
    Ok(true)
}

/// A random number.
fn random() -> Result<u64, Failure> {
    getrandom::u64().map_err(|error| Failure::unchanged(format!("no random numbers: {error}")))
}
