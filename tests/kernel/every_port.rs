//! The door of every port (`ports = "all"`): a grant for it lets a source in wherever `[firewall]` drops, and nobody else.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use toctoc::client::Door;
use toctoc::lab::{CLIENT, STRANGER};

use crate::world::{PATIENCE, SHUT, World, server_like};

const POLICY: &str = "[firewall]\ndefault = \"drop\"\nallow = [80]\n\
                      [door.host]\nports = \"all\"\n\
                      [door.ssh]\nports = [22]\n\
                      [key.yves]\nopens = [\"host\"]\nsequence = [4431, 2387, 9920, 31007, 18357]\n\
                      [key.anna]\nopens = [\"ssh\"]\nsequence = [5531, 2387, 9921, 31008, 18358]\n";
const YVES: [u16; 5] = [4431, 2387, 9920, 31007, 18357];
const ANNA: [u16; 5] = [5531, 2387, 9921, 31008, 18358];

fn world(policy: &str) -> World {
    let world = World::with(policy);
    for port in [22, 80, 8080, 4431] {
        world.listen(port);
    }
    world.listen_udp(5353);
    world
}

fn hears(world: &World, from: &str, wait: Duration) -> bool {
    let from: IpAddr = from.parse().unwrap();
    let to = SocketAddr::new(server_like(from), 5353);
    let socket = world.lab.client.inside(|| UdpSocket::bind((from, 0)));
    let socket = socket.unwrap().unwrap();
    socket.set_read_timeout(Some(wait)).unwrap();
    socket.connect(to).unwrap();
    socket.send(b"hello").unwrap();
    socket.recv(&mut [0; 16]).is_ok()
}

fn pings(world: &World, from: &str) -> bool {
    let to = server_like(from.parse().unwrap()).to_string();
    let ping = world.client(&["ping", "-c1", "-W1", "-I", from, &to]);
    ping.code == Some(0)
}

/// Each way in by itself: two TCP ports that are no doors, a door, UDP, an echo request.
fn ways(world: &World, from: &str, wait: Duration) -> [bool; 5] {
    let open = |port| world.connect(from, port) == Door::Open;
    [
        open(8080),
        open(4431),
        open(22),
        hears(world, from, wait),
        pings(world, from),
    ]
}

const NONE: [bool; 5] = [false; 5];
const ALL: [bool; 5] = [true; 5];

#[test]
fn a_grant_for_every_port_lets_its_source_in_everywhere_and_nobody_else() {
    let world = world(POLICY);
    for (client, stranger) in CLIENT.into_iter().zip(STRANGER) {
        assert_eq!(ways(&world, client, SHUT), NONE);
        world.knock(client, &YVES);
        assert_eq!(ways(&world, client, PATIENCE), ALL);
        assert_eq!(ways(&world, stranger, SHUT), NONE);
        assert_eq!(world.connect(stranger, 80), Door::Open);
        // The key of a door opens that door.
        world.knock(stranger, &ANNA);
        assert_eq!(
            ways(&world, stranger, SHUT),
            [false, false, true, false, false]
        );
        let holders = world.holders("host");
        assert_eq!(holders, [(client.to_string(), Some("yves".to_string()))]);
        world.yes(&["close"]);
        assert_eq!(ways(&world, client, SHUT), NONE);
    }
    let status = world.status();
    assert_eq!(status["doors"][0]["ports"], serde_json::json!(["all"]));
    let said = String::from_utf8(world.toctoc(&["status"]).stdout).unwrap();
    assert!(said.contains("host         every port"), "{said}");
}

