//! The cost of the commands of an administrator.

mod apply;
mod beside;
mod grants;
mod starts;
mod through;
mod tokens;

use std::io;
use std::path::Path;

use crate::figures::{Figure, Figures};
use crate::place::Place;
use crate::statistics::Spread;

const SECTION: &str = "operations";

/// The number of times that the things that take seconds are done.
const FEW: usize = 5;

/// And the others.
const RUNS: usize = 11;

pub fn measure(figures: &mut Figures) -> io::Result<()> {
    starts::measure(figures)?;
    apply::measure(figures)?;
    tokens::measure(figures)?;
    grants::measure(figures)?;
    beside::measure(figures)?;
    through::measure(figures)
}

/// The measurements, in turn: a row for each thing.
#[derive(Default)]
struct Samples(Vec<(Row, Vec<f64>)>);

#[derive(Debug, Clone, PartialEq)]
struct Row {
    what: &'static str,
    who: &'static str,
    at: usize,
    of: &'static str,
    unit: &'static str,
}

impl Samples {
    fn add(&mut self, row: Row, value: f64) {
        match self.0.iter_mut().find(|(known, _)| *known == row) {
            Some((_, values)) => values.push(value),
            None => self.0.push((row, vec![value])),
        }
    }

    /// Runs our program on the server, and adds how long that took.
    fn time(&mut self, row: Row, place: &Place, words: &[&str]) -> io::Result<()> {
        let ended = place.measure(&place.lab.server, &[&["toctoc"], words].concat())?;
        self.add(row, ended.wall.as_secs_f64() * 1_000.0);
        Ok(())
    }

    fn tell(self, figures: &mut Figures) {
        for (row, values) in self.0 {
            figures.add(Figure {
                section: SECTION,
                what: row.what.to_string(),
                who: row.who.to_string(),
                at: row.at as u64,
                of: row.of,
                unit: row.unit,
                spread: Spread::of(&values),
            });
        }
    }
}

/// The path of a policy, as an argument.
fn argument(path: &Path) -> String {
    path.display().to_string()
}
