//! IPv6 packets with random headers: options, routing and fragment headers, whole and in pieces, that say one
//! thing to a firewall and may say another to the stack. What a listener receives is the verdict.
//!
//! `HEADERS` says how many packets, `SEED` which ones.

use std::env;

use toctoc::lab::{CLIENT, SERVER};

use crate::inject::{ACK, SYN, datagram, tcp_header};
use crate::world::{SHUT, World};

const TCP: u8 = 6;
const UDP: u8 = 17;
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const ICMP: u8 = 58;
const NOTHING: u8 = 59;
const OPTIONS: u8 = 60;
/// Of no meaning to netfilter (RFC 5533).
const SHIM: u8 = 140;

/// Random numbers that the same seed repeats (SplitMix64).
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % end as u64) as usize
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }
}

/// One packet, in one or more frames: the first header's number, and all that follows the fixed header.
type Frames = Vec<(u8, Vec<u8>)>;

/// A header of `next`, filled with options that every receiver passes over.
fn options(next: u8, random: &mut Random) -> Vec<u8> {
    let units = random.of(&[0, 0, 0, 1, 2, 20]);
    let mut header = vec![next, units as u8];
    let mut room = units * 8 + 6;
    while room > 0 {
        // One byte of padding, or an unknown option to be skipped (RFC 8200, 4.2).
        let length = room.min(257);
        if length < 2 {
            header.push(0);
        } else {
            header.extend([0x1e, (length - 2) as u8]);
            header.resize(header.len() + length - 2, 0);
        }
        room -= length;
    }
    header
}

/// A header of `next` that a firewall can read as the first packet to an allowed port.
fn like_a_transport_header(next: u8, port: u16) -> Vec<u8> {
    let [high, low] = port.to_be_bytes();
    let length = match high {
        0 => 24,
        _ => (4 + usize::from(low).max(20)).div_ceil(8) * 8,
    };
    let mut header = vec![0; length];
    header[0] = next;
    header[1] = (length / 8 - 1) as u8;
    header[2] = high;
    header[3] = low;
    if high == 0 {
        header[4] = (length - 5) as u8;
    }
    header[12] = 0x50;
    header[13] = 2;
    header
}

/// A routing header of which nothing is left to do (RFC 8754).
fn routing(next: u8, random: &mut Random) -> Vec<u8> {
    let mut header = vec![next, 2, random.of(&[4, 4, 2, 0]), 0, 0, 0, 0, 0];
    let last: std::net::Ipv6Addr = SERVER[1].parse().unwrap();
    header.extend(last.octets());
    header
}

fn fragment(next: u8, offset: usize, more: bool, id: [u8; 4]) -> Vec<u8> {
    let field = (offset as u16) | u16::from(more);
    let mut header = vec![next, 0];
    header.extend(field.to_be_bytes());
    header.extend(id);
    header
}

/// A packet for one of `targets`, behind random headers.
fn packet(random: &mut Random, targets: &[(u8, u16)]) -> Frames {
    let (protocol, port) = random.of(targets);
    let [source, server] = [CLIENT[1], SERVER[1]].map(|a| a.parse().unwrap());
    let from = 1024 + random.below(60_000) as u16;
    let transport = match protocol {
        TCP => tcp_header(source, server, from, port, SYN),
        _ => datagram(source, server, from, port, b"x"),
    };
    let mut frames = vec![(protocol, transport)];
    for layer in 0..random.below(5) {
        let kind = random.of(&[
            OPTIONS,
            OPTIONS,
            OPTIONS,
            ROUTING,
            FRAGMENT,
            FRAGMENT,
            FRAGMENT,
            SHIM,
            HOP_BY_HOP,
            AUTHENTICATION,
        ]);
        // Fragments of fragments stay as they are: what comes in front stands in each of them.
        if kind == FRAGMENT && frames.len() == 1 {
            let (next, payload) = frames.remove(0);
            frames = pieces(next, &payload, random);
            continue;
        }
        let lie = random.one_in(3);
        let mut number = kind;
        for (next, payload) in &mut frames {
            let mut header = match kind {
                OPTIONS if layer > 0 || random.one_in(2) => options(*next, random),
                OPTIONS | SHIM => like_a_transport_header(*next, random.of(&[53, 80, 443, 1500])),
                ROUTING => routing(*next, random),
                AUTHENTICATION => [vec![*next, 4], vec![0; 22]].concat(),
                HOP_BY_HOP | FRAGMENT => options(*next, random),
                _ => unreachable!("no other kind"),
            };
            if kind == FRAGMENT {
                number = OPTIONS;
            }
            header.append(payload);
            *payload = header;
            *next = number;
        }
        if lie {
            let as_other = random.of(&[TCP, UDP, ICMP, NOTHING, SHIM, OPTIONS, ROUTING]);
            for (next, _) in &mut frames {
                *next = as_other;
            }
        }
    }
    if random.one_in(4) {
        let last = frames.len() - 1;
        let other = random.below(frames.len());
        frames.swap(last, other);
    }
    frames.retain(|(_, payload)| payload.len() <= 1400);
    frames
}

