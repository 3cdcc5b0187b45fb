//! `iptables-save -c`, `/proc/net/xt_recent` and `/proc/timer_list`, as several releases print them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use toctoc::automaton::Automaton;
use toctoc::policy::{Backend, Policy};
use toctoc::ruleset::Family;
use toctoc::ruleset::iptables::{
    Clock, GrantList, Lists, Room, Saved, Script, Wanted, add_list, change, compare, doors, early,
    has_door, let_go, lists_of, opened_count, own_lists, parse_list, prefix_of, render,
};

use super::{golden, name, reading, recorded, sentences};

const GUESTS: &str = "guests.iptables-1.8.9.save";
const GUESTS6: &str = "guests.ip6tables-1.8.9.save";
const NETWORKS: &str = "networks.iptables-1.8.7.save";

fn saved(name: &str) -> Saved {
    Saved::parse(&recorded(name)).unwrap()
}

fn policy(name: &str) -> Policy {
    super::read(&recorded(name), Backend::Iptables)
}

fn script(policy: &Policy, kept: &[GrantList]) -> Script {
    let automaton = Automaton::build(policy.sequences());
    render(policy, &automaton, Family::V4, kept)
}

fn list(name: &str) -> GrantList {
    GrantList::parse(name).unwrap()
}

fn lists(name: &str) -> Lists {
    let text = recorded(name);
    let (entries, clock) = text.split_once("== timer_list\n").unwrap();
    let entries = entries.split("== ").skip(1).map(|part| {
        let (name, lines) = part.split_once('\n').unwrap();
        (name.to_string(), parse_list(lines))
    });
    Lists {
        entries: entries.collect(),
        clock: Clock::parse(clock).unwrap(),
    }
}

#[test]
fn lists_say_who_is_in_and_who_is_midway() {
    for name in ["guests", "networks"] {
        let lists = lists(&format!("{name}.lists"));
        let policy = policy(&format!("{name}.toml"));
        let automaton = Automaton::build(policy.sequences());
        let mut text = reading(&lists.grants(), &lists.progress(&policy, &automaton));
        for held in lists.held() {
            let _ = writeln!(text, "{} {} {:.1?}", held.list, held.source, held.left);
        }
        golden(&format!("{name}.lists.txt"), text);
    }
}

/// A source stands somewhere only while all three of its lists say so, and passes only as a guest.
#[test]
fn a_list_alone_means_nothing() {
    let policy = policy("guests.toml");
    let automaton = Automaton::build(policy.sequences());
    let counts = |lists: &Lists| {
        let progress = lists.progress(&policy, &automaton);
        (lists.held().len(), lists.grants().len(), progress.len())
    };
    let whole = lists("guests.lists");
    assert_eq!(counts(&whole), (5, 5, 3));
    for (gone, left) in [
        ("toctoc4:_midway", (5, 5, 1)),
        ("toctoc4:yves", (5, 5, 1)),
        ("toctoc4:yves:2", (5, 5, 2)),
        ("toctoc4:_door-ssh", (3, 3, 3)),
        ("toctoc6:_door-vpn", (4, 4, 3)),
        ("toctoc4:ssh:yves:3600s", (4, 4, 3)),
    ] {
        let mut lists = whole.clone();
        lists.entries.insert(gone.to_string(), Vec::new());
        assert_eq!(counts(&lists), left, "{gone} empty");
        lists.entries.remove(gone);
        assert_eq!(counts(&lists), left, "{gone} missing");
    }
    // Another time: `within` is a minute, most grants last an hour, one two.
    for (later, left) in [
        (58, (5, 5, 2)),
        (61, (5, 5, 0)),
        (3_601, (1, 1, 0)),
        (7_300, (0, 0, 0)),
    ] {
        let mut lists = whole.clone();
        lists.clock.ticks += later * lists.clock.hz;
        assert_eq!(counts(&lists), left, "{later} s later");
    }
    // Seen anew in the one list and not in the others.
    let mut lists = whole.clone();
    lists.clock.ticks += 61 * lists.clock.hz;
    let now = lists.clock.ticks;
    for entry in lists.entries.get_mut("toctoc4:yves:2").unwrap() {
        entry.last_seen = now;
    }
    assert_eq!(counts(&lists).2, 0);
}

