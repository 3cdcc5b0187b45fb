//! A policy on trial where something goes wrong: a record that is gone, rules that somebody changed, a program that is
//! killed or missing. Either the trial does not begin, or it ends all the same.

use std::fs;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use toctoc::client::Door;
use toctoc::lab::CLIENT;

use crate::person::said;
use crate::token_world::{good, guarded};
use crate::trials::{OTHER, ZOE, is_on_trial, on_trial, opens, write};
use crate::world::{SEQUENCE, World, YVES};

/// Where there is no systemd, whoever goes back can be killed. That is said, and a word is enough.
fn a_killed_watchdog_is_missed() {
    let world = World::with(YVES);
    world.listen(22);
    on_trial(&world, ZOE, "5s");
    let record = fs::read_to_string(world.record()).unwrap();
    let record: Value = serde_json::from_str(&record).unwrap();
    let command = format!("rollback --trial {} --apart", record["trial"]["id"]);
    world.server(&["pkill", "-KILL", "-f", &command]);
    world.until("the time is over", || {
        let status = world.toctoc(&["status"]);
        said(&status).contains("on trial, and the time is over")
    });
    assert!(opens(&world, &OTHER));
    world.yes(&["rollback"]);
    assert!(!opens(&world, &OTHER));
    assert!(opens(&world, &SEQUENCE));
}

