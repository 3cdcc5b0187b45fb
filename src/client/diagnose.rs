//! Why a door stays shut, as far as a stranger can find out: who answers there, and at what.

use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::time::{Duration, Instant};

use super::dial::{Dial, Met};
use super::enter::Door;
use super::profile::{Signed, Way};
use super::send::{at, udp_towards};
use crate::knock::{Knock, Protocol};
use crate::single_use::GRACE;

/// The answer of a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// It is open, or closed and says so: packets arrive at the host.
    Answer,
    /// For UDP that is what most open ports do.
    Nothing,
    /// Somebody on the way, or this machine, said no.
    Forbidden(String),
}

/// The longest time to wait for all answers together.
const PATIENCE: Duration = Duration::from_secs(1);

/// Ports that many hosts answer at, whatever their firewall.
const COMMON: [u16; 2] = [80, 443];

/// Asks a host at the ports of a way in, and at those of the web. The port of `host` is not used.
pub fn look_around(host: SocketAddr, way: &Way) -> Vec<(Knock, Heard)> {
    let mut ports: Vec<Knock> = match way {
        Way::Sequence(knocks) => knocks.clone(),
        Way::Token(_, port) | Way::Signed(Signed { port, .. }) => vec![Knock {
            protocol: Protocol::Udp,
            port: *port,
        }],
    };
    ports.extend(
        COMMON
            .iter()
            .filter_map(|port| Knock::new(Protocol::Tcp, *port)),
    );
    let mut once = Vec::new();
    for port in ports {
        if !once.contains(&port) {
            once.push(port);
        }
    }
    let asked: Vec<_> = once
        .into_iter()
        .map(|port| (port, ask(host, port)))
        .collect();
    let deadline = Instant::now() + PATIENCE;
    let heard = asked.into_iter().map(|(port, asked)| {
        let left = deadline.saturating_duration_since(Instant::now());
        (
            port,
            asked.map_or_else(|heard| heard, |asked| asked.hear(left)),
        )
    });
    heard.collect()
}

/// A question under way.
enum Asked {
    Tcp(Dial),
    Udp(std::net::UdpSocket),
}

fn ask(host: SocketAddr, port: Knock) -> Result<Asked, Heard> {
    let address = at(host, port.port);
    let asked = match port.protocol {
        Protocol::Tcp => Dial::start(address).map(Asked::Tcp),
        Protocol::Udp => udp_towards(address).and_then(|socket| {
            // A closed port is told to a socket that is connected.
            socket.connect(address)?;
            socket.send(&[])?;
            Ok(Asked::Udp(socket))
        }),
    };
    asked.map_err(|error| Heard::Forbidden(error.to_string()))
}

impl Asked {
    fn hear(self, patience: Duration) -> Heard {
        match self {
            Asked::Tcp(mut dial) => match dial.wait(patience) {
                Some(Met::Open(..) | Met::Refused | Met::Reset) => Heard::Answer,
                Some(Met::Failed(error)) => Heard::Forbidden(error.to_string()),
                None => Heard::Nothing,
            },
            Asked::Udp(socket) => {
                let patience = patience.max(Duration::from_millis(1));
                let waited = socket.set_read_timeout(Some(patience));
                match waited.and_then(|()| socket.recv(&mut [0; 16])) {
                    Ok(_) => Heard::Answer,
                    Err(error) => match error.kind() {
                        std::io::ErrorKind::ConnectionRefused => Heard::Answer,
                        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut => {
                            Heard::Nothing
                        }
                        _ => Heard::Forbidden(error.to_string()),
                    },
                }
            }
        }
    }
}

/// The cause not to be told from here: the knocks may be right, and another firewall drops what comes to the door.
const THERE: &str = "on the host, `toctoc status` shows whether this key opened. If it did, another firewall there \
                     drops what comes to the door";

