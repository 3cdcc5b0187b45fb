//! Messages of nf_tables, as the kernel takes and sends them (netlink(7); the kernel's linux/netlink.h,
//! netfilter/nfnetlink.h and netfilter/nf_tables.h). Only where nft is too slow, or cannot tell.

use std::io;
use std::ops::ControlFlow;

use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_NETFILTER;

/// Kinds of messages: an answer that refuses, the end of a listing, and those of nf_tables.
pub const ERROR: u16 = 2;
const DONE: u16 = 3;
pub const NEW_TABLE: u16 = 10 << 8;
pub const GET_TABLE: u16 = NEW_TABLE | 1;
pub const TABLE_GONE: u16 = NEW_TABLE | 2;
pub const GET_CHAINS: u16 = NEW_TABLE | 4;
pub const NEW_RULE: u16 = NEW_TABLE | 6;
pub const GET_RULES: u16 = NEW_TABLE | 7;
pub const GET_SETS: u16 = NEW_TABLE | 10;
pub const NEW_ELEMENTS: u16 = NEW_TABLE | 12;
pub const GET_ELEMENTS: u16 = NEW_TABLE | 13;
pub const ELEMENTS_GONE: u16 = NEW_TABLE | 14;
pub const NEW_GENERATION: u16 = NEW_TABLE | 15;
pub const GET_GENERATION: u16 = NEW_TABLE | 16;

/// The flags of a question, and of one that asks for a listing.
const REQUEST: u16 = 1;
const LISTING: u16 = 0x300;

const INET: u8 = 1;

/// The length, kind, flags, number and sender of a message; then the family and two more that are 0.
const HEAD: usize = 16;
const FAMILY: usize = 4;

/// A question about tables of family `inet`: attributes are texts.
pub fn request(kind: u16, attributes: &[(u16, &str)]) -> Vec<u8> {
    asking(kind, REQUEST, attributes)
}

fn asking(kind: u16, flags: u16, attributes: &[(u16, &str)]) -> Vec<u8> {
    let mut bytes = vec![0; HEAD + FAMILY];
    for (which, text) in attributes {
        bytes.extend(attribute(*which, &[text.as_bytes(), &[0]].concat()));
    }
    let whole = bytes.len() as u32;
    bytes[..4].copy_from_slice(&whole.to_ne_bytes());
    bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
    bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
    bytes[HEAD] = INET;
    bytes
}

/// An attribute: length and kind of 2 bytes each, the value, and room up to a multiple of 4.
pub fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = (4 + value.len() as u16).to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// The line to nf_tables, in the network namespace of this thread.
pub struct Line(Socket);

impl Line {
    /// # Errors
    /// When the kernel has no netlink, or it is not permitted.
    pub fn open() -> io::Result<Line> {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        socket.bind_auto()?;
        Ok(Line(socket))
    }

    /// The answer to one question.
    ///
    /// # Errors
    /// When the kernel cannot be asked. A refusal is an answer.
    pub fn ask(&self, kind: u16, attributes: &[(u16, &str)]) -> io::Result<Vec<u8>> {
        self.0.send(&request(kind, attributes), 0)?;
        Ok(self.0.recv_from_full()?.0)
    }

    /// Calls `each` with the attributes of every message of a listing.
    ///
    /// # Errors
    /// When the kernel cannot be asked, or refuses.
    pub fn list(
        &self,
        kind: u16,
        attributes: &[(u16, &str)],
        mut each: impl FnMut(&[u8]),
    ) -> io::Result<()> {
        self.list_until(kind, attributes, |message| {
            each(message);
            ControlFlow::Continue(())
        })
    }

    /// The same, until `each` breaks it off: then there is no other question on this line.
    ///
    /// # Errors
    /// As for [`list`](Line::list).
    pub fn list_until(
        &self,
        kind: u16,
        attributes: &[(u16, &str)],
        mut each: impl FnMut(&[u8]) -> ControlFlow<()>,
    ) -> io::Result<()> {
        self.0
            .send(&asking(kind, REQUEST | LISTING, attributes), 0)?;
        loop {
            let (bytes, _) = self.0.recv_from_full()?;
            let mut any = false;
            for message in messages(&bytes) {
                any = true;
                match message.kind {
                    DONE => return Ok(()),
                    ERROR => {
                        let code = message.error().unwrap_or(0);
                        return Err(io::Error::from_raw_os_error(code));
                    }
                    _ if each(message.attributes()).is_break() => return Ok(()),
                    _ => {}
                }
            }
            if !any {
                return Err(io::ErrorKind::InvalidData.into());
            }
        }
    }
}

/// A message of the kernel.
#[derive(Debug, Clone, Copy)]
pub struct Message<'b> {
    pub kind: u16,
    body: &'b [u8],
}

impl<'b> Message<'b> {
    /// What it says, for [`find`] and [`Attributes`].
    pub fn attributes(&self) -> &'b [u8] {
        self.body.get(FAMILY..).unwrap_or_default()
    }

    /// The number of the error in an [`ERROR`].
    pub fn error(&self) -> Option<i32> {
        let code = self.body.get(..4)?.try_into().ok()?;
        i32::from_ne_bytes(code).checked_neg()
    }
}

/// The messages of one datagram. What is cut is passed over.
pub fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let length = u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
        let message = bytes.get(..length)?;
        let kind = short(message, 4)?;
        let body = message.get(HEAD..).filter(|body| body.len() >= FAMILY)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Message { kind, body })
    })
}

/// The value of the first attribute of a kind.
pub fn find(attributes: &[u8], kind: u16) -> Option<&[u8]> {
    let mut attributes = Attributes(attributes);
    attributes.find_map(|(found, value)| (found == kind).then_some(value))
}

/// Attributes with their kinds, one after the other.
pub struct Attributes<'b>(pub &'b [u8]);

impl<'b> Iterator for Attributes<'b> {
    type Item = (u16, &'b [u8]);

    fn next(&mut self) -> Option<(u16, &'b [u8])> {
        let length = usize::from(short(self.0, 0)?);
        // The two highest bits say whether there are attributes in it, and in which order bytes are.
        let kind = short(self.0, 2)? & 0x3fff;
        let value = self.0.get(4..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    }
}

/// A number as nf_tables sends it, of 4 or 8 bytes.
pub fn number(bytes: &[u8]) -> Option<u64> {
    match bytes.len() {
        4 => bytes
            .try_into()
            .ok()
            .map(|b| u64::from(u32::from_be_bytes(b))),
        8 => bytes.try_into().ok().map(u64::from_be_bytes),
        _ => None,
    }
}

/// A text as nf_tables sends it, without the 0 at its end.
pub fn text(bytes: &[u8]) -> &[u8] {
    bytes.strip_suffix(&[0]).unwrap_or(bytes)
}

fn short(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..at + 2)?;
    Some(u16::from_ne_bytes(bytes.try_into().ok()?))
}
