//! The chains that are there whatever the keys: what is a knock, what it leads to, and the doors.

use super::behind;
use super::extend;
use super::first_knocks::{self, FirstKnocks};
use super::limits;
use super::once;
use super::ranges;
use super::{per_source, source};
use crate::knock::Protocol;
use crate::policy::{Closed, Door, Interfaces, Policy, Reach, show};
use crate::ruleset::Family;
use crate::ruleset::nftables::SetId::{Arrivals, Heard, Ports, Steps};
use crate::ruleset::nftables::script::{Base, Chain};
use crate::ruleset::nftables::{RANGES, SHUT_OUT, SetId, WRONG, classid, door_chain};

/// Matches a TCP packet that starts a connection: SYN set; ACK, RST and FIN clear.
pub(super) const SYN: &str = "tcp flags & (fin | syn | rst | ack) == syn";

/// [`SYN`], but never true of a later fragment. The kernel reads fields of 1, 2 or 4 bytes without asking whether there is a
/// header (`nft_payload_fast_eval`): of a later fragment it takes the data for one, and in IPv6 the flow label for a port and a part of the
/// address for flags. A field of three bytes, here flags and window, it reads only where there is a header.
/// Behind a match that says that it is TCP.
pub(super) const SYN_IN_A_HEADER: &str = "@th,104,24 & 0x170000 == 0x020000";

/// True of all but a later fragment: any three bytes, see [`SYN_IN_A_HEADER`].
pub(super) const IN_A_HEADER: &str = "@th,0,24 & 0x000001 <= 0x000001";

/// The match for packets that start no connection, TCP.
pub(super) const NO_SYN: &str = "tcp flags & (fin | syn | rst | ack) != syn";

/// [`NO_SYN`], but never true of a later fragment: see [`SYN_IN_A_HEADER`].
pub(super) const NO_SYN_IN_A_HEADER: &str = "@th,104,24 & 0x170000 != 0x020000";

/// The number of the loopback interface in every network namespace (`LOOPBACK_IFINDEX`). Others may get its name, and even
/// its type.
pub(super) const LOOPBACK: u32 = 1;

/// The match for "arrives on a guarded interface".
pub(super) fn guarded(interfaces: &Interfaces) -> String {
    match interfaces {
        Interfaces::AllButLoopback => format!("iif != {LOOPBACK}"),
        Interfaces::Only(names) => match names.as_slice() {
            [name] => format!("iifname \"{name}\""),
            names => {
                let quoted: Vec<String> = names.iter().map(|n| format!("\"{n}\"")).collect();
                format!("iifname {{ {} }}", quoted.join(", "))
            }
        },
    }
}

pub(super) fn knocks_tcp(policy: &Policy) -> Chain {
    let arriving = guarded(&policy.interfaces);
    let here = format!("{arriving} fib daddr type local");
    let mut chain = Chain::new(
        "knocks-tcp",
        &[
            "First packets of TCP connections to this host, before connection tracking and translation.",
            "All other TCP is accepted right away.",
        ],
    )
    .base(Base::Raw);
    once::begun_at(&mut chain, policy);
    chain.rule(format!("{NO_SYN} accept"));
    chain.note("The rest is SYNs and later fragments, of which some look like SYNs.");
    behind::knocks(
        &mut chain,
        policy,
        &format!("meta l4proto tcp {SYN_IN_A_HEADER} {arriving}"),
    );
    chain.rule(format!("{SYN} {arriving} meta priority 0:0 jump glance"));
    chain.note("Forwarded packets keep their priority. Three bytes from the flags on are read of a header alone.");
    chain.rule(format!(
        "meta l4proto tcp {SYN_IN_A_HEADER} {here} goto judge"
    ));
    chain.note(
        "A first fragment too short to hold the flags would be put together behind our back.",
    );
    chain.rule(format!(
        "ip frag-off & 0x3fff == 0x2000 ip protocol tcp {here} drop"
    ));
    chain.note("The same in IPv6, where other headers may hide even that it is TCP.");
    let first = "meta nfproto ipv6 frag frag-off 0 frag more-fragments 1";
    chain.rule(format!("{first} meta l4proto != tcp accept"));
    chain.rule(format!("{first} {here} drop"));
    chain
}

