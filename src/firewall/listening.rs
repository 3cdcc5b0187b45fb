//! Programs that listen on this host: `/proc/net/tcp` and the like, and the files that processes have open.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::PathBuf;

use super::links::Links;
use super::others::{Others, translations};
use crate::knock::{Knock, Protocol};
use crate::policy::lint::Surroundings;
use crate::policy::ways::Program;

/// A port that something listens at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listener {
    pub port: Knock,
    /// Only this host reaches it.
    pub loopback: bool,
    /// The number of the socket.
    pub socket: Option<u64>,
    /// The user who owns the socket.
    pub owner: Option<u32>,
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
            owner: fields.nth(3).and_then(|number| number.parse().ok()),
            socket: fields.nth(1).and_then(|number| number.parse().ok()),
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

/// Programs that listen for all others: what they listen at is not one service.
const FOR_OTHERS: [&str; 4] = ["systemd", "init", "inetd", "xinetd"];

/// A TCP port that other hosts reach, and the name of the program behind it, as far as that may be looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    pub port: Knock,
    /// Its name, which it can choose itself.
    pub program: Option<String>,
    /// `true` if only root listens there.
    pub is_roots: bool,
}

/// The TCP ports that other hosts reach, by number.
pub fn services() -> Vec<Service> {
    let mut found: Vec<Listener> = listeners();
    found.retain(|listener| !listener.loopback && listener.port.protocol == Protocol::Tcp);
    let sockets = found.iter().filter_map(|l| Some((l.socket?, l.port)));
    let programs = holders(&sockets.collect());
    let ports: BTreeSet<Knock> = found.iter().map(|listener| listener.port).collect();
    let named = |port: Knock| {
        let mut behind = programs
            .iter()
            .filter(|program| program.ports.contains(&port));
        behind.next().map(|program| program.name.clone())
    };
    let service = |port| Service {
        port,
        program: named(port),
        is_roots: found
            .iter()
            .filter(|listener| listener.port == port)
            .all(|listener| listener.owner == Some(0)),
    };
    ports.into_iter().map(service).collect()
}

/// The programs that listen at more than one port for others than this host. Of those that may not be looked at, nothing
/// is known.
fn programs(listeners: &[Listener]) -> Vec<Program> {
    // Sockets that are only asked with come and go among these.
    let passing = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut passing = passing
        .split_whitespace()
        .filter_map(|word| word.parse::<u16>().ok());
    let passing = passing.next().unwrap_or(u16::MAX)..=passing.next().unwrap_or(u16::MAX);
    let lasts = |port: Knock| port.protocol == Protocol::Tcp || !passing.contains(&port.port.get());
    let outside = listeners.iter().filter(|l| !l.loopback && lasts(l.port));
    let sockets: HashMap<u64, Knock> = outside.filter_map(|l| Some((l.socket?, l.port))).collect();
    let mut found = holders(&sockets);
    found.retain(|program| program.ports.len() > 1);
    found
}

/// A name that a program has chosen, for a terminal.
fn printable(name: &str) -> String {
    let shown = |letter: char| if letter.is_control() { '?' } else { letter };
    name.chars().map(shown).collect()
}

/// The programs that have one of these sockets open, each with the ports of its sockets.
fn holders(sockets: &HashMap<u64, Knock>) -> Vec<Program> {
    let mut found: Vec<Program> = Vec::new();
    for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let path = process.path();
        let files = fs::read_dir(path.join("fd"))
            .into_iter()
            .flatten()
            .flatten();
        let links = files.filter_map(|file| fs::read_link(file.path()).ok());
        let number = |link: PathBuf| {
            let number = link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?;
            number.parse::<u64>().ok()
        };
        let ports: BTreeSet<Knock> = links
            .filter_map(number)
            .filter_map(|number| sockets.get(&number).copied())
            .collect();
        if ports.is_empty() {
            continue;
        }
        let name = fs::read_to_string(path.join("comm")).unwrap_or_default();
        let program = Program {
            name: printable(name.trim()),
            ports: ports.into_iter().collect(),
        };
        // Its children have the same sockets.
        if !FOR_OTHERS.contains(&program.name.as_str()) && !found.contains(&program) {
            found.push(program);
        }
    }
    found
}

/// This host, for the linter.
pub fn surroundings(now: i64, others: &Others) -> Surroundings {
    let all = listeners();
    let open = all.iter().filter(|listener| !listener.loopback);
    let links = Links::read().unwrap_or_default();
    let outside = links.0.iter().filter(|link| !link.is_loopback);
    let names = outside.map(|link| {
        [
            std::slice::from_ref(&link.name),
            &link.alternative_names[..],
        ]
        .concat()
    });
    Surroundings {
        listening: Some(open.map(|listener| listener.port).collect()),
        interfaces: names.collect(),
        programs: programs(&all),
        translations: translations(others),
        now,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Any user can give a program any name, and root reads it on a terminal.
    #[test]
    fn a_name_of_a_program_forges_nothing_on_a_terminal() {
        assert_eq!(printable("sshd"), "sshd");
        assert_eq!(printable("\u{1b}[2Jx\ny"), "?[2Jx?y");
    }

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
