//! `text --parse--> File`: what was written, value by value, and where it stands.
//!
//! A leaf that is wrong by itself (a port of 70000, a string where a list belongs) is reported here
//! and left out of the [`File`]; what only makes sense together is judged by
//! [`check`](super::check). Reading never stops at a mistake.

use std::num::NonZeroU16;
use std::ops::Range;
use std::time::Duration;

use ipnet::IpNet;
use toml::Spanned as Located;
use toml::de::DeTable;

use super::diagnostic::Diagnostic;
use super::section::Section;
use super::values::{MAX_HORIZON, MAX_WITHIN, MIN_HORIZON, MIN_MAX_SOURCES, MIN_WITHIN, Reader};
use super::{Backend, Closed, Engine, Log, Name, Portless};
use crate::knock::{Knock, PortRange};
use crate::services::Service;

/// A value and the bytes of the file it was read from.
#[derive(Debug, Clone, PartialEq)]
pub struct Spanned<T> {
    pub value: T,
    pub at: Range<usize>,
}

/// A policy file as written. `None` is "not written", or "written wrongly and reported".
#[derive(Debug, Default)]
pub struct File {
    pub backend: Option<Spanned<Backend>>,
    pub within: Option<Spanned<Duration>>,
    pub open_for: Option<Spanned<Duration>>,
    pub interfaces: Option<Spanned<Vec<Spanned<String>>>>,
    pub ignore: Option<Spanned<Vec<Spanned<Knock>>>>,
    pub closed: Option<Spanned<Closed>>,
    pub log: Option<Spanned<Log>>,
    pub max_sources: Option<Spanned<u32>>,
    pub token_port: Option<Spanned<NonZeroU16>>,
    pub token_horizon: Option<Spanned<Duration>>,
    /// Names of warnings.
    pub silence: Option<Spanned<Vec<Spanned<&'static str>>>>,
    pub prefix4: Option<Spanned<u8>>,
    pub prefix6: Option<Spanned<u8>>,
    pub firewall: Option<FirewallEntry>,
    pub fleet: Option<FleetEntry>,
    pub doors: Vec<DoorEntry>,
    pub keys: Vec<KeyEntry>,
    /// False when the text is not TOML: then what is missing may only have been lost.
    pub whole: bool,
}

/// `[firewall]`
#[derive(Debug)]
pub struct FirewallEntry {
    pub allow: Vec<Spanned<Traffic>>,
    /// Elements of `allow` that are sections.
    pub partly: Vec<AllowanceEntry>,
    pub ping: bool,
    pub drop_forwarded: bool,
}

/// An element of `allow`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Traffic {
    Ports(PortRange),
    Protocol(Portless),
}

/// `{ ports = [5432, "vrrp"], from = ["10.0.0.0/8"], interfaces = ["eth1"] }` in `allow`
#[derive(Debug)]
pub struct AllowanceEntry {
    pub at: Range<usize>,
    pub traffic: Vec<Spanned<Traffic>>,
    pub from: Option<Spanned<Vec<IpNet>>>,
    pub interfaces: Option<Spanned<Vec<Spanned<String>>>>,
}

/// `[fleet]`
#[derive(Debug)]
pub struct FleetEntry {
    /// Where the section stands.
    pub at: Range<usize>,
    pub url: Entry<Engine>,
    pub name: Entry<Name>,
    pub share: Option<Spanned<Vec<Spanned<String>>>>,
    pub accept: Option<Spanned<Vec<Spanned<String>>>>,
    /// The file of the password.
    pub password: Option<Spanned<String>>,
    /// The file of the secret that the hosts sign with.
    pub secret: Option<Spanned<String>>,
    pub authority: Option<Spanned<String>>,
    pub group: Option<Spanned<u16>>,
}

/// `[door.NAME]`
#[derive(Debug)]
pub struct DoorEntry {
    pub name: Spanned<Name>,
    pub ports: Entry<Vec<Spanned<PortRange>>>,
    pub open_for: Option<Spanned<Duration>>,
    pub trust: Vec<IpNet>,
    pub silence: Option<Spanned<Vec<Spanned<&'static str>>>>,
}

