//! Files that people have, and the policies that they become: real-world shaped files, each with the policy beside it, or with
//! the reasons why there is none (`.txt`).
//!
//! `SNAPSHOTS=overwrite cargo test --test imports` writes them anew; read them then.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use toctoc::import::{Form, import, import_as};

fn sources() -> Vec<PathBuf> {
    let entries = fs::read_dir("tests/golden/import").unwrap();
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e != "toml" && e != "txt"))
        .collect();
    files.sort();
    files
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

#[test]
fn files_become_the_policies_beside_them() {
    assert!(sources().len() >= 55);
    for path in sources() {
        let (said, extension, other) = match import(&text(&path)) {
            Ok(policy) => (policy, "toml", "txt"),
            Err(error) => (format!("{error}\n"), "txt", "toml"),
        };
        let stale = path.with_extension(other);
        assert!(!stale.exists(), "{} is of another time", stale.display());
        let expected = snapbox::Data::read_from(&path.with_extension(extension), None).raw();
        snapbox::Assert::new()
            .action_env("SNAPSHOTS")
            .normalize_paths(false)
            .eq(said, expected);
    }
}

/// The output is always a policy file, and `check` finds no error in it but what was as weak before:
/// sequences that a sweep finds or that everybody knows.
#[test]
fn what_is_written_passes_check() {
    for path in sources() {
        let Ok(policy) = import(&text(&path)) else {
            continue;
        };
        if let Err(report) = toctoc::policy::read("imported", &policy) {
            for diagnostic in report.diagnostics() {
                let weak = diagnostic.message.contains("knocks the sequence");
                assert!(weak, "{}: {report}", path.display());
            }
        }
    }
}

/// Nothing is dropped without a word: each section is a key, or its reason stands there.
#[test]
fn each_section_is_a_key_or_has_a_reason() {
    for path in sources() {
        let text = text(&path);
        let said = import(&text).unwrap_or_else(|error| error.to_string());
        let names = text.lines().map(str::trim);
        let names = names.filter(|line| line.starts_with('[') && line.ends_with(']'));
        let names = names.filter(|name| !name.eq_ignore_ascii_case("[options]"));
        let uci = text
            .lines()
            .filter_map(|line| line.strip_prefix("config rule "));
        let uci = uci.map(|name| format!("[{}]", name.split('\'').nth(1).unwrap()));
        if said.contains("letmein") {
            continue;
        }
        for name in names.map(str::to_string).chain(uci) {
            assert!(said.contains(&name), "{}: {name}\n{said}", path.display());
        }
    }
}

#[test]
fn what_is_no_form_is_refused() {
    for text in ["", "\0\0\0", "[", "[]\n=\n", "hello\n"] {
        let said = import(text).unwrap_err().to_string();
        assert!(said.contains("none of the forms"), "{text}: {said}");
    }
    for text in [
        "FILES=(a b c)\n",
        "K0P=(1 2)\n",
        "=(443 2387 920)\n",
        "K-22=(443 2387 920)\n",
        "K22P=(443 2387 920)\n",
        "declare K22P=(443 2387 920)\n",
        "[a]\nsequence = x\n",
        "[options]\nUseSyslog\n",
        "PORTKNOCKING=22;TCP\n",
        "*filter\nCOMMIT\n",
        "table x {\nchain y {\n}\n}\n",
        "config options\noption x y\n",
    ] {
        let said = import(text).unwrap_err().to_string();
        assert!(said.contains("read as"), "{text}: {said}");
    }
}

/// Two stages at INPUT, and the door behind them.
const STAGES: &str = "iptables -A INPUT -p tcp --dport 7001 -m recent --set --name S1\n\
                      iptables -A INPUT -p tcp --dport 7002 -m recent --rcheck --name S1 -m recent --set --name S2\n\
                      iptables -A INPUT -p tcp --dport 22 -m recent --rcheck --name S2 -j ACCEPT\n";

