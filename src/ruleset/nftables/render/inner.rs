//! The doors at the input hook, for what has come past prerouting: to an address that `fib` does not know as
//! local, to a port that was translated to that of a door, out of a tunnel that calls no prerouting.

use std::collections::BTreeSet;

use super::chains::{NO_SYN, SYN_IN_A_HEADER, guarded};
use super::{headers, once, ranges};
use crate::knock::{PortRange, Protocol};
use crate::policy::Policy;
use crate::ruleset::nftables::RANGES;
use crate::ruleset::nftables::SetId::{Heard, Ports};
use crate::ruleset::nftables::script::{Base, Chain};

/// So many comparisons cost a packet less than one look-up.
const FEW_PORTS: usize = 3;

pub(super) fn incoming(policy: &Policy) -> Chain {
    let mut chain = Chain::new(
        "incoming",
        &[
            "The doors once more, whatever way a packet has come: to an address that was not known as",
            "local, or to a port that was translated to that of a door.",
        ],
    )
    .base(Base::Input);
    let arriving = guarded(&policy.interfaces);
    headers::asked(&mut chain);
    once::begun_at(&mut chain, policy);
    let ports = tcp_ports(policy);
    let few = ports.len() <= FEW_PORTS;
    if !few || policy.has_once() {
        chain.rule(format!("{NO_SYN} accept"));
    }
    once::passed_before(&mut chain, policy);
    let door = format!("meta l4proto . th dport vmap @{Ports}");
    if few {
        for port in ports {
            chain.rule(format!(
                "tcp dport {port} {SYN_IN_A_HEADER} {arriving} {door}"
            ));
        }
    } else {
        chain.rule(format!(
            "tcp dport @{Heard} {SYN_IN_A_HEADER} {arriving} {door}"
        ));
    }
    for ports in ranges::matches(policy.guarded(), Some(Protocol::Tcp)) {
        chain.rule(format!(
            "{ports} {SYN_IN_A_HEADER} {arriving} jump {RANGES}"
        ));
    }
    let new = "meta l4proto udp ct state != { established, related }";
    if policy
        .guarded()
        .any(|ports| ports.protocol() == Protocol::Udp)
    {
        chain.rule(format!("{new} {arriving} {door}"));
    }
    if ranges::has(policy, Some(Protocol::Udp)) {
        chain.rule(format!("{new} {arriving} jump {RANGES}"));
    }
    chain
}

/// The TCP ports of all doors, without those in ranges.
fn tcp_ports(policy: &Policy) -> BTreeSet<u16> {
    let single = policy.guarded().filter_map(PortRange::only);
    let tcp = single.filter(|port| port.protocol == Protocol::Tcp);
    tcp.map(|port| port.port.get()).collect()
}
