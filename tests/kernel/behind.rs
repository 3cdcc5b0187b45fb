//! Doors in front of another host, to which this one is the way.
//!
//! ```text
//!   client, stranger              server                              inner
//!   192.0.2.7, .9    eth0 - eth0  192.0.2.1, 198.51.100.1  inner - eth0  198.51.100.50
//!   2001:db8::7, ::9              2001:db8::1, fd51::1                   fd51::50
//! ```

use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};

use socket2::{Domain, Socket, Type};
use toctoc::client::Door;
use toctoc::firewall::run;
use toctoc::lab::{CLIENT, Host, SERVER, STRANGER};

use crate::inject::{ACK, SYN, tcp_header};
use crate::world::{PATIENCE, SEQUENCE, SHUT, World, alive, listen, on};

pub const INNER: [&str; 2] = ["198.51.100.50", "fd51::50"];
const OTHER: [&str; 2] = ["198.51.100.51", "fd51::51"];

const NAS: &str = r#"
open_for = "60s"
[door.nas]
ports = [22, "8000-8010", "5000/udp"]
to = ["198.51.100.50", "fd51::50"]
[key.yves]
opens = ["nas"]
sequence = [443, 2387, 920, 18357, 50]
"#;

/// Three hosts in a row.
pub struct Row {
    pub world: World,
    pub inner: Host,
}

impl Row {
    pub fn with(policy: &str) -> Row {
        let world = World::bare();
        let inner = Host::new().unwrap();
        let server = &world.lab.server;
        server
            .ip(&format!(
                "link add inner type veth peer name eth0 netns {}",
                inner.pid()
            ))
            .unwrap();
        for (host, name, own) in [
            (server, "inner", &["198.51.100.1", "fd51::1"][..]),
            (
                &inner,
                "eth0",
                &[INNER[0], INNER[1], OTHER[0], OTHER[1]][..],
            ),
        ] {
            for address in own {
                let (length, nodad) = match address.contains(':') {
                    true => (64, " nodad"),
                    false => (24, ""),
                };
                host.ip(&format!("addr add {address}/{length} dev {name}{nodad}"))
                    .unwrap();
            }
            host.ip(&format!("link set {name} up")).unwrap();
        }
        for setting in ["net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"] {
            world.server(&["sysctl", "-qw", setting]);
        }
        for (via, network) in ["198.51.100.1", "fd51::1"]
            .iter()
            .zip(["192.0.2.0/24", "2001:db8::/64"])
        {
            inner.ip(&format!("route add {network} via {via}")).unwrap();
        }
        for (via, network) in SERVER.iter().zip(["198.51.100.0/24", "fd51::/64"]) {
            world
                .lab
                .client
                .ip(&format!("route add {network} via {via}"))
                .unwrap();
        }
        for port in [22, 80, 8005] {
            listen(&inner, port);
        }
        let row = Row { world, inner };
        for (from, to) in CLIENT.into_iter().zip(INNER) {
            row.world.until("the way is there", || {
                row.connect(from, to, 80) == Door::Open
            });
        }
        row.world.apply(policy);
        row
    }

    /// Connects from an address of the client to a host behind the server.
    pub fn connect(&self, from: &str, to: &str, port: u16) -> Door {
        match self.try_session(from, to, port, false) {
            Ok(_) => Door::Open,
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => Door::Refused,
            Err(_) => Door::Silent,
        }
    }

    fn try_session(
        &self,
        from: &str,
        to: &str,
        port: u16,
        opens: bool,
    ) -> std::io::Result<TcpStream> {
        let to = SocketAddr::new(to.parse().unwrap(), port);
        let from = SocketAddr::new(from.parse().unwrap(), 0);
        let session = self.world.lab.client.inside(|| {
            let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
            socket.bind(&from.into())?;
            socket.connect_timeout(&to.into(), if opens { PATIENCE } else { SHUT })?;
            Ok(socket.into())
        });
        session.unwrap()
    }

    fn session(&self, from: &str, to: &str, port: u16) -> TcpStream {
        self.try_session(from, to, port, true).unwrap()
    }

