//! The state of a firewall with many grants.

use std::io;

use toctoc::lab::CLIENT;

use super::{FEW, Row, Samples, argument};
use crate::figures::Figures;
use crate::firewalls::knock;
use crate::frames::source;
use crate::place::{Place, until};
use crate::policies::{policy, sequences};

const GRANTS: usize = 10_000;

pub fn measure(figures: &mut Figures) -> io::Result<()> {
    eprintln!("operations: status of {GRANTS} grants");
    let mut samples = Samples::default();
    let place = Place::new("legacy")?;
    let sequences = sequences(1);
    let file = argument(&place.write("policy.toml", &policy("", &sequences))?);
    place.on_server(&["toctoc", "apply", &file])?;
    knock(&place, &sequences[0])?;
    fill(&place)?;
    let row = |what| Row {
        what,
        who: "toctoc, nftables",
        at: GRANTS,
        unit: "ms",
    };
    let words = ["toctoc", "status", "--json", &file];
    for _ in 0..FEW {
        let ended = place.measure(&place.lab.server, &words)?;
        // One is that of the knock.
        let told = count(&ended.stdout)?;
        if told != GRANTS + 1 {
            let wrong = format!("{told} grants in place of {GRANTS} and one");
            return Err(io::Error::other(wrong));
        }
        samples.add(row("status --json"), ended.wall.as_secs_f64() * 1_000.0);
        samples.time(row("status"), &place, &["status", &file])?;
    }
    samples.tell(figures);
    Ok(())
}

/// Adds grants of other sources as the one that there is.
fn fill(place: &Place) -> io::Result<()> {
    let mut script = String::new();
    for set in ["opened4", "grants4"] {
        let mut real = String::new();
        until("the grant of a knock is there", || {
            let listed = place.on_server(&["nft", "list", "set", "inet", "toctoc", set])?;
            let element = listed.split_once(CLIENT[0]).map(|(_, rest)| rest);
            let ids = element.and_then(|rest| rest.split_once(" timeout"));
            real = ids.map(|(ids, _)| ids.to_string()).unwrap_or_default();
            Ok(!real.is_empty())
        })?;
        let elements =
            (0..GRANTS as u32).map(|number| format!("{}{real} timeout 1h", source(number)));
        let elements: Vec<String> = elements.collect();
        script += &format!(
            "add element inet toctoc {set} {{ {} }}\n",
            elements.join(", ")
        );
    }
    place.feed(&["nft", "-f", "-"], &script)?;
    Ok(())
}

/// How many grants `status --json` tells.
fn count(told: &str) -> io::Result<usize> {
    let told: serde_json::Value = serde_json::from_str(told)?;
    let doors = told["doors"].as_array().into_iter().flatten();
    Ok(doors
        .filter_map(|door| door["grants"].as_array())
        .map(Vec::len)
        .sum())
}
