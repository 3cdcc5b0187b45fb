//! Attempts of strangers: sweeps, forged state, floods of state. Each with what must still work beside it.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use toctoc::client::Door;
use toctoc::knock::Protocol;
use toctoc::lab::{CLIENT, STRANGER};

use crate::apply_under_stress::Stop;
use crate::inject::{ACK, FIN, RST, SYN};
use crate::world::{SEQUENCE, World, YVES};

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
                // With nftables first knocks alone have a room of their own, and keep nobody out.
                injector.tcp(source.into(), 7, SEQUENCE[0], SYN);
                injector.tcp(source.into(), 7, SEQUENCE[1], SYN);
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
    world.listen(22);
    world.knock(CLIENT[0], &SEQUENCE);
    let list = |rest: &str| {
        let elements = (0..251).map(|i| format!("10.4.1.{i} . 1:2{rest} timeout 1h"));
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
    // Who was in before is in still, and of the late ones as many as there was room for.
    assert_eq!(world.connect(CLIENT[0], 22), Door::Open);
    let holders = world.holders("ssh");
    assert!((2..=5).contains(&holders.len()), "{holders:?}");
    assert_eq!(world.status()["keys"][0]["opened"], holders.len());
}

/// Each step leaves a dead element behind until the kernel tidies up, a second later. A source that
/// makes thousands of them must not take the room of the others, nor get in that way.
#[test]
fn a_single_source_cannot_crowd_out_the_others() {
    let world = World::with(&format!("max_sources = 256\n{YVES}"));
    // In IPv6 the network of 64 bits is one source.
    for (flooder, other) in [CLIENT[0], "2001:db8:9::7"].into_iter().zip(STRANGER) {
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

/// Others send whatever there is, on every port, from the same source port: who is midway stays where he
/// is, who is in stays in, neither for longer nor for shorter.
fn nothing_that_others_send_moves_a_source() {
    let world = World::with(&format!("within = \"1m\"\nopen_for = \"5m\"\n{MIXED}"));
    let guests = ["192.0.2.70", "2001:db8::70"];
    let knock = |from: &str, knocks: &[(u16, Protocol)]| {
        let from = from.parse().unwrap();
        world.inject(|injector| {
            for &(port, protocol) in knocks {
                match protocol {
                    Protocol::Tcp => injector.tcp(from, 7, port, SYN),
                    Protocol::Udp => injector.udp(from, 7, port),
                }
            }
        });
    };
    let sequence = [
        (443, Protocol::Tcp),
        (2387, Protocol::Udp),
        (920, Protocol::Tcp),
    ];
    for (guest, midway) in guests.into_iter().zip(CLIENT) {
        knock(guest, &sequence);
        knock(midway, &sequence[..2]);
    }
    let stand = || {
        let status = world.status();
        let mut stand: Vec<(String, f64)> = Vec::new();
        for grant in status["doors"][0]["grants"].as_array().unwrap() {
            let left = grant["expires_in"].as_f64().unwrap();
            stand.push((format!("{} in by {}", grant["source"], grant["key"]), left));
        }
        for entry in status["progress"].as_array().unwrap() {
            let left = entry["expires_in"].as_f64().unwrap();
            stand.push((format!("{} at {}", entry["source"], entry["knocks"]), left));
        }
        stand.retain(|(who, _)| !who.contains("10.5.0.") && !who.contains("fd00::5:"));
        stand.sort_by(|a, b| a.0.cmp(&b.0));
        (stand, Instant::now())
    };
    let (before, then) = stand();
    assert_eq!(before.len(), 4, "{before:?}");
    // A time that began anew would show.
    let least = |stand: &[(String, f64)]| stand.iter().map(|(_, left)| *left).fold(60.0, f64::min);
    world.until("some time has passed", || least(&stand().0) < 57.0);
    for i in 0..40u8 {
        let other = [
            IpAddr::from([10, 5, 0, i]),
            IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 5, u16::from(i)]),
        ];
        world.inject(|injector| {
            for other in other {
                for port in [920, 22, 443, 2387, 500, 18_357, 53, 1] {
                    for flags in [SYN, ACK, RST, FIN, SYN | ACK, 0] {
                        injector.tcp(other, 7, port, flags);
                    }
                    injector.udp(other, 7, port);
                }
            }
        });
        knock(&other[usize::from(i % 2)].to_string(), &sequence[2..]);
    }
    let (after, now) = stand();
    let passed = (now - then).as_secs_f64();
    assert_eq!(after.len(), 4, "{after:?}");
    for ((who, was), (same, is)) in before.iter().zip(&after) {
        assert_eq!(who, same);
        assert!(
            (was - passed - is).abs() < 1.5,
            "{who}: {was} s, {is} s after {passed} s"
        );
    }
    assert_eq!(world.holders("ssh").len(), 2);
    for midway in CLIENT {
        knock(midway, &sequence[2..]);
    }
    assert_eq!(world.holders("ssh").len(), 4);
}

on_every_firewall!(
    no_sweep_opens_and_the_key_still_does,
    a_scanner_opens_nothing,
    nothing_that_others_send_moves_a_source,
);
