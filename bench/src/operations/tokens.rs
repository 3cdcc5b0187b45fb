//! Tokens of many keys: loading all, and finding that nothing has to be done.

use std::fs;
use std::io;

use super::{FEW, Row, Samples, argument};
use crate::figures::Figures;
use crate::place::Place;
use crate::policies::token_policy;

/// With how many keys; each has 1,440 tokens at a time.
const KEYS: [usize; 4] = [1, 10, 100, MANY];

/// So many take seconds, and are measured less often.
const MANY: usize = 1_000;

pub fn measure(figures: &mut Figures) -> io::Result<()> {
    eprintln!("operations: tokens");
    let mut samples = Samples::default();
    let place = Place::new("legacy")?;
    for run in 0..FEW {
        for keys in KEYS.into_iter().filter(|keys| *keys < MANY || run < 3) {
            round(&mut samples, &place, keys)?;
        }
    }
    samples.tell(figures);
    Ok(())
}

fn round(samples: &mut Samples, place: &Place, keys: usize) -> io::Result<()> {
    let file = argument(&place.write("policy.toml", &token_policy(place, keys)?)?);
    let row = |what| Row {
        what,
        who: "toctoc, nftables",
        at: keys,
        of: "token keys",
        unit: "ms",
    };
    samples.time(row("first apply"), place, &["apply", &file])?;
    samples.time(row("apply again"), place, &["apply", &file])?;
    let nothing = row("refill, nothing to do");
    samples.time(nothing, place, &["refill", &file])?;
    samples.time(row("status"), place, &["status", &file])?;
    place.on_server(&["nft", "flush", "map", "inet", "toctoc", "tokens"])?;
    let anew = row("refill, all anew");
    samples.time(anew, place, &["refill", &file])?;
    place.on_server(&["nft", "flush", "ruleset"])?;
    fs::remove_dir_all(place.path("state"))
}
