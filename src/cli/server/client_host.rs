//! The name or address by which clients reach this host.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, ToSocketAddrs, UdpSocket};

use crate::client::profile::is_host;
use crate::firewall::caller::connection;
use crate::first::is_private;

/// A name or address of this host for a client, and where it comes from.
pub(super) struct ClientHost {
    pub name: String,
    from: Origin,
}

enum Origin {
    Administrator,
    OwnName,
    /// The address that the administrator's ssh connection came to.
    Connection(IpAddr),
}

impl ClientHost {
    /// The one that the administrator names.
    pub fn given(name: &str) -> ClientHost {
        ClientHost {
            name: name.to_string(),
            from: Origin::Administrator,
        }
    }

    /// Proposes this host's own name, or else the address that the administrator's ssh connection came to. `words` are those
    /// of the command line.
    ///
    /// # Errors
    /// A sentence with the command that would do, where neither tells clients anything.
    pub fn proposed(words: impl Iterator<Item = String>) -> Result<ClientHost, String> {
        let why = match own_name() {
            Ok(name) => {
                let from = Origin::OwnName;
                return Ok(ClientHost { name, from });
            }
            Err(why) => why,
        };
        match connection().map(|there| there.to.ip()) {
            Some(address) if is_for_others(address) => Ok(ClientHost {
                name: address.to_string(),
                from: Origin::Connection(address),
            }),
            _ => Err(format!("{why}: `{} --host HOST`", command(words))),
        }
    }

    /// Says what was taken where the administrator named none.
    pub fn words(&self) -> String {
        let why = match self.from {
            Origin::Administrator => return String::new(),
            Origin::OwnName => "",
            Origin::Connection(address) if is_private(address) => {
                " (your ssh connection came to it; it is private, and clients elsewhere need another)"
            }
            Origin::Connection(_) => " (your ssh connection came to it)",
        };
        let name = &self.name;
        format!("the client will look for this host as {name}{why}: --host names another\n")
    }
}

/// The command line as a shell reads it, from the words that this program was started with.
fn command(words: impl Iterator<Item = String>) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@=,+%".contains(c);
    let shown = words.skip(1).map(|word| match word.chars().all(is_plain) {
        true if !word.is_empty() => format!(" {word}"),
        _ => format!(" '{}'", word.replace('\'', "'\\''")),
    });
    format!("toctoc{}", shown.collect::<String>())
}

/// Returns whether other hosts can reach this one by an address. A link-local one needs the interface too.
pub(super) fn is_for_others(address: IpAddr) -> bool {
    let is_of_link = matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
    !is_own(address) && !is_of_link
}

/// Returns whether an address is that of the host itself, whatever the host.
fn is_own(address: IpAddr) -> bool {
    let address = address.to_canonical();
    address.is_loopback() || address.is_unspecified()
}

/// Reads a name or address by which clients reach this host.
///
/// # Errors
/// A sentence, where it means the client itself.
pub(super) fn reached_by(text: &str) -> Result<String, String> {
    let name = text.trim_end_matches('.').to_lowercase();
    let is_local = name == "localhost"
        || name.ends_with(".localhost")
        || name.starts_with("localhost.localdomain");
    match is_local || name.parse().is_ok_and(is_own) {
        true => Err(format!("clients do not reach this host by `{text}`")),
        false if is_short_address(text) => Err(format!(
            "`{text}` is neither a name of a host nor a whole address: write 192.0.2.1 or 2001:db8::1"
        )),
        false if is_host(text) => Ok(text.to_string()),
        false => Err(format!(
            "`{text}` is neither a name of a host nor an address"
        )),
    }
}

