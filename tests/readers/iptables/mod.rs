//! `iptables-save -c`, `/proc/net/xt_recent` and `/proc/timer_list`, as several releases print them.

mod changes;
mod drift;

use std::fmt::Write as _;

use toctoc::automaton::Automaton;
use toctoc::knock::{Knock, Protocol};
use toctoc::policy::{Backend, Policy};
use toctoc::ruleset::Family;
use toctoc::ruleset::iptables::{
    Clock, GrantList, Lists, Saved, Script, doors, has_door, lists_of, opened_count, parse_list,
    prefix_of, render,
};

use super::{golden, name, reading, recorded};

const GUESTS: &str = "guests.iptables-1.8.9.save";
const GUESTS6: &str = "guests.ip6tables-1.8.9.save";
const NETWORKS: &str = "networks.iptables-1.8.7.save";

fn ssh() -> Knock {
    Knock::new(Protocol::Tcp, 22).unwrap()
}

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
        for held in lists.memberships() {
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
        (
            lists.memberships().len(),
            lists.grants().len(),
            progress.len(),
        )
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
        assert_eq!(lists.memberships().len(), 6);
        let grants = lists.grants();
        assert_eq!(grants.len(), 5);
        let mut own = grants.iter().filter(|g| g.source.addr() == entry.source);
        let opened = own.next().unwrap().opened_by.unwrap();
        assert_eq!(opened.key, name(by).key_id());
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
        assert!(saved.guards(ssh().into()) && !saved.is_empty());
        assert_eq!(
            doors(&saved),
            guarded.iter().map(|door| name(door)).collect()
        );
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
    assert!(nothing.is_empty() && !nothing.guards(ssh().into()));
    assert_eq!((doors(&nothing).len(), prefix_of(&nothing)), (0, None));
}
