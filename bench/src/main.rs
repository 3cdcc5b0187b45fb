//! figures: what toctoc costs and how fast it is, beside what people have. See docs/figures.md.
//!
//! `toctoc-bench [SECTION...]`, in the project's directory, measures all sections or those named, prints
//! the table, says where it ranks anybody differently than the one that is kept, and keeps it: in
//! docs/figures.csv, and in the tables and pictures of docs/figures.md. `toctoc-bench tables` measures nothing, and makes
//! these anew.

mod cost;
mod daemon;
mod figures;
mod firewalls;
mod fleet;
mod flood;
mod frames;
mod granted;
mod growth;
mod listener;
mod networks;
mod opening;
mod operations;
mod peers;
mod place;
mod plot;
mod policies;
mod program;
mod random;
mod ranking;
mod report;
mod road;
mod sender;
mod signed;
mod state;
mod statistics;
mod summary;
mod variants;
mod ways;

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, ExitCode};

use figures::{Figures, Row};

/// Measures one section.
type Measure = fn(&mut Figures) -> io::Result<()>;

/// In the order in which they are run and shown.
const SECTIONS: [(&str, Measure); 8] = [
    ("opening", opening::measure),
    ("cost", cost::measure),
    ("variants", variants::measure),
    ("flood", flood::measure),
    ("networks", networks::measure),
    ("state", state::measure),
    ("operations", operations::measure),
    ("fleet", fleet::measure),
];

/// Measures nothing.
const TABLES: &str = "tables";

fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let unknown = wanted
        .iter()
        .filter(|name| *name != TABLES)
        .find(|name| SECTIONS.iter().all(|(known, _)| known != name));
    if let Some(unknown) = unknown {
        let known: Vec<&str> = SECTIONS.iter().map(|(name, _)| *name).collect();
        eprintln!("there is no section `{unknown}`, only {}", known.join(", "));
        return ExitCode::from(2);
    }
    match measure(&wanted) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(wanted: &[String]) -> io::Result<()> {
    let docs = Path::new("docs");
    let kept = docs.join("figures.csv");
    let before = if kept.exists() {
        figures::read(&kept)?
    } else {
        Vec::new()
    };
    let mut figures = Figures::default();
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|one| one == name);
    for (name, measure) in SECTIONS.iter().filter(|(name, _)| is_wanted(name)) {
        measure(&mut figures).map_err(|error| io::Error::other(format!("{name}: {error}")))?;
    }
    print!("{}", figures::text(&figures.rows));
    let differences = ranking::differences(&before, &figures.rows);
    for difference in &differences {
        println!("ranked differently: {difference}");
    }
    println!(
        "of {} pairs that docs/figures.csv has too, {} are ranked differently",
        ranking::pairs(&before, &figures.rows),
        differences.len()
    );
    let mut rows = in_order(&before, figures.rows, is_wanted);
    rows.extend(growth::on_paper(&rows));
    figures::write(&kept, &rows)?;
    report::write(&docs.join("figures.md"), &rows, &figures.notes, &machine()?)?;
    if let Some(table) = summary::table(&rows) {
        report::write_one(&docs.join("figures.md"), "summary", &table)?;
    }
    plot::draw(docs, &rows)
}

/// The rows that were measured, and of the other sections the rows that are kept.
fn in_order(before: &[Row], now: Vec<Row>, is_wanted: impl Fn(&str) -> bool) -> Vec<Row> {
    let mut rows = Vec::new();
    for (name, _) in SECTIONS {
        let source = if is_wanted(name) { &now[..] } else { before };
        rows.extend(source.iter().filter(|row| row.section == name).cloned());
    }
    rows
}

/// Where all of this was measured.
fn machine() -> io::Result<String> {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let processors = std::thread::available_parallelism()?;
    let info = fs::read_to_string("/proc/cpuinfo")?;
    let model = info
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("unknown", |(_, name)| name);
    Ok(format!(
        "Linux {}, {processors} processors ({model}). {}.\n",
        kernel.trim(),
        versions()?.join(", ")
    ))
}

/// Debian's packages with what is measured, and what it is measured with.
const PACKAGES: [&str; 8] = [
    "nftables",
    "iptables",
    "knockd",
    "fwknop-server",
    "nmap",
    "netcat-openbsd",
    "openssh-client",
    "redis-server",
];

/// Which releases were measured.
fn versions() -> io::Result<Vec<String>> {
    let own = program::run(Command::new(place::toctoc()).arg("--version"))?.stdout;
    let mut versions = vec![own.trim().to_string()];
    let mut query = Command::new("dpkg-query");
    query.args(["--show", "--showformat", "${Package} ${Version}\n"]);
    let packages = program::run(query.args(PACKAGES))?.stdout;
    versions.extend(packages.lines().map(str::to_string));
    let letmein = Path::new("target/letmein/bin/letmein");
    if letmein.exists() {
        let told = program::run(Command::new(letmein).arg("--version"))?.stdout;
        versions.push(told.trim().replace(" version", ""));
    }
    Ok(versions)
}
