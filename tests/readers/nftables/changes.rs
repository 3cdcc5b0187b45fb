//! The transaction from what is there to another policy.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};
use toctoc::policy::{Backend, Policy};
use toctoc::ruleset::nftables::{
    Command, Listing, Room, Transaction, Transition, carry, close, leftovers, open, shorten,
    transaction,
};

use super::super::{golden, name, recorded};
use super::{
    GUESTS, NETWORKS, changed, elements, listing, object, policy, policy_but, remove, rules,
    script, seconds, with_strangers,
};

/// A transaction without the new rules: what it removes and what it takes over.
fn summary(change: &Transition) -> String {
    let mut text = format!(
        "# {} kept, {} removed, {} ended_once\n",
        change.kept, change.removed, change.ended_once
    );
    let commands = ["add ", "delete ", "flush ", "table "];
    let all = change.transaction.to_string();
    let lines = all.lines().filter(|line| {
        commands.iter().any(|command| line.starts_with(command)) || line.ends_with("# kept")
    });
    for line in lines {
        let words: Vec<&str> = line.split_whitespace().collect();
        let _ = writeln!(text, "{}", words.join(" "));
    }
    text
}

fn transition(running: &Listing, to: &Policy) -> Transition {
    transaction(to, &script(to), Some(running), seconds(2))
}

#[test]
fn nothing_runs_yet() {
    let to = policy("guests.toml");
    let change = transaction(&to, &script(&to), None, seconds(2));
    let whole = Command::Load(Box::new(script(&to)));
    assert_eq!(change.transaction, whole.into());
    assert_eq!((change.kept, change.removed), (0, 0));
}

#[test]
fn the_same_again_keeps_every_guest() {
    let to = policy("guests.toml");
    for release in ["0.9.8", "1.0.6", "1.1.3"] {
        let change = transition(&listing(&format!("guests.nft-{release}.json")), &to);
        golden("guests-again.txt", summary(&change));
        assert!(
            change
                .transaction
                .to_string()
                .ends_with(&script(&to).to_string())
        );
        assert_eq!(change.carried, []);
    }
}

/// The map of ports is filled again, never made anew: a packet that is under way finds every door closed.
#[test]
fn a_transaction_is_a_list_of_commands() {
    let to = policy("guests.toml");
    let Transaction(commands) = transition(&listing(GUESTS), &to).transaction;
    assert_eq!(commands.first(), Some(&Command::FlushTable));
    let loads = |command: &&Command| matches!(command, Command::Load(_));
    assert_eq!(commands.iter().filter(loads).count(), 1);
    for (set, kind) in [("ports", "map"), ("heard", "set")] {
        let set = set.to_string();
        assert!(commands.contains(&Command::Flush {
            kind,
            set: set.clone()
        }));
        assert!(!commands.contains(&Command::DeleteSet { kind, set }));
    }
}

#[test]
fn who_has_no_key_any_more_goes() {
    let text = recorded("guests.toml");
    let (before, after) = text.split_once("[key.anna]").unwrap();
    let (_, bob) = after.split_once("[key.bob]").unwrap();
    let without_anna = super::super::read(&format!("{before}[key.bob]{bob}"), Backend::Nftables);
    let change = transition(&listing(GUESTS), &without_anna);
    golden("without-anna.txt", summary(&change));
    let without_vpn = text
        .replace("[door.vpn]\nports = [\"51820/udp\"]\n", "")
        .replace(", \"vpn\"", "");
    let without_vpn = super::super::read(&without_vpn, Backend::Nftables);
    let change = transition(&listing(GUESTS), &without_vpn);
    golden("without-vpn.txt", summary(&change));
}

#[test]
fn strangers_are_removed() {
    let change = transition(&with_strangers(), &policy("guests.toml"));
    golden("strangers.txt", summary(&change));
}

/// A chain of ours at another place, a map where a set should be: made anew. Whatever else somebody
/// put into our table goes.
#[test]
fn what_is_not_ours_is_deleted() {
    let odd = changed(GUESTS, |o| {
        object(o, "chain", "knocks-tcp")["prio"] = json!(0);
        object(o, "set", "once4")["flags"] = json!(["interval"]);
        object(o, "map", "ports")["flags"] = json!(["interval"]);
        for (kind, name) in [
            ("chain", "mine"),
            ("set", "theirs"),
            ("map", "other"),
            ("counter", "c"),
        ] {
            o.push(json!({kind: {"family": "inet", "table": "toctoc", "name": name}}));
        }
        remove(o, "set", "claim4");
    });
    golden(
        "odd.txt",
        summary(&transition(&odd, &policy("guests.toml"))),
    );
    let odd = changed(GUESTS, |o| {
        let ports = object(o, "map", "ports");
        ports["type"] = json!(["inet_proto", "mark"]);
        for (set, field, value) in [
            ("grants4", "type", json!("ipv4_addr")),
            ("grants6", "comment", json!("mine")),
            ("opened4", "flags", json!(["dynamic"])),
        ] {
            object(o, "set", set)[field] = value;
        }
        let once = object(o, "set", "once6").clone();
        remove(o, "set", "once6");
        o.push(json!({"map": once}));
    });
    golden(
        "odd-types.txt",
        summary(&transition(&odd, &policy("guests.toml"))),
    );
}

