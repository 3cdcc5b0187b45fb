//! The cost of a packet for the kernel: rulesets taken in turn, round after round.

use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use toctoc::signed::{Signer, Time};
use toctoc::single_use::{Secret, Window, token};

use crate::figures::{Figure, Figures};
use crate::firewalls::Firewall;
use crate::frames::{ACK, Frame, SYN, source, tcp, udp};
use crate::place::Place;
use crate::policies::{
    DOOR, TOKEN_PORT, secrets, sequences, signed_policy, token_policy, unrelated,
};
use crate::random::Random;
use crate::sender::{Sender, stay_on};
use crate::signed;
use crate::statistics::Spread;

/// Sources that take part: fewer than any list of ours holds.
const SOURCES: u32 = 16_384;

/// The kinds of packets.
pub const KINDS: [&str; 4] = ["established", "elsewhere", "door", "midway"];

/// A flow that connection tracking knows.
const FLOW: (u16, u16) = (40_001, 8_080);

/// Rounds in which everybody has a turn.
pub const ROUNDS: usize = 41;

/// Somebody whose packets are measured.
pub struct Contestant {
    name: &'static str,
    keys: usize,
    place: Place,
}

impl Contestant {
    pub fn new(name: &'static str, keys: usize, place: Place) -> io::Result<Contestant> {
        prepare(&place)?;
        Ok(Contestant { name, keys, place })
    }

    /// The base of all comparisons: no rules.
    pub fn nothing() -> io::Result<Contestant> {
        let place = Firewall::Nothing.install(1)?;
        Contestant::new(Firewall::Nothing.name(), 1, place)
    }
}

pub fn measure(figures: &mut Figures) -> io::Result<()> {
    let mut contestants = vec![Contestant::nothing()?];
    for firewall in Firewall::ALL {
        for keys in [1, 10, 100, 1_000, 10_000] {
            if firewall != Firewall::Nothing && keys <= firewall.most_keys() {
                eprintln!("cost: {} with {keys} keys", firewall.name());
                let place = firewall.install(keys)?;
                contestants.push(Contestant::new(firewall.name(), keys, place)?);
            }
        }
    }
    take_turns("cost", &contestants, &KINDS, ROUNDS, figures)?;
    let mut contestants = vec![Contestant::nothing()?];
    for keys in [1, 10, 100, 1_000, 10_000] {
        eprintln!("cost: {keys} keys that are tokens");
        let place = Place::new("legacy")?;
        let settings = "token_horizon = \"1h\"\n";
        place.apply(&format!("{settings}{}", token_policy(&place, keys)?))?;
        contestants.push(Contestant::new(Firewall::Nftables.name(), keys, place)?);
    }
    take_turns(
        "cost",
        &contestants,
        &["token that opens nothing"],
        ROUNDS,
        figures,
    )?;
    tokens_that_open(&contestants, figures)?;
    let mut contestants = vec![Contestant::nothing()?];
    for keys in [1, 100, 10_000] {
        eprintln!("cost: {keys} signed keys");
        let place = Place::new("legacy")?;
        place.apply(&signed_policy(&place, keys)?)?;
        contestants.push(Contestant::new(Firewall::Nftables.name(), keys, place)?);
    }
    take_turns("cost", &contestants, &[FORGED], ROUNDS, figures)?;
    signed_that_open(&contestants, figures)
}

/// A datagram of a signed key without its signature.
const FORGED: &str = "forged datagram of a signed key";

/// Each datagram opens once, and a key may spend sixty a minute: fifty of each key.
fn signed_that_open(contestants: &[Contestant], figures: &mut Figures) -> io::Result<()> {
    let now = signed::now()?;
    that_open("signed datagram", contestants, figures, |number, secret| {
        let signer = Signer::of(secret);
        let at = (0..50).map(|later| Time(now.0 + later));
        at.map(|time| signed::good(&signer, source(number), time))
            .collect()
    })
}

/// Each token opens once, so these are few: as many as the keys have loaded.
fn tokens_that_open(contestants: &[Contestant], figures: &mut Figures) -> io::Result<()> {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_err(io::Error::other)?;
    // Tokens that are loaded begin in a while: nobody knows what was spent before.
    let windows = (now.as_secs() / 60 + 5)..(now.as_secs() / 60 + 55);
    that_open("token", contestants, figures, |number, secret| {
        let payloads = windows
            .clone()
            .map(|window| bytes(&token(secret, Window(window), 0).hex()));
        payloads
            .map(|payload| udp(source(number), 40_000, TOKEN_PORT, &payload))
            .collect()
    })
}

/// Packets that open once each, of a hundred keys, in parts. `frames` are those of a key.
fn that_open(
    what: &str,
    contestants: &[Contestant],
    figures: &mut Figures,
    frames: impl Fn(u32, &Secret) -> Vec<Frame>,
) -> io::Result<()> {
    for one in contestants.iter().filter(|one| one.keys == 100) {
        let keys = (0..).zip(secrets(one.keys));
        let frames: Vec<Frame> = keys
            .flat_map(|(number, secret)| frames(number, &secret))
            .collect();
        let mut samples = Vec::new();
        for part in frames.chunks(500) {
            samples.push(exactly(&one.place, part)?);
        }
        let spent = one
            .place
            .on_server(&["nft", "list", "set", "inet", "toctoc", "spent"])?
            .matches("expires")
            .count();
        if spent < frames.len() {
            let wanted = frames.len();
            return Err(io::Error::other(format!(
                "{spent} of {wanted} opened: {what}"
            )));
        }
        figures.add(Figure {
            section: "cost",
            what: format!("{what} that opens, whole way"),
            who: one.name.to_string(),
            at: one.keys as u64,
            of: "keys",
            unit: "ns",
            spread: Spread::of(&samples),
        });
    }
    Ok(())
}

