//! What is the iptables backend's own: two families, lists of a fixed size, chains among those of
//! others.

use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;

use toctoc::client::Door;
use toctoc::lab::{CLIENT, STRANGER};

use crate::inject::SYN;
use crate::lifecycle::{ANNA, TWO};
use crate::world::{SEQUENCE, World, YVES, on};

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
        (
            &["nft", "add", "table", "inet", "toctoc"],
            "table inet toctoc guards too",
        ),
    ] {
        assert_eq!(world.status()["matches_policy"], true, "before {damage:?}");
        world.server(damage);
        let output = world.toctoc(&["status"]);
        let said = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(named), "{damage:?}: {said}");
        world.yes(&["apply"]);
        // A list that no rule mentions any more is gone, and the grants on it.
        let flushed = damage.last() == Some(&"-F");
        assert_eq!(
            said.contains("OPEN TO EVERYONE"),
            flushed
                || damage.contains(&"-F")
                || damage.ends_with(&["-D", "PREROUTING", "-j", "toctoc"]),
            "{damage:?}: {said}"
        );
        assert_eq!(
            world.holders("ssh").len(),
            usize::from(!flushed),
            "{damage:?}"
        );
        world.knock(CLIENT[0], &SEQUENCE);
    }
    std::fs::write(world.path(), TWO.replace("\"5m\"", "\"301s\"")).unwrap();
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

/// A list holds a hundred sources here and drops whoever was seen longest ago. Strangers who all knock
/// at the first port push one another out, and whoever is midway; who is in stays in.
fn full_lists_fail_closed_and_harm_no_grant() {
    let world = World::with(YVES);
    world.listen(22);
    assert_eq!(world.status()["max_sources"], 100);
    world.knock(CLIENT[0], &SEQUENCE);
    let flood = |port: u16| {
        world.inject(|injector| {
            for i in 0..300u32 {
                let source = Ipv4Addr::from(0x0a03_0000 + i);
                injector.tcp(source.into(), 7, port, SYN);
            }
        });
    };
    world.knock(STRANGER[0], &SEQUENCE[..4]);
    flood(SEQUENCE[0]);
    world.knock(STRANGER[0], &SEQUENCE[4..]);
    assert_eq!(world.connect(STRANGER[0], 22), Door::Silent);
    assert_eq!(world.connect(CLIENT[0], 22), Door::Open);
    assert!(world.status()["progress"].as_array().unwrap().len() <= 100);
    // The twin: strangers at other ports harm nobody, nor do those before a whole sequence.
    world.knock(STRANGER[0], &SEQUENCE[..4]);
    flood(7);
    world.knock(STRANGER[0], &SEQUENCE[4..]);
    assert_eq!(world.connect(STRANGER[0], 22), Door::Open);
}

/// Who floods the list of all who are midway, to be forgotten there, must not keep a place in a
/// sequence from which to guess on: a wrong knock still loses everything, or nothing counts.
fn a_flooded_list_does_not_spare_wrong_knocks() {
    let world = World::with(YVES);
    let flood = || {
        world.inject(|injector| {
            for i in 0..300u32 {
                let source = Ipv4Addr::from(0x0a03_0000 + i);
                injector.tcp(source.into(), 7, SEQUENCE[0], SYN);
            }
        });
    };
    world.knock(CLIENT[0], &SEQUENCE[..2]);
    flood();
    // Wrong guesses that nobody remembers, then the right one: it must not count.
    world.knock(CLIENT[0], &[919, 921, 920]);
    assert_eq!(
        world.status()["progress"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|p| p["source"] == CLIENT[0])
            .count(),
        0
    );
    world.knock(CLIENT[0], &SEQUENCE[3..]);
    assert!(world.nobody_is_in());
    // Back in the sequence by its first knock, one wrong guess ends it all.
    world.knock(CLIENT[0], &[443, 919, 920, 18357, 50]);
    assert!(world.nobody_is_in());
    world.knock(CLIENT[0], &SEQUENCE);
    assert_eq!(world.holders("ssh").len(), 1);
}

