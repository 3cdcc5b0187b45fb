//! Grants given and taken by the administrator.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::thread;
use std::time::Duration;

use ipnet::IpNet;

use super::absence::Absence;
use super::lock::Lock;
use super::nft::Edited;
use super::record::Record;
use super::{Failure, Firewall, Iptables, Left, Nft, by_hand_iptables, caller, hidden};
use crate::held::Grant;
use crate::policy::{Backend, Name, nearest};
use crate::ruleset::Family;
use crate::ruleset::iptables::{self, Saved};
use crate::ruleset::nftables::{self, Listing, Room, SetId};

/// The rules in the kernel: of each backend, if they are there.
struct Running {
    nftables: Option<Listing>,
    /// Each family with our chains in it.
    iptables: Vec<(Family, Saved)>,
}

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
        let door = doors.find(|door| door.id() == grant.door);
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
    known(&running, door)?;
    let caller = caller::connection().map(|connection| connection.from.ip());
    let mut done: Option<GivenByHand> = None;
    let request = Request {
        door,
        source,
        open_for,
        caller,
    };
    if let Some(listing) = running.nftables.take() {
        done = Some(open_nftables(firewall, listing, &request)?);
    }
    if !running.iptables.is_empty() {
        let opened = by_hand_iptables::open(firewall, &running.iptables, &request);
        let opened = opened.map_err(|failure| match done {
            Some(_) => failure.after_a_part(),
            None => failure,
        })?;
        let before = done.map(|opening| opening.ended).unwrap_or_default();
        done = Some(GivenByHand {
            ended: [before, opened.ended].concat(),
            ..opened
        });
    }
    done.ok_or_else(|| nothing_applied(firewall))
}

/// The request of an administrator.
pub(super) struct Request<'r> {
    pub door: &'r Name,
    pub source: IpNet,
    pub open_for: Duration,
    /// The address from which he came.
    pub caller: Option<IpAddr>,
}

/// Attempts to open a door before it is given up, one after each [`PAUSE`]. An attempt fails when the sets have changed
/// meanwhile, or when elements whose time is over still take up room: the kernel tidies up once a second.
const TRIES: u32 = 40;

/// Attempts after which a live grant ends even if the listing shows room.
const TRIES_BEFORE_ONE_ENDS: u32 = 25;

const PAUSE: Duration = Duration::from_millis(100);

fn open_nftables(
    firewall: &Firewall,
    mut listing: Listing,
    request: &Request<'_>,
) -> Result<GivenByHand, Failure> {
    let nft = &firewall.nft;
    for number in 0..TRIES {
        let room = match number < TRIES_BEFORE_ONE_ENDS {
            true => Room::Listed,
            false => Room::Taken,
        };
        let opening = nftables::open(
            &listing,
            request.door,
            request.source,
            request.open_for,
            request.caller,
            room,
        )
        .map_err(Failure::unchanged)?;
        if nft.edit_as_listed(&opening.transaction.awake())? == Edited::Done {
            let ended = opening.ended.iter();
            let ended = ended.map(|grant| End::of(grant, listing.doors()));
            return Ok(GivenByHand {
                network: opening.network,
                ended: ended.collect(),
            });
        }
        thread::sleep(PAUSE);
        listing = nft
            .list_grants()?
            .ok_or_else(|| nothing_applied(firewall))?;
    }
    Err(Failure::unchanged(
        "there is no room for one more grant, and none that may end for it: `toctoc close` ends grants, \
         `max_sources` makes room",
    ))
}

/// The result of a closing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closed {
    /// So many grants were ended.
    pub ended: usize,
    /// Other hosts of a fleet are told.
    pub told: bool,
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
) -> Result<Closed, Failure> {
    let _lock = Lock::take()?;
    let running = running(firewall, backend)?;
    if let Some(door) = door {
        known(&running, door)?;
    }
    let mut ended = 0;
    let mut told = false;
    if let Some(listing) = running.nftables {
        (ended, told) = close_nftables(&firewall.nft, listing, door, source)?;
    }
    if !running.iptables.is_empty() {
        let closed = by_hand_iptables::close(door, source);
        ended += closed.map_err(|failure| match ended {
            0 => failure,
            _ => failure.after_a_part(),
        })?;
    }
    Record::note_closed(&firewall.state, door, source)?;
    Ok(Closed { ended, told })
}

/// A set that is being tidied up, because many elements of it have expired, is listed with gaps: what is
/// listed is ended until two listings in a row show nothing. Returns how many were ended, and whether other hosts of a
/// fleet are told.
fn close_nftables(
    nft: &Nft,
    mut listing: Listing,
    door: Option<&Name>,
    source: Option<IpNet>,
) -> Result<(usize, bool), Failure> {
    let mut ended = 0;
    let mut told = false;
    let mut clean = 0;
    for _ in 0..20 {
        let change = nftables::close(&listing, door, source);
        let after = |failure: Failure| match ended {
            0 => failure,
            _ => failure.after_a_part(),
        };
        if !change.transaction.is_empty() {
            nft.edit(&change.transaction.awake()).map_err(after)?;
        }
        ended += change.removed;
        told |= change.noted;
        clean = if change.removed == 0 { clean + 1 } else { 0 };
        if clean == 2 {
            return Ok((ended, told));
        }
        let after = |failure: Failure| match ended {
            0 => failure,
            _ => failure.after_a_part(),
        };
        match nft.list_grants().map_err(after)? {
            Some(again) => listing = again,
            None => return Ok((ended, told)),
        }
    }
    Err(Failure {
        left: Left::Partly,
        message: format!(
            "{ended} grants are ended, and there are new ones each time: who knocks gets in again; \
             take away the key (in the policy, then `toctoc apply`)"
        ),
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

fn running(firewall: &Firewall, backend: Option<Backend>) -> Result<Running, Failure> {
    let mut running = Running {
        nftables: None,
        iptables: Vec::new(),
    };
    let there = Iptables::has_rules()?;
    if backend != Some(Backend::Iptables) {
        running.nftables = match there {
            true if !firewall.nft.is_there()? => None,
            _ => firewall.nft.list_grants()?,
        };
    }
    if backend != Some(Backend::Nftables) && there {
        for family in Iptables::families() {
            let saved = firewall.iptables.save(family)?;
            if !saved.is_empty() {
                running.iptables.push((family, saved));
            }
        }
        let shown: Vec<Family> = running.iptables.iter().map(|(family, _)| *family).collect();
        hidden::none_is_missing(&shown)?;
    }
    if running.nftables.is_none() && running.iptables.is_empty() {
        return Err(nothing_applied(firewall));
    }
    Ok(running)
}

fn nothing_applied(firewall: &Firewall) -> Failure {
    Failure::unchanged(Absence::read(firewall).words())
}

fn known(running: &Running, door: &Name) -> Result<(), Failure> {
    let nftables = running.nftables.iter();
    let listed = nftables.clone().any(|listing| listing.has_door(door));
    let saved = running.iptables.iter();
    if listed
        || saved
            .clone()
            .any(|(_, saved)| iptables::has_door(saved, door))
    {
        return Ok(());
    }
    let doors = nftables.flat_map(|listing| listing.doors());
    let mut doors: BTreeSet<Name> = doors.collect();
    doors.extend(saved.flat_map(|(_, saved)| iptables::doors(saved)));
    let doors: Vec<&str> = doors.iter().map(Name::as_str).collect();
    let hint = match nearest(door.as_str(), &doors) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("the doors are: {}", doors.join(", ")),
    };
    Err(Failure::unchanged(format!(
        "the running firewall has no door `{door}`; {hint}"
    )))
}
