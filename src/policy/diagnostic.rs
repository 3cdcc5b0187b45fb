//! Mistakes in a policy, each with its place, shown together with a caret under the exact value.

use std::fmt;
use std::ops::Range;
use std::path::Path;

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use super::lint::Rule;
use crate::errno::without_numbers;

/// One mistake. Byte ranges refer to the text of the file.
#[derive(Debug, Clone, PartialEq)]
pub struct Diagnostic {
    /// The mistake, as a sentence without a full stop.
    pub message: String,
    /// The value that is wrong.
    pub at: Range<usize>,
    /// The text under the caret: the point in two or three words. May be empty.
    pub label: String,
    /// A hint at what would be accepted.
    pub help: Option<String>,
    /// Another place that has to do with it, and what that place is.
    pub also: Option<(Range<usize>, String)>,
    /// The kind of warning, if it is no error.
    pub warning: Option<&'static Rule>,
}

impl Diagnostic {
    pub fn new(at: Range<usize>, message: impl Into<String>) -> Diagnostic {
        Diagnostic {
            message: message.into(),
            at,
            label: String::new(),
            help: None,
            also: None,
            warning: None,
        }
    }

    pub fn label(mut self, label: impl Into<String>) -> Diagnostic {
        self.label = label.into();
        self
    }

    pub fn help(mut self, help: impl Into<String>) -> Diagnostic {
        self.help = Some(help.into());
        self
    }

    /// Makes it a warning of this kind.
    pub fn warning(mut self, rule: &'static Rule) -> Diagnostic {
        self.warning = Some(rule);
        self
    }

    pub fn also(mut self, at: Range<usize>, label: impl Into<String>) -> Diagnostic {
        self.also = Some((at, label.into()));
        self
    }
}

/// All mistakes of one file, in the order of the file. Shown with [`Report::render`].
#[derive(Debug)]
pub struct Report {
    path: String,
    text: String,
    diagnostics: Vec<Diagnostic>,
}

/// The style of a report: with terminal colours, or without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    Plain,
    Coloured,
}

/// More mistakes than this are counted, not shown: nobody reads them.
const SHOWN: usize = 50;

/// So many hexadecimal digits in a row are a secret, or much of one.
const SECRET: usize = 48;

/// The text with as many stars in the place of what looks like a secret.
fn masked(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let digits = rest.bytes().take_while(u8::is_ascii_hexdigit).count();
        let length = if digits > 0 { digits } else { first.len_utf8() };
        let (some, next) = rest.split_at(length);
        match digits >= SECRET {
            true => out.push_str(&"*".repeat(digits)),
            false => out.push_str(some),
        }
        rest = next;
    }
    out
}

/// Lines longer than this (in bytes) are not shown whole; a generated or damaged file has them.
const LONGEST_LINE: usize = 200;

impl Report {
    /// Masks what looks like a secret: somebody wrote it where the name of its file goes.
    pub fn new(path: &str, text: &str, mut diagnostics: Vec<Diagnostic>) -> Report {
        for diagnostic in &mut diagnostics {
            diagnostic.message = masked(&without_numbers(&diagnostic.message));
        }
        diagnostics.sort_by_key(|d| (d.at.start, d.at.end));
        diagnostics.dedup();
        Report {
            path: path.to_string(),
            text: masked(text),
            diagnostics,
        }
    }

    /// Names another file: the text stands in one that is there only for a moment.
    pub fn shown_at(mut self, path: &Path) -> Report {
        self.path = path.display().to_string();
        self
    }

    pub fn diagnostics(&self) -> &[Diagnostic] {
        &self.diagnostics
    }

    /// Line and column of a diagnostic, from 1; columns are characters.
    pub fn place(&self, diagnostic: &Diagnostic) -> (usize, usize) {
        let before = &self.text[..floor(&self.text, diagnostic.at.start)];
        let line = before.rfind('\n').map_or(0, |i| i + 1);
        (
            before.matches('\n').count() + 1,
            before[line..].chars().count() + 1,
        )
    }

    /// The whole report as text, one block for each mistake and a last line that counts them.
    pub fn render(&self, style: Style) -> String {
        let renderer = match style {
            Style::Plain => Renderer::plain(),
            Style::Coloured => Renderer::styled(),
        };
        let renderer = renderer.decor_style(DecorStyle::Ascii);
        let mut out = String::new();
        for diagnostic in self.diagnostics.iter().take(SHOWN) {
            out.push_str(&self.render_one(&renderer, diagnostic));
            out.push_str("\n\n");
        }
        let count = self.diagnostics.len();
        if count > SHOWN {
            out.push_str(&format!("... and {} more\n", count - SHOWN));
        }
        let warnings = self.diagnostics.iter().all(|d| d.warning.is_some());
        let what = if warnings { "warning" } else { "error" };
        let plural = if count == 1 { "" } else { "s" };
        out.push_str(&format!("{}: {count} {what}{plural}", self.path));
        out
    }

