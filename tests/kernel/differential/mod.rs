//! Random policies and traces as real packets: what the kernel holds afterwards is what the model
//! says, grant by grant with the time left, opening by opening, source by source; and what it let
//! through, packet by packet. Ten thousand sources on each firewall, or as many as `TRACES` says.

mod dice;
mod judge;
mod play;
mod policies;
mod shrink;
mod traces;

use std::sync::Mutex;
use std::thread;

use crate::world::{Kind, World};
use dice::Dice;
use judge::{Difference, judge};
use play::play;
use policies::Case;
use shrink::{Search, explained};
use traces::{Step, Trace};

/// Rounds are mostly waiting, so several go on at once, each on hosts of its own.
const WORLDS: usize = 8;

/// Sources that are at work at the same time. A list of iptables holds a hundred of one family.
fn sources(kind: Kind, weather: Weather) -> usize {
    match (kind, weather) {
        (Kind::Nftables, Weather::Quiet) => 400,
        // With so little room a network of 64 bits gets 16 grants a minute by a key.
        (Kind::Nftables, Weather::Flood) => 6,
        _ => 180,
    }
}

/// The events while a trace is played.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Weather {
    Quiet,
    /// A flood of first knocks.
    Flood,
}

/// The sum of what all rounds have shown.
#[derive(Default)]
struct Tally {
    rounds: usize,
    compared: usize,
    unclear: usize,
    openings: u64,
    found: Option<(Case, Trace, Difference)>,
}

fn the_kernel_does_what_the_model_says() {
    compare(Weather::Quiet, 10_000);
}

/// In a flood at most the first knock is given away, and sources that are further on lose nothing.
#[test]
fn in_a_flood_of_first_knocks_the_kernel_does_what_the_model_says() {
    compare(Weather::Flood, 200);
}

fn compare(weather: Weather, usual: usize) {
    let seed = seed();
    let worlds: Vec<World> = (0..WORLDS).map(|_| World::bare()).collect();
    let kind = worlds[0].kind;
    let traces = match (std::env::var("TRACES"), kind) {
        (Ok(text), _) => text.parse().unwrap(),
        (Err(_), Kind::Nftables) => usual,
        // Each takes longer there.
        (Err(_), _) => usual / 3,
    };
    let tally = Mutex::new(Tally::default());
    thread::scope(|scope| {
        for world in &worlds {
            scope.spawn(|| rounds(world, weather, seed, traces, &tally));
        }
    });
    let tally = tally.into_inner().unwrap();
    if let Some((case, trace, difference)) = tally.found {
        let search = Search {
            worlds: &worlds,
            judged: &case,
            applied: &case,
        };
        let shortest = match search.shrink(&trace, &difference) {
            Some(shortest) => explained(&shortest),
            None => "it did not come again; the round's seed is all there is".to_string(),
        };
        panic!(
            "kernel and model differ, SEED={seed}\n{}\npolicy.toml:\n{}\n\
             toctoc explain policy.toml, with:\n{shortest}",
            difference.told, case.text
        );
    }
    println!(
        "{kind:?}: {} traces over {} policies equal the model, {} openings; {} traces too near a \
         deadline; SEED={seed}",
        tally.compared, tally.rounds, tally.openings, tally.unclear
    );
    assert!(tally.unclear < tally.compared / 4, "too much is unclear");
    // Agreement over traces in which nothing happens would prove nothing.
    assert!(tally.openings as usize > traces / 4, "too few openings");
}

