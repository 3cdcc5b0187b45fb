//! `toctoc knock`

use std::net::{SocketAddr, ToSocketAddrs};
use std::num::NonZeroU16;
use std::time::Duration;

use clap::Args;

use super::{Answer, complain, count, now, say};
use crate::client::profile::{GAP, Way};
use crate::client::{self, Door, Entered, Profile};
use crate::knock::{Knock, Protocol};
use crate::policy::show;
use crate::single_use::GRACE;

#[derive(Args)]
pub(super) struct Arguments {
    /// The host, a name or an address; or, without knocks, a profile: its name, or a path with a `/`.
    #[arg(value_name = "HOST|PROFILE")]
    target: String,
    /// The ports to knock at, in order: 443, 443/tcp or 53/udp.
    #[arg(value_name = "KNOCK", value_parser = knock)]
    knocks: Vec<Knock>,
    /// Connect to this port afterwards, to see whether it opened; try again slower if not. (This
    /// is a connection: it uses up the grant of a key with `once`.)
    #[arg(long, value_name = "PORT", value_parser = door)]
    door: Option<Knock>,
    /// The pause between two knocks.
    /// (Default: 10ms, or what the profile says.)
    #[arg(long, value_name = "TIME", value_parser = gap)]
    gap: Option<Duration>,
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
    let profile = match profile(arguments) {
        Ok(profile) => profile,
        Err(message) => {
            complain(&message);
            return Answer::CouldNot;
        }
    };
    let hosts = match resolve(&profile.host, arguments) {
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
        answer = match profile.door {
            None => send(host, &profile),
            Some(door) => enter(host, door, &profile),
        };
        if answer == Answer::Yes {
            break;
        }
    }
    answer
}

/// What to do: as the arguments say, or as the profile that they name.
fn profile(arguments: &Arguments) -> Result<Profile, String> {
    let mut profile = match arguments.knocks.as_slice() {
        [] => load(&arguments.target)?,
        knocks => Profile {
            host: arguments.target.clone(),
            door: None,
            way: Way::Sequence(knocks.to_vec()),
            gap: GAP,
        },
    };
    profile.door = arguments.door.map(|door| door.port).or(profile.door);
    profile.gap = arguments.gap.unwrap_or(profile.gap);
    Ok(profile)
}

/// The profile of a name or path.
pub(super) fn load(name: &str) -> Result<Profile, String> {
    let path = Profile::path(name);
    if !path.exists() {
        return Err(format!(
            "there is no profile {}; for a host, name the ports to knock at: \
             `toctoc knock {name} 443 2387 920`",
            path.display()
        ));
    }
    Profile::load(&path)
}

fn send(host: SocketAddr, profile: &Profile) -> Answer {
    let (sent, what) = match &profile.way {
        Way::Sequence(knocks) => (
            client::send(host, knocks, profile.gap),
            count(knocks.len(), "knock"),
        ),
        Way::Token(secret, port) => {
            let token = client::tokens(secret, now())[0];
            (
                client::send_token(host, *port, &token),
                "a token".to_string(),
            )
        }
    };
    match sent {
        Ok(()) => {
            say(&format!("sent {what} to {}\n", host.ip()));
            Answer::Yes
        }
        Err(error) => could_not(host, &error),
    }
}

fn enter(host: SocketAddr, port: NonZeroU16, profile: &Profile) -> Answer {
    let address = host.ip();
    let door = format!("{port}/tcp");
    let entered = match &profile.way {
        Way::Sequence(knocks) => client::enter(host, knocks, port, profile.gap),
        Way::Token(secret, to) => client::enter_with_token(host, secret, *to, port, now()),
    };
    match entered {
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
        Ok(Entered::Shut(shut)) => {
            complain(&still_shut(&door, host, shut, &profile.way));
            Answer::No
        }
        Err(error) => could_not(host, &error),
    }
}

/// Why a door may have stayed shut.
fn still_shut(door: &str, host: SocketAddr, shut: Door, way: &Way) -> String {
    let address = host.ip();
    let Way::Token(..) = way else {
        return match shut {
            Door::Refused => {
                format!("{door} at {address} refuses: it is shut, or open with nothing listening")
            }
            _ => format!(
                "{door} at {address} stays shut (wrong knocks, or the host does not answer)"
            ),
        };
    };
    let own = now();
    let time = match client::time_at(host) {
        Some(theirs) if theirs.abs_diff(own) > GRACE.as_secs() => {
            let off = show(Duration::from_secs(theirs.abs_diff(own)));
            let way = if theirs > own { "behind" } else { "ahead" };
            format!(
                "this clock is {off} {way} of what the web server there says ({}): tokens fit the time; \
                 set it right",
                clock(theirs)
            )
        }
        Some(_) => "this clock agrees with that of the web server there, so it is not the time: \
                    another secret, no token of this minute left, or the server has been started \
                    less than two minutes ago"
            .to_string(),
        None => format!(
            "is this clock right ({})? Tokens fit the time, to two minutes. Otherwise: another secret, \
             no token of this minute left, the server has been started less than two minutes ago, or \
             the host does not answer",
            clock(own)
        ),
    };
    format!("{door} at {address} stays shut, whatever token was sent\n{time}")
}

/// "20:41:03 UTC"
fn clock(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map_or_else(
        |_| seconds.to_string(),
        |time| time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
    )
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
fn resolve(host: &str, arguments: &Arguments) -> Result<Vec<SocketAddr>, String> {
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
