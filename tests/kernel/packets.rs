//! SYNs in odd shapes: flags, fragments, headers, addresses. None opens, none slips through, and what is
//! a knock is one. Each with what must still work beside it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV6, UdpSocket};

use toctoc::client::Door;
use toctoc::lab::{CLIENT, SERVER};

use crate::doors::count_syns_to;
use crate::inject::{ACK, FIN, Injector, RST, SYN, tcp_header};
use crate::token_world::SECRET;
use crate::world::{PATIENCE, SEQUENCE, World, YVES};

/// Only a packet with SYN set and ACK, RST, FIN clear is a knock or a connection: all 256 combinations of
/// the six classic flags and the two of ECN. At a closed door these are stopped; all others, which
/// begin nothing, go on as ever.
fn only_a_syn_knocks() {
    let world = World::with(YVES);
    world.nft(
        "table inet beside { counter seen { }\n counter others { }\n chain c { \
         type filter hook input priority filter; tcp dport != 22 accept\n \
         tcp flags & (fin | syn | rst | ack) == syn counter name seen accept\n \
         counter name others\n}\n}",
    );
    let sources = |flags: u8| {
        [
            IpAddr::from([10, 2, 0, flags]),
            IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 2, u16::from(flags)]),
        ]
    };
    let is_knock = |flags: u8| flags & (SYN | ACK | RST | FIN) == SYN;
    world.inject(|injector| {
        for flags in 0..=255 {
            for source in sources(flags) {
                injector.tcp(source, 7, 22, flags);
                for port in SEQUENCE {
                    injector.tcp(source, 7, port, flags);
                }
            }
        }
    });
    assert_eq!(
        (world.counted("seen"), world.counted("others")),
        (0, 2 * 240)
    );
    let holders: Vec<String> = world.holders("ssh").into_iter().map(|h| h.0).collect();
    for flags in 0..=255 {
        for source in sources(flags) {
            let opened = holders.contains(&source.to_string());
            assert_eq!(opened, is_knock(flags), "{source} flags {flags:#010b}");
        }
    }
    // The twin: now those connections pass, with whatever other flags.
    world.inject(|injector| {
        for flags in 0..=255 {
            for source in sources(flags) {
                injector.tcp(source, 8, 22, flags);
            }
        }
    });
    assert_eq!(world.counted("seen"), 2 * 16);
}

/// Where nothing puts fragments together before the firewall, it sees later ones by themselves. Their data is no header,
/// whatever it looks like, and in IPv6 neither are flow label and address, where nf_tables finds ports and flags then.
fn a_later_fragment_is_no_packet_of_its_own() {
    const TOKEN_PORT: u16 = 40_123;
    let world = World::bare();
    match world.is_nftables() {
        true => {
            world.private_file("alice.secret", SECRET);
            let token = "[key.alice]\nopens = [\"ssh\"]\ntoken = \"alice.secret\"\n";
            world.apply(&format!("token_port = {TOKEN_PORT}\n{YVES}{token}"));
        }
        false => {
            world.apply(YVES);
        }
    }
    world.nft(
        "table inet beside { counter tcp4 { }\n counter tcp6 { }\n counter udp4 { }\n counter udp6 { }\n chain c { \
         type filter hook prerouting priority -200\n \
         meta nfproto ipv4 meta l4proto tcp counter name tcp4\n meta nfproto ipv6 meta l4proto tcp counter name tcp6\n \
         meta nfproto ipv4 meta l4proto udp counter name udp4\n meta nfproto ipv6 meta l4proto udp counter name udp6\n}\n}",
    );
    let counted = || ["tcp4", "tcp6", "udp4", "udp6"].map(|name| world.counted(name));
    // The sixth byte of the second one is that of a SYN.
    let sources: [IpAddr; 2] = ["10.2.0.7", "fd00:0:2::7"].map(|a| a.parse().unwrap());
    let servers: [IpAddr; 2] = SERVER.map(|a| a.parse().unwrap());
    let later = |injector: &Injector, protocol: u8, port: u16, data: &[&[u8]; 2]| {
        let ([IpAddr::V4(source), source6], [IpAddr::V4(to), IpAddr::V6(to6)]) = (sources, servers)
        else {
            unreachable!("two families");
        };
        injector.fragment(source, to, protocol, 0x2010, data[0]);
        let header = [protocol, 0, 0x01, 0x01, 0, 0, 0, 77];
        let to6 = SocketAddrV6::new(to6, 0, 0, 0);
        let payload = [&header[..], data[1]].concat();
        injector.ip6_labelled(source6, to6, port, 44, &payload);
    };
    world.inject(|injector| {
        for port in SEQUENCE.into_iter().chain([22]) {
            let header = |n: usize| tcp_header(sources[n], servers[n], 7, port, SYN);
            later(injector, 6, port, &[&header(0), &header(1)]);
        }
        let port = TOKEN_PORT.to_be_bytes();
        let data = [&[0, 7, port[0], port[1]][..], &[0; 36]].concat();
        later(injector, 17, TOKEN_PORT, &[&data, &data]);
    });
    // All of them have gone on, also those for the port of the door.
    assert_eq!(counted(), [6, 6, 1, 1]);
    let status = world.status();
    assert_eq!(status["progress"], serde_json::json!([]), "{status}");
    assert!(world.nobody_is_in());
    // The twin: packets with the same headers are judged.
    world.inject(|injector| {
        for source in sources {
            for port in SEQUENCE {
                injector.tcp(source, 7, port, SYN);
            }
            injector.datagram(source, 7, TOKEN_PORT, &[0; 36]);
        }
    });
    assert_eq!(world.holders("ssh").len(), 2);
    let tokens = u64::from(!world.is_nftables());
    assert_eq!(counted(), [11, 11, 1 + tokens, 1 + tokens]);
}

