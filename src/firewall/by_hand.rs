//! Grants given and taken by the administrator.

use std::time::Duration;

use ipnet::IpNet;

use super::lock::Lock;
use super::{Failure, Nft};
use crate::policy::Name;
use crate::policy::nearest;
use crate::ruleset::nftables::{self, Listing};

/// Grants `source` the door for `open_for` from now. Returns what the grant covers: the source, or
/// its network where grants are by prefix.
///
/// # Errors
/// When the running firewall has no such door, or the kernel could not be reached.
pub fn open(nft: &Nft, door: &Name, source: IpNet, open_for: Duration) -> Result<IpNet, Failure> {
    let _lock = Lock::take()?;
    let running = running(nft)?;
    known(&running, door)?;
    let (text, network) =
        nftables::open(&running, door, source, open_for).map_err(Failure::unchanged)?;
    nft.load(&text)?;
    Ok(network)
}

/// Ends grants, of one door or all, of one source or all. Returns how many.
///
/// # Errors
/// As for [`open`].
pub fn close(nft: &Nft, door: Option<&Name>, source: Option<IpNet>) -> Result<usize, Failure> {
    let _lock = Lock::take()?;
    let running = running(nft)?;
    if let Some(door) = door {
        known(&running, door)?;
    }
    let change = nftables::close(&running, door, source);
    if !change.text.is_empty() {
        nft.load(&change.text)?;
    }
    Ok(change.removed)
}

fn running(nft: &Nft) -> Result<Listing, Failure> {
    nft.list_awake()?
        .ok_or_else(|| Failure::unchanged("nothing is applied yet: run `toctoc apply` first"))
}

fn known(running: &Listing, door: &Name) -> Result<(), Failure> {
    if running.has_door(door) {
        return Ok(());
    }
    let doors = running.doors();
    let hint = match nearest(door.as_str(), &doors) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("the doors are: {}", doors.join(", ")),
    };
    Err(Failure::unchanged(format!(
        "the running firewall has no door `{door}`; {hint}"
    )))
}
