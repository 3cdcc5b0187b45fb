//! The command line as a contract: exit status, where output goes, what is said without rights.

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

fn toctoc(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_toctoc"));
    command.args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Copies a program by another process. A child of another test would hold a file open that this one writes, and the kernel
/// starts no program that somebody writes.
fn copy_program(from: &str, to: &Path) {
    let copied = Command::new("cp").arg(from).arg(to).status().unwrap();
    assert!(copied.success());
}

const EXAMPLE: &str = "examples/one-server.toml";

#[test]
fn yes_is_0_no_is_1_could_not_is_2() {
    let check = toctoc(&["check", "--elsewhere", EXAMPLE]);
    assert_eq!(check.status.code(), Some(0));
    let broken = "tests/golden/broken/port-zero.toml";
    for command in ["check", "render", "draw", "apply", "status", "explain"] {
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

/// Sentences that somebody can use: a key that is weak, one that nobody guesses, and one that everybody knows.
#[test]
fn check_says_how_hard_a_key_is_to_guess() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("policy.toml");
    let policy = "[door.ssh]\nports = [22]\n\
        [key.weak]\nopens = [\"ssh\"]\nsequence = [29011, 21013, 24007]\n\
        [key.strong]\nopens = [\"ssh\"]\nsequence = [29411, 21313, 24407, 61, 30011, 25001]\n\
        [key.known]\nopens = [\"ssh\"]\nsequence = [4431, 2387, 920, 18357, 50]\n";
    fs::write(&path, policy).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let said = text(&toctoc(&["check", "--elsewhere", path.to_str().unwrap()]).stdout);
    for line in [
        "weak         guessing it takes 4459 years at 1,000 packets a second, 4 years at a million (47 bits)",
        "strong       nobody guesses it: a million packets a second take more than a million years (90 bits)",
        "known        everybody can read its sequence",
    ] {
        assert!(said.contains(line), "{said}");
    }
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

/// A policy that others can read is warned of, and its errors and answers stay what they are.
#[test]
fn a_policy_that_others_can_read_is_warned_of() {
    let directory = tempfile::tempdir().unwrap();
    let policy = directory.path().join("policy.toml");
    fs::copy(EXAMPLE, &policy).unwrap();
    let check = |mode: u32| {
        fs::set_permissions(&policy, fs::Permissions::from_mode(mode)).unwrap();
        let output = toctoc(&["check", policy.to_str().unwrap()]);
        // Who can change it makes the policy: `apply` refuses that.
        let refused = mode & 0o022 != 0;
        assert_eq!(output.status.code(), Some(i32::from(refused)));
        assert!(text(&output.stdout).contains("no errors"));
        text(&output.stderr)
    };
    for (mode, shown) in [(0o644, "0644"), (0o640, "0640"), (0o604, "0604")] {
        let said = check(mode);
        let told = format!("can be read or changed by others (mode {shown})");
        assert!(said.contains(&told) && said.contains("chmod 600"), "{said}");
    }
    for mode in [0o600, 0o400] {
        assert!(!check(mode).contains("can be read"));
    }
    // Without a sequence there is no secret in it.
    fs::write(&policy, "[door.ssh]\nports = [22]\n").unwrap();
    assert!(!check(0o644).contains("can be read"));
}

/// Somebody with the key's secret, or the engine's password, could sign for the hosts.
#[test]
fn the_secret_of_a_fleet_is_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path.display().to_string()
    };
    let secret = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
    let other = secret.replace("1e1f", "1e20");
    for (fleet, password, key, wrong) in [
        (secret, "correct-horse", &*other, None),
        (
            secret,
            "correct-horse",
            secret,
            Some("the fleet and `alice` have the same secret"),
        ),
        (
            secret,
            secret,
            &other,
            Some("the secret is the engine's password"),
        ),
        (
            "correct-horse",
            "correct-horse",
            &other,
            Some("copy it from another host of the fleet"),
        ),
    ] {
        file("fleet.secret", fleet);
        file("fleet.password", password);
        file("alice.secret", key);
        let policy = file(
            "policy.toml",
            "token_port = 20123\n[fleet]\nurl = \"redis://192.0.2.10\"\nname = \"a\"\nshare = [\"ssh\"]\n\
             password = \"fleet.password\"\nsecret = \"fleet.secret\"\n[door.ssh]\nports = [22]\n\
             [key.alice]\nopens = [\"ssh\"]\ntoken = \"alice.secret\"\n",
        );
        let output = toctoc(&["check", &policy]);
        let said = text(&output.stderr) + &text(&output.stdout);
        assert_eq!(output.status.success(), wrong.is_none(), "{said}");
        assert!(said.contains(wrong.unwrap_or("no errors")), "{said}");
        assert!(!said.contains(secret), "{said}");
    }
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
    assert!(help.lines().count() <= 48, "{help}");
}

/// An ordinary user, to whom the kernel shows nothing: he is told so, and what to do.
#[test]
fn without_rights_it_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("toctoc");
    copy_program(env!("CARGO_BIN_EXE_toctoc"), &program);
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

/// An ordinary user, and a policy that is root's alone: one sentence says what root is needed for.
#[test]
fn an_ordinary_user_is_told_that_root_is_needed() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("toctoc");
    copy_program(env!("CARGO_BIN_EXE_toctoc"), &program);
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let policy = directory.path().join("policy.toml");
    fs::copy(EXAMPLE, &policy).unwrap();
    let path = policy.to_str().unwrap();
    for mode in [0o600, 0o644] {
        fs::set_permissions(&policy, fs::Permissions::from_mode(mode)).unwrap();
        for command in [
            &["check"][..],
            &["apply"],
            &["apply", "--dry-run"],
            &["key", "list"],
            &["key", "new", "anna", "--host", "192.0.2.1"],
            &["log"],
            &["watch", "--json"],
            &["status"],
            &["draw"],
        ] {
            let is_for_all = ["check", "key", "draw"].contains(&command[0]);
            if mode == 0o644 && is_for_all {
                continue;
            }
            let output = Command::new("setpriv")
                .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
                .arg(&program)
                .args(command)
                .arg(path)
                .output()
                .unwrap();
            let said = text(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{command:?}: {said}");
            assert!(!said.contains("os error"), "{command:?}: {said}");
            let first = said.lines().next().unwrap();
            assert!(
                first.contains("root") && first.contains("try with sudo"),
                "{command:?}: {said}"
            );
            let is_short = |line: &str| {
                line.ends_with("not changed")
                    || line.ends_with("nothing was changed")
                    || line.contains("try with sudo")
            };
            let more = said.lines().skip(1).all(is_short);
            assert!(more, "{command:?}: {said}");
        }
    }
}

/// Starts the demo as a person without rights does.
fn demo() -> Child {
    let program = env!("CARGO_BIN_EXE_toctoc");
    Command::new("unshare")
        .args([
            "--user",
            "--map-user=1000",
            "--map-group=1000",
            "--",
            program,
            "demo",
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// The processes that hold the namespaces of a demo, by the name they are given.
fn holders(demo: u32) -> usize {
    let name = format!("toctoc-lab-{demo}");
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let commands = processes.filter_map(|p| fs::read(p.path().join("cmdline")).ok());
    commands
        .filter(|command| text(command).split('\0').any(|word| word == name))
        .count()
}

#[test]
fn the_demo_tells_what_is_so_and_leaves_nothing_behind() {
    let child = demo();
    let id = child.id();
    let output = child.wait_with_output().unwrap();
    let said = text(&output.stdout);
    let complaints = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}{complaints}");
    for told in [
        "wrong order",
        "The right order",
        "by yves",
        "lives on",
        "closed again",
    ] {
        assert!(said.contains(told), "{told} is missing in: {said}");
    }
    assert_eq!(holders(id), 0);
    // The picture in the README is of such a run, but for the times.
    let picture = fs::read_to_string("docs/demo.svg").unwrap();
    let lines = picture.lines().filter(|line| line.starts_with("<text"));
    let pictured = lines.skip(1).map(|line| {
        let text = line.split_once('>').unwrap().1.strip_suffix("</text>");
        text.unwrap()
            .replace("&gt;", ">")
            .replace("&lt;", "<")
            .replace("&amp;", "&")
    });
    let timeless = |line: &str| match line.split_once(" ms after") {
        Some((before, after)) => {
            let before = before.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
            format!("{before}TIME ms after{after}")
        }
        None => line.replace(" 1s left,", " 2s left,"),
    };
    let pictured: Vec<String> = pictured.map(|line| timeless(&line)).collect();
    let told: Vec<String> = said.lines().map(timeless).collect();
    assert_eq!(pictured, told, "`make picture` draws it anew");
}

#[test]
fn a_killed_demo_leaves_nothing_behind_either() {
    let mut child = demo();
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut [0; 100]).unwrap();
    assert_eq!(holders(child.id()), 2);
    child.kill().unwrap();
    child.wait().unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while holders(child.id()) > 0 {
        assert!(Instant::now() < deadline, "namespaces are still held");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Where there is no policy yet, the next step is told.
#[test]
fn a_new_user_is_told_where_to_begin() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("policy.toml").display().to_string();
    for command in [
        &["apply"][..],
        &["apply", "--confirm", "1m"],
        &["apply", "--dry-run"],
        &["status"],
        &["check"],
        &["key", "new", "phone"],
        &["key", "list"],
    ] {
        let output = toctoc(&[command, &[path.as_str()]].concat());
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{command:?}: {said}");
        for words in ["toctoc init", "/etc/toctoc/policy.toml", "next: "] {
            assert!(said.contains(words), "{command:?}: {said}");
        }
        assert!(!said.contains("os error"), "{command:?}: {said}");
    }
}

/// A policy that others can write to, or replace, is theirs: it is refused before anything is changed.
#[test]
fn a_policy_that_others_can_change_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let home = directory.path().join("toctoc");
    fs::create_dir(&home).unwrap();
    let policy = home.join("policy.toml");
    fs::copy(EXAMPLE, &policy).unwrap();
    let path = policy.to_str().unwrap();
    for (of_file, of_home, refused) in [
        (0o602, 0o700, true),
        (0o660, 0o700, true),
        (0o600, 0o777, true),
        (0o600, 0o720, true),
        (0o600, 0o700, false),
        (0o600, 0o1777, false),
    ] {
        fs::set_permissions(&policy, fs::Permissions::from_mode(of_file)).unwrap();
        fs::set_permissions(&home, fs::Permissions::from_mode(of_home)).unwrap();
        let before = fs::read_to_string(&policy).unwrap();
        for command in [
            &["apply", "--dry-run", path][..],
            &[
                "key",
                "new",
                "anna",
                "--sequence",
                "5",
                "--host",
                "192.0.2.1",
                path,
            ],
            &["key", "revoke", "yves", path],
        ] {
            if !refused && command[0] == "key" {
                continue;
            }
            let output = toctoc(command);
            let said = text(&output.stderr);
            let is_told = said.contains("others") && said.contains("chmod");
            assert_eq!(
                is_told, refused,
                "{command:?} {of_file:o} {of_home:o}: {said}"
            );
            if refused {
                assert_eq!(output.status.code(), Some(1), "{said}");
                assert!(
                    said.contains("not changed") || said.contains("nothing was changed"),
                    "{said}"
                );
            }
        }
        assert_eq!(fs::read_to_string(&policy).unwrap(), before);
        // It may be read, for another host too.
        let check = toctoc(&["check", "--elsewhere", path]);
        assert_eq!(check.status.code(), Some(0));
        assert_eq!(text(&check.stderr).contains("refuses this policy"), refused);
        for more in [&[][..], &["--json"]] {
            let check = toctoc(&[&["check", path], more].concat());
            let (told, said) = (text(&check.stderr), text(&check.stdout));
            assert_eq!(
                check.status.code(),
                Some(i32::from(refused)),
                "{told}{said}"
            );
            // Once, not twice in two wordings.
            assert_eq!(
                told.matches("chmod").count(),
                usize::from(refused),
                "{told}"
            );
            assert!(!said.contains("no errors\n") || !refused, "{said}");
            assert_eq!(
                said.contains("\"refused\": null"),
                !refused && !more.is_empty()
            );
        }
    }
    fs::set_permissions(&home, fs::Permissions::from_mode(0o700)).unwrap();
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(&home, Some(65_534), None).unwrap();
        let check = toctoc(&["check", path]);
        assert_eq!(check.status.code(), Some(1));
        let told = text(&check.stderr);
        assert!(told.contains("belongs to another user (65534)"), "{told}");
        let dry = toctoc(&["apply", "--dry-run", path]);
        assert_eq!(dry.status.code(), Some(1));
        let told = text(&dry.stderr);
        assert!(
            told.starts_with("toctoc: apply would refuse this: "),
            "{told}"
        );
    }
}

/// Root of nothing: in a user namespace that maps nobody.
#[test]
fn a_trial_is_for_root() {
    for command in ["confirm", "rollback"] {
        let mut run = Command::new("unshare");
        run.args(["--user", "--", env!("CARGO_BIN_EXE_toctoc"), command]);
        let output = run.output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{command}");
        let (said, told) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(said, "");
        assert_eq!(
            told,
            format!("toctoc: {command} needs root (try with sudo)\n")
        );
    }
}

/// The key that is there is the first thing to know of; its profile is only a consequence.
#[test]
fn a_name_that_is_taken_is_told_before_its_profile() {
    let directory = tempfile::tempdir().unwrap();
    let policy = directory.path().join("policy.toml");
    fs::copy(EXAMPLE, &policy).unwrap();
    fs::set_permissions(&policy, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(directory.path().join("yves.profile.toml"), "").unwrap();
    let path = policy.to_str().unwrap();
    for kind in [&["--sequence", "5"][..], &["--scratch", "2"], &["--token"]] {
        let own = ["key", "new", "yves", "--host", "192.0.2.1", path];
        let output = toctoc(&[&own[..], kind].concat());
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(told.contains("there is a key yves already"), "{told}");
        assert!(
            told.contains("nothing was changed") && !told.contains("profile"),
            "{told}"
        );
    }
}

/// A client that knocks at a host behind needs a door that hears it there, and tries the port of that door.
#[test]
fn a_key_for_a_door_behind_is_told_where_knocks_are_heard() {
    let directory = tempfile::tempdir().unwrap();
    let policy = directory.path().join("policy.toml");
    let path = policy.to_str().unwrap();
    let new = |name: &str, knock_at: &str, host: &str| {
        let text = format!(
            "[door.ssh]\nports = [22]\n[door.nas]\nports = [5000]\nto = [\"198.51.100.50\"]\n{knock_at}\n"
        );
        fs::write(&policy, text).unwrap();
        fs::set_permissions(&policy, fs::Permissions::from_mode(0o600)).unwrap();
        let arguments = ["key", "new", name, "--sequence", "5", "--opens", "nas"];
        let output = Command::new(env!("CARGO_BIN_EXE_toctoc"))
            .args(arguments)
            .args(["--host", host, path])
            .output()
            .unwrap();
        let told = self::text(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{told}");
        let profile = directory.path().join(format!("{name}.profile.toml"));
        let profile = fs::read_to_string(profile).unwrap();
        (told, profile.contains("door = 5000\n"))
    };
    const DEAF: &str = "no knocks are heard at 198.51.100.50: add `knock_at = \"both\"` to door `nas`, or name an \
                        address of this host (`--host`)";
    let both = "knock_at = \"both\"";
    for (number, knock_at, host, deaf, has_door) in [
        (1, "", "198.51.100.50", true, true),
        (2, both, "198.51.100.50", false, true),
        (3, "", "192.0.2.1", false, false),
        (4, both, "192.0.2.1", false, false),
        (5, "", "nas.example.org", false, false),
    ] {
        let (told, door) = new(&format!("dora{number}"), knock_at, host);
        assert_eq!(told.contains(DEAF), deaf, "{host} {knock_at}: {told}");
        assert_eq!(door, has_door, "{host} {knock_at}");
    }
}

/// The program of the fleet is a package of its own: `toctoc fleet` becomes it, and says so where it is not.
#[test]
fn the_fleet_is_another_program() {
    // A link: while another test starts a program, a copy may count as being written.
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let program = directory.path().join("toctoc");
    fs::hard_link(env!("CARGO_BIN_EXE_toctoc"), &program).unwrap();
    let fleet = |arguments: &[&str]| {
        let output = Command::new(&program)
            .arg("fleet")
            .args(arguments)
            .output()
            .unwrap();
        let said = text(&output.stdout) + &text(&output.stderr);
        (output.status.code(), said)
    };
    let (code, said) = fleet(&["some.toml"]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("install the package toctoc-fleet"), "{said}");
    // Help is here in any case, and so is what no program takes.
    assert!(fleet(&["--help"]).1.contains("--new-secret"));
    assert!(fleet(&["--bogus"]).1.contains("unexpected argument"));
    let other = directory.path().join("toctoc-fleet");
    fs::write(&other, "").unwrap();
    let (code, said) = fleet(&["some.toml"]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("toctoc-fleet cannot be started"), "{said}");
    fs::remove_file(&other).unwrap();
    std::os::unix::fs::symlink("/bin/echo", &other).unwrap();
    let (code, said) = fleet(&["a policy.toml", "--new-secret", "x"]);
    assert_eq!((code, &*said), (Some(0), "a policy.toml --new-secret x\n"));
    assert_eq!(fleet(&[]), (Some(0), "\n".to_string()));
    fs::remove_file(&other).unwrap();
    std::os::unix::fs::symlink("/bin/false", &other).unwrap();
    assert_eq!(fleet(&[]), (Some(1), String::new()));
}

/// The agent runs as root: a program that others can change or replace is not started. One of the user's own is.
#[test]
fn a_program_of_the_fleet_that_others_can_change_is_not_started() {
    use std::os::unix::fs::{PermissionsExt, chown, symlink};
    let home = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let directory = home.path().join("bin");
    fs::create_dir(&directory).unwrap();
    copy_program(env!("CARGO_BIN_EXE_toctoc"), &directory.join("toctoc"));
    let other = directory.join("toctoc-fleet");
    let elsewhere = home.path().join("elsewhere");
    let fleet = || {
        let mut command = Command::new(directory.join("toctoc"));
        let output = command.args(["fleet", "started"]).output().unwrap();
        let said = text(&output.stdout) + &text(&output.stderr);
        (output.status.code(), said)
    };
    let mode = |path: &std::path::Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    for place in [&other, &elsewhere] {
        let _ = fs::remove_file(&other);
        copy_program("/bin/echo", place);
        if place == &elsewhere {
            symlink(place, &other).unwrap();
        }
        for (of_file, of_directory, runs) in [
            (0o755, 0o755, true),
            (0o700, 0o700, true),
            (0o757, 0o755, false),
            (0o775, 0o755, false),
            (0o755, 0o777, false),
            (0o755, 0o775, false),
        ] {
            mode(place, of_file);
            mode(&directory, of_directory);
            let (code, said) = fleet();
            let at = format!("{of_file:o} {of_directory:o}: {said}");
            match runs {
                true => assert_eq!((code, &*said), (Some(0), "started\n"), "{at}"),
                false => {
                    assert_eq!(code, Some(2), "{at}");
                    assert!(said.contains("toctoc-fleet is not started: "), "{at}");
                    assert!(!said.contains("policy"), "{at}");
                }
            }
        }
        mode(place, 0o755);
        mode(&directory, 0o755);
        // Only root can give a file away.
        if chown(place, Some(1000), None).is_ok() {
            let (code, said) = fleet();
            assert_eq!(code, Some(2), "{said}");
            assert!(said.contains("belongs to another user (1000)"), "{said}");
        }
    }
}

/// What was meant is said, or what would be accepted; and nothing is done that cannot work.
#[test]
fn what_cannot_be_meant_is_refused_at_once() {
    let page = |url| {
        [
            "profile", "show", "server", "--as", "fragment", "--page", url,
        ]
    };
    for (arguments, wanted) in [
        (
            &["man", "fleeet"][..],
            "there is no page fleeet; did you mean fleet?",
        ),
        (&["knock", ""], "the name of the profile is empty"),
        (&["profile", "show", ""], "the name of the profile is empty"),
        (
            &["watch", "--exec", "/nowhere/program"],
            "is no program that can be run",
        ),
        (
            &["watch", "--exec", EXAMPLE],
            "is no program that can be run",
        ),
        (
            &["watch", "--exec", "no-such-program"],
            "is no program that can be run",
        ),
        (&page("https://"), "no address of a page"),
        (&page("https:///knock"), "no address of a page"),
        (&page("https://host:0/knock"), "no address of a page"),
        (&page("https://[fd00::1/knock"), "no address of a page"),
        (&page("ftp://host/knock"), "no address of a page"),
    ] {
        let output = toctoc(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let said = text(&output.stderr);
        assert!(said.contains(wanted), "{arguments:?}: {said}");
    }
    for url in [
        "https://host/knock",
        "https://[fd00::1]:8443/?a",
        "http://192.0.2.1",
    ] {
        let said = text(&toctoc(&page(url)).stderr);
        assert!(!said.contains("no address of a page"), "{url}: {said}");
    }
}
