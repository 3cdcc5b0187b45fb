//! The state of a firewall with many grants.

use std::io;

use super::{FEW, Row, Samples, argument};
use crate::figures::Figures;
use crate::firewalls::knock;
use crate::granted::fill;
use crate::place::Place;
use crate::policies::{policy, sequences};

/// With the one of the knock as many as there is room for.
const GRANTS: usize = 65_535;

pub fn measure(figures: &mut Figures) -> io::Result<()> {
    eprintln!("operations: status of {GRANTS} grants");
    let mut samples = Samples::default();
    let place = Place::new("legacy")?;
    let sequences = sequences(1);
    let file = argument(&place.write("policy.toml", &policy("", &sequences))?);
    place.on_server(&["toctoc", "apply", &file])?;
    knock(&place, &sequences[0])?;
    fill(&place, GRANTS as u32)?;
    let row = |what| Row {
        what,
        who: "toctoc, nftables",
        at: GRANTS + 1,
        of: "grants",
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

/// The number of grants that `status --json` tells.
fn count(told: &str) -> io::Result<usize> {
    let told: serde_json::Value = serde_json::from_str(told)?;
    let doors = told["doors"].as_array().into_iter().flatten();
    Ok(doors
        .filter_map(|door| door["grants"].as_array())
        .map(Vec::len)
        .sum())
}
