//! A profile: what a client needs to know to get through one door.
//!
//! Its text, and its link for a QR code, hold a secret. Pure; `store` keeps it on disk.

use std::net::Ipv6Addr;
use std::num::NonZeroU16;
use std::time::Duration;

use serde::Deserialize;
use zeroize::{Zeroize, Zeroizing};

use super::outside::Outside;
use crate::knock::{Knock, Protocol};
use crate::signed::Binding;
use crate::single_use::{Form, Secret};

/// The content of a profile.
#[derive(Debug, Clone, PartialEq)]
pub struct Profile {
    /// A name or an address.
    pub host: String,
    /// A TCP port to connect to, to see whether it opened.
    pub door: Option<NonZeroU16>,
    pub way: Way,
    /// The pause between two knocks.
    pub gap: Duration,
}

/// The way to open the door.
#[derive(Debug, Clone, PartialEq)]
pub enum Way {
    Sequence(Vec<Knock>),
    /// The secret, and the UDP port that tokens go to.
    Token(Secret, NonZeroU16),
    Signed(Signed),
}

/// A secret that signs, and what is signed with it.
#[derive(Debug, Clone, PartialEq)]
pub struct Signed {
    pub secret: Secret,
    /// The UDP port that datagrams go to.
    pub port: NonZeroU16,
    /// How much of the source address is signed.
    pub binding: Binding,
    /// The address that is signed.
    pub from: Outside,
}

/// The pause between two knocks, unless something else is asked for.
pub const GAP: Duration = Duration::from_millis(3);

/// The most knocks of a profile: as many as a policy takes.
pub const MOST_KNOCKS: usize = 32;

/// Refuses more knocks than any policy takes.
///
/// # Errors
/// A sentence.
pub fn not_too_many(knocks: usize) -> Result<(), String> {
    match knocks > MOST_KNOCKS {
        true => Err(format!(
            "{knocks} knocks are too many: a sequence has at most {MOST_KNOCKS}"
        )),
        false => Ok(()),
    }
}

/// As the file has it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    host: String,
    door: Option<NonZeroU16>,
    sequence: Option<Vec<WrittenKnock>>,
    token: Option<Wiped>,
    signed: Option<Wiped>,
    binding: Option<String>,
    from: Option<String>,
    token_port: Option<NonZeroU16>,
    browser: Option<bool>,
    gap: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum WrittenKnock {
    Port(u16),
    Text(String),
}

#[derive(Deserialize)]
struct Wiped(String);

impl Drop for Wiped {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl Profile {
    /// Reads the text of a profile.
    ///
    /// # Errors
    /// The mistake and its place, without showing a secret.
    pub fn parse(text: &str) -> Result<Profile, String> {
        let written: Written = toml::from_str(text).map_err(|error| {
            let line = error.span().map_or(1, |at| {
                text.as_bytes()[..at.start.min(text.len())]
                    .iter()
                    .filter(|&&byte| byte == b'\n')
                    .count()
                    + 1
            });
            // The parser's message may repeat a secret.
            let known = "`host`, `door`, `sequence`, `token`, `signed`, `token_port`, `browser`, `binding`, `from` \
                         and `gap`";
            format!("line {line} cannot be read: a profile has {known}")
        })?;
        let form = match written.browser {
            Some(true) => Form::Letters,
            Some(false) | None => Form::Bytes,
        };
        let is_signed = written.signed.is_some();
        if !is_signed && (written.binding.is_some() || written.from.is_some()) {
            return Err("`binding` and `from` are for a `signed` secret".to_string());
        }
        if is_signed && (written.sequence.is_some() || written.token.is_some()) {
            return Err("it has a `signed` secret and something else: one of them".to_string());
        }
        let way = match (written.sequence, written.token.or(written.signed)) {
            (None, Some(secret)) if is_signed => {
                let secret =
                    Secret::parse(&secret.0).map_err(|error| format!("`signed`: {error}"))?;
                let port = written.token_port;
                let binding = written
                    .binding
                    .as_deref()
                    .map_or(Ok(Binding::Address), |name| {
                        let binding = Binding::named(name);
                        binding.ok_or("`binding` is address, network or none")
                    })?;
                let from = written.from.as_deref().map_or(Ok(Outside::Own), str::parse);
                Way::Signed(Signed {
                    secret,
                    port: port.ok_or("a `signed` secret needs the `token_port` of the server")?,
                    binding,
                    from: from.map_err(|error| format!("`from`: {error}"))?,
                })
            }
            (Some(_), Some(_)) => {
                return Err("it has a `sequence` and a `token`: one of them".to_string());
            }
            (None, None) => {
                return Err(
                    "it needs a `sequence` of ports, a `token` or a `signed` secret".to_string(),
                );
            }
            (Some(sequence), None) => {
                not_too_many(sequence.len())?;
                let knocks = sequence.into_iter().map(knock);
                let knocks = knocks.collect::<Result<Vec<Knock>, String>>()?;
                if knocks.is_empty() {
                    return Err("its `sequence` is empty".to_string());
                }
                Way::Sequence(knocks)
            }
            (None, Some(token)) => {
                let secret =
                    Secret::parse(&token.0).map_err(|error| format!("`token`: {error}"))?;
                let port = written.token_port;
                let port = port.ok_or("a `token` needs the `token_port` of the server")?;
                Way::Token(secret.in_form(form), port)
            }
        };
        let gap = match written.gap.as_deref() {
            None => GAP,
            Some(text) => parse_gap(text).map_err(|error| format!("`gap`: {error}"))?,
        };
        if !is_host(&written.host) {
            return Err("its `host` is neither a name of a host nor an address".to_string());
        }
        Ok(Profile {
            host: written.host,
            door: written.door,
            way,
            gap,
        })
    }

