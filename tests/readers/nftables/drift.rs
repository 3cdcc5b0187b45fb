//! Changes of others to our table, and what is said of them.

use serde_json::{Value, json};
use toctoc::automaton::Automaton;
use toctoc::ruleset::nftables::{compare, compare_outline, leftovers, meanings, strange};

use super::super::sentences;
use super::{
    GUESTS, changed, elements, listing, object, policy, remove, rule, rules, script, with_strangers,
};

type Damage = (&'static [&'static str], fn(&mut Vec<Value>));

/// Changes of others to our table, and what is said of them.
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
    (&["map arrivals has, besides, 0:fe : jump x"], |o| {
        elements(o, "map", "arrivals").push(json!(["0:fe", {"jump": {"target": "x"}}]))
    }),
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

/// The same damages in the words of the policy, in their order; what is said twice is said once.
#[test]
fn damages_are_explained() {
    let expected = listing(GUESTS);
    let policy = policy("guests.toml");
    let automaton = Automaton::build(policy.sequences());
    let mut explained = Vec::new();
    for (said, damage) in DAMAGES {
        let drifts = compare(&expected, &changed(GUESTS, damage));
        let meanings = meanings(&drifts, &policy, &automaton);
        assert_eq!(meanings.is_empty(), said.is_empty(), "{said:?}");
        for meaning in meanings {
            if !explained.contains(&meaning) {
                explained.push(meaning);
            }
        }
    }
    let lost = changed(GUESTS, |o| {
        elements(o, "map", "steps").clear();
        elements(o, "set", "heard").remove(0);
        elements(o, "map", "arrivals").remove(1);
        rules(o, "door-ssh", Vec::clear);
        rules(o, "key-yves", |rules| drop(rules.remove(0)));
    });
    explained.extend(meanings(&compare(&expected, &lost), &policy, &automaton));
    explained.extend(meanings(
        &strange(&policy, &with_strangers()),
        &policy,
        &automaton,
    ));
    snapbox::assert_data_eq!(
        explained.join("\n") + "\n",
        snapbox::file!["../../golden/readers/meanings.txt"].raw()
    );
}

/// The notes of used-up keys stay when the policy of tokens has gone; a set that the policy has may not be
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
    let text = change.transaction.to_string();
    assert!(text.contains("203.0.113.1"), "{text}");
    assert!(!text.contains("flush"), "{text}");
}
