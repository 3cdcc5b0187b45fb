//! The iptables backend's own side: two families, chains among those of others.

use std::os::unix::fs::PermissionsExt;

use toctoc::client::Door;
use toctoc::lab::{CLIENT, STRANGER};

use crate::lifecycle::{ANNA, TWO};
use crate::world::{SEQUENCE, World, YVES};

/// The IPv6 rules are refused after the IPv4 rules were loaded: these go back to what they were, with
/// everyone who is in.
fn a_failure_in_the_second_family_rolls_the_first_back() {
    let world = World::with(TWO);
    world.listen(22);
    world.knock(CLIENT[0], &SEQUENCE);
    world.knock(CLIENT[1], &ANNA);
    let before = world.all_rules();
    // The real program, but that it takes no text to load for good.
    let real = world.programs().join("ip6tables-restore");
    let aside = world.programs().join("aside");
    std::fs::create_dir(&aside).unwrap();
    std::fs::rename(&real, aside.join("ip6tables-restore")).unwrap();
    let script = format!(
        "#!/bin/sh\ncase \"$*\" in *--test*) exec {}/ip6tables-restore \"$@\";; esac\n\
         echo no room for IPv6 >&2\nexit 1\n",
        aside.display()
    );
    std::fs::write(&real, script).unwrap();
    std::fs::set_permissions(&real, PermissionsExt::from_mode(0o755)).unwrap();
    let without_yves = TWO.replace(
        "[key.yves]\nopens    = [\"ssh\"]\nsequence = [443, 2387, 920, 18357, 50]\n",
        "",
    );
    std::fs::write(world.path(), &without_yves).unwrap();
    let output = world.toctoc(&["apply"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("no room for IPv6"), "{said}");
    assert!(
        said.contains("the IPv4 rules, which had been loaded, were put back as they were"),
        "{said}"
    );
    assert!(
        said.contains("the running firewall was not changed"),
        "{said}"
    );
    assert_eq!(world.all_rules(), before);
    // Who came in with the key that would be gone is still in, and the door is shut to others.
    assert_eq!(world.connect(CLIENT[0], 22), Door::Open);
    assert_eq!(world.connect(CLIENT[1], 22), Door::Open);
    assert_eq!(world.connect(STRANGER[0], 22), Door::Silent);
    // The twin: with the real program it works.
    std::fs::rename(aside.join("ip6tables-restore"), &real).unwrap();
    world.apply(&without_yves);
    assert_eq!(world.connect(CLIENT[0], 22), Door::Silent);
    assert_eq!(world.connect(CLIENT[1], 22), Door::Open);
}

/// Killed between the families, an apply leaves each of them old or new, and no door open; the next
/// one makes it whole.
fn a_killed_apply_leaves_each_family_old_or_new() {
    let policies = [TWO.to_string(), TWO.replace("[443,", "[441, 442,")];
    let world = World::with(&policies[0]);
    world.listen(22);
    world.knock(CLIENT[0], &SEQUENCE);
    let mut killed = 0;
    for round in 0..30u64 {
        std::fs::write(world.path(), &policies[(round % 2) as usize]).unwrap();
        let apply = world.toctoc_command(&["apply"]);
        let mut apply = crate::world::start_command(&world.lab.server, apply);
        std::thread::sleep(std::time::Duration::from_millis(5 + round * 7));
        killed += u32::from(apply.0.try_wait().unwrap().is_none());
        drop(apply);
        for stranger in STRANGER {
            assert_eq!(world.connect(stranger, 22), Door::Silent, "round {round}");
        }
        assert_eq!(world.connect(CLIENT[0], 22), Door::Open, "round {round}");
    }
    assert!(killed > 0);
    world.apply(TWO);
    assert_eq!(world.status()["matches_policy"], true);
    assert_eq!(world.holders("ssh").len(), 1);
}

fn status_names_what_is_gone_and_apply_heals_it() {
    let world = World::with(TWO);
    world.listen(22);
    world.knock(CLIENT[0], &SEQUENCE);
    for (damage, named) in [
        (
            &["iptables", "-t", "raw", "-F", "toctoc-shut"][..],
            "iptables raw: chain toctoc-shut has been flushed",
        ),
        (
            &["ip6tables", "-t", "raw", "-F", "toctoc-shut"],
            "ip6tables raw: chain toctoc-shut has been flushed",
        ),
        (
            &["iptables", "-t", "raw", "-D", "toctoc-shut", "-j", "DROP"],
            "chain toctoc-shut lacks 1 of its 2 rules, from rule 2 on",
        ),
        (
            &[
                "iptables",
                "-t",
                "raw",
                "-I",
                "toctoc-door-ssh",
                "-j",
                "RETURN",
            ],
            "chain toctoc-door-ssh has a rule too many, rule 1",
        ),
        (
            &[
                "iptables",
                "-t",
                "raw",
                "-R",
                "toctoc-shut",
                "2",
                "-j",
                "ACCEPT",
            ],
            "chain toctoc-shut differs from rule 2 on",
        ),
        (
            &["iptables", "-t", "raw", "-D", "PREROUTING", "-j", "toctoc"],
            "chain PREROUTING does not jump to us",
        ),
        (
            &["iptables", "-t", "raw", "-A", "PREROUTING", "-j", "toctoc"],
            "chain PREROUTING jumps to us 2 times",
        ),
        (
            &["iptables", "-t", "raw", "-A", "OUTPUT", "-j", "toctoc-shut"],
            "chain OUTPUT has a rule of somebody that leads to us",
        ),
        (
            &["iptables", "-t", "raw", "-N", "toctoc-theirs"],
            "chain toctoc-theirs is not in the policy",
        ),
        (&["iptables", "-t", "raw", "-F"], "has been flushed"),
        (&["iptables", "-t", "mangle", "-F"], "has been flushed"),
        (
            &[
                "sh",
                "-c",
                "iptables -t raw -F; iptables -t mangle -F INPUT",
            ],
            "chain INPUT does not jump to us",
        ),
        (
            &["nft", "add", "table", "inet", "toctoc"],
            "table inet toctoc guards too",
        ),
    ] {
        assert_eq!(world.status()["matches_policy"], true, "before {damage:?}");
        world.server(damage);
        let output = world.toctoc(&["status", "--verbose"]);
        let said = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(named), "{damage:?}: {said}");
        // Doors are asked twice.
        let opens_all = damage[0] == "sh";
        assert_eq!(
            said.contains("OPEN TO EVERYONE"),
            opens_all,
            "{damage:?}: {said}"
        );
        assert_eq!(
            world.connect(STRANGER[0], 22) == Door::Open,
            opens_all,
            "{damage:?}"
        );
        world.yes(&["apply"]);
        assert_eq!(world.holders("ssh").len(), 1, "{damage:?}");
        world.knock(CLIENT[0], &SEQUENCE);
    }
    std::fs::write(world.path(), TWO.replace("\"5m\"", "\"301s\"")).unwrap();
    world.forget_what_was_applied();
    assert_eq!(world.status()["matches_policy"], false);
}

