//! The first rules: which packets are knocks, and the dispatch by port.

use super::Plan;
use super::ports::{Tree, dispatch};
use crate::knock::{PortRange, Protocol};
use crate::policy::Interfaces;
use crate::ruleset::Family;
use crate::ruleset::iptables::hook::Hook;
use crate::ruleset::iptables::names::{self, CHAIN, chain};
use crate::ruleset::iptables::script::Table;

/// True of each TCP packet but a later fragment. (`-p tcp --syn` is made of nftables' own expressions by iptables-nft, and these
/// read the data of a fragment as a header.)
const NO_LATER_FRAGMENT: &str = "-m multiport --dports 0:65535";

impl Plan<'_> {
    pub(super) fn way_in(&self, table: &mut Table, protocol: Protocol) {
        let hook = Hook::Prerouting;
        table.jumps.push((hook.built_in(), hook.first_chain()));
        match protocol {
            Protocol::Tcp => self.way_in_tcp(table),
            Protocol::Udp => self.way_in_udp(table),
        }
        table.part("Which port? What is not here is a wrong knock.");
        let doors = self.policy.doors.iter().flat_map(|door| {
            let ports = door.ports.iter();
            ports.map(|&port| (port, format!("-g {}", hook.door_chain(&door.name))))
        });
        let ignored = self.policy.ignore.iter();
        let ignored = ignored.map(|&port| {
            (
                port.into(),
                "-m comment --comment ignored -j RETURN".to_string(),
            )
        });
        let knocks = self.knocks(protocol).into_iter();
        let knocks = knocks.map(|(knock, _)| {
            (
                PortRange::from(knock),
                format!("-g {}", names::port_chain(knock)),
            )
        });
        let mut targets: Vec<_> = doors.chain(ignored).chain(knocks).collect();
        targets.retain(|(ports, _)| ports.protocol() == protocol);
        targets.sort();
        let tree = Tree {
            protocol,
            name: hook.ports(protocol),
            other: Some(chain("wrong")),
        };
        dispatch(table, &tree, &chain("ports"), &targets);
    }

    fn way_in_tcp(&self, table: &mut Table) {
        table.note(
            "First packets of TCP connections to this host, before connection tracking and translation. \
             All other TCP returns right away. Where iptables is a face of nftables, later fragments are taken \
             for SYNs when their data look so; multiport passes over them.",
        );
        table.rule(CHAIN, "-p tcp ! --syn -j RETURN");
        let ports = chain("ports");
        for interface in self.guarded() {
            table.rule(
                CHAIN,
                format!(
                    "{interface} -p tcp --syn {NO_LATER_FRAGMENT} -m addrtype --dst-type LOCAL -g {ports}"
                ),
            );
        }
        table.rule(CHAIN, "-p tcp --syn -j RETURN");
        table.note(
            "A first fragment too short to hold the flags would be put together behind our back.",
        );
        let first = match self.family {
            Family::V4 => "! -f -p tcp",
            Family::V6 => {
                table.rule(CHAIN, "-m frag --fragfirst --fragmore ! -p tcp -j RETURN");
                "-m frag --fragfirst --fragmore"
            }
        };
        for interface in self.guarded() {
            table.rule(
                CHAIN,
                format!("{interface} {first} -m addrtype --dst-type LOCAL -j DROP"),
            );
        }
        table.note("These match nothing. The kernel finds a list by going through all in the order they were");
        table.note("made; the ones that are asked most are made here.");
        for rule in self.early() {
            table.rule(CHAIN, format!("-p tcp {rule}"));
        }
    }

    fn way_in_udp(&self, table: &mut Table) {
        table.note("UDP datagrams to this host that belong to no established flow.");
        let new = "-p udp -m conntrack ! --ctstate ESTABLISHED,RELATED";
        let ports = chain("ports");
        for interface in self.guarded() {
            table.rule(
                CHAIN,
                format!("{interface} {new} -m addrtype --dst-type LOCAL -g {ports}"),
            );
        }
        let udp_doors: Vec<_> = self
            .policy
            .doors
            .iter()
            .flat_map(|door| door.ports.iter().map(move |port| (port, door)))
            .filter(|(ports, _)| ports.protocol() == Protocol::Udp)
            .collect();
        if udp_doors.is_empty() {
            return;
        }
        table.note("To a whole network: no knock, but a service behind a door would hear it.");
        let wide = match self.family {
            Family::V4 => &["BROADCAST", "MULTICAST", "ANYCAST"][..],
            Family::V6 => &["MULTICAST", "ANYCAST"],
        };
        for interface in self.guarded() {
            for kind in wide {
                table.rule(
                    CHAIN,
                    format!(
                        "{interface} {new} -m addrtype --dst-type {kind} -g {}",
                        chain("wide")
                    ),
                );
            }
        }
        for (ports, door) in udp_doors {
            let door = Hook::Prerouting.door_chain(&door.name);
            table.rule(
                &chain("wide"),
                format!("-p udp --dport {} -g {door}", ports.numbers(':')),
            );
        }
    }

    /// The matches for "arrives on a guarded interface", one for each rule.
    pub(super) fn guarded(&self) -> Vec<String> {
        guarded(&self.policy.interfaces)
    }
}

/// The matches for "arrives on one of these", one for each rule.
pub(super) fn guarded(interfaces: &Interfaces) -> Vec<String> {
    match interfaces {
        Interfaces::AllButLoopback => vec!["! -i lo".to_string()],
        Interfaces::Only(names) => names.iter().map(|name| format!("-i {name}")).collect(),
    }
}