/// `[key.NAME]`
#[derive(Debug)]
pub struct KeyEntry {
    pub name: Spanned<Name>,
    pub opens: Entry<Vec<Spanned<String>>>,
    pub sequence: Entry<Vec<Spanned<Knock>>>,
    /// `true` if each element of the list could be read: a list with holes proves nothing.
    pub sequence_whole: bool,
    /// The sequences of a scratch key.
    pub scratch: Option<Spanned<Vec<WrittenSequence>>>,
    /// The file of a token key's secret.
    pub token: Option<Spanned<String>>,
    /// `true` if a browser can send its tokens.
    pub browser: Option<Spanned<bool>>,
    /// `true` if its tokens may come in a ping.
    pub ping: Option<Spanned<bool>>,
    pub open_for: Option<Spanned<Duration>>,
    pub once: bool,
    pub expires: Option<Spanned<i64>>,
    pub silence: Option<Spanned<Vec<Spanned<&'static str>>>>,
}

/// A sequence of a key, and whether each element of the list could be read.
#[derive(Debug)]
pub struct WrittenSequence {
    pub knocks: Spanned<Vec<Spanned<Knock>>>,
    pub whole: bool,
}

impl KeyEntry {
    /// All sequences of the key, each with whether it could be read whole.
    pub fn sequences(&self) -> impl Iterator<Item = (&Spanned<Vec<Spanned<Knock>>>, bool)> {
        let own = match &self.sequence {
            Entry::Written(knocks) => Some((knocks, self.sequence_whole)),
            Entry::Missing | Entry::Wrong => None,
        };
        let scratch = self.scratch.iter().flat_map(|list| &list.value);
        own.into_iter().chain(scratch.map(|s| (&s.knocks, s.whole)))
    }
}

/// A setting that must be there.
#[derive(Debug)]
pub enum Entry<T> {
    Missing,
    /// Written, wrong, and reported.
    Wrong,
    Written(Spanned<T>),
}

/// Reads the text. The diagnostics are those of the syntax and of single values.
pub fn parse(text: &str) -> (File, Vec<Diagnostic>) {
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut syntax: Vec<Diagnostic> = Vec::new();
    for error in errors {
        let found = syntax_error(text, &error);
        // One slip can be several errors of the syntax.
        if !syntax
            .iter()
            .any(|known| known.at == found.at && known.message == found.message)
        {
            syntax.push(found);
        }
    }
    // Whatever comes after is read as a part of the list.
    let unclosed = unclosed_list(text).filter(|_| !syntax.is_empty());
    if let Some(at) = unclosed {
        syntax.retain(|found| found.at.start < at);
        let told = Diagnostic::new(at..at + 1, "this list is not closed");
        syntax.push(told.help("put `]` after its last element"));
    }
    let mut reader = Reader::default();
    let mut file = reader.policy(&table);
    file.whole = syntax.is_empty();
    let mut diagnostics = reader.diagnostics;
    if !file.whole {
        // Entries recovered around a syntax error are guesses; do not blame the user for them.
        let broken: Vec<Range<usize>> = syntax.iter().map(|d| line_of(text, d.at.start)).collect();
        diagnostics.retain(|d| broken.iter().all(|line| !line.contains(&d.at.start)));
        if let Some(at) = unclosed {
            diagnostics.retain(|found| found.at.start < at);
        }
        diagnostics.extend(syntax);
    }
    (file, diagnostics)
}

fn syntax_error(text: &str, error: &toml::de::Error) -> Diagnostic {
    let at = error.span().unwrap_or(0..0);
    let message = error.message().trim().replace('\n', ", ");
    if message == "duplicate key" {
        let written = text.get(at.clone()).unwrap_or("this");
        return Diagnostic::new(at, format!("`{written}` is written twice"))
            .label("again here")
            .help("keep one of the two");
    }
    if let Some(plain) = slip(text, &at, &message).or_else(|| not_a_list(text, &at)) {
        return plain;
    }
    let diagnostic = Diagnostic::new(at.clone(), message);
    if at.start >= text.trim_end().len() {
        diagnostic
            .label("the file ends here")
            .help("is the file whole?")
    } else {
        diagnostic
    }
}