/// Cuts a packet: whole in one fragment, in pieces, in pieces that overlap, with one twice.
fn pieces(next: u8, payload: &[u8], random: &mut Random) -> Frames {
    let id: [u8; 4] = std::array::from_fn(|_| random.below(256) as u8);
    let mut cuts = vec![0];
    if random.one_in(2) {
        let units = payload.len() / 8;
        let mut inside: Vec<usize> = (0..2).map(|_| random.below(units.max(1)) * 8).collect();
        inside.sort_unstable();
        cuts.extend(inside.into_iter().filter(|&cut| cut > 0));
        cuts.dedup();
    }
    let ends = cuts[1..].iter().copied().chain([payload.len()]);
    let mut frames: Frames = Vec::new();
    for (&start, end) in cuts.iter().zip(ends) {
        let more = end < payload.len();
        // Eight bytes more than there is room for: they overlap the next.
        let end = match more && random.one_in(4) {
            true => (end + 8).min(payload.len() / 8 * 8),
            false => end,
        };
        let header = fragment(next, start, more, id);
        frames.push((FRAGMENT, [&header, &payload[start..end]].concat()));
    }
    if random.one_in(6) {
        frames.push(frames[0].clone());
    }
    frames
}

fn number(variable: &str, otherwise: usize) -> usize {
    let text = env::var(variable).ok();
    text.map_or(otherwise, |text| text.parse().expect(variable))
}

fn send(world: &World, packets: &[Frames]) {
    let source = CLIENT[1].parse().unwrap();
    world.inject(|injector| {
        for (first, payload) in packets.iter().flatten() {
            injector.ip(source, *first, payload);
        }
    });
}

const BESIDE: &str = "table inet beside { counter heard { }\n \
    chain answers { type filter hook output priority filter; \
    tcp sport { 22, 3306 } tcp flags & (syn | ack) == (syn | ack) counter name heard\n \
    udp sport { 5555, 5556 } counter name heard\n}\n}";

/// Another program's rule by which the kernel tracks connections, and puts fragments together.
const TRACKED: &str = "table inet tracked { chain c { type filter hook input priority filter; \
    ct state established accept\n}\n}";

/// The answers to these packets.
fn heard(world: &World, packets: &[Frames]) -> u64 {
    let before = world.counted("heard");
    send(world, packets);
    std::thread::sleep(SHUT);
    world.counted("heard") - before
}

/// One of these packets that gets through, if any does.
fn culprit<'p>(world: &World, packets: &'p [Frames]) -> &'p [Frames] {
    if packets.len() == 1 {
        return packets;
    }
    let (first, second) = packets.split_at(packets.len() / 2);
    let mut halves = [first, second].into_iter();
    let half = halves.find(|half| heard(world, half) > 0);
    half.map_or(packets, |half| culprit(world, half))
}

