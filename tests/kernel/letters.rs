//! Tokens that a browser can send: letters, plain or in a STUN check.

use std::fs;
use std::net::{IpAddr, UdpSocket};

use serde_json::Value;
use toctoc::client::Door;
use toctoc::lab::{CLIENT, STRANGER};
use toctoc::single_use::{Form, Secret, Token, Window, token};

use crate::person::said;
use crate::token_world::{SECRET, guarded_by, now};
use crate::world::{PATIENCE, World};

const PORT: u16 = 20_123;
const POLICY: &str = "token_port = 20123\n[door.ssh]\nports = [22]\n[key.alice]\nopens = [\"ssh\"]\n\
     token = \"alice.secret\"\nopen_for = \"1h\"\n";

fn with_letters() -> World {
    guarded_by(&format!("{POLICY}browser = true\n"))
}

fn secret() -> Secret {
    Secret::parse(SECRET).unwrap().in_form(Form::Letters)
}

/// A token that is loaded whatever came before.
fn good(number: u32) -> Token {
    let window = Window::at(now()).0 + 3 + u64::from(number / 4);
    token(&secret(), Window(window), number % 4)
}

/// As a browser sends it.
pub fn check(token: Token) -> Vec<u8> {
    let name = [&token.0[..], b":abcd"].concat();
    let head = [0, 1, 0, 28, 0x21, 0x12, 0xa4, 0x42];
    let attribute = [0, 6, 0, 21];
    [&head[..], &[9; 12], &attribute, &name, &[0; 3]].concat()
}

fn send(world: &World, from: &str, port: u16, payload: &[u8]) {
    let from: IpAddr = from.parse().unwrap();
    world.inject(|injector| injector.datagram(from, 4000, port, payload));
}

#[test]
fn letters_open_once_plain_or_in_a_stun_check() {
    let world = with_letters();
    // A minute may begin in between: by then `good` gives others.
    let mut used = Vec::new();
    for (number, form) in [|token: Token| token.0.to_vec(), check]
        .into_iter()
        .enumerate()
    {
        for (family, other) in [(0, 1), (1, 0)] {
            let one = good((2 * number + family) as u32);
            used.push(one);
            assert_eq!(world.connect(CLIENT[family], 22), Door::Silent);
            send(&world, CLIENT[family], PORT, &form(one));
            assert_eq!(world.connect(CLIENT[family], 22), Door::Open);
            // Recorded, it opens nothing: neither in this form nor in the other.
            for again in [form(one), one.0.to_vec(), check(one)] {
                for stranger in [STRANGER[family], STRANGER[other]] {
                    send(&world, stranger, PORT, &again);
                    assert_eq!(world.connect(stranger, 22), Door::Silent);
                }
            }
            world.yes(&["close"]);
        }
    }
    assert_eq!(world.status()["keys"][0]["opened"], 4);
    // Whatever loads it again, it is spent.
    let (one, id) = (used[2], secret().id());
    world.nft(&format!(
        "add element inet toctoc tokens {{ 0x{} timeout 1h : {:x}:{:x} }}\n",
        one.hex(),
        id >> 16,
        id & 0xffff
    ));
    send(&world, CLIENT[0], PORT, &check(one));
    assert_eq!(world.connect(CLIENT[0], 22), Door::Silent);
    // The rules and sets are those that toctoc knows, before and after a refill.
    for _ in 0..2 {
        let status = world.status();
        assert_eq!(status["matches_policy"], true, "{}", status["drift"]);
        world.yes(&["refill"]);
    }
}

