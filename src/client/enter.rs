//! Through one door of one host: look, knock, connect, and again slower.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::num::NonZeroU16;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::dial::{Dial, Met, wait_for};
use super::plan::{Packets, Plan, Try};
use super::send::{at, send_knock, send_signed, send_token};

/// A door that let us in.
#[derive(Debug)]
pub struct Open {
    pub stream: TcpStream,
    pub seen: Seen,
    /// From the first knock to the connection.
    pub after: Duration,
    /// From the SYN to its answer.
    pub round_trip: Duration,
    pub answers: Answers,
}

/// The packets that were sent when a door was seen open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// None: it was open before.
    Before,
    /// Some, and the answer is to a connection from before: it was open.
    Amid,
    /// All of a try, from 1.
    After(usize),
}

/// The ports that answer: a door says nothing if every port does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answers {
    /// As far as anybody looked, ports that nobody uses do not answer.
    Door,
    /// So does this port, which nobody uses: something there answers every connection, a captive portal or a proxy.
    Every(NonZeroU16),
}

/// A door that did not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    Open,
    /// No answer in time: shut, or the host is down, or the network swallows packets.
    Silent,
    /// Refused: shut by a policy that rejects, or open with nothing listening behind it.
    Refused,
}

/// Shorter than the second after which a SYN is repeated.
const LOOKED_AT_MOST: Duration = Duration::from_millis(900);

/// Knocks at a host, and connects to the door; again, slower, while that fails and `stop` is not set.
/// The port of `host` is not used.
///
/// # Errors
/// When packets cannot be sent at all.
pub fn enter(
    host: SocketAddr,
    door: NonZeroU16,
    plan: &Plan,
    stop: &AtomicBool,
) -> io::Result<Result<Open, Door>> {
    let door = at(host, door);
    let mut last = Door::Silent;
    let mut looked = None;
    let mut answers = Answers::Door;
    if let Some(patience) = plan.look {
        let start = Instant::now();
        let mut dial = Dial::start(door)?;
        match dial.wait(patience) {
            Some(Met::Open(stream, round_trip)) => {
                answers = who_answers(host, door.port(), plan, round_trip);
                if answers == Answers::Door {
                    return Ok(Ok(opened(stream, Seen::Before, start, round_trip)));
                }
            }
            Some(Met::Refused | Met::Reset) => last = Door::Refused,
            // So may a firewall say that a door is shut.
            Some(Met::Failed(_)) => {}
            // Its answer may still come, while we knock.
            None => looked = Some((dial, start)),
        }
    }
    let mut attempt = 0;
    let start = Instant::now();
    while let Some(next) = plan.next(attempt) {
        attempt += 1;
        if stop.load(Ordering::Relaxed) {
            break;
        }
        // Within the second after which its SYN would be repeated, amid the knocks.
        let in_time = |since: &Instant| since.elapsed() + next.lasts() < LOOKED_AT_MOST;
        let looked = looked.take().filter(|(_, since)| in_time(since));
        let mut looked = looked.map(|(dial, _)| dial);
        if let Some((stream, round_trip)) = send(host, next, looked.as_mut())? {
            answers = who_answers(host, door.port(), plan, round_trip);
            if answers == Answers::Door {
                return Ok(Ok(opened(stream, Seen::Amid, start, round_trip)));
            }
            // The knocks were cut short by an answer that says nothing.
            looked = None;
            send(host, next, None)?;
        }
        let met = connection(door, next)?;
        // The answer to a SYN from before may come with that to the SYN from behind the knocks.
        let was_open = || looked.and_then(|mut dial| dial.wait(Duration::ZERO));
        match met {
            Some(Met::Open(stream, round_trip)) => {
                let seen = match was_open() {
                    Some(Met::Open(..)) => Seen::Amid,
                    _ => Seen::After(attempt),
                };
                let open = opened(stream, seen, start, round_trip);
                return Ok(Ok(Open { answers, ..open }));
            }
            Some(Met::Refused | Met::Reset) => last = Door::Refused,
            Some(Met::Failed(_)) | None => last = Door::Silent,
        }
    }
    Ok(Err(last))
}

/// Connects to the door after a try. A SYN right behind a token mostly finds the door open. It may overtake the token, and
/// find it shut: a second one follows, after the gap of the try.
fn connection(door: SocketAddr, one: &Try) -> io::Result<Option<Met>> {
    let mut first = Dial::start(door)?;
    if matches!(one.packets, Packets::Knocks(_)) || one.gap.is_zero() {
        return Ok(first.wait(one.wait));
    }
    let start = Instant::now();
    if let Some(open @ Met::Open(..)) = first.wait(one.gap) {
        return Ok(Some(open));
    }
    thread::sleep(one.gap.saturating_sub(start.elapsed()));
    Ok(wait_for(&mut [first, Dial::start(door)?], one.wait))
}

