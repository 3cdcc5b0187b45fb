//! Broken policy files: each is refused with the message beside it, and none does harm.
//!
//! `SNAPSHOTS=overwrite cargo test --test policies` writes the messages anew; read them then.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use toctoc::automaton::Automaton;
use toctoc::model::{Model, Outcome};
use toctoc::policy;
use toctoc::trace::Packet;

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
    assert!(said.contains("only root can read"), "{said}");
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

/// `[x, a, b, y]` and `[a, b, z]`: after `a b` each of the first can go on as each of the second.
fn shared_middles(keys: u16) -> String {
    let mut text = String::from("[door.ssh]\nports = [22]\n");
    for i in 0..keys {
        let (x, y, z) = (10_000 + i, 60_000 - i, 30_000 + i);
        text += &format!("[key.x{i}]\nopens = [\"ssh\"]\nsequence = [{x}, 7, 5, {y}]\n");
        text += &format!("[key.z{i}]\nopens = [\"ssh\"]\nsequence = [7, 5, {z}]\n");
    }
    text
}

#[test]
fn sequences_that_multiply_are_refused_at_once() {
    let start = Instant::now();
    let report = policy::read("p.toml", &shared_middles(8_000)).expect_err("64 million steps");
    snapbox::Assert::new()
        .action_env("SNAPSHOTS")
        .normalize_paths(false)
        .eq(
            format!("{report}\n"),
            snapbox::Data::read_from(Path::new("tests/golden/too-many-steps.txt"), None).raw(),
        );
    assert!(start.elapsed() < Duration::from_secs(20));
    policy::read("p.toml", &shared_middles(300)).expect("90,000 steps");
}

/// Five ports each, at random, half of them with the same first knock.
#[test]
fn ten_thousand_ordinary_keys_are_fine() {
    let mut text = String::from("[door.ssh]\nports = [22]\n");
    let mut random = 1u64;
    for key in 0..10_000 {
        // Odd and even in turn: no port comes twice in a row.
        let mut port = |odd: u64| {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            1000 + (random >> 33) % 30_000 * 2 + odd
        };
        let first = if key % 2 == 0 { 443 } else { port(1) };
        let rest = [port(0), port(1), port(0), port(1)];
        text += &format!(
            "[key.k{key}]\nopens = [\"ssh\"]\nsequence = [{first}, {}, {}, {}, {}]\n",
            rest[0], rest[1], rest[2], rest[3]
        );
    }
    let policy = policy::read("p", &text).map_err(|report| report.to_string());
    let policy = policy.unwrap();
    let (most, _) = Automaton::size(policy.sequences());
    let built = Automaton::build(policy.sequences()).table().count() as u64;
    // Done states have echoes of their own.
    assert!(
        (built - 10_000..=built).contains(&most),
        "{most}, really {built}"
    );
    assert!(most < 200_000, "{most}");
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
    fs::write(&path, b"[door.ssh]\nports = [22] # caf\xe9 and more\n").unwrap();
    let (code, said) = refused(&path);
    assert_eq!(code, Some(1));
    assert!(said.contains("the byte 0xe9 is not UTF-8"), "{said}");
    assert!(said.contains("policy.toml:2:19"), "{said}");
    assert!(said.contains(" ^ not text"), "{said}");
}

/// The room of the kernel's lists is asked of the host, and only with iptables.
#[test]
fn more_sources_than_a_list_holds_are_refused_with_iptables() {
    let text = "max_sources = 300\n[door.ssh]\nports = [22]\n";
    let read = |backend, room| {
        let host = policy::Host {
            backend: Some(backend),
            ip_list_tot: room,
            ..policy::Host::default()
        };
        policy::read_for("p", text, &host)
    };
    let refused = read(policy::Backend::Iptables, Some(100))
        .unwrap_err()
        .to_string();
    assert!(
        refused.contains("lists hold 100 sources, not 300"),
        "{refused}"
    );
    for room in [300, 1000] {
        let fits = read(policy::Backend::Iptables, Some(room)).unwrap();
        assert_eq!(fits.max_sources, room);
    }
    assert_eq!(
        read(policy::Backend::Nftables, Some(100))
            .unwrap()
            .max_sources,
        300
    );
}

