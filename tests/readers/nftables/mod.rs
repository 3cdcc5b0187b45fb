//! `nft -j list table inet toctoc`, as several releases print it.

mod changes;
mod drift;

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};
use toctoc::automaton::Automaton;
use toctoc::policy::{Backend, Policy};
use toctoc::ruleset::nftables::{Listing, Script, compare_outline, render, transaction};

use super::{golden, name, opened, reading, recorded};

const GUESTS: &str = "guests.nft-1.0.6.json";
const NETWORKS: &str = "networks.nft-1.0.6.json";

fn listing(name: &str) -> Listing {
    Listing::parse(&recorded(name)).unwrap()
}

fn policy(name: &str) -> Policy {
    super::read(&recorded(name), Backend::Nftables)
}

/// The recorded policy with something else instead of something.
fn policy_but(name: &str, old: &str, new: &str) -> Policy {
    let text = recorded(name);
    assert!(text.contains(old), "{old}");
    super::read(&text.replace(old, new), Backend::Nftables)
}

fn script(policy: &Policy) -> Script {
    render(policy, &Automaton::build(policy.sequences()))
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn script_without(script: &Script, counter: &str) -> Script {
    let mut script = script.clone();
    script.counters.retain(|name| name != counter);
    script
}

/// A recorded listing after something was done to its objects.
fn changed(name: &str, change: impl FnOnce(&mut Vec<Value>)) -> Listing {
    let mut value: Value = serde_json::from_str(&recorded(name)).unwrap();
    change(value["nftables"].as_array_mut().unwrap());
    Listing::parse(&value.to_string()).unwrap()
}

fn object<'o>(objects: &'o mut [Value], kind: &str, name: &str) -> &'o mut Value {
    let mut own = objects.iter_mut().filter(|object| !object[kind].is_null());
    let found = own.find(|object| object[kind]["name"] == name);
    &mut found.unwrap_or_else(|| panic!("{kind} {name}"))[kind]
}

fn elements<'o>(objects: &'o mut [Value], kind: &str, name: &str) -> &'o mut Vec<Value> {
    let set = object(objects, kind, name);
    if set["elem"].is_null() {
        set["elem"] = json!([]);
    }
    set["elem"].as_array_mut().unwrap()
}

fn remove(objects: &mut Vec<Value>, kind: &str, name: &str) {
    let before = objects.len();
    objects.retain(|object| object[kind]["name"] != name);
    assert_eq!(objects.len(), before - 1, "{kind} {name}");
}

/// Changes the rules of a chain as a list.
fn rules(objects: &mut Vec<Value>, chain: &str, change: impl FnOnce(&mut Vec<Value>)) {
    let (mut own, others): (Vec<Value>, Vec<Value>) = objects
        .drain(..)
        .partition(|object| object["rule"]["chain"] == chain);
    change(&mut own);
    *objects = [others, own].concat();
}

fn rule(chain: &str) -> Value {
    json!({"rule": {"family": "inet", "table": "toctoc", "chain": chain, "expr": [{"accept": null}]}})
}

/// Guests that this policy would not let in, put into the sets by somebody.
fn with_strangers() -> Listing {
    changed(GUESTS, |o| {
        let (ssh, web) = ("be3e:ff51", "7:7");
        elements(o, "set", "grants4").extend([
            json!({"concat": ["203.0.113.1", ssh]}),
            json!({"elem": {"val": {"concat": ["203.0.113.2", web]}, "timeout": 60, "expires": 50}}),
        ]);
        elements(o, "set", "opened6").push(json!(
            {"elem": {"val": {"concat": ["2001:db8::bad", ssh, "8:8"]}, "timeout": 60, "expires": 50}}
        ));
    })
}

#[test]
fn every_release_is_read_alike() {
    for release in ["0.9.8", "1.0.6", "1.1.3"] {
        let listing = listing(&format!("guests.nft-{release}.json"));
        let mut text = reading(&listing.grants(), &listing.progress());
        for entry in listing.opened() {
            let _ = writeln!(text, "opened: {}", opened(&entry));
        }
        for key in ["yves", "anna", "bob", "nobody"] {
            let count = listing.opened_count(&name(key));
            let _ = writeln!(text, "{key}: {count}");
        }
        golden(&format!("guests.nft-{release}.txt"), text);
        assert_eq!(listing.doors(), ["ssh", "vpn"].map(name));
        assert!(listing.has_door(&name("vpn")) && !listing.has_door(&name("web")));
        assert_eq!(
            listing.kept_sets().join(" "),
            "admitted4 admitted6 grants4 grants6 once4 once6 opened4 opened6"
        );
        assert_eq!((listing.dormant, listing.flagged), (false, false));
    }
    let listing = listing(NETWORKS);
    golden(
        "networks.nft-1.0.6.txt",
        reading(&listing.grants(), &listing.progress()),
    );
    assert!(Listing::dormant().dormant);
}

/// The parts of a large table are listed one by one.
#[test]
fn an_outline_is_put_together() {
    let whole: Value = serde_json::from_str(&recorded(GUESTS)).unwrap();
    let part = |kinds: &[&str]| {
        let objects = whole["nftables"].as_array().unwrap().iter();
        let own = objects.filter(|object| kinds.iter().any(|kind| !object[kind].is_null()));
        let text = json!({"nftables": own.collect::<Vec<_>>()}).to_string();
        Listing::parse(&text).unwrap()
    };
    let mut outline = part(&["chain"]);
    assert_eq!(outline.chain_count(), 29);
    outline.merge(part(&["set", "map"]));
    assert_eq!(outline.grants(), listing(GUESTS).grants());
    assert_eq!(outline.doors(), ["ssh", "vpn"].map(name));
    let script = script(&policy("guests.toml"));
    assert_eq!(compare_outline(&script, &outline), []);
    // Counters are not listed, and there is one for each key.
    let next = script_without(&script, "opened-yves");
    let deleted = |outline: &Listing| {
        let change = transaction(&policy("guests.toml"), &next, Some(outline), seconds(1));
        let text = change.transaction.to_string();
        text.contains("delete counter inet toctoc opened-yves\n")
    };
    assert!(!deleted(&outline));
    outline.expect_counters();
    assert!(deleted(&outline));
    outline.merge(part(&["counter"]));
    assert_eq!(outline.opened_count(&name("bob")), 2);
}
