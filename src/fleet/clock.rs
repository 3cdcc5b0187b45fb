//! The engine's clock, as seen from here: between which two moments it is. Pure.
//!
//! A look asks the engine for its time, and notes this host's own before and after. The engine said it
//! somewhere in between; so what is known is a span, as wide as the look took. Only the last look counts: what
//! several have in common would be narrower, but wrong if the clock was set in between by less than they took.
//! Whoever reckons takes the end of the span that gives less time, and a message that was long under way
//! loses that time instead of gaining it.

use super::message::DAY;

/// Milliseconds of this host's clock since its start. Only differences mean anything.
pub type Moment = i64;

/// By how much two clocks part, in millionths: more than two crystals do that are being corrected (ntpd bends a
/// clock by 500).
const DRIFT: i64 = 1000;

/// What is known of the engine's clock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Clock {
    /// When it was looked at first.
    first: Moment,
    known: Option<Known>,
    /// How far it was set back while this host looked, at most; what it showed then, at most; and when that was
    /// noticed.
    back: i64,
    before: i64,
    noticed: Moment,
}

/// Longer than anything is under way, in milliseconds.
pub const UNDER_WAY: i64 = 10_000;

/// For so long after its clock was set back words from before may arrive, in milliseconds: who noticed it knows the
/// moment not better than a look takes.
const WARY: i64 = 2 * UNDER_WAY;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Known {
    /// The engine's time less ours is at least this, and at most that.
    least: i64,
    most: i64,
    when: Moment,
}

impl Known {
    /// By how much the two clocks may have parted since.
    fn drift(&self, now: Moment) -> i64 {
        let since = now.saturating_sub(self.when);
        since.saturating_mul(DRIFT) / 1_000_000 + 1
    }
}

impl Clock {
    /// The engine said `told`, after `asked` and before `heard`. Returns by how much its clock is ahead of what it
    /// would show if nobody had set it, at most; 0 where that may be so. It was set, this host stood still, or it
    /// is another engine.
    pub fn look(&mut self, asked: Moment, told: i64, heard: Moment) -> i64 {
        let (least, most) = (told.saturating_sub(heard), told.saturating_sub(asked));
        // Between these the clock was, if nobody has set it.
        let before = self.known.map(|known| {
            let drift = known.drift(heard);
            let least = known.least.saturating_sub(drift);
            (least, known.most.saturating_add(drift))
        });
        let ahead = match before {
            Some((at_least, at_most)) if most < at_least => least.saturating_sub(at_most),
            Some((at_least, at_most)) if least > at_most => most.saturating_sub(at_least),
            _ => 0,
        };
        if let Some((_, at_most)) = before.filter(|_| ahead < 0) {
            self.forget_what_is_old(heard);
            self.back = self.back.saturating_sub(ahead).min(DAY);
            self.before = self.before.max(heard.saturating_add(at_most));
            self.noticed = heard;
        }
        if self.known.is_none() {
            self.first = asked;
        }
        self.known = Some(Known {
            least,
            most,
            when: heard,
        });
        ahead
    }

    /// That its clock was set back: by how many milliseconds, what it showed then in milliseconds since 1970 (both at
    /// most), and how many milliseconds ago that was noticed. `None` when it was not, or that is a day ago.
    pub fn set_back(&self, now: Moment) -> Option<(i64, i64, i64)> {
        let ago = now.saturating_sub(self.noticed).max(0);
        (self.back > 0 && ago <= DAY).then_some((self.back, self.before, ago))
    }

    /// Somebody `noticed` at about that moment that its clock was set back, `by` so many milliseconds from `before` at
    /// most. Who had looked before has noticed it too, or will. Returns by how much what was heard until now is older
    /// than it seemed, in milliseconds.
    pub fn learn_set_back(&mut self, by: i64, before: i64, noticed: Moment) -> i64 {
        if self.first.saturating_add(UNDER_WAY) <= noticed {
            return 0;
        }
        self.forget_what_is_old(noticed);
        let grown = by.saturating_sub(self.back).max(0);
        self.back = self.back.max(by);
        self.before = self.before.max(before);
        self.noticed = self.noticed.max(noticed);
        grown
    }

