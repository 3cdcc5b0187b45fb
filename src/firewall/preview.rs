//! A preview of an apply. Nothing is changed.

use super::record::Record;
use super::status::observe;
use super::{Failure, Firewall};
use crate::held::{Grant, Rights};
use crate::knock::display_source;
use crate::policy::Policy;
use crate::single_use::journal::Clocks;

/// The running policy, as it was applied.
#[derive(Debug)]
pub enum Running {
    Nothing,
    /// Rules of ours run, and why it is not known from what policy.
    Unknown(String),
    Policy(Box<Policy>),
}

#[derive(Debug)]
pub struct Preview {
    pub running: Running,
    /// Where the kernel is not as it was applied.
    pub drifts: Vec<String>,
    /// The number of live grants that would stay.
    pub kept: usize,
    /// Those that would not: "192.0.2.7 to ssh, by yves".
    pub ended: Vec<String>,
}

/// Looks what an apply of this policy would change.
///
/// # Errors
/// When the kernel cannot be read.
pub fn preview(firewall: &Firewall, policy: &Policy, clocks: Clocks) -> Result<Preview, Failure> {
    let is_guarded = firewall.is_guarded()?;
    let running = match is_guarded {
        true => applied(Record::read(&firewall.state)),
        false => Running::Nothing,
    };
    let mut drifts = Vec::new();
    if let Running::Policy(before) = &running {
        drifts.extend(observe(firewall, before, clocks.now)?.drift);
    }
    let before = match &running {
        Running::Policy(before) => Some(before.as_ref()),
        Running::Nothing | Running::Unknown(_) => None,
    };
    let rights = Rights::of(policy);
    let grants = firewall.grants()?.into_iter();
    let (kept, ended): (Vec<Grant>, Vec<Grant>) = grants.partition(|grant| rights.hold(grant));
    Ok(Preview {
        drifts,
        kept: kept.len(),
        ended: ended.iter().map(|grant| in_words(before, grant)).collect(),
        running,
    })
}

fn applied(record: Result<Record, String>) -> Running {
    let origin = match record {
        Ok(record) => record.running,
        Err(why) => return Running::Unknown(why),
    };
    let Some(origin) = origin else {
        return Running::Unknown("it was applied where that was not noted".to_string());
    };
    match origin.policy() {
        Ok(policy) => Running::Policy(Box::new(policy)),
        Err(error) => Running::Unknown(format!("it cannot be read any more: {error}")),
    }
}

fn in_words(before: Option<&Policy>, grant: &Grant) -> String {
    let source = display_source(&grant.source);
    let mut doors = before.iter().flat_map(|policy| &policy.doors);
    let door = doors.find(|door| door.name.door_id() == grant.door);
    let door = door.map_or("a door", |door| door.name.as_str());
    let mut keys = before.iter().flat_map(|policy| &policy.keys);
    let key = grant
        .opened_by
        .and_then(|by| keys.find(|key| key.name.key_id() == by.key));
    let key = key.map_or(String::new(), |key| format!(", by {}", key.name));
    format!("{source} to {door}{key}")
}
