//! Through one door of one host: look, knock, connect, and again slower.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::num::NonZeroU16;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::dial::{Dial, Met};
use super::plan::{Packets, Plan, Try};
use super::send::{at, send_knock, send_token};

/// A door that let us in.
#[derive(Debug)]
pub struct Open {
    pub stream: TcpStream,
    /// From 1; 0 when it was open before the first knock.
    pub attempt: usize,
    /// From the first knock to the connection.
    pub after: Duration,
    /// From the SYN to its answer.
    pub round_trip: Duration,
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
    if let Some(patience) = plan.look {
        let start = Instant::now();
        let mut dial = Dial::start(door)?;
        match dial.wait(patience) {
            Some(Met::Open(stream, round_trip)) => {
                return Ok(Ok(opened(stream, 0, start, round_trip)));
            }
            Some(Met::Refused) => last = Door::Refused,
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
        let looked = looked.map(|(dial, _)| dial);
        if let Some((stream, round_trip)) = send(host, next, looked)? {
            return Ok(Ok(opened(stream, 0, start, round_trip)));
        }
        match Dial::start(door)?.wait(next.wait) {
            Some(Met::Open(stream, round_trip)) => {
                return Ok(Ok(opened(stream, attempt, start, round_trip)));
            }
            Some(Met::Refused) => last = Door::Refused,
            Some(Met::Failed(_)) | None => last = Door::Silent,
        }
    }
    Ok(Err(last))
}

fn opened(stream: TcpStream, attempt: usize, start: Instant, round_trip: Duration) -> Open {
    Open {
        stream,
        attempt,
        after: start.elapsed(),
        round_trip,
    }
}

/// Sends what a try sends. An earlier connection to the door that is answered meanwhile ends it.
fn send(
    host: SocketAddr,
    one: &Try,
    mut looked: Option<Dial>,
) -> io::Result<Option<(TcpStream, Duration)>> {
    let mut pause = || match &mut looked {
        Some(dial) => match dial.wait(one.gap) {
            Some(Met::Open(stream, round_trip)) => Some((stream, round_trip)),
            _ => None,
        },
        None => {
            std::thread::sleep(one.gap);
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
            Ok(pause())
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
        Some(Met::Refused) => Ok(Door::Refused),
        Some(Met::Failed(error)) => Err(error),
        None => Ok(Door::Silent),
    }
}
