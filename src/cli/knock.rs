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
    /// Connect to this port afterwards, to see whether it opened; try again slower if not.
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
        Protocol::Udp => Err("only a TCP door can be tried: UDP has no connections".to_string()),
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
    let host = match resolve(arguments) {
        Ok(host) => host,
        Err(message) => {
            complain(&message);
            return Answer::CouldNot;
        }
    };
    let address = host.ip();
    let knocks = &arguments.knocks;
    let could_not = |error: &std::io::Error| {
        complain(&format!("cannot send to {address}: {error}"));
        Answer::CouldNot
    };
    let Some(door) = arguments.door else {
        return match client::send(host, knocks, arguments.gap) {
            Ok(()) => {
                say(&format!(
                    "sent {} to {address}\n",
                    count(knocks.len(), "knock")
                ));
                Answer::Yes
            }
            Err(error) => could_not(&error),
        };
    };
    match client::enter(host, knocks, door.port, arguments.gap) {
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
        Err(error) => could_not(&error),
    }
}

/// The first address of the host, of the wanted family.
fn resolve(arguments: &Arguments) -> Result<SocketAddr, String> {
    let host = &arguments.host;
    let addresses = (host.as_str(), 0)
        .to_socket_addrs()
        .map_err(|error| format!("{host} is not found: {error}"))?;
    let wanted = |address: &SocketAddr| match (arguments.ipv4, arguments.ipv6) {
        (true, _) => address.is_ipv4(),
        (_, true) => address.is_ipv6(),
        _ => true,
    };
    let family = if arguments.ipv4 {
        "an IPv4"
    } else if arguments.ipv6 {
        "an IPv6"
    } else {
        "an"
    };
    addresses
        .into_iter()
        .find(wanted)
        .ok_or_else(|| format!("{host} has not {family} address"))
}
