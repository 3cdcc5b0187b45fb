//! An NFLOG group: the kernel hands each packet that a rule logs to whoever listens.

use std::collections::VecDeque;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};

use jiff::Timestamp;
use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_netfilter::nflog::{
    ConfigCmd, ConfigFlags, ConfigMode, ConfigNla, PacketNla, ULogMessage, config_request,
};
use netlink_packet_netfilter::{NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily};
use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_NETFILTER;

use super::line::Claim;
use crate::single_use::Token;

/// As much as the kernel sends at once, and more: a packet's head is asked for, and not all of it.
const ROOM: usize = 64 << 10;

/// Somebody who listens to a group. The kernel lets one listen at a time.
pub struct Group {
    socket: Socket,
    waiting: VecDeque<(Claim, Option<Token>)>,
    has_lost: bool,
    /// The number of the packet that was told last.
    last: Option<u32>,
    lost: u64,
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
            // One by one, as they come.
            vec![
                ConfigCmd::Bind.into(),
                ConfigMode::PACKET_MAX.into(),
                ConfigNla::QThresh(1),
                // With numbers, which show how many were lost.
                ConfigNla::Flags(ConfigFlags::SEQ),
            ],
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
            waiting: VecDeque::new(),
            has_lost: false,
            last: None,
            lost: 0,
        })
    }

    /// Asks for room for so many bytes that wait to be heard. Who may not have them has less.
    pub fn make_room(&self, bytes: usize) {
        let _ = rustix::net::sockopt::set_socket_recv_buffer_size_force(&self.socket, bytes);
    }

    /// Returns whether some were lost since this was asked last, because nobody listened in time.
    pub fn has_lost(&mut self) -> bool {
        std::mem::take(&mut self.has_lost)
    }

    /// The number of packets that were lost since this was asked last.
    pub fn take_lost(&mut self) -> u64 {
        std::mem::take(&mut self.lost)
    }

    /// The next claim of an opening that was told already; `None` when there is no more for now. `now` is for those
    /// that have no time of their own.
    ///
    /// # Errors
    /// When the kernel cannot be heard any more.
    pub fn hear(&mut self, now: Timestamp) -> io::Result<Option<Claim>> {
        let heard = self.hear_with_token(now)?;
        Ok(heard.map(|(claim, _)| claim))
    }

    /// The same, with what stands where a token would: the first 16 bytes of a datagram.
    ///
    /// # Errors
    /// As for [`hear`](Group::hear).
    pub fn hear_with_token(
        &mut self,
        now: Timestamp,
    ) -> io::Result<Option<(Claim, Option<Token>)>> {
        loop {
            if let Some(first) = self.waiting.pop_front() {
                return Ok(Some(first));
            }
            let mut bytes = Vec::with_capacity(ROOM);
            match self.socket.recv(&mut bytes, 0) {
                Ok(_) => {
                    for packet in packets(&bytes) {
                        self.count(&packet);
                        self.waiting.extend(claim(&packet, now));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                // Some were lost, since nobody listened in time. Others come.
                Err(error) if error.raw_os_error() == Some(NO_BUFFER) => self.has_lost = true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl Group {
    /// Notes the number of a packet, and how many are missing before it.
    fn count(&mut self, parts: &[PacketNla]) {
        let number = parts.iter().find_map(|part| match part {
            PacketNla::Seq(number) => Some(*number),
            _ => None,
        });
        if let Some(number) = number {
            let last = self.last.replace(number);
            let missing = last.map_or(0, |last| number.wrapping_sub(last).wrapping_sub(1));
            self.lost += u64::from(missing);
        }
    }
}

/// The error that the kernel gives to listeners that were too slow.
const NO_BUFFER: i32 = rustix::io::Errno::NOBUFS.raw_os_error();

/// The packets among the messages of one datagram.
fn packets(mut bytes: &[u8]) -> Vec<Vec<PacketNla>> {
    let mut found = Vec::new();
    while let Ok(message) = <NetlinkMessage<NetfilterMessage>>::deserialize(bytes) {
        let length = (message.header.length as usize).next_multiple_of(4);
        if let NetlinkPayload::InnerMessage(NetfilterMessage {
            inner: NetfilterMessageInner::ULog(ULogMessage::Packet(parts)),
            ..
        }) = message.payload
        {
            found.push(parts);
        }
        match bytes.get(length..) {
            Some(rest) if length > 0 && !rest.is_empty() => bytes = rest,
            _ => break,
        }
    }
    found
}

fn claim(parts: &[PacketNla], now: Timestamp) -> Option<(Claim, Option<Token>)> {
    let said = parts.iter().find_map(|part| match part {
        PacketNla::Prefix(prefix) => Some(prefix),
        _ => None,
    })?;
    let packet = parts.iter().find_map(|part| match part {
        PacketNla::Payload(payload) => Some(payload),
        _ => None,
    })?;
    let claim = Claim {
        at: Some(now),
        prefix: said.to_str().ok()?.to_string(),
        source: source(packet)?,
    };
    Some((claim, token(packet)))
}

/// The token of a packet: of a datagram, or of an echo request. Of IPv6 it may be behind headers for hops, routes and
/// options.
fn token(packet: &[u8]) -> Option<Token> {
    const UDP: u8 = 17;
    const ICMP: u8 = 1;
    const ICMPV6: u8 = 58;
    const EXTENSIONS: [u8; 3] = [0, 43, 60];
    let (mut protocol, mut header) = match packet.first()? >> 4 {
        4 => (*packet.get(9)?, usize::from(packet[0] & 15) * 4),
        6 => (*packet.get(6)?, 40),
        _ => return None,
    };
    while packet[0] >> 4 == 6 && EXTENSIONS.contains(&protocol) {
        let [next, length] = packet.get(header..header + 2)? else {
            return None;
        };
        protocol = *next;
        header += 8 * (1 + usize::from(*length));
    }
    let payload = packet.get(header + 8..)?;
    let at = match protocol {
        UDP if is_check(payload) => 24,
        UDP => 0,
        ICMP | ICMPV6 => 16,
        _ => return None,
    };
    payload.get(at..at + 16)?.try_into().ok().map(Token)
}

/// Returns whether a datagram is a STUN check with the user name first, in which a browser sends a token. No token begins
/// like one but by a chance of 2^-64.
fn is_check(datagram: &[u8]) -> bool {
    datagram.starts_with(&[0, 1])
        && datagram.get(4..8) == Some(&[0x21, 0x12, 0xa4, 0x42])
        && datagram.get(20..22) == Some(&[0, 6])
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

impl AsFd for Group {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_of_a_datagram_is_read() {
        let mut v4 = [7; 20 + 8 + 16];
        v4[0] = 0x45;
        v4[9] = 17;
        assert_eq!(token(&v4), Some(Token([7; 16])));
        assert_eq!(token(&v4[..43]), None, "too short");
        v4[0] = 0x46;
        assert_eq!(token(&v4), None, "options take room");
        v4[0] = 0x45;
        v4[9] = 6;
        assert_eq!(token(&v4), None, "TCP");
        // An echo request: 16 bytes of time, and the token.
        let mut echo = v4.to_vec();
        (echo[0], echo[9]) = (0x45, 1);
        assert_eq!(token(&echo), None, "too short");
        echo.extend([8; 16]);
        assert_eq!(token(&echo), Some(Token([8; 16])));
        let mut v6 = [9; 40 + 8 + 20];
        v6[0] = 0x60;
        v6[6] = 17;
        assert_eq!(token(&v6), Some(Token([9; 16])));
        let mut echo = [&v6[..], &[8; 12]].concat();
        echo[6] = 58;
        assert_eq!(token(&echo[..79]), None, "too short");
        assert_eq!(
            token(&echo),
            Some(Token(
                [[9; 16][..4].to_vec(), vec![8; 12]]
                    .concat()
                    .try_into()
                    .unwrap()
            ))
        );
        // A STUN check, as a browser sends it; and what only looks like one.
        let mut check = v4[..28].to_vec();
        check.extend([0, 1, 0, 28, 0x21, 0x12, 0xa4, 0x42]);
        check.extend([3; 12]);
        check.extend([0, 6, 0, 21]);
        check.extend([5; 16]);
        check[9] = 17;
        assert_eq!(token(&check), Some(Token([5; 16])));
        assert_eq!(token(&check[..67]), None, "too short");
        check[28 + 21] = 8;
        let head = check[28..44].try_into().unwrap();
        assert_eq!(token(&check), Some(Token(head)), "another attribute");
        // Options of 8 and of 16 bytes in front.
        let options = |kind: u8, eights: u8, next: u8| {
            let mut bytes = vec![1; 8 * (1 + usize::from(eights))];
            bytes[..2].copy_from_slice(&[next, eights]);
            (kind, bytes)
        };
        for (more, found) in [
            (vec![options(0, 0, 60), options(60, 1, 17)], true),
            (vec![options(43, 0, 17)], true),
            (vec![options(0, 0, 6)], false),
            (vec![options(44, 0, 17)], false),
            (vec![options(60, 200, 17)], true),
        ] {
            v6[6] = more[0].0;
            let mut packet = v6[..40].to_vec();
            packet.extend(more.iter().flat_map(|(_, bytes)| bytes));
            let whole = packet.len();
            packet.extend([0; 8]);
            packet.extend([5; 16]);
            let kinds: Vec<u8> = more.iter().map(|(kind, _)| *kind).collect();
            assert_eq!(token(&packet), found.then_some(Token([5; 16])), "{kinds:?}");
            for length in 0..whole + 24 {
                assert_eq!(token(&packet[..length]), None, "{kinds:?} {length}");
            }
        }
        for odd in [&[][..], &[0x45], &[0x4f; 20], &[0x60; 40]] {
            assert_eq!(token(odd), None);
        }
    }

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
