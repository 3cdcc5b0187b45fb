//! `nft -j list table inet toctoc`, as several releases print it.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};
use toctoc::automaton::Automaton;
use toctoc::policy::{Backend, Policy};
use toctoc::ruleset::nftables::{
    Change, Listing, Script, carry, close, compare, compare_outline, leftovers, open, render,
    shorten, strange, transaction,
};

use super::{golden, name, opened, reading, recorded, sentences};

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
        assert_eq!(listing.doors(), ["ssh", "vpn"]);
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
    assert_eq!(outline.chain_count(), 17);
    outline.merge(part(&["set", "map"]));
    assert_eq!(outline.grants(), listing(GUESTS).grants());
    assert_eq!(outline.doors(), ["ssh", "vpn"]);
    let script = script(&policy("guests.toml"));
    assert_eq!(compare_outline(&script, &outline), []);
    // Counters are not listed, and there is one for each key.
    let next = script_without(&script, "opened-yves");
    let deleted = |outline: &Listing| {
        let change = transaction(&policy("guests.toml"), &next, Some(outline), seconds(1));
        change
            .text
            .contains("delete counter inet toctoc opened-yves\n")
    };
    assert!(!deleted(&outline));
    outline.expect_counters();
    assert!(deleted(&outline));
    outline.merge(part(&["counter"]));
    assert_eq!(outline.opened_count(&name("bob")), 2);
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

type Damage = (&'static [&'static str], fn(&mut Vec<Value>));

/// What somebody did to our table, and what is said of it.
const DAMAGES: &[Damage] = &[
    (&[], |_| {}),
    (&["chain shut is missing"], |o| {
        rules(o, "shut", Vec::clear);
        remove(o, "chain", "shut");
    }),
    (&["chain mine is not in the policy's ruleset"], |o| {
        o.push(json!({"chain": {"family": "inet", "table": "toctoc", "name": "mine"}}));
    }),
    (&["chain judge has been flushed"], |o| {
        rules(o, "judge", Vec::clear);
    }),
    (
        &["chain judge lacks 1 of its 10 rules, from rule 2 on"],
        |o| {
            rules(o, "judge", |rules| drop(rules.remove(1)));
        },
    ),
    (
        &["chain judge lacks 3 of its 10 rules, from rule 8 on"],
        |o| {
            rules(o, "judge", |rules| rules.truncate(7));
        },
    ),
    (&["chain shut has a rule too many, rule 3"], |o| {
        rules(o, "shut", |rules| rules.insert(2, rule("shut")));
    }),
    (&["chain shut has 2 rules too many, from rule 1 on"], |o| {
        rules(o, "shut", |rules| {
            rules.insert(0, rule("shut"));
            rules.insert(0, rule("shut"));
        });
    }),
    (&["chain judge differs from rule 4 on"], |o| {
        rules(o, "judge", |rules| rules[3] = rule("judge"));
    }),
    (&["chain judge differs from rule 10 on"], |o| {
        rules(o, "judge", |rules| {
            rules[9]["rule"]["comment"] = json!("mine")
        });
    }),
    (
        &["chain knocks-tcp is called at another place of the packet's path"],
        |o| object(o, "chain", "knocks-tcp")["prio"] = json!(-299),
    ),
    (
        &["chain knocks-tcp is called at another place of the packet's path"],
        |o| object(o, "chain", "knocks-tcp")["hook"] = json!("input"),
    ),
    (
        &["chain knocks-tcp is called at another place of the packet's path"],
        |o| object(o, "chain", "knocks-tcp")["policy"] = json!("drop"),
    ),
    (&["set once6 is missing"], |o| remove(o, "set", "once6")),
    (&["set extra is not in the policy's ruleset"], |o| {
        o.push(
            json!({"set": {"family": "inet", "table": "toctoc", "name": "extra", "type": "mark"}}),
        );
    }),
    (&["set grants4 is declared differently"], |o| {
        object(o, "set", "grants4")["size"] = json!(16);
    }),
    (&["set grants4 is declared differently"], |o| {
        object(o, "set", "grants4")["timeout"] = json!(3600);
    }),
    (&["map ports is declared differently"], |o| {
        let ports = object(o, "map", "ports").clone();
        remove(o, "map", "ports");
        o.push(json!({"set": ports}));
    }),
    (&["map ports lacks tcp . 22 : goto door-ssh"], |o| {
        elements(o, "map", "ports").remove(0);
    }),
    (
        &["map steps lacks 0:2 . tcp . 443 : ffff:0 and 1 more"],
        |o| {
            elements(o, "map", "steps").retain(|step| step[0]["concat"][2] != 443);
        },
    ),
    (&["map arrivals has, besides, 0:ff : drop"], |o| {
        elements(o, "map", "arrivals").push(json!(["0:ff", {"drop": null}]));
    }),
    (
        &["map arrivals has, besides, 0:fe : {\"jump\":{\"target\":\"x\"}}"],
        |o| elements(o, "map", "arrivals").push(json!(["0:fe", {"jump": {"target": "x"}}])),
    ),
    (&["counter opened-yves is missing"], |o| {
        remove(o, "counter", "opened-yves");
    }),
    // What the kernel fills itself is no difference.
    (&[], |o| elements(o, "set", "grants4").clear()),
    (&[], |o| elements(o, "map", "progress6").clear()),
    (&[], |o| elements(o, "set", "steady4").clear()),
    (&[], |o| {
        object(o, "counter", "opened-bob")["packets"] = json!(5)
    }),
    // Nor is what belongs to others.
    (&[], |o| {
        o.push(json!({"chain": {"family": "ip", "table": "toctoc", "name": "mine"}}));
        o.push(json!({"chain": {"family": "inet", "table": "theirs", "name": "mine"}}));
    }),
];

