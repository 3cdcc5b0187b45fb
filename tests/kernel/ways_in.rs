//! Ways to a door that do not lead through the chains at prerouting: addresses of this host that `fib` does not know
//! as local, ports that are translated to a door's, packets that come again. Each stays closed to strangers
//! and open to guests.

use std::net::{SocketAddr, UdpSocket};

use socket2::{Domain, Socket, Type};
use toctoc::client::Door;
use toctoc::lab::CLIENT;

use crate::inject::{ACK, RST};
use crate::world::{SHUT, World, YVES};

on_every_firewall!(
    a_door_is_closed_at_addresses_of_an_anyip_prefix,
    a_door_is_closed_at_addresses_that_are_local_in_another_table,
    a_door_is_closed_behind_ports_that_are_translated_to_it,
    a_grant_for_one_connection_is_used_up_behind_a_translated_port,
    a_udp_door_is_closed_where_addresses_and_ports_are_others,
    a_used_grant_passes_its_own_door_alone,
    a_connection_that_has_begun_lets_no_second_one_in,
);

/// Returns whether the client's own address reaches a port at another address of the server.
fn reaches(world: &World, to: &str, port: u16) -> bool {
    let to = SocketAddr::new(to.parse().unwrap(), port);
    let connected = world.lab.client.inside(|| {
        let socket = Socket::new(Domain::IPV6, Type::STREAM, None)?;
        socket.bind(&SocketAddr::new(CLIENT[1].parse().unwrap(), 0).into())?;
        socket.connect_timeout(&to.into(), SHUT)
    });
    connected.unwrap().is_ok()
}

/// An AnyIP prefix: the stack takes all of its addresses, and the first is of type anycast.
fn a_door_is_closed_at_addresses_of_an_anyip_prefix() {
    let world = World::with(YVES);
    world.listen(22);
    let lab = &world.lab;
    lab.server
        .ip("-6 route add local 2001:db8:5::/64 dev lo")
        .unwrap();
    lab.client
        .ip("-6 route add 2001:db8:5::/64 via 2001:db8::1")
        .unwrap();
    for address in ["2001:db8:5::", "2001:db8:5::5"] {
        assert!(!reaches(&world, address, 22), "{address}");
    }
    world.yes(&["open", "ssh", CLIENT[1]]);
    for address in ["2001:db8:5::", "2001:db8:5::5"] {
        world.until("a guest gets in", || reaches(&world, address, 22));
    }
}

/// Addresses under a VRF and policy routing: local in a table of their own.
fn a_door_is_closed_at_addresses_that_are_local_in_another_table() {
    let world = World::with(YVES);
    world.listen(22);
    for command in [
        "route add local 192.0.2.1 dev eth0 table 100",
        "route add 192.0.2.0/24 dev eth0 table 100",
        "rule add pref 1 iif eth0 lookup 100",
        "rule add pref 3 from 192.0.2.1 lookup 100",
        "route del local 192.0.2.1 dev eth0 table local",
    ] {
        world.lab.server.ip(command).unwrap();
    }
    assert_eq!(world.connect(CLIENT[0], 22), Door::Silent);
    world.yes(&["open", "ssh", CLIENT[0]]);
    world.until("a guest gets in", || {
        world.connect(CLIENT[0], 22) == Door::Open
    });
}

/// Others may translate any port to that of a door.
fn a_door_is_closed_behind_ports_that_are_translated_to_it() {
    for firewall in ["", "\n[firewall]\ndefault = \"drop\"\nallow = [2022]\n"] {
        let world = World::with(&format!("{YVES}{firewall}"));
        world.listen(22);
        world.nft(
            "table ip beside { chain c { type nat hook prerouting priority -100; \
             tcp dport 2022 redirect to :22\n}\n}",
        );
        assert_eq!(world.connect(CLIENT[0], 2022), Door::Silent, "{firewall}");
        world.yes(&["open", "ssh", CLIENT[0]]);
        world.until("a guest gets in", || {
            world.connect(CLIENT[0], 2022) == Door::Open
        });
    }
}