/// Sequences that lie close together, with doors and ignored ports among them: what the check accepts is
/// opened by no sweep, and the judge of that is the model. Of what it refuses, some sweep opens it.
#[test]
fn no_sweep_opens_what_the_check_accepts() {
    let mut random = 7u64;
    let mut below = |most: u64| {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % most
    };
    let (mut accepted, mut refused) = (0, 0);
    for _ in 0..240 {
        let mut port = 30_000;
        let mut sequence = Vec::new();
        let udp = below(3);
        let step = below(5) + 1;
        for _ in 0..2 + below(3) {
            port += [1, 2, step, step, below(9)][below(5) as usize];
            sequence.push(match udp {
                0 if below(2) == 0 => format!("\"{port}/udp\""),
                _ => port.to_string(),
            });
        }
        if below(3) == 0 {
            sequence.reverse();
        }
        let (ignored, door) = (30_000 + below(12), 30_000 + below(12));
        let text = format!(
            "ignore = [{ignored}]\n[door.d]\nports = [{door}]\n[key.k]\nopens = [\"d\"]\nsequence = [{}]\n",
            sequence.join(", ")
        );
        match policy::read("p.toml", &text) {
            Ok(policy) => {
                accepted += 1;
                assert_eq!(opened_by_a_sweep(&policy), None, "{text}");
            }
            Err(report) if report.to_string().contains("sweep") => {
                refused += 1;
                let rest = text.split_once("[key.k]").unwrap().0;
                let mut policy = policy::read("p.toml", rest).unwrap();
                let knocks = sequence.iter().map(|knock| knock.trim_matches('"').parse());
                policy.keys.push(policy::Key {
                    name: policy::Name::new("k").unwrap(),
                    opens: vec![policy::Opening {
                        door: policy::DoorIndex(0),
                        open_for: Duration::from_secs(60),
                    }],
                    kind: policy::KeyKind::Sequence(knocks.collect::<Result<_, _>>().unwrap()),
                    ping: false,
                    once: false,
                    expires: None,
                });
                assert!(opened_by_a_sweep(&policy).is_some(), "{text}{report}");
            }
            Err(_) => {}
        }
    }
    assert!(accepted > 50 && refused > 20, "{accepted} {refused}");
}

/// The sweep that opens a door: up or down, over TCP, UDP or both, and evenly stepped ones for sequences
/// of three knocks or more (any two are evenly spaced).
fn opened_by_a_sweep(policy: &policy::Policy) -> Option<String> {
    use toctoc::knock::{Knock, Protocol::*};
    let long = policy.keys[0].sequences()[0].len() > 2;
    let steps = if long { 9 } else { 1 };
    for protocols in [&[Tcp][..], &[Udp], &[Tcp, Udp], &[Udp, Tcp]] {
        for (step, down) in (1..=steps).flat_map(|step| [(step, false), (step, true)]) {
            // Steps of more than one are swept over one protocol.
            if step > 1 && protocols.len() > 1 {
                continue;
            }
            for start in 29_990..29_990 + step {
                let mut ports: Vec<u16> = (start..30_060).step_by(step).map(|p| p as u16).collect();
                if down {
                    ports.reverse();
                }
                let mut model = Model::new(policy, 0);
                let knocks = ports
                    .iter()
                    .flat_map(|&port| protocols.iter().filter_map(move |&p| Knock::new(p, port)));
                for to in knocks {
                    let source = [192, 0, 2, 7].into();
                    let at = Duration::ZERO;
                    if let Outcome::Opens(_) = model.packet(Packet {
                        at,
                        source,
                        host: None,
                        to,
                    }) {
                        return Some(format!("{protocols:?} in steps of {step}, down: {down}"));
                    }
                }
            }
        }
    }
    None
}

fn read_for_iptables(text: &str) -> Result<policy::Policy, String> {
    let host = policy::Host {
        backend: Some(policy::Backend::Iptables),
        ..policy::Host::default()
    };
    policy::read_for("p", text, &host).map_err(|report| report.to_string())
}

/// The last keys that iptables takes, and one right too many.
#[test]
fn iptables_compares_so_many_names_and_no_more() {
    let policy = |open_both: usize| {
        let mut text = String::from("[door.a]\nports = [22]\n[door.b]\nports = [23]\n");
        for key in 0..41 {
            let opens = if key < open_both { "'a', 'b'" } else { "'a'" };
            let ports = (0..16).map(|i| 1024 + (key * 5489 + i * 7919) % 60_000);
            let ports: Vec<usize> = ports.collect();
            text += &format!("[key.k{key}]\nopens = [{opens}]\nsequence = {ports:?}\n");
        }
        read_for_iptables(&text)
    };
    assert!(policy(22).is_ok());
    let refused = policy(23).unwrap_err();
    assert!(refused.contains("compare 25016 names"), "{refused}");
}