    /// As [`parse`](Profile::parse) reads it. Holds the secret.
    pub fn text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(1024));
        text.push_str(&format!(
            "host = {}\n",
            toml_edit::Value::from(self.host.as_str())
        ));
        if let Some(door) = self.door {
            text.push_str(&format!("door = {door}\n"));
        }
        if self.gap != GAP {
            let gap = humantime::format_duration(self.gap);
            text.push_str(&format!("gap = \"{gap}\"\n"));
        }
        match &self.way {
            Way::Sequence(knocks) => {
                let knocks = knocks.iter().map(|knock| match knock.protocol {
                    Protocol::Tcp => knock.port.to_string(),
                    Protocol::Udp => format!("\"{knock}\""),
                });
                let knocks: Vec<String> = knocks.collect();
                text.push_str(&format!("sequence = [{}]\n", knocks.join(", ")));
            }
            Way::Token(secret, port) => {
                text.push_str("token = \"");
                text.push_str(&secret.hex());
                text.push_str(&format!("\"\ntoken_port = {port}\n"));
                if secret.form() == Form::Letters {
                    text.push_str("browser = true\n");
                }
            }
            Way::Signed(signed) => {
                text.push_str("signed = \"");
                text.push_str(&signed.secret.hex());
                text.push_str(&format!("\"\ntoken_port = {}\n", signed.port));
                if signed.binding != Binding::Address {
                    text.push_str(&format!("binding = \"{}\"\n", signed.binding.name()));
                }
                if signed.from != Outside::Own {
                    text.push_str(&format!("from = \"{}\"\n", signed.from));
                }
            }
        }
        text
    }

    /// The profile as one line, for a QR code or a message: `toctoc://HOST/?door=22&token=...`. Holds
    /// the secret.
    pub fn link(&self) -> Zeroizing<String> {
        let mut link = Zeroizing::new(String::with_capacity(1024));
        let host = match self.host.contains(':') {
            true => format!("[{}]", self.host),
            false => self.host.clone(),
        };
        link.push_str(&format!("toctoc://{host}/?"));
        match &self.way {
            Way::Sequence(knocks) => {
                let knocks = knocks.iter().map(|knock| match knock.protocol {
                    Protocol::Tcp => knock.port.to_string(),
                    Protocol::Udp => knock.to_string(),
                });
                link.push_str("sequence=");
                link.push_str(&knocks.collect::<Vec<_>>().join(","));
            }
            Way::Token(secret, port) => {
                link.push_str("token=");
                link.push_str(&secret.hex());
                link.push_str(&format!("&token_port={port}"));
                if secret.form() == Form::Letters {
                    link.push_str("&browser=true");
                }
            }
            Way::Signed(signed) => {
                link.push_str("signed=");
                link.push_str(&signed.secret.hex());
                link.push_str(&format!("&token_port={}", signed.port));
                if signed.binding != Binding::Address {
                    link.push_str(&format!("&binding={}", signed.binding.name()));
                }
                if signed.from != Outside::Own {
                    link.push_str(&format!("&from={}", signed.from));
                }
            }
        }
        if let Some(door) = self.door {
            link.push_str(&format!("&door={door}"));
        }
        if self.gap != GAP {
            let gap = humantime::format_duration(self.gap).to_string();
            link.push_str(&format!("&gap={}", gap.replace(' ', "")));
        }
        link
    }

    /// Reads [`link`](Profile::link) back.
    ///
    /// # Errors
    /// The mistake in it, without showing a secret.
    pub fn parse_link(link: &str) -> Result<Profile, String> {
        let rest = link.trim().strip_prefix("toctoc://");
        let rest = rest.ok_or("a link begins with toctoc://")?;
        let (host, settings) = rest
            .split_once("/?")
            .ok_or("it has no `/?` after the host")?;
        let host = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host);
        // As the file would have it: one reader for both.
        let mut text = Zeroizing::new(String::with_capacity(1024));
        text.push_str(&format!("host = {}\n", toml_edit::Value::from(host)));
        for setting in settings.split('&') {
            let (name, value) = setting.split_once('=').ok_or("a setting has no `=`")?;
            match name {
                "door" | "token_port" => {
                    let port: NonZeroU16 =
                        value.parse().map_err(|_| format!("`{name}` is no port"))?;
                    text.push_str(&format!("{name} = {port}\n"));
                }
                "browser" => match value {
                    "true" => text.push_str("browser = true\n"),
                    _ => return Err("`browser` is `true`, or is not there".to_string()),
                },
                "gap" => text.push_str(&format!("gap = {}\n", toml_edit::Value::from(value))),
                "binding" | "from" => {
                    text.push_str(&format!("{name} = {}\n", toml_edit::Value::from(value)));
                }
                "token" | "signed" => {
                    Secret::parse(value).map_err(|error| format!("`{name}`: {error}"))?;
                    text.push_str(name);
                    text.push_str(" = \"");
                    text.push_str(value);
                    text.push_str("\"\n");
                }
                "sequence" => {
                    let knocks = value.split(',').map(str::parse::<Knock>);
                    let knocks: Result<Vec<Knock>, _> = knocks.collect();
                    let knocks = knocks.map_err(|error| format!("`sequence`: {error}"))?;
                    let knocks: Vec<String> =
                        knocks.iter().map(|knock| format!("\"{knock}\"")).collect();
                    text.push_str(&format!("sequence = [{}]\n", knocks.join(", ")));
                }
                _ => return Err(format!("it has an unknown setting `{name}`")),
            }
        }
        Profile::parse(&text)
    }
}

