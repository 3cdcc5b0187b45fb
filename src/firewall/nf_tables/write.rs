//! Changes of elements, as messages of a transaction (`linux/netfilter/nf_tables.h`). Pure.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use super::super::netlink::{
    ELEMENTS_GONE, NEW_ELEMENTS, NEW_TABLE, attribute, batch, creation, nested, request_with, texts,
};
use super::attributes::{OF_TABLE, element, elements, table};
use crate::ruleset::nftables::{Command, Element, Part, TABLE_NAME, Transaction};

/// An attribute is shorter than 64 KiB.
const LONGEST: usize = 60_000;

/// The messages of a transaction.
///
/// # Errors
/// `Unsupported` when it changes more than elements: that is for nft.
pub fn batch_of(transaction: &Transaction) -> io::Result<Vec<u8>> {
    let mut messages = Vec::new();
    for command in &transaction.0 {
        match command {
            Command::Wake => {
                let flags = attribute(table::FLAGS, &0_u32.to_be_bytes());
                let name = texts(&[(OF_TABLE, TABLE_NAME)]);
                messages.push(creation(NEW_TABLE, &[name, flags].concat()));
            }
            Command::Add { set, elements } => {
                let lists = lists(elements.iter().map(timed));
                messages.extend(lists.map(|list| creation(NEW_ELEMENTS, &about(set, &list))));
            }
            Command::Delete { set, keys } => {
                let lists = lists(keys.iter().map(|parts| key(parts)));
                messages.extend(lists.map(|list| request_with(ELEMENTS_GONE, &about(set, &list))));
            }
            Command::Flush { set, .. } => {
                messages.push(request_with(ELEMENTS_GONE, &about(set, &[])))
            }
            Command::DeleteTable
            | Command::FlushTable
            | Command::Load(_)
            | Command::Declare(_)
            | Command::DeleteSet { .. }
            | Command::FlushChain(_)
            | Command::DeleteChain(_)
            | Command::DeleteCounter(_) => return Err(io::ErrorKind::Unsupported.into()),
        }
    }
    Ok(batch(messages))
}

/// The question for one element.
pub fn question(set: &str, parts: &[Part]) -> Vec<u8> {
    about(
        set,
        &nested(elements::LIST, &nested(elements::ONE, &key(parts))),
    )
}

fn about(set: &str, list: &[u8]) -> Vec<u8> {
    let names = texts(&[(OF_TABLE, TABLE_NAME), (elements::SET, set)]);
    [names.as_slice(), list].concat()
}

/// As many elements together as fit.
fn lists(all: impl Iterator<Item = Vec<u8>>) -> impl Iterator<Item = Vec<u8>> {
    let mut lists: Vec<Vec<u8>> = Vec::new();
    for one in all {
        let one = nested(elements::ONE, &one);
        match lists.last_mut() {
            Some(list) if list.len() + one.len() < LONGEST => list.extend(one),
            _ => lists.push(one),
        }
    }
    lists.into_iter().map(|list| nested(elements::LIST, &list))
}

fn timed(element: &Element) -> Vec<u8> {
    let mut bytes = key(&element.key);
    if let Some(value) = element.value {
        bytes.extend(nested(
            element::DATA,
            &attribute(element::VALUE, &part(value)),
        ));
    }
    if let Some(lasting) = element.lasting {
        bytes.extend(attribute(element::TIMEOUT, &milliseconds(lasting.timeout)));
        if let Some(left) = lasting.left {
            bytes.extend(attribute(element::EXPIRATION, &milliseconds(left)));
        }
    }
    bytes
}

fn key(parts: &[Part]) -> Vec<u8> {
    if parts == [Part::Everything] {
        let flags = element::CATCHALL as u32;
        return attribute(element::FLAGS, &flags.to_be_bytes());
    }
    let bytes: Vec<u8> = parts.iter().copied().flat_map(part).collect();
    nested(element::KEY, &attribute(element::VALUE, &bytes))
}

/// A part as a packet's field would be, with room up to a multiple of 4.
fn part(part: Part) -> Vec<u8> {
    match part {
        Part::Address(IpAddr::V4(address)) => address.octets().to_vec(),
        Part::Address(IpAddr::V6(address)) => address.octets().to_vec(),
        Part::Class(class) => class.to_ne_bytes().to_vec(),
        Part::Port(port) => [port.to_be_bytes(), [0, 0]].concat(),
        Part::Token(token) => token.0.to_vec(),
        // A part of a key alone: no such key is ever made.
        Part::Everything => Vec::new(),
    }
}

fn milliseconds(time: Duration) -> [u8; 8] {
    u64::try_from(time.as_millis())
        .unwrap_or(u64::MAX)
        .to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::super::super::netlink::{Attributes, find, messages};
    use super::*;
    use crate::single_use::Token;

    /// However many there are, no attribute is longer than its length can say, and none is left out.
    #[test]
    fn many_elements_are_several_messages() {
        let token = |number: u128| Part::Token(Token(number.to_be_bytes()));
        let minute = Duration::from_secs(60);
        let elements = (0..5000).map(|number| Element {
            value: Some(Part::Class(7)),
            ..Element::timed(vec![token(number)], minute)
        });
        let add = Command::Add {
            set: "tokens".to_string(),
            elements: elements.collect(),
        };
        let bytes = batch_of(&Transaction(vec![add])).unwrap();
        let mut counts = Vec::new();
        for message in messages(&bytes).filter(|message| message.kind == NEW_ELEMENTS) {
            let list = find(message.attributes(), elements::LIST).unwrap();
            counts.push(Attributes(list).count());
        }
        assert!(counts.len() > 4, "{counts:?}");
        assert_eq!(counts.iter().sum::<usize>(), 5000);
        assert_eq!(messages(&bytes).count(), counts.len() + 2);
    }
}
