//! Ports, ranges of ports and sequences

use std::num::NonZeroU16;

use toml::de::DeValue;

use super::{Reader, Value, nearest};
use crate::knock::{Knock, KnockError, PortRange, Protocol};
use crate::policy::Portless;
use crate::policy::diagnostic::Diagnostic;
use crate::policy::file::{Spanned, WrittenSequence};
use crate::policy::manual::POLICY_MANUAL;
use crate::services::SERVICES;

impl Reader {
    /// The port that tokens go to, always UDP.
    pub fn token_port(&mut self, value: &Value<'_>) -> Option<NonZeroU16> {
        let udp = match value.get_ref() {
            DeValue::String(text) => text.ends_with("/udp"),
            _ => true,
        };
        let port = self.port(value)?;
        if !udp {
            self.error(
                Diagnostic::new(value.span(), "tokens are UDP datagrams")
                    .label("not a UDP port")
                    .help(format!("write `token_port = {}`", port.port)),
            );
            return None;
        }
        Some(port.port)
    }

    /// One port: a number (TCP) or a string with its protocol.
    pub fn port(&mut self, value: &Value<'_>) -> Option<Knock> {
        let range = self.range(value)?;
        if range.is_several() {
            self.error(
                Diagnostic::new(value.span(), format!("`{range}` is more than one port"))
                    .label("a range")
                    .help("ranges are for the ports of a door, and for `allow` in `[firewall]`"),
            );
        }
        range.only()
    }

    /// Ports: a number (TCP), or a string with a range or a protocol.
    pub fn range(&mut self, value: &Value<'_>) -> Option<PortRange> {
        let parsed = match value.get_ref() {
            DeValue::Integer(number) => {
                let decimal = i128::from_str_radix(number.as_str(), number.radix());
                let shown = decimal.map_or_else(|_| number.as_str().to_string(), |n| n.to_string());
                u16::from_str_radix(number.as_str(), number.radix())
                    .ok()
                    .and_then(|port| PortRange::new(Protocol::Tcp, port, port))
                    .ok_or_else(|| format!("no port is {shown}: ports go from 1 to 65535"))
            }
            DeValue::String(text) => match text.parse() {
                Ok(range) => Ok(range),
                Err(KnockError::Name(name)) => {
                    self.unknown_service(value, &name);
                    return None;
                }
                Err(error) => Err(error.to_string()),
            },
            _ => {
                self.wrong_type(value, "a port", "443` or `\"53/udp\"");
                return None;
            }
        };
        match parsed {
            Ok(range) => Some(range),
            Err(message) => {
                self.error(Diagnostic::new(value.span(), message).label("not a port"));
                None
            }
        }
    }

    fn unknown_service(&mut self, value: &Value<'_>, name: &str) {
        if let Some(protocol) = Portless::named(name) {
            self.error(
                Diagnostic::new(value.span(), format!("`{protocol}` has no ports"))
                    .label("a protocol")
                    .help(
                        "a protocol without ports has its place in `allow` of `[firewall]` alone",
                    ),
            );
            return;
        }
        let names: Vec<&str> = SERVICES.iter().map(|service| service.name).collect();
        let help = match nearest(name, &names) {
            Some(near) => {
                format!("did you mean `\"{near}\"`? Every other service is written as a number")
            }
            None => format!(
                "every other service is written as a number (`{POLICY_MANUAL}` lists the names, under SERVICES)"
            ),
        };
        self.error(
            Diagnostic::new(value.span(), KnockError::Name(name.to_string()).to_string())
                .label("not a known service")
                .help(help),
        );
    }

    /// A list of ports and ranges of ports.
    pub fn ranges(&mut self, value: &Value<'_>) -> Option<Vec<Spanned<PortRange>>> {
        let array = self.array(value, "[22, \"8000-8010\", \"53/udp\"]")?;
        let ranges = array.iter().filter_map(|element| {
            let at = element.span();
            self.range(element).map(|value| Spanned { value, at })
        });
        Some(ranges.collect())
    }

    /// A list of sequences.
    pub fn sequences(&mut self, value: &Value<'_>) -> Option<Vec<WrittenSequence>> {
        let array = self.array(value, "[[2387, 920, 18357], [7101, 640, 5223]]")?;
        let sequences = array.iter().filter_map(|element| {
            let (knocks, whole) = self.ports(element);
            Some(WrittenSequence {
                knocks: Spanned {
                    value: knocks?,
                    at: element.span(),
                },
                whole,
            })
        });
        Some(sequences.collect())
    }

    /// A list of ports, and whether each of them could be read.
    #[allow(clippy::type_complexity)]
    pub fn ports(&mut self, value: &Value<'_>) -> (Option<Vec<Spanned<Knock>>>, bool) {
        let Some(array) = self.array(value, "[4431, 2387, \"53/udp\"]") else {
            return (None, false);
        };
        let ports: Vec<_> = array
            .iter()
            .filter_map(|element| {
                self.port(element).map(|value| Spanned {
                    value,
                    at: element.span(),
                })
            })
            .collect();
        let whole = ports.len() == array.len();
        (Some(ports), whole)
    }
}
