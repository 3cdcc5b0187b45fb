//! The effect of a door on real connections: TCP, UDP, published ports, prefixes, `once`, `trust`,
//! `closed`, `interfaces`, `expires`, `log`.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use toctoc::client::Door;
use toctoc::lab::{CLIENT, Host, STRANGER};

use crate::inject::{ACK, SYN};
use crate::world::{PATIENCE, SEQUENCE, SHUT, World, YVES, alive, listen, start};

fn a_session_outlives_its_grant_and_nothing_new_enters() {
    let world = World::with(&format!("open_for = \"2s\"\n{YVES}"));
    world.listen(22);
    for client in CLIENT {
        assert_eq!(world.connect(client, 22), Door::Silent);
        world.knock(client, &SEQUENCE);
        let mut session = world.session(client, 22);
        world.until("the grant ends", || world.nobody_is_in());
        assert_eq!(world.connect(client, 22), Door::Silent);
        assert!(alive(&mut session));
    }
}

fn an_open_port_in_a_sequence_serves_as_before() {
    let world = World::with(YVES);
    world.listen(443);
    world.listen(22);
    let mut session = world.session(CLIENT[0], 443);
    world.knock(CLIENT[0], &SEQUENCE[1..]);
    assert_eq!(world.connect(CLIENT[0], 22), Door::Open);
    assert!(alive(&mut session));
    // The twin: the connection was the first knock, and without it nothing opens.
    world.knock(STRANGER[0], &SEQUENCE[1..]);
    assert_eq!(world.connect(STRANGER[0], 22), Door::Silent);
    assert_eq!(world.connect(STRANGER[0], 443), Door::Open);
}

const UDP_DOOR: &str = r#"
open_for = "2s"
[door.vpn]
ports = ["5180/udp"]
[key.k]
opens = ["vpn"]
sequence = [443, "53/udp", 920]
"#;

fn udp(world: &World, from: &str) -> UdpSocket {
    let from: std::net::IpAddr = from.parse().unwrap();
    let to = SocketAddr::new(crate::world::server_like(from), 5180);
    let socket = world.lab.client.inside(|| UdpSocket::bind((from, 0)));
    let socket = socket.unwrap().unwrap();
    socket.connect(to).unwrap();
    socket
}

fn answers(socket: &UdpSocket, wait: Duration) -> bool {
    socket.set_read_timeout(Some(wait)).unwrap();
    socket.send(b"hello").unwrap();
    socket.recv(&mut [0; 16]).is_ok()
}

fn a_udp_door_opens_and_its_flow_outlives_the_grant() {
    let world = World::with(UDP_DOOR);
    world.listen_udp(5180);
    for (client, stranger) in CLIENT.into_iter().zip(STRANGER) {
        let before = udp(&world, client);
        assert!(!answers(&before, SHUT));
        let address = client.parse().unwrap();
        world.inject(|injector| {
            injector.tcp(address, 7, 443, SYN);
            injector.udp(address, 7, 53);
            injector.tcp(address, 7, 920, SYN);
        });
        let flow = udp(&world, client);
        assert!(answers(&flow, PATIENCE));
        assert!(!answers(&udp(&world, stranger), SHUT));
        world.until("the grant ends", || world.nobody_is_in());
        assert!(answers(&flow, PATIENCE));
        assert!(!answers(&udp(&world, client), SHUT));
    }
}

/// Untracked datagrams have no state at all; they must not slip by as "not new".
fn a_udp_door_guards_untracked_datagrams_too() {
    let world = World::with(UDP_DOOR);
    world.listen_udp(5180);
    world.nft("table inet beside { chain c { type filter hook prerouting priority raw; udp dport 5180 notrack\n}\n}");
    assert!(!answers(&udp(&world, CLIENT[0]), SHUT));
    world.yes(&["open", "vpn", CLIENT[0]]);
    assert!(answers(&udp(&world, CLIENT[0]), PATIENCE));
}

