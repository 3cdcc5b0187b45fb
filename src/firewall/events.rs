//! What the kernel says when somebody changes elements of our sets (`nfnetlink(7)`, `nf_tables.h`). What
//! packets add, and what time takes away, it does not say.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, BorrowedFd};
use std::thread;
use std::time::{Duration, Instant};

use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_NETFILTER;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::netlink::{
    Attributes, ELEMENTS_GONE, NEW_ELEMENTS, NEW_RULE, TABLE_GONE, find, messages,
};
use crate::ruleset::nftables::{NotedIn, TABLE};

/// `NFNLGRP_NFTABLES`
const GROUP: u32 = 7;

/// `NFTA_SET_ELEM_LIST_TABLE`, `_SET` and `_ELEMENTS`; `NFTA_TABLE_NAME` and `NFTA_RULE_TABLE` are 1 too.
const OF_TABLE: u16 = 1;
const OF_SET: u16 = 2;
const ELEMENTS: u16 = 3;

/// `NFTA_SET_ELEM_KEY`, `_TIMEOUT` and `_EXPIRATION`; `NFTA_DATA_VALUE` in the first.
const KEY: u16 = 1;
const TIMEOUT: u16 = 4;
const EXPIRATION: u16 = 5;
const VALUE: u16 = 1;

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

/// What an administrator did, to the door and key of these ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    Opened {
        source: IpAddr,
        door: u32,
        key: u32,
        lasting: Duration,
    },
    /// An opening is forgotten: it was ended, or was only added to be deleted (nft deletes nothing that is
    /// not there).
    Forgotten {
        source: IpAddr,
        door: u32,
        key: u32,
    },
    /// The first address of what was ended; 0.0.0.0 or :: stands for all of them.
    Closed {
        source: IpAddr,
        door: u32,
    },
    Revoked {
        key: u32,
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

    /// What was said since this was asked last.
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
    let ours = TABLE.split_once(' ').map_or(TABLE, |(_, name)| name);
    for message in messages(bytes) {
        let attributes = message.attributes();
        if find(attributes, OF_TABLE).and_then(text) != Some(ours) {
            continue;
        }
        match message.kind {
            NEW_RULE if changes.last() != Some(&Change::Applied) => {
                changes.push(Change::Applied);
            }
            TABLE_GONE => changes.push(Change::Removed),
            NEW_ELEMENTS => changes.extend(notes(attributes, note)),
            ELEMENTS_GONE => changes.extend(notes(attributes, forgotten)),
            _ => {}
        }
    }
    changes
}

fn notes(attributes: &[u8], note: impl Fn(NotedIn, &[u8]) -> Option<Note>) -> Vec<Change> {
    let Some(set) = find(attributes, OF_SET).and_then(text) else {
        return Vec::new();
    };
    let (Some(kind), Some(elements)) = (NotedIn::of(set), find(attributes, ELEMENTS)) else {
        return Vec::new();
    };
    let elements = Attributes(elements).filter_map(|(_, element)| note(kind, element));
    elements.map(Change::Noted).collect()
}

fn note(kind: NotedIn, element: &[u8]) -> Option<Note> {
    let value = find(find(element, KEY)?, VALUE)?;
    if kind == NotedIn::Revoked {
        let key = number(value)?;
        return Some(Note::Revoked { key });
    }
    let (source, door, key) = place(kind, value)?;
    if matches!(kind, NotedIn::Closed { .. }) {
        return Some(Note::Closed { source, door });
    }
    let time = |which| {
        let bytes: [u8; 8] = find(element, which)?.try_into().ok()?;
        Some(Duration::from_millis(u64::from_be_bytes(bytes)))
    };
    Some(Note::Opened {
        source,
        door,
        key: key?,
        lasting: time(EXPIRATION).or_else(|| time(TIMEOUT))?,
    })
}

fn forgotten(kind: NotedIn, element: &[u8]) -> Option<Note> {
    if !matches!(kind, NotedIn::Opened { .. }) {
        return None;
    }
    let (source, door, key) = place(kind, find(find(element, KEY)?, VALUE)?)?;
    Some(Note::Forgotten {
        source,
        door,
        key: key?,
    })
}

/// Address, door, and key where there is one.
fn place(kind: NotedIn, key: &[u8]) -> Option<(IpAddr, u32, Option<u32>)> {
    let (NotedIn::Opened { v6 } | NotedIn::Closed { v6 }) = kind else {
        return None;
    };
    let (source, rest) = match v6 {
        false => {
            let bytes: [u8; 4] = key.get(..4)?.try_into().ok()?;
            (IpAddr::from(Ipv4Addr::from(bytes)), key.get(4..)?)
        }
        true => {
            let bytes: [u8; 16] = key.get(..16)?.try_into().ok()?;
            (IpAddr::from(Ipv6Addr::from(bytes)), key.get(16..)?)
        }
    };
    Some((source, number(rest)?, rest.get(4..).and_then(number)))
}

fn number(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?))
}

fn text(bytes: &[u8]) -> Option<&str> {
    let bytes = bytes.strip_suffix(&[0]).unwrap_or(bytes);
    std::str::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::super::netlink::attribute;
    use super::*;

    fn message(kind: u16, attributes: &[u8]) -> Vec<u8> {
        let mut bytes = (20 + attributes.len() as u32).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend([0; 14]);
        bytes.extend(attributes);
        bytes
    }

    fn element(set: &[u8], key: &[u8], time: u64) -> Vec<u8> {
        let key = attribute(KEY | 0x8000, &attribute(VALUE, key));
        let time = attribute(TIMEOUT, &time.to_be_bytes());
        let element = attribute(1 | 0x8000, &[key, time].concat());
        let attributes = [
            attribute(OF_TABLE, b"toctoc\0"),
            attribute(OF_SET, set),
            attribute(ELEMENTS | 0x8000, &element),
        ];
        message(NEW_ELEMENTS, &attributes.concat())
    }

    #[test]
    fn what_administrators_do_is_read() {
        let (door, key) = (7_u32.to_ne_bytes(), 1_u32.to_ne_bytes());
        let opened = [&[192, 0, 2, 7][..], &door, &key].concat();
        let closed = [&[192, 0, 2, 7][..], &door].concat();
        let datagram = [
            element(b"opened4\0", &opened, 60_000),
            element(b"grants4\0", &closed, 60_000),
            element(b"closed4\0", &closed, 86_400_000),
            element(b"revoked\0", &9_u32.to_ne_bytes(), 1),
            message(NEW_RULE, &attribute(OF_TABLE, b"toctoc\0")),
            message(NEW_RULE, &attribute(OF_TABLE, b"other\0")),
            message(TABLE_GONE, &attribute(OF_TABLE, b"other\0")),
            message(TABLE_GONE, &attribute(OF_TABLE, b"toctoc\0")),
        ];
        let source = IpAddr::from([192, 0, 2, 7]);
        let lasting = Duration::from_secs(60);
        let (door, key) = (7, 1);
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
                Change::Noted(Note::Revoked { key: 9 }),
                Change::Applied,
                Change::Removed,
            ]
        );
    }

    #[test]
    fn what_is_cut_or_odd_is_passed_over() {
        let whole = element(b"closed6\0", &[0; 20], 1);
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
        assert!(read(&element(b"closed4\0", &[0; 3], 1)).is_empty());
    }
}
