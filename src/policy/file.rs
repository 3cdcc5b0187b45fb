//! `text --parse--> File`: what was written, value by value, and where it stands.
//!
//! A leaf that is wrong by itself (a port of 70000, a string where a list belongs) is reported here
//! and left out of the [`File`]; what only makes sense together is judged by
//! [`check`](super::check). Reading never stops at a mistake.

use std::net::IpAddr;
use std::ops::Range;
use std::time::Duration;

use ipnet::IpNet;
use toml::Spanned as Located;
use toml::de::{DeTable, DeValue};

use super::diagnostic::Diagnostic;
use super::{Closed, Log, Name};
use crate::knock::{Knock, Protocol};

/// A value and the bytes of the file it was read from.
#[derive(Debug, Clone, PartialEq)]
pub struct Spanned<T> {
    pub value: T,
    pub at: Range<usize>,
}

/// A policy file as written. `None` is "not written", or "written wrongly and reported".
#[derive(Debug, Default)]
pub struct File {
    pub within: Option<Spanned<Duration>>,
    pub open_for: Option<Spanned<Duration>>,
    pub interfaces: Option<Spanned<Vec<Spanned<String>>>>,
    pub ignore: Option<Spanned<Vec<Spanned<Knock>>>>,
    pub closed: Option<Spanned<Closed>>,
    pub log: Option<Spanned<Log>>,
    pub max_sources: Option<Spanned<u32>>,
    pub prefix4: Option<Spanned<u8>>,
    pub prefix6: Option<Spanned<u8>>,
    pub doors: Vec<DoorEntry>,
    pub keys: Vec<KeyEntry>,
    /// False when the text is not TOML: then what is missing may only have been lost.
    pub whole: bool,
}

/// `[door.NAME]`
#[derive(Debug)]
pub struct DoorEntry {
    pub name: Spanned<Name>,
    pub ports: Entry<Vec<Spanned<Knock>>>,
    pub open_for: Option<Spanned<Duration>>,
    pub trust: Vec<IpNet>,
}

