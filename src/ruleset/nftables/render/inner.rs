//! The doors at the input hook, for what has come past prerouting: to an address that `fib` does not know as
//! local, to a port that was translated to that of a door, out of a tunnel that calls no prerouting.

use super::chains::{NO_SYN, guarded};
use super::{headers, once};
use crate::knock::Protocol;
use crate::policy::Policy;
use crate::ruleset::nftables::SetId::{Heard, Ports};
use crate::ruleset::nftables::script::{Base, Chain};

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
    chain.rule(format!("{NO_SYN} accept"));
    once::passed_before(&mut chain, policy);
    let door = format!("meta l4proto . th dport vmap @{Ports}");
    chain.rule(format!("tcp dport @{Heard} {arriving} {door}"));
    let ports = policy.doors.iter().flat_map(|door| &door.ports);
    if ports.into_iter().any(|port| port.protocol == Protocol::Udp) {
        chain.rule(format!(
            "meta l4proto udp ct state != {{ established, related }} {arriving} {door}"
        ));
    }
    chain
}
