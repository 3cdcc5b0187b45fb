//! The lists in `/proc/net/xt_recent/NAME`: sources, and when each was seen, in the kernel's ticks.

use std::net::IpAddr;
use std::time::Duration;

/// A source on a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    pub source: IpAddr,
    /// When it was seen last, in ticks (jiffies).
    pub last_seen: u64,
}

/// Reads a list, line by line: `src=192.0.2.7 ttl: 64 last_seen: 4297860197 oldest_pkt: 1 4297860197`.
/// A line that cannot be read is no entry.
pub fn parse(text: &str) -> Vec<Entry> {
    let entry = |line: &str| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let source = words.first()?.strip_prefix("src=")?.parse().ok()?;
        let at = words.iter().position(|word| *word == "last_seen:")?;
        Some(Entry {
            source,
            last_seen: words.get(at + 1)?.parse().ok()?,
        })
    };
    text.lines().filter_map(entry).collect()
}

/// The kernel's tick counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clock {
    /// Now, in ticks.
    pub ticks: u64,
    /// Ticks per second.
    pub hz: u64,
}

/// The tick rates that kernels are built with.
const HZ: [u64; 6] = [100, 250, 300, 1000, 128, 1024];

/// The counter starts five minutes before its lower half is full (`INITIAL_JIFFIES`).
const BEFORE_WRAP: u64 = 300;

impl Clock {
    /// From the counter and the time since the start, which it has counted all along.
    pub fn new(ticks: u64, since_start: Duration) -> Option<Clock> {
        let seconds = since_start.as_secs_f64();
        // The timer starts a little late.
        let off = |hz: u64| {
            let counted = ticks.checked_sub((1 << 32) - BEFORE_WRAP * hz)?;
            Some((counted as f64 / hz as f64 - seconds).abs())
        };
        let off = HZ.into_iter().filter_map(|hz| Some((hz, off(hz)?)));
        let (hz, off) = off.min_by(|a, b| a.1.total_cmp(&b.1))?;
        (off < 0.02 * seconds + 2.0).then_some(Clock { ticks, hz })
    }

    /// Without knowing the counter, from an entry that was written lately: the rate is the lowest at
    /// which the counter has come so far. It begins some tenths of a second after the start; taken as
    /// one second, nothing is told to have ended that has not.
    pub fn guess(newest: u64, since_start: Duration) -> Option<Clock> {
        let since_start = since_start.saturating_sub(Duration::from_secs(1));
        let now = |hz: u64| {
            let counted = since_start.as_millis() * u128::from(hz) / 1000;
            (1u64 << 32) - BEFORE_WRAP * hz + u64::try_from(counted).unwrap_or(u64::MAX >> 1)
        };
        let mut rates = HZ;
        rates.sort_unstable();
        let hz = rates.into_iter().find(|&hz| newest <= now(hz) + 2 * hz)?;
        let ticks = now(hz).max(newest);
        Some(Clock { ticks, hz })
    }

    /// Reads `/proc/timer_list`: `now at 11872003106759 nsecs`, `jiffies: 4297860218`.
    pub fn parse(timer_list: &str) -> Option<Clock> {
        let mut lines = timer_list.lines();
        let now = lines.find_map(|line| line.strip_prefix("now at ")?.strip_suffix(" nsecs"))?;
        let ticks = lines.find_map(|line| line.strip_prefix("jiffies: "))?;
        let since_start = Duration::from_nanos(now.trim().parse().ok()?);
        Clock::new(ticks.trim().parse().ok()?, since_start)
    }

    /// The rest of a time that began at a tick; `None` when it is over.
    pub fn left(self, began: u64, seconds: u64) -> Option<Duration> {
        let gone = self.ticks.saturating_sub(began);
        let left = seconds.checked_mul(self.hz)?.checked_sub(gone)?;
        Some(Duration::from_millis(left * 1000 / self.hz))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_and_nonsense_is_not() {
        let text = "src=192.0.2.7 ttl: 64 last_seen: 4297860197 oldest_pkt: 2 4297860100, 4297860197\n\
                    src=2001:0db8:0000:0000:0000:0000:0000:0007 ttl: 64 last_seen: 7 oldest_pkt: 1 7\n\
                    src=example ttl: 1 last_seen: 5\nsrc=192.0.2.8 last_seen:\n\nlast_seen: 5\n";
        let entries = parse(text);
        assert_eq!(entries.len(), 2);
        assert_eq!(entries[0].last_seen, 4_297_860_197);
        assert_eq!(entries[1].source.to_string(), "2001:db8::7");
    }

    #[test]
    fn the_clock_knows_its_rate() {
        for hz in [100, 250, 300, 1000] {
            let ticks = (1 << 32) - 300 * hz + 11_872 * hz;
            let clock = Clock::new(ticks, Duration::from_millis(11_872_300)).unwrap();
            assert_eq!(clock.hz, hz);
            assert_eq!(
                clock.left(ticks - 10 * hz, 60),
                Some(Duration::from_secs(50))
            );
            assert_eq!(clock.left(ticks - 60 * hz, 60), Some(Duration::ZERO));
            assert_eq!(clock.left(ticks - 60 * hz - 1, 60), None);
        }
        assert_eq!(Clock::new(5, Duration::from_secs(1000)), None);
    }

    #[test]
    fn the_clock_is_guessed_from_the_newest_entry() {
        let start = Duration::from_secs(3600);
        for hz in [100, 250, 300, 1000] {
            let newest = (1 << 32) - 300 * hz + 3595 * hz;
            let clock = Clock::guess(newest, start).unwrap();
            assert_eq!(clock.hz, hz);
            assert_eq!(clock.left(newest, 60), Some(Duration::from_secs(56)));
        }
        assert_eq!(Clock::guess(u64::MAX / 2, start), None);
        // The lowest rate that comes so far, give or take two seconds.
        let counted = (1 << 32) - 300 * 100 + 3599 * 100;
        let rate = |newest| Clock::guess(newest, start).unwrap().hz;
        assert_eq!([rate(counted + 200), rate(counted + 201)], [100, 128]);
        assert_eq!(Clock::guess(counted, Duration::MAX).unwrap().hz, 100);
    }

    #[test]
    fn timer_list_is_read() {
        let text = "Timer List Version: v0.10\nHRTIMER_MAX_CLOCK_BASES: 8\n\
                    now at 11872003106759 nsecs\n\ncpu: 0\n  .last_jiffies   : 4297859173\n\
                    jiffies: 4297860218\n";
        let clock = Clock::parse(text).unwrap();
        assert_eq!((clock.ticks, clock.hz), (4_297_860_218, 250));
        assert_eq!(Clock::parse("jiffies: x"), None);
    }
}