/// The stack cuts a first fragment of IPv4 to a multiple of eight bytes (`ip_frag_queue`). What it showed behind that is
/// then another fragment's to say: a packet that seemed to go on can be a SYN. The second question stops it.
fn a_fragment_that_the_stack_cuts_hides_no_syn() {
    let world = World::with(YVES);
    world.listen(22);
    world.nft(
        "table inet beside { counter answers { }\n chain c { type filter hook output priority 0\n \
         tcp sport 22 tcp flags & (syn | ack) == syn | ack counter name answers\n}\n}",
    );
    let (source, server) = (Ipv4Addr::new(192, 0, 2, 9), Ipv4Addr::new(192, 0, 2, 1));
    let send = |from: u16| {
        world.inject(|injector| {
            let syn = tcp_header(source.into(), server.into(), from, 22, SYN);
            let shown = [&syn[..13], &[ACK, 0]].concat();
            injector.fragment(source, server, 6, 0x2000, &shown);
            injector.fragment(source, server, 6, 0x0001, &syn[8..]);
        });
    };
    send(7001);
    assert_eq!(world.counted("answers"), 0);
    // The twin: without us, the listener answers.
    world.yes(&["remove"]);
    send(7002);
    world.until("it is answered", || world.counted("answers") > 0);
}

/// The client's eth0, as IPv6 wants it for addresses of a link.
pub fn link(world: &World) -> u32 {
    let index = world
        .client(&["cat", "/proc/thread-self/net/if_inet6"])
        .stdout;
    let line = index.lines().find(|line| line.ends_with(" eth0")).unwrap();
    u32::from_str_radix(line.split(' ').nth(1).unwrap(), 16).unwrap()
}

pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

fn packets_to_others_are_no_knocks() {
    let world = World::with(YVES);
    let raw = |to: Ipv4Addr| {
        world.inject(|injector| {
            let source = Ipv4Addr::new(192, 0, 2, 7);
            for port in SEQUENCE {
                let header = tcp_header(source.into(), to.into(), 7, port, SYN);
                injector.fragment(source, to, 6, 0, &header);
            }
        });
    };
    world
        .lab
        .client
        .ip("route add 198.51.100.0/24 via 192.0.2.1")
        .unwrap();
    world
        .lab
        .client
        .ip("route add 224.0.0.0/4 dev eth0")
        .unwrap();
    for other in [[198, 51, 100, 1], [192, 0, 2, 255], [224, 0, 0, 1]] {
        raw(other.into());
        assert!(world.nobody_is_in(), "{other:?}");
    }
    raw([192, 0, 2, 1].into());
    assert_eq!(world.holders("ssh").len(), 1);
    let raw = |to: Ipv6Addr| {
        let source: IpAddr = CLIENT[1].parse().unwrap();
        let scoped = SocketAddrV6::new(to, 0, 0, if to == ALL_NODES { link(&world) } else { 0 });
        world.inject(|injector| {
            for port in SEQUENCE {
                let header = tcp_header(source, to.into(), 7, port, SYN);
                injector.ip6(source, scoped, 6, &header);
            }
        });
    };
    raw(ALL_NODES);
    assert_eq!(world.holders("ssh").len(), 1);
    raw("2001:db8::1".parse().unwrap());
    assert_eq!(world.holders("ssh").len(), 2);
}