    /// Sends SYNs to a host behind the server, one for each port.
    fn knock_at(&self, from: &str, to: &str, ports: &[u16]) {
        let (from, to): (IpAddr, IpAddr) = (from.parse().unwrap(), to.parse().unwrap());
        self.world.inject(|injector| {
            for &port in ports {
                injector.ip_to(from, to, 6, &tcp_header(from, to, 40_001, port, SYN));
            }
        });
    }

    /// Counts on the inner host what would begin a connection to port 22.
    pub fn count_arrivals(&self) {
        let table = "table inet beside { counter arrived { }\n chain c { type filter hook input priority 0; \
                     tcp dport 22 tcp flags & (syn | ack) == syn counter name arrived\n}\n}";
        let ended = self
            .inner
            .inside(|| run(&["nft", "-f", "-"], table))
            .unwrap()
            .unwrap();
        assert!(ended.succeeded(), "{}", ended.stderr);
    }

    pub fn arrived(&self) -> u64 {
        let said = on(
            &self.inner,
            &["nft", "-j", "list", "counter", "inet", "beside", "arrived"],
        );
        let value: serde_json::Value = serde_json::from_str(&said.stdout).unwrap();
        let objects = value["nftables"].as_array().unwrap();
        objects
            .iter()
            .find_map(|o| o["counter"]["packets"].as_u64())
            .unwrap()
    }

    /// Returns whether a datagram to a host behind the server comes back.
    fn answers(&self, from: &str, to: &str, port: u16, comes: bool) -> bool {
        let answered = self.world.lab.client.inside(|| {
            let socket = UdpSocket::bind((from, 0)).unwrap();
            let wait = if comes { PATIENCE } else { SHUT };
            socket.set_read_timeout(Some(wait)).unwrap();
            socket.send_to(b"hello", (to, port)).unwrap();
            socket.recv(&mut [0; 16])
        });
        answered.unwrap().is_ok()
    }

    fn echo_datagrams(&self, port: u16) {
        let socket = self
            .inner
            .inside(|| UdpSocket::bind(("::", port)))
            .unwrap()
            .unwrap();
        std::thread::spawn(move || {
            let mut buffer = [0; 100];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                let _ = socket.send_to(&buffer[..length], from);
            }
        });
    }
}

/// Client, stranger, inner host and another address of it, for each family.
fn families() -> impl Iterator<Item = (&'static str, &'static str, &'static str, &'static str)> {
    (0..2).map(|family| {
        (
            CLIENT[family],
            STRANGER[family],
            INNER[family],
            OTHER[family],
        )
    })
}

#[test]
fn a_door_in_front_of_another_host_opens_for_its_guest_alone() {
    let row = Row::with(NAS);
    for (client, stranger, inner, other) in families() {
        for port in [22, 8005] {
            assert_eq!(row.connect(client, inner, port), Door::Silent, "{port}");
        }
        // Other ports of that host, and other hosts, are nobody's business.
        assert_eq!(row.connect(stranger, inner, 80), Door::Open);
        assert_eq!(row.connect(stranger, other, 22), Door::Open);
        row.world.knock(client, &SEQUENCE);
        for port in [22, 8005] {
            assert_eq!(row.connect(client, inner, port), Door::Open, "{port}");
            assert_eq!(row.connect(stranger, inner, port), Door::Silent, "{port}");
        }
        let mut session = row.session(client, inner, 22);
        row.world.yes(&["close"]);
        assert!(alive(&mut session), "a session outlives its grant");
        assert_eq!(row.connect(client, inner, 22), Door::Silent);
        row.world.yes(&["open", "nas", client]);
        assert_eq!(row.connect(client, inner, 22), Door::Open);
        assert_eq!(row.connect(stranger, inner, 22), Door::Silent);
    }
}

#[test]
fn datagrams_to_a_host_behind_need_a_grant() {
    let row = Row::with(NAS);
    row.echo_datagrams(5000);
    row.echo_datagrams(5001);
    for (client, stranger, inner, _) in families() {
        assert!(!row.answers(client, inner, 5000, false));
        assert!(row.answers(stranger, inner, 5001, true));
        row.world.knock(client, &SEQUENCE);
        assert!(row.answers(client, inner, 5000, true));
        assert!(!row.answers(stranger, inner, 5000, false));
    }
}

