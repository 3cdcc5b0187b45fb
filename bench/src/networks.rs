//! The way in over networks that lose packets, delay them, or let them overtake one another.

use std::io;
use std::thread;
use std::time::Duration;

use crate::figures::{Figure, Figures};
use crate::listener::Listener;
use crate::opening::their_ways;
use crate::peers;
use crate::policies::{DOOR, Sequence, sequences};
use crate::road::{Built, Road};
use crate::statistics::Spread;
use crate::ways::{Kind, Ours, Way, our_ways, ours};

/// The starts of each client.
const RUNS: usize = 100;

/// A client that is not in by then has failed.
const LIMIT: Duration = Duration::from_secs(2);

/// Attempts to close a door: the road becomes a good one a moment after it was told.
const CLOSINGS: usize = 5;

const GOOD: Road = Road {
    name: "a good cable",
    loss: 0.0,
    delay: 0.0,
    late: 0.0,
    jitter: 0.0,
};

const ROADS: [Road; 6] = [
    GOOD,
    Road {
        name: "1 % lost",
        loss: 0.01,
        delay: 0.01,
        ..GOOD
    },
    Road {
        name: "5 % lost",
        loss: 0.05,
        delay: 0.01,
        ..GOOD
    },
    Road {
        name: "20 % lost",
        loss: 0.2,
        delay: 0.01,
        ..GOOD
    },
    Road {
        name: "10 % late by up to 20 ms",
        delay: 0.01,
        late: 0.1,
        jitter: 0.02,
        ..GOOD
    },
    Road {
        name: "200 ms there and back",
        delay: 0.1,
        ..GOOD
    },
];

/// Our own ways in.
const OURS: [Ours; 3] = [
    ("toctoc, a sequence", Kind::Sequence, true),
    ("toctoc, a token", Kind::Token, true),
    ("toctoc, a signed key", Kind::Signed, true),
];

/// Those whose clients are compared: one for each of the others.
const THEIRS: [&str; 3] = ["classic script, knock", "fwknop", "letmein"];

/// Milliseconds from the start of a client to its connection; `None` where there was none in time.
type Samples = Vec<Option<f64>>;

pub fn measure(figures: &mut Figures) -> io::Result<()> {
    let sequence = sequences(1)[0];
    for road in ROADS {
        eprintln!("networks: {}", road.name);
        for (who, samples) in over(road, &sequence)? {
            tell(figures, road, &who, &samples);
        }
    }
    Ok(())
}

/// Each on hosts and a road of its own, all at the same time.
fn over(road: Road, sequence: &Sequence) -> io::Result<Vec<(String, Samples)>> {
    let installs = peers::ALL.into_iter().filter(|(name, _)| *name != "knockd");
    thread::scope(|scope| {
        let own = scope.spawn(move || {
            let place = ours(sequence, &OURS, RUNS, "")?;
            let door = Listener::at(&place.lab.server, DOOR)?;
            let built = road.build(&place.lab)?;
            all(&built, &our_ways(&OURS, &place, &door))
        });
        let others: Vec<_> = installs
            .map(|(_, install)| {
                scope.spawn(move || {
                    let Some(peer) = install(sequence)? else {
                        return Ok(Vec::new());
                    };
                    let door = Listener::at(&peer.place.lab.server, DOOR)?;
                    let built = road.build(&peer.place.lab)?;
                    let mut ways = their_ways(&peer, &door, sequence);
                    ways.retain(|way| THEIRS.contains(&way.name));
                    all(&built, &ways)
                })
            })
            .collect();
        let mut told = Vec::new();
        for worker in std::iter::once(own).chain(others) {
            let samples: io::Result<Vec<(String, Samples)>> = match worker.join() {
                Ok(samples) => samples,
                Err(panic) => std::panic::resume_unwind(panic),
            };
            told.extend(samples?);
        }
        Ok(told)
    })
}

/// Each way as often as it takes. Closing is no part of it: some peers close from the client's side.
fn all(road: &Built, ways: &[Way<'_>]) -> io::Result<Vec<(String, Samples)>> {
    let samples = ways.iter().map(|way| {
        let runs = (1..=RUNS).map(|run| {
            road.while_good(|| closed(way))?;
            let took = way.enter(run, LIMIT)?;
            Ok(took.ok().map(|took| took.as_secs_f64() * 1_000.0))
        });
        Ok((way.name.to_string(), runs.collect::<io::Result<_>>()?))
    });
    samples.collect()
}

fn closed(way: &Way<'_>) -> io::Result<()> {
    let mut attempts = (0..CLOSINGS).map(|_| (way.close)());
    attempts
        .find(Result::is_ok)
        .unwrap_or_else(|| (way.close)())
}

fn tell(figures: &mut Figures, road: Road, who: &str, samples: &Samples) {
    let came: Vec<f64> = samples.iter().copied().flatten().collect();
    let mut add = |what: &str, unit, values: &[f64]| {
        figures.add(Figure {
            section: "networks",
            what: format!("{}: {what}", road.name),
            who: who.to_string(),
            at: 0,
            of: "",
            unit,
            spread: Spread::of(values),
        });
    };
    add("in within 2 s", "of 100", &[came.len() as f64]);
    if !came.is_empty() {
        add("start to connection", "ms", &came);
    }
}
