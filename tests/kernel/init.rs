//! `toctoc init`: from nothing to a door on trial, on a terminal, with the real sshd behind it; and nothing is left
//! where that does not come about.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Output;

use tempfile::TempDir;
use toctoc::client::Door;
use toctoc::lab::{CLIENT, SERVER, STRANGER};

use crate::person::{Person, said};
use crate::sshd::Sshd;
use crate::stand_in::StandIn;
use crate::terminal::Terminal;
use crate::world::{World, YVES, start};

/// Where ssh is on the host of these tests.
const PORT: u16 = 2222;

const NOTHING: &str = "nothing was changed: no file, and nothing in the running firewall";

/// A host without a policy, and with nowhere to put one yet.
struct Bare {
    world: World,
    home: TempDir,
}

impl Bare {
    fn new() -> Bare {
        Bare {
            world: World::bare(),
            home: tempfile::tempdir().unwrap(),
        }
    }

    fn directory(&self) -> PathBuf {
        self.home.path().join("toctoc")
    }

    fn policy(&self) -> PathBuf {
        self.directory().join("policy.toml")
    }

    /// `toctoc init` with options, and a backend for this world.
    fn words<'w>(&self, options: &[&'w str]) -> Vec<&'w str> {
        let backend = match self.world.is_nftables() {
            true => &[][..],
            false => &["--backend", "iptables"],
        };
        [&["init"], backend, options].concat()
    }

    /// On a terminal.
    fn asked(&self, options: &[&str]) -> Terminal {
        // Whoever started the tests may ignore Ctrl-C, and then so would the program.
        let mut command = self.world.command("env");
        command.args([
            "--default-signal=INT,QUIT,HUP",
            "setsid",
            "--ctty",
            "--wait",
        ]);
        command.arg(env!("CARGO_BIN_EXE_toctoc"));
        command.args(self.words(options)).arg(self.policy());
        for variable in ["SUDO_USER", "LOGNAME", "USER"] {
            command.env_remove(variable);
        }
        command.env("SUDO_USER", "anna");
        Terminal::of(&self.world.lab.server, command, 200, 80)
    }

    /// Without one.
    fn init(&self, options: &[&str]) -> Output {
        let mut command = self.world.command(env!("CARGO_BIN_EXE_toctoc"));
        command.args(self.words(options)).arg(self.policy());
        let server = &self.world.lab.server;
        server.inside(|| command.output().unwrap()).unwrap()
    }

    /// No file, no directory, no rule.
    fn nothing_is_there(&self, rules: &str) {
        assert!(!self.directory().exists());
        assert_eq!(self.world.all_rules(), rules);
    }

    fn meets(&self, from: &str) -> Door {
        self.world.connect(from, PORT)
    }
}

/// The options that leave no question.
const ALL: [&str; 7] = [
    "--yes", "--door", "2222", "--key", "anna", "--host", SERVER[0],
];

