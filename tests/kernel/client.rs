//! Our client from the other side of the cable: profiles, connections through the door, and what it
//! says when it cannot get in. The client does not know which firewall it meets, so one is enough.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};
use std::thread;

use tempfile::TempDir;
use toctoc::lab::{CLIENT, SERVER};

use crate::world::{World, YVES};

const SEQUENCE: &str = "443,2387,920,18357,50";

/// A person on the client, with a home of their own.
pub struct Person<'w> {
    pub world: &'w World,
    pub home: TempDir,
}

impl<'w> Person<'w> {
    pub fn on(world: &'w World) -> Person<'w> {
        let home = tempfile::tempdir().unwrap();
        Person { world, home }
    }

    /// The same with a profile `server` that opens the door of [`YVES`].
    pub fn with_profile(world: &'w World) -> Person<'w> {
        let person = Person::on(world);
        person.yes(&[
            "profile",
            "add",
            "server",
            "--host",
            SERVER[0],
            "--door",
            "22",
            "--sequence",
            SEQUENCE,
        ]);
        person
    }

    /// A program that finds toctoc, and this home.
    pub fn command(&self, program: &str) -> Command {
        let toctoc = std::path::Path::new(env!("CARGO_BIN_EXE_toctoc"));
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new(program);
        command
            .env("HOME", self.home.path())
            .env_remove("XDG_CONFIG_HOME")
            .env_remove("XDG_CACHE_HOME")
            .env(
                "PATH",
                format!("{}:{path}", toctoc.parent().unwrap().display()),
            )
            .stdin(Stdio::null());
        command
    }

    /// Runs a program on the client.
    pub fn run(&self, words: &[&str]) -> Output {
        let mut command = self.command(words[0]);
        command.args(&words[1..]);
        let client = &self.world.lab.client;
        client.inside(|| command.output().unwrap()).unwrap()
    }

    /// Runs `toctoc` on the client.
    pub fn toctoc(&self, arguments: &[&str]) -> Output {
        self.run(&[&["toctoc"], arguments].concat())
    }

    /// The same; the answer must be yes.
    pub fn yes(&self, arguments: &[&str]) -> String {
        let output = self.toctoc(arguments);
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs `toctoc` with an input.
    pub fn toctoc_reading(&self, arguments: &[&str], input: &[u8]) -> Output {
        let mut command = self.command("toctoc");
        command
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let client = &self.world.lab.client;
        let mut child = client.inside(|| command.spawn().unwrap()).unwrap();
        let mut stdin = child.stdin.take().unwrap();
        thread::scope(|scope| {
            scope.spawn(move || stdin.write_all(input));
            child.wait_with_output().unwrap()
        })
    }
}

pub fn said(output: &Output) -> String {
    let bytes = [&output.stdout[..], &output.stderr].concat();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Counts what comes to the server's ports besides that of the door.
fn count_knocks(world: &World) {
    world.nft(
        "table inet beside { counter knocks { }\n chain c { type filter hook prerouting priority -400; \
         tcp flags & (fin | syn | rst | ack) == syn tcp dport != 22 counter name knocks\n}\n}",
    );
}

#[test]
fn a_profile_opens_its_door_and_another_sequence_does_not() {
    let world = World::with(YVES);
    world.listen(22);
    let person = Person::with_profile(&world);
    person.yes(&[
        "profile",
        "add",
        "wrong",
        "--host",
        SERVER[0],
        "--door",
        "22",
        "--sequence",
        "443,2387,920,50",
    ]);
    let output = person.toctoc(&["knock", "wrong"]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("22/tcp at 192.0.2.1 stays shut"));
    assert!(
        said(&output).contains("the knocks reach it"),
        "{}",
        said(&output)
    );
    assert!(world.nobody_is_in());
    let output = person.yes(&["knock", "server"]);
    assert!(
        output.starts_with("22/tcp at 192.0.2.1 is open, after "),
        "{output}"
    );
    assert_eq!(world.holders("ssh").len(), 1);
}

#[test]
fn a_profile_is_found_by_its_host_too_unless_there_are_two() {
    let world = World::with(YVES);
    world.listen(22);
    let person = Person::with_profile(&world);
    person.yes(&["knock", SERVER[0]]);
    person.yes(&[
        "profile",
        "add",
        "other",
        "--host",
        SERVER[0],
        "--sequence",
        "5",
    ]);
    let output = person.toctoc(&["knock", SERVER[0]]);
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("more than one profile, other and server"));
}

#[test]
fn an_open_door_is_not_knocked_at() {
    let world = World::with(YVES);
    world.listen(22);
    count_knocks(&world);
    let person = Person::with_profile(&world);
    world.yes(&["open", "ssh", CLIENT[0]]);
    for arguments in [&["knock", "server"][..], &["connect", "server"]] {
        let output = person.toctoc(arguments);
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
        assert_eq!(world.counted("knocks"), 0, "{arguments:?}");
    }
    assert!(said(&person.toctoc(&["knock", "server"])).contains("open already: did not knock"));
    // The twins: asked to, and when it is shut.
    person.yes(&["knock", "--always", "server"]);
    assert_eq!(world.counted("knocks"), 5);
    world.yes(&["close"]);
    person.yes(&["knock", "server"]);
    assert_eq!(world.counted("knocks"), 10);
}

#[test]
fn quiet_says_nothing_when_it_works_and_when_there_is_no_profile() {
    let world = World::with(YVES);
    world.listen(22);
    let person = Person::with_profile(&world);
    for (target, code) in [("server", 0), ("nobody.example", 2)] {
        let output = person.toctoc(&["knock", "--quiet", target]);
        assert_eq!(output.status.code(), Some(code));
        assert_eq!(said(&output), "", "{target}");
    }
    assert!(said(&person.toctoc(&["knock", "nobody.example"])).contains("there is no profile"));
    world.yes(&["close"]);
    person.yes(&[
        "profile",
        "add",
        "wrong",
        "--host",
        SERVER[0],
        "--door",
        "22",
        "--sequence",
        "5",
    ]);
    let output = person.toctoc(&["knock", "--quiet", "wrong"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("stays shut"));
}

/// A program behind the door that reads to the end, and then says how much that was.
fn counting(world: &World) {
    let server = &world.lab.server;
    let listener = server.inside(|| TcpListener::bind(("::", 22))).unwrap();
    let listener = listener.unwrap();
    thread::spawn(move || {
        for mut session in listener.incoming().flatten() {
            let mut bytes = Vec::new();
            let _ = session.read_to_end(&mut bytes);
            let _ = writeln!(session, "{} bytes", bytes.len());
        }
    });
}

#[test]
fn what_is_sent_has_an_end_and_the_answer_comes_after_it() {
    let world = World::with(YVES);
    counting(&world);
    let person = Person::with_profile(&world);
    for length in [0, 5, 3_000_000] {
        let output = person.toctoc_reading(&["connect", "server", "22"], &vec![7; length]);
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
        assert_eq!(said(&output), format!("{length} bytes\n"));
    }
}

#[test]
fn every_byte_comes_back_as_it_was_sent() {
    let world = World::with(YVES);
    world.listen(22);
    let person = Person::with_profile(&world);
    let bytes: Vec<u8> = (0..20_000_000_u32).map(|n| (n % 251) as u8).collect();
    let output = person.toctoc_reading(&["connect", "server"], &bytes);
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stdout == bytes, "{} bytes", output.stdout.len());
}

/// As a program leaves them that shares them with us.
#[test]
fn input_and_output_may_be_such_that_do_not_wait() {
    let world = World::with(YVES);
    world.listen(22);
    let person = Person::with_profile(&world);
    let script = "
import os, subprocess, sys, threading, time
(theirs, ours), (back, into) = os.pipe(), os.pipe()
os.set_blocking(theirs, False), os.set_blocking(into, False)
child = subprocess.Popen(['toctoc', 'connect', 'server'], stdin=theirs, stdout=into)
os.close(theirs), os.close(into)
sent = bytes(range(256)) * 4000
def write():
    for at in range(0, len(sent), 100000):
        time.sleep(0.02)
        os.write(ours, sent[at:at + 100000])
    os.close(ours)
threading.Thread(target=write).start()
time.sleep(1)
got = open(back, 'rb').read()
print(child.wait(), got == sent)";
    let output = person.run(&["python3", "-c", script]);
    assert_eq!(said(&output), "0 True\n");
}

#[test]
fn nobody_who_reads_any_more_is_no_error() {
    let world = World::with(YVES);
    world.listen(22);
    let person = Person::with_profile(&world);
    // The input never ends; the reader is content with little.
    let script = "yes | toctoc connect server | head -c 100 | wc -c; toctoc profile list | true; \
                  echo ${PIPESTATUS[0]}";
    let output = person.run(&["bash", "-c", script]);
    assert_eq!(said(&output), "100\n0\n");
}

#[test]
fn without_a_door_that_opens_nothing_is_relayed() {
    let world = World::with(YVES);
    counting(&world);
    let person = Person::on(&world);
    person.yes(&[
        "profile",
        "add",
        "wrong",
        "--host",
        SERVER[0],
        "--sequence",
        "443,50",
    ]);
    let output = person.toctoc_reading(&["connect", "wrong", "22"], b"secret");
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert_eq!(output.stdout, b"");
    let output = person.toctoc(&["connect", "wrong"]);
    assert!(said(&output).contains("names no door"), "{}", said(&output));
    let output = person.toctoc(&["connect", "nobody", "22"]);
    assert!(
        said(&output).contains("there is no profile nobody"),
        "{}",
        said(&output)
    );
    // To a file, as nobody does.
    person.yes(&[
        "profile",
        "add",
        "right",
        "--host",
        SERVER[0],
        "--sequence",
        SEQUENCE,
    ]);
    let output = person.toctoc(&["connect", "--fdpass", "right", "22"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        said(&output).contains("takes no connection"),
        "{}",
        said(&output)
    );
}

/// Names for the client, in a mount namespace of the program.
fn with_hosts(person: &Person, hosts: &str, script: &str) -> Output {
    let file = person.home.path().join("hosts");
    std::fs::write(&file, hosts).unwrap();
    let script = format!("mount --bind {} /etc/hosts && {script}", file.display());
    person.run(&["unshare", "--mount", "--", "sh", "-c", &script])
}

#[test]
fn an_address_that_swallows_everything_does_not_keep_one_out() {
    let world = World::with(YVES);
    world.listen(22);
    // There is a way to the first address, and it is a hole.
    world
        .lab
        .client
        .ip("route add 2001:db8:dead::/64 dev eth0")
        .unwrap();
    let neighbour = "neigh add 2001:db8:dead::1 lladdr 02:00:00:00:00:77 dev eth0";
    world.lab.client.ip(neighbour).unwrap();
    let person = Person::on(&world);
    let hosts = "2001:db8:dead::1 two.example\n192.0.2.1 two.example\n";
    person.yes(&[
        "profile",
        "add",
        "two",
        "--host",
        "two.example",
        "--door",
        "22",
        "--sequence",
        SEQUENCE,
    ]);
    let output = with_hosts(&person, hosts, "toctoc knock two");
    assert!(
        said(&output).starts_with("22/tcp at 192.0.2.1 is open, after "),
        "{}",
        said(&output)
    );
    assert!(
        said(&output).ends_with("ms\n"),
        "at the first try: {}",
        said(&output)
    );
    // The twin: alone, it does.
    world.yes(&["close"]);
    let output = with_hosts(&person, hosts, "toctoc knock -6 two");
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(world.nobody_is_in());
}

#[test]
fn both_families_are_opened_when_asked_for() {
    let world = World::with(YVES);
    world.listen(22);
    let person = Person::on(&world);
    let hosts = "2001:db8::1 two.example\n192.0.2.1 two.example\n";
    person.yes(&[
        "profile",
        "add",
        "two",
        "--host",
        "two.example",
        "--door",
        "22",
        "--sequence",
        SEQUENCE,
    ]);
    let output = with_hosts(&person, hosts, "toctoc knock two");
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    world.until("one is in", || world.holders("ssh").len() == 1);
    world.yes(&["close"]);
    let output = with_hosts(&person, hosts, "toctoc knock --both two");
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    world.until("both are in", || world.holders("ssh").len() == 2);
    // A host with one family has not both.
    let output = with_hosts(
        &person,
        "192.0.2.1 two.example\n",
        "toctoc knock --both two",
    );
    assert!(
        said(&output).contains("has no IPv6 address"),
        "{}",
        said(&output)
    );
    assert_eq!(output.status.code(), Some(2));
}

/// So do some firewalls say that a door is shut, before and after: RHEL's own among them.
#[test]
fn a_firewall_that_answers_in_place_of_the_door_keeps_nobody_out() {
    let world = World::with(YVES);
    world.listen(22);
    world.nft(
        "table inet between { chain c { type filter hook input priority 10; }\n chain d { \
         type filter hook prerouting priority -500; ip saddr 192.0.2.7 tcp dport 22 limit rate over \
         1/hour burst 1 packets accept\n ip saddr 192.0.2.7 tcp dport 22 meta mark set 9\n }\n \
         chain e { type filter hook prerouting priority -450; meta mark 9 reject with icmp type \
         host-prohibited\n }\n}",
    );
    let person = Person::with_profile(&world);
    let output = person.toctoc(&["knock", "server"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(
        said(&output).contains("is open, after"),
        "{}",
        said(&output)
    );
}

/// Slow knocks are not disturbed by the SYN that looked whether the door was open.
#[test]
fn slow_knocks_open_at_the_first_try() {
    let world = World::with(YVES);
    world.listen(22);
    let person = Person::with_profile(&world);
    let output = person.toctoc(&["knock", "--gap", "300ms", "server"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(
        said(&output).contains("is open, after"),
        "{}",
        said(&output)
    );
    assert!(!said(&output).contains("try"), "{}", said(&output));
}

/// The file of a profile may have any name; it comes from elsewhere.
#[test]
fn no_file_name_gets_into_the_configuration_of_ssh() {
    let world = World::bare();
    let person = Person::with_profile(&world);
    let kept = person.home.path().join(".config/toctoc/server.toml");
    let odd = person
        .home
        .path()
        .join("x\n    Match exec \"touch here\"\n#.toml");
    fs::copy(kept, &odd).unwrap();
    let output = person.toctoc(&["profile", "ssh-config", odd.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        said(&output).contains("a profile with a name"),
        "{}",
        said(&output)
    );
    assert!(
        person
            .yes(&["profile", "ssh-config", "server"])
            .contains("connect --fdpass server %p")
    );
}

/// Where there is no home, nothing is taken from the directory that one happens to be in.
#[test]
fn without_a_home_there_are_no_profiles() {
    let world = World::bare();
    let person = Person::with_profile(&world);
    let config = person.home.path().join(".config");
    for (home, code) in [("", 2), (config.parent().unwrap().to_str().unwrap(), 0)] {
        let mut command = person.command("toctoc");
        command
            .args(["profile", "show", "server"])
            .current_dir(&config);
        command.env("HOME", home).env("XDG_CONFIG_HOME", ".");
        assert_eq!(command.output().unwrap().status.code(), Some(code));
    }
    let mut command = person.command("toctoc");
    command
        .env("HOME", "")
        .args(["profile", "add", "x", "--host", "x", "--sequence", "5"]);
    assert!(said(&command.output().unwrap()).contains("HOME is not set"));
}

/// A network between that lets some ports through, one that turns packets back, and one that swallows
/// everything.
#[test]
fn what_a_network_between_does_is_told() {
    let world = World::with(YVES);
    world.listen(22);
    let person = Person::with_profile(&world);
    let between = |host: &toctoc::lab::Host, rules: &str| {
        let script = format!("table inet between {{}}\ndelete table inet between\n{rules}\n");
        let ended = host.inside(|| toctoc::firewall::run(&["nft", "-f", "-"], &script));
        let ended = ended.unwrap().unwrap();
        assert!(ended.succeeded(), "{}", ended.stderr);
    };
    let hook = "type filter hook prerouting priority -400;";
    for (on_client, rules, wanted) in [
        (
            false,
            format!("table inet between {{ chain c {{ {hook} tcp dport 2387 drop;\n}}\n}}"),
            "the host answers at 443/tcp, 920/tcp, 18357/tcp and 50/tcp, but not at 2387/tcp",
        ),
        (
            false,
            format!("table inet between {{ chain c {{ {hook} tcp dport != 80 tcp dport != 443 drop;\n}}\n}}"),
            "the host answers at 443/tcp, but not at 2387/tcp",
        ),
        (
            false,
            format!("table inet between {{ chain c {{ {hook} ip saddr 192.0.2.7 drop;\n}}\n}}"),
            "nothing there answers, at 443/tcp, 2387/tcp, 920/tcp, 18357/tcp, 50/tcp and 80/tcp either",
        ),
        (
            true,
            "table inet between { chain c { type filter hook output priority 0; tcp dport 2387 reject with \
             icmpx type admin-prohibited\n}\n}"
                .to_string(),
            "packets to 2387/tcp are turned back",
        ),
    ] {
        let host = if on_client { &world.lab.client } else { &world.lab.server };
        between(host, &rules);
        let output = person.toctoc(&["knock", "server"]);
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        assert!(said(&output).contains(wanted), "{}", said(&output));
        between(host, "");
    }
    assert!(world.nobody_is_in());
    // The twin: without them it opens.
    person.yes(&["knock", "server"]);
}

#[test]
fn what_cannot_be_sent_is_told_with_a_hint() {
    let world = World::with(YVES);
    let person = Person::on(&world);
    world
        .lab
        .client
        .ip("route add prohibit 198.51.100.0/24")
        .unwrap();
    for (host, wanted) in [
        ("203.0.113.1", "Network is unreachable"),
        ("203.0.113.1", "this machine has no way there"),
        ("198.51.100.1", "a firewall of this machine forbids it"),
        ("fe80::1", "fe80::1%eth0"),
        ("no-such-host.invalid", "no-such-host.invalid is not found"),
    ] {
        let output = person.toctoc(&["knock", host, "443", "--door", "22"]);
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        assert!(said(&output).contains(wanted), "{host}: {}", said(&output));
    }
}

#[test]
fn what_is_no_knock_is_refused() {
    let world = World::bare();
    let person = Person::on(&world);
    for (arguments, wanted) in [
        (&["-6", SERVER[0], "1"][..], "has no IPv6 address"),
        (&[SERVER[0], "0"], "no port is 0"),
        (&[SERVER[0], "x"], "`x` is not a port"),
        (
            &[SERVER[0], "1", "--door", "22/udp"],
            "only a TCP door can be tried",
        ),
        (&[SERVER[0], "1", "--gap", "x"], "`x` is not a pause"),
        (&[SERVER[0], "1", "--gap", "2h"], "`2h` is not a pause"),
    ] {
        let output = person.toctoc(&[&["knock"], arguments].concat());
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        assert!(said(&output).contains(wanted), "{}", said(&output));
    }
}

#[test]
fn a_door_without_a_program_behind_it_is_told() {
    let world = World::with(YVES);
    let person = Person::with_profile(&world);
    let output = person.toctoc(&["knock", "server"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said(&output).contains("nothing listens behind it"),
        "{}",
        said(&output)
    );
}

#[test]
fn profiles_are_kept_shown_without_secrets_and_taken_away() {
    const SECRET: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
    let world = World::bare();
    let person = Person::on(&world);
    assert!(person.yes(&["profile", "list"]).contains("no profiles"));
    let add = [
        "profile",
        "add",
        "phone",
        "--host",
        "server.example",
        "--door",
        "22",
        "--token",
        "-",
        "--token-port",
        "40123",
    ];
    let output = person.toctoc_reading(&add, format!("{SECRET}\n").as_bytes());
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let file = person.home.path().join(".config/toctoc/phone.toml");
    let mode = std::os::unix::fs::MetadataExt::mode(&file.metadata().unwrap());
    assert_eq!(mode & 0o777, 0o600);
    person.yes(&[
        "profile",
        "add",
        "home",
        "--host",
        "192.0.2.1",
        "--sequence",
        "443,53/udp",
    ]);
    let list = person.yes(&["profile", "list"]);
    assert!(
        list.contains("home             192.0.2.1                -          2 knocks\n"),
        "{list}"
    );
    assert!(
        list.contains(
            "phone            server.example           22/tcp     a token to 40123/udp\n"
        ),
        "{list}"
    );
    for (arguments, secret) in [
        (&["profile", "show", "phone"][..], false),
        (&["profile", "ssh-config", "phone"], false),
        (&["profile", "show", "phone", "--reveal"], true),
        (&["profile", "show", "phone", "--link"], true),
    ] {
        let shown = person.yes(arguments);
        assert_eq!(shown.contains(SECRET), secret, "{shown}");
    }
    assert!(!person.yes(&["profile", "show", "home"]).contains("443"));
    // By its link to another name, and back to the same profile.
    let link = person.yes(&["profile", "show", "phone", "--link"]);
    let output = person.toctoc_reading(&["profile", "import", "-"], link.as_bytes());
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert_eq!(
        person.yes(&["profile", "show", "server.example", "--reveal"]),
        person.yes(&["profile", "show", "phone", "--reveal"])
    );
    let output = person.toctoc_reading(&["profile", "import", "-"], link.as_bytes());
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("`toctoc profile remove server.example` takes it away"));
    person.yes(&["profile", "remove", "phone"]);
    assert!(!file.exists());
    for (arguments, wanted) in [
        (
            &["profile", "remove", "phone"][..],
            "there is no profile phone",
        ),
        (&["profile", "remove", "../x"], "is no name of a profile"),
        (&["profile", "show", "phone"], "there is no profile phone"),
        (
            &["profile", "add", "a b", "--host", "x", "--sequence", "5"],
            "is no name",
        ),
        (
            &["profile", "add", "a", "--host", "x;y", "--sequence", "5"],
            "neither a name of a host",
        ),
        (&["profile", "add", "a", "--host", "x"], "--sequence"),
        (
            &["profile", "add", "a", "--host", "x", "--sequence", "443,0"],
            "no port is 0",
        ),
        (
            &["profile", "show", "home", "--as", "telnet"],
            "not one of nmap, nc, knock, ssh",
        ),
    ] {
        let output = person.toctoc(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(said(&output).contains(wanted), "{}", said(&output));
    }
}

/// Each command that `profile show --as` prints, run by a shell as it stands.
#[test]
fn other_tools_open_the_door_with_what_a_profile_prints_for_them() {
    let policy = "within = \"20s\"\n".to_string() + YVES;
    let world = World::with(&policy);
    world.listen(22);
    let person = Person::with_profile(&world);
    person.yes(&[
        "profile",
        "add",
        "v6",
        "--host",
        SERVER[1],
        "--door",
        "22",
        "--sequence",
        SEQUENCE,
    ]);
    let wrong = "443,2387,920,18357,51";
    person.yes(&[
        "profile",
        "add",
        "wrong",
        "--host",
        SERVER[0],
        "--door",
        "22",
        "--sequence",
        wrong,
    ]);
    for tool in ["nmap", "nc", "knock", "ssh", "knockonports"] {
        for (profile, opens) in [("wrong", false), ("server", true), ("v6", true)] {
            world.yes(&["close"]);
            knock_as_told(&person, profile, tool);
            assert_eq!(!world.nobody_is_in(), opens, "{tool} {profile}");
        }
    }
}

#[test]
fn other_tools_knock_over_udp_with_what_a_profile_prints_for_them() {
    let policy = "within = \"20s\"\n".to_string() + &YVES.replace("920", "\"920/udp\"");
    let world = World::with(&policy);
    let person = Person::on(&world);
    for (name, third) in [("server", "920/udp"), ("wrong", "920/tcp")] {
        let sequence = SEQUENCE.replace("920", third);
        person.yes(&[
            "profile",
            "add",
            name,
            "--host",
            SERVER[0],
            "--sequence",
            &sequence,
        ]);
    }
    for tool in ["nmap", "nc", "knock", "knockonports"] {
        for (profile, opens) in [("wrong", false), ("server", true)] {
            world.yes(&["close"]);
            knock_as_told(&person, profile, tool);
            assert_eq!(!world.nobody_is_in(), opens, "{tool} {profile}");
        }
    }
    let output = person.toctoc(&["profile", "show", "server", "--as", "ssh"]);
    assert!(said(&output).contains("ssh cannot knock over UDP"));
}

/// Follows what is printed for a tool. The application for telephones is not here: its file is read
/// as it reads it, and each step done.
fn knock_as_told(person: &Person, profile: &str, tool: &str) {
    let told = person.yes(&["profile", "show", profile, "--as", tool]);
    if tool != "knockonports" {
        person.run(&["sh", "-c", &told]);
        return;
    }
    let file: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!(file["version"], 1);
    let sequence = &file["sequences"][0];
    assert_eq!(sequence["delay"], 7);
    let host = sequence["host"].as_str().unwrap();
    for step in sequence["steps"].as_array().unwrap() {
        let step = format!("{}:{}", step["port"], step["type"].as_str().unwrap());
        assert!(person.run(&["knock", host, &step]).status.success());
    }
}