/// Rules, chains and lists of others stay as they are, their counters too; and ours comes first in
/// the chain it shares with them.
fn what_others_have_is_never_touched() {
    let world = World::bare();
    for words in [
        "iptables -t raw -N theirs",
        "iptables -t raw -A theirs -m recent --name KNOCKED22-1 --set -j RETURN",
        "iptables -t raw -A PREROUTING -p tcp --dport 8080 -j theirs",
        "iptables -A INPUT -p tcp --dport 99 -j DROP",
        "iptables -t raw -N toctocish",
        "iptables -P FORWARD DROP",
        "ip6tables -t mangle -A PREROUTING -p udp --dport 7 -j DROP",
        "ip6tables -A INPUT -s 2001:db8::/64 -m comment --comment toctoc-like -j ACCEPT",
    ] {
        world.server(&words.split(' ').collect::<Vec<_>>());
    }
    world.knock(STRANGER[0], &[8080, 99]);
    // Counters too, but those that go on counting meanwhile.
    let theirs = || {
        let all = ["iptables-save", "ip6tables-save"]
            .map(|save| world.server(&[save, "-c"]))
            .concat();
        let lines = all.lines().filter(|line| {
            let ours =
                line.contains("toctoc:") || line.contains(":toctoc ") || line.contains(":toctoc-");
            let chain = line.contains("-A toctoc ") || line.contains("-A toctoc-");
            let jump = line.ends_with("-j toctoc") || line.contains("-j toctoc-");
            let counts = line.starts_with(':') && line.contains('[') && !line.contains(" - [");
            let frame = line.starts_with('#') || line.starts_with('*') || *line == "COMMIT";
            !(ours || chain || jump || counts || frame)
        });
        let mut lines: Vec<String> = lines.map(str::to_string).collect();
        lines.sort();
        let list = world.server(&["cat", "/proc/thread-self/net/xt_recent/KNOCKED22-1"]);
        (lines, list)
    };
    let before = theirs();
    assert_eq!(before.0.len(), 7, "{before:#?}");
    assert!(before.1.contains(STRANGER[0]));
    world.apply(&format!("{YVES}[firewall]\nallow = [80]\n"));
    let saved = world.server(&["iptables-save", "-t", "raw"]);
    let jump = saved.find("-A PREROUTING -j toctoc\n").unwrap();
    assert!(
        jump < saved.find("-A PREROUTING -p tcp").unwrap(),
        "{saved}"
    );
    world.knock(CLIENT[0], &SEQUENCE);
    world.yes(&["open", "ssh", "192.0.2.99"]);
    world.yes(&["close"]);
    world.apply(TWO);
    assert_eq!(theirs(), before);
    world.yes(&["remove"]);
    assert_eq!(theirs(), before);
    assert!(world.server(&["iptables-save"]).contains(":FORWARD DROP"));
}

