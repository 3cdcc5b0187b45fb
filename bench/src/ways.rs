//! Ways in: a server with a door, what a client's user runs, and what shuts the door again.

use std::fs;
use std::io;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};
use toctoc::lab::SERVER;

use crate::listener::Listener;
use crate::place::Place;
use crate::policies::{DOOR, Sequence, TOKEN_PORT, policy};
use crate::program;

/// A way in.
pub struct Way<'a> {
    pub name: &'static str,
    pub place: &'a Place,
    pub door: &'a Listener,
    /// The command of the client in this run.
    pub client: Box<dyn Fn(usize) -> Vec<String> + 'a>,
    /// `true` if that program connects too; else we do it in its place, as soon as the door lets us.
    pub connects: bool,
    pub close: Box<dyn Fn() -> io::Result<()> + 'a>,
}

impl Way<'_> {
    /// From just before the client's start to the moment at which the server's program has the connection,
    /// or what the client said when that took longer than the limit.
    pub fn enter(&self, run: usize, limit: Duration) -> io::Result<Result<Duration, String>> {
        self.door.forget();
        let words = (self.client)(run);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let mut command = self.place.command(&words);
        let (door, connects) = (self.door, self.connects);
        let ran = self.place.lab.client.inside(|| {
            let start = Instant::now();
            let ended = program::run_within(&mut command, limit)?;
            if !connects {
                connect(door, limit.saturating_sub(start.elapsed()));
            }
            Ok::<_, io::Error>((start, ended))
        })?;
        let (start, ended) = ran?;
        let left = limit
            .saturating_sub(start.elapsed())
            .max(Duration::from_millis(10));
        // A SYN of the run before may have been repeated until now.
        let taken = loop {
            match door.taken(left) {
                Some(taken) if taken < start => door.forget(),
                taken => break taken,
            }
        };
        Ok(match taken {
            Some(taken) => Ok(taken - start),
            None => Err(ended.map_or(String::new(), |ended| ended.stderr.trim().to_string())),
        })
    }
}

/// Tries again every other moment, and later less often. No try is given up: over a long road its answer comes late.
fn connect(door: &Listener, limit: Duration) {
    const MOMENT: Duration = Duration::from_millis(1);
    const QUICK: usize = 50;
    const LATER: Duration = Duration::from_millis(20);
    let start = Instant::now();
    let mut tries = Vec::new();
    while door.taken(Duration::ZERO).is_none() && start.elapsed() < limit {
        let domain = Domain::for_address(door.address);
        let Ok(socket) = Socket::new(domain, Type::STREAM, None) else {
            return;
        };
        let _ = socket.set_nonblocking(true);
        let _ = socket.connect(&door.address.into());
        std::thread::sleep(if tries.len() < QUICK { MOMENT } else { LATER });
        tries.push(socket);
    }
}

/// The kind of key that our client has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Sequence,
    Token,
    Signed,
}

/// The way in which our client knocks: its name here, with which kind of key, and whether at its usual pace.
pub type Ours = (&'static str, Kind, bool);

pub const OURS: [Ours; 5] = [
    ("toctoc, a sequence", Kind::Sequence, true),
    ("toctoc, a sequence, gap 0", Kind::Sequence, false),
    ("toctoc, a token", Kind::Token, true),
    ("toctoc, a token, gap 0", Kind::Token, false),
    ("toctoc, a signed key", Kind::Signed, true),
];

/// A server with a door, a sequence, and a key for each time that a token or a signed datagram is to open.
///
/// # Errors
/// When something of that cannot be set up.
pub fn ours(sequence: &Sequence, ways: &[Ours], runs: usize, settings: &str) -> io::Result<Place> {
    let place = Place::new("legacy")?;
    let more = format!("token_port = {TOKEN_PORT}\ntoken_horizon = \"1h\"\n");
    let text = format!("{}\n{settings}", policy(&more, &[*sequence]));
    let file = place.write("policy.toml", &text)?;
    let file = file.display().to_string();
    for (way, (_, kind, paced)) in ways.iter().enumerate() {
        for run in 0..=runs {
            let (name, gap) = (profile(way, run), if *paced { "" } else { "gap = \"0\"\n" });
            let mut text = format!(
                "host = \"{}\"\ndoor = {DOOR}\nsequence = {sequence:?}\n",
                SERVER[0]
            );
            if *kind != Kind::Sequence {
                let (key, made) = (key_of(way, run), place.path("made.toml"));
                let words = [
                    "toctoc", "key", "new", &key, "--opens", "ssh", "--host", SERVER[0],
                ];
                let more = ["--profile", &made.display().to_string(), &file];
                let signed: &[&str] = match kind {
                    Kind::Signed => &["--signed"],
                    Kind::Sequence | Kind::Token => &[],
                };
                place.on_server(&[&words[..], signed, &more[..]].concat())?;
                text = fs::read_to_string(&made)?;
                fs::remove_file(made)?;
            }
            place.write(&name, &format!("{text}{gap}"))?;
        }
    }
    place.on_server(&["toctoc", "apply", &file])?;
    Ok(place)
}

/// The key of a way in one run.
fn key_of(way: usize, run: usize) -> String {
    format!("key{way}-{run}")
}

/// The file in which its secret is.
pub fn secret_of(way: usize, run: usize) -> String {
    format!("{}.secret", key_of(way, run))
}

/// The file in which a profile is.
fn profile(way: usize, run: usize) -> String {
    format!("way{way}-{run}.toml")
}

pub fn our_ways<'a>(ways: &[Ours], place: &'a Place, door: &'a Listener) -> Vec<Way<'a>> {
    let way = |(number, (name, _, _)): (usize, &Ours)| Way {
        name,
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
    ways.iter().enumerate().map(way).collect()
}
