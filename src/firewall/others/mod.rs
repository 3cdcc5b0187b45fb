//! Firewalls of others beside ours. toctoc only takes away: what they drop stays shut, whatever is knocked. And they
//! may lead packets past a door, or away from it. They are read, and never changed; nothing is said of what is not
//! understood.

mod behind;
mod drops;
mod nft_json;
mod read;
mod rules;
mod saved;
#[cfg(test)]
mod tests;

use std::io;
use std::net::IpAddr;

pub use read::Others;
pub(super) use read::asleep;

use ipnet::IpNet;

use super::links::{Link, Links, addresses, addresses_without_knocks, networks};
use crate::knock::Protocol;
use crate::policy::ways::{To, Way};
use crate::policy::{Interfaces, Policy};
use crate::ruleset::Family;
use drops::{Around, drops};
use rules::{Field, Sense, Table, Test, Then, Value, Work};

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
    let around = Around {
        interfaces: comes_by(policy, &links),
        families: families(),
        networks: networks_here(&links),
    };
    found.extend(drops(policy, &others.tables, &around));
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
fn comes_by<'l>(policy: &Policy, links: &'l Links) -> Vec<&'l Link> {
    let named = |link: &&Link| match &policy.interfaces {
        Interfaces::AllButLoopback => !link.is_loopback,
        Interfaces::Only(names) => names.iter().any(|name| link.is_called(name)),
    };
    let up = links
        .0
        .iter()
        .filter(|link| link.is_up && link.master.is_none());
    up.filter(named).take(16).collect()
}

/// The networks at this host's interfaces.
fn networks_here(links: &Links) -> Vec<(IpNet, &str)> {
    let networks = networks().unwrap_or_default().into_iter();
    let named = |(network, index)| Some((network, links.numbered(index)?.name.as_str()));
    networks.filter_map(named).collect()
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
                    Value::Text(_) | Value::Network(_) => None,
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
