//! Rules of others in few words: as much of them as tells what becomes of the first packet of a connection. What is
//! not understood is a test whose end is not known. Pure.

use std::collections::HashMap;

use ipnet::IpNet;

use crate::knock::{Knock, Protocol};
use crate::ruleset::Family;

/// A table of others.
#[derive(Debug, Default)]
pub struct Table {
    /// "table inet filter", "iptables, table filter"
    pub title: String,
    /// The only family that comes here, if it is one.
    pub family: Option<Family>,
    pub bases: Vec<Base>,
    pub chains: HashMap<String, Vec<Rule>>,
}

/// A chain that the kernel calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    pub chain: String,
    pub work: Work,
    /// `true` if it is called before connection tracking: a first packet is of state `invalid` there, and not `new`.
    pub is_early: bool,
    /// `true` if its policy is to drop.
    pub drops: bool,
}

/// The purpose of a base chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Of packets to this host.
    Filter,
    /// Of all packets that arrive, before any translation.
    FilterArriving,
    /// Of packets on their way to other hosts.
    FilterForwarded,
    /// At prerouting.
    Translate,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// All have to hold.
    pub tests: Vec<Test>,
    pub then: Then,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Test {
    /// Tests whether a field has one of these values (or none of them).
    Field(Field, Vec<Value>, Sense),
    Unknown,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sense {
    Is,
    IsNot,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// `tcp`, `udp`
    Protocol,
    /// Of the destination, and of one protocol if it says so.
    Port(Option<Protocol>),
    /// By which interface it comes.
    Interface,
    /// By which interface it goes on.
    Out,
    /// Of the destination.
    Address,
    /// `ipv4`, `ipv6`
    Family,
    /// The state in connection tracking: `new`
    State,
    /// The change that was made to the connection: nothing.
    Status,
    /// The destination of the packet: `local`, `host`
    Destination,
    /// Of TCP: `syn`
    Flags,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// With `*` at its end, whatever begins so.
    Text(String),
    Ports(u16, u16),
    Network(IpNet),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Then {
    Nothing,
    Accept,
    Drop,
    Return,
    Jump(String),
    Goto(String),
    /// To another port, address, or both. `None` stays as it is.
    Translate(Option<String>, Option<u16>),
    Unknown,
}

/// The first packet of a connection.
#[derive(Debug, Clone, Copy)]
pub struct Packet<'n> {
    pub family: Family,
    pub port: Knock,
    pub interface: &'n str,
    pub way: Destination,
    /// The host behind this one that it is for, or one of a network.
    pub host: Option<IpNet>,
    /// The interface by which it goes on to that host. `None` where that is not known.
    pub out: Option<&'n str>,
}

/// The host that a packet is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Destination {
    ThisHost,
    /// A host behind this one.
    Behind,
    /// The same, by a translation of its destination.
    PassedOn,
}

/// The packet at a base chain.
#[derive(Clone, Copy)]
struct Arrival<'n> {
    packet: &'n Packet<'n>,
    /// The state in connection tracking.
    state: &'static str,
}

impl Test {
    /// `None` when that is not known.
    fn holds(&self, Arrival { packet, state }: Arrival<'_>) -> Option<bool> {
        let Test::Field(field, values, sense) = self else {
            return None;
        };
        let protocol = packet.port.protocol;
        let any = |text: &str| values.iter().any(|value| value.is(text));
        let found = match field {
            Field::Protocol => any(protocol.name()),
            Field::Port(Some(of)) if *of != protocol => return Some(false),
            Field::Port(_) => values.iter().any(|value| value.has(packet.port)),
            Field::Interface => any(packet.interface),
            Field::Out => any(packet.out?),
            Field::Address => at(packet.host?, values)?,
            Field::Family => any(match packet.family {
                Family::V4 => "ipv4",
                Family::V6 => "ipv6",
            }),
            Field::State => any(state),
            Field::Status => packet.way == Destination::PassedOn && any("dnat"),
            Field::Destination => match packet.way {
                Destination::ThisHost => any("local") || any("host"),
                Destination::Behind | Destination::PassedOn => any("unicast"),
            },
            Field::Flags => match protocol {
                Protocol::Tcp => any("syn"),
                Protocol::Udp => return Some(false),
            },
        };
        Some(found == (*sense == Sense::Is))
    }
}

impl Value {
    fn is(&self, text: &str) -> bool {
        match self {
            Value::Text(own) => match own.strip_suffix('*') {
                Some(beginning) => text.starts_with(beginning),
                None => own == text,
            },
            Value::Ports(..) | Value::Network(_) => false,
        }
    }

    pub fn has(&self, port: Knock) -> bool {
        match self {
            Value::Ports(first, last) => (*first..=*last).contains(&port.port.get()),
            Value::Text(_) | Value::Network(_) => false,
        }
    }
}

/// Returns whether a host, or all hosts of a network, have one of these addresses. `None` where some have.
fn at(host: IpNet, values: &[Value]) -> Option<bool> {
    let networks = || {
        values.iter().filter_map(|value| match value {
            Value::Network(network) => Some(network),
            Value::Text(_) | Value::Ports(..) => None,
        })
    };
    let is_in_one = networks().any(|network| network.contains(&host));
    match is_in_one || !networks().any(|network| host.contains(network)) {
        true => Some(is_in_one),
        false => None,
    }
}

/// The possible fates of a packet. More than one where tests are not known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Ends {
    accept: bool,
    drop: bool,
    /// It goes on behind the chain.
    goes_on: bool,
}

