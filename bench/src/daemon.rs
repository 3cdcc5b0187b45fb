//! A program that runs until nobody needs it any more.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, Stdio};

use crate::place::Place;

/// A program in the background, on the server. It ends with all that it has started when this is
/// dropped, or when we end, whatever ends us: a shell beside it waits for the end of a pipe from us.
pub struct Daemon {
    pub pid: u32,
    shell: Child,
}

/// The script of that shell.
const GUARD: &str = r#""$@" >&2 & echo $! && read -r _; kill -9 $!; wait; kill -9 0"#;

impl Daemon {
    /// Starts it; what it says goes to a file of the place.
    pub fn start(place: &Place, words: &[&str]) -> io::Result<Daemon> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(place.path("daemons.log"))?;
        let guarded = [&["sh", "-c", GUARD, "sh"], words].concat();
        let mut shell = place.lab.server.inside(|| {
            place
                .command(&guarded)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(log)
                .process_group(0)
                .spawn()
        })??;
        let mut first = String::new();
        let told = match shell.stdout.take() {
            Some(stdout) => BufReader::new(stdout).read_line(&mut first),
            None => Ok(0),
        };
        let mut daemon = Daemon { pid: 0, shell };
        told?;
        daemon.pid = first.trim().parse().map_err(io::Error::other)?;
        Ok(daemon)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
    }
}
