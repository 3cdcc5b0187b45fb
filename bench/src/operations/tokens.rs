//! Tokens of many keys: loading all, and finding that nothing has to be done.

use std::io;

use super::{FEW, Row, Samples, argument};
use crate::figures::Figures;
use crate::place::Place;
use crate::policies::token_policy;

const KEYS: usize = 100;

pub fn measure(figures: &mut Figures) -> io::Result<()> {
    eprintln!("operations: tokens");
    let mut samples = Samples::default();
    let place = Place::new("legacy")?;
    let file = argument(&place.write("policy.toml", &token_policy(&place, KEYS)?)?);
    let row = |what| Row {
        what,
        who: "toctoc, nftables",
        at: KEYS,
        unit: "ms",
    };
    for _ in 0..FEW {
        samples.time(row("token keys: first apply"), &place, &["apply", &file])?;
        samples.time(row("token keys: apply again"), &place, &["apply", &file])?;
        samples.time(
            row("token keys: refill, nothing to do"),
            &place,
            &["refill", &file],
        )?;
        samples.time(row("token keys: status"), &place, &["status", &file])?;
        place.on_server(&["nft", "flush", "map", "inet", "toctoc", "tokens"])?;
        samples.time(
            row("token keys: refill, all anew"),
            &place,
            &["refill", &file],
        )?;
        place.on_server(&["toctoc", "remove"])?;
    }
    samples.tell(figures);
    Ok(())
}