/// Plays round after round until enough is compared, or something differs.
fn rounds(world: &World, weather: Weather, seed: u32, traces: usize, tally: &Mutex<Tally>) {
    loop {
        let round = {
            let mut tally = tally.lock().unwrap();
            if tally.compared >= traces || tally.found.is_some() {
                return;
            }
            let sources = sources(world.kind, weather);
            let enough = 5 * traces.div_ceil(sources) + WORLDS;
            assert!(tally.rounds < enough, "this machine is late too often");
            tally.rounds += 1;
            tally.rounds
        };
        let mut dice = Dice::new(seed, round);
        let case = match weather {
            Weather::Quiet => Case::random(&mut dice, world.kind),
            Weather::Flood => Case::random_in_a_flood(&mut dice, world.kind),
        };
        let trace = Trace::random(&mut dice, &case, sources(world.kind, weather));
        let mut verdict = judge(&case, &play(world, &case, &trace));
        if weather == Weather::Flood && verdict.difference.is_some() {
            // Once in a thousand rounds a place comes free just before a packet.
            verdict = judge(&case, &play(world, &case, &trace));
        }
        let mut tally = tally.lock().unwrap();
        tally.compared += verdict.compared;
        tally.unclear += verdict.unclear;
        tally.openings += verdict.openings;
        if let Some(difference) = verdict.difference {
            tally.found.get_or_insert((case, trace, difference));
        }
    }
}

/// `SEED`, as a failed run prints it, or another for each run.
fn seed() -> u32 {
    let seed = match std::env::var("SEED") {
        Ok(text) => text.parse().unwrap(),
        Err(_) => std::process::id() ^ jiff::Timestamp::now().as_nanosecond() as u32,
    };
    println!("SEED={seed}");
    seed
}

/// A kernel that does something else than the policy says is found out, and by how little.
#[test]
fn a_difference_is_found_and_shrunk() {
    const POLICY: &str = r#"
within = "2s"
log = "off"

[door.ssh]
ports = [22]

[key.yves]
opens = ["ssh"]
sequence = [7001, 1999, 40213, 1999]
"#;
    let another_knock = POLICY.replace("40213", "40214");
    let more_patience = POLICY.replace("within = \"2s\"", "within = \"4s\"");
    let more_trust = POLICY.replace("[22]", "[22]\ntrust = [\"10.8.0.0/24\", \"fd00::/16\"]");
    thread::scope(|scope| {
        scope.spawn(|| {
            let sent = "0 22, 1 5, 1 22";
            found_by_search(POLICY, &more_trust, sent, "0 22, looked at in beat 0");
        });
        scope.spawn(|| {
            let sent = "0 80, 0 7001, 1 1999, 1 1999, 1 40213, 1 1999, 1 22";
            found_by_search(
                POLICY,
                &another_knock,
                sent,
                "0 7001, 0 1999, 0 40213, looked at in beat 0",
            );
        });
        scope.spawn(|| {
            let sent = "0 22, 0 7001, 2 1999, 2 40213, 2 1999, 2 22";
            found_by_search(POLICY, &more_patience, sent, "0 7001, looked at in beat 2");
        });
    });
}

/// Three sources send a trace; the shortest part of it that shows a difference is as told.
fn found_by_search(judged: &str, applied: &str, sent: &str, shortest: &str) {
    let kind = Kind::Nftables;
    let [judged, applied] = [judged, applied].map(|text| Case::read(text.into(), kind).unwrap());
    let worlds: Vec<World> = (0..4).map(|_| World::bare()).collect();
    let mut steps = Vec::new();
    for word in sent.split(", ") {
        let (beat, to) = word.split_once(' ').unwrap();
        steps.extend(["10.8.0.1", "10.8.0.2", "fd00::8:1"].map(|source| Step {
            beat: beat.parse().unwrap(),
            source: source.parse().unwrap(),
            host: None,
            to: to.parse().unwrap(),
        }));
    }
    let trace = Trace { steps, end: 2 };
    let same = judge(&judged, &play(&worlds[0], &judged, &trace));
    assert!(same.difference.is_none() && same.compared == 3);
    let difference = judge(&judged, &play(&worlds[0], &applied, &trace)).difference;
    let search = Search {
        worlds: &worlds,
        judged: &judged,
        applied: &applied,
    };
    let found = search.shrink(&trace, &difference.unwrap()).unwrap();
    let words = found.steps.iter();
    let mut words: Vec<String> = words.map(|s| format!("{} {}", s.beat, s.to.port)).collect();
    words.push(format!("looked at in beat {}", found.end));
    assert_eq!(words.join(", "), shortest);
}

on_every_firewall!(the_kernel_does_what_the_model_says);
