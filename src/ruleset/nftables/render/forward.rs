//! Doors whose connections are passed on to other places, by a translation of addresses.
//!
//! A stranger's packet never comes here: its door has dropped it before. The grant is asked for once more all the same,
//! since nothing is to be translated for a packet that got past the door on another way. Only first packets of TCP and of
//! new flows are translated; the kernel keeps that for the connection, and nothing of it for the next one.

use std::collections::BTreeSet;

use super::chains::{SYN_IN_A_HEADER, guarded};
use super::once::flow;
use super::source;
use crate::knock::{PortRange, Protocol, display_source};
use crate::policy::{Door, DoorIndex, Forward, Policy, Sender, Target};
use crate::ruleset::Family;
use crate::ruleset::nftables::script::{Base, Chain};
use crate::ruleset::nftables::{SetId, classid};

/// The chains that translate, if a door asks for it.
pub(super) fn chains(policy: &Policy) -> Vec<Chain> {
    let mut destinations = Chain::new(
        "destinations",
        &["Doors whose connections are passed on: what they have let in gets another destination."],
    )
    .base(Base::Destination);
    let mut sources = Chain::new(
        "sources",
        &["Connections that were passed on, and shall seem to come from this host."],
    )
    .base(Base::Source);
    let (mut own, mut masquerades) = (Vec::new(), false);
    let here = format!("{} fib daddr type local", guarded(&policy.interfaces));
    for (door, forward) in policy.forwards() {
        for target in &forward.to {
            let chain = name(door, target);
            for ports in &door.ports {
                let (family, port) = (protocol(target), dport(*ports));
                let new = match ports.protocol() {
                    Protocol::Tcp => format!("{SYN_IN_A_HEADER} "),
                    Protocol::Udp => String::new(),
                };
                destinations.rule(format!(
                    "meta nfproto {family} {port} {new}{here} goto {chain}"
                ));
                if forward.sender == Sender::ThisHost {
                    masquerades = true;
                    sources.rule(format!("{} masquerade", passed_on(target, *ports)));
                }
            }
            own.push(of_door(policy, door, target));
        }
    }
    if own.is_empty() {
        return Vec::new();
    }
    let mut chains = vec![destinations];
    chains.append(&mut own);
    chains.extend(masquerades.then_some(sources));
    chains
}

/// The chain that translates for sources with a grant for a door.
fn of_door(policy: &Policy, door: &Door, target: &Target) -> Chain {
    let family = Family::of(target.host);
    let about = format!("Door {}: passed on to {target}.", door.name);
    let mut chain = Chain::new(name(door, target), &[&about]);
    let translate = format!("dnat {} to {target}", word(family));
    let saddr = family.saddr();
    let mut indices = policy.door_indices();
    let index = indices.find(|&index| policy.door(index).name == door.name);
    let asked: Vec<DoorIndex> = index
        .into_iter()
        .flat_map(|index| policy.asked_for(index))
        .collect();
    let protocols = transports(door, target);
    for &asked in &asked {
        let trusted = policy.door(asked).trust.iter();
        for network in trusted.filter(|network| Family::of(network.addr()) == family) {
            let network = display_source(network);
            for protocol in &protocols {
                chain.rule(format!("{protocol}{saddr} {network} {translate}"));
            }
        }
    }
    let leave = format!("meta priority set 0:0 {translate}");
    for asked in asked {
        let id = classid(policy.door(asked).name.id());
        chain.rule(format!("meta priority set {id}"));
        for protocol in &protocols {
            for held in held(policy, asked, family) {
                chain.rule(format!("{protocol}{held}{leave}"));
            }
        }
    }
    if policy.has_once() {
        for protocol in &protocols {
            chain.note("A grant for one connection is used up by now: its packet has a pass.");
            let (flow, passed) = (flow(family), SetId::Passed.of_family(family));
            chain.rule(format!(
                "{protocol}{flow} @{passed} delete @{passed} {{ {flow} }} {leave}"
            ));
        }
    }
    chain.rule("meta priority set 0:0");
    chain
}

/// The matches for a grant that lasts, where `meta priority` is its door: in each set that may hold it.
fn held(policy: &Policy, door: DoorIndex, family: Family) -> Vec<String> {
    let (network, prefix) = (source(policy.grant, family), family.prefix_of(policy.grant));
    let is_in = |set: SetId| {
        let set = set.of_network(family, prefix);
        format!("{network} . meta priority @{set} ")
    };
    let mut held = vec![is_in(SetId::Grants)];
    if policy.accepts(door) {
        held.push(is_in(SetId::Elsewhere));
    }
    if policy.door(door).extension.is_some() {
        held.push([SetId::Use, SetId::Stay].map(is_in).concat());
    }
    held
}

/// A match for each protocol of a door, where nft asks for one: in front of a translation to a port.
fn transports(door: &Door, target: &Target) -> BTreeSet<String> {
    let protocols = door.ports.iter().map(|ports| ports.protocol());
    let matches = protocols.map(|protocol| match target.port {
        Some(_) => format!("meta l4proto {protocol} "),
        None => String::new(),
    });
    matches.collect()
}

/// The matches for connections that were passed on, one for each range of ports.
pub(super) fn all_passed_on(policy: &Policy) -> Vec<String> {
    let all = policy
        .forwards()
        .flat_map(|(door, forward): (&Door, &Forward)| {
            let targets = forward.to.iter();
            targets.flat_map(|target| door.ports.iter().map(|ports| passed_on(target, *ports)))
        });
    all.collect()
}

/// The match for a connection that was passed on from these ports.
fn passed_on(target: &Target, ports: PortRange) -> String {
    let daddr = Family::of(target.host).daddr();
    let port = match target.port {
        Some(port) => format!("{} dport {port}", ports.protocol()),
        None => dport(ports),
    };
    let before = format!("ct original proto-dst {}", ports.numbers('-'));
    format!("{daddr} {} {port} ct status dnat {before}", target.host)
}

/// A door's name has no `/`.
fn name(door: &Door, target: &Target) -> String {
    format!("forward-{}/{}", door.name, Family::of(target.host).digit())
}

fn word(family: Family) -> &'static str {
    match family {
        Family::V4 => "ip",
        Family::V6 => "ip6",
    }
}

fn protocol(target: &Target) -> &'static str {
    match Family::of(target.host) {
        Family::V4 => "ipv4",
        Family::V6 => "ipv6",
    }
}

fn dport(ports: PortRange) -> String {
    format!("{} dport {}", ports.protocol(), ports.numbers('-'))
}
