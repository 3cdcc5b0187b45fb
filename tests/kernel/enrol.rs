//! `toctoc key` and `toctoc profile`: from nothing to an open door, and out again.

use std::os::unix::fs::PermissionsExt;

use toctoc::client::store::load;
use toctoc::client::{Door, Profile};
use toctoc::lab::CLIENT;

use crate::world::{World, on};

const TWO: &str = "# The gate.\n[door.ssh]\nports = [22] # the door\n\n[door.web]\nports = [443]\n";

fn world() -> World {
    let world = World::bare();
    std::fs::write(world.path(), TWO).unwrap();
    world.listen(22);
    world.listen(443);
    world
}

impl World {
    fn key(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let path = self.path().display().to_string();
        let output = self.toctoc(&[&["key"], arguments, &[path.as_str()]].concat());
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (
            output.status.code(),
            text(&output.stdout),
            text(&output.stderr),
        )
    }

    fn beside(&self, name: &str) -> std::path::PathBuf {
        self.path().with_file_name(name)
    }

    fn knock_with(&self, profile: &str) -> (Option<i32>, String) {
        let path = self.beside(profile).display().to_string();
        let ended = on(
            &self.lab.client,
            &[env!("CARGO_BIN_EXE_toctoc"), "knock", &path],
        );
        (ended.code, ended.stdout + &ended.stderr)
    }
}

#[test]
fn a_new_sequence_opens_and_a_revoked_one_does_not() {
    let world = world();
    let (code, said, error) = world.key(&[
        "new",
        "bob",
        "--opens",
        "ssh",
        "--sequence",
        "5",
        "--host",
        "192.0.2.1",
    ]);
    assert_eq!(code, Some(0), "{error}");
    assert!(said.contains("added key bob to "), "{said}");
    // The next step is one that can be typed.
    for step in [
        "there: toctoc profile import FILE bob\n",
        "remove it here when it is there: it holds the secret\n",
    ] {
        assert!(said.contains(step), "{said}");
    }
    let text = std::fs::read_to_string(world.path()).unwrap();
    assert!(text.starts_with(TWO), "{text}");
    world.yes(&["apply"]);
    assert_eq!(world.connect(CLIENT[0], 22), Door::Silent);
    let (code, said) = world.knock_with("bob.profile.toml");
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(world.connect(CLIENT[0], 22), Door::Open);
    assert_eq!(world.connect(CLIENT[0], 443), Door::Silent);
    let (code, said, error) = world.key(&["revoke", "bob"]);
    assert_eq!(code, Some(0), "{error}");
    assert!(said.contains("1 live grant ended"), "{said}");
    let path = world.beside("bob.profile.toml").display().to_string();
    assert!(said.contains(&format!("rm {path}")), "{said}");
    assert_eq!(std::fs::read_to_string(world.path()).unwrap(), TWO);
    assert_eq!(world.connect(CLIENT[0], 22), Door::Silent);
    let (code, _) = world.knock_with("bob.profile.toml");
    assert_eq!(code, Some(1));
}

