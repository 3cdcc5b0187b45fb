//! One-line cases: a trace in shorthand, and what must have come of it. They run on the model, on
//! the automaton and on the kernel, IPv4 and IPv6.
//!
//! A trace is a list of words. `443` is a knock of source a, `b:443` one of source b, `53/udp` over
//! UDP. `~` is a pause of 0.6 `within` (in time), `!` one of 1.8 (too late). Everything else follows
//! at once.
//!
//! The wanted outcome: `a:ssh` a grant of source a for a door, `a:ssh!` one for a single
//! connection, `a=2` progress of two knocks.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use toctoc::knock::Knock;
use toctoc::policy::Policy;
use toctoc::trace::{Holding, Packet};

pub struct Case {
    pub name: &'static str,
    pub trace: &'static str,
    pub expected: &'static str,
}

const fn case(name: &'static str, trace: &'static str, expected: &'static str) -> Case {
    Case {
        name,
        trace,
        expected,
    }
}

/// The policy of all cases. `within` is the shortest that leaves room for a busy machine.
pub const POLICY: &str = r#"
within   = "2s"
open_for = "5m"
ignore   = [80, "80/udp"]
log = "off"

[door.ssh]
ports = [22, 2222]

[door.vpn]
ports = ["51820/udp", 1194]

[key.yves]
opens    = ["ssh"]
sequence = [443, 2387, 920]

[key.anna]
opens    = ["ssh", "vpn"]
sequence = [443, 2387, 1111, 920]

[key.suffix]
opens    = ["vpn"]
sequence = [2387, 5555, 443]

[key.after]
opens    = ["vpn"]
sequence = [920, 7777]

[key.mixed]
opens    = ["vpn"]
sequence = ["53/udp", 53, "53/udp", 123]

[key.single]
opens    = ["ssh"]
sequence = [6001, 4002]
once     = true

[key.again]
opens    = ["vpn"]
sequence = [31, 32, 31, 32, 33]

[key.past]
opens    = ["ssh"]
sequence = [8101, 9102]
expires  = 2020-01-01
"#;

pub const CASES: &[Case] = &[
    // --- opening
    case("the sequence opens", "443 2387 920", "a:ssh"),
    case("two doors", "443 2387 1111 920", "a:ssh a:vpn"),
    case("a key for single connections", "6001 4002", "a:ssh!"),
    case("tcp and udp mixed", "53/udp 53 53/udp 123", "a:vpn"),
    case("pauses within the time", "443 ~ 2387 ~ 920", "a:ssh"),
    // --- not opening
    case("nothing for nothing", "", ""),
    case("last knock missing", "443 2387", "a=2"),
    case("first knock missing", "2387 920", "a=1"),
    case("middle knock missing", "443 920", "a=1"),
    case("wrong order", "2387 443 920", "a=1"),
    case("backwards", "920 2387 443", "a=1"),
    case("wrong knock in between", "443 2387 1 920", "a=1"),
    case("wrong protocol", "443 2387/udp 920", "a=1"),
    case("udp for tcp at the end", "53/udp 53 53/udp 123/udp", ""),
    case("an expired key", "8101 9102", ""),
    // --- echoes
    case("echoes do not count", "443 443 2387 2387 2387 920", "a:ssh"),
    case("an echo of the last knock", "443 2387 920 920", "a:ssh"),
    case("an echo does not extend", "443 ~ 443 ~ 2387 920", "a=1"),
    case(
        "an echo after opening is no first knock",
        "443 2387 920 920 7777",
        "a:ssh",
    ),
    case(
        "but knocked again after another it is",
        "443 2387 920 1 920 7777",
        "a:ssh a:vpn",
    ),
    case(
        "the same port of the other protocol is no echo",
        "53/udp 53 53",
        "a=2",
    ),
    case("udp echo", "53/udp 53/udp 53 53 53/udp 123", "a:vpn"),
    // --- the last knocks decide
    case(
        "a right first knock restarts",
        "443 443 2387 443 2387 920",
        "a:ssh",
    ),
    case(
        "interrupted and started again at once",
        "443 2387 443 2387 920",
        "a:ssh",
    ),
    case(
        "a bogus first knock does no harm",
        "100 443 2387 920",
        "a:ssh",
    ),
    case(
        "the end of one is the beginning of another",
        "443 2387 5555 443",
        "a:vpn",
    ),
    case("falling back by two", "31 32 31 32 31 32 33", "a:vpn"),
    case("falling back not far enough", "31 32 31 33", ""),
    case("opening forgets", "443 2387 920 7777", "a:ssh"),
    case("opens again", "443 2387 920 443 2387 920", "a:ssh"),
    // --- time
    case("too late for the second", "443 ! 2387 920", "a=1"),
    case("too late for the last", "443 2387 ! 920", "a=1"),
    case(
        "too late, but a first knock",
        "443 2387 ! 443 2387 920",
        "a:ssh",
    ),
    case(
        "an echo too late is a first knock",
        "443 ! 443 2387 920",
        "a:ssh",
    ),
    case("progress is forgotten", "443 2387 !", ""),
    // --- doors
    case(
        "knocking at the door loses progress",
        "443 2387 22 920",
        "a=1",
    ),
    case(
        "the other protocol of a door is no door",
        "443 2387 22/udp 920",
        "a=1",
    ),
    case(
        "passing through an open door is no knock",
        "443 2387 920 443 2387 22 1111 920",
        "a:ssh a:vpn",
    ),
    case(
        "through the other port of the door too",
        "443 2387 920 443 2387 2222 1111 920",
        "a:ssh a:vpn",
    ),
    case(
        "but not through another door",
        "443 2387 920 443 2387 1194 1111 920",
        "a:ssh a=1",
    ),
    case(
        "a udp door",
        "443 2387 920 443 2387 51820/udp 1111",
        "a:ssh",
    ),
    case("once is used up by a connection", "6001 4002 22", ""),
    case(
        "once is for one connection",
        "6001 4002 443 2387 22 22/tcp 1111 920",
        "a=1",
    ),
    case("once at another door is kept", "6001 4002 1194", "a:ssh!"),
    // --- ignored ports
    case(
        "ignored ports are no knocks",
        "80 443 80 2387 80 80/udp 920",
        "a:ssh",
    ),
    case(
        "an ignored port does not part an echo",
        "443 80 443 2387 920",
        "a:ssh",
    ),
    // --- sources
    case(
        "sources do not mix",
        "443 b:2387 a:2387 b:920 a:920",
        "a:ssh b=1",
    ),
    case(
        "two at once",
        "443 b:443 2387 b:2387 920 b:1111 b:920",
        "a:ssh b:ssh b:vpn",
    ),
    case(
        "one's wrong knock is not another's",
        "443 b:443 2387 b:5 920",
        "a:ssh",
    ),
];

