//! `[firewall]`: what comes in and what does not, and that the host itself goes on to work.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};

use toctoc::client::Door;
use toctoc::lab::{CLIENT, Host, SERVER, STRANGER};

use crate::apply_under_stress::Stop;
use crate::inject::{ACK, FIN, SYN, XMAS};
use crate::world::{Kind, PATIENCE, SEQUENCE, SHUT, World, YVES, alive, listen, on};

const FIREWALL: &str = "[firewall]\ndefault = \"drop\"\nallow = [80, \"7/udp\"]\n";

fn with(firewall: &str) -> String {
    format!("{YVES}{firewall}")
}

fn only_what_is_allowed_comes_in() {
    let world = World::bare();
    for port in [22, 80, 81, 443] {
        world.listen(port);
    }
    for client in CLIENT {
        assert_eq!(world.connect(client, 81), Door::Open);
    }
    let said = world.apply(&with(FIREWALL));
    assert!(
        said.contains("everything else that comes in is dropped, but for 80/tcp 7/udp"),
        "{said}"
    );
    assert!(
        world
            .yes(&["status"])
            .contains("dropped, but for 80/tcp 7/udp")
    );
    for (client, stranger) in CLIENT.into_iter().zip(STRANGER) {
        assert_eq!(world.connect(client, 80), Door::Open);
        for closed in [22, 81, 443, 9999] {
            assert_eq!(world.connect(client, closed), Door::Silent, "{closed}");
        }
        world.knock(client, &SEQUENCE);
        assert!(alive(&mut world.session(client, 22)));
        assert_eq!(world.connect(client, 81), Door::Silent);
        assert_eq!(world.connect(stranger, 22), Door::Silent);
    }
    world.apply(YVES);
    assert_eq!(world.connect(CLIENT[0], 81), Door::Open);
    assert_eq!(world.status()["allowed"], serde_json::Value::Null);
}

/// Datagrams too, and what is bigger than a packet.
fn datagrams_come_in_where_they_are_allowed() {
    let world = World::with(&with(FIREWALL));
    world.listen_udp(7);
    world.listen_udp(8);
    for (port, size, comes) in [(7, 100, true), (7, 4000, true), (8, 100, false)] {
        for (client, server) in CLIENT.into_iter().zip(SERVER) {
            let answered = world.lab.client.inside(|| {
                let socket = UdpSocket::bind((client, 0)).unwrap();
                let wait = if comes { PATIENCE } else { SHUT };
                socket.set_read_timeout(Some(wait)).unwrap();
                socket.send_to(&vec![1; size], (server, port)).unwrap();
                socket.recv(&mut [0; 5000])
            });
            let length = answered.unwrap().ok();
            assert_eq!(length, comes.then_some(size), "{client} {port} {size}");
        }
    }
}

