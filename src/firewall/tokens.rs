//! Tokens into the kernel, and what was spent out of it; the same for scratch sequences.

use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::time::Duration;

use super::lock::Lock;
use super::nft::Nft;
use super::state_file::{Kept, StateFile};
use super::{Failure, Firewall, Left};
use crate::policy::Policy;
use crate::ruleset::nftables::{
    Command, SetId, Transaction, burn, burnt, change_tokens, spent_and_life,
};
use crate::single_use::journal::{Clocks, Found};
use crate::single_use::plan::{Plan, Source, reaches, rest, samples, whole};
use crate::single_use::{Journal, Secret, Token, Window};

/// The result of a refill.
#[derive(Debug, Default)]
pub struct Refilled {
    /// Tokens that were loaded.
    pub added: usize,
    /// These are all there are: what was there before was taken away first.
    pub all: bool,
    pub wait: Option<Wait>,
    /// Grants ended, since they came from a saved ruleset that was loaded again.
    pub of_the_past: bool,
    /// Warnings for the administrator, a sentence each.
    pub warnings: Vec<String>,
}

/// Why tokens do not open yet. Moments are in seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Of those before, nobody knows what was spent.
    From(i64),
    /// The clock is behind what it was before; nothing is loaded before this moment.
    ForTheClock(i64),
}

impl Wait {
    /// The reason why the tokens of a policy wait.
    pub fn of(journal: &Journal, barred: Option<Window>, now: i64) -> Option<Wait> {
        let barred = barred?;
        let from = (barred.end() > now).then(|| Wait::From(barred.end()));
        journal.waiting_for.map(Wait::ForTheClock).or(from)
    }
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wait::From(at) => write!(f, "tokens open from {} on", moment(*at)),
            Wait::ForTheClock(at) => write!(
                f,
                "this clock is behind what it was before, and no token opens until it is {}",
                moment(*at)
            ),
        }
    }
}

fn moment(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map_or_else(
        |_| seconds.to_string(),
        |time| time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
    )
}

/// Reads the clocks.
pub fn clocks() -> Clocks {
    let seconds = |id| rustix::time::clock_gettime(id).tv_sec;
    let duration = |id| Duration::from_secs(u64::try_from(seconds(id)).unwrap_or(0));
    Clocks {
        now: seconds(rustix::time::ClockId::Realtime),
        since_start: duration(rustix::time::ClockId::Boottime),
        awake: duration(rustix::time::ClockId::Monotonic),
    }
}

/// Loads the tokens of the coming hours that are not in the kernel yet. Changes no rule. What a saved ruleset
/// grants that was loaded again ends.
///
/// # Errors
/// Anything that stopped it, with the state the firewall was left in.
pub fn refill(firewall: &Firewall, policy: &Policy, clocks: Clocks) -> Result<Refilled, Failure> {
    let _lock = Lock::take()?;
    let of_the_past = firewall.nft.end_the_past()?;
    if policy.is_single_use()
        && let Kept::Journal(journal) = firewall.state.read()
        && journal.clean
    {
        return Err(Failure::unchanged(
            "it was stopped (`toctoc refill --stop`, or the unit): `toctoc apply` starts it again",
        ));
    }
    let mut done = match policy.is_single_use() {
        true => {
            let (nft, state) = (&firewall.nft, &firewall.state);
            top_up(nft, state, policy, clocks, Load::Missing)?
        }
        false => Refilled::default(),
    };
    done.of_the_past = of_the_past;
    if policy.has_signed() {
        let why = super::signed::place(policy)?.into_iter();
        done.warnings
            .extend(why.map(|why| format!("signed keys do not open on {why}")));
    }
    Ok(done)
}

/// Which tokens are loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Load {
    /// Those that are not in the kernel yet; all if it does not hold what it should.
    Missing,
    /// All, so that nothing else is there.
    All,
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

/// The secrets of a policy, each with its end and with what the journal bars.
pub(super) fn sources<'p>(policy: &'p Policy, journal: &mut Journal) -> Vec<Source<'p>> {
    let keys = policy.token_keys().map(|(key, secret)| Source {
        secret,
        expires: key.expires,
        barred: journal.barred_for(secret.id()),
    });
    keys.collect()
}

