//! `toctoc watch` and `toctoc log`: what is seen of real knocks, in lines, by programs, and on a screen.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use serde_json::Value;
use toctoc::lab::{CLIENT, STRANGER};

use crate::terminal::Terminal;
use crate::token_world::guarded;
use crate::world::{PATIENCE, Running, SEQUENCE, World, YVES};

/// `toctoc` on the server, line by line.
struct Lines {
    lines: Receiver<String>,
    _running: Running,
}

impl Lines {
    fn of(world: &World, arguments: &[&str]) -> Lines {
        let mut command = world.command(env!("CARGO_BIN_EXE_toctoc"));
        command.args(arguments);
        if !world.is_nftables() && arguments[0] == "watch" {
            command.args(["--backend", "iptables"]);
        }
        command.arg(world.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        command.stderr(Stdio::piped());
        let child = world.lab.server.inside(|| command.spawn().unwrap());
        let mut child = child.unwrap();
        let (sender, lines) = channel();
        for pipe in [
            Box::new(child.stdout.take().unwrap()) as Box<dyn Read + Send>,
            Box::new(child.stderr.take().unwrap()),
        ] {
            let sender = sender.clone();
            thread::spawn(move || {
                for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                    let _ = sender.send(line);
                }
            });
        }
        Lines {
            lines,
            _running: Running(child),
        }
    }

    /// The next line for which this holds.
    fn until(&self, what: &str, holds: impl Fn(&str) -> bool) -> String {
        let mut seen = Vec::new();
        while let Ok(line) = self.lines.recv_timeout(PATIENCE) {
            if holds(&line) {
                return line;
            }
            seen.push(line);
        }
        panic!("no line with {what}: {seen:#?}")
    }

    fn event(&self, what: &str) -> Value {
        let begins = format!("\"event\":\"{what}\"");
        let line = self.until(what, |line| line.contains(&begins));
        serde_json::from_str(&line).unwrap()
    }
}

fn told(policy: &str) -> World {
    World::with(&format!("log = \"nflog:5\"\nopen_for = \"3s\"\n{policy}"))
}

/// From an NFLOG group, live. Who did not get in is not in it.
fn the_log_says_who_opened() {
    let world = told(YVES);
    // Alone, it would wait for ever: the group has no past.
    let path = world.path();
    let path = path.to_str().unwrap();
    let alone = world.toctoc(&["log", path]);
    let said = String::from_utf8_lossy(&alone.stderr).into_owned();
    assert_eq!(alone.status.code(), Some(2), "{said}");
    assert!(
        said.contains("NFLOG group 5 has no past: `toctoc log --follow` shows"),
        "{said}"
    );
    let log = Lines::of(&world, &["log", "--follow"]);
    log.until("what is listened to", |line| line.contains("NFLOG group 5"));
    world.knock(STRANGER[0], &SEQUENCE[..4]);
    world.knock(CLIENT[0], &SEQUENCE);
    world.knock(CLIENT[1], &SEQUENCE);
    let first = log.until("an opening", |line| line.contains("  by "));
    assert!(first.contains(" UTC  192.0.2.7 "), "{first}");
    assert!(first.ends_with("  ssh           by yves"), "{first}");
    let second = log.until("an opening", |line| line.contains("  by "));
    assert!(second.contains("  2001:db8::7 "), "{second}");
    let other = world.toctoc(&["log", "--follow", path]);
    let said = String::from_utf8_lossy(&other.stderr).into_owned();
    assert!(
        said.contains("cannot be heard: probably another program listens to it"),
        "{said}"
    );
}

/// Every opening and every end once, however it came about.
fn events_are_told_once() {
    let world = told(YVES);
    world.listen(22);
    let watch = Lines::of(&world, &["watch", "--json", "--every", "200ms"]);
    let state = watch.event("state");
    assert_eq!(
        state["state"]["doors"][0]["grants"],
        Value::Array(Vec::new())
    );
    world.knock(CLIENT[0], &SEQUENCE);
    let open = watch.event("open");
    assert_eq!(open["door"], "ssh");
    assert_eq!(open["source"], CLIENT[0]);
    assert_eq!(open["key"], "yves");
    let state = watch.event("state");
    assert_eq!(state["state"]["doors"][0]["grants"][0]["source"], CLIENT[0]);
    // No second `open` comes before its end.
    let next = watch.until("an event", |line| !line.contains("\"event\":\"state\""));
    assert!(
        next.contains("\"event\":\"close\"") && next.contains(CLIENT[0]),
        "{next}"
    );
    world.yes(&["open", "ssh", STRANGER[0], "--for", "1h"]);
    let by_hand = watch.event("open");
    assert_eq!(by_hand["source"], STRANGER[0]);
    assert_eq!(by_hand["key"], Value::Null);
    world.yes(&["close", "ssh", STRANGER[0]]);
    assert_eq!(watch.event("close")["source"], STRANGER[0]);
}

