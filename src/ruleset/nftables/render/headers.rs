//! IPv6 extension headers that netfilter and the stack read differently.
//!
//! Where the kernel puts fragments together before the firewall (any `ct` rule or NAT on the host does
//! that), it removes the fragment header and leaves the headers in front of it. Netfilter then follows the
//! chain of headers from the start. The stack does not: it goes on behind the removed header, and takes what
//! is there for the first of the headers that it has yet to read
//! (`nf_ct_frag6_reasm` and `ip6_protocol_deliver_rcu`). A sender could so show an unknown protocol, or an
//! allowed port, to the firewall and a SYN for any port to the stack.

use super::chains::{NO_SYN, guarded};
use crate::policy::{Interfaces, Policy};
use crate::ruleset::nftables::script::{Base, Chain};

/// The chain that drops such packets before they are put together.
///
/// Hop-by-hop options in front of a fragment header are read alike. Packets for other hosts
/// are forwarded, and nobody reads their headers here.
pub(super) fn fragments() -> Chain {
    let mut chain = Chain::new(
        "fragments",
        &[
            "IPv6: headers in front of a fragment header. Once it is removed, this firewall and the stack",
            "would read the packet differently.",
        ],
    )
    .base(Base::Fragments);
    chain.rule("ip6 nexthdr != { 6, 17, 44, 58 } goto leading");
    chain
}

/// The headers of the few packets whose first one is not their payload or a fragment header. (A chain of its own: all
/// packets pay for the rules of the other one.)
pub(super) fn leading(policy: &Policy) -> Chain {
    let mut chain = Chain::new(
        "leading",
        &["Hop-by-hop options are read before, and do no harm."],
    );
    let arriving = judged(policy);
    chain.rule("ip6 nexthdr 0 hbh nexthdr 44 accept");
    chain.rule(format!(
        "exthdr frag exists {arriving} fib daddr type != unicast drop"
    ));
    chain
}

/// The headers that `delivered` is asked about: hop-by-hop options, routing, fragment, destination options.
const EXTENSIONS: &str = "ip6 nexthdr { 0, 43, 44, 60 }";

/// The rule at the input hook that asks [`delivered`].
pub(super) fn asked(chain: &mut Chain) {
    chain.rule(format!("{EXTENSIONS} jump headers"));
}

/// The chain for packets to addresses that are this host's and do not look so to `fib`: of an AnyIP prefix, or
/// local by a routing table of its own. The chains at prerouting have let these pass.
pub(super) fn delivered(policy: &Policy) -> Chain {
    let mut chain = Chain::new(
        "headers",
        &["IPv6 headers of packets to addresses of this host that were not known as such before."],
    );
    let arriving = judged(policy);
    chain.rule("fib daddr type != unicast return");
    chain.rule(format!("{arriving} exthdr dst exists drop"));
    chain.rule(format!("{arriving} exthdr rt exists drop"));
    chain.rule(format!("{NO_SYN} return"));
    let first = "frag frag-off 0 frag more-fragments 1";
    chain.rule(format!("{first} meta l4proto != tcp return"));
    chain.rule(format!("{first} {arriving} drop"));
    chain
}

/// The match for packets that this table judges: on all interfaces with `[firewall]`, which judges them all.
fn judged(policy: &Policy) -> String {
    match policy.firewall {
        Some(_) => guarded(&Interfaces::AllButLoopback),
        None => guarded(&policy.interfaces),
    }
}
