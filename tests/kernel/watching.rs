//! `toctoc watch` and `toctoc log`: what is seen of real knocks, in lines, by programs, and on a screen.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use serde_json::Value;
use toctoc::lab::{CLIENT, STRANGER};

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
        if !world.is_nftables() {
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
    let log = Lines::of(&world, &["log"]);
    log.until("what is listened to", |line| line.contains("NFLOG group 5"));
    world.knock(STRANGER[0], &SEQUENCE[..4]);
    world.knock(CLIENT[0], &SEQUENCE);
    world.knock(CLIENT[1], &SEQUENCE);
    let first = log.until("an opening", |line| line.contains("  by "));
    assert!(first.contains(" UTC  192.0.2.7 "), "{first}");
    assert!(first.ends_with("  ssh           by yves"), "{first}");
    let second = log.until("an opening", |line| line.contains("  by "));
    assert!(second.contains("  2001:db8::7 "), "{second}");
    let other = world.toctoc(&["log", world.path().to_str().unwrap()]);
    let said = String::from_utf8_lossy(&other.stderr).into_owned();
    assert!(
        said.contains("one program at a time can listen to a group"),
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

/// The view as a person sees it, on a terminal of 90 by 24.
fn the_screen_shows_who_is_in() {
    let world = World::with(&format!("open_for = \"90s\"\n{YVES}"));
    let mut screen = Screen::of(&world);
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
    assert!(screen.ends());
}

/// `toctoc watch` on a terminal of its own.
struct Screen {
    terminal: File,
    screen: Receiver<Vec<u8>>,
    parser: vt100::Parser,
    running: Running,
}

impl Screen {
    fn of(world: &World) -> Screen {
        let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&terminal).unwrap();
        unlockpt(&terminal).unwrap();
        let size = Winsize {
            ws_row: 24,
            ws_col: 90,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&terminal, size).unwrap();
        let name = ptsname(&terminal, Vec::new()).unwrap();
        let side = || {
            let name = name.to_str().unwrap();
            File::options().read(true).write(true).open(name).unwrap()
        };
        let mut command = world.command(env!("CARGO_BIN_EXE_toctoc"));
        command.args(["watch", "--every", "300ms"]);
        if !world.is_nftables() {
            command.args(["--backend", "iptables"]);
        }
        command.arg(world.path());
        command.stdin(side()).stdout(side()).stderr(side());
        let child = world.lab.server.inside(|| command.spawn().unwrap());
        let terminal = File::from(terminal);
        let mut reader = terminal.try_clone().unwrap();
        let (sender, screen) = channel();
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(read @ 1..) = reader.read(&mut bytes) {
                if sender.send(bytes[..read].to_vec()).is_err() {
                    return;
                }
            }
        });
        Screen {
            terminal,
            screen,
            parser: vt100::Parser::new(24, 90, 0),
            running: Running(child.unwrap()),
        }
    }

    /// What is on the screen as soon as this holds for it.
    fn until(&mut self, what: &str, holds: impl Fn(&str) -> bool) -> String {
        loop {
            let shown = self.parser.screen().contents();
            if holds(&shown) {
                return shown;
            }
            match self.screen.recv_timeout(PATIENCE) {
                Ok(bytes) => self.parser.process(&bytes),
                Err(_) => panic!("not on the screen: {what}\n{shown}"),
            }
        }
    }

    fn press(&mut self, keys: &[u8]) {
        self.terminal.write_all(keys).unwrap();
    }

    /// Whether it ends well, and gives the screen back.
    fn ends(&mut self) -> bool {
        let ended = self.running.0.wait().unwrap().success();
        while let Ok(bytes) = self.screen.recv_timeout(Duration::from_millis(300)) {
            self.parser.process(&bytes);
        }
        ended && !self.parser.screen().alternate_screen()
    }
}

on_every_firewall!(
    the_log_says_who_opened,
    events_are_told_once,
    wrong_knocks_are_counted,
    a_program_is_run_on_open_and_close,
    the_screen_shows_who_is_in,
);