/// `[key.NAME]`
#[derive(Debug)]
pub struct KeyEntry {
    pub name: Spanned<Name>,
    pub opens: Entry<Vec<Spanned<String>>>,
    pub sequence: Entry<Vec<Spanned<Knock>>>,
    /// Whether each element of the list could be read: a list with holes proves nothing.
    pub sequence_whole: bool,
    pub open_for: Option<Spanned<Duration>>,
    pub once: bool,
    pub expires: Option<i64>,
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
        syntax.push(syntax_error(text, &error));
    }
    let mut reader = Reader::default();
    let mut file = reader.policy(&table);
    file.whole = syntax.is_empty();
    let mut diagnostics = reader.diagnostics;
    if !file.whole {
        // What was recovered around a syntax error is a guess; do not blame the user for it.
        let broken: Vec<Range<usize>> = syntax.iter().map(|d| line_of(text, d.at.start)).collect();
        diagnostics.retain(|d| broken.iter().all(|line| !line.contains(&d.at.start)));
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
    let diagnostic = Diagnostic::new(at.clone(), message);
    if at.start >= text.trim_end().len() {
        diagnostic
            .label("the file ends here")
            .help("is the file whole?")
    } else {
        diagnostic
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

type Value<'i> = Located<DeValue<'i>>;

/// Walks the TOML and collects what is wrong with it.
#[derive(Default)]
struct Reader {
    diagnostics: Vec<Diagnostic>,
}

impl Reader {
    fn policy(&mut self, table: &Located<DeTable<'_>>) -> File {
        let mut section = Section::new(table.as_ref(), "a policy");
        let mut file = File {
            within: section.take(self, "within", |r, v| {
                r.duration(v, MIN_WITHIN, MAX_WITHIN, "10s")
            }),
            open_for: section.take(self, "open_for", Reader::open_for),
            interfaces: section.take(self, "interfaces", Reader::interfaces),
            ignore: section.take(self, "ignore", |r, v| r.ports(v).0),
            closed: section.take(self, "closed", Reader::closed),
            log: section.take(self, "log", Reader::log),
            max_sources: section.take(self, "max_sources", |r, v| {
                r.integer(v, 1, 1 << 20, "max_sources")
            }),
            ..File::default()
        };
        section.take(self, "backend", Reader::backend);
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
        section.later("firewall");
        section.later("token_port");
        section.finish(self);
        file
    }

    fn door(&mut self, name: Spanned<Name>, table: &DeTable<'_>) -> DoorEntry {
        let mut section = Section::new(table, "a door");
        let door = DoorEntry {
            name,
            ports: section.entry(self, "ports", |r, v| r.ports(v).0),
            open_for: section.take(self, "open_for", Reader::open_for),
            trust: section
                .take(self, "trust", Reader::networks)
                .map(|list| list.value)
                .unwrap_or_default(),
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
            open_for: section.take(self, "open_for", Reader::open_for),
            once: section
                .take(self, "once", Reader::boolean)
                .is_some_and(|once| once.value),
            expires: section
                .take(self, "expires", Reader::end_of)
                .map(|expires| expires.value),
            sequence_whole: true,
        };
        section.later("token");
        section.later("scratch");
        section.finish(self);
        KeyEntry {
            sequence_whole,
            ..key
        }
    }

    // --- values ---------------------------------------------------------------------------------

    fn error(&mut self, diagnostic: Diagnostic) {
        self.diagnostics.push(diagnostic);
    }

    fn wrong_type(&mut self, value: &Value<'_>, wanted: &str, example: &str) {
        let found = type_name(value.get_ref());
        self.error(
            Diagnostic::new(
                value.span(),
                format!("{wanted} is expected here, not {found}"),
            )
            .label(found)
            .help(format!("write for example `{example}`")),
        );
    }

    fn array<'v, 'i>(&mut self, value: &'v Value<'i>, example: &str) -> Option<&'v [Value<'i>]> {
        let Some(array) = value.get_ref().as_array() else {
            self.wrong_type(value, "a list", example);
            return None;
        };
        Some(array)
    }

    fn string<'v>(&mut self, value: &'v Value<'_>, example: &str) -> Option<&'v str> {
        let text = value.get_ref().as_str();
        if text.is_none() {
            self.wrong_type(value, "a string", example);
        }
        text
    }

    fn boolean(&mut self, value: &Value<'_>) -> Option<bool> {
        let truth = value.get_ref().as_bool();
        if truth.is_none() {
            self.wrong_type(value, "true or false", "once = true");
        }
        truth
    }

    fn integer<T: TryFrom<u64>>(
        &mut self,
        value: &Value<'_>,
        min: u64,
        max: u64,
        name: &str,
    ) -> Option<T> {
        let Some(written) = value.get_ref().as_integer() else {
            self.wrong_type(value, "a whole number", &format!("{name} = {max}"));
            return None;
        };
        let number = u64::from_str_radix(written.as_str(), written.radix()).ok();
        let fitting = number.filter(|n| (min..=max).contains(n));
        let fitting = fitting.and_then(|n| T::try_from(n).ok());
        if fitting.is_none() {
            self.error(
                Diagnostic::new(
                    value.span(),
                    format!("`{name}` cannot be {}", written.as_str()),
                )
                .label(format!("from {min} to {max}")),
            );
        }
        fitting
    }

    fn duration(
        &mut self,
        value: &Value<'_>,
        min: Duration,
        max: Duration,
        example: &str,
    ) -> Option<Duration> {
        let Some(text) = value.get_ref().as_str() else {
            self.wrong_type(value, "a duration in quotes", &format!("\"{example}\""));
            return None;
        };
        let Ok(duration) = humantime::parse_duration(text) else {
            self.error(
                Diagnostic::new(value.span(), format!("`{text}` is not a duration"))
                    .label("number and unit")
                    .help(format!(
                        "write for example `\"{example}\"`; units are ms, s, m, h and d"
                    )),
            );
            return None;
        };
        if duration < min || duration > max {
            self.error(
                Diagnostic::new(
                    value.span(),
                    format!("`{text}` is too {}", too(duration < min)),
                )
                .label(format!("from {} to {}", show(min), show(max))),
            );
            return None;
        }
        if duration.subsec_nanos() % 1_000_000 != 0 {
            self.error(
                Diagnostic::new(
                    value.span(),
                    format!("`{text}` is finer than the kernel counts"),
                )
                .label("whole milliseconds"),
            );
            return None;
        }
        Some(duration)
    }

    fn open_for(&mut self, value: &Value<'_>) -> Option<Duration> {
        self.duration(value, MIN_OPEN, MAX_OPEN, "60s")
    }

    /// One port: a number (TCP) or a string with its protocol.
    fn port(&mut self, value: &Value<'_>) -> Option<Knock> {
        let parsed = match value.get_ref() {
            DeValue::Integer(number) => {
                let decimal = i128::from_str_radix(number.as_str(), number.radix());
                let shown = decimal.map_or_else(|_| number.as_str().to_string(), |n| n.to_string());
                u16::from_str_radix(number.as_str(), number.radix())
                    .ok()
                    .and_then(|port| Knock::new(Protocol::Tcp, port))
                    .ok_or_else(|| format!("no port is {shown}: ports go from 1 to 65535"))
            }
            DeValue::String(text) => text.parse::<Knock>().map_err(|e| e.to_string()),
            _ => {
                self.wrong_type(value, "a port", "443` or `\"53/udp\"");
                return None;
            }
        };
        match parsed {
            Ok(port) => Some(port),
            Err(message) => {
                self.error(Diagnostic::new(value.span(), message).label("not a port"));
                None
            }
        }
    }

    /// A list of ports, and whether each of them could be read.
    #[allow(clippy::type_complexity)]
    fn ports(&mut self, value: &Value<'_>) -> (Option<Vec<Spanned<Knock>>>, bool) {
        let Some(array) = self.array(value, "[443, 2387, \"53/udp\"]") else {
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

    fn door_names(&mut self, value: &Value<'_>) -> Option<Vec<Spanned<String>>> {
        let array = self.array(value, "opens = [\"ssh\"]")?;
        let mut names = Vec::new();
        for element in array {
            let name = self.string(element, "opens = [\"ssh\"]")?;
            names.push(Spanned {
                value: name.to_string(),
                at: element.span(),
            });
        }
        Some(names)
    }

    fn interfaces(&mut self, value: &Value<'_>) -> Option<Vec<Spanned<String>>> {
        let array = self.array(value, "interfaces = [\"eth0\"]")?;
        let mut names = Vec::new();
        for element in array {
            let name = self.string(element, "interfaces = [\"eth0\"]")?;
            if !is_interface_name(name) {
                self.error(
                    Diagnostic::new(
                        element.span(),
                        format!("`{name}` is not a name of a network interface"),
                    )
                    .label("1 to 15 letters, digits, `.`, `-`, `_`, `:` or `@`")
                    .help("`ip link` lists the names; patterns are not accepted"),
                );
                continue;
            }
            names.push(Spanned {
                value: name.to_string(),
                at: element.span(),
            });
        }
        (names.len() == array.len()).then_some(names)
    }

    fn networks(&mut self, value: &Value<'_>) -> Option<Vec<IpNet>> {
        let example = "trust = [\"192.0.2.0/24\", \"2001:db8::7\"]";
        let array = self.array(value, example)?;
        let mut networks = Vec::new();
        for element in array {
            let text = self.string(element, example)?;
            let network = text
                .parse::<IpNet>()
                .ok()
                .or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
            match network {
                None => self.error(
                    Diagnostic::new(
                        element.span(),
                        format!("`{text}` is neither an address nor a network"),
                    )
                    .help("write for example `\"192.0.2.0/24\"` or `\"2001:db8::7\"`"),
                ),
                Some(network) if network != network.trunc() => self.error(
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
                ),
                Some(network) => networks.push(network),
            }
        }
        Some(networks)
    }

    fn closed(&mut self, value: &Value<'_>) -> Option<Closed> {
        match self.string(value, "closed = \"drop\"")? {
            "drop" => Some(Closed::Drop),
            "reject" => Some(Closed::Reject),
            other => self.no_choice(value, other, &["drop", "reject"]),
        }
    }

    fn backend(&mut self, value: &Value<'_>) -> Option<()> {
        match self.string(value, "backend = \"nftables\"")? {
            "nftables" => Some(()),
            "iptables" => {
                self.error(
                    Diagnostic::new(
                        value.span(),
                        "this version of toctoc has no iptables backend yet",
                    )
                    .help("leave `backend` out, or write `\"nftables\"`"),
                );
                None
            }
            other => self.no_choice(value, other, &["nftables"]),
        }
    }

    fn log(&mut self, value: &Value<'_>) -> Option<Log> {
        let text = self.string(value, "log = \"kernel\"")?;
        if let Some(group) = text.strip_prefix("nflog:") {
            let digits = !group.is_empty() && group.bytes().all(|b| b.is_ascii_digit());
            let Some(group) = digits.then(|| group.parse().ok()).flatten() else {
                self.error(
                    Diagnostic::new(value.span(), format!("`{group}` is not an NFLOG group"))
                        .label("from 0 to 65535")
                        .help("write for example `\"nflog:5\"`"),
                );
                return None;
            };
            return Some(Log::Nflog(group));
        }
        match text {
            "kernel" => Some(Log::Kernel),
            "off" => Some(Log::Off),
            other => self.no_choice(value, other, &["kernel", "nflog:5", "off"]),
        }
    }

    fn no_choice<T>(&mut self, value: &Value<'_>, found: &str, choices: &[&str]) -> Option<T> {
        let list: Vec<String> = choices.iter().map(|c| format!("`\"{c}\"`")).collect();
        let mut help = format!("accepted: {}", list.join(", "));
        if let Some(near) = nearest(found, choices) {
            help = format!("did you mean `\"{near}\"`? {help}");
        }
        self.error(
            Diagnostic::new(value.span(), format!("`{found}` is not a choice here")).help(help),
        );
        None
    }

    /// The first second (since 1970, UTC) after a date or moment.
    fn end_of(&mut self, value: &Value<'_>) -> Option<i64> {
        let Some(written) = value.get_ref().as_datetime() else {
            self.wrong_type(value, "a date without quotes", "expires = 2027-01-31");
            return None;
        };
        let end = seconds_at_end(written);
        if end.is_none() {
            self.error(
                Diagnostic::new(
                    value.span(),
                    format!("`{written}` does not say when in the world"),
                )
                .help(
                    "write a date (`2027-01-31`, to the end of that day in UTC) or a moment \
                     with its offset (`2027-01-31T18:00:00Z`)",
                ),
            );
        }
        end
    }
}

/// A date ends with its day in UTC; a moment with an offset ends then. `None` for local times.
fn seconds_at_end(written: &toml::value::Datetime) -> Option<i64> {
    let date = written.date?;
    let day = jiff::civil::Date::new(
        i16::try_from(date.year).ok()?,
        i8::try_from(date.month).ok()?,
        i8::try_from(date.day).ok()?,
    )
    .ok()?;
    let midnight = day
        .to_zoned(jiff::tz::TimeZone::UTC)
        .ok()?
        .timestamp()
        .as_second();
    match (written.time, written.offset) {
        (None, None) => Some(midnight + 86_400),
        (Some(time), Some(offset)) => {
            let minutes = match offset {
                toml::value::Offset::Z => 0,
                toml::value::Offset::Custom { minutes } => i64::from(minutes),
            };
            let seconds = i64::from(time.hour) * 3600
                + i64::from(time.minute) * 60
                + i64::from(time.second.unwrap_or(0));
            Some(midnight + seconds - minutes * 60)
        }
        _ => None,
    }
}

const MIN_WITHIN: Duration = Duration::from_millis(100);
const MAX_WITHIN: Duration = Duration::from_secs(3600);
const MIN_OPEN: Duration = Duration::from_secs(1);
const MAX_OPEN: Duration = Duration::from_secs(30 * 86_400);

fn too(short: bool) -> &'static str {
    if short { "short" } else { "long" }
}

/// A duration as the policy file writes it.
pub fn show(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}

/// What the kernel accepts as a name (`dev_valid_name`), less what a ruleset would quote.
fn is_interface_name(name: &str) -> bool {
    let fits = (1..=15).contains(&name.len()) && name != "." && name != "..";
    fits && name
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b".-_:@".contains(&b))
}

fn type_name(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a section",
    }
}

