//! Messages of nf_tables, as the kernel takes and sends them (netlink(7); the kernel's linux/netlink.h,
//! netfilter/nfnetlink.h and netfilter/nf_tables.h). Only where nft is too slow, or cannot tell.

/// Kinds of messages: an answer that refuses, the end of a listing, and those of nf_tables.
pub const ERROR: u16 = 2;
pub const DONE: u16 = 3;
pub const NEW_TABLE: u16 = 10 << 8;
pub const GET_TABLE: u16 = NEW_TABLE | 1;
pub const TABLE_GONE: u16 = NEW_TABLE | 2;
pub const NEW_CHAIN: u16 = NEW_TABLE | 3;
pub const GET_CHAINS: u16 = NEW_TABLE | 4;
pub const NEW_RULE: u16 = NEW_TABLE | 6;
pub const GET_RULES: u16 = NEW_TABLE | 7;
pub const NEW_SET: u16 = NEW_TABLE | 9;
pub const GET_SETS: u16 = NEW_TABLE | 10;
pub const NEW_ELEMENTS: u16 = NEW_TABLE | 12;
pub const GET_ELEMENTS: u16 = NEW_TABLE | 13;
pub const ELEMENTS_GONE: u16 = NEW_TABLE | 14;
pub const NEW_GENERATION: u16 = NEW_TABLE | 15;
pub const GET_GENERATION: u16 = NEW_TABLE | 16;
pub const NEW_OBJECT: u16 = NEW_TABLE | 18;
pub const GET_OBJECTS: u16 = NEW_TABLE | 19;

/// The messages around a transaction; which part of netfilter it is for.
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
const NF_TABLES: u16 = 10;

/// Flags: of a question, of one that wants an answer in any case, of one for a listing, of what makes something.
const REQUEST: u16 = 1;
const ACKNOWLEDGE: u16 = 4;
const LISTING: u16 = 0x300;
const CREATE: u16 = 0x400;

/// The flag of a listing that was changed while it was told.
const INTERRUPTED: u16 = 0x10;

/// Set in the kind of an attribute that holds others.
const NESTED: u16 = 0x8000;

const INET: u8 = 1;

/// The length, kind, flags, number and sender of a message; then the family and two more that are 0.
const HEAD: usize = 16;
const FAMILY: usize = 4;

/// A question about tables of family `inet`: attributes are texts.
pub fn request(kind: u16, attributes: &[(u16, &str)]) -> Vec<u8> {
    message(kind, REQUEST, &texts(attributes))
}

/// A question for a listing: an answer of many messages.
pub fn listing_request(kind: u16, attributes: &[(u16, &str)]) -> Vec<u8> {
    message(kind, REQUEST | LISTING, &texts(attributes))
}

/// A question with attributes of any kind.
pub fn request_with(kind: u16, attributes: &[u8]) -> Vec<u8> {
    message(kind, REQUEST, attributes)
}

/// A part of a transaction: something is made, unless it is there.
pub fn creation(kind: u16, attributes: &[u8]) -> Vec<u8> {
    message(kind, REQUEST | CREATE, attributes)
}

/// A transaction of these messages. Only the last of them is answered if all is well.
pub fn batch(mut messages: Vec<Vec<u8>>) -> Vec<u8> {
    if let Some(last) = messages.last_mut() {
        let flags = short(last, 6).unwrap_or_default() | ACKNOWLEDGE;
        last[6..8].copy_from_slice(&flags.to_ne_bytes());
    }
    let edge = |kind: u16| {
        let mut bytes = message(kind, REQUEST, &[]);
        bytes[HEAD] = 0;
        bytes[HEAD + 2..].copy_from_slice(&NF_TABLES.to_be_bytes());
        bytes
    };
    [vec![edge(BATCH_BEGIN)], messages, vec![edge(BATCH_END)]]
        .concat()
        .concat()
}

fn message(kind: u16, flags: u16, attributes: &[u8]) -> Vec<u8> {
    let whole = HEAD + FAMILY + attributes.len();
    let mut bytes = Vec::with_capacity(whole);
    bytes.extend((whole as u32).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.resize(HEAD, 0);
    bytes.extend([INET, 0, 0, 0]);
    bytes.extend(attributes);
    bytes
}

/// Attributes that are texts.
pub fn texts(attributes: &[(u16, &str)]) -> Vec<u8> {
    let text = |(which, text): &(u16, &str)| attribute(*which, &[text.as_bytes(), &[0]].concat());
    attributes.iter().flat_map(text).collect()
}

/// An attribute that holds others.
pub fn nested(kind: u16, attributes: &[u8]) -> Vec<u8> {
    attribute(kind | NESTED, attributes)
}

/// An attribute: length and kind of 2 bytes each, the value, and room up to a multiple of 4.
pub fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = (4 + value.len() as u16).to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// A message of the kernel.
#[derive(Debug, Clone, Copy)]
pub struct Message<'b> {
    pub kind: u16,
    flags: u16,
    body: &'b [u8],
}

impl<'b> Message<'b> {
    /// The content, for [`find`] and [`Attributes`].
    pub fn attributes(&self) -> &'b [u8] {
        self.body.get(FAMILY..).unwrap_or_default()
    }

    /// All behind the head: of nf_tables [`attributes`](Message::attributes) and four bytes before them.
    pub fn body(&self) -> &'b [u8] {
        self.body
    }

    /// Returns whether something was changed while this listing was told.
    pub fn is_interrupted(&self) -> bool {
        self.flags & INTERRUPTED != 0
    }

    /// The number of the error in an [`ERROR`] or [`DONE`]; 0 if all is well.
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
        let (kind, flags) = (short(message, 4)?, short(message, 6)?);
        let body = message.get(HEAD..).filter(|body| body.len() >= FAMILY)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Message { kind, flags, body })
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

/// A name as nf_tables sends it.
pub fn utf8(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(text(bytes)).ok()
}

/// The [number] in the first attribute of a kind.
pub fn find_number(attributes: &[u8], kind: u16) -> Option<u64> {
    find(attributes, kind).and_then(number)
}

/// The [name](utf8) in the first attribute of a kind.
pub fn find_text(attributes: &[u8], kind: u16) -> Option<&str> {
    find(attributes, kind).and_then(utf8)
}

fn short(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..at + 2)?;
    Some(u16::from_ne_bytes(bytes.try_into().ok()?))
}
