//! Where everything stands in a drawing. Everything in pixels, from the upper left corner.
//!
//! Columns from left to right: the stranger, one for each knock, keys, lanes, doors. Each key has
//! rows of its own, in the order of the tree; a place of knocks stands in the middle of what follows
//! it. So lines of the tree never cross; lines to doors may.

use super::doors::{lanes, settle};
use super::words::{count, length, wrap};
use super::{Door, Key, Look, Picture, TooMuch};

/// Sizes of letters: of a knock, of a name, of what is said below it.
pub(super) const KNOCK: i64 = 13;
pub(super) const NAME: i64 = 14;
pub(super) const SAID: i64 = 12;

/// From one line of text in a frame to the next, and what is free around them.
pub(super) const ROW: i64 = 17;
pub(super) const PADDING: i64 = 9;

pub(super) const MARGIN: i64 = 24;
const TOP: i64 = 96;
/// Between one knock and the next.
const GAP: i64 = 24;
const PILL: i64 = 28;
/// What a line has at least before it enters a key or door.
const ENTRY: i64 = 32;
const LANE: i64 = 12;
/// Between the lines that leave one key.
const FAN: i64 = 10;
const BETWEEN_KEYS: i64 = 14;
const BETWEEN_DOORS: i64 = 18;
const LEAST_WIDTH: i64 = 600;

/// Letters in a line of a key or door; names may be longer.
const LETTERS: usize = 30;
const LINES_OF_PORTS: usize = 4;

/// A picture with a place for everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drawing {
    pub width: i64,
    pub height: i64,
    /// The left edge of each column, and what it holds.
    pub heads: Vec<(i64, &'static str)>,
    /// The base line of each, at the bottom.
    pub notes: Vec<(i64, String)>,
    pub frames: Vec<Frame>,
    pub lines: Vec<Line>,
}

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

/// What a frame is of: a place in the list of that name in [`Picture`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    Knock(usize),
    Key(usize),
    Door(usize),
}

/// A line from a right edge to a left edge: level, upright at `bend`, and level again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line {
    pub from: (i64, i64),
    pub bend: i64,
    pub to: (i64, i64),
    pub leads: Leads,
}

/// Where a line leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leads {
    OnToAKnock,
    ToAKey,
    ToDoor(usize),
}

impl Frame {
    fn new(of: Of, rows: Vec<String>, least_height: i64) -> Frame {
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

    fn middle(&self) -> i64 {
        self.y + self.height / 2
    }

    fn right(&self) -> i64 {
        self.x + self.width
    }

    fn move_middle(&mut self, middle: i64) {
        self.y = middle - self.height / 2;
    }
}

/// The width of text in a monospaced font of this size: of the usual ones the widest has 0.62 of its
/// size for each letter.
fn wide(text: &str, size: i64) -> i64 {
    (length(text) as i64 * size * 63).div_euclid(100) + 1
}

/// Gives everything its place.
///
/// # Errors
/// When it is too much for a drawing.
pub fn place(picture: &Picture) -> Result<Drawing, TooMuch> {
    picture.fits()?;
    let mut columns = Columns::new(picture);
    columns.rows();
    columns.from_left_to_right();
    columns.doors();
    Ok(columns.drawing())
}

/// The frames of each kind, and the lines between them.
struct Columns<'p> {
    picture: &'p Picture,
    /// For each place of knocks, how many knocks lead there.
    depths: Vec<i64>,
    knocks: Vec<Frame>,
    keys: Vec<Frame>,
    doors: Vec<Frame>,
    lines: Vec<Line>,
    /// The left edges: of the first knock, of keys, of the first lane.
    left: [i64; 3],
}