/// The choice that is most like what was written, if any is.
pub fn nearest<'c>(found: &str, choices: &[&'c str]) -> Option<&'c str> {
    choices
        .iter()
        .map(|choice| (strsim::damerau_levenshtein(found, choice), *choice))
        .filter(|(distance, choice)| *distance <= choice.len().div_ceil(3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, choice)| choice)
}

/// One table of the file while it is read: remembers which settings it knows, so that those it
/// does not know can be named at the end.
struct Section<'t, 'i> {
    table: &'t DeTable<'i>,
    what: &'static str,
    known: Vec<&'static str>,
    later: Vec<&'static str>,
}

impl<'t, 'i> Section<'t, 'i> {
    fn new(table: &'t DeTable<'i>, what: &'static str) -> Section<'t, 'i> {
        Section {
            table,
            what,
            known: Vec::new(),
            later: Vec::new(),
        }
    }

    /// Reads an optional setting.
    fn take<T>(
        &mut self,
        reader: &mut Reader,
        name: &'static str,
        read: impl FnOnce(&mut Reader, &Value<'i>) -> Option<T>,
    ) -> Option<Spanned<T>> {
        self.known.push(name);
        let value = self.table.get(name)?;
        let at = value.span();
        read(reader, value).map(|value| Spanned { value, at })
    }

    /// Reads a setting that must be there.
    fn entry<T>(
        &mut self,
        reader: &mut Reader,
        name: &'static str,
        read: impl FnOnce(&mut Reader, &Value<'i>) -> Option<T>,
    ) -> Entry<T> {
        match self.take(reader, name, read) {
            Some(spanned) => Entry::Written(spanned),
            None if self.table.contains_key(name) => Entry::Wrong,
            None => Entry::Missing,
        }
    }

    /// A section below this one.
    fn table(
        &mut self,
        reader: &mut Reader,
        name: &'static str,
        example: &str,
    ) -> Option<&'t DeTable<'i>> {
        self.known.push(name);
        let value = self.table.get(name)?;
        let table = value.get_ref().as_table();
        if table.is_none() {
            reader.wrong_type(value, &format!("a section `[{name}]`"), example);
        }
        table
    }

    /// The sections `[kind.NAME]`, in the order of the file.
    fn named(
        &mut self,
        reader: &mut Reader,
        kind: &'static str,
    ) -> Vec<(Spanned<Name>, &'t DeTable<'i>)> {
        let example = format!("[{kind}.name]");
        let Some(table) = self.table(reader, kind, &example) else {
            return Vec::new();
        };
        let mut named = Vec::new();
        for (name, value) in table {
            let Some(section) = value.get_ref().as_table() else {
                let wanted = format!("a section with a name, `[{kind}.{}]`,", name.get_ref());
                reader.wrong_type(value, &wanted, &example);
                continue;
            };
            match Name::new(name.get_ref()) {
                Some(valid) => named.push((
                    Spanned {
                        value: valid,
                        at: name.span(),
                    },
                    section,
                )),
                None => reader.error(
                    Diagnostic::new(
                        name.span(),
                        format!("a {kind} cannot be named `{}`", name.get_ref()),
                    )
                    .label("not a name")
                    .help(format!(
                        "a name has 1 to {} letters (a-z), digits, `-`, `_` or `.`, \
                         and starts with a letter or digit",
                        Name::LONGEST
                    )),
                ),
            }
        }
        named
    }

    /// A setting that is planned and not there yet.
    fn later(&mut self, name: &'static str) {
        self.later.push(name);
    }

    fn finish(self, reader: &mut Reader) {
        for (name, _) in self.table {
            let written: &str = name.get_ref();
            if self.known.contains(&written) {
                continue;
            }
            if self.later.contains(&written) {
                reader.error(
                    Diagnostic::new(
                        name.span(),
                        format!("this version of toctoc has no `{written}` yet"),
                    )
                    .help("leave it out"),
                );
                continue;
            }
            let diagnostic =
                Diagnostic::new(name.span(), format!("{} has no `{written}`", self.what))
                    .label("unknown");
            let help = match nearest(written, &self.known) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("known are: {}", self.known.join(", ")),
            };
            reader.error(diagnostic.help(help));
        }
    }
}