/// A datagram to a whole network reaches a service that listens everywhere; through a closed door it
/// must not, through an open one it may, and other ports hear it as ever.
fn a_udp_door_guards_broadcast_and_multicast_too() {
    let world = World::bare();
    world.nft(
        "table inet beside { counter door { }\n counter other { }\n chain c { \
         type filter hook input priority filter; udp dport 5180 counter name door\n \
         udp dport 5353 counter name other\n}\n}",
    );
    world
        .lab
        .client
        .ip("route add 224.0.0.0/4 dev eth0")
        .unwrap();
    let index = world
        .client(&["cat", "/proc/thread-self/net/if_inet6"])
        .stdout;
    let line = index.lines().find(|line| line.ends_with(" eth0")).unwrap();
    let index = u32::from_str_radix(line.split(' ').nth(1).unwrap(), 16).unwrap();
    let send = || {
        let send = |from: &str, to: std::net::IpAddr, port| {
            let socket = UdpSocket::bind((from, 0)).unwrap();
            socket.set_broadcast(true).unwrap();
            let mut to = SocketAddr::new(to, port);
            if let SocketAddr::V6(v6) = &mut to {
                v6.set_scope_id(index);
            }
            socket.send_to(b"hello", to).unwrap();
        };
        let all = || {
            for port in [5180, 5353] {
                send("192.0.2.7", [192, 0, 2, 255].into(), port);
                send("192.0.2.7", [224, 0, 0, 1].into(), port);
                send("2001:db8::7", [0xff02, 0, 0, 0, 0, 0, 0, 1].into(), port);
            }
        };
        world.lab.client.inside(all).unwrap();
    };
    send();
    assert_eq!((world.counted("door"), world.counted("other")), (3, 3));
    world.apply(UDP_DOOR);
    send();
    assert_eq!((world.counted("door"), world.counted("other")), (3, 6));
    world.yes(&["open", "vpn", CLIENT[0]]);
    world.yes(&["open", "vpn", CLIENT[1]]);
    send();
    assert_eq!((world.counted("door"), world.counted("other")), (6, 9));
}

/// As Docker publishes a port: the server translates 8080 to a container behind it.
fn a_published_port_is_guarded() {
    let policy = YVES.replace("[22]", "[8080]");
    let world = World::bare();
    let container = Host::new().unwrap();
    let server = &world.lab.server;
    let pid = container.pid();
    server
        .ip(&format!(
            "link add docker0 type veth peer name eth0 netns {pid}"
        ))
        .unwrap();
    server.ip("addr add 172.17.0.1/24 dev docker0").unwrap();
    server.ip("link set docker0 up").unwrap();
    container.ip("addr add 172.17.0.2/24 dev eth0").unwrap();
    container.ip("link set eth0 up").unwrap();
    container.ip("route add default via 172.17.0.1").unwrap();
    world.server(&["sysctl", "-qw", "net.ipv4.ip_forward=1"]);
    world.nft(
        "table ip nat { chain prerouting { type nat hook prerouting priority dstnat; \
         fib daddr type local tcp dport 8080 dnat to 172.17.0.2:80;\n}\n}",
    );
    listen(&container, 80);
    // It is reached, until the policy is there.
    world.until("the container answers", || {
        world.connect(CLIENT[0], 8080) == Door::Open
    });
    world.apply(&policy);
    assert_eq!(world.connect(CLIENT[0], 8080), Door::Silent);
    world.knock(CLIENT[0], &SEQUENCE);
    assert!(alive(&mut world.session(CLIENT[0], 8080)));
    assert_eq!(world.connect(STRANGER[0], 8080), Door::Silent);
}

fn a_grant_by_prefix_serves_the_neighbours_and_no_one_else() {
    let policy = format!("{YVES}[grant]\nprefix4 = 29\nprefix6 = 125\n");
    let world = World::with(&policy);
    world.listen(22);
    // 192.0.2.7 is in 192.0.2.0/29; .9 is not, .2 is. The same for IPv6.
    for (family, neighbour) in [(0, "192.0.2.2"), (1, "2001:db8::2")] {
        let length = [24, 64][family];
        let words = format!("addr add {neighbour}/{length} dev eth0");
        let nodad = if family == 1 { " nodad" } else { "" };
        world.lab.client.ip(&format!("{words}{nodad}")).unwrap();
        let mac = "02:00:00:00:00:02";
        let neigh = format!("neigh add {neighbour} lladdr {mac} dev eth0 nud permanent");
        world.lab.server.ip(&neigh).unwrap();
        assert_eq!(world.connect(neighbour, 22), Door::Silent);
        world.knock(CLIENT[family], &SEQUENCE);
        assert_eq!(world.connect(CLIENT[family], 22), Door::Open);
        assert_eq!(world.connect(neighbour, 22), Door::Open);
        assert_eq!(world.connect(STRANGER[family], 22), Door::Silent);
    }
    let holders = world.holders("ssh");
    assert_eq!(holders[0], ("192.0.2.0/29".into(), Some("yves".into())));
    assert_eq!(holders[1], ("2001:db8::/125".into(), Some("yves".into())));
}