/// A rule of somebody that accepts before ours is named, and the next apply is first again; one that
/// drops harms nobody.
fn a_rule_that_accepts_before_ours_is_named() {
    let world = World::with(YVES);
    world.listen(22);
    let insert = |rule: &str| {
        let command = format!("iptables -t raw -I PREROUTING {rule}");
        world.server(&command.split(' ').collect::<Vec<_>>());
    };
    insert("-p udp --dport 9 -j DROP");
    assert_eq!(world.status()["matches_policy"], true);
    insert("-p tcp -j ACCEPT");
    assert_eq!(world.connect(STRANGER[0], 22), Door::Silent);
    world.server(&["iptables", "-t", "mangle", "-I", "INPUT", "-j", "ACCEPT"]);
    assert_eq!(world.connect(STRANGER[0], 22), Door::Open);
    let said = String::from_utf8(world.toctoc(&["status"]).stdout).unwrap();
    assert!(
        said.contains("chain PREROUTING accepts before it jumps to us (-p tcp -j ACCEPT)")
            && said.contains("chain INPUT accepts before it jumps to us (-j ACCEPT)")
            && said.contains("OPEN TO EVERYONE"),
        "{said}"
    );
    world.yes(&["apply"]);
    assert_eq!(world.connect(STRANGER[0], 22), Door::Silent);
    assert!(
        world
            .server(&["iptables-save"])
            .contains("-A PREROUTING -p tcp -j ACCEPT")
    );
}