/// Nothing that is closed hears such a packet, and without the policy the same packets are heard.
fn nothing_passes(policy: &str, tracked: bool, targets: &[(u8, u16)]) {
    let (count, seed) = (number("HEADERS", 4_000), number("SEED", 1));
    let world = World::with(policy);
    world.nft(BESIDE);
    if tracked {
        world.nft(TRACKED);
    }
    for port in [22, 3306] {
        world.listen(port);
    }
    for port in [5555, 5556] {
        world.listen_udp(port);
    }
    let mut random = Random(seed as u64);
    let packets: Vec<Frames> = (0..count).map(|_| packet(&mut random, targets)).collect();
    let through = heard(&world, &packets);
    if through > 0 {
        let one = culprit(&world, &packets);
        panic!(
            "{through} of {count} packets came through; {} of them: {:02x?}",
            one.len(),
            one[0]
        );
    }
    world.yes(&["remove"]);
    let open = heard(&world, &packets);
    assert!(
        open > count as u64 / 20,
        "without a policy only {open} are heard"
    );
    println!("{count} packets with random headers: 0 came through, {open} without the policy");
}

const DOOR: &str = "[door.ssh]\nports = [22]\n\n[key.yves]\nopens = [\"ssh\"]\n\
    sequence = [4431, 2387, 920, 18357, 50]\n";

fn no_headers_lead_past_a_door() {
    nothing_passes(DOOR, false, &[(TCP, 22)]);
}

fn no_headers_lead_past_a_door_where_connections_are_tracked() {
    nothing_passes(DOOR, true, &[(TCP, 22)]);
}

fn no_headers_lead_past_a_udp_door() {
    let policy = DOOR.replace("[22]", "[22, \"5555/udp\"]");
    nothing_passes(&policy, false, &[(TCP, 22), (UDP, 5555)]);
}

fn no_headers_lead_past_the_hosts_firewall() {
    let firewall = "[firewall]\ndefault = \"drop\"\nallow = [80, 443, 1500, \"53/udp\"]\n";
    let targets = [(TCP, 22), (TCP, 3306), (UDP, 5555), (UDP, 5556)];
    nothing_passes(&format!("{DOOR}\n{firewall}"), true, &targets);
}

/// Packets for other hosts keep their headers and go on, whatever these are.
fn headers_of_forwarded_packets_are_their_own() {
    let world = World::with(DOOR);
    world.nft(TRACKED);
    world.server(&["sysctl", "-qw", "net.ipv6.conf.all.forwarding=1"]);
    let other = "2001:db8:9::1";
    let lab = &world.lab;
    lab.client
        .ip("-6 route add 2001:db8:9::/64 via 2001:db8::1")
        .unwrap();
    lab.server
        .ip("link add far type veth peer name near")
        .unwrap();
    for end in ["far", "near"] {
        lab.server.ip(&format!("link set {end} up")).unwrap();
    }
    lab.server
        .ip("-6 route add 2001:db8:9::/64 dev far")
        .unwrap();
    lab.server
        .ip(&format!(
            "neigh add {other} lladdr 02:00:00:00:00:09 dev far nud permanent"
        ))
        .unwrap();
    world.nft(
        "table inet beside { counter heard { }\n chain f { type filter hook forward priority filter; \
         ip6 daddr 2001:db8:9::1 counter name heard\n}\n}",
    );
    let syn = tcp_header(
        CLIENT[1].parse().unwrap(),
        other.parse().unwrap(),
        7,
        22,
        SYN | ACK,
    );
    let mut random = Random(1);
    for front in [OPTIONS, ROUTING, HOP_BY_HOP] {
        let whole = [&fragment(TCP, 0, false, [1, 2, 3, front]), &syn[..]].concat();
        let header = match front {
            ROUTING => routing(FRAGMENT, &mut random),
            _ => options(FRAGMENT, &mut random),
        };
        let to = std::net::SocketAddrV6::new(other.parse().unwrap(), 0, 0, 0);
        let payload = [header, whole].concat();
        world.inject(|injector| injector.ip6(CLIENT[1].parse().unwrap(), to, front, &payload));
    }
    world.until("all were forwarded", || world.counted("heard") == 3);
}

on_every_firewall!(
    no_headers_lead_past_a_door,
    no_headers_lead_past_a_door_where_connections_are_tracked,
    no_headers_lead_past_a_udp_door,
    no_headers_lead_past_the_hosts_firewall,
    headers_of_forwarded_packets_are_their_own,
);
