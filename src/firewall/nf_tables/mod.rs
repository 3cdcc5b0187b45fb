//! Our table by way of netlink, without nft: where nft would read all tables of all programs first, or all elements of a
//! large map. Each of these may fail on a kernel that does not know a message; nft is asked then.

mod fingerprint;
pub mod read;
mod socket;
mod write;

use std::io;

pub use fingerprint::Parts;
use read::Reading;
pub use socket::Socket;

use super::netlink::{
    GET_CHAINS, GET_ELEMENTS, GET_OBJECTS, GET_RULES, GET_SETS, GET_TABLE, Message, find,
    listing_request, messages, number, request, request_with,
};
use crate::ruleset::nftables::{Edits, Listing, ListingError, Part, TABLE};

/// `NFTA_SET_ELEM_LIST_TABLE` and `_SET`; `NFTA_TABLE_NAME`, `NFTA_SET_TABLE`, `NFTA_RULE_TABLE` and so on are 1 too,
/// `NFTA_SET_NAME` is 2.
const OF_TABLE: u16 = 1;
const OF_SET: u16 = 2;

/// `NFTA_SET_ELEM_KEY`; `NFTA_DATA_VALUE` in it.
const KEY: u16 = 1;
const VALUE: u16 = 1;

/// `NFTA_SET_COUNT`, which new kernels tell.
const COUNT: u16 = 20;

/// Attempts to read a list that changes meanwhile.
const TRIES: usize = 8;

/// The parts of a table that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// Chains, sets, and what is in those that an apply keeps.
    Grants,
    /// That, who is midway, and the counters.
    Glance,
}

/// Our table's name, without its family.
fn name() -> &'static str {
    TABLE.split_once(' ').map_or(TABLE, |(_, name)| name)
}

/// Our table to some extent. `None` when there is none.
///
/// # Errors
/// When the kernel does not say.
pub fn read(extent: Extent) -> io::Result<Option<Listing>> {
    again(|socket| {
        if !is_there(socket)? {
            return Ok(None);
        }
        let mut reading = Reading::default();
        take(
            socket,
            &mut reading,
            &request(GET_TABLE, &[(OF_TABLE, name())]),
            Answer::One,
        )?;
        for kind in [GET_CHAINS, GET_SETS] {
            take(socket, &mut reading, &about_ours(kind), Answer::List)?;
        }
        let mut sets = reading.listing.kept_sets();
        match extent {
            Extent::Grants => reading.listing.expect_counters(),
            Extent::Glance => {
                take(socket, &mut reading, &about_ours(GET_OBJECTS), Answer::List)?;
                let progress = ["progress4", "progress6"].into_iter();
                let there = progress.filter(|map| reading.listing.has_map(map));
                sets.extend(there.map(str::to_string).collect::<Vec<_>>());
            }
        }
        for set in &sets {
            take(socket, &mut reading, &elements_of(set), Answer::List)?;
        }
        Ok(Some(reading.listing))
    })
}

/// One set or map of our table with its elements. `None` when there is none of this name.
///
/// # Errors
/// As for [`read`].
pub fn set(name: &str) -> io::Result<Option<Listing>> {
    again(|socket| {
        let mut reading = Reading::default();
        let question = request(GET_SETS, &[(OF_TABLE, self::name()), (OF_SET, name)]);
        match take(socket, &mut reading, &question, Answer::One) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            taken => taken?,
        }
        take(socket, &mut reading, &elements_of(name), Answer::List)?;
        Ok(Some(reading.listing))
    })
}

/// The number of elements of a set, those that are over but not yet forgotten included. `None` when this kernel does not
/// say.
///
/// # Errors
/// As for [`read`].
pub fn count(set: &str) -> io::Result<Option<u64>> {
    let question = request(GET_SETS, &[(OF_TABLE, name()), (OF_SET, set)]);
    Socket::open()?.ask_for(&question, |message| {
        Some(find(message.attributes(), COUNT).and_then(number))
    })
}