/// A command may name a rule by its number: the rule goes, or another one comes in its place.
#[test]
fn rules_are_replaced_and_deleted_by_their_numbers() {
    let sequence = |more: &str| {
        let policy = import(&format!("{STAGES}{more}\n")).ok()?;
        let line = policy.lines().find(|line| line.starts_with("sequence"))?;
        Some(line.split_once('=').unwrap().1.trim().to_string())
    };
    assert_eq!(sequence("").unwrap(), "[7001, 7002]");
    let first = "iptables -R INPUT 1 -p tcp --dport 7009 -m recent --set --name S1";
    assert_eq!(sequence(first).unwrap(), "[7009, 7002]");
    assert_eq!(
        sequence(&first.replace("-R", "--replace")).unwrap(),
        "[7009, 7002]"
    );
    // One that is not there, and none: iptables refuses both.
    for nothing in ["INPUT 9 ", "INPUT 0 ", "INPUT "] {
        assert_eq!(
            sequence(&first.replace("INPUT 1 ", nothing)).unwrap(),
            "[7001, 7002]"
        );
    }
    // The door, the second stage, the first: what is left opens nothing.
    for number in [3, 2, 1] {
        for delete in ["-D INPUT", "--delete INPUT", "-w -D INPUT"] {
            assert_eq!(sequence(&format!("iptables {delete} {number}")), None);
        }
    }
    assert_eq!(sequence("iptables -D INPUT 4").unwrap(), "[7001, 7002]");
    assert_eq!(
        sequence("iptables -t nat -D INPUT 1").unwrap(),
        "[7001, 7002]"
    );
}

/// What stands behind `||` may not run: it takes no rule away. What stands alone, or behind `;`, does.
#[test]
fn a_command_behind_or_takes_nothing_away() {
    let opens = |more: &str| import(&format!("{STAGES}{more}\n")).is_ok();
    for kept in [
        "test -x /sbin/iptables || iptables -F",
        "service x start || iptables -F",
        "service x start || { iptables -F; exit 1; }",
        "a || b || iptables -F",
        "a ||\niptables -F",
        "a || iptables -D INPUT 1",
        "[ -e /run/x ] && iptables -F",
    ] {
        assert!(opens(kept), "{kept}");
    }
    for gone in [
        "iptables -F",
        "a || b; iptables -F",
        "a || b\niptables -F",
        "a | iptables -F",
        "a & iptables -F",
        "a; iptables -D INPUT 1",
    ] {
        assert!(!opens(gone), "{gone}");
    }
    // A rule behind `||` is one that the script adds.
    let (first, rest) = STAGES.split_once('\n').unwrap();
    let checked = format!("{} || {first}\n{rest}", first.replace("-A", "-C"));
    assert!(import(&checked).is_ok());
}

/// A policy is told from knockd's configuration, which has sections too.
#[test]
fn a_policy_is_not_imported_once_more() {
    for path in [
        "examples/everything.toml",
        "tests/golden/scripts/one-key.toml",
    ] {
        let said = import(&fs::read_to_string(path).unwrap())
            .unwrap_err()
            .to_string();
        assert!(
            said.contains("is a policy of toctoc already"),
            "{path}: {said}"
        );
    }
    for name in ["door", "door.ssh", "key.yves"] {
        let command = "/sbin/iptables -I INPUT -s %IP% -p tcp --dport 22 -j ACCEPT";
        let knockd = format!("[{name}]\nsequence = 7000,8000,9000\ncommand = {command}\n");
        assert!(import(&knockd).is_ok(), "{name}");
    }
}

/// A digit in the name of a variable is no port, and an array that no rule uses is no sequence.
#[test]
fn the_rules_say_what_is_knocked_and_opened() {
    let script = "SSH=2222\nKNOCK_SEQ2=(10571 10002 10403)\nWEB_PORTS=(80 443)\n\
                  iptables -A I -p tcp --dport ${KNOCK_SEQ2[0]} -m recent --set --name S1\n\
                  iptables -A I -p tcp --dport ${KNOCK_SEQ2[1]} -m recent --rcheck --seconds 7 --name S1 \
                  -m recent --set --name S2\n\
                  iptables -A I -p tcp --dport ${KNOCK_SEQ2[2]} -m recent --rcheck --seconds 5 --name S2 \
                  -m recent --set --name S3\n\
                  iptables -A I -p tcp --dport $SSH -m recent --rcheck --seconds 40 --name S3 -j ACCEPT\n";
    let policy = import(script).unwrap();
    for part in [
        "ports = [2222]",
        "[10571, 10002, 10403]",
        "within = \"7s\"",
        "open_for = \"40s\"",
        "[key.knock_seq2]",
        "# left out: the array WEB_PORTS: no rule",
    ] {
        assert!(policy.contains(part), "{part}: {policy}");
    }
    assert_eq!(policy.matches("[key.").count(), 1);
}