fn bytes(hex: &str) -> Vec<u8> {
    let pairs = (0..hex.len()).step_by(2);
    pairs
        .filter_map(|at| u8::from_str_radix(&hex[at..at + 2], 16).ok())
        .collect()
}

/// Nanoseconds for a packet, each sent once.
fn exactly(place: &Place, frames: &[Frame]) -> io::Result<f64> {
    place.lab.client.inside(|| {
        stay_on(0);
        let sender = Sender::new()?;
        let sent = sender.measure(frames, frames.len() as u64, Duration::MAX)?;
        Ok(sent.ns_per_packet())
    })?
}

/// Measures each kind of packet with all of them, round after round. The first one is what the others
/// are compared with: a figure is the whole way of a packet, its rules what it takes more than that in
/// the same round.
pub fn take_turns(
    section: &'static str,
    contestants: &[Contestant],
    kinds: &[&str],
    rounds: usize,
    figures: &mut Figures,
) -> io::Result<()> {
    for kind in kinds {
        eprintln!("{section}: {kind}");
        let mut samples = vec![Vec::new(); contestants.len()];
        for _ in 0..rounds {
            for (one, samples) in contestants.iter().zip(&mut samples) {
                let bare = once(&contestants[0].place, &frames(kind, 1))?;
                samples.push((once(&one.place, &frames(kind, one.keys))?, bare));
            }
        }
        for (one, samples) in contestants.iter().zip(&samples) {
            let rules: Vec<f64> = samples.iter().map(|(all, bare)| all - bare).collect();
            let samples: Vec<f64> = samples.iter().map(|(all, _)| *all).collect();
            let mut add = |what: String, samples: &[f64]| {
                figures.add(Figure {
                    section,
                    what,
                    who: one.name.to_string(),
                    at: one.keys as u64,
                    of: "keys",
                    unit: "ns",
                    spread: Spread::of(samples),
                });
            };
            add(format!("{kind}, whole way"), &samples);
            add(format!("{kind}, rules"), &rules);
        }
    }
    Ok(())
}

/// The work behind the rules does not belong to the figure: all that comes through them is dropped.
fn prepare(place: &Place) -> io::Result<()> {
    place.feed(
        &["nft", "-f", "-"],
        "table inet behind {\n chain last {\n type filter hook input priority 500; policy drop;\n }\n}\n",
    )?;
    // Sources are anywhere, and their packets are to be judged, not to be asked for their way.
    place.on_server(&["ip", "route", "add", "default", "dev", "eth0"])?;
    place.on_server(&[
        "sysctl",
        "-qw",
        "net.netfilter.nf_conntrack_tcp_be_liberal=1",
    ])?;
    let (from, to) = (FLOW.0.to_string(), FLOW.1.to_string());
    place.on_server(&[
        "conntrack",
        "-I",
        "-p",
        "tcp",
        "--state",
        "ESTABLISHED",
        "-u",
        "ASSURED,SEEN_REPLY",
        "-t",
        "36000",
        "-s",
        &source(0).to_string(),
        "-d",
        toctoc::lab::SERVER[0],
        "--sport",
        &from,
        "--dport",
        &to,
    ])?;
    Ok(())
}

/// The frames of a round, as many as there are sources.
fn frames(kind: &str, keys: usize) -> Vec<Frame> {
    let all = |frame: &dyn Fn(u32) -> Frame| (0..SOURCES).map(frame).collect();
    match kind {
        "established" => all(&|_| tcp(source(0), FLOW.0, FLOW.1, ACK)),
        "elsewhere" => all(&|number| tcp(source(number), 40_000, unrelated(number), SYN)),
        "door" => all(&|number| tcp(source(number), 40_000, DOOR, SYN)),
        "midway" => {
            let sequences = sequences(keys);
            all(&|number| {
                let first = sequences[number as usize / 2 % keys][0];
                let port = if number % 2 == 0 {
                    first
                } else {
                    unrelated(number)
                };
                tcp(source(number / 2), 40_000, port, SYN)
            })
        }
        "token that opens nothing" => {
            let mut random = Random::new(5);
            let mut payload = || -> Vec<u8> { (0..16).map(|_| random.next() as u8).collect() };
            let datagrams =
                (0..SOURCES).map(|number| udp(source(number), 40_000, TOKEN_PORT, &payload()));
            datagrams.collect()
        }
        FORGED => {
            // That of the first key, wherever there are more.
            let forged = secrets(1).first().map(|key| signed::forged(key, SOURCES));
            forged.and_then(Result::ok).unwrap_or_default()
        }
        _ => unreachable!("one of the kinds"),
    }
}

/// Nanoseconds for a packet.
fn once(place: &Place, frames: &[Frame]) -> io::Result<f64> {
    place.lab.client.inside(|| {
        stay_on(0);
        let sender = Sender::new()?;
        // The own content of the caches is part of the figure; that of somebody else is not.
        sender.measure(frames, 512, Duration::from_millis(5))?;
        let sent = sender.measure(frames, u64::from(SOURCES), Duration::from_millis(12))?;
        Ok(sent.ns_per_packet())
    })?
}
