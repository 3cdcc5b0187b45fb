//! The number that the kernel gave to a table.
//!
//! nft tells it too, but up to 1.0.6 it reads all elements of all maps for `list tables`: seconds with
//! 144,000 tokens.

use std::io;

use super::netlink::{ERROR, GET_TABLE, NEW_TABLE, find, messages};
use super::nf_tables::Socket;

/// `NFTA_TABLE_NAME` and `NFTA_TABLE_HANDLE`.
const NAME: u16 = 1;
const HANDLE: u16 = 4;

/// The number of the table of this name, in family `inet` and in the network namespace of this thread.
/// `None` when there is none.
///
/// # Errors
/// When that is not permitted, or this is a kernel without nftables.
pub fn table_number(name: &str) -> io::Result<Option<u64>> {
    number(&Socket::open()?.ask(GET_TABLE, &[(NAME, name)])?)
}

fn number(answer: &[u8]) -> io::Result<Option<u64>> {
    let strange = || {
        io::Error::new(
            io::ErrorKind::InvalidData,
            "the kernel's answer could not be understood",
        )
    };
    let message = messages(answer).next().ok_or_else(strange)?;
    match message.kind {
        ERROR => {
            let error = message.error().map(io::Error::from_raw_os_error);
            let error = error.ok_or_else(strange)?;
            match error.kind() {
                io::ErrorKind::NotFound => Ok(None),
                _ => Err(error),
            }
        }
        NEW_TABLE => {
            let handle = find(message.attributes(), HANDLE);
            let handle = handle.and_then(|bytes| bytes.try_into().ok());
            handle.map(u64::from_be_bytes).map(Some).ok_or_else(strange)
        }
        _ => Err(strange()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::netlink::{attribute, request};
    use super::*;

    #[test]
    fn an_answer_is_read() {
        let mut told = request(NEW_TABLE, &[(NAME, "toctoc")]);
        assert!(number(&told).is_err(), "without a number");
        told.extend(attribute(HANDLE, &7_u64.to_be_bytes()));
        let whole = told.len() as u32;
        told[..4].copy_from_slice(&whole.to_ne_bytes());
        assert_eq!(number(&told).unwrap(), Some(7));
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
            number(&told)
        };
        assert_eq!(refusal(2).unwrap(), None);
        let refused = refusal(1).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
    }
}
