//! A trace as real packets, and what the kernel holds afterwards.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use toctoc::automaton::{Place, State};
use toctoc::firewall::Iptables;
use toctoc::held::{Grant, Progress};
use toctoc::knock::Knock;
use toctoc::lab::SERVER;
use toctoc::model::Room;
use toctoc::ruleset::iptables::{GrantList, Saved, lists_of, opened_count};
use toctoc::ruleset::nftables::Listing;
use toctoc::trace::Packet;

use super::policies::Case;
use super::traces::{BEAT, Trace};
use crate::inject::Injector;
use crate::world::World;

/// A packet with the time at which it was really sent.
#[derive(Clone, Copy)]
pub struct Sent {
    pub packet: Packet,
    /// The port it came from: another one for each packet of a source.
    pub from: u16,
    /// `true` if it came through all that we look at packets with.
    pub passed: bool,
}

/// The packets that were sent, when, and what came of them.
pub struct Played {
    pub packets: Vec<Sent>,
    /// When the kernel was looked at: begun and done.
    pub seen: [Duration; 2],
    pub grants: Vec<Grant>,
    /// Knocks made, for each source that has made any.
    pub midway: BTreeMap<IpAddr, usize>,
    /// For each key.
    pub opened: Vec<u64>,
}

/// Applies a policy to a host without one, sends the trace, looks, and removes the policy. Once more
/// where the machine was too busy to take all packets.
pub fn play(world: &World, case: &Case, trace: &Trace) -> Played {
    for _ in 0..10 {
        route(world);
        world.apply(&case.text);
        world.nft(BEHIND);
        let lost = frames_lost();
        let start = Instant::now();
        let mut packets = send(world, case, trace, start);
        let begun = start.elapsed();
        let look = match world.is_nftables() {
            true => look_at_nftables,
            false => look_at_iptables,
        };
        let held = look(world, case);
        let seen = [begun, held.at - start];
        let passed = passed(world);
        for sent in &mut packets {
            sent.passed = passed.contains(&(sent.packet.source, sent.packet.to, sent.from));
        }
        world.yes(&["remove"]);
        world.nft("delete table inet behind\n");
        if frames_lost() == lost {
            return Played {
                packets,
                seen,
                grants: held.grants,
                midway: midway(case, &held.progress),
                opened: held.opened,
            };
        }
    }
    panic!("this machine loses packets between two namespaces");
}

/// Makes the server a router, with hosts behind it that say nothing.
fn route(world: &World) {
    let (server, client) = (&world.lab.server, &world.lab.client);
    if server.ip("link show inner").is_ok() {
        return;
    }
    for words in [
        "link add inner type veth peer name end",
        "link set inner arp off",
        "link set inner up",
        "link set end up",
        "route add 10.60.0.0/24 dev inner",
        "route add fd60::/64 dev inner",
    ] {
        server.ip(words).unwrap();
    }
    for setting in ["net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"] {
        world.server(&["sysctl", "-qw", setting]);
    }
    for (network, via) in ["10.60.0.0/24", "fd60::/64"].iter().zip(SERVER) {
        client
            .ip(&format!("route add {network} via {via}"))
            .unwrap();
    }
}

/// Behind all places where a packet is judged, and before anybody else could drop it.
const BEHIND: &str = "table inet behind {
    set passed4 {
        type ipv4_addr . inet_proto . inet_service . inet_service
        size 65535
        flags dynamic
    }
    set passed6 {
        type ipv6_addr . inet_proto . inet_service . inet_service
        size 65535
        flags dynamic
    }
    chain passed {
        type filter hook prerouting priority -149; policy accept;
        iifname eth0 fib daddr type local meta l4proto { tcp, udp } update @passed4 { ip saddr . meta l4proto . th dport . th sport }
        iifname eth0 fib daddr type local meta l4proto { tcp, udp } update @passed6 { ip6 saddr . meta l4proto . th dport . th sport }
    }
    chain forwarded {
        type filter hook forward priority 1; policy accept;
        oifname inner meta l4proto { tcp, udp } update @passed4 { ip saddr . meta l4proto . th dport . th sport }
        oifname inner meta l4proto { tcp, udp } update @passed6 { ip6 saddr . meta l4proto . th dport . th sport }
    }
}
";

/// The packets that came so far: source, port and the port they came from.
fn passed(world: &World) -> HashSet<(IpAddr, Knock, u16)> {
    let mut passed = HashSet::new();
    for set in ["passed4", "passed6"] {
        let text = world.server(&["nft", "-j", "list", "set", "inet", "behind", set]);
        let listing: Value = serde_json::from_str(&text).unwrap();
        let objects = listing["nftables"].as_array().unwrap().iter();
        let elements = objects.filter_map(|object| object["set"]["elem"].as_array());
        for element in elements.flatten() {
            let parts = &element["concat"];
            let source = parts[0].as_str().unwrap().parse().unwrap();
            let to = format!("{}/{}", parts[2], parts[1].as_str().unwrap());
            let from = parts[3].as_u64().unwrap().try_into().unwrap();
            passed.insert((source, to.parse().unwrap(), from));
        }
    }
    passed
}

