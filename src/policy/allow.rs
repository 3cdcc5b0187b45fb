//! The traffic that `[firewall]` lets in besides the doors.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::knock::{Knock, PortRange, display_source};

/// A protocol that has no ports, by the number that IP headers carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Portless {
    pub name: &'static str,
    pub number: u8,
}

const fn portless(name: &'static str, number: u8) -> Portless {
    Portless { name, number }
}

impl Portless {
    /// All that a policy can name, after IANA's registry.
    pub const ALL: [Portless; 10] = [
        portless("icmp", 1),
        portless("igmp", 2),
        portless("ipip", 4),
        portless("ipv6", 41),
        portless("gre", 47),
        portless("esp", 50),
        portless("ah", 51),
        portless("icmpv6", 58),
        portless("ospf", 89),
        portless("vrrp", 112),
    ];

    pub fn named(name: &str) -> Option<Portless> {
        Portless::ALL.into_iter().find(|known| known.name == name)
    }

    /// The names, for a sentence.
    pub fn names() -> String {
        Portless::ALL.map(|known| known.name).join(", ")
    }
}

impl fmt::Display for Portless {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// An element of `allow` that is not for everyone: `{ ports = [5432], from = ["10.0.0.0/8"] }`.
#[derive(Debug, Clone, PartialEq)]
pub struct Allowance {
    pub ports: Vec<PortRange>,
    pub protocols: Vec<Portless>,
    /// The sources; all when it is empty.
    pub from: Vec<IpNet>,
    /// Where packets arrive; everywhere when it is empty.
    pub interfaces: Vec<String>,
}

impl Allowance {
    /// Returns whether it is for packets from a source to a port, by whichever interface.
    pub fn admits(&self, from: IpAddr, port: Knock) -> bool {
        let is_from = self.from.is_empty() || self.from.iter().any(|net| net.contains(&from));
        is_from && self.ports.iter().any(|ports| ports.contains(port))
    }
}

/// "5432/tcp vrrp from 10.0.0.0/8 by eth1"
impl fmt::Display for Allowance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ports = self.ports.iter().map(PortRange::to_string);
        let protocols = self.protocols.iter().map(Portless::to_string);
        let what: Vec<String> = ports.chain(protocols).collect();
        f.write_str(&what.join(" "))?;
        if !self.from.is_empty() {
            let from: Vec<String> = self.from.iter().map(display_source).collect();
            write!(f, " from {}", from.join(" "))?;
        }
        if !self.interfaces.is_empty() {
            write!(f, " by {}", self.interfaces.join(" "))?;
        }
        Ok(())
    }
}
