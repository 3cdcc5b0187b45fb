//! The contents of the kernel that are ours at a moment, whichever backend it is in, and the edits of them. Pure: nothing here knows
//! what nft prints, how a list of iptables is called, or a kernel.

mod edit;
mod rights;
mod room;
mod words;

pub use edit::{Departure, around};
pub use rights::Rights;
pub use room::{Spared, first_to_end};
pub use words::{Drift, Fault, Grant, Guest, Opened, Progress, Stay, Subject, granted_network};

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use crate::policy::{KeyId, Name};

/// The sources that are let in.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Guests {
    /// The live grants of this host.
    pub grants: Vec<Grant>,
    /// The records of openings, of live grants and of others.
    pub opened: Vec<Opened>,
    /// The live grants that other hosts of the fleet gave. Who opened them, the kernel does not know.
    pub elsewhere: Vec<Grant>,
}

/// Grants and keys that other hosts have ended, each with the least time since.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct EndsElsewhere {
    pub guests: Vec<(Guest, Duration)>,
    /// Keys that were revoked.
    pub keys: Vec<(KeyId, Duration)>,
}

/// The parts that change from one second to the next. It can be read quickly, also where the ruleset is large.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Glance {
    pub rules: Presence,
    /// The doors that rules guard: `true` for each, in the policy's order. `None` where they guard all or none.
    pub guarded: Option<Vec<bool>>,
    /// The doors that rules are there for, in the order of their names.
    pub doors: Vec<Name>,
    pub guests: Guests,
    pub progress: Vec<Progress>,
    pub counts: Tally,
}

/// The state of our rules.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    #[default]
    Absent,
    /// They are there and guard no door.
    Idle,
    Guard,
}

/// The counts since the rules were made.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Tally {
    /// The openings of each key.
    pub opened: BTreeMap<Name, u64>,
    /// The knocks of sources midway that led nowhere.
    pub wrong: u64,
    /// The new connections that came to a door without a grant.
    pub shut_out: u64,
}

/// All that the kernel holds of ours, compared with a policy.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Held {
    pub glance: Glance,
    /// The differences from the policy.
    pub drifts: Vec<Drift>,
    /// `true` if rules are among what differs.
    pub rules_differ: bool,
    /// The tokens of each [secret](crate::single_use::Secret::id). `None` where there can be none.
    pub tokens: Option<HashMap<u32, TokenCount>>,
    /// The scratch sequences that the kernel knows to be used up. `None` where it does not say.
    pub burnt: Option<BTreeSet<u32>>,
}

/// The tokens of a secret.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct TokenCount {
    pub number: usize,
    /// The time for which the last of them is good.
    pub last: Duration,
}
