//! Hosts behind this one

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;

use ipnet::IpNet;
use toml::de::DeValue;

use super::{Reader, Value};
use crate::knock::unmapped;
use crate::policy::diagnostic::Diagnostic;
use crate::policy::{KnockAt, Target};

impl Reader {
    /// The addresses that a door stands in front of.
    pub fn hosts_behind(&mut self, value: &Value<'_>) -> Option<Vec<IpNet>> {
        let example = "to = [\"192.0.2.50\", \"2001:db8::50\"]";
        let array = self.array(value, example)?;
        let mut hosts = Vec::new();
        for element in array {
            let text = self.string(element, example)?;
            let network = text
                .parse::<IpNet>()
                .ok()
                .or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
                .map(unmapped);
            match network {
                Some(network) if network == network.trunc() && is_routed(network) => {
                    hosts.push(network);
                }
                Some(network) if network != network.trunc() => self.error(
                    Diagnostic::new(
                        element.span(),
                        format!("`{text}` names a host inside a network"),
                    )
                    .label("host bits are set")
                    .help(format!(
                        "write `\"{}\"` for the host or `\"{}\"` for the network",
                        network.addr(),
                        network.trunc()
                    )),
                ),
                Some(_) => self.error(
                    Diagnostic::new(
                        element.span(),
                        format!("no host forwards packets to {text}"),
                    )
                    .label("never routed")
                    .help(format!(
                        "write the address that packets are routed to: `{example}`"
                    )),
                ),
                None => self.error(
                    Diagnostic::new(
                        element.span(),
                        format!("`{text}` is neither an address nor a network"),
                    )
                    .label("not an address")
                    .help(format!("write for example `{example}`")),
                ),
            }
        }
        Some(hosts)
    }

    /// The places to which connections are passed on: one, or one of each family.
    pub fn targets(&mut self, value: &Value<'_>) -> Option<Vec<Target>> {
        let example = "forward = \"192.168.1.5:22\"";
        let elements: Vec<&Value<'_>> = match value.get_ref() {
            DeValue::Array(list) => list.iter().collect(),
            _ => vec![value],
        };
        let mut targets: Vec<Target> = Vec::new();
        for element in elements {
            let text = self.string(element, example)?;
            let Some(target) = target(text) else {
                self.error(
                    Diagnostic::new(element.span(), format!("nothing is passed on to `{text}`"))
                        .label("not an address with a port")
                        .help("write `\"192.168.1.5:22\"`, `\"[fd00::5]:22\"`, or the address alone to keep the port"),
                );
                continue;
            };
            if targets
                .iter()
                .any(|other| other.host.is_ipv4() == target.host.is_ipv4())
            {
                self.error(
                    Diagnostic::new(element.span(), "a connection is passed on to one place")
                        .label("another one of this family")
                        .help("write one address of IPv4 at most, and one of IPv6"),
                );
            }
            targets.push(target);
        }
        (!targets.is_empty()).then_some(targets)
    }

    pub fn knock_at(&mut self, value: &Value<'_>) -> Option<KnockAt> {
        match self.string(value, "knock_at = \"both\"")? {
            "this host" => Some(KnockAt::ThisHost),
            "both" => Some(KnockAt::Both),
            other => self.no_choice(value, other, &["this host", "both"]),
        }
    }
}

/// Reads "192.168.1.5:22", "[fd00::5]:22" or an address.
fn target(text: &str) -> Option<Target> {
    let alone = |text: &str| Some((text.parse::<IpAddr>().ok()?, None));
    let whole = |text: &str| {
        let address = text.parse::<SocketAddr>().ok()?;
        Some((address.ip(), Some(NonZeroU16::new(address.port())?)))
    };
    let (host, port) = alone(text).or_else(|| whole(text))?;
    is_routed(IpNet::from(host)).then_some(Target { host, port })
}

/// Returns whether packets to a network can be routed at all.
fn is_routed(network: IpNet) -> bool {
    let address = network.addr();
    let is_of_a_link = match address {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.segments()[0] & 0xffc0 == 0xfe80,
    };
    !(address.is_loopback()
        || address.is_unspecified() && network.prefix_len() > 0
        || address.is_multicast()
        || is_of_a_link)
}
