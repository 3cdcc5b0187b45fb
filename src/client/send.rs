//! Sending knocks and tokens, without privileges.
//!
//! A TCP knock is a connection that is given up at once: exactly one SYN, which is not repeated, and
//! no reset unless the other side answers. A UDP knock is an empty datagram.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::num::NonZeroU16;

use super::dial::Dial;
use crate::knock::{Knock, Protocol};
use crate::single_use::Token;

/// The most random bytes after a token: so that its length says nothing.
const PADDING: usize = 64;

/// Sends one knock. The port of `host` is not used.
///
/// # Errors
/// When the packet could not be sent (no route, forbidden by a local firewall). That nobody answers
/// is no error.
pub fn send_knock(host: SocketAddr, knock: Knock) -> io::Result<()> {
    let address = at(host, knock.port);
    match knock.protocol {
        Protocol::Tcp => Dial::start(address).map(drop),
        Protocol::Udp => datagram(address, &[]),
    }
}

/// Sends one token to a UDP port. The port of `host` is not used.
///
/// # Errors
/// When the datagram could not be sent, or there are no random numbers.
pub fn send_token(host: SocketAddr, port: NonZeroU16, token: &Token) -> io::Result<()> {
    let mut bytes = [0; 16 + PADDING];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    let length = 16 + usize::from(bytes[0]) % (PADDING + 1);
    bytes[..16].copy_from_slice(&token.0);
    datagram(at(host, port), &bytes[..length])
}

/// The host with another port.
pub(super) fn at(host: SocketAddr, port: NonZeroU16) -> SocketAddr {
    let mut address = host;
    address.set_port(port.get());
    address
}

fn datagram(address: SocketAddr, bytes: &[u8]) -> io::Result<()> {
    let socket = udp_towards(address)?;
    match socket.send_to(bytes, address) {
        Ok(_) => Ok(()),
        // An answer to the datagram before: that one has arrived, and so will this.
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        Err(error) => Err(error),
    }
}

/// A socket of the family of an address.
pub(super) fn udp_towards(address: SocketAddr) -> io::Result<UdpSocket> {
    let any: SocketAddr = match address {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    UdpSocket::bind(any)
}

/// Returns whether an address is one of this machine: packets to it never leave it. The port of `host` is not used.
pub fn is_this_machine(host: SocketAddr) -> bool {
    let to = host.ip().to_canonical();
    if to.is_loopback() || to.is_unspecified() {
        return true;
    }
    // Packets to an own address come from it. Nothing is sent here.
    let any_port = NonZeroU16::MIN;
    let from = udp_towards(host).and_then(|socket| {
        socket.connect(at(host, any_port))?;
        socket.local_addr()
    });
    from.is_ok_and(|from| from.ip().to_canonical() == to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_is_the_token_and_up_to_64_random_bytes() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = server.local_addr().unwrap();
        let port = NonZeroU16::new(address.port()).unwrap();
        let mut lengths = Vec::new();
        for number in 0..3000_u32 {
            let sent = Token([number as u8; 16]);
            send_token(address, port, &sent).unwrap();
            let mut datagram = [0; 200];
            let length = server.recv(&mut datagram).unwrap();
            assert_eq!(datagram[..16], sent.0);
            lengths.push(length);
        }
        lengths.sort_unstable();
        lengths.dedup();
        // So many datagrams have each of them.
        assert_eq!(lengths, (16..=80).collect::<Vec<_>>());
    }
}
