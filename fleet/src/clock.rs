//! The fleet's clock, as seen from here: between which two moments it is. Pure.
//!
//! It is the engine's clock and an offset, which the engine keeps. The offset is there because an engine's clock may
//! be set back, and then what is kept would seem younger than it is: whoever notices that adds to the offset what is
//! missing, and so the fleet's clock never goes back, also for those who start later. Set ahead, or as another
//! engine whose clock is ahead, it goes ahead: then all seems older than it is, and less time is left of it.
//!
//! A look asks the engine for its time, and notes this host's own before and after. The engine said it
//! somewhere in between; so what is known is a span, as wide as the look took. Only the last look counts: what
//! several have in common would be narrower, but wrong if the clock was set in between by less than they took.
//! A host takes the end of the span that gives less time, and a message that was long under way
//! loses that time instead of gaining it.

/// Milliseconds of this host's clock since its start. Only differences mean anything.
pub type Moment = i64;

/// By how much two clocks part, in millionths: more than two crystals do that are being corrected (ntpd bends a
/// clock by 500).
const DRIFT: i64 = 1000;

/// The largest offset, in milliseconds: eight thousand years.
pub const LARGEST: i64 = 253_402_300_800_000;

/// The readings of the fleet's clock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Clock {
    known: Option<Known>,
    /// The milliseconds that are added to the engine's clock.
    offset: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Known {
    /// The fleet's time less ours is at least this, and at most that.
    least: i64,
    most: i64,
    when: Moment,
}

impl Known {
    /// By how much the two clocks may have parted since.
    fn drift(&self, now: Moment) -> i64 {
        let since = now.saturating_sub(self.when);
        since.saturating_mul(DRIFT) / 1_000_000
    }
}

/// The findings of a look, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Looked {
    /// By how much, at most, the fleet's clock is ahead of what it would show if nobody had set it; 0 where that may be
    /// so. It was set, this host stood still, or it is another engine.
    pub ahead: i64,
    /// By how much, at most, the engine's clock was set back. The offset has grown by that.
    pub set_back: i64,
    /// The engine is to be told the offset: it keeps another one.
    pub tell: bool,
}

impl Clock {
    /// The engine said `told` (in milliseconds since 1970), after `asked` and before `heard`, and that it keeps this
    /// offset. An offset only grows: a lesser one is an old one.
    pub fn look(&mut self, asked: Moment, told: i64, heard: Moment, kept: Option<i64>) -> Looked {
        let mut looked = Looked::default();
        self.offset = kept.unwrap_or_default().max(self.offset);
        let mut least = told.saturating_add(self.offset).saturating_sub(heard);
        let mut most = told.saturating_add(self.offset).saturating_sub(asked);
        if let Some(known) = self.known {
            // Between these the clock is, if nobody has set it.
            let drift = known.drift(heard) + 1;
            let at_least = known.least.saturating_sub(drift);
            let at_most = known.most.saturating_add(drift);
            if most < at_least {
                looked.set_back = at_most.saturating_sub(least);
                self.offset = self.offset.saturating_add(looked.set_back).min(LARGEST);
                least = least.saturating_add(looked.set_back);
                most = most.saturating_add(looked.set_back);
            } else if least > at_most {
                looked.ahead = most.saturating_sub(at_least);
            }
        }
        looked.tell = kept.unwrap_or_default() != self.offset;
        self.known = Some(Known {
            least,
            most,
            when: heard,
        });
        looked
    }

    /// The milliseconds that are added to the engine's clock.
    pub fn offset(&self) -> i64 {
        self.offset
    }

    /// The earliest that the fleet's clock can show at a moment of ours.
    pub fn earliest(&self, now: Moment) -> Option<i64> {
        self.known.map(|known| now.saturating_add(known.least))
    }

    /// Returns whether nobody can have said it yet `at` that time: it was said by another clock.
    pub fn is_to_come(&self, at: i64, now: Moment) -> bool {
        self.known.is_some_and(|known| {
            let latest = now.saturating_add(known.most);
            at > latest.saturating_add(known.drift(now) + 1)
        })
    }

