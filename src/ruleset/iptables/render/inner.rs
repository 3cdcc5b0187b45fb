//! Packets about to be delivered to this host, whichever way they came: table mangle, chain INPUT.

use super::Plan;
use super::ports::{Tree, dispatch};
use crate::knock::Protocol;
use crate::policy::Interfaces;
use crate::ruleset::Family;
use crate::ruleset::iptables::hook::Hook;
use crate::ruleset::iptables::names::chain;
use crate::ruleset::iptables::script::Table;

impl Plan<'_> {
    pub(super) fn inner(&self, table: &mut Table) {
        let hook = Hook::Input;
        table.jumps.push((hook.built_in(), hook.first_chain()));
        if self.family == Family::V6 {
            self.headers(table);
        }
        self.doors_again(table);
    }

    /// The doors at mangle INPUT. Every first packet to a door's port comes here: one that PREROUTING has asked, one
    /// whose port was translated since, and one to an address that is local in another table of routes.
    fn doors_again(&self, table: &mut Table) {
        let from = Hook::Input.first_chain();
        table.part(
            "Every first packet to a door's port meets the door again here: PREROUTING may have seen another port, \
             or not have known that the address is local.",
        );
        let kinds = [
            (Protocol::Tcp, "-p tcp --syn"),
            (
                Protocol::Udp,
                "-p udp -m conntrack ! --ctstate ESTABLISHED,RELATED",
            ),
        ];
        for (protocol, first) in kinds {
            let doors = self.policy.doors.iter().flat_map(|door| {
                let ports = door.ports.iter();
                ports.map(|&port| (port, format!("-g {}", Hook::Input.door_chain(&door.name))))
            });
            let mut doors: Vec<_> = doors
                .filter(|(ports, _)| ports.protocol() == protocol)
                .collect();
            if doors.is_empty() {
                continue;
            }
            doors.sort();
            let tree = Tree {
                protocol,
                name: Hook::Input.ports(protocol),
                other: None,
            };
            for interface in self.guarded() {
                let ports = chain(&tree.name);
                table.rule(&from, format!("{interface} {first} -g {ports}"));
            }
            dispatch(table, &tree, &chain(&tree.name), &doors);
        }
        for door in &self.policy.doors {
            self.door(table, door, Hook::Input);
        }
        table.part("A door without a grant.");
        table.rule(&Hook::Input.shut_chain(), "-j DROP");
    }

    /// Once a fragment has been put together, nothing shows that it was one, and the stack may read what
    /// follows these headers differently. (The nftables backend looks before fragments are put together;
    /// there is no table of iptables there.)
    fn headers(&self, table: &mut Table) {
        let from = Hook::Input.first_chain();
        table.part("Headers behind which the stack may find another packet than this firewall.");
        for interface in self.judged() {
            for header in ["dst", "route"] {
                table.rule(
                    &from,
                    format!("{interface} -m ipv6header --soft --header {header} -j DROP"),
                );
            }
        }
    }

    /// The matches for packets that these rules judge: on all interfaces with `[firewall]`.
    fn judged(&self) -> Vec<String> {
        match self.policy.firewall {
            Some(_) => super::way_in::guarded(&Interfaces::AllButLoopback),
            None => self.guarded(),
        }
    }
}
