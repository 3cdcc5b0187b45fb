//! `nft -j list map inet toctoc tokens`, and the sets of what was used up; and the transactions that
//! change them.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Duration;

use toctoc::ruleset::nftables::{
    Listing, burn, burnt, change_tokens, if_there, loaded, render, spent_and_life, strange_tokens,
    transaction,
};
use toctoc::single_use::Token;
use toctoc::single_use::plan::{Loaded, Plan};

use super::{recorded, sentences};

const ALICE: u32 = 0x5076_f9b8;

fn token(hex: &str) -> Token {
    Token::from_hex(hex).unwrap()
}

fn listing(text: &str) -> Listing {
    Listing::parse(text).unwrap()
}

#[test]
fn every_release_is_read_alike() {
    for release in ["0.9.8", "1.0.6", "1.1.3"] {
        let listing = listing(&recorded(&format!("tokens.nft-{release}.json")));
        let wanted = [
            ("feccf3ebd1e8af8d348510101600179", Some(29)),
            ("f0000000000000000000000000000001", Some(3699)),
            ("a0000000000000000000000000000003", None),
        ];
        let wanted: HashMap<Token, Loaded> = wanted
            .into_iter()
            .map(|(hex, seconds)| {
                let expires_in = seconds.map(Duration::from_secs);
                let id = ALICE;
                (token(hex), Loaded { id, expires_in })
            })
            .collect();
        assert_eq!(loaded(&listing), Some(wanted), "{release}");
        let spent = HashSet::from([
            token("ad48080f9a0aa35fe1142b7e5f1d66b"),
            token("e0000000000000000000000000000002"),
        ]);
        assert_eq!(
            spent_and_life(&listing),
            Some((spent, Some(7))),
            "{release}"
        );
        let used_up = BTreeSet::from([5, 0x000b_0102]);
        assert_eq!(burnt(&listing), Some(used_up), "{release}");
    }
}

#[test]
fn a_table_without_them_is_told_from_one_where_nothing_is_spent() {
    let other = listing(&recorded("guests.nft-1.0.6.json"));
    assert_eq!(loaded(&other), None);
    assert_eq!(spent_and_life(&other), None);
    assert_eq!(burnt(&other), None);
    let text = recorded("tokens.nft-1.0.6.json");
    let text = text.replace("\"elem\": [", "\"was\": [");
    let empty = listing(&text);
    assert_eq!(loaded(&empty), Some(HashMap::new()));
    assert_eq!(spent_and_life(&empty), Some((HashSet::new(), None)));
    assert_eq!(burnt(&empty), Some(BTreeSet::new()));
}

#[test]
fn scratch_sequences_are_made_used_up() {
    assert_eq!(
        burn(&[5, 0x000b_0102]).to_string(),
        "add element inet toctoc burnt { 0:5, b:102 }\n"
    );
}

#[test]
fn a_plan_becomes_one_transaction() {
    let plan = Plan {
        anew: true,
        add: [(
            token("f0000000000000000000000000000001"),
            (ALICE, Duration::from_secs(3700)),
        )]
        .into(),
    };
    let elements = "\
        flush map inet toctoc tokens\n\
        add element inet toctoc tokens { 0xf0000000000000000000000000000001 timeout 3700s : 5076:f9b8 }\n";
    let change_tokens = |plan: &Plan, old, life| change_tokens(plan, old, life).to_string();
    assert_eq!(change_tokens(&plan, Some(7), 7), elements);
    let eighth = "add element inet toctoc spent { 0x746f63746f6300000000000000000008 }\n";
    let seventh = eighth.replace("add", "delete").replace('8', "7");
    assert_eq!(
        change_tokens(&plan, Some(7), 8),
        format!("{seventh}{eighth}{elements}")
    );
    assert_eq!(change_tokens(&Plan::default(), None, 8), eighth);
    assert_eq!(change_tokens(&Plan::default(), Some(8), 8), "");
}

#[test]
fn many_tokens_are_several_commands() {
    let tokens = (0..501u128).map(|number| Token(number.to_be_bytes()));
    let plan = Plan {
        add: tokens
            .map(|token| (token, (ALICE, Duration::from_secs(60))))
            .collect(),
        ..Plan::default()
    };
    let text = change_tokens(&plan, Some(7), 7).to_string();
    let counts: Vec<usize> = text
        .lines()
        .map(|line| line.matches("0x").count())
        .collect();
    assert_eq!(counts, [500, 1]);
}

#[test]
fn tokens_are_asked_for_by_taking_them_away() {
    let tokens = [1, 2].map(|number: u128| Token(number.to_be_bytes()));
    assert_eq!(
        if_there(&tokens).to_string(),
        "delete element inet toctoc tokens { 0x00000000000000000000000000000001, \
         0x00000000000000000000000000000002 }\n"
    );
    assert!(if_there(&[]).is_empty());
}

