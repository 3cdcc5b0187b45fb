//! A policy on trial: it goes back by itself to what was there, whatever becomes of whoever began it.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::Value;
use toctoc::client::Door;
use toctoc::lab::CLIENT;

use crate::person::said;
use crate::token_world::{ALICE, PORT, SECRET, good, guarded};
use crate::world::{SEQUENCE, World, YVES};

/// Another policy for the same door: yves is gone.
pub(crate) const ZOE: &str = r#"
[door.ssh]
ports = [22]

[key.zoe]
opens    = ["ssh"]
sequence = [7001, 7003, 9002, 7004, 8]
"#;

pub(crate) const OTHER: [u16; 5] = [7001, 7003, 9002, 7004, 8];

pub(crate) fn write(world: &World, policy: &str) {
    fs::write(world.path(), policy).unwrap();
}

pub(crate) fn on_trial(world: &World, policy: &str, lasting: &str) -> String {
    write(world, policy);
    world.yes(&["apply", "--confirm", lasting])
}

pub(crate) fn is_on_trial(world: &World) -> bool {
    world.status()["noted"]["trial_ends_in"].is_number()
}

pub(crate) fn opens(world: &World, sequence: &[u16]) -> bool {
    world.knock(CLIENT[0], sequence);
    let open = world.connect(CLIENT[0], 22) == Door::Open;
    if open {
        world.yes(&["close"]);
    }
    open
}

/// Seconds that the grant of a source has still.
fn left(world: &World, source: &str) -> Option<f64> {
    let status = world.status();
    let grants = status["doors"][0]["grants"].as_array()?.iter();
    let mut own = grants.filter(|grant| grant["source"] == source);
    own.next()?["expires_in"].as_f64()
}

/// Not confirmed: the old key opens again and the new one does not; the grant that the trial had ended
/// is there again, with the time that it would have had.
fn a_policy_that_is_not_confirmed_goes() {
    let world = World::with(&format!("open_for = \"90s\"\n{YVES}"));
    world.listen(22);
    let before = world.all_rules();
    world.knock(CLIENT[0], &SEQUENCE);
    world.until("yves is in", || left(&world, CLIENT[0]).is_some());
    let (had, then) = (left(&world, CLIENT[0]).unwrap(), Instant::now());
    let text = on_trial(&world, ZOE, "3s");
    assert!(
        text.contains("1 ended because their door or key is gone"),
        "{text}"
    );
    assert!(
        text.contains("in 3s it goes back to the policy as it was before"),
        "{text}"
    );
    assert!(is_on_trial(&world));
    assert_eq!(world.connect(CLIENT[0], 22), Door::Silent);
    assert!(!opens(&world, &SEQUENCE));
    world.until("the trial is over", || !is_on_trial(&world));
    let has = left(&world, CLIENT[0]).expect("the grant is there again");
    let passed = then.elapsed().as_secs_f64();
    assert!(
        has <= had + 1.0 - passed.floor(),
        "{had} before, {has} after {passed}"
    );
    assert!(
        has > had - passed - 5.0,
        "{had} before, {has} after {passed}"
    );
    assert_eq!(world.connect(CLIENT[0], 22), Door::Open);
    // Where grants are rules, one more is there.
    assert!(!world.is_nftables() || world.all_rules() == before);
    let status = world.status();
    assert!(status["drift"].as_array().unwrap().is_empty(), "{status}");
    assert_eq!(status["noted"]["not_confirmed"], true);
    world.yes(&["close"]);
    assert!(!opens(&world, &OTHER));
    assert!(opens(&world, &SEQUENCE));
}

