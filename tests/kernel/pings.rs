//! Tokens in the pattern of a ping: each opens once, and the ping is answered as if nothing were in it.

use std::fs;
use std::net::{IpAddr, UdpSocket};

use serde_json::Value;
use toctoc::client::Door;
use toctoc::lab::{CLIENT, SERVER, STRANGER};
use toctoc::single_use::{Form, Token, Window, token};

use crate::person::said;
use crate::token_world::{
    ALICE, OTHER, PORT, SECRET, after_a_clean_stop, good, guarded, guarded_by, now, secret,
};
use crate::world::{SHUT, World};

fn with_pings() -> World {
    guarded_by(&format!("{ALICE}ping = true\n"))
}

/// The real ping, from an address of the client: `true` if it was answered.
fn ping(world: &World, from: &str, pattern: &str) -> bool {
    let server = SERVER[usize::from(from.contains(':'))];
    let words = [
        "ping", "-c", "1", "-W", "1", "-I", from, "-p", pattern, server,
    ];
    world.client(&words).succeeded()
}

/// A whole ICMP message, in the family of its source.
fn send(world: &World, from: &str, message: &[u8]) {
    let from: IpAddr = from.parse().unwrap();
    let protocol = if from.is_ipv6() { 58 } else { 1 };
    world.inject(|injector| injector.ip(from, protocol, message));
}

/// As ping sends it.
fn echo(token: Token) -> Vec<u8> {
    let head = [8, 0, 0, 0, 0, 7, 0, 1];
    [&head[..], &[3; 16], &token.0, &token.0].concat()
}

fn load(world: &World, token: &str, form: Form) {
    let id = secret(SECRET).in_form(form).id();
    world.nft(&format!(
        "add element inet toctoc tokens {{ 0x{token} timeout 1h : {:x}:{:x} }}\n",
        id >> 16,
        id & 0xffff
    ));
}

#[test]
fn a_token_in_a_ping_opens_once_and_the_ping_is_answered() {
    let world = with_pings();
    let mut used = Vec::new();
    for (number, family) in [0, 1, 0, 1].into_iter().enumerate() {
        let (client, one) = (CLIENT[family], good(number as u32));
        used.push(one);
        let wrong = token(&secret(OTHER), Window(Window::at(now()).0 + 3), 0);
        for nothing in [wrong.hex(), "00".into(), one.hex()[..30].into()] {
            assert!(ping(&world, client, &nothing), "answered");
            assert_eq!(world.connect(client, 22), Door::Silent, "{nothing}");
        }
        assert!(ping(&world, client, &one.hex()), "answered");
        assert_eq!(world.connect(client, 22), Door::Open);
        // Recorded, it opens nothing, in whatever form: the ping is answered all the same.
        for stranger in STRANGER {
            assert!(ping(&world, stranger, &one.hex()), "answered");
            world.send(stranger, &one.0);
            assert_eq!(world.connect(stranger, 22), Door::Silent);
        }
        world.yes(&["close"]);
        assert!(ping(&world, client, &one.hex()));
        assert_eq!(world.connect(client, 22), Door::Silent, "once");
    }
    assert_eq!(world.status()["keys"][0]["opened"], 4);
    // Spent as a datagram, it opens nothing in a ping; and loaded again by whatever it is spent.
    world.send(CLIENT[0], &good(4).0);
    assert_eq!(world.connect(CLIENT[0], 22), Door::Open);
    world.yes(&["close"]);
    load(&world, &used[0].hex(), Form::Bytes);
    for one in [good(4), used[0]] {
        assert!(ping(&world, CLIENT[0], &one.hex()));
        assert_eq!(world.connect(CLIENT[0], 22), Door::Silent);
    }
    // The rules and sets are those that toctoc knows, before and after a refill; and none comes back.
    for _ in 0..2 {
        let status = world.status();
        assert_eq!(status["matches_policy"], true, "{}", status["drift"]);
        assert!(ping(&world, CLIENT[0], &used[0].hex()));
        assert_eq!(world.connect(CLIENT[0], 22), Door::Silent);
        world.yes(&["refill"]);
    }
    // What is no ping is dropped as ever: nothing answers at the port for tokens.
    let socket = world.lab.client.inside(|| UdpSocket::bind((CLIENT[0], 0)));
    let socket = socket.unwrap().unwrap();
    socket.connect((SERVER[0], PORT)).unwrap();
    socket.set_read_timeout(Some(SHUT)).unwrap();
    for payload in [&[1; 16], &good(5).0] {
        socket.send(payload).unwrap();
        let error = socket.recv(&mut [0; 9]).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
    }
    assert_eq!(world.connect(CLIENT[0], 22), Door::Open);
}

