//! The number that the kernel gave to a table.
//!
//! nft tells it too, but up to 1.0.6 it reads all elements of all maps for `list tables`: seconds with
//! 144,000 tokens.

use std::io;

use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_NETFILTER;

/// From the kernel's linux/netlink.h, netfilter/nfnetlink.h and netfilter/nf_tables.h.
const ERROR: u16 = 2;
const REQUEST: u16 = 1;
const NEW_TABLE: u16 = 10 << 8;
const GET_TABLE: u16 = 10 << 8 | 1;
const INET: u8 = 1;
const TABLE_NAME: u16 = 1;
const TABLE_HANDLE: u16 = 4;

/// What stands before the attributes: the length, kind, flags, number and sender of the message, then
/// the family and two more that are 0.
const HEAD: usize = 20;

/// The number of the table of this name, in family `inet` and in the network namespace of this thread.
/// `None` when there is none.
///
/// # Errors
/// When that is not permitted, or this is a kernel without nftables.
pub fn table_number(name: &str) -> io::Result<Option<u64>> {
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    socket.send(&request(name), 0)?;
    let (answer, _) = socket.recv_from_full()?;
    number(&answer)
}

fn request(name: &str) -> Vec<u8> {
    let length = 4 + name.len() + 1;
    let mut bytes = vec![0; HEAD];
    bytes.extend((length as u16).to_ne_bytes());
    bytes.extend(TABLE_NAME.to_ne_bytes());
    bytes.extend(name.bytes());
    bytes.resize(HEAD + length.next_multiple_of(4), 0);
    let whole = bytes.len() as u32;
    bytes[..4].copy_from_slice(&whole.to_ne_bytes());
    bytes[4..6].copy_from_slice(&GET_TABLE.to_ne_bytes());
    bytes[6..8].copy_from_slice(&REQUEST.to_ne_bytes());
    bytes[16] = INET;
    bytes
}

fn number(answer: &[u8]) -> io::Result<Option<u64>> {
    let strange = || io::Error::new(io::ErrorKind::InvalidData, "the kernel's answer is none");
    match short(answer, 4) {
        Some(ERROR) => {
            let code = answer.get(16..20).and_then(|code| code.try_into().ok());
            let code = code.map(i32::from_ne_bytes).ok_or_else(strange)?;
            let error = io::Error::from_raw_os_error(-code);
            match error.kind() {
                io::ErrorKind::NotFound => Ok(None),
                _ => Err(error),
            }
        }
        Some(NEW_TABLE) => {
            let handle = attribute(answer.get(HEAD..).unwrap_or_default(), TABLE_HANDLE);
            let handle = handle.and_then(|bytes| bytes.try_into().ok());
            handle.map(u64::from_be_bytes).map(Some).ok_or_else(strange)
        }
        _ => Err(strange()),
    }
}

/// The value of the attribute of this kind.
fn attribute(mut attributes: &[u8], kind: u16) -> Option<&[u8]> {
    loop {
        let length = usize::from(short(attributes, 0)?);
        let value = attributes.get(4..length)?;
        if short(attributes, 2)? == kind {
            return Some(value);
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
}

fn short(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..at + 2)?;
    Some(u16::from_ne_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read() {
        let mut told = request("toctoc");
        told[4..6].copy_from_slice(&NEW_TABLE.to_ne_bytes());
        assert!(number(&told).is_err(), "without a number");
        told.extend(12_u16.to_ne_bytes());
        told.extend(TABLE_HANDLE.to_ne_bytes());
        told.extend(7_u64.to_be_bytes());
        assert_eq!(number(&told).unwrap(), Some(7));
        for cut in 0..told.len() {
            assert!(number(&told[..cut]).is_err(), "{cut}");
        }
    }

    #[test]
    fn a_table_that_is_missing_is_told_from_what_is_not_permitted() {
        let refusal = |code: i32| {
            let mut told = vec![0; 36];
            told[4..6].copy_from_slice(&ERROR.to_ne_bytes());
            told[16..20].copy_from_slice(&(-code).to_ne_bytes());
            number(&told)
        };
        assert_eq!(refusal(2).unwrap(), None);
        let refused = refusal(1).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
    }
}