/// Names the likely cause: a sentence, and in a line of its own the next step. `ahead` is the seconds that this clock
/// is ahead of the host's, if the host tells; `now` is what this clock says, in seconds since 1970.
pub fn likely(
    way: &Way,
    door: Door,
    heard: &[(Knock, Heard)],
    ahead: Option<i64>,
    now: i64,
) -> String {
    if let Some(refused) = forbidden(heard) {
        return refused;
    }
    let arrives = heard.iter().any(|(_, heard)| *heard == Heard::Answer);
    if !arrives && door == Door::Silent {
        return format!(
            "nothing there answers, at {} either\nnext: check the address, and whether the host is up. Then {THERE}",
            list(heard.iter().map(|(port, _)| *port))
        );
    }
    match way {
        Way::Token(_, port) => token(*port, heard, ahead, now),
        Way::Signed(signed) => format!(
            "{}. A signed datagram also fails where this host has another address outside (behind NAT): `from` in the \
             profile names it",
            token(signed.port, heard, ahead, now)
        ),
        Way::Sequence(knocks) => sequence(knocks, door, heard),
    }
}

fn forbidden(heard: &[(Knock, Heard)]) -> Option<String> {
    let all = heard
        .iter()
        .all(|(_, heard)| matches!(heard, Heard::Forbidden(_)));
    let (ports, why): (Vec<Knock>, Vec<&String>) = heard
        .iter()
        .filter_map(|(port, heard)| match heard {
            Heard::Forbidden(why) => Some((*port, why)),
            _ => None,
        })
        .unzip();
    let why = why.first()?;
    if all {
        return Some(format!(
            "nobody there answers for that address ({why})\nnext: check the address, and whether the host is on. Then \
             try from another network"
        ));
    }
    Some(format!(
        "packets to {} are turned back ({why}), by a firewall here or in the network between\nnext: try from another \
         network",
        list(ports)
    ))
}

fn sequence(knocks: &[Knock], door: Door, heard: &[(Knock, Heard)]) -> String {
    if door == Door::Refused {
        return "the host refuses: the door is shut, or it is open and nothing listens behind it\nnext: on the host, \
                `toctoc status` shows whether this key opened, and `ss -ltn` what listens"
            .to_string();
    }
    let tcp = heard
        .iter()
        .filter(|(port, _)| knocks.contains(port) && port.protocol == Protocol::Tcp);
    let (answered, silent): (Vec<_>, Vec<_>) = tcp.partition(|(_, heard)| *heard == Heard::Answer);
    let of = |ports: &[&(Knock, Heard)]| list(ports.iter().map(|(port, _)| *port));
    match (answered.is_empty(), silent.is_empty()) {
        (_, true) => format!(
            "the host is up and the knocks reach it\nnext: {THERE}. If it did not, the sequence or its order is \
             another, or the key is expired, used up or gone"
        ),
        (false, false) => format!(
            "the host answers at {}, but not at {}\nnext: try from another network, which may let those through. \
             Then {THERE}",
            of(&answered),
            of(&silent)
        ),
        (true, false) => format!(
            "the host is up, but does not answer at {}\nnext: try from another network, which may let those \
             through. Then {THERE}",
            of(&silent)
        ),
    }
}

fn token(port: NonZeroU16, heard: &[(Knock, Heard)], ahead: Option<i64>, now: i64) -> String {
    let off = |ahead: i64| ahead.unsigned_abs() > GRACE.as_secs();
    match ahead {
        Some(ahead) if off(ahead) => {
            let by = Duration::from_secs(ahead.unsigned_abs());
            let way = if ahead > 0 { "ahead of" } else { "behind" };
            let by = humantime::format_duration(by);
            return format!(
                "this clock is {by} {way} what the web server there says, and tokens fit the time\nnext: set the \
                 clock right"
            );
        }
        Some(_) | None => {}
    }
    let reached = heard.iter().any(|(asked, heard)| {
        (asked.protocol, asked.port) == (Protocol::Udp, port) && *heard == Heard::Answer
    });
    if reached {
        return format!(
            "nothing there takes tokens at {port}/udp\nnext: on the host, `toctoc status` shows whether a policy is \
             applied. If it is, the port for tokens is another"
        );
    }
    let otherwise = format!(
        "{THERE}. If it did not, the secret is another, the key was revoked, no token of this minute is left, or the \
         server was started less than two minutes ago"
    );
    let own = jiff::Timestamp::from_second(now).map_or_else(
        |_| now.to_string(),
        |time| time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
    );
    match ahead {
        Some(_) => format!(
            "the clock agrees with that of the web server there, so it is not the time\nnext: {otherwise}"
        ),
        None => {
            format!(
                "is this clock right ({own}), to two minutes?\nnext: set it right. If it is, {otherwise}"
            )
        }
    }
}

