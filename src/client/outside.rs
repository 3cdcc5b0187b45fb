//! The address that a client has outside, which a signed datagram is signed for.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU16;
use std::str::FromStr;

use super::profile::is_host;

/// The way to that address, as `from` of a profile says it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Outside {
    /// The address that the client sends from. Not behind NAT, it is the one outside too.
    #[default]
    Own,
    Named(IpAddr),
    /// A server that tells it, each time that something is signed.
    Asked(StunServer),
}

/// A STUN server (RFC 8489), as its URI names it (RFC 7064).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StunServer {
    /// A name or an address.
    pub host: String,
    pub port: NonZeroU16,
}

const SCHEME: &str = "stun:";

impl StunServer {
    /// The port that such servers have.
    const PORT: NonZeroU16 = NonZeroU16::new(3478).unwrap();

    /// `HOST`, `HOST:PORT` or `[ADDRESS]:PORT`.
    fn parse(text: &str) -> Option<StunServer> {
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (address, port) = rest.split_once(']')?;
                address.parse::<Ipv6Addr>().ok()?;
                (address, port)
            }
            None => text.split_at(text.find(':').unwrap_or(text.len())),
        };
        let port = match port.strip_prefix(':') {
            Some(port) => port.parse().ok()?,
            None => port.is_empty().then_some(StunServer::PORT)?,
        };
        let host = is_host(host).then(|| host.to_string())?;
        Some(StunServer { host, port })
    }
}

impl fmt::Display for StunServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "{SCHEME}[{}]", self.host)?,
            false => write!(f, "{SCHEME}{}", self.host)?,
        }
        match self.port {
            StunServer::PORT => Ok(()),
            port => write!(f, ":{port}"),
        }
    }
}

/// As a profile writes it; nothing for the own address.
impl fmt::Display for Outside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outside::Own => Ok(()),
            Outside::Named(address) => address.fmt(f),
            Outside::Asked(server) => server.fmt(f),
        }
    }
}

impl FromStr for Outside {
    type Err = String;

    fn from_str(text: &str) -> Result<Outside, String> {
        if let Some(server) = text.strip_prefix(SCHEME) {
            let server = StunServer::parse(server);
            return server.map(Outside::Asked).ok_or_else(|| {
                format!("`{text}` names no STUN server: write stun:HOST or stun:HOST:PORT")
            });
        }
        let address: IpAddr = text.parse().map_err(|_| {
            format!("`{text}` is neither an address nor a server that is asked for it (stun:HOST)")
        })?;
        match is_of_a_sender(address) {
            true => Ok(Outside::Named(address)),
            false => Err(format!("{address}: no packet comes from there")),
        }
    }
}

/// Returns whether a packet from elsewhere can have an address as its source.
pub(super) fn is_of_a_sender(address: IpAddr) -> bool {
    let address = address.to_canonical();
    let is_odd = match address {
        IpAddr::V4(v4) => v4.is_broadcast() || v4.octets()[0] == 0,
        IpAddr::V6(_) => false,
    };
    !(is_odd || address.is_unspecified() || address.is_loopback() || address.is_multicast())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A packet from elsewhere comes from none of these.
    #[test]
    fn an_address_that_no_packet_comes_from_is_refused() {
        for odd in [
            "0.0.0.0",
            "0.1.2.3",
            "::",
            "127.0.0.1",
            "127.9.9.9",
            "::1",
            "224.0.0.1",
            "ff02::1",
            "255.255.255.255",
            "::ffff:127.0.0.1",
            "::ffff:224.0.0.1",
        ] {
            let why = odd.parse::<Outside>().unwrap_err();
            assert!(why.contains("no packet comes from there"), "{odd}: {why}");
        }
        for fine in [
            "192.0.2.7",
            "10.0.0.7",
            "2001:db8::7",
            "::ffff:192.0.2.7",
            "fd00::7",
        ] {
            let named = fine.parse::<Outside>().unwrap();
            assert_eq!(named, Outside::Named(fine.parse().unwrap()));
            assert_eq!(named.to_string(), fine);
        }
    }

    #[test]
    fn a_server_is_named_as_its_uri_names_it() {
        for (text, host, port) in [
            ("stun:stun.example", "stun.example", 3478),
            ("stun:192.0.2.1:53", "192.0.2.1", 53),
            ("stun:[2001:db8::1]", "2001:db8::1", 3478),
            ("stun:[2001:db8::1]:99", "2001:db8::1", 99),
        ] {
            let Ok(Outside::Asked(server)) = text.parse() else {
                panic!("{text}");
            };
            assert_eq!((server.host.as_str(), server.port.get()), (host, port));
            assert_eq!(Outside::Asked(server).to_string(), text);
        }
        for odd in [
            "stun:",
            "stun:a:0",
            "stun:a:70000",
            "stun:a:",
            "stun:[a]",
            "stun:[::1",
            "stun:[::1]5",
            "stun:2001:db8::1",
            "stun:a;rm -rf",
            "stun:-o",
            "stun://a",
            "stuns:a",
            "https://a",
            "",
        ] {
            assert!(odd.parse::<Outside>().is_err(), "{odd}");
        }
    }
}