fn once_is_used_up_by_the_first_connection() {
    let world = World::with(
        &YVES
            .replace("[443,", "[444,")
            .replace("50]", "50]\nonce = true"),
    );
    world.listen(22);
    for client in CLIENT {
        world.knock(client, &[444, 2387, 920, 18357, 50]);
        let mut session = world.session(client, 22);
        assert_eq!(world.connect(client, 22), Door::Silent);
        assert!(alive(&mut session));
        assert!(world.nobody_is_in());
    }
}

/// The answer to a first packet may be lost; its repetition belongs to the same connection.
#[test]
fn once_lets_the_first_packet_repeat_itself() {
    let world = World::with(&YVES.replace("50]", "50]\nonce = true"));
    count_syns_to(&world, 22);
    for client in CLIENT {
        let before = world.counted("seen");
        world.knock(client, &SEQUENCE);
        let client = client.parse().unwrap();
        world.inject(|injector| {
            injector.tcp(client, 5000, 22, SYN);
            injector.tcp(client, 5000, 22, SYN);
            injector.tcp(client, 5001, 22, SYN);
        });
        assert_eq!(world.counted("seen") - before, 2);
    }
}

/// That connection alone: none to another port, none after it has begun, and none after a `close`. Until it
/// begins, a first packet with another number is another try of it.
#[test]
fn once_is_for_exactly_one_connection() {
    let policy = YVES.replace("[22]", "[22, 23]");
    let world = World::with(&policy.replace("50]", "50]\nonce = true"));
    world.nft(
        "table inet beside { counter seen { }\nchain c { type filter hook input priority filter; \
         tcp dport { 22, 23 } tcp flags & (syn | ack) == syn counter name seen\n}\n}",
    );
    for client in CLIENT {
        world.knock(client, &SEQUENCE);
        let before = world.counted("seen");
        let source = client.parse().unwrap();
        let syn = |port, number| world.inject(|i| i.syn_numbered(source, 5000, port, number));
        let seen = || world.counted("seen") - before;
        syn(22, 7);
        syn(22, 7);
        assert_eq!(seen(), 2);
        syn(23, 7);
        syn(23, 8);
        assert_eq!(seen(), 2);
        syn(22, 8);
        assert_eq!(seen(), 3);
        world.yes(&["close", "203.0.113.1"]);
        syn(22, 7);
        assert_eq!(seen(), 3);
        // A new grant is a new claim.
        world.knock(client, &SEQUENCE);
        syn(22, 9);
        world.inject(|injector| injector.tcp(source, 5000, 22, ACK));
        syn(22, 9);
        syn(22, 10);
        assert_eq!(seen(), 4);
    }
}

/// A datagram has no number: its flow may go on before it is answered, no other flow may begin.
#[test]
fn once_at_a_udp_door_is_for_one_flow() {
    let world = World::with(&UDP_DOOR.replace("920]", "920]\nonce = true"));
    world.nft(
        "table inet beside { counter seen { }\nchain c { type filter hook input priority filter; \
         udp dport 5180 counter name seen\n}\n}",
    );
    for client in CLIENT {
        let before = world.counted("seen");
        let source = client.parse().unwrap();
        world.inject(|injector| {
            injector.tcp(source, 7, 443, SYN);
            injector.udp(source, 7, 53);
            injector.tcp(source, 7, 920, SYN);
            injector.udp(source, 5000, 5180);
            injector.udp(source, 5000, 5180);
            injector.udp(source, 5001, 5180);
        });
        assert_eq!(world.counted("seen") - before, 2);
    }
}

