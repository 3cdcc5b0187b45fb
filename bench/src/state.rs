//! The kernel's memory: how much there is room for, and what it weighs.

use std::fs;
use std::io;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use toctoc::signed::{Signer, Time};

use crate::figures::{Figure, Figures};
use crate::firewalls::knock;
use crate::frames::{Frame, SYN, source, tcp};
use crate::granted::fill;
use crate::place::Place;
use crate::policies::{DOOR, Sequence, policy, secrets, sequences, signed_policy, token_policy};
use crate::sender::Sender;
use crate::signed;
use crate::statistics::Spread;

/// The number of times that each weight is taken, on hosts made anew.
const RUNS: usize = 3;

/// So many entries are weighed at once: what else the machine does in that moment is small beside it.
const ENTRIES: u32 = 100_000;

/// The same of sources with one knock, who have a part of the room.
const MIDWAY: u32 = 30_000;

/// More sources than there is room for by default (65,536).
const CROWD: u32 = 70_000;

const TOKEN_KEYS: usize = 50;
const KEYS: usize = 10_000;
const SIGNED_KEYS: usize = 1_000;

pub fn measure(figures: &mut Figures) -> io::Result<()> {
    let mut add = |what: &str, who: &str, unit, samples: &[f64]| {
        figures.add(Figure {
            section: "state",
            what: what.to_string(),
            who: who.to_string(),
            at: 0,
            of: "",
            unit,
            spread: Spread::of(samples),
        });
    };
    eprintln!("state: room");
    let room = room()?;
    add(
        "sources midway at once",
        "toctoc, nftables",
        "sources",
        &[room.midway],
    );
    add(
        "whole sequences in one moment",
        "toctoc, nftables",
        "sources",
        &[room.at_once],
    );
    add(
        "grants at once",
        "toctoc, nftables",
        "sources",
        &[room.grants],
    );
    add(
        "grants kept while others are midway in masses",
        "toctoc, nftables",
        "of 20",
        &[room.kept],
    );
    let mut weights: [Vec<f64>; 6] = Default::default();
    for _ in 0..RUNS {
        eprintln!("state: weights");
        let (signed, spent) = signed()?;
        for (samples, weight) in
            weights
                .iter_mut()
                .zip([progress()?, grant()?, token()?, key()?, signed, spent])
        {
            samples.push(weight);
        }
    }
    const OF: [&str; 6] = [
        "source midway",
        "grant",
        "token",
        "key of five knocks",
        "signed key",
        "spent datagram",
    ];
    for (what, samples) in OF.iter().zip(&weights) {
        add(
            &format!("memory of a {what}"),
            "toctoc, nftables",
            "bytes",
            samples,
        );
    }
    Ok(())
}

struct Room {
    midway: f64,
    at_once: f64,
    grants: f64,
    kept: f64,
}

/// The effect of more sources than there is room for.
fn room() -> io::Result<Room> {
    let (place, sequence) = place("open_for = \"10m\"\nwithin = \"1m\"\n")?;
    let _listener = place
        .lab
        .server
        .inside(|| TcpListener::bind(("0.0.0.0", DOOR)))??;
    // Twenty have their grants before the crowd comes.
    let early: Vec<u32> = (1_000_000..1_000_020).collect();
    send(&place, &knocks(&early, &sequence))?;
    let crowd: Vec<u32> = (0..CROWD).collect();
    // Two knocks each: those with one have a quarter of the room.
    send(&place, &knocks(&crowd, &sequence[..2]))?;
    let midway = elements(&place, "progress4")?;
    let held = place.on_server(&["nft", "list", "set", "inet", "toctoc", "grants4"])?;
    let kept = early
        .iter()
        .filter(|number| held.contains(&format!("{} .", source(**number))))
        .count();

    let (place, sequence) = self::place("open_for = \"10m\"\n")?;
    // Each step takes up room for progress until the kernel tidies up.
    send(&place, &knocks(&crowd, &sequence))?;
    let at_once = elements(&place, "grants4")?;
    // In parts, with room made between them: now the room for grants is asked for, not that for progress.
    for part in crowd.chunks(10_000) {
        send(&place, &knocks(part, &sequence))?;
        place.on_server(&["nft", "flush", "map", "inet", "toctoc", "progress4"])?;
        place.on_server(&["nft", "flush", "set", "inet", "toctoc", "steady4"])?;
    }
    Ok(Room {
        midway: midway as f64,
        at_once: at_once as f64,
        grants: elements(&place, "grants4")? as f64,
        kept: kept as f64,
    })
}

/// Bytes for a source that is midway: its progress, and how often it steps.
fn progress() -> io::Result<f64> {
    let (place, sequence) = place("max_sources = 131072\nwithin = \"5m\"\n")?;
    let sources: Vec<u32> = (0..MIDWAY).collect();
    let frames = knocks(&sources, &sequence[..1]);
    let before = kernel_memory()?;
    send(&place, &frames)?;
    let after = kernel_memory()?;
    counted(&place, "progress4", MIDWAY as usize)?;
    Ok((after - before) / f64::from(MIDWAY))
}

