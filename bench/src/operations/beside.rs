//! Grants by hand on a host where others keep a large set: addresses of a country, a list of those to block.

use std::collections::BTreeSet;
use std::io;

use super::{RUNS, Row, Samples, argument};
use crate::figures::Figures;
use crate::place::Place;
use crate::policies::{policy, sequences};
use crate::random::Random;

const NETWORKS: usize = 200_000;

pub fn measure(figures: &mut Figures) -> io::Result<()> {
    eprintln!("operations: beside {NETWORKS} networks of others");
    let mut samples = Samples::default();
    let place = Place::new("legacy")?;
    let file = argument(&place.write("policy.toml", &policy("", &sequences(1)))?);
    place.on_server(&["toctoc", "apply", &file])?;
    for at in [0, NETWORKS] {
        if at > 0 {
            place.feed(&["nft", "-f", "-"], &networks(at))?;
        }
        for _ in 0..RUNS {
            for (what, words) in [
                ("open", &["open", "ssh", "192.0.2.99"][..]),
                ("close", &["close"]),
                ("status beside others", &["status", &file]),
                ("apply beside others", &["apply", &file]),
            ] {
                let row = Row {
                    what,
                    who: "toctoc, nftables",
                    at,
                    of: "networks of others",
                    unit: "ms",
                };
                samples.time(row, &place, words)?;
            }
        }
    }
    samples.tell(figures);
    Ok(())
}

/// A table with so many networks, always the same ones.
fn networks(count: usize) -> String {
    let mut random = Random::new(3);
    let mut networks = BTreeSet::new();
    while networks.len() < count {
        networks.insert(0x01_0000 + random.below(0xde_0000));
    }
    let written = networks.iter().map(|network| {
        let [_, a, b, c] = network.to_be_bytes();
        format!("{a}.{b}.{c}.0/24")
    });
    let written: Vec<String> = written.collect();
    format!(
        "table inet geo {{\nset networks {{\ntype ipv4_addr; flags interval; auto-merge\nelements = {{ {} }}\n}}\n}}\n",
        written.join(", ")
    )
}