/// Two first packets at the same moment, on two cores if there are two: one gets through, one not.
#[test]
fn once_is_for_one_of_two_connections_at_the_same_moment() {
    const ROUNDS: u32 = 1000;
    let world = World::with(&YVES.replace("50]", "50]\nonce = true"));
    count_syns_to(&world, 22);
    let source = |round: u32| Ipv4Addr::from(0x0a06_0000 + round).into();
    world.inject(|injector| {
        for round in 1..=ROUNDS {
            for port in SEQUENCE {
                injector.tcp(source(round), 7, port, SYN);
            }
            thread::sleep(Duration::from_millis(1));
        }
    });
    assert_eq!(world.status()["keys"][0]["opened"], ROUNDS);
    let ready = AtomicU32::new(0);
    let sender = |port| {
        world.inject(|injector| {
            for round in 1..=ROUNDS {
                ready.fetch_add(1, Ordering::SeqCst);
                while ready.load(Ordering::SeqCst) < 2 * round {
                    std::hint::spin_loop();
                }
                injector.tcp(source(round), port, 22, SYN);
            }
        });
    };
    thread::scope(|scope| {
        scope.spawn(|| sender(5000));
        scope.spawn(|| sender(5001));
    });
    world.until("all have come", || world.nobody_is_in());
    assert_eq!(world.counted("seen"), u64::from(ROUNDS));
}

/// Counts, in a table of the test's own, the SYNs to a port that get as far as the host's input.
pub fn count_syns_to(world: &World, port: u16) {
    world.nft(&format!(
        "table inet beside {{ counter seen {{ }}\nchain c {{ type filter hook input priority filter; \
         tcp dport {port} tcp flags & (syn | ack) == syn counter name seen\n}}\n}}"
    ));
}

fn trusted_sources_need_no_knock() {
    let world =
        World::with(&YVES.replace("[22]", "[22]\ntrust = [\"192.0.2.8/29\", \"2001:db8::9\"]"));
    world.listen(22);
    for (client, trusted) in CLIENT.into_iter().zip(STRANGER) {
        assert_eq!(world.connect(trusted, 22), Door::Open);
        assert_eq!(world.connect(client, 22), Door::Silent);
    }
    let said = world.yes(&["status"]);
    assert!(
        said.contains("closed to all, trusts 192.0.2.8/29 and 2001:db8::9"),
        "{said}"
    );
}

/// `::ffff:192.0.2.7` is 192.0.2.7, by hand and in `trust`.
#[test]
fn a_mapped_address_is_the_one_it_means() {
    let trusting = YVES.replace("[22]", "[22]\ntrust = [\"::ffff:192.0.2.8/125\"]");
    let world = World::with(&trusting);
    world.listen(22);
    assert_eq!(world.connect(STRANGER[0], 22), Door::Open);
    assert_eq!(world.connect(STRANGER[1], 22), Door::Silent);
    assert_eq!(world.connect(CLIENT[0], 22), Door::Silent);
    let said = world.yes(&["open", "ssh", "::ffff:192.0.2.7"]);
    assert_eq!(said, "ssh is open to 192.0.2.7 for 1m\n");
    assert_eq!(world.connect(CLIENT[0], 22), Door::Open);
    assert_eq!(world.connect(CLIENT[1], 22), Door::Silent);
    assert_eq!(world.yes(&["close", "::ffff:192.0.2.7"]), "ended 1 grant\n");
    assert_eq!(world.connect(CLIENT[0], 22), Door::Silent);
}

#[test]
fn a_rejecting_door_looks_like_a_closed_port() {
    let world = World::with(&format!("closed = \"reject\"\n{YVES}"));
    world.listen(22);
    for client in CLIENT {
        assert_eq!(world.connect(client, 22), Door::Refused);
        world.knock(client, &SEQUENCE);
        assert_eq!(world.connect(client, 22), Door::Open);
    }
    let world = World::with(&format!("closed = \"reject\"\n{UDP_DOOR}"));
    world.listen_udp(5180);
    for client in CLIENT {
        let socket = udp(&world, client);
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.send(b"hello").unwrap();
        let refused = socket.recv(&mut [0; 16]).unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    }
}