    fn forget_what_is_old(&mut self, now: Moment) {
        // Nothing is kept for longer.
        if now.saturating_sub(self.noticed) > DAY {
            (self.back, self.before) = (0, i64::MIN);
        }
    }

    /// The earliest that the engine can say at a moment of ours.
    pub fn earliest(&self, now: Moment) -> Option<i64> {
        self.known.map(|known| now.saturating_add(known.least))
    }

    /// Whether the engine cannot have said `at` yet: it was said before its clock was set back.
    pub fn is_to_come(&self, at: i64, now: Moment) -> bool {
        self.known.is_some_and(|known| {
            let latest = now.saturating_add(known.most);
            at > latest.saturating_add(known.drift(now))
        })
    }

    /// How long ago, at least and at most, the engine said `at`, if its clock was not set since then. What it will say
    /// later is now.
    pub fn span(&self, at: i64, now: Moment) -> Option<(i64, i64)> {
        let known = self.known?;
        let drift = known.drift(now) - 1;
        let ago = |ahead: i64| now.saturating_add(ahead).saturating_sub(at);
        let least = ago(known.least).saturating_sub(drift).max(0);
        let most = ago(known.most).saturating_add(drift).max(0);
        Some((least, most))
    }

    /// The same if it may have been set back since then, for what was `kept` meanwhile, and for some time for what was
    /// under way.
    pub fn since(&self, at: i64, kept: bool, now: Moment) -> Option<(i64, i64)> {
        let (least, most) = self.span(at, now)?;
        let noticed = now.saturating_sub(self.noticed);
        let back = match at <= self.before && (kept && noticed <= DAY || noticed < WARY) {
            true => self.back,
            false => 0,
        };
        Some((least, most.saturating_add(back)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_is_a_span() {
        let mut clock = Clock::default();
        assert_eq!(clock.earliest(5), None);
        assert_eq!(clock.since(5, false, 5), None);
        // The engine is 1,000,000 ahead; this look took 100.
        clock.look(0, 1_000_050, 100);
        assert_eq!(clock.earliest(100), Some(1_000_050));
        assert_eq!(clock.since(1_000_050, false, 100), Some((0, 100)));
        // A quick one, and a slow one.
        clock.look(1000, 1_001_001, 1002);
        assert_eq!(clock.since(1_001_001, false, 1002), Some((0, 2)));
        clock.look(2000, 1_002_900, 3000);
        assert_eq!(clock.since(1_002_000, false, 3000), Some((900, 1900)));
    }

    #[test]
    fn a_clock_that_was_set_is_believed_anew() {
        for (told, ahead) in [(500_000, -501_004), (1_001_001, 0), (1_500_000, 499_004)] {
            let mut clock = Clock::default();
            assert_eq!(clock.look(0, 1_000_000, 2), 0);
            assert_eq!(clock.look(1000, told, 1002), ahead, "{told}");
            let back = i64::min(ahead, 0);
            let since = Some((0, 2 - back));
            assert_eq!(clock.since(told, false, 1002), since, "{told}");
        }
    }

    #[test]
    fn what_was_said_before_a_clock_was_set_back_is_told_from_what_was_just_said() {
        let mut clock = Clock::default();
        assert!(!clock.is_to_come(i64::MAX, 0), "nothing is known");
        clock.look(0, 1_000_000, 10);
        for (at, to_come) in [
            (0, false),
            (1_000_000, false),
            (1_000_011, false),
            (1_000_012, true),
            (1_030_000, true),
        ] {
            assert_eq!(clock.is_to_come(at, 10), to_come, "{at}");
        }
        // An hour later crystals may have parted.
        assert!(!clock.is_to_come(4_603_000, 3_600_000));
        assert!(clock.is_to_come(4_604_000, 3_600_000));
    }

    #[test]
    fn what_was_kept_while_a_clock_was_set_back_may_be_older_by_as_much() {
        let mut clock = Clock::default();
        clock.look(0, 1_000_000, 0);
        // Ahead is no harm: what was kept seems older.
        clock.look(1000, 1_011_000, 1000);
        assert_eq!(clock.since(1_005_000, true, 1000), Some((6000, 6000)));
        clock.look(2000, 982_000, 2000);
        // By 30 s, and what crystals may part in a second.
        for (at, kept, now, extra) in [
            (980_000, true, 40_000, 30_002),
            (1_012_002, true, 40_000, 30_002),
            (1_012_003, true, 40_000, 0),
            // What was just said, and what may have been under way.
            (980_000, false, 40_000, 0),
            (980_000, false, 21_999, 30_002),
            (980_000, false, 22_000, 0),
        ] {
            let plain = now + 980_000 - at;
            // And in the time since the look.
            let drift = (now - 2000) / 1000;
            let least = (plain - drift).max(0);
            let since = Some((least, plain + drift + extra));
            assert_eq!(clock.since(at, kept, now), since, "{at} {kept} {now}");
        }
        // A day later nothing of that is kept.
        let later = 2000 + DAY;
        assert_eq!(
            clock.since(980_000, true, later).map(|(l, m)| m - l),
            Some(30_002 + 2 * DAY / 1000)
        );
        assert_eq!(
            clock.since(980_000, true, later + 1).map(|(l, m)| m - l),
            Some(2 * DAY / 1000)
        );
        // And once more.
        clock.look(3000, 973_000, 3000);
        let back = 30_002 + 10_002;
        assert_eq!(clock.since(970_000, true, 3000), Some((3000, 3000 + back)));
    }

    #[test]
    fn whoever_starts_later_knows_what_others_noticed() {
        let mut old = Clock::default();
        assert_eq!(old.set_back(0), None);
        old.look(0, 1_000_000, 0);
        old.look(2000, 972_000, 2000);
        assert_eq!(old.set_back(2500), Some((30_003, 1_002_003, 500)));
        let (mut new, mut knows) = (Clock::default(), Clock::default());
        for clock in [&mut new, &mut knows] {
            clock.look(5_002_500, 972_500, 5_002_500);
        }
        assert_eq!(knows.learn_set_back(30_003, 1_002_003, 5_002_000), 30_003);
        let later = 5_032_500;
        assert_eq!(new.since(972_500, true, later), Some((29_970, 30_030)));
        assert_eq!(knows.since(972_500, true, later), Some((29_970, 60_033)));
        // What was said since then, by its time, and what was just said.
        assert_eq!(knows.since(1_002_004, true, later), Some((466, 526)));
        assert_eq!(knows.since(972_500, false, later), Some((29_970, 30_030)));
        assert_eq!(
            knows.since(972_500, false, 5_021_999),
            Some((19_480, 49_521))
        );
        // Told once more it is the same; noticed once more it is more.
        assert_eq!(knows.learn_set_back(30_003, 1_002_003, 5_002_000), 0);
        assert_eq!(knows.set_back(later), Some((30_003, 1_002_003, 30_500)));
        knows.look(later, 900_000, later);
        assert!(knows.set_back(later).is_some_and(|(by, ..)| by > 130_000));
        assert_eq!(knows.set_back(later + DAY + 1), None);
    }

    #[test]
    fn what_comes_from_the_future_is_of_now() {
        let mut clock = Clock::default();
        clock.look(0, 1_000_000, 2);
        assert_eq!(clock.since(i64::MAX, false, 2), Some((0, 0)));
        let (least, most) = clock.since(0, false, 2).unwrap();
        assert!(least > 999_000 && most > least);
        // Nonsense does no harm.
        clock.look(i64::MIN, i64::MAX, i64::MAX);
        let _ = clock.since(i64::MIN, true, i64::MAX);
    }
}
