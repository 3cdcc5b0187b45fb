//! `kernel --observe--> Status`: doors, grants, progress, openings, and whether the kernel still
//! holds what the policy says.
mod assemble;
mod interfaces;
mod observe;
mod other;

pub use interfaces::{Guard, guarded_on};
pub use observe::{glance, observe};
pub use other::table_missing;

use super::noted::Noted;
use crate::fleet_report::Report;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The state of the firewall in the words of the policy. `--json` prints it as it stands.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Status {
    /// `nftables` or `iptables`, as the policy says.
    pub backend: String,
    /// `true` if the kernel holds what the file of the policy says.
    pub matches_policy: bool,
    /// `true` if rules of ours are in force, of either backend: a table of nftables that is not dormant, or rules of
    /// iptables that guard a door. If `false`, every door is open to everyone.
    pub applied: bool,
    /// The differences in the policy's words, one sentence each.
    #[serde(default)]
    pub differences: Vec<String>,
    /// The same in the kernel's words.
    pub drift: Vec<String>,
    /// `true` if rules are among what differs: a door may be open then although something guards it.
    #[serde(default)]
    pub rules_differ: bool,
    pub doors: Vec<DoorStatus>,
    /// With `[firewall]`, the ports that are open to everyone; everything else is dropped.
    pub allowed: Option<Vec<String>>,
    pub progress: Vec<ProgressStatus>,
    pub keys: Vec<KeyStatus>,
    /// The knocks of sources midway that led nowhere, since the table was made.
    pub wrong: u64,
    /// The new connections that came to a door without a grant, since then.
    pub shut_out: u64,
    pub max_sources: u32,
    /// Interfaces that the policy names and this host does not have now.
    pub missing_interfaces: Vec<String>,
    /// The interfaces that are there and guarded; `null` for all but loopback.
    #[serde(default)]
    pub guarded_on: Option<Vec<String>>,
    /// Interfaces that are up and not guarded, as the policy says.
    #[serde(default)]
    pub not_guarded_on: Vec<String>,
    /// Interfaces by which strangers get past the doors, though the policy does not say so.
    #[serde(default)]
    pub open_on: Vec<String>,
    /// Why strangers can get past the doors although the kernel holds what the policy says; one sentence each.
    #[serde(default)]
    pub gaps: Vec<String>,
    /// Everything else an administrator should know, one sentence each. None of it changes the exit status.
    pub warnings: Vec<String>,
    /// The notes on the policy, its file and its trial.
    pub noted: Noted,
    /// The state of `toctoc fleet`, if the policy has a fleet.
    #[serde(default)]
    pub fleet: Option<FleetStatus>,
}

/// The fleet, as its agent has seen it last.
#[derive(Debug, Serialize, Deserialize)]
pub struct FleetStatus {
    /// `true` if `toctoc fleet` runs here.
    pub running: bool,
    /// The age of the report, in seconds; `null` when there is none.
    pub age: Option<f64>,
    pub report: Option<Report>,
}

impl FleetStatus {
    /// Returns whether this host takes part in it: its agent runs, goes by the policy that the kernel runs, and is connected.
    pub fn takes_part(&self) -> bool {
        let report = self.report.as_ref();
        let well =
            |report: &Report| report.connected && report.why.is_none() && report.waits.is_none();
        self.running && report.is_some_and(well)
    }
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub struct DoorStatus {
    pub name: String,
    /// Empty for a door that the kernel guards and this policy does not know.
    pub ports: Vec<String>,
    /// `true` for the door of every port of this host.
    #[serde(default)]
    pub every_port: bool,
    /// The hosts behind this one that it stands in front of; left out for a door of this host.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub to: Vec<String>,
    /// Where its connections are passed on to; left out where they are not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub forward: Vec<String>,
    pub in_policy: bool,
    /// The backend whose rules guard it: `null` if none do, it is open to everyone then.
    pub guarded_by: Option<String>,
    /// Sources that never need to knock, as the policy has them: networks, then names of hosts.
    pub trust: Vec<String>,
    /// The addresses that the rules have for these names; left out where the door trusts no name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub addresses: BTreeMap<String, Vec<String>>,
    pub grants: Vec<GrantStatus>,
    /// Sources without a grant for this door that the door of every port lets in here; left out where there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub with_every_port: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct GrantStatus {
    /// An address, or a network where grants are by prefix.
    pub source: String,
    /// `null` for a grant by hand, or when nobody knows.
    pub key: Option<String>,
    pub by_hand: bool,
    pub once: bool,
    /// Another host of the fleet gave it; [`FleetStatus`] may say which.
    #[serde(default)]
    pub elsewhere: bool,
    /// The name of that host, where it is known.
    #[serde(default)]
    pub host: Option<String>,
    /// Seconds, to the second below.
    pub expires_in: f64,
    /// Where the door extends its grants, the seconds in which connections may do so; `null` elsewhere.
    #[serde(default)]
    pub extendable_for: Option<f64>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct ProgressStatus {
    pub source: String,
    pub expires_in: f64,
    /// The number of knocks that are done.
    pub knocks: usize,
    /// The keys whose sequences begin with them.
    pub keys: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct KeyStatus {
    pub name: String,
    /// The number of openings since the table was made.
    pub opened: u64,
    pub expired: bool,
    /// `null` for a key without tokens, and where they were not counted: `watch` does not count them.
    pub tokens: Option<TokenStatus>,
    /// `null` for a key without scratch sequences, and where it is not known.
    #[serde(default)]
    pub scratch: Option<ScratchStatus>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct ScratchStatus {
    /// The number of those that still open.
    pub left: usize,
    /// The number in the policy.
    pub of: usize,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct TokenStatus {
    /// The number that the kernel holds, of this minute and later ones.
    pub loaded: usize,
    /// Seconds until the last of them ends.
    pub last_for: f64,
    /// They last for less than a quarter of what they should: the timer has not come for hours.
    pub low: bool,
}

impl Status {
    /// Returns whether some key is about to run out of tokens.
    pub fn tokens_low(&self) -> bool {
        let mut tokens = self.keys.iter().filter_map(|key| key.tokens.as_ref());
        tokens.any(|tokens| tokens.low)
    }
}