/// A source letter as an address: each case has sources of its own.
pub fn address(case: usize, source: char, v6: bool) -> IpAddr {
    let letter = source as u8 - b'a' + 1;
    if v6 {
        let case = u16::try_from(case).unwrap();
        // Each case has a network of 64 bits of its own: that has its share of the room.
        IpAddr::from([0xfd00, 0, 0, case, 0, 0, 0, u16::from(letter)])
    } else {
        IpAddr::from([10, 1, u8::try_from(case).unwrap(), letter])
    }
}

/// The packets of a case. Knocks follow one another by a millisecond.
pub fn packets(case: usize, trace: &str, within: Duration, v6: bool) -> (Vec<Packet>, Duration) {
    let mut at = Duration::ZERO;
    let mut packets = Vec::new();
    for word in trace.split_whitespace() {
        match word {
            "~" => at += within.mul_f64(0.6),
            "!" => at += within.mul_f64(1.8),
            _ => {
                let (source, knock) = word.split_once(':').unwrap_or(("a", word));
                let to: Knock = knock.parse().expect(word);
                let source = address(case, source.chars().next().unwrap(), v6);
                packets.push(Packet {
                    at,
                    source,
                    host: None,
                    to,
                });
                at += Duration::from_millis(1);
            }
        }
    }
    (packets, at)
}

/// The outcome of a case, in the shorthand of `expected`.
pub fn outcome(
    policy: &Policy,
    case: usize,
    v6: bool,
    grants: impl IntoIterator<Item = Holding>,
    progress: &BTreeMap<IpAddr, usize>,
) -> String {
    let sources: Vec<char> = ('a'..='d').collect();
    let letter = |ip: IpAddr| sources.iter().find(|&&s| address(case, s, v6) == ip);
    let mut words = BTreeSet::new();
    for grant in grants {
        if let Some(letter) = letter(grant.source.addr()) {
            let once = if grant.once { "!" } else { "" };
            words.insert(format!("{letter}:{}{once}", policy.door(grant.door).name));
        }
    }
    for (&ip, knocks) in progress {
        if let Some(letter) = letter(ip) {
            words.insert(format!("{letter}={knocks}"));
        }
    }
    words.into_iter().collect::<Vec<_>>().join(" ")
}

/// `expected` with its words in the order that [`outcome`] gives.
pub fn sorted(expected: &str) -> String {
    let words: BTreeSet<&str> = expected.split_whitespace().collect();
    words.into_iter().collect::<Vec<_>>().join(" ")
}
