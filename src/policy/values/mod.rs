//! The leaves of the file: each value read as what it should be, or reported where it stands.

mod behind;

pub use behind::{is_routed, target_of};

mod places;
mod ports;

pub(super) use behind::port_at_the_end;

use std::time::Duration;

use toml::Spanned as Located;
use toml::de::DeValue;

use super::diagnostic::Diagnostic;
use super::file::Spanned;
use super::lint::RULES;
use super::{Backend, Closed, Log};
use crate::signed::Binding;

pub(super) type Value<'i> = Located<DeValue<'i>>;

/// Reads values and collects what is wrong with them.
#[derive(Default)]
pub(super) struct Reader {
    pub diagnostics: Vec<Diagnostic>,
    /// Names of sections that are no names.
    pub misnamed: Vec<String>,
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

    pub fn open_for(&mut self, value: &Value<'_>) -> Option<Duration> {
        self.duration(value, MIN_OPEN, MAX_OPEN, "60s")
    }

    /// The time that a connection adds to a grant.
    pub fn extend(&mut self, value: &Value<'_>) -> Option<Duration> {
        self.duration(value, MIN_OPEN, MAX_OPEN, "10m")
    }

    /// The longest time of a grant that is extended.
    pub fn at_most(&mut self, value: &Value<'_>) -> Option<Duration> {
        self.duration(value, MIN_OPEN, MAX_OPEN, "8h")
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

    pub fn closed(&mut self, value: &Value<'_>) -> Option<Closed> {
        match self.string(value, "closed = \"drop\"")? {
            "drop" => Some(Closed::Drop),
            "reject" => Some(Closed::Reject),
            other => self.no_choice(value, other, &["drop", "reject"]),
        }
    }

    pub fn binding(&mut self, value: &Value<'_>) -> Option<Binding> {
        let name = self.string(value, "binding = \"network\"")?;
        let names = Binding::ALL.map(Binding::name);
        Binding::named(name).or_else(|| self.no_choice(value, name, &names))
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

/// The choice that is most like what was written, if any is: by its letters, or because it begins so.
pub fn nearest<'c>(found: &str, choices: &[&'c str]) -> Option<&'c str> {
    let alike = choices
        .iter()
        .map(|choice| (strsim::damerau_levenshtein(found, choice), *choice))
        .filter(|(distance, choice)| *distance <= choice.len().div_ceil(3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, choice)| choice);
    alike.or_else(|| {
        let mut begun = choices.iter().filter(|choice| choice.starts_with(found));
        match (begun.next(), begun.next()) {
            (Some(only), None) if found.len() >= SHORTEST_BEGINNING => Some(*only),
            _ => None,
        }
    })
}

/// The shortest beginning of a name that stands for it.
const SHORTEST_BEGINNING: usize = 3;
