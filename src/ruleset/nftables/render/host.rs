//! `[firewall]`: what else may come in, besides those who pass a door.

use super::chains::{LOOPBACK, NO_SYN, SYN, guarded};
use super::{headers, once, ranges};
use crate::knock::{PortRange, Protocol, display_source};
use crate::policy::{Allowance, HostFirewall, Interfaces, Policy, Portless};
use crate::ruleset::Family;
use crate::ruleset::nftables::door_chain;
use crate::ruleset::nftables::script::{Base, Chain};

pub(super) fn incoming(policy: &Policy, firewall: &HostFirewall) -> Chain {
    let mut chain = Chain::new(
        "incoming",
        &[
            "The host's firewall: what is not accepted here is dropped. Accepted packets may still be",
            "dropped by another table.",
        ],
    )
    .base(Base::Input);
    headers::asked(&mut chain);
    once::begun_at(&mut chain, policy);
    chain.rule("ct state { established, related } accept");
    chain.rule(format!("iif {LOOPBACK} accept"));
    chain.note("Sessions from before the kernel tracked connections: those have a socket.");
    chain.rule(format!("{NO_SYN} socket wildcard 0 accept"));
    chain.rule("ip frag-off & 0x1fff != 0 accept");
    chain.note("IPv6 cannot do without its neighbours, its routers and its errors (RFC 4890).");
    chain.rule(
        "ip6 hoplimit 255 icmpv6 type { nd-router-solicit, nd-router-advert, nd-neighbor-solicit, \
         nd-neighbor-advert, nd-redirect } accept",
    );
    chain.rule(
        "ip6 saddr fe80::/10 icmpv6 type { mld-listener-query, mld-listener-report, \
         mld-listener-done, mld2-listener-report } accept",
    );
    chain.rule(
        "icmpv6 type { destination-unreachable, packet-too-big, time-exceeded, parameter-problem } \
         accept",
    );
    chain.rule("ip6 saddr fe80::/10 udp sport 547 udp dport 546 accept comment \"DHCPv6\"");
    chain.rule("icmp type { destination-unreachable, time-exceeded, parameter-problem } accept");
    if firewall.ping {
        chain.rule("icmp type echo-request accept");
        chain.rule("icmpv6 type echo-request accept");
    }
    chain.note(
        "The doors once more, whatever way a packet has come: to an address that was not known as",
    );
    chain.note("local, to a port that was translated, or while the rules changed.");
    once::passed_before(&mut chain, policy);
    let here = guarded(&policy.interfaces);
    for door in policy.doors_here() {
        let (tcp, udp) = split(&door.ports);
        let name = door_chain(&door.name);
        if !tcp.is_empty() {
            chain.rule(format!("{here} {SYN} tcp dport {{ {tcp} }} goto {name}"));
        }
        if !udp.is_empty() {
            chain.rule(format!("{here} udp dport {{ {udp} }} goto {name}"));
        }
        for ports in ranges::matches(door.ports.iter().copied(), Some(Protocol::Tcp)) {
            chain.rule(format!("{here} {SYN} {ports} goto {name}"));
        }
        for ports in ranges::matches(door.ports.iter().copied(), Some(Protocol::Udp)) {
            chain.rule(format!("{here} {ports} goto {name}"));
        }
    }
    for what in traffic(&firewall.allow, &firewall.protocols) {
        chain.rule(format!("{what} accept comment \"allow\""));
    }
    for allowance in &firewall.partly {
        for what in traffic(&allowance.ports, &allowance.protocols) {
            for place in places(allowance) {
                chain.rule(format!("{place}{what} accept comment \"allow\""));
            }
        }
    }
    if let Some(door) = policy.every_port() {
        chain.note("The rest, for those who may come to every port.");
        let name = door_chain(&policy.door(door).name);
        chain.rule(format!("{here} jump {name}"));
    }
    chain.rule("drop");
    chain
}

/// Matches for ports and protocols.
fn traffic(ports: &[PortRange], protocols: &[Portless]) -> Vec<String> {
    let mut matches = Vec::new();
    let (tcp, udp) = split(ports);
    if !tcp.is_empty() {
        matches.push(format!("tcp dport {{ {tcp} }}"));
    }
    if !udp.is_empty() {
        matches.push(format!("udp dport {{ {udp} }}"));
    }
    matches.extend(ranges::matches(ports.iter().copied(), None));
    let protocols = protocols.iter();
    matches.extend(protocols.map(|protocol| format!("meta l4proto {}", protocol.number)));
    matches
}

/// Matches for the interfaces and sources of an allowance, one for each rule. (A set of networks may miss its own for a
/// moment; see [`ranges`].)
fn places(allowance: &Allowance) -> Vec<String> {
    let interfaces = match allowance.interfaces.as_slice() {
        [] => String::new(),
        names => format!("{} ", guarded(&Interfaces::Only(names.to_vec()))),
    };
    if allowance.from.is_empty() {
        return vec![interfaces];
    }
    let networks = allowance.from.iter().map(|network| {
        let saddr = Family::of(network.addr()).saddr();
        format!("{interfaces}{saddr} {} ", display_source(network))
    });
    networks.collect()
}

/// The TCP and the UDP ports, each as the inside of a set. Ranges are left out.
fn split<'k>(ports: impl IntoIterator<Item = &'k PortRange>) -> (String, String) {
    let (mut tcp, mut udp) = (Vec::new(), Vec::new());
    for port in ports.into_iter().filter_map(|ports| ports.only()) {
        match port.protocol {
            Protocol::Tcp => tcp.push(port.port.to_string()),
            Protocol::Udp => udp.push(port.port.to_string()),
        }
    }
    (tcp.join(", "), udp.join(", "))
}