/// The answers make a policy, a door that only the printed key opens, and a trial that stays once it is confirmed.
fn the_answers_make_a_door_that_the_printed_key_opens() {
    let bare = Bare::new();
    let world = &bare.world;
    let _sshd = Sshd::at(world, PORT);
    assert_eq!(bare.meets(STRANGER[0]), Door::Open);
    let mut terminal = bare.asked(&[]);
    terminal.prompt("Which port shall be hidden? (Several: 22,2222) [2222]");
    assert!(
        terminal.printed.contains("2222/tcp   sshd"),
        "{}",
        terminal.printed
    );
    // A mistake is asked again.
    terminal.press(b"70000\n");
    terminal.prompt("[2222]");
    terminal.press(b"\n");
    terminal.prompt("[anna]");
    terminal.press(b"\n");
    terminal.prompt("do clients reach this host?");
    terminal.press(format!("{}\n", SERVER[0]).as_bytes());
    if world.is_nftables() {
        terminal.prompt("[sequence]");
        terminal.press(b"\n");
    }
    terminal.prompt("[yes]");
    assert!(!bare.directory().exists());
    terminal.press(b"\n");
    assert_eq!(terminal.ended(), Some(0), "{}", terminal.printed);
    let printed = terminal.printed.clone();
    // But for the long paths of this test.
    let path = bare.directory().display().to_string();
    for line in printed.lines().filter(|line| !line.contains(&path)) {
        assert!(line.chars().count() <= 80, "{line}");
    }
    let at = |words: &str| {
        printed
            .find(words)
            .unwrap_or_else(|| panic!("{words}: {printed}"))
    };
    assert!(printed.contains("The key is also in "), "{printed}");
    let order = [
        "rehearsed: all doors are shut; 1 key opened exactly",
        "applied ",
        "1. Give the client its key.",
        "2. From the client",
        "ssh -p 2222 192.0.2.1",
        "toctoc profile ssh-config anna >>~/.ssh/config",
        "ssh anna",
        "3. Here, when the new connection works:",
        "toctoc confirm",
        "4. The next boot",
    ];
    assert!(order.map(at).is_sorted(), "{printed}");
    // Shut to everybody, until the client has done as printed.
    for stranger in [CLIENT[0], STRANGER[0], STRANGER[1]] {
        assert_eq!(bare.meets(stranger), Door::Silent, "{stranger}");
    }
    let person = Person::on(world);
    let link = printed
        .lines()
        .find(|line| line.starts_with("toctoc://"))
        .unwrap();
    let taken = person.toctoc_reading(
        &["profile", "import", "-", "anna"],
        format!("{link}\n").as_bytes(),
    );
    assert!(taken.status.success(), "{}", said(&taken));
    person.yes(&["knock", "anna"]);
    assert_eq!(bare.meets(CLIENT[0]), Door::Open);
    assert_eq!(bare.meets(STRANGER[0]), Door::Silent);
    let mode = bare.policy().metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    world.yes(&["confirm"]);
    let again = bare.init(&ALL);
    assert_eq!(again.status.code(), Some(2));
}

