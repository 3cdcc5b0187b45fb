//! The administrator who gives the commands: whether by ssh, from where and to which port.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::process;

/// More processes than any shell is deep in.
const DEEPEST: usize = 64;

/// The ssh connection that this process was started through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connection {
    pub from: SocketAddr,
    pub to: SocketAddr,
}

/// The ssh connection that this process was started through, if it is there still, in this network
/// namespace. `sudo` forgets what ssh says of it, so the processes that started us are asked too.
pub fn connection() -> Option<Connection> {
    let mut process = process::id();
    for _ in 0..DEEPEST {
        let variables = fs::read(format!("/proc/{process}/environ")).unwrap_or_default();
        // The connection that a terminal multiplexer was once started through may be gone.
        if let Some(connection) = told(&variables).filter(|told| is_there(*told)) {
            return Some(connection);
        }
        process = parent(&fs::read_to_string(format!("/proc/{process}/stat")).ok()?)?;
        if process == 0 {
            return None;
        }
    }
    None
}

/// Reads ssh's variable in the environment: "198.51.100.7 40022 192.0.2.1 22".
fn told(environment: &[u8]) -> Option<Connection> {
    let mut variables = environment.split(|&byte| byte == 0);
    let value = variables.find_map(|variable| variable.strip_prefix(b"SSH_CONNECTION="))?;
    let mut words = std::str::from_utf8(value).ok()?.split(' ');
    let mut address = || {
        let host = words.next()?;
        // Link-local addresses have a zone.
        let host: IpAddr = host.split('%').next()?.parse().ok()?;
        let port = words.next()?.parse().ok()?;
        Some(SocketAddr::new(host.to_canonical(), port))
    };
    Some(Connection {
        from: address()?,
        to: address()?,
    })
}

/// The number of the parent, from `/proc/PID/stat`. The second field is the name in parentheses, whatever
/// it holds.
fn parent(stat: &str) -> Option<u32> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(1)?.parse().ok()
}

fn is_there(connection: Connection) -> bool {
    ["tcp", "tcp6"].iter().any(|name| {
        let text = fs::read_to_string(format!("/proc/thread-self/net/{name}"));
        has(&text.unwrap_or_default(), connection)
    })
}

/// Returns whether such a file has an established connection between these ports.
fn has(text: &str, connection: Connection) -> bool {
    let wanted = [connection.to.port(), connection.from.port()];
    let line = |line: &str| {
        let mut fields = line.split_whitespace().skip(1);
        let mut port = || {
            let (_, port) = fields.next()?.split_once(':')?;
            u16::from_str_radix(port, 16).ok()
        };
        let ports = [port()?, port()?];
        Some(ports == wanted && fields.next()? == "01")
    };
    text.lines().any(|text| line(text).unwrap_or(false))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOLD: &str = "198.51.100.7 40022 192.0.2.1 22";

    fn connection(text: &str) -> Option<Connection> {
        told(format!("HOME=/root\0SSH_CONNECTION={text}\0TERM=x\0").as_bytes())
    }

    #[test]
    fn what_ssh_says_is_read() {
        let read = connection(TOLD).unwrap();
        assert_eq!(read.from, "198.51.100.7:40022".parse().unwrap());
        assert_eq!(read.to, "192.0.2.1:22".parse().unwrap());
        let zone = connection("fe80::7%eth0 40022 ::ffff:192.0.2.1 2222").unwrap();
        assert_eq!(zone.from.ip(), "fe80::7".parse::<IpAddr>().unwrap());
        assert_eq!(zone.to, "192.0.2.1:2222".parse().unwrap());
        for odd in [
            "",
            "198.51.100.7 40022",
            "UNKNOWN 65535 UNKNOWN 65535",
            "a b c d",
        ] {
            assert_eq!(connection(odd), None, "{odd}");
        }
        assert_eq!(
            told(b"X_SSH_CONNECTION=198.51.100.7 40022 192.0.2.1 22\0"),
            None
        );
    }

    #[test]
    fn the_parent_is_read_whatever_the_name() {
        assert_eq!(parent("12 (a b) S 7) R 34 12 12"), Some(34));
        assert_eq!(parent("12 (sh"), None);
    }

    #[test]
    fn only_a_connection_that_is_there_counts() {
        let line = |state| {
            format!("  0: 010200C0:0016 076433C6:9C56 {state} 00000000:00000000 00:00000000\n")
        };
        let told = connection(TOLD).unwrap();
        assert!(has(&line("01"), told));
        assert!(!has(&line("06"), told));
        let other = connection("198.51.100.7 40023 192.0.2.1 22").unwrap();
        assert!(!has(&line("01"), other));
    }
}
