//! A program on a terminal of its own, with a person at the keys.

use std::fs::File;
use std::io::{Read, Write};
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use toctoc::lab::Host;

use crate::world::{PATIENCE, Running};

pub struct Terminal {
    terminal: File,
    output: Receiver<Vec<u8>>,
    pub parser: vt100::Parser,
    /// All that was printed.
    pub printed: String,
    /// A character of which the rest has not come yet.
    begun: Vec<u8>,
    /// So much of it was there when a key was pressed last.
    answered: usize,
    running: Running,
}

impl Terminal {
    /// Starts a program on a host, on a terminal of so many rows and columns. Ctrl-C reaches it when its session has this
    /// terminal (`setsid --ctty`).
    pub fn of(host: &Host, mut command: Command, rows: u16, columns: u16) -> Terminal {
        let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&terminal).unwrap();
        unlockpt(&terminal).unwrap();
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&terminal, size).unwrap();
        let name = ptsname(&terminal, Vec::new()).unwrap();
        let side = || {
            let name = name.to_str().unwrap();
            let mut options = File::options();
            options.read(true).write(true);
            let nobodys = rustix::fs::OFlags::NOCTTY.bits() as i32;
            std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, nobodys);
            options.open(name).unwrap()
        };
        command.stdin(side()).stdout(side()).stderr(side());
        let child = host.inside(|| command.spawn().unwrap());
        drop(command);
        let terminal = File::from(terminal);
        let mut reader = terminal.try_clone().unwrap();
        let (sender, output) = channel();
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(read @ 1..) = reader.read(&mut bytes) {
                if sender.send(bytes[..read].to_vec()).is_err() {
                    return;
                }
            }
        });
        Terminal {
            terminal,
            output,
            parser: vt100::Parser::new(rows, columns, 0),
            printed: String::new(),
            begun: Vec::new(),
            answered: 0,
            running: Running(child.unwrap()),
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        self.parser.process(bytes);
        self.begun.extend(bytes);
        let whole = match std::str::from_utf8(&self.begun) {
            Ok(_) => self.begun.len(),
            Err(error) => error.valid_up_to(),
        };
        let text: Vec<u8> = self.begun.drain(..whole).collect();
        self.printed += &String::from_utf8_lossy(&text).replace('\r', "");
    }

    /// The text on the screen, as soon as this holds for it.
    pub fn until(&mut self, what: &str, holds: impl Fn(&str) -> bool) -> String {
        loop {
            let shown = self.parser.screen().contents();
            if holds(&shown) {
                return shown;
            }
            match self.output.recv_timeout(PATIENCE) {
                Ok(bytes) => self.take(&bytes),
                Err(_) => panic!("not on the screen: {what}\n{shown}"),
            }
        }
    }

    /// Waits until the last that was printed since a key was pressed is this.
    pub fn prompt(&mut self, words: &str) {
        while !self.printed[self.answered..].trim_end().ends_with(words) {
            match self.output.recv_timeout(PATIENCE) {
                Ok(bytes) => self.take(&bytes),
                Err(_) => panic!("no question that ends with {words}:\n{}", self.printed),
            }
        }
    }

    pub fn press(&mut self, keys: &[u8]) {
        self.answered = self.printed.len();
        self.terminal.write_all(keys).unwrap();
    }

    /// Waits for the end. The status is `None` after a signal.
    pub fn ended(&mut self) -> Option<i32> {
        let deadline = Instant::now() + 6 * PATIENCE;
        let ended = loop {
            match self.running.0.try_wait().unwrap() {
                Some(ended) => break ended.code(),
                None => assert!(Instant::now() < deadline, "it goes on:\n{}", self.printed),
            }
            thread::sleep(Duration::from_millis(10));
        };
        while let Ok(bytes) = self.output.recv_timeout(Duration::from_millis(300)) {
            self.take(&bytes);
        }
        ended
    }
}
