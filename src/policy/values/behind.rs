//! Hosts behind this one

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU16;

use ipnet::IpNet;
use toml::de::DeValue;

use super::{Reader, Value};
use crate::knock::unmapped;
use crate::policy::diagnostic::Diagnostic;
use crate::policy::file::Spanned;
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

    /// The places to which connections are passed on: one, or one of each family. Adds to `unclear` what may be meant otherwise.
    pub fn targets(
        &mut self,
        value: &Value<'_>,
        unclear: &mut Vec<Spanned<String>>,
    ) -> Option<Vec<Target>> {
        let example = "forward = \"192.168.1.5:22\"";
        if value
            .get_ref()
            .as_array()
            .is_some_and(|list| list.is_empty())
        {
            self.error(
                Diagnostic::new(
                    value.span(),
                    "a door that passes connections on to no place",
                )
                .label("empty")
                .help(format!(
                    "write for example `{example}`, or leave it out for a door of this host"
                )),
            );
        }
        let elements: Vec<&Value<'_>> = match value.get_ref() {
            DeValue::Array(list) => list.iter().collect(),
            _ => vec![value],
        };
        let mut targets: Vec<Target> = Vec::new();
        for element in elements {
            let text = self.string(element, example)?;
            let Some(target) = target_of(text) else {
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
            if port_at_the_end(text).is_some() {
                unclear.push(Spanned {
                    value: text.to_string(),
                    at: element.span(),
                });
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

/// Reads "192.168.1.5:22", "[fd00::5]:22" or an address, which may stand in brackets where it is one of IPv6.
pub fn target_of(text: &str) -> Option<Target> {
    let alone = || Some((text.parse::<IpAddr>().ok()?, None));
    let in_brackets = || {
        let inside = text.strip_prefix('[')?.strip_suffix(']')?;
        Some((inside.parse::<Ipv6Addr>().ok()?.into(), None))
    };
    let whole = || {
        let address = text.parse::<SocketAddr>().ok()?;
        // The number of an interface of this host.
        let has_zone = matches!(address, SocketAddr::V6(v6) if v6.scope_id() != 0);
        let port = NonZeroU16::new(address.port()).filter(|_| !has_zone)?;
        Some((address.ip(), Some(port)))
    };
    let (host, port) = alone().or_else(in_brackets).or_else(whole)?;
    // Packets to such an address go to the IPv4 address in it.
    let host = host.to_canonical();
    is_routed(IpNet::from(host)).then_some(Target { host, port })
}

/// An address of IPv6 without brackets whose last group may be meant as a port: the address before it, and the port.
pub fn port_at_the_end(text: &str) -> Option<(Ipv6Addr, NonZeroU16)> {
    text.parse::<Ipv6Addr>().ok()?;
    let (host, port) = text.rsplit_once(':')?;
    let is_decimal = port.bytes().all(|byte| byte.is_ascii_digit());
    let port = port.parse().ok().filter(|_| is_decimal)?;
    Some((host.parse().ok()?, port))
}

/// Returns whether packets to a network can be routed at all.
pub fn is_routed(network: IpNet) -> bool {
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

#[cfg(test)]
mod tests {
    use crate::policy::{Policy, read};

    fn with(settings: &str) -> Result<Policy, String> {
        let text = format!("[door.a]\nports = [2222]\n{settings}\n");
        read("p", &text).map_err(|report| report.to_string())
    }

    #[test]
    fn an_ipv4_address_in_one_of_ipv6_is_what_it_means() {
        let forward = |text: &str| {
            let policy = with(&format!("forward = \"{text}\""));
            policy.map(|policy| policy.doors[0].forward.as_ref().unwrap().to[0].to_string())
        };
        for (written, meant) in [
            ("[::ffff:192.0.2.1]:22", "192.0.2.1:22"),
            ("[::ffff:c000:201]:22", "192.0.2.1:22"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("[fd51::50]:22", "[fd51::50]:22"),
            ("fd51::50", "fd51::50"),
            ("[fd51::50]", "fd51::50"),
            ("fd51::50:22", "[fd51::50:22]"),
            ("[fd51::50:22]", "[fd51::50:22]"),
        ] {
            assert_eq!(forward(written).as_deref(), Ok(meant));
        }
        for wrong in [
            "[192.0.2.1]",
            "[::ffff:127.0.0.1]:22",
            "[fd00::5%2]:22",
            "[::ffff:0.0.0.0]:22",
        ] {
            assert!(forward(wrong).is_err(), "{wrong}");
        }
        let to = |text: &str| with(&format!("to = [\"{text}\"]"));
        for (written, meant) in [
            ("::ffff:192.0.2.50", "192.0.2.50"),
            ("::ffff:192.0.2.48/124", "192.0.2.48/28"),
        ] {
            let policy = to(written).unwrap();
            assert_eq!(policy.doors[0].behind().unwrap().shown(), [meant]);
        }
        assert!(to("::ffff:127.0.0.1").is_err());
    }

    #[test]
    fn an_empty_forward_is_refused_as_an_empty_to_is() {
        for settings in ["forward = []", "to = []"] {
            assert!(with(settings).is_err(), "{settings}");
        }
        assert!(with("forward = [\"192.0.2.1\"]").is_ok());
    }

    #[test]
    fn a_last_group_that_may_be_a_port_is_seen() {
        for (text, port) in [
            ("fd51::50:22", Some(22)),
            ("fd51:1:2:3::50:22", Some(22)),
            ("fd51::22", None),
            ("fd51::50:a2", None),
            ("fd51::50:0", None),
            ("fd51:1:2:3:4:5:6:22", None),
            ("[fd51::50]:22", None),
            ("192.0.2.1", None),
        ] {
            let found = super::port_at_the_end(text);
            assert_eq!(found.map(|(_, port)| port.get()), port, "{text}");
        }
    }
}
