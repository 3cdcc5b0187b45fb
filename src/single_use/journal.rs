//! The facts about single-use keys that must be known beyond the life of the kernel's table, and what
//! follows from them. Pure; `firewall/state_file` keeps them on disk.
//!
//! The kernel's table holds the number of its *life*; the journal holds the same. As long as both
//! agree, the kernel and the journal together know every token that was spent. After a clean stop the
//! journal alone does. After any other end, or when the journal is lost, nobody knows what was spent
//! last: then the windows up to the next one are barred, which clients could have used.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::plan::Reach;
use super::{Token, WINDOW, Window};

/// The content of the state file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journal {
    pub version: u32,
    /// The table whose keys these are.
    pub life: u64,
    /// Which table that was, as the kernel tells one from its copy: a ruleset that was saved and loaded
    /// again has the number of the life too.
    #[serde(default)]
    pub table: Option<String>,
    /// The table was taken down in good order, and all that was spent is in here.
    pub clean: bool,
    /// When this was written, in seconds since 1970.
    pub saved: i64,
    /// Seconds since 1970 less seconds since the start of the machine: a step of the clock changes it.
    pub clock: i64,
    /// No token of a window up to this one is loaded.
    pub barred: Option<u64>,
    /// The clock has gone on for an hour since then without a step: it was right.
    #[serde(default)]
    pub settled: bool,
    /// The clock is behind what it was: nothing is loaded before it is this late again.
    pub waiting_for: Option<i64>,
    /// Tokens that were spent, in hexadecimal, with the time at which they were first seen here.
    pub spent: BTreeMap<String, i64>,
    /// Scratch sequences that have opened, by their numbers in the kernel.
    #[serde(default)]
    pub burnt: BTreeSet<u32>,
    /// Secrets, by [`Secret::id`](super::Secret::id), that were made here and have never been loaded:
    /// nothing of them can have been spent.
    #[serde(default)]
    pub new: BTreeSet<u32>,
    /// Those of them that were first loaded in this life: all that was spent of them is known.
    #[serde(default)]
    pub known: BTreeSet<u32>,
    /// The tokens loaded of each secret in this life. Only the kernel can say whether it still holds them.
    #[serde(default)]
    pub loaded: BTreeMap<u32, Reach>,
    /// [`Clocks::kernel_offset`] when all of it was loaded at once.
    #[serde(default)]
    pub kernel_clock: i64,
}

/// The readings of the clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clocks {
    /// Seconds since 1970.
    pub now: i64,
    /// Since the start of the machine, suspended or not.
    pub since_start: Duration,
    /// The same without suspends: the kernel's timeouts stand still meanwhile.
    pub awake: Duration,
}

impl Clocks {
    fn offset(self) -> i64 {
        self.less(self.since_start)
    }

    /// The offset that a step of the clock changes, and a suspend.
    pub fn kernel_offset(self) -> i64 {
        self.less(self.awake)
    }

    fn less(self, duration: Duration) -> i64 {
        let seconds = i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
        self.now.saturating_sub(seconds)
    }
}

/// The version of the file that this program writes, and the only one it reads.
pub const VERSION: u32 = 1;

/// The time that a spent token is remembered: what a clock may step back by.
const REMEMBERED: i64 = 7 * 86_400;

/// A clock that goes by more than this at once was set.
const STEP: i64 = 60;

/// So much less or more time than a token should have is no difference.
const TOLERANCE: u64 = 5;

/// So many windows without a step say that a clock is right.
const SETTLED: u64 = 60;

/// A clock that is further behind than this is believed, and the journal was written by a wrong one: else
/// one that was years ahead for a day would keep everybody out for years. No token whose fate is unknown
/// is loaded then: those were good around the time of the journal, further ahead than any horizon.
const BELIEVED: i64 = 25 * 3600;

/// The state that a refill found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// The table of the journal.
    Same,
    /// A new table after a clean stop.
    AfterCleanStop,
    /// A new table after anything else, or a journal that is not that of the table.
    AfterUncleanStop,
}

