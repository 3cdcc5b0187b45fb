//! What strangers try: sweeps, forged packets, fragments, floods of state. Each with what must still
//! work beside it.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use toctoc::client::Door;
use toctoc::lab::{CLIENT, STRANGER};

use crate::apply_under_stress::Stop;
use crate::doors::count_syns_to;
use crate::inject::{ACK, FIN, RST, SYN, tcp_header};
use crate::world::{PATIENCE, SEQUENCE, World, YVES};

const MIXED: &str = r#"
[door.ssh]
ports = [22, "500/udp"]

[key.yves]
opens    = ["ssh"]
sequence = [443, "2387/udp", 920]

[key.anna]
opens    = ["ssh"]
sequence = ["53/udp", 18357]
"#;

fn no_sweep_opens_and_the_key_still_does() {
    let world = World::with(MIXED);
    let up: Vec<u16> = (1..=u16::MAX).collect();
    let down: Vec<u16> = up.iter().rev().copied().collect();
    // Every port once, in an order without order: 40,503 has no divisor in common with 65,537.
    let shuffled: Vec<u16> = (1..=u32::from(u16::MAX))
        .map(|i| (i * 40_503 % 65_537) as u16)
        .filter(|&port| port != 0)
        .collect();
    for source in CLIENT {
        let address: IpAddr = source.parse().unwrap();
        for order in [&up, &down, &shuffled] {
            world.inject(|injector| {
                for &port in order {
                    injector.tcp(address, 7, port, SYN);
                }
                for &port in order {
                    injector.udp(address, 7, port);
                }
            });
            assert!(world.nobody_is_in());
        }
        world.inject(|injector| {
            injector.udp(address, 8, 53);
            injector.tcp(address, 8, 18_357, SYN);
        });
        assert_eq!(world.holders("ssh").len(), 1);
        world.yes(&["close"]);
    }
}

fn a_scanner_opens_nothing() {
    let world = World::with(YVES);
    world.listen(443);
    let server = "192.0.2.1";
    for order in [&["-r"][..], &[]] {
        let scan = [
            &[
                "nmap",
                "-n",
                "-Pn",
                "-sS",
                "--max-retries",
                "0",
                "-T5",
                "-p-",
            ],
            order,
        ]
        .concat();
        let ended = world.client(&[&scan[..], &[server]].concat());
        assert!(ended.succeeded(), "{}", ended.stderr);
        assert!(ended.stdout.contains("443/tcp"), "{}", ended.stdout);
        assert!(world.nobody_is_in());
    }
}

/// Only a packet with SYN set and ACK, RST, FIN clear is a knock or a connection: all 64
/// combinations of the six classic flags.
fn only_a_syn_knocks() {
    let world = World::with(YVES);
    for flags in 0..64u8 {
        let is_knock = flags & (SYN | ACK | RST | FIN) == SYN;
        let source: IpAddr = Ipv4Addr::new(10, 2, 0, flags).into();
        world.inject(|injector| {
            for port in SEQUENCE {
                injector.tcp(source, 7, port, flags);
            }
        });
        let holders = world.holders("ssh");
        let opened = holders
            .iter()
            .any(|(holder, _)| *holder == source.to_string());
        assert_eq!(opened, is_knock, "flags {flags:#08b}");
    }
}

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

/// The field in which the state travels can hold something when a packet arrives: an ingress map of
/// a VLAN sets it from bits that the sender chose. Here an earlier chain does the same.
#[test]
fn a_priority_set_before_us_forges_no_state() {
    let world = World::with(YVES);
    world.nft(
        "table inet beside { counter seen { }\n chain c { type filter hook prerouting priority -400; \
         iifname eth0 meta priority set 0:4 counter name seen\n}\n}",
    );
    for (family, client) in CLIENT.into_iter().enumerate() {
        // State 4 is four knocks of five; the last one alone must not do.
        world.knock(client, &[50]);
        assert!(world.counted("seen") > 0);
        assert_eq!(world.holders("ssh").len(), family);
        assert_eq!(world.status()["progress"], serde_json::json!([]));
        world.knock(client, &SEQUENCE);
        assert_eq!(world.holders("ssh").len(), family + 1);
    }
}

/// And it leaves the table as 0, so that no queue takes a state for a class.
#[test]
fn no_state_leaks_out_of_the_table() {
    let world = World::with(&MIXED.replace("[443,", "[443, 444,"));
    world.nft(
        "table inet beside { counter total { }\n counter seen { }\n chain c { \
         type filter hook prerouting priority -100; tcp flags & (syn | ack) == syn counter name total\n \
         meta priority != 0 counter name seen\n}\n}",
    );
    for client in CLIENT {
        let address: IpAddr = client.parse().unwrap();
        world.inject(|injector| {
            for port in [443, 443, 9, 443, 444] {
                injector.tcp(address, 7, port, SYN);
            }
            injector.udp(address, 7, 2387);
            for port in [920, 920, 22, 22, 443, 1] {
                injector.tcp(address, 7, port, SYN);
            }
        });
    }
    assert_eq!(world.holders("ssh").len(), 2);
    assert_eq!(world.counted("total"), 22);
    assert_eq!(world.counted("seen"), 0);
}

