//! Signed datagrams as frames: good ones, and forged ones that differ from those in their tag alone.

use std::io;
use std::net::Ipv4Addr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use toctoc::signed::{Bound, SKEW, Signer, Time};
use toctoc::single_use::Secret;

use crate::frames::{Frame, source, udp};
use crate::policies::TOKEN_PORT;
use crate::random::Random;

/// The clock of this moment.
///
/// # Errors
/// When it stands before 1970.
pub fn now() -> io::Result<Time> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let since = since.map_err(io::Error::other)?;
    Ok(Time(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)))
}

/// A datagram that opens once.
pub fn good(signer: &Signer, from: Ipv4Addr, time: Time) -> Frame {
    let datagram = signer.sign(from.into(), Bound::Address, time);
    udp(from, 40_000, TOKEN_PORT, &datagram)
}

/// So many datagrams of a key that is there, each with a tag that is not its own: the most work that somebody without the
/// secret can make. Their time is good for more than three minutes from now on.
///
/// # Errors
/// As for [`now`].
pub fn forged(secret: &Secret, count: u32) -> io::Result<Vec<Frame>> {
    let ahead = (SKEW - Duration::from_secs(10)).as_nanos() as u64;
    let (signer, time) = (Signer::of(secret), Time(now()?.0 + ahead));
    let mut random = Random::new(6);
    let frame = |number| {
        let from = source(number);
        let mut datagram = signer.sign(from.into(), Bound::Address, time);
        datagram[..8].copy_from_slice(&random.next().to_be_bytes());
        udp(from, 40_000, TOKEN_PORT, &datagram)
    };
    Ok((0..count).map(frame).collect())
}
