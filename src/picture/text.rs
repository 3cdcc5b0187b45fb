//! A picture in a terminal.

use std::fmt::Write as _;

use super::words::{and, count, length, wrap};
use super::{Door, Picture};
use crate::policy::diagnostic::Style;

/// Knocks that would go beyond this column go on in the next line.
const WIDEST_KNOCKS: usize = 56;

/// Lists and sentences are broken here.
const WIDTH: usize = 88;

const BOLD: (&str, &str) = ("\x1b[1m", "\x1b[0m");
const FAINT: (&str, &str) = ("\x1b[2m", "\x1b[0m");

/// The picture as lines. However much it is, it is drawn.
pub fn text(picture: &Picture, style: Style) -> String {
    let mut tree = Tree {
        picture,
        lines: Vec::new(),
    };
    tree.branches(0, "", String::new());
    let paint = Paint(style);
    let mut text = format!("{}\n\n", picture.title);
    if !picture.keys.is_empty() {
        text.push_str("stranger\n");
        keys(&mut text, picture, &tree.lines, paint);
        text.push('\n');
    }
    doors(&mut text, picture, paint);
    text.push('\n');
    for note in &picture.notes {
        for line in wrap(note, WIDTH) {
            let _ = writeln!(text, "{}", paint.with(FAINT, &line));
        }
    }
    text
}

/// The tree of knocks, each line with the key that is complete at its end.
struct Tree<'p> {
    picture: &'p Picture,
    lines: Vec<(String, Option<usize>)>,
}

impl Tree<'_> {
    /// Writes what follows a place, from a line that ends there on. `below` goes before the lines under it.
    fn branches(&mut self, place: usize, below: &str, line: String) {
        let knocked = &self.picture.knocks[place];
        if let Some(key) = knocked.makes {
            self.lines.push((line, Some(key)));
            return;
        }
        let widest = knocked.then.iter().map(|&next| self.length(next)).max();
        let broken = !line.is_empty() && length(&line) + 3 + widest.unwrap_or(0) > WIDEST_KNOCKS;
        let many = knocked.then.len();
        let (mut begun, below) = match broken {
            true => {
                self.lines.push((format!("{line} ─"), None));
                (String::new(), below.to_string())
            }
            // The others of a fork stand under its corner.
            false if many > 1 && !line.is_empty() => {
                let corner = (length(&line) + 1).saturating_sub(length(below));
                (line, format!("{below}{}", " ".repeat(corner)))
            }
            false => (line, below.to_string()),
        };
        for (number, &next) in (1..).zip(&knocked.then) {
            let label = &self.picture.knocks[next].label;
            let last = number == many;
            let (start, under) = match (begun.is_empty(), many, last) {
                (false, 1, _) => (format!("{begun} ─ "), below.clone()),
                (false, _, _) => (format!("{begun} ┬─ "), format!("{below}│  ")),
                (true, _, false) => (format!("{below}├─ "), format!("{below}│  ")),
                (true, _, true) => (format!("{below}└─ "), format!("{below}   ")),
            };
            self.branches(next, &under, format!("{start}{label}"));
            begun = String::new();
        }
    }

    fn length(&self, place: usize) -> usize {
        length(&self.picture.knocks[place].label)
    }
}

fn keys(text: &mut String, picture: &Picture, lines: &[(String, Option<usize>)], paint: Paint) {
    let made = lines.iter().filter(|(_, key)| key.is_some());
    let column = made.map(|(line, _)| length(line)).max().unwrap_or(0);
    let name = picture.keys.iter().map(|key| length(&key.name)).max();
    let name = name.unwrap_or(0);
    for (line, key) in lines {
        let Some(key) = key else {
            let _ = writeln!(text, "{}", paint.tree(line));
            continue;
        };
        let key = &picture.keys[*key];
        let leader = format!(" {}▶ ", "─".repeat(column + 1 - length(line)));
        let limits: String = key.limits.iter().map(|l| format!(", {l}")).collect();
        let _ = writeln!(
            text,
            "{}{}{}{}  opens {}{limits}",
            paint.tree(line),
            paint.with(FAINT, &leader),
            paint.with(BOLD, &key.name),
            " ".repeat(name - length(&key.name)),
            key.grants,
        );
    }
}

fn doors(text: &mut String, picture: &Picture, paint: Paint) {
    let name = picture.doors.iter().map(|door| length(&door.name)).max();
    let name = name.unwrap_or(0);
    text.push_str("doors\n");
    for door in &picture.doors {
        let said = [
            door.ports.join(" "),
            opened_by(picture, door),
            door.extends.clone(),
            door.trusts.clone(),
        ];
        let said: Vec<String> = said.into_iter().filter(|part| !part.is_empty()).collect();
        let indent = 2 + name + 2;
        let said = wrap(&said.join("; "), WIDTH.saturating_sub(indent));
        let gap = " ".repeat(name - length(&door.name));
        let shown = paint.with(BOLD, &door.name);
        let between = format!("\n{}", " ".repeat(indent));
        let _ = writeln!(text, "  {shown}{gap}  {}", said.join(&between));
    }
}

fn opened_by(picture: &Picture, door: &Door) -> String {
    let all = picture.keys.len();
    match door.opened_by.len() {
        0 => "no key opens it".to_string(),
        many if many == all && many > 3 => format!("opened by all {}", count(all, "key")),
        _ => {
            let names = door.opened_by.iter();
            let names: Vec<String> = names.map(|&key| picture.keys[key].name.clone()).collect();
            format!("opened by {}", and(&names))
        }
    }
}

#[derive(Clone, Copy)]
struct Paint(Style);

impl Paint {
    fn with(self, (on, off): (&str, &str), text: &str) -> String {
        match self.0 {
            Style::Plain => text.to_string(),
            Style::Coloured => format!("{on}{text}{off}"),
        }
    }

    /// Lines are faint, and what is knocked is not.
    fn tree(self, line: &str) -> String {
        let mut painted = String::new();
        let is_line = |c: char| "─├└│┬".contains(c);
        for part in line.split_inclusive(' ') {
            match part.starts_with(is_line) {
                true => painted.push_str(&self.with(FAINT, part)),
                false => painted.push_str(part),
            }
        }
        painted
    }
}
