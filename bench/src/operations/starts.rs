//! The cost of starting a client at all: ours, and what others start instead.

use std::io;

use super::{Row, Samples};
use crate::figures::Figures;
use crate::peers::letmein_client;
use crate::place::Place;

const RUNS: usize = 101;

pub fn measure(figures: &mut Figures) -> io::Result<()> {
    eprintln!("operations: starts");
    let mut samples = Samples::default();
    let place = Place::new("legacy")?;
    let letmein = letmein_client()?;
    let mut programs = vec![
        ("true", vec!["true"]),
        ("toctoc --version", vec!["toctoc", "--version"]),
        ("nc -h", vec!["nc", "-h"]),
        ("knock --version", vec!["knock", "--version"]),
        ("fwknop --version", vec!["fwknop", "--version"]),
        ("nmap --version", vec!["nmap", "--version"]),
    ];
    if let Some(letmein) = &letmein {
        programs.push(("letmein --version", vec![letmein, "--version"]));
    }
    for _ in 0..RUNS {
        for (who, words) in &programs {
            let row = Row {
                what: "start and end of a program",
                who,
                at: 0,
                of: "",
                unit: "ms",
            };
            let ended = place.measure(&place.lab.client, words)?;
            samples.add(row, ended.wall.as_secs_f64() * 1_000.0);
        }
    }
    samples.tell(figures);
    Ok(())
}
