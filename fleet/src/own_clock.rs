//! The clocks of this host. Only the loop reads them: everything else is given the time.

use std::time::{SystemTime, UNIX_EPOCH};

use rustix::time::ClockId;
use toctoc::fleet_report::milliseconds;

use crate::clock::Moment;

/// The time of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    pub moment: Moment,
    /// Since 1970, for what ends at a date.
    pub seconds: i64,
}

impl Now {
    /// It is now.
    pub fn read() -> Now {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let seconds = since.map_or(0, |since| {
            i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
        });
        let moment = now();
        Now { moment, seconds }
    }
}

/// This host's clock in milliseconds since its start, with the time that it was asleep.
pub fn now() -> Moment {
    milliseconds(ClockId::Boottime)
}

/// For how many milliseconds this host has been asleep since its start.
pub fn asleep() -> i64 {
    milliseconds(ClockId::Boottime) - milliseconds(ClockId::Monotonic)
}