/// Sets that hold another number of sources are made anew; guests move, less what a commit may take.
#[test]
fn guests_move_into_new_sets() {
    let larger = policy_but("guests.toml", "within ", "max_sources = 9000\nwithin ");
    let change = transition(&listing(GUESTS), &larger);
    golden("max-sources.txt", summary(&change));
    golden(
        "max-sources-shorten.txt",
        shorten(&change.carried, seconds(30)).to_string(),
    );
    // Too late for all but the grant of two hours.
    let late = shorten(&change.carried, seconds(3600)).to_string();
    assert_eq!(late.matches(" 3599s }").count(), 2, "{late}");
    let added = late.matches("add element").count();
    assert_eq!(added, change.carried.len() + 2, "{late}");
    assert_eq!(late.matches("timeout 60s }").count(), change.carried.len());
    assert_eq!(late.matches("delete element").count(), change.carried.len());
}

/// From addresses to networks, back, and to other networks.
#[test]
fn grants_are_resized() {
    let networks = policy_but(
        "guests.toml",
        "[door.ssh]",
        "[grant]\nprefix4 = 24\n[door.ssh]",
    );
    let change = transition(&listing(GUESTS), &networks);
    golden("to-networks.txt", summary(&change));
    let single = policy_but("networks.toml", "prefix4 = 24\nprefix6 = 64", "");
    golden(
        "to-addresses.txt",
        summary(&transition(&listing(NETWORKS), &single)),
    );
    let wider = policy_but("networks.toml", "prefix4 = 24", "prefix4 = 16");
    golden(
        "to-wider.txt",
        summary(&transition(&listing(NETWORKS), &wider)),
    );
}

/// Elements that came while the apply was under way.
#[test]
fn leftovers_are_swept() {
    let to = policy("guests.toml");
    let clean = leftovers(&to, &listing(GUESTS), None);
    assert!(clean.transaction.is_empty());
    assert_eq!((clean.kept, clean.removed), (5, 0));
    let strangers = leftovers(&to, &with_strangers(), None);
    golden("leftovers.txt", summary(&strangers));
    let sources = |change: &Transition| -> Vec<String> {
        let ended = change.ended.iter();
        ended.map(|grant| grant.source.to_string()).collect()
    };
    assert_eq!(sources(&strangers), ["203.0.113.1/32", "203.0.113.2/32"]);
    // A grant of a door without a record of who opened it: once may be a matter of time, twice not.
    let orphan = || {
        changed(GUESTS, |o| {
            elements(o, "set", "opened4").retain(|e| e["elem"]["val"]["concat"][0] != "192.0.2.7");
        })
    };
    for before in [None, Some(&listing(GUESTS).guests())] {
        let first = leftovers(&to, &orphan(), before);
        assert!(first.transaction.is_empty());
        assert_eq!((first.kept, first.removed), (5, 0));
    }
    let second = leftovers(&to, &orphan(), Some(&orphan().guests()));
    golden("leftovers-orphan.txt", summary(&second));
    assert_eq!(sources(&second), ["192.0.2.7/32"]);
}

/// Guests of another backend, as if all of them came from there.
#[test]
fn guests_of_another_backend_are_taken_in() {
    let grants = listing(GUESTS).grants();
    let to = policy("guests.toml");
    golden("carry.txt", summary(&carry(&to, &grants, seconds(2))));
    let networks = policy("networks.toml");
    golden(
        "carry-networks.txt",
        summary(&carry(&networks, &grants, seconds(2))),
    );
    let late = carry(&to, &grants, seconds(3599));
    assert_eq!((late.kept, late.removed), (1, 4), "{}", late.transaction);
}

#[test]
fn a_door_is_opened_by_hand() {
    let opened = |listing: &Listing, source: &str| {
        let source: ipnet::IpNet = source.parse().unwrap();
        let lasting = Duration::from_millis(90_500);
        open(listing, &name("ssh"), source, lasting, None, Room::Listed)
    };
    let mut text = String::new();
    for (running, source) in [
        (GUESTS, "192.0.2.50/32"),
        (GUESTS, "2001:db8::50/128"),
        (NETWORKS, "192.0.2.50/32"),
        (NETWORKS, "2001:db8:0:0::/64"),
        (GUESTS, "192.0.2.0/24"),
        (NETWORKS, "192.0.0.0/16"),
    ] {
        let _ = match opened(&listing(running), source) {
            Ok(opening) => writeln!(
                text,
                "# {source}: {}\n{}",
                opening.network, opening.transaction
            ),
            Err(sentence) => writeln!(text, "# {source}: {sentence}\n"),
        };
    }
    golden("open.txt", text);
    let nothing = changed(GUESTS, |o| remove(o, "set", "grants6"));
    assert!(opened(&nothing, "192.0.2.50/32").is_ok());
    let refused = opened(&nothing, "2001:db8::50/128").unwrap_err();
    assert!(refused.contains("no set for grants"), "{refused}");
}