    fn render_one(&self, renderer: &Renderer, diagnostic: &Diagnostic) -> String {
        let view = View::around(&self.text, &diagnostic.at);
        let mut primary = AnnotationKind::Primary.span(view.range(&diagnostic.at));
        if !diagnostic.label.is_empty() {
            primary = primary.label(&diagnostic.label);
        }
        let mut snippet = Snippet::source(&view.text)
            .line_start(view.first_line)
            .path(&self.path)
            .annotation(primary);
        // A place too far away to be shown with it is named by its line instead.
        let mut elsewhere = None;
        if let Some((at, label)) = &diagnostic.also {
            if view.holds(at) {
                snippet =
                    snippet.annotation(AnnotationKind::Context.span(view.range(at)).label(label));
            } else {
                let line = self.text[..floor(&self.text, at.start)]
                    .matches('\n')
                    .count()
                    + 1;
                elsewhere = Some(format!("{label} in line {line}"));
            }
        }
        let title = match diagnostic.warning {
            Some(rule) => Level::WARNING
                .primary_title(&diagnostic.message)
                .id(rule.name),
            None => Level::ERROR.primary_title(&diagnostic.message),
        };
        let mut group: Group<'_> = title.element(snippet);
        if let Some(note) = &elsewhere {
            group = group.element(Level::NOTE.message(note));
        }
        if let Some(rule) = diagnostic.warning {
            group = group.element(Level::NOTE.message(rule.reason));
        }
        if let Some(help) = &diagnostic.help {
            group = group.element(Level::HELP.message(help));
        }
        renderer.render(&[group])
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(Style::Plain))
    }
}

impl std::error::Error for Report {}

/// The piece of a file that is shown for one mistake: whole lines where they are short, a cut one
/// otherwise, with control characters made harmless for the terminal.
struct View {
    text: String,
    start: usize,
    end: usize,
    first_line: usize,
}

impl View {
    /// The bytes of neighbouring lines that may be shown, for a related place that is near.
    const REACH: usize = 2_000;

    fn around(text: &str, at: &Range<usize>) -> View {
        let line_start = text[..floor(text, at.start)]
            .rfind('\n')
            .map_or(0, |i| i + 1);
        let line_end = text[floor(text, at.start)..]
            .find('\n')
            .map_or(text.len(), |i| floor(text, at.start) + i);
        let (start, end) = if line_end - line_start > LONGEST_LINE {
            let start = floor(text, at.start.saturating_sub(60).max(line_start));
            (start, floor(text, (start + LONGEST_LINE).min(line_end)))
        } else {
            (
                near_line_start(text, line_start),
                near_line_end(text, line_end),
            )
        };
        View {
            text: harmless(&text[start..end]),
            start,
            end,
            first_line: text[..start].matches('\n').count() + 1,
        }
    }

    fn holds(&self, at: &Range<usize>) -> bool {
        self.start <= at.start && at.end <= self.end
    }

    /// The range inside the view. A range over several lines is cut at the first line's end, so
    /// that the caret stays under the beginning of what is wrong.
    fn range(&self, at: &Range<usize>) -> Range<usize> {
        let start = at.start.clamp(self.start, self.end) - self.start;
        let end = at.end.clamp(self.start, self.end) - self.start;
        let start = floor(&self.text, start);
        let end = floor(&self.text, end);
        match self.text[start..end.max(start)].find('\n') {
            Some(length) => start..start + length,
            None => start..end.max(start),
        }
    }
}

/// The start of the earliest line within reach whose lines are all short.
fn near_line_start(text: &str, mut start: usize) -> usize {
    let limit = start.saturating_sub(View::REACH);
    while start > limit {
        let previous = text[..start - 1].rfind('\n').map_or(0, |i| i + 1);
        if start - previous > LONGEST_LINE || previous < limit {
            break;
        }
        start = previous;
    }
    start
}

/// The end of the latest line within reach whose lines are all short.
fn near_line_end(text: &str, mut end: usize) -> usize {
    let limit = (end + View::REACH).min(text.len());
    while end < limit {
        let next = text[end + 1..]
            .find('\n')
            .map_or(text.len(), |i| end + 1 + i);
        if next - end > LONGEST_LINE || next > limit {
            break;
        }
        end = next;
    }
    end
}

/// The nearest character boundary at or before `index`.
fn floor(text: &str, index: usize) -> usize {
    let mut index = index.min(text.len());
    while !text.is_char_boundary(index) {
        index -= 1;
    }
    index
}

