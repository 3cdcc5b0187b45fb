//! Time from the start of a client to a connection through the door: ours and others'.

use std::io;
use std::time::Duration;

use toctoc::lab::SERVER;

use crate::figures::{Figure, Figures};
use crate::listener::Listener;
use crate::peers::{self, Peer};
use crate::policies::{DOOR, Sequence, sequences};
use crate::statistics::Spread;
use crate::ways::{OURS, Way, our_ways, ours};

/// The number of times that each way in is measured.
const RUNS: usize = 21;

/// Nobody is waited for longer.
const LIMIT: Duration = Duration::from_secs(20);

pub fn measure(figures: &mut Figures) -> io::Result<()> {
    let sequence = sequences(1)[0];
    eprintln!("opening: setting up");
    let ours = ours(&sequence, &OURS, RUNS, "")?;
    let mut peers = Vec::new();
    for (name, install) in peers::ALL {
        match install(&sequence)? {
            Some(peer) => {
                figures.note("opening", format!("{name}: {}", peer.settings));
                peers.push(peer);
            }
            None => figures.note("opening", format!("{name}: not installed, so not measured")),
        }
    }
    let door = Listener::at(&ours.lab.server, DOOR)?;
    let their_doors: io::Result<Vec<Listener>> = peers
        .iter()
        .map(|peer| Listener::at(&peer.place.lab.server, DOOR))
        .collect();
    let their_doors = their_doors?;
    let mut ways = our_ways(&OURS, &ours, &door);
    for (peer, door) in peers.iter().zip(&their_doors) {
        ways.extend(their_ways(peer, door, &sequence));
    }
    eprintln!("opening: {} ways in, {RUNS} runs", ways.len());
    // So that each has been loaded once, and knows the round trip.
    for way in &ways {
        once(way, 0)?;
    }
    let mut samples = vec![Vec::new(); ways.len()];
    for run in 1..=RUNS {
        for (way, samples) in ways.iter().zip(&mut samples) {
            samples.push(once(way, run)?);
        }
    }
    for (way, samples) in ways.iter().zip(&samples) {
        figures.add(Figure {
            section: "opening",
            what: "start to connection".to_string(),
            who: way.name.to_string(),
            at: 0,
            of: "",
            unit: "ms",
            spread: Spread::of(samples),
        });
    }
    resident(figures, &peers)
}

/// The memory that is held for as long as the door is to be opened by somebody. Of ours, nothing is.
fn resident(figures: &mut Figures, peers: &[Peer]) -> io::Result<()> {
    for peer in peers.iter().filter(|peer| !peer.pids().is_empty()) {
        let held = peer.resident()? as f64 / f64::from(1 << 20);
        figures.add(Figure {
            section: "opening",
            what: match peer.pids().len() {
                1 => "memory of its daemon".to_string(),
                several => format!("memory of its {several} daemons"),
            },
            who: peer.name.to_string(),
            at: 0,
            of: "",
            unit: "MiB",
            spread: Spread::of(&[held]),
        });
    }
    Ok(())
}

/// Milliseconds, beginning with a door that is shut.
fn once(way: &Way, run: usize) -> io::Result<f64> {
    (way.close)()?;
    match way.enter(run, LIMIT)? {
        Ok(took) => Ok(took.as_secs_f64() * 1_000.0),
        Err(said) => Err(io::Error::other(format!(
            "{}: never opened: {said}",
            way.name
        ))),
    }
}

/// The classic script is knocked at with both of its loops and with `knock` as another client, and `nc` connects; a daemon's door opens some
/// time after its client has ended, and who connects too early loses a second, so we try all the time.
pub fn their_ways<'a>(peer: &'a Peer, door: &'a Listener, sequence: &Sequence) -> Vec<Way<'a>> {
    let way = |name: &'static str, line: String, connects: bool| Way {
        name,
        place: &peer.place,
        door,
        client: Box::new(move |_| ["sh", "-c", &line].map(String::from).to_vec()),
        connects,
        close: Box::new(|| peer.close()),
    };
    let and_nc = |line: String| format!("{line}; nc -z {} {DOOR}", SERVER[0]);
    match peer.name {
        "classic script" => vec![
            way(
                "classic script, knock",
                and_nc(peers::with_knock(sequence)),
                true,
            ),
            way(
                "classic script, nmap loop",
                and_nc(peers::nmap_loop(sequence)),
                true,
            ),
            way(
                "classic script, nc loop",
                and_nc(peers::nc_loop(sequence)),
                true,
            ),
        ],
        name => vec![way(name, format!("exec {}", peer.knock), false)],
    }
}