/// `status` and `close` do not say that a door is shut to a source that has every port. A door in front of another host is.
#[test]
fn a_source_that_has_every_port_is_told_of_at_the_other_doors() {
    let behind = "[door.nas]\nports = [443]\nto = [\"198.51.100.50\"]\n";
    let world = world(&POLICY.replace("[key.yves]", &format!("{behind}[key.yves]")));
    let line = |door: &str| {
        let said = String::from_utf8(world.toctoc(&["status"]).stdout).unwrap();
        let line = said
            .lines()
            .find(|line| line.trim_start().starts_with(door));
        line.unwrap().to_string()
    };
    let close = |arguments: &[&str]| {
        let output = world.toctoc(&[&["close"], arguments].concat());
        assert_eq!(output.status.code(), Some(0));
        String::from_utf8(output.stdout).unwrap()
    };
    let [client, other] = CLIENT;
    assert_eq!(close(&["ssh", client]), "no such grant was there\n");
    world.yes(&["open", "host", client]);
    const THROUGH: &str = "open to the 1 source that has every port";
    assert!(line("ssh").contains(THROUGH), "{}", line("ssh"));
    assert!(line("nas").contains("closed to all"), "{}", line("nas"));
    assert!(
        line("host").ends_with("open to 1 source"),
        "{}",
        line("host")
    );
    let doors = world.status()["doors"].clone();
    assert_eq!(doors[1]["with_every_port"], serde_json::json!([client]));
    let hint = format!(
        "{client} still gets in: it has every port (`toctoc close host {client}` ends that)\n"
    );
    assert_eq!(
        close(&["ssh", client]),
        format!("no such grant was there\n{hint}")
    );
    world.yes(&["open", "ssh", client]);
    assert!(line("ssh").ends_with("open to 1 source"), "{}", line("ssh"));
    assert_eq!(close(&["ssh"]), format!("ended 1 grant\n{hint}"));
    // What is meant for another source, another host or every port is said without it.
    assert_eq!(close(&["ssh", other]), "no such grant was there\n");
    assert_eq!(close(&["nas", client]), "no such grant was there\n");
    assert_eq!(close(&["host", client]), "ended 1 grant\n");
    assert_eq!(close(&["ssh", client]), "no such grant was there\n");
    assert!(line("ssh").contains("closed to all"), "{}", line("ssh"));
}

/// By hand, by trust, and by a grant that stays while it is used; a session lives on, and nothing new comes in afterwards.
#[test]
fn every_port_is_opened_by_hand_by_trust_and_while_it_is_used() {
    let trust = format!("trust = [\"{}\"]\n", CLIENT[1]);
    let policy = POLICY.replace("ports = \"all\"\n", &format!("ports = \"all\"\n{trust}"));
    let world = world(&policy);
    assert_eq!(ways(&world, CLIENT[1], PATIENCE), ALL);
    assert_eq!(ways(&world, CLIENT[0], SHUT), NONE);
    world.yes(&["open", "host", CLIENT[0], "--for", "1h"]);
    assert_eq!(ways(&world, CLIENT[0], PATIENCE), ALL);
    assert_eq!(ways(&world, STRANGER[0], SHUT), NONE);
    assert_eq!(ways(&world, STRANGER[1], SHUT), NONE);
    let stays = "ports = \"all\"\nopen_for = \"2s\"\nextend = \"2s\"\nat_most = \"1h\"\n";
    world.apply(&POLICY.replace("ports = \"all\"\n", stays));
    world.yes(&["close"]);
    for client in CLIENT {
        world.knock(client, &YVES);
        // Each kind of connection keeps it.
        for _ in 0..4 {
            assert_eq!(ways(&world, client, PATIENCE), ALL);
            std::thread::sleep(Duration::from_millis(1200));
            assert!(hears(&world, client, PATIENCE));
        }
        world.until("nobody uses it", || world.nobody_is_in());
        assert_eq!(ways(&world, client, SHUT), NONE);
    }
}

/// What comes by an interface that the policy does not guard is dropped as ever, whoever holds a grant.
#[test]
fn every_port_is_opened_on_guarded_interfaces_alone() {
    let world = World::bare();
    world
        .lab
        .server
        .ip("link add eth1 type veth peer name other")
        .unwrap();
    world.lab.server.ip("link set eth1 up").unwrap();
    world.apply(&format!("interfaces = [\"eth1\"]\n{POLICY}"));
    for port in [22, 80, 8080, 4431] {
        world.listen(port);
    }
    world.listen_udp(5353);
    world.yes(&["open", "host", CLIENT[0]]);
    assert_eq!(ways(&world, CLIENT[0], SHUT), NONE);
    assert_eq!(world.connect(CLIENT[0], 80), Door::Open);
}

#[test]
fn a_revoked_key_of_every_port_opens_nothing() {
    let world = world(POLICY);
    world.knock(CLIENT[0], &YVES);
    assert_eq!(ways(&world, CLIENT[0], PATIENCE), ALL);
    world.yes(&["key", "revoke", "yves", world.path().to_str().unwrap()]);
    assert_eq!(ways(&world, CLIENT[0], SHUT), NONE);
    world.knock(CLIENT[0], &YVES);
    assert_eq!(ways(&world, CLIENT[0], SHUT), NONE);
}