/// A packet that passes through this host on its way to another goes on as it came, its priority too, and neither
/// shuts a door nor costs anybody his progress. All of that whether or not somebody has set a priority.
fn what_passes_through_is_not_touched() {
    let world = World::with(YVES);
    world.listen(22);
    let [midway, own, other] =
        [[192, 0, 2, 7], [192, 0, 2, 1], [198, 51, 100, 1]].map(Ipv4Addr::from);
    world
        .lab
        .client
        .ip("route add 198.51.100.0/24 via 192.0.2.1")
        .unwrap();
    let to = |to: Ipv4Addr, ports: &[u16]| {
        world.inject(|injector| {
            for &port in ports {
                let header = tcp_header(midway.into(), to.into(), 7, port, SYN);
                injector.fragment(midway, to, 6, 0, &header);
            }
        });
    };
    for priority in ["none", "7:7"] {
        let set = match priority {
            "none" => "",
            _ => "meta priority set 7:7",
        };
        world.nft(&format!(
            "table inet beside {{ counter same {{ }}\n chain a {{ type filter hook prerouting priority -400; \
             tcp flags syn {set}\n}}\n chain b {{ type filter hook prerouting priority -200; \
             ip daddr {other} meta priority {priority} counter name same drop\n}}\n}}"
        ));
        to(own, &SEQUENCE[..2]);
        // A door, a first knock, the right next one, another one, and one of nobody's.
        to(other, &[22, SEQUENCE[0], SEQUENCE[2], SEQUENCE[4], 7]);
        world.until("they went on", || world.counted("same") == 5);
        let progress = world.status()["progress"].clone();
        assert_eq!(progress[0]["knocks"], 2, "{priority}: {progress}");
        // The twin: to this host the same ports are knocks.
        to(own, &[7]);
        assert_eq!(world.status()["progress"], serde_json::json!([]));
        to(own, &SEQUENCE);
        assert_eq!(world.holders("ssh").len(), 1, "{priority}");
        world.yes(&["close"]);
        assert_eq!(world.connect(CLIENT[0], 22), Door::Silent);
        world.nft("delete table inet beside");
    }
}

/// A SYN behind other headers of IPv6 is a SYN: a knock, and nothing for a closed door.
fn a_syn_behind_ipv6_headers_is_a_syn() {
    let world = World::with(YVES);
    // A closed port answers; what got through shows in the answers.
    world.nft(
        "table inet beside { counter seen { }\n chain c { type filter hook output priority filter; \
         tcp sport 22 counter name seen\n}\n}",
    );
    let server: IpAddr = "2001:db8::1".parse().unwrap();
    // Next header, length in units of eight bytes but the first, then a padding of four.
    let options = |next: u8| vec![next, 0, 1, 4, 0, 0, 0, 0];
    // A routing header (type 4, RFC 8754) of which nothing is left to do is passed over.
    let routing = |next: u8| {
        vec![
            next, 2, 4, 0, 0, 0, 0, 0, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1,
        ]
    };
    let (hop_by_hop, for_destination, route) = (0, 60, 43);
    let send = |headers: &[u8], source: &str, port: u16| {
        let source: IpAddr = source.parse().unwrap();
        let mut payload = tcp_header(source, server, 7, port, SYN);
        let mut next = 6;
        for &header in headers.iter().rev() {
            let mut with = if header == route {
                routing(next)
            } else {
                options(next)
            };
            with.extend(payload);
            (payload, next) = (with, header);
        }
        world.inject(|injector| injector.ip(source, next, &payload));
    };
    let all: [&[u8]; 5] = [
        &[for_destination],
        &[hop_by_hop],
        &[hop_by_hop, for_destination],
        &[
            hop_by_hop,
            for_destination,
            for_destination,
            for_destination,
        ],
        &[hop_by_hop, for_destination, route, for_destination],
    ];
    let is_in = |source: &str| {
        world
            .holders("ssh")
            .iter()
            .any(|(holder, _)| holder == source)
    };
    for (number, headers) in all.into_iter().enumerate() {
        let source = format!("2001:db8::5:{number}");
        world
            .lab
            .client
            .ip(&format!("addr add {source}/64 dev eth0 nodad"))
            .unwrap();
        let neighbour =
            format!("neigh add {source} lladdr 02:00:00:00:00:02 dev eth0 nud permanent");
        world.lab.server.ip(&neighbour).unwrap();
        let before = world.counted("seen");
        send(headers, &source, 22);
        assert_eq!(world.counted("seen"), before, "{headers:?}");
        // As knocks they count like any other.
        for port in &SEQUENCE[..4] {
            send(headers, &source, *port);
        }
        assert!(!is_in(&source));
        send(headers, &source, SEQUENCE[4]);
        assert!(is_in(&source), "{headers:?}");
        send(headers, &source, 22);
        // Whether the host takes such a routing header is another matter. With iptables none of these
        // packets is delivered but those with hop-by-hop options alone.
        let delivered = match world.is_nftables() {
            true => !headers.contains(&route),
            false => headers == [hop_by_hop],
        };
        let answered = u64::from(delivered);
        assert_eq!(world.counted("seen") - before, answered, "{headers:?}");
    }
}

