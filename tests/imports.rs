//! What people have, and the policy it becomes: real-world shaped knockd.conf files and scripts, each
//! with the policy beside it.
//!
//! `SNAPSHOTS=overwrite cargo test --test imports` writes the policies anew; read them then.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use toctoc::import::import;

fn sources() -> Vec<PathBuf> {
    let entries = fs::read_dir("tests/golden/import").unwrap();
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e != "toml"))
        .collect();
    files.sort();
    files
}

#[test]
fn files_become_the_policies_beside_them() {
    assert!(sources().len() >= 12);
    for path in sources() {
        let policy = import(&fs::read_to_string(&path).unwrap()).unwrap();
        let expected = snapbox::Data::read_from(&path.with_extension("toml"), None).raw();
        snapbox::Assert::new()
            .action_env("SNAPSHOTS")
            .normalize_paths(false)
            .eq(policy, expected);
    }
}

/// What is printed is always a policy file, if not always one that `check` likes: sequences that a
/// sweep finds, or that name a door, were as weak before.
#[test]
fn what_is_written_can_be_read() {
    for path in sources() {
        let policy = import(&fs::read_to_string(&path).unwrap()).unwrap();
        if let Err(report) = toctoc::policy::read("imported", &policy) {
            for diagnostic in report.diagnostics() {
                let weak = ["knocks the sequence", "cannot be a knock"];
                let known = weak.iter().any(|words| diagnostic.message.contains(words));
                assert!(known, "{}: {report}", path.display());
            }
        }
    }
}

#[test]
fn what_is_neither_is_refused() {
    for text in [
        "",
        "[options]\nUseSyslog\n",
        "[a]\nsequence = x\n",
        "FILES=(a b c)\n",
        "\0\0\0",
        "[",
        "[]\n=\n",
        "K0P=(1 2)\n",
        "K99999999999P=(1 2)\n",
        "=(443 2387 920)\n",
        "declare K22P=(443 2387 920)\n",
        "K-22=(443 2387 920)\n",
    ] {
        let said = import(text).unwrap_err().to_string();
        assert!(said.contains("neither a knockd section"), "{text}: {said}");
    }
}

/// The classic rules without an array of ports: it is said what to do, and that works.
#[test]
fn rules_without_an_array_are_told_what_to_add() {
    let script = "iptables -N KNOCK\n\
                  iptables -A KNOCK -p tcp --dport 443 -m recent --name one --set -j DROP\n\
                  iptables -A KNOCK -p tcp --dport 2387 -m recent --name one --rcheck --seconds 7 \
                  -m recent --name two --set -j DROP\n\
                  iptables -A KNOCK -p tcp --dport 22 -m recent --name two --rcheck --seconds 40 \
                  -j ACCEPT\n";
    let said = import(script).unwrap_err().to_string();
    for part in [
        "neither a knockd section",
        "only these two",
        "add such an array",
    ] {
        assert!(said.contains(part), "{said}");
    }
    let policy = import(&format!("K22P=(443 2387 920)\n{script}")).unwrap();
    for part in [
        "ports = [22]",
        "[443, 2387, 920]",
        "within = \"7s\"",
        "\"40s\"",
    ] {
        assert!(policy.contains(part), "{part}: {policy}");
    }
}

fn toctoc_import(path: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_toctoc"));
    command.args(["import", path]).output().unwrap()
}

#[test]
fn the_command_says_what_check_says() {
    let good = toctoc_import("tests/golden/import/ufw.conf");
    assert_eq!(good.status.code(), Some(0));
    assert!(good.stderr.is_empty());
    let weak = toctoc_import("tests/golden/import/debian-default.conf");
    assert_eq!(weak.status.code(), Some(1));
    assert!(!weak.stdout.is_empty());
    let said = String::from_utf8(weak.stderr).unwrap();
    assert!(
        said.contains("an ascending sweep in steps of 1000"),
        "{said}"
    );
    assert_eq!(toctoc_import("/nowhere.conf").status.code(), Some(2));
    assert_eq!(toctoc_import("Cargo.toml").status.code(), Some(1));
}

#[test]
fn an_array_may_have_any_name_of_a_variable() {
    for name in ["K22P", "knocks_22", "_22"] {
        let policy = import(&format!("{name}=(443 2387 920)\n")).unwrap();
        assert!(policy.contains("ports = [22]"), "{name}: {policy}");
    }
}