/// Each message of the vectors, with the token that it has loaded.
#[test]
fn the_kernel_agrees_with_the_vectors_of_echoes() {
    let vectors = fs::read_to_string("docs/protocol.json").unwrap();
    let vectors: Value = serde_json::from_str(&vectors).unwrap();
    let echoes = vectors["echoes"].as_array().unwrap();
    let mut judged = 0;
    for ping in [false, true] {
        let world = guarded_by(&format!("{ALICE}ping = {ping}\n"));
        for one in echoes.iter().filter(|one| one["ping"] == ping) {
            load(&world, one["token"].as_str().unwrap(), Form::Bytes);
            let client = CLIENT[usize::from(one["family"] == 6)];
            let message = crate::letters::bytes(one["message"].as_str().unwrap());
            send(&world, client, &message);
            let opens = world.connect(client, 22) == Door::Open;
            assert_eq!(opens, one["opens"], "{}", one["reason"]);
            world.yes(&["close"]);
            judged += 1;
        }
    }
    assert_eq!(judged, echoes.len());
    assert!(judged > 12);
}

/// Without a key that asks for it nothing in the rules looks at pings, and a token in one is not spent.
#[test]
fn pings_are_looked_at_only_where_a_key_asks_for_it() {
    let world = guarded();
    assert!(!world.all_rules().contains("echo-request"));
    assert!(ping(&world, CLIENT[0], &good(0).hex()));
    assert_eq!(world.connect(CLIENT[0], 22), Door::Silent);
    world.send(CLIENT[0], &good(0).0);
    assert_eq!(world.connect(CLIENT[0], 22), Door::Open);
    // From then on they are; who is in stays, and the tokens are the same.
    let asked = format!("{ALICE}ping = true\n");
    fs::write(world.path(), &asked).unwrap();
    let would = said(&world.toctoc(&["apply", "--dry-run"]));
    assert!(
        would.contains("tokens of key alice may come in a ping"),
        "{would}"
    );
    world.apply(&asked);
    assert_eq!(world.connect(CLIENT[0], 22), Door::Open);
    assert!(ping(&world, STRANGER[0], &good(0).hex()));
    assert_eq!(world.connect(STRANGER[0], 22), Door::Silent, "spent before");
    assert!(ping(&world, STRANGER[0], &good(1).hex()));
    assert_eq!(world.connect(STRANGER[0], 22), Door::Open);
    world.yes(&["close"]);
    world.apply(ALICE);
    assert!(!world.all_rules().contains("echo-request"));
    assert!(ping(&world, CLIENT[0], &good(2).hex()));
    assert_eq!(world.connect(CLIENT[0], 22), Door::Silent);
}

/// Both settings at once: letters, in a datagram, in a STUN check and in a ping, each once.
#[test]
fn letters_come_in_a_ping_too() {
    let policy = ALICE.replace("40123", "20123");
    let world = guarded_by(&format!("{policy}browser = true\nping = true\n"));
    let letters = secret(SECRET).in_form(Form::Letters);
    let one = |number| token(&letters, Window(Window::at(now()).0 + 4), number);
    let (first, second) = (one(0), one(1));
    assert!(ping(&world, CLIENT[0], &first.hex()));
    assert_eq!(world.connect(CLIENT[0], 22), Door::Open);
    let stranger: IpAddr = STRANGER[0].parse().unwrap();
    let check = |token| {
        world.inject(|injector| {
            injector.datagram(stranger, 4000, 20_123, &crate::letters::check(token))
        })
    };
    check(first);
    assert_eq!(world.connect(STRANGER[0], 22), Door::Silent);
    check(second);
    assert_eq!(world.connect(STRANGER[0], 22), Door::Open);
    world.yes(&["close"]);
    assert!(ping(&world, CLIENT[0], &second.hex()));
    assert_eq!(world.connect(CLIENT[0], 22), Door::Silent);
}