/// "443/tcp, 920/tcp and 50/tcp"
fn list(ports: impl IntoIterator<Item = Knock>) -> String {
    let ports: Vec<String> = ports.into_iter().map(|port| port.to_string()).collect();
    match ports.as_slice() {
        [most @ .., last] if !most.is_empty() => format!("{} and {last}", most.join(", ")),
        _ => ports.concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::single_use::Secret;

    fn knocks(texts: &[&str]) -> Vec<Knock> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn heard(answers: &[(&str, Heard)]) -> Vec<(Knock, Heard)> {
        let one = |(text, heard): &(&str, Heard)| (text.parse().unwrap(), heard.clone());
        answers.iter().map(one).collect()
    }

    #[test]
    fn what_answers_decides_what_is_likely() {
        use Heard::{Answer, Nothing};
        let way = Way::Sequence(knocks(&["1000", "2000", "53/udp"]));
        let forbidden = Heard::Forbidden("No route to host".to_string());
        for (first, second, web, door, wanted) in [
            (Answer, Answer, Nothing, Door::Silent, "the knocks reach it"),
            (
                Answer,
                Nothing,
                Nothing,
                Door::Silent,
                "but not at 2000/tcp",
            ),
            (
                Nothing,
                Nothing,
                Answer,
                Door::Silent,
                "does not answer at 1000/tcp and 2000/tcp",
            ),
            (
                Nothing,
                Nothing,
                Nothing,
                Door::Silent,
                "nothing there answers",
            ),
            (Nothing, Nothing, Nothing, Door::Refused, "the host refuses"),
            (
                Answer,
                forbidden,
                Nothing,
                Door::Silent,
                "packets to 2000/tcp are turned back (No route to host)",
            ),
        ] {
            let heard = heard(&[
                ("1000", first),
                ("2000", second),
                ("53/udp", Nothing),
                ("80", web),
            ]);
            let said = likely(&way, door, &heard, None, 0);
            assert!(said.contains(wanted), "{said}");
            // A right sequence is not called wrong.
            let silent = !said.contains("turned back") && door == Door::Silent;
            assert_eq!(said.contains("another firewall there"), silent, "{said}");
            let (point, next) = said.split_once("\nnext: ").unwrap();
            assert!(!point.contains('\n') && !next.contains('\n'), "{said}");
        }
    }

    #[test]
    fn a_wrong_clock_is_named_with_how_wrong_it_is() {
        let port = NonZeroU16::new(40123).unwrap();
        let way = Way::Token(Secret::new([5; 32].into()), port);
        let closed = heard(&[("40123/udp", Heard::Answer), ("80", Heard::Answer)]);
        let said = likely(&way, Door::Silent, &closed, Some(0), 0);
        assert!(
            said.contains("nothing there takes tokens at 40123/udp"),
            "{said}"
        );
        let heard = heard(&[("40123/udp", Heard::Nothing), ("80", Heard::Answer)]);
        for (ahead, wanted) in [
            (Some(3600), "this clock is 1h ahead of"),
            (Some(-121), "this clock is 2m 1s behind"),
            (Some(120), "so it is not the time"),
            (
                None,
                "is this clock right (1970-01-01 00:00:00 UTC), to two minutes?",
            ),
        ] {
            let said = likely(&way, Door::Silent, &heard, ahead, 0);
            assert!(said.contains(wanted), "{said}");
        }
    }
}
