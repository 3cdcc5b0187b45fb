//! Time from the start of a client to a connection through the door: ours and others'.

use std::fs;
use std::io;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use toctoc::lab::SERVER;

use crate::figures::{Figure, Figures};
use crate::listener::Listener;
use crate::peers::{self, Peer};
use crate::place::Place;
use crate::policies::{DOOR, Sequence, TOKEN_PORT, policy, sequences};
use crate::program;
use crate::statistics::Spread;

/// How often each way in is measured.
const RUNS: usize = 21;

/// The loop of `nc` takes six seconds, always.
const RUNS_OF_NC: usize = 5;

/// Nobody is waited for longer.
const LIMIT: Duration = Duration::from_secs(20);

/// A way in.
struct Way<'a> {
    name: &'static str,
    runs: usize,
    place: &'a Place,
    door: &'a Listener,
    /// What the client runs in this run.
    client: Box<dyn Fn(usize) -> Vec<String> + 'a>,
    /// Whether that program connects too; else we do it in its place, as soon as the door lets us.
    connects: bool,
    close: Box<dyn Fn() -> io::Result<()> + 'a>,
}

pub fn measure(figures: &mut Figures) -> io::Result<()> {
    let sequence = sequences(1)[0];
    eprintln!("opening: setting up");
    let ours = ours(&sequence)?;
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
    let mut ways = our_ways(&ours, &door);
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
            if run <= way.runs {
                samples.push(once(way, run)?.as_secs_f64() * 1_000.0);
            }
        }
    }
    for (way, samples) in ways.iter().zip(&samples) {
        figures.add(Figure {
            section: "opening",
            what: "start to connection".to_string(),
            who: way.name.to_string(),
            at: 0,
            unit: "ms",
            spread: Spread::of(samples),
        });
    }
    resident(figures, &peers)
}

/// What stays in memory for as long as the door is to be opened by somebody. Of ours, nothing does.
fn resident(figures: &mut Figures, peers: &[Peer]) -> io::Result<()> {
    for peer in peers {
        let held = peer.resident()? as f64 / f64::from(1 << 20);
        figures.add(Figure {
            section: "opening",
            what: "memory of so many daemons".to_string(),
            who: peer.name.to_string(),
            at: peer.pids().len() as u64,
            unit: "MiB",
            spread: Spread::of(&[held]),
        });
    }
    Ok(())
}

/// From just before the client's start to the moment at which the server's program has the connection.
fn once(way: &Way, run: usize) -> io::Result<Duration> {
    (way.close)()?;
    way.door.forget();
    let words = (way.client)(run);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let mut command = way.place.command(&words);
    let (door, connects) = (way.door, way.connects);
    let ran = way.place.lab.client.inside(|| {
        let start = Instant::now();
        let ended = program::run(&mut command)?;
        if !connects {
            connect(door);
        }
        Ok::<_, io::Error>((start, ended))
    })?;
    let (start, ended) = ran?;
    let taken = way.door.taken(LIMIT).ok_or_else(|| {
        let said = ended.stderr.trim();
        io::Error::other(format!("{}: never opened: {said}", way.name))
    })?;
    Ok(taken - start)
}

/// Tries again every other moment: a connection that did not come in time or was refused is tried anew.
fn connect(door: &Listener) {
    let (start, moment) = (Instant::now(), Duration::from_millis(1));
    while door.taken(Duration::ZERO).is_none() && start.elapsed() < LIMIT {
        if TcpStream::connect_timeout(&door.address, moment).is_err() {
            std::thread::sleep(moment);
        }
    }
}

/// How our client knocks: its name here, whether with a token, and whether at its usual pace.
const OURS: [(&str, bool, bool); 4] = [
    ("toctoc, a sequence", false, true),
    ("toctoc, a sequence, gap 0", false, false),
    ("toctoc, a token", true, true),
    ("toctoc, a token, gap 0", true, false),
];

/// A server with a door, a sequence, and a token key for each time that a token is to open.
fn ours(sequence: &Sequence) -> io::Result<Place> {
    let place = Place::new("legacy")?;
    let settings = format!("token_port = {TOKEN_PORT}\ntoken_horizon = \"1h\"\n");
    let file = place.write("policy.toml", &policy(&settings, &[*sequence]))?;
    let file = file.display().to_string();
    for (way, (_, token, paced)) in OURS.iter().enumerate() {
        for run in 0..=RUNS {
            let (name, gap) = (profile(way, run), if *paced { "" } else { "gap = \"0\"\n" });
            let mut text = format!(
                "host = \"{}\"\ndoor = {DOOR}\nsequence = {sequence:?}\n",
                SERVER[0]
            );
            if *token {
                let (key, made) = (format!("key{way}-{run}"), place.path("made.toml"));
                let words = [
                    "toctoc", "key", "new", &key, "--opens", "ssh", "--host", SERVER[0],
                ];
                let more = ["--profile", &made.display().to_string(), &file];
                place.on_server(&[&words[..], &more[..]].concat())?;
                text = fs::read_to_string(&made)?;
                fs::remove_file(made)?;
            }
            place.write(&name, &format!("{text}{gap}"))?;
        }
    }
    place.on_server(&["toctoc", "apply", &file])?;
    Ok(place)
}

/// The file in which a profile is.
fn profile(way: usize, run: usize) -> String {
    format!("way{way}-{run}.toml")
}

fn our_ways<'a>(place: &'a Place, door: &'a Listener) -> Vec<Way<'a>> {
    let way = |(number, (name, _, _)): (usize, &(&'static str, bool, bool))| Way {
        name,
        runs: RUNS,
        place,
        door,
        client: Box::new(move |run| {
            let profile = place.path(&profile(number, run));
            ["toctoc", "connect", &profile.display().to_string()]
                .map(String::from)
                .to_vec()
        }),
        connects: true,
        close: Box::new(|| place.on_server(&["toctoc", "close"]).map(drop)),
    };
    OURS.iter().enumerate().map(way).collect()
}

/// The classic script is knocked at with both of its loops, and `nc` connects; a daemon's door opens some
/// time after its client has ended, and who connects too early loses a second, so we try all the time.
fn their_ways<'a>(peer: &'a Peer, door: &'a Listener, sequence: &Sequence) -> Vec<Way<'a>> {
    let way = |name: &'static str, runs: usize, line: String, connects: bool| Way {
        name,
        runs,
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
                "classic script, nmap loop",
                RUNS,
                and_nc(peers::nmap_loop(sequence)),
                true,
            ),
            way(
                "classic script, nc loop",
                RUNS_OF_NC,
                and_nc(peers::nc_loop(sequence)),
                true,
            ),
        ],
        name => vec![way(name, RUNS, format!("exec {}", peer.knock), false)],
    }
}