#[test]
fn the_same_port_here_and_behind_are_different_doors() {
    let policy = format!(
        "{NAS}[door.ssh]\nports = [22]\n[key.anna]\nopens = [\"ssh\"]\nsequence = [7101, 640, 5223]\n"
    );
    let row = Row::with(&policy);
    row.world.listen(22);
    for (client, stranger, inner, _) in families() {
        row.world.knock(client, &[7101, 640, 5223]);
        assert_eq!(row.world.connect(client, 22), Door::Open);
        assert_eq!(row.connect(client, inner, 22), Door::Silent);
        row.world.yes(&["close"]);
        row.world.knock(client, &SEQUENCE);
        assert_eq!(row.connect(client, inner, 22), Door::Open);
        assert_eq!(row.world.connect(client, 22), Door::Silent);
        assert_eq!(row.connect(stranger, inner, 22), Door::Silent);
        row.world.yes(&["close"]);
    }
}

#[test]
fn a_door_behind_leaves_the_same_port_here_alone() {
    let row = Row::with(NAS);
    row.world.listen(22);
    for (client, _, inner, _) in families() {
        assert_eq!(row.world.connect(client, 22), Door::Open);
        assert_eq!(row.connect(client, inner, 22), Door::Silent);
    }
}

#[test]
fn knocks_at_a_host_behind_count_only_where_the_policy_says_so() {
    let row = Row::with(NAS);
    for (client, _, inner, _) in families() {
        row.knock_at(client, inner, &SEQUENCE);
        assert_eq!(row.connect(client, inner, 22), Door::Silent);
    }
    row.world
        .apply(&NAS.replace("\"fd51::50\"]", "\"fd51::50\"]\nknock_at = \"both\""));
    for (client, stranger, inner, other) in families() {
        row.knock_at(client, other, &SEQUENCE);
        assert_eq!(
            row.connect(client, inner, 22),
            Door::Silent,
            "no door stands there"
        );
        row.knock_at(client, inner, &SEQUENCE);
        assert_eq!(row.connect(client, inner, 22), Door::Open);
        assert_eq!(row.connect(stranger, inner, 22), Door::Silent);
        row.world.yes(&["close"]);
        // Wherever a knock comes, it is of one sequence.
        row.world.knock(client, &SEQUENCE[..2]);
        row.knock_at(client, inner, &SEQUENCE[2..4]);
        row.world.knock(client, &SEQUENCE[4..]);
        assert_eq!(row.connect(client, inner, 22), Door::Open);
        row.world.yes(&["close"]);
        // A closed door there is a wrong knock.
        row.knock_at(client, inner, &SEQUENCE[..2]);
        row.knock_at(client, inner, &[8005]);
        row.knock_at(client, inner, &SEQUENCE[2..]);
        assert_eq!(row.connect(client, inner, 22), Door::Silent);
    }
}

#[test]
fn a_grant_for_one_connection_is_used_up_behind() {
    let row = Row::with(&format!("{NAS}once = true\n"));
    for (client, stranger, inner, _) in families() {
        row.world.knock(client, &SEQUENCE);
        assert_eq!(row.connect(stranger, inner, 22), Door::Silent);
        let mut session = row.session(client, inner, 22);
        assert!(alive(&mut session));
        assert_eq!(row.connect(client, inner, 22), Door::Silent);
        assert!(alive(&mut session));
    }
}

