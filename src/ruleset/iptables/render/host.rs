//! `[firewall]`: what else may come in. A packet for a door has passed it before.

use super::Plan;
use crate::knock::{PortRange, Protocol, display_source};
use crate::policy::{Allowance, HostFirewall, Portless};
use crate::ruleset::Family;
use crate::ruleset::iptables::DOOR;
use crate::ruleset::iptables::names::{chain, midway};
use crate::ruleset::iptables::script::Table;

/// As many ports as `-m multiport` takes. A range counts as two.
const PORTS: usize = 15;

impl Plan<'_> {
    pub(super) fn host(&self, firewall: &HostFirewall) -> Table {
        let mut table = Table::new("filter");
        let (from, pass) = (chain("incoming"), "-j RETURN");
        table.jumps.push(("INPUT", from.clone()));
        table.note("The host's firewall: what does not return from here is dropped. Packets that return go on to");
        table.note("the other rules of this table, which may still drop them.");
        table.rule(
            &from,
            format!("-m conntrack --ctstate ESTABLISHED,RELATED {pass}"),
        );
        table.rule(&from, format!("-i lo {pass}"));
        table.note("Sessions from before the kernel tracked connections: those have a socket.");
        table.rule(&from, format!("-p tcp ! --syn -m socket {pass}"));
        match self.family {
            Family::V4 => {
                table.rule(&from, format!("-f {pass}"));
                for error in [
                    "destination-unreachable",
                    "time-exceeded",
                    "parameter-problem",
                ] {
                    table.rule(&from, format!("-p icmp --icmp-type {error} {pass}"));
                }
                if firewall.ping {
                    table.rule(&from, format!("-p icmp --icmp-type echo-request {pass}"));
                }
            }
            Family::V6 => {
                table.note(
                    "IPv6 cannot do without its neighbours, its routers and its errors (RFC 4890).",
                );
                for neighbour in 133..=137 {
                    let kind = format!("-p ipv6-icmp --icmpv6-type {neighbour}");
                    table.rule(&from, format!("{kind} -m hl --hl-eq 255 {pass}"));
                }
                for group in [130, 131, 132, 143] {
                    table.rule(
                        &from,
                        format!("-s fe80::/10 -p ipv6-icmp --icmpv6-type {group} {pass}"),
                    );
                }
                for error in 1..=4 {
                    table.rule(&from, format!("-p ipv6-icmp --icmpv6-type {error} {pass}"));
                }
                if firewall.ping {
                    table.rule(&from, format!("-p ipv6-icmp --icmpv6-type 128 {pass}"));
                }
                table.note("DHCPv6.");
                table.rule(
                    &from,
                    format!("-s fe80::/10 -p udp --sport 547 --dport 546 {pass}"),
                );
            }
        }
        table.note("A new connection that reaches this rule has passed its door.");
        for interface in self.guarded() {
            let doors = self.policy.doors.iter();
            for ports in doors.flat_map(|door| ports(&door.ports)) {
                let syn = if ports.starts_with("-p tcp") {
                    " --syn"
                } else {
                    ""
                };
                let ports = ports.replacen("-p tcp", &format!("-p tcp{syn}"), 1);
                let door = format!("-m comment --comment {DOOR}");
                table.rule(&from, format!("{interface} {ports} {door} {pass}"));
            }
        }
        let all = ports(&firewall.allow);
        for what in all.into_iter().chain(self.protocols(&firewall.protocols)) {
            table.rule(&from, format!("{what} -m comment --comment allow {pass}"));
        }
        for allowance in &firewall.partly {
            let all = ports(&allowance.ports).into_iter();
            for what in all.chain(self.protocols(&allowance.protocols)) {
                for place in self.places(allowance) {
                    let comment = "-m comment --comment allow";
                    table.rule(&from, format!("{place}{what} {comment} {pass}"));
                }
            }
        }
        table.rule(&from, "-j DROP");
        table.note("While this chain is there, so is a list by which we are known.");
        table.rule(
            &from,
            format!("-m recent --name {} --rcheck", midway(self.family)),
        );
        if firewall.drop_forwarded {
            let from = chain("forwarded");
            table.part("Packets on their way to other hosts.");
            table.jumps.push(("FORWARD", from.clone()));
            table.rule(&from, "-j DROP");
        }
        table
    }
}

impl Plan<'_> {
    /// Matches for the protocols that this family has.
    fn protocols(&self, protocols: &[Portless]) -> Vec<String> {
        let other = match self.family {
            Family::V4 => "icmpv6",
            Family::V6 => "icmp",
        };
        let protocols = protocols.iter().filter(|protocol| protocol.name != other);
        protocols
            .map(|protocol| format!("-p {}", protocol.number))
            .collect()
    }

    /// Matches for the interfaces and sources of an allowance, one for each rule.
    fn places(&self, allowance: &Allowance) -> Vec<String> {
        let interfaces: Vec<String> = match allowance.interfaces.as_slice() {
            [] => vec![String::new()],
            names => names.iter().map(|name| format!("-i {name} ")).collect(),
        };
        let own = allowance.from.iter();
        let own = own.filter(|network| Family::of(network.addr()) == self.family);
        let sources: Vec<String> = match allowance.from.is_empty() {
            true => vec![String::new()],
            false => own
                .map(|network| format!("-s {} ", display_source(network)))
                .collect(),
        };
        let both = interfaces.iter().flat_map(|interface| {
            sources
                .iter()
                .map(move |source| format!("{interface}{source}"))
        });
        both.collect()
    }
}

/// Matches for these ports, as few as there can be.
fn ports(ports: &[PortRange]) -> Vec<String> {
    let mut matches = Vec::new();
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        let mut some: Vec<String> = Vec::new();
        let mut room = PORTS;
        for ports in ports.iter().filter(|ports| ports.protocol() == protocol) {
            let needed = if ports.is_several() { 2 } else { 1 };
            if needed > room {
                matches.push(multiport(protocol, &some));
                (some, room) = (Vec::new(), PORTS);
            }
            some.push(ports.numbers(':'));
            room -= needed;
        }
        if !some.is_empty() {
            matches.push(multiport(protocol, &some));
        }
    }
    matches
}

fn multiport(protocol: Protocol, ports: &[String]) -> String {
    format!("-p {protocol} -m multiport --dports {}", ports.join(","))
}