const SCRATCH: &str = "[door.ssh]\nports = [22]\n[key.paper]\nopens = [\"ssh\"]\n\
                       scratch = [[4431, 2387, 9920], [5001, 40002, 3003]]\n";

fn script(text: &str) -> (toctoc::policy::Policy, toctoc::ruleset::nftables::Script) {
    let policy = toctoc::policy::read("p", text).unwrap();
    let automaton = toctoc::automaton::Automaton::build(policy.sequences());
    let script = render(&policy, &automaton);
    (policy, script)
}

#[test]
fn a_new_table_knows_from_the_start_which_sequences_were_used_up() {
    let (_, mut script) = script(SCRATCH);
    let before = script.to_string();
    script.burn(&BTreeSet::from([5, 0x000b_0102]));
    let after = script.to_string();
    let new: Vec<&str> = after
        .lines()
        .filter(|line| !before.contains(*line))
        .collect();
    assert_eq!(new, ["\t\t\t0:5,", "\t\t\tb:102,"]);
}

#[test]
fn without_token_keys_there_is_no_room_for_tokens() {
    assert_eq!(script(SCRATCH).1.token_room(), 0);
}

/// A key may come back, and what it has used up stays used up.
#[test]
fn what_was_used_up_is_kept_when_no_key_needs_it_any_more() {
    let running = listing(&recorded("tokens.nft-1.0.6.json"));
    let text = SCRATCH.replace(
        "scratch = [[4431, 2387, 9920], [5001, 40002, 3003]]",
        "sequence = [4431, 2387, 9920]",
    );
    let (policy, script) = script(&text);
    let change = transaction(&policy, &script, Some(&running), Duration::ZERO);
    assert!(
        change
            .transaction
            .to_string()
            .contains("delete map inet toctoc tokens\n"),
        "{}",
        change.transaction.to_string()
    );
    for kept in ["spent", "burnt"] {
        assert!(
            !change
                .transaction
                .to_string()
                .contains(&format!("set inet toctoc {kept}\n")),
            "{}",
            change.transaction.to_string()
        );
    }
}

/// A refill loads from the windows that are good now up to the horizon; status comes a minute later.
#[test]
fn tokens_that_no_refill_loads_are_strange() {
    use toctoc::policy::{Host, Secrets, read_for};
    use toctoc::single_use::{Secret, Window, token};
    const NOW: i64 = 1_783_350_030;
    let digits = "0123456789abcdef".repeat(4);
    let secret = Secret::parse(&digits).unwrap();
    let read = |_: &str| Secret::parse(&digits).map_err(|error| error.to_string());
    let host = Host {
        secrets: Secrets(Some(&read)),
        ..Host::default()
    };
    let text = "token_port = 4000\n[door.ssh]\nports = [22]\n\
                [key.alice]\nopens = [\"ssh\"]\ntoken = \"alice\"\n";
    let policy = read_for("p", text, &host).unwrap();
    let automaton = toctoc::automaton::Automaton::build(policy.sequences());
    // Four a minute for six hours, and the grace.
    assert!(render(&policy, &automaton).token_room() >= 4 * (6 * 60 + 3));
    let said = |tokens: &[(i64, u32, bool)]| {
        let elements = tokens.iter().map(|&(ahead, id, ends)| {
            let window = Window(Window::at(NOW).0.saturating_add_signed(ahead));
            let token = format!("0x{}", token(&secret, window, 3).hex());
            let id = format!("{:x}:{:x}", id >> 16, id & 0xffff);
            match ends {
                true => {
                    serde_json::json!([{"elem": {"val": token, "timeout": 90, "expires": 80}}, id])
                }
                false => serde_json::json!([token, id]),
            }
        });
        let elements: Vec<_> = elements.collect();
        let map = serde_json::json!({"nftables": [{"map": {
            "family": "inet", "table": "toctoc", "name": "tokens", "type": "integer",
            "map": "classid", "flags": ["timeout"], "elem": elements,
        }}]});
        sentences(&strange_tokens(&policy, &listing(&map.to_string()), NOW)).join("; ")
    };
    let id = secret.id();
    let put_right = |what: &str| format!("map tokens has {what} (`toctoc apply` puts that right)");
    assert_eq!(said(&[]), "");
    assert_eq!(said(&[(-3, id, true), (0, id, true), (361, id, true)]), "");
    let foreign = put_right("1 token that no key of this policy has");
    assert_eq!(said(&[(-4, id, true), (361, id, true)]), foreign);
    assert_eq!(said(&[(362, id, true)]), foreign);
    assert_eq!(said(&[(5, id ^ 1, true)]), foreign);
    let endless = put_right("2 tokens that never end");
    assert_eq!(
        said(&[(1, id, false), (2, id, false), (3, id, true)]),
        endless
    );
}
