//! Boxes with lines of text: what stands in them, and how large they are. Everything in pixels.

use super::words::{count, length, wrap};
use super::{Door, Key};

/// Sizes of letters: of a knock, of a name, of what is said below it.
pub(super) const KNOCK: i64 = 13;
pub(super) const NAME: i64 = 14;
pub(super) const SAID: i64 = 12;

/// From one line of text in a frame to the next, and what is free around them.
pub(super) const ROW: i64 = 17;
pub(super) const PADDING: i64 = 8;

/// The height of a knock.
const PILL: i64 = 28;

/// Letters in a line of a key or door; names may be longer.
const LETTERS: usize = 30;
const LINES_OF_PORTS: usize = 4;

/// A box with lines of text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub of: Of,
    pub x: i64,
    pub y: i64,
    pub width: i64,
    pub height: i64,
    pub rows: Vec<String>,
}

/// The subject of a frame: a place in the list of that name in [`Picture`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    Knock(usize),
    Key(usize),
    Door(usize),
}

impl Frame {
    pub(super) fn new(of: Of, rows: Vec<String>, least_height: i64) -> Frame {
        let text = rows.len() as i64 * ROW + 2 * PADDING;
        let (height, first) = match of {
            Of::Knock(_) => (PILL, KNOCK),
            Of::Key(_) | Of::Door(_) => (text.max(least_height), NAME),
        };
        let sizes = std::iter::once(first).chain(std::iter::repeat(SAID));
        let widths = rows.iter().zip(sizes).map(|(row, size)| wide(row, size));
        let width = widths.max().unwrap_or(0) + 2 * PADDING + 4;
        Frame {
            of,
            x: 0,
            y: 0,
            width,
            height,
            rows,
        }
    }

    pub(super) fn middle(&self) -> i64 {
        self.y + self.height / 2
    }

    pub(super) fn right(&self) -> i64 {
        self.x + self.width
    }

    pub(super) fn move_middle(&mut self, middle: i64) {
        self.y = middle - self.height / 2;
    }
}

/// The width of text in a monospaced font of this size: of the usual ones the widest has 0.62 of its
/// size for each letter.
pub(super) fn wide(text: &str, size: i64) -> i64 {
    (length(text) as i64 * size * 63).div_euclid(100) + 1
}

/// The lines in the frame of a key: its name first.
pub(super) fn rows_of_key(key: &Key) -> Vec<String> {
    let mut rows = vec![key.name.clone()];
    rows.extend(wrap(&key.grants, LETTERS));
    rows.extend_from_slice(&key.limits);
    rows
}

/// The lines in the frame of a door: its name first.
pub(super) fn rows_of_door(door: &Door) -> Vec<String> {
    let mut rows = vec![door.name.clone()];
    let ports = wrap(&door.ports.join(" "), LETTERS);
    if ports.len() > LINES_OF_PORTS {
        let shown = &ports[..LINES_OF_PORTS - 1];
        let named: usize = shown.iter().map(|line| line.split(' ').count()).sum();
        rows.extend_from_slice(shown);
        rows.push(format!(
            "and {} more",
            count(door.ports.len() - named, "port")
        ));
    } else {
        rows.extend(ports);
    }
    rows.extend(wrap(&door.extends, LETTERS));
    rows.extend(wrap(&door.trusts, LETTERS));
    if door.opened_by.is_empty() {
        rows.push("no key opens it".to_string());
    }
    rows
}
