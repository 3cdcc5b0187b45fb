//! What is allowed and not wise: each warning, how it is silenced, and what `check` makes of them.
//!
//! `SNAPSHOTS=overwrite cargo test --test lint` writes the warnings anew; read them then.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use toctoc::knock::Knock;
use toctoc::policy::lint::{RULES, Surroundings};
use toctoc::policy::load::load_and_lint;
use toctoc::policy::{Host, Report};

/// 2026-11-23
const NOW: i64 = 1_795_392_000;

fn around(listening: &[&str]) -> Surroundings {
    let port = |text: &&str| text.parse::<Knock>().unwrap();
    Surroundings {
        listening: Some(listening.iter().map(port).collect()),
        interfaces: vec!["eth0".to_string(), "wlan0".to_string()],
        now: NOW,
    }
}

fn warnings(text: &str, around: &Surroundings) -> Report {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("policy.toml");
    fs::write(&path, text).unwrap();
    let found = load_and_lint(&path, &Host::default(), around);
    found.unwrap_or_else(|error| panic!("{error}")).1
}

fn names(text: &str, around: &Surroundings) -> Vec<&'static str> {
    let report = warnings(text, around);
    let found = report.diagnostics().iter();
    found.map(|found| found.warning.unwrap().name).collect()
}

#[test]
fn every_warning_is_shown_as_recorded() {
    let file = Path::new("tests/golden/lint/everything.toml");
    let (_, report) = load_and_lint(file, &Host::default(), &around(&["22", "3306"])).unwrap();
    let expected = snapbox::Data::read_from(&file.with_extension("txt"), None).raw();
    snapbox::Assert::new()
        .action_env("SNAPSHOTS")
        .normalize_paths(false)
        .eq(format!("{report}\n"), expected);
    // None is left out of the file, so none can be forgotten in the code.
    let text = fs::read_to_string(file).unwrap();
    let found = names(&text, &around(&["22", "3306"]));
    for rule in RULES {
        assert!(found.contains(&rule.name), "{}", rule.name);
    }
}

const GOOD: &str = "[door.ssh]\nports = [22]\n\n[key.yves]\nopens = [\"ssh\"]\n\
                    sequence = [4431, 2387, 9920, 18357, 5077]\n";

#[test]
fn a_good_policy_has_none() {
    assert_eq!(names(GOOD, &around(&["22"])), [""; 0]);
    // Of another host nothing is known.
    let elsewhere = Surroundings {
        now: NOW,
        ..Surroundings::default()
    };
    assert_eq!(names(GOOD, &elsewhere), [""; 0]);
    assert_eq!(names(GOOD, &around(&[])), ["door-silent"]);
}

#[test]
fn a_public_first_knock_is_one_that_is_open_or_that_scans_try() {
    let first = |port: &str| GOOD.replace("4431", port);
    let found = |text: &str, listening: &[&str]| names(text, &around(listening));
    assert_eq!(found(&first("80"), &["22"]), ["first-knock-public"]);
    assert_eq!(found(&first("\"80/udp\""), &["22"]), [""; 0]);
    assert_eq!(found(GOOD, &["22", "4431"]), ["first-knock-public"]);
    assert_eq!(found(GOOD, &["22", "9920"]), ["knock-listening"]);
    let allowed = format!("{GOOD}[firewall]\ndefault = \"drop\"\nallow = [4431]\n");
    assert_eq!(found(&allowed, &["22"]), ["first-knock-public"]);
}

#[test]
fn a_warning_is_silenced_for_all_or_for_one() {
    let text = GOOD.replace("4431", "80");
    let here = around(&["22"]);
    for (silence, left) in [
        ("silence = [\"first-knock-public\"]\n", 0),
        ("silence = [\"sequence-weak\"]\n", 1),
        ("silence = []\n", 1),
    ] {
        assert_eq!(names(&format!("{silence}{text}"), &here).len(), left);
        assert_eq!(names(&format!("{text}{silence}"), &here).len(), left);
        // In the door it is not that of the key.
        let in_door = text.replace("[22]\n", &format!("[22]\n{silence}"));
        assert_eq!(names(&in_door, &here).len(), 1);
    }
}

#[test]
fn a_key_expires_soon_or_has_expired() {
    let here = around(&["22"]);
    for (day, wanted) in [
        ("2026-11-21", Some("key-expired")),
        ("2026-11-25", Some("key-expires-soon")),
        ("2027-11-25", None),
    ] {
        let text = format!("{GOOD}expires = {day}\n");
        assert_eq!(names(&text, &here), Vec::from_iter(wanted), "{day}");
    }
}

fn check(text: &str, arguments: &[&str]) -> Output {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("policy.toml");
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    Command::new(env!("CARGO_BIN_EXE_toctoc"))
        .arg("check")
        .args(arguments)
        .arg(path)
        .output()
        .unwrap()
}

#[test]
fn warnings_are_no_errors_unless_they_are_denied() {
    let text = GOOD.replace("4431", "80");
    for (text, arguments, code) in [
        (GOOD, &["--deny", "warnings"][..], 0),
        (&text, &[], 0),
        (&text, &["--deny", "warnings"], 1),
        (&text, &["--deny", "warnings", "--json"], 1),
        ("x = 1", &["--json"], 1),
    ] {
        let output = check(text, &[arguments, &["--elsewhere"]].concat());
        assert_eq!(output.status.code(), Some(code), "{arguments:?}");
    }
    let output = check(GOOD, &["--deny", "everything"]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn programs_get_names_places_and_strength() {
    let text = GOOD.replace("4431", "80");
    let output = check(&text, &["--elsewhere", "--json"]);
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(value["warnings"][0]["name"], "first-knock-public");
    assert_eq!(value["warnings"][0]["line"], 6);
    assert_eq!(value["warnings"][0]["column"], 13);
    assert_eq!(value["keys"][0]["name"], "yves");
    assert!(value["keys"][0]["bits"].as_f64().unwrap() > 60.0);
    assert_eq!(output.stderr, b"");
    let output = check("x = 1", &["--elsewhere", "--json"]);
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(value["errors"][0]["line"], 1);
}

#[test]
fn a_name_that_is_none_is_an_error_with_a_hint() {
    let output = check(&format!("silence = [\"sequence-week\"]\n{GOOD}"), &[]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("did you mean `sequence-weak`?"), "{said}");
}
