//! The steps from what is there to another policy.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use toctoc::automaton::Automaton;
use toctoc::held::Spared;
use toctoc::policy::Backend;
use toctoc::ruleset::Family;
use toctoc::ruleset::iptables::{
    Clock, GrantList, Lists, Saved, Wanted, add_list, change, early, let_go, lists_of, own_lists,
};

use super::super::{golden, recorded};
use super::{GUESTS, GUESTS6, NETWORKS, list, lists, policy, saved, script};

/// A text for iptables-restore without the rules as the policy gives them.
fn summary(text: &str) -> String {
    let lines = text.lines().filter(|line| !line.starts_with("-A "));
    lines.map(|line| format!("{line}\n")).collect()
}

fn rules(text: &str) -> BTreeSet<&str> {
    text.lines().filter(|line| line.contains("-A ")).collect()
}

#[test]
fn the_first_apply_is_what_render_prints() {
    for name in ["guests.toml", "networks.toml"] {
        let script = script(&policy(name), &[]);
        let nothing = Saved::default();
        let text = change(&nothing, &Wanted::script(&script, &nothing));
        let printed = script.to_string();
        assert_eq!(rules(&text), rules(&printed));
        let jumps = |text: &str| text.matches("\n-I ").count();
        assert_eq!(jumps(&text), jumps(&printed));
        // What guards comes before what lets in.
        let tables = text.lines().filter(|line| line.starts_with('*'));
        let tables: Vec<&str> = tables.collect();
        let expected: &[&str] = match name {
            "guests.toml" => &["*raw", "*mangle"],
            _ => &["*raw", "*mangle", "*filter"],
        };
        assert_eq!(tables, expected);
    }
}

#[test]
fn the_same_again_counts_on() {
    let running = saved(GUESTS);
    let kept = [list("toctoc4:vpn:_hand:7200s")];
    let script = script(&policy("guests.toml"), &kept);
    let text = change(&running, &Wanted::script(&script, &running));
    golden("iptables-again.txt", summary(&text));
    // The count of the rule that grants, whatever the others have counted.
    let forget = "[1:60] -A toctoc-opens-bob -j toctoc-forget";
    let text = recorded(GUESTS).replace(forget, &forget.replace("1:60", "7:420"));
    assert_ne!(text, recorded(GUESTS));
    let other = Saved::parse(&text).unwrap();
    let again = |running: &Saved| change(running, &Wanted::script(&script, running));
    assert_eq!(again(&other), again(&running));
    assert_eq!(change(&Saved::default(), &Wanted::default()), "");
}

#[test]
fn another_policy_replaces_what_was_there() {
    let running = saved(GUESTS);
    let wanted = Wanted::script(&script(&policy("networks.toml"), &[]), &running);
    golden("iptables-other.txt", summary(&change(&running, &wanted)));
    golden("iptables-remove.txt", change(&running, &Wanted::default()));
}

#[test]
fn going_back_brings_every_rule_and_count_back() {
    for file in [GUESTS, GUESTS6, NETWORKS] {
        let before = saved(file);
        let text = change(&Saved::default(), &Wanted::again(&before));
        for rule in recorded(file)
            .lines()
            .filter(|line| line.contains("-A toctoc"))
        {
            assert!(text.contains(rule), "{rule}");
        }
        let jumps: usize = before.tables.values().map(|table| table.jumps.len()).sum();
        assert_eq!(text.matches("\n-I ").count(), jumps, "{text}");
    }
}