/// Marks that people forget where they write ports: commas and quotes.
fn slip(text: &str, at: &Range<usize>, message: &str) -> Option<Diagnostic> {
    if message.starts_with("missing comma between array elements") {
        let diagnostic = Diagnostic::new(at.clone(), "a comma is missing before this");
        return Some(
            diagnostic
                .help("commas stand between the elements of a list: [22, 80], [\"ssh\", \"web\"]"),
        );
    }
    if !message.starts_with("string values must be quoted") && !message.starts_with("invalid ") {
        return None;
    }
    let rest = text.get(at.start..)?;
    let end = rest
        .find([',', ']', '\n', '#', '"', '='])
        .unwrap_or(rest.len());
    let written = rest[..end].trim_end();
    let at = at.start..at.start + written.len();
    let words: Vec<&str> = written.split_whitespace().collect();
    let as_it_should: Vec<String> = words.iter().map(|word| in_toml(word)).collect();
    let is_name = |word: &str| Service::named(word.split('/').next().unwrap_or(word)).is_some();
    let is_plain = |word: &str| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "/-+.".contains(c);
        word.chars().all(plain) && !word.contains("..")
    };
    let is_port = |word: &&str| {
        is_plain(word) && word.starts_with(|c: char| c.is_ascii_digit()) || is_name(word)
    };
    if !words.iter().all(is_port) {
        return None;
    }
    match words.as_slice() {
        [] => None,
        [one] if as_it_should[0] != *one => {
            let what = match (one.matches('-').count(), one.contains('/')) {
                // A date is what it says.
                _ if is_name(one) => "the name of a service must be quoted",
                (2.., _) => return None,
                (1, _) => "a range of ports must be quoted",
                (0, true) => "a port with its protocol must be quoted",
                (0, false) => "this must be quoted",
            };
            let help = format!("write {}", as_it_should[0]);
            Some(Diagnostic::new(at, what).help(help))
        }
        [_] => None,
        several => {
            let commas = match several.len() {
                2 => "a comma is missing between these",
                _ => "commas are missing between these",
            };
            let help = format!("write {}", as_it_should.join(", "));
            Some(Diagnostic::new(at, commas).help(help))
        }
    }
}

/// The bracket that opens a list which is not closed when the next setting or section begins.
fn unclosed_list(text: &str) -> Option<usize> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || "_-.\"".contains(c);
    let mut open: Vec<usize> = Vec::new();
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let trimmed = line.trim();
        let name = trimmed.trim_start_matches(is_name);
        let begins_setting = name.len() < trimmed.len() && name.trim_start().starts_with('=');
        let section = trimmed
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'));
        let begins_section = section.is_some_and(|name| {
            name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.chars().all(is_name)
        });
        if begins_setting || begins_section {
            if let Some(at) = open.first() {
                return Some(*at);
            }
            if begins_section {
                start += line.len();
                continue;
            }
        }
        let mut quoted = false;
        for (place, c) in line.char_indices() {
            match c {
                '"' => quoted = !quoted,
                '#' if !quoted => break,
                '[' if !quoted => open.push(start + place),
                ']' if !quoted => drop(open.pop()),
                _ => {}
            }
        }
        start += line.len();
    }
    None
}

/// A line whose value is ports, in another form than a list of TOML: without brackets, with other marks between them, ...
fn not_a_list(text: &str, at: &Range<usize>) -> Option<Diagnostic> {
    const NAMES: [&str; 4] = ["ports", "sequence", "ignore", "allow"];
    const BETWEEN: &str = ",;()[]{}\"'\u{201c}\u{201d}\u{201e}\u{2018}\u{2019}";
    let line = line_of(text, at.start);
    let whole = text.get(line.start..line.end.min(text.len()))?;
    let whole = whole.split('#').next().unwrap_or(whole);
    let (name, value) = whole.split_once(['=', ':'])?;
    let (written, name) = (value.trim(), name.trim());
    // A list may go on in the next line.
    if !NAMES.contains(&name) || written.contains('[') != written.contains(']') {
        return None;
    }
    let between = |c: char| c.is_whitespace() || BETWEEN.contains(c);
    let words = written.split(between).filter(|word| !word.is_empty());
    let ports = words.map(port_in_toml).collect::<Option<Vec<String>>>()?;
    let start = line.start + (value.as_ptr() as usize - whole.as_ptr() as usize);
    let start = start + (value.len() - value.trim_start().len());
    // It is right as it stands, and the slip is elsewhere: a list before it is not closed, for example.
    let is_right = whole.contains('=') && written == format!("[{}]", ports.join(", "));
    if ports.is_empty() || is_right {
        return None;
    }
    let help = format!("write {name} = [{}]", ports.join(", "));
    Some(
        Diagnostic::new(
            start..start + written.len(),
            "this is not how a list of ports is written",
        )
        .help(help),
    )
}