/// A SYN cut so that no fragment shows its flags would be put together behind the firewall's back
/// on a host that tracks no connections.
fn a_syn_in_fragments_does_not_slip_through() {
    let world = World::with(YVES);
    count_syns_to(&world, 22);
    let source = Ipv4Addr::new(192, 0, 2, 7);
    let to = Ipv4Addr::new(192, 0, 2, 1);
    let send = |cuts: &[(u16, std::ops::Range<usize>)]| {
        let header = tcp_header(source.into(), to.into(), 7, 22, SYN);
        world.inject(|injector| {
            for (field, range) in cuts {
                injector.fragment(source, to, 6, *field, &header[range.clone()]);
            }
        });
    };
    let tiny = [(0x2000, 0..8), (1, 8..20)];
    send(&tiny);
    send(&[tiny[1].clone(), tiny[0].clone()]);
    send(&[(0x2000, 0..8), (0x2001, 8..16), (2, 16..20)]);
    assert_eq!(world.counted("seen"), 0);
    // The twin: the counter does see what gets through.
    world.yes(&["open", "ssh", "192.0.2.7"]);
    send(&[(0, 0..20)]);
    assert_eq!(world.counted("seen"), 1);
    // And fragments of other protocols pass as ever.
    world.listen_udp(7);
    let echoes = world.lab.client.inside(|| {
        let socket = UdpSocket::bind("192.0.2.7:0").unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.send_to(&[1; 4000], "192.0.2.1:7").unwrap();
        socket.recv(&mut [0; 5000]).unwrap()
    });
    assert_eq!(echoes.unwrap(), 4000);
}

/// The first fragment ends before the header that says it is TCP: no rule about TCP sees it, and the
/// kernel puts it together after prerouting.
fn a_syn_behind_ipv6_headers_in_fragments_does_not_slip_through() {
    let world = World::with(YVES);
    // IPv6 is put together after the input hook: what got through shows in the answers.
    world.nft(
        "table inet beside { counter seen { }\n chain c { type filter hook output priority filter; \
         tcp sport 22 counter name seen\n}\n}",
    );
    let source: IpAddr = CLIENT[1].parse().unwrap();
    let server: IpAddr = "2001:db8::1".parse().unwrap();
    // Fragment header: next header, reserved, offset and more, identification (RFC 8200, 4.5).
    let fragment = |next: u8, field: u16, payload: &[u8], id: u8| {
        let [high, low] = field.to_be_bytes();
        let mut packet = vec![next, 0, high, low, 0, 0, 0, id];
        packet.extend(payload);
        world.inject(|injector| injector.ip(source, 44, &packet));
    };
    let options = |next: u8| [next, 0, 1, 4, 0, 0, 0, 0];
    let syn = tcp_header(source, server, 7, 22, SYN);
    let rest = [&options(6)[..], &syn].concat();
    let both = |id: u8| {
        fragment(60, 1, &options(60), id);
        fragment(60, 8, &rest, id);
    };
    both(1);
    fragment(6, 1, &syn[..8], 2);
    fragment(6, 8, &syn[8..], 2);
    assert_eq!(world.counted("seen"), 0);
    // The twin: without the policy the same fragments arrive.
    world.yes(&["remove"]);
    both(3);
    assert_eq!(world.counted("seen"), 1);
}

on_every_firewall!(
    only_a_syn_knocks,
    a_later_fragment_is_no_packet_of_its_own,
    a_fragment_that_the_stack_cuts_hides_no_syn,
    packets_to_others_are_no_knocks,
    what_passes_through_is_not_touched,
    a_syn_behind_ipv6_headers_is_a_syn,
    a_syn_in_fragments_does_not_slip_through,
    a_syn_behind_ipv6_headers_in_fragments_does_not_slip_through,
);