/// Two keys for one door: who opened last.
#[test]
fn a_guest_on_two_lists_has_one_grant() {
    let mut lists = lists("guests.lists");
    let mut entry = lists.entries["toctoc4:ssh:yves:3600s"][0];
    entry.last_seen += lists.clock.hz;
    for (other, by) in [
        ("toctoc4:ssh:anna:3600s", "anna"),
        ("toctoc4:ssh:anna:30s", "yves"),
    ] {
        let mut lists = lists.clone();
        lists.entries.insert(other.to_string(), vec![entry]);
        assert_eq!(lists.held().len(), 6);
        let grants = lists.grants();
        assert_eq!(grants.len(), 5);
        let mut own = grants.iter().filter(|g| g.source.addr() == entry.source);
        let opened = own.next().unwrap().opened_by.unwrap();
        assert_eq!(opened.key, name(by).id());
    }
    // Whoever may start one connection besides has two grants.
    lists
        .entries
        .insert("toctoc4:ssh:bob:60s:once".to_string(), vec![entry]);
    assert_eq!(lists.grants().len(), 6);
}

#[test]
fn rules_say_what_they_guard() {
    for (file, guarded, prefix, counts) in [
        (GUESTS, &["ssh", "vpn"][..], 32, [1, 0, 1]),
        (GUESTS6, &["ssh", "vpn"], 128, [0, 1, 1]),
        (NETWORKS, &["ssh"], 24, [1, 1, 0]),
    ] {
        let saved = saved(file);
        assert!(saved.guards() && !saved.is_empty());
        assert_eq!(doors(&saved), guarded);
        assert_eq!(prefix_of(&saved), Some(prefix));
        let counted = ["yves", "anna", "bob"].map(|key| opened_count(&saved, &name(key)));
        assert_eq!(counted, counts, "{file}");
        assert!(has_door(&saved, &name("ssh")) && !has_door(&saved, &name("web")));
    }
    let mentioned = |file| {
        lists_of(&saved(file))
            .iter()
            .map(|l| l.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        mentioned(GUESTS).join(" "),
        "toctoc4:ssh:anna:3600s toctoc4:ssh:bob:3600s:once toctoc4:ssh:yves:3600s \
         toctoc4:vpn:anna:3600s toctoc4:vpn:_hand:7200s"
    );
    assert_eq!(
        mentioned(NETWORKS).join(" "),
        "toctoc4-p24:ssh:anna:3600s toctoc4-p24:ssh:yves:3600s toctoc4-p24:ssh:_hand:7200s"
    );
    let nothing = Saved::default();
    assert!(nothing.is_empty() && !nothing.guards());
    assert_eq!((doors(&nothing).len(), prefix_of(&nothing)), (0, None));
}

/// What somebody did to our chains (the lines with this text are replaced by these), whether the
/// doors are guarded all the same, and what is said.
const DAMAGES: &[(&str, &str, &str, bool, &[&str])] = &[
    (
        "raw",
        "-A PREROUTING -j toctoc\n",
        "",
        false,
        &["iptables raw: chain PREROUTING does not jump to us (`-j toctoc`)"],
    ),
    (
        "raw",
        "-A PREROUTING -j toctoc\n",
        "-A PREROUTING -j toctoc\n[0:0] -A PREROUTING -j toctoc\n",
        true,
        &["iptables raw: chain PREROUTING jumps to us 2 times"],
    ),
    (
        "raw",
        "-A PREROUTING -j toctoc\n",
        "-A PREROUTING -s 192.0.2.66/32 -j ACCEPT\n[0:0] -A PREROUTING -j toctoc\n",
        false,
        &[
            "iptables raw: chain PREROUTING accepts before it jumps to us (-s 192.0.2.66/32 -j ACCEPT): \
         what it accepts we do not see",
        ],
    ),
    (
        "raw",
        "-A PREROUTING -j toctoc\n",
        "-A PREROUTING -i eth7 -j RETURN\n[0:0] -A PREROUTING -i eth8 -j ACCEPT\n[0:0] -A PREROUTING -j toctoc\n",
        false,
        &[
            "iptables raw: chain PREROUTING accepts before it jumps to us (-i eth7 -j RETURN): \
         what it accepts we do not see",
        ],
    ),
    // Behind us, or without a verdict, a rule of others does nothing to us.
    (
        "raw",
        "-A PREROUTING -j toctoc\n",
        "-A PREROUTING -p tcp\n[0:0] -A PREROUTING -j toctoc\n[0:0] -A PREROUTING -j ACCEPT\n",
        true,
        &[],
    ),
    (
        "raw",
        "-A PREROUTING -j toctoc\n",
        "-A PREROUTING -j toctoc\n[0:0] -A OUTPUT -g toctoc-shut\n",
        true,
        &["iptables raw: chain OUTPUT has a rule of somebody that leads to us: -g toctoc-shut"],
    ),
    (
        "raw",
        "-A PREROUTING -j toctoc\n",
        "-A PREROUTING -j toctoc\n[0:0] -A PREROUTING -j toctocs\n",
        true,
        &[],
    ),
    (
        "raw",
        "-A toctoc-shut -j DROP\n",
        "",
        true,
        &["iptables raw: chain toctoc-shut lacks 1 of its 2 rules, from rule 2 on"],
    ),
    (
        "raw",
        "-A toctoc-shut -j DROP\n",
        "-A toctoc-shut -j ACCEPT\n",
        true,
        &["iptables raw: chain toctoc-shut differs from rule 2 on"],
    ),
    (
        "raw",
        "-A toctoc-shut -j DROP\n",
        "-A toctoc-shut -p udp -j RETURN\n[0:0] -A toctoc-shut -j DROP\n",
        true,
        &["iptables raw: chain toctoc-shut has a rule too many, rule 2"],
    ),
    (
        "raw",
        "-A toctoc-shut -j DROP\n",
        "-A toctoc-shut -j DROP\n[0:0] -A toctoc-shut -j DROP\n[0:0] -A toctoc-shut -j DROP\n",
        true,
        &["iptables raw: chain toctoc-shut has 2 rules too many, from rule 3 on"],
    ),
    (
        "raw",
        "-A toctoc-opens-yves ",
        "",
        true,
        &["iptables raw: chain toctoc-opens-yves has been flushed"],
    ),
    (
        "raw",
        "-A toctoc-ports ",
        "",
        false,
        &["iptables raw: chain toctoc-ports has been flushed"],
    ),
    (
        "raw",
        "-A toctoc-shut ",
        "",
        false,
        &["iptables raw: chain toctoc-shut has been flushed"],
    ),
    (
        "raw",
        "-A toctoc-door-ssh ",
        "",
        false,
        &["iptables raw: chain toctoc-door-ssh has been flushed"],
    ),
    (
        "raw",
        "-A toctoc ",
        "",
        false,
        &["iptables raw: chain toctoc has been flushed"],
    ),
    (
        "raw",
        ":toctoc-wrong ",
        ":toctoc-mine - [0:0]\n:toctoc-wrong - [0:0]\n",
        true,
        &["iptables raw: chain toctoc-mine is not in the policy's ruleset"],
    ),
    (
        "mangle",
        "toctoc-wide",
        "",
        true,
        &[
            "iptables mangle: chain toctoc lacks 3 of its 4 rules, from rule 2 on",
            "iptables mangle: chain toctoc-wide is missing",
        ],
    ),
];

/// The table's lines that contain a text, replaced. A counter stays before the first.
fn damaged(text: &str, table: &str, old: &str, new: &str) -> String {
    let mut own = false;
    let mut result = String::new();
    let mut found = false;
    for line in text.lines().map(|line| format!("{line}\n")) {
        if let Some(name) = line.strip_prefix('*') {
            own = name.trim() == table;
        }
        if own && line.contains(old) {
            found = true;
            match (new.is_empty(), line.split_once("-A ")) {
                (true, _) => {}
                (false, Some((counters, _))) => result += &format!("{counters}{new}"),
                (false, None) => result += new,
            }
        } else {
            result += &line;
        }
    }
    assert!(found, "{table} {old}");
    result
}

#[test]
fn damages_are_named() {
    let text = recorded(GUESTS);
    let expected = saved(GUESTS);
    assert_eq!(compare(Family::V4, &expected, &expected), []);
    for (table, old, new, guards, said) in DAMAGES {
        let actual = Saved::parse(&damaged(&text, table, old, new)).unwrap();
        assert_eq!(sentences(&compare(Family::V4, &expected, &actual)), *said);
        assert_eq!(actual.guards(), *guards, "{said:?}");
        let same = said.is_empty();
        assert_eq!(actual.same_rules(&expected), same, "{said:?}");
    }
    let gone =
        "ip6tables: our chains are missing and guard no door (`toctoc apply` brings them back)";
    let nothing = Saved::default();
    assert_eq!(sentences(&compare(Family::V6, &expected, &nothing)), [gone]);
    assert_eq!(compare(Family::V6, &nothing, &nothing), []);
}

/// Releases differ in blanks and in the order of words, within one listing they do not. What is
/// counted, and what others do, is no difference.
#[test]
fn counts_are_no_difference() {
    let text = recorded(GUESTS);
    let busy = Saved::parse(&text.replace("[0:0] -A", "[7:420] -A")).unwrap();
    assert_ne!(busy, saved(GUESTS));
    assert!(busy.same_rules(&saved(GUESTS)));
    assert_eq!(compare(Family::V4, &saved(GUESTS), &busy), []);
}

#[test]
fn a_broken_line_is_shown() {
    let text = recorded(GUESTS) + &"x".repeat(100);
    let error = Saved::parse(&text).unwrap_err().to_string();
    let shown = format!(
        "iptables-save printed a line that is no rule: {}",
        "x".repeat(80)
    );
    assert_eq!(error, shown);
}

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
            _ => &["*raw", "*filter"],
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
            &super::read(&recorded("networks.toml"), Backend::Iptables),
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
    let more = super::read(
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
            .map(|port| saved.guards_port(port.parse().unwrap()))
    };
    let text = recorded(GUESTS);
    assert_eq!(guarded(&text), [true, true, false, false, false]);
    let lines = text.lines().filter(|line| !line.contains("-A PREROUTING"));
    let unhooked: Vec<&str> = lines.collect();
    assert_eq!(guarded(&unhooked.join("\n")), [false; 5]);
}

#[test]
fn nobody_who_is_in_is_pushed_out() {
    let lists = lists("guests.lists");
    let room = |list, source: &str, size| lists.room(list, source.parse().unwrap(), size);
    let guests = "toctoc4:_door-ssh";
    assert!(lists.has(guests, "192.0.2.7".parse().unwrap()));
    assert!(!lists.has(guests, "192.0.2.99".parse().unwrap()));
    assert!(!lists.has("toctoc4:_door-web", "192.0.2.7".parse().unwrap()));
    assert_eq!(room(guests, "192.0.2.99", 3), Room::Free);
    assert_eq!(room(guests, "192.0.2.99", 2), Room::Full);
    assert_eq!(room(guests, "192.0.2.7", 2), Room::Free);
    assert_eq!(room("toctoc4:ssh:yves:3600s", "192.0.2.99", 1), Room::Full);
    let ended = Room::InsteadOf("2001:db8::78".parse().unwrap());
    assert_eq!(room("toctoc6:_door-ssh", "2001:db8::9", 2), ended);
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
