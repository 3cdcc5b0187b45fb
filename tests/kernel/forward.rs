//! Doors whose connections are passed on to another host: three hosts in a row, as in `behind`.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use toctoc::client::Door;
use toctoc::lab::{CLIENT, Host, SERVER, STRANGER};

use crate::behind::{INNER, Row};
use crate::inject::{ACK, SYN};
use crate::world::{SEQUENCE, SHUT, alive, on};

/// The inner host is reached at its addresses by everybody; its door is at the server.
const PI: &str = r#"
open_for = "60s"
[door.pi]
ports = [2222, "9000/udp"]
forward = ["198.51.100.50:22", "[fd51::50]:22"]
[key.yves]
opens = ["pi"]
sequence = [443, 2387, 920, 18357, 50]
"#;

fn families() -> impl Iterator<Item = (&'static str, &'static str)> {
    CLIENT.into_iter().zip(STRANGER)
}

/// The addresses that the inner host has seen connections to port 22 come from.
fn seen_from(row: &Row) -> String {
    on(
        &row.inner,
        &["ss", "-Htn", "state", "established", "( sport = :22 )"],
    )
    .stdout
}

#[test]
fn a_connection_is_passed_on_for_its_guest_alone() {
    let row = Row::with(PI);
    for (client, stranger) in families() {
        assert_eq!(row.world.connect(client, 2222), Door::Silent);
        row.world.knock(client, &SEQUENCE);
        let mut session = row.world.session(client, 2222);
        assert!(alive(&mut session));
        assert!(seen_from(&row).contains(client), "{}", seen_from(&row));
        assert_eq!(row.world.connect(stranger, 2222), Door::Silent);
        // The translation lives as long as the connection, and no longer.
        row.world.yes(&["close"]);
        assert!(alive(&mut session));
        assert_eq!(row.world.connect(client, 2222), Door::Silent);
        drop(session);
        // The same ends of a connection again.
        row.world
            .inject(|injector| injector.tcp(client.parse().unwrap(), 40_001, 2222, SYN));
        assert_eq!(row.world.connect(client, 2222), Door::Silent);
    }
}

/// To a stranger the port is one where nothing listens, for packets that begin no connection too.
#[test]
fn no_translation_is_seen_by_a_stranger() {
    let row = Row::with(PI);
    row.count_arrivals();
    for (_, stranger) in families() {
        row.world.inject(|injector| {
            for flags in [ACK, SYN, SYN | ACK, 1, 0] {
                injector.tcp(stranger.parse().unwrap(), 40_001, 2222, flags);
            }
        });
        assert_eq!(row.world.connect(stranger, 2222), Door::Silent);
    }
    assert_eq!(row.arrived(), 0);
    let entries = row
        .world
        .lab
        .server
        .inside(|| Command::new("conntrack").arg("-L").output().unwrap());
    let entries = String::from_utf8(entries.unwrap().stdout).unwrap();
    assert!(!entries.contains("198.51.100.50"), "{entries}");
}

#[test]
fn a_rejecting_door_that_passes_on_looks_like_a_closed_port() {
    let row = Row::with(&format!("closed = \"reject\"\n{PI}"));
    for (client, stranger) in families() {
        assert_eq!(row.world.connect(stranger, 2222), Door::Refused);
        row.world.knock(client, &SEQUENCE);
        assert_eq!(row.world.connect(client, 2222), Door::Open);
        assert_eq!(row.world.connect(stranger, 2222), Door::Refused);
    }
}

#[test]
fn a_grant_for_one_connection_passes_on_one() {
    let row = Row::with(&format!("{PI}once = true\n"));
    for (client, stranger) in families() {
        row.world.knock(client, &SEQUENCE);
        assert_eq!(row.world.connect(stranger, 2222), Door::Silent);
        let mut session = row.world.session(client, 2222);
        assert!(alive(&mut session));
        assert_eq!(row.world.connect(client, 2222), Door::Silent);
        assert!(alive(&mut session));
    }
}

/// A family without a place to go to is shut, grant or no grant.
#[test]
fn a_family_without_a_target_is_shut() {
    let row = Row::with(&PI.replace(", \"[fd51::50]:22\"", ""));
    row.world.listen(2222);
    row.world.knock(CLIENT[0], &SEQUENCE);
    row.world.knock(CLIENT[1], &SEQUENCE);
    assert_eq!(row.world.connect(CLIENT[0], 2222), Door::Open);
    assert_eq!(row.world.connect(CLIENT[1], 2222), Door::Silent);
}

