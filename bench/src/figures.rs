//! All that was measured, as one table.

use std::fmt::Write;
use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::statistics::Spread;

/// One line of the table.
#[derive(Debug, Clone)]
pub struct Figure {
    pub section: &'static str,
    /// The thing that was measured.
    pub what: String,
    /// Of whom.
    pub who: String,
    /// With how many; 0 where that does not matter.
    pub at: u64,
    /// Of what: keys, grants.
    pub of: &'static str,
    pub unit: &'static str,
    pub spread: Spread,
}

/// A line as it is kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Row {
    pub section: String,
    pub what: String,
    pub who: String,
    pub at: u64,
    pub of: String,
    pub unit: String,
    pub median: f64,
    pub least: f64,
    pub most: f64,
    pub runs: usize,
}

/// All lines, and what has to be said of a section besides.
#[derive(Debug, Default)]
pub struct Figures {
    pub rows: Vec<Row>,
    pub notes: Vec<(&'static str, String)>,
}

impl Figures {
    pub fn add(&mut self, figure: Figure) {
        // Beyond three digits behind the point nothing was measured.
        let round = |value: f64| (value * 1_000.0).round() / 1_000.0;
        self.rows.push(Row {
            section: figure.section.to_string(),
            what: figure.what,
            who: figure.who,
            at: figure.at,
            of: figure.of.to_string(),
            unit: figure.unit.to_string(),
            median: round(figure.spread.median),
            least: round(figure.spread.least),
            most: round(figure.spread.most),
            runs: figure.spread.runs,
        });
    }

    pub fn note(&mut self, section: &'static str, text: String) {
        self.notes.push((section, text));
    }
}

/// The table as text, a line for each figure.
pub fn text(rows: &[Row]) -> String {
    let mut text = String::new();
    for row in rows {
        let at = if row.at == 0 {
            String::new()
        } else {
            format!("{} {}", row.at, row.of)
        };
        let _ = writeln!(
            text,
            "{:<11} {:<52} {:<32} {at:>20} {:>12.1} {:>12.1} {:>12.1} {} ({})",
            row.section, row.what, row.who, row.median, row.least, row.most, row.unit, row.runs
        );
    }
    text
}

/// Reads a table that was kept.
///
/// # Errors
/// When it cannot be read, or is not one.
pub fn read(path: &Path) -> io::Result<Vec<Row>> {
    let mut reader = csv::Reader::from_path(path).map_err(io::Error::other)?;
    reader
        .deserialize()
        .map(|row| row.map_err(io::Error::other))
        .collect()
}

/// Keeps a table as comma-separated values, with a line of headings.
///
/// # Errors
/// When it cannot be written.
pub fn write(path: &Path, rows: &[Row]) -> io::Result<()> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    for row in rows {
        writer.serialize(row).map_err(io::Error::other)?;
    }
    fs::write(path, writer.into_inner().map_err(io::Error::other)?)
}
