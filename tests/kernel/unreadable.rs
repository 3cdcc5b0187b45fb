//! Something that cannot be read is not absent: no command says "open", "removed" or "went back" of what it has not seen.

use std::process::Output;
use std::thread;
use std::time::{Duration, Instant};

use toctoc::client::Door;
use toctoc::lab::{CLIENT, STRANGER};

use crate::person::said;
use crate::stand_in::StandIn;
use crate::world::{Kind, SEQUENCE, World, YVES};

const ZOE: &str =
    "[door.ssh]\nports = [22]\n[key.zoe]\nopens = [\"ssh\"]\nsequence = [7001, 9002, 7003, 8]\n";

const UNCHANGED: &str = "the running firewall was not changed";

fn could_not(world: &World, arguments: &[&str], words: &[&str]) -> String {
    let output = world.toctoc(arguments);
    let text = said(&output);
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {text}");
    for words in words {
        assert!(text.contains(words), "{arguments:?}: `{words}` in: {text}");
    }
    for claim in [
        "OPEN TO EVERYONE",
        "removed:",
        "went back to",
        "apply again",
    ] {
        assert!(!text.contains(claim), "{arguments:?}: {text}");
    }
    text
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// Somebody has put a rule of nft into iptables' own table: iptables-save says that it is incompatible, and shows
/// nothing of it.
fn not_shown_is_not_empty() {
    for family in ["ip", "ip6"] {
        let world = World::with(YVES);
        world.listen(22);
        world.knock(CLIENT[0], &SEQUENCE);
        world.nft(&format!(
            "insert rule {family} raw PREROUTING fib daddr type local counter"
        ));
        let before = world.all_rules();
        let names = [
            "the table raw",
            "cannot be read",
            "incompatible",
            "list table",
        ];
        could_not(&world, &["status"], &names);
        let unchanged = [&names[..], &[UNCHANGED]].concat();
        for command in [
            &["apply"][..],
            &["apply", "--confirm", "1h"],
            &["remove"],
            &["remove", "--backend", "iptables"],
            &["open", "ssh", "192.0.2.8"],
        ] {
            could_not(&world, command, &unchanged);
        }
        assert_eq!(world.all_rules(), before);
        assert_eq!(world.connect(CLIENT[0], 22), Door::Open);
        assert_eq!(world.connect(STRANGER[0], 22), Door::Silent);
        // It goes, and all is as it was.
        let listed = world.server(&["nft", "-a", "list", "chain", family, "raw", "PREROUTING"]);
        let line = listed
            .lines()
            .find(|line| line.contains("fib daddr"))
            .unwrap();
        let handle = line.rsplit(' ').next().unwrap();
        world.nft(&format!(
            "delete rule {family} raw PREROUTING handle {handle}"
        ));
        world.yes(&["status"]);
        world.yes(&["apply"]);
        world.yes(&["remove"]);
        assert_eq!(world.connect(STRANGER[0], 22), Door::Open);
    }
}

/// A table that iptables does not show and in which nothing is ours is no obstacle, unless rules go into it.
fn a_hidden_table_of_others_is_left_alone() {
    let world = World::bare();
    std::fs::write(world.path(), YVES).unwrap();
    world.nft("add table ip filter");
    world.nft("add chain ip filter INPUT { type filter hook input priority 0; }");
    world.nft("add rule ip filter INPUT fib daddr type local counter");
    world.yes(&["apply"]);
    world.yes(&["status"]);
    let with = format!("{YVES}[firewall]\ndefault = \"drop\"\n");
    std::fs::write(world.path(), with).unwrap();
    could_not(&world, &["apply"], &["the table filter", UNCHANGED]);
    std::fs::write(world.path(), YVES).unwrap();
    world.yes(&["status"]);
    world.yes(&["remove"]);
}

/// A trial whose end is in the way of that says so, and goes back as soon as it can.
fn a_trial_that_cannot_go_back_says_so_and_tries_again() {
    let world = World::with(YVES);
    world.listen(22);
    std::fs::write(world.path(), ZOE).unwrap();
    world.yes(&["apply", "--confirm", "3s"]);
    let obstacle = StandIn::new(
        &world,
        match world.is_nftables() {
            true => "nft",
            false => "iptables-restore",
        },
        "case \"$*\" in *-f*|*--noflush*) grep -q eth0 /proc/self/net/dev && { echo odd >&2; exit 1; };; esac\n\
         exec $real \"$@\"",
    );
    let stuck = || -> Option<Output> {
        let output = world.toctoc(&["status"]);
        said(&output)
            .contains("IT COULD NOT GO BACK")
            .then_some(output)
    };
    until("it says that it could not", || stuck().is_some());
    let output = stuck().unwrap();
    let text = said(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(
        text.contains("odd") && text.contains("tried again"),
        "{text}"
    );
    assert!(!text.contains("nothing is left that"), "{text}");
    let noted = world.status()["noted"].clone();
    assert_eq!(noted["trial_ends_in"], 0.0);
    drop(obstacle);
    until("it goes back", || {
        world.knock(CLIENT[0], &SEQUENCE);
        world.connect(CLIENT[0], 22) == Door::Open
    });
    until("it is noted", || {
        world.status()["noted"]["trial_ends_in"].is_null()
    });
    assert!(!said(&world.toctoc(&["status"])).contains("COULD NOT"));
}

/// The record of a trial cannot be read when it ends, then can: nobody says that it went back.
fn what_a_program_prints_and_nobody_understands_is_no_empty_list() {
    for script in [
        // No listing at all, half of one, and a table that it will not show.
        "echo 'these are not the rules you are looking for'",
        "$real \"$@\" | sed '/^COMMIT/d'",
        "echo \"# Table \\`raw' is beyond me.\"",
        "exit 0",
    ] {
        let world = World::with(YVES);
        world.listen(22);
        let mut all = Vec::new();
        for program in ["iptables-save", "iptables-nft-save", "iptables-legacy-save"] {
            // In a namespace of its own nothing is tampered with.
            let script = format!("grep -q eth0 /proc/self/net/dev || exec $real \"$@\"\n{script}");
            let real = match (program, world.kind) {
                ("iptables-save", _) => true,
                ("iptables-nft-save", kind) => kind == Kind::IptablesNft,
                (_, kind) => kind == Kind::IptablesLegacy,
            };
            let script = if real {
                script
            } else {
                "exec $real \"$@\"".to_string()
            };
            all.push(StandIn::new(&world, program, &script));
        }
        could_not(&world, &["remove"], &[UNCHANGED]);
        could_not(&world, &["status"], &[]);
        if script != "exit 0" {
            could_not(&world, &["apply"], &[UNCHANGED]);
        }
        assert_eq!(world.connect(STRANGER[0], 22), Door::Silent);
        drop(all);
        world.yes(&["status"]);
    }
}

/// Root of an unprivileged container may not read which tables iptables-legacy has: as where none has any.
fn names_that_may_not_be_read_hide_nothing() {
    let world = World::with(YVES);
    world.listen(22);
    let refuses = |family: &str| {
        format!(
            "case \"$*\" in *-t*) exec $real \"$@\";; esac\n\
             echo 'Failed to list table names in /proc/net/{family}_tables_names: Permission denied' >&2; exit 1"
        )
    };
    let mut all = Vec::new();
    for (family, stem) in [("ip", "iptables"), ("ip6", "ip6tables")] {
        let mut programs = vec![format!("{stem}-legacy-save")];
        if world.kind == Kind::IptablesLegacy {
            programs.push(format!("{stem}-save"));
        }
        for program in programs {
            all.push(StandIn::new(&world, &program, &refuses(family)));
        }
    }
    world.yes(&["status"]);
    world.knock(CLIENT[0], &SEQUENCE);
    assert!(world.yes(&["apply"]).contains("1 live grant kept"));
    std::fs::write(world.path(), ZOE).unwrap();
    world.yes(&["apply", "--confirm", "1h"]);
    assert!(world.yes(&["rollback"]).contains("went back"));
    world.yes(&["remove"]);
    assert_eq!(world.connect(STRANGER[0], 22), Door::Open);
    world.yes(&["apply", "--confirm", "1h"]);
    assert!(world.yes(&["rollback"]).contains("no door is guarded"));
    assert_eq!(world.connect(STRANGER[0], 22), Door::Open);
}

on_every_firewall!(
    names_that_may_not_be_read_hide_nothing,
    a_trial_that_cannot_go_back_says_so_and_tries_again,
);

mod iptables_does_not_show {
    use super::what_a_program_prints_and_nobody_understands_is_no_empty_list;

    on_each_iptables!(what_a_program_prints_and_nobody_understands_is_no_empty_list);
}

/// Only iptables-nft shares its tables with nft.
#[test]
fn a_table_that_iptables_does_not_show_is_not_empty() {
    crate::world::on_firewall(Kind::IptablesNft, not_shown_is_not_empty);
}

#[test]
fn a_hidden_table_of_others_is_left_alone_by_iptables_nft() {
    crate::world::on_firewall(Kind::IptablesNft, a_hidden_table_of_others_is_left_alone);
}

/// Network namespaces come and go. What was kept for them goes too, and nothing that is still needed.
#[test]
fn locks_and_records_of_vanished_namespaces_go() {
    let world = World::with(YVES);
    let own = world.record();
    let state = world.state_directory();
    let text = std::fs::read_to_string(&own).unwrap();
    let init = std::fs::read_link("/proc/self/ns/net").unwrap();
    let living = init
        .to_str()
        .unwrap()
        .trim_matches(|c: char| !c.is_ascii_digit());
    let at = |number: &str| state.join(format!("applied-{number}.json"));
    let mut old: serde_json::Value = serde_json::from_str(&text).unwrap();
    old["boot"] = "another start".into();
    std::fs::write(at(living), &text).unwrap();
    std::fs::write(at("4026532999999"), &text).unwrap();
    std::fs::write(at("4026532999998"), old.to_string()).unwrap();
    let verified = state.join("verified-4026532999999.json");
    std::fs::write(&verified, "{}").unwrap();
    std::fs::write(state.join("applied.json"), &text).unwrap();
    let locks = std::path::Path::new("/run/toctoc");
    let stale = locks.join("4026532999999.lock");
    // An ordinary user has no locks there.
    let is_root = std::fs::write(&stale, "").is_ok();
    let seen = stale.with_extension("seen");
    let _ = std::fs::write(&seen, "");
    world.yes(&["apply"]);
    assert!(own.exists() && at(living).exists() && state.join("applied.json").exists());
    assert!(!at("4026532999998").exists());
    let sees_all = std::fs::read_link("/proc/self/ns/pid").unwrap();
    if sees_all.to_str() == Some("pid:[4026531836]") {
        assert!(!at("4026532999999").exists() && !seen.exists() && !verified.exists());
    }
    if is_root {
        assert!(!stale.exists());
    }
    world.yes(&["status"]);
}
