//! All addresses of a host, the next one while the one before has not answered (RFC 8305).

use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use super::enter::{Door, Open, enter};
use super::plan::Plan;
use crate::lookup::lookup;

/// The time that an address is alone before the next one is tried too: the Connection Attempt Delay of
/// RFC 8305.
const HEAD_START: Duration = Duration::from_millis(250);

/// Which addresses of a host are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    Any,
    V4,
    V6,
}

impl Family {
    fn fits(self, address: &SocketAddr) -> bool {
        match self {
            Family::Any => true,
            Family::V4 => address.is_ipv4(),
            Family::V6 => address.is_ipv6(),
        }
    }
}

/// So many addresses of a name are tried. Each gets the whole sequence, so that a name could make this machine knock
/// at any number of others.
pub const MOST_ADDRESSES: usize = 8;

/// The addresses of a host that are tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addresses {
    /// Never empty, at most [`MOST_ADDRESSES`]. Their port is 0.
    pub tried: Vec<SocketAddr>,
    /// The number of further ones.
    pub others: usize,
}

/// The addresses of a host: the system's order, but families in turn.
///
/// # Errors
/// A sentence, when the name is not known or has no such address.
pub fn addresses(host: &str, family: Family) -> Result<Addresses, String> {
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    let found =
        lookup(bare.unwrap_or(host)).map_err(|error| format!("{host} is not found: {error}"))?;
    let found = in_turn(found.into_iter().filter(|address| family.fits(address)));
    if found.is_empty() {
        let family = match family {
            Family::Any => "",
            Family::V4 => "IPv4 ",
            Family::V6 => "IPv6 ",
        };
        return Err(format!("{host} has no {family}address"));
    }
    Ok(few(found))
}

/// The first of them.
fn few(mut tried: Vec<SocketAddr>) -> Addresses {
    let others = tried.len().saturating_sub(MOST_ADDRESSES);
    tried.truncate(MOST_ADDRESSES);
    Addresses { tried, others }
}

/// Each address once, one of the other family after each, as long as there are any.
fn in_turn(found: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let mut once: Vec<SocketAddr> = Vec::new();
    for address in found {
        if !once.contains(&address) {
            once.push(address);
        }
    }
    let first = once.first().is_some_and(SocketAddr::is_ipv6);
    let (ours, theirs): (Vec<_>, Vec<_>) = once
        .into_iter()
        .partition(|address| address.is_ipv6() == first);
    let mut theirs = theirs.into_iter();
    let mut turns = Vec::new();
    for address in ours {
        turns.push(address);
        turns.extend(theirs.next());
    }
    turns.extend(theirs);
    turns
}

/// The result for an address.
type Outcome = io::Result<Result<Open, Door>>;

/// The addresses that did not let us in, in the order in which they gave up.
pub type Lost = Vec<(SocketAddr, io::Result<Door>)>;

/// Enters by the address that lets us in first.
///
/// # Errors
/// When no address let us in.
pub fn race(
    hosts: &[SocketAddr],
    door: NonZeroU16,
    plan: &Arc<Plan>,
) -> Result<(SocketAddr, Open), Lost> {
    let stop = Arc::new(AtomicBool::new(false));
    let (sender, receiver) = channel::<(SocketAddr, Outcome)>();
    let mut waiting = hosts.iter().copied();
    let mut running = 0;
    let mut lost = Vec::new();
    let mut start_next = |running: &mut usize| {
        if let Some(host) = waiting.next() {
            let (plan, stop, sender) = (Arc::clone(plan), Arc::clone(&stop), sender.clone());
            *running += 1;
            // A thread that comes too late finds nobody who listens; its connection is closed.
            thread::spawn(move || sender.send((host, enter(host, door, &plan, &stop))));
        }
    };
    start_next(&mut running);
    while running > 0 {
        match receiver.recv_timeout(HEAD_START) {
            Ok((host, Ok(Ok(open)))) => {
                stop.store(true, Ordering::Relaxed);
                return Ok((host, open));
            }
            Ok((host, Ok(Err(door)))) => lost.push((host, Ok(door))),
            Ok((host, Err(error))) => lost.push((host, Err(error))),
            Err(RecvTimeoutError::Timeout) => {
                start_next(&mut running);
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => break,
        }
        running -= 1;
        start_next(&mut running);
    }
    Err(lost)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(texts: &[&str]) -> Vec<SocketAddr> {
        let address = |text: &&str| SocketAddr::new(text.parse().unwrap(), 0);
        texts.iter().map(address).collect()
    }

    #[test]
    fn families_come_in_turn_and_each_address_once() {
        let found = all(&["::1", "::2", "::1", "127.0.0.1", "::3", "127.0.0.2"]);
        let wanted = all(&["::1", "127.0.0.1", "::2", "127.0.0.2", "::3"]);
        assert_eq!(in_turn(found.into_iter()), wanted);
        let found = all(&["127.0.0.1", "::1", "::2"]);
        assert_eq!(in_turn(found.clone().into_iter()), found);
        assert!(in_turn(all(&[]).into_iter()).is_empty());
    }

    #[test]
    fn of_many_addresses_the_first_are_tried() {
        let many = |count: u8| (1..=count).map(|n| SocketAddr::from(([192, 0, 2, n], 0)));
        let found = few(many(8).collect());
        assert_eq!((found.tried.len(), found.others), (8, 0));
        let found = few(many(40).collect());
        assert_eq!((found.tried, found.others), (many(8).collect(), 32));
    }
}
