//! The leaves of the file: each value read as what it should be, or reported where it stands.

use std::net::IpAddr;
use std::num::NonZeroU16;
use std::time::Duration;

use ipnet::IpNet;
use toml::Spanned as Located;
use toml::de::DeValue;

use super::diagnostic::Diagnostic;
use super::file::{Spanned, WrittenSequence};
use super::lint::RULES;
use super::{Backend, Closed, Engine, EngineError, Log, Name, Portless};
use crate::knock::{Knock, KnockError, PortRange, Protocol, unmapped};
use crate::services::SERVICES;

pub(super) type Value<'i> = Located<DeValue<'i>>;

/// Reads values and collects what is wrong with them.
#[derive(Default)]
pub(super) struct Reader {
    pub diagnostics: Vec<Diagnostic>,
}

impl Reader {
    pub fn error(&mut self, diagnostic: Diagnostic) {
        self.diagnostics.push(diagnostic);
    }

    pub fn wrong_type(&mut self, value: &Value<'_>, wanted: &str, example: &str) {
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

    pub fn array<'v, 'i>(
        &mut self,
        value: &'v Value<'i>,
        example: &str,
    ) -> Option<&'v [Value<'i>]> {
        let Some(array) = value.get_ref().as_array() else {
            self.wrong_type(value, "a list", example);
            return None;
        };
        Some(array)
    }

    pub fn string<'v>(&mut self, value: &'v Value<'_>, example: &str) -> Option<&'v str> {
        let text = value.get_ref().as_str();
        if text.is_none() {
            self.wrong_type(value, "a string", example);
        }
        text
    }

    pub fn boolean(&mut self, value: &Value<'_>, name: &str) -> Option<bool> {
        let truth = value.get_ref().as_bool();
        if truth.is_none() {
            self.wrong_type(value, "true or false", &format!("{name} = true"));
        }
        truth
    }

