//! What an opening looks like in a log. Pure.

use std::net::IpAddr;

use jiff::Timestamp;

use super::Opening;

/// Where a line comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A record of `/dev/kmsg`, with the time at which the machine was started.
    Ring(Timestamp),
    /// A line of syslog, or as journalctl prints it.
    Syslog,
}

/// What begins every message about an opening.
const MARK: &str = "toctoc: ";

/// Reads a line; `None` if it does not say that a door opened, or if it was not the kernel that said so:
/// others write to the same log, some of them what strangers tell them.
pub fn in_line(line: &str, format: Format) -> Option<Opening> {
    let (at, message) = match format {
        Format::Ring(start) => record(line, start)?,
        Format::Syslog => from_kernel(line)?,
    };
    let (door, key, rest) = prefix(message)?;
    let mut words = rest.split_ascii_whitespace();
    let source = words.find_map(|word| word.strip_prefix("SRC="))?;
    let source: IpAddr = source.parse().ok()?;
    Some(Opening {
        at,
        source,
        door,
        key,
    })
}

/// What a rule of ours puts before what it logs: the door, the key, and what comes after.
///
/// `toctoc: opened door=ssh key=yves `; with iptables, where there is less room,
/// `toctoc: door=ssh key=yves ` or `toctoc: ssh yves `, or a beginning of that.
pub fn prefix(message: &str) -> Option<(String, String, &str)> {
    let message = message.strip_prefix(MARK)?;
    let message = message.strip_prefix("opened ").unwrap_or(message);
    let (door, rest) = word(message, "door=");
    let (key, rest) = word(rest, "key=");
    let is_name = |name: &str| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.~".contains(c);
        name.chars().all(allowed)
    };
    let named = !door.is_empty() && is_name(door) && is_name(key);
    named.then(|| (door.to_string(), key.to_string(), rest))
}

/// The first word without its label, and the rest. What comes after our words has `IN=` first.
fn word<'t>(text: &'t str, label: &str) -> (&'t str, &'t str) {
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    match word.split_once("IN=") {
        // The prefix was cut.
        Some((word, _)) => (word, &text[word.len()..]),
        None => (word.strip_prefix(label).unwrap_or(word), rest),
    }
}

/// `6,1234,5140900123,-;message`: priority and facility, number, microseconds since the start.
fn record(line: &str, start: Timestamp) -> Option<(Option<Timestamp>, &str)> {
    let (head, message) = line.split_once(';')?;
    let mut fields = head.split(',');
    let priority: u32 = fields.next()?.parse().ok()?;
    let microseconds: i64 = fields.nth(1)?.parse().ok()?;
    // Facility 0 is the kernel; it gives others another one.
    (priority >> 3 == 0).then_some(())?;
    let since = jiff::SignedDuration::from_micros(microseconds);
    Some((start.checked_add(since).ok(), message.lines().next()?))
}

/// `2026-07-06T14:02:00+02:00 host kernel: [ 12.3] message`, or `Jul  6 14:02:00 host kernel: message`: the
/// name of the program comes after the time and the host, and only there.
fn from_kernel(line: &str) -> Option<(Option<Timestamp>, &str)> {
    let first = line.split(' ').next()?;
    let at = first.parse::<Timestamp>().or_else(|_| compact(first)).ok();
    let fields = if first.contains('T') { 1 } else { 3 };
    // Days below 10 have two blanks before them.
    let mut rest = line;
    for _ in 0..fields + 1 {
        rest = rest.trim_start().split_once(' ')?.1;
    }
    let message = rest.trim_start().strip_prefix("kernel: ")?;
    let message = match message.strip_prefix('[') {
        Some(stamped) => stamped.split_once("] ")?.1,
        None => message,
    };
    Some((at, message))
}

/// journalctl writes the zone without a colon: `+0200`.
fn compact(text: &str) -> Result<Timestamp, jiff::Error> {
    jiff::fmt::strtime::parse("%Y-%m-%dT%H:%M:%S%.f%z", text)?.to_timestamp()
}

#[cfg(test)]
mod tests {
    use super::*;