/// The inner host has no way back through the server, and a host beside it knocks from inside (a hairpin).
#[test]
fn a_host_without_a_way_back_answers_to_a_masquerade() {
    let row = Row::with(PI);
    for network in ["192.0.2.0/24", "2001:db8::/64"] {
        row.inner.ip(&format!("route del {network}")).unwrap();
    }
    row.world.knock(CLIENT[0], &SEQUENCE);
    assert_eq!(
        row.world.connect(CLIENT[0], 2222),
        Door::Silent,
        "no way back"
    );
    row.world
        .apply(&PI.replace("22\"]\n", "22\"]\nmasquerade = true\n"));
    for (client, stranger) in families() {
        row.world.knock(client, &SEQUENCE);
        let mut session = row.world.session(client, 2222);
        assert!(alive(&mut session));
        let server = if client.contains(':') {
            "fd51::1"
        } else {
            "198.51.100.1"
        };
        assert!(seen_from(&row).contains(server), "{}", seen_from(&row));
        assert_eq!(row.world.connect(stranger, 2222), Door::Silent);
    }
}

#[test]
fn a_hairpin_needs_a_grant_and_a_masquerade() {
    let row = Row::with(&PI.replace("22\"]\n", "22\"]\nmasquerade = true\n"));
    for (network, via) in ["192.0.2.0/24", "2001:db8::/64"]
        .iter()
        .zip(["198.51.100.1", "fd51::1"])
    {
        row.inner
            .ip(&format!("route replace {network} via {via}"))
            .unwrap();
    }
    for (server, inner) in SERVER.into_iter().zip(INNER) {
        let connect = || {
            let address = |host: &str, port| SocketAddr::new(host.parse().unwrap(), port);
            let (from, to) = (address(inner, 0), address(server, 2222));
            let connected = row.inner.inside(|| {
                let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
                socket.bind(&from.into())?;
                socket.connect_timeout(&to.into(), SHUT)
            });
            connected.unwrap().is_ok()
        };
        assert!(!connect());
        row.world.yes(&["open", "pi", inner]);
        assert!(connect());
    }
}

#[test]
fn a_host_that_is_down_costs_nothing_but_the_connection() {
    let row = Row::with(PI);
    row.world.lab.server.ip("link set inner down").unwrap();
    row.world.knock(CLIENT[0], &SEQUENCE);
    assert_ne!(row.connect(CLIENT[0], SERVER[0], 2222), Door::Open);
    assert_eq!(row.world.holders("pi").len(), 1);
    assert_eq!(row.world.status()["matches_policy"], true);
    row.world.lab.server.ip("link set inner up").unwrap();
    row.world.until("the host is back", || {
        row.connect(CLIENT[0], SERVER[0], 2222) == Door::Open
    });
    assert_eq!(row.world.connect(STRANGER[0], 2222), Door::Silent);
}

/// A host beside the inner one, at the same network: the server is a bridge between the two.
fn neighbour(row: &Row) -> Host {
    let host = Host::new().unwrap();
    let server = &row.world.lab.server;
    for words in [
        "link add lan type bridge",
        "link set lan up",
        "link set inner master lan",
        "addr flush dev inner",
        "addr add 198.51.100.1/24 dev lan",
        &format!(
            "link add beside type veth peer name eth0 netns {}",
            host.pid()
        ),
        "link set beside master lan up",
    ] {
        server.ip(words).unwrap();
    }
    // Otherwise the bridge itself translates what comes back, where its netfilter is loaded.
    let bridged = "sysctl -qw net.bridge.bridge-nf-call-iptables=0 2>/dev/null || true";
    row.world.server(&["sh", "-c", bridged]);
    for words in [
        "addr add 198.51.100.60/24 dev eth0",
        "addr add 198.51.100.61/24 dev eth0",
        "link set eth0 up",
        "route add default via 198.51.100.1",
    ] {
        host.ip(words).unwrap();
    }
    host
}

/// A hairpin: a host beside the inner one connects to the outer address. It knocks like everybody; the answers come back through
/// the server with a masquerade alone, and the host's other address stays out.
#[test]
fn a_hairpin_knocks_and_needs_a_masquerade() {
    let row = Row::with(PI);
    let beside = neighbour(&row);
    let connect = |from: &str, port: u16, patience| {
        let address = |host: &str, port| SocketAddr::new(host.parse().unwrap(), port);
        let (from, to) = (address(from, 0), address(SERVER[0], port));
        let connected = beside.inside(|| {
            let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
            socket.bind(&from.into())?;
            socket.connect_timeout(&to.into(), patience)
        });
        connected.unwrap().is_ok()
    };
    let (guest, stranger) = ("198.51.100.60", "198.51.100.61");
    let reach = |from| connect(from, 2222, SHUT);
    let knock = || {
        for port in SEQUENCE {
            connect(guest, port, Duration::from_millis(60));
        }
    };
    assert!(!reach(guest));
    knock();
    assert_eq!(row.world.holders("pi")[0].0, guest);
    assert!(
        !reach(guest),
        "the answers come from the inner host's own address"
    );
    row.world
        .apply(&PI.replace("22\"]\n", "22\"]\nmasquerade = true\n"));
    knock();
    assert!(reach(guest));
    assert!(!reach(stranger));
    row.world.yes(&["close"]);
    assert!(!reach(guest));
}

