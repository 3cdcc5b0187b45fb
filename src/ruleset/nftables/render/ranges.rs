//! Ports in a row. Each range is matched by a rule of its own, not by an element of a set. A set with intervals may miss its
//! own elements for a moment after a transaction, and a door would let a packet through. A rule never does.

use crate::knock::{PortRange, Protocol};
use crate::policy::Policy;
use crate::ruleset::nftables::script::Chain;
use crate::ruleset::nftables::{RANGES, door_chain};

/// The chain that sends a packet to the door with a range that its port is in. Other packets return from it. `None` where
/// no door has a range.
pub(super) fn ranges(policy: &Policy) -> Option<Chain> {
    let mut chain = Chain::new(RANGES, &["Doors with ports in a row."]);
    for door in policy.doors_here() {
        let target = door_chain(&door.name);
        for ports in matches(door.ports.iter().copied(), None) {
            chain.rule(format!("{ports} goto {target}"));
        }
    }
    has(policy, None).then_some(chain)
}

/// A match for each range of a protocol, or of any.
pub(super) fn matches(
    ports: impl IntoIterator<Item = PortRange>,
    protocol: Option<Protocol>,
) -> impl Iterator<Item = String> {
    let ranges = ports
        .into_iter()
        .filter(move |ports| is_range(*ports, protocol));
    ranges.map(|ports| format!("{} dport {}", ports.protocol(), ports.numbers('-')))
}

/// Returns whether a door has a range of this protocol, or of any.
pub(super) fn has(policy: &Policy, protocol: Option<Protocol>) -> bool {
    policy.guarded().any(|ports| is_range(ports, protocol))
}

fn is_range(ports: PortRange, protocol: Option<Protocol>) -> bool {
    ports.is_several() && protocol.is_none_or(|protocol| protocol == ports.protocol())
}
