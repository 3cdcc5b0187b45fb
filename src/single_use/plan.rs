//! Which tokens the kernel shall hold, and what has to be done for that. Pure.
//!
//! Time alone tells what should be there. As long as the kernel holds what the last plan
//! left, only the windows that came since are added ([`rest`]); two tokens of each secret tell whether
//! it does ([`samples`]). After anything else, a step of the clock, a suspend, a map that
//! somebody flushed, all is loaded anew ([`whole`]): listing a large map takes the kernel longer.
//!
//! Two things are never loaded: a token that is known to be spent, and one of a window that is barred,
//! of which nobody knows any more what was spent.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Secret, TOKENS_PER_WINDOW, Token, WINDOW, Window, token};

/// The tokens that one secret makes.
#[derive(Debug, Clone, Copy)]
pub struct Source<'k> {
    pub secret: &'k Secret,
    /// From this moment on (seconds since 1970) there are none.
    pub expires: Option<i64>,
    /// No window up to this one is loaded: nobody knows what was spent of it.
    pub barred: Option<Window>,
}

/// The windows of one secret that a plan has loaded.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reach {
    pub barred: Option<u64>,
    /// The last one.
    pub through: u64,
    pub expires: Option<i64>,
}

/// A token in the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loaded {
    /// [`Secret::id`].
    pub id: u32,
    /// To the second below. `None` if it never ends, as somebody else could have loaded it.
    pub expires_in: Option<Duration>,
}

/// The work to do.
#[derive(Debug, Default, PartialEq)]
pub struct Plan {
    /// All that is in the kernel goes first.
    pub anew: bool,
    /// Tokens to load: whose, and for how long, in whole seconds.
    pub add: BTreeMap<Token, (u32, Duration)>,
}

/// A clock that is further ahead than so many windows is wrong.
const NEAR: u64 = 3;

/// A token that is about to end may be gone.
const NEARLY_OVER: i64 = 10;