/// Others translate a port of the server to the host behind: the door is asked where the packet goes.
#[test]
fn a_door_behind_is_closed_whatever_others_translate_to_it() {
    let row = Row::with(NAS);
    row.world.nft(
        "table inet nat { chain c { type nat hook prerouting priority dstnat;\n\
         iifname eth0 meta nfproto ipv4 tcp dport 2222 dnat ip to 198.51.100.50:22\n\
         iifname eth0 meta nfproto ipv6 tcp dport 2222 dnat ip6 to [fd51::50]:22\n}\n}",
    );
    for (client, stranger, _, _) in families() {
        assert_eq!(row.world.connect(stranger, 2222), Door::Silent);
        row.world.knock(client, &SEQUENCE);
        assert_eq!(row.world.connect(client, 2222), Door::Open);
        assert_eq!(row.world.connect(stranger, 2222), Door::Silent);
    }
}

/// Nothing puts fragments together on the way; the host behind does.
#[test]
fn nothing_slips_through_to_a_host_behind_in_fragments() {
    let tcp_alone = NAS.replace(", \"5000/udp\"", "");
    for policy in [&*tcp_alone, NAS] {
        let row = Row::with(policy);
        row.count_arrivals();
        let send = |from: &str| {
            let (from, to): (IpAddr, IpAddr) = (from.parse().unwrap(), INNER[0].parse().unwrap());
            let (IpAddr::V4(source), IpAddr::V4(target)) = (from, to) else {
                unreachable!()
            };
            let mut whole = tcp_header(from, to, 40_001, 22, SYN);
            whole.extend([0; 12]);
            whole[16..18].fill(0);
            let innocent = tcp_header(from, to, 40_001, 22, ACK);
            row.world.inject(|injector| {
                // The flags in the second fragment, or behind ones that look harmless.
                injector.fragment(source, target, 6, 0x2000, &whole[..8]);
                injector.fragment(source, target, 6, 1, &whole[8..]);
                injector.fragment(source, target, 6, 0x2000, &innocent[..16]);
                injector.fragment(source, target, 6, 0x2001, &whole[8..24]);
                injector.fragment(source, target, 6, 3, &whole[24..]);
                // One that shows its flags.
                injector.fragment(source, target, 6, 0x2000, &whole[..24]);
                injector.fragment(source, target, 6, 3, &whole[24..]);
            });
        };
        send(STRANGER[0]);
        row.knock_at(STRANGER[0], INNER[0], &[22]);
        assert_eq!(row.connect(STRANGER[0], INNER[0], 22), Door::Silent);
        assert_eq!(row.arrived(), 0);
        row.world.knock(CLIENT[0], &SEQUENCE);
        row.knock_at(CLIENT[0], INNER[0], &[22]);
        row.world
            .until("a SYN of a guest is there", || row.arrived() > 0);
        if policy == tcp_alone {
            // The rules stop them, and nothing else.
            let before = row.arrived();
            row.world
                .server(&["nft", "flush", "chain", "inet", "toctoc", "torn"]);
            send("192.0.2.10");
            row.world
                .until("they slip through", || row.arrived() > before);
        }
    }
}

/// Some hosts take a SYN with FIN for a beginning, as older BSDs do.
#[test]
fn a_syn_with_other_flags_begins_a_connection_behind() {
    const FIN: u8 = 1;
    const RST: u8 = 4;
    const PSH: u8 = 8;
    const URG: u8 = 32;
    const ODD: [u8; 5] = [
        SYN | FIN,
        SYN | RST,
        SYN | FIN | RST,
        SYN | PSH | URG,
        0xc0 | SYN | FIN,
    ];
    let row = Row::with(NAS);
    row.count_arrivals();
    let send = |from: &str, to: &str| {
        let (from, to): (IpAddr, IpAddr) = (from.parse().unwrap(), to.parse().unwrap());
        row.world.inject(|injector| {
            for flags in ODD {
                injector.ip_to(from, to, 6, &tcp_header(from, to, 40_001, 22, flags));
            }
        });
    };
    for (client, stranger, inner, _) in families() {
        let before = row.arrived();
        send(stranger, inner);
        assert_eq!(row.connect(stranger, inner, 22), Door::Silent);
        assert_eq!(row.arrived(), before);
        // The door lets them through for its guest, as any other SYN.
        row.world.knock(client, &SEQUENCE);
        send(client, inner);
        row.world.until("a guest's are there", || {
            row.arrived() >= before + ODD.len() as u64
        });
    }
}

