//! All that was measured, as one table.

use std::fmt::Write;

use crate::statistics::Spread;

/// One line of the table.
#[derive(Debug, Clone)]
pub struct Figure {
    pub section: &'static str,
    /// What was measured.
    pub what: String,
    /// Of whom.
    pub who: String,
    /// With how many keys, grants or packets a second; 0 where that does not matter.
    pub at: u64,
    pub unit: &'static str,
    pub spread: Spread,
}

/// All lines, and what has to be said of a section besides.
#[derive(Debug, Default)]
pub struct Figures(pub Vec<Figure>, pub Vec<(&'static str, String)>);

impl Figures {
    pub fn add(&mut self, figure: Figure) {
        self.0.push(figure);
    }

    pub fn note(&mut self, section: &'static str, text: String) {
        self.1.push((section, text));
    }

    /// The table as comma-separated values, with a line of headings.
    pub fn csv(&self) -> String {
        let mut text = String::from("section,what,who,at,unit,median,least,most,runs\n");
        for figure in &self.0 {
            let Spread {
                median,
                least,
                most,
                runs,
            } = figure.spread;
            let _ = writeln!(
                text,
                "{},\"{}\",\"{}\",{},{},{median:.3},{least:.3},{most:.3},{runs}",
                figure.section, figure.what, figure.who, figure.at, figure.unit
            );
        }
        text
    }
}
