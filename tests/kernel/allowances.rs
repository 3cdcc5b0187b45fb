//! `allow` in `[firewall]`: protocols without ports, and traffic of some sources or by some interfaces.

use std::io::Read;
use std::net::SocketAddr;

use socket2::{Domain, Protocol, Socket, Type};
use toctoc::client::Door;
use toctoc::lab::{CLIENT, STRANGER};

use crate::world::{PATIENCE, SHUT, World, YVES, server_like};

fn with(allow: &str) -> World {
    World::with(&format!("{YVES}[firewall]\nallow = {allow}\n"))
}

/// Returns whether a packet of a protocol gets from an address of the client to a program on the server.
fn arrives(world: &World, from: &str, protocol: i32, comes: bool) -> bool {
    let from: std::net::IpAddr = from.parse().unwrap();
    let to = SocketAddr::new(server_like(from), 0);
    let raw = || {
        Socket::new(
            Domain::for_address(to),
            Type::RAW,
            Some(Protocol::from(protocol)),
        )
    };
    let mut listener = world.lab.server.inside(raw).unwrap().unwrap();
    let wait = if comes { PATIENCE } else { SHUT };
    listener.set_read_timeout(Some(wait)).unwrap();
    let sender = world.lab.client.inside(raw).unwrap().unwrap();
    sender.bind(&SocketAddr::new(from, 0).into()).unwrap();
    sender.send_to(&[0x21; 40], &to.into()).unwrap();
    listener.read(&mut [0; 200]).is_ok()
}

const VRRP: i32 = 112;
const ESP: i32 = 50;
const GRE: i32 = 47;

fn a_protocol_without_ports_comes_in_by_its_name() {
    let world = with("[80, \"vrrp\", \"esp\"]");
    assert!(world.yes(&["status"]).contains("80/tcp vrrp esp"));
    for client in CLIENT.into_iter().chain(STRANGER) {
        assert!(arrives(&world, client, VRRP, true), "{client}");
        assert!(arrives(&world, client, ESP, true), "{client}");
        assert!(!arrives(&world, client, GRE, false), "{client}");
    }
    world.apply(&format!("{YVES}[firewall]\nallow = [80]\n"));
    for client in CLIENT {
        assert!(!arrives(&world, client, VRRP, false), "{client}");
    }
}

fn icmp_comes_in_in_the_family_that_is_named() {
    for (allow, comes) in [
        ("[\"icmp\"]", [true, false]),
        ("[\"icmpv6\"]", [false, true]),
    ] {
        let world = with(allow);
        for (client, comes) in CLIENT.into_iter().zip(comes) {
            let server = server_like(client.parse().unwrap()).to_string();
            let ended = world.client(&["ping", "-c1", "-W1", "-I", client, &server]);
            assert_eq!(
                ended.succeeded(),
                comes,
                "{allow} {client}: {}",
                ended.stdout
            );
        }
    }
}

fn a_port_is_allowed_for_some_sources() {
    let [four, six] = CLIENT;
    let world = with(&format!(
        "[80, {{ ports = [81, \"9000-9010\", \"vrrp\"], from = [\"{four}\", \"{six}/128\"] }}]"
    ));
    for port in [80, 81, 82, 9000, 9005, 9010, 9011] {
        world.listen(port);
    }
    for (client, stranger) in CLIENT.into_iter().zip(STRANGER) {
        for port in [80, 81, 9000, 9005, 9010] {
            assert_eq!(world.connect(client, port), Door::Open, "{port}");
        }
        for port in [82, 9011, 22] {
            assert_eq!(world.connect(client, port), Door::Silent, "{port}");
        }
        assert_eq!(world.connect(stranger, 80), Door::Open);
        for port in [81, 82, 9000, 9005, 9010] {
            assert_eq!(world.connect(stranger, port), Door::Silent, "{port}");
        }
        assert!(arrives(&world, client, VRRP, true));
        assert!(!arrives(&world, stranger, VRRP, false));
    }
    let status = world.status();
    let allowed = format!("81/tcp 9000-9010/tcp vrrp from {four} {six}");
    assert_eq!(status["allowed"][1], allowed);
    assert_eq!(status["matches_policy"], true);
}

/// Sources of one family open nothing to the other.
fn sources_of_one_family_let_in_none_of_the_other() {
    for at in [0, 1] {
        let world = with(&format!(
            "[{{ ports = [81], from = [\"{}\"] }}]",
            CLIENT[at]
        ));
        world.listen(81);
        assert_eq!(world.connect(CLIENT[at], 81), Door::Open);
        assert_eq!(world.connect(CLIENT[1 - at], 81), Door::Silent);
        assert_eq!(world.connect(STRANGER[at], 81), Door::Silent);
    }
}

fn a_port_is_allowed_by_some_interfaces() {
    let world = with(
        "[{ ports = [81, \"vrrp\"], interfaces = [\"eth7\", \"eth0\"] }, { ports = [82], interfaces = [\"eth7\"] }]",
    );
    world.listen(81);
    world.listen(82);
    for client in CLIENT {
        assert_eq!(world.connect(client, 81), Door::Open);
        assert!(arrives(&world, client, VRRP, true));
        assert_eq!(world.connect(client, 82), Door::Silent);
    }
    let both = format!(
        "[{{ ports = [81], from = [\"{}\"], interfaces = [\"eth0\"] }}, {{ ports = [82], from = [\"{}\"], interfaces = [\"eth7\"] }}]",
        CLIENT[0], CLIENT[0]
    );
    world.apply(&format!("{YVES}[firewall]\nallow = {both}\n"));
    assert_eq!(world.connect(CLIENT[0], 81), Door::Open);
    assert_eq!(world.connect(STRANGER[0], 81), Door::Silent);
    assert_eq!(world.connect(CLIENT[0], 82), Door::Silent);
}

on_every_firewall!(
    a_protocol_without_ports_comes_in_by_its_name,
    icmp_comes_in_in_the_family_that_is_named,
    a_port_is_allowed_for_some_sources,
    sources_of_one_family_let_in_none_of_the_other,
    a_port_is_allowed_by_some_interfaces,
);
