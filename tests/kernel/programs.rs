//! Programs that people have: nmap, nc, knockd's knock, and our own client. Each opens the door, and
//! beside each stands what must not.

use std::process::{Command, Output};
use std::time::Duration;

use toctoc::client::Door;
use toctoc::lab::{CLIENT, SERVER, STRANGER};

use crate::world::{SEQUENCE, World, YVES};

/// A way to knock at a list of ports on the server, from the client's main address.
type Way = fn(&World, &[u16]);

fn nmap(world: &World, ports: &[u16]) {
    for port in ports {
        let port = port.to_string();
        let ended = world.client(&[
            "nmap",
            "-n",
            "-Pn",
            "--max-retries",
            "0",
            "-p",
            &port,
            SERVER[0],
        ]);
        assert!(ended.succeeded(), "{}", ended.stderr);
    }
}

fn nmap_connecting(world: &World, ports: &[u16]) {
    for port in ports {
        let port = port.to_string();
        let ended = world.client(&[
            "nmap",
            "-n",
            "-sT",
            "-Pn",
            "--max-retries",
            "0",
            "-p",
            &port,
            SERVER[0],
        ]);
        assert!(ended.succeeded(), "{}", ended.stderr);
    }
}

fn nc(world: &World, ports: &[u16]) {
    for port in ports {
        let port = port.to_string();
        world.client(&["nc", "-w", "1", "-z", SERVER[0], &port]);
    }
}

fn nc_with_data(world: &World, ports: &[u16]) {
    for port in ports {
        let command = format!("echo 1 | nc -w 1 -N {} {port}", SERVER[0]);
        world.client(&["sh", "-c", &command]);
    }
}

fn knock(world: &World, ports: &[u16]) {
    let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
    let mut command = vec!["knock", SERVER[0]];
    command.extend(ports.iter().map(String::as_str));
    let ended = world.client(&command);
    assert!(ended.succeeded(), "{}", ended.stderr);
}

fn toctoc(world: &World, ports: &[u16]) {
    let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
    let ports: Vec<&str> = ports.iter().map(String::as_str).collect();
    let output = ours(world, &[&[SERVER[0]], &ports[..]].concat());
    assert_eq!(output.status.code(), Some(0));
}

/// Our own client on the client.
fn ours(world: &World, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_toctoc"));
    command.arg("knock").args(arguments);
    world
        .lab
        .client
        .inside(|| command.output().unwrap())
        .unwrap()
}

/// The way opens the door; the wrong order, one port missing, and knocking too slowly do not; nobody
/// else gets in; and after the time is over it is closed again.
fn opens_and_nothing_else_does(way: Way) {
    let policy = format!("within = \"5s\"\nopen_for = \"4s\"\n{YVES}");
    let world = World::with(&policy);
    world.listen(22);
    // An open service in the sequence serves as ever.
    world.listen(443);
    let client = CLIENT[0];
    assert_eq!(world.connect(client, 22), Door::Silent);

    way(&world, &[2387, 443, 920, 18357, 50]);
    assert_eq!(world.connect(client, 22), Door::Silent, "wrong order");
    way(&world, &[443, 2387, 920, 50]);
    assert_eq!(world.connect(client, 22), Door::Silent, "one missing");
    way(&world, &[443, 2387, 920, 18357, 51]);
    assert_eq!(world.connect(client, 22), Door::Silent, "last one wrong");
    way(&world, &SEQUENCE[..3]);
    world.until("progress is forgotten", || {
        world.status()["progress"] == serde_json::json!([])
    });
    way(&world, &SEQUENCE[3..]);
    assert_eq!(world.connect(client, 22), Door::Silent, "too slow");

    // With a bogus port first, as the classic client does, and without.
    for sequence in [&SEQUENCE[..], &[100, 443, 2387, 920, 18357, 50]] {
        way(&world, sequence);
        assert_eq!(world.connect(client, 22), Door::Open);
        assert_eq!(
            world.connect(STRANGER[0], 22),
            Door::Silent,
            "another source"
        );
        world.until("the time is over", || world.nobody_is_in());
        assert_eq!(world.connect(client, 22), Door::Silent, "after the time");
    }
}

fn nmap_as_root() {
    opens_and_nothing_else_does(nmap);
}