/// Chains that are switched off, or that the kernel does not call, guard nothing: that is said. (Of iptables-nft alone.)
fn tables_that_are_switched_off_are_named() {
    let world = World::with(YVES);
    world.listen(22);
    let tables = world.server(&["nft", "list", "tables"]);
    if !tables.contains("table ip raw") {
        assert!(world.kind == crate::world::Kind::IptablesLegacy);
        return;
    }
    for table in ["raw", "mangle"] {
        world.server(&["nft", "add", "table", "ip", table, "{ flags dormant; }"]);
    }
    assert_eq!(world.connect(STRANGER[0], 22), Door::Open);
    for _ in 0..2 {
        let output = world.toctoc(&["status"]);
        let said = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("OPEN TO EVERYONE"), "{said}");
        assert!(said.contains("iptables raw: table is dormant"), "{said}");
    }
    let output = world.toctoc(&["apply"]);
    assert_eq!(output.status.code(), Some(1));
    world.server(&["nft", "delete", "table", "ip", "raw"]);
    world.server(&["nft", "delete", "table", "ip", "mangle"]);
    world.yes(&["apply"]);
    assert_eq!(world.connect(STRANGER[0], 22), Door::Silent);
}

/// Whatever somebody else has: chains that were emptied, lists named like ours, comments with line
/// breaks.
fn odd_neighbours_do_no_harm() {
    let world = World::with(&format!("{YVES}[firewall]\nallow = [80]\n"));
    for program in ["iptables", "ip6tables"] {
        world.server(&[program, "-t", "raw", "-F"]);
        world.server(&[program, "-t", "raw", "-X"]);
    }
    // What is left of us is still seen, and removed.
    assert!(world.yes(&["remove"]).contains("removed"));
    assert!(!world.server(&["iptables-save"]).contains("toctoc"));
    world.listen(81);
    assert_eq!(world.connect(CLIENT[0], 81), Door::Open);
    for name in [
        "toctoc4:ssh:yves:18446744073709551615s",
        "toctoc4:x",
        "toctoc6:a:b",
    ] {
        world.server(&[
            "iptables", "-A", "INPUT", "-p", "tcp", "--dport", "7", "-m", "recent", "--name", name,
            "--set",
        ]);
    }
    world.server(&[
        "iptables",
        "-A",
        "INPUT",
        "-m",
        "comment",
        "--comment",
        "a\n:toctoc-x - [0:0]",
        "-p",
        "tcp",
        "--dport",
        "9",
        "-j",
        "DROP",
    ]);
    world.knock(CLIENT[0], &[7]);
    world.apply(YVES);
    world.knock(CLIENT[0], &SEQUENCE);
    assert_eq!(
        world.holders("ssh"),
        [(CLIENT[0].into(), Some("yves".into()))]
    );
    world.apply_with("nftables", YVES);
    assert_eq!(world.yes(&["close"]), "ended 1 grant\n");
    world.yes(&["remove"]);
}

/// A door of a thousand ports has a long line of comment.
fn a_door_of_many_ports_is_applied() {
    let ports: Vec<String> = (20_000..21_200).map(|port| port.to_string()).collect();
    let world = World::with(&YVES.replace("[22]", &format!("[{}]", ports.join(", "))));
    world.listen(20_700);
    assert_eq!(world.connect(CLIENT[0], 20_700), Door::Silent);
    world.knock(CLIENT[0], &SEQUENCE);
    assert_eq!(world.connect(CLIENT[0], 20_700), Door::Open);
}

fn a_hundred_keys_are_applied_and_work() {
    crate::lifecycle::many_keys_are_applied_and_work(100);
}

on_each_iptables!(
    a_failure_in_the_second_family_rolls_the_first_back,
    a_killed_apply_leaves_each_family_old_or_new,
    status_names_what_is_gone_and_apply_heals_it,
    what_others_have_is_never_touched,
    a_rule_that_accepts_before_ours_is_named,
    odd_neighbours_do_no_harm,
    tables_that_are_switched_off_are_named,
    a_door_of_many_ports_is_applied,
    a_hundred_keys_are_applied_and_work,
);