#[test]
fn a_new_token_key_is_secret_and_goes_with_all_its_tokens() {
    let world = world();
    let (code, said, error) = world.key(&[
        "new",
        "alice",
        "--opens",
        "ssh",
        "--opens",
        "web",
        "--host",
        "192.0.2.1",
    ]);
    assert_eq!(code, Some(0), "{error}");
    for name in ["alice.secret", "alice.profile.toml"] {
        let mode = std::fs::metadata(world.beside(name))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let secret = std::fs::read_to_string(world.beside("alice.secret")).unwrap();
    assert!(!said.contains(secret.trim()));
    assert!(
        !std::fs::read_to_string(world.path())
            .unwrap()
            .contains(secret.trim())
    );
    world.yes(&["apply"]);
    // Nothing of a new secret can have been spent: it opens at once.
    let (code, said) = world.knock_with("alice.profile.toml");
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(world.connect(CLIENT[0], 443), Door::Open);
    let (_, listed, _) = world.key(&["list"]);
    assert_eq!(listed, "alice        token      opens ssh and web\n");
    let tokens = || {
        world
            .server(&["nft", "-j", "list", "map", "inet", "toctoc", "tokens"])
            .matches("0x")
            .count()
    };
    assert!(tokens() > 1400);
    // The administrator's tools show neither the secret nor what would open.
    for command in ["status", "check", "render"] {
        assert!(!world.yes(&[command]).contains(secret.trim()), "{command}");
    }
    let (code, said, _) = world.key(&["revoke", "alice"]);
    assert_eq!(code, Some(0));
    assert!(
        said.contains("removed ") && !world.beside("alice.secret").exists(),
        "{said}"
    );
    let listing = world.server(&["nft", "list", "table", "inet", "toctoc"]);
    assert!(!listing.contains("tokens"), "{listing}");
}

#[test]
fn scratch_sequences_are_shown_and_open_once_each() {
    let world = world();
    let (code, said, error) = world.key(&[
        "new",
        "paper",
        "--opens",
        "ssh",
        "--scratch",
        "3",
        "--host",
        "192.0.2.1",
    ]);
    assert_eq!(code, Some(0), "{error}");
    world.yes(&["apply"]);
    let shown = said.lines().filter(|line| line.starts_with("   "));
    let sequences: Vec<Vec<u16>> = shown
        .map(|line| {
            line.split_whitespace()
                .skip(1)
                .map(|port| port.parse().unwrap())
                .collect()
        })
        .collect();
    assert_eq!(sequences.len(), 3);
    let command = said.lines().last().unwrap().trim();
    let ended = world.client(&["bash", "-c", command]);
    assert!(ended.succeeded(), "{}", ended.stderr);
    assert_eq!(world.connect(CLIENT[0], 22), Door::Open);
    world.yes(&["close"]);
    world.client(&["bash", "-c", command]);
    assert_eq!(world.connect(CLIENT[0], 22), Door::Silent);
    for sequence in &sequences[1..] {
        world.knock(CLIENT[0], sequence);
        assert_eq!(world.connect(CLIENT[0], 22), Door::Open);
        world.yes(&["close"]);
    }
}

/// Keys that `key new` draws pass `check` without a word: short sequences and scratch ones too.
#[test]
fn a_new_key_is_one_that_check_does_not_warn_of() {
    let world = world();
    let new = |name: &str, more: &[&str]| {
        let own = [
            "new",
            name,
            "--opens",
            "ssh",
            "--opens",
            "web",
            "--host",
            "192.0.2.1",
        ];
        let (code, _, error) = world.key(&[&own[..], more].concat());
        assert_eq!(code, Some(0), "{error}");
    };
    // Of 15 drawn without a look, one in 400 times none would be in order.
    for number in 0..15 {
        new(&format!("short{number}"), &["--sequence", "3"]);
    }
    new("paper", &["--scratch", "100"]);
    let output = world.toctoc(&["check", "--strict"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{said}");
}

/// One after the other: each key that was said to be added is in the policy.
#[test]
fn keys_that_are_made_at_once_are_all_there() {
    let world = world();
    let made: Vec<(Option<i32>, String, String)> = std::thread::scope(|scope| {
        let worker = |number: usize| {
            let (world, name) = (&world, format!("key{number}"));
            scope.spawn(move || world.key(&["new", &name, "--opens", "ssh", "--host", "192.0.2.1"]))
        };
        let workers: Vec<_> = (0..6).map(worker).collect();
        workers
            .into_iter()
            .map(|worker| worker.join().unwrap())
            .collect()
    });
    for (code, _, error) in made {
        assert_eq!(code, Some(0), "{error}");
    }
    let (_, listed, _) = world.key(&["list"]);
    assert_eq!(listed.lines().count(), 6, "{listed}");
}

/// Each mistake is told, and nothing is changed.
#[test]
fn a_key_that_cannot_be_made_changes_nothing() {
    let world = world();
    world.private_file("there.secret", "mine");
    let before = files(&world);
    for (arguments, wanted) in [
        (&["new", "alice"][..], "which doors shall `alice` open"),
        (
            &["new", "alice", "--opens", "shs", "--host", "192.0.2.1"],
            "did you mean `ssh`?",
        ),
        (
            &["new", "there", "--opens", "ssh", "--host", "192.0.2.1"],
            "the policy does not name it: it was left by a `key new`",
        ),
        (&["new", "a b", "--opens", "ssh"], "is no name"),
        (
            &["new", "alice", "--opens", "ssh", "--host", ""],
            "neither a name of a host",
        ),
        (
            &["new", "alice", "--opens", "ssh", "--sequence", "2"],
            "from 3 to 32",
        ),
        (
            &[
                "new",
                "alice",
                "--opens",
                "ssh",
                "--backend",
                "iptables",
                "--host",
                "192.0.2.1",
            ],
            "has no tokens",
        ),
        (
            &[
                "new",
                "alice",
                "--opens",
                "ssh",
                "--host",
                "127.0.0.1",
                "--html",
                "/nowhere/page.html",
            ],
            "clients do not reach this host by `127.0.0.1`",
        ),
        (&["revoke", "nobody"], "there is no key `nobody`"),
    ] {
        let (code, _, error) = world.key(arguments);
        assert_ne!(code, Some(0), "{arguments:?}");
        assert!(error.contains(wanted), "{arguments:?}: {error}");
        assert_eq!(files(&world), before, "{arguments:?}");
    }
    // A name that is taken.
    let (code, ..) = world.key(&["new", "alice", "--opens", "ssh", "--host", "192.0.2.1"]);
    assert_eq!(code, Some(0));
    std::fs::remove_file(world.beside("alice.profile.toml")).unwrap();
    std::fs::rename(world.beside("alice.secret"), world.beside("moved")).unwrap();
    let (code, _, error) = world.key(&["new", "alice", "--opens", "ssh", "--host", "192.0.2.1"]);
    assert_ne!(code, Some(0), "{error}");
}

/// A name that means nothing to clients goes into no profile: it is asked for before anything is written.
#[test]
fn a_name_that_no_client_can_look_up_is_asked_for() {
    let world = world();
    let before = files(&world);
    let new = |name: &str, more: &[&str]| {
        let path = world.path().display().to_string();
        let own = ["key", "new", "alice", "--opens", "ssh"];
        let toctoc = world.toctoc_command(&[&own[..], more, &[path.as_str()]].concat());
        let mut command = world.command("unshare");
        command.args(["--uts", "sh", "-c", "hostname \"$0\" && exec \"$@\"", name]);
        command.arg(toctoc.get_program()).args(toctoc.get_args());
        let server = &world.lab.server;
        server.inside(|| command.output().unwrap()).unwrap()
    };
    for name in [
        "debian",
        "localhost",
        "localhost.localdomain",
        "nowhere.invalid",
    ] {
        for kind in [
            &[][..],
            &["--scratch", "2"],
            &["--sequence", "5"],
            &["--qr"],
            &["--signed"],
        ] {
            let output = new(name, kind);
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{name} {kind:?}: {said}");
            let own = ["toctoc", "key", "new", "alice", "--opens", "ssh"];
            let path = world.path().display().to_string();
            let given = [&own[..], kind, &[path.as_str()]].concat().join(" ");
            let next = format!("`{given} --host HOST`");
            assert!(said.contains(&next) && said.contains(name), "{said}");
            assert_eq!(files(&world), before, "{name} {kind:?}");
        }
    }
    let output = new("debian", &["--host", "192.0.2.1"]);
    assert_eq!(output.status.code(), Some(0));
}

/// Where the host's own name tells clients nothing, the address that the ssh connection came to is taken, and said. A
/// connection that is not there any more, or that comes from this host, is no such thing.
#[test]
fn the_address_of_the_ssh_connection_is_taken() {
    let world = world();
    let session = world.session(CLIENT[0], 22);
    let from = session.local_addr().unwrap();
    let inside = world.lab.server.inside(|| {
        let to_itself = std::net::TcpStream::connect(("127.0.0.1", 22)).unwrap();
        let from = to_itself.local_addr().unwrap();
        (to_itself, from)
    });
    let (_to_itself, own) = inside.unwrap();
    let new = |connection: &str, name: &str, more: &[&str]| {
        let path = world.path().display().to_string();
        let words = ["key", "new", name, "--opens", "ssh"];
        let toctoc = world.toctoc_command(&[&words[..], more, &[path.as_str()]].concat());
        let mut command = world.command("unshare");
        command.args(["--uts", "sh", "-c", "hostname debian && exec \"$@\"", "sh"]);
        command.arg(toctoc.get_program()).args(toctoc.get_args());
        command.env("SSH_CONNECTION", connection);
        let server = &world.lab.server;
        server.inside(|| command.output().unwrap()).unwrap()
    };
    let gone = format!("{} {} 192.0.2.1 22", from.ip(), from.port() ^ 1);
    let own = format!("127.0.0.1 {} 127.0.0.1 22", own.port());
    let before = files(&world);
    for connection in [gone, own] {
        let output = new(&connection, "alice", &[]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{connection}: {said}");
        assert!(
            said.contains("`toctoc key new alice --opens ssh ") && said.contains(" --host HOST`"),
            "{said}"
        );
        assert_eq!(files(&world), before);
    }
    let there = format!("{} {} 192.0.2.1 22", from.ip(), from.port());
    let said = |more: &[&str], name: &str| {
        let output = new(&there, name, more);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(0), "{error}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    const TAKEN: &str = "will look for this host as 192.0.2.1 (your ssh connection came to it)";
    let alice = said(&[], "alice");
    assert!(alice.contains(TAKEN), "{alice}");
    let profile = load(&world.beside("alice.profile.toml")).unwrap();
    assert_eq!(profile.host, "192.0.2.1");
    let paper = said(&["--scratch", "2"], "paper");
    assert!(paper.contains(TAKEN), "{paper}");
    // An option goes before.
    let bob = said(&["--host", "gate.example"], "bob");
    assert!(!bob.contains("your ssh connection"), "{bob}");
    let profile = load(&world.beside("bob.profile.toml")).unwrap();
    assert_eq!(profile.host, "gate.example");
}

fn files(world: &World) -> Vec<(String, String)> {
    let directory = world.path();
    let entries = std::fs::read_dir(directory.parent().unwrap()).unwrap();
    let mut files: Vec<(String, String)> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .map(|path| {
            let text = std::fs::read_to_string(&path).unwrap();
            (path.display().to_string(), text)
        })
        .collect();
    files.sort();
    files
}

/// The text that a phone reads off the screen is a profile.
#[test]
fn a_qr_code_is_shown_and_its_text_imported() {
    let world = world();
    let svg = world.beside("alice.svg").display().to_string();
    let (code, said, error) = world.key(&[
        "new",
        "alice",
        "--opens",
        "ssh",
        "--host",
        "192.0.2.1",
        "--qr",
        "--svg",
        &svg,
    ]);
    assert_eq!(code, Some(0), "{error}");
    assert!(
        said.lines()
            .filter(|line| line.contains('\u{2588}'))
            .count()
            > 20,
        "{said}"
    );
    let picture = std::fs::read_to_string(&svg).unwrap();
    assert!(picture.contains("<svg") && !world.beside("alice.profile.toml").exists());
    let mode = std::fs::metadata(&svg).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let secret = std::fs::read_to_string(world.beside("alice.secret")).unwrap();
    let port = std::fs::read_to_string(world.path()).unwrap();
    let port = port
        .lines()
        .next()
        .unwrap()
        .strip_prefix("token_port = ")
        .unwrap()
        .to_string();
    let link = format!(
        "toctoc://192.0.2.1/?token={}&token_port={port}&door=22",
        secret.trim()
    );
    // For a client that reads no code.
    assert!(said.lines().any(|line| line == link), "{said}");
    let profile = Profile::parse_link(&link).unwrap();
    assert_eq!(profile.link().as_str(), link);
    let home = world.beside("home");
    let import = || {
        let mut command = world.command(env!("CARGO_BIN_EXE_toctoc"));
        command
            .args(["profile", "import", "-", "server"])
            .env("XDG_CONFIG_HOME", &home);
        command.stdin(std::process::Stdio::piped());
        command
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped());
        let mut child = command.spawn().unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), link.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    };
    assert!(import().status.success());
    let path = home.join("toctoc/server.toml");
    assert_eq!(load(&path), Ok(profile));
    // It is not written over.
    let again = import();
    assert_eq!(again.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&again.stderr).contains("there is a profile server already"));
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
    assert!(load(&path).unwrap_err().contains("chmod 600"));
}
