//! The one place that changes the kernel: applies a script, reads the state back, opens and closes
//! by hand, removes. Each error says in what state the firewall was left.

pub mod absence;
pub mod apply;
mod apply_iptables;
mod apply_nftables;
mod backend;
pub mod by_hand;
mod by_hand_iptables;
mod by_hand_nftables;
pub mod caller;
pub mod events;
mod exec;
pub mod heal;
mod hidden;
mod hint;
mod iptables;
pub mod links;
pub mod listening;
mod lock;
mod look;
mod namespaces;
mod netlink;
mod netlink_listing;
pub mod nf_tables;
mod nft;
mod nft_messages;
pub mod noted;
pub mod others;
pub mod preview;
pub mod record;
pub mod revoke;
mod seal;
mod sighting;
pub mod signed;
mod state_file;
pub mod status;
pub mod tokens;
pub mod trial;
pub mod trusted_names;
pub mod unit;
pub mod verified;
pub mod watchdog;

use std::fmt;

use crate::held::EndsElsewhere;
use crate::ruleset::nftables::SetId;

pub use exec::{Exit, run};
pub use iptables::{Iptables, list_size};
pub use nft::Nft;
pub use state_file::StateFile;

/// The programs that change and list the kernel's firewall, and what is kept beside it.
#[derive(Debug, Clone, Default)]
pub struct Firewall {
    pub nft: Nft,
    pub iptables: Iptables,
    pub state: StateFile,
}

impl Firewall {
    /// Reads what other hosts of the fleet have ended, as far as it is noted.
    ///
    /// # Errors
    /// When nft cannot be read.
    pub fn ended_elsewhere(&self) -> Result<EndsElsewhere, Failure> {
        if !self.nft.is_there()? {
            return Ok(EndsElsewhere::default());
        }
        let mut listing = self.nft.list_grants()?.unwrap_or_default();
        if let Some(keys) = self.nft.list_set(SetId::RevokedElsewhere)? {
            listing.merge(keys);
        }
        Ok(listing.ended_elsewhere())
    }
}

/// A failure while talking to the kernel, and what holds now.
#[derive(Debug)]
pub struct Failure {
    pub message: String,
    pub left: Left,
}

/// The state a failure left the firewall in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// Nothing was written.
    Unchanged,
    /// The new ruleset is in; something after it failed.
    Changed,
    /// The rules are as they were, and what opens once does not until the next apply.
    Stopped,
    /// Some grants were given or ended, and not all that should be.
    Partly,
    /// The program that writes was cut off, and what was read back does not tell.
    Unknown,
}

impl Failure {
    pub fn unchanged(message: impl Into<String>) -> Failure {
        Failure {
            message: message.into(),
            left: Left::Unchanged,
        }
    }

    /// The same failure, after which this holds.
    fn leaving(self, left: Left) -> Failure {
        Failure { left, ..self }
    }

    /// The failure of what was asked for after so many parts of it were done.
    fn after(self, parts: usize) -> Failure {
        match parts {
            0 => self,
            _ => self.after_a_part(),
        }
    }

    /// The failure of a later part of what was asked for, when an earlier part was done.
    fn after_a_part(self) -> Failure {
        let left = match self.left {
            Left::Unchanged | Left::Changed => Left::Partly,
            other => other,
        };
        self.leaving(left)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let left = match self.left {
            Left::Unchanged => "the running firewall was not changed",
            Left::Changed => "the new ruleset is in the kernel",
            Left::Stopped => {
                "doors are shut to strangers as before, other keys open them, grants stay"
            }
            Left::Partly => "a part of it was done: `toctoc status` shows which grants there are",
            Left::Unknown => {
                "whether the running firewall was changed is not known; see `toctoc status`"
            }
        };
        write!(f, "{}\n{left}", self.message)
    }
}

impl std::error::Error for Failure {}
