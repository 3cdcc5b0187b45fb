//! The doors: which sources may pass. Each is asked twice, at both [hooks](Hook).

use super::Plan;
use super::recent::{absent, granted, masked, present, remove, seen, set};
use crate::knock::{Protocol, display_source};
use crate::policy::Door;
use crate::ruleset::Family;
use crate::ruleset::iptables::KEPT;
use crate::ruleset::iptables::hook::Hook;
use crate::ruleset::iptables::names::{GrantList, admitted, chain, guests};
use crate::ruleset::iptables::script::Table;

/// Seconds an admitted packet may take from PREROUTING to mangle INPUT.
const ON_ITS_WAY: u64 = 2;

impl Plan<'_> {
    pub(super) fn doors(&self, table: &mut Table, protocol: Protocol) {
        let mut any = false;
        for door in &self.policy.doors {
            if door.ports.iter().any(|port| port.protocol() == protocol) {
                self.door(table, door, Hook::Prerouting);
                any = true;
            }
        }
        if any {
            table.part("A door without a grant: a knock that leads nowhere.");
            let shut = Hook::Prerouting.shut_chain();
            table.rule(
                &shut,
                format!("{} -j {}", present(&self.midway()), chain("forget")),
            );
            table.rule(&shut, "-j DROP");
        }
    }

    pub(super) fn door(&self, table: &mut Table, door: &Door, hook: Hook) {
        let ports: Vec<String> = door.ports.iter().map(|p| p.to_string()).collect();
        table.part(format!("Door {}: {}.", door.name, ports.join(", ")));
        let (from, shut) = (hook.door_chain(&door.name), hook.shut_chain());
        for network in &door.trust {
            if Family::of(network.addr()) == self.family {
                let network = display_source(network);
                table.rule(
                    &from,
                    format!("-s {network} -m comment --comment trust -j RETURN"),
                );
            }
        }
        let own = self.own.iter().filter(|list| list.door == door.name);
        let (once, lasting): (Vec<_>, Vec<_>) = own.partition(|list| list.once);
        let kept = self.kept.iter().copied();
        let kept: Vec<_> = kept.filter(|list| list.door == door.name).collect();
        if hook == Hook::Input && (!once.is_empty() || kept.iter().any(|list| list.once)) {
            let admitted = admitted(self.family, &door.name);
            let lately = seen(&admitted, ON_ITS_WAY);
            table.rule(&from, format!("{lately} {} -j RETURN", remove(&admitted)));
        }
        let prefix = self.family.prefix_of(self.policy.grant);
        let (kept, resized): (Vec<_>, Vec<_>) =
            kept.into_iter().partition(|list| list.prefix == prefix);
        for list in resized {
            table.rule(&from, kept_rule(list, hook));
        }
        let nobody = absent(&self.guests(&door.name));
        table.rule(&from, format!("{nobody} -g {shut}"));
        let (kept_once, kept): (Vec<_>, Vec<_>) = kept.into_iter().partition(|list| list.once);
        for list in kept {
            table.rule(&from, kept_rule(list, hook));
        }
        for list in lasting {
            table.rule(&from, admits(list, hook, ""));
        }
        for list in kept_once {
            table.rule(&from, kept_rule(list, hook));
        }
        for list in once {
            table.rule(&from, admits(list, hook, ""));
        }
        table.rule(&from, format!("-g {shut}"));
    }
}

/// The rule of a list that the policy itself does not make. It asks the list of all guests too, which
/// keeps that in the kernel.
pub fn kept_rule(list: &GrantList, hook: Hook) -> String {
    let guests = guests(list.family, list.prefix, &list.door);
    let all = masked(guests, list.family, list.prefix);
    let admits = admits(list, hook, &format!("-m comment --comment {KEPT} "));
    format!("{} {admits}", present(&all))
}

/// The rule that takes a source off such a list when a knock gives it a new grant.
pub fn kept_ends(list: &GrantList) -> String {
    format!("{} -m comment --comment {KEPT}", remove(&granted(list)))
}

/// Lets in a source that is on the list. If the list is for one connection, takes the source off it; the same packet
/// may then pass at INPUT.
fn admits(list: &GrantList, hook: Hook, comment: &str) -> String {
    let name = granted(list);
    let seen = seen(&name, list.seconds);
    let (remove, passes) = (remove(&name), set(&admitted(list.family, &list.door)));
    match (list.once, hook) {
        (false, _) => format!("{seen} {comment}-j RETURN"),
        (true, Hook::Prerouting) => format!("{seen} {remove} {passes} {comment}-j RETURN"),
        (true, Hook::Input) => format!("{seen} {remove} {comment}-j RETURN"),
    }
}
