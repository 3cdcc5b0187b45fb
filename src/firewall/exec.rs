//! The one place that starts programs.

use std::io::{self, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::thread;

/// How a program ended, and what it printed.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub signal: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    pub fn succeeded(&self) -> bool {
        self.code == Some(0)
    }
}

/// Where nft and ip live is not always in the PATH of those who call us.
const SYSTEM_PATH: &str = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin";

/// Runs a program with `stdin` as its input and waits for it. Messages are in English whatever the
/// user's language, since some of them are read.
///
/// # Errors
/// When the program cannot be started at all (not installed, not permitted).
pub fn run(program: &[&str], stdin: &str) -> io::Result<Ended> {
    let Some((name, arguments)) = program.split_first() else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let path = match std::env::var("PATH") {
        Ok(path) => format!("{path}:{SYSTEM_PATH}"),
        Err(_) => SYSTEM_PATH.to_string(),
    };
    let mut child = Command::new(name)
        .args(arguments)
        .env("PATH", path)
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let input = child.stdin.take();
    let text = stdin.to_string();
    // A program that prints before it has read everything must not wait for us. That it does not
    // read to the end is seen in how it ends.
    let writer = thread::spawn(move || {
        if let Some(mut input) = input {
            let _ = input.write_all(text.as_bytes());
        }
    });
    let output = child.wait_with_output()?;
    let _ = writer.join();
    Ok(Ended {
        code: output.status.code(),
        signal: output.status.signal(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}
