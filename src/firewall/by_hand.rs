//! Grants given and taken by the administrator.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::lock::Lock;
use super::record::Record;
use super::{Failure, Firewall, Iptables, Left, Nft, hidden, list_size};
use crate::policy::{Backend, Name, nearest};
use crate::ruleset::iptables::{self, GrantList, Holder, Room, Saved};
use crate::ruleset::nftables::{self, Listing};
use crate::ruleset::{Family, granted_network};

/// What is in the kernel: of each backend, if it is there.
struct Running {
    nftables: Option<Listing>,
    /// Each family with our chains in it.
    iptables: Vec<(Family, Saved)>,
}

/// Grants `source` the door for `open_for` from now. Returns what the grant covers: the source, or
/// its network where grants are by prefix.
///
/// # Errors
/// When the running firewall has no such door, or the kernel could not be reached.
pub fn open(
    firewall: &Firewall,
    door: &Name,
    source: IpNet,
    open_for: Duration,
) -> Result<IpNet, Failure> {
    let _lock = Lock::take()?;
    let running = running(firewall, None)?;
    known(&running, door)?;
    let mut granted = None;
    if let Some(listing) = &running.nftables {
        let (edits, network) =
            nftables::open(listing, door, source, open_for).map_err(Failure::unchanged)?;
        firewall.nft.edit(&edits.awake())?;
        granted = Some(network);
    }
    if !running.iptables.is_empty() {
        let opened = open_iptables(firewall, &running, door, source, open_for);
        granted = Some(opened.map_err(|failure| match granted {
            Some(_) => Failure {
                left: Left::Changed,
                ..failure
            },
            None => failure,
        })?);
    }
    granted.ok_or_else(nothing_applied)
}

fn open_iptables(
    firewall: &Firewall,
    running: &Running,
    door: &Name,
    source: IpNet,
    open_for: Duration,
) -> Result<IpNet, Failure> {
    let family = Family::of(source.addr());
    let mut of_family = running.iptables.iter().filter(|(f, _)| *f == family);
    let (_, saved) = of_family.next().ok_or_else(|| {
        Failure::unchanged(format!(
            "the running firewall guards nothing for {source}'s family"
        ))
    })?;
    if open_for.subsec_nanos() != 0 {
        return Err(Failure::unchanged(
            "iptables counts whole seconds: write for example `--for 90s`",
        ));
    }
    let prefix = iptables::prefix_of(saved).unwrap_or(family.longest_prefix());
    let network = granted_network(source, prefix).map_err(Failure::unchanged)?;
    let list = GrantList {
        family,
        prefix,
        door: door.clone(),
        holder: Holder::ByHand,
        seconds: open_for.as_secs(),
        once: false,
    };
    let guests = iptables::names::guests(family, prefix, door);
    let to_go = make_room(&[&guests, &list.to_string()], door, network.addr())?;
    let new_list = iptables::add_list(saved, &list);
    if let Some(text) = &new_list {
        firewall.iptables.restore(family, text)?;
    }
    let began = |failure| Failure {
        left: Left::Changed,
        ..failure
    };
    let known = to_go
        .iter()
        .try_for_each(|(name, gone)| Iptables::remove(name, *gone))
        .and_then(|()| Iptables::add(&guests, network.addr()));
    known.map_err(|failure| match new_list {
        Some(_) => began(failure),
        None => failure,
    })?;
    Iptables::add(&list.to_string(), network.addr()).map_err(began)?;
    // The last opening counts, whether it is longer or shorter.
    for held in Iptables::lists().map_err(began)?.held() {
        let same = held.list.door == *door && held.source == network.addr() && !held.list.once;
        if same && held.list != list {
            Iptables::remove(&held.list.to_string(), held.source).map_err(began)?;
        }
    }
    Ok(network)
}

/// Whose grants have ended and who must leave these lists, so that one more source finds room.
///
/// # Errors
/// When a list is full of guests who are in.
fn make_room(
    names: &[&str],
    door: &Name,
    source: IpAddr,
) -> Result<Vec<(String, IpAddr)>, Failure> {
    let Some(size) = list_size() else {
        return Ok(Vec::new());
    };
    let lists = Iptables::lists()?;
    let mut to_go = Vec::new();
    for name in names {
        match lists.room(name, source, size as usize) {
            Room::Free => {}
            Room::InsteadOf(ended) => to_go.push((name.to_string(), ended)),
            Room::Full => {
                return Err(Failure::unchanged(format!(
                    "the list of the guests of `{door}` is full: it holds {size}, and all of them are \
                     in; end a grant first (`toctoc close {door} SOURCE`), wait until one ends, or \
                     make the lists longer (`ip_list_tot`, see docs/iptables.md)"
                )));
            }
        }
    }
    Ok(to_go)
}

/// What a closing did.
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
        ended += close_iptables(door, source)?;
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
        if !change.edits.is_empty() {
            nft.edit(&change.edits.awake())?;
        }
        ended += change.removed;
        told |= change.noted;
        clean = if change.removed == 0 { clean + 1 } else { 0 };
        if clean == 2 {
            return Ok((ended, told));
        }
        let left = match ended {
            0 => Left::Unchanged,
            _ => Left::Unknown,
        };
        match nft.list_grants().map_err(|f| Failure { left, ..f })? {
            Some(again) => listing = again,
            None => return Ok((ended, told)),
        }
    }
    Err(Failure {
        left: Left::Unknown,
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
    let there = firewall.nft.list_part("set", nftables::TERMS);
    if !firewall.nft.is_there()? || there?.is_none() {
        return Ok(false);
    }
    firewall.nft.edit(&nftables::note_revoked(key))?;
    Ok(true)
}

fn close_iptables(door: Option<&Name>, source: Option<IpNet>) -> Result<usize, Failure> {
    let mut ended: BTreeSet<(IpAddr, Name, bool)> = BTreeSet::new();
    for held in Iptables::lists()?.held() {
        let network = IpNet::new(held.source, held.list.prefix);
        let network = network.map_or_else(|_| IpNet::from(held.source), |net| net.trunc());
        let meant = source.is_none_or(|s| s.contains(&network) || network.contains(&s));
        if meant && door.is_none_or(|door| held.list.door == *door) {
            Iptables::remove(&held.list.to_string(), held.source)?;
            ended.insert((held.source, held.list.door, held.list.once));
        }
    }
    Ok(ended.len())
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
        return Err(nothing_applied());
    }
    Ok(running)
}

fn nothing_applied() -> Failure {
    Failure::unchanged("nothing is applied yet: run `toctoc apply` first")
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
    let mut doors: BTreeSet<String> = doors.map(str::to_string).collect();
    doors.extend(saved.flat_map(|(_, saved)| iptables::doors(saved)));
    let doors: Vec<&str> = doors.iter().map(String::as_str).collect();
    let hint = match nearest(door.as_str(), &doors) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("the doors are: {}", doors.join(", ")),
    };
    Err(Failure::unchanged(format!(
        "the running firewall has no door `{door}`; {hint}"
    )))
}
