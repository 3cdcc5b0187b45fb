//! From one backend to the other: guests move along, strangers stay out, nothing stays behind.

use std::net::Ipv4Addr;
use std::process::Output;

use toctoc::client::Door;
use toctoc::lab::{CLIENT, STRANGER};

use crate::apply_under_stress::while_strangers_and_a_guest_come;
use crate::inject::SYN;
use crate::lifecycle::{ANNA, TWO};
use crate::world::{Kind, SEQUENCE, World, YVES, start_command};

/// A command about the policy, with no `--backend` but what is written here.
fn run(world: &World, arguments: &[&str]) -> Output {
    let mut command = world.command(env!("CARGO_BIN_EXE_toctoc"));
    command.args(arguments).arg(world.path());
    let output = world.lab.server.inside(|| command.output().unwrap());
    output.unwrap()
}

/// The output of `status`; the kernel holds what the policy says.
fn status(world: &World, arguments: &[&str]) -> serde_json::Value {
    let output = run(world, &[&["status", "--json"], arguments].concat());
    let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(status["matches_policy"], true, "{status:#}");
    status
}

/// Each door, source, key and time left, as `status` for a backend shows them.
fn grants(world: &World, backend: &str) -> Vec<(String, f64)> {
    let status = status(world, &["--backend", backend]);
    let mut grants = Vec::new();
    for door in status["doors"].as_array().unwrap() {
        for grant in door["grants"].as_array().unwrap() {
            let what = format!(
                "{} {} {} {}",
                door["name"], grant["source"], grant["key"], grant["once"]
            );
            grants.push((what, grant["expires_in"].as_f64().unwrap()));
        }
    }
    grants.sort_by(|a, b| a.0.cmp(&b.0));
    grants
}

fn guests_move_along_and_nothing_stays_behind() {
    let world = World::bare();
    for port in [22, 8443] {
        world.listen(port);
    }
    let policy =
        format!("{TWO}[key.bob]\nopens = [\"ssh\"]\nsequence = [11, 13, 7000]\nonce = true\n");
    world.apply_with("nftables", &policy);
    world.knock(CLIENT[0], &SEQUENCE);
    world.knock(CLIENT[1], &ANNA);
    world.knock("192.0.2.77", &[11, 13, 7000]);
    world.yes(&["open", "web", "192.0.2.200", "--for", "1h"]);
    let mut before = grants(&world, "nftables");
    assert_eq!(before.len(), 5);
    for (backend, other) in [
        ("iptables", "nftables"),
        ("nftables", "iptables"),
        ("iptables", "nftables"),
    ] {
        let said = world.apply_with(backend, &policy);
        assert!(said.contains("5 live grants kept, 0 ended"), "{said}");
        let after = grants(&world, backend);
        assert_eq!(after.len(), 5);
        for ((who, was), (same, is)) in before.iter().zip(&after) {
            assert_eq!(who, same);
            // nft tells whole seconds, iptables can only be given such.
            assert!(is <= was && is + 60.0 > *was, "{who}: {was} s, then {is} s");
        }
        before = after;
        let (listing, gone) = match other {
            "nftables" => (&["nft", "list", "tables"][..], "inet toctoc"),
            _ => (&["iptables-save"][..], "toctoc"),
        };
        assert!(!world.server(listing).contains(gone));
        assert_eq!(world.connect(CLIENT[0], 22), Door::Open);
        assert_eq!(world.connect(CLIENT[1], 8443), Door::Open);
        for stranger in STRANGER {
            assert_eq!(world.connect(stranger, 22), Door::Silent);
        }
    }
    let lists = world.server(&["ls", "/proc/thread-self/net/xt_recent"]);
    assert!(lists.contains("toctoc4:"));
    world.apply_with("nftables", &policy);
    let lists = world.server(&["ls", "/proc/thread-self/net/xt_recent"]);
    assert!(!lists.contains("toctoc"), "{lists}");
}