/// On the way to another policy all progress is forgotten, and no grant is.
#[test]
fn steps_between_two_policies() {
    let running = saved(NETWORKS);
    let wanted = Wanted::script(&script(&policy("guests.toml"), &[]), &running);
    let nothing = Saved::default();
    let doors_alone = change(&nothing, &wanted.clone().without_progress());
    golden("iptables-without-progress.txt", doors_alone);
    let held = lists_of(&running);
    let policy = policy("guests.toml");
    let early = early(&policy, &Automaton::build(policy.sequences()), Family::V4);
    golden(
        "iptables-holding.txt",
        change(&nothing, &Wanted::default().holding(&held, &early)),
    );
    assert_eq!(change(&nothing, &Wanted::default().holding(&[], &[])), "");
    assert_eq!(
        let_go(),
        "*raw\n:toctoc-hold - [0:0]\n-X toctoc-hold\nCOMMIT\n"
    );
    // The filter table of the one, everything else of the other.
    let mixed = wanted.filter_only(Wanted::again(&running));
    assert_eq!(
        change(&nothing, &mixed),
        change(&nothing, &Wanted::again(&running))
    );
    let own = Wanted::script(
        &script(
            &super::super::read(&recorded("networks.toml"), Backend::Iptables),
            &[],
        ),
        &nothing,
    );
    let mixed = change(&nothing, &own.filter_only(Wanted::again(&saved(GUESTS))));
    let tables: Vec<&str> = mixed.lines().filter(|line| line.starts_with('*')).collect();
    assert_eq!(tables, ["*raw", "*mangle", "*filter"]);
    assert!(mixed.contains("--dports 80 "), "{mixed}");
    assert!(mixed.contains("toctoc-opens-bob"), "{mixed}");
}

/// A door that comes must be guarded before `[firewall]` lets its port in.
#[test]
fn a_new_door_is_let_in_last() {
    let text = recorded("networks.toml");
    let more = "[door.web]\nports = [8443]\n[door.ssh]\nports = [22]\n";
    let more = super::super::read(
        &text.replace("[door.ssh]\nports = [22]\n", more),
        Backend::Iptables,
    );
    let let_in = |running: &Saved| {
        let wanted = Wanted::script(&script(&more, &[]), running);
        let all = change(&Saved::default(), &wanted);
        let known = change(&Saved::default(), &wanted.with_known_doors(running));
        let gone: Vec<String> = rules(&all)
            .difference(&rules(&known))
            .map(|r| r.to_string())
            .collect();
        gone.join("\n")
    };
    let gone = let_in(&saved(NETWORKS));
    assert_eq!(gone.lines().count(), 1, "{gone}");
    assert!(
        gone.contains("--dports 8443 -m comment --comment door"),
        "{gone}"
    );
    // Where no [firewall] is yet, everything is let in anyway.
    assert_eq!(let_in(&saved(GUESTS)), "");
}

#[test]
fn a_list_by_hand_finds_its_place() {
    let mut text = String::new();
    for (running, new) in [
        (GUESTS, "toctoc4:ssh:_hand:60s"),
        (GUESTS, "toctoc4:vpn:_hand:60s"),
        (GUESTS, "toctoc4:vpn:_hand:9000s"),
        (NETWORKS, "toctoc4-p24:ssh:_hand:60s"),
        (NETWORKS, "toctoc4-p24:ssh:_hand:9000s"),
        (GUESTS, "toctoc4:vpn:_hand:7200s"),
        (GUESTS, "toctoc4:web:_hand:60s"),
    ] {
        let added = add_list(&saved(running), &list(new));
        let added = added.unwrap_or("nothing to add\n".to_string());
        let _ = writeln!(text, "## {new}\n{added}");
    }
    golden("iptables-add-list.txt", text);
}

/// The lists that the policy makes are those that its rules mention.
#[test]
fn own_lists_are_mentioned() {
    let mut own: BTreeSet<GrantList> = BTreeSet::new();
    own.extend(own_lists(&policy("guests.toml"), Family::V4));
    let mut mentioned = lists_of(&saved(GUESTS));
    mentioned.remove(&list("toctoc4:vpn:_hand:7200s"));
    assert_eq!(own, mentioned);
}

#[test]
fn tables_of_others_stay_out() {
    let text = "*nat\n:PREROUTING ACCEPT [0:0]\n:DOCKER - [0:0]\n\
                [1:2] -A PREROUTING -j DOCKER\n[0:0] -A DOCKER\nCOMMIT\n";
    assert_eq!(Saved::parse(text).unwrap(), Saved::default());
    let empty: BTreeMap<String, Vec<_>> = BTreeMap::new();
    let clock = Clock { ticks: 5, hz: 250 };
    let lists = Lists {
        entries: empty,
        clock,
    };
    assert!(lists.grants().is_empty());
}