    /// The time since `at`, at least and at most. What is to come is now.
    pub fn since(&self, at: i64, now: Moment) -> Option<(i64, i64)> {
        let known = self.known?;
        let drift = known.drift(now);
        let ago = |ahead: i64| now.saturating_add(ahead).saturating_sub(at);
        let least = ago(known.least).saturating_sub(drift).max(0);
        let most = ago(known.most).saturating_add(drift).max(0);
        Some((least, most))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ahead(ahead: i64) -> Looked {
        Looked {
            ahead,
            ..Looked::default()
        }
    }

    #[test]
    fn a_look_is_a_span() {
        let mut clock = Clock::default();
        assert_eq!(clock.earliest(5), None);
        assert_eq!(clock.since(5, 5), None);
        // The engine is 1,000,000 ahead; this look took 100.
        clock.look(0, 1_000_050, 100, None);
        assert_eq!(clock.earliest(100), Some(1_000_050));
        assert_eq!(clock.since(1_000_050, 100), Some((0, 100)));
        // A quick one, and a slow one.
        clock.look(1000, 1_001_001, 1002, None);
        assert_eq!(clock.since(1_001_001, 1002), Some((0, 2)));
        clock.look(2000, 1_002_900, 3000, None);
        assert_eq!(clock.since(1_002_000, 3000), Some((900, 1900)));
        // In a thousand seconds crystals may have parted by one.
        assert_eq!(
            clock.since(1_002_000, 1_003_000),
            Some((999_900, 1_002_900))
        );
    }

    #[test]
    fn a_clock_that_was_set_ahead_is_believed() {
        for (told, wanted) in [(1_001_001, 0), (1_500_000, 499_004)] {
            let mut clock = Clock::default();
            assert_eq!(clock.look(0, 1_000_000, 2, None), ahead(0));
            assert_eq!(clock.look(1000, told, 1002, None), ahead(wanted), "{told}");
            assert_eq!(clock.since(told, 1002), Some((0, 2)));
        }
    }

    /// A host that notices it makes up for it. A host that looks or starts then sees nothing of it.
    #[test]
    fn the_clock_of_the_fleet_never_goes_back() {
        let mut clocks = [Clock::default(); 2];
        for clock in &mut clocks {
            assert_eq!(clock.look(0, 1_000_000, 0, None), ahead(0));
        }
        let [first, second] = &mut clocks;
        // By 30 s.
        let looked = first.look(1000, 971_000, 1000, None);
        let made_up = 30_002;
        let wanted = Looked {
            set_back: made_up,
            tell: true,
            ahead: 0,
        };
        assert_eq!(looked, wanted);
        assert_eq!(first.offset(), made_up);
        assert_eq!(first.since(1_000_000, 1000), Some((1002, 1002)));
        let mut third = Clock::default();
        for clock in [&mut *second, &mut third] {
            assert_eq!(clock.look(2000, 972_000, 2000, Some(made_up)), ahead(0));
            // A word said a second before it was set, and one just said.
            assert_eq!(clock.since(1_000_000, 2000), Some((2002, 2002)));
            assert_eq!(clock.since(1_002_002, 2000), Some((0, 0)));
        }
        // The engine was emptied: whoever knows the offset tells it again.
        let looked = first.look(3000, 973_000, 3000, None);
        assert_eq!((looked.set_back, looked.tell), (0, true));
        assert_eq!(first.offset(), made_up);
        // And once more; and nobody keeps the new one, however often it is told.
        let looked = first.look(4000, 964_000, 4000, Some(made_up));
        assert!((10_000..10_010).contains(&looked.set_back), "{looked:?}");
        let offset = first.offset();
        for now in 5000..5100 {
            let looked = first.look(now, 960_000 + now, now, Some(made_up));
            assert_eq!((looked.set_back, looked.ahead, looked.tell), (0, 0, true));
            assert_eq!(first.offset(), offset);
        }
        // By less than the look took nobody notices.
        assert_eq!(third.look(3000, 972_999, 3020, Some(made_up)), ahead(0));
    }

    /// A host that began in the moment before it was made up for finds that the clock goes ahead.
    #[test]
    fn who_began_too_late_to_notice_finds_the_clock_ahead() {
        let mut late = Clock::default();
        assert_eq!(late.look(0, 970_000, 0, None), ahead(0));
        let looked = late.look(1000, 971_000, 1000, Some(30_000));
        assert_eq!(looked, ahead(30_002));
    }

    #[test]
    fn what_is_said_by_another_clock_is_told_from_what_was_just_said() {
        let mut clock = Clock::default();
        assert!(!clock.is_to_come(i64::MAX, 0), "nothing is known");
        clock.look(0, 1_000_000, 10, None);
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
    fn what_comes_from_the_future_is_of_now() {
        let mut clock = Clock::default();
        clock.look(0, 1_000_000, 2, None);
        assert_eq!(clock.since(i64::MAX, 2), Some((0, 0)));
        let (least, most) = clock.since(0, 2).unwrap();
        assert!(least > 999_000 && most > least);
        // Nonsense does no harm.
        clock.look(i64::MIN, i64::MAX, i64::MAX, Some(i64::MAX));
        let _ = clock.since(i64::MIN, i64::MAX);
        clock.look(i64::MAX, i64::MIN, i64::MIN, Some(i64::MIN));
        let _ = clock.since(i64::MAX, i64::MIN);
    }
}
