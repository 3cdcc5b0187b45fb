//! Random policies, as files that the checker accepts.

use std::collections::BTreeSet;
use std::fmt::{Display, Write as _};

use toctoc::automaton::Automaton;
use toctoc::knock::{Knock, PortRange, Protocol};
use toctoc::model::Room;
use toctoc::policy::{Backend, Host, Policy, read_for};

use super::dice::Dice;
use crate::world::Kind;

/// A policy in all its forms.
pub struct Case {
    pub text: String,
    pub policy: Policy,
    pub automaton: Automaton,
    pub room: Room,
}

impl Case {
    /// `None` when the checker refuses the text.
    pub fn read(text: String, kind: Kind) -> Option<Case> {
        let backend = match kind {
            Kind::Nftables => Backend::Nftables,
            _ => Backend::Iptables,
        };
        let host = Host {
            backend: Some(backend),
            ..Host::default()
        };
        let policy = read_for("policy.toml", &text, &host).ok()?;
        let automaton = Automaton::build(policy.sequences());
        Some(Case {
            text,
            policy,
            automaton,
            room: Room::Free,
        })
    }

    /// The same with little room, none of which comes free while a trace is played.
    pub fn random_in_a_flood(dice: &mut Dice, kind: Kind) -> Case {
        loop {
            let text = text(dice, kind).replace(
                &format!("within = \"{}\"\n", TIMES[0]),
                "within = \"1h\"\nmax_sources = 1024\n",
            );
            // One at least whose first knock is given away.
            let gives = |case: &Case| {
                let mut sequences = case.policy.sequences();
                let begins = |knock| case.policy.sequences().any(|(_, all)| all[0] == knock);
                sequences.any(|(_, knocks)| knocks.len() > 2 && !begins(knocks[1]))
            };
            if let Some(case) = Case::read(text, kind).filter(gives) {
                let room = Room::Full(given(&case.policy));
                return Case { room, ..case };
            }
        }
    }

    /// One to three doors, one to six keys over few ports, so that much is shared.
    pub fn random(dice: &mut Dice, kind: Kind) -> Case {
        loop {
            match Case::read(text(dice, kind), kind) {
                Some(case) if !case.policy.keys.is_empty() => return case,
                _ => {}
            }
        }
    }
}

/// The first knocks, all of which the flood makes.
fn given(policy: &Policy) -> BTreeSet<Knock> {
    policy.sequences().map(|(_, knocks)| knocks[0]).collect()
}

/// `within` and the times of grants stand as far from all pauses as they can, see `BEAT`.
pub const TIMES: [&str; 3] = ["2s", "6s", "60s"];

/// The longest times of grants that stay while they are used.
const LATEST: [&str; 2] = ["3200ms", "6s"];

/// Sources that the first door trusts.
const TRUSTED: &str = r#"["10.8.0.16/28", "fd00:0:0:1::8:10/124"]"#;

fn text(dice: &mut Dice, kind: Kind) -> String {
    let mut text = format!("within = \"{}\"\nlog = \"off\"\n", TIMES[0]);
    if dice.one_in(3) {
        text += "ignore = [80]\n";
    }
    if dice.one_in(4) {
        text += "interfaces = [\"eth0\"]\n";
    }
    if dice.one_in(4) && kind == Kind::Nftables {
        text += "closed = \"reject\"\n";
    }
    if dice.one_in(3) {
        text += "\n[grant]\nprefix4 = 31\nprefix6 = 127\n";
    }
    let udp = !dice.one_in(3);
    let doors = doors(dice, udp);
    for (index, ports) in doors.iter().enumerate() {
        let _ = write!(text, "\n[door.door{index}]\nports = {}\n", list(ports));
        if index == 0 && dice.one_in(2) {
            let _ = writeln!(text, "trust = {TRUSTED}");
        }
        if kind == Kind::Nftables && dice.one_in(3) {
            let at_most = dice.pick(&LATEST);
            let _ = writeln!(
                text,
                "open_for = \"{0}\"\nextend = \"{0}\"\nat_most = \"{at_most}\"",
                TIMES[0]
            );
        } else if dice.one_in(3) {
            let _ = writeln!(text, "open_for = \"{}\"", dice.pick(&TIMES));
        }
        if kind == Kind::Nftables && dice.one_in(6) {
            // Nobody of a family gets in without a place to go to.
            let to = ["\"10.60.0.9:22\"", "[\"10.60.0.9\", \"[fd60::9]:22\"]"];
            let _ = writeln!(text, "forward = {}", dice.pick(&to));
        }
    }
    let doors = doors.len() + doors_behind(dice, kind, udp, doors.len(), &mut text);
    for (index, sequence) in sequences(dice, udp).iter().enumerate() {
        let first = dice.below(doors);
        let opens: Vec<String> = (0..doors)
            .filter(|&door| door == first || dice.one_in(3))
            .map(|door| format!("\"door{door}\""))
            .collect();
        let _ = write!(
            text,
            "\n[key.key{index}]\nopens = [{}]\nsequence = {}\n",
            opens.join(", "),
            list(sequence)
        );
        if dice.one_in(4) {
            text += "once = true\n";
        }
        if dice.one_in(4) {
            let _ = writeln!(text, "open_for = \"{}\"", dice.pick(&TIMES));
        }
        match dice.below(10) {
            0 => text += "expires = 2020-01-31\n",
            1 => text += "expires = 2199-01-31\n",
            _ => {}
        }
    }
    text
}

