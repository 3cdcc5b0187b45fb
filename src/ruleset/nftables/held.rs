//! The contents of a listing, in the words of both backends.

use super::Listing;
use crate::held::{Glance, Guests, Presence, Tally};
use crate::policy::Name;

impl Listing {
    /// The sources that are let in.
    pub fn guests(&self) -> Guests {
        Guests {
            grants: self.grants(),
            opened: self.opened(),
            elsewhere: self.elsewhere(),
        }
    }

    /// The parts that change from one second to the next.
    pub fn glance(&self) -> Glance {
        let opened = self.counters.iter().filter_map(|(name, count)| {
            let key = name.strip_prefix("opened-")?;
            Some((Name::new(key)?, *count))
        });
        Glance {
            rules: match self.dormant {
                true => Presence::Idle,
                false => Presence::Guard,
            },
            guarded: None,
            doors: self.doors(),
            guests: self.guests(),
            progress: self.progress(),
            counts: Tally {
                opened: opened.collect(),
                wrong: self.wrong_count(),
                shut_out: self.shut_out_count(),
            },
        }
    }
}
