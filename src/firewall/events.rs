//! Messages of the kernel when somebody changes elements of our sets (`nfnetlink(7)`, `nf_tables.h`). There are
//! none of what packets add, and what time takes away.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::thread;
use std::time::{Duration, Instant};

use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_NETFILTER;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::netlink::{ELEMENTS_GONE, NEW_ELEMENTS, NEW_RULE, TABLE_GONE, find_text, messages};
use super::nf_tables::attributes::{
    about_ours, address, class, element, elements, elements_in, key_of, time_of,
};
use crate::policy::{DoorId, KeyId};
use crate::ruleset::nftables::SetId;

/// `NFNLGRP_NFTABLES`
const GROUP: u32 = 7;

/// More than one message has.
const ROOM: usize = 128 << 10;

/// Something that was changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Rules of ours were loaded: a policy was applied, or the table was made anew.
    Applied,
    /// The table is gone, for now at least.
    Removed,
    /// An element was added that says what an administrator did.
    Noted(Note),
}

/// A change by an administrator, to the door and key of these ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    Opened {
        source: IpAddr,
        door: DoorId,
        key: KeyId,
        lasting: Duration,
    },
    /// An opening is forgotten: it was ended, or was only added to be deleted (nft deletes nothing that is
    /// not there).
    Forgotten {
        source: IpAddr,
        door: DoorId,
        key: KeyId,
    },
    /// The first address of what was ended; 0.0.0.0 or :: stands for all of them.
    Closed {
        source: IpAddr,
        door: DoorId,
    },
    Revoked {
        key: KeyId,
    },
}

/// Somebody who listens.
pub struct Events {
    socket: Socket,
    lost: bool,
}