/// A firewall that answers no ping goes on to answer none; the token in it opens.
#[test]
fn a_ping_that_is_not_answered_opens_and_stays_unanswered() {
    for (ping_allowed, answered) in [("true", true), ("false", false)] {
        let firewall =
            format!("{ALICE}ping = true\n[firewall]\ndefault = \"drop\"\nping = {ping_allowed}\n");
        let world = guarded_by(&firewall);
        for (number, client) in CLIENT.into_iter().enumerate() {
            assert_eq!(
                ping(&world, client, "00"),
                answered,
                "{client} {ping_allowed}"
            );
            assert_eq!(world.connect(client, 22), Door::Silent);
            assert_eq!(ping(&world, client, &good(number as u32).hex()), answered);
            assert_eq!(world.connect(client, 22), Door::Open);
        }
    }
}

/// Where there is no room for a grant, the ping goes on as well.
#[test]
fn a_ping_for_which_there_is_no_room_is_answered_and_opens_nothing() {
    let world = guarded_by(&format!("max_sources = 4096\n{ALICE}ping = true\n"));
    let door = world.policy().doors[0].name.id();
    let (high, low) = (door >> 16, door & 0xffff);
    let guests = (0..4096).map(|number| {
        let (third, fourth) = (number / 256, number % 256);
        format!("10.0.{third}.{fourth} . {high:x}:{low:x} timeout 1h")
    });
    let guests: Vec<String> = guests.collect();
    let fill = format!(
        "add element inet toctoc grants4 {{ {} }}\n",
        guests.join(", ")
    );
    world.nft(&fill);
    assert!(ping(&world, CLIENT[0], &good(0).hex()));
    assert_eq!(world.connect(CLIENT[0], 22), Door::Silent);
    // The other family has room.
    assert!(ping(&world, CLIENT[1], &good(1).hex()));
    assert_eq!(world.connect(CLIENT[1], 22), Door::Open);
}

/// Only an interface that is guarded, only an address of this host.
#[test]
fn a_ping_counts_where_knocks_count() {
    let policy = format!("interfaces = [\"elsewhere0\"]\n{ALICE}ping = true\n");
    let world = World::bare();
    let other = "link add elsewhere0 type bridge";
    world.lab.server.ip(other).unwrap();
    world.lab.server.ip("link set elsewhere0 up").unwrap();
    world.private_file("alice.secret", SECRET);
    world.apply(&policy);
    world.listen(22);
    send(&world, CLIENT[0], &echo(good(0)));
    assert_eq!(world.connect(CLIENT[0], 22), Door::Open, "not guarded");
    assert!(world.nobody_is_in());
    world.apply(&format!("{ALICE}ping = true\n"));
    assert_eq!(world.connect(CLIENT[0], 22), Door::Silent);
    send(&world, CLIENT[0], &echo(good(0)));
    assert_eq!(world.connect(CLIENT[0], 22), Door::Open);
}

/// The client in Python. A key for each family: the echoes of one moment have the same token.
#[test]
fn the_client_in_python_pings() {
    let bob = format!("bb{}", &SECRET[2..]);
    let policy =
        format!("{ALICE}ping = true\n[key.bob]\nopens = [\"ssh\"]\ntoken = \"bob.secret\"\n");
    let secrets = [("alice.secret", SECRET), ("bob.secret", &bob)];
    let (world, _) = after_a_clean_stop(&policy, &secrets);
    for ((_, right), server) in secrets.into_iter().zip(SERVER) {
        for (name, secret, opens) in [("wrong", OTHER, false), ("right", right, true)] {
            let file = world.private_file(name, secret);
            let file = file.to_str().unwrap();
            let ended = world.client(&["python3", "examples/knock.py", "echo", server, file]);
            assert!(ended.succeeded(), "{}", ended.stderr);
            assert_eq!(!world.nobody_is_in(), opens, "{server} {name}");
        }
        world.yes(&["close"]);
    }
}
