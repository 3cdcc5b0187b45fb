//! The test vectors of docs/protocol.json, and clients in other languages. (On the kernel and in a browser: `kernel/`.)

use std::fs;
use std::net::UdpSocket;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use toctoc::automaton::Automaton;
use toctoc::firewall::run;
use toctoc::knock::Knock;
use toctoc::model::{Model, Outcome};
use toctoc::single_use::{Form, Secret, Token, Window, token};
use toctoc::trace::Packet;
use toctoc::trace::run::Run;

const SECRET: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
const VECTORS: &str = "docs/protocol.json";
const CLIENT: &str = "examples/knock.py";

fn vectors(list: &str) -> Vec<Value> {
    let text = fs::read_to_string(VECTORS).unwrap();
    let lists: Value = serde_json::from_str(&text).unwrap();
    lists[list].as_array().unwrap().clone()
}

#[test]
fn the_vectors_are_our_tokens() {
    let tokens = vectors("tokens");
    for one in &tokens {
        let secret = Secret::parse(one["secret"].as_str().unwrap()).unwrap();
        let window = Window(one["window"].as_u64().unwrap());
        let number = one["number"].as_u64().unwrap() as u32;
        let in_form = |form| token(&secret.clone().in_form(form), window, number);
        assert_eq!(in_form(Form::Bytes).hex(), one["bytes"]);
        let letters = in_form(Form::Letters).0;
        assert_eq!(std::str::from_utf8(&letters).unwrap(), one["letters"]);
    }
    assert!(tokens.len() > 3);
    for one in vectors("times") {
        let window = Window(one["window"].as_u64().unwrap());
        let is_good = one["now"].as_i64().unwrap() < window.over();
        assert_eq!(is_good, one["opens"], "{}", one["reason"]);
    }
}

/// The model is the judge, and the machine that the kernel gets says the same.
#[test]
fn the_vectors_of_sequences_are_as_the_model_has_them() {
    let sequences = vectors("sequences");
    for one in &sequences {
        let knocks = one["sequence"].to_string();
        let within = one["within"].as_u64().unwrap();
        let policy = format!(
            "within = \"{within}s\"\n[door.ssh]\nports = [22]\n[key.a]\nopens = [\"ssh\"]\nsequence = {knocks}\n"
        );
        let policy = toctoc::policy::read("vector", &policy).unwrap();
        let automaton = Automaton::build(policy.sequences());
        let mut model = Model::new(&policy, 0);
        let mut run = Run::new(&policy, &automaton, 0);
        let mut opens = [false; 2];
        for knock in one["knocks"].as_array().unwrap() {
            let to: Knock = knock["to"].as_str().unwrap().parse().unwrap();
            let packet = Packet {
                at: Duration::from_secs_f64(knock["at"].as_f64().unwrap()),
                source: "192.0.2.7".parse().unwrap(),
                host: None,
                to,
            };
            opens[0] |= matches!(model.packet(packet), Outcome::Opens(_));
            run.packet(packet);
            opens[1] |= !run.grants(packet.at).is_empty();
        }
        let wanted = one["opens"].as_bool().unwrap();
        assert_eq!(opens, [wanted; 2], "{one}");
    }
    assert!(sequences.len() > 10);
}

#[test]
fn the_client_in_python_agrees_with_the_vectors() {
    let ended = run(&["python3", CLIENT, "vectors", VECTORS], "").unwrap();
    assert!(ended.succeeded(), "{}", ended.stderr);
    let counted: Value = serde_json::from_str(&ended.stdout).unwrap();
    for list in ["tokens", "times", "datagrams", "echoes", "sequences"] {
        assert_eq!(counted[list], vectors(list).len(), "{list}");
    }
    // The twin: it notices a vector that is wrong.
    for (right, wrong) in [
        ("AUpDZrzk", "aUpDZrzk"),
        ("\"opens\": false", "\"opens\": true"),
    ] {
        let text = fs::read_to_string(VECTORS).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(text.contains(right));
        fs::write(file.path(), text.replace(right, wrong)).unwrap();
        let path = file.path().to_str().unwrap();
        let ended = run(&["python3", CLIENT, "vectors", path], "").unwrap();
        assert!(!ended.succeeded(), "{wrong}");
    }
}

/// Returns whether it is a token of a moment between two windows.
fn is_of(sent: Token, form: Form, windows: std::ops::RangeInclusive<u64>) -> bool {
    let secret = Secret::parse(SECRET).unwrap().in_form(form);
    let mut good = windows.flat_map(|window| (0..4).map(move |number| (window, number)));
    good.any(|(window, number)| token(&secret, Window(window), number) == sent)
}

#[test]
fn the_client_in_python_sends_a_token_of_this_minute() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let patience = Some(Duration::from_secs(5));
    socket.set_read_timeout(patience).unwrap();
    let port = socket.local_addr().unwrap().port().to_string();
    let now = || {
        let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        Window::at(elapsed.as_secs() as i64).0
    };
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), SECRET).unwrap();
    let path = file.path().display().to_string();
    for (how, form, at) in [
        ("token", Form::Bytes, 0),
        ("letters", Form::Letters, 0),
        ("check", Form::Letters, 24),
    ] {
        let before = now();
        let ended = run(&["python3", CLIENT, how, "127.0.0.1", &port, &path], "").unwrap();
        assert!(ended.succeeded(), "{}", ended.stderr);
        let mut datagram = [0; 200];
        let length = socket.recv(&mut datagram).unwrap();
        assert!((16..=80).contains(&length), "{length}");
        let sent = Token(datagram[at..at + 16].try_into().unwrap());
        assert!(is_of(sent, form, before..=now()), "{how}");
    }
}
