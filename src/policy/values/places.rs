//! Places on the network: addresses and networks, the engine of a fleet, its hosts

use std::net::IpAddr;

use ipnet::IpNet;

use super::{Reader, Value};
use crate::knock::unmapped;
use crate::policy::diagnostic::Diagnostic;
use crate::policy::{Engine, EngineError, Name};

impl Reader {
    /// Where the engine of a fleet is.
    pub fn engine(&mut self, value: &Value<'_>) -> Option<Engine> {
        let example = "redis://192.0.2.10:6379";
        let text = self.string(value, &format!("url = \"{example}\""))?;
        let error = match text.parse() {
            Ok(engine) => return Some(engine),
            Err(error) => error,
        };
        let (wrong, help) = match error {
            EngineError::Scheme => (
                "an engine begins with `redis://`, or `rediss://` for TLS",
                format!("write for example `url = \"{example}\"`"),
            ),
            EngineError::Host => (
                "this names no host",
                format!("write for example `url = \"{example}\"`, or `redis://[2001:db8::10]`"),
            ),
            EngineError::Port => ("this is no port", "ports go from 1 to 65535".to_string()),
            EngineError::Database => (
                "a database of the engine is a number",
                format!("write for example `url = \"{example}/0\"`, or leave it out"),
            ),
            EngineError::User => (
                "a user of the engine has letters (a-z), digits, `-`, `_` or `.`",
                "write for example `url = \"redis://toctoc@192.0.2.10\"`".to_string(),
            ),
            EngineError::Password => (
                "the password itself is written where only a user belongs",
                "put it into a file beside the policy that nobody else may read (0600), and write \
                 `password = \"fleet.password\"`; whoever has read the policy has it"
                    .to_string(),
            ),
        };
        let label = match error {
            EngineError::Password => "not shown here",
            _ => "not an engine",
        };
        self.error(Diagnostic::new(value.span(), wrong).label(label).help(help));
        None
    }

    /// Reads the name of a host of a fleet.
    pub fn host_name(&mut self, value: &Value<'_>) -> Option<Name> {
        let text = self.string(value, "name = \"alpha\"")?;
        let name = Name::new(text);
        if name.is_none() {
            self.error(
                Diagnostic::new(value.span(), format!("a host cannot be named `{text}`"))
                    .label("not a name")
                    .help(format!(
                        "a name has 1 to {} letters (a-z), digits, `-`, `_` or `.`, and starts with a \
                         letter or digit",
                        Name::LONGEST
                    )),
            );
        }
        name
    }

    /// Networks alone.
    pub fn networks(&mut self, value: &Value<'_>) -> Option<Vec<IpNet>> {
        let example = "from = [\"192.0.2.0/24\", \"2001:db8::7\"]";
        let array = self.array(value, example)?;
        let mut networks = Vec::new();
        for element in array {
            let text = self.string(element, example)?;
            match parse_network(text) {
                None if is_host_name(text) => self.error(
                    Diagnostic::new(
                        element.span(),
                        format!("`{text}` is the name of a host, and names are followed in `trust` of a door alone"),
                    )
                    .label("not an address")
                    .help("write its address, or make a door of the port and let the door trust the name"),
                ),
                found => networks.extend(self.network(element, text, found)),
            }
        }
        Some(networks)
    }

    /// Networks, and names of hosts in small letters, each once.
    pub fn trusted(&mut self, value: &Value<'_>) -> Option<(Vec<IpNet>, Vec<String>)> {
        let example = "trust = [\"192.0.2.0/24\", \"2001:db8::7\", \"home.example.org\"]";
        let array = self.array(value, example)?;
        let (mut networks, mut names) = (Vec::new(), Vec::new());
        for element in array {
            let text = self.string(element, example)?;
            match parse_network(text) {
                None if is_host_name(text) => {
                    let name = text.trim_end_matches('.').to_ascii_lowercase();
                    if !names.contains(&name) {
                        names.push(name);
                    }
                }
                None => self.error(
                    Diagnostic::new(
                        element.span(),
                        format!("`{text}` is no address, network or name of a host"),
                    )
                    .help(
                        "write for example `\"192.0.2.0/24\"`, `\"2001:db8::7\"` or `\"home.example.org\"`",
                    ),
                ),
                found => networks.extend(self.network(element, text, found)),
            }
        }
        Some((networks, names))
    }

    /// The network that was found in a text, if it is one whole.
    fn network(&mut self, element: &Value<'_>, text: &str, found: Option<IpNet>) -> Option<IpNet> {
        match found {
            None => {
                self.error(
                    Diagnostic::new(
                        element.span(),
                        format!("`{text}` is neither an address nor a network"),
                    )
                    .help("write for example `\"192.0.2.0/24\"` or `\"2001:db8::7\"`"),
                );
                None
            }
            Some(network) if network != network.trunc() => {
                self.error(
                    Diagnostic::new(
                        element.span(),
                        format!("`{text}` names a host inside a network"),
                    )
                    .label("host bits are set")
                    .help(format!(
                        "write `\"{}\"` for the network or `\"{}\"` for the host",
                        network.trunc(),
                        network.addr()
                    )),
                );
                None
            }
            Some(network) => Some(network),
        }
    }
}

fn parse_network(text: &str) -> Option<IpNet> {
    let network = text.parse::<IpNet>().ok();
    let address = || text.parse::<IpAddr>().ok().map(IpNet::from);
    network.or_else(address).map(unmapped)
}

/// Returns whether a text has the form of a host's name: labels of letters, digits and `-`, the last one no number.
fn is_host_name(text: &str) -> bool {
    let labels = text.trim_end_matches('.').split('.');
    let is_label = |label: &str| {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        (1..=63).contains(&label.len()) && label.bytes().all(fits) && !label.starts_with('-')
    };
    let last = labels.clone().next_back().unwrap_or_default();
    // RFC 1035.
    const LONGEST: usize = 253;
    text.len() <= LONGEST
        && labels.clone().all(is_label)
        && last.bytes().any(|byte| byte.is_ascii_alphabetic())
}