/// A pause between two knocks, as people write it.
///
/// # Errors
/// A sentence.
pub fn parse_gap(text: &str) -> Result<Duration, String> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    humantime::parse_duration(text)
        .ok()
        .filter(|gap| *gap <= Duration::from_secs(60))
        .ok_or_else(|| format!("`{text}` is not a pause: write 0, 10ms or 1s, at most 60s"))
}

/// Returns whether a text can be the name or address of a host. It is put into commands for a shell and into
/// ssh's configuration, and may come from a QR code.
pub fn is_host(text: &str) -> bool {
    let name = |text: &str| {
        let fits = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        !text.is_empty() && !text.starts_with('-') && text.bytes().all(fits)
    };
    // Only an IPv6 address has colons: the port is another setting.
    match text.split_once('%') {
        Some((address, interface)) => address.parse::<Ipv6Addr>().is_ok() && name(interface),
        None => name(text) || text.parse::<Ipv6Addr>().is_ok(),
    }
}

fn knock(written: WrittenKnock) -> Result<Knock, String> {
    match written {
        WrittenKnock::Port(port) => Knock::new(Protocol::Tcp, port)
            .ok_or_else(|| format!("no port is {port}: ports go from 1 to 65535")),
        WrittenKnock::Text(text) => text.parse().map_err(|error| format!("`sequence`: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

    #[test]
    fn profiles_are_read_back() {
        for text in [
            format!(
                "host = \"server.example\"\ndoor = 22\ntoken = \"{SECRET}\"\ntoken_port = 40123\n"
            ),
            format!(
                "host = \"192.0.2.1\"\ntoken = \"{SECRET}\"\ntoken_port = 4012\nbrowser = true\n"
            ),
            "host = \"2001:db8::1\"\nsequence = [443, \"53/udp\", 920]\n".to_string(),
            format!("host = \"192.0.2.1\"\nsigned = \"{SECRET}\"\ntoken_port = 4012\n"),
            format!(
                "host = \"192.0.2.1\"\nsigned = \"{SECRET}\"\ntoken_port = 4012\nbinding = \"network\"\n\
                 from = \"2001:db8::7\"\n"
            ),
            format!(
                "host = \"192.0.2.1\"\nsigned = \"{SECRET}\"\ntoken_port = 4012\nfrom = \"stun:[2001:db8::1]:99\"\n"
            ),
        ] {
            let profile = Profile::parse(&text).unwrap();
            assert_eq!(profile.text().as_str(), text);
            assert_eq!(Profile::parse_link(&profile.link()).as_ref(), Ok(&profile));
        }
        for (gap, wanted) in [("1s 50ms", 1050), ("60s", 60_000), ("0", 0)] {
            let text = format!("host = \"a\"\nsequence = [5]\ngap = \"{gap}\"\n");
            let paced = Profile::parse(&text).unwrap();
            assert_eq!(paced.gap, Duration::from_millis(wanted));
            assert_eq!(Profile::parse(&paced.text()).as_ref(), Ok(&paced));
            assert_eq!(Profile::parse_link(&paced.link()).as_ref(), Ok(&paced));
        }
    }

    /// Its link would be one to another host.
    #[test]
    fn a_host_that_is_none_is_refused() {
        for host in [
            "",
            "a:22",
            "192.0.2.1:22",
            "::1%a;b",
            "fe80::1%",
            "a/?token=5",
            "a b",
            "a&door=5",
            "[::1]",
            "a\\n",
        ] {
            let text = format!("host = \"{host}\"\nsequence = [5]\n");
            let error = Profile::parse(&text).unwrap_err();
            assert_eq!(
                error, "its `host` is neither a name of a host nor an address",
                "{host}"
            );
        }
        for host in ["a-b_c.example", "192.0.2.1", "fe80::1%eth0"] {
            let text = format!("host = \"{host}\"\nsequence = [5]\n");
            let profile = Profile::parse(&text).unwrap();
            assert_eq!(Profile::parse_link(&profile.link()), Ok(profile));
        }
    }

    #[test]
    fn links_that_are_none_are_refused() {
        for link in [
            "",
            "https://a/?sequence=5",
            "toctoc://a",
            "toctoc://a/?",
            "toctoc://a/?sequence=0",
            "toctoc://a/?sequence=5&door=x",
            "toctoc://a/?sequence=5&run=rm",
            "toctoc:///?sequence=5",
            "toctoc://a/?sequence=5&gap=2h",
            "toctoc://-oProxyCommand=x/?sequence=5",
            "toctoc://a;rm/?sequence=5",
            "toctoc://$(id)/?sequence=5",
            "toctoc://a/?token=55&token_port=5",
            "toctoc://a/?sequence=5&browser=yes",
        ] {
            assert!(Profile::parse_link(link).is_err(), "{link}");
        }
        let link = "toctoc://[2001:db8::1]/?sequence=443,53/udp&door=22\n";
        assert_eq!(Profile::parse_link(link).unwrap().host, "2001:db8::1");
    }

    #[test]
    fn what_is_wrong_is_told_without_the_secret() {
        for (text, wanted) in [
            ("host = \"a\"", "needs a `sequence`"),
            ("host = \"a\"\nsequence = []", "is empty"),
            ("host = \"a\"\nsequence = [0]", "no port is 0"),
            (
                &format!("host = \"a\"\nsequence = [{}]", "5, ".repeat(33)),
                "33 knocks are too many: a sequence has at most 32",
            ),
            (
                "host = \"a\"\nsequence = [5]\nport = 5",
                "line 3 cannot be read",
            ),
            (
                "host = \"a\"\ntoken = \"0011\"\ntoken_port = 5",
                "64 hexadecimal",
            ),
            (&format!("host = \"a\"\ntoken = \"{SECRET}\""), "token_port"),
            (
                &format!("host = \"a\"\nsequence = [5]\ntoken = \"{SECRET}\""),
                "one of them",
            ),
            (&format!("host = \"a\"\ntoken = {SECRET}\n"), "line 2"),
            (
                &format!("host = \"a\"\nsigned = \"{SECRET}\"\ntoken_port = 5\nfrom = \"here\""),
                "`from`: `here` is neither an address nor a server",
            ),
            (
                &format!(
                    "host = \"a\"\nsigned = \"{SECRET}\"\ntoken_port = 5\nfrom = \"127.0.0.1\""
                ),
                "`from`: 127.0.0.1: no packet comes from there",
            ),
            (
                "host = \"a\"\nsequence = [5]\ngap = \"2h\"",
                "is not a pause",
            ),
        ] {
            let error = Profile::parse(text).unwrap_err();
            assert!(error.contains(wanted), "{error}");
            assert!(!error.contains(&SECRET[2..]), "{error}");
        }
    }
}
