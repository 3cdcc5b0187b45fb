//! While 100,000 SYNs come in each second, from as many sources.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use toctoc::client::Door;
use toctoc::lab::{CLIENT, STRANGER};

use crate::apply_under_stress::Stop;
use crate::inject::SYN;
use crate::lifecycle::TWO;
use crate::world::{SEQUENCE, World, YVES};

/// SYNs per second that are sent if the machine can.
const RATE: f64 = 100_000.0;

/// Does something while SYNs come in, to the ports that a number gives. What the machine made of the
/// rate is printed (`cargo test -- --nocapture`).
fn while_flooded(world: &World, what: &str, port: impl Fn(u32) -> u16 + Sync, work: impl FnOnce()) {
    let stop = AtomicBool::new(false);
    let (mut sent, start) = (0u32, Instant::now());
    thread::scope(|scope| {
        scope.spawn(|| {
            world.inject(|injector| {
                while !stop.load(Ordering::Relaxed) {
                    let due = start.elapsed().as_secs_f64() * RATE;
                    if f64::from(sent) >= due {
                        thread::sleep(Duration::from_micros(500));
                        continue;
                    }
                    for _ in 0..100 {
                        sent += 1;
                        let source = Ipv4Addr::from(0x0a00_0000 + sent % 0x00ff_ffff);
                        injector.tcp(source.into(), 40_000, port(sent), SYN);
                    }
                }
            });
        });
        let _stop = Stop(&stop);
        work();
    });
    let rate = f64::from(sent) / start.elapsed().as_secs_f64();
    println!("{:?}, {what}: {sent} SYNs, {rate:.0} a second", world.kind);
    assert!(sent >= 20_000, "only {sent} SYNs were sent");
}

/// `apply`, `status` and `close` end well and do what they say, whatever the flood is aimed at; strangers
/// stay out, and a client that knocks in the midst of it gets in. (With iptables, unless the flood is at its first knock.)
fn apply_status_and_close_work_in_a_flood() {
    let world = World::bare();
    world.listen(22);
    world.nft(
        "table inet beside { counter seen { }\n chain c { type filter hook input priority -1; \
         ip saddr 10.0.0.0/8 tcp dport 22 counter name seen\n}\n}",
    );
    let anywhere = |number: u32| (number.wrapping_mul(2_654_435_761) >> 16) as u16;
    let door = |_| 22;
    let first = |_| SEQUENCE[0];
    let floods: [(&str, &(dyn Fn(u32) -> u16 + Sync)); 3] = [
        ("at any port", &anywhere),
        ("at the door", &door),
        ("at the first knock", &first),
    ];
    // So many strangers midway make a listing long enough; at the default, `status` takes a while.
    let room = if world.is_nftables() {
        "max_sources = 2048\n"
    } else {
        ""
    };
    for (what, port) in floods {
        world.apply(&format!("{room}{TWO}"));
        world.yes(&["open", "ssh", CLIENT[0], "--for", "5m"]);
        let changed = format!("{room}ignore = [80]\n{TWO}[door.other]\nports = [99]\n");
        while_flooded(&world, what, port, || {
            if what == "at the first knock" {
                let midway = || world.status()["progress"].as_array().unwrap().len();
                world.until("strangers are midway", || midway() > 50);
            }
            let start = Instant::now();
            let said = world.apply(&changed);
            assert!(
                said.contains("the kernel holds what the policy says"),
                "{said}"
            );
            assert!(said.contains("1 live grant kept"), "{said}");
            let applied = start.elapsed();
            let status = world.status();
            assert_eq!(status["matches_policy"], true, "{what}");
            let grants = status["doors"][0]["grants"].as_array().unwrap();
            assert_eq!((grants.len(), &grants[0]["source"]), (1, &CLIENT[0].into()));
            let shown = start.elapsed() - applied;
            let said = world.yes(&["close", "ssh", CLIENT[0]]);
            assert_eq!(said, "ended 1 grant\n");
            let closed = start.elapsed() - applied - shown;
            println!("{what}: apply {applied:.1?}, status {shown:.1?}, close {closed:.1?}");
            assert!(world.nobody_is_in());
            assert_eq!(world.connect(CLIENT[0], 22), Door::Silent);
            assert_eq!(world.connect(STRANGER[0], 22), Door::Silent);
            if world.is_nftables() || what != "at the first knock" {
                // Such a stream makes the kernel drop a packet now and then, before any rule.
                world.until("the client is in", || {
                    world.knock(CLIENT[0], &SEQUENCE);
                    world.holders("ssh").len() == 1
                });
                world.session(CLIENT[0], 22);
            }
        });
        assert_eq!(world.counted("seen"), 0, "{what}");
        world.yes(&["remove"]);
    }
}

/// First knocks from so many addresses of both families that there is no room for more of them.
fn fill_with_first_knocks(world: &World) {
    for part in 0..8u32 {
        world.inject(|injector| {
            for number in 64 * part..64 * (part + 1) {
                // In the networks around the addresses that knock below: 192.0.0.0/8, and each 2001:db8:XX00::.
                let v4 = Ipv4Addr::from(0xc003_0000 + number);
                let v6 = Ipv6Addr::new(
                    0x2001,
                    0xdb8,
                    (number << 8) as u16,
                    7,
                    0,
                    0,
                    0,
                    number as u16,
                );
                injector.tcp(v4.into(), 40_000, SEQUENCE[0], SYN);
                injector.tcp(v6.into(), 40_000, SEQUENCE[0], SYN);
            }
        });
    }
}