/// Sends a trace's packets, each in its beat.
fn send(world: &World, case: &Case, trace: &Trace, start: Instant) -> Vec<Sent> {
    let mut sent = Vec::new();
    world.inject(|injector| {
        let mut flood = Flood::of(case, injector);
        flood.begin();
        for (number, step) in trace.steps.iter().enumerate() {
            wait_for(start, step.beat);
            // The receive backlog holds 1,000 frames; a busy machine is late to empty it.
            if number % 64 == 0 {
                thread::sleep(Duration::from_millis(1));
            }
            flood.go_on();
            let packet = Packet {
                at: start.elapsed(),
                source: step.source,
                host: step.host,
                to: step.to,
            };
            let from = injector.packet(&packet);
            sent.push(Sent {
                packet,
                from,
                passed: false,
            });
        }
    });
    wait_for(start, trace.end);
    sent
}

/// First knocks of others, in networks that the sources of a trace share with them.
struct Flood<'i> {
    injector: &'i Injector,
    /// Nothing, where there is no flood.
    firsts: Vec<Knock>,
    number: u32,
}

impl<'i> Flood<'i> {
    fn of(case: &Case, injector: &'i Injector) -> Flood<'i> {
        // In their order of the policy, as they are given away.
        let sequences = case.policy.sequences().map(|(_, knocks)| knocks[0]);
        let firsts = match &case.room {
            Room::Full(given) => sequences.filter(|first| given.contains(first)).collect(),
            Room::Free => Vec::new(),
        };
        Flood {
            injector,
            firsts,
            number: 0,
        }
    }

    /// Fills the room, and makes each first knock once more from each family.
    fn begin(&mut self) {
        if self.firsts.is_empty() {
            return;
        }
        for number in 0..2 * 256 {
            if number % 64 == 0 {
                thread::sleep(Duration::from_millis(1));
            }
            self.go_on();
        }
        for (number, &to) in (0..).zip(&self.firsts) {
            let sources: [IpAddr; 2] = [
                Ipv4Addr::new(10, 9, 0xff, number).into(),
                Ipv6Addr::new(0xfd00, 0, 0, 0xff00 + u16::from(number), 0, 0, 9, 1).into(),
            ];
            for source in sources {
                let at = Duration::ZERO;
                self.injector.packet(&Packet {
                    at,
                    source,
                    host: None,
                    to,
                });
            }
        }
    }

    /// Takes the room that may just have come free.
    fn go_on(&mut self) {
        let Some(&to) = self.firsts.first() else {
            return;
        };
        self.number += 1;
        let source = Ipv4Addr::from(0x0a09_0000 + self.number).into();
        let at = Duration::ZERO;
        self.injector.packet(&Packet {
            at,
            source,
            host: None,
            to,
        });
    }
}

fn wait_for(start: Instant, beat: usize) {
    let due = BEAT * u32::try_from(beat).unwrap();
    thread::sleep(due.saturating_sub(start.elapsed()));
}

/// The kernel's state, and when it had been read.
struct Held {
    at: Instant,
    grants: Vec<Grant>,
    progress: Vec<Progress>,
    opened: Vec<u64>,
}

fn look_at_nftables(world: &World, case: &Case) -> Held {
    let text = world.server(&["nft", "-j", "list", "table", "inet", "toctoc"]);
    let at = Instant::now();
    let listing = Listing::parse(&text).unwrap();
    let keys = case.policy.keys.iter();
    Held {
        at,
        grants: listing.grants(),
        progress: listing.progress(),
        opened: keys.map(|key| listing.opened_count(&key.name)).collect(),
    }
}

fn look_at_iptables(world: &World, case: &Case) -> Held {
    let lists = world.lab.server.inside(Iptables::lists).unwrap().unwrap();
    let at = Instant::now();
    let saved = ["iptables-save", "ip6tables-save"]
        .map(|save| Saved::parse(&world.server(&[save, "-c"])).unwrap());
    let own: BTreeSet<GrantList> = saved.iter().flat_map(lists_of).collect();
    assert!(
        lists
            .memberships()
            .iter()
            .all(|held| own.contains(&held.list))
    );
    let opened = |name| saved.iter().map(|saved| opened_count(saved, name)).sum();
    let keys = case.policy.keys.iter();
    Held {
        at,
        grants: lists.grants(),
        progress: lists.progress(&case.policy, &case.automaton),
        opened: keys.map(|key| opened(&key.name)).collect(),
    }
}

fn midway(case: &Case, progress: &[Progress]) -> BTreeMap<IpAddr, usize> {
    let knocks = |progress: &Progress| match case.automaton.place(State(progress.state)) {
        Some(Place::Midway { knocks, .. }) => Some((progress.source, *knocks)),
        _ => None,
    };
    progress.iter().filter_map(knocks).collect()
}

/// The number of frames that all processors together had no room for.
fn frames_lost() -> u64 {
    let table = std::fs::read_to_string("/proc/net/softnet_stat").unwrap();
    let lost = |line: &str| u64::from_str_radix(line.split(' ').nth(1).unwrap(), 16).unwrap();
    table.lines().map(lost).sum()
}