/// A long grant does not coarsen a short one.
fn a_short_grant_moves_beside_a_long_one() {
    let world = World::bare();
    world.listen(22);
    world.apply_with("nftables", YVES);
    world.knock(CLIENT[0], &SEQUENCE);
    world.yes(&["open", "ssh", STRANGER[0], "--for", "30d"]);
    let said = world.apply_with("iptables", YVES);
    assert!(said.contains("2 live grants kept, 0 ended"), "{said}");
    let left: Vec<f64> = grants(&world, "iptables")
        .into_iter()
        .map(|g| g.1)
        .collect();
    assert!(left[0] > 40.0 && left[0] <= 60.0, "{left:?}");
    assert!(left[1] > 2_591_900.0 && left[1] <= 2_592_000.0, "{left:?}");
    assert_eq!(world.connect(CLIENT[0], 22), Door::Open);
    assert_eq!(world.connect(CLIENT[1], 22), Door::Silent);
}

/// A list holds a hundred guests of a door. It is said how many found no room; those with the most time
/// left did.
fn more_guests_than_a_list_holds_are_counted() {
    let world = World::bare();
    world.listen(22);
    world.apply_with("nftables", &format!("open_for = \"10m\"\n{YVES}"));
    world.yes(&["open", "ssh", CLIENT[0], "--for", "1h"]);
    world.until("all are in", || {
        world.inject(|injector| {
            for i in 0..120u32 {
                let source = Ipv4Addr::from(0x0a04_0000 + i);
                for port in SEQUENCE {
                    injector.tcp(source.into(), 7, port, SYN);
                }
            }
        });
        grants(&world, "nftables").len() == 121
    });
    let output = run(&world, &["apply", "--backend", "iptables"]);
    assert_eq!(output.status.code(), Some(0));
    let [said, warned] = [output.stdout, output.stderr].map(|s| String::from_utf8(s).unwrap());
    assert!(said.contains("100 live grants kept, 0 ended"), "{said}");
    let full =
        "21 live grants could not be moved: a list of iptables was full (it holds 100 sources)";
    assert!(warned.contains(full), "{warned}");
    assert_eq!(grants(&world, "iptables").len(), 100);
    assert_eq!(world.connect(CLIENT[0], 22), Door::Open);
    // The twin: all of them find room.
    let output = run(&world, &["apply", "--backend", "nftables"]);
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
    let output = run(&world, &["apply", "--backend", "iptables"]);
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
    assert_eq!(grants(&world, "iptables").len(), 100);
}

/// Another program keeps the lock of iptables (only the legacy one has one): no grant moves with more
/// time than it has.
#[test]
fn a_slow_move_prolongs_no_grant() {
    crate::world::on_firewall(Kind::IptablesLegacy, slow_move);
}

fn slow_move() {
    let world = World::bare();
    world.apply_with("nftables", YVES);
    world.knock(CLIENT[0], &SEQUENCE);
    let lock = std::fs::File::create(world.lock()).unwrap();
    lock.lock().unwrap();
    let mut command = world.command(env!("CARGO_BIN_EXE_toctoc"));
    command
        .args(["apply", "--backend", "iptables"])
        .arg(world.path());
    let output = std::thread::scope(|scope| {
        let apply = scope.spawn(|| {
            world
                .lab
                .server
                .inside(|| command.output().unwrap())
                .unwrap()
        });
        std::thread::sleep(std::time::Duration::from_secs(3));
        drop(lock);
        apply.join().unwrap()
    });
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(
        said.contains("kept this firewall busy") && said.contains("was not changed"),
        "{said}"
    );
    assert_eq!(grants(&world, "nftables").len(), 1);
    assert!(!world.server(&["iptables-save"]).contains("toctoc"));
}

/// Key anna is gone in the policy that the other backend gets: what she opened does not move.
fn who_has_no_right_any_more_does_not_move_along() {
    let world = World::bare();
    world.listen(22);
    world.apply_with("nftables", TWO);
    world.knock(CLIENT[0], &SEQUENCE);
    world.knock(STRANGER[0], &ANNA);
    let without_anna = &TWO[..TWO.find("[key.anna]").unwrap()];
    let said = world.apply_with("iptables", without_anna);
    assert!(said.contains("1 live grant kept, 2 ended"), "{said}");
    assert_eq!(world.connect(CLIENT[0], 22), Door::Open);
    assert_eq!(world.connect(STRANGER[0], 22), Door::Silent);
    world.apply_with("iptables", TWO);
    world.knock(STRANGER[0], &ANNA);
    let said = world.apply_with("nftables", without_anna);
    assert!(said.contains("1 live grant kept, 2 ended"), "{said}");
    assert_eq!(world.connect(CLIENT[0], 22), Door::Open);
    assert_eq!(world.connect(STRANGER[0], 22), Door::Silent);
}