/// Confirmed: it stays, also when the time is over.
fn a_policy_that_is_confirmed_stays() {
    let world = World::with(YVES);
    world.listen(22);
    on_trial(&world, ZOE, "2s");
    let began = Instant::now();
    let said = world.yes(&["confirm"]);
    assert!(said.starts_with("confirmed: /"), "{said}");
    assert!(!is_on_trial(&world));
    while began.elapsed() < Duration::from_secs(4) {
        assert_eq!(world.toctoc(&["status"]).status.code(), Some(0));
        std::thread::sleep(Duration::from_millis(500));
    }
    assert!(!opens(&world, &SEQUENCE));
    assert!(opens(&world, &OTHER));
    for again in ["confirm", "rollback"] {
        let again = world.toctoc(&[again]);
        assert_eq!(again.status.code(), Some(1));
        assert_eq!(text(&again.stdout), "");
        assert_eq!(text(&again.stderr), "toctoc: nothing is on trial\n");
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The policy that stays is the one that was tried, not what the file says by now.
fn a_file_that_was_changed_on_trial_is_not_said_to_stay() {
    let world = World::with(YVES);
    world.listen(22);
    let confirm = |change: &dyn Fn()| {
        on_trial(&world, ZOE, "1h");
        change();
        let said = world.yes(&["confirm"]);
        assert!(said.starts_with("confirmed: "), "{said}");
        assert!(!opens(&world, &SEQUENCE) && opens(&world, &OTHER));
        said
    };
    let said = confirm(&|| write(&world, YVES));
    for part in [
        "what was tried stays; the file was changed since (toctoc apply --dry-run",
        &world.path().display().to_string(),
    ] {
        assert!(said.contains(part), "{said}");
    }
    let said = confirm(&|| write(&world, "["));
    assert!(said.contains("the file was changed since"), "{said}");
    let said = confirm(&|| fs::remove_file(world.path()).unwrap());
    assert!(said.contains("the file is gone since"), "{said}");
    let said = confirm(&|| ());
    assert!(said.contains("policy.toml stays"), "{said}");
}

/// Where nothing was, nothing is again, and whoever comes late is told.
fn the_first_policy_goes_back_to_nothing() {
    let world = World::bare();
    world.listen(22);
    on_trial(&world, YVES, "2s");
    assert_eq!(world.connect(CLIENT[0], 22), Door::Silent);
    world.until("no door is guarded", || {
        world.connect(CLIENT[0], 22) == Door::Open
    });
    world.until("it is noted", || !is_on_trial(&world));
    let late = world.toctoc(&["confirm"]);
    assert_eq!(late.status.code(), Some(1));
    assert!(said(&late).contains("the time was over"), "{}", said(&late));
    assert!(!world.all_rules().contains("toctoc"));
}

/// The end of the terminal, and of everything in its session, ends no trial.
fn the_end_of_a_session_is_not_that_of_its_trial() {
    let world = World::with(YVES);
    world.listen(22);
    write(&world, ZOE);
    let apply = world.toctoc_command(&["apply", "--confirm", "3s"]);
    let words: Vec<String> = std::iter::once(apply.get_program())
        .chain(apply.get_args())
        .map(|word| format!("'{}'", word.to_str().unwrap()))
        .collect();
    // A session with a terminal of its own; what was started in it ends with all its processes.
    let script = format!("{}; kill -HUP 0; kill -KILL 0", words.join(" "));
    let mut session = world.command("script");
    session.args(["--quiet", "--return", "--command", &script, "/dev/null"]);
    let ended = world
        .lab
        .server
        .inside(|| session.output().unwrap())
        .unwrap();
    assert!(!ended.status.success());
    assert!(said(&ended).contains("on trial"), "{}", said(&ended));
    assert!(is_on_trial(&world));
    world.until("the trial is over", || !is_on_trial(&world));
    assert!(!opens(&world, &OTHER));
    assert!(opens(&world, &SEQUENCE));
}

/// The notes have the sequences in them.
fn what_is_noted_is_for_root_alone() {
    use std::os::unix::fs::MetadataExt;
    let world = World::with(YVES);
    on_trial(&world, ZOE, "1h");
    let directory = world.state_directory();
    let mode = |path: &std::path::Path| path.metadata().unwrap().mode() & 0o7777;
    assert_eq!(mode(&directory), 0o700);
    for entry in fs::read_dir(&directory).unwrap() {
        assert_eq!(mode(&entry.unwrap().path()), 0o600);
    }
    for told in [world.yes(&["status", "--json"]), world.yes(&["status"])] {
        assert!(!told.contains("9002"), "{told}");
    }
}

/// Nobody has to wait.
fn a_trial_ends_at_once_when_told() {
    let world = World::with(YVES);
    on_trial(&world, ZOE, "1h");
    let back = world.yes(&["rollback"]);
    assert!(back.starts_with("went back to /"), "{back}");
    world.listen(22);
    assert!(!opens(&world, &OTHER));
    assert!(opens(&world, &SEQUENCE));
    assert_eq!(world.toctoc(&["rollback"]).status.code(), Some(1));
}

/// Two trials in a row go back to what was there before both; an apply without one ends it.
fn trials_follow_one_another() {
    let world = World::with(YVES);
    world.listen(22);
    on_trial(&world, ZOE, "1h");
    let third = ZOE.replace("7001", "7005");
    on_trial(&world, &third, "1h");
    world.yes(&["rollback"]);
    assert!(opens(&world, &SEQUENCE));
    on_trial(&world, ZOE, "1h");
    world.apply(&third);
    assert!(!is_on_trial(&world));
    assert_eq!(world.toctoc(&["rollback"]).status.code(), Some(1));
    assert!(!opens(&world, &OTHER));
    assert!(opens(&world, &[7005, 7003, 9002, 7004, 8]));
}

/// A grant that an administrator ends during a trial does not come back after it.
fn closed_grants_do_not_come_back() {
    let world = World::with(&format!("open_for = \"1h\"\n{YVES}"));
    for address in [CLIENT[0], CLIENT[1]] {
        world.knock(address, &SEQUENCE);
        world.until("yves is in", || left(&world, address).is_some());
    }
    on_trial(&world, ZOE, "1h");
    world.yes(&["close", "ssh", CLIENT[0]]);
    let back = world.yes(&["rollback"]);
    assert!(
        back.contains("with 1 grant that the trial had ended"),
        "{back}"
    );
    assert_eq!(left(&world, CLIENT[0]), None);
    assert!(left(&world, CLIENT[1]).is_some());
}

/// A start of the machine is no confirmation.
fn a_start_brings_back_what_was_before_a_trial() {
    let world = World::with(YVES);
    world.listen(22);
    on_trial(&world, ZOE, "1h");
    let record = world.record();
    let text = fs::read_to_string(&record).unwrap();
    let mut noted: Value = serde_json::from_str(&text).unwrap();
    noted["trial"]["ends"]["boot"] = Value::from("another start");
    fs::write(&record, noted.to_string()).unwrap();
    for _ in 0..2 {
        let output = world.toctoc(&["apply", "--boot"]);
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
        assert!(said(&output).contains("not confirmed"), "{}", said(&output));
        let next = "`toctoc apply --confirm 10m` tries this one again";
        assert!(said(&output).contains(next), "{}", said(&output));
        // It does not call the policy of the file applied.
        let which = ", as it was before the trial\n";
        assert!(said(&output).contains(which), "{}", said(&output));
        assert!(!opens(&world, &OTHER));
        assert!(opens(&world, &SEQUENCE));
    }
    world.yes(&["apply"]);
    assert!(opens(&world, &OTHER));
    world.yes(&["apply", "--boot"]);
    assert!(opens(&world, &OTHER));
}

/// The file was changed: what runs is told in its own words, and that it is so.
fn status_is_about_what_was_applied() {
    let world = World::with(YVES);
    let applied = world.yes(&["status"]);
    assert!(!applied.contains("policy file"), "{applied}");
    for changed in [ZOE, "[door.ssh]\nports = [0]\n"] {
        write(&world, changed);
        let output = world.toctoc(&["status"]);
        assert_eq!(output.status.code(), Some(1));
        let text = said(&output);
        assert!(text.contains("yves         no opening counted"), "{text}");
        assert!(
            text.contains("the kernel holds what was applied\n"),
            "{text}"
        );
        assert!(text.contains("the policy file was changed since"), "{text}");
    }
    // For a status that names another file, or another backend, what was applied is not what is meant.
    write(&world, ZOE);
    let other = match world.is_nftables() {
        true => "iptables",
        false => "nftables",
    };
    let mut status = world.command(env!("CARGO_BIN_EXE_toctoc"));
    status
        .args(["status", "--backend", other])
        .arg(world.path());
    let output = world
        .lab
        .server
        .inside(|| status.output().unwrap())
        .unwrap();
    assert!(
        said(&output).contains("zoe          no opening counted"),
        "{}",
        said(&output)
    );
    write(&world, YVES);
    assert_eq!(world.yes(&["status"]), applied);
}

/// Where the state is may be said relative to where somebody is.
fn a_relative_state_directory_is_the_same_one() {
    let world = World::with(YVES);
    world.listen(22);
    write(&world, ZOE);
    let mut apply = world.toctoc_command(&["apply", "--confirm", "2s"]);
    let state = world.state_directory();
    apply.env("STATE_DIRECTORY", state.file_name().unwrap());
    apply.current_dir(state.parent().unwrap());
    let output = world.lab.server.inside(|| apply.output().unwrap()).unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    world.until("the trial is over", || !is_on_trial(&world));
    assert!(opens(&world, &SEQUENCE));
}

on_every_firewall!(
    a_relative_state_directory_is_the_same_one,
    a_policy_that_is_not_confirmed_goes,
    a_policy_that_is_confirmed_stays,
    a_file_that_was_changed_on_trial_is_not_said_to_stay,
    the_first_policy_goes_back_to_nothing,
    the_end_of_a_session_is_not_that_of_its_trial,
    what_is_noted_is_for_root_alone,
    a_trial_ends_at_once_when_told,
    trials_follow_one_another,
    closed_grants_do_not_come_back,
    a_start_brings_back_what_was_before_a_trial,
    status_is_about_what_was_applied,
);

/// A token that was spent during the trial, or before it, opens no more after it; one that was not does.
#[test]
fn spent_tokens_stay_spent_over_a_trial() {
    let world = guarded();
    // Of one minute, whatever the time is later.
    let tokens: Vec<_> = (0..4).map(good).collect();
    let open = |number: usize| {
        let payload = &tokens[number];
        world.inject(|injector| {
            injector.datagram(CLIENT[0].parse().unwrap(), 4000, PORT, &payload.0)
        });
        let open = world.connect(CLIENT[0], 22) == Door::Open;
        world.yes(&["close"]);
        open
    };
    assert!(open(0));
    on_trial(&world, &ALICE.replace("1h", "2h"), "1h");
    assert!(!open(0));
    assert!(open(1));
    world.yes(&["rollback"]);
    assert!(!open(0) && !open(1));
    assert!(open(2));
    // A trial that knows no tokens.
    on_trial(&world, YVES, "1h");
    assert!(!open(3));
    world.private_file("alice.secret", SECRET);
    world.yes(&["rollback"]);
    assert!(!open(0) && !open(1) && !open(2));
    assert!(open(3));
}
