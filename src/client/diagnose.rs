//! Why a door stays shut, as far as a stranger can find out: who answers there, and at what.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::time::{Duration, Instant};

use super::dial::{Dial, Met};
use super::enter::Door;
use super::outside::Outside;
use super::profile::{Signed, Way};
use super::send::{at, udp_towards};
use crate::knock::{Knock, Protocol};
use crate::signed::{Binding, SKEW};
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
/// is ahead of the host's, if the host tells; `now` is what this clock says, in seconds since 1970. `source` is the address
/// that a datagram of a signed key was signed for, if it was for any.
pub fn likely(
    way: &Way,
    door: Door,
    heard: &[(Knock, Heard)],
    ahead: Option<i64>,
    now: i64,
    source: Option<IpAddr>,
) -> String {
    if let Some(refused) = forbidden(heard) {
        return refused;
    }
    let arrives = heard.iter().any(|(_, heard)| *heard == Heard::Answer);
    if !arrives && door == Door::Silent {
        let otherwise = match way {
            Way::Signed(signed) => {
                format!(". If it did not, {}", mistakes(signed, source, None))
            }
            Way::Sequence(_) | Way::Token(..) => String::new(),
        };
        return format!(
            "nothing there answers, at {} either\nnext: check the address, and whether the host is up. Then \
             {THERE}{otherwise}",
            list(heard.iter().map(|(port, _)| *port))
        );
    }
    match way {
        Way::Token(_, port) => token(*port, heard, ahead, now),
        Way::Signed(key) => signed(key, heard, ahead, now, source),
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

/// The cause that is plain to see, with the next step: a wrong clock, or a port where nothing is taken. `what` goes there, in
/// the plural; it fits the time to `tolerance`.
fn plain(
    what: &str,
    tolerance: Duration,
    port: NonZeroU16,
    heard: &[(Knock, Heard)],
    ahead: Option<i64>,
) -> Option<String> {
    let off = ahead.filter(|ahead| ahead.unsigned_abs() > tolerance.as_secs());
    if let Some(ahead) = off {
        let by = Duration::from_secs(ahead.unsigned_abs());
        let way = if ahead > 0 { "ahead of" } else { "behind" };
        let by = humantime::format_duration(by);
        return Some(format!(
            "this clock is {by} {way} what the web server there says, and {what} fit the time\nnext: set the clock \
             right"
        ));
    }
    let reached = heard.iter().any(|(asked, heard)| {
        (asked.protocol, asked.port) == (Protocol::Udp, port) && *heard == Heard::Answer
    });
    reached.then(|| {
        format!(
            "nothing there takes {what} at {port}/udp\nnext: on the host, `toctoc status` shows whether a policy is \
             applied. If it is, the port for {what} is another"
        )
    })
}

fn shown_time(now: i64) -> String {
    jiff::Timestamp::from_second(now).map_or_else(
        |_| now.to_string(),
        |time| time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
    )
}

fn signed(
    key: &Signed,
    heard: &[(Knock, Heard)],
    ahead: Option<i64>,
    now: i64,
    source: Option<IpAddr>,
) -> String {
    if let Some(found) = plain("signed datagrams", SKEW, key.port, heard, ahead) {
        return found;
    }
    let question = match (&key.from, source) {
        (Outside::Named(from), _) => {
            format!("is {from} (`from` in the profile) the address that this host has outside?")
        }
        (Outside::Own, Some(source)) => format!(
            "does this host have another address outside (NAT)? The datagram was signed for {source}"
        ),
        (Outside::Asked(server), Some(source)) => format!(
            "is {source} the address that this host has outside? {server} says so, and the datagram was signed for it"
        ),
        (_, None) => "does the policy ask for more `binding` than the profile gives?".to_string(),
    };
    let clock = ahead.is_none().then_some(now);
    let mistakes = mistakes(key, source, clock);
    format!("{question}\nnext: {THERE}. If it did not, {mistakes}")
}

/// The mistakes by which a signed datagram opens nothing. `clock` is what this clock says, where it may be wrong.
fn mistakes(key: &Signed, source: Option<IpAddr>, clock: Option<i64>) -> String {
    let mut all = Vec::new();
    match (&key.from, source) {
        (Outside::Named(_), _) | (Outside::Asked(_), Some(_)) => {
            all.push(
                "put the address that this host has outside into the profile as `from`".to_string(),
            );
        }
        (Outside::Own, Some(_)) => all.push(
            "put the address that this host has outside into the profile: `from = \"ADDRESS\"`, or a server that tells it: \
             `from = \"stun:HOST\"`"
                .to_string(),
        ),
        (_, None) => {}
    }
    if let Some(now) = clock {
        all.push(format!(
            "set this clock right (it says {})",
            shown_time(now)
        ));
    }
    if key.binding != Binding::Address {
        let binding = key.binding.name();
        all.push(format!(
            "ask the administrator whether the policy asks for more than the profile's `binding = \"{binding}\"`"
        ));
    }
    all.push("ask for a new profile: the secret is another, or the key was revoked".to_string());
    all.join("; or ")
}

fn token(port: NonZeroU16, heard: &[(Knock, Heard)], ahead: Option<i64>, now: i64) -> String {
    if let Some(found) = plain("tokens", GRACE, port, heard, ahead) {
        return found;
    }
    let otherwise = format!(
        "{THERE}. If it did not, the secret is another, the key was revoked, no token of this minute is left, or the \
         server was started less than two minutes ago"
    );
    let own = shown_time(now);
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
            let said = likely(&way, door, &heard, None, 0, None);
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
        let said = likely(&way, Door::Silent, &closed, Some(0), 0, None);
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
            let said = likely(&way, Door::Silent, &heard, ahead, 0, None);
            assert!(said.contains(wanted), "{said}");
        }
    }

    /// The address is what is wrong most often, and nothing is said that holds for tokens alone.
    #[test]
    fn a_signed_key_gets_advice_of_its_own() {
        let port = NonZeroU16::new(40123).unwrap();
        let key = |binding, from: Option<&str>| {
            Way::Signed(Signed {
                secret: Secret::new([5; 32].into()),
                port,
                binding,
                from: from.map_or(Outside::Own, |from| from.parse().unwrap()),
            })
        };
        let up = heard(&[("40123/udp", Heard::Nothing), ("80", Heard::Answer)]);
        let down = heard(&[("40123/udp", Heard::Nothing), ("80", Heard::Nothing)]);
        let closed = heard(&[("40123/udp", Heard::Answer), ("80", Heard::Answer)]);
        let source = Some("192.0.2.7".parse().unwrap());
        const NAT: &str = "does this host have another address outside (NAT)? The datagram was signed for 192.0.2.7\n";
        const FROM: &str = "`from = \"ADDRESS\"`";
        const CLOCK: &str = "set this clock right (it says 1970-01-01 00:00:00 UTC)";
        let (address, network, nothing) = (Binding::Address, Binding::Network, Binding::Nothing);
        for (way, heard, ahead, source, wanted, not) in [
            (
                key(address, None),
                &up,
                None,
                source,
                &[NAT, FROM, CLOCK][..],
                &["binding"][..],
            ),
            (
                key(address, None),
                &up,
                Some(5),
                source,
                &[NAT, FROM],
                &["clock", "binding"],
            ),
            (
                key(network, None),
                &up,
                None,
                source,
                &[NAT, "`binding = \"network\"`"],
                &[],
            ),
            (
                key(address, Some("stun:stun.example")),
                &up,
                Some(5),
                source,
                &["is 192.0.2.7 the address", "stun:stun.example says so"],
                &["NAT"],
            ),
            (
                key(nothing, None),
                &up,
                None,
                None,
                &[
                    "does the policy ask for more `binding`",
                    "`binding = \"none\"`",
                ],
                &["NAT", "`from"],
            ),
            (
                key(address, Some("198.51.100.9")),
                &up,
                None,
                Some("198.51.100.9".parse().unwrap()),
                &["is 198.51.100.9 (`from` in the profile) the address"],
                &["NAT"],
            ),
            (
                key(address, None),
                &down,
                None,
                source,
                &["nothing there answers", FROM],
                &["clock"],
            ),
            (
                key(address, None),
                &up,
                Some(3600),
                source,
                &["this clock is 1h ahead of", "signed datagrams fit the time"],
                &["from"],
            ),
            (
                key(address, None),
                &closed,
                Some(0),
                source,
                &["nothing there takes signed datagrams at 40123/udp"],
                &["from"],
            ),
        ] {
            let said = likely(&way, Door::Silent, heard, ahead, 0, source);
            for wanted in wanted {
                assert!(said.contains(wanted), "{wanted}: {said}");
            }
            let (point, next) = said.split_once("\nnext: ").unwrap();
            assert!(!point.contains('\n') && !next.contains('\n'), "{said}");
            for not in [not, &["token", "two minutes"]].concat() {
                assert!(!said.contains(not), "{not}: {said}");
            }
        }
    }
}