/// Returns whether a text is read as an IPv4 address by some programs alone: `127.1`, `0x7f000001`, `2130706433`. No name
/// of a host ends in a number (RFC 1123, section 2.1).
fn is_short_address(text: &str) -> bool {
    let last = text
        .trim_end_matches('.')
        .rsplit('.')
        .next()
        .unwrap_or_default();
    let is_number = |text: &str, fits: fn(&u8) -> bool| text.bytes().all(|byte| fits(&byte));
    let lower = last.to_ascii_lowercase();
    let is_number = match lower.strip_prefix("0x") {
        Some(digits) => is_number(digits, u8::is_ascii_hexdigit),
        None => !last.is_empty() && is_number(last, u8::is_ascii_digit),
    };
    is_number && text.parse::<IpAddr>().is_err()
}

/// The address from which this host's packets leave for elsewhere. No packet is sent: a UDP socket that is connected only
/// asks for the route.
pub(super) fn outward() -> Option<IpAddr> {
    let elsewhere: [(IpAddr, IpAddr); 2] = [
        (
            Ipv4Addr::UNSPECIFIED.into(),
            Ipv4Addr::new(203, 0, 113, 1).into(),
        ),
        (
            Ipv6Addr::UNSPECIFIED.into(),
            Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 1).into(),
        ),
    ];
    let own = |(any, there)| {
        let socket = UdpSocket::bind((any, 0)).ok()?;
        socket.connect((there, 9)).ok()?;
        let own = socket.local_addr().ok()?.ip();
        is_for_others(own).then_some(own)
    };
    elsewhere.into_iter().find_map(own)
}

/// This host's own name, if clients can look it up.
///
/// # Errors
/// A sentence, when they cannot.
pub(super) fn own_name() -> Result<String, String> {
    let name = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    // An address that /etc/hosts gives to a name without a dot is for this host alone.
    let found = match name.contains('.') && is_host(&name) {
        true => (name.as_str(), 0).to_socket_addrs().ok(),
        false => None,
    };
    let mut found = found.into_iter().flatten();
    match found.any(|at| !is_own(at.ip())) {
        true => Ok(name),
        false => Err(format!(
            "by which name or address do clients reach this host? Its own name, `{name}`, tells them nothing"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_means_the_client_itself_reaches_no_host() {
        for text in [
            "localhost",
            "LOCALHOST",
            "localhost.",
            "localhost.localdomain",
            "a.localhost",
            "127.0.0.1",
            "127.1.2.3",
            "::1",
            "::ffff:127.0.0.1",
            "0.0.0.0",
            "::",
        ] {
            let why = reached_by(text).unwrap_err();
            assert_eq!(why, format!("clients do not reach this host by `{text}`"));
        }
        for text in [
            "localhost.example",
            "192.0.2.1",
            "2001:db8::1",
            "128.0.0.1",
            "10.0.0.1",
        ] {
            assert_eq!(reached_by(text).unwrap(), text);
        }
        for text in [
            "a b",
            "127.1",
            "0x7f000001",
            "0x7f.1",
            "2130706433",
            "22",
            "192.0.2",
            "10.0.0.256",
            "a.1",
            "127.1.",
        ] {
            let why = reached_by(text).unwrap_err();
            assert!(why.contains("neither a name"), "{text}: {why}");
        }
    }

    #[test]
    fn the_command_to_try_has_every_word_that_was_given() {
        for (words, wanted) in [
            (
                &["/usr/bin/toctoc", "key", "new", "laptop", "--signed"][..],
                "toctoc key new laptop --signed",
            ),
            (
                &[
                    "./toctoc",
                    "key",
                    "new",
                    "a",
                    "--opens=ssh",
                    "--svg",
                    "my code's.svg",
                    "",
                ],
                "toctoc key new a --opens=ssh --svg 'my code'\\''s.svg' ''",
            ),
        ] {
            assert_eq!(command(words.iter().map(|word| word.to_string())), wanted);
        }
    }

    #[test]
    fn an_address_of_the_host_itself_or_of_a_link_is_not_for_others() {
        for (text, is) in [
            ("192.0.2.1", true),
            ("10.0.0.1", true),
            ("2001:db8::1", true),
            ("127.0.0.1", false),
            ("::1", false),
            ("fe80::7", false),
        ] {
            assert_eq!(is_for_others(text.parse().unwrap()), is, "{text}");
        }
    }
}