/// Knocks that lead nowhere, and connections that are turned away, are counted.
fn wrong_knocks_are_counted() {
    let world = World::with(YVES);
    let before = world.status();
    assert_eq!(
        (&before["wrong"], &before["shut_out"]),
        (&0.into(), &0.into())
    );
    world.knock(STRANGER[0], &[2387, 920]);
    world.knock(STRANGER[0], &SEQUENCE[..3]);
    world.knock(STRANGER[0], &[9999]);
    world.knock(STRANGER[1], &[22, 22]);
    world.until("they are counted", || {
        let status = world.status();
        status["wrong"] == 1 && status["shut_out"] == 2
    });
    world.knock(CLIENT[0], &SEQUENCE);
    let status = world.status();
    assert_eq!(
        (&status["wrong"], &status["shut_out"]),
        (&1.into(), &2.into())
    );
}

/// The program is started directly, with what happened in its environment.
fn a_program_is_run_on_open_and_close() {
    let world = told(YVES);
    let directory = tempfile::tempdir().unwrap();
    let (program, noted) = (
        directory.path().join("a $(program)"),
        directory.path().join("noted"),
    );
    let script = format!(
        "#!/bin/sh\necho \"$# $TOCTOC_EVENT $TOCTOC_DOOR $TOCTOC_SOURCE $TOCTOC_KEY\" >>{}\n",
        noted.display()
    );
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
    let exec = [
        "watch",
        "--every",
        "200ms",
        "--exec",
        program.to_str().unwrap(),
    ];
    let watch = Lines::of(&world, &exec);
    // A policy without a key that is completed starts nothing.
    world.knock(STRANGER[0], &SEQUENCE[..4]);
    thread::sleep(Duration::from_millis(500));
    world.knock(CLIENT[0], &SEQUENCE);
    watch.until("the end", |line| {
        line.contains("ssh closed to 192.0.2.7, by yves")
    });
    let wanted = "0 open ssh 192.0.2.7 yves\n0 close ssh 192.0.2.7 yves\n";
    world.until("both are noted", || {
        fs::read_to_string(&noted).is_ok_and(|text| text == wanted)
    });
}

