//! figures: what toctoc costs and how fast it is, beside what people have. See docs/figures.md.
//!
//! `toctoc-bench [SECTION...]` measures all sections or those named, prints the table and saves it.

mod cost;
mod daemon;
mod figures;
mod firewalls;
mod flood;
mod frames;
mod listener;
mod opening;
mod operations;
mod peers;
mod place;
mod policies;
mod program;
mod random;
mod sender;
mod state;
mod statistics;
mod variants;
mod ways;

use std::io;
use std::process::ExitCode;

use figures::Figures;

/// Measures one section.
type Measure = fn(&mut Figures) -> io::Result<()>;

/// In the order in which they are run and shown.
const SECTIONS: [(&str, Measure); 6] = [
    ("opening", opening::measure),
    ("cost", cost::measure),
    ("flood", flood::measure),
    ("state", state::measure),
    ("variants", variants::measure),
    ("operations", operations::measure),
];

fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let unknown = wanted
        .iter()
        .find(|name| SECTIONS.iter().all(|(known, _)| known != name));
    if let Some(unknown) = unknown {
        let known: Vec<&str> = SECTIONS.iter().map(|(name, _)| *name).collect();
        eprintln!("there is no section `{unknown}`, only {}", known.join(", "));
        return ExitCode::from(2);
    }
    let mut figures = Figures::default();
    for (name, measure) in SECTIONS {
        if !wanted.is_empty() && !wanted.iter().any(|one| one == name) {
            continue;
        }
        if let Err(error) = measure(&mut figures) {
            eprintln!("{name}: {error}");
            return ExitCode::FAILURE;
        }
    }
    for (section, note) in &figures.1 {
        eprintln!("{section}: {note}");
    }
    print!("{}", figures.csv());
    ExitCode::SUCCESS
}