/// Those elements of a set that are found by these keys, in their order, as a listing has them. They are looked up one by
/// one, which takes no longer in a large set.
///
/// # Errors
/// As for [`read`].
pub fn look_up(set: &str, keys: &[Vec<Part>]) -> io::Result<Option<Listing>> {
    let socket = Socket::open()?;
    let mut reading = Reading::default();
    let question = request(GET_SETS, &[(OF_TABLE, name()), (OF_SET, set)]);
    match take(&socket, &mut reading, &question, Answer::One) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        taken => taken?,
    }
    for key in keys {
        let question = request_with(GET_ELEMENTS, &write::question(set, key));
        match take(&socket, &mut reading, &question, Answer::One) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            taken => taken?,
        }
    }
    Ok(Some(reading.listing))
}

/// The messages of a datagram, as a listing and as what a fingerprint is made of.
///
/// # Errors
/// When something is called as nft can call nothing.
pub fn told(datagram: &[u8]) -> Result<(Listing, Parts), ListingError> {
    let (mut reading, mut parts) = (Reading::default(), Parts::default());
    for message in messages(datagram) {
        parts.take(message);
        reading.take(message)?;
    }
    Ok((reading.listing, parts))
}

/// Changes elements: all of it, or nothing.
///
/// # Errors
/// As for [`Socket::commit`].
pub fn commit(edits: &Edits) -> io::Result<()> {
    Socket::open()?.commit(&write::transaction(edits))
}

/// The number of the last change of any table in this network namespace. `None` when the kernel does not say.
pub fn generation() -> Option<u64> {
    Socket::open().and_then(|socket| socket.generation()).ok()
}

/// What a [fingerprint](Parts) is made of, and the [generation] in which all of it was so. `None` when there is no table
/// of ours.
///
/// # Errors
/// When the kernel does not say, or it changed too often meanwhile.
pub fn parts() -> io::Result<Option<(Parts, u64)>> {
    again(|socket| {
        let generation = socket.generation()?;
        if !is_there(socket)? {
            return Ok(None);
        }
        let mut parts = Parts::default();
        let question = request(GET_TABLE, &[(OF_TABLE, name())]);
        socket.ask_for(&question, |message| {
            parts.take(message);
            Some(())
        })?;
        for kind in [GET_CHAINS, GET_RULES, GET_SETS, GET_OBJECTS] {
            socket.list_at_once(&about_ours(kind), |message| parts.take(message))?;
        }
        for set in parts.fixed_sets() {
            socket.list_at_once(&elements_of(&set), |message| parts.take(message))?;
        }
        match socket.generation()? == generation {
            true => Ok(Some((parts, generation))),
            false => Err(io::ErrorKind::Interrupted.into()),
        }
    })
}

/// Tries again what a change of somebody else has interrupted.
fn again<T>(mut tell: impl FnMut(&Socket) -> io::Result<T>) -> io::Result<T> {
    let mut told = Err(io::ErrorKind::Interrupted.into());
    for _ in 0..TRIES {
        told = tell(&Socket::open()?);
        if !matches!(&told, Err(error) if error.kind() == io::ErrorKind::Interrupted) {
            break;
        }
    }
    told
}

fn is_there(socket: &Socket) -> io::Result<bool> {
    let question = request(GET_TABLE, &[(OF_TABLE, name())]);
    match socket.ask_for(&question, |_| Some(())) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        asked => asked.map(|()| true),
    }
}

/// The form of an answer.
enum Answer {
    One,
    List,
}

fn take(socket: &Socket, reading: &mut Reading, question: &[u8], answer: Answer) -> io::Result<()> {
    let mut odd: Result<(), ListingError> = Ok(());
    let mut each = |message: Message<'_>| {
        if odd.is_ok() {
            odd = reading.take(message);
        }
    };
    match answer {
        Answer::One => socket.ask_for(question, |message| {
            each(message);
            Some(())
        })?,
        Answer::List => socket.list_at_once(question, each)?,
    }
    odd.map_err(|odd| io::Error::new(io::ErrorKind::InvalidData, odd))
}

fn about_ours(kind: u16) -> Vec<u8> {
    listing_request(kind, &[(OF_TABLE, name())])
}

fn elements_of(set: &str) -> Vec<u8> {
    listing_request(GET_ELEMENTS, &[(OF_TABLE, name()), (OF_SET, set)])
}
