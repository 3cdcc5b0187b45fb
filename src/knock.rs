//! The smallest words of the system: what a knock is, and where one comes from.
//!
//! Values here are valid by construction: a [`Knock`] never has port 0.

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::str::FromStr;

use ipnet::IpNet;

/// The two protocols a knock or a door can use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    Tcp,
    Udp,
}

impl Protocol {
    /// The name used by the policy file and by nft.
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A port of one protocol: what a packet is addressed to, what a sequence is made of, what a door
/// guards. Written `443` or `443/tcp` for TCP, `53/udp` for UDP; port 1 to 65535.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Knock {
    pub protocol: Protocol,
    pub port: NonZeroU16,
}

impl Knock {
    /// `None` when `port` is 0.
    pub fn new(protocol: Protocol, port: u16) -> Option<Knock> {
        NonZeroU16::new(port).map(|port| Knock { protocol, port })
    }
}

impl fmt::Display for Knock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{}/{}", self.port, self.protocol);
        f.pad(&text)
    }
}

/// Why a text is not a [`Knock`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KnockError {
    /// The part after `/` is neither `tcp` nor `udp`.
    Protocol(String),
    /// The part before `/` is not a whole number.
    Number(String),
    /// A whole number that no port has.
    Range(String),
}

impl fmt::Display for KnockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KnockError::Protocol(text) => {
                write!(
                    f,
                    "`{text}` is not a protocol that can knock: tcp or udp can"
                )
            }
            KnockError::Number(text) => {
                write!(f, "`{text}` is not a port: write 443, 443/tcp or 53/udp")
            }
            KnockError::Range(text) => write!(f, "no port is {text}: ports go from 1 to 65535"),
        }
    }
}

impl std::error::Error for KnockError {}

impl FromStr for Knock {
    type Err = KnockError;

    fn from_str(text: &str) -> Result<Knock, KnockError> {
        let (number, protocol) = match text.split_once('/') {
            None => (text, Protocol::Tcp),
            Some((number, "tcp")) => (number, Protocol::Tcp),
            Some((number, "udp")) => (number, Protocol::Udp),
            Some((_, other)) => return Err(KnockError::Protocol(other.to_string())),
        };
        if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
            return Err(KnockError::Number(text.to_string()));
        }
        number
            .parse()
            .ok()
            .and_then(|port| Knock::new(protocol, port))
            .ok_or_else(|| KnockError::Range(number.to_string()))
    }
}

/// A door by its place in the policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DoorIndex(pub usize);

/// A key by its place in the policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyIndex(pub usize);

/// One of the sequences of a key: a scratch key has several, a token key none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SequenceIndex {
    pub key: KeyIndex,
    /// Its place among the sequences of the key.
    pub number: usize,
}

/// The part of an address that a grant covers: the prefix lengths of the policy's `[grant]` section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GrantPrefix {
    /// 8 to 32.
    pub v4: u8,
    /// 32 to 128.
    pub v6: u8,
}

impl GrantPrefix {
    /// One address, one grant: the default.
    pub const SINGLE: GrantPrefix = GrantPrefix { v4: 32, v6: 128 };

    /// The network a grant for `source` covers, host bits cleared.
    pub fn around(self, source: IpAddr) -> IpNet {
        let length = if source.is_ipv4() { self.v4 } else { self.v6 };
        match IpNet::new(source, length) {
            Ok(network) => network.trunc(),
            // Only a length beyond the family's can fail, and `check` refuses those.
            Err(_) => IpNet::from(source),
        }
    }
}

/// An IPv4-mapped IPv6 network (`::ffff:192.0.2.7`) as the IPv4 network that it means: packets come
/// from that one. Others stay.
pub fn unmapped(network: IpNet) -> IpNet {
    let IpNet::V6(mapped) = network else {
        return network;
    };
    let address = mapped.addr().to_ipv4_mapped();
    let inside = address.zip(mapped.prefix_len().checked_sub(96));
    let inside = inside.and_then(|(address, length)| IpNet::new(address.into(), length).ok());
    inside.unwrap_or(network)
}

/// A network as people write it: without the length when it is one address.
pub fn display_source(network: &IpNet) -> String {
    if network.prefix_len() == network.max_prefix_len() {
        network.addr().to_string()
    } else {
        network.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knocks_are_read_as_they_are_written() {
        for (text, shown) in [
            ("443", "443/tcp"),
            ("443/tcp", "443/tcp"),
            ("53/udp", "53/udp"),
            ("65535", "65535/tcp"),
        ] {
            assert_eq!(text.parse::<Knock>().unwrap().to_string(), shown);
        }
    }

    #[test]
    fn what_is_not_a_knock_says_why() {
        let error = |text: &str| text.parse::<Knock>().unwrap_err();
        assert_eq!(error("53/icmp"), KnockError::Protocol("icmp".into()));
        for text in ["", "/udp", "ssh", "-1", "+1", "1.0", " 1", "١"] {
            assert_eq!(error(text), KnockError::Number(text.into()), "{text}");
        }
        for text in ["0", "65536", "99999999999999999999"] {
            assert_eq!(error(text), KnockError::Range(text.into()), "{text}");
        }
    }
}
