//! Grants given and taken by the administrator.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::absence::Absence;
use super::backend::ByHand;
use super::lock::Lock;
use super::record::Record;
use super::{Failure, Firewall, caller};
use crate::held::Grant;
use crate::knock::Knock;
use crate::policy::{Backend, Name, nearest};
use crate::ruleset::nftables::{self, SetId};

/// The result of an opening.
#[derive(Debug, Clone, PartialEq)]
pub struct GivenByHand {
    /// The source, or its network where grants are by prefix.
    pub network: IpNet,
    /// Grants that ended for want of room.
    pub ended: Vec<End>,
}

/// A grant that ended for want of room.
#[derive(Debug, Clone, PartialEq)]
pub struct End {
    pub source: IpNet,
    pub door: String,
    /// The time that was left of it, to the second below.
    pub left: Duration,
}

impl End {
    pub(super) fn of(grant: &Grant, doors: impl IntoIterator<Item = Name>) -> End {
        let mut doors = doors.into_iter();
        let door = doors.find(|door| door.door_id() == grant.door);
        End {
            source: grant.source,
            door: door.map_or_else(|| "an old door".to_string(), |door| door.to_string()),
            left: Duration::from_secs(grant.expires_in.as_secs()),
        }
    }
}

/// Grants `source` the door for `open_for` from now. Where there is no room, another grant ends.
///
/// # Errors
/// When the running firewall has no such door, or the kernel could not be reached.
pub fn open(
    firewall: &Firewall,
    door: &Name,
    source: IpNet,
    open_for: Duration,
) -> Result<GivenByHand, Failure> {
    let _lock = Lock::take()?;
    let mut running = running(firewall, None)?;
    known(firewall, &running, door)?;
    let request = Request {
        door,
        source,
        open_for,
        caller: caller::connection().map(|connection| connection.from.ip()),
    };
    let mut done: Option<GivenByHand> = None;
    for rules in &mut running {
        let given = rules.open(&request).map_err(|failure| match done {
            Some(_) => failure.after_a_part(),
            None => failure,
        })?;
        let before = done.map(|done| done.ended).unwrap_or_default();
        done = Some(GivenByHand {
            ended: [before, given.ended].concat(),
            ..given
        });
    }
    done.ok_or_else(|| nothing_applied(firewall))
}

/// The request of an administrator.
pub(super) struct Request<'r> {
    pub door: &'r Name,
    pub source: IpNet,
    pub open_for: Duration,
    /// The address from which the administrator came.
    pub caller: Option<IpAddr>,
}

/// The result of a closing.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Closing {
    /// So many grants were ended.
    pub ended: usize,
    /// Other hosts of a fleet are told.
    pub told: bool,
    /// The grants for every port by which sources still get in at the door.
    pub every_port: Option<EveryPort>,
}

/// Grants for the door of every port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EveryPort {
    pub door: Name,
    /// Never empty.
    pub sources: Vec<IpNet>,
}

/// Ends grants, of one door or all, of one source or all, of one backend or all.
///
/// # Errors
/// As for [`open`].
pub fn close(
    firewall: &Firewall,
    door: Option<&Name>,
    source: Option<IpNet>,
    backend: Option<Backend>,
) -> Result<Closing, Failure> {
    let _lock = Lock::take()?;
    let mut running = running(firewall, backend)?;
    if let Some(door) = door {
        known(firewall, &running, door)?;
    }
    let mut closed = Closing::default();
    for rules in &mut running {
        let part = rules.close(door, source);
        let part = part.map_err(|failure| failure.after(closed.ended))?;
        closed.ended += part.ended;
        closed.told |= part.told;
    }
    Record::note_closed(&firewall.state, door, source)?;
    closed.every_port = door.and_then(|door| every_port(firewall, door, source));
    Ok(closed)
}

/// The live grants for every port by which a source, or any, still gets in at a door that was closed.
fn every_port(firewall: &Firewall, door: &Name, source: Option<IpNet>) -> Option<EveryPort> {
    let policy = firewall.record().ok()?.running?.policy().ok()?;
    let mut doors = policy.door_indices();
    let closed = doors.find(|&index| policy.door(index).name == *door)?;
    let mut others = policy.asked_for(closed).filter(|asked| *asked != closed);
    let all = &policy.door(others.next()?).name;
    let meant =
        |held: IpNet| source.is_none_or(|source| source.contains(&held) || held.contains(&source));
    let grants = firewall.side(policy.backend).grants().ok()?.into_iter();
    let held = grants.filter(|grant| grant.door == all.door_id() && meant(grant.source));
    let sources: BTreeSet<IpNet> = held.map(|grant| grant.source).collect();
    (!sources.is_empty()).then(|| EveryPort {
        door: all.clone(),
        sources: sources.into_iter().collect(),
    })
}

/// Notes for the other hosts of the fleet, if this one is in any, that a key was revoked. Returns whether it
/// is in one.
///
/// # Errors
/// When nftables could not be reached.
pub fn note_revoked(firewall: &Firewall, key: &Name) -> Result<bool, Failure> {
    let _lock = Lock::take()?;
    let there = firewall.nft.list_set(SetId::Terms);
    if !firewall.nft.is_there()? || there?.is_none() {
        return Ok(false);
    }
    firewall.nft.edit(&nftables::note_revoked(key))?;
    Ok(true)
}

/// The rules of one backend or all, read before anything is changed.
fn running(
    firewall: &Firewall,
    backend: Option<Backend>,
) -> Result<Vec<Box<dyn ByHand + '_>>, Failure> {
    let mut running = Vec::new();
    for meant in Backend::ALL {
        if backend.is_none_or(|backend| backend == meant) {
            running.extend(firewall.side(meant).by_hand()?);
        }
    }
    match running.is_empty() {
        true => Err(nothing_applied(firewall)),
        false => Ok(running),
    }
}

pub(super) fn nothing_applied(firewall: &Firewall) -> Failure {
    Failure::unchanged(Absence::read(firewall).words())
}

/// The thing of this name in the policy that runs, where it is no door: a port of one, or a key.
fn meant(firewall: &Firewall, name: &Name) -> Option<String> {
    let policy = firewall.record().ok()?.running?.policy().ok()?;
    let port = Knock::spelled(name.as_str()).ok();
    if let Some(door) = port.and_then(|port| policy.door_at(port)) {
        return Some(format!(
            "port {name} is of door `{}`",
            policy.door(door).name
        ));
    }
    let key = policy.keys.iter().find(|key| key.name == *name)?;
    let doors: Vec<String> = key
        .opens
        .iter()
        .map(|opening| format!("`{}`", policy.door(opening.door).name))
        .collect();
    Some(format!(
        "`{name}` is a key, which opens {}",
        doors.join(", ")
    ))
}

fn known(
    firewall: &Firewall,
    running: &[Box<dyn ByHand + '_>],
    door: &Name,
) -> Result<(), Failure> {
    let doors: BTreeSet<Name> = running.iter().flat_map(|rules| rules.doors()).collect();
    if doors.contains(door) {
        return Ok(());
    }
    let doors: Vec<&str> = doors.iter().map(Name::as_str).collect();
    let hint = match (meant(firewall, door), nearest(door.as_str(), &doors)) {
        (Some(hint), _) => hint,
        (None, Some(near)) => format!("did you mean `{near}`?"),
        (None, None) => format!("the doors are: {}", doors.join(", ")),
    };
    Err(Failure::unchanged(format!(
        "the running firewall has no door `{door}`; {hint}"
    )))
}