pub(super) fn knocks_udp(policy: &Policy) -> Chain {
    let here = guarded(&policy.interfaces);
    let mut chain = Chain::new(
        "knocks-udp",
        &["UDP datagrams to this host that belong to no established flow."],
    )
    .base(Base::Mangle);
    let datagram = format!("meta l4proto udp ct state != {{ established, related }} {here}");
    behind::knocks(&mut chain, policy, &datagram);
    let new = format!("{datagram} fib daddr type");
    chain.rule(format!("{new} local goto judge"));
    chain.note("To a whole network: no knock, but a service behind a door would hear it.");
    chain.rule(format!(
        "{new} {{ broadcast, multicast, anycast }} meta l4proto . th dport vmap @{Ports}"
    ));
    if ranges::has(policy, Some(Protocol::Udp)) {
        chain.rule(format!(
            "{new} {{ broadcast, multicast, anycast }} jump {RANGES}"
        ));
    }
    chain
}

/// The fast exit. Most new connections come from a source without progress, and go to a port where nothing begins:
/// they skip `fib`, which costs as much as three look-ups, and the slow load of [`SYN_IN_A_HEADER`]. Later fragments that
/// look like SYNs come here too, but no further.
pub(super) fn glance(policy: &Policy) -> Chain {
    let mut chain = Chain::new(
        "glance",
        &[
            "Fast exit: the source has no progress, and the port is neither a door nor a first or second knock.",
        ],
    );
    let here = "fib daddr type local";
    chain.rule(match first_knocks::are_noted(policy) {
        true => format!(
            "th dport @{Heard} {SYN_IN_A_HEADER} jump {}",
            first_knocks::NEAR
        ),
        false => format!("th dport @{Heard} {SYN_IN_A_HEADER} {here} goto judge"),
    });
    for ports in ranges::matches(policy.guarded(), Some(Protocol::Tcp)) {
        chain.rule(format!("{ports} {SYN_IN_A_HEADER} {here} goto judge"));
    }
    recall(&mut chain);
    chain.rule("meta priority 0:0 accept");
    chain.rule(format!(
        "meta priority set 0:0 {SYN_IN_A_HEADER} {here} goto judge"
    ));
    chain
}

/// The state of the source into `meta priority`, which is not touched without progress.
fn recall(chain: &mut Chain) {
    for family in Family::BOTH {
        let (saddr, progress) = (family.saddr(), SetId::Progress.of_family(family));
        chain.rule(format!("meta priority set {saddr} map @{progress}"));
    }
}

pub(super) fn judge(policy: &Policy) -> Chain {
    let mut chain = Chain::new(
        "judge",
        &["One knock. `meta priority` carries the source's state; nobody else's value gets in."],
    );
    chain.rule(format!("meta l4proto . th dport vmap @{Ports}"));
    if ranges::has(policy, None) {
        chain.rule(format!("jump {RANGES}"));
    }
    judge_rules(&mut chain, policy);
    chain
}

/// The rules for a knock that is neither at a door nor ignored.
pub(super) fn judge_rules(chain: &mut Chain, policy: &Policy) {
    chain.rule("meta priority set 0:0");
    recall(chain);
    chain.rule(step());
    chain.note("No step from here. Without progress that is all there is to say.");
    let nowhere = match first_knocks::are_noted(policy) {
        true => format!("goto {}", first_knocks::SECOND),
        false => "accept".to_string(),
    };
    chain.rule(format!("meta priority 0:0 {nowhere}"));
    chain.note("With progress it is lost, but the knock may be a first one.");
    forget(chain);
    chain.rule(format!("counter name \"{WRONG}\" meta priority set 0:0"));
    chain.rule(step());
    chain.rule(nowhere);
}

/// The step from a state in `meta priority`. What is not there ends the rule.
pub(super) fn step() -> String {
    format!("meta priority set meta priority . meta l4proto . th dport map @{Steps} goto arrived")
}

pub(super) fn forget(chain: &mut Chain) {
    for family in Family::BOTH {
        let (saddr, progress) = (family.saddr(), SetId::Progress.of_family(family));
        chain.rule(format!("delete @{progress} {{ {saddr} : meta priority }}"));
    }
}

pub(super) fn arrived() -> Chain {
    let mut chain = Chain::new(
        "arrived",
        &["`meta priority` is what the knock led to: an echo, a complete sequence, or progress."],
    );
    chain.rule(format!("meta priority vmap @{Arrivals}"));
    chain.rule("goto remember");
    chain
}

