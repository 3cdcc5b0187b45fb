//! Moments that no step of the clock moves.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A moment that no step of the clock moves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Moment {
    /// Which start of the machine.
    pub(super) boot: String,
    /// Since then.
    pub(super) milliseconds: u64,
}

impl Moment {
    pub fn now() -> Moment {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
        let milliseconds = u64::try_from(now.tv_nsec / 1_000_000).unwrap_or(0);
        Moment {
            boot: this_start(),
            milliseconds: seconds * 1000 + milliseconds,
        }
    }

    /// This moment and some time.
    pub fn plus(&self, time: Duration) -> Moment {
        Moment {
            milliseconds: self.milliseconds.saturating_add(milliseconds(time)),
            ..self.clone()
        }
    }

    /// Time since this moment; zero if the machine has restarted.
    pub fn ago(&self) -> Duration {
        Moment::now().since(self)
    }

    /// Returns whether the machine has not been started again since.
    pub fn is_of_this_start(&self) -> bool {
        !self.boot.is_empty() && self.boot == Moment::now().boot
    }

    /// Time from `earlier` to this moment; zero if negative or across a restart.
    pub(super) fn since(&self, earlier: &Moment) -> Duration {
        match self.boot == earlier.boot {
            true => Duration::from_millis(self.milliseconds.saturating_sub(earlier.milliseconds)),
            false => Duration::ZERO,
        }
    }
}

/// A name for this start of the machine.
pub(super) fn this_start() -> String {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    boot.trim().to_string()
}

pub(super) fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
