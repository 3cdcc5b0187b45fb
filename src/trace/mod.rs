//! A trace: packets with their times, as `explain` reads them and tests make them.

pub mod explain;
pub mod run;

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use crate::knock::{DoorIndex, Knock, KnockError};

/// One packet that may be a knock.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Packet {
    /// Since the beginning of the trace.
    pub at: Duration,
    pub source: IpAddr,
    /// The host behind this one that it is for; `None` for this host.
    pub host: Option<IpAddr>,
    pub to: Knock,
}

impl Packet {
    /// The destination: "22/tcp", "192.0.2.50:22/tcp", "[2001:db8::50]:22/tcp".
    pub fn destination(&self) -> String {
        match self.host {
            None => self.to.to_string(),
            Some(IpAddr::V4(host)) => format!("{host}:{}", self.to),
            Some(IpAddr::V6(host)) => format!("[{host}]:{}", self.to),
        }
    }
}

impl fmt::Display for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:.3} {} {}",
            self.at.as_secs_f64(),
            self.source,
            self.destination()
        )
    }
}

/// The place of a grant: a network (mostly one address) and a door.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Holding {
    pub source: IpNet,
    pub door: DoorIndex,
    /// Used up by its first connection.
    pub once: bool,
}

/// The longest trace time, in seconds: some 3,000 years. Captures count from 1970.
const LONGEST: f64 = 1e11;

/// Why a line is not a packet.
#[derive(Debug, Clone, PartialEq)]
pub struct LineError {
    /// The word of the line that is wrong (may be empty at the line's end) and where it starts.
    pub column: usize,
    pub message: String,
}

/// Reads `seconds source port[/udp]`, where `address:` before the port names a host behind this one; `None` for an empty line or a comment (`#`).
///
/// # Errors
/// The first word that does not fit, with its column (from 0, in bytes).
pub fn parse_line(line: &str) -> Result<Option<Packet>, LineError> {
    let content = line.split('#').next().unwrap_or_default();
    let words: Vec<(usize, &str)> = words(content);
    let error = |index: usize, message: String| LineError {
        column: words.get(index).map_or(content.trim_end().len(), |w| w.0),
        message,
    };
    let [time, source, to] = match words.as_slice() {
        [] => return Ok(None),
        [a, b, c] => [a.1, b.1, c.1],
        _ => {
            let index = words.len().min(3);
            let message = "a line has three words: seconds, source, port[/udp]";
            return Err(error(index, message.to_string()));
        }
    };
    let seconds = time
        .parse::<f64>()
        .ok()
        .filter(|seconds| (0.0..=LONGEST).contains(seconds))
        .ok_or_else(|| error(0, format!("`{time}` is not a time in seconds")))?;
    let source: IpAddr = source
        .parse()
        .map_err(|_| error(1, format!("`{source}` is not an IP address")))?;
    let (host, to) = match to.rsplit_once(':') {
        None => (None, to),
        Some((host, to)) => {
            let bare = host
                .strip_prefix('[')
                .and_then(|host| host.strip_suffix(']'));
            let address = bare.unwrap_or(host).parse();
            let wrong = |_| error(2, format!("`{host}` is not an IP address"));
            (Some(address.map_err(wrong)?), to)
        }
    };
    let to = to
        .parse()
        .map_err(|e: KnockError| error(2, e.to_string()))?;
    if host.is_some_and(|host: IpAddr| host.is_ipv4() != source.is_ipv4()) {
        let message = "source and host are of different families".to_string();
        return Err(error(2, message));
    }
    Ok(Some(Packet {
        at: Duration::from_secs_f64(seconds),
        source,
        host,
        to,
    }))
}

/// The words of a line, each with the byte it starts at.
fn words(line: &str) -> Vec<(usize, &str)> {
    line.split_whitespace()
        .map(|word| (word.as_ptr() as usize - line.as_ptr() as usize, word))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_is_read_as_it_is_written() {
        for line in [
            "0.000 192.0.2.7 443/tcp",
            "1576500000.500 2001:db8::7 53/udp",
            "1.000 192.0.2.7 192.0.2.50:22/tcp",
            "1.000 2001:db8::7 [2001:db8::50]:53/udp",
        ] {
            let packet = parse_line(line).unwrap().unwrap();
            assert_eq!(packet.to_string(), line);
        }
    }
}
