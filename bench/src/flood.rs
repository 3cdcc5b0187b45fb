//! Clients that get in while strangers send as much as they can.

use std::fs;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use toctoc::lab::{CLIENT, SERVER};
use toctoc::single_use::Secret;

use crate::figures::{Figure, Figures};
use crate::frames::{Frame, SYN, anywhere, source, source6, tcp, tcp6, udp};
use crate::listener::Listener;
use crate::peers::{self, Peer};
use crate::place::Place;
use crate::policies::{DOOR, Sequence, TOKEN_PORT, sequences};
use crate::random::Random;
use crate::sender::{Sender, stay_on};
use crate::signed::forged;
use crate::statistics::Spread;
use crate::ways::{Kind, Ours, Way, our_ways, ours, secret_of};

/// The number of knocks in each flood.
const KNOCKS: usize = 20;

/// A client that is not in by then has given up.
const LIMIT: Duration = Duration::from_secs(1);

/// Whose client takes longer than that has this.
const SLOW: Duration = Duration::from_secs(4);

const FIRST_KNOCK: &str = "its first knock";

/// Sources that take part: more than any list holds.
const SOURCES: u32 = 100_000;

/// Packets a second; `None` is as many as one processor can send.
const RATES: [Option<f64>; 2] = [Some(100_000.0), None];

/// Our own ways in.
const OURS: [Ours; 3] = [
    ("toctoc, a sequence", Kind::Sequence, true),
    ("toctoc, a token", Kind::Token, true),
    ("toctoc, a signed key", Kind::Signed, true),
];

/// The target of a flood.
struct Aim {
    name: &'static str,
    frames: Vec<Frame>,
}

/// A way in, what it is flooded at, and the processes that have to cope with it.
struct Contestant<'a> {
    way: Way<'a>,
    aims: Vec<Aim>,
    limit: Duration,
    pids: Vec<u32>,
}

pub fn measure(figures: &mut Figures) -> io::Result<()> {
    eprintln!("flood: setting up");
    let sequence = sequences(1)[0];
    // Each run of each flood has a token of its own; one more flood is none at all.
    let runs = KNOCKS * (1 + (everybodys().len() + 1) * RATES.len());
    let own = ours(&sequence, &OURS, runs, "[firewall]\ndefault = \"drop\"\n")?;
    let own_door = Listener::at(&own.lab.server, DOOR)?;
    let over_ipv6 = Listener::on(&own.lab.server, SERVER[1], DOOR)?;
    let mut installed = Vec::new();
    for (_, install) in peers::ALL {
        installed.extend(install(&sequence)?);
    }
    let doors = installed
        .iter()
        .map(|peer| Listener::at(&peer.place.lab.server, DOOR));
    let doors: Vec<Listener> = doors.collect::<io::Result<_>>()?;
    let mut contestants: Vec<Contestant> = our_ways(&OURS, &own, &own_door)
        .into_iter()
        .zip(&OURS)
        .enumerate()
        .map(|(number, (way, (_, kind, _)))| {
            Ok(Contestant {
                way,
                aims: aims(*kind, &own, number, &sequence)?,
                limit: LIMIT,
                pids: Vec::new(),
            })
        })
        .collect::<io::Result<_>>()?;
    contestants.push(with_ipv6(&own, &over_ipv6, &sequence)?);
    contestants.push(ours_with_nmap(&own, &own_door, &sequence));
    for (peer, door) in installed.iter().zip(&doors) {
        contestants.push(theirs(peer, door, &sequence));
        if peer.name == "classic script" {
            contestants.push(with_nmap(peer, door, &sequence));
        }
    }
    for contestant in &contestants {
        // Answers to strangers go back to where they came from.
        let place = contestant.way.place;
        let back = ["ip", "route", "replace", "10.0.0.0/8", "via", CLIENT[0]];
        place.on_server(&back)?;
        let mut runs = 0..;
        let quiet = knocks(contestant, &mut runs)?;
        add(figures, contestant, "no flood", &quiet, None);
        for aim in &contestant.aims {
            for rate in RATES {
                eprintln!("flood: {} at {}, {rate:?}", contestant.way.name, aim.name);
                let flooded = flooded(contestant, aim, rate, &mut runs)?;
                let flood = match rate {
                    Some(rate) => format!("{} at {rate:.0} a second", aim.name),
                    None => format!("{} as fast as it goes", aim.name),
                };
                add(figures, contestant, &flood, &flooded.opened, Some(&flooded));
            }
        }
    }
    Ok(())
}

