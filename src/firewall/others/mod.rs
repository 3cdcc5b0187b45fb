//! Firewalls of others beside ours. toctoc only takes away: what they drop stays shut, whatever is knocked. And they
//! may lead packets past a door, or away from it. They are read, and never changed; nothing is said of what is not
//! understood.

mod behind;
mod nft_json;
mod read;
mod rules;
mod saved;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;

pub use read::Others;
pub(super) use read::asleep;

use super::links::{Link, Links, addresses, addresses_without_knocks};
use crate::knock::{Knock, PortRange, Protocol};
use crate::policy::ways::{To, Way};
use crate::policy::{Door, Interfaces, Policy};
use crate::ruleset::Family;
use rules::{Destination, Fate, Field, Packet, Sense, Table, Test, Then, Value, Work};

/// So many ports of each door are looked at.
const MANY: usize = 64;

/// Facts that an administrator should know of this host, besides its interfaces: a sentence each.
pub fn about_this_host(policy: &Policy) -> Vec<String> {
    about(policy, &Others::read())
}

/// The same, where the rules of others were read.
pub fn about(policy: &Policy, others: &Others) -> Vec<String> {
    let mut found = Vec::new();
    found.extend(without_knocks(addresses_without_knocks()));
    found.extend(behind::about(policy));
    let links = Links::read().unwrap_or_default();
    let interfaces = comes_by(policy, &links);
    found.extend(drops(policy, &others.tables, &interfaces, &families()));
    found
}

/// The sentence about addresses of this host at which knocks are not heard.
fn without_knocks(addresses: io::Result<Vec<IpAddr>>) -> Option<String> {
    match addresses {
        Ok(addresses) if addresses.is_empty() => None,
        Ok(addresses) => {
            let shown: Vec<String> = addresses.iter().take(4).map(IpAddr::to_string).collect();
            Some(format!(
                "knocks are not heard at {}: not in the routing table `local` (policy routing, or a VRF)",
                shown.join(", ")
            ))
        }
        Err(error) => Some(format!(
            "the kernel does not tell this host's addresses ({error}): whether knocks are heard at all of them is not \
             known"
        )),
    }
}

/// The families that somebody outside could use.
fn families() -> Vec<Family> {
    let own = addresses().unwrap_or_default();
    let is_v6 =
        |address: &IpAddr| matches!(address, IpAddr::V6(v6) if v6.segments()[0] & 0xffc0 != 0xfe80);
    match own.iter().any(|(address, _)| is_v6(address)) {
        true => Family::BOTH.to_vec(),
        false => vec![Family::V4],
    }
}

/// The interfaces by which packets come to a door.
fn comes_by<'l>(policy: &Policy, links: &'l Links) -> Vec<&'l str> {
    let named = |link: &&Link| match &policy.interfaces {
        Interfaces::AllButLoopback => !link.is_loopback,
        Interfaces::Only(names) => names.iter().any(|name| link.is_called(name)),
    };
    let up = links
        .0
        .iter()
        .filter(|link| link.is_up && link.master.is_none());
    let names = up.filter(named).map(|link| link.name.as_str());
    names.take(16).collect()
}

/// The ports of doors whose packets come to filters of a kind.
fn comes_to(policy: &Policy, work: Work) -> BTreeSet<(PortRange, Destination)> {
    let own = |door: &Door, way: Destination| -> Vec<(PortRange, Destination)> {
        let ports = door.ports.iter().take(MANY);
        ports.map(|ports| (*ports, way)).collect()
    };
    match work {
        Work::Filter => {
            let doors = policy.doors.iter().filter(|door| door.is_served_here());
            let ports = doors.flat_map(|door| own(door, Destination::ThisHost));
            ports.collect()
        }
        Work::FilterForwarded => {
            let behind = policy.doors_behind();
            let behind = behind.flat_map(|(door, _)| own(door, Destination::Behind));
            let forwards = policy.forwards().flat_map(|(door, forward)| {
                let targets = forward.to.iter();
                targets.flat_map(move |target| match target.port {
                    None => own(door, Destination::PassedOn),
                    Some(port) => {
                        let port = |ports: &PortRange| Knock {
                            protocol: ports.protocol(),
                            port,
                        };
                        let ports = door.ports.iter().map(|ports| port(ports).into());
                        ports.map(|port| (port, Destination::PassedOn)).collect()
                    }
                })
            });
            behind.chain(forwards).collect()
        }
        Work::Translate => BTreeSet::new(),
    }
}

