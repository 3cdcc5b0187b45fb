use super::*;
use crate::policy::Backend;
use crate::policy::{Host, read_for};

/// A policy that names interfaces, and `[firewall]` if `then` says so.
fn policy(names: &[&str], then: &str) -> Policy {
    let text = format!(
        "interfaces = {names:?}\n[door.ssh]\nports = [22]\n[key.k]\nopens = [\"ssh\"]\nsequence = [4431, 2387, 9920]\n{then}"
    );
    read_for("test", &text, &Host::default()).unwrap()
}

/// Interfaces, numbered from 1: "eth0 kind of master", up unless it begins with "-".
fn links(words: &[&str]) -> Links {
    let link = |(place, words): (usize, &&str)| {
        let mut words = words.trim_start_matches('-').split(' ');
        let name = words.next().unwrap_or_default().to_string();
        let kind = words.next().unwrap_or_default().to_string();
        Link {
            index: place as u32 + 1,
            is_loopback: name == "lo",
            is_up: true,
            master: words.next().map(|number| number.parse().unwrap()),
            alternative_names: Vec::new(),
            passes_through: None,
            name,
            kind,
        }
    };
    let mut found: Vec<Link> = words.iter().enumerate().map(link).collect();
    for (link, words) in found.iter_mut().zip(words) {
        link.is_up = !words.starts_with('-');
    }
    Links(found)
}

/// Rules of nftables tell the loopback interface by its kind, those of iptables by its name.
#[test]
fn what_is_called_lo_need_not_be_the_loopback_interface() {
    let text =
        "[door.ssh]\nports = [22]\n[key.k]\nopens = [\"ssh\"]\nsequence = [4431, 2387, 9920]\n";
    let mut policy = read_for("test", text, &Host::default()).unwrap();
    let mut renamed = links(&["loop0", "lo"]);
    renamed.0[0].is_loopback = true;
    renamed.0[1].is_loopback = false;
    for (backend, open) in [(Backend::Nftables, 0), (Backend::Iptables, 1)] {
        policy.backend = backend;
        let guard = judge(&policy, &renamed, &[]);
        assert_eq!((guard.open_on.len(), guard.gaps.len()), (open, open));
        assert_eq!(guard.notes.len(), open);
        assert_eq!(
            judge(&policy, &links(&["lo", "eth0"]), &[]),
            Guard::default()
        );
    }
    renamed.0[1].is_up = false;
    let guard = judge(&policy, &renamed, &[]);
    assert_eq!((guard.open_on.len(), guard.notes.len()), (0, 2));
}

fn judged(names: &[&str], words: &[&str]) -> Guard {
    judge(&policy(names, ""), &links(words), &[])
}

#[test]
fn an_interface_that_is_there_is_guarded_up_or_down() {
    for eth0 in ["eth0", "-eth0"] {
        let guard = judged(&["eth0"], &["lo", eth0, "docker0 bridge", "veth1 veth 3"]);
        assert_eq!(guard.on, Some(vec!["eth0".to_string()]));
        assert_eq!(guard.not_on, ["docker0"], "chosen, and no part of a bridge");
        assert!(guard.gaps.is_empty() && guard.open_on.is_empty() && guard.notes.is_empty());
    }
}

#[test]
fn where_none_is_there_strangers_enter_by_what_is_up() {
    let guard = judged(&["eth0", "eth1"], &["lo", "wan0", "-wan1"]);
    assert!(guard.is_open());
    assert_eq!(guard.open_on, ["wan0"]);
    assert_eq!(guard.missing, ["eth0", "eth1"]);
    assert!(!judged(&["eth0"], &["lo", "-wan0"]).is_open());
    let drops = policy(&["eth0"], "[firewall]\ndefault = \"drop\"\n");
    let guard = judge(&drops, &links(&["lo", "wan0"]), &[]);
    assert!(guard.gaps.is_empty(), "[firewall] drops what comes");
    assert!(
        guard.notes[0].contains("NOBODY gets to a door"),
        "{:?}",
        guard.notes
    );
}

#[test]
fn packets_of_a_part_arrive_at_the_whole() {
    for kind in ["bridge", "bond", "team", "vrf", "openvswitch"] {
        let whole = format!("all {kind}");
        let words = ["eth0", "eth1  2", &whole];
        let words = words.map(|w| if w == "eth1  2" { "eth1  3" } else { w });
        let guard = judged(&["eth0", "eth1"], &words);
        assert_eq!(guard.open_on, ["all"], "{kind}");
        assert_eq!(guard.gaps.len(), 1, "{kind}");
        let guard = judged(&["eth0", "eth1", "all"], &words);
        assert!(guard.gaps.is_empty() && guard.notes.is_empty(), "{kind}");
        let down = words.map(|w| {
            if w == whole {
                format!("-{w}")
            } else {
                w.to_string()
            }
        });
        let down: Vec<&str> = down.iter().map(String::as_str).collect();
        let guard = judged(&["eth0", "eth1"], &down);
        assert!(guard.gaps.is_empty() && guard.notes.len() == 1, "{kind}");
        assert!(judged(&["eth1"], &words).is_open(), "{kind}");
    }
    // Packets that come by a part of this arrive there all the same.
    assert!(
        judged(&["eth0"], &["eth0  2", "bat0 batadv"])
            .gaps
            .is_empty()
    );
}

#[test]
fn a_new_name_of_an_interface_that_was_guarded_is_told() {
    let seen = [NamedInterface {
        written: "eth1".to_string(),
        real: "eth1".to_string(),
        index: Some(2),
    }];
    let names = policy(&["eth0", "eth1"], "");
    let guard = judge(&names, &links(&["eth0", "lan1"]), &seen);
    assert_eq!(guard.open_on, ["lan1"]);
    assert!(guard.gaps[0].contains("eth1 is called lan1 now"));
    // It was not known before, or is named too.
    let guard = judge(&names, &links(&["eth0", "lan1"]), &[]);
    assert!(guard.gaps.is_empty() && guard.missing == ["eth1"]);
    let both = policy(&["eth0", "eth1", "lan1"], "");
    assert!(
        judge(&both, &links(&["eth0", "lan1"]), &seen)
            .gaps
            .is_empty()
    );
}

#[test]
fn another_name_of_an_interface_is_that_interface() {
    let mut there = links(&["lo", "eth0"]);
    there.0[1].alternative_names = vec![
        "enp2s0".to_string(),
        "an-altname-of-many-letters".to_string(),
    ];
    let named = policy(&["enp2s0", "eth0"], "");
    let guard = judge(&named, &there, &[]);
    assert_eq!(guard.on, Some(vec!["eth0".to_string()]));
    assert!(guard.gaps.is_empty() && guard.missing.is_empty());
    let resolved = there.resolve(&named, &[]);
    assert_eq!(
        resolved.interfaces,
        Interfaces::Only(vec!["eth0".to_string()])
    );
    let plain = policy(&["eth0", "ppp0"], "");
    assert_eq!(*there.resolve(&plain, &[]), plain);
}

#[test]
fn guarded_interfaces_are_told_in_one_form() {
    let names = |names: &[&str]| {
        names
            .iter()
            .map(|name| name.to_string())
            .collect::<Vec<_>>()
    };
    let words = |on: &[&str], not_on: &[&str]| guarded_on(&names(on), &names(not_on));
    assert_eq!(words(&[], &["docker0"]), None);
    assert_eq!(words(&["eth0"], &[]).unwrap(), "guarded on eth0 only");
    assert_eq!(
        words(&["eth0", "eth1"], &["docker0"]).unwrap(),
        "guarded on eth0, eth1 only, not on docker0"
    );
}