/// The outcome of a flood.
struct Flooded {
    /// Milliseconds of each knock that opened.
    opened: Vec<f64>,
    packets_per_second: f64,
    /// Percent of one processor that the daemons used.
    daemons: f64,
}

/// Knocks while a flood is under way.
fn flooded(
    contestant: &Contestant,
    aim: &Aim,
    rate: Option<f64>,
    runs: &mut std::ops::RangeFrom<usize>,
) -> io::Result<Flooded> {
    let place = contestant.way.place;
    let (over, start) = (AtomicBool::new(false), Instant::now());
    let before = cpu(&contestant.pids)?;
    let (sent, opened, after) = std::thread::scope(|scope| {
        let sender = scope.spawn(|| {
            place.lab.client.inside(|| {
                stay_on(0);
                let sent =
                    Sender::new()?.flood(&aim.frames, rate, || !over.load(Ordering::Relaxed))?;
                Ok::<_, io::Error>(sent.packets as f64 / start.elapsed().as_secs_f64())
            })
        });
        // Each list that has room for so many is full by then.
        std::thread::sleep(Duration::from_millis(1_500));
        let opened = knocks(contestant, runs);
        let after = cpu(&contestant.pids);
        let took = start.elapsed();
        over.store(true, Ordering::Relaxed);
        let sent = sender
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        (
            sent,
            opened,
            after.map(|after| (after - before) / took.as_secs_f64() * 100.0),
        )
    });
    Ok(Flooded {
        opened: opened?,
        packets_per_second: sent??,
        daemons: after?,
    })
}

/// Knocks so many times; the milliseconds of those that opened.
fn knocks(contestant: &Contestant, runs: &mut std::ops::RangeFrom<usize>) -> io::Result<Vec<f64>> {
    let way = &contestant.way;
    let mut opened = Vec::new();
    for run in runs.take(KNOCKS) {
        if let Ok(took) = way.enter(run, contestant.limit)? {
            opened.push(took.as_secs_f64() * 1_000.0);
            // Shutting the door may go over the same cable.
            let mut shut = (way.close)();
            for _ in 0..5 {
                if shut.is_ok() {
                    break;
                }
                shut = (way.close)();
            }
            shut?;
        }
    }
    Ok(opened)
}

fn add(
    figures: &mut Figures,
    contestant: &Contestant,
    flood: &str,
    opened: &[f64],
    flooded: Option<&Flooded>,
) {
    let mut add = |what: &str, unit, samples: &[f64]| {
        figures.add(Figure {
            section: "flood",
            what: format!("{flood}: {what}"),
            who: contestant.way.name.to_string(),
            at: 0,
            of: "",
            unit,
            spread: Spread::of(samples),
        });
    };
    add("opened", "of 20", &[opened.len() as f64]);
    if !opened.is_empty() {
        add("start to connection", "ms", opened);
    }
    if let Some(flooded) = flooded {
        add("packets sent", "1/s", &[flooded.packets_per_second]);
        add("processor of the daemons", "%", &[flooded.daemons]);
    }
}

/// The targets at which one of our own ways is flooded.
fn aims(kind: Kind, place: &Place, way: usize, sequence: &Sequence) -> io::Result<Vec<Aim>> {
    let mut aims = everybodys();
    aims.push(match kind {
        Kind::Sequence => first_knocks(sequence),
        Kind::Token => Aim {
            name: "its token port",
            frames: datagrams(TOKEN_PORT, 16),
        },
        Kind::Signed => {
            let secret = fs::read_to_string(place.path(&secret_of(way, 0)))?;
            let secret = Secret::parse(secret.trim()).map_err(io::Error::other)?;
            Aim {
                name: "its token port, forged",
                frames: forged(&secret, SOURCES)?,
            }
        }
    });
    Ok(aims)
}

fn everybodys() -> Vec<Aim> {
    let mut random = Random::new(3);
    let ports: Vec<u16> = (0..SOURCES)
        .map(|_| 1 + random.below(65_535) as u16)
        .collect();
    vec![
        Aim {
            name: "random ports",
            frames: syns(|number| ports[number as usize]),
        },
        Aim {
            name: "the door",
            frames: syns(|_| DOOR),
        },
    ]
}