/// A port, a range or a service, in whatever form, as TOML has it.
fn port_in_toml(word: &str) -> Option<String> {
    let number = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
    let lower = word.to_ascii_lowercase();
    let (ports, protocol) = match lower.split_once(['/', ':']) {
        Some((ports, protocol @ ("tcp" | "udp"))) => (ports, Some(protocol)),
        _ => (&*lower, None),
    };
    let ends = ["..", "-", ":"].into_iter();
    let ends = ends.filter_map(|mark| ports.split_once(mark)).next();
    let ports = match (number(ports), ends) {
        (Some(port), _) => port.to_string(),
        (None, Some((first, last))) => format!("{}-{}", number(first)?, number(last)?),
        (None, None) => Service::named(ports).map(|_| ports.to_string())?,
    };
    Some(match protocol {
        Some(protocol) => format!("\"{ports}/{protocol}\""),
        None => in_toml(&ports),
    })
}

/// A port as TOML has it: a number, or quoted.
fn in_toml(word: &str) -> String {
    match word.bytes().all(|byte| byte.is_ascii_digit()) {
        true => word.to_string(),
        false => format!("\"{word}\""),
    }
}

fn line_of(text: &str, at: usize) -> Range<usize> {
    let at = at.min(text.len());
    let bytes = text.as_bytes();
    let start = bytes[..at]
        .iter()
        .rposition(|&b| b == b'\n')
        .map_or(0, |i| i + 1);
    let end = bytes[at..]
        .iter()
        .position(|&b| b == b'\n')
        .map_or(bytes.len(), |i| at + i);
    start..end + 1
}

impl Reader {
    fn policy(&mut self, table: &Located<DeTable<'_>>) -> File {
        let mut section = Section::new(table.as_ref(), "a policy");
        let mut file = File {
            backend: section.take(self, "backend", Reader::backend),
            within: section.take(self, "within", |r, v| {
                r.duration(v, MIN_WITHIN, MAX_WITHIN, "10s")
            }),
            open_for: section.take(self, "open_for", Reader::open_for),
            interfaces: section.take(self, "interfaces", Reader::interfaces),
            ignore: section.take(self, "ignore", |r, v| r.ports(v).0),
            closed: section.take(self, "closed", Reader::closed),
            log: section.take(self, "log", Reader::log),
            max_sources: section.take(self, "max_sources", |r, v| {
                r.integer(v, MIN_MAX_SOURCES, 1 << 20, "max_sources")
            }),
            token_port: section.take(self, "token_port", Reader::token_port),
            token_horizon: section.take(self, "token_horizon", |r, v| {
                r.duration(v, MIN_HORIZON, MAX_HORIZON, "6h")
            }),
            silence: section.take(self, "silence", Reader::warnings),
            ..File::default()
        };
        if let Some(grant) = section.table(self, "grant", "prefix4 = 24") {
            let mut section = Section::new(grant, "[grant]");
            file.prefix4 = section.take(self, "prefix4", |r, v| r.integer(v, 8, 32, "prefix4"));
            file.prefix6 = section.take(self, "prefix6", |r, v| r.integer(v, 32, 128, "prefix6"));
            section.finish(self);
        }
        for (name, table) in section.named(self, "door") {
            file.doors.push(self.door(name, table));
        }
        for (name, table) in section.named(self, "key") {
            file.keys.push(self.key(name, table));
        }
        if let Some(table) = section.table(self, "firewall", "default = \"drop\"") {
            file.firewall = Some(self.firewall(table));
        }
        let at = table.as_ref().get_key_value("fleet");
        if let Some(table) = section.table(self, "fleet", "url = \"redis://192.0.2.10\"") {
            let at = at.map_or(0..0, |(name, _)| name.span());
            file.fleet = Some(self.fleet(at, table));
        }
        section.finish(self);
        file
    }

