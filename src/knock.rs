//! The smallest words of the system: what a knock is, and where one comes from.
//!
//! Values here are valid by construction: a [`Knock`] never has port 0.

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::str::FromStr;

use ipnet::IpNet;

pub use crate::protocol::Protocol;
use crate::services::Service;

/// A port of one protocol: what a packet is addressed to, what a sequence is made of, what a door
/// guards. Written `443` or `443/tcp` for TCP, `53/udp` for UDP; port 1 to 65535. The name of a
/// [`Service`] may stand for the number.
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

    /// A knock as people type it: also as knockd and its client write it, `7031:TCP`.
    ///
    /// # Errors
    /// As for the policy's own spelling.
    pub fn spelled(text: &str) -> Result<Knock, KnockError> {
        text.trim()
            .replacen(':', "/", 1)
            .to_ascii_lowercase()
            .parse()
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
    /// The protocol stands before the `/`, and the number behind it.
    Turned(String),
    /// The part before `/` is not a whole number.
    Number(String),
    /// A whole number that no port has.
    Range(String),
    /// A range that ends before it begins.
    Backwards(String),
    /// A name that no known service has.
    Name(String),
    /// A service that is not used with this protocol.
    NotOver(Service, Protocol),
}

impl fmt::Display for KnockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KnockError::Protocol(text) if is_protocol(&text.to_ascii_lowercase()) => {
                let lower = text.to_ascii_lowercase();
                write!(f, "`{text}` is written in small letters: {lower}")
            }
            KnockError::Turned(text) => {
                let (protocol, number) = text.split_once('/').unwrap_or(("tcp", text));
                write!(
                    f,
                    "`{text}` is the wrong way round: write {number}/{protocol}"
                )
            }
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
            KnockError::Name(text) => write!(
                f,
                "`{text}` is neither a port nor the name of a service: write 443, 443/tcp, 53/udp or ssh"
            ),
            KnockError::NotOver(service, protocol) => {
                let (port, over) = match protocol {
                    Protocol::Tcp => (service.port, Protocol::Udp),
                    Protocol::Udp => (service.port, Protocol::Tcp),
                };
                write!(
                    f,
                    "`{}` is a service over {over}: write `{}`, or {port}/{protocol} if you mean that port",
                    service.name,
                    service.words()
                )
            }
            KnockError::Backwards(text) => {
                write!(
                    f,
                    "the range `{text}` ends before it begins: write the lower port first"
                )
            }
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
            Some((protocol, number)) if is_protocol(protocol) && number.starts_with(is_digit) => {
                return Err(KnockError::Turned(text.to_string()));
            }
            Some((_, other)) => return Err(KnockError::Protocol(other.to_string())),
        };
        if number.starts_with(|c: char| c.is_ascii_alphabetic()) {
            let service = Service::named(number).ok_or(KnockError::Name(number.to_string()))?;
            if !service.is_over(protocol) {
                return Err(KnockError::NotOver(service, protocol));
            }
            return Knock::new(protocol, service.port).ok_or(KnockError::Range(number.to_string()));
        }
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

fn is_protocol(text: &str) -> bool {
    matches!(text, "tcp" | "udp")
}

fn is_digit(c: char) -> bool {
    c.is_ascii_digit()
}

/// Ports of one protocol, from the first to the last: what a door guards. One port is the shortest. Written like a
/// [`Knock`], or `8000-8010`, `60000-61000/udp`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortRange {
    protocol: Protocol,
    first: NonZeroU16,
    /// Never before the first.
    last: NonZeroU16,
}

impl PortRange {
    /// `None` when a port is 0, or the last comes before the first.
    pub fn new(protocol: Protocol, first: u16, last: u16) -> Option<PortRange> {
        let (first, last) = (NonZeroU16::new(first)?, NonZeroU16::new(last)?);
        (first <= last).then_some(PortRange {
            protocol,
            first,
            last,
        })
    }

    pub fn protocol(self) -> Protocol {
        self.protocol
    }

    /// The first port.
    pub fn first(self) -> Knock {
        Knock {
            protocol: self.protocol,
            port: self.first,
        }
    }

    /// The last port.
    pub fn last(self) -> Knock {
        Knock {
            protocol: self.protocol,
            port: self.last,
        }
    }

    /// Returns whether it is more than one port.
    pub fn is_several(self) -> bool {
        self.first != self.last
    }

    /// The port, when it is only one.
    pub fn only(self) -> Option<Knock> {
        (!self.is_several()).then(|| self.first())
    }

    pub fn contains(self, port: Knock) -> bool {
        self.protocol == port.protocol && (self.first..=self.last).contains(&port.port)
    }

    /// Returns whether a port is in both.
    pub fn overlaps(self, other: PortRange) -> bool {
        self.shared(other).is_some()
    }

    /// The ports that are in both.
    pub fn shared(self, other: PortRange) -> Option<PortRange> {
        let (first, last) = (self.first.max(other.first), self.last.min(other.last));
        let both = self.protocol == other.protocol && first <= last;
        both.then_some(PortRange {
            first,
            last,
            ..self
        })
    }

    /// The ports that the other does not have: none, one range or two.
    pub fn without(self, other: PortRange) -> Vec<PortRange> {
        let Some(both) = self.shared(other) else {
            return vec![self];
        };
        let (first, last) = (self.first.get(), self.last.get());
        let before = PortRange::new(self.protocol, first, both.first.get() - 1);
        let after = both.last.checked_add(1);
        let after = after.and_then(|from| PortRange::new(self.protocol, from.get(), last));
        before.into_iter().chain(after).collect()
    }

