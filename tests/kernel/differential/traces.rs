//! Random traces: pieces of what the policy knows, and of what it does not.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use toctoc::knock::{Knock, Protocol};

use super::dice::Dice;
use super::policies::{Case, knock};

/// Packets come in beats. Between two beats a source is in time (`within` is 2 s), between three it is
/// late; all pauses are 0.5 s or more from `within` and from the times of all grants.
pub const BEAT: Duration = Duration::from_millis(1300);

/// The last beat.
const END: usize = 5;

/// More steps of one source in a second than nftables has room for are forgotten (docs/limits.md says so).
const STEPS: usize = 14;

/// One packet of a source.
#[derive(Clone, Copy)]
pub struct Step {
    pub beat: usize,
    pub source: IpAddr,
    /// A host behind the server; `None` for the server.
    pub host: Option<IpAddr>,
    pub to: Knock,
}

/// The number of hosts behind the server that packets are for. No door stands in front of the last one.
const HOSTS: u16 = 3;

/// An address of a host behind the server, in the family of another address.
pub fn behind(number: u16, like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => Ipv4Addr::new(10, 60, 0, number as u8).into(),
        IpAddr::V6(_) => Ipv6Addr::new(0xfd60, 0, 0, 0, 0, 0, 0, number).into(),
    }
}

/// The packets of a round, in the order of time, and the beat in which the kernel is looked at.
#[derive(Clone)]
pub struct Trace {
    pub steps: Vec<Step>,
    pub end: usize,
}

impl Trace {
    /// The traces of so many sources, each from an address of its own, all at the same time.
    pub fn random(dice: &mut Dice, case: &Case, sources: usize) -> Trace {
        let mut steps = Vec::new();
        for number in 0..sources {
            steps.extend(one(dice, case, source(number)).into_iter().enumerate());
        }
        // The first packets of all, then the second of all, ...
        steps.sort_by_key(|&(number, step)| (step.beat, number));
        Trace {
            steps: steps.into_iter().map(|(_, step)| step).collect(),
            end: END,
        }
    }

    /// Packets and pauses.
    pub fn length(&self) -> (usize, usize) {
        (self.steps.len(), self.end)
    }
}

/// Neighbours share a prefix; every other one speaks IPv6. Only few are of one network of 64 bits, which has its
/// share of the room.
fn source(number: usize) -> IpAddr {
    let index = (number / 2) as u16;
    let [high, low] = index.to_be_bytes();
    match number % 2 {
        0 => Ipv4Addr::new(10, 8, high, low).into(),
        _ => Ipv6Addr::new(0xfd00, 0, 0, index / 16, 0, 0, 8, index).into(),
    }
}

fn one(dice: &mut Dice, case: &Case, source: IpAddr) -> Vec<Step> {
    let mut knocks = vec![any(dice, case)];
    while knocks.len() < STEPS && !dice.one_in(5) {
        knocks.extend(piece(dice, case, knocks.last().copied()));
    }
    if dice.one_in(2) {
        knocks.remove(0);
    }
    knocks.truncate(STEPS);
    let mut beat = 0;
    let mut steps = Vec::new();
    for to in knocks {
        beat += dice.pick(&[0, 0, 0, 0, 0, 0, 0, 1, 1, 2]);
        if beat > END {
            break;
        }
        let goes_on = case.policy.doors_behind().next().is_some() && dice.one_in(3);
        let host = goes_on.then(|| behind(1 + dice.below(HOSTS.into()) as u16, source));
        steps.push(Step {
            beat,
            source,
            host,
            to,
        });
    }
    steps
}

/// A few knocks that mean something together.
fn piece(dice: &mut Dice, case: &Case, last: Option<Knock>) -> Vec<Knock> {
    let policy = &case.policy;
    let sequence = |dice: &mut Dice| dice.pick(&policy.keys).sequences()[0].clone();
    match dice.below(16) {
        0..5 => sequence(dice),
        5 => {
            let mut beginning = sequence(dice);
            beginning.truncate(1 + dice.below(beginning.len()));
            beginning
        }
        6 => {
            let (one, other) = (sequence(dice), sequence(dice));
            interleaved(dice, &one, &other)
        }
        7 | 8 => {
            let mut broken = sequence(dice);
            let at = dice.below(broken.len() + 1);
            broken.insert(at, any(dice, case));
            broken
        }
        9 | 10 => {
            let mut echoed = sequence(dice);
            let at = dice.below(echoed.len());
            echoed.insert(at, echoed[at]);
            echoed
        }
        11 => last.into_iter().collect(),
        12 | 13 => vec![door(dice, case)],
        14 if case.policy.has_extensions() => (0..3).map(|_| door(dice, case)).collect(),
        _ => vec![any(dice, case)],
    }
}

/// Two sequences as two people behind one address would knock them.
fn interleaved(dice: &mut Dice, one: &[Knock], other: &[Knock]) -> Vec<Knock> {
    let (mut one, mut other) = (one.iter().copied(), other.iter().copied());
    let mut both = Vec::new();
    while one.len() + other.len() > 0 {
        let next = if dice.one_in(2) {
            one.next()
        } else {
            other.next()
        };
        both.extend(next);
    }
    both
}

/// A knock of some key, a door, an ignored port, or a port that nobody has heard of, some of them beside a range.
fn any(dice: &mut Dice, case: &Case) -> Knock {
    match dice.below(10) {
        0 => door(dice, case),
        1 => knock(Protocol::Tcp, 80),
        2 => dice.pick(&[5, 299, 600].map(|port| knock(Protocol::Tcp, port))),
        3 => knock(Protocol::Udp, 53),
        _ => {
            let sequence = dice.pick(&case.policy.keys).sequences()[0].clone();
            dice.pick(&sequence)
        }
    }
}

fn door(dice: &mut Dice, case: &Case) -> Knock {
    let door = dice.pick(&case.policy.doors);
    let ports = dice.pick(&door.ports);
    let inside = ports.ports().nth(ports.ports().count() / 2);
    dice.pick(&[ports.first(), ports.last(), inside.unwrap()])
}
