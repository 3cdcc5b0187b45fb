//! Policies of many keys: applying, applying again, checking, rendering.

use std::fs;
use std::io;

use super::{FEW, RUNS, Row, Samples, argument};
use crate::figures::Figures;
use crate::place::Place;
use crate::policies::{policy, sequences};

/// Each backend, what a policy says for it, and with how many keys it is measured: iptables takes no more.
const BACKENDS: [(&str, &str, &[usize]); 2] = [
    (NFTABLES, "", &[1, 10, 100, 1_000, 10_000]),
    (
        "toctoc, iptables",
        "backend = \"iptables\"\n",
        &[1, 10, 100],
    ),
];

const NFTABLES: &str = "toctoc, nftables";

const MOST: usize = 10_000;

pub fn measure(figures: &mut Figures) -> io::Result<()> {
    eprintln!("operations: apply, check, render");
    let mut samples = Samples::default();
    let place = Place::new("legacy")?;
    for run in 0..RUNS {
        for (who, backend, sizes) in BACKENDS {
            for &keys in sizes {
                if keys < 1_000 || run < FEW {
                    apply(&mut samples, &place, (who, keys), backend)?;
                    if who == NFTABLES {
                        by_nft(&mut samples, &place, keys)?;
                    }
                }
            }
        }
        if run < FEW {
            read_only(&mut samples, &place)?;
        }
    }
    samples.tell(figures);
    Ok(())
}

/// Into an empty firewall, and once more.
fn apply(
    samples: &mut Samples,
    place: &Place,
    (who, at): (&'static str, usize),
    backend: &str,
) -> io::Result<()> {
    let row = |what, unit| Row {
        what,
        who,
        at,
        of: "keys",
        unit,
    };
    let file = argument(&place.write("policy.toml", &policy(backend, &sequences(at)))?);
    let words = ["toctoc", "apply", &file];
    let first = place.measure(&place.lab.server, &words)?;
    samples.add(row("first apply", "ms"), first.wall.as_secs_f64() * 1_000.0);
    if at == MOST {
        let largest = first.peak as f64 / f64::from(1 << 20);
        samples.add(
            row("first apply, memory of the largest program", "MiB"),
            largest,
        );
        status(samples, place, &file)?;
    }
    samples.time(row("apply again", "ms"), place, &words[1..])?;
    // `toctoc remove` first reads all that it takes away, which takes as long as applying it.
    let forget: &[&str] = match who {
        NFTABLES => &["nft", "flush", "ruleset"],
        _ => &["toctoc", "remove"],
    };
    place.on_server(forget)?;
    fs::remove_dir_all(place.path("state"))
}

fn read_only(samples: &mut Samples, place: &Place) -> io::Result<()> {
    let file = argument(&place.write("policy.toml", &policy("", &sequences(MOST)))?);
    for what in ["check", "render"] {
        let (who, at, unit) = (NFTABLES, MOST, "ms");
        samples.time(
            Row {
                what,
                who,
                at,
                of: "keys",
                unit,
            },
            place,
            &[what, &file],
        )?;
    }
    Ok(())
}

/// Where all is as it was applied, and where a rule was added.
fn status(samples: &mut Samples, place: &Place, file: &str) -> io::Result<()> {
    let row = |what, unit| Row {
        what,
        who: NFTABLES,
        at: MOST,
        of: "keys",
        unit,
    };
    let words = ["toctoc", "status", file];
    samples.time(row("status", "ms"), place, &words[1..])?;
    let rule = ["nft", "add", "rule", "inet", "toctoc", "shut", "counter"];
    place.on_server(&rule)?;
    // It ends with an error: the rules differ.
    let line = format!("toctoc status {file} >/dev/null; true");
    let told = place.measure(&place.lab.server, &["sh", "-c", &line])?;
    let took = told.wall.as_secs_f64() * 1_000.0;
    samples.add(row("status, a rule was added", "ms"), took);
    Ok(())
}

/// The same script as a first apply loads, by nft alone.
fn by_nft(samples: &mut Samples, place: &Place, keys: usize) -> io::Result<()> {
    let file = argument(&place.write("policy.toml", &policy("", &sequences(keys)))?);
    let script = place.on_server(&["toctoc", "render", &file])?;
    let script = argument(&place.write("script.nft", &script)?);
    let loaded = place.measure(&place.lab.server, &["nft", "-f", &script])?;
    let row = |what, unit| Row {
        what,
        who: "nft -f, the same script",
        at: keys,
        of: "keys",
        unit,
    };
    let took = loaded.wall.as_secs_f64() * 1_000.0;
    samples.add(row("first apply", "ms"), took);
    if keys == MOST {
        let largest = loaded.peak as f64 / f64::from(1 << 20);
        let what = "first apply, memory of the largest program";
        samples.add(row(what, "MiB"), largest);
    }
    place.on_server(&["nft", "flush", "ruleset"])?;
    Ok(())
}