pub(super) fn remember(policy: &Policy, first: &FirstKnocks) -> Chain {
    let mut chain = Chain::new(
        "remember",
        &["Store the state. `update` alone would keep the old one and only renew its time."],
    );
    for family in Family::BOTH {
        let (source, steady) = (per_source(family), SetId::Steady.of_family(family));
        let limit = limits::steps(policy, family);
        chain.rule(format!(
            "update @{steady} {{ {source} limit rate over {limit} }} goto tooquick"
        ));
    }
    if first_knocks::are_noted(policy) {
        let limit = limits::first_knocks(policy);
        chain.rule(format!(
            "meta priority <= {} limit rate over {limit} goto {}",
            classid(first.last.0),
            first_knocks::NOTE
        ));
    }
    let within = format!("comment \"within {}\"", show(policy.within));
    for family in Family::BOTH {
        let (saddr, progress) = (family.saddr(), SetId::Progress.of_family(family));
        let element = format!("@{progress} {{ {saddr} : meta priority }}");
        chain.rule(format!("delete {element} update {element} {within}"));
    }
    chain.rule("goto leave");
    chain
}

pub(super) fn tooquick() -> Chain {
    let mut chain = Chain::new(
        "tooquick",
        &["Too many steps from one source: each would take up room until the kernel tidies up."],
    );
    forget(&mut chain);
    chain.rule("goto leave");
    chain
}

pub(super) fn leave() -> Chain {
    let mut chain = Chain::new("leave", &["The packet goes on as it came."]);
    chain.rule("meta priority set 0:0 accept");
    chain
}

pub(super) fn door_of(policy: &Policy, door: &Door) -> Chain {
    let about = match door.reach {
        Reach::Ports => {
            let hosts = door
                .behind()
                .map(|behind| format!(" at {}", behind.shown().join(", ")));
            let (ports, hosts) = (door.ports_shown().join(", "), hosts.unwrap_or_default());
            format!("Door {}: {ports}{hosts}.", door.name)
        }
        Reach::EveryPort => format!(
            "Door {}: every port. A packet without such a grant returns.",
            door.name
        ),
    };
    let mut chain = Chain::new(door_chain(&door.name), &[&about]);
    if let Some(forward) = &door.forward {
        let is_of = |family: &Family| forward.to.iter().any(|to| Family::of(to.host) == *family);
        for family in Family::BOTH.iter().filter(|family| !is_of(family)) {
            let word = match family {
                Family::V4 => "ipv4",
                Family::V6 => "ipv6",
            };
            chain.rule(format!(
                "meta nfproto {word} goto shut comment \"nowhere to pass it on\""
            ));
        }
    }
    for family in Family::BOTH {
        let trusted: Vec<String> = door
            .trust
            .iter()
            .filter(|network| Family::of(network.addr()) == family)
            .map(crate::knock::display_source)
            .collect();
        if !trusted.is_empty() {
            let saddr = family.saddr();
            let list = trusted.join(", ");
            chain.rule(format!("{saddr} {{ {list} }} accept comment \"trust\""));
        }
    }
    // Behind the networks that it trusts: the chain of every port changes the priority.
    if let Some(every_port) = policy.every_port()
        && door.reach == Reach::Ports
        && door.is_here()
    {
        let name = door_chain(&policy.door(every_port).name);
        chain.rule(format!("jump {name}"));
    }
    chain.rule(format!("meta priority set {}", classid(door.name.id())));
    for family in Family::BOTH {
        let source = source(policy.grant, family);
        let grants = SetId::Grants.of_network(family, family.prefix_of(policy.grant));
        extend::of_grant(&mut chain, policy, door, family);
        chain.rule(format!("{source} . meta priority @{grants} goto leave"));
    }
    extend::of_use(&mut chain, policy, door);
    let index = policy
        .door_indices()
        .find(|&i| policy.door(i).name == door.name);
    if index.is_some_and(|index| policy.accepts(index)) {
        chain.note("Granted at another host of the fleet.");
        for family in Family::BOTH {
            let source = source(policy.grant, family);
            let prefix = family.prefix_of(policy.grant);
            let elsewhere = SetId::Elsewhere.of_network(family, prefix);
            chain.rule(format!("{source} . meta priority @{elsewhere} goto leave"));
        }
    }
    if door.reach == Reach::EveryPort {
        return chain;
    }
    if policy.has_once() {
        once::grants(&mut chain, policy);
    }
    chain.rule("goto shut");
    chain
}

pub(super) fn shut(policy: &Policy) -> Chain {
    let mut chain = Chain::new(
        "shut",
        &["A door without a grant: a knock that leads nowhere."],
    );
    forget(&mut chain);
    let counted = format!("counter name \"{SHUT_OUT}\"");
    match policy.closed {
        Closed::Drop => chain.rule(format!("{counted} drop")),
        Closed::Reject => {
            chain.rule(format!("meta l4proto tcp {counted} reject with tcp reset"));
            chain.rule(format!("{counted} reject"));
        }
    }
    chain
}
