//! The doors: who may pass. Each is asked twice: before anything is translated, and again where a packet arrives.

use super::Plan;
use super::recent::{granted, known, masked, remove, seen, set, unknown};
use crate::knock::{Protocol, display_source};
use crate::policy::{Door, Name};
use crate::ruleset::Family;
use crate::ruleset::iptables::KEPT;
use crate::ruleset::iptables::names::{
    GrantList, admitted, chain, door_chain, guests, inner_chain,
};
use crate::ruleset::iptables::script::Table;

/// The seconds between a packet's way in and its arrival, at most.
const ON_ITS_WAY: u64 = 2;

/// The two places where a door is asked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// PREROUTING, of packets to the port that was knocked for.
    WayIn,
    /// INPUT, of packets that may have been translated to that port, or come to an address that PREROUTING does not
    /// know as ours.
    Arrival,
}

impl At {
    fn chain(self, door: &Name) -> String {
        match self {
            At::WayIn => door_chain(door),
            At::Arrival => inner_chain(door),
        }
    }

    fn shut(self) -> String {
        match self {
            At::WayIn => chain("shut"),
            At::Arrival => chain("inner-shut"),
        }
    }
}

impl Plan<'_> {
    pub(super) fn doors(&self, table: &mut Table, protocol: Protocol) {
        let mut any = false;
        for door in &self.policy.doors {
            if door.ports.iter().any(|port| port.protocol == protocol) {
                self.door(table, door, At::WayIn);
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

    pub(super) fn door(&self, table: &mut Table, door: &Door, at: At) {
        let ports: Vec<String> = door.ports.iter().map(|p| p.to_string()).collect();
        table.part(format!("Door {}: {}.", door.name, ports.join(", ")));
        let (from, shut) = (at.chain(&door.name), at.shut());
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
        if at == At::Arrival && (!once.is_empty() || kept.iter().any(|list| list.once)) {
            let admitted = admitted(self.family);
            let lately = seen(&admitted, ON_ITS_WAY);
            table.rule(&from, format!("{lately} {} -j RETURN", remove(&admitted)));
        }
        let prefix = self.family.prefix_of(self.policy.grant);
        let (kept, resized): (Vec<_>, Vec<_>) =
            kept.into_iter().partition(|list| list.prefix == prefix);
        for list in resized {
            table.rule(&from, kept_rule(list, at));
        }
        let nobody = unknown(&self.guests(&door.name));
        table.rule(&from, format!("{nobody} -g {shut}"));
        let (kept_once, kept): (Vec<_>, Vec<_>) = kept.into_iter().partition(|list| list.once);
        for list in kept {
            table.rule(&from, kept_rule(list, at));
        }
        for list in lasting {
            table.rule(&from, admits(list, at, ""));
        }
        for list in kept_once {
            table.rule(&from, kept_rule(list, at));
        }
        for list in once {
            table.rule(&from, admits(list, at, ""));
        }
        table.rule(&from, format!("-g {shut}"));
    }
}

/// The rule of a list that the policy itself does not make. It asks the list of all guests too, which
/// keeps that in the kernel.
pub fn kept_rule(list: &GrantList, at: At) -> String {
    let guests = guests(list.family, list.prefix, &list.door);
    let all = masked(guests, list.family, list.prefix);
    let admits = admits(list, at, &format!("-m comment --comment {KEPT} "));
    format!("{} {admits}", known(&all))
}

/// The rule that takes a source off such a list when a knock gives it a new grant.
pub fn kept_ends(list: &GrantList) -> String {
    format!("{} -m comment --comment {KEPT}", remove(&granted(list)))
}

/// Lets in a source that is on the list. If the list is for one connection, takes the source off it; the same packet
/// may then pass where it arrives.
fn admits(list: &GrantList, at: At, comment: &str) -> String {
    let name = granted(list);
    let seen = seen(&name, list.seconds);
    let (remove, passes) = (remove(&name), set(&admitted(list.family)));
    match (list.once, at) {
        (false, _) => format!("{seen} {comment}-j RETURN"),
        (true, At::WayIn) => format!("{seen} {remove} {passes} {comment}-j RETURN"),
        (true, At::Arrival) => format!("{seen} {remove} {comment}-j RETURN"),
    }
}