    /// All its ports, in their order: as many as 65,535.
    pub fn ports(self) -> impl DoubleEndedIterator<Item = Knock> + Clone {
        let knock = move |port| Knock::new(self.protocol, port);
        (self.first.get()..=self.last.get()).filter_map(knock)
    }

    /// The numbers alone, with this between them: `22`, `8000-8010`.
    pub fn numbers(self, between: char) -> String {
        match self.is_several() {
            true => format!("{}{between}{}", self.first, self.last),
            false => self.first.to_string(),
        }
    }
}

impl From<Knock> for PortRange {
    fn from(port: Knock) -> PortRange {
        PortRange {
            protocol: port.protocol,
            first: port.port,
            last: port.port,
        }
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{}/{}", self.numbers('-'), self.protocol);
        f.pad(&text)
    }
}

impl FromStr for PortRange {
    type Err = KnockError;

    fn from_str(text: &str) -> Result<PortRange, KnockError> {
        let (numbers, protocol) = match text.split_once('/') {
            None => (text, ""),
            Some((numbers, _)) => (numbers, &text[numbers.len()..]),
        };
        let digit = |text: &str| text.starts_with(|c: char| c.is_ascii_digit());
        let Some((first, last)) = numbers.split_once('-').filter(|(first, _)| digit(first)) else {
            return text.parse().map(Knock::into);
        };
        // Names have no place in a range: some have a `-` themselves.
        if !digit(last) {
            return Err(KnockError::Number(text.to_string()));
        }
        let end = |number: &str| match format!("{number}{protocol}").parse::<Knock>() {
            Err(KnockError::Number(_)) => Err(KnockError::Number(text.to_string())),
            read => read,
        };
        let (first, last) = (end(first)?, end(last)?);
        let range = PortRange::new(first.protocol, first.port.get(), last.port.get());
        range.ok_or_else(|| KnockError::Backwards(numbers.to_string()))
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
    fn knocks_are_read_as_knockd_writes_them() {
        for (text, shown) in [
            ("7031:TCP", "7031/tcp"),
            ("8012:Udp", "8012/udp"),
            ("911", "911/tcp"),
            (" 53/UDP ", "53/udp"),
        ] {
            assert_eq!(Knock::spelled(text).unwrap().to_string(), shown);
        }
        for text in ["7031:", "7031:icmp", "7031::tcp", ":tcp", "7031:tcp:udp"] {
            assert!(Knock::spelled(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_knock_says_why() {
        let error = |text: &str| text.parse::<Knock>().unwrap_err();
        assert_eq!(error("53/icmp"), KnockError::Protocol("icmp".into()));
        for text in ["", "/udp", "-1", "+1", "1.0", " 1", "١"] {
            assert_eq!(error(text), KnockError::Number(text.into()), "{text}");
        }
        for text in ["0", "65536", "99999999999999999999"] {
            assert_eq!(error(text), KnockError::Range(text.into()), "{text}");
        }
    }

    #[test]
    fn ranges_are_read_as_they_are_written() {
        for (text, shown) in [
            ("443", "443/tcp"),
            ("53/udp", "53/udp"),
            ("8000-8010", "8000-8010/tcp"),
            ("8000-8010/tcp", "8000-8010/tcp"),
            ("60000-61000/udp", "60000-61000/udp"),
            ("22-22", "22/tcp"),
            ("1-65535", "1-65535/tcp"),
        ] {
            let range: PortRange = text.parse().unwrap();
            assert_eq!(range.to_string(), shown);
            assert_eq!(shown.parse(), Ok(range));
        }
        let error = |text: &str| text.parse::<PortRange>().unwrap_err();
        assert_eq!(
            error("8010-8000"),
            KnockError::Backwards("8010-8000".into())
        );
        assert_eq!(error("0-10"), KnockError::Range("0".into()));
        assert_eq!(error("10-65536/udp"), KnockError::Range("65536".into()));
        assert_eq!(error("10-20/icmp"), KnockError::Protocol("icmp".into()));
        for text in ["10-", "-10", "10--20", "10-20-30", "10 - 20", "10-x"] {
            assert!(matches!(error(text), KnockError::Number(_)), "{text}");
        }
    }

    #[test]
    fn a_range_has_its_ports_and_no_others() {
        let range = |text: &str| text.parse::<PortRange>().unwrap();
        let port = |text: &str| text.parse::<Knock>().unwrap();
        for (text, inside) in [
            ("7999", false),
            ("8000", true),
            ("8005", true),
            ("8010", true),
            ("8011", false),
            ("8005/udp", false),
        ] {
            assert_eq!(range("8000-8010").contains(port(text)), inside, "{text}");
            assert_eq!(range("8000-8010").overlaps(range(text)), inside, "{text}");
        }
        for (other, overlaps) in [
            ("7000-7999", false),
            ("7000-8000", true),
            ("8010-9000", true),
            ("8011-9000", false),
            ("1-65535", true),
            ("8002-8003", true),
        ] {
            assert_eq!(
                range("8000-8010").overlaps(range(other)),
                overlaps,
                "{other}"
            );
            assert_eq!(
                range(other).overlaps(range("8000-8010")),
                overlaps,
                "{other}"
            );
        }
        assert_eq!(range("65534-65535").ports().count(), 2);
        assert_eq!(range("22").only(), Some(port("22")));
        assert_eq!(range("22-23").only(), None);
    }
}
