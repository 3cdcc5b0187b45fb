//! Ports in a row: every port of a range is the door's, and the ports beside it are not.

use std::net::UdpSocket;

use toctoc::client::Door;
use toctoc::lab::{CLIENT, SERVER, STRANGER};

use crate::apply_under_stress::seen_at;
use crate::inject::SYN;
use crate::world::{PATIENCE, SEQUENCE, SHUT, World};

const RANGES: &str = r#"
open_for = "60s"
[door.apps]
ports = ["8000-8010", "8011-8020", 22]
[door.mosh]
ports = ["60000-61000/udp"]
[key.yves]
opens = ["apps"]
sequence = [443, 2387, 920, 18357, 50]
[key.anna]
opens = ["mosh"]
sequence = [7101, 640, 5223]
"#;

const INSIDE: [u16; 6] = [8000, 8005, 8010, 8011, 8020, 22];
const BESIDE: [u16; 3] = [7999, 8021, 60500];

fn listening(policy: &str) -> World {
    let world = World::with(policy);
    for port in INSIDE.into_iter().chain(BESIDE) {
        world.listen(port);
    }
    for port in [60_000, 60_500, 61_000, 59_999, 61_001, 8005] {
        world.listen_udp(port);
    }
    world
}

/// Returns whether a datagram to a port comes back.
fn answers(world: &World, from: &str, port: u16, comes: bool) -> bool {
    let server = SERVER[usize::from(from.contains(':'))];
    let answered = world.lab.client.inside(|| {
        let socket = UdpSocket::bind((from, 0)).unwrap();
        let wait = if comes { PATIENCE } else { SHUT };
        socket.set_read_timeout(Some(wait)).unwrap();
        socket.send_to(b"hello", (server, port)).unwrap();
        socket.recv(&mut [0; 16])
    });
    answered.unwrap().is_ok()
}

fn every_port_of_a_range_is_the_doors() {
    let world = listening(RANGES);
    for (client, stranger) in CLIENT.into_iter().zip(STRANGER) {
        for port in INSIDE {
            assert_eq!(world.connect(client, port), Door::Silent, "{port}");
        }
        for port in BESIDE {
            assert_eq!(world.connect(client, port), Door::Open, "{port}");
        }
        world.knock(client, &SEQUENCE);
        for port in INSIDE {
            assert_eq!(world.connect(client, port), Door::Open, "{port}");
            assert_eq!(world.connect(stranger, port), Door::Silent, "{port}");
        }
        // The grant is for the door, and not for another with a range.
        assert!(!answers(&world, client, 60_500, false));
    }
}

fn a_range_of_udp_is_apart_from_tcp() {
    let world = listening(RANGES);
    for (client, stranger) in CLIENT.into_iter().zip(STRANGER) {
        for port in [60_000, 60_500, 61_000] {
            assert!(!answers(&world, client, port, false), "{port}");
        }
        for port in [59_999, 61_001, 8005] {
            assert!(answers(&world, client, port, true), "{port}");
        }
        world.knock(client, &[7101, 640, 5223]);
        for port in [60_000, 60_500, 61_000] {
            assert!(answers(&world, client, port, true), "{port}");
            assert!(!answers(&world, stranger, port, false), "{port}");
        }
        assert_eq!(world.connect(client, 8005), Door::Silent);
    }
}

/// A packet to a door is a knock that leads nowhere, to any port of it.
fn a_port_inside_a_range_breaks_a_sequence_and_is_no_echo() {
    let world = listening(RANGES);
    for client in CLIENT {
        world.knock(client, &[443, 2387, 8005, 920, 18357, 50]);
        assert!(world.nobody_is_in());
        world.knock(client, &SEQUENCE);
        assert_eq!(world.connect(client, 8005), Door::Open);
        world.yes(&["close", client]);
    }
}

