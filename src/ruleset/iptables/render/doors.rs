//! The doors: who may pass.

use super::Plan;
use super::recent::{granted, known, masked, remove, seen};
use crate::knock::{Protocol, display_source};
use crate::policy::Door;
use crate::ruleset::Family;
use crate::ruleset::iptables::KEPT;
use crate::ruleset::iptables::names::{GrantList, chain, door_chain, guests};
use crate::ruleset::iptables::script::Table;

impl Plan<'_> {
    pub(super) fn doors(&self, table: &mut Table, protocol: Protocol) {
        let mut any = false;
        for door in &self.policy.doors {
            if door.ports.iter().any(|port| port.protocol == protocol) {
                self.door(table, door);
                any = true;
            }
        }
        if any {
            table.part("A door without a grant: a knock that leads nowhere.");
            let shut = chain("shut");
            table.rule(
                &shut,
                format!("{} -j {}", known(&self.midway()), chain("forget")),
            );
            table.rule(&shut, "-j DROP");
        }
    }

    fn door(&self, table: &mut Table, door: &Door) {
        let ports: Vec<String> = door.ports.iter().map(|p| p.to_string()).collect();
        table.part(format!("Door {}: {}.", door.name, ports.join(", ")));
        let from = door_chain(&door.name);
        for network in &door.trust {
            if Family::of(network.addr()) == self.family {
                let network = display_source(network);
                table.rule(
                    &from,
                    format!("-s {network} -m comment --comment trust -j RETURN"),
                );
            }
        }
        let kept = self.kept.iter().copied();
        let kept = kept.filter(|list| list.door == door.name);
        let prefix = self.family.prefix_of(self.policy.grant);
        let (kept, resized): (Vec<_>, Vec<_>) = kept.partition(|list| list.prefix == prefix);
        for list in resized {
            table.rule(&from, kept_rule(list));
        }
        let nobody = known(&self.guests(&door.name)).replace("--rcheck", "! --rcheck");
        table.rule(&from, format!("{nobody} -g {}", chain("shut")));
        let own = self.own.iter().filter(|list| list.door == door.name);
        let (once, lasting): (Vec<_>, Vec<_>) = own.partition(|list| list.once);
        let (kept_once, kept): (Vec<_>, Vec<_>) = kept.into_iter().partition(|list| list.once);
        for list in kept {
            table.rule(&from, kept_rule(list));
        }
        for list in lasting {
            table.rule(&from, admits(list, ""));
        }
        for list in kept_once {
            table.rule(&from, kept_rule(list));
        }
        for list in once {
            table.rule(&from, admits(list, ""));
        }
        table.rule(&from, format!("-g {}", chain("shut")));
    }
}

/// The rule of a list that the policy itself does not make. It asks the list of all guests too, which
/// keeps that in the kernel.
pub fn kept_rule(list: &GrantList) -> String {
    let guests = guests(list.family, list.prefix, &list.door);
    let all = masked(guests, list.family, list.prefix);
    let admits = admits(list, &format!("-m comment --comment {KEPT} "));
    format!("{} {admits}", known(&all))
}

/// The rule that takes a source off such a list when a knock gives it a new grant.
pub fn kept_ends(list: &GrantList) -> String {
    format!("{} -m comment --comment {KEPT}", remove(&granted(list)))
}

/// Who is on the list may pass; where it is for one connection, is on it no more.
fn admits(list: &GrantList, comment: &str) -> String {
    let name = granted(list);
    let seen = seen(&name, list.seconds);
    match list.once {
        false => format!("{seen} {comment}-j RETURN"),
        true => format!("{seen} {} {comment}-j RETURN", remove(&name)),
    }
}
