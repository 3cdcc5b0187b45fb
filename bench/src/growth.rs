//! The needs of far larger numbers than were measured: the measured slopes, drawn out on paper.

use crate::figures::Row;

const MILLION: f64 = 1e6;
const GIB: f64 = (1u64 << 30) as f64;

/// Tokens of a key that the kernel holds with the horizon that a policy has by default, six hours.
const TOKENS_OF_A_KEY: f64 = 4.0 * 60.0 * 6.0;

/// Nothing where a figure that it takes was not measured.
pub fn on_paper(rows: &[Row]) -> Vec<Row> {
    let ours = |section: &str, what: &str, at: u64| {
        let named = |row: &&Row| {
            row.section == section
                && row.what == what
                && row.at == at
                && row.who == "toctoc, nftables"
        };
        rows.iter().find(named).map(|row| row.median)
    };
    let memory = |what: &str| ours("state", &format!("memory of a {what}"), 0);
    let apply = |keys: u64| ours("operations", "apply again", keys);
    let slope = apply(10_000)
        .zip(apply(1_000))
        .map(|(many, few)| (many - few) / 9_000.0);
    let processors = |what: &str| {
        let rules = ours("cost", &format!("{what}, rules"), 10_000);
        rules.map(|ns| ns * 10.0 * MILLION / 1e9)
    };
    let lines = [
        (
            "memory of a million keys",
            memory("key of five knocks").map(|bytes| bytes * MILLION / GIB),
            "GiB",
        ),
        (
            "memory of the tokens of a million keys",
            memory("token").map(|bytes| bytes * TOKENS_OF_A_KEY * MILLION / GIB),
            "GiB",
        ),
        (
            "memory of a million grants",
            memory("grant").map(|bytes| bytes * MILLION / GIB),
            "GiB",
        ),
        (
            "memory of a million sources midway",
            memory("source midway").map(|bytes| bytes * MILLION / GIB),
            "GiB",
        ),
        (
            "apply of a million keys",
            slope.map(|ms| ms * MILLION / 1_000.0),
            "s",
        ),
        (
            "rules for 10 million established packets a second",
            processors("established"),
            "processors",
        ),
        (
            "rules for 10 million SYNs a second to unrelated ports",
            processors("elsewhere"),
            "processors",
        ),
        (
            "rules for 10 million SYNs a second to a door",
            processors("door"),
            "processors",
        ),
    ];
    let row = |(what, value, unit): (&str, Option<f64>, &str)| {
        value.map(|value| Row {
            section: "growth".to_string(),
            what: what.to_string(),
            who: "toctoc, nftables".to_string(),
            at: 0,
            of: String::new(),
            unit: unit.to_string(),
            median: value,
            least: value,
            most: value,
            runs: 0,
        })
    };
    lines.into_iter().filter_map(row).collect()
}
