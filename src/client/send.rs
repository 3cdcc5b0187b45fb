//! Sending knocks and tokens, without privileges.
//!
//! A TCP knock is a connection that is given up at once: exactly one SYN, which is not repeated, and
//! no reset unless the other side answers. A UDP knock is an empty datagram.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::num::NonZeroU16;
use std::time::{SystemTime, UNIX_EPOCH};

use super::dial::Dial;
use super::outside::Outside;
use super::profile::Signed;
use super::stun;
use crate::knock::{Knock, Protocol};
use crate::lookup::lookup;
use crate::signed::{Binding, Bound, LONGEST, LONGEST_PADDING, SHORTEST, Signer, Time};
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

/// Sends one signed datagram. The port of `host` is not used.
///
/// # Errors
/// When it could not be sent, a server does not say for which address, there are no random numbers, or the clock is before
/// 1970.
pub fn send_signed(host: SocketAddr, signed: &Signed) -> io::Result<()> {
    let address = at(host, signed.port);
    let socket = udp_towards(address)?;
    socket.connect(address)?;
    let source = source_of(signed, socket.local_addr()?.ip())?;
    let mut bytes = [0; LONGEST];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    let length = SHORTEST + usize::from(bytes[0]) % (LONGEST_PADDING + 1);
    bytes[..SHORTEST].copy_from_slice(&datagram_of(signed, source, time()?));
    match socket.send(&bytes[..length]) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        Err(error) => Err(error),
    }
}

/// The bytes of a signed datagram to a host, as text for other tools; good for two minutes.
///
/// # Errors
/// A sentence: there is no such host, no way to it, or the clock is before 1970.
pub fn signed_now(host: &str, signed: &Signed) -> Result<[u8; SHORTEST], String> {
    let source = || -> io::Result<IpAddr> {
        let own = match (&signed.from, signed.binding) {
            (Outside::Named(address), _) => return Ok(*address),
            (_, Binding::Nothing) => return Ok(Ipv6Addr::UNSPECIFIED.into()),
            _ => {
                let address = lookup(host)?.into_iter().next();
                own_towards(address.ok_or(io::ErrorKind::NotFound)?, signed)?
            }
        };
        source_of(signed, own)
    };
    let source = source().map_err(|error| {
        format!("which address this host has towards {host} is not known: {error}")
    })?;
    let now = time().map_err(|error| error.to_string())?;
    Ok(datagram_of(signed, source, now))
}

/// The address that a datagram to a host is signed for. `None` where it is signed for none, or there is no way to the host.
pub fn signed_for(host: SocketAddr, signed: &Signed) -> Option<IpAddr> {
    if signed.binding == Binding::Nothing {
        return None;
    }
    let own = own_towards(host, signed).ok()?;
    source_of(signed, own).ok()
}

/// The address that a datagram to a host leaves from.
fn own_towards(host: SocketAddr, signed: &Signed) -> io::Result<IpAddr> {
    let socket = udp_towards(host)?;
    socket.connect(at(host, signed.port))?;
    Ok(socket.local_addr()?.ip())
}

/// The address to sign: what the profile says, if it is of the family. A server is asked now.
fn source_of(signed: &Signed, own: IpAddr) -> io::Result<IpAddr> {
    let own = own.to_canonical();
    let outside = match (&signed.from, signed.binding) {
        (Outside::Own, _) | (_, Binding::Nothing) => None,
        (Outside::Named(address), _) => Some(address.to_canonical()),
        (Outside::Asked(server), _) => stun::ask(server, own.is_ipv4())?,
    };
    let outside = outside.filter(|outside| outside.is_ipv4() == own.is_ipv4());
    Ok(outside.unwrap_or(own))
}

fn datagram_of(signed: &Signed, source: IpAddr, now: Time) -> [u8; SHORTEST] {
    let bound = match signed.binding {
        Binding::Address => Bound::Address,
        Binding::Network => Bound::Network,
        Binding::Nothing => Bound::Nothing,
    };
    Signer::of(&signed.secret).sign(source, bound, now)
}

fn time() -> io::Result<Time> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_err(|_| io::Error::other("the clock is before 1970"))?;
    Ok(Time(u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)))
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