fn only_the_named_interfaces_are_guarded() {
    let world = World::with(YVES);
    let elsewhere = format!("interfaces = [\"eth1\", \"eth2\"]\n{YVES}");
    std::fs::write(world.path(), elsewhere).unwrap();
    world.yes(&["apply", "--anyway"]);
    world.listen(22);
    assert_eq!(world.connect(CLIENT[0], 22), Door::Open);
    world.apply(&format!("interfaces = [\"eth0\", \"eth1\"]\n{YVES}"));
    assert_eq!(world.connect(CLIENT[0], 22), Door::Silent);
    world.knock(CLIENT[0], &SEQUENCE);
    assert_eq!(world.connect(CLIENT[0], 22), Door::Open);
}

fn the_host_itself_needs_no_knock() {
    let world = World::with(YVES);
    world.listen(22);
    for address in [
        "127.0.0.1:22",
        "192.0.2.1:22",
        "[::1]:22",
        "[2001:db8::1]:22",
    ] {
        let address: SocketAddr = address.parse().unwrap();
        let connect = || std::net::TcpStream::connect_timeout(&address, PATIENCE);
        assert!(
            world.lab.server.inside(connect).unwrap().is_ok(),
            "{address}"
        );
    }
    assert_eq!(world.connect(CLIENT[0], 22), Door::Silent);
}

fn a_dated_key_expires_in_the_kernel() {
    let world = World::with(YVES);
    let now = jiff::Timestamp::now().as_second();
    let end = jiff::Timestamp::from_second(now + 10).unwrap();
    world.apply(&YVES.replace("50]", &format!("50]\nexpires = {end}")));
    world.knock(CLIENT[0], &SEQUENCE);
    assert_eq!(world.holders("ssh").len(), 1);
    world.until("the key expires", || {
        world.status()["keys"][0]["expired"] == true
    });
    world.knock(STRANGER[0], &SEQUENCE);
    assert_eq!(world.holders("ssh").len(), 1);
    assert_eq!(world.status()["matches_policy"], true);
}

/// The message of `log = "nflog:GROUP"`: prefix and packet, read by a real program.
fn an_opening_is_logged_with_door_key_and_source() {
    let world = World::with(&format!("log = \"nflog:5\"\n{YVES}"));
    let directory = tempfile::tempdir().unwrap();
    let capture = directory.path().join("log.pcap");
    let path = capture.to_str().unwrap();
    let user = if rustix::process::geteuid().is_root() {
        "root"
    } else {
        ""
    };
    let _tcpdump = start(
        &world.lab.server,
        &["tcpdump", "-Z", user, "-i", "nflog:5", "-U", "-w", path],
    );
    world.until("tcpdump listens", || {
        std::fs::metadata(&capture).is_ok_and(|file| file.len() >= 24)
    });
    let log = || std::fs::read(&capture).unwrap();
    let holds = |needle: &[u8]| log().windows(needle.len()).any(|window| window == needle);
    world.knock(STRANGER[0], &SEQUENCE[..4]);
    world.knock(CLIENT[0], &SEQUENCE);
    world.until("the opening is logged", || {
        holds(b"toctoc: opened door=ssh key=yves ")
    });
    assert!(holds(&[192, 0, 2, 7, 192, 0, 2, 1]));
    assert!(!holds(&[192, 0, 2, 9, 192, 0, 2, 1]));
}

fn a_line_goes_both_ways_through_an_open_door() {
    let world = World::with(YVES);
    world.listen(22);
    world.knock(CLIENT[1], &SEQUENCE);
    let mut session = world.session(CLIENT[1], 22);
    session.write_all(b"bonjour").unwrap();
    let mut back = [0; 7];
    session.read_exact(&mut back).unwrap();
    assert_eq!(&back, b"bonjour");
}

on_every_firewall!(
    a_session_outlives_its_grant_and_nothing_new_enters,
    an_open_port_in_a_sequence_serves_as_before,
    a_udp_door_opens_and_its_flow_outlives_the_grant,
    a_udp_door_guards_untracked_datagrams_too,
    a_udp_door_guards_broadcast_and_multicast_too,
    a_published_port_is_guarded,
    a_grant_by_prefix_serves_the_neighbours_and_no_one_else,
    once_is_used_up_by_the_first_connection,
    trusted_sources_need_no_knock,
    only_the_named_interfaces_are_guarded,
    the_host_itself_needs_no_knock,
    a_dated_key_expires_in_the_kernel,
    an_opening_is_logged_with_door_key_and_source,
    a_line_goes_both_ways_through_an_open_door,
);