/// Each datagram of the vectors, with the token that it has loaded.
#[test]
fn the_kernel_agrees_with_the_vectors() {
    let vectors = fs::read_to_string("docs/protocol.json").unwrap();
    let vectors: Value = serde_json::from_str(&vectors).unwrap();
    let mut judged = 0;
    for browser in [false, true] {
        let world = guarded_by(&format!("{POLICY}browser = {browser}\n"));
        let form = if browser { Form::Letters } else { Form::Bytes };
        let id = secret().in_form(form).id();
        let datagrams = vectors["datagrams"].as_array().unwrap();
        for one in datagrams.iter().filter(|one| one["browser"] == browser) {
            let token = one["token"].as_str().unwrap();
            world.nft(&format!(
                "add element inet toctoc tokens {{ 0x{token} timeout 1h : {:x}:{:x} }}\n",
                id >> 16,
                id & 0xffff
            ));
            let payload = bytes(one["payload"].as_str().unwrap());
            send(&world, CLIENT[0], PORT, &payload);
            let opens = world.connect(CLIENT[0], 22) == Door::Open;
            assert_eq!(opens, one["opens"], "{}", one["reason"]);
            world.yes(&["close"]);
            judged += 1;
        }
    }
    assert_eq!(judged, vectors["datagrams"].as_array().unwrap().len());
    assert!(judged > 15);
}

pub fn bytes(hex: &str) -> Vec<u8> {
    let pairs = hex
        .as_bytes()
        .chunks(2)
        .map(|pair| std::str::from_utf8(pair).unwrap());
    pairs
        .map(|pair| u8::from_str_radix(pair, 16).unwrap())
        .collect()
}

/// Without a key for browsers nothing in the rules knows STUN, and a token in a check opens nothing.
#[test]
fn stun_is_known_only_where_a_key_asks_for_it() {
    for (browser, opens) in [(true, Door::Open), (false, Door::Silent)] {
        let world = guarded_by(&format!("{POLICY}browser = {browser}\n"));
        let rules = world.server(&["nft", "list", "chain", "inet", "toctoc", "judge-token"]);
        assert_eq!(rules.contains("0x2112a442"), browser, "{rules}");
        let form = if browser { Form::Letters } else { Form::Bytes };
        let one = token(&secret().in_form(form), Window(Window::at(now()).0 + 3), 0);
        send(&world, CLIENT[0], PORT, &check(one));
        assert_eq!(world.connect(CLIENT[0], 22), opens);
    }
}

/// A STUN service of somebody else gets every check, also one with a token in it, which is not spent by that; and a
/// flow to it that has begun goes on.
#[test]
fn a_stun_service_on_the_host_is_not_disturbed() {
    let world = with_letters();
    world.listen_udp(3478);
    let client = world.lab.client.inside(|| UdpSocket::bind((CLIENT[0], 0)));
    let client = client.unwrap().unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.connect(("192.0.2.1", 3478)).unwrap();
    let answered = |payload: &[u8]| {
        client.send(payload).unwrap();
        let mut answer = [0; 200];
        let length = client.recv(&mut answer).unwrap();
        assert_eq!(&answer[..length], payload);
    };
    answered(&check(good(0)));
    assert!(world.nobody_is_in());
    send(&world, STRANGER[0], PORT, &check(Token([b'a'; 16])));
    send(&world, CLIENT[0], PORT, &check(good(0)));
    assert_eq!(world.connect(CLIENT[0], 22), Door::Open);
    answered(&check(good(1)));
    answered(&good(1).0);
}

/// A key that takes another form has other tokens: none of the former ones opens.
#[test]
fn another_form_makes_other_tokens() {
    let world = guarded_by(POLICY);
    let bytes = |number| {
        let window = Window(Window::at(now()).0 + 3);
        token(&secret().in_form(Form::Bytes), window, number)
    };
    send(&world, CLIENT[0], PORT, &bytes(0).0);
    assert_eq!(world.connect(CLIENT[0], 22), Door::Open);
    let letters = format!("{POLICY}browser = true\n");
    fs::write(world.path(), &letters).unwrap();
    let would = said(&world.toctoc(&["apply", "--dry-run"]));
    assert!(
        would.contains("key alice has tokens of another form"),
        "{would}"
    );
    world.apply(&letters);
    world.yes(&["close"]);
    for number in 0..4 {
        send(&world, CLIENT[0], PORT, &bytes(number).0);
    }
    assert_eq!(world.connect(CLIENT[0], 22), Door::Silent);
    send(&world, CLIENT[0], PORT, &check(good(0)));
    assert_eq!(world.connect(CLIENT[0], 22), Door::Open);
}