/// The running policy is not known: nothing is begun that could not be ended.
fn there_is_no_trial_without_a_way_back() {
    let world = World::with(YVES);
    let before = world.all_rules();
    let record = world.record();
    world.forget_what_was_applied();
    write(&world, ZOE);
    let output = world.toctoc(&["apply", "--confirm", "60s"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("no way back"), "{}", said(&output));
    assert!(
        said(&output).contains("was not changed"),
        "{}",
        said(&output)
    );
    fs::write(
        world.state_directory().join(record.file_name().unwrap()),
        "{",
    )
    .unwrap();
    let output = world.toctoc(&["apply", "--confirm", "60s"]);
    assert!(said(&output).contains("is damaged"), "{}", said(&output));
    assert!(world.all_rules() == before);
    world.apply(YVES);
    on_trial(&world, ZOE, "1h");
}

/// The record is not the only thing that knows the way back, neither for a timer nor for a process that waits.
fn a_record_that_is_taken_away_ends_no_trial() {
    for damage in ["", "{"] {
        let world = World::with(YVES);
        world.listen(22);
        on_trial(&world, ZOE, "2s");
        // A look of whoever waits for the end.
        std::thread::sleep(Duration::from_millis(700));
        let record = world.record();
        match damage {
            "" => fs::remove_file(&record).unwrap(),
            damage => fs::write(&record, damage).unwrap(),
        }
        world.until("it went back", || opens(&world, &SEQUENCE));
        assert!(!opens(&world, &OTHER));
        world.until("it is noted", || {
            world.toctoc(&["confirm"]).status.code() == Some(1)
        });
    }
}

/// A timer knows the way back too, and so does an administrator who does not want to wait.
fn a_trial_without_its_record_ends_when_told() {
    for damage in ["", "{"] {
        let world = World::with(YVES);
        world.listen(22);
        on_trial(&world, ZOE, "1h");
        let record = world.record();
        match damage {
            "" => fs::remove_file(&record).unwrap(),
            damage => fs::write(&record, damage).unwrap(),
        }
        assert!(is_on_trial(&world));
        world.yes(&["rollback"]);
        assert!(!opens(&world, &OTHER));
        assert!(opens(&world, &SEQUENCE));
        // What is over is so without the record, too.
        fs::remove_file(&record).unwrap();
        let output = world.toctoc(&["rollback"]);
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        assert!(said(&output).contains("nothing is on trial"));
    }
}

/// The rules that run have to be those that a trial would go back to.
fn there_is_no_trial_where_somebody_changed_the_rules() {
    let world = World::with(YVES);
    match world.is_nftables() {
        true => drop(world.server(&["nft", "flush", "chain", "inet", "toctoc", "shut"])),
        false => drop(world.server(&["iptables", "-t", "raw", "-F", "toctoc-shut"])),
    }
    write(&world, ZOE);
    let output = world.toctoc(&["apply", "--confirm", "60s"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        said(&output).contains("what runs is not what was noted"),
        "{}",
        said(&output)
    );
}

/// Another network namespace has another firewall, even where the state is kept in one place.
fn another_firewall_ends_no_trial() {
    let world = World::with(YVES);
    let other = World::bare();
    on_trial(&world, ZOE, "1h");
    write(&other, YVES);
    let mut apply = other.toctoc_command(&["apply"]);
    apply.env("STATE_DIRECTORY", world.state_directory());
    let output = other.lab.server.inside(|| apply.output().unwrap()).unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(is_on_trial(&world));
    world.yes(&["confirm"]);
}

/// A confirmation that comes too late is none, whoever is to go back.
fn a_late_confirmation_is_none() {
    let world = World::with(YVES);
    on_trial(&world, ZOE, "1h");
    let record = world.record();
    let mut noted: Value = serde_json::from_str(&fs::read_to_string(&record).unwrap()).unwrap();
    noted["trial"]["ends"]["milliseconds"] = Value::from(1);
    let late = {
        fs::write(&record, noted.to_string()).unwrap();
        world.toctoc(&["confirm"])
    };
    assert_eq!(late.status.code(), Some(1), "{}", said(&late));
}

/// Ends by other hosts of a fleet are asked of nft. Where there is no nft, there are none.
fn a_trial_goes_back_without_nft() {
    let world = World::with(YVES);
    world.listen(22);
    on_trial(&world, ZOE, "1h");
    assert!(!opens(&world, &SEQUENCE) && opens(&world, &OTHER));
    let rollback = world.toctoc_command(&["rollback"]);
    let own = [rollback.get_program()]
        .into_iter()
        .chain(rollback.get_args());
    let own: Vec<_> = own.map(ToOwned::to_owned).collect();
    let hide = "mount --bind /usr/sbin $all && mount -t tmpfs none /usr/sbin && \
                ln -s $all/* /usr/sbin/ && rm /usr/sbin/nft && ! command -v nft >/dev/null || exit 99; \
                exec \"$0\" \"$@\"";
    let all = tempfile::tempdir().unwrap();
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", hide]).args(own);
    command.env("all", all.path());
    for (name, value) in rollback.get_envs() {
        if let Some(value) = value {
            command.env(name, value);
        }
    }
    let server = &world.lab.server;
    let ended = server.inside(|| command.output().unwrap()).unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(0), "{said}");
    assert!(!is_on_trial(&world));
    assert!(opens(&world, &SEQUENCE) && !opens(&world, &OTHER));
}

mod where_nft_is_missing {
    use super::a_trial_goes_back_without_nft;

    on_each_iptables!(a_trial_goes_back_without_nft);
}

on_every_firewall!(
    a_killed_watchdog_is_missed,
    there_is_no_trial_without_a_way_back,
    a_record_that_is_taken_away_ends_no_trial,
    a_trial_without_its_record_ends_when_told,
    there_is_no_trial_where_somebody_changed_the_rules,
    another_firewall_ends_no_trial,
    a_late_confirmation_is_none,
);

/// The second of two trials fails: the first goes on, and ends.
#[test]
fn a_trial_that_fails_ends_no_other() {
    let world = World::with(YVES);
    world.listen(22);
    on_trial(&world, ZOE, "4s");
    let nft = world.programs().join("nft");
    let slow = "#!/bin/sh\n[ \"$1\" != -f ] || { sleep 1; exit 1; }\nexec /usr/sbin/nft \"$@\"\n";
    fs::write(&nft, slow).unwrap();
    fs::set_permissions(&nft, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    write(&world, &ZOE.replace("7001", "7005"));
    let failed = world.toctoc(&["apply", "--confirm", "4s"]);
    assert_eq!(failed.status.code(), Some(2), "{}", said(&failed));
    fs::remove_file(&nft).unwrap();
    assert!(opens(&world, &OTHER));
    world.until("the trial is over", || !is_on_trial(&world));
    assert!(!opens(&world, &OTHER));
    assert!(opens(&world, &SEQUENCE));
}

/// A secret that is gone was noted: there is a way back.
#[test]
fn a_trial_goes_back_to_secrets_that_are_gone() {
    let world = guarded();
    fs::remove_file(world.path().with_file_name("alice.secret")).unwrap();
    on_trial(&world, YVES, "60s");
    world.yes(&["rollback"]);
    world.send(CLIENT[0], &good(0).0);
    world.until("a token opens", || {
        world.connect(CLIENT[0], 22) == Door::Open
    });
}

/// Where an earlier release noted no secrets, one that is gone is told before there is a trial that could not end.
#[test]
fn there_is_no_trial_without_the_secrets_of_what_runs() {
    let world = guarded();
    fs::remove_file(world.path().with_file_name("alice.secret")).unwrap();
    let text = fs::read_to_string(world.record()).unwrap();
    let mut noted: Value = serde_json::from_str(&text).unwrap();
    noted["running"]
        .as_object_mut()
        .unwrap()
        .remove("files")
        .unwrap();
    fs::write(world.record(), noted.to_string()).unwrap();
    write(&world, YVES);
    let output = world.toctoc(&["apply", "--confirm", "60s"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        said(&output).contains("cannot be read any more"),
        "{}",
        said(&output)
    );
}
