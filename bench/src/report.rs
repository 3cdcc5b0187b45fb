//! The figures where people read them: tables in docs/figures.md, between marks.

use std::fmt::Write;
use std::fs;
use std::io;
use std::path::Path;

use crate::figures::Row;

/// Puts the tables into the page. What stands between the marks of a section that was not measured stays.
///
/// # Errors
/// When the page cannot be read or written, or lacks a mark.
pub fn write(
    page: &Path,
    rows: &[Row],
    notes: &[(&'static str, String)],
    machine: &str,
) -> io::Result<()> {
    let mut text = fs::read_to_string(page)?;
    text = between(&text, "machine", machine)?;
    for (section, table) in [
        ("opening", listed(rows, "opening", ["who", "with"])),
        ("cost", cost(rows, "cost") + &against_itself(rows)),
        ("variants", cost(rows, "variants")),
        ("flood", flood(rows)),
        ("networks", networks(rows)),
        ("state", listed(rows, "state", ["who", "with"])),
        ("operations", listed(rows, "operations", ["who", "with"])),
        ("fleet", listed(rows, "fleet", ["load", "with"])),
        ("growth", listed(rows, "growth", ["who", "with"])),
    ] {
        if rows.iter().any(|row| row.section == section) {
            text = between(&text, section, &table)?;
        }
        let said: Vec<String> = notes
            .iter()
            .filter(|(of, _)| *of == section)
            .map(|(_, note)| format!("- {note}\n"))
            .collect();
        if !said.is_empty() {
            text = between(&text, &format!("{section} notes"), &said.concat())?;
        }
    }
    fs::write(page, text)
}

/// Puts one table into a page.
///
/// # Errors
/// When the page cannot be read or written, or lacks its mark.
pub fn write_one(page: &Path, name: &str, table: &str) -> io::Result<()> {
    let text = fs::read_to_string(page)?;
    fs::write(page, between(&text, name, table)?)
}

/// Replaces what stands between the marks.
fn between(text: &str, name: &str, new: &str) -> io::Result<String> {
    let (begin, end) = (format!("<!-- figures: {name} -->\n"), "<!-- end -->");
    let missing = || io::Error::other(format!("the page has no `{}` with its end", begin.trim()));
    let start = text.find(&begin).ok_or_else(missing)? + begin.len();
    let length = text[start..].find(end).ok_or_else(missing)?;
    Ok(format!(
        "{}{new}{}",
        &text[..start],
        &text[start + length..]
    ))
}

/// A line for each figure, with these words for who it is and how many.
fn listed(rows: &[Row], section: &str, [who, of]: [&str; 2]) -> String {
    let own = || rows.iter().filter(|row| row.section == section);
    let sized = own().any(|row| row.at != 0);
    let at = |text: &str| {
        if sized {
            format!(" {text} |")
        } else {
            String::new()
        }
    };
    let mut table = format!(
        "| what | {who} |{} median | least | most | runs |\n",
        at(of)
    );
    let _ = writeln!(
        table,
        "|---|---|{}---:|---:|---:|---:|",
        if sized { "---:|" } else { "" }
    );
    for row in own() {
        let of = if row.at == 0 {
            String::new()
        } else {
            amount(row.at, &row.of)
        };
        let (median, least, most) = (number(row.median), number(row.least), number(row.most));
        let _ = writeln!(
            table,
            "| {} | {} |{} {median} {} | {least} | {most} | {} |",
            row.what,
            row.who,
            at(&of),
            row.unit,
            row.runs
        );
    }
    table
}

/// For each kind of packet, what the rules of each take with so many keys.
fn cost(rows: &[Row], section: &str) -> String {
    let own: Vec<&Row> = rows.iter().filter(|row| row.section == section).collect();
    let mut kinds: Vec<&str> = Vec::new();
    for kind in own
        .iter()
        .filter_map(|row| row.what.strip_suffix(", whole way"))
    {
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    let mut sizes: Vec<u64> = own.iter().map(|row| row.at).collect();
    sizes.sort_unstable();
    sizes.dedup();
    let mut text = String::new();
    for kind in kinds {
        let find = |who: &str, at: u64, what: &str| {
            let what = format!("{kind}, {what}");
            own.iter()
                .find(|row| row.who == who && row.at == at && row.what == what)
        };
        let of_kind: Vec<&&Row> = own
            .iter()
            .filter(|row| row.what == format!("{kind}, whole way"))
            .collect();
        let mut everybody: Vec<&str> = Vec::new();
        for row in &of_kind {
            if !everybody.contains(&row.who.as_str()) {
                everybody.push(&row.who);
            }
        }
        let heads: String = sizes
            .iter()
            .map(|at| format!(" {} |", amount(*at, "keys")))
            .collect();
        let _ = writeln!(
            text,
            "**{kind}**\n\n| ns a packet |{heads}\n|---|{}",
            "---:|".repeat(sizes.len())
        );
        for who in everybody {
            let cells: String = sizes
                .iter()
                .map(
                    |at| match (find(who, *at, "rules"), find(who, *at, "whole way")) {
                        (Some(rules), Some(whole)) if who != "no rules" => {
                            format!(
                                " {} ({}) |",
                                grouped(rules.median.round()),
                                grouped(whole.median.round())
                            )
                        }
                        (_, Some(whole)) => format!(" ({}) |", grouped(whole.median.round())),
                        _ => " |".to_string(),
                    },
                )
                .collect();
            let _ = writeln!(text, "| {who} |{cells}");
        }
        text.push('\n');
    }
    text
}

/// The difference that the method finds where there is none.
fn against_itself(rows: &[Row]) -> String {
    let own = rows.iter().filter(|row| {
        row.section == "cost" && row.who == "no rules" && row.what.ends_with(", rules")
    });
    let (mut medians, mut rounds) = (Vec::new(), Vec::new());
    for row in own {
        medians.push(row.median);
        rounds.extend([row.least, row.most]);
    }
    let span = |values: &[f64]| {
        let least = values.iter().copied().fold(f64::INFINITY, f64::min).round();
        let most = values
            .iter()
            .copied()
            .fold(f64::NEG_INFINITY, f64::max)
            .round();
        format!("{} to {} ns", grouped(least), grouped(most))
    };
    format!(
        "No rules against no rules, in the same way: medians {}, single rounds {}.\n",
        span(&medians),
        span(&rounds)
    )
}

/// "1 key", "10,000 keys"
fn amount(count: u64, of: &str) -> String {
    let one = of.strip_suffix('s').filter(|_| count == 1);
    format!("{} {}", grouped(count as f64), one.unwrap_or(of))
}

/// For each way in and flood, who got in.
fn flood(rows: &[Row]) -> String {
    let own: Vec<&Row> = rows.iter().filter(|row| row.section == "flood").collect();
    let mut table = String::from(
        "| who | flood | packets a second | opened, of 20 | median, ms | more than without | daemons, % of a core |\n\
         |---|---|---:|---:|---:|---:|---:|\n",
    );
    for row in own.iter().filter(|row| row.what.ends_with(": opened")) {
        let flood = row.what.trim_end_matches(": opened");
        let find = |flood: &str, what: &str| {
            let what = format!("{flood}: {what}");
            own.iter()
                .find(|other| other.who == row.who && other.what == what)
                .map(|other| other.median)
        };
        let say = |value: Option<f64>| value.map_or(String::new(), number);
        let took = find(flood, "start to connection");
        let more = took
            .zip(find("no flood", "start to connection"))
            .map(|(took, quiet)| took - quiet);
        let _ = writeln!(
            table,
            "| {} | {flood} | {} | {} | {} | {} | {} |",
            row.who,
            find(flood, "packets sent").map_or(String::new(), |sent| grouped(sent.round())),
            row.median,
            say(took),
            if flood == "no flood" {
                String::new()
            } else {
                say(more)
            },
            say(find(flood, "processor of the daemons")),
        );
    }
    table
}

/// For each network, who got in.
fn networks(rows: &[Row]) -> String {
    let own: Vec<&Row> = rows.iter().filter(|r| r.section == "networks").collect();
    let mut table = String::from(
        "| network | who | in within 2 s, of 100 | median, ms | slowest, ms |\n\
         |---|---|---:|---:|---:|\n",
    );
    for row in own
        .iter()
        .filter(|row| row.what.ends_with(": in within 2 s"))
    {
        let network = row.what.trim_end_matches(": in within 2 s");
        let find = |what: &str| {
            let what = format!("{network}: {what}");
            let mut same = own.iter();
            same.find(|other| other.who == row.who && other.what == what)
        };
        let took = find("start to connection");
        let _ = writeln!(
            table,
            "| {network} | {} | {} | {} | {} |",
            row.who,
            row.median,
            took.map_or(String::new(), |row| number(row.median)),
            took.map_or(String::new(), |row| number(row.most)),
        );
    }
    table
}

/// As many digits as mean something.
fn number(value: f64) -> String {
    match value.abs() {
        large if large >= 100.0 => grouped(value.round()),
        middle if middle >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// 12345 as 12,345.
pub fn grouped(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    if value < 0.0 && digits != "0" {
        format!("-{text}")
    } else {
        text
    }
}
