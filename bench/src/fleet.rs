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

/// A row for each number, or for each spread of numbers.
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
    let (what, load, hosts, unit) = named(path);
    figures.rows.push(Row {
        section: "fleet".to_string(),
        what,
        who: load,
        at: hosts,
        of: "hosts".to_string(),
        unit,
        median,
        least,
        most,
        runs,
    });
}

/// The script's name of a number, as what it is, under which load, of how many hosts, and its unit.
fn named(path: &[String]) -> (String, String, u64, String) {
    let mut parts: Vec<&str> = path.iter().map(String::as_str).collect();
    let mut hosts = 3;
    let mut load = "each knock alone".to_string();
    match parts.first() {
        Some(&"of three hosts") => {
            load = parts.remove(1).to_string();
            parts.remove(0);
        }
        Some(&"of so many hosts") => {
            hosts = parts.remove(1).parse().unwrap_or_default();
            parts.remove(0);
        }
        _ => {}
    }
    let what = parts.join(" ");
    let before = ["ms ", "s "]
        .into_iter()
        .find(|unit| what.starts_with(unit));
    let behind = [", MB", ", %"]
        .into_iter()
        .find(|unit| what.ends_with(unit));
    let (what, unit) = match (before, behind) {
        (Some(unit), _) => (what.trim_start_matches(unit).to_string(), unit.trim()),
        (None, Some(unit)) => (
            what.trim_end_matches(unit).to_string(),
            unit.trim_start_matches(", "),
        ),
        (None, None) => (what, "grants"),
    };
    if hosts != 3 && unit != "ms" {
        load = "idle".to_string();
    }
    (what, load, hosts, unit.to_string())
}