impl Journal {
    /// The journal to go on with. `life` is that of the kernel's table, `None` where it has none yet;
    /// `new_life` is random.
    pub fn go_on(
        before: Option<Journal>,
        life: Option<u64>,
        new_life: u64,
        clocks: Clocks,
    ) -> (Journal, Found) {
        let found = match (&before, life) {
            (Some(journal), Some(life)) if journal.life == life => Found::Same,
            (Some(journal), None) if journal.clean => Found::AfterCleanStop,
            _ => Found::AfterUncleanStop,
        };
        let now = clocks.now;
        let mut journal = before.unwrap_or(Journal {
            version: VERSION,
            life: new_life,
            table: None,
            clean: false,
            saved: now,
            clock: clocks.offset(),
            barred: None,
            settled: false,
            waiting_for: None,
            spent: BTreeMap::new(),
            burnt: BTreeSet::new(),
            new: BTreeSet::new(),
            known: BTreeSet::new(),
            loaded: BTreeMap::new(),
            kernel_clock: clocks.kernel_offset(),
        });
        let stepped = clocks.offset().abs_diff(journal.clock) > STEP.unsigned_abs();
        match found {
            Found::Same => {
                // The bar was maybe reckoned by a clock that was wrong.
                let ahead = |windows| {
                    let barred = journal.barred.map(|barred| barred.saturating_add(windows));
                    barred.is_some_and(|barred| barred >= Window::at(now).0)
                };
                let doubtful = journal.barred.is_some() && (!journal.settled || ahead(0));
                if stepped && doubtful && journal.waiting_for.is_none() {
                    journal.bar(now);
                } else if !stepped && !ahead(SETTLED) {
                    journal.settled = true;
                }
            }
            Found::AfterCleanStop => {}
            Found::AfterUncleanStop => {
                let latest = journal.waiting_for.unwrap_or(i64::MIN).max(journal.saved);
                journal.known.clear();
                // Unless the clock is behind, this is dropped right below.
                journal.waiting_for = Some(latest);
            }
        }
        if journal
            .waiting_for
            .is_some_and(|at| now >= at || at.saturating_sub(now) >= BELIEVED)
        {
            journal.waiting_for = None;
            journal.bar(now);
        }
        // Further ahead than anything can have been spent: the file was damaged, or the clock wrong.
        let furthest = Window::at(now).0 + BELIEVED.unsigned_abs() / WINDOW.as_secs();
        if journal.barred.is_some_and(|barred| barred > furthest) {
            journal.bar(now);
        }
        if found != Found::Same {
            journal.life = new_life;
            journal.loaded.clear();
        }
        journal.clean = false;
        journal.saved = now;
        journal.clock = clocks.offset();
        journal
            .spent
            .retain(|_, seen| now.saturating_sub(*seen) < REMEMBERED);
        (journal, found)
    }

    /// The life that a table with this number has: that of a copy is another one, whatever it says.
    pub fn life_of(&self, table: &Option<String>, life: Option<u64>) -> Option<u64> {
        match self.table.is_none() || self.table == *table {
            true => life,
            false => life.map(|_| !self.life),
        }
    }

    /// By how many seconds a clock is behind this journal that is believed all the same.
    pub fn believed(&self, now: i64) -> Option<i64> {
        let latest = self.waiting_for.unwrap_or(i64::MIN).max(self.saved);
        let behind = latest.saturating_sub(now);
        (behind >= BELIEVED).then_some(behind)
    }

    /// Clients use the current window and the next one.
    fn bar(&mut self, now: i64) {
        self.barred = Some(Window::at(now).0 + 1);
        self.settled = false;
    }

    /// Other hosts may have taken tokens while this one was down, and it has not heard yet: as after an
    /// unclean end, those of this and the next window are not loaded.
    pub fn wait_for_others(&mut self, now: i64) {
        self.known.clear();
        self.bar(now);
    }

    /// The window up to which nothing is loaded.
    pub fn barred(&self) -> Option<Window> {
        match self.waiting_for {
            Some(_) => Some(Window(u64::MAX)),
            None => self.barred.map(Window),
        }
    }

    /// The same for the tokens of one secret, which are loaded from now on.
    pub fn barred_for(&mut self, secret: u32) -> Option<Window> {
        if self.new.remove(&secret) {
            self.known.insert(secret);
        }
        match self.known.contains(&secret) {
            true => None,
            false => self.barred(),
        }
    }