    pub fn integer<T: TryFrom<u64>>(
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

    pub fn duration(
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

    pub fn open_for(&mut self, value: &Value<'_>) -> Option<Duration> {
        self.duration(value, MIN_OPEN, MAX_OPEN, "60s")
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
            Some(near) => format!("did you mean `\"{near}\"`? Every other service is written as a number"),
            None => "every other service is written as a number (`man toctoc-policy` lists the names, under \
                     SERVICES)"
                .to_string(),
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

    pub fn door_names(&mut self, value: &Value<'_>) -> Option<Vec<Spanned<String>>> {
        self.doors(value, "opens = [\"ssh\"]")
    }

    /// A list of names of doors.
    pub fn doors(&mut self, value: &Value<'_>, example: &str) -> Option<Vec<Spanned<String>>> {
        let array = self.array(value, example)?;
        let mut names = Vec::new();
        for element in array {
            let name = self.string(element, example)?;
            names.push(Spanned {
                value: name.to_string(),
                at: element.span(),
            });
        }
        Some(names)
    }

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

    /// Names of warnings.
    pub fn warnings(&mut self, value: &Value<'_>) -> Option<Vec<Spanned<&'static str>>> {
        let example = "silence = [\"first-knock-public\"]";
        let array = self.array(value, example)?;
        let names: Vec<&'static str> = RULES.iter().map(|rule| rule.name).collect();
        let mut silenced = Vec::new();
        for element in array {
            let text = self.string(element, example)?;
            let at = element.span();
            match names.iter().find(|name| **name == text) {
                Some(name) => silenced.push(Spanned { value: *name, at }),
                None => {
                    let help = match nearest(text, &names) {
                        Some(name) => format!("did you mean `{name}`?"),
                        None => format!("warnings are {}", names.join(", ")),
                    };
                    let wrong = format!("`{text}` is not the name of a warning");
                    self.error(Diagnostic::new(at, wrong).help(help));
                }
            }
        }
        Some(silenced)
    }

    pub fn networks(&mut self, value: &Value<'_>) -> Option<Vec<IpNet>> {
        let example = "trust = [\"192.0.2.0/24\", \"2001:db8::7\"]";
        let array = self.array(value, example)?;
        let mut networks = Vec::new();
        for element in array {
            let text = self.string(element, example)?;
            let network = text
                .parse::<IpNet>()
                .ok()
                .or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
                .map(unmapped);
            match network {
                None if is_host_name(text) => self.error(
                    Diagnostic::new(
                        element.span(),
                        format!("`{text}` is the name of a host, and names are not followed"),
                    )
                    .label("not an address")
                    .help(
                        "write its address. For a host whose address changes make a key, which it can use from \
                         anywhere: `toctoc key new NAME`",
                    ),
                ),
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

    pub fn closed(&mut self, value: &Value<'_>) -> Option<Closed> {
        match self.string(value, "closed = \"drop\"")? {
            "drop" => Some(Closed::Drop),
            "reject" => Some(Closed::Reject),
            other => self.no_choice(value, other, &["drop", "reject"]),
        }
    }

    pub fn backend(&mut self, value: &Value<'_>) -> Option<Backend> {
        let name = self.string(value, "backend = \"nftables\"")?;
        let names = Backend::ALL.map(Backend::name);
        Backend::named(name).or_else(|| self.no_choice(value, name, &names))
    }

    /// The one choice that a setting has.
    pub fn only(&mut self, value: &Value<'_>, name: &str, choice: &str) -> Option<()> {
        match self.string(value, &format!("{name} = \"{choice}\""))? {
            written if written == choice => Some(()),
            other => self.no_choice(value, other, &[choice]),
        }
    }

    /// Returns whether forwarded packets are dropped.
    pub fn forward(&mut self, value: &Value<'_>) -> Option<bool> {
        match self.string(value, "forward = \"drop\"")? {
            "drop" => Some(true),
            "accept" => Some(false),
            other => self.no_choice(value, other, &["accept", "drop"]),
        }
    }

    pub fn log(&mut self, value: &Value<'_>) -> Option<Log> {
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

    pub fn no_choice<T>(&mut self, value: &Value<'_>, found: &str, choices: &[&str]) -> Option<T> {
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
    pub fn end_of(&mut self, value: &Value<'_>) -> Option<i64> {
        let Some(written) = value.get_ref().as_datetime() else {
            self.wrong_type(value, "a date without quotes", "expires = 2027-01-31");
            return None;
        };
        let end = seconds_at_end(written);
        if end.is_some_and(|end| !(0..LATEST_END).contains(&end)) {
            self.error(
                Diagnostic::new(value.span(), format!("`{written}` is no date for a key"))
                    .label("from 1970 to 2200"),
            );
            return None;
        }
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

/// The end of the year 2200. The kernel counts nanoseconds in 64 bits, which end in 2554.
const LATEST_END: i64 = 7_289_654_400;

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

/// Each knock takes up room until the kernel tidies up, a second later. With less than this, one
/// source alone could keep the others out.
pub(super) const MIN_MAX_SOURCES: u64 = 256;
pub(super) const MIN_WITHIN: Duration = Duration::from_millis(100);
pub(super) const MAX_WITHIN: Duration = Duration::from_secs(3600);
const MIN_OPEN: Duration = Duration::from_secs(1);
const MAX_OPEN: Duration = Duration::from_secs(30 * 86_400);
/// A timer that comes every quarter of an hour may fail twice.
pub(super) const MIN_HORIZON: Duration = Duration::from_secs(3600);
/// A token is remembered as spent for longer than this.
pub(super) const MAX_HORIZON: Duration = Duration::from_secs(24 * 3600);

/// Returns whether a text has the form of a host's name: labels of letters, digits and `-`, the last one no number.
fn is_host_name(text: &str) -> bool {
    let labels = text.trim_end_matches('.').split('.');
    let is_label = |label: &str| {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        !label.is_empty() && label.bytes().all(fits) && !label.starts_with('-')
    };
    let last = labels.clone().next_back().unwrap_or_default();
    labels.clone().all(is_label) && last.bytes().any(|byte| byte.is_ascii_alphabetic())
}

fn too(short: bool) -> &'static str {
    if short { "short" } else { "long" }
}

/// A duration as the policy file writes it.
pub fn show(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
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