/// Under a constant stream of strangers' SYNs to the door not one gets through, and the guest's do.
fn no_stranger_gets_through_while_moving() {
    let world = World::bare();
    world.apply_with("nftables", YVES);
    world.yes(&["open", "ssh", CLIENT[0], "--for", "1h"]);
    while_strangers_and_a_guest_come(&world, || {
        for round in 0..12 {
            world.apply_with(["iptables", "nftables"][round % 2], YVES);
        }
    });
}

/// Killed at any point of a move, an apply leaves the door shut to strangers and open to the guest; the
/// next one finishes the move.
fn a_killed_move_leaves_the_door_shut() {
    let policy = format!("open_for = \"5m\"\n{YVES}");
    let world = World::bare();
    world.listen(22);
    world.apply_with("nftables", &policy);
    world.knock(CLIENT[0], &SEQUENCE);
    let mut killed = 0;
    for round in 0..12u64 {
        let backend = ["iptables", "nftables"][(round % 2) as usize];
        let mut command = world.command(env!("CARGO_BIN_EXE_toctoc"));
        command
            .args(["apply", "--backend", backend])
            .arg(world.path());
        let mut apply = start_command(&world.lab.server, command);
        std::thread::sleep(std::time::Duration::from_millis(30 + round * 30));
        killed += u32::from(apply.0.try_wait().unwrap().is_none());
        drop(apply);
        let right = || {
            assert_eq!(
                world.connect(STRANGER[0], 22),
                Door::Silent,
                "round {round}"
            );
            assert_eq!(world.connect(CLIENT[0], 22), Door::Open, "round {round}");
        };
        right();
        world.apply_with(backend, &policy);
        right();
        assert_eq!(grants(&world, backend).len(), 1, "round {round}");
    }
    assert!(killed > 0);
}

/// A policy that names no backend: `status` looks at the one that is running, and warns of none.
fn status_follows_the_running_backend() {
    let world = World::bare();
    for backend in ["iptables", "nftables"] {
        world.apply_with(backend, YVES);
        assert_eq!(status(&world, &[])["backend"], backend);
    }
}

/// A policy that names one backend while the other's rules guard: `status` does not say that the door
/// is open when it is shut, nor that one is guarded when it is open.
fn the_other_backend_guards_and_status_says_so() {
    let world = World::bare();
    for port in [22, 99] {
        world.listen(port);
    }
    let door = "[door.other]\nports = [99]\n";
    for (backend, other) in [("iptables", "nftables"), ("nftables", "iptables")] {
        world.apply_with(backend, YVES);
        std::fs::write(world.path(), format!("backend = \"{other}\"\n{YVES}{door}")).unwrap();
        world.forget_what_was_applied();
        let output = run(&world, &["status"]);
        assert_eq!(output.status.code(), Some(1));
        let said = String::from_utf8(output.stdout).unwrap();
        let state = |name: &str| {
            let mut lines = said
                .lines()
                .filter(|line| line.starts_with(&format!("  {name}")));
            lines.next().unwrap_or_else(|| panic!("{said}"))
        };
        let guarded = format!("guarded by {backend}, not as this policy says");
        assert!(state("ssh").ends_with(&guarded), "{said}");
        assert!(state("other").ends_with("OPEN TO EVERYONE"), "{said}");
        assert!(
            said.contains(&format!("`toctoc status --backend {backend}`")),
            "{said}"
        );
        assert!(!said.contains("no door is guarded"), "{said}");
        let json: serde_json::Value =
            serde_json::from_slice(&run(&world, &["status", "--json"]).stdout).unwrap();
        assert_eq!(
            (&json["applied"], &json["matches_policy"]),
            (&true.into(), &false.into())
        );
        let by = |door: usize| &json["doors"][door]["guarded_by"];
        assert_eq!((by(0), by(1)), (&backend.into(), &serde_json::Value::Null));
        // It is as it says.
        for stranger in STRANGER {
            assert_eq!(world.connect(stranger, 22), Door::Silent);
            assert_eq!(world.connect(stranger, 99), Door::Open);
        }
        // The twin: what is emptied guards nothing any more.
        let flushes = match backend {
            "nftables" => vec![
                "nft flush chain inet toctoc judge",
                "nft flush chain inet toctoc incoming",
            ],
            _ => vec![
                "iptables -t raw -F toctoc-ports",
                "ip6tables -t raw -F toctoc-ports",
                "iptables -t mangle -F toctoc-inner-tcp",
                "ip6tables -t mangle -F toctoc-inner-tcp",
            ],
        };
        for flush in flushes {
            world.server(&flush.split(' ').collect::<Vec<_>>());
        }
        assert_eq!(world.connect(STRANGER[0], 22), Door::Open);
        let said = String::from_utf8(run(&world, &["status"]).stdout).unwrap();
        assert!(!said.contains(&guarded), "{said}");
        assert!(said.contains("OPEN TO EVERYONE"), "{said}");
        world.yes(&["remove"]);
    }
}

