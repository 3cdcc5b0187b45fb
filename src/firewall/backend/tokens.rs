//! The tokens that the kernel holds. A large map takes it long to list: where all is as the last refill has left it,
//! it is enough to count them, and to look up the first and the last of each key.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use super::super::nf_tables;
use super::super::tokens::sources;
use crate::held::{Drift, TokenCount};
use crate::policy::Policy;
use crate::ruleset::nftables::{Listing, Part, SetId, loaded, spent_and_life, strange_tokens};
use crate::single_use::plan::{held, samples};
use crate::single_use::{Journal, Token};

/// So many are listed in some hundredths of a second.
const FEW: u64 = 8192;

/// The seconds until the kernel has forgotten what is over: it is loaded for whole seconds, some time after these
/// are reckoned, and tidied up every second or so.
const FORGOTTEN_AFTER: i64 = 6;

/// The tokens of a policy, as they were seen.
#[derive(Default)]
pub(super) struct TokensSeen {
    /// The number of each [secret](crate::single_use::Secret::id) has, and how long the last lasts.
    pub tokens: HashMap<u32, TokenCount>,
    /// Those that cannot come from a refill.
    pub drifts: Vec<Drift>,
    /// One of them stands for every token that there is.
    pub let_all_in: bool,
}

/// Reads them. `None` when the kernel does not say.
pub(super) fn seen(policy: &Policy, journal: Option<&Journal>, now: i64) -> Option<TokensSeen> {
    if !policy.has_tokens() {
        return Some(TokensSeen::default());
    }
    if let Some(journal) = journal
        && let Some(tokens) = counted(policy, journal, now)
    {
        return Some(TokensSeen {
            tokens,
            ..TokensSeen::default()
        });
    }
    let listing = nf_tables::set(SetId::Tokens.name()).ok()??;
    Some(TokensSeen {
        tokens: listed(&listing),
        drifts: strange_tokens(policy, &listing, now),
        let_all_in: listing.open_to_all().next().is_some(),
    })
}

/// The number in a listing of each secret, and how long the last of them lasts.
pub(super) fn listed(listing: &Listing) -> HashMap<u32, TokenCount> {
    let mut tokens: HashMap<u32, TokenCount> = HashMap::new();
    for token in loaded(listing).unwrap_or_default().values() {
        let count = tokens.entry(token.id).or_default();
        count.number += 1;
        count.last = token.expires_in.unwrap_or_default().max(count.last);
    }
    tokens
}

/// The tokens of a large map without listing it. `None` when it is small, when there are more or less of them than the
/// last refill has left, or when one of those that are looked up is not as it has left it.
fn counted(policy: &Policy, journal: &Journal, now: i64) -> Option<HashMap<u32, TokenCount>> {
    let count = nf_tables::count(SetId::Tokens.name())
        .ok()?
        .filter(|count| *count > FEW)?;
    let (spent, _) = spent_and_life(&nf_tables::set(SetId::Spent.name()).ok()??)?;
    let spent: HashSet<Token> = spent.into_iter().chain(journal.spent()).collect();
    let mut journal = journal.clone();
    let sources = sources(policy, &mut journal);
    let at = |moment: i64| held(&sources, &journal.loaded, &spent, moment);
    let all = |held: &BTreeMap<u32, usize>| held.values().sum::<usize>();
    let now_held = at(now);
    if now_held.len() != sources.len() || journal.loaded.len() != sources.len() {
        return None;
    }
    let count = usize::try_from(count).ok()?;
    if count != all(&now_held) && count != all(&at(now - FORGOTTEN_AFTER)) {
        return None;
    }
    let mut samples_of = Vec::new();
    for source in &sources {
        let reach = journal
            .loaded
            .iter()
            .filter(|(id, _)| **id == source.secret.id());
        let reach = reach.map(|(id, reach)| (*id, *reach)).collect();
        let samples = samples(&[*source], &reach, &spent, now)?;
        samples_of.push((source.secret.id(), samples));
    }
    let samples = samples_of.iter().flat_map(|(_, samples)| samples);
    let keys: Vec<Vec<Part>> = samples.map(|&token| vec![Part::Token(token)]).collect();
    let found = nf_tables::look_up(SetId::Tokens.name(), &keys).ok()??;
    let found = loaded(&found)?;
    let mut tokens = HashMap::new();
    for (id, samples) in samples_of {
        let mut last = Duration::ZERO;
        for sample in &samples {
            let sample = found.get(sample).filter(|sample| sample.id == id)?;
            last = sample.expires_in?.max(last);
        }
        let number = *now_held.get(&id)?;
        tokens.insert(id, TokenCount { number, last });
    }
    Some(tokens)
}
