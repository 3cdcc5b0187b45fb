//! Our table by way of netlink, without nft: where nft would read all tables of all programs first, or all elements of a
//! large map. Each of these may fail on a kernel that does not know a message; nft is asked then.

pub mod attributes;
mod fingerprint;
pub mod read;
mod socket;
mod write;

use std::io;

pub use fingerprint::Parts;
use read::Reading;
pub use socket::Socket;

use super::netlink::{
    GET_CHAINS, GET_ELEMENTS, GET_OBJECTS, GET_RULES, GET_SETS, GET_TABLE, Message, NEW_TABLE,
    find_number, listing_request, messages, request, request_with,
};
use crate::ruleset::Family;
use crate::ruleset::nftables::{Listing, ListingError, Part, SetId, TABLE_NAME, Transaction};
use attributes::{OF_TABLE, elements, set, table};

/// Attempts to read a list that changes meanwhile.
const TRIES: usize = 8;

/// The parts of a table that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Portion {
    /// Chains, sets, and what is in those that an apply keeps.
    Grants,
    /// That, who is midway, and the counters.
    Glance,
}

/// Our table to some extent. `None` when there is none.
///
/// # Errors
/// When the kernel does not say.
pub fn read(extent: Portion) -> io::Result<Option<Listing>> {
    again(|socket| {
        if !is_there(socket)? {
            return Ok(None);
        }
        let mut reading = Reading::default();
        take(socket, &mut reading, &the_table(), Answer::One)?;
        for kind in [GET_CHAINS, GET_SETS] {
            take(socket, &mut reading, &all_of(kind), Answer::List)?;
        }
        let mut sets = reading.listing.kept_sets();
        match extent {
            Portion::Grants => reading.listing.expect_counters(),
            Portion::Glance => {
                take(socket, &mut reading, &all_of(GET_OBJECTS), Answer::List)?;
                let progress = Family::BOTH.map(|family| SetId::Progress.of_family(family));
                let there = progress.into_iter();
                sets.extend(there.filter(|map| reading.listing.has_map(map)));
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
        let question = about_set(name);
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
    Socket::open()?.ask_for(&about_set(set), |message| {
        Some(find_number(message.attributes(), set::COUNT))
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
    match take(&socket, &mut reading, &about_set(set), Answer::One) {
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

/// Commits a transaction that changes elements alone: all of it, or nothing.
///
/// # Errors
/// As for [`Socket::commit`]; `Unsupported` when it changes more than elements.
pub fn commit(transaction: &Transaction) -> io::Result<()> {
    let batch = write::batch_of(transaction)?;
    Socket::open()?.commit(&batch)
}

/// The number of the last change of any table in this network namespace. `None` when the kernel does not say.
pub fn generation() -> Option<u64> {
    Socket::open().and_then(|socket| socket.generation()).ok()
}

/// The parts of a [fingerprint](Parts), and the [generation] in which all of them were so. `None` when there is no
/// table of ours.
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
        socket.ask_for(&the_table(), |message| {
            parts.take(message);
            Some(())
        })?;
        for kind in [GET_CHAINS, GET_RULES, GET_SETS, GET_OBJECTS] {
            socket.list_at_once(&all_of(kind), |message| parts.take(message))?;
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
    number_by(socket).map(|number| number.is_some())
}

/// The number that the kernel gave to our table, in the network namespace of this thread. `None` when there is no table.
/// nft tells it too, but up to 1.0.6 it reads all elements of all maps for `list tables`: seconds with 144,000 tokens.
///
/// # Errors
/// When that is not permitted, or this is a kernel without nftables.
pub fn table_number() -> io::Result<Option<u64>> {
    number_by(&Socket::open()?)
}

fn number_by(socket: &Socket) -> io::Result<Option<u64>> {
    match socket.ask_for(&the_table(), table_number_in) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        asked => asked.map(Some),
    }
}

/// The number of chains in our table.
///
/// # Errors
/// When the kernel does not say, or it changed too often meanwhile.
pub fn count_chains() -> io::Result<usize> {
    again(|socket| {
        let mut count = 0;
        socket.list_at_once(&all_of(GET_CHAINS), |_| count += 1)?;
        Ok(count)
    })
}

fn table_number_in(message: Message<'_>) -> Option<u64> {
    let told = (message.kind == NEW_TABLE).then_some(message.attributes())?;
    find_number(told, table::HANDLE)
}

/// The question for our table.
pub(super) fn the_table() -> Vec<u8> {
    request(GET_TABLE, &[(OF_TABLE, TABLE_NAME)])
}

fn about_set(set: &str) -> Vec<u8> {
    request(GET_SETS, &[(OF_TABLE, TABLE_NAME), (set::NAME, set)])
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

/// The question for all of a kind in our table.
pub(super) fn all_of(kind: u16) -> Vec<u8> {
    listing_request(kind, &[(OF_TABLE, TABLE_NAME)])
}

/// The question for the elements of a set.
pub(super) fn elements_of(set: &str) -> Vec<u8> {
    listing_request(
        GET_ELEMENTS,
        &[(OF_TABLE, TABLE_NAME), (elements::SET, set)],
    )
}

#[cfg(test)]
mod tests {
    use super::super::netlink::{ERROR, attribute};
    use super::*;

    fn number(told: &[u8]) -> io::Result<u64> {
        socket::answer(told, table_number_in)
    }

    #[test]
    fn an_answer_is_read() {
        let mut told = request(NEW_TABLE, &[(OF_TABLE, "toctoc")]);
        assert!(number(&told).is_err(), "without a number");
        told.extend(attribute(table::HANDLE, &7_u64.to_be_bytes()));
        let whole = told.len() as u32;
        told[..4].copy_from_slice(&whole.to_ne_bytes());
        assert_eq!(number(&told).unwrap(), 7);
        for cut in 0..told.len() {
            assert!(number(&told[..cut]).is_err(), "{cut}");
        }
    }

    #[test]
    fn a_table_that_is_missing_is_told_from_what_is_not_permitted() {
        let refusal = |code: i32| {
            let mut told = vec![0; 36];
            told[0] = 36;
            told[4..6].copy_from_slice(&ERROR.to_ne_bytes());
            told[16..20].copy_from_slice(&(-code).to_ne_bytes());
            number(&told).unwrap_err().kind()
        };
        assert_eq!(refusal(2), io::ErrorKind::NotFound);
        assert_eq!(refusal(1), io::ErrorKind::PermissionDenied);
    }
}
