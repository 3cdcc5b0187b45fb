//! Pictures of some figures, drawn by gnuplot.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::figures::Row;

/// Readable on a light and on a dark page.
const HEAD: &str = "set encoding utf8\nset style data linespoints\nset grid lc rgb '#dddddd'\n\
    set border lc rgb '#555555'\nset tics textcolor rgb '#333333'\n";

/// Ours first.
const COLOURS: [&str; 6] = [
    "#1b6ca8", "#63a4d4", "#7a5ba6", "#c8553d", "#d99a2b", "#5f6b6d",
];

/// Draws what there are figures for.
///
/// # Errors
/// When gnuplot is missing, or fails.
pub fn draw(docs: &Path, rows: &[Row]) -> io::Result<()> {
    let has = |section: &str| rows.iter().any(|row| row.section == section);
    if has("opening") {
        opening(docs, rows)?;
    }
    if has("cost") {
        cost(docs, rows)?;
    }
    if has("flood") {
        flood(docs, rows)?;
    }
    if has("operations") {
        apply(docs, rows)?;
    }
    Ok(())
}

/// Bars on a logarithmic scale, with lines from the least to the most.
fn opening(docs: &Path, rows: &[Row]) -> io::Result<()> {
    let mut data = String::new();
    let mut bars: Vec<&Row> = rows
        .iter()
        .filter(|row| row.section == "opening" && row.what == "start to connection")
        .collect();
    bars.sort_by(|one, other| other.median.total_cmp(&one.median));
    for (place, row) in bars.iter().enumerate() {
        let colour = if row.who.starts_with("toctoc") {
            COLOURS[0]
        } else {
            COLOURS[5]
        };
        let _ = writeln!(
            data,
            "{:?} {place} {} {} {} {}",
            row.who,
            row.median,
            row.least,
            row.most,
            colour.replace('#', "0x")
        );
    }
    let script = format!(
        "set logscale x\nset xrange [1:20000]\nset yrange [-0.6:{}]\nset xlabel 'ms from the start of the client to the \
         connection (logarithmic)'\nset ytics nomirror\nset style fill solid\nunset key\nset lmargin 28\n\
         plot $data using (sqrt($3)):2:(1):3:($2-0.35):($2+0.35):6:ytic(1) with boxxyerror lc rgb variable, \
         '' using 3:2:4:5 with xerrorbars pt 0 lc rgb '#222222', \
         '' using ($5*1.15):2:(sprintf('%.1f', $3)) with labels left font ',11'\n",
        bars.len() as f64 - 0.4
    );
    let height = 60 + 34 * bars.len();
    gnuplot(
        &docs.join("figures-opening.svg"),
        (860, height),
        &data,
        &script,
    )
}

/// Lines over the number of keys.
fn cost(docs: &Path, rows: &[Row]) -> io::Result<()> {
    let own = |row: &&Row| {
        row.section == "cost" && row.what == "elsewhere, rules" && row.who != "no rules"
    };
    let rows: Vec<&Row> = rows.iter().filter(own).collect();
    lines(
        &docs.join("figures-cost.svg"),
        &rows,
        "ns that the rules take for a SYN to an unrelated port",
    )
}

fn apply(docs: &Path, rows: &[Row]) -> io::Result<()> {
    let own =
        |row: &&Row| row.section == "operations" && row.what == "apply again" && row.of == "keys";
    let rows: Vec<&Row> = rows.iter().filter(own).collect();
    lines(
        &docs.join("figures-apply.svg"),
        &rows,
        "ms for `toctoc apply`",
    )
}

/// A line for each who, over how many keys, both logarithmic.
fn lines(path: &Path, rows: &[&Row], label: &str) -> io::Result<()> {
    let mut everybody: Vec<&str> = Vec::new();
    for row in rows {
        if !everybody.contains(&row.who.as_str()) {
            everybody.push(&row.who);
        }
    }
    let (mut data, mut plots) = (String::new(), Vec::new());
    for (index, who) in everybody.iter().enumerate() {
        for row in rows.iter().filter(|row| row.who == *who) {
            let _ = writeln!(data, "{} {}", row.at, row.median.max(1.0));
        }
        data.push_str("\n\n");
        let colour = if who.starts_with("classic") {
            COLOURS[3]
        } else {
            COLOURS[index % 3]
        };
        plots.push(format!(
            "$data index {index} title '{who}' lw 2 pt 7 ps 0.6 lc rgb '{colour}'"
        ));
    }
    let script = format!(
        "set logscale xy\nset format x '%.0f'\nset format y '%.0f'\nset xlabel 'keys'\nset ylabel '{label}'\n\
         set xrange [0.8:14000]\nset key above\nplot {}\n",
        plots.join(", ")
    );
    gnuplot(path, (860, 420), &data, &script)
}

/// The clients of twenty that got in while strangers flooded what had to listen.
fn flood(docs: &Path, rows: &[Row]) -> io::Result<()> {
    let listening = [" at 100000 a second: opened"];
    let mut data = String::new();
    let own: Vec<&Row> = rows
        .iter()
        .filter(|row| row.section == "flood" && row.what.starts_with("its "))
        .filter(|row| listening.iter().any(|end| row.what.ends_with(end)))
        .collect();
    for (place, row) in own.iter().rev().enumerate() {
        let colour = if row.who.starts_with("toctoc") {
            COLOURS[0]
        } else {
            COLOURS[5]
        };
        let aim = row.what.trim_end_matches(listening[0]);
        let _ = writeln!(
            data,
            "\"{}: {aim}\" {place} {} {}",
            row.who,
            row.median,
            colour.replace('#', "0x")
        );
    }
    let script = format!(
        "set xrange [0:21.5]\nset yrange [-0.6:{}]\nset xlabel 'of 20 knocks opened while 100,000 packets a second \
         went to what must listen'\nset style fill solid\nunset key\nset lmargin 38\n\
         plot $data using (0):2:(0):3:($2-0.35):($2+0.35):4:ytic(1) with boxxyerror lc rgb variable, \
         '' using ($3+0.2):2:(sprintf('%.0f', $3)) with labels left font ',11'\n",
        own.len() as f64 - 0.4
    );
    gnuplot(
        &docs.join("figures-flood.svg"),
        (860, 60 + 34 * own.len()),
        &data,
        &script,
    )
}

fn gnuplot(
    path: &Path,
    (width, height): (usize, usize),
    data: &str,
    script: &str,
) -> io::Result<()> {
    let mut child = Command::new("gnuplot").stdin(Stdio::piped()).spawn()?;
    let text = format!(
        "set terminal svg size {width},{height} dynamic font 'sans-serif,12' background rgb 'white'\n\
         set output '{}'\n{HEAD}$data << END_OF_DATA\n{data}END_OF_DATA\n{script}",
        path.display()
    );
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(text.as_bytes())?;
    }
    if child.wait()?.success() {
        return Ok(());
    }
    Err(io::Error::other(format!(
        "gnuplot could not draw {}",
        path.display()
    )))
}
