//! Where everything stands in a drawing. Everything in pixels, from the upper left corner.
//!
//! Columns from left to right: the stranger, one for each knock, keys, lanes, doors. Each key has
//! rows of its own, in the order of the tree; a place of knocks stands in the middle of what follows
//! it. So lines of the tree never cross; lines to doors may.

use super::frame::{Frame, Of, PADDING, ROW, SAID, rows_of_door, rows_of_key, wide};
use super::words::wrap;
use super::{Look, Picture, TooMuch};

/// The free room at the edges.
pub(super) const MARGIN: i64 = 24;
/// Where keys and doors begin, below the title.
pub(super) const TOP: i64 = 96;
/// Between one knock and the next.
const GAP: i64 = 24;
/// The least room of a line before it enters a key or door.
pub(super) const ENTRY: i64 = 32;
/// Between the lines that leave one key.
pub(super) const FAN: i64 = 10;
const BETWEEN_KEYS: i64 = 12;
pub(super) const BETWEEN_DOORS: i64 = 18;
/// Less than this is hardly seen to be apart.
pub(super) const APART: i64 = 8;
const LEAST_WIDTH: i64 = 600;

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
    /// Places in [`Picture::doors`] and [`Picture::keys`].
    ToDoor {
        door: usize,
        key: usize,
    },
}

/// Gives everything its place.
///
/// # Errors
/// When it is too much for a drawing.
pub fn place(picture: &Picture) -> Result<Drawing, TooMuch> {
    picture.fits()?;
    let mut columns = Columns::new(picture);
    columns.rows();
    columns.left_to_right();
    columns.doors();
    Ok(columns.drawing())
}

/// The frames of each kind, and the lines between them.
pub(super) struct Columns<'p> {
    pub(super) picture: &'p Picture,
    /// For each place of knocks, how many knocks lead there.
    depths: Vec<i64>,
    knocks: Vec<Frame>,
    pub(super) keys: Vec<Frame>,
    pub(super) doors: Vec<Frame>,
    pub(super) lines: Vec<Line>,
    /// The left edges: of the first knock, of keys, of the first lane.
    pub(super) left: [i64; 3],
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
        // Frames one below the other are equally wide.
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
        // Knocks that lead to others come before them.
        for place in (0..self.knocks.len()).rev() {
            let then = &self.picture.knocks[place].then;
            if let (Some(&first), Some(&last)) = (then.first(), then.last()) {
                let middle = (self.knocks[first].middle() + self.knocks[last].middle()) / 2;
                let then = then.iter().map(|&next| self.knocks[next].middle());
                // A line that is nearly straight is.
                let near = then.min_by_key(|next| (next - middle).abs());
                let near = near.filter(|next| (next - middle).abs() < APART);
                let middle = near.unwrap_or(middle);
                self.knocks[place].move_middle(middle);
            }
        }
    }

    fn left_to_right(&mut self) {
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