fn opened(stream: TcpStream, seen: Seen, start: Instant, round_trip: Duration) -> Open {
    Open {
        stream,
        seen,
        after: start.elapsed(),
        round_trip,
        answers: Answers::Door,
    }
}

fn who_answers(host: SocketAddr, door: u16, plan: &Plan, round_trip: Duration) -> Answers {
    let mut used = plan.ports();
    used.push(door);
    compare(host, &used, round_trip)
}

/// Ports at which hardly anybody listens: some among those of services, and some far above.
const HARDLY_USED: [RangeInclusive<u16>; 2] = [700..=740, 20_000..=31_999];

/// Connects to ports that nobody uses, which no host answers, after a door that did. Some answer for the ports of
/// services alone, or for those above, so both are asked. Of each kind two: one may be in use after all. The port of
/// `host` is not used.
pub fn compare(host: SocketAddr, used: &[u16], round_trip: Duration) -> Answers {
    let asked = thread::scope(|scope| {
        let ask = |ports| scope.spawn(move || who_answers_among(host, ports, used, round_trip));
        let asked = HARDLY_USED.map(ask);
        asked.map(|thread| thread.join().unwrap_or(Answers::Door))
    });
    let every = asked.into_iter().find(|answers| *answers != Answers::Door);
    every.unwrap_or(Answers::Door)
}

fn who_answers_among(
    host: SocketAddr,
    ports: RangeInclusive<u16>,
    used: &[u16],
    round_trip: Duration,
) -> Answers {
    const LITTLE: Duration = Duration::from_millis(10);
    const LONGEST: Duration = Duration::from_millis(500);
    let patience = (round_trip.saturating_mul(2) + LITTLE).min(LONGEST);
    let mut answered = Answers::Door;
    for _ in 0..2 {
        let Some(port) = unused(&ports, used) else {
            return Answers::Door;
        };
        let dial = Dial::start(at(host, port)).ok();
        match dial.and_then(|mut dial| dial.wait(patience)) {
            Some(Met::Open(..) | Met::Reset) => answered = Answers::Every(port),
            _ => return Answers::Door,
        }
    }
    answered
}

/// One of these ports that is not used; chosen anew each time.
fn unused(ports: &RangeInclusive<u16>, used: &[u16]) -> Option<NonZeroU16> {
    let (first, count) = (*ports.start(), ports.end() - ports.start() + 1);
    let mut random = [0; 2];
    getrandom::fill(&mut random).ok()?;
    let start = u16::from_ne_bytes(random) % count;
    let ports = (0..count).map(|step| first + (start + step) % count);
    ports
        .filter(|port| !used.contains(port))
        .find_map(NonZeroU16::new)
}

/// Sends what a try sends. An earlier connection to the door that is answered meanwhile ends it.
fn send(
    host: SocketAddr,
    one: &Try,
    mut looked: Option<&mut Dial>,
) -> io::Result<Option<(TcpStream, Duration)>> {
    let mut pause = || match looked.as_deref_mut() {
        Some(dial) => match dial.wait(one.gap) {
            Some(Met::Open(stream, round_trip)) => Some((stream, round_trip)),
            _ => None,
        },
        None => {
            thread::sleep(one.gap);
            None
        }
    };
    match &one.packets {
        Packets::Knocks(knocks) => {
            for knock in knocks {
                send_knock(host, *knock)?;
                if let Some(open) = pause() {
                    return Ok(Some(open));
                }
            }
            Ok(None)
        }
        Packets::Token(token, port) => {
            send_token(host, *port, token)?;
            Ok(None)
        }
        Packets::Signed(signed) => {
            send_signed(host, signed)?;
            Ok(None)
        }
    }
}

/// Connects and closes again at once.
///
/// # Errors
/// When the connection could not even be tried (no route, forbidden by a local firewall).
pub fn connect(address: SocketAddr, wait: Duration) -> io::Result<Door> {
    match Dial::start(address)?.wait(wait) {
        Some(Met::Open(..)) => Ok(Door::Open),
        Some(Met::Refused | Met::Reset) => Ok(Door::Refused),
        Some(Met::Failed(error)) => Err(error),
        None => Ok(Door::Silent),
    }
}
