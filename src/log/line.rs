//! The form of a line about an opening. Pure.
//!
//! Others write to the kernel's log too, and some of their text comes from ordinary users: a process that crashes
//! is named there, with its file. So a line is read from its first byte to its last, and must be what the kernel
//! writes for a rule of ours (`nf_log_dump_packet_common` and what follows it in net/netfilter/nf_log_syslog.c):
//!
//! ```text
//! toctoc: opened door=ssh key=yves IN=eth0 OUT= MAC=02:00:... SRC=192.0.2.7 DST=192.0.2.1 LEN=40 ... URGP=0
//! ```

use std::net::IpAddr;

use jiff::Timestamp;

/// Where a line comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A record of `/dev/kmsg`, with the time at which the machine was started.
    Ring(Timestamp),
    /// A line that journalctl prints with `-o short-iso`.
    Journal,
    /// A line that a syslog daemon has written.
    Syslog,
}

/// A line in the form of an opening. [`Rules`](super::Rules) say whether a rule of ours writes its prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    pub at: Option<Timestamp>,
    /// The text before `IN=`.
    pub prefix: String,
    pub source: IpAddr,
}

/// Reads a line; `None` if it is not the kernel's, or not in the form of an opening.
pub fn in_line(line: &str, format: Format) -> Option<Claim> {
    let (at, message) = match format {
        Format::Ring(start) => record(line, start)?,
        Format::Journal | Format::Syslog => {
            let text = from_kernel(line, format)?;
            (text.at, text.message)
        }
    };
    let (prefix, packet) = message.split_at(message.find("IN=")?);
    Some(Claim {
        at,
        prefix: prefix.to_string(),
        source: source_of(packet)?,
    })
}

/// The source of a packet, as the kernel writes packets that came in and were not passed on yet.
fn source_of(packet: &str) -> Option<IpAddr> {
    let mut words = packet.trim_end_matches(' ').split(' ');
    let mut next = words.next()?;
    let interface = next.strip_prefix("IN=")?;
    (!interface.is_empty() && !interface.contains(['=', ':', '[', ']'])).then_some(())?;
    (words.next()? == "OUT=").then_some(())?;
    next = words.next()?;
    // A packet that came over a bridge.
    if next.starts_with("PHYSIN=") {
        next = words.next()?;
    }
    let mac = next.strip_prefix("MAC=")?;
    let byte = |text: &str| text.len() == 2 && text.bytes().all(|b| b.is_ascii_hexdigit());
    (mac.is_empty() || mac.split(':').all(byte)).then_some(())?;
    next = words.next()?;
    // IPv6 in IPv4.
    if next.starts_with("TUNNEL=") {
        next = words.next()?;
    }
    let source = next.strip_prefix("SRC=")?.parse::<IpAddr>().ok()?;
    let target = words.next()?.strip_prefix("DST=")?.parse::<IpAddr>().ok()?;
    (source.is_ipv4() == target.is_ipv4()).then_some(())?;
    let length = words.next()?.strip_prefix("LEN=")?;
    length.parse::<u32>().ok()?;
    words.all(is_detail).then_some(source)
}

/// A word after the length of a packet: `TTL=64`, `DF`, `FRAG:0`. None of those before comes again.
fn is_detail(word: &str) -> bool {
    const ONCE: [&str; 6] = ["IN", "OUT", "MAC", "SRC", "DST", "PHYSIN"];
    let (label, value) = word.split_once(['=', ':']).unwrap_or((word, ""));
    let upper = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit();
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'.';
    !label.is_empty()
        && label.bytes().all(upper)
        && value.bytes().all(plain)
        && !ONCE.contains(&label)
}

/// `6,1234,5140900123,-;message`: priority and facility, number, microseconds since the start, flags. What is not
/// a plain character is escaped there, so that a message is one line.
fn record(line: &str, start: Timestamp) -> Option<(Option<Timestamp>, &str)> {
    /// Facility 0, the kernel, which it gives to nobody else; and the level of our rules, `info`.
    const KERNEL_INFO: &str = "6";
    let (head, message) = line.split_once(';')?;
    let mut fields = head.split(',');
    (fields.next()? == KERNEL_INFO).then_some(())?;
    let microseconds: i64 = fields.nth(1)?.parse().ok()?;
    let since = jiff::SignedDuration::from_micros(microseconds);
    Some((start.checked_add(since).ok(), message.lines().next()?))
}

/// The number of a record of `/dev/kmsg`.
pub(super) fn number(line: &str) -> Option<u64> {
    line.split(',').nth(1)?.parse().ok()
}

/// A line of a file that bears the name of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct KernelLine<'l> {
    at: Option<Timestamp>,
    /// The kernel's own stamp, as in `[ 1058.872554]`.
    pub stamp: Option<&'l str>,
    message: &'l str,
}

/// `2026-07-06T14:02:00+02:00 host kernel: [ 12.3] message`, or `Jul  6 14:02:00 host kernel: message`: the
/// name of the program comes after the time and the host, and only there. A line that begins with a blank goes on
/// with the message of the line before.
pub(super) fn from_kernel(line: &str, format: Format) -> Option<KernelLine<'_>> {
    let (first, after) = line.split_once(' ')?;
    (!first.is_empty()).then_some(())?;
    let at = first.parse::<Timestamp>().or_else(|_| compact(first)).ok();
    let mut rest = after;
    match format {
        // journalctl writes whole seconds.
        Format::Journal => (at.is_some() && !first.contains(['.', ','])).then_some(())?,
        _ if at.is_some() => {}
        // The day, which has two blanks before it when it is below 10, and the time.
        _ => {
            for _ in 0..2 {
                rest = rest.trim_start().split_once(' ')?.1;
            }
        }
    }
    let (_host, rest) = rest.split_once(' ')?;
    let message = rest.strip_prefix("kernel: ")?;
    let stamped = message.strip_prefix('[').and_then(|m| m.split_once("] "));
    let (stamp, message) = match stamped {
        Some((stamp, message)) => (Some(stamp), message),
        None => (None, message),
    };
    Some(KernelLine { at, stamp, message })
}

/// journalctl may write the zone without a colon: `+0200`.
fn compact(text: &str) -> Result<Timestamp, jiff::Error> {
    jiff::fmt::strtime::parse("%Y-%m-%dT%H:%M:%S%.f%z", text)?.to_timestamp()
}

#[cfg(test)]
#[path = "line_tests.rs"]
mod tests;
