//! Where openings are told, as the policy says.

use std::io;

use jiff::Timestamp;

use super::{Group, Opening, Ring};
use crate::policy::Log;

/// Somebody who hears of openings.
pub enum Source {
    Ring(Ring),
    Group(Group),
}

impl Source {
    /// Listens where a policy says that openings are told; `None` if it says nowhere.
    ///
    /// # Errors
    /// When that is not permitted.
    pub fn of(log: Log) -> io::Result<Option<Source>> {
        Ok(match log {
            Log::Kernel => Some(Source::Ring(Ring::open()?)),
            Log::Nflog(group) => Some(Source::Group(Group::listen(group)?)),
            Log::Off => None,
        })
    }

    /// The next opening that was told already; `None` when there is no more for now.
    ///
    /// # Errors
    /// When nothing can be heard any more.
    pub fn hear(&mut self) -> io::Result<Option<Opening>> {
        match self {
            Source::Ring(ring) => ring.hear(),
            Source::Group(group) => group.hear(Timestamp::now()),
        }
    }
}
