//! The engine's clock, as seen from here: between which two moments it is. Pure.
//!
//! A look asks the engine for its time, and notes this host's own before and after. The engine said it
//! somewhere in between; so what is known is a span, as wide as the look took. Later looks narrow it.
//! Whoever reckons takes the end of the span that gives less time, and a message that was long under way
//! loses that time instead of gaining it.

/// Milliseconds of this host's clock since its start. Only differences mean anything.
pub type Moment = i64;

/// By how much two clocks part, in millionths: more than any crystal does.
const DRIFT: i64 = 200;

/// What is known of the engine's clock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Clock {
    known: Option<Known>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Known {
    /// The engine's time less ours is at least this, and at most that.
    least: i64,
    most: i64,
    when: Moment,
}

impl Clock {
    /// The engine said `told`, after `asked` and before `heard`.
    pub fn look(&mut self, asked: Moment, told: i64, heard: Moment) {
        let (least, most) = (told.saturating_sub(heard), told.saturating_sub(asked));
        let before = self.known.map(|known| {
            let since = heard.saturating_sub(known.when);
            let drift = since.saturating_mul(DRIFT) / 1_000_000 + 1;
            (
                known.least.saturating_sub(drift),
                known.most.saturating_add(drift),
            )
        });
        let both = before.map(|(l, m)| (l.max(least), m.min(most)));
        // Where the two do not meet, a clock was set: the last look counts.
        let (least, most) = both.filter(|(l, m)| l <= m).unwrap_or((least, most));
        self.known = Some(Known {
            least,
            most,
            when: heard,
        });
    }

    /// Nothing is known any more: it is another engine, or may be.
    pub fn forget(&mut self) {
        self.known = None;
    }

    /// The earliest that the engine can say at a moment of ours.
    pub fn earliest(&self, now: Moment) -> Option<i64> {
        self.known.map(|known| now.saturating_add(known.least))
    }

    /// How long ago, at least and at most, the engine said `at`. What it will say later is now.
    pub fn since(&self, at: i64, now: Moment) -> Option<(i64, i64)> {
        let known = self.known?;
        let least = now.saturating_add(known.least).saturating_sub(at).max(0);
        let most = now.saturating_add(known.most).saturating_sub(at).max(0);
        Some((least, most))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_is_a_span_and_the_next_ones_narrow_it() {
        let mut clock = Clock::default();
        assert_eq!(clock.earliest(5), None);
        assert_eq!(clock.since(5, 5), None);
        // The engine is 1,000,000 ahead; this look took 100.
        clock.look(0, 1_000_050, 100);
        assert_eq!(clock.earliest(100), Some(1_000_050));
        assert_eq!(clock.since(1_000_050, 100), Some((0, 100)));
        // A quick one, and a slow one that says no more.
        clock.look(1000, 1_001_001, 1002);
        assert_eq!(clock.since(1_001_001, 1002), Some((0, 2)));
        clock.look(2000, 1_002_900, 3000);
        let (least, most) = clock.since(1_002_000, 3000).unwrap();
        assert!(least >= 995 && most <= 1005, "{least} {most}");
    }

    #[test]
    fn a_clock_that_was_set_is_believed_anew() {
        let mut clock = Clock::default();
        clock.look(0, 1_000_000, 2);
        clock.look(1000, 500_000, 1002);
        assert_eq!(clock.since(500_000, 1002), Some((0, 2)));
        clock.forget();
        assert_eq!(clock.since(0, 0), None);
    }

    #[test]
    fn what_comes_from_the_future_is_of_now() {
        let mut clock = Clock::default();
        clock.look(0, 1_000_000, 2);
        assert_eq!(clock.since(i64::MAX, 2), Some((0, 0)));
        let (least, most) = clock.since(0, 2).unwrap();
        assert!(least > 999_000 && most > least);
        // Nonsense does no harm.
        clock.look(i64::MIN, i64::MAX, i64::MAX);
        let _ = clock.since(i64::MIN, i64::MAX);
    }
}