/// Through an interface that is not there nobody comes to a door, and that is said.
fn an_interface_that_is_not_there_shuts_the_doors() {
    let world = World::bare();
    world.listen(22);
    let policy = format!("interfaces = [\"eth9\"]\n{}", with(FIREWALL));
    std::fs::write(world.path(), policy).unwrap();
    let output = world.toctoc(&["apply", "--anyway"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("NOBODY gets to a door there"), "{said}");
    world.knock(CLIENT[0], &SEQUENCE);
    assert_eq!(world.connect(CLIENT[0], 22), Door::Silent);
}

/// A `[firewall]` that goes leaves no door unguarded that comes with the same apply.
fn a_firewall_that_goes_leaves_no_new_door_open() {
    let world = World::with(&with(FIREWALL));
    world.listen(8443);
    world.apply(&format!("{YVES}[door.web]\nports = [8443]\n"));
    assert_eq!(world.connect(CLIENT[0], 8443), Door::Silent);
    world.apply(YVES);
    assert_eq!(world.connect(CLIENT[0], 8443), Door::Open);
}

/// Connections that the host begins itself are answered; a program on the host reaches another there.
fn the_host_reaches_others_and_itself() {
    let world = World::with(&with(FIREWALL));
    listen(&world.lab.client, 9000);
    world.listen(81);
    let reach = |address: &str, port: u16| {
        let server = &world.lab.server;
        let connect = || std::net::TcpStream::connect((address, port));
        alive(&mut server.inside(connect).unwrap().unwrap())
    };
    for (client, server) in CLIENT.into_iter().zip(SERVER) {
        assert!(reach(client, 9000), "{client}");
        assert!(reach(server, 81), "{server}");
    }
    assert!(reach("127.0.0.1", 81) && reach("::1", 81));
    let ended = on(&world.lab.server, &["ping", "-c1", "-W2", CLIENT[0]]);
    assert!(ended.succeeded(), "{}", ended.stdout);
    assert_eq!(world.connect(CLIENT[0], 81), Door::Silent);
}

/// Sessions live on when the firewall comes, and each time it comes again, though the kernel tracked no
/// connections before: who is silent until then, and who is talking.
fn sessions_live_on() {
    let world = World::with(YVES);
    world.listen(22);
    for client in CLIENT {
        world.knock(client, &SEQUENCE);
        let mut silent = world.session(client, 22);
        let mut session = world.session(client, 22);
        assert!(alive(&mut session));
        for policy in [with(FIREWALL), YVES.to_string(), with(FIREWALL)] {
            world.apply(&policy);
            assert!(alive(&mut session));
        }
        assert!(alive(&mut silent));
        world.apply(YVES);
    }
}

/// Strangers learn nothing from packets that start no connection either: a door's port is as silent
/// as any other.
fn a_door_is_as_silent_as_any_port() {
    let world = World::with(&with(FIREWALL));
    world.listen(22);
    world.nft(
        "table inet beside { counter seen { }\n chain c { type filter hook output priority filter; \
         tcp flags & rst == rst counter name seen\n}\n}",
    );
    for stranger in STRANGER {
        let address = stranger.parse().unwrap();
        world.inject(|injector| {
            for port in [22, 9999] {
                for flags in [SYN, ACK, ACK | SYN, FIN, 0, XMAS] {
                    injector.tcp(address, 7, port, flags);
                }
            }
        });
    }
    assert_eq!(world.counted("seen"), 0);
    // The twin: without the firewall a closed port answers.
    world.apply(YVES);
    world.inject(|injector| injector.tcp(STRANGER[0].parse().unwrap(), 7, 9999, SYN));
    assert_eq!(world.counted("seen"), 1);
}

/// Neighbours are asked for and answered.
fn ipv6_neighbours_are_found() {
    let world = World::with(&with(FIREWALL));
    world.listen(80);
    for host in [&world.lab.server, &world.lab.client] {
        let _ = host.ip("-6 neigh flush dev eth0 nud permanent");
        let _ = host.ip("-6 neigh flush dev eth0");
    }
    world.until("the neighbour is found", || {
        world.connect(CLIENT[1], 80) == Door::Open
    });
    assert_eq!(world.connect(CLIENT[1], 81), Door::Silent);
}

/// A path narrower than both its ends: the router in the middle says so, and it must be heard.
fn errors_of_the_path_are_heard() {
    let world = World::with(&with(FIREWALL));
    world.listen(80);
    let far = Host::new().unwrap();
    let router = &world.lab.client;
    let pid = far.pid();
    router
        .ip(&format!(
            "link add far type veth peer name eth0 netns {pid}"
        ))
        .unwrap();
    for words in [
        "addr add 198.51.100.1/24 dev far",
        "addr add 2001:db8:1::1/64 dev far nodad",
        "link set far mtu 1280 up",
    ] {
        router.ip(words).unwrap();
    }
    for words in [
        "addr add 198.51.100.7/24 dev eth0",
        "addr add 2001:db8:1::7/64 dev eth0 nodad",
        "link set eth0 mtu 1500 up",
        "route add default via 198.51.100.1",
        "-6 route add default via 2001:db8:1::1",
    ] {
        far.ip(words).unwrap();
    }
    for words in [
        "route add 198.51.100.0/24 via 192.0.2.7",
        "-6 route add 2001:db8:1::/64 via 2001:db8::7",
    ] {
        world.lab.server.ip(words).unwrap();
    }
    for switch in ["net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"] {
        assert!(world.client(&["sysctl", "-qw", switch]).succeeded());
    }
    for server in SERVER {
        world.until("the far host is routed", || {
            let connect = || std::net::TcpStream::connect((server, 80));
            let Ok(mut session) = far.inside(connect).unwrap() else {
                return false;
            };
            session.set_read_timeout(Some(PATIENCE)).unwrap();
            let sent = vec![7; 100_000];
            let mut writer = session.try_clone().unwrap();
            let mut back = vec![0; sent.len()];
            std::thread::scope(|scope| {
                scope.spawn(|| writer.write_all(&sent).unwrap());
                session.read_exact(&mut back).unwrap();
            });
            back == sent
        });
    }
}

fn ping_is_answered_if_asked_for() {
    let world = World::with(&with(FIREWALL));
    let ping = |server: &str| world.client(&["ping", "-c1", "-W1", server]).succeeded();
    for server in SERVER {
        assert!(!ping(server));
    }
    world.apply(&with(&format!("{FIREWALL}ping = true\n")));
    for server in SERVER {
        assert!(ping(server));
    }
}

/// Packets to others pass as before, unless the policy says that they shall not.
fn forwarded_packets_are_dropped_only_if_asked_for() {
    let world = World::with(&with(FIREWALL));
    world.nft(
        "table inet beside { counter seen { }\n chain c { type filter hook postrouting priority 0; \
         ip daddr 198.51.100.1 counter name seen\n}\n}",
    );
    for words in [
        "link add other type veth peer name end",
        "addr add 198.51.100.2/24 dev other",
        "link set other up",
        "link set end up",
        "neigh add 198.51.100.1 lladdr 02:00:00:00:00:09 dev other nud permanent",
    ] {
        world.lab.server.ip(words).unwrap();
    }
    world.server(&["sysctl", "-qw", "net.ipv4.ip_forward=1"]);
    world
        .lab
        .client
        .ip("route add 198.51.100.0/24 via 192.0.2.1")
        .unwrap();
    let send = || {
        let send = || {
            let socket = UdpSocket::bind("192.0.2.7:0").unwrap();
            socket
                .send_to(b"hello", (Ipv4Addr::new(198, 51, 100, 1), 9))
                .unwrap();
        };
        world.lab.client.inside(send).unwrap();
    };
    send();
    world.until("it is forwarded", || world.counted("seen") == 1);
    world.apply(&with(&format!("{FIREWALL}forward = \"drop\"\n")));
    send();
    world.apply(&with(FIREWALL));
    send();
    world.until("it is forwarded", || world.counted("seen") >= 2);
    assert_eq!(world.counted("seen"), 2);
}

/// Somebody else's "drop" is stronger than our "let in", whoever comes first.
fn others_may_still_drop() {
    let world = World::with(&with(FIREWALL));
    world.listen(80);
    assert_eq!(world.connect(CLIENT[0], 80), Door::Open);
    match world.kind {
        Kind::Nftables => world.nft(
            "table inet beside { chain c { type filter hook input priority 10; tcp dport 80 drop\n}\n}",
        ),
        _ => {
            world.server(&["iptables", "-A", "INPUT", "-p", "tcp", "--dport", "80", "-j", "DROP"]);
        }
    }
    assert_eq!(world.connect(CLIENT[0], 80), Door::Silent);
    assert_eq!(world.status()["matches_policy"], true);
}

/// A door that comes is guarded before it is let in, one that goes is let in no more before it is
/// unguarded: strangers' SYNs to it never get through.
fn a_door_that_comes_or_goes_is_never_open() {
    let two = format!("{YVES}[door.web]\nports = [8443]\n{FIREWALL}");
    let world = World::with(&with(FIREWALL));
    world.nft(
        "table inet beside { counter seen { }\n counter every { }\n chain c { \
         type filter hook prerouting priority -400; tcp dport 8443 counter name every\n}\n \
         chain i { type filter hook input priority 10; tcp dport 8443 counter name seen\n}\n}",
    );
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            world.inject(|injector| {
                for number in 0u32.. {
                    let source = Ipv4Addr::from(0x0a00_0000 + number % 60_000);
                    injector.tcp(source.into(), 40_000, 8443, SYN);
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                }
            });
        });
        let _stop = Stop(&stop);
        for _ in 0..5 {
            world.apply(&two);
            world.apply(&with(FIREWALL));
        }
    });
    assert!(world.counted("every") > 10_000);
    assert_eq!(world.counted("seen"), 0);
    // The twin: who may, gets through.
    world.apply(&two);
    world.listen(8443);
    world.yes(&["open", "web", CLIENT[0]]);
    assert_eq!(world.connect(CLIENT[0], 8443), Door::Open);
    assert!(world.counted("seen") > 0);
}

on_every_firewall!(
    an_interface_that_is_not_there_shuts_the_doors,
    a_firewall_that_goes_leaves_no_new_door_open,
    a_door_that_comes_or_goes_is_never_open,
    only_what_is_allowed_comes_in,
    datagrams_come_in_where_they_are_allowed,
    the_host_reaches_others_and_itself,
    sessions_live_on,
    a_door_is_as_silent_as_any_port,
    ipv6_neighbours_are_found,
    errors_of_the_path_are_heard,
    ping_is_answered_if_asked_for,
    forwarded_packets_are_dropped_only_if_asked_for,
    others_may_still_drop,
);