fn nmap_as_anyone() {
    opens_and_nothing_else_does(nmap_connecting);
}

fn nc_without_data() {
    opens_and_nothing_else_does(nc);
}

fn nc_sending_data() {
    opens_and_nothing_else_does(nc_with_data);
}

fn the_client_of_knockd() {
    opens_and_nothing_else_does(knock);
}

fn our_own_client() {
    opens_and_nothing_else_does(toctoc);
}

fn said(output: &Output) -> String {
    let bytes = [&output.stdout[..], &output.stderr].concat();
    String::from_utf8(bytes).unwrap()
}

const KNOCKS: [&str; 5] = ["443", "2387", "920", "18357", "50"];

fn our_client_confirms_over_both_families() {
    let world = World::with(YVES);
    world.listen(22);
    for server in SERVER {
        for gap in ["0", "10ms"] {
            world.yes(&["close"]);
            let arguments = [&[server], &KNOCKS[..], &["--door", "22", "--gap", gap]].concat();
            let output = ours(&world, &arguments);
            assert_eq!(output.status.code(), Some(0), "{}", said(&output));
            let expected = format!("22/tcp at {server} is open, after ");
            assert!(said(&output).starts_with(&expected), "{}", said(&output));
        }
        world.yes(&["close"]);
        let arguments = [&[server], &KNOCKS[..4], &["--door", "22"]].concat();
        let output = ours(&world, &arguments);
        assert_eq!(output.status.code(), Some(1));
        assert!(said(&output).contains("stays shut"), "{}", said(&output));
        assert!(world.nobody_is_in());
    }
}

fn our_client_knocks_over_udp() {
    let policy = YVES
        .replace("920", "\"920/udp\"")
        .replace("443", "\"53/udp\"");
    let world = World::with(&policy);
    world.listen(22);
    for server in SERVER {
        let right = [
            server, "53/udp", "2387", "920/udp", "18357", "50", "--door", "22",
        ];
        let mut wrong = right;
        wrong[1] = "53/tcp";
        assert_eq!(ours(&world, &wrong).status.code(), Some(1));
        let output = ours(&world, &right);
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    }
}

/// The first try meets a door that its own earlier knocks have confused; a slower one gets in.
fn our_client_tries_again() {
    let world = World::with(YVES);
    world.listen(22);
    // The first 920 that comes is lost.
    world.nft(
        "table inet beside { counter lost { }\n chain c { type filter hook prerouting priority -400; \
         tcp dport 920 limit rate 1/minute burst 1 packets counter name lost drop\n}\n}",
    );
    let arguments = [&[SERVER[0]], &KNOCKS[..], &["--door", "22"]].concat();
    let output = ours(&world, &arguments);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(said(&output).contains("at try 2"), "{}", said(&output));
    assert_eq!(world.counted("lost"), 1);
}

/// One SYN for each knock, nothing else: no repetition, no reset, no data.
fn our_client_sends_one_syn_each_and_nothing_else() {
    let world = World::with(YVES);
    world.nft(
        "table inet beside { counter syn { }\n counter other { }\n chain c { \
         type filter hook prerouting priority -400; \
         meta l4proto tcp tcp flags & (fin | syn | rst | ack) == syn counter name syn accept\n \
         meta l4proto tcp counter name other\n}\n}",
    );
    for (index, server) in SERVER.into_iter().enumerate() {
        let arguments = [&[server], &KNOCKS[..], &["--gap", "1ms"]].concat();
        assert_eq!(ours(&world, &arguments).status.code(), Some(0));
        // A repeated SYN would come a second later.
        std::thread::sleep(Duration::from_millis(1300));
        assert_eq!(world.counted("syn"), 5 * (index as u64 + 1));
        assert_eq!(world.counted("other"), 0);
    }
    // The twin: the counter does see what is no SYN.
    world.listen(443);
    drop(world.session(CLIENT[0], 443));
    world.until("an ACK is counted", || world.counted("other") > 0);
}

on_every_firewall!(
    nmap_as_root,
    nmap_as_anyone,
    nc_without_data,
    nc_sending_data,
    the_client_of_knockd,
    our_own_client,
    our_client_confirms_over_both_families,
    our_client_knocks_over_udp,
    our_client_tries_again,
    our_client_sends_one_syn_each_and_nothing_else,
);