    /// Returns whether the kernel has counted the time of its tokens as clocks have since they were loaded: no
    /// clock was set, and the machine did not sleep.
    pub fn counted_alike(&self, clocks: Clocks) -> bool {
        clocks.kernel_offset().abs_diff(self.kernel_clock) <= TOLERANCE
    }

    /// Takes in what the kernel knows to be spent.
    pub fn remember(&mut self, spent: impl IntoIterator<Item = Token>, now: i64) {
        for token in spent {
            self.spent.entry(token.hex()).or_insert(now);
        }
    }

    /// All that is known to be spent.
    pub fn spent(&self) -> impl Iterator<Item = Token> {
        self.spent.keys().filter_map(|text| Token::from_hex(text))
    }

    /// Reads the text of a state file. `None` when it is not one that this program wrote.
    pub fn parse(text: &str) -> Option<Journal> {
        let journal: Journal = serde_json::from_str(text).ok()?;
        let whole = journal
            .spent
            .keys()
            .all(|hex| Token::from_hex(hex).is_some());
        (journal.version == VERSION && whole).then_some(journal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_783_350_030;

    fn clocks(now: i64, since_start: u64) -> Clocks {
        Clocks {
            now,
            since_start: Duration::from_secs(since_start),
            awake: Duration::from_secs(since_start),
        }
    }

    fn window(now: i64) -> Option<Window> {
        Some(Window(Window::at(now).0 + 1))
    }

    fn begun() -> Journal {
        let (journal, found) = Journal::go_on(None, None, 7, clocks(NOW, 100));
        assert_eq!((journal.life, found), (7, Found::AfterUncleanStop));
        assert_eq!(journal.barred(), window(NOW));
        journal
    }

    #[test]
    fn a_secret_that_was_never_loaded_is_barred_by_nothing_but_a_later_end() {
        let mut journal = begun();
        journal.new.insert(5);
        let (mut journal, _) = Journal::go_on(Some(journal), None, 8, clocks(NOW + 1, 1));
        assert_eq!(journal.barred_for(6), window(NOW));
        assert_eq!((journal.barred_for(5), journal.barred_for(5)), (None, None));
        let (mut same, _) = Journal::go_on(Some(journal.clone()), Some(8), 9, clocks(NOW + 2, 2));
        assert_eq!(same.barred_for(5), None);
        let (mut unclean, _) = Journal::go_on(Some(journal), None, 9, clocks(NOW + 3, 3));
        assert_eq!(unclean.barred_for(5), window(NOW));
    }

    #[test]
    fn what_others_may_have_taken_is_barred_after_a_clean_stop_too() {
        let mut stopped = begun();
        stopped.clean = true;
        stopped.new.insert(5);
        assert_eq!(stopped.barred_for(5), None);
        let later = NOW + 9000;
        let (mut journal, found) = Journal::go_on(Some(stopped), None, 8, clocks(later, 20));
        assert_eq!(found, Found::AfterCleanStop);
        journal.wait_for_others(later);
        assert_eq!(
            (journal.barred(), journal.barred_for(5)),
            (window(later), window(later))
        );
    }

    #[test]
    fn in_one_life_nothing_is_barred_again() {
        let begun = begun();
        let (journal, found) =
            Journal::go_on(Some(begun.clone()), Some(7), 8, clocks(NOW + 900, 1000));
        assert_eq!((journal.life, found), (7, Found::Same));
        assert_eq!(journal.barred(), begun.barred());
    }

    #[test]
    fn after_a_clean_stop_all_goes_on() {
        let mut stopped = begun();
        stopped.clean = true;
        let token = Token([1; 16]);
        stopped.remember([token], NOW + 5);
        let (journal, found) =
            Journal::go_on(Some(stopped.clone()), None, 8, clocks(NOW + 900, 20));
        assert_eq!(
            (journal.life, journal.clean, found),
            (8, false, Found::AfterCleanStop)
        );
        assert_eq!(journal.barred(), stopped.barred());
        assert_eq!(journal.spent().collect::<Vec<_>>(), [token]);
        // Once: who starts twice from it has had no clean stop in between.
        let (_, found) = Journal::go_on(Some(journal), None, 9, clocks(NOW + 901, 21));
        assert_eq!(found, Found::AfterUncleanStop);
    }

    #[test]
    fn after_any_other_end_the_windows_that_clients_used_are_barred() {
        let later = NOW + 900;
        for (before, life) in [
            (Some(begun()), None),
            (Some(begun()), Some(6)),
            (None, None),
            (None, Some(7)),
        ] {
            let (journal, found) = Journal::go_on(before, life, 8, clocks(later, 20));
            assert_eq!((journal.life, found), (8, Found::AfterUncleanStop));
            assert_eq!(journal.barred(), window(later));
        }
        // A clean journal is not that of a table that lives.
        let mut clean = begun();
        clean.clean = true;
        clean.loaded.insert(5, Reach::default());
        let (journal, found) = Journal::go_on(Some(clean), Some(6), 8, clocks(later, 20));
        assert_eq!(found, Found::AfterUncleanStop);
        assert!(journal.loaded.is_empty());
    }

    /// A small computer without a clock of its own starts an hour too early.
    #[test]
    fn a_clock_that_is_behind_is_waited_for() {
        let (journal, _) = Journal::go_on(Some(begun()), None, 8, clocks(NOW - 3600, 20));
        assert_eq!(journal.barred(), Some(Window(u64::MAX)));
        let (journal, _) = Journal::go_on(Some(journal), Some(8), 9, clocks(NOW - 1800, 1820));
        assert_eq!(journal.barred(), Some(Window(u64::MAX)));
        // Another fall in between changes nothing.
        let (journal, _) = Journal::go_on(Some(journal), None, 9, clocks(NOW - 1700, 10));
        assert_eq!(journal.barred(), Some(Window(u64::MAX)));
        let (journal, found) = Journal::go_on(Some(journal), Some(9), 9, clocks(NOW + 60, 40));
        assert_eq!(found, Found::Same);
        assert_eq!(journal.barred(), window(NOW + 60));
    }

    /// Tokens are loaded up to a day ahead: what was spent could else be loaded again.
    #[test]
    fn a_clock_that_is_a_day_behind_is_waited_for_and_a_later_one_believed() {
        let barred = |behind: i64| {
            let (journal, _) = Journal::go_on(Some(begun()), None, 8, clocks(NOW - behind, 20));
            journal.barred()
        };
        let day = 24 * 3600;
        assert_eq!(barred(day + 600), Some(Window(u64::MAX)));
        assert_eq!(barred(day + 3600), window(NOW - day - 3600));
    }

    #[test]
    fn a_clock_that_steps_after_an_unclean_stop_bars_anew() {
        for step in [-7200, 7200] {
            let (journal, _) = Journal::go_on(Some(begun()), Some(7), 8, clocks(NOW + step, 101));
            assert_eq!(journal.barred(), window(NOW + step), "{step}");
        }
    }

    #[test]
    fn the_kernel_counts_alike_until_a_clock_steps_or_the_machine_sleeps() {
        let begun = begun();
        for seconds in [0, 5, 900, 90_000] {
            let later = clocks(NOW + seconds, 100 + seconds as u64);
            assert!(begun.counted_alike(later));
            for step in [-3600, -6, 6, 3600] {
                let now = later.now + step;
                assert!(!begun.counted_alike(Clocks { now, ..later }));
            }
            let slept = Clocks {
                now: later.now + 600,
                since_start: later.since_start + Duration::from_secs(600),
                ..later
            };
            assert!(!begun.counted_alike(slept));
        }
    }

    #[test]
    fn a_clock_that_was_right_for_less_than_an_hour_is_doubted() {
        let (journal, _) = Journal::go_on(Some(begun()), Some(7), 8, clocks(NOW + 1800, 1900));
        let (journal, _) = Journal::go_on(Some(journal), Some(7), 8, clocks(NOW + 7200, 2000));
        assert_eq!(journal.barred(), window(NOW + 7200));
    }

    #[test]
    fn a_minute_more_or_less_is_no_step() {
        for (by, now) in [(60, NOW), (61, NOW + 361), (-60, NOW), (-61, NOW + 239)] {
            let clocks = clocks(NOW + 300 + by, 400);
            let (journal, _) = Journal::go_on(Some(begun()), Some(7), 8, clocks);
            assert_eq!(journal.barred(), window(now), "{by}");
        }
    }

    #[test]
    fn a_spent_token_is_remembered_for_a_week() {
        let mut journal = begun();
        let week = 7 * 86_400;
        for (first, seen) in [(1, NOW - week), (2, NOW - week + 1), (3, NOW)] {
            journal.remember([Token([first; 16])], seen);
        }
        let (journal, _) = Journal::go_on(Some(journal), Some(7), 8, clocks(NOW, 100));
        let spent: Vec<Token> = journal.spent().collect();
        assert_eq!(spent, [Token([2; 16]), Token([3; 16])]);
    }

    #[test]
    fn a_clock_that_was_right_for_an_hour_may_step() {
        let begun = begun();
        let (journal, _) =
            Journal::go_on(Some(begun.clone()), Some(7), 8, clocks(NOW + 4000, 4100));
        let (stepped, _) =
            Journal::go_on(Some(journal.clone()), Some(7), 8, clocks(NOW + 7200, 4200));
        assert_eq!(stepped.barred(), begun.barred());
        let (back, _) = Journal::go_on(Some(journal), Some(7), 8, clocks(NOW - 600, 4200));
        assert_eq!(back.barred(), window(NOW - 600));
    }

    #[test]
    fn the_copy_of_a_table_has_another_life() {
        let mut journal = begun();
        let [own, copy] = ["boot 1", "boot 2"].map(|table| Some(table.to_string()));
        assert_eq!(journal.life_of(&own, Some(7)), Some(7));
        journal.table = own.clone();
        assert_eq!(journal.life_of(&own, Some(7)), Some(7));
        assert_eq!(journal.life_of(&copy, None), None);
        let life = journal.life_of(&copy, Some(7));
        let (journal, found) = Journal::go_on(Some(journal), life, 8, clocks(NOW + 600, 700));
        assert_eq!(found, Found::AfterUncleanStop);
        assert_eq!(journal.barred(), window(NOW + 600));
    }

    #[test]
    fn windows_are_not_barred_for_ever() {
        let mut journal = begun();
        journal.barred = Some(u64::MAX);
        let (journal, _) = Journal::go_on(Some(journal), Some(7), 8, clocks(NOW + 60, 160));
        assert_eq!(journal.barred(), window(NOW + 60));
    }

    #[test]
    fn a_journal_from_a_far_future_keeps_nobody_out() {
        let far = NOW + 4 * 365 * 86_400;
        let (journal, _) = Journal::go_on(None, None, 7, clocks(far, 20));
        assert_eq!(journal.believed(NOW), Some(far - NOW));
        assert_eq!(journal.believed(far - BELIEVED + 1), None);
        let (journal, _) = Journal::go_on(Some(journal), None, 8, clocks(NOW, 20));
        assert_eq!(journal.barred(), window(NOW));
    }

    /// The file is input: whatever numbers are in it.
    #[test]
    fn no_number_in_the_file_is_too_large() {
        for number in [i64::MIN, i64::MAX] {
            let mut odd = begun();
            (odd.saved, odd.clock, odd.waiting_for) = (number, number, Some(number));
            odd.barred = Some(u64::MAX);
            odd.kernel_clock = number;
            assert!(!odd.counted_alike(clocks(NOW, 5)));
            odd.spent.insert(Token([1; 16]).hex(), number);
            for (life, now) in [(None, NOW), (Some(7), NOW), (Some(7), -5)] {
                let (journal, _) = Journal::go_on(Some(odd.clone()), life, 8, clocks(now, 5));
                assert!(journal.barred().is_some());
            }
        }
    }

    #[test]
    fn what_is_no_journal_is_none() {
        let journal = begun();
        let text = serde_json::to_string(&journal).unwrap();
        assert_eq!(Journal::parse(&text), Some(journal));
        for broken in [
            "",
            "{}",
            &text[..text.len() - 1],
            &text.replace("\"version\":1", "\"version\":2"),
            &text.replace("\"spent\":{}", "\"spent\":{\"x\":1}"),
        ] {
            assert_eq!(Journal::parse(broken), None, "{broken}");
        }
    }
}
