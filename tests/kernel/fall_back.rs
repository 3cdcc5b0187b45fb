//! The policy file cannot be used at a start of the machine: the policy that worked last guards, and that is
//! no success. And which policy runs, and which one the next boot applies.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Output;

use toctoc::client::Door;
use toctoc::lab::{CLIENT, STRANGER};

use crate::token_world::{ALICE, SECRET, good};
use crate::world::{Kind, SEQUENCE, World, YVES};

const ZOE: &str =
    "[door.ssh]\nports = [22]\n[key.zoe]\nopens = [\"ssh\"]\nsequence = [7002, 5003, 7001]\n";

fn said(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// The machine starts: the kernel holds nothing.
fn start(world: &World) -> Output {
    let flush = match world.kind {
        Kind::Nftables => "nft flush ruleset",
        _ => {
            "for v in '' 6; do for t in raw mangle filter; do \
             ip${v}tables -t $t -F; ip${v}tables -t $t -X; done; done"
        }
    };
    world.server(&["sh", "-ec", flush]);
    world.toctoc(&["apply", "--boot"])
}

/// Faults that the file of a policy can have.
fn spoil(path: &Path, how: &str) {
    match how {
        "errors" => fs::write(path, "[door.ssh]\nports = [0]\n").unwrap(),
        "no text" => fs::write(path, b"\xff\xfe").unwrap(),
        "empty" => fs::write(path, "").unwrap(),
        "gone" => fs::remove_file(path).unwrap(),
        "everybody's" => {
            fs::set_permissions(path, fs::Permissions::from_mode(0o666)).unwrap();
        }
        "a directory" => {
            fs::remove_file(path).unwrap();
            fs::create_dir(path).unwrap();
        }
        _ => {
            fs::remove_file(path).unwrap();
            std::os::unix::fs::symlink("/nowhere/at/all", path).unwrap();
        }
    }
}

const SPOILT: [&str; 7] = [
    "everybody's",
    "errors",
    "no text",
    "empty",
    "gone",
    "a directory",
    "nowhere",
];

fn what_worked_last_guards_when_the_file_cannot_be_used() {
    for how in SPOILT {
        let world = World::with(YVES);
        world.listen(22);
        spoil(&world.path(), how);
        let output = start(&world);
        let text = said(&output);
        assert_ne!(output.status.code(), Some(0), "{how}: {text}");
        assert!(
            text.contains("the policy that worked last is"),
            "{how}: {text}"
        );
        assert_eq!(world.connect(STRANGER[0], 22), Door::Silent, "{how}");
        world.knock(CLIENT[0], &SEQUENCE);
        world.until(how, || world.connect(CLIENT[0], 22) == Door::Open);
        let status = world.toctoc(&["status"]);
        let text = said(&status);
        assert_eq!(status.status.code(), Some(1), "{how}: {text}");
        assert!(
            text.contains("the policy file CANNOT BE USED ("),
            "{how}: {text}"
        );
        assert!(text.contains("yves"), "{how}: {text}");
        // It is healed as well, and goes on over the next start.
        assert_eq!(said(&world.toctoc(&["heal"])), "", "{how}");
        assert_ne!(start(&world).status.code(), Some(0), "{how}");
        assert_eq!(world.connect(STRANGER[0], 22), Door::Silent, "{how}");
    }
}

/// By hand nothing falls back: the administrator sees what is wrong, and what runs goes on.
fn an_apply_by_hand_falls_back_to_nothing() {
    let world = World::with(YVES);
    spoil(&world.path(), "errors");
    let output = world.toctoc(&["apply"]);
    let text = said(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(
        text.contains("the running firewall was not changed"),
        "{text}"
    );
    assert!(!text.contains("worked last"), "{text}");
}

/// Where nothing was applied, or it was removed, there is nothing to fall back to, and no door is shut.
fn nothing_that_was_not_applied_is_fallen_back_to() {
    let world = World::bare();
    world.listen(22);
    spoil(&world.path(), "errors");
    for removed in [false, true] {
        if removed {
            world.private_file("policy.toml", YVES);
            world.yes(&["apply"]);
            world.yes(&["remove"]);
            spoil(&world.path(), "errors");
        }
        let output = start(&world);
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        assert!(
            said(&output).contains("nothing was applied before"),
            "{}",
            said(&output)
        );
        assert_eq!(world.connect(STRANGER[0], 22), Door::Open);
    }
}

/// A record that cannot be read is not said never to have been there.
fn a_record_that_is_damaged_is_not_called_empty() {
    let world = World::with(YVES);
    spoil(&world.path(), "errors");
    fs::write(world.record(), "{").unwrap();
    let output = start(&world);
    let text = said(&output);
    assert_ne!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("is damaged"), "{text}");
    assert!(!text.contains("nothing was applied before"), "{text}");
    assert!(
        text.contains("what was applied before is not known"),
        "{text}"
    );
}

/// A trial that nobody confirmed is not what worked; one that goes on is what runs.
fn a_trial_is_no_policy_that_worked() {
    let world = World::with(YVES);
    world.listen(22);
    fs::write(world.path(), ZOE).unwrap();
    world.yes(&["apply", "--confirm", "1h"]);
    spoil(&world.path(), "errors");
    assert_eq!(start(&world).status.code(), Some(1));
    let status = said(&world.toctoc(&["status"]));
    assert!(status.contains("on trial: in "), "{status}");
    world.knock(CLIENT[0], &[7002, 5003, 7001]);
    world.until("on trial", || world.connect(CLIENT[0], 22) == Door::Open);
    world.yes(&["close"]);
    let record = world.record();
    let mut noted: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(&record).unwrap()).unwrap();
    // No process outlives a start of the machine.
    let waits = format!("rollback --trial {} --apart", noted["trial"]["id"]);
    world.server(&["pkill", "-KILL", "-f", &waits]);
    noted["trial"]["ends"]["boot"] = "another start".into();
    fs::write(&record, noted.to_string()).unwrap();
    assert_eq!(start(&world).status.code(), Some(1));
    world.knock(CLIENT[0], &[7002, 5003, 7001]);
    assert_eq!(world.connect(CLIENT[0], 22), Door::Silent);
    world.knock(CLIENT[0], &SEQUENCE);
    world.until("before", || world.connect(CLIENT[0], 22) == Door::Open);
}

