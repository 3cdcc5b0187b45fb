//! The messages of others that do not count here: why, how often, and when that is to be said.

use std::collections::BTreeMap;

use crate::clock::Moment;

/// The least time between two words about one reason, in milliseconds.
const COMPLAINTS: i64 = 60_000;

/// See the module.
#[derive(Debug, Default)]
pub struct Refusals {
    /// By reason: how often since that was said last, and when it was.
    by_reason: BTreeMap<String, (u64, Moment)>,
    /// All of them.
    pub count: u64,
    pub last: Option<(String, Moment)>,
}

impl Refusals {
    pub fn note(&mut self, why: String, now: Moment) {
        self.count += 1;
        self.last = Some((why.clone(), now));
        let noted = self.by_reason.entry(why).or_insert((0, Moment::MIN));
        noted.0 += 1;
    }

    /// The sentences that are due. None is due again for a while.
    pub fn take_due(&mut self, now: Moment) -> Vec<String> {
        let mut due = Vec::new();
        for (why, (count, said)) in &mut self.by_reason {
            if *count > 0 && now >= said.saturating_add(COMPLAINTS) {
                due.push(format!("refused {count} of what others say: {why}"));
                (*count, *said) = (0, now);
            }
        }
        due
    }
}
