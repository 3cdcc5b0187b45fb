//! The syntax of the file: mistakes in words, and a text in which one wrong value hides no other mistake.

use std::ops::Range;

use toml::de::{DeTable, Error};

use super::diagnostic::Diagnostic;
use crate::services::Service;

/// The text of a file as it can be read.
pub(super) struct Readable<'t> {
    written: &'t str,
    /// The same, with empty strings in the place of values that are not TOML. `None` where there are none, or
    /// something else is wrong too.
    mended: Option<(String, Vec<Diagnostic>)>,
}

/// The mistakes of the syntax.
pub(super) struct Syntax {
    pub diagnostics: Vec<Diagnostic>,
    pub is_whole: bool,
    /// Lines, values, or the rest of the file, that are not what somebody wrote.
    guesses: Vec<Range<usize>>,
}

/// More values than this are not mended: it is another kind of file.
const MOST_MENDED: usize = 100;

impl<'t> Readable<'t> {
    /// The text, in which these errors were found.
    pub fn of(written: &'t str, errors: &[Error]) -> Readable<'t> {
        let is_wrong = errors.iter().any(|error| !is_duplicate(error));
        Readable {
            written,
            mended: is_wrong.then(|| mend(written)).flatten(),
        }
    }

    /// The text, where it is another one than was written.
    pub fn mended_text(&self) -> Option<&str> {
        self.mended.as_ref().map(|(text, _)| text.as_str())
    }

    /// The places that were mended.
    pub fn mended(&self) -> Vec<Range<usize>> {
        let found = self.mended.iter().flat_map(|(_, found)| found);
        found.map(|found| found.at.clone()).collect()
    }

    /// Judges the errors that are left when the mended text is read.
    pub fn judge(&self, errors: &[Error]) -> Syntax {
        let text = self.written;
        let mended = self
            .mended
            .iter()
            .flat_map(|(_, found)| found.iter().cloned());
        let mut diagnostics: Vec<Diagnostic> = mended.collect();
        let mut is_whole = true;
        let mut guesses = self.mended();
        let mut twice: Option<Range<usize>> = None;
        for error in errors {
            let found = syntax_error(text, error);
            if is_duplicate(error) {
                // Of a section that is there twice, each setting is, too.
                if twice
                    .as_ref()
                    .is_some_and(|section| section.contains(&found.at.start))
                {
                    continue;
                }
                twice = section_at(text, found.at.start).or(twice);
            } else {
                is_whole = false;
                // Entries recovered around a syntax error are guesses; do not blame the user for them.
                guesses.push(line_of(text, found.at.start));
            }
            // One slip can be several errors of the syntax.
            let known = |known: &Diagnostic| known.at == found.at && known.message == found.message;
            if !diagnostics.iter().any(known) {
                diagnostics.push(found);
            }
        }
        // Whatever comes after is read as a part of the list.
        if let Some(at) = unclosed_list(text).filter(|_| !is_whole) {
            diagnostics.retain(|found| found.at.start < at);
            let told = Diagnostic::new(at..at + 1, "this list is not closed");
            diagnostics.push(told.help("put `]` after its last element"));
            guesses.push(at..text.len() + 1);
        }
        Syntax {
            diagnostics,
            is_whole,
            guesses,
        }
    }
}

impl Syntax {
    /// Returns whether what was read here is not what somebody wrote.
    pub fn is_guess(&self, at: usize) -> bool {
        self.guesses.iter().any(|guess| guess.contains(&at))
    }
}

/// Puts an empty string in the place of each value that is not TOML. `None` where that is not enough to read the file.
fn mend(written: &str) -> Option<(String, Vec<Diagnostic>)> {
    let mut text = written.to_string();
    let mut mended: Vec<Diagnostic> = Vec::new();
    loop {
        let errors = DeTable::parse_recoverable(&text).1;
        let mut errors = errors.iter().filter(|error| !is_duplicate(error));
        let Some(error) = errors.next() else {
            return (!mended.is_empty()).then_some((text, mended));
        };
        let message = error.message().trim().replace('\n', ", ");
        let found = wrong_value(&text, &error.span()?, &message)?;
        let at = found.at.clone();
        let is_new = mended
            .iter()
            .all(|known| known.at.end <= at.start || at.end <= known.at.start);
        if mended.len() == MOST_MENDED
            || !is_new
            || at.len() < 2
            || text.get(at.clone())?.contains('\n')
        {
            return None;
        }
        text.replace_range(at.clone(), &format!("\"{}\"", " ".repeat(at.len() - 2)));
        mended.push(found);
    }
}

fn is_duplicate(error: &Error) -> bool {
    error.message().trim() == "duplicate key"
}

/// The section whose head is in the line of a place: to the head of the next one.
fn section_at(text: &str, at: usize) -> Option<Range<usize>> {
    let head = line_of(text, at);
    let is_head = text.get(head.start..)?.trim_start().starts_with('[');
    let rest = text.get(head.end.min(text.len())..)?;
    let length = rest.find("\n[").map_or(rest.len(), |end| end + 1);
    is_head.then_some(head.start..head.end + length)
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
    if message.starts_with("missing comma between array elements") {
        return Diagnostic::new(at, "a comma is missing before this")
            .help("commas stand between the elements of a list: [22, 80], [\"ssh\", \"web\"]");
    }
    if let Some(plain) = wrong_value(text, &at, &message) {
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

/// The mistake of one value, which is as long as its place: the rest can be read without it.
fn wrong_value(text: &str, at: &Range<usize>, message: &str) -> Option<Diagnostic> {
    slip(text, at, message).or_else(|| not_a_list(text, at))
}

/// A number such as 022, which is 18 in C and no number in TOML.
fn leading_zero(text: &str, at: &Range<usize>) -> Option<Diagnostic> {
    let is_digit = |byte: &u8| byte.is_ascii_digit();
    let bytes = text.as_bytes();
    let before = bytes
        .get(..at.start)?
        .iter()
        .rev()
        .take_while(|byte| is_digit(byte));
    let start = at.start - before.count();
    let digits = bytes
        .get(start..)?
        .iter()
        .take_while(|byte| is_digit(byte))
        .count();
    let end = start + digits;
    // A date or a time is something else.
    if bytes.get(end).is_some_and(|next| b"-:.".contains(next)) {
        return None;
    }
    let number = text.get(start..end)?.trim_start_matches('0');
    let number = if number.is_empty() { "0" } else { number };
    let diagnostic = Diagnostic::new(start..end, "a number does not begin with 0");
    Some(diagnostic.help(format!("write {number}")))
}

/// Marks that people forget where they write ports: commas and quotes.
fn slip(text: &str, at: &Range<usize>, message: &str) -> Option<Diagnostic> {
    if message.contains("leading zero") {
        return leading_zero(text, at);
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
        return match words.as_slice() {
            [one] if message.starts_with("string values") => bare_word(one, at),
            _ => None,
        };
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

/// A text without quotes, or a yes or no by another name.
fn bare_word(word: &str, at: Range<usize>) -> Option<Diagnostic> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "_-./:@".contains(c);
    if !word.chars().all(fits) {
        return None;
    }
    let (what, right) = match word.to_ascii_lowercase().as_str() {
        "yes" | "true" => ("this is written in another way", "true".to_string()),
        "no" | "false" => ("this is written in another way", "false".to_string()),
        _ => ("this must be quoted", format!("\"{word}\"")),
    };
    Some(Diagnostic::new(at, what).help(format!("write {right}")))
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

#[cfg(test)]
mod tests {
    use toml::de::DeTable;

    use super::{Readable, line_of};

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

    /// Whatever is mended is as long as before, and nothing else is touched.
    #[test]
    fn a_value_that_is_no_toml_hides_no_other_one() {
        for (text, mended) in [
            ("ports = [22, 022]\n", Some("ports = [22, \" \"]\n")),
            (
                "a = [022, 80/tcp, 0920]\n",
                Some("a = [\" \", \"    \", \"  \"]\n"),
            ),
            (
                "ports = 22, 80 # x\nb = 1\n",
                Some("ports = \"    \" # x\nb = 1\n"),
            ),
            ("a = [22 80]\nb = 1\n", Some("a = [\"   \"]\nb = 1\n")),
            (
                "a = drop # x\nb = [web, Yes]\n",
                Some("a = \"  \" # x\nb = [\" \", \" \"]\n"),
            ),
            ("a = [22]\nb = \n", None),
            ("a = [22]\n", None),
        ] {
            let readable = Readable::of(text, &DeTable::parse_recoverable(text).1);
            assert_eq!(readable.mended_text(), mended);
            assert_eq!(readable.mended().is_empty(), mended.is_none(), "{text}");
        }
    }
}