#[test]
fn damages_are_named() {
    let expected = listing(GUESTS);
    for (said, damage) in DAMAGES {
        let actual = changed(GUESTS, damage);
        assert_eq!(sentences(&compare(&expected, &actual)), *said);
    }
}

/// What was used up stays when the policy of tokens has gone; a set that the policy has may not be
/// missing, and others are nobody's.
#[test]
fn what_was_used_up_may_be_left_over() {
    let expected = listing(GUESTS);
    let script = script(&policy("guests.toml"));
    let set = |name: &str| {
        let set = json!({"family": "inet", "name": name, "table": "toctoc", "type": "integer"});
        json!({ "set": set })
    };
    let left = changed(GUESTS, |o| o.extend(["spent", "burnt", "burning"].map(set)));
    assert_eq!(compare(&expected, &left), []);
    assert_eq!(compare_outline(&script, &left), []);
    // From the other side: with them in the policy, one of another kind is another.
    let odd = changed(GUESTS, |o| {
        let mut odd = set("spent");
        odd["set"]["type"] = json!("mark");
        o.push(odd);
    });
    let said = ["set spent is declared differently"];
    assert_eq!(
        sentences(&compare(&left, &odd)),
        ["set burning is missing", "set burnt is missing", said[0],]
    );
}

#[test]
fn an_outline_shows_chains_and_sets() {
    let script = script(&policy("guests.toml"));
    for (said, damage) in DAMAGES {
        let actual = changed(GUESTS, damage);
        let words = ["chain", "set", "map"];
        let shown = said.iter().filter(|sentence| {
            words.iter().any(|word| sentence.starts_with(word))
                && ["is missing", "not in", "another place", "differently"]
                    .iter()
                    .any(|words| sentence.contains(words))
        });
        // The text, not the listing, says what is a map.
        let shown: Vec<String> = shown.map(|s| s.replace("map ", "set ")).collect();
        assert_eq!(sentences(&compare_outline(&script, &actual)), shown);
    }
}