impl Columns<'_> {
    fn new(picture: &Picture) -> Columns<'_> {
        let mut depths = vec![0; picture.knocks.len()];
        for (place, knocked) in picture.knocks.iter().enumerate() {
            for &next in &knocked.then {
                depths[next] = depths[place] + 1;
            }
        }
        let numbered = picture.knocks.iter().enumerate();
        let knocks = numbered
            .map(|(place, knocked)| Frame::new(Of::Knock(place), vec![knocked.label.clone()], 0));
        let keys = picture.keys.iter().enumerate().map(|(place, key)| {
            let fan = key.opens.len() as i64 * FAN + PADDING;
            Frame::new(Of::Key(place), rows_of_key(key), fan)
        });
        let doors = picture.doors.iter().enumerate();
        let doors = doors.map(|(place, door)| Frame::new(Of::Door(place), rows_of_door(door), 0));
        let mut columns = Columns {
            picture,
            depths,
            knocks: knocks.collect(),
            keys: keys.collect(),
            doors: doors.collect(),
            lines: Vec::new(),
            left: [0; 3],
        };
        // What is one below the other is equally wide.
        let is_port = |look: Look| matches!(look, Look::Tcp | Look::Udp);
        let looks = picture.knocks.iter().map(|knocked| is_port(knocked.look));
        let mut pills: Vec<&mut Frame> = columns
            .knocks
            .iter_mut()
            .zip(looks)
            .filter_map(|(frame, is_port)| is_port.then_some(frame))
            .collect();
        let widest = pills.iter().map(|frame| frame.width).max().unwrap_or(0);
        pills.iter_mut().for_each(|frame| frame.width = widest);
        for frames in [&mut columns.keys, &mut columns.doors] {
            let widest = frames.iter().map(|frame| frame.width).max().unwrap_or(0);
            frames
                .iter_mut()
                .for_each(|frame| frame.width = widest.max(120));
        }
        columns
    }

    /// From top to bottom: keys in the order of the tree, and the knocks that lead to them.
    fn rows(&mut self) {
        let heights = |frames: &[Frame], gap: i64| -> i64 {
            frames.iter().map(|frame| frame.height + gap).sum()
        };
        let keys = heights(&self.keys, BETWEEN_KEYS);
        let doors = heights(&self.doors, BETWEEN_DOORS);
        let mut y = TOP + ((doors - keys) / 2).max(0);
        let mut open = vec![0];
        while let Some(place) = open.pop() {
            let knocked = &self.picture.knocks[place];
            if let Some(key) = knocked.makes {
                let key = &mut self.keys[key];
                key.y = y;
                y += key.height + BETWEEN_KEYS;
                let middle = key.middle();
                self.knocks[place].move_middle(middle);
            }
            open.extend(knocked.then.iter().rev());
        }
        // Who leads to others comes before them.
        for place in (0..self.knocks.len()).rev() {
            let then = &self.picture.knocks[place].then;
            if let (Some(&first), Some(&last)) = (then.first(), then.last()) {
                let middle = (self.knocks[first].middle() + self.knocks[last].middle()) / 2;
                self.knocks[place].move_middle(middle);
            }
        }
    }

    fn from_left_to_right(&mut self) {
        self.knocks[0].x = MARGIN;
        let first = self.knocks[0].right() + GAP;
        let look = |place: usize| self.picture.knocks[place].look;
        let pill = (0..self.knocks.len()).find(|&p| matches!(look(p), Look::Tcp | Look::Udp));
        let step = pill.map_or(0, |place| self.knocks[place].width + GAP);
        for (frame, depth) in self.knocks.iter_mut().zip(&self.depths).skip(1) {
            frame.x = first + (depth - 1) * step;
        }
        let right = self.knocks.iter().map(Frame::right).max().unwrap_or(first);
        let keys = right + ENTRY;
        for key in &mut self.keys {
            key.x = keys;
        }
        let right = self.keys.iter().map(Frame::right).max();
        // Without keys, doors are all there is.
        self.left = match right {
            Some(right) => [first, keys, right + GAP],
            None => [MARGIN; 3],
        };
        self.lines_of_the_tree();
    }

    fn lines_of_the_tree(&mut self) {
        for (place, knocked) in self.picture.knocks.iter().enumerate() {
            let frame = &self.knocks[place];
            let from = (frame.right(), frame.middle());
            for &next in &knocked.then {
                let next = &self.knocks[next];
                self.lines.push(Line {
                    from,
                    bend: next.x - GAP / 2,
                    to: (next.x, next.middle()),
                    leads: Leads::OnToAKnock,
                });
            }
            if let Some(key) = knocked.makes {
                let key = &self.keys[key];
                self.lines.push(Line {
                    from,
                    bend: from.0,
                    to: (key.x, key.middle()),
                    leads: Leads::ToAKey,
                });
            }
        }
    }

    /// Doors stand beside their keys, those without any below the others.
    fn doors(&mut self) {
        let wish = |door: &Door| {
            let keys = door.opened_by.iter().map(|&key| self.keys[key].middle());
            keys.sum::<i64>() / (door.opened_by.len() as i64).max(1)
        };
        let wishes: Vec<i64> = self.picture.doors.iter().map(wish).collect();
        let mut order: Vec<usize> = (0..self.doors.len()).collect();
        let lonely = |door: usize| self.picture.doors[door].opened_by.is_empty();
        order.sort_by_key(|&door| (lonely(door), wishes[door]));
        let visited = order.iter().take_while(|&&door| !lonely(door));
        let wanted: Vec<_> = visited
            .map(|&d| (wishes[d], self.doors[d].height))
            .collect();
        let middles = settle(&wanted, BETWEEN_DOORS, TOP);
        for (&door, &middle) in order.iter().zip(&middles) {
            self.doors[door].move_middle(middle);
        }
        let last = middles
            .len()
            .checked_sub(1)
            .map(|last| &self.doors[order[last]]);
        let mut y = last.map_or(TOP, |last| last.y + last.height + BETWEEN_DOORS);
        for &door in &order[middles.len()..] {
            self.doors[door].y = y;
            y += self.doors[door].height + BETWEEN_DOORS;
        }
        self.lines_to_doors();
    }

    fn lines_to_doors(&mut self) {
        // Where lines leave: those of one key in the order of the doors, so that they do not cross.
        let mut leaving: Vec<Vec<(i64, i64)>> = vec![Vec::new(); self.doors.len()];
        for (frame, key) in self.keys.iter().zip(&self.picture.keys) {
            let mut doors = key.opens.clone();
            doors.sort_by_key(|&door| self.doors[door].y);
            let half = (doors.len() as i64 - 1) * FAN / 2;
            for (number, door) in (0..).zip(doors) {
                leaving[door].push((frame.right(), frame.middle() - half + number * FAN));
            }
        }
        let entries: Vec<i64> = (0..self.doors.len())
            .map(|door| entry(&self.doors[door], door, &leaving))
            .collect();
        let stretches: Vec<(i64, i64)> = leaving
            .iter()
            .zip(&entries)
            .map(|(from, &entry)| {
                let ys = || from.iter().map(|&(_, y)| y).chain([entry]);
                (ys().min().unwrap_or(entry), ys().max().unwrap_or(entry))
            })
            .collect();
        let lanes = lanes(&stretches, LANE);
        let lane = |lane: usize| self.left[2] + lane as i64 * LANE;
        let x = match self.keys.is_empty() {
            true => self.left[2],
            false => lane(lanes.iter().copied().max().unwrap_or(0)) + ENTRY,
        };
        for (door, frame) in self.doors.iter_mut().enumerate() {
            frame.x = x;
            self.lines.extend(leaving[door].iter().map(|&from| Line {
                from,
                bend: lane(lanes[door]),
                to: (x, entries[door]),
                leads: Leads::ToDoor(door),
            }));
        }
    }

    fn drawing(self) -> Drawing {
        let all = || self.knocks.iter().chain(&self.keys).chain(&self.doors);
        let right = all().map(Frame::right).max().unwrap_or(0);
        let bottom = all().map(|frame| frame.y + frame.height).max().unwrap_or(0);
        let width = (right + MARGIN).max(LEAST_WIDTH);
        let letters = (width - 2 * MARGIN) / wide("x", SAID);
        let notes = self.picture.notes.iter();
        let notes = notes.flat_map(|note| wrap(note, letters.unsigned_abs() as usize));
        let notes = (0..)
            .zip(notes)
            .map(|(n, note)| (bottom + 40 + n * ROW, note));
        let notes: Vec<(i64, String)> = notes.collect();
        let door_x = self.doors.first().map_or(MARGIN, |door| door.x);
        let mut heads = vec![(door_x, "doors")];
        let mut frames = self.doors;
        if !self.keys.is_empty() {
            heads.extend([(self.left[0], "knocks"), (self.left[1], "keys")]);
            frames.extend(self.keys);
            frames.extend(self.knocks);
        }
        Drawing {
            width,
            height: notes.last().map_or(bottom, |(y, _)| *y) + MARGIN,
            heads,
            notes,
            frames,
            lines: self.lines,
        }
    }
}

/// Where lines enter a door: in its middle, or where no line to another door runs at that height.
fn entry(frame: &Frame, door: usize, leaving: &[Vec<(i64, i64)>]) -> i64 {
    let others = || {
        let others = leaving
            .iter()
            .enumerate()
            .filter(|(other, _)| *other != door);
        others.flat_map(|(_, from)| from).map(|&(_, y)| y)
    };
    let free = |y: &i64| others().all(|other| (other - y).abs() > 4);
    let tried = [0, 5, -5, 10, -10, 15, -15].map(|by| frame.middle() + by);
    tried.into_iter().find(free).unwrap_or(frame.middle())
}

fn rows_of_key(key: &Key) -> Vec<String> {
    let mut rows = vec![key.name.clone()];
    rows.extend(wrap(&key.grants, LETTERS));
    rows.extend(wrap(&key.limits.join(", "), LETTERS));
    rows
}

fn rows_of_door(door: &Door) -> Vec<String> {
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
    rows.extend(wrap(&door.trusts, LETTERS));
    if door.opened_by.is_empty() {
        rows.push("no key opens it".to_string());
    }
    rows
}