/// A trial that nobody confirms ends by itself; until then the door is shut. What was written is tried again by an apply.
fn a_door_that_nobody_confirms_opens_again() {
    let bare = Bare::new();
    let world = &bare.world;
    let _sshd = Sshd::at(world, PORT);
    let output = bare.init(&[&ALL[..], &["--confirm", "3s"]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let text = said(&output);
    assert!(text.contains("The trial runs for 3s."), "{text}");
    assert_eq!(bare.meets(STRANGER[0]), Door::Silent);
    world.until("it went back", || bare.meets(STRANGER[0]) == Door::Open);
    assert!(bare.policy().exists());
    let again = said(&bare.init(&ALL));
    assert!(again.contains("`toctoc apply --confirm 10m`"), "{again}");
}

/// The port and the address that the caller came through are proposed.
#[test]
fn the_callers_own_connection_says_which_door_and_host() {
    let bare = Bare::new();
    bare.world.listen(PORT);
    let _other = start(&bare.world.lab.server, &["nc", "-lk", "80"]);
    bare.world.until("it listens", || {
        bare.world.connect(STRANGER[0], 80) == Door::Open
    });
    let session = bare.world.session(CLIENT[0], PORT);
    let from = session.local_addr().unwrap();
    let mut command = bare.world.command(env!("CARGO_BIN_EXE_toctoc"));
    command
        .args(["init", "--yes", "--key", "anna"])
        .arg(bare.policy());
    command.env(
        "SSH_CONNECTION",
        format!("{} {} {} {PORT}", from.ip(), from.port(), SERVER[0]),
    );
    let output = bare
        .world
        .lab
        .server
        .inside(|| command.output().unwrap())
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let profile = toctoc::client::store::load(&bare.directory().join("anna.profile.toml")).unwrap();
    assert_eq!(
        (profile.host.as_str(), profile.door.unwrap().get()),
        (SERVER[0], PORT)
    );
    assert_eq!(bare.meets(CLIENT[0]), Door::Silent);
    assert_eq!(bare.world.connect(STRANGER[0], 80), Door::Open);
}

/// No log and no pipe gets a secret.
fn no_secret_is_printed_where_nobody_reads_it_from_a_screen() {
    let bare = Bare::new();
    bare.world.listen(PORT);
    let output = bare.init(&ALL);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let policy = fs::read_to_string(bare.policy()).unwrap();
    let sequence = policy
        .lines()
        .find_map(|line| line.strip_prefix("sequence = ["));
    let sequence = sequence.unwrap().trim_end_matches(']').replace(' ', "");
    let text = said(&output).replace(' ', "");
    for knock in sequence.split(',') {
        assert!(!text.contains(knock), "{text}");
    }
    let profile = bare.directory().join("anna.profile.toml");
    let person = Person::on(&bare.world);
    person.yes(&["profile", "import", profile.to_str().unwrap(), "anna"]);
    assert_eq!(bare.meets(CLIENT[0]), Door::Silent);
    person.yes(&["knock", "anna"]);
    assert_eq!(bare.meets(CLIENT[0]), Door::Open);
}

#[test]
fn a_key_of_tokens_opens_too() {
    its_key_opens("--token");
}

#[test]
fn a_signed_one_opens_too() {
    its_key_opens("--signed");
}

fn its_key_opens(option: &str) {
    let bare = Bare::new();
    bare.world.listen(PORT);
    let output = bare.init(&[&ALL[..], &[option]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let text = said(&output);
    let profile = bare.directory().join("anna.profile.toml");
    let secret = fs::read_to_string(bare.directory().join("anna.secret")).unwrap();
    assert!(!text.contains(secret.trim()), "{text}");
    assert_eq!(bare.meets(CLIENT[0]), Door::Silent);
    let person = Person::on(&bare.world);
    person.yes(&["profile", "import", profile.to_str().unwrap(), "anna"]);
    person.yes(&["knock", "anna"]);
    assert_eq!(bare.meets(CLIENT[0]), Door::Open);
    assert_eq!(bare.meets(STRANGER[0]), Door::Silent);
}

/// Whatever it is: a policy, something else, a link to nowhere.
#[test]
fn what_is_there_already_stays_as_it_is() {
    let bare = Bare::new();
    bare.world.listen(PORT);
    let rules = bare.world.all_rules();
    fs::create_dir(bare.directory()).unwrap();
    fs::write(bare.policy(), "mine").unwrap();
    let refused = |there: &Path| {
        let output = bare.init(&ALL);
        let text = said(&output);
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains(&there.display().to_string()), "{text}");
        assert!(text.ends_with(&format!("{NOTHING}\n")), "{text}");
        assert_eq!(bare.world.all_rules(), rules);
        let names = fs::read_dir(bare.directory()).unwrap().count();
        assert_eq!(names, 1, "{text}");
    };
    refused(&bare.policy());
    assert_eq!(fs::read_to_string(bare.policy()).unwrap(), "mine");
    fs::remove_file(bare.policy()).unwrap();
    std::os::unix::fs::symlink("nowhere", bare.policy()).unwrap();
    refused(&bare.policy());
    fs::remove_file(bare.policy()).unwrap();
    for name in ["anna.profile.toml", "anna.secret"] {
        let file = bare.directory().join(name);
        fs::write(&file, "mine").unwrap();
        refused(&file);
        // On a terminal it is said before the last question, and another name is taken.
        let mut terminal = bare.asked(&["--door", "2222", "--host", SERVER[0], "--sequence", "5"]);
        terminal.prompt("[anna]");
        terminal.press(b"\n");
        terminal.prompt("[anna]");
        let printed = terminal.printed.replace("\r\n", "");
        assert!(
            printed.contains("move it away, or take another name"),
            "{printed}"
        );
        terminal.press(b"bob\n");
        terminal.prompt("[yes]");
        terminal.press(b"no\n");
        assert_eq!(terminal.ended(), Some(1), "{}", terminal.printed);
        assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
        fs::remove_file(file).unwrap();
    }
}

/// A host by which a client would reach itself.
#[test]
fn a_name_that_means_the_client_is_refused() {
    let bare = Bare::new();
    bare.world.listen(PORT);
    let rules = bare.world.all_rules();
    for host in ["localhost", "127.0.0.1", "127.1.2.3", "::1"] {
        let output = bare.init(&[&ALL[..5], &["--host", host]].concat());
        let text = said(&output);
        assert_eq!(output.status.code(), Some(2), "{text}");
        let why = format!("clients do not reach this host by `{host}`");
        assert!(
            text.contains(&why) && text.ends_with(&format!("{NOTHING}\n")),
            "{text}"
        );
        bare.nothing_is_there(&rules);
    }
    for host in ["127.1", "0x7f000001", "2130706433", "22"] {
        let output = bare.init(&[&ALL[..5], &["--host", host]].concat());
        let text = said(&output);
        assert_eq!(output.status.code(), Some(2), "{text}");
        let why = format!("`{host}` is neither a name of a host nor a whole address");
        assert!(
            text.contains(&why) && text.ends_with(&format!("{NOTHING}\n")),
            "{text}"
        );
        bare.nothing_is_there(&rules);
    }
    // It is asked for again. So is what answers another question.
    let mut terminal = bare.asked(&["--door", "2222,2222", "--sequence", "5"]);
    terminal.prompt("[anna]");
    terminal.press(b"yes\n");
    terminal.prompt("[anna]");
    terminal.press(b"\n");
    for (answer, why) in [
        ("localhost", "clients do not reach this host by `localhost`"),
        ("127.1", "neither a name of a host nor a whole address"),
        ("y", "this question cannot be answered with `y`"),
    ] {
        terminal.prompt("do clients reach this host?");
        terminal.press(format!("{answer}\n").as_bytes());
        terminal.prompt("do clients reach this host?");
        let printed = &terminal.printed;
        assert!(printed.contains(why), "{printed}");
    }
    terminal.press(b"192.0.2.1\n");
    terminal.prompt("[yes]");
    // The last question shows every answer.
    let printed = terminal.printed.split("This happens now:").nth(1).unwrap();
    for words in [
        "anna gets a key: 5 secret knocks, to be sent to 192.0.2.1.",
        "port 2222 takes no",
    ] {
        assert!(printed.contains(words), "{words}: {printed}");
    }
    terminal.press(b"no\n");
    assert_eq!(terminal.ended(), Some(1), "{}", terminal.printed);
    bare.nothing_is_there(&rules);
}

/// At a console nothing tells of a client. The address of the way out is proposed, and a warning names the file that is
/// there in the end.
#[test]
fn at_a_console_the_address_of_the_way_out_is_taken() {
    let bare = Bare::new();
    let server = &bare.world.lab.server;
    bare.world
        .server(&["ip", "route", "add", "default", "via", CLIENT[0]]);
    let mut command = bare.world.command(env!("CARGO_BIN_EXE_toctoc"));
    command
        .args(["init", "--yes", "--door", "80", "--key", "anna"])
        .arg(bare.policy())
        .env_remove("SSH_CONNECTION");
    let output = server.inside(|| command.output().unwrap()).unwrap();
    let text = said(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    let profile = toctoc::client::store::load(&bare.directory().join("anna.profile.toml")).unwrap();
    assert_eq!(profile.host, SERVER[0]);
    let shown = format!(
        "warning[door-silent]: nothing listens at 80/tcp here\n  --> {}:",
        bare.policy().display()
    );
    assert!(text.contains(&shown), "{text}");
    assert!(!text.contains(".toctoc-init"), "{text}");
}

/// A host that toctoc guards keeps its doors, whichever file they are from.
#[test]
fn a_host_with_doors_is_refused() {
    let bare = Bare::new();
    bare.world.listen(PORT);
    bare.world.apply(YVES);
    let rules = bare.world.all_rules();
    let output = bare.init(&ALL);
    let text = said(&output);
    assert_eq!(output.status.code(), Some(2), "{text}");
    let other = bare.world.path().display().to_string();
    assert!(text.contains(&other), "{text}");
    assert!(text.ends_with(&format!("{NOTHING}\n")), "{text}");
    assert!(!bare.directory().exists());
    assert_eq!(bare.world.all_rules(), rules);
}

/// Ctrl-C, the end of input, or `no`, at each question in turn.
#[test]
fn whoever_stops_at_a_question_leaves_nothing_behind() {
    const QUESTIONS: [(&str, &[u8]); 5] = [
        ("[2222]", b"\n"),
        ("[anna]", b"\n"),
        ("do clients reach this host?", b"192.0.2.1\n"),
        ("[sequence]", b"t\n"),
        ("[yes]", b"no\n"),
    ];
    let bare = Bare::new();
    bare.world.listen(PORT);
    let rules = bare.world.all_rules();
    for stop in 0..QUESTIONS.len() {
        for (keys, status) in [(&b"\x03"[..], None), (b"\x04", Some(2)), (b"no\n", Some(1))] {
            if keys == b"no\n" && stop + 1 < QUESTIONS.len() {
                continue;
            }
            let mut terminal = bare.asked(&[]);
            for (question, answer) in &QUESTIONS[..stop] {
                terminal.prompt(question);
                terminal.press(answer);
            }
            terminal.prompt(QUESTIONS[stop].0);
            terminal.press(keys);
            let ended = terminal.ended();
            assert_eq!(ended, status, "{stop}: {}", terminal.printed);
            if status.is_some() {
                assert!(terminal.printed.contains(NOTHING), "{}", terminal.printed);
            }
            bare.nothing_is_there(&rules);
        }
    }
}

#[test]
fn without_a_terminal_the_options_are_named() {
    let bare = Bare::new();
    let rules = bare.world.all_rules();
    for (options, words) in [
        (
            &[][..],
            "`toctoc init --yes --door 22 --key NAME --host HOST`",
        ),
        (&["--yes", "--host", SERVER[0]], "say it with `--door PORT`"),
        (&["--yes", "--door", "22"], "say it with `--host HOST`"),
    ] {
        let output = bare.init(options);
        let text = said(&output);
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(
            text.contains(words) && text.ends_with(&format!("{NOTHING}\n")),
            "{text}"
        );
        bare.nothing_is_there(&rules);
    }
}

/// The kernel refuses the policy in the rehearsal, or afterwards; there is no room to note the way back.
#[test]
fn what_fails_removes_what_it_wrote() {
    let bare = Bare::new();
    bare.world.listen(PORT);
    let rules = bare.world.all_rules();
    let removed = |why: &str| {
        let output = bare.init(&ALL);
        let text = said(&output);
        assert_ne!(output.status.code(), Some(0), "{why}: {text}");
        assert!(
            !text.contains("wrote ") && text.ends_with(&format!("{NOTHING}\n")),
            "{why}: {text}"
        );
        assert!(!text.contains("toctoc confirm"), "{why}: {text}");
        bare.nothing_is_there(&rules);
    };
    let loads = "loads() { for word; do [ \"$word\" = -f ] && return 0; done; return 1; }; ";
    let refuses = "{ echo 'Error: refused' >&2; exit 1; }";
    let nft = StandIn::new(
        &bare.world,
        "nft",
        &format!("{loads} loads \"$@\" && {refuses}\nexec $real \"$@\""),
    );
    removed("in the rehearsal");
    drop(nft);
    // Here, and not in the namespaces of a rehearsal.
    let here = bare.world.server(&["readlink", "/proc/self/ns/net"]);
    let script = format!(
        "{loads} loads \"$@\" && [ \"$(readlink /proc/self/ns/net)\" = '{}' ] && {refuses}\nexec $real \"$@\"",
        here.trim()
    );
    let nft = StandIn::new(&bare.world, "nft", &script);
    removed("in the apply");
    drop(nft);
    fs::create_dir_all(bare.world.state_directory().parent().unwrap()).unwrap();
    let _ = fs::remove_dir_all(bare.world.state_directory());
    fs::write(bare.world.state_directory(), "no directory").unwrap();
    removed("no note of the way back");
}

on_every_firewall!(
    the_answers_make_a_door_that_the_printed_key_opens,
    a_door_that_nobody_confirms_opens_again,
    no_secret_is_printed_where_nobody_reads_it_from_a_screen,
);