/// Bytes for a grant: the permission, and whose key it was. Put in from outside, so that nothing else is there.
fn grant() -> io::Result<f64> {
    let (place, sequence) = place("max_sources = 131072\n")?;
    knock(&place, &sequence)?;
    let before = kernel_memory()?;
    fill(&place, ENTRIES)?;
    let after = kernel_memory()?;
    counted(&place, "grants4", ENTRIES as usize + 1)?;
    Ok((after - before) / f64::from(ENTRIES))
}

/// Bytes for a token: what the first apply of many keys takes beyond a second one without them.
fn token() -> io::Result<f64> {
    let place = Place::new("legacy")?;
    let text = token_policy(&place, TOKEN_KEYS)?;
    let before = kernel_memory()?;
    place.apply(&text)?;
    let with = kernel_memory()? - before;
    let tokens = elements(&place, "tokens")?;
    let before = kernel_memory()?;
    place.on_server(&["nft", "flush", "map", "inet", "toctoc", "tokens"])?;
    wait_for_memory(before - with / 2.0)?;
    let freed = before - kernel_memory()?;
    Ok(freed / tokens as f64)
}

/// Bytes for a key that is a sequence: steps of the automaton, its chain, its counter.
fn key() -> io::Result<f64> {
    let place = Place::new("legacy")?;
    let text = policy("", &sequences(KEYS));
    let before = kernel_memory()?;
    place.apply(&text)?;
    let after = kernel_memory()?;
    Ok((after - before) / KEYS as f64)
}

/// Bytes for a signed key, and for a datagram of it that was spent, which is remembered for two hours. The datagrams come
/// from a single source, so that there are few grants.
fn signed() -> io::Result<(f64, f64)> {
    const EACH: usize = 50;
    let place = Place::new("legacy")?;
    let text = signed_policy(&place, SIGNED_KEYS)?;
    let before = kernel_memory()?;
    place.apply(&text)?;
    let with = kernel_memory()?;
    let from = source(0);
    let now = signed::now()?;
    let mut frames = Vec::new();
    for secret in secrets(SIGNED_KEYS) {
        let signer = Signer::of(&secret);
        let at = (0..EACH as u64).map(|number| Time(now.0 + number));
        frames.extend(at.map(|time| signed::good(&signer, from, time)));
    }
    send(&place, &frames)?;
    let after = kernel_memory()?;
    counted(&place, "tags", frames.len())?;
    Ok((
        (with - before) / SIGNED_KEYS as f64,
        (after - with) / frames.len() as f64,
    ))
}

/// Two hosts, and a policy of one key with these settings.
fn place(settings: &str) -> io::Result<(Place, Sequence)> {
    let place = Place::new("legacy")?;
    let sequence = sequences(1)[0];
    place.apply(&policy(settings, &[sequence]))?;
    place.on_server(&["ip", "route", "add", "default", "dev", "eth0"])?;
    Ok((place, sequence))
}

/// All knocks of each source in turn.
fn knocks(sources: &[u32], sequence: &[u16]) -> Vec<Frame> {
    let of = |number: &u32| {
        let source = source(*number);
        sequence
            .iter()
            .map(move |port| tcp(source, 40_000, *port, SYN))
    };
    sources.iter().flat_map(of).collect()
}

fn send(place: &Place, frames: &[Frame]) -> io::Result<()> {
    place.lab.client.inside(|| Sender::new()?.send(frames))?
}

/// The number of elements of a set or map of ours.
fn elements(place: &Place, name: &str) -> io::Result<usize> {
    let listed = place.on_server(&["nft", "list", "table", "inet", "toctoc"])?;
    let mut lines = listed.lines().skip_while(|line| {
        !(line.contains(&format!("set {name} ")) || line.contains(&format!("map {name} ")))
    });
    let body: String = lines.by_ref().take_while(|line| *line != "\t}").collect();
    let Some((_, elements)) = body.split_once("elements = {") else {
        return Ok(0);
    };
    Ok(elements.split(',').count())
}

fn counted(place: &Place, name: &str, wanted: usize) -> io::Result<()> {
    let there = elements(place, name)?;
    if there != wanted {
        return Err(io::Error::other(format!(
            "{name} has {there} elements, not {wanted}"
        )));
    }
    Ok(())
}

/// Bytes that the kernel holds and cannot give back: objects, tables, counters of each processor.
fn kernel_memory() -> io::Result<f64> {
    let text = fs::read_to_string("/proc/meminfo")?;
    let field = |name: &str| -> f64 {
        let line = text.lines().find(|line| line.starts_with(name));
        let number = line
            .and_then(|line| line.split_whitespace().nth(1))
            .and_then(|word| word.parse().ok());
        number.unwrap_or(0.0)
    };
    Ok(1024.0 * (field("SUnreclaim:") + field("VmallocUsed:") + field("Percpu:")))
}

/// Waits until the kernel has tidied up, five seconds at the most.
fn wait_for_memory(below: f64) -> io::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(5);
    while kernel_memory()? > below && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}