    fn firewall(&mut self, table: &DeTable<'_>) -> FirewallEntry {
        let mut section = Section::new(table, "[firewall]");
        section.take(self, "default", |r, v| r.only(v, "default", "drop"));
        let allow = section.take(self, "allow", Reader::allow);
        let ping = section.take(self, "ping", |r, v| r.boolean(v, "ping"));
        let forward = section.take(self, "forward", Reader::forward);
        section.finish(self);
        let (allow, partly) = allow.map(|list| list.value).unwrap_or_default();
        FirewallEntry {
            allow,
            partly,
            ping: ping.is_some_and(|ping| ping.value),
            drop_forwarded: forward.is_some_and(|drop| drop.value),
        }
    }

    fn fleet(&mut self, at: Range<usize>, table: &DeTable<'_>) -> FleetEntry {
        let mut section = Section::new(table, "[fleet]");
        let fleet = FleetEntry {
            at,
            url: section.entry(self, "url", Reader::engine),
            name: section.entry(self, "name", Reader::host_name),
            share: section.take(self, "share", |r, v| r.doors(v, "share = [\"ssh\"]")),
            accept: section.take(self, "accept", |r, v| r.doors(v, "accept = [\"ssh\"]")),
            password: section.take(self, "password", |r, v| {
                r.string(v, "password = \"fleet.password\"")
                    .map(str::to_string)
            }),
            secret: section.take(self, "secret", |r, v| {
                r.string(v, "secret = \"fleet.secret\"").map(str::to_string)
            }),
            authority: section.take(self, "authority", |r, v| {
                r.string(v, "authority = \"engine-ca.pem\"")
                    .map(str::to_string)
            }),
            group: section.take(self, "group", |r, v| r.integer(v, 0, 65_535, "group")),
        };
        section.finish(self);
        fleet
    }

    fn door(&mut self, name: Spanned<Name>, table: &DeTable<'_>) -> DoorEntry {
        let mut section = Section::new(table, "a door");
        let door = DoorEntry {
            name,
            ports: section.entry(self, "ports", Reader::ranges),
            open_for: section.take(self, "open_for", Reader::open_for),
            trust: section
                .take(self, "trust", Reader::networks)
                .map(|list| list.value)
                .unwrap_or_default(),
            silence: section.take(self, "silence", Reader::warnings),
        };
        section.finish(self);
        door
    }

    fn key(&mut self, name: Spanned<Name>, table: &DeTable<'_>) -> KeyEntry {
        let mut section = Section::new(table, "a key");
        let mut sequence_whole = true;
        let key = KeyEntry {
            name,
            opens: section.entry(self, "opens", Reader::door_names),
            sequence: section.entry(self, "sequence", |r, v| {
                let (ports, whole) = r.ports(v);
                sequence_whole = whole;
                ports
            }),
            scratch: section.take(self, "scratch", Reader::sequences),
            token: section.take(self, "token", |r, v| {
                r.string(v, "token = \"alice.secret\"").map(str::to_string)
            }),
            browser: section.take(self, "browser", |r, v| r.boolean(v, "browser")),
            ping: section.take(self, "ping", |r, v| r.boolean(v, "ping")),
            open_for: section.take(self, "open_for", Reader::open_for),
            once: section
                .take(self, "once", |r, v| r.boolean(v, "once"))
                .is_some_and(|once| once.value),
            expires: section.take(self, "expires", Reader::end_of),
            silence: section.take(self, "silence", Reader::warnings),
            sequence_whole: true,
        };
        section.finish(self);
        KeyEntry {
            sequence_whole,
            ..key
        }
    }
}

#[cfg(test)]
mod tests {
    use super::line_of;

    #[test]
    fn a_line_is_found_from_any_place_in_it() {
        let text = "ab\ncd\n\nefg";
        for (at, line) in [
            (0, 0..3),
            (2, 0..3),
            (3, 3..6),
            (5, 3..6),
            (6, 6..7),
            (7, 7..11),
            (10, 7..11),
            (99, 7..11),
        ] {
            assert_eq!(line_of(text, at), line, "{at}");
        }
    }
}