/// The way through the translated port and the way to the door's own port share one grant.
fn a_grant_for_one_connection_is_used_up_behind_a_translated_port() {
    let world = World::with(&YVES.replace("50]", "50]\nonce = true"));
    world.listen(22);
    world.nft(
        "table ip beside { chain c { type nat hook prerouting priority -100; \
         tcp dport 2022 redirect to :22\n}\n}",
    );
    for ports in [[2022, 22, 2022], [22, 2022, 22]] {
        world.knock(CLIENT[0], &crate::world::SEQUENCE);
        assert_eq!(world.connect(CLIENT[0], ports[0]), Door::Open, "{ports:?}");
        for port in ports {
            assert_eq!(world.connect(CLIENT[0], port), Door::Silent, "{port}");
        }
    }
}

/// A grant of one door passes nobody on to another, whatever others translate.
fn a_used_grant_passes_its_own_door_alone() {
    let door = |name: &str, port: u16, first: u16| {
        format!(
            "[door.{name}]\nports = [{port}]\n[key.{name}]\nopens = [\"{name}\"]\nonce = true\n\
             sequence = [{first}, 2387, 920]\n"
        )
    };
    let world = World::with(&format!("{}{}", door("a", 22, 4431), door("b", 23, 4432)));
    world.listen(22);
    world.listen(23);
    world.nft(
        "table ip beside { chain c { type nat hook prerouting priority -100; \
         tcp dport 22 redirect to :23\n}\n}",
    );
    world.knock(CLIENT[0], &[4431, 2387, 920]);
    assert_eq!(world.connect(CLIENT[0], 22), Door::Silent);
    world.nft("delete table ip beside");
    world.knock(CLIENT[0], &[4431, 2387, 920]);
    assert_eq!(world.connect(CLIENT[0], 22), Door::Open);
    assert_eq!(world.connect(CLIENT[0], 23), Door::Silent);
}

/// The same two ports again, through a translated port, after the connection had begun.
fn a_connection_that_has_begun_lets_no_second_one_in() {
    let world = World::with(&YVES.replace("50]", "50]\nonce = true"));
    world.nft(
        "table ip beside { chain c { type nat hook prerouting priority -100; \
         tcp dport 2022 redirect to :22\n}\n}\n\
         table inet seen { counter seen { }\n chain c { type filter hook input priority 10; \
         tcp dport 22 tcp flags syn counter name seen\n}\n}",
    );
    let source = CLIENT[0].parse().unwrap();
    let seen = || world.server(&["nft", "list", "counter", "inet", "seen", "seen"]);
    let packets = |many: u64| format!("packets {many} ");
    world.knock(CLIENT[0], &crate::world::SEQUENCE);
    world.inject(|injector| injector.tcp(source, 40_007, 2022, crate::inject::SYN));
    assert!(seen().contains(&packets(1)), "{}", seen());
    world.inject(|injector| {
        injector.tcp(source, 40_007, 2022, ACK);
        injector.tcp(source, 40_007, 2022, RST);
        injector.tcp(source, 40_007, 2022, crate::inject::SYN);
        injector.tcp(source, 40_007, 2022, crate::inject::SYN);
    });
    assert!(seen().contains(&packets(1)), "{}", seen());
}

/// UDP to an address that is local in another table of routes, and to a port that is translated.
fn a_udp_door_is_closed_where_addresses_and_ports_are_others() {
    let world = World::with(&YVES.replace("[22]", "[\"5555/udp\"]"));
    let server = world.lab.server.inside(|| UdpSocket::bind(("::", 5555)));
    let server = server.unwrap().unwrap();
    server.set_read_timeout(Some(SHUT)).unwrap();
    let hears = |text: &str| {
        let mut room = [0; 64];
        let heard = server.recv(&mut room).unwrap_or_default();
        room[..heard] == *text.as_bytes()
    };
    for command in [
        "rule add to 192.0.2.99 lookup 100",
        "route add local 192.0.2.99/32 dev lo table 100",
    ] {
        world.lab.server.ip(command).unwrap();
    }
    world.nft(
        "table ip beside { chain c { type nat hook prerouting priority -100; \
         udp dport 2022 redirect to :5555\n}\n}",
    );
    world
        .lab
        .client
        .ip("route add 192.0.2.99/32 via 192.0.2.1")
        .unwrap();
    let ways = [
        ("192.0.2.99", 5555),
        ("192.0.2.1", 2022),
        ("192.0.2.1", 5555),
    ];
    let send = |(to, port): (&str, u16)| {
        let to = SocketAddr::new(to.parse().unwrap(), port);
        let sent = world.lab.client.inside(|| {
            let socket = UdpSocket::bind((CLIENT[0], 0))?;
            socket.send_to(format!("{to}").as_bytes(), to)
        });
        sent.unwrap().unwrap();
        format!("{to}")
    };
    for way in ways {
        let text = send(way);
        assert!(!hears(&text), "{text}");
    }
    world.yes(&["open", "ssh", CLIENT[0]]);
    for way in ways {
        world.until("a guest is heard", || hears(&send(way)));
    }
}