/// Lists that the policy does not make: by hand, for networks of another length, of keys as they were.
#[test]
fn kept_lists_stand_where_they_belong() {
    let kept = [
        "toctoc4:ssh:_hand:60s",
        "toctoc4:ssh:yves:30s",
        "toctoc4:ssh:bob:30s:once",
        "toctoc4:vpn:_hand:7200s",
        "toctoc4-p24:ssh:_hand:90s",
        "toctoc4-p24:vpn:anna:90s:once",
    ];
    let script = script(&policy("guests.toml"), &kept.map(list));
    let mut text = String::new();
    for table in &script.tables {
        for (chain, rules) in table.chains() {
            for rule in rules
                .iter()
                .filter(|rule| kept.iter().any(|list| rule.contains(list)))
            {
                let _ = writeln!(text, "{} {chain} {rule}", table.name);
            }
        }
    }
    golden("iptables-kept.txt", text);
}

#[test]
fn ports_are_guarded_while_packets_come_to_their_door() {
    let guarded = |text: &str| {
        let saved = Saved::parse(text).unwrap();
        ["22", "51820/udp", "51820", "22/udp", "53/udp"]
            .map(|port| saved.guards(port.parse().unwrap()))
    };
    let text = recorded(GUESTS);
    assert_eq!(guarded(&text), [true, true, false, false, false]);
    let lines = text.lines().filter(|line| !line.contains("-A PREROUTING"));
    let unhooked: Vec<&str> = lines.collect();
    assert_eq!(guarded(&unhooked.join("\n")), [false; 5]);
}

#[test]
fn whoever_is_in_no_more_makes_room_first() {
    let lists = lists("guests.lists");
    let address = |text: &str| text.parse::<std::net::IpAddr>().unwrap();
    let guests = "toctoc4:_door-ssh";
    assert!(lists.has(guests, address("192.0.2.7")));
    assert!(!lists.has(guests, address("192.0.2.99")));
    assert!(!lists.has("toctoc4:_door-web", address("192.0.2.7")));
    let leaving = |list: &str, source: &str, size| {
        let source = address(source);
        let spared = Spared {
            network: source.into(),
            caller: None,
        };
        let list = GrantList::parse(list).unwrap();
        let leaving = lists.clone().make_room(&list, source, size, &spared);
        let off = leaving
            .off
            .iter()
            .map(|(list, source)| format!("{list} {source}"));
        (off.collect::<Vec<_>>(), leaving.ended.len())
    };
    let hand = "toctoc4:ssh:_hand:60s";
    assert_eq!(leaving(hand, "192.0.2.99", 3), (vec![], 0));
    // Somebody who is on the list needs no room.
    assert_eq!(leaving(hand, "192.0.2.7", 2), (vec![], 0));
    // The grant that ends first goes, from all lists.
    let both = [
        "toctoc4:_door-ssh 192.0.2.7",
        "toctoc4:ssh:yves:3600s 192.0.2.7",
    ];
    assert_eq!(
        leaving(hand, "192.0.2.99", 2),
        (both.map(String::from).to_vec(), 1)
    );
    let own = "toctoc4:ssh:yves:3600s";
    assert_eq!(leaving(own, "192.0.2.99", 1).1, 2);
    let ended = vec!["toctoc6:_door-ssh 2001:db8::78".to_string()];
    let hand = "toctoc6:ssh:_hand:60s";
    assert_eq!(leaving(hand, "2001:db8::9", 2), (ended, 0));
}

#[test]
fn lists_of_others_are_not_ours() {
    let ours = [
        "toctoc4:ssh",
        "toctoc6-p64:_midway",
        "toctoc4",
        "toctoc:x",
        "sshd:x",
    ]
    .map(toctoc::ruleset::iptables::names::is_our_list);
    assert_eq!(ours, [true, true, false, false, false]);
}
