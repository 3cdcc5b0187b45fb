//! Broken policy files: each is refused with the message beside it, and none does harm.
//!
//! `SNAPSHOTS=overwrite cargo test --test policies` writes the messages anew; read them then.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use toctoc::policy;

fn broken_files() -> Vec<PathBuf> {
    let entries = fs::read_dir("tests/golden/broken").unwrap();
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "toml"))
        .collect();
    files.sort();
    files
}

#[test]
fn broken_files_are_refused_with_their_messages() {
    let files = broken_files();
    assert!(files.len() >= 40, "only {} files", files.len());
    for path in files {
        let text = fs::read_to_string(&path).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap();
        let report = policy::read(name, &text).expect_err(name);
        let expected = snapbox::Data::read_from(&path.with_extension("txt"), None).raw();
        snapbox::Assert::new()
            .action_env("SNAPSHOTS")
            .normalize_paths(false)
            .eq(format!("{report}\n"), expected);
    }
}

#[test]
fn each_error_has_its_place_in_the_file() {
    for path in broken_files() {
        let text = fs::read_to_string(&path).unwrap();
        let report = policy::read("p", &text).expect_err("broken");
        assert!(!report.diagnostics().is_empty());
        for diagnostic in report.diagnostics() {
            assert!(diagnostic.at.end <= text.len().max(1), "{diagnostic:?}");
            assert!(diagnostic.at.start <= diagnostic.at.end, "{diagnostic:?}");
        }
    }
}

#[test]
fn cutting_a_policy_anywhere_gives_errors_and_no_panic() {
    let text = fs::read_to_string("examples/everything.toml").unwrap();
    policy::read("whole", &text).unwrap();
    for end in (0..text.len()).filter(|&end| text.is_char_boundary(end)) {
        if let Err(report) = policy::read("cut", &text[..end]) {
            assert!(!report.to_string().is_empty());
        }
    }
}

fn check(path: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_toctoc"))
        .arg("check")
        .arg(path)
        .output()
        .unwrap()
}

/// Exit status and standard error, which names nothing of this machine but the file.
fn refused(path: &Path) -> (Option<i32>, String) {
    let output = check(path);
    assert!(output.stdout.is_empty());
    let said = String::from_utf8(output.stderr).unwrap();
    (output.status.code(), said)
}

#[test]
fn a_directory_is_no_policy() {
    let directory = tempfile::tempdir().unwrap();
    let (code, said) = refused(directory.path());
    assert_eq!(code, Some(2));
    assert!(said.contains("cannot be read: Is a directory"), "{said}");
}

#[test]
fn a_missing_file_is_named() {
    let (code, said) = refused(Path::new("/nowhere/policy.toml"));
    assert_eq!(code, Some(2));
    assert!(
        said.contains("/nowhere/policy.toml cannot be read: No such file"),
        "{said}"
    );
}

#[test]
fn an_unreadable_file_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("policy.toml");
    fs::write(&path, "").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    // Root reads everything; in a user namespace that maps nobody there is no root.
    let mut command = Command::new("unshare");
    command.args(["--user", "--", env!("CARGO_BIN_EXE_toctoc"), "check"]);
    let output = command.arg(&path).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("cannot be read: Permission denied"), "{said}");
}

#[test]
fn ten_megabytes_of_garbage_are_refused_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("policy.toml");
    let garbage: Vec<u8> = (0u32..10 << 20)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    fs::write(&path, garbage).unwrap();
    let (code, said) = refused(&path);
    assert_eq!(code, Some(2));
    assert!(said.contains("larger than 8 MiB"), "{said}");
}

#[test]
fn garbage_below_the_limit_is_refused_shortly() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("policy.toml");
    let garbage: String = (0u32..300_000)
        .map(|i| char::from(b' ' + (i.wrapping_mul(2_654_435_761) >> 25) as u8 % 95))
        .collect();
    for text in [
        garbage.clone(),
        garbage.replace('a', "\n"),
        "[".repeat(300_000),
        "\n[a]".repeat(100_000),
    ] {
        fs::write(&path, text).unwrap();
        let (code, said) = refused(&path);
        assert_eq!(code, Some(1));
        assert!(said.len() < 60_000, "{} bytes of message", said.len());
    }
}

#[test]
fn a_nul_byte_is_shown_harmlessly() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("policy.toml");
    fs::write(&path, "[door.ssh]\nports = [2\x002]\n").unwrap();
    let (code, said) = refused(&path);
    assert_eq!(code, Some(1));
    assert!(said.contains("policy.toml:2:"), "{said}");
    assert!(!said.contains('\0'));
}

#[test]
fn a_byte_that_is_no_text_has_its_place() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("policy.toml");
    fs::write(&path, b"[door.ssh]\nports = [22] # caf\xe9\n").unwrap();
    let (code, said) = refused(&path);
    assert_eq!(code, Some(1));
    assert!(said.contains("the byte 0xe9 is not UTF-8"), "{said}");
    assert!(said.contains("policy.toml:2:19"), "{said}");
}