/// A route that a packet brings itself (RFC 791): on its way through, its header names this host or another one.
#[test]
fn a_route_in_the_packet_leads_past_no_door() {
    let row = Row::with(NAS);
    let all = [
        "net.ipv4.conf.all.accept_source_route=1",
        "net.ipv4.conf.eth0.accept_source_route=1",
    ];
    let inner = "net.ipv4.conf.inner.accept_source_route=1";
    row.world.server(&["sysctl", "-qw", all[0], all[1], inner]);
    for host in [&row.inner, &row.world.lab.client] {
        assert!(on(host, &["sysctl", "-qw", all[0], all[1]]).succeeded());
    }
    let comes = |from: &str, option: u8, port: u16| {
        let script = format!(
            "import socket\n\
             s = socket.socket()\n\
             way = b''.join(socket.inet_aton(one) for one in ('{}', '{}'))\n\
             s.setsockopt(0, 4, bytes([{option}, 11, 4]) + way + b'\\0')\n\
             s.bind(('{from}', 0))\n\
             s.settimeout({})\n\
             s.connect(('{}', {port}))\n",
            SERVER[0],
            INNER[0],
            SHUT.as_secs_f64(),
            INNER[0]
        );
        on(&row.world.lab.client, &["python3", "-c", &script]).succeeded()
    };
    const LOOSE: u8 = 131;
    const STRICT: u8 = 137;
    row.world.knock(CLIENT[0], &SEQUENCE);
    assert_eq!(row.connect(CLIENT[0], INNER[0], 22), Door::Open);
    for option in [LOOSE, STRICT] {
        assert!(!comes(STRANGER[0], option, 22));
    }
    // The rules stop them, and nothing else.
    row.world
        .server(&["nft", "flush", "chain", "inet", "toctoc", "forwarded"]);
    for option in [LOOSE, STRICT] {
        row.world.until("it comes by its own route", || {
            comes(STRANGER[0], option, 22)
        });
    }
}

/// IPv6 headers and fragments that hide flags, on the way to another host.
#[test]
fn nothing_slips_through_to_a_host_behind_behind_ipv6_headers() {
    let tcp_alone = NAS.replace(", \"5000/udp\"", "");
    let row = Row::with(&tcp_alone);
    row.world.nft(
        "table inet beside { counter firsts { }\n chain c { type filter hook forward priority 10; \
         ip6 saddr != 2001:db8::7 frag frag-off 0 counter name firsts\n}\n}",
    );
    row.count_arrivals();
    let send = |from: &str, is_whole: bool| {
        let (from, to): (IpAddr, IpAddr) = (from.parse().unwrap(), INNER[1].parse().unwrap());
        let tcp = tcp_header(from, to, 40_001, 22, SYN);
        let fragment = |next: u8, offset: u16, more: u16, number: u8| {
            let [high, low] = (offset << 3 | more).to_be_bytes();
            vec![next, 0, high, low, 0, 0, 0, number]
        };
        let options = |next: u8| vec![next, 0, 1, 4, 0, 0, 0, 0];
        row.world.inject(|injector| {
            if is_whole {
                return injector.ip_to(from, to, 60, &[options(6), tcp.clone()].concat());
            }
            injector.ip_to(from, to, 60, &[options(6), tcp.clone()].concat());
            // Eight bytes of TCP first.
            injector.ip_to(
                from,
                to,
                44,
                &[fragment(6, 0, 1, 1), tcp[..8].to_vec()].concat(),
            );
            injector.ip_to(
                from,
                to,
                44,
                &[fragment(6, 1, 0, 1), tcp[8..].to_vec()].concat(),
            );
            // Options alone in the first one.
            injector.ip_to(from, to, 44, &[fragment(60, 0, 1, 2), options(6)].concat());
            injector.ip_to(from, to, 44, &[fragment(60, 1, 0, 2), tcp.clone()].concat());
            // Fragments of fragments.
            let outer = || fragment(44, 0, 0, 3);
            injector.ip_to(
                from,
                to,
                44,
                &[outer(), fragment(6, 0, 1, 4), tcp[..8].to_vec()].concat(),
            );
            injector.ip_to(
                from,
                to,
                44,
                &[outer(), fragment(6, 1, 0, 4), tcp[8..].to_vec()].concat(),
            );
        });
    };
    send(STRANGER[1], false);
    assert_eq!(row.connect(STRANGER[1], INNER[1], 22), Door::Silent);
    assert_eq!(row.arrived(), 0);
    row.world.knock(CLIENT[1], &SEQUENCE);
    send(CLIENT[1], true);
    row.world
        .until("a SYN of a guest is there", || row.arrived() > 0);
    assert_eq!(row.world.counted("firsts"), 0);
    // The rules stop them, and nothing else. (The host behind is a Linux that takes none of them either.)
    row.world
        .server(&["nft", "flush", "chain", "inet", "toctoc", "torn"]);
    send("2001:db8::10", false);
    row.world
        .until("they slip through", || row.world.counted("firsts") == 4);
}