/// A secret of another program is never repeated.
#[test]
fn secrets_are_not_repeated() {
    for (file, secrets) in [
        ("fwknop.conf", &["c2VjcmV0", "bW9yZ", "hunter2"][..]),
        ("fwknop-nat.conf", &["hunter2", "hunter3"]),
        ("letmein.conf", &["00112233", "FFEEDDCC"]),
    ] {
        let text = text(&Path::new("tests/golden/import").join(file));
        let policy = import(&text).unwrap();
        for secret in secrets {
            assert!(
                text.contains(secret) && !policy.contains(secret),
                "{policy}"
            );
        }
    }
}

fn toctoc_import(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_toctoc"));
    command.arg("import").args(arguments).output().unwrap()
}

#[test]
fn the_command_says_what_check_says() {
    let good = toctoc_import(&["tests/golden/import/ufw.conf"]);
    assert_eq!(good.status.code(), Some(0));
    assert!(good.stderr.is_empty());
    let weak = toctoc_import(&["tests/golden/import/debian-default.conf"]);
    assert_eq!(weak.status.code(), Some(1));
    assert!(!weak.stdout.is_empty());
    let said = String::from_utf8(weak.stderr).unwrap();
    assert!(
        said.contains("an ascending sweep in steps of 1000"),
        "{said}"
    );
    assert_eq!(toctoc_import(&["/nowhere.conf"]).status.code(), Some(2));
    assert_eq!(toctoc_import(&["Cargo.toml"]).status.code(), Some(1));
    let all = toctoc_import(&["tests/golden/import/all-ports.conf"]);
    assert_eq!(all.status.code(), Some(0));
    let said = String::from_utf8(all.stdout).unwrap();
    for words in [
        "ports = \"all\"",
        "# opens all ports: name the door you mean, if it is one",
        "left out: [tcp]: opens all ports of tcp: name the door you mean",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
}

/// The form shows in the text, and `--from` says it where it does not.
#[test]
fn the_form_can_be_named() {
    let forced = toctoc_import(&["--from", "knockd", "tests/golden/import/ufw.conf"]);
    assert_eq!(forced.status.code(), Some(0));
    let other = toctoc_import(&["--from", "nft", "tests/golden/import/ufw.conf"]);
    assert_eq!(other.status.code(), Some(1));
    assert_eq!(
        toctoc_import(&["--from", "cobol", "tests/golden/import/ufw.conf"])
            .status
            .code(),
        Some(2)
    );
}

/// Damaged and random texts, in every form: a policy in TOML or an error, and never a panic.
#[test]
fn no_text_is_too_odd() {
    let texts: Vec<String> = sources().iter().map(|path| text(path)).collect();
    let pieces = [
        "$((",
        "${",
        "`",
        "'",
        "\"",
        "<<EOF",
        "{",
        "}",
        "(",
        ")",
        ";;",
        "do",
        "done",
        "$(",
        "-m recent",
        "--set",
        "--name",
        "!",
        "-j",
        "%IP%",
        "[",
        "]",
        "=",
        "\\",
        "99999999999999999999",
        "0",
        "-1",
        "é",
        "add @x {",
        "jump input",
        "for x in {1..99}; do",
        "f() { f; }; f",
        ",",
        ":",
        "/",
        ". ",
    ];
    let damage = (
        0..texts.len(),
        proptest::collection::vec(
            (any::<prop::sample::Index>(), 0..pieces.len(), 0..40usize),
            1..8,
        ),
        0..Form::NAMES.len(),
    );
    let mut runner = TestRunner::new(ProptestConfig {
        cases: 1_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let outcome = runner.run(&damage, |(which, edits, form)| {
        let mut chars: Vec<char> = texts[which].chars().collect();
        for (place, piece, gone) in edits {
            let at = place.index(chars.len() + 1);
            let end = (at + gone).min(chars.len());
            chars.splice(at..end, pieces[piece].chars());
        }
        let text: String = chars.into_iter().collect();
        for policy in [import(&text), import_as(&text, Form::NAMES[form].1)]
            .into_iter()
            .flatten()
        {
            prop_assert!(policy.parse::<toml::Table>().is_ok(), "{}", policy);
        }
        Ok(())
    });
    outcome.unwrap();
}
