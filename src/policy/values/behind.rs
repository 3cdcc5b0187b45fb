//! Hosts behind this one

use std::net::IpAddr;

use ipnet::IpNet;

use super::{Reader, Value};
use crate::knock::unmapped;
use crate::policy::KnockAt;
use crate::policy::diagnostic::Diagnostic;

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

    pub fn knock_at(&mut self, value: &Value<'_>) -> Option<KnockAt> {
        match self.string(value, "knock_at = \"both\"")? {
            "this host" => Some(KnockAt::ThisHost),
            "both" => Some(KnockAt::Both),
            other => self.no_choice(value, other, &["this host", "both"]),
        }
    }
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
