//! Changes of others to our chains, and what is said of them.

use toctoc::ruleset::Family;
use toctoc::ruleset::iptables::{Saved, compare};

use super::super::{recorded, sentences};
use super::{GUESTS, saved, ssh};

/// A change of others to our chains (the lines with this text are replaced by these), whether the
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
        assert_eq!(actual.guards(ssh().into()), *guards, "{said:?}");
        let same = said.is_empty();
        assert_eq!(actual.same_rules(&expected), same, "{said:?}");
    }
    let gone = "ip6tables: our chains are missing and guard no door";
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
