//! The test vectors of docs/signed.json: our own signer, and clients in other languages.

use std::fs;
use std::net::IpAddr;
use std::process::Command;

use serde_json::Value;
use toctoc::signed::{Binding, Bound, Signer, Time};
use toctoc::single_use::Secret;

const VECTORS: &str = "docs/signed.json";

fn vectors(list: &str) -> Vec<Value> {
    let text = fs::read_to_string(VECTORS).unwrap();
    let lists: Value = serde_json::from_str(&text).unwrap();
    lists[list].as_array().unwrap().clone()
}

fn text<'v>(one: &'v Value, name: &str) -> &'v str {
    one[name].as_str().unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let pairs = text.as_bytes().chunks(2);
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    pairs.map(byte).collect()
}

fn bound(one: &Value) -> Bound {
    match text(one, "bound") {
        "address" => Bound::Address,
        "network" => Bound::Network,
        _ => Bound::Nothing,
    }
}

#[test]
fn the_vectors_are_our_datagrams() {
    let signed = vectors("signed");
    for one in &signed {
        let signer = Signer::of(&Secret::parse(text(one, "secret")).unwrap());
        let source: IpAddr = text(one, "source").parse().unwrap();
        let time = Time(one["time"].as_u64().unwrap());
        let made = signer.sign(source, bound(one), time);
        assert_eq!(hex(&made), text(one, "datagram"), "{one}");
    }
    assert!(signed.len() > 10);
    let judged = vectors("judged");
    for one in &judged {
        let signer = Signer::of(&Secret::parse(text(one, "secret")).unwrap());
        let source: IpAddr = text(one, "source").parse().unwrap();
        let binding = Binding::named(text(one, "binding")).unwrap();
        let time = |name: &str| Time(one[name].as_u64().unwrap());
        let why = signer.judge(
            &unhex(text(one, "datagram")),
            source,
            binding,
            time("now"),
            time("not_before"),
        );
        let why = why.err().map(|refusal| refusal.to_string());
        assert_eq!(why.as_deref(), one["refused"].as_str(), "{}", one["reason"]);
    }
    assert!(judged.len() > 25);
}

#[test]
fn the_client_in_python_agrees_with_the_vectors() {
    let client = |path: &str| {
        let mut command = Command::new("python3");
        command.args(["-B", "examples/signed.py", "vectors", path]);
        command.output().unwrap()
    };
    let ended = client(VECTORS);
    assert!(
        ended.status.success(),
        "{}",
        String::from_utf8_lossy(&ended.stderr)
    );
    let counted: Value = serde_json::from_slice(&ended.stdout).unwrap();
    for list in ["signed", "judged"] {
        assert_eq!(counted[list], vectors(list).len());
    }
    // The twin: it notices a vector that is wrong.
    let file = tempfile::NamedTempFile::new().unwrap();
    let text = fs::read_to_string(VECTORS).unwrap();
    let wrong = text.replacen("\"refused\": null", "\"refused\": \"tag\"", 1);
    assert_ne!(text, wrong);
    fs::write(file.path(), wrong).unwrap();
    assert!(!client(file.path().to_str().unwrap()).status.success());
}

#[test]
fn bash_and_openssl_make_the_same_datagrams() {
    for one in vectors("signed") {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text(&one, "secret")).unwrap();
        let source: IpAddr = text(&one, "source").parse().unwrap();
        let bits = bound(&one).bits(source).to_string();
        let octets = match source {
            IpAddr::V4(source) => source.to_ipv6_mapped().octets(),
            IpAddr::V6(source) => source.octets(),
        };
        let mut command = Command::new("bash");
        let file = file.path().to_str().unwrap();
        command.args(["examples/signed.sh", file, &hex(&octets), &bits]);
        let ended = command.arg(one["time"].to_string()).output().unwrap();
        let said = String::from_utf8_lossy(&ended.stdout);
        let why = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(said.trim(), text(&one, "datagram"), "{one} {why}");
    }
}