/// Says what others drop of the doors' packets.
fn drops(
    policy: &Policy,
    tables: &[Table],
    interfaces: &[&str],
    families: &[Family],
) -> Vec<String> {
    let mut found: BTreeMap<(String, Fate, &str), Vec<PortRange>> = BTreeMap::new();
    for table in tables {
        let filters = table.bases.iter();
        for base in filters.filter(|base| base.work != Work::Translate) {
            let who = format!("{}, chain {}", table.title, base.chain);
            // Of a range, the ends are asked about.
            let some = comes_to(policy, base.work).into_iter();
            for (ports, port, way) in some.flat_map(|(ports, way)| {
                BTreeSet::from([ports.first(), ports.last()])
                    .into_iter()
                    .map(move |end| (ports, end, way))
            }) {
                // Passing by one interface is a choice.
                let fate = |family| {
                    let fates = interfaces.iter().map(|interface| {
                        let interface = *interface;
                        table.fate(
                            base,
                            &Packet {
                                family,
                                port,
                                interface,
                                way,
                            },
                        )
                    });
                    fates.min().unwrap_or(Fate::Passes)
                };
                let fates: Vec<(Family, Fate)> = families
                    .iter()
                    .filter(|family| table.family.is_none_or(|of| of == **family))
                    .map(|family| (*family, fate(*family)))
                    .collect();
                let same = fates.iter().all(|(_, fate)| *fate == fates[0].1);
                let told: &[_] = if same {
                    &fates[..fates.len().min(1)]
                } else {
                    &fates
                };
                for (family, fate) in told.iter().filter(|(_, v)| *v != Fate::Passes) {
                    let over = match (same && table.family.is_none(), family) {
                        (true, _) => "",
                        (false, Family::V4) => " over IPv4",
                        (false, Family::V6) => " over IPv6",
                    };
                    let told = found.entry((who.clone(), *fate, over)).or_default();
                    match told.last() {
                        Some(first) if *first == ports.first().into() && ports.is_several() => {
                            told.pop();
                            told.push(ports);
                        }
                        _ => told.push(port.into()),
                    }
                }
            }
        }
    }
    let told = |((who, fate, over), ports): (&(String, Fate, &str), &Vec<PortRange>)| {
        let shown = ports.iter().take(4).map(PortRange::to_string);
        let mut shown = shown.collect::<Vec<_>>().join(" ");
        if ports.len() > 4 {
            shown.push_str(&format!(" and {} more", ports.len() - 4));
        }
        match fate {
            Fate::Drops => format!(
                "another firewall ({who}) drops {shown}{over}, whatever is knocked: let it in there (toctoc only \
                 takes away)"
            ),
            _ => format!(
                "another firewall ({who}) may drop {shown}{over}, whatever is knocked: it lets in some sources alone, \
                 or by rules that are not understood here"
            ),
        }
    };
    found.iter().map(told).collect()
}

/// Ports that others translate: ports to others of this host, or to elsewhere.
pub fn translations(others: &Others) -> Vec<Way> {
    let own: Vec<IpAddr> = addresses()
        .unwrap_or_default()
        .into_iter()
        .map(|(a, _)| a)
        .collect();
    translated(&others.tables, &own)
}

fn translated(tables: &[Table], own: &[IpAddr]) -> Vec<Way> {
    let mut ways = Vec::new();
    for table in tables {
        for base in table
            .bases
            .iter()
            .filter(|base| base.work == Work::Translate)
        {
            for rule in table.reached(base) {
                let Then::Translate(address, port) = &rule.then else {
                    continue;
                };
                let is_own = |address: &String| match address.parse::<IpAddr>() {
                    Ok(address) => address.is_loopback() || own.contains(&address),
                    Err(_) => false,
                };
                let to = match address {
                    Some(address) if !is_own(address) => To::Elsewhere(address.clone()),
                    _ => To::Here,
                };
                for (protocol, first, last) in matched(&rule.tests) {
                    ways.push(Way {
                        protocol,
                        from: (first, last),
                        to: to.clone(),
                        port: *port,
                        by: format!("{}, chain {}", table.title, base.chain),
                    });
                }
            }
        }
    }
    ways
}

/// The ports that tests are for.
fn matched(tests: &[Test]) -> Vec<(Protocol, u16, u16)> {
    let mut protocols = vec![Protocol::Tcp, Protocol::Udp];
    let mut ranges = vec![(1, u16::MAX)];
    for test in tests {
        let Test::Field(field, values, Sense::Is) = test else {
            continue;
        };
        match field {
            Field::Protocol => {
                protocols.retain(|p| values.contains(&Value::Text(p.name().to_string())))
            }
            Field::Port(of) => {
                protocols.retain(|protocol| of.is_none_or(|of| of == *protocol));
                let range = |value: &Value| match value {
                    Value::Ports(first, last) => Some((*first, *last)),
                    Value::Text(_) => None,
                };
                ranges = values.iter().filter_map(range).collect();
            }
            _ => {}
        }
    }
    let pairs = protocols
        .iter()
        .flat_map(|p| ranges.iter().map(|(first, last)| (*p, *first, *last)));
    pairs.collect()
}