/// An nft up to 1.0.6 prints the flags of a table as whatever memory holds.
#[test]
fn a_table_with_flags_is_noticed() {
    let flagged =
        |flags: Value| changed(GUESTS, |o| object(o, "table", "toctoc")["flags"] = flags).flagged;
    assert!(flagged(json!("dormant")) && flagged(json!(["dormant"])) && flagged(json!("\u{1}")));
    assert!(!flagged(Value::Null));
    let other = changed(GUESTS, |o| {
        o.push(json!({"table": {"family": "inet", "name": "theirs", "flags": "dormant"}}));
        o.push(json!({"table": {"family": "ip", "name": "toctoc", "flags": "dormant"}}));
    });
    assert!(!other.flagged);
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
fn strange_guests_are_named() {
    assert_eq!(strange(&policy("guests.toml"), &listing(GUESTS)), []);
    assert_eq!(
        sentences(&strange(&policy("guests.toml"), &with_strangers())),
        [
            "set grants4 has 203.0.113.1 . be3e:ff51, which never ends",
            "set grants4 has 203.0.113.2 . 7:7, a grant for a door that the policy does not have",
            "set opened6 has 2001:db8::bad . be3e:ff51 . 8:8, an opening by a key that may not",
        ]
    );
    // An element with a time ends, however it is written; one in a set that is not kept is not asked.
    let ending = changed(GUESTS, |o| {
        let element =
            json!({"elem": {"val": {"concat": ["192.0.2.7", "be3e:ff51"]}, "expires": 5}});
        elements(o, "set", "grants4").push(element);
        elements(o, "set", "steady4").push(json!("203.0.113.1"));
    });
    assert_eq!(strange(&policy("guests.toml"), &ending), []);
}

/// Found by fuzzing: elements of a set of another type went into a script as they were.
#[test]
fn an_element_that_would_be_a_command_is_not_written() {
    let odd = changed(GUESTS, |o| {
        let elements = elements(o, "set", "grants4");
        elements.push(json!(
            "x }; flush ruleset; add element inet toctoc grants4 {"
        ));
        elements.push(json!("203.0.113.1 . be3e:ff51"));
    });
    let change = leftovers(&policy("guests.toml"), &odd, None);
    assert!(change.text.contains("203.0.113.1"), "{}", change.text);
    assert!(!change.text.contains("flush"), "{}", change.text);
}

/// A transaction without the new rules: what it removes and what it takes over.
fn summary(change: &Change) -> String {
    let mut text = format!(
        "# {} kept, {} removed, {} ended_once\n",
        change.kept, change.removed, change.ended_once
    );
    let commands = ["add ", "delete ", "flush ", "table "];
    let lines = change.text.lines().filter(|line| {
        commands.iter().any(|command| line.starts_with(command)) || line.ends_with("# kept")
    });
    for line in lines {
        let words: Vec<&str> = line.split_whitespace().collect();
        let _ = writeln!(text, "{}", words.join(" "));
    }
    text
}

fn transition(running: &Listing, to: &Policy) -> Change {
    transaction(to, &script(to), Some(running), seconds(2))
}

#[test]
fn nothing_runs_yet() {
    let to = policy("guests.toml");
    let change = transaction(&to, &script(&to), None, seconds(2));
    assert_eq!(change.text, script(&to).to_string());
    assert_eq!((change.kept, change.removed), (0, 0));
}

#[test]
fn the_same_again_keeps_every_guest() {
    let to = policy("guests.toml");
    for release in ["0.9.8", "1.0.6", "1.1.3"] {
        let change = transition(&listing(&format!("guests.nft-{release}.json")), &to);
        golden("guests-again.txt", summary(&change));
        assert!(change.text.ends_with(&script(&to).to_string()));
        assert_eq!(change.carried, []);
    }
}

#[test]
fn who_has_no_key_any_more_goes() {
    let text = recorded("guests.toml");
    let (before, after) = text.split_once("[key.anna]").unwrap();
    let (_, bob) = after.split_once("[key.bob]").unwrap();
    let without_anna = super::read(&format!("{before}[key.bob]{bob}"), Backend::Nftables);
    let change = transition(&listing(GUESTS), &without_anna);
    golden("without-anna.txt", summary(&change));
    let without_vpn = text
        .replace("[door.vpn]\nports = [\"51820/udp\"]\n", "")
        .replace(", \"vpn\"", "");
    let without_vpn = super::read(&without_vpn, Backend::Nftables);
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
        shorten(&change.carried, seconds(30)),
    );
    // Too late for all but the grant of two hours.
    let late = shorten(&change.carried, seconds(3600));
    assert_eq!(late.matches("timeout 3599s }").count(), 2, "{late}");
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

/// What came in while the apply was under way.
#[test]
fn leftovers_are_swept() {
    let to = policy("guests.toml");
    let clean = leftovers(&to, &listing(GUESTS), None);
    assert_eq!((clean.text.as_str(), clean.kept, clean.removed), ("", 5, 0));
    let strangers = leftovers(&to, &with_strangers(), None);
    golden("leftovers.txt", summary(&strangers));
    let sources = |change: &Change| -> Vec<String> {
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
    for before in [None, Some(&listing(GUESTS))] {
        let first = leftovers(&to, &orphan(), before);
        assert_eq!((first.text.as_str(), first.kept, first.removed), ("", 5, 0));
    }
    let second = leftovers(&to, &orphan(), Some(&orphan()));
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
    assert_eq!((late.kept, late.removed), (1, 4), "{}", late.text);
}

#[test]
fn a_door_is_opened_by_hand() {
    let opened = |listing: &Listing, source: &str| {
        let source: ipnet::IpNet = source.parse().unwrap();
        open(listing, &name("ssh"), source, Duration::from_millis(90_500))
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
            Ok((transaction, network)) => writeln!(text, "# {source}: {network}\n{transaction}"),
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
        ["22", "51820/udp", "51820", "443"].map(|port| listing.guards_port(port.parse().unwrap()))
    };
    let mut whole = listing(GUESTS);
    assert_eq!(guarded(&whole), [true, true, false, false]);
    let damages: [fn(&mut Vec<Value>); 5] = [
        |o| rules(o, "knocks-tcp", Vec::clear),
        |o| rules(o, "judge", Vec::clear),
        |o| rules(o, "door-ssh", Vec::clear),
        |o| elements(o, "map", "ports").clear(),
        |o| {
            let chain = object(o, "chain", "knocks-tcp").as_object_mut().unwrap();
            chain.retain(|field, _| !["hook", "type", "prio", "policy"].contains(&field.as_str()));
        },
    ];
    for (number, damage) in damages.into_iter().enumerate() {
        assert!(!guarded(&changed(GUESTS, damage))[0], "{number}");
    }
    whole.dormant = true;
    assert_eq!(guarded(&whole), [false; 4]);
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
