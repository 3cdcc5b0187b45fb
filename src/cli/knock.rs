//! `toctoc knock`

use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use clap::Args;

use super::{Answer, complain, count, say};
use crate::client::{self, Door, Entered};
use crate::knock::{Knock, Protocol};

#[derive(Args)]
pub(super) struct Arguments {
    /// The host: a name or an address.
    host: String,
    /// The ports to knock at, in order: 443, 443/tcp or 53/udp.
    #[arg(required = true, value_name = "KNOCK", value_parser = knock)]
    knocks: Vec<Knock>,
    /// Connect to this port afterwards, to see whether it opened; try again slower if not. (This
    /// is a connection: it uses up the grant of a key with `once`.)
    #[arg(long, value_name = "PORT", value_parser = door)]
    door: Option<Knock>,
    /// The pause between two knocks.
    #[arg(long, value_name = "TIME", default_value = "10ms", value_parser = gap)]
    gap: Duration,
    /// Use IPv4.
    #[arg(short = '4', conflicts_with = "ipv6")]
    ipv4: bool,
    /// Use IPv6.
    #[arg(short = '6')]
    ipv6: bool,
}

fn knock(text: &str) -> Result<Knock, String> {
    text.parse::<Knock>().map_err(|error| error.to_string())
}

fn door(text: &str) -> Result<Knock, String> {
    let door = knock(text)?;
    match door.protocol {
        Protocol::Tcp => Ok(door),
        Protocol::Udp => Err(
            "only a TCP door can be tried: UDP has no connections; leave --door out".to_string(),
        ),
    }
}

fn gap(text: &str) -> Result<Duration, String> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    humantime::parse_duration(text)
        .ok()
        .filter(|gap| *gap <= Duration::from_secs(60))
        .ok_or_else(|| format!("`{text}` is not a pause: write 0, 10ms or 1s, at most 60s"))
}

pub(super) fn run(arguments: &Arguments) -> Answer {
    let hosts = match resolve(arguments) {
        Ok(hosts) => hosts,
        Err(message) => {
            complain(&message);
            return Answer::CouldNot;
        }
    };
    // The first address that can be reached at all is knocked at; a door that stays shut may be open
    // at the next one.
    let mut answer = Answer::CouldNot;
    for host in hosts {
        answer = match arguments.door {
            None => send(host, arguments),
            Some(door) => enter(host, door, arguments),
        };
        if answer == Answer::Yes {
            break;
        }
    }
    answer
}

fn send(host: SocketAddr, arguments: &Arguments) -> Answer {
    match client::send(host, &arguments.knocks, arguments.gap) {
        Ok(()) => {
            let knocks = count(arguments.knocks.len(), "knock");
            say(&format!("sent {knocks} to {}\n", host.ip()));
            Answer::Yes
        }
        Err(error) => could_not(host, &error),
    }
}

fn enter(host: SocketAddr, door: Knock, arguments: &Arguments) -> Answer {
    let address = host.ip();
    match client::enter(host, &arguments.knocks, door.port, arguments.gap) {
        Ok(Entered::Open { after, attempt }) => {
            let tries = match attempt {
                1 => String::new(),
                n => format!(", at try {n}"),
            };
            let after = after.as_secs_f64() * 1000.0;
            say(&format!(
                "{door} at {address} is open, after {after:.1} ms{tries}\n"
            ));
            Answer::Yes
        }
        Ok(Entered::Shut(Door::Refused)) => {
            complain(&format!(
                "{door} at {address} refuses: it is shut, or open with nothing listening"
            ));
            Answer::No
        }
        Ok(Entered::Shut(_)) => {
            complain(&format!(
                "{door} at {address} stays shut (wrong knocks, or the host does not answer)"
            ));
            Answer::No
        }
        Err(error) => could_not(host, &error),
    }
}

fn could_not(host: SocketAddr, error: &std::io::Error) -> Answer {
    let hint = match host {
        SocketAddr::V6(v6) if v6.ip().is_unicast_link_local() && v6.scope_id() == 0 => {
            "; a link-local address needs its interface: fe80::1%eth0"
        }
        _ => "",
    };
    complain(&format!("cannot send to {}: {error}{hint}", host.ip()));
    Answer::CouldNot
}

/// The addresses of the host, of the wanted family, in the system's order. Never empty.
fn resolve(arguments: &Arguments) -> Result<Vec<SocketAddr>, String> {
    let host = arguments.host.as_str();
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    let addresses = (bare.unwrap_or(host), 0)
        .to_socket_addrs()
        .map_err(|error| format!("{host} is not found: {error}"))?;
    let (family, wanted): (_, fn(&SocketAddr) -> bool) = match (arguments.ipv4, arguments.ipv6) {
        (true, _) => ("IPv4 ", SocketAddr::is_ipv4),
        (_, true) => ("IPv6 ", SocketAddr::is_ipv6),
        _ => ("", |_| true),
    };
    let mut hosts: Vec<SocketAddr> = Vec::new();
    for address in addresses.filter(wanted) {
        if !hosts.contains(&address) {
            hosts.push(address);
        }
    }
    if hosts.is_empty() {
        return Err(format!("{host} has no {family}address"));
    }
    Ok(hosts)
}
