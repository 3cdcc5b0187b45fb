//! `kernel --observe--> Status`: doors, grants, progress, openings, and whether the kernel still
//! holds what the policy says.

use std::time::Duration;

use serde::Serialize;

use super::{Failure, Nft};
use crate::automaton::{Automaton, Place, State};
use crate::knock::display_source;
use crate::policy::{DoorIndex, Policy};
use crate::ruleset::nftables::{Drift, Listing, compare, render};

/// All there is to see, in the words of the policy. Serialized as it stands for `--json`.
#[derive(Debug, Serialize)]
pub struct Status {
    pub matches_policy: bool,
    /// What differs, one sentence each.
    pub drift: Vec<String>,
    pub doors: Vec<DoorStatus>,
    pub progress: Vec<ProgressStatus>,
    pub keys: Vec<KeyStatus>,
    pub max_sources: u32,
}

#[derive(Debug, Serialize)]
pub struct DoorStatus {
    pub name: String,
    pub ports: Vec<String>,
    pub grants: Vec<GrantStatus>,
}

#[derive(Debug, Serialize)]
pub struct GrantStatus {
    /// An address, or a network where grants are by prefix.
    pub source: String,
    /// `null` for a grant by hand, or when nobody knows.
    pub key: Option<String>,
    pub by_hand: bool,
    pub once: bool,
    /// Seconds, to the second below.
    pub expires_in: f64,
}

#[derive(Debug, Serialize)]
pub struct ProgressStatus {
    pub source: String,
    pub expires_in: f64,
    /// How many knocks are done.
    pub knocks: usize,
    /// The keys whose sequences begin with them.
    pub keys: Vec<String>,
}

#[derive(Debug, Serialize)]
pub struct KeyStatus {
    pub name: String,
    /// How often it has opened since the table was made.
    pub opened: u64,
    pub expired: bool,
}

/// Reads the kernel and holds it against the policy. `now` is in seconds since 1970.
///
/// # Errors
/// When the kernel could not be read.
pub fn observe(nft: &Nft, policy: &Policy, now: i64) -> Result<Status, Failure> {
    let automaton = Automaton::build(policy.sequences());
    let script = render(policy, &automaton);
    let Some(actual) = nft.list()? else {
        let drifts = vec![table_missing()];
        return Ok(status(policy, &automaton, &Listing::default(), drifts, now));
    };
    let expected = nft.list_fresh(&script)?;
    let drifts = compare(&expected, &actual);
    Ok(status(policy, &automaton, &actual, drifts, now))
}

/// The difference between everything and nothing.
pub fn table_missing() -> Drift {
    Drift::new(
        "table inet toctoc",
        "is missing: no door is guarded (`toctoc apply` brings it back)",
    )
}

/// Puts a listing into the policy's words. Pure.
fn status(
    policy: &Policy,
    automaton: &Automaton,
    listing: &Listing,
    drifts: Vec<Drift>,
    now: i64,
) -> Status {
    let grants = listing.grants();
    let doors = policy.doors.iter().map(|door| {
        let own = grants.iter().filter(|grant| grant.door == door.name.id());
        DoorStatus {
            name: door.name.to_string(),
            ports: door.ports.iter().map(|port| port.to_string()).collect(),
            grants: own
                .map(|grant| {
                    let by = grant.opened_by;
                    let keys = policy.keys.iter();
                    let key = by
                        .and_then(|by| keys.map(|key| &key.name).find(|name| name.id() == by.key));
                    GrantStatus {
                        source: display_source(&grant.source),
                        key: key.map(|name| name.to_string()),
                        by_hand: by.is_some_and(|by| by.by_hand()),
                        once: grant.once,
                        expires_in: grant.expires_in.as_secs_f64(),
                    }
                })
                .collect(),
        }
    });
    let progress = listing.progress().into_iter().filter_map(|entry| {
        let Some(Place::Midway { knocks, keys }) = automaton.place(State(entry.state)) else {
            return None;
        };
        Some(ProgressStatus {
            source: entry.source.to_string(),
            expires_in: entry.expires_in.as_secs_f64(),
            knocks: *knocks,
            keys: keys
                .iter()
                .map(|&key| policy.key(key).name.to_string())
                .collect(),
        })
    });
    Status {
        matches_policy: drifts.is_empty(),
        doors: doors.collect(),
        // States are only meaningful in the automaton that numbered them.
        progress: if drifts.is_empty() {
            progress.collect()
        } else {
            nameless(listing)
        },
        keys: policy
            .keys
            .iter()
            .map(|key| KeyStatus {
                name: key.name.to_string(),
                opened: listing.opened_count(&key.name),
                expired: key.expired(now),
            })
            .collect(),
        drift: drifts.iter().map(Drift::to_string).collect(),
        max_sources: policy.max_sources,
    }
}

/// Progress when the kernel runs another automaton than the policy's: who, but not how far.
fn nameless(listing: &Listing) -> Vec<ProgressStatus> {
    let entries = listing.progress().into_iter();
    let entries = entries.map(|entry| ProgressStatus {
        source: entry.source.to_string(),
        expires_in: entry.expires_in.as_secs_f64(),
        knocks: 0,
        keys: Vec::new(),
    });
    entries.collect()
}

impl Status {
    /// Whether a source that holds a grant for this door is listed.
    pub fn holds(&self, DoorIndex(door): DoorIndex, source: &str) -> bool {
        self.doors
            .get(door)
            .is_some_and(|door| door.grants.iter().any(|grant| grant.source == source))
    }

    /// The time left of a grant.
    pub fn time_left(&self, DoorIndex(door): DoorIndex, source: &str) -> Option<Duration> {
        let grants = &self.doors.get(door)?.grants;
        let grant = grants.iter().find(|grant| grant.source == source)?;
        Some(Duration::from_secs_f64(grant.expires_in))
    }
}