/// `[firewall]`: a range is allowed as a whole, and a door's range is asked there too.
fn a_range_is_allowed_as_a_whole() {
    let firewall = "[firewall]\nallow = [\"9000-9010\", \"33434-33534/udp\"]\n";
    let world = listening(&format!("{RANGES}{firewall}"));
    for port in [8999, 9000, 9005, 9010, 9011] {
        world.listen(port);
    }
    for port in [33_433, 33_434, 33_534, 33_535] {
        world.listen_udp(port);
    }
    for (client, stranger) in CLIENT.into_iter().zip(STRANGER) {
        for (port, comes) in [
            (8999, false),
            (9000, true),
            (9005, true),
            (9010, true),
            (9011, false),
        ] {
            let met = if comes { Door::Open } else { Door::Silent };
            assert_eq!(world.connect(client, port), met, "{port}");
        }
        for (port, comes) in [
            (33_433, false),
            (33_434, true),
            (33_534, true),
            (33_535, false),
        ] {
            assert_eq!(answers(&world, client, port, comes), comes, "{port}");
        }
        for port in INSIDE {
            assert_eq!(world.connect(client, port), Door::Silent, "{port}");
        }
        world.knock(client, &SEQUENCE);
        for port in INSIDE {
            assert_eq!(world.connect(client, port), Door::Open, "{port}");
            assert_eq!(world.connect(stranger, port), Door::Silent, "{port}");
        }
        for port in [7999, 8021] {
            assert_eq!(world.connect(client, port), Door::Silent, "{port}");
        }
    }
}

/// A port that others translate to one of the range is the door at the input hook.
fn a_port_translated_into_a_range_is_shut() {
    let world = listening(RANGES);
    world.nft(
        "table inet beside {\n chain c { type nat hook prerouting priority dstnat;\n \
         tcp dport 9999 redirect to :8005\n udp dport 9999 redirect to :60500\n}\n}",
    );
    for (client, stranger) in CLIENT.into_iter().zip(STRANGER) {
        assert_eq!(world.connect(client, 9999), Door::Silent);
        assert!(!answers(&world, client, 9999, false));
        world.knock(client, &SEQUENCE);
        assert_eq!(world.connect(client, 9999), Door::Open);
        assert_eq!(world.connect(stranger, 9999), Door::Silent);
        world.knock(client, &[7101, 640, 5223]);
        assert!(answers(&world, client, 9999, true));
        assert!(!answers(&world, stranger, 9999, false));
    }
}

/// One connection through a range, then no other.
fn a_grant_for_one_connection_is_for_one_port_of_a_range() {
    let world = listening(&RANGES.replace("opens = [\"apps\"]", "opens = [\"apps\"]\nonce = true"));
    for client in CLIENT {
        world.knock(client, &SEQUENCE);
        assert_eq!(world.connect(client, 8005), Door::Open);
        for port in [8005, 8006, 8000] {
            assert_eq!(world.connect(client, port), Door::Silent, "{port}");
        }
    }
}

/// A range comes, grows, shrinks and goes with live grants; it is in status, and the rules are found to be the policy's.
fn a_range_grows_and_shrinks_under_a_guest() {
    let single = RANGES.replace("\"8000-8010\", \"8011-8020\", 22", "8005, 22");
    let smaller = RANGES.replace("\"8011-8020\", ", "");
    let world = listening(&single);
    let client = CLIENT[0];
    world.knock(client, &SEQUENCE);
    for (policy, ports) in [
        (single.as_str(), "8005/tcp"),
        (RANGES, "8000-8010/tcp"),
        (smaller.as_str(), "8000-8010/tcp"),
        (RANGES, "8000-8010/tcp"),
    ] {
        world.apply(policy);
        assert_eq!(world.connect(client, 8005), Door::Open);
        assert_eq!(world.connect(STRANGER[0], 8005), Door::Silent);
        let met = |inside: bool| if inside { Door::Silent } else { Door::Open };
        assert_eq!(world.connect(STRANGER[0], 8011), met(policy == RANGES));
        assert_eq!(world.connect(STRANGER[0], 8000), met(policy != single));
        // Otherwise nothing is compared.
        world.forget_what_was_compared();
        let status = world.status();
        assert_eq!(status["doors"][0]["ports"][0], ports);
        assert_eq!(status["drift"], serde_json::json!([]), "{status}");
        assert!(world.yes(&["status"]).contains(ports));
    }
    world.yes(&["heal"]);
}

/// Where rules differ, `status` says of each door whether it is guarded: a door with a range too.
fn a_door_whose_range_is_gone_is_said_to_be_open() {
    let world = listening(RANGES);
    match world.is_nftables() {
        true => world.nft("flush chain inet toctoc ranges\n"),
        false => {
            for program in ["iptables", "ip6tables"] {
                for (table, chain) in [("raw", "toctoc-ports"), ("mangle", "toctoc-inner-tcp")] {
                    world.server(&[program, "-t", table, "-F", chain]);
                }
            }
        }
    }
    assert_eq!(world.connect(STRANGER[0], 8005), Door::Open);
    let said = world.toctoc(&["status"]);
    let said = String::from_utf8([said.stdout, said.stderr].concat()).unwrap();
    assert!(said.contains("OPEN TO EVERYONE"), "{said}");
    world.toctoc(&["heal"]);
    assert_eq!(world.connect(STRANGER[0], 8005), Door::Silent);
}