/// Control characters (but tabs and line ends) become `?`, byte for byte, so that ranges hold.
fn harmless(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\n' | '\t' => c.to_string(),
            c if c.is_control() => "?".repeat(c.len_utf8()),
            c => c.to_string(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines of a hundred bytes each, their ends included.
    fn lines(number: usize) -> String {
        let line = format!("{}\n", "x".repeat(99));
        line.repeat(number)
    }

    #[test]
    fn what_is_near_is_shown_with_it() {
        let view = View::around(&lines(100), &(5010..5012));
        assert_eq!((view.start, view.end, view.first_line), (3000, 7099, 31));
        assert!(view.holds(&(3000..3001)) && view.holds(&(7000..7099)));
        assert!(!view.holds(&(2999..3001)) && !view.holds(&(7000..7100)));
        assert_eq!(view.range(&(5010..5012)), 2010..2012);
        // A place over several lines is cut at the end of its first.
        assert_eq!(view.range(&(5010..5800)), 2010..2099);
        let whole = View::around(&lines(3), &(110..112));
        assert_eq!((whole.start, whole.end, whole.first_line), (0, 300, 1));
    }

    /// A long line is shown neither beside another nor whole.
    #[test]
    fn long_lines_are_cut() {
        for (length, near) in [(LONGEST_LINE - 1, true), (LONGEST_LINE, false)] {
            let long = "y".repeat(length);
            let text = format!("{long}\nmiddle\n{long}\nend");
            let view = View::around(&text, &(length + 2..length + 4));
            let shown = format!("{long}\nmiddle\n{long}\nend");
            let alone = "middle".to_string();
            assert_eq!(view.text, if near { shown } else { alone }, "{length}");
        }
        let text = "y".repeat(LONGEST_LINE);
        assert_eq!(View::around(&text, &(90..91)).text, text);
        let text = format!("a\n{}\nb", "y".repeat(LONGEST_LINE + 100));
        let view = View::around(&text, &(92..94));
        assert_eq!((view.start, view.end), (32, 32 + LONGEST_LINE));
        assert_eq!((view.range(&(92..94)), view.first_line), (60..62, 2));
        let begin = View::around(&text, &(5..6));
        assert_eq!((begin.start, begin.end), (2, 2 + LONGEST_LINE));
        let last = View::around(&text, &(LONGEST_LINE + 90..LONGEST_LINE + 91));
        assert_eq!(
            (last.start, last.end),
            (LONGEST_LINE + 30, LONGEST_LINE + 102)
        );
    }

    #[test]
    fn a_place_far_away_is_named_by_its_line() {
        let text = lines(100);
        let also = |at: Range<usize>| {
            let diagnostic = Diagnostic::new(5010..5012, "wrong").also(at, "the other");
            Report::new("p", &text, vec![diagnostic]).to_string()
        };
        assert!(also(310..312).contains("note: the other in line 4"));
        assert!(also(9910..9912).contains("note: the other in line 100"));
        assert!(!also(4910..4912).contains("in line"));
    }

    #[test]
    fn so_many_errors_are_shown() {
        let report = |count: usize| {
            let errors =
                (0..count).map(|line| Diagnostic::new(line * 100..line * 100 + 1, "wrong"));
            Report::new("p", &lines(count), errors.collect()).to_string()
        };
        let all = report(SHOWN);
        assert_eq!(all.matches("error: wrong").count(), SHOWN);
        assert!(all.ends_with(&format!("\n\np: {SHOWN} errors")), "{all}");
        let more = report(SHOWN + 3);
        let end = format!("\n\n... and 3 more\np: {} errors", SHOWN + 3);
        assert!(more.ends_with(&end), "{more}");
    }

    #[test]
    fn a_secret_in_the_policy_is_not_shown() {
        let secret = "5dc2a1f0b7e46983175c2f8e90ab3d64c8f10e7755a92b6d13f4e8c07a9b2d61";
        let text = format!("token = \"{secret}\" # é 12ab\n");
        let diagnostic = Diagnostic::new(8..74, format!("/etc/{secret} cannot be read"));
        let shown = Report::new("p", &text, vec![diagnostic]).to_string();
        assert!(!shown.contains(&secret[..16]), "{shown}");
        let stars = "*".repeat(64);
        assert!(
            shown.contains(&format!("token = \"{stars}\" # é 12ab")),
            "{shown}"
        );
        assert!(shown.contains(&format!("/etc/{stars} cannot")), "{shown}");
    }

    #[test]
    fn control_characters_do_no_harm() {
        assert_eq!(harmless("a\u{1b}[1m\t\u{85}é\n"), "a?[1m\t??é\n");
        assert_eq!([floor("aé", 2), floor("aé", 3), floor("aé", 9)], [1, 3, 3]);
    }
}