/// Doors in front of other hosts, in every third policy: none, one or two, whose ports others may have too. Returns how
/// many there are.
fn doors_behind(dice: &mut Dice, kind: Kind, udp: bool, first: usize, text: &mut String) -> usize {
    if kind != Kind::Nftables || !dice.one_in(3) {
        return 0;
    }
    let number = 1 + dice.below(2);
    for index in 0..number {
        let host = index + 1;
        let mut ports = vec!["22".to_string()];
        if dice.one_in(2) {
            ports.push("\"300-350\"".to_string());
        }
        if udp && dice.one_in(2) {
            ports.push("\"24/udp\"".to_string());
        }
        let to = match dice.one_in(4) && number == 1 {
            true => "[\"10.60.0.0/31\", \"fd60::/127\"]".to_string(),
            false => format!("[\"10.60.0.{host}\", \"fd60::{host}\"]"),
        };
        let _ = write!(
            text,
            "\n[door.door{}]\nports = [{}]\nto = {to}\n",
            first + index,
            ports.join(", ")
        );
        if dice.one_in(2) {
            *text += "knock_at = \"both\"\n";
        }
        if dice.one_in(4) {
            let _ = writeln!(text, "trust = {TRUSTED}");
        }
    }
    number
}

/// One to three doors. Half of them have ranges too, which lie side by side.
fn doors(dice: &mut Dice, udp: bool) -> Vec<Vec<PortRange>> {
    let range = |protocol, first, last| PortRange::new(protocol, first, last).unwrap();
    let tcp = |port| range(Protocol::Tcp, port, port);
    let third = match udp {
        true => vec![range(Protocol::Udp, 24, 24), tcp(24)],
        false => vec![tcp(24)],
    };
    let mut doors = vec![vec![tcp(22), tcp(222)], vec![tcp(23)], third];
    for (number, door) in (3..).zip(&mut doors) {
        let first = 100 * number;
        if dice.one_in(2) {
            door.push(range(Protocol::Tcp, first, first + 99));
        }
        if udp && dice.one_in(4) {
            door.push(range(Protocol::Udp, first, first + 1));
        }
        if dice.one_in(4) {
            door.remove(0);
        }
    }
    doors.retain(|door| !door.is_empty());
    doors.truncate(1 + dice.below(3));
    doors
}

/// Two to six keys of two to six knocks, many of which begin like another.
fn sequences(dice: &mut Dice, udp: bool) -> Vec<Vec<Knock>> {
    let ports: [u16; 4] = std::array::from_fn(|_| 1000 + dice.below(60_000) as u16);
    let mut pool: Vec<Knock> = ports.map(|port| knock(Protocol::Tcp, port)).into();
    if udp {
        pool.extend([ports[0], 53].map(|port| knock(Protocol::Udp, port)));
    }
    let mut sequences: Vec<Vec<Knock>> = Vec::new();
    for _ in 0..2 + dice.below(5) {
        let mut sequence = Vec::new();
        if !sequences.is_empty() && dice.one_in(2) {
            let other = dice.pick(&sequences);
            sequence.extend(&other[..1 + dice.below(other.len() - 1)]);
        }
        for _ in 0..2 + dice.below(3) {
            sequence.push(dice.pick(&pool));
        }
        sequence.dedup();
        let inside = |part: &[Knock], whole: &[Knock]| whole.windows(part.len()).any(|w| w == part);
        let apart = |other: &Vec<Knock>| !inside(other, &sequence) && !inside(&sequence, other);
        if sequence.len() > 1 && sequences.iter().all(apart) {
            sequences.push(sequence);
        }
    }
    sequences
}

pub fn knock(protocol: Protocol, port: u16) -> Knock {
    Knock::new(protocol, port).unwrap()
}

fn list(ports: &[impl Display]) -> String {
    let words: Vec<String> = ports.iter().map(|ports| format!("\"{ports}\"")).collect();
    format!("[{}]", words.join(", "))
}