impl Ends {
    const ANY: Ends = Ends {
        accept: true,
        drop: true,
        goes_on: true,
    };

    fn or(self, other: Ends) -> Ends {
        Ends {
            accept: self.accept || other.accept,
            drop: self.drop || other.drop,
            goes_on: self.goes_on || other.goes_on,
        }
    }
}

/// The reading of rules with tests that are not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doubt {
    /// They may hold, or not.
    Either,
    /// They do not.
    No,
}

/// The end of a packet in a chain, as far as it is certain.
enum Stop<'t> {
    Accept,
    /// In this chain.
    Drop(&'t str),
    None,
}

/// The fate of a packet at a base chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fate {
    Passes,
    /// It passes only where rules hold that are for some sources, or are not understood.
    MayDrop,
    Drops,
}

impl Table {
    /// Returns what a base chain does with a packet.
    pub fn fate(&self, base: &Base, packet: &Packet<'_>) -> Fate {
        if self.family.is_some_and(|family| family != packet.family) {
            return Fate::Passes;
        }
        let state = match base.is_early {
            true => "invalid",
            false => "new",
        };
        let ends = |doubt| {
            let mut known = HashMap::new();
            let arrival = Arrival { packet, state };
            let ends = self.ends(&base.chain, arrival, doubt, &mut known, 0);
            ends.accept || (ends.goes_on && !base.drops)
        };
        match (ends(Doubt::Either), ends(Doubt::No)) {
            (false, _) => Fate::Drops,
            (true, false) => Fate::MayDrop,
            (true, true) => Fate::Passes,
        }
    }

    /// The chain that drops a packet of which [`fate`](Table::fate) says so.
    pub fn dropper<'t>(&'t self, base: &'t Base, packet: &Packet<'_>) -> &'t str {
        let arrival = Arrival {
            packet,
            state: "new",
        };
        match self.stop(&base.chain, arrival, 0) {
            Stop::Drop(chain) => chain,
            Stop::Accept | Stop::None => &base.chain,
        }
    }

    /// The first verdict of rules that match for certain.
    fn stop<'t>(&'t self, chain: &'t str, arrival: Arrival<'_>, depth: usize) -> Stop<'t> {
        let rules = self.chains.get(chain).filter(|_| depth < DEEPEST);
        for rule in rules.into_iter().flatten() {
            let mut tests = rule.tests.iter();
            if !tests.all(|test| test.holds(arrival) == Some(true)) {
                continue;
            }
            match &rule.then {
                Then::Nothing | Then::Translate(..) | Then::Unknown => {}
                Then::Accept => return Stop::Accept,
                Then::Drop => return Stop::Drop(chain),
                Then::Return => return Stop::None,
                Then::Goto(to) => return self.stop(to, arrival, depth + 1),
                Then::Jump(to) => match self.stop(to, arrival, depth + 1) {
                    Stop::None => {}
                    stop => return stop,
                },
            }
        }
        Stop::None
    }

    fn ends<'t>(
        &'t self,
        chain: &'t str,
        arrival: Arrival<'_>,
        doubt: Doubt,
        known: &mut HashMap<&'t str, Ends>,
        depth: usize,
    ) -> Ends {
        if let Some(ends) = known.get(chain) {
            return *ends;
        }
        let Some(rules) = self.chains.get(chain).filter(|_| depth < DEEPEST) else {
            return Ends::ANY;
        };
        let mut all = Ends::default();
        let mut arrives = true;
        for rule in rules {
            let tests: Vec<_> = rule.tests.iter().map(|test| test.holds(arrival)).collect();
            let is_certain = match tests.contains(&Some(false)) {
                true => continue,
                false => !tests.contains(&None),
            };
            if !is_certain && doubt == Doubt::No {
                continue;
            }
            let (ends, stays) = match &rule.then {
                Then::Nothing | Then::Translate(..) => continue,
                Then::Accept => (
                    Ends {
                        accept: true,
                        ..Ends::default()
                    },
                    false,
                ),
                Then::Drop => (
                    Ends {
                        drop: true,
                        ..Ends::default()
                    },
                    false,
                ),
                Then::Return => (
                    Ends {
                        goes_on: true,
                        ..Ends::default()
                    },
                    false,
                ),
                Then::Unknown => (Ends::ANY, true),
                Then::Goto(to) => (self.ends(to, arrival, doubt, known, depth + 1), false),
                Then::Jump(to) => {
                    let ends = self.ends(to, arrival, doubt, known, depth + 1);
                    let rest = Ends {
                        goes_on: false,
                        ..ends
                    };
                    (rest, ends.goes_on)
                }
            };
            all = all.or(ends);
            if is_certain && !stays {
                arrives = false;
                break;
            }
        }
        all.goes_on |= arrives;
        known.insert(chain, all);
        all
    }

    /// The rules that a base chain may come to.
    pub fn reached(&self, base: &Base) -> Vec<&Rule> {
        let mut names = vec![base.chain.as_str()];
        let mut next = 0;
        while let Some(rules) = names.get(next).map(|name| self.chains.get(*name)) {
            next += 1;
            for rule in rules.into_iter().flatten() {
                if let Then::Jump(to) | Then::Goto(to) = &rule.then
                    && !names.contains(&to.as_str())
                {
                    names.push(to);
                }
            }
        }
        let rules = names.iter().filter_map(|name| self.chains.get(*name));
        rules.flatten().collect()
    }
}

/// The kernel takes no more calls within calls.
const DEEPEST: usize = 17;
