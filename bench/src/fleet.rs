//! Several hosts with an engine: measured by scripts/figures-fleet, which makes hosts of its own.

use std::io;
use std::process::Command;

use serde_json::Value;

use crate::figures::{Figures, Row};
use crate::place::toctoc;
use crate::program;

/// In parts: each ends within the minutes that a program has.
const PARTS: [(&str, &[(&str, &str)]); 6] = [
    ("latency", &[]),
    ("agent", &[("SECONDS", "20"), ("IDLE", "10")]),
    ("growth", &[("HOSTS", "2"), ("IDLE", "5")]),
    ("growth", &[("HOSTS", "5"), ("IDLE", "5")]),
    ("growth", &[("HOSTS", "10"), ("IDLE", "5")]),
    ("growth", &[("HOSTS", "20"), ("IDLE", "5")]),
];

pub fn measure(figures: &mut Figures) -> io::Result<()> {
    for (part, settings) in PARTS {
        eprintln!("fleet: {part} {settings:?}");
        let mut command = Command::new("scripts/figures-fleet");
        command.arg(part).env("JSON", "1").env("TOCTOC", toctoc());
        command.envs(settings.iter().copied());
        let ended = program::run(&mut command)?.succeeded(&["scripts/figures-fleet", part])?;
        let told: Value = serde_json::from_str(&ended.stdout).map_err(io::Error::other)?;
        rows(&told, &mut Vec::new(), figures);
    }
    Ok(())
}

/// A row for each number, or for each spread of numbers. What leads to it is what it is called.
fn rows(told: &Value, path: &mut Vec<String>, figures: &mut Figures) {
    let number = |name: &str| told[name].as_f64();
    let (median, least, most, runs) = match (number("median"), told.as_f64()) {
        (Some(median), _) => {
            let runs = number("runs").unwrap_or(1.0) as usize;
            (
                median,
                number("min").unwrap_or(median),
                number("max").unwrap_or(median),
                runs,
            )
        }
        (None, Some(one)) => (one, one, one, 1),
        (None, None) => {
            for (name, inner) in told.as_object().into_iter().flatten() {
                path.push(name.clone());
                rows(inner, path, figures);
                path.pop();
            }
            return;
        }
    };
    // How many hosts there are is a part of the path of its own.
    let hosts = path.iter().find_map(|part| part.parse().ok());
    let words: Vec<&str> = path
        .iter()
        .map(String::as_str)
        .filter(|part| part.parse::<u64>().is_err())
        .collect();
    figures.rows.push(Row {
        section: "fleet".to_string(),
        what: words.join(", "),
        who: "toctoc fleet".to_string(),
        at: hosts.unwrap_or(0),
        unit: String::new(),
        median,
        least,
        most,
        runs,
    });
}
