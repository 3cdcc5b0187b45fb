//! The command line of `toctoc-fleet`: exit status, secrets, what is said. `tests/kernel/fleet` has what it does.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};

fn toctoc_fleet(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_toctoc-fleet"));
    command.args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The hosts of a fleet sign with it: nobody else reads it, no output shows it, and none is ever lost.
#[test]
fn a_new_secret_is_a_file_of_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("fleet.secret");
    let shown = path.display().to_string();
    let made = toctoc_fleet(&["--new-secret", &shown]);
    assert_eq!(made.status.code(), Some(0), "{}", text(&made.stderr));
    let secret = fs::read_to_string(&path).unwrap();
    assert!(toctoc::single_use::Secret::parse(&secret).is_ok());
    assert!(!text(&made.stdout).contains(secret.trim()));
    let mode = path.metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let again = toctoc_fleet(&["--new-secret", &shown]);
    assert_eq!(again.status.code(), Some(2));
    assert!(text(&again.stderr).contains("File exists"));
    assert_eq!(fs::read_to_string(&path).unwrap(), secret);
    let other = directory.path().join("other");
    toctoc_fleet(&["--new-secret", &other.display().to_string()]);
    assert_ne!(fs::read_to_string(&other).unwrap(), secret);
}

/// A policy without a fleet has no part in one: no, and not "could not".
#[test]
fn a_policy_without_a_fleet_has_no_part_in_one() {
    let output = toctoc_fleet(&["../examples/one-server.toml"]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("has no [fleet]"), "{said}");
}