/// A flood of first knocks from forged addresses keeps nobody out: neither a client that begins, nor one that is further
/// on. It lets in nobody who does not know the rest, in its order, without a wrong knock.
#[test]
fn a_flood_of_first_knocks_locks_nobody_out() {
    // With so little room none comes free in the time of this test.
    let world = World::with(&format!("max_sources = 256\nwithin = \"1h\"\n{YVES}"));
    world.listen(22);
    let (first, rest) = SEQUENCE.split_first().unwrap();
    let neighbours = ["192.0.2.99", "2001:db8::99"];
    // Further on before it begins.
    for source in STRANGER {
        world.knock(source, &SEQUENCE[..2]);
    }
    fill_with_first_knocks(&world);
    let sources = || world.holders("ssh").into_iter().map(|(source, _)| source);
    for (source, knocks) in [
        // Two knocks are missing, or are in the wrong order, or one is wrong.
        (neighbours[0], &rest[1..]),
        (neighbours[1], &rest[1..]),
        (neighbours[0], &[*first, rest[1], rest[0], rest[2], rest[3]]),
        (
            neighbours[1],
            &[*first, rest[0], rest[1], 7, rest[2], rest[3]],
        ),
        (neighbours[0], &[rest[0], rest[1], *first, rest[2], rest[3]]),
    ] {
        world.inject(|injector| {
            for port in knocks {
                injector.tcp(source.parse().unwrap(), 7, *port, SYN);
            }
        });
        assert_eq!(sources().count(), 0, "{source} {knocks:?}");
    }
    for (number, source) in (1..).zip(STRANGER) {
        world.knock(source, &SEQUENCE[2..]);
        assert_eq!(sources().count(), number, "{source} was further on");
    }
    for (number, source) in (3..).zip(CLIENT) {
        world.knock(source, &SEQUENCE);
        assert_eq!(sources().count(), number, "{source} begins");
        world.session(source, 22);
    }
}

/// Two keys of which the second knock of each is the first of the other: a flood of both first knocks makes no sources
/// that are further on, so other keys open.
#[test]
fn a_flood_of_first_knocks_that_are_second_ones_fills_no_room() {
    let crossed = "[key.one]\nopens = [\"ssh\"]\nsequence = [8101, 8105, 8103, 8107]\n\
        [key.two]\nopens = [\"ssh\"]\nsequence = [8105, 8101, 8109, 8102]\n";
    let world = World::with(&format!(
        "max_sources = 256\nwithin = \"1h\"\n{YVES}{crossed}"
    ));
    world.listen(22);
    // Longer than elements that were replaced take up room.
    let (start, mut number) = (Instant::now(), 0_u32);
    while start.elapsed() < Duration::from_secs(3) {
        world.inject(|injector| {
            for port in [8101, 8105] {
                for _ in 0..20 {
                    number += 1;
                    let source = Ipv4Addr::from(0x4000_0000 + number * 65_521);
                    injector.tcp(source.into(), 7, port, SYN);
                }
            }
        });
        thread::sleep(Duration::from_millis(40));
    }
    let held = world.status()["progress"].as_array().unwrap().len();
    assert!(held <= 192, "{held} of 256 places are taken");
    for (number, source) in (1..).zip(CLIENT) {
        // Elements that were replaced take up room for a second.
        world.until(source, || {
            world.knock(source, &SEQUENCE);
            world.holders("ssh").len() == number
        });
    }
    // The twin: it is not the flood that lets in.
    world.inject(|injector| injector.tcp("192.0.2.99".parse().unwrap(), 7, 8107, SYN));
    assert_eq!(world.holders("ssh").len(), 2);
}

/// SYNs to a door that are dropped take no entry of connection tracking; those to an open port do.
fn a_flood_at_a_door_takes_no_conntrack_entry() {
    let world = World::with(YVES);
    world.listen(22);
    world.listen(80);
    // What asks for the state of connections makes the kernel track them.
    world.nft(
        "table inet beside { counter door { }\n counter other { }\n chain c { \
         type filter hook prerouting priority -350; tcp dport 22 counter name door; \
         tcp dport 80 counter name other\n}\n chain t { type filter hook input priority 0; \
         ct state established counter\n}\n}",
    );
    let entries = || {
        let count = "/proc/sys/net/netfilter/nf_conntrack_count";
        let text = world.server(&["cat", count]);
        text.trim().parse::<u32>().unwrap()
    };
    let flood = |port: u16, counter: &str| {
        world.until("2,000 SYNs have come", || {
            world.inject(|injector| {
                for from in 0..20 {
                    for host in 100..150u16 {
                        let v4 = Ipv4Addr::new(192, 0, 2, host as u8);
                        let v6 = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, host);
                        injector.tcp(v4.into(), 1000 + from, port, SYN);
                        injector.tcp(v6.into(), 1000 + from, port, SYN);
                    }
                }
            });
            world.counted(counter) >= 2_000
        });
    };
    let before = entries();
    flood(22, "door");
    assert_eq!(entries(), before);
    flood(80, "other");
    assert!(entries() > before + 1_500, "{before}, then {}", entries());
}

on_every_firewall!(
    apply_status_and_close_work_in_a_flood,
    a_flood_at_a_door_takes_no_conntrack_entry,
);