/// Behind a door that passes on, and one in front of a host: down, or without a service. A guest sees that, and a stranger a shut
/// port as ever.
#[test]
fn a_stranger_does_not_see_that_a_host_is_down() {
    let to = PI.replace(
        "ports = [2222, \"9000/udp\"]\nforward = [\"198.51.100.50:22\", \"[fd51::50]:22\"]",
        "ports = [22, 23]\nto = [\"198.51.100.50\", \"fd51::50\"]",
    );
    let no_service = PI.replace(":22\"", ":23\"");
    for policy in [PI, &to, &no_service] {
        let row = Row::with(policy);
        for (place, (client, stranger)) in families().enumerate() {
            let (host, port) = match policy.contains("forward") {
                true => (SERVER[place], 2222),
                false => (INNER[place], 23),
            };
            row.world.knock(client, &SEQUENCE);
            let answer = match policy == PI {
                true => Door::Open,
                false => Door::Refused,
            };
            assert_eq!(row.connect(client, host, port), answer);
            assert_eq!(row.connect(stranger, host, port), Door::Silent);
        }
        row.world.lab.server.ip("link set inner down").unwrap();
        // In IPv6 the addresses and routes go with the link.
        let host = if policy == to { INNER[0] } else { SERVER[0] };
        let port = if policy == to { 23 } else { 2222 };
        assert_eq!(row.connect(STRANGER[0], host, port), Door::Silent);
        assert_ne!(row.connect(CLIENT[0], host, port), Door::Open);
    }
}

/// Passed on to this host itself: another port of it.
#[test]
fn a_port_of_this_host_can_be_the_place() {
    let policy = PI.replace(
        "[\"198.51.100.50:22\", \"[fd51::50]:22\"]",
        "\"192.0.2.1:22\"",
    );
    let row = Row::with(&policy);
    row.world.listen(22);
    assert_eq!(row.world.connect(CLIENT[0], 2222), Door::Silent);
    row.world.knock(CLIENT[0], &SEQUENCE);
    assert_eq!(row.world.connect(CLIENT[0], 2222), Door::Open);
    assert_eq!(row.world.connect(STRANGER[0], 2222), Door::Silent);
    // Where that port is a door too, its grant is asked for as well.
    row.world
        .apply(&format!("{policy}[door.ssh]\nports = [22]\n"));
    row.world.knock(CLIENT[0], &SEQUENCE);
    assert_eq!(row.world.connect(CLIENT[0], 2222), Door::Silent);
    row.world.yes(&["open", "ssh", CLIENT[0]]);
    assert_eq!(row.world.connect(CLIENT[0], 2222), Door::Open);
}

/// `forward = "drop"` of `[firewall]` leaves what a door passes on.
#[test]
fn a_firewall_that_drops_what_goes_on_leaves_what_a_door_passes_on() {
    let row = Row::with(&format!(
        "{PI}[firewall]\ndefault = \"drop\"\nforward = \"drop\"\n"
    ));
    for (client, stranger) in families() {
        row.world.knock(client, &SEQUENCE);
        let mut session = row.world.session(client, 2222);
        assert!(alive(&mut session));
        assert_eq!(row.world.connect(stranger, 2222), Door::Silent);
        let inner = INNER[usize::from(client.contains(':'))];
        assert_eq!(row.connect(client, inner, 22), Door::Silent);
    }
}

/// Chains like Docker's and libvirt's drop what they do not know on the way to other hosts: toctoc cannot let it through, says
/// so, and leaves them as they are.
#[test]
fn a_forward_chain_of_others_that_drops_stays_as_it_is() {
    let row = Row::with(PI);
    let iptables = |words: &str| {
        let words = words.split(' ');
        let command: Vec<&str> = std::iter::once("iptables").chain(words).collect();
        row.world.server(&command);
    };
    for words in [
        "-N DOCKER-USER",
        "-A FORWARD -j DOCKER-USER",
        "-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
        "-P FORWARD DROP",
    ] {
        iptables(words);
    }
    let before = row.world.server(&["iptables-save", "-t", "filter"]);
    row.world.knock(CLIENT[0], &SEQUENCE);
    assert_eq!(row.world.connect(CLIENT[0], 2222), Door::Silent);
    let told = || String::from_utf8(row.world.toctoc(&["check"]).stderr).unwrap();
    assert!(told().contains("chain FORWARD) drops 22/tcp"), "{}", told());
    let rules = |text: &str| -> Vec<String> {
        let rules = text.lines().filter(|line| line.starts_with("-A"));
        rules.map(str::to_string).collect()
    };
    let now = row.world.server(&["iptables-save", "-t", "filter"]);
    assert_eq!(rules(&now), rules(&before));
    iptables(&format!(
        "-A DOCKER-USER -p tcp -d {} --dport 22 -j ACCEPT",
        INNER[0]
    ));
    row.world.apply(PI);
    assert_eq!(row.world.connect(CLIENT[0], 2222), Door::Open);
    assert_eq!(row.world.connect(STRANGER[0], 2222), Door::Silent);
    assert!(!told().contains("drops 22/tcp"), "{}", told());
}
