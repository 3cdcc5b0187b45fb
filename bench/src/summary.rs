//! The few lines of figures that come first in docs/figures.md.

use std::fmt::Write;

use crate::figures::Row;
use crate::report::grouped;

/// That table. `None` when something of it was not measured.
pub fn table(rows: &[Row]) -> Option<String> {
    let median = |section: &str, what: &str, who: &str, at: u64| {
        let named = |row: &&Row| {
            row.section == section && row.what == what && row.who == who && row.at == at
        };
        rows.iter().find(named).map(|row| row.median)
    };
    let connects = |who: &str| median("opening", "start to connection", who, 0).map(milliseconds);
    let syn = |who: &str, keys: u64| {
        median("cost", "elsewhere, rules", who, keys).map(|ns| grouped(ns.round()))
    };
    let opened = |who: &str, flooded: &str| {
        median(
            "flood",
            &format!("{flooded} at 100000 a second: opened"),
            who,
            0,
        )
    };
    let anywhere_else = opened("toctoc, a sequence", "random ports")?
        .min(opened("toctoc, a sequence", "the door")?);
    let apply = |keys: u64| median("operations", "apply again", "toctoc, nftables", keys);
    let memory = |of: &str| median("state", &format!("memory of a {of}"), "toctoc, nftables", 0);
    let lines = [
        (
            "from the client's start to a connection",
            "from-the-start-of-the-client-to-a-connection-through-the-door",
            format!(
                "{} ms with a token, {} with a sequence; {} with a sequence without pauses (`--gap 0`)",
                connects("toctoc, a token")?,
                connects("toctoc, a sequence")?,
                connects("toctoc, a sequence, gap 0")?
            ),
            format!(
                "the classic script {} with `knock`, {} with its loop of `nmap`; letmein {}, knockd {}, fwknop {}",
                connects("classic script, knock")?,
                connects("classic script, nmap loop")?,
                connects("letmein")?,
                connects("knockd")?,
                connects("fwknop")?
            ),
        ),
        (
            "rules for a SYN to an unrelated port",
            "what-a-packet-costs",
            format!(
                "{} ns with one key, {} with 10,000",
                syn("toctoc, nftables", 1)?,
                syn("toctoc, nftables", 10_000)?
            ),
            format!(
                "the classic script {} ns with one key, {} with 100",
                syn("classic script", 1)?,
                syn("classic script", 100)?
            ),
        ),
        (
            "knocks of 20 that open in a flood of 100,000 packets a second",
            "under-a-flood",
            format!(
                "a token: {}; a sequence: {anywhere_else}, with the flood at its first knock {} ({} at full speed)",
                opened("toctoc, a token", "its token port")?,
                opened("toctoc, a sequence", "its first knock")?,
                median(
                    "flood",
                    "its first knock as fast as it goes: opened",
                    "toctoc, a sequence",
                    0
                )?
            ),
            format!(
                "letmein {}, the classic script {} with `knock` and {} with its loop, knockd {}, fwknop {}",
                opened("letmein", "its TCP port")?,
                opened("classic script, knock", "its first knock")?,
                opened("classic script, nmap loop", "its first knock")?,
                opened("knockd", "its first knock")?,
                opened("fwknop", "its UDP port")?
            ),
        ),
        (
            "memory and processes that stay",
            "from-the-start-of-the-client-to-a-connection-through-the-door",
            format!(
                "no process; in the kernel {:.1} kB a key, {} bytes a grant, {} a token (four for each minute that is \
                 loaded)",
                memory("key of five knocks")? / 1000.0,
                memory("grant")?.round(),
                memory("token")?.round()
            ),
            daemons(rows)?,
        ),
        (
            "`apply` of 10 and 10,000 keys that run already",
            "commands",
            format!(
                "{} ms and {:.1} s",
                milliseconds(apply(10)?),
                apply(10_000)? / 1000.0
            ),
            String::new(),
        ),
    ];
    let mut table = "| | toctoc | beside it |\n|---|---|---|\n".to_string();
    for (what, anchor, ours, theirs) in lines {
        let link = format!("[{what}](#{anchor})");
        let _ = writeln!(table, "| {link} | {ours} | {theirs} |");
    }
    Some(table)
}

/// The memory that the daemons of others hold.
fn daemons(rows: &[Row]) -> Option<String> {
    let of_daemons = |row: &&Row| row.section == "opening" && row.what.starts_with("memory of");
    let held: Vec<f64> = rows
        .iter()
        .filter(of_daemons)
        .map(|row| row.median)
        .collect();
    let least = held.iter().copied().reduce(f64::min)?.round();
    let most = held.iter().copied().reduce(f64::max)?.round();
    Some(format!("{least} to {most} MiB, one or two daemons"))
}

fn milliseconds(ms: f64) -> String {
    if ms < 10.0 {
        format!("{ms:.1}")
    } else {
        grouped(ms.round())
    }
}