impl Events {
    /// Listens in the network namespace of this thread.
    ///
    /// # Errors
    /// When that is not permitted.
    pub fn listen() -> io::Result<Events> {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        socket.bind_auto()?;
        socket.add_membership(GROUP)?;
        socket.set_non_blocking(true)?;
        let _ = rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, 8 << 20);
        Ok(Events {
            socket,
            lost: false,
        })
    }

    /// Reads what was said since this was asked last.
    ///
    /// # Errors
    /// When the kernel cannot be heard any more.
    pub fn hear(&mut self) -> io::Result<Vec<Change>> {
        let mut changes = Vec::new();
        let mut bytes = Vec::with_capacity(ROOM);
        loop {
            bytes.clear();
            match self.socket.recv(&mut bytes, 0) {
                Ok(_) => changes.extend(read(&bytes)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(changes),
                Err(error) if error.raw_os_error() == Some(NO_BUFFER) => self.lost = true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Returns whether something was lost since this was asked last, because nobody listened in time.
    pub fn has_lost(&mut self) -> bool {
        std::mem::take(&mut self.lost)
    }
}

impl AsFd for Events {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Waits until a policy is applied in this network namespace, or for so long.
pub fn wait_for_apply(limit: Duration) {
    let until = Instant::now() + limit;
    let Ok(mut events) = Events::listen() else {
        return thread::sleep(limit);
    };
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let Ok(timeout) = Timespec::try_from(left) else {
            return;
        };
        let woken = poll(&mut [PollFd::new(&events, PollFlags::IN)], Some(&timeout));
        let heard = events.hear().unwrap_or_default();
        if left.is_zero() || heard.contains(&Change::Applied) {
            return;
        }
        if !matches!(woken, Ok(_) | Err(rustix::io::Errno::INTR)) {
            return thread::sleep(left);
        }
    }
}

const NO_BUFFER: i32 = rustix::io::Errno::NOBUFS.raw_os_error();

/// The changes in the messages of one datagram.
fn read(bytes: &[u8]) -> Vec<Change> {
    let mut changes = Vec::new();
    for message in messages(bytes) {
        let Some(told) = about_ours(&message) else {
            continue;
        };
        match message.kind {
            NEW_RULE if changes.last() != Some(&Change::Applied) => {
                changes.push(Change::Applied);
            }
            TABLE_GONE => changes.push(Change::Removed),
            kind @ (NEW_ELEMENTS | ELEMENTS_GONE) => {
                let set = find_text(told, elements::SET).unwrap_or_default();
                let notes = elements_in(told).filter_map(|one| note(kind, set, one));
                changes.extend(notes.map(Change::Noted));
            }
            _ => {}
        }
    }
    changes
}

/// Reads the note in an element that was added, or deleted.
fn note(kind: u16, set: &str, told: &[u8]) -> Option<Note> {
    let value = key_of(told)?;
    let is_new = kind == NEW_ELEMENTS;
    if set == SetId::Revoked.name() {
        let key = KeyId(class(value)?.0);
        return is_new.then_some(Note::Revoked { key });
    }
    let (id, family, _) = SetId::by_family(set)?;
    let (source, rest) = address(family, value)?;
    let (door, rest) = class(rest)?;
    let door = DoorId(door);
    let key = || Some(KeyId(class(rest)?.0));
    match (id, is_new) {
        (SetId::Closed, true) => Some(Note::Closed { source, door }),
        (SetId::Opened, true) => {
            let left = time_of(told, element::EXPIRATION);
            Some(Note::Opened {
                source,
                door,
                key: key()?,
                lasting: left.or_else(|| time_of(told, element::TIMEOUT))?,
            })
        }
        (SetId::Opened, false) => Some(Note::Forgotten {
            source,
            door,
            key: key()?,
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::netlink::{attribute, nested, texts};
    use super::super::nf_tables::attributes::OF_TABLE;
    use super::*;

    fn message(kind: u16, attributes: &[u8]) -> Vec<u8> {
        let mut bytes = (20 + attributes.len() as u32).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend([0; 14]);
        bytes.extend(attributes);
        bytes
    }

    fn noted(set: &str, key: &[u8], time: u64) -> Vec<u8> {
        let key = nested(element::KEY, &attribute(element::VALUE, key));
        let time = attribute(element::TIMEOUT, &time.to_be_bytes());
        let one = nested(elements::ONE, &[key, time].concat());
        let attributes = [
            texts(&[(OF_TABLE, "toctoc"), (elements::SET, set)]),
            nested(elements::LIST, &one),
        ];
        message(NEW_ELEMENTS, &attributes.concat())
    }

    #[test]
    fn what_administrators_do_is_read() {
        let (door, key) = (7_u32.to_ne_bytes(), 1_u32.to_ne_bytes());
        let opened = [&[192, 0, 2, 7][..], &door, &key].concat();
        let closed = [&[192, 0, 2, 7][..], &door].concat();
        let datagram = [
            noted("opened4", &opened, 60_000),
            noted("grants4", &closed, 60_000),
            noted("closed4", &closed, 86_400_000),
            noted("revoked", &9_u32.to_ne_bytes(), 1),
            message(NEW_RULE, &attribute(OF_TABLE, b"toctoc\0")),
            message(NEW_RULE, &attribute(OF_TABLE, b"other\0")),
            message(TABLE_GONE, &attribute(OF_TABLE, b"other\0")),
            message(TABLE_GONE, &attribute(OF_TABLE, b"toctoc\0")),
        ];
        let source = IpAddr::from([192, 0, 2, 7]);
        let lasting = Duration::from_secs(60);
        let (door, key) = (DoorId(7), KeyId(1));
        let opened = Note::Opened {
            source,
            door,
            key,
            lasting,
        };
        assert_eq!(
            read(&datagram.concat()),
            [
                Change::Noted(opened),
                Change::Noted(Note::Closed { source, door }),
                Change::Noted(Note::Revoked { key: KeyId(9) }),
                Change::Applied,
                Change::Removed,
            ]
        );
    }

    #[test]
    fn what_is_cut_or_odd_is_passed_over() {
        let whole = noted("closed6", &[0; 20], 1);
        assert_eq!(read(&whole).len(), 1);
        for length in 0..whole.len() {
            assert!(read(&whole[..length]).is_empty(), "{length}");
        }
        for place in 0..whole.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut odd = whole.clone();
                odd[place] = value;
                let _ = read(&odd);
            }
        }
        assert!(read(&noted("closed4", &[0; 3], 1)).is_empty());
    }
}
