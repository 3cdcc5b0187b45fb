//! A key that opens once opens once in the whole fleet.

use std::net::UdpSocket;
use std::time::{SystemTime, UNIX_EPOCH};

use toctoc::signed::{Bound, Signer, Time};
use toctoc::single_use::{Form, Token, Window, token};

use super::bottle::{Fleet, until};
use crate::letters::check;
use crate::token_world::{SECRET, now, secret};
use crate::world::on;

const FIRST: &str = "192.0.2.101";
const STRANGER: &str = "192.0.2.109";

/// No door is shared, so that only the keys are.
const KEYS: &str = r#"
token_port = 40123
[door.ssh]
ports = [22]
[key.alice]
opens = ["ssh"]
token = "alice.secret"
[key.paper]
opens = ["ssh"]
scratch = [[4431, 2387, 920], [5571, 6602, 7733]]
"#;

/// The same with tokens that a browser sends.
const LETTERS: &str = r#"
token_port = 20123
[door.ssh]
ports = [22]
[key.alice]
opens = ["ssh"]
token = "alice.secret"
browser = true
"#;

fn fleet() -> Fleet {
    fleet_with(KEYS)
}

fn fleet_with(keys: &str) -> Fleet {
    let mut fleet = Fleet::bare(2);
    fleet.start_engine(&[]);
    for place in 0..2 {
        fleet.file(place, "alice.secret", SECRET);
        let policy = fleet.policy(place, keys);
        fleet.apply(place, &policy.replace("[\"ssh\"]\naccept", "[]\naccept"));
        fleet.start_agent(place);
        fleet.listen(place, 22);
    }
    fleet.until_all_know_each_other();
    fleet
}

/// A token that is loaded: of a window in a few minutes.
fn good(number: u32) -> Token {
    token(&secret(SECRET), Window(Window::at(now()).0 + 5), number)
}

fn send(fleet: &Fleet, place: usize, from: &str, token: Token) {
    send_to(fleet, place, from, 40_123, &token.0);
}

fn send_to(fleet: &Fleet, place: usize, from: &str, port: u16, payload: &[u8]) {
    let to = format!("{}:{port}", fleet.members[place].address);
    let sent = fleet.client.inside(|| {
        let socket = UdpSocket::bind((from, 0)).unwrap();
        socket.send_to(payload, to).unwrap()
    });
    assert_eq!(sent.unwrap(), payload.len());
}

fn holds(fleet: &Fleet, place: usize, name: &str) -> bool {
    fleet.list(place, name).contains("elements")
}

/// Sent in a STUN check, the other hosts hear of it all the same, and refuse it in either form.
#[test]
fn letters_in_a_check_open_at_one_host_and_never_at_another() {
    let fleet = fleet_with(LETTERS);
    let letters = secret(SECRET).in_form(Form::Letters);
    let [one, other] =
        [0, 1].map(|number| token(&letters, Window(Window::at(now()).0 + 5), number));
    send_to(&fleet, 0, FIRST, 20_123, &check(one));
    fleet.until_open(0, FIRST, 22);
    until("the other host knows", || {
        holds(&fleet, 1, "spent-elsewhere")
    });
    for payload in [check(one), one.0.to_vec()] {
        send_to(&fleet, 1, STRANGER, 20_123, &payload);
        assert!(!fleet.is_open(1, STRANGER, 22));
    }
    send_to(&fleet, 1, FIRST, 20_123, &check(other));
    fleet.until_open(1, FIRST, 22);
}

/// Sent in a ping, the other hosts hear of it too, and refuse it in a ping and in a datagram. Each ping is answered.
#[test]
fn a_token_in_a_ping_opens_at_one_host_and_never_at_another() {
    let fleet = fleet_with(&KEYS.replace("alice.secret\"\n", "alice.secret\"\nping = true\n"));
    let [one, other] = [0, 1].map(good);
    let ping = |place: usize, from: &str, token: Token| {
        let (pattern, to) = (token.hex(), &fleet.members[place].address);
        let words = ["ping", "-c", "1", "-W", "1", "-I", from, "-p", &pattern, to];
        assert!(on(&fleet.client, &words).succeeded());
    };
    ping(0, FIRST, one);
    fleet.until_open(0, FIRST, 22);
    until("the other host knows", || {
        holds(&fleet, 1, "spent-elsewhere")
    });
    ping(1, STRANGER, one);
    send(&fleet, 1, STRANGER, one);
    assert!(!fleet.is_open(1, STRANGER, 22));
    ping(1, FIRST, other);
    fleet.until_open(1, FIRST, 22);
}