    const REST: &str = "IN=eth0 OUT= MAC=02:00:00:00:00:01:02:00:00:00:00:02:08:00 SRC=192.0.2.7 \
                        DST=192.0.2.1 LEN=40 TTL=64 PROTO=TCP SPT=40001 DPT=50 SYN URGP=0";

    fn words(text: &str, format: Format) -> Option<(String, String)> {
        let opening = in_line(text, format)?;
        assert_eq!(opening.source, IpAddr::from([192, 0, 2, 7]));
        Some((opening.door, opening.key))
    }

    fn syslog(message: &str) -> Option<(String, String)> {
        let line = format!("2026-07-06T14:02:00+0200 host kernel: {message}{REST}");
        words(&line, Format::Syslog)
    }

    #[test]
    fn every_prefix_is_read() {
        for (message, door, key) in [
            ("toctoc: opened door=ssh key=yves ", "ssh", "yves"),
            ("toctoc: door=ssh key=yves ", "ssh", "yves"),
            ("toctoc: ssh yves ", "ssh", "yves"),
            ("toctoc: a-long-door a-lon", "a-long-door", "a-lon"),
            ("toctoc: a-very-long-door-nam", "a-very-long-door-nam", ""),
        ] {
            let read = syslog(message);
            assert_eq!(read, Some((door.to_string(), key.to_string())), "{message}");
        }
    }

    #[test]
    fn only_the_kernel_is_believed() {
        let message = format!("toctoc: opened door=ssh key=yves {REST}");
        for told in [
            format!("2026-07-06T14:02:00+02:00 host kernel: {message}"),
            format!("2026-07-06T14:02:00+02:00 host kernel: [  12.345678] {message}"),
            format!("Jul  6 14:02:00 host kernel: {message}"),
            format!("Jul 16 14:02:00 host kernel: [60227.291578] {message}"),
        ] {
            assert!(words(&told, Format::Syslog).is_some(), "{told}");
        }
        for other in [
            format!("Jul  6 14:02:00 host sshd[7]: Invalid user kernel: {message}"),
            format!("Jul  6 14:02:00 host kernel[7]: {message}"),
            format!("2026-07-06T14:02:00+02:00 host sshd[7]: kernel: {message}"),
            format!("2026-07-06T14:02:00+02:00 host kernel: IN= toctoc: opened {message}"),
            format!("kernel: {message}"),
            message.clone(),
            "2026-07-06T14:02:00+02:00 host kernel: toctoc: opened door=ssh key=yves".to_string(),
            "2026-07-06T14:02:00+02:00 host kernel: toctoc: ".to_string(),
            String::new(),
        ] {
            assert_eq!(in_line(&other, Format::Syslog), None, "{other}");
        }
    }

    #[test]
    fn records_of_the_kernel_have_times() {
        let start: Timestamp = "2026-07-06T12:00:00Z".parse().unwrap();
        let line =
            format!("6,339,120500000,-;toctoc: opened door=ssh key=yves {REST}\n SUBSYSTEM=x\n");
        let opening = in_line(&line, Format::Ring(start)).unwrap();
        assert_eq!(opening.at.unwrap().to_string(), "2026-07-06T12:02:00.5Z");
        let from_user = line.replacen('6', "14", 1);
        assert_eq!(in_line(&from_user, Format::Ring(start)), None);
        for odd in [
            "",
            ";",
            "6,1;toctoc: ",
            "x,1,2,-;toctoc: ssh a SRC=192.0.2.7",
        ] {
            assert_eq!(in_line(odd, Format::Ring(start)), None, "{odd}");
        }
    }

    #[test]
    fn times_of_syslog_are_read() {
        let at = |time: &str| {
            let line = format!("{time} host kernel: toctoc: opened door=ssh key=yves {REST}");
            in_line(&line, Format::Syslog)
                .unwrap()
                .at
                .map(|at| at.to_string())
        };
        let wanted = Some("2026-07-06T12:02:00Z".to_string());
        assert_eq!(at("2026-07-06T14:02:00+0200"), wanted);
        assert_eq!(at("2026-07-06T14:02:00+02:00"), wanted);
        assert_eq!(at("Jul  6 14:02:00"), None);
    }
}