/// An apply with the other backend says that the host moved, and no other one does.
fn a_move_is_told() {
    let world = World::bare();
    for (backend, told) in [
        ("nftables", None),
        ("iptables", Some("moved from nftables to iptables\n")),
        ("iptables", None),
        ("nftables", Some("moved from iptables to nftables\n")),
        ("nftables", None),
    ] {
        let said = world.apply_with(backend, YVES);
        match told {
            Some(told) => assert!(said.contains(told), "{said}"),
            None => assert!(!said.contains("moved"), "{said}"),
        }
    }
}

/// `remove` takes out whatever is there, of both backends, unless told which.
fn remove_takes_out_both() {
    let world = World::bare();
    world.apply_with("iptables", YVES);
    let saved = world.server(&["iptables-save"]);
    assert!(saved.contains("toctoc-door-ssh"));
    assert!(
        world
            .yes(&["remove", "--backend", "nftables"])
            .contains("nothing to remove")
    );
    assert!(world.server(&["iptables-save"]).contains("toctoc-door-ssh"));
    world.yes(&["remove"]);
    for program in ["iptables-save", "ip6tables-save"] {
        assert!(!world.server(&[program]).contains("toctoc"));
    }
    world.listen(22);
    assert_eq!(world.connect(CLIENT[0], 22), Door::Open);
}

/// The rules of the other `iptables` of the host guard too; it does not stay behind, and the lists are
/// the same.
fn the_other_iptables_is_cleared() {
    let world = World::bare();
    world.listen(22);
    world.apply_with("iptables", YVES);
    world.knock(CLIENT[0], &SEQUENCE);
    let (program, saves) = match world.kind {
        Kind::IptablesLegacy => ("/usr/sbin/xtables-nft-multi", "iptables-legacy-save"),
        _ => ("/usr/sbin/xtables-legacy-multi", "iptables-nft-save"),
    };
    for file in std::fs::read_dir(world.programs()).unwrap() {
        let link = file.unwrap().path();
        if link.ends_with("nft") {
            continue;
        }
        std::fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink(program, link).unwrap();
    }
    assert!(world.server(&[saves]).contains("toctoc-door-ssh"));
    world.apply_with("iptables", YVES);
    assert!(!world.server(&[saves]).contains("toctoc"));
    assert!(world.server(&["iptables-save"]).contains("toctoc-door-ssh"));
    assert_eq!(world.connect(CLIENT[0], 22), Door::Open);
    assert_eq!(world.connect(STRANGER[0], 22), Door::Silent);
}

on_each_iptables!(
    guests_move_along_and_nothing_stays_behind,
    a_short_grant_moves_beside_a_long_one,
    more_guests_than_a_list_holds_are_counted,
    who_has_no_right_any_more_does_not_move_along,
    no_stranger_gets_through_while_moving,
    a_killed_move_leaves_the_door_shut,
    status_follows_the_running_backend,
    the_other_backend_guards_and_status_says_so,
    a_move_is_told,
    remove_takes_out_both,
    the_other_iptables_is_cleared,
);