/// All tokens from now on to `horizon` from now. `now` is in seconds since 1970.
pub fn whole(sources: &[Source<'_>], spent: &HashSet<Token>, now: i64, horizon: Duration) -> Plan {
    let add = sources.iter().flat_map(|source| {
        let first = after(source.barred.map(|window| window.0), first(now));
        tokens(*source, first..=last(now, horizon), spent, now)
    });
    Plan {
        anew: true,
        add: add.collect(),
    }
}

/// The tokens that are missing of them, if the kernel holds all that `reach` says. `None` when something
/// of that has to go.
pub fn rest(
    sources: &[Source<'_>],
    reach: &BTreeMap<u32, Reach>,
    spent: &HashSet<Token>,
    now: i64,
    horizon: Duration,
) -> Option<Plan> {
    let wanted = reaches(sources, now, horizon);
    let same = |(id, wanted): (&u32, &Reach)| {
        reach.get(id).is_some_and(|old| {
            (old.barred, old.expires) == (wanted.barred, wanted.expires)
                && old.through <= wanted.through
        })
    };
    if wanted.len() != reach.len() || !wanted.iter().all(same) {
        return None;
    }
    let mut plan = Plan::default();
    for source in sources {
        let old = reach.get(&source.secret.id())?;
        let first = after(old.barred.max(Some(old.through)), first(now));
        let new = first..=last(now, horizon);
        plan.add.extend(tokens(*source, new, spent, now));
    }
    Some(plan)
}

/// The reach of each secret in the kernel once a plan is done.
pub fn reaches(sources: &[Source<'_>], now: i64, horizon: Duration) -> BTreeMap<u32, Reach> {
    let reach = |source: &Source<'_>| Reach {
        barred: source.barred.map(|window| window.0),
        through: last(now, horizon),
        expires: source.expires,
    };
    let each = sources.iter();
    each.map(|source| (source.secret.id(), reach(source)))
        .collect()
}

/// The number of tokens of each secret in the kernel at `now` if all is that `reach` says. `spent` are those that
/// were; of them only those count that clients use about now, as they do unless their clocks are wrong.
pub fn held(
    sources: &[Source<'_>],
    reach: &BTreeMap<u32, Reach>,
    spent: &HashSet<Token>,
    now: i64,
) -> BTreeMap<u32, usize> {
    let current = Window::at(now).0;
    let near = current.saturating_sub(4)..=current.saturating_add(NEAR);
    let each = sources.iter().filter_map(|source| {
        let id = source.secret.id();
        let reach = reach.get(&id)?;
        let live = |window: &u64| {
            let over = Window(*window).over();
            over.min(reach.expires.unwrap_or(i64::MAX)) > now
        };
        let first = after(reach.barred, current.saturating_sub(4));
        let windows = (first..=reach.through).filter(live).count();
        let near = near
            .clone()
            .filter(|window| (first..=reach.through).contains(window) && live(window));
        let tokens = near.flat_map(|window| {
            (0..TOKENS_PER_WINDOW).map(move |number| token(source.secret, Window(window), number))
        });
        let gone = tokens.filter(|token| spent.contains(token)).count();
        Some((id, windows * TOKENS_PER_WINDOW as usize - gone))
    });
    each.collect()
}

/// Two tokens of each secret, its first and its last, that are in the kernel if all is that `reach`
/// says. None of a window that clients use now: it may be spent in this moment. `None` when a secret
/// has none to show: all are spent or over.
pub fn samples(
    sources: &[Source<'_>],
    reach: &BTreeMap<u32, Reach>,
    spent: &HashSet<Token>,
    now: i64,
) -> Option<Vec<Token>> {
    let mut samples = Vec::new();
    for source in sources {
        let reach = reach.get(&source.secret.id())?;
        let nothing = reach.barred.is_some_and(|barred| barred >= reach.through);
        let soon = now.saturating_add(NEARLY_OVER);
        if nothing || source.expires.is_some_and(|expires| expires <= soon) {
            continue;
        }
        let mut windows = after(reach.barred, Window::at(now).0 + 2)..=reach.through;
        let unspent = |window| {
            let mut tokens = tokens(*source, window..=window, spent, now);
            tokens.next().map(|(token, _)| token)
        };
        let last = windows.clone().rev().find_map(unspent)?;
        let first = windows.find_map(unspent);
        samples.extend(first.filter(|first| *first != last));
        samples.push(last);
    }
    Some(samples)
}

/// The first window that is good now, thanks to the grace.
fn first(now: i64) -> u64 {
    Window::at(now).0.saturating_sub(2)
}

fn last(now: i64, horizon: Duration) -> u64 {
    Window::at(now).0 + horizon.as_secs() / WINDOW.as_secs()
}

/// `first`, or what comes after `barred` if that is later.
fn after(barred: Option<u64>, first: u64) -> u64 {
    barred.map_or(first, |barred| barred.saturating_add(1).max(first))
}

/// The tokens of a secret in these windows, less the spent ones: each with the secret's number and its time from now.
fn tokens<'s>(
    source: Source<'s>,
    windows: std::ops::RangeInclusive<u64>,
    spent: &'s HashSet<Token>,
    now: i64,
) -> impl Iterator<Item = (Token, (u32, Duration))> + 's {
    let id = source.secret.id();
    // No window is the last number there is.
    let windows = windows.map(Window).filter(|window| window.0 < u64::MAX);
    let lasting = move |window: Window| {
        let over = source.expires.unwrap_or(i64::MAX).min(window.over());
        let seconds = u64::try_from(over.saturating_sub(now)).ok()?;
        (seconds > 0).then(|| (window, Duration::from_secs(seconds)))
    };
    let numbered = move |(window, lasting)| {
        let numbers = 0..TOKENS_PER_WINDOW;
        numbers.map(move |number| (token(source.secret, window, number), (id, lasting)))
    };
    let all = windows.filter_map(lasting).flat_map(numbered);
    all.filter(|(token, _)| !spent.contains(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const NOW: i64 = 1_783_350_030;

    fn secret(last: u8) -> Secret {
        let mut bytes: [u8; 32] = std::array::from_fn(|i| i as u8);
        bytes[31] = last;
        Secret::new(bytes.into())
    }

    fn source(secret: &Secret) -> Source<'_> {
        Source {
            secret,
            expires: None,
            barred: None,
        }
    }

    fn all(source: Source<'_>, spent: &HashSet<Token>, now: i64) -> Plan {
        whole(&[source], spent, now, HOUR)
    }

    /// The plan of a refill that finds the kernel as the plan of `then` has left it.
    fn later(source: Source<'_>, spent: &HashSet<Token>, then: i64, now: i64) -> Option<Plan> {
        let reach = reaches(&[source], then, HOUR);
        rest(&[source], &reach, spent, now, HOUR)
    }

    /// The tokens in the kernel some seconds after a plan.
    fn held(plan: &Plan, seconds: u64) -> HashSet<Token> {
        let held = plan.add.iter();
        let held = held.filter(|(_, (_, lasting))| lasting.as_secs() > seconds);
        held.map(|(token, _)| *token).collect()
    }

    fn none() -> HashSet<Token> {
        HashSet::new()
    }

    #[test]
    fn at_first_all_windows_from_the_last_good_one_to_the_horizon_are_loaded() {
        let secret = secret(31);
        let plan = all(source(&secret), &none(), NOW);
        assert_eq!((plan.anew, plan.add.len()), (true, 4 * (2 + 1 + 60)));
        let at = |window: u64, number| plan.add.get(&token(&secret, Window(window), number));
        let current = Window::at(NOW).0;
        // 30 s of this window are over.
        let lasting = |seconds| Some((secret.id(), Duration::from_secs(seconds)));
        assert_eq!(at(current, 0).copied(), lasting(30 + 120));
        assert_eq!(at(current - 2, 3).copied(), lasting(30));
        assert_eq!(at(current + 60, 3).copied(), lasting(3600 + 30 + 120));
        assert_eq!(at(current - 3, 0), None);
        assert_eq!(at(current + 61, 0), None);
    }

    #[test]
    fn what_was_spent_is_not_loaded() {
        let secret = secret(31);
        let used = token(&secret, Window(Window::at(NOW).0 + 20), 1);
        let plan = all(source(&secret), &HashSet::from([used]), NOW);
        assert_eq!(plan.add.len(), 4 * 63 - 1);
        assert!(!plan.add.contains_key(&used));
    }

    /// Together with what is there and not over yet, it is all that should be there.
    #[test]
    fn a_refill_adds_the_windows_that_came_since() {
        let secret = secret(31);
        let source = source(&secret);
        let first = all(source, &none(), NOW);
        for seconds in [0, 29, 30, 600, 3000] {
            let now = NOW + seconds as i64;
            let used = token(&secret, Window(Window::at(now).0 + 59), 1);
            let spent = HashSet::from([used]);
            let second = later(source, &spent, NOW, now).unwrap();
            assert!(!second.anew);
            let mut there: HashSet<Token> = held(&first, seconds);
            there.remove(&used);
            for token in second.add.keys() {
                assert!(there.insert(*token), "{seconds}: loaded twice");
            }
            let wanted = all(source, &spent, now).add.into_keys().collect();
            assert_eq!(there, wanted, "{seconds}");
        }
    }

    #[test]
    fn what_has_to_go_is_only_taken_away_with_all() {
        let (secret, other) = (secret(31), secret(30));
        let (one, two) = (source(&secret), source(&other));
        let reach = reaches(&[one], NOW, HOUR);
        let rest = |sources: &[Source<'_>], now, horizon| {
            rest(sources, &reach, &none(), now, horizon).is_some()
        };
        assert!(rest(&[one], NOW + 60, HOUR));
        assert!(rest(&[one], NOW, 2 * HOUR));
        assert!(!rest(&[one], NOW, HOUR / 2), "less far");
        assert!(!rest(&[one], NOW - 60, HOUR), "back");
        assert!(!rest(&[one, two], NOW, HOUR), "one more");
        assert!(!rest(&[two], NOW, HOUR), "another");
        assert!(!rest(&[], NOW, HOUR), "one less");
        let expires = Some(NOW + 9999);
        assert!(!rest(&[Source { expires, ..one }], NOW, HOUR), "expires");
        let barred = Some(Window(7));
        assert!(!rest(&[Source { barred, ..one }], NOW, HOUR), "barred");
    }

    /// As long as what was loaded lasts.
    #[test]
    fn samples_are_in_the_kernel_if_all_is() {
        let secret = secret(31);
        let source = source(&secret);
        let first: HashSet<Token> = (0..4)
            .map(|number| token(&secret, Window(Window::at(NOW).0 + 2), number))
            .collect();
        for spent in [none(), first] {
            let loaded = all(source, &spent, NOW);
            let reach = reaches(&[source], NOW, HOUR);
            for seconds in [0, 600, 3000, 3400] {
                let samples = samples(&[source], &reach, &spent, NOW + seconds as i64).unwrap();
                let held = held(&loaded, seconds);
                assert_eq!(samples.len(), 2, "{seconds}");
                assert!(samples.iter().all(|token| held.contains(token)));
            }
            assert_eq!(samples(&[source], &reach, &spent, NOW + 3600), None);
        }
        let every = all(source, &none(), NOW).add.into_keys().collect();
        let reach = reaches(&[source], NOW, HOUR);
        assert_eq!(samples(&[source], &reach, &every, NOW), None);
        assert_eq!(samples(&[source], &BTreeMap::new(), &none(), NOW), None);
    }

    #[test]
    fn barred_windows_are_not_loaded() {
        let secret = secret(31);
        let barred = |barred| Source {
            barred: Some(Window(barred)),
            ..source(&secret)
        };
        let current = Window::at(NOW).0;
        let soon = barred(current + 1);
        assert_eq!(all(soon, &none(), NOW).add.len(), 4 * 59);
        let second = later(soon, &none(), NOW, NOW + 600).unwrap();
        assert_eq!(second.add.len(), 4 * 10);
        let never = barred(u64::MAX);
        assert_eq!(all(never, &none(), NOW).add.len(), 0);
        let reach = reaches(&[never], NOW, HOUR);
        let samples = samples(&[never], &reach, &none(), NOW);
        assert_eq!(samples, Some(Vec::new()));
        assert_eq!(later(never, &none(), NOW, NOW + 600), Some(Plan::default()));
    }

    #[test]
    fn clocks_and_horizons_without_reason_do_no_harm() {
        let secret = secret(31);
        for now in [i64::MIN, -5, 0, NOW + 40 * 86_400] {
            let plan = all(source(&secret), &none(), now);
            assert!(plan.add.len() <= 4 * 63, "{now}");
            let _ = later(source(&secret), &none(), NOW, now);
        }
    }

    #[test]
    fn an_expired_key_has_no_tokens_and_one_that_expires_ends_with_it() {
        let secret = secret(31);
        let until = |expires| Source {
            expires: Some(expires),
            ..source(&secret)
        };
        assert!(all(until(NOW), &none(), NOW).add.is_empty());
        let soon = until(NOW + 50);
        let plan = all(soon, &none(), NOW);
        let most = plan.add.values().map(|(_, lasting)| *lasting).max();
        assert_eq!(most, Some(Duration::from_secs(50)));
        let reach = reaches(&[soon], NOW, HOUR);
        let at = |now| samples(&[soon], &reach, &none(), now);
        let there = held(&plan, 20);
        assert!(
            at(NOW + 20)
                .unwrap()
                .iter()
                .all(|token| there.contains(token))
        );
        assert_eq!(at(NOW + 60), Some(Vec::new()));
    }
}
