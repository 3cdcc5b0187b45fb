//! Which tokens the kernel shall hold, and what has to be done for that. Pure.
//!
//! The plan is the same after a quiet quarter of an hour, a missed one, a step of the clock, or a
//! suspend: what should be there is worked out from the time, and only the difference is done. Two
//! things are never loaded: a token that is known to be spent, and one of a window that is barred, of
//! which nobody knows any more what was spent.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use super::{Secret, TOKENS_PER_WINDOW, Token, Window, token};

/// The tokens that one secret makes.
#[derive(Debug, Clone, Copy)]
pub struct Source<'k> {
    pub secret: &'k Secret,
    /// From this moment on (seconds since 1970) there are none.
    pub expires: Option<i64>,
    /// No window up to this one is loaded: nobody knows what was spent of it.
    pub barred: Option<Window>,
}

/// A token in the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loaded {
    /// [`Secret::id`].
    pub id: u32,
    /// To the second below. `None` if it never ends, as somebody else could have loaded it.
    pub expires_in: Option<Duration>,
}

/// What is known about tokens before.
#[derive(Debug, Default)]
pub struct Known {
    /// What the kernel would accept now.
    pub loaded: HashMap<Token, Loaded>,
    pub spent: HashSet<Token>,
}

/// What to do.
#[derive(Debug, Default, PartialEq)]
pub struct Plan {
    /// Tokens to load: whose, and for how long, in whole seconds.
    pub add: BTreeMap<Token, (u32, Duration)>,
    /// Tokens to take away, with whose they are in the kernel. One that is in `add` too gets another
    /// time.
    pub remove: BTreeMap<Token, u32>,
}

/// The kernel counts its own time, and nft lists whole seconds: so much is no difference.
const TOLERANCE: Duration = Duration::from_secs(5);

