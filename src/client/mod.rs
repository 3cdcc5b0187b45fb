//! The client: `profile --plan--> knocks --send--> sent --verify--> open door`. Needs no privileges.

mod clock;
pub mod profile;
mod send;
mod token;
mod verify;

use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::time::{Duration, Instant};

use crate::knock::Knock;
pub use clock::time_at;
pub use profile::Profile;
pub use send::send;
pub use token::{enter_with_token, send_token, tokens};
pub use verify::{Door, connect};

/// What came of knocking at a door.
#[derive(Debug)]
pub enum Entered {
    /// A connection was made, `after` the first knock was sent, at this try (from 1).
    Open { after: Duration, attempt: usize },
    /// The door was still shut after the last try.
    Shut(Door),
}

/// How often to knock, how much slower each time, and how long to wait for the door.
///
/// The waits stay below the second after which a SYN is repeated: a repeated SYN at a door that is
/// still closed is a knock that leads nowhere, and could hit the next try in the middle.
const TRIES: [(u32, Duration); 3] = [
    (1, Duration::from_millis(500)),
    (5, Duration::from_millis(900)),
    (25, Duration::from_millis(900)),
];

/// Slower tries start from this when no gap was asked for.
const SMALLEST_SLOW_GAP: Duration = Duration::from_millis(10);

/// Knocks, then connects to the door; tries again slower if that fails. The port of `host` is not
/// used.
///
/// # Errors
/// When packets cannot be sent at all.
pub fn enter(
    host: SocketAddr,
    knocks: &[Knock],
    door: NonZeroU16,
    gap: Duration,
) -> io::Result<Entered> {
    let waits = TRIES.map(|(_, wait)| wait);
    until_open(host, door, &waits, |index| {
        let gap = match index {
            0 => gap,
            _ => gap.max(SMALLEST_SLOW_GAP) * TRIES[index].0,
        };
        send(host, knocks, gap)?;
        if !gap.is_zero() {
            std::thread::sleep(gap);
        }
        Ok(())
    })
}

/// Asks for the door and connects to it, once for each of these waits, until it opens.
fn until_open(
    host: SocketAddr,
    door: NonZeroU16,
    waits: &[Duration],
    mut ask: impl FnMut(usize) -> io::Result<()>,
) -> io::Result<Entered> {
    let mut address = host;
    address.set_port(door.get());
    let mut last = Door::Silent;
    for (index, wait) in waits.iter().enumerate() {
        let start = Instant::now();
        ask(index)?;
        match connect(address, *wait)? {
            Door::Open => {
                return Ok(Entered::Open {
                    after: start.elapsed(),
                    attempt: index + 1,
                });
            }
            shut => last = shut,
        }
    }
    Ok(Entered::Shut(last))
}