/// `forward = "drop"` of `[firewall]` leaves nothing but the doors.
#[test]
fn a_firewall_that_drops_what_goes_on_lets_guests_through_a_door() {
    let policy = format!("{NAS}[firewall]\ndefault = \"drop\"\nforward = \"drop\"\n");
    let row = Row::with(&policy);
    for (client, stranger, inner, other) in families() {
        assert_eq!(row.connect(client, inner, 80), Door::Silent);
        assert_eq!(row.connect(client, inner, 22), Door::Silent);
        row.world.knock(client, &SEQUENCE);
        let mut session = row.session(client, inner, 22);
        assert!(alive(&mut session));
        assert_eq!(row.connect(client, inner, 80), Door::Silent);
        assert_eq!(row.connect(client, other, 22), Door::Silent);
        assert_eq!(row.connect(stranger, inner, 22), Door::Silent);
    }
}

#[test]
fn status_says_whether_a_door_behind_is_closed() {
    let row = Row::with(NAS);
    let world = &row.world;
    let guarded = || {
        world.status()["doors"][0]["guarded_by"]
            .as_str()
            .map(str::to_string)
    };
    assert_eq!(guarded().as_deref(), Some("nftables"));
    assert_eq!(world.status()["doors"][0]["to"][0], INNER[0]);
    for damage in [
        "flush chain inet toctoc forwarded",
        "flush chain inet toctoc door-nas",
    ] {
        world.server(&[&["nft"][..], &damage.split(' ').collect::<Vec<_>>()].concat());
        assert_eq!(guarded(), None, "{damage}");
        let output = world.toctoc(&["status"]);
        assert_eq!(output.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&output.stdout).contains("OPEN TO EVERYONE"));
        world.yes(&["heal"]);
        assert_eq!(guarded().as_deref(), Some("nftables"));
        assert_eq!(row.connect(STRANGER[0], INNER[0], 22), Door::Silent);
    }
}

#[test]
fn a_host_that_forwards_nothing_is_told() {
    let row = Row::with(NAS);
    let world = &row.world;
    let told = || {
        let output = world.toctoc(&["check"]);
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    assert!(!told().contains("does not forward"), "{}", told());
    world.server(&["sysctl", "-qw", "net.ipv4.ip_forward=0"]);
    assert!(
        told().contains("this host does not forward IPv4"),
        "{}",
        told()
    );
    let own = NAS.replace("198.51.100.50", "198.51.100.1");
    std::fs::write(world.path(), own).unwrap();
    assert!(told().contains("is an address of this host"), "{}", told());
}

/// Applied again and again, the door is shut at every moment.
#[test]
fn no_stranger_gets_to_a_host_behind_while_applying() {
    let row = Row::with(NAS);
    row.count_arrivals();
    let other = NAS.replace("8000-8010", "8000-8020");
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                for (_, stranger, inner, _) in families() {
                    row.knock_at(stranger, inner, &[22; 50]);
                }
            }
        });
        for number in 0..20 {
            row.world.apply(if number % 2 == 0 { &other } else { NAS });
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    assert_eq!(row.arrived(), 0);
}