/// The twin: another rule was added, and the range is guarded as before.
fn a_door_whose_range_stands_is_not_said_to_be_open() {
    let world = listening(RANGES);
    match world.is_nftables() {
        true => world.nft("add rule inet toctoc shut counter\n"),
        false => {
            for program in ["iptables", "ip6tables"] {
                world.server(&[program, "-t", "raw", "-I", "toctoc-shut"]);
            }
        }
    }
    for _ in 0..2 {
        assert_eq!(world.connect(STRANGER[0], 8005), Door::Silent);
        let status = world.status();
        assert_eq!(status["matches_policy"], false, "{status}");
        let said = world.toctoc(&["status"]);
        let said = String::from_utf8([said.stdout, said.stderr].concat()).unwrap();
        assert!(!said.contains("OPEN TO EVERYONE"), "{said}");
        world.forget_what_was_compared();
    }
}

/// A scan over a range and the ports beside it.
fn knocks_on_all_ports_of_a_range_open_nothing() {
    let world = listening(RANGES);
    for stranger in STRANGER {
        let address = stranger.parse().unwrap();
        world.inject(|injector| {
            for port in 7990..8030 {
                injector.tcp(address, 7, port, SYN);
            }
        });
    }
    assert!(world.nobody_is_in());
}

/// While a port becomes a part of a range and a port of its own again, no stranger's packet is delivered, and a guest's are.
fn no_stranger_gets_in_while_a_range_comes_and_goes() {
    let single = "open_for = \"60s\"\n[door.apps]\nports = [22]\n[key.yves]\nopens = [\"apps\"]\n\
                  sequence = [443, 2387, 920, 18357, 50]\n";
    let wider = single.replace("[22]", "[\"20-30\"]");
    let wide = single.replace("[22]", "[\"1-40\", \"41-49\", \"20-30/udp\"]");
    let world = World::with(single);
    world.listen(22);
    world.yes(&["open", "apps", CLIENT[0], "--for", "1h"]);
    let rounds = if world.is_nftables() { 60 } else { 15 };
    seen_at(&world, "input priority 10", || {
        for _ in 0..rounds {
            for policy in [&wider, &wide, single] {
                world.apply(policy);
            }
        }
    });
}

/// The name of a service is its port, whatever this machine's own list says.
fn a_door_named_by_its_service_is_its_port() {
    let policy = RANGES.replace("\"8011-8020\", 22", "\"ssh\"");
    let world = listening(&format!(
        "{policy}[firewall]\nallow = [\"http-alt\", \"domain/udp\"]\n"
    ));
    world.listen(8080);
    world.listen_udp(53);
    for (client, stranger) in CLIENT.into_iter().zip(STRANGER) {
        assert_eq!(world.connect(client, 22), Door::Silent);
        world.knock(client, &SEQUENCE);
        assert_eq!(world.connect(client, 22), Door::Open);
        assert_eq!(world.connect(stranger, 22), Door::Silent);
        assert_eq!(world.connect(stranger, 8080), Door::Open);
        assert!(answers(&world, stranger, 53, true));
        assert_eq!(world.connect(stranger, 53), Door::Silent);
        assert!(!answers(&world, stranger, 8005, false));
    }
}

on_every_firewall!(
    a_door_named_by_its_service_is_its_port,
    no_stranger_gets_in_while_a_range_comes_and_goes,
    every_port_of_a_range_is_the_doors,
    a_range_of_udp_is_apart_from_tcp,
    a_port_inside_a_range_breaks_a_sequence_and_is_no_echo,
    a_range_is_allowed_as_a_whole,
    a_port_translated_into_a_range_is_shut,
    a_grant_for_one_connection_is_for_one_port_of_a_range,
    a_range_grows_and_shrinks_under_a_guest,
    a_door_whose_range_is_gone_is_said_to_be_open,
    a_door_whose_range_stands_is_not_said_to_be_open,
    knocks_on_all_ports_of_a_range_open_nothing,
);
