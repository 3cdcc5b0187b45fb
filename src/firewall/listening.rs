//! What listens on this host, and by which interfaces it is reached: `/proc/net/tcp` and the like, and
//! `/proc/net/dev`.

use std::fs;

use crate::knock::{Knock, Protocol};
use crate::policy::lint::Surroundings;

/// A port that something listens at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listener {
    pub port: Knock,
    /// Only this host reaches it.
    pub loopback: bool,
}

/// All listeners of this network namespace.
pub fn listeners() -> Vec<Listener> {
    let files = [
        ("tcp", Protocol::Tcp),
        ("tcp6", Protocol::Tcp),
        ("udp", Protocol::Udp),
        ("udp6", Protocol::Udp),
    ];
    let texts = files.map(|(name, protocol)| {
        let text = fs::read_to_string(format!("/proc/thread-self/net/{name}"));
        parse(&text.unwrap_or_default(), protocol)
    });
    texts.concat()
}

/// Reads such a file: the second field is the local address, the fourth the state, 0A for listening;
/// UDP sockets that are not connected have 07.
pub fn parse(text: &str, protocol: Protocol) -> Vec<Listener> {
    let wanted = match protocol {
        Protocol::Tcp => "0A",
        Protocol::Udp => "07",
    };
    let line = |line: &str| {
        let mut fields = line.split_whitespace().skip(1);
        let (address, port) = fields.next()?.split_once(':')?;
        let state = fields.nth(1)?;
        let port = Knock::new(protocol, u16::from_str_radix(port, 16).ok()?)?;
        (state == wanted).then(|| Listener {
            port,
            loopback: is_loopback(address),
        })
    };
    text.lines().filter_map(line).collect()
}

/// Words of an address stand in the order of this machine's bytes, which here is the smallest first.
fn is_loopback(address: &str) -> bool {
    match address.len() {
        8 => address.ends_with("7F"),
        32 => {
            address == "00000000000000000000000001000000"
                || (address.starts_with("0000000000000000FFFF0000") && address.ends_with("7F"))
        }
        _ => false,
    }
}

/// This host, for the linter.
pub fn surroundings(now: i64) -> Surroundings {
    let open = listeners()
        .into_iter()
        .filter(|listener| !listener.loopback);
    let devices = fs::read_to_string("/proc/thread-self/net/dev").unwrap_or_default();
    let names = devices.lines().filter_map(|line| line.split_once(':'));
    let names = names.map(|(name, _)| name.trim().to_string());
    Surroundings {
        listening: Some(open.map(|listener| listener.port).collect()),
        interfaces: names.filter(|name| name != "lo").collect(),
        now,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_are_read_and_clients_are_not() {
        let text = "  sl  local_address rem_address   st tx_queue\n\
             0: 00000000:0016 00000000:0000 0A 00000000:00000000\n\
             1: 0100007F:0277 00000000:0000 0A 00000000:00000000\n\
             2: 070200C0:D431 010200C0:0016 01 00000000:00000000\n\
             3: 00000000000000000000000001000000:0277 00000000000000000000000000000000:0000 0A 0\n\
             4: odd\n";
        let found = parse(text, Protocol::Tcp);
        let found: Vec<_> = found
            .iter()
            .map(|listener| (listener.port.to_string(), listener.loopback))
            .collect();
        let all = [("22/tcp", false), ("631/tcp", true), ("631/tcp", true)];
        assert_eq!(
            found,
            all.map(|(port, only_here)| (port.to_string(), only_here))
        );
        let text = "1: 00000000:0035 00000000:0000 07 0\n2: 00000000:0035 00000000:0000 01 0\n";
        assert_eq!(parse(text, Protocol::Udp).len(), 1);
    }
}
