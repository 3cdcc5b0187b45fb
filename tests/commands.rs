//! The command line as a contract: exit status, where output goes, what is said without rights.

use std::fs;
use std::io::Read;
use std::process::{Command, Output, Stdio};

fn toctoc(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_toctoc"));
    command.args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

const EXAMPLE: &str = "examples/one-server.toml";

#[test]
fn yes_is_0_no_is_1_could_not_is_2() {
    assert_eq!(toctoc(&["check", EXAMPLE]).status.code(), Some(0));
    let broken = "tests/golden/broken/port-zero.toml";
    for command in ["check", "render", "apply", "status", "explain"] {
        let output = toctoc(&[command, broken]);
        assert_eq!(output.status.code(), Some(1), "{command}");
        assert!(text(&output.stderr).contains("no port is 0"), "{command}");
        assert!(output.stdout.is_empty(), "{command}");
        let output = toctoc(&[command, "/nowhere.toml"]);
        assert_eq!(output.status.code(), Some(2), "{command}");
    }
    for wrong in [
        &["chek"][..],
        &["check", "a", "b"],
        &["knock"],
        &["--bogus"],
        &["open", "ssh"],
    ] {
        assert_eq!(toctoc(wrong).status.code(), Some(2), "{wrong:?}");
    }
}

#[test]
fn plain_toctoc_shows_the_status_of_the_usual_policy() {
    let plain = toctoc(&[]);
    let status = toctoc(&["status", "/etc/toctoc/policy.toml"]);
    assert_eq!(plain.status.code(), status.status.code());
    assert_eq!(plain.stderr, status.stderr);
}

#[test]
fn output_that_nobody_reads_is_no_error() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_toctoc"))
        .args(["render", EXAMPLE])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut said = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    assert_eq!((child.wait().unwrap().code(), said.as_str()), (Some(0), ""));
}

#[test]
fn errors_have_no_colour_in_a_pipe() {
    let output = toctoc(&["check", "tests/golden/broken/port-zero.toml"]);
    assert!(!output.stderr.contains(&0x1b));
}

#[test]
fn help_fits_a_screen() {
    for command in [
        "check", "apply", "status", "open", "close", "knock", "explain", "demo", "remove",
    ] {
        let help = text(&toctoc(&[command, "--help"]).stdout);
        assert!(help.lines().count() <= 30, "{command}: {help}");
    }
    let help = text(&toctoc(&["--help"]).stdout);
    assert!(help.lines().count() <= 40, "{help}");
}

/// An ordinary user, to whom the kernel shows nothing: he is told so, and what to do.
#[test]
fn without_rights_it_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("toctoc");
    fs::copy(env!("CARGO_BIN_EXE_toctoc"), &program).unwrap();
    let policy = directory.path().join("policy.toml");
    fs::copy(EXAMPLE, &policy).unwrap();
    let program = program.to_str().unwrap();
    let policy = policy.to_str().unwrap();
    // Root of a user namespace has no right to the firewall outside of it.
    for arguments in [
        &["status", policy][..],
        &["apply", policy],
        &["open", "ssh", "192.0.2.7"],
        &["close"],
        &["remove"],
    ] {
        let output = Command::new("unshare")
            .args(["--user", "--map-root-user", "--", program])
            .args(arguments)
            .output()
            .unwrap();
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.contains("try with sudo"), "{arguments:?}: {said}");
    }
}

/// The demo as a person without rights runs it, and that it leaves nothing behind.
#[test]
fn the_demo_tells_what_is_so() {
    let namespaces = || {
        let listing = Command::new("lsns")
            .args(["-t", "net", "-n", "-o", "COMMAND"])
            .output()
            .unwrap();
        let listing = text(&listing.stdout);
        listing
            .lines()
            .filter(|line| line.contains("toctoc demo"))
            .count()
    };
    let output = if rustix::process::geteuid().is_root() && fs::metadata("/proc/1/root").is_ok() {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(
            directory.path(),
            std::os::unix::fs::PermissionsExt::from_mode(0o755),
        )
        .unwrap();
        let program = directory.path().join("toctoc");
        fs::copy(env!("CARGO_BIN_EXE_toctoc"), &program).unwrap();
        let nobody = ["--reuid=65534", "--regid=65534", "--clear-groups", "--"];
        Command::new("setpriv")
            .args(nobody)
            .arg(program)
            .arg("demo")
            .output()
            .unwrap()
    } else {
        toctoc(&["demo"])
    };
    let said = text(&output.stdout);
    assert_eq!(
        output.status.code(),
        Some(0),
        "{said}{}",
        text(&output.stderr)
    );
    for told in [
        "wrong order",
        "The right order",
        "by yves",
        "lives on",
        "closed again",
    ] {
        assert!(said.contains(told), "{told} is missing in: {said}");
    }
    assert_eq!(namespaces(), 0);
}