/// Guests of one door push out no guests of another, and `status` tells who is really in.
fn a_crowd_at_one_door_harms_no_guest_of_another() {
    let world = World::with(TWO.replace("\"ssh\", \"web\"", "\"web\"").as_str());
    world.listen(22);
    world.knock(CLIENT[0], &SEQUENCE);
    world.yes(&["open", "ssh", STRANGER[0], "--for", "1h"]);
    let crowd = |ports: &[u16]| {
        world.inject(|injector| {
            for i in 0..120u32 {
                let source = Ipv4Addr::from(0x0a05_0000 + i);
                for &port in ports {
                    injector.tcp(source.into(), 7, port, SYN);
                }
            }
        });
    };
    crowd(&ANNA);
    assert_eq!(world.holders("web").len(), 100);
    assert_eq!(world.holders("ssh").len(), 2);
    for guest in [CLIENT[0], STRANGER[0]] {
        assert_eq!(world.connect(guest, 22), Door::Open);
    }
    // A crowd at the same door does, and nobody is told otherwise.
    crowd(&SEQUENCE);
    assert_eq!(world.connect(STRANGER[0], 22), Door::Silent);
    assert_eq!(world.holders("ssh").len(), 100);
    assert!(
        world
            .holders("ssh")
            .iter()
            .all(|(source, _)| source.starts_with("10.5.0."))
    );
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
    assert_eq!(world.connect(STRANGER[0], 22), Door::Open);
    let said = String::from_utf8(world.toctoc(&["status"]).stdout).unwrap();
    assert!(
        said.contains("chain PREROUTING accepts before it jumps to us (-p tcp -j ACCEPT)"),
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

/// Neighbours in a network that was granted stay in when one of them knocks for himself alone.
fn an_opening_ends_no_wider_grant() {
    let world = World::with(&format!("{YVES}[grant]\nprefix4 = 24\n"));
    world.listen(22);
    world.knock(CLIENT[0], &SEQUENCE);
    world.apply(YVES);
    world.knock(CLIENT[0], &SEQUENCE);
    assert_eq!(world.connect(STRANGER[0], 22), Door::Open);
}

/// More grants than a list holds: the last ones hold.
fn a_hundred_guests_fit() {
    let world = World::with(YVES);
    world.inject(|injector| {
        for i in 0..120u32 {
            let source = Ipv4Addr::from(0x0a04_0000 + i);
            for port in SEQUENCE {
                injector.tcp(source.into(), 7, port, SYN);
            }
        }
    });
    let holders = world.holders("ssh");
    assert_eq!(holders.len(), 100);
    assert!(holders.iter().any(|(source, _)| source == "10.4.0.119"));
    assert_eq!(world.status()["keys"][0]["opened"], 120);
}

/// Lets so many in, from addresses of `10.4.0.0/24`.
fn crowd_in(world: &World, guests: u32) {
    for first in (0..guests).step_by(20) {
        world.inject(|injector| {
            for i in first..guests.min(first + 20) {
                let source = Ipv4Addr::from(0x0a04_0000 + i);
                for port in SEQUENCE {
                    injector.tcp(source.into(), 7, port, SYN);
                }
            }
        });
    }
}

/// The administrator lets nobody in for whom another guest would have to go, and is told so.
fn a_full_list_takes_nobody_by_hand() {
    let world = World::with(&format!("open_for = \"10m\"\n{YVES}"));
    world.listen(22);
    crowd_in(&world, 100);
    let before = world.holders("ssh");
    assert_eq!(before.len(), 100);
    let rules = world.all_rules();
    let output = world.toctoc(&["open", "ssh", CLIENT[0], "--for", "1h"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    for words in [
        "the list of the guests of `ssh` is full: it holds 100",
        "`toctoc close ssh SOURCE`",
        "the running firewall was not changed",
    ] {
        assert!(said.contains(words), "{said}");
    }
    assert_eq!(world.all_rules(), rules);
    assert_eq!(world.holders("ssh"), before);
    // Who is in already may stay longer, and the other family has its own list.
    world.yes(&["open", "ssh", "10.4.0.3", "--for", "1h"]);
    world.yes(&["open", "ssh", CLIENT[1], "--for", "1h"]);
    assert_eq!(world.holders("ssh").len(), 101);
    assert_eq!(world.yes(&["close", "ssh", "10.4.0.7"]), "ended 1 grant\n");
    world.yes(&["open", "ssh", CLIENT[0], "--for", "1h"]);
    assert_eq!(world.connect(CLIENT[0], 22), Door::Open);
    assert_eq!(world.holders("ssh").len(), 101);
}

/// A list keeps those whose grants have ended. They make room for one who is let in by hand, before
/// any who is in and came earlier.
fn who_is_in_no_more_makes_room() {
    let world = World::with(&format!("open_for = \"2s\"\n{YVES}"));
    world.listen(22);
    world.yes(&["open", "ssh", STRANGER[0], "--for", "1h"]);
    crowd_in(&world, 99);
    let list = "/proc/thread-self/net/xt_recent/toctoc4:_door-ssh";
    assert_eq!(world.server(&["cat", list]).lines().count(), 100);
    world.until("their grants have ended", || {
        world.holders("ssh").len() == 1
    });
    assert_eq!(world.server(&["cat", list]).lines().count(), 100);
    world.yes(&["open", "ssh", CLIENT[0], "--for", "1h"]);
    for guest in [STRANGER[0], CLIENT[0]] {
        assert_eq!(world.connect(guest, 22), Door::Open);
    }
}

/// A grant is for whom it was given: a wider prefix makes it no wider, a narrower one no narrower.
fn a_change_of_prefix_changes_no_live_grant() {
    let world = World::with(TWO);
    world.listen(22);
    world.knock(CLIENT[0], &SEQUENCE);
    let wide = format!("{TWO}[grant]\nprefix4 = 24\n");
    world.apply(&wide);
    assert_eq!(world.connect(CLIENT[0], 22), Door::Open);
    assert_eq!(world.connect(STRANGER[0], 22), Door::Silent);
    world.knock(STRANGER[0], &SEQUENCE);
    let holders: Vec<String> = world.holders("ssh").into_iter().map(|h| h.0).collect();
    assert_eq!(holders, ["192.0.2.0/24", CLIENT[0]]);
    world.apply(TWO);
    assert_eq!(world.holders("ssh").len(), 2);
    assert_eq!(world.status()["matches_policy"], true);
}

/// The time of a grant that is there stays when the policy gives another to new ones; and a new one
/// ends it, longer or shorter.
fn a_changed_time_is_for_new_grants() {
    let world = World::with(TWO);
    world.knock(CLIENT[0], &SEQUENCE);
    world.knock(STRANGER[0], &SEQUENCE);
    world.apply(&TWO.replace("5m", "30s"));
    let left = |who: &str| {
        let status = world.status();
        assert_eq!(status["matches_policy"], true);
        let grants = status["doors"][0]["grants"].as_array().unwrap().clone();
        let own: Vec<_> = grants
            .iter()
            .filter(|grant| grant["source"] == who)
            .collect();
        assert_eq!(own.len(), 1);
        own[0]["expires_in"].as_f64().unwrap()
    };
    assert!(left(CLIENT[0]) > 200.0);
    world.knock(CLIENT[0], &SEQUENCE);
    assert!(left(CLIENT[0]) <= 30.0);
    assert!(left(STRANGER[0]) > 200.0);
    assert_eq!(world.yes(&["close", STRANGER[0]]), "ended 1 grant\n");
}

fn a_hundred_keys_are_applied_and_work() {
    crate::lifecycle::many_keys_are_applied_and_work(100);
}

/// A first packet that used up its grant passes once; who listens answers it again by itself.
fn once_is_for_one_first_packet() {
    let world = World::with(&YVES.replace("50]", "50]\nonce = true"));
    crate::doors::count_syns_to(&world, 22);
    for client in CLIENT {
        let before = world.counted("seen");
        world.knock(client, &SEQUENCE);
        let client = client.parse().unwrap();
        world.inject(|injector| {
            for port in [5000, 5000, 5001] {
                injector.tcp(client, port, 22, SYN);
            }
        });
        assert_eq!(world.counted("seen") - before, 1);
    }
}

/// An ordinary user of the host does not see who knocks where; root does. Lists of others keep their
/// mode, also those that are called almost like ours.
fn ordinary_users_cannot_read_our_lists() {
    let world = World::bare();
    let others = ["theirs", "toctoc4", "toctocs:x"];
    for name in others {
        let port = "-A INPUT -p tcp --dport 5 -m recent --set --name";
        let words = port.split(' ').chain([name]);
        let words: Vec<&str> = std::iter::once("iptables").chain(words).collect();
        world.server(&words);
    }
    let lists = "/proc/thread-self/net/xt_recent";
    let read = |user: &str, list: &str| {
        let path = format!("{lists}/{list}");
        let user = [format!("--reuid={user}"), format!("--regid={user}")];
        let setpriv = [
            "setpriv",
            &user[0],
            &user[1],
            "--clear-groups",
            "cat",
            &path,
        ];
        on(&world.lab.server, &setpriv).succeeded()
    };
    let private = || {
        let names = world.server(&["ls", lists]);
        let ours = names.lines().filter(|name| !others.contains(name));
        let ours: Vec<&str> = ours.collect();
        assert!(ours.len() > 10, "{ours:?}");
        for list in &ours {
            assert!(!read("65534", list), "{list}");
            assert!(read("0", list), "{list}");
        }
        for list in others {
            assert!(read("65534", list), "{list}");
        }
        ours.len()
    };
    world.apply(TWO);
    let before = private();
    for client in CLIENT {
        world.knock(client, &SEQUENCE);
    }
    assert_eq!(world.holders("ssh").len(), 2);
    world.yes(&["open", "ssh", STRANGER[0], "--for", "77s"]);
    assert!(private() > before);
    world.apply(&TWO.replace("[443,", "[441, 442,"));
    assert!(private() > before);
    world.apply_with("nftables", TWO);
    world.apply_with("iptables", TWO);
    private();
    assert_eq!(world.holders("ssh").len(), 3);
}

on_each_iptables!(
    ordinary_users_cannot_read_our_lists,
    a_failure_in_the_second_family_rolls_the_first_back,
    a_killed_apply_leaves_each_family_old_or_new,
    status_names_what_is_gone_and_apply_heals_it,
    what_others_have_is_never_touched,
    full_lists_fail_closed_and_harm_no_grant,
    a_flooded_list_does_not_spare_wrong_knocks,
    a_crowd_at_one_door_harms_no_guest_of_another,
    a_rule_that_accepts_before_ours_is_named,
    odd_neighbours_do_no_harm,
    a_door_of_many_ports_is_applied,
    an_opening_ends_no_wider_grant,
    a_hundred_guests_fit,
    a_full_list_takes_nobody_by_hand,
    who_is_in_no_more_makes_room,
    a_change_of_prefix_changes_no_live_grant,
    a_changed_time_is_for_new_grants,
    a_hundred_keys_are_applied_and_work,
    once_is_for_one_first_packet,
);