/// Works out what the kernel needs to hold the tokens from now on to `horizon` from now. `now` is in
/// seconds since 1970.
pub fn plan(sources: &[Source<'_>], known: &Known, now: i64, horizon: Duration) -> Plan {
    let wanted = wanted(sources, known, now, horizon);
    let mut plan = Plan::default();
    for (token, loaded) in &known.loaded {
        let right = wanted.get(token).is_some_and(|(id, lasting)| {
            let near = |left: Duration| left.abs_diff(*lasting) <= TOLERANCE;
            loaded.id == *id && loaded.expires_in.is_some_and(near)
        });
        if !right {
            plan.remove.insert(*token, loaded.id);
        }
    }
    let kept = |token: &Token| known.loaded.contains_key(token) && !plan.remove.contains_key(token);
    plan.add = wanted
        .into_iter()
        .filter(|(token, _)| !kept(token))
        .collect();
    plan
}

fn wanted(
    sources: &[Source<'_>],
    known: &Known,
    now: i64,
    horizon: Duration,
) -> BTreeMap<Token, (u32, Duration)> {
    let current = Window::at(now).0;
    let windows = (current.saturating_sub(2)..)
        .map(Window)
        .take_while(|window| window.0 <= current + horizon.as_secs() / super::WINDOW.as_secs());
    let windows: Vec<Window> = windows.collect();
    let mut wanted = BTreeMap::new();
    for source in sources {
        let id = source.secret.id();
        let open = |window: &&Window| source.barred.is_none_or(|barred| **window > barred);
        for &window in windows.iter().filter(open) {
            let over = source.expires.unwrap_or(i64::MAX).min(window.over());
            let Some(lasting) = u64::try_from(over.saturating_sub(now))
                .ok()
                .filter(|seconds| *seconds > 0)
            else {
                continue;
            };
            for number in 0..TOKENS_PER_WINDOW {
                let token = token(source.secret, window, number);
                if !known.spent.contains(&token) {
                    wanted.insert(token, (id, Duration::from_secs(lasting)));
                }
            }
        }
    }
    wanted
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

    fn plan_of(secret: &Secret, known: &Known, now: i64) -> Plan {
        barred_plan_of(secret, known, now, None)
    }

    fn barred_plan_of(secret: &Secret, known: &Known, now: i64, barred: Option<Window>) -> Plan {
        let source = Source {
            secret,
            expires: None,
            barred,
        };
        plan(&[source], known, now, HOUR)
    }

    /// What the kernel holds after a plan, some seconds later.
    fn done(mut known: Known, plan: &Plan, seconds: u64) -> Known {
        for token in plan.remove.keys() {
            known.loaded.remove(token);
        }
        for (token, (id, lasting)) in &plan.add {
            let loaded = Loaded {
                id: *id,
                expires_in: Some(*lasting),
            };
            known.loaded.insert(*token, loaded);
        }
        let passed = Duration::from_secs(seconds);
        known.loaded.retain(|_, loaded| {
            loaded.expires_in = loaded.expires_in.and_then(|left| left.checked_sub(passed));
            loaded.expires_in.is_some_and(|left| !left.is_zero())
        });
        known
    }

    fn spend(known: &mut Known, token: Token) {
        assert!(known.loaded.remove(&token).is_some());
        known.spent.insert(token);
    }

    #[test]
    fn at_first_all_windows_from_the_last_good_one_to_the_horizon_are_loaded() {
        let secret = secret(31);
        let plan = plan_of(&secret, &Known::default(), NOW);
        assert_eq!(plan.add.len(), 4 * (2 + 1 + 60));
        assert!(plan.remove.is_empty());
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
    fn a_refill_adds_what_is_new_and_never_what_was_spent() {
        let secret = secret(31);
        let first = plan_of(&secret, &Known::default(), NOW);
        let mut known = done(Known::default(), &first, 600);
        assert_eq!(
            plan_of(&secret, &done(Known::default(), &first, 0), NOW),
            Plan::default()
        );
        let used = token(&secret, Window(Window::at(NOW).0 + 20), 1);
        spend(&mut known, used);
        let second = plan_of(&secret, &known, NOW + 600);
        assert_eq!((second.add.len(), second.remove.len()), (4 * 10, 0));
        assert!(!second.add.contains_key(&used));
    }

    #[test]
    fn clock_steps_bring_the_right_windows_and_times_and_nothing_spent() {
        let secret = secret(31);
        let first = plan_of(&secret, &Known::default(), NOW);
        let used = token(&secret, Window::at(NOW), 0);
        for step in [-1800, 1800, -86_400, 40 * 86_400, i64::MIN / 2] {
            let mut known = done(Known::default(), &first, 0);
            spend(&mut known, used);
            let now = NOW + step;
            let plan = plan_of(&secret, &known, now);
            let spent = known.spent.clone();
            let mut known = done(known, &plan, 0);
            assert_eq!(plan_of(&secret, &known, now), Plan::default(), "{step}");
            assert!(!known.loaded.contains_key(&used));
            known.spent = HashSet::new();
            // All that belongs there and was not spent is there, with the time it has.
            let all = plan_of(&secret, &Known::default(), now);
            for (token, (_, lasting)) in all.add {
                match known.loaded.remove(&token) {
                    Some(loaded) => {
                        assert!(loaded.expires_in.unwrap().abs_diff(lasting) <= TOLERANCE)
                    }
                    None => assert!(spent.contains(&token)),
                }
            }
            assert!(known.loaded.is_empty());
        }
    }

    #[test]
    fn barred_windows_are_not_loaded_and_are_taken_away() {
        let secret = secret(31);
        let first = plan_of(&secret, &Known::default(), NOW);
        let known = done(Known::default(), &first, 0);
        let barred = Some(Window(Window::at(NOW).0 + 1));
        let plan = barred_plan_of(&secret, &known, NOW, barred);
        assert_eq!((plan.add.len(), plan.remove.len()), (0, 4 * 4));
        let plan = barred_plan_of(&secret, &Known::default(), NOW, barred);
        assert_eq!(plan.add.len(), 4 * 59);
    }

    #[test]
    fn tokens_of_nobody_and_those_without_end_are_taken_away() {
        let (old, new) = (secret(30), secret(31));
        let first = plan_of(&old, &Known::default(), NOW);
        let known = done(Known::default(), &first, 0);
        let plan = plan_of(&new, &known, NOW);
        assert_eq!((plan.add.len(), plan.remove.len()), (4 * 63, 4 * 63));
        let mut known = done(known, &plan, 0);
        let endless = token(&new, Window::at(NOW), 2);
        known.loaded.get_mut(&endless).unwrap().expires_in = None;
        let plan = plan_of(&new, &known, NOW);
        assert_eq!(plan.remove.keys().collect::<Vec<_>>(), [&endless]);
        assert_eq!(plan.add.keys().collect::<Vec<_>>(), [&endless]);
    }

    #[test]
    fn an_expired_key_has_no_tokens_and_one_that_expires_ends_with_it() {
        let secret = secret(31);
        let until = |expires| {
            let source = Source {
                secret: &secret,
                expires: Some(expires),
                barred: None,
            };
            plan(&[source], &Known::default(), NOW, HOUR)
        };
        assert_eq!(until(NOW), Plan::default());
        let plan = until(NOW + 50);
        let most = plan.add.values().map(|(_, lasting)| *lasting).max();
        assert_eq!(most, Some(Duration::from_secs(50)));
    }
}