/// A peer, and where it listens.
fn theirs<'a>(peer: &'a Peer, door: &'a Listener, sequence: &Sequence) -> Contestant<'a> {
    let mut aims = everybodys();
    aims.push(match peer.name {
        "fwknop" => Aim {
            name: "its UDP port",
            frames: datagrams(62_201, 200),
        },
        "letmein" => Aim {
            name: "its TCP port",
            frames: syns(|_| 5_800),
        },
        _ => first_knocks(sequence),
    });
    // The loop of nmap takes longer than anybody waits here: `knock` sends the same knocks.
    let line = match peer.name {
        "classic script" => peers::with_knock(sequence),
        _ => peer.knock.clone(),
    };
    let name = match peer.name {
        "classic script" => "classic script, knock",
        name => name,
    };
    Contestant {
        way: Way {
            name,
            place: &peer.place,
            door,
            client: Box::new(move |_| {
                ["sh", "-c", &format!("exec {line}")]
                    .map(String::from)
                    .to_vec()
            }),
            connects: false,
            close: Box::new(|| peer.close()),
        },
        aims,
        limit: LIMIT,
        pids: peer.pids(),
    }
}

/// The classic script with the loop of its page, which takes so long that it is measured only where that
/// matters: while others fill its lists.
fn with_nmap<'a>(peer: &'a Peer, door: &'a Listener, sequence: &Sequence) -> Contestant<'a> {
    let mut one = theirs(peer, door, sequence);
    let line = peers::nmap_loop(sequence);
    one.way.name = "classic script, nmap loop";
    one.way.client = Box::new(move |_| ["sh", "-c", &line].map(String::from).to_vec());
    one.aims.retain(|aim| aim.name == FIRST_KNOCK);
    one.limit = SLOW;
    one
}

/// Our sequence over IPv6, which has rooms of its own.
fn with_ipv6<'a>(
    place: &'a Place,
    door: &'a Listener,
    sequence: &Sequence,
) -> io::Result<Contestant<'a>> {
    let text = format!(
        "host = \"{}\"\ndoor = {DOOR}\nsequence = {sequence:?}\n",
        SERVER[1]
    );
    let profile = place.write("ipv6.toml", &text)?.display().to_string();
    let frames = (0..SOURCES).map(|number| tcp6(source6(number), 40_000, sequence[0], SYN));
    Ok(Contestant {
        way: Way {
            name: "toctoc, a sequence, IPv6",
            place,
            door,
            client: Box::new(move |_| ["toctoc", "connect", &profile].map(String::from).to_vec()),
            connects: true,
            close: Box::new(|| place.on_server(&["toctoc", "close"]).map(drop)),
        },
        aims: vec![Aim {
            name: FIRST_KNOCK,
            frames: frames.collect(),
        }],
        limit: LIMIT,
        pids: Vec::new(),
    })
}

/// Our firewall with the slowest of all clients: a sequence needs no program of ours.
fn ours_with_nmap<'a>(place: &'a Place, door: &'a Listener, sequence: &Sequence) -> Contestant<'a> {
    let line = peers::nmap_loop(sequence);
    Contestant {
        way: Way {
            name: "toctoc, nmap loop",
            place,
            door,
            client: Box::new(move |_| ["sh", "-c", &line].map(String::from).to_vec()),
            connects: false,
            close: Box::new(|| place.on_server(&["toctoc", "close"]).map(drop)),
        },
        aims: vec![first_knocks(sequence)],
        limit: SLOW,
        pids: Vec::new(),
    }
}

/// First knocks from all over the Internet.
fn first_knocks(sequence: &Sequence) -> Aim {
    let frame = |number| tcp(anywhere(number), 40_000, sequence[0], SYN);
    Aim {
        name: FIRST_KNOCK,
        frames: (0..SOURCES).map(frame).collect(),
    }
}

fn syns(port: impl Fn(u32) -> u16) -> Vec<Frame> {
    (0..SOURCES)
        .map(|number| tcp(source(number), 40_000, port(number), SYN))
        .collect()
}

/// Datagrams of random bytes.
fn datagrams(port: u16, length: usize) -> Vec<Frame> {
    let mut random = Random::new(4);
    let mut payload = || -> Vec<u8> { (0..length).map(|_| random.next() as u8).collect() };
    (0..SOURCES)
        .map(|number| udp(source(number), 40_000, port, &payload()))
        .collect()
}

/// Seconds of the processor that these have used, their children included.
fn cpu(pids: &[u32]) -> io::Result<f64> {
    let of = |pid: &u32| -> io::Result<f64> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // Behind the name in parentheses: fields 14 to 17 of proc(5), in ticks of 10 ms.
        let fields = stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .split_whitespace();
        let ticks: u64 = fields
            .skip(11)
            .take(4)
            .filter_map(|field| field.parse::<u64>().ok())
            .sum();
        Ok(ticks as f64 / 100.0)
    };
    pids.iter().map(of).sum()
}
