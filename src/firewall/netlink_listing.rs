//! Listings of the kernel that are none of nf_tables: interfaces, addresses, routes, sockets.

use std::io;

use netlink_sys::Socket;

use super::netlink::{DONE, ERROR, Message, messages};

/// More than the kernel puts into one part of a listing.
const ROOM: usize = 64 << 10;

/// `NLM_F_REQUEST | NLM_F_DUMP`
const LISTING: u16 = 0x301;

/// Asks one family of netlink(7) for a listing. `question` is the part behind the head of the message.
///
/// # Errors
/// When the kernel cannot be asked, or refuses.
pub fn listing(
    family: isize,
    kind: u16,
    question: &[u8],
    mut each: impl FnMut(&Message<'_>),
) -> io::Result<()> {
    let mut socket = Socket::new(family)?;
    socket.bind_auto()?;
    let _ = socket.set_netlink_get_strict_chk(true);
    let mut bytes = ((16 + question.len()) as u32).to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(LISTING.to_ne_bytes());
    bytes.resize(16, 0);
    bytes.extend(question);
    socket.send(&bytes, 0)?;
    let mut bytes = Vec::with_capacity(ROOM);
    loop {
        bytes.clear();
        socket.recv(&mut bytes, 0)?;
        let mut any = false;
        for message in messages(&bytes) {
            any = true;
            match message.kind {
                DONE => return Ok(()),
                ERROR => {
                    let code = message.error().unwrap_or_default();
                    return Err(io::Error::from_raw_os_error(code));
                }
                _ => each(&message),
            }
        }
        if !any {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
}

/// A number of four bytes in the body of a message.
pub fn word(body: &[u8], at: usize) -> Option<u32> {
    let bytes = body.get(at..at + 4)?;
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}
