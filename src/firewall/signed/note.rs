//! The note of the program that was placed last: a file in /run, so that it ends with this start of the machine, as does
//! the kernel's memory of what was spent.

use std::collections::BTreeMap;
use std::fs;

use serde::{Deserialize, Serialize};

use super::super::lock;
use super::super::namespaces::{Cookie, is_here};
use super::super::record;
use super::{MEMORY, Moment};
use crate::signed::Time;

const KIND: &str = "signed";

/// A note. Writers hold the lock.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Note {
    pub at: record::Moment,
    pub namespace: Option<Cookie>,
    /// The table whose set remembers what was spent.
    pub table: u64,
    pub memory: Memory,
    /// The kernel's numbers of the program and its map.
    pub program: u32,
    pub map: u32,
    pub keys: usize,
    /// `None`: all but loopback.
    pub interfaces: Option<Vec<String>>,
    /// Interfaces that did not take the program, each with a sentence why.
    #[serde(default)]
    pub refused: BTreeMap<String, String>,
}

/// Since when the kernel knows what was spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Memory {
    /// The moment of its beginning, in nanoseconds since the machine was started, and by the clock as it was then.
    since: u64,
    by_clock: u64,
    /// The bound that an earlier clock left behind: that clock less the time for which the kernel certainly remembers.
    floor: u64,
    /// The time of day at which the machine was started, by the clock of the program that was loaded last.
    started: u64,
}

impl Memory {
    /// The memory of a table, which may have been noted before.
    pub(super) fn of(before: Option<&Note>, table: u64, moment: Moment) -> Memory {
        let started = moment.started().0;
        match before.filter(|note| note.table == table) {
            Some(Note { memory, .. }) => Memory {
                floor: memory.floor.max(memory.oldest(moment)),
                started,
                ..*memory
            },
            None => Memory {
                since: moment.since_boot,
                by_clock: moment.now.0,
                floor: 0,
                started,
            },
        }
    }

    /// The oldest moment that the kernel certainly remembers, by the clock that the last program had.
    fn oldest(&self, moment: Moment) -> u64 {
        let by_that_clock = self.started.wrapping_add(moment.since_boot);
        by_that_clock.saturating_sub(MEMORY.as_nanos() as u64)
    }

    /// Nothing from before this opens.
    pub(super) fn not_before(&self, moment: Moment) -> Time {
        let since = moment.started().0.wrapping_add(self.since);
        Time(since.max(self.by_clock).max(self.floor))
    }
}

impl Note {
    /// A note of this moment and place. The rest says nothing yet.
    pub(super) fn here() -> Note {
        Note {
            at: record::Moment::now(),
            namespace: Cookie::own(),
            table: 0,
            memory: Memory {
                since: 0,
                by_clock: 0,
                floor: 0,
                started: 0,
            },
            program: 0,
            map: 0,
            keys: 0,
            interfaces: None,
            refused: BTreeMap::new(),
        }
    }

    /// The last one, if it is of this start of the machine, and of this network namespace.
    pub(super) fn read() -> Option<Note> {
        let text = fs::read_to_string(lock::beside(KIND)?).ok()?;
        let note: Note = serde_json::from_str(&text).ok()?;
        (is_here(note.namespace) && note.at.is_of_this_start()).then_some(note)
    }

    /// # Errors
    /// A sentence. Then there is none.
    pub(super) fn write(&self) -> Result<(), String> {
        let text = serde_json::to_string(self).map_err(|error| error.to_string())?;
        lock::put_beside(KIND, text.as_bytes()).map_err(|error| {
            format!("the note of the signed keys' program cannot be written: {error}")
        })
    }

    pub(super) fn forget() {
        lock::remove_beside(KIND);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3600 * 1_000_000_000;
    const NOON: u64 = 490_000 * HOUR;

    fn at(now: u64, since_boot: u64) -> Moment {
        Moment {
            now: Time(now),
            since_boot,
        }
    }

    fn noted(memory: Memory) -> Note {
        Note {
            table: 7,
            memory,
            ..Note::here()
        }
    }

    /// A day later by the machine's count; the clock was then set forth or back by some hours.
    fn a_day_later(set: i64) -> (Memory, Moment) {
        let first = at(NOON, HOUR);
        let memory = Memory::of(None, 7, first);
        let later = at(NOON + 24 * HOUR, 25 * HOUR);
        let memory = Memory::of(Some(&noted(memory)), 7, later);
        let stepped = at(
            later.now.0.wrapping_add_signed(set * HOUR as i64) + 1,
            later.since_boot + 1,
        );
        (Memory::of(Some(&noted(memory)), 7, stepped), stepped)
    }

    #[test]
    fn a_new_table_begins_with_now_and_another_one_does_too() {
        let moment = at(NOON, HOUR);
        let memory = Memory::of(None, 7, moment);
        assert_eq!(memory.not_before(moment), Time(NOON));
        let later = at(NOON + HOUR, 2 * HOUR);
        let other = Memory::of(Some(&noted(memory)), 8, later);
        assert_eq!(other.not_before(later), later.now);
        let same = Memory::of(Some(&noted(memory)), 7, later);
        assert_eq!(same.not_before(later), Time(NOON));
    }

    /// Whatever the clock does, a datagram of a time that the kernel may have forgotten, or never known, is refused.
    #[test]
    fn a_clock_that_is_set_opens_nothing_again() {
        for set in [-48, -24, -2, -1, 0, 1, 24, 48] {
            let (memory, moment) = a_day_later(set);
            let not_before = memory.not_before(moment).0;
            // Two hours are remembered, from now on backwards by the clock as it was.
            let remembered = NOON + 24 * HOUR - 2 * HOUR;
            assert!(not_before >= remembered.max(NOON), "{set}");
            let opens = not_before <= moment.now.0;
            assert_eq!(opens, set >= -1, "{set}");
        }
    }

    /// A clock that was wrong at the start, and is put right: what came before the start stays out.
    #[test]
    fn a_late_clock_that_is_put_right_moves_the_beginning_with_it() {
        let wrong = at(5 * HOUR, HOUR);
        let memory = Memory::of(None, 7, wrong);
        let right = at(NOON, 2 * HOUR);
        let memory = Memory::of(Some(&noted(memory)), 7, right);
        assert_eq!(memory.not_before(right), Time(NOON - HOUR));
    }
}
