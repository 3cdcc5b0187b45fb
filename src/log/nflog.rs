//! An NFLOG group: the kernel hands each packet that a rule logs to whoever listens.

use std::io;
use std::net::IpAddr;

use jiff::Timestamp;
use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_netfilter::nflog::{
    ConfigCmd, ConfigMode, PacketNla, ULogMessage, config_request,
};
use netlink_packet_netfilter::{NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily};
use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_NETFILTER;

use super::{Opening, prefix};

/// As much as the kernel sends at once, and more: a packet's head is asked for, and not all of it.
const ROOM: usize = 64 << 10;

/// Somebody who listens to a group. The kernel lets one listen at a time.
pub struct Group {
    socket: Socket,
    waiting: Vec<Opening>,
}

impl Group {
    /// Listens to the group of this number, in the network namespace of this thread.
    ///
    /// # Errors
    /// When that is not permitted, or another program listens to it.
    pub fn listen(number: u16) -> io::Result<Group> {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        socket.bind_auto()?;
        let request = config_request(
            NetfilterProtoFamily::Unspec,
            number,
            vec![ConfigCmd::Bind.into(), ConfigMode::PACKET_MAX.into()],
        );
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        socket.send(&bytes, 0)?;
        let mut answer = Vec::with_capacity(ROOM);
        socket.recv(&mut answer, 0)?;
        let answer = <NetlinkMessage<NetfilterMessage>>::deserialize(&answer);
        if let Ok(NetlinkMessage {
            payload: NetlinkPayload::Error(refused),
            ..
        }) = answer
            && refused.code.is_some()
        {
            return Err(refused.to_io());
        }
        socket.set_non_blocking(true)?;
        Ok(Group {
            socket,
            waiting: Vec::new(),
        })
    }

    /// The next opening that was told already; `None` when there is no more for now. `now` is for those
    /// that have no time of their own.
    ///
    /// # Errors
    /// When the kernel cannot be heard any more.
    pub fn hear(&mut self, now: Timestamp) -> io::Result<Option<Opening>> {
        loop {
            if !self.waiting.is_empty() {
                return Ok(Some(self.waiting.remove(0)));
            }
            let mut bytes = Vec::with_capacity(ROOM);
            match self.socket.recv(&mut bytes, 0) {
                Ok(_) => self.waiting = openings(&bytes, now),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                // Some were lost, since nobody listened in time. Others come.
                Err(error) if error.raw_os_error() == Some(NO_BUFFER) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// What the kernel says to those who were too slow.
const NO_BUFFER: i32 = rustix::io::Errno::NOBUFS.raw_os_error();

/// The openings among the messages of one datagram.
fn openings(mut bytes: &[u8], now: Timestamp) -> Vec<Opening> {
    let mut found = Vec::new();
    while let Ok(message) = <NetlinkMessage<NetfilterMessage>>::deserialize(bytes) {
        let length = (message.header.length as usize).next_multiple_of(4);
        if let NetlinkPayload::InnerMessage(NetfilterMessage {
            inner: NetfilterMessageInner::ULog(ULogMessage::Packet(parts)),
            ..
        }) = &message.payload
        {
            found.extend(opening(parts, now));
        }
        match bytes.get(length..) {
            Some(rest) if length > 0 && !rest.is_empty() => bytes = rest,
            _ => break,
        }
    }
    found
}

fn opening(parts: &[PacketNla], now: Timestamp) -> Option<Opening> {
    let said = parts.iter().find_map(|part| match part {
        PacketNla::Prefix(prefix) => Some(prefix),
        _ => None,
    })?;
    let packet = parts.iter().find_map(|part| match part {
        PacketNla::Payload(payload) => Some(payload),
        _ => None,
    })?;
    let (door, key, _) = prefix(said.to_str().ok()?)?;
    Some(Opening {
        at: Some(now),
        source: source(packet)?,
        door,
        key,
    })
}

/// The source address of a packet, from its first bytes.
fn source(packet: &[u8]) -> Option<IpAddr> {
    match packet.first()? >> 4 {
        4 => <[u8; 4]>::try_from(packet.get(12..16)?)
            .ok()
            .map(IpAddr::from),
        6 => <[u8; 16]>::try_from(packet.get(8..24)?)
            .ok()
            .map(IpAddr::from),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_source_of_a_packet_is_read() {
        let mut v4 = [0; 20];
        v4[0] = 0x45;
        v4[12..16].copy_from_slice(&[192, 0, 2, 7]);
        assert_eq!(source(&v4), Some(IpAddr::from([192, 0, 2, 7])));
        let mut v6 = [0; 40];
        v6[0] = 0x60;
        v6[23] = 7;
        assert_eq!(source(&v6), Some("::7".parse().unwrap()));
        for odd in [&[][..], &[0x45; 8], &[0x60; 20], &[0x10; 40]] {
            assert_eq!(source(odd), None);
        }
    }
}