/// Progress has room for 256 sources here. When strangers fill it, nobody new gets in; who is in
/// stays in.
#[test]
fn a_full_progress_set_fails_closed_and_harms_no_grant() {
    let world = World::with(&format!("max_sources = 256\nwithin = \"3s\"\n{YVES}"));
    world.listen(22);
    world.knock(CLIENT[0], &SEQUENCE);
    assert_eq!(world.connect(CLIENT[0], 22), Door::Open);
    let flood = || {
        world.inject(|injector| {
            for i in 0..2_000u32 {
                let source = Ipv4Addr::from(0x0a03_0000 + i);
                injector.tcp(source.into(), 7, SEQUENCE[0], SYN);
            }
        });
    };
    flood();
    world.knock(STRANGER[0], &SEQUENCE);
    assert_eq!(world.connect(STRANGER[0], 22), Door::Silent);
    assert_eq!(world.connect(CLIENT[0], 22), Door::Open);
    assert!(world.status()["progress"].as_array().unwrap().len() <= 256);
    // Once the strangers are forgotten, knocking works again.
    world.until("there is room again", || {
        world.knock(STRANGER[0], &SEQUENCE);
        world.holders("ssh").len() == 2
    });
    assert_eq!(world.connect(STRANGER[0], 22), Door::Open);
}

/// The same for grants: no room, no grant, no count; the grants that are there stay.
#[test]
fn a_full_grant_set_fails_closed() {
    let world = World::with(&format!("max_sources = 256\n{YVES}"));
    let list = |rest: &str| {
        let elements = (0..252).map(|i| format!("10.4.1.{i} . 1:2{rest} timeout 1h"));
        elements.collect::<Vec<_>>().join(", ")
    };
    world.nft(&format!(
        "add element inet toctoc grants4 {{ {} }}\nadd element inet toctoc opened4 {{ {} }}\n",
        list(""),
        list(" . 1:1")
    ));
    for i in 1..=8u8 {
        world.knock(&format!("10.4.0.{i}"), &SEQUENCE);
    }
    let holders = world.holders("ssh");
    assert!((1..=4).contains(&holders.len()), "{holders:?}");
    assert_eq!(world.status()["keys"][0]["opened"], holders.len());
}

/// Each step leaves a dead element behind until the kernel tidies up, a second later. A source that
/// makes thousands of them must not take the room of the others, nor get in that way.
#[test]
fn a_single_source_cannot_crowd_out_the_others() {
    let world = World::with(&format!("max_sources = 256\n{YVES}"));
    for (flooder, other) in CLIENT.into_iter().zip(STRANGER) {
        let stop = AtomicBool::new(false);
        let flood = || {
            let source = flooder.parse().unwrap();
            world.inject(|injector| {
                while !stop.load(Ordering::Relaxed) {
                    for _ in 0..20 {
                        injector.tcp(source, 7, SEQUENCE[0], SYN);
                        injector.tcp(source, 7, 9, SYN);
                    }
                    for port in SEQUENCE {
                        injector.tcp(source, 7, port, SYN);
                    }
                    thread::sleep(Duration::from_millis(10));
                }
            });
        };
        thread::scope(|scope| {
            scope.spawn(flood);
            let _stop = Stop(&stop);
            thread::sleep(Duration::from_millis(500));
            world.yes(&["close"]);
            for round in 0..5 {
                thread::sleep(Duration::from_millis(300));
                world.knock(other, &SEQUENCE);
                let holders = world.holders("ssh");
                assert_eq!(holders.len(), 1, "round {round}: {holders:?}");
                assert_eq!(holders[0].0, other);
                world.yes(&["close"]);
            }
        });
        // The flooder rests, and is somebody like others.
        thread::sleep(Duration::from_secs(6));
        world.knock(flooder, &SEQUENCE);
        assert_eq!(world.holders("ssh").len(), 1);
        world.yes(&["close"]);
    }
}

/// The longest sequence without any pause, and the usual one a few times in a row.
#[test]
fn knocks_without_a_pause_open_as_ever() {
    let ports: Vec<u16> = (0..32).map(|i| 1000 + i * 919 % 997).collect();
    let long = YVES.replace("[443, 2387, 920, 18357, 50]", &format!("{ports:?}"));
    for client in CLIENT {
        let world = World::with(&long);
        world.knock(client, &ports[1..]);
        assert!(world.nobody_is_in());
        world.knock(client, &ports[..1]);
        thread::sleep(Duration::from_millis(1500));
        world.knock(client, &ports);
        assert_eq!(world.holders("ssh").len(), 1);
        world.apply(YVES);
        for round in 1..=4 {
            world.yes(&["close"]);
            world.knock(client, &SEQUENCE);
            assert_eq!(world.holders("ssh").len(), 1, "round {round}");
        }
    }
}

#[test]
fn one_source_does_not_move_another() {
    let world = World::with(YVES);
    world.knock(CLIENT[0], &SEQUENCE[..4]);
    for i in 0..100u8 {
        world.knock(&format!("10.5.0.{i}"), &[1, 50, 443, 22]);
    }
    world.knock(STRANGER[0], &SEQUENCE[4..]);
    assert!(world.nobody_is_in());
    world.knock(CLIENT[0], &SEQUENCE[4..]);
    assert_eq!(
        world.holders("ssh"),
        [(CLIENT[0].into(), Some("yves".into()))]
    );
}

on_every_firewall!(
    no_sweep_opens_and_the_key_still_does,
    a_scanner_opens_nothing,
    only_a_syn_knocks,
    packets_to_others_are_no_knocks,
    a_syn_in_fragments_does_not_slip_through,
    a_syn_behind_ipv6_headers_in_fragments_does_not_slip_through,
    one_source_does_not_move_another,
);
