//! Grants for one connection.
//!
//! The first packet uses up the grant and is remembered by its flow (`admitted4/6`): it may be lost and come
//! again. It comes again three times at most, and not at all once the connection has begun, which any packet of the
//! flow but a SYN shows. A packet that its door has let in at prerouting gets a pass (`passed4/6`) that it
//! gives up at the input hook, where doors are asked once more.

use std::collections::BTreeSet;

use super::chains::{IN_A_HEADER, NO_SYN, NO_SYN_IN_A_HEADER, guarded};
use super::{ranges, source};
use crate::knock::{PortRange, Protocol};
use crate::policy::Policy;
use crate::ruleset::Family;
use crate::ruleset::nftables::SetId;
use crate::ruleset::nftables::script::Chain;

/// The time in which a connection that used up its grant may repeat its first packet: the third repeat of
/// a SYN comes after 7 s (RFC 6298, 1 s doubled each time).
const ADMITTED: &str = "10s";

/// The limit on repeats of a first packet.
const REPEATS: &str = "limit rate 1/hour burst 3 packets";

/// The rules of a door, where `meta priority` is the door. Of two packets at the same moment only one gets the claim.
pub(super) fn grants(chain: &mut Chain, policy: &Policy) {
    chain.note("Grants for one connection: the first packet, again; or the first to claim it.");
    for family in Family::BOTH {
        let (flow, admitted) = (flow(family), SetId::Admitted.of_family(family));
        chain.rule(format!("{flow} @{admitted} goto again"));
    }
    for family in Family::BOTH {
        let prefix = family.prefix_of(policy.grant);
        let grant = format!("{} . meta priority", source(policy.grant, family));
        let once = SetId::Once.of_network(family, prefix);
        let claim = SetId::Claim.of_family(family);
        chain.rule(format!(
            "{grant} @{once} update @{claim} {{ {grant} limit rate 1/hour burst 1 packets }} \
             delete @{once} {{ {grant} }} goto admit"
        ));
    }
}

/// The chains that all doors share.
pub(super) fn chains() -> Vec<Chain> {
    let mut again = Chain::new(
        "again",
        &["The first packet of a connection, again: three times at most."],
    );
    again.note("A flow of UDP is the same flow until its first answer.");
    again.rule("meta l4proto udp goto pass");
    for family in Family::BOTH {
        let (flow, repeats) = (flow(family), SetId::Repeats.of_family(family));
        again.rule(format!("add @{repeats} {{ {flow} {REPEATS} }} goto pass"));
    }
    again.rule("goto shut");

    let mut admit = Chain::new(
        "admit",
        &["The first packet of the one connection: remembered, in case it has to come again."],
    );
    for family in Family::BOTH {
        let (flow, admitted) = (flow(family), SetId::Admitted.of_family(family));
        let repeats = SetId::Repeats.of_family(family);
        admit.rule(format!(
            "update @{admitted} {{ {flow} timeout {ADMITTED} }} delete @{repeats} {{ {flow} }}"
        ));
    }
    admit.rule("goto pass");

    let mut pass = Chain::new(
        "pass",
        &["Let in by a grant for one connection: the input hook asks no more."],
    );
    for family in Family::BOTH {
        let (flow, passed) = (flow(family), SetId::Passed.of_family(family));
        pass.rule(format!("update @{passed} {{ {flow} }}"));
    }
    pass.rule("goto leave");

    let mut begun = Chain::new(
        "begun",
        &["The connection has begun, or was given up: its first packet comes no more."],
    );
    for family in Family::BOTH {
        let (flow, admitted, passed) = (
            flow(family),
            SetId::Admitted.of_family(family),
            SetId::Passed.of_family(family),
        );
        begun.rule(format!(
            "delete @{admitted} {{ {flow} }} delete @{passed} {{ {flow} }}"
        ));
    }
    vec![again, admit, pass, begun]
}

/// The rule that takes notice of connections that have begun.
pub(super) fn begun_at(chain: &mut Chain, policy: &Policy) {
    let ports = ports(policy);
    let single: Vec<String> = ports
        .iter()
        .filter_map(|ports| ports.only())
        .map(|port| port.port.to_string())
        .collect();
    if !single.is_empty() {
        let ports = single.join(", ");
        chain.rule(format!(
            "{NO_SYN} tcp dport {{ {ports} }} {NO_SYN_IN_A_HEADER} jump begun"
        ));
    }
    for ports in ranges::matches(ports, None) {
        chain.rule(format!("{NO_SYN} {ports} {NO_SYN_IN_A_HEADER} jump begun"));
    }
}

/// The rules that let in a packet which its door has let in before.
pub(super) fn passed_before(chain: &mut Chain, policy: &Policy) {
    if policy.has_once() {
        let arriving = guarded(&policy.interfaces);
        for family in Family::BOTH {
            let (flow, passed) = (flow(family), SetId::Passed.of_family(family));
            chain.rule(format!(
                "{arriving} {IN_A_HEADER} {flow} @{passed} delete @{passed} {{ {flow} }} accept"
            ));
        }
    }
}

/// The TCP ports of all doors that a grant for one connection may be for.
fn ports(policy: &Policy) -> BTreeSet<PortRange> {
    let keys = policy.keys.iter().filter(|key| key.once);
    let doors = keys.flat_map(|key| &key.opens);
    let doors = doors.map(|opening| policy.door(opening.door));
    let ports = doors.flat_map(|door| &door.ports);
    let tcp = |ports: &&PortRange| ports.protocol() == Protocol::Tcp;
    ports.filter(tcp).copied().collect()
}

/// Both ends of a connection.
pub(super) fn flow(family: Family) -> String {
    let (saddr, daddr) = (family.saddr(), family.daddr());
    format!("{saddr} . {daddr} . meta l4proto . th sport . th dport")
}