/// The same for who holds the lock.
pub(super) fn top_up(
    nft: &Nft,
    state: &StateFile,
    policy: &Policy,
    clocks: Clocks,
    load: Load,
) -> Result<Refilled, Failure> {
    let missing = || {
        Failure::unchanged(
            "the running firewall has no place for tokens: apply the policy first (`toctoc apply`)",
        )
    };
    let has_tokens = policy.has_tokens();
    // Tokens spent after this stay spent: the kernel refuses them even if they are loaded again.
    let (mut spent, mut life) = Default::default();
    if has_tokens {
        let listing = nft.list_set(SetId::Spent)?.ok_or_else(missing)?;
        (spent, life) = spent_and_life(&listing).ok_or_else(missing)?;
    }
    let mut used_up = BTreeSet::new();
    if policy.has_scratch() {
        let listing = nft.list_set(SetId::Burnt)?.ok_or_else(missing)?;
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
    let believed = before
        .as_ref()
        .and_then(|before| before.believed(clocks.now));
    let table = nft.table()?;
    let own = before
        .as_ref()
        .map_or(life, |before| before.life_of(&table, life));
    let (mut journal, found) = Journal::go_on(before, own, random()?, clocks);
    journal.table = table;
    if policy.fleet.is_some() && found == Found::AfterCleanStop {
        journal.wait_for_others(clocks.now);
    }
    if let Some(behind) = believed.filter(|_| has_tokens && found == Found::AfterUncleanStop) {
        warnings.push(format!(
            "this clock is {} days behind what it was, and is believed: if it is wrong, set it; until then \
             tokens of its time open",
            behind / 86_400
        ));
    }
    // A new one each time: a table that somebody has saved and loaded again is told by its old one.
    journal.life = random()?;
    journal.remember(spent, clocks.now);
    journal.burnt.append(&mut lost_scratch);
    let forgotten: Vec<u32> = journal.burnt.difference(&used_up).copied().collect();
    journal.burnt.append(&mut used_up);
    let sources = sources(policy, &mut journal);
    let (now, horizon) = (clocks.now, policy.token_horizon);
    let known: HashSet<Token> = journal.spent().collect();
    let mut plan = None;
    if has_tokens && load == Load::Missing && journal.counted_alike(clocks) {
        // All of a large map take the kernel long to list; some of them, no time.
        let samples = samples(&sources, &journal.loaded, &known, now);
        if samples.is_some_and(|samples| nft.holds_tokens(&samples)) {
            plan = rest(&sources, &journal.loaded, &known, now, horizon);
        }
    }
    if has_tokens && plan.is_none() && !nft.has_tokens()? {
        return Err(missing());
    }
    let mut plan = plan.unwrap_or_else(|| whole(&sources, &known, now, horizon));
    if plan.anew {
        journal.kernel_clock = clocks.kernel_offset();
    }
    journal.loaded = reaches(&sources, now, horizon);
    // First on disk: should this end here, the kernel's table has another life, or none.
    state.write(&journal).map_err(Failure::unchanged)?;
    if policy.has_scratch() && !forgotten.is_empty() {
        nft.edit(&burn(&forgotten))?;
    }
    if !has_tokens {
        return Ok(Refilled {
            warnings,
            ..Refilled::default()
        });
    }
    let load = |plan: &Plan| nft.edit(&change_tokens(plan, life, journal.life));
    if !plan.anew && load(&plan).is_err() {
        // Somebody has loaded one of them with other words.
        plan = whole(&sources, &known, now, horizon);
        load(&plan)?;
    } else if plan.anew {
        load(&plan)?;
    }
    let barred = sources.iter().filter_map(|source| source.barred).max();
    Ok(Refilled {
        added: plan.add.len(),
        all: plan.anew,
        wait: Wait::of(&journal, barred, now),
        of_the_past: false,
        warnings,
    })
}

/// The scratch sequences that are used up, as far as the kernel and the state file know.
///
/// # Errors
/// When either cannot be read.
pub fn used_up(firewall: &Firewall, policy: &Policy) -> Result<BTreeSet<u32>, Failure> {
    if !policy.has_scratch() {
        return Ok(BTreeSet::new());
    }
    let mut used_up = match firewall.state.read() {
        Kept::Journal(journal) => journal.burnt,
        Kept::Nothing => BTreeSet::new(),
        Kept::Broken(message) => return Err(Failure::unchanged(message)),
    };
    if firewall.nft.is_there()?
        && let Some(listing) = firewall.nft.list_set(SetId::Burnt)?
    {
        used_up.append(&mut burnt(&listing).unwrap_or_default());
    }
    Ok(used_up)
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
    let has_tokens = nft.has_tokens()?;
    // Without tokens it has tags of signed keys alone: those are refused by their time.
    let spent = match has_tokens {
        true => nft.list_set(SetId::Spent)?,
        false => None,
    };
    let scratch = nft.list_set(SetId::Burnt)?;
    let mut last = Transaction::default();
    if has_tokens {
        last.0.push(Command::Flush {
            kind: SetId::Tokens.word(),
            set: SetId::Tokens.to_string(),
        });
    }
    if scratch.is_some() {
        // A knock that completes one of them finds nothing any more; other keys go on.
        let chains = nft.scratch_chains()?;
        last.0.extend(chains.into_iter().map(Command::FlushChain));
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
    let changed = |failure: Failure| failure.leaving(Left::Changed);
    // Now that all stands still.
    let listing = nft.list_set(SetId::Spent).map_err(changed)?;
    let (spent, life) = listing
        .as_ref()
        .and_then(spent_and_life)
        .unwrap_or_default();
    let listing = nft.list_set(SetId::Burnt).map_err(changed)?;
    let table = nft.table().map_err(changed)?;
    let own = before
        .as_ref()
        .map_or(life, |before| before.life_of(&table, life));
    let known = before.is_some() && (own.is_none() || before.as_ref().map(|b| b.life) == own);
    let (mut journal, _) = Journal::go_on(before, own, random()?, clocks);
    journal.remember(spent, clocks.now);
    journal
        .burnt
        .extend(listing.as_ref().and_then(burnt).unwrap_or_default());
    journal.clean = known;
    journal.loaded.clear();
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