/// Another file than that at boot was applied: `status` is about what runs, and says so.
fn status_is_about_the_policy_that_runs() {
    let world = World::with(YVES);
    let mut status = world.command(env!("CARGO_BIN_EXE_toctoc"));
    status.arg("status");
    let output = world.lab.server.inside(|| status.output().unwrap());
    let output = output.unwrap();
    let text = said(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("yves         no opening counted"), "{text}");
    let runs = format!(
        "this is {}, which runs; at boot toctoc.service ",
        world.path().display()
    );
    assert!(text.contains(&runs), "{text}");
    assert!(
        text.contains("another file, /etc/toctoc/policy.toml"),
        "{text}"
    );
    // The file that is named is what is asked about.
    assert!(!said(&world.toctoc(&["status"])).contains("which runs"));
}

on_every_firewall!(
    what_worked_last_guards_when_the_file_cannot_be_used,
    an_apply_by_hand_falls_back_to_nothing,
    nothing_that_was_not_applied_is_fallen_back_to,
    a_record_that_is_damaged_is_not_called_empty,
    a_trial_is_no_policy_that_worked,
    status_is_about_the_policy_that_runs,
);

/// A secret is gone, empty, or not to be trusted: what was noted of it guards, and its tokens open.
#[test]
fn a_missing_secret_is_taken_as_it_was() {
    for how in ["gone", "empty", "exposed"] {
        let world = World::bare();
        let secret = world.private_file("alice.secret", SECRET);
        world.apply(ALICE);
        world.listen(22);
        match how {
            "gone" => fs::remove_file(&secret).unwrap(),
            "empty" => fs::write(&secret, "").unwrap(),
            _ => fs::set_permissions(&secret, PermissionsExt::from_mode(0o644)).unwrap(),
        }
        world.yes(&["refill", "--stop"]);
        let output = start(&world);
        assert_eq!(output.status.code(), Some(1), "{how}: {}", said(&output));
        assert!(!said(&output).contains(&SECRET[..8]), "{how}");
        assert_eq!(world.connect(STRANGER[0], 22), Door::Silent, "{how}");
        world.send(CLIENT[0], &good(0).0);
        world.until(how, || world.connect(CLIENT[0], 22) == Door::Open);
        let status = world.toctoc(&["status"]);
        assert_eq!(status.status.code(), Some(1), "{how}");
        assert!(
            said(&status).contains("CANNOT BE USED"),
            "{how}: {}",
            said(&status)
        );
        // The timer goes on loading tokens.
        let refilled = world.toctoc(&["refill"]);
        assert_eq!(refilled.status.code(), Some(1), "{how}");
        assert!(
            said(&refilled).contains("as it was applied last"),
            "{}",
            said(&refilled)
        );
    }
}

/// The kernel refuses what the file says: that is as good as no file.
#[test]
fn what_the_kernel_refuses_is_fallen_back_from() {
    let world = World::with(YVES);
    world.listen(22);
    fs::write(world.path(), ZOE).unwrap();
    let nft = world.programs().join("nft");
    let refuses = "#!/bin/sh\ntext=$(cat)\ncase $text in *'key-zoe'*) echo no >&2; exit 1;; esac\n\
                   printf '%s\\n' \"$text\" | /usr/sbin/nft \"$@\"\n";
    fs::write(&nft, refuses).unwrap();
    fs::set_permissions(&nft, PermissionsExt::from_mode(0o755)).unwrap();
    let flush = ["/usr/sbin/nft", "flush", "ruleset"];
    let flushed = world
        .lab
        .server
        .inside(|| toctoc::firewall::run(&flush, ""));
    assert!(flushed.unwrap().unwrap().succeeded());
    // A start of the machine, not of the unit alone.
    let record = world.record();
    let noted = fs::read_to_string(&record).unwrap();
    let mut noted: serde_json::Value = serde_json::from_str(&noted).unwrap();
    noted["boot"] = "another start".into();
    fs::write(&record, noted.to_string()).unwrap();
    let output = world.toctoc(&["apply", "--boot"]);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert_eq!(world.connect(STRANGER[0], 22), Door::Silent);
    world.knock(CLIENT[0], &SEQUENCE);
    world.until("yves", || world.connect(CLIENT[0], 22) == Door::Open);
}