#[test]
fn grants_are_closed() {
    let mut text = String::new();
    for (running, door, source) in [
        (GUESTS, None, None),
        (GUESTS, Some("vpn"), None),
        (GUESTS, None, Some("192.0.2.7/32")),
        (GUESTS, Some("ssh"), Some("192.0.2.64/26")),
        (GUESTS, Some("ssh"), Some("2001:db8::/32")),
        (GUESTS, None, Some("198.51.100.1/32")),
        (NETWORKS, None, Some("192.0.2.200/32")),
        (NETWORKS, Some("vpn"), None),
    ] {
        let listing = listing(running);
        let door_name = door.map(name);
        let change = close(
            &listing,
            door_name.as_ref(),
            source.map(|s| s.parse().unwrap()),
        );
        let (door, source) = (door.unwrap_or("every door"), source.unwrap_or("everybody"));
        let _ = writeln!(text, "## {door}, {source}\n{}", summary(&change));
    }
    golden("close.txt", text);
}

#[test]
fn ports_are_guarded_while_packets_come_to_their_door() {
    let guarded = |listing: &Listing| {
        ["22", "51820/udp", "51820", "443"].map(|port| listing.guards(port.parse().unwrap()))
    };
    let mut whole = listing(GUESTS);
    assert_eq!(guarded(&whole), [true, true, false, false]);
    // Each of the two places where doors are asked is enough.
    let first: [fn(&mut Vec<Value>); 3] = [
        |o| rules(o, "knocks-tcp", Vec::clear),
        |o| rules(o, "judge", Vec::clear),
        |o| unhook(o, "knocks-tcp"),
    ];
    let second: [fn(&mut Vec<Value>); 3] = [
        |o| rules(o, "incoming", Vec::clear),
        |o| unhook(o, "incoming"),
        |o| rules(o, "incoming", |rules| rules.truncate(1)),
    ];
    let both: [fn(&mut Vec<Value>); 3] = [
        |o| elements(o, "set", "heard").clear(),
        |o| rules(o, "door-ssh", Vec::clear),
        |o| elements(o, "map", "ports").clear(),
    ];
    let damaged = |damage: &dyn Fn(&mut Vec<Value>)| {
        changed(GUESTS, |o| {
            ask_again(o);
            damage(o);
        })
    };
    for (number, damage) in both.into_iter().enumerate() {
        assert!(!guarded(&damaged(&damage))[0], "{number}");
    }
    for (number, one) in first.iter().chain(&second).enumerate() {
        assert!(guarded(&damaged(one))[0], "{number}");
    }
    for one in first {
        for other in second {
            let damage = |o: &mut Vec<Value>| {
                one(o);
                other(o);
            };
            assert!(!guarded(&damaged(&damage))[0]);
        }
    }
    // A glance spares most packets the way to the doors. Without one, each SYN takes it.
    let unspared = |o: &mut Vec<Value>| {
        rules(o, "glance", Vec::clear);
        unhook(o, "incoming");
    };
    assert!(guarded(&damaged(&unspared))[0]);
    whole.dormant = true;
    assert_eq!(guarded(&whole), [false; 4]);
}

/// The rules of the second place, as far as they matter.
fn ask_again(objects: &mut Vec<Value>) {
    let to = |expr: Value| {
        let rule = json!({"family": "inet", "table": "toctoc", "chain": "incoming", "expr": expr});
        json!({ "rule": rule })
    };
    let port = json!({"payload": {"protocol": "tcp", "field": "dport"}});
    objects.push(to(json!([{"accept": null}])));
    objects.push(to(json!([
        {"match": {"op": "==", "left": port, "right": "@heard"}},
        {"vmap": {"key": "th dport", "data": "@ports"}}
    ])));
}

/// A chain is called from nowhere any more.
fn unhook(objects: &mut [Value], name: &str) {
    let chain = object(objects, "chain", name).as_object_mut().unwrap();
    chain.retain(|field, _| !["hook", "type", "prio", "policy"].contains(&field.as_str()));
}

#[test]
fn maps_and_scratch_chains_are_known_by_name() {
    let without = listing(GUESTS);
    let maps = ["ports", "grants4", "nothing"].map(|name| without.has_map(name));
    assert_eq!(maps, [true, false, false]);
    assert_eq!(without.scratch_chains(), Vec::<String>::new());
    let with = changed(GUESTS, |o| {
        o.push(json!({"chain": {"family": "inet", "table": "toctoc", "name": "scratch-7"}}));
    });
    assert_eq!(with.scratch_chains(), ["scratch-7"]);
}