#[test]
fn a_token_opens_at_one_host_and_never_at_another() {
    let mut fleet = fleet();
    let tokens = [0, 1, 2].map(good);
    send(&fleet, 0, FIRST, tokens[0]);
    fleet.until_open(0, FIRST, 22);
    until("the other host knows", || {
        holds(&fleet, 1, "spent-elsewhere")
    });
    send(&fleet, 1, STRANGER, tokens[0]);
    assert!(!fleet.is_open(1, STRANGER, 22));
    // Another one opens there.
    send(&fleet, 1, FIRST, tokens[1]);
    fleet.until_open(1, FIRST, 22);
    // An apply and a refill change nothing, and neither do agents that begin anew and a host that forgot.
    let policy = fleet.path(1, "policy.toml");
    fleet.yes(1, &["apply", &policy]);
    fleet.yes(1, &["refill", &policy]);
    send(&fleet, 1, STRANGER, tokens[0]);
    assert!(!fleet.is_open(1, STRANGER, 22));
    fleet.kill_agent(1);
    fleet.yes(1, &["remove"]);
    fleet.yes(1, &["apply", &policy]);
    assert!(!holds(&fleet, 1, "spent-elsewhere"));
    fleet.start_agent(1);
    until("it has learnt it again", || {
        holds(&fleet, 1, "spent-elsewhere")
    });
    send(&fleet, 1, STRANGER, tokens[0]);
    assert!(!fleet.is_open(1, STRANGER, 22));
    assert_eq!(fleet.status(1)["drift"], serde_json::json!([]));
}

#[test]
fn what_was_spent_while_the_agent_was_away_is_told_afterwards() {
    let mut fleet = fleet();
    let spent = good(3);
    fleet.kill_agent(0);
    send(&fleet, 0, FIRST, spent);
    fleet.knock(0, "192.0.2.102");
    fleet.until_open(0, FIRST, 22);
    fleet.until_open(0, "192.0.2.102", 22);
    fleet.start_agent(0);
    until("the other host knows", || {
        holds(&fleet, 1, "spent-elsewhere") && holds(&fleet, 1, "burnt")
    });
    send(&fleet, 1, STRANGER, spent);
    fleet.knock(1, STRANGER);
    assert!(!fleet.is_open(1, STRANGER, 22));
}

/// The same hosts; the key is signed, and its datagrams may open from any address.
fn fleet_of_signed_keys() -> Fleet {
    fleet_with(&KEYS.replace("token = ", "binding = \"none\"\nsigned = "))
}

fn signed(from: &str, bound: Bound) -> Vec<u8> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let time = Time(u64::try_from(since.as_nanos()).unwrap());
    let signer = Signer::of(&secret(SECRET));
    signer.sign(from.parse().unwrap(), bound, time).to_vec()
}

#[test]
fn a_signed_datagram_opens_at_one_host_and_never_at_another() {
    let mut fleet = fleet_of_signed_keys();
    let send = |fleet: &Fleet, place, from, datagram: &[u8]| {
        send_to(fleet, place, from, 40_123, datagram);
    };
    let bound = signed(FIRST, Bound::Address);
    let any = signed(FIRST, Bound::Nothing);
    send(&fleet, 0, FIRST, &bound);
    fleet.until_open(0, FIRST, 22);
    send(&fleet, 0, "192.0.2.102", &any);
    fleet.until_open(0, "192.0.2.102", 22);
    let knows = |fleet: &Fleet, place| fleet.list(place, "spent-elsewhere").matches("0x").count();
    until("the other host knows", || knows(&fleet, 1) == 2);
    send(&fleet, 1, FIRST, &bound);
    send(&fleet, 1, STRANGER, &any);
    assert!(!fleet.is_open(1, FIRST, 22) && !fleet.is_open(1, STRANGER, 22));
    // Another one opens there, and is known here.
    let other = signed(FIRST, Bound::Address);
    send(&fleet, 1, FIRST, &other);
    fleet.until_open(1, FIRST, 22);
    until("it goes both ways", || knows(&fleet, 0) == 1);
    // An apply, a healing and an agent that begins anew change nothing.
    let policy = fleet.path(1, "policy.toml");
    fleet.yes(1, &["apply", &policy]);
    fleet.kill_agent(1);
    fleet.start_agent(1);
    send(&fleet, 1, STRANGER, &any);
    assert!(!fleet.is_open(1, STRANGER, 22));
    assert_eq!(fleet.status(1)["drift"], serde_json::json!([]));
}

/// The engine is there again, and so is the agent: what was spent meanwhile is told.
#[test]
fn a_signed_datagram_that_was_spent_while_the_agent_was_away_is_told_afterwards() {
    let mut fleet = fleet_of_signed_keys();
    fleet.kill_agent(0);
    let datagram = signed(FIRST, Bound::Nothing);
    send_to(&fleet, 0, FIRST, 40_123, &datagram);
    fleet.until_open(0, FIRST, 22);
    fleet.start_agent(0);
    until("the other host knows", || {
        holds(&fleet, 1, "spent-elsewhere")
    });
    send_to(&fleet, 1, STRANGER, 40_123, &datagram);
    assert!(!fleet.is_open(1, STRANGER, 22));
    send_to(&fleet, 1, FIRST, 40_123, &signed(FIRST, Bound::Address));
    fleet.until_open(1, FIRST, 22);
}

#[test]
fn a_scratch_sequence_opens_at_one_host_and_never_at_another() {
    let fleet = fleet();
    fleet.knock(0, FIRST);
    fleet.until_open(0, FIRST, 22);
    until("the other host knows", || holds(&fleet, 1, "burnt"));
    fleet.knock(1, STRANGER);
    assert!(!fleet.is_open(1, STRANGER, 22));
    // The other sequence opens.
    fleet.knock_with(1, FIRST, &["5571", "6602", "7733"]);
    fleet.until_open(1, FIRST, 22);
    until("it goes both ways", || {
        fleet.list(0, "burnt").matches(", ").count() == 1
    });
}