/// The same connection, begun and given up, does not come again; one that got no answer does, three times.
#[test]
fn once_ends_when_the_connection_has_begun() {
    let world = World::with(&YVES.replace("50]", "50]\nonce = true"));
    world.nft(
        "table inet beside { counter seen { }\n chain c { type filter hook input priority 10; \
         tcp dport 22 tcp flags syn counter name seen\n}\n}",
    );
    for (address, begun) in CLIENT.into_iter().zip([ACK, RST]) {
        let source = address.parse().unwrap();
        let before = world.counted("seen");
        let seen = || world.counted("seen") - before;
        world.knock(address, &crate::world::SEQUENCE);
        let again = |times: usize| {
            world.inject(|injector| {
                for _ in 0..times {
                    injector.tcp(source, 40_007, 22, crate::inject::SYN);
                }
            });
        };
        again(2);
        assert_eq!(seen(), 2, "{address}: the first packet, and once more");
        world.inject(|injector| injector.tcp(source, 40_007, 22, begun));
        again(3);
        assert_eq!(seen(), 2, "{address}: the connection had begun");
        world.knock(address, &crate::world::SEQUENCE);
        again(9);
        assert_eq!(
            seen(),
            2 + 4,
            "{address}: the first packet, and three times more"
        );
    }
}

/// A network of 64 bits with thousands of addresses, all of which know the sequence, gets its share of the
/// room and no more.
#[test]
fn one_ipv6_network_cannot_take_all_room() {
    let policy = format!("max_sources = 1024\nopen_for = \"10m\"\n{YVES}");
    let world = World::with(&policy);
    world.listen(22);
    let address = |i: u16| std::net::Ipv6Addr::new(0x2001, 0xdb8, 9, 9, 0, 0, 1, i).into();
    world.inject(|injector| {
        for i in 0..3000 {
            for port in crate::world::SEQUENCE {
                injector.tcp(address(i), 7, port, crate::inject::SYN);
            }
        }
    });
    let holders = world.holders("ssh").len();
    assert!(
        (1..=64).contains(&holders),
        "{holders} of one network are in"
    );
    world.knock(CLIENT[1], &crate::world::SEQUENCE);
    assert_eq!(world.connect(CLIENT[1], 22), Door::Open);
    world.yes(&["open", "ssh", "2001:db8:8::1"]);
}

/// A key for as many doors as a policy may have ports for.
#[test]
fn a_key_may_open_hundreds_of_doors() {
    let doors = 300;
    let mut policy = String::new();
    for i in 0..doors {
        policy += &format!("[door.d{i}]\nports = [{}]\n", 10_000 + i);
    }
    let names: Vec<String> = (0..doors).map(|i| format!("\"d{i}\"")).collect();
    policy += &format!(
        "[key.k]\nopens = [{}]\nsequence = [4431, 2387, 920]\n",
        names.join(", ")
    );
    let world = World::with(&policy);
    world.listen(10_299);
    assert_eq!(world.connect(CLIENT[0], 10_299), Door::Silent);
    world.knock(CLIENT[0], &[4431, 2387, 920]);
    assert_eq!(world.holders("d0").len(), 1);
    assert_eq!(world.connect(CLIENT[0], 10_299), Door::Open);
}