/// As many openings as come in a second: a program is run for each, and nothing is dropped unsaid.
#[test]
fn thousands_of_openings_are_dealt_with() {
    const MANY: usize = 3000;
    let world = World::with(
        "log = \"nflog:5\"\nopen_for = \"10m\"\n[door.ssh]\nports = [22]\n[key.yves]\nopens = [\"ssh\"]\n\
         sequence = [4431, 2387, 920]\n",
    );
    let directory = tempfile::tempdir().unwrap();
    let (program, noted) = (
        directory.path().join("program"),
        directory.path().join("noted"),
    );
    let script = format!(
        "#!/bin/sh\necho $TOCTOC_EVENT $TOCTOC_SOURCE >>{}\n",
        noted.display()
    );
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
    // A look takes a while with so many; each is heard of meanwhile.
    let watch = Lines::of(&world, &["watch", "--exec", program.to_str().unwrap()]);
    let mut first = 0;
    world.until("it watches", || {
        first += 1;
        knock_from_many(&world, 250 - first, 250 - first);
        fs::read_to_string(&noted).is_ok_and(|text| text.contains("open"))
    });
    knock_from_many(&world, 256, 255 + MANY);
    let seen = || {
        let text = fs::read_to_string(&noted).unwrap_or_default();
        let opened = text
            .lines()
            .filter_map(|line| line.strip_prefix("open 10.7."));
        let sources: std::collections::BTreeSet<String> = opened.map(str::to_string).collect();
        let again = text
            .lines()
            .filter(|line| line.starts_with("open 10.7."))
            .count();
        (sources.len(), again)
    };
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    let all = MANY + first;
    while seen().0 < all {
        assert!(
            std::time::Instant::now() < deadline,
            "{:?} of {all}",
            seen()
        );
        thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(seen().1, all, "once each");
    drop(watch);
}

/// Knocks with the whole sequence from each of the addresses 10.7.0.0 + n, as raw packets, without a pause.
fn knock_from_many(world: &World, from: usize, to: usize) {
    let script = format!(
        "
import socket, struct
def checksum(d):
    s = sum(struct.unpack('!%dH' % (len(d) // 2), d))
    s = (s >> 16) + (s & 0xffff); s += s >> 16
    return ~s & 0xffff
s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
to = socket.inet_aton('192.0.2.1')
for n in range({from}, {to} + 1):
    source = struct.pack('!I', 0x0a070000 + n)
    for port in 4431, 2387, 920:
        tcp = struct.pack('!HHIIBBHHH', 40000, port, 1, 0, 0x50, 2, 64240, 0, 0)
        pseudo = source + to + struct.pack('!BBH', 0, 6, 20)
        tcp = tcp[:16] + struct.pack('!H', checksum(pseudo + tcp)) + tcp[18:]
        ip = struct.pack('!BBHHHBBH4s4s', 0x45, 0, 40, 1, 0x4000, 64, 6, 0, source, to)
        s.sendto(ip + tcp, ('192.0.2.1', 0))
"
    );
    let mut command = std::process::Command::new("python3");
    command.args(["-c", &script]);
    let output = world
        .lab
        .client
        .inside(|| command.output().unwrap())
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// A key whose grant is shorter than the one that there is: the last opening counts, and is told.
fn an_opening_that_shortens_a_grant_is_told() {
    for log in ["nflog:5", "off"] {
        let world = World::with(&format!("log = \"{log}\"\nopen_for = \"60s\"\n{YVES}"));
        world.yes(&["open", "ssh", CLIENT[0], "--for", "1h"]);
        let watch = Lines::of(&world, &["watch", "--json", "--every", "200ms"]);
        let state = watch.event("state");
        assert_eq!(state["state"]["doors"][0]["grants"][0]["source"], CLIENT[0]);
        world.knock(CLIENT[0], &SEQUENCE);
        let event = watch.until("an event", |line| !line.contains("\"event\":\"state\""));
        let event: Value = serde_json::from_str(&event).unwrap();
        assert_eq!(event["event"], "open", "{log}");
        assert_eq!(event["key"], "yves", "{log}");
        // Once.
        for _ in 0..3 {
            let next = watch.until("a state", |_| true);
            assert!(next.contains("\"event\":\"state\""), "{log}: {next}");
        }
    }
}

/// In a namespace that is not the first, the kernel's log is silent; that is said.
fn a_silent_log_is_explained() {
    let world = World::with(YVES);
    world.knock(CLIENT[0], &SEQUENCE);
    let log = world.toctoc(&["log", world.path().to_str().unwrap()]);
    let said = String::from_utf8_lossy(&log.stderr).into_owned();
    assert!(said.contains("net.netfilter.nf_log_all_netns=1"), "{said}");
}

/// An ordinary user's process crashes. The kernel writes its name and its file's, in which all that our rules write
/// stands, with line ends and without. (x86_64 with `debug.exception-trace`, as it is set everywhere.)
#[cfg(target_arch = "x86_64")]
#[test]
fn a_crash_forges_no_opening() {
    let world = World::with(YVES);
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let packet =
        "IN=eth0 OUT= MAC= SRC=203.0.113.77 DST=192.0.2.1 LEN=60 TTL=64 PROTO=TCP SPT=1 DPT=50";
    let whole = format!("toctoc: opened door=ssh key=yves {packet}");
    for (number, (name, file)) in [
        ("toctoc: ssh y ".to_string(), packet.to_string()),
        ("toctoc: ssh y I".to_string(), packet.to_string()),
        ("x".to_string(), whole.clone()),
        ("x".to_string(), format!("\n{whole} \n")),
        ("\ntoctoc: ssh y ".to_string(), packet.to_string()),
    ]
    .into_iter()
    .enumerate()
    {
        let script = "
import os, resource, struct, sys
name, path = sys.argv[1].encode()[:15].ljust(16, b'\\0'), sys.argv[2]
code = (b'\\xbf\\x0f\\0\\0\\0\\x48\\x8d\\x35' + struct.pack('<i', 14) + b'\\xb8\\x9d\\0\\0\\0\\x0f\\x05'
        b'\\x31\\xc0\\xc6\\x00\\x00\\x90\\x90' + name)
head = b'\\x7fELF\\x02\\x01\\x01' + bytes(9) + struct.pack('<HHIQQQIHHHHHH', 2, 62, 1, 0x400078, 64, 0, 0, 64,
        56, 1, 0, 0, 0)
size = 0x78 + len(code)
elf = head + struct.pack('<IIQQQQQQ', 1, 5, 0, 0x400000, 0x400000, size, size, 0x1000) + code
open(path, 'wb').write(elf); os.chmod(path, 0o755)
if os.fork() == 0:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.setgid(65534); os.setuid(65534); os.execv(path, [path])
os.wait()
";
        let nested = directory.path().join(number.to_string());
        fs::create_dir(&nested).unwrap();
        fs::set_permissions(&nested, PermissionsExt::from_mode(0o755)).unwrap();
        let mut command = std::process::Command::new("python3");
        command.args(["-c", script, &name]).arg(nested.join(file));
        let output = command.output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let log = world.toctoc(&["log", world.path().to_str().unwrap()]);
    let said = String::from_utf8_lossy(&log.stdout).into_owned();
    assert!(!said.contains("203.0.113.77"), "{said}");
    // What was read is what was meant.
    let dmesg = std::process::Command::new("dmesg").output().unwrap();
    let dmesg = String::from_utf8_lossy(&dmesg.stdout).into_owned();
    assert!(dmesg.contains("203.0.113.77"), "no crash was logged");
}

/// The view as a person sees it, on a terminal of 90 by 24.
fn the_screen_shows_who_is_in() {
    let world = World::with(&format!("open_for = \"90s\"\n{YVES}"));
    let mut screen = screen(&world);
    screen.until("the door", |text| {
        text.contains("22/tcp") && text.contains("closed")
    });
    world.knock(STRANGER[0], &SEQUENCE[..3]);
    screen.until("who is midway", |text| {
        text.contains("192.0.2.9") && text.contains("3 knocks of yves")
    });
    world.knock(CLIENT[0], &SEQUENCE);
    let shown = screen.until("who is in", |text| {
        text.contains("open to 1 source") && text.contains("ssh opened to 192.0.2.7, by yves")
    });
    assert!(shown.contains("yves         opened 1"), "{shown}");
    assert!(shown.contains("per second:"), "{shown}");
    // The time that is left is counted down.
    let left = |text: &str| {
        let line = text.lines().find(|line| line.contains("    192.0.2.7"))?;
        let word = line.split_whitespace().find(|word| word.ends_with('s'))?;
        word.trim_end_matches('s').parse::<u32>().ok()
    };
    screen.until("less than 1m", |text| {
        text.contains("1m 2") || left(text).is_some()
    });
    world.yes(&["close"]);
    screen.until("the end", |text| text.contains("ssh closed to 192.0.2.7"));
    screen.press(b"q");
    assert!(ends(&mut screen));
}

/// A glance does not count tokens. Nothing is said of them then: neither that there are none, nor how long they last.
#[test]
fn what_was_not_counted_is_not_told() {
    let world = guarded();
    let counted = world.status();
    let tokens = &counted["keys"][0]["tokens"];
    assert!(tokens["loaded"].as_u64().unwrap() > 0, "{tokens}");
    assert_eq!(tokens["low"], false);
    let watch = Lines::of(&world, &["watch", "--json", "--every", "200ms"]);
    for _ in 0..2 {
        let state = watch.event("state");
        let key = &state["state"]["keys"][0];
        assert_eq!(
            (&key["name"], &key["tokens"]),
            (&"alice".into(), &Value::Null)
        );
    }
    let mut screen = screen(&world);
    let shown = screen.until("the key", |text| text.contains("alice        opened 0"));
    assert!(!shown.to_lowercase().contains("tokens"), "{shown}");
    screen.press(b"q");
    assert!(ends(&mut screen));
}

/// `toctoc watch` on a terminal of its own.
fn screen(world: &World) -> Terminal {
    let mut command = world.command(env!("CARGO_BIN_EXE_toctoc"));
    command.args(["watch", "--every", "300ms"]);
    if !world.is_nftables() {
        command.args(["--backend", "iptables"]);
    }
    command.arg(world.path());
    Terminal::of(&world.lab.server, command, 24, 90)
}

/// Returns whether it ends well, and gives the screen back.
fn ends(screen: &mut Terminal) -> bool {
    screen.ended() == Some(0) && !screen.parser.screen().alternate_screen()
}

on_every_firewall!(
    the_log_says_who_opened,
    events_are_told_once,
    wrong_knocks_are_counted,
    a_program_is_run_on_open_and_close,
    an_opening_that_shortens_a_grant_is_told,
    a_silent_log_is_explained,
    the_screen_shows_who_is_in,
);
