//! Where doors stand beside their keys, and the lines that lead to them. Everything in pixels.

use super::Door;
use super::frame::Frame;
use super::place::{APART, BETWEEN_DOORS, Columns, ENTRY, FAN, Leads, Line, TOP};
use super::settle::{lanes, settle};

/// From one upright line to the next.
const LANE: i64 = 14;

impl Columns<'_> {
    /// Doors stand beside their keys, those without any below the others.
    pub(super) fn doors(&mut self) {
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
        let mut leaving: Vec<Vec<Leaving>> = self.doors.iter().map(|_| Vec::new()).collect();
        for (place, (frame, key)) in self.keys.iter().zip(&self.picture.keys).enumerate() {
            let mut doors = key.opens.clone();
            doors.sort_by_key(|&door| self.doors[door].y);
            let half = (doors.len() as i64 - 1) * FAN / 2;
            for (number, door) in (0..).zip(doors) {
                leaving[door].push(Leaving {
                    key: place,
                    y: frame.middle() - half + number * FAN,
                });
            }
        }
        let entries: Vec<i64> = (0..self.doors.len())
            .map(|door| entry(&self.doors[door], door, &leaving))
            .collect();
        let stretches: Vec<(i64, i64)> = leaving
            .iter()
            .zip(&entries)
            .map(|(from, &entry)| {
                let ys = || from.iter().map(|from| from.y).chain([entry]);
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
            self.lines.extend(leaving[door].iter().map(|from| Line {
                from: (self.keys[from.key].right(), from.y),
                bend: lane(lanes[door]),
                to: (x, entries[door]),
                leads: Leads::ToDoor {
                    door,
                    key: from.key,
                },
            }));
        }
    }
}

/// A line that leaves a key at this height.
struct Leaving {
    key: usize,
    y: i64,
}

/// Where lines enter a door: in its middle, or as near as no line to another door leaves its key.
fn entry(frame: &Frame, door: usize, leaving: &[Vec<Leaving>]) -> i64 {
    let others = || {
        let others = leaving
            .iter()
            .enumerate()
            .filter(|(other, _)| *other != door);
        others.flat_map(|(_, from)| from).map(|from| from.y)
    };
    let free = |y: &i64| others().all(|other| (other - y).abs() > APART);
    let room = frame.height / 2 - APART;
    let tried = (0..room).flat_map(|by| [frame.middle() + by, frame.middle() - by]);
    tried.into_iter().find(free).unwrap_or(frame.middle())
}