/// The last second that iptables can name.
#[test]
fn iptables_knows_no_later_second() {
    let policy = |expires: &str| {
        read_for_iptables(&format!(
            "[door.ssh]\nports = [22]\n[key.k]\nopens = ['ssh']\nsequence = [443, 2387, 920]\n\
             expires = {expires}\n"
        ))
    };
    let key = policy("2038-01-19T03:14:07Z").unwrap().keys.remove(0);
    assert_eq!(key.expires, Some(i64::from(i32::MAX)));
    let refused = policy("2038-01-19T03:14:08Z").unwrap_err();
    assert!(
        refused.contains("no date after 19 January 2038"),
        "{refused}"
    );
}

#[test]
fn a_sequence_may_be_as_long_as_that() {
    let ports: Vec<usize> = (0..32).map(|i| 1024 + i * 7919 % 60_000).collect();
    let text =
        format!("[door.ssh]\nports = [22]\n[key.k]\nopens = ['ssh']\nsequence = {ports:?}\n");
    let key = policy::read("p", &text).unwrap().keys.remove(0);
    assert_eq!(key.sequences()[0].len(), policy::LONGEST_SEQUENCE);
}

#[test]
fn a_policy_may_come_through_a_pipe() {
    for (text, code) in [("[door.ssh]\nports = [22]\n", 0), ("[door.ssh]\n", 1)] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_toctoc"))
            .args(["check", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(text.as_bytes())
            .unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(code));
    }
}

#[test]
fn a_policy_may_be_as_large_as_that() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("policy.toml");
    let mut text = String::from("[door.ssh]\nports = [22]\n# ");
    text += &"x".repeat(usize::try_from(policy::LARGEST_FILE).unwrap() - text.len());
    for code in [Some(0), Some(2)] {
        fs::write(&path, &text).unwrap();
        assert_eq!(check(&path).status.code(), code);
        text.push('x');
    }
}

/// The shortest and the longest time, and the next ones.
#[test]
fn times_have_limits() {
    for (setting, fits, too) in [
        ("within", "100ms", "99ms"),
        ("within", "1h", "1h 1ms"),
        ("open_for", "1s", "999ms"),
        ("open_for", "30d", "30d 1ms"),
        ("token_horizon", "1h", "59m"),
        ("token_horizon", "24h", "24h 1s"),
    ] {
        let read = |time| {
            let text = format!("{setting} = \"{time}\"\n[door.ssh]\nports = [22]\n");
            policy::read("p", &text)
        };
        assert!(read(fits).is_ok(), "{setting} {fits}");
        let refused = read(too).unwrap_err().to_string();
        assert!(refused.contains("is too "), "{refused}");
    }
}

#[test]
fn a_group_is_written_in_digits() {
    let read = |group| {
        let text = format!("log = \"nflog:{group}\"\n[door.ssh]\nports = [22]\n");
        policy::read("p", &text).map(|policy| policy.log)
    };
    assert_eq!(read("5").unwrap(), policy::Log::Nflog(5));
    for group in ["", "+5", "-1", "5 ", "0x5", "65536"] {
        let refused = read(group).unwrap_err().to_string();
        assert!(refused.contains("is not an NFLOG group"), "{refused}");
    }
}

#[test]
fn a_moment_is_told_with_its_offset() {
    let expires = |moment: &str| {
        let text = format!(
            "[door.ssh]\nports = [22]\n[key.k]\nopens = ['ssh']\nsequence = [443, 2387, 920]\n\
             expires = {moment}\n"
        );
        policy::read("p", &text)
            .unwrap()
            .keys
            .remove(0)
            .expires
            .unwrap()
    };
    let utc = expires("2027-01-31T18:07:09Z");
    assert_eq!(utc, 1_801_418_829);
    assert_eq!(expires("2027-01-31T20:37:09+02:30"), utc);
    assert_eq!(expires("2027-01-31T13:07:09-05:00"), utc);
    assert_eq!(expires("2027-01-31"), 1_801_440_000);
}

#[test]
fn a_hundred_hosts_may_be_trusted_by_name() {
    let policy = |count: usize| {
        let names: Vec<String> = (0..count)
            .map(|n| format!("\"h{n}.example.org\""))
            .collect();
        format!("[door.a]\nports = [22]\ntrust = [{}]\n", names.join(", "))
    };
    assert!(toctoc::policy::read("p", &policy(100)).is_ok());
    let report = toctoc::policy::read("p", &policy(101)).unwrap_err();
    assert!(format!("{report:?}").contains("more than 100 hosts are trusted by name"));
}
