//! A person on the client, with a home and a program of their own.

use std::io::Write;
use std::process::{Command, Output, Stdio};
use std::thread;

use tempfile::TempDir;
use toctoc::lab::SERVER;

use crate::world::{World, command_among};

/// The sequence of the tour's classic, as the command line has it.
pub const SEQUENCE: &str = "443,2387,920,18357,50";

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
        person.add_profile(&format!(
            "server --host {} --door 22 --sequence {SEQUENCE}",
            SERVER[0]
        ));
        person
    }

    /// Adds a profile; `words` are separated by blanks.
    pub fn add_profile(&self, words: &str) {
        let words: Vec<&str> = words.split(' ').collect();
        self.yes(&[&["profile", "add"], words.as_slice()].concat());
    }

    /// A program that finds toctoc, and this home.
    pub fn command(&self, program: &str) -> Command {
        let toctoc = std::path::Path::new(env!("CARGO_BIN_EXE_toctoc"));
        let mut command = command_among(toctoc.parent().unwrap(), program);
        command
            .env("HOME", self.home.path())
            .env_remove("XDG_CONFIG_HOME")
            .env_remove("XDG_CACHE_HOME")
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
