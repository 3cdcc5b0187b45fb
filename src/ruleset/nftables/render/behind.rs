//! Doors in front of other hosts: asked where packets are on their way there. And knocks at the addresses of those hosts.
//!
//! A rule for each host and each range of ports: a rule never misses its own, as a set may in the moment of a transaction.
//! A stranger's first packet is dropped before connection tracking has confirmed anything, so it takes no entry.

use ipnet::IpNet;

use super::chains::{guarded, judge_rules};
use super::forward;
use crate::knock::{PortRange, Protocol, display_source};
use crate::policy::Policy;
use crate::ruleset::Family;
use crate::ruleset::nftables::door_chain;
use crate::ruleset::nftables::script::{Base, Chain};

/// A SYN without ACK. A host behind may take it for a beginning whatever other flags it has (some ignore FIN), so it is one
/// here. The twins of the loads for packets to this host, see [`SYN_IN_A_HEADER`](super::chains::SYN_IN_A_HEADER).
const BEGINS_IN_A_HEADER: &str = "@th,104,24 & 0x120000 == 0x020000";
const BEGINS_NOTHING: &str = "tcp flags & (syn | ack) != syn";
const BEGINS_NOTHING_IN_A_HEADER: &str = "@th,104,24 & 0x120000 != 0x020000";

/// The chain that drops fragments which could hide what a packet begins.
const TORN: &str = "torn";

/// The chain that judges a knock at a host behind this one.
const BEHIND: &str = "judge-behind";

/// Returns whether a policy has doors in front of other hosts.
fn has(policy: &Policy) -> bool {
    policy.doors_behind().next().is_some()
}

/// The chain for packets on their way to other hosts, if the policy says anything of them.
pub(super) fn forwarded(policy: &Policy) -> Vec<Chain> {
    let firewall = policy.firewall.as_ref();
    let drops = firewall.is_some_and(|firewall| firewall.drop_forwarded);
    let about = "Packets on their way to other hosts.";
    let mut chain = Chain::new("forwarded", &[about]).base(Base::Forward);
    let passed_on = forward::all_passed_on(policy);
    if !has(policy) && (!drops || passed_on.is_empty()) {
        chain.rule("drop");
        return if drops { vec![chain] } else { Vec::new() };
    }
    let arriving = guarded(&policy.interfaces);
    let torn = torn(policy, &arriving);
    if torn.is_some() {
        chain.note(
            "A second fragment of IPv4 could bring the flags of a first one too short for them.",
        );
        chain.rule(format!(
            "ip frag-off & 0x1fff == 1 meta l4proto tcp jump {TORN}"
        ));
        let others = "ip6 nexthdr != { 6, 17, 58 }";
        chain.rule(format!("{others} exthdr frag exists jump {TORN}"));
    }
    if !drops {
        chain.rule(format!("{BEGINS_NOTHING} accept"));
    }
    if has(policy) {
        chain.note(
            "A route in the packet itself: its last host is not the one that stands in the header.",
        );
        for option in ["lsrr", "ssrr"] {
            chain.rule(format!("ip option {option} exists {arriving} drop"));
        }
    }
    for (door, behind) in policy.doors_behind() {
        let name = door_chain(&door.name);
        for host in &behind.to {
            for ports in &door.ports {
                let (to, port) = (at(*host), dport(*ports));
                chain.rule(match ports.protocol() {
                    Protocol::Tcp => {
                        format!("{to} {port} {BEGINS_IN_A_HEADER} {arriving} goto {name}")
                    }
                    Protocol::Udp => format!(
                        "{to} {port} ct state != {{ established, related }} {arriving} goto {name}"
                    ),
                });
            }
        }
    }
    if drops {
        for new in &passed_on {
            chain.rule(format!("{new} accept"));
        }
        chain.rule("ct state { established, related } accept");
        chain.rule("drop");
    }
    [Some(chain), torn].into_iter().flatten().collect()
}

/// The chain for fragments of TCP to hosts behind a door. Nothing puts them together here, and the host will: flags that
/// stand in no first fragment were not seen.
fn torn(policy: &Policy, arriving: &str) -> Option<Chain> {
    let is_tcp = |ports: &PortRange| ports.protocol() == Protocol::Tcp;
    let doors = policy.doors_behind();
    let doors = doors.filter(|(door, _)| door.ports.iter().any(is_tcp));
    let hosts: Vec<IpNet> = doors.flat_map(|(_, behind)| behind.to.clone()).collect();
    let mut chain = Chain::new(
        TORN,
        &["Fragments for hosts behind a door that could hide what a TCP packet begins."],
    );
    chain.rule(format!("meta l4proto tcp {BEGINS_IN_A_HEADER} return"));
    chain.rule(format!(
        "meta l4proto tcp {BEGINS_NOTHING_IN_A_HEADER} return"
    ));
    chain.rule("meta nfproto ipv6 frag frag-off != 0 return");
    chain.rule("meta nfproto ipv6 meta l4proto != tcp return");
    for host in IpNet::aggregate(&hosts) {
        chain.rule(format!("{} {arriving} drop", at(host)));
    }
    (!hosts.is_empty()).then_some(chain)
}

/// The chains for knocks at hosts behind this one, if they are heard there.
pub(super) fn judge_behind(policy: &Policy) -> Option<Chain> {
    let heard: Vec<IpNet> = policy.heard_behind().collect();
    let mut chain = Chain::new(
        BEHIND,
        &["One knock at a host behind this one. Its doors are asked on the way there."],
    );
    for (door, behind) in policy.doors_behind() {
        let is_heard = |host: &&IpNet| {
            let mut heard = heard.iter();
            heard.any(|network| network.contains(*host) || host.contains(network))
        };
        for host in behind.to.iter().filter(is_heard) {
            for ports in &door.ports {
                chain.rule(format!("{} {} accept", at(*host), dport(*ports)));
            }
        }
    }
    for port in &policy.ignore {
        chain.rule(format!(
            "{} accept comment \"ignored\"",
            dport((*port).into())
        ));
    }
    judge_rules(&mut chain, policy);
    (!heard.is_empty()).then_some(chain)
}

/// The rules that send first packets to hosts behind this one to be judged. `new` matches them.
pub(super) fn knocks(chain: &mut Chain, policy: &Policy, new: &str) {
    for host in policy.heard_behind() {
        let other = "fib daddr type unicast";
        chain.rule(format!("{new} {} {other} goto {BEHIND}", at(host)));
    }
}

/// The matches for "addressed to this host", or to one behind it where knocks are heard, for a family or both.
pub(super) fn places(policy: &Policy, family: Option<Family>) -> Vec<String> {
    let behind = policy.heard_behind();
    let behind = behind.filter(|host| family.is_none_or(|of| of == Family::of(host.addr())));
    let here = "fib daddr type local".to_string();
    std::iter::once(here).chain(behind.map(at)).collect()
}

fn at(host: IpNet) -> String {
    format!(
        "{} {}",
        Family::of(host.addr()).daddr(),
        display_source(&host)
    )
}

fn dport(ports: PortRange) -> String {
    format!("{} dport {}", ports.protocol(), ports.numbers('-'))
}
