//! The one place that starts programs.

use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use rustix::fs::{MemfdFlags, memfd_create};

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
        // An empty part would mean the current directory.
        Ok(path) => {
            let parts = path.split(':').filter(|part| !part.is_empty());
            let parts: Vec<&str> = parts.chain([SYSTEM_PATH]).collect();
            parts.join(":")
        }
        Err(_) => SYSTEM_PATH.to_string(),
    };
    let output = Command::new(name)
        .args(arguments)
        .env("PATH", path)
        .env("LC_ALL", "C")
        .stdin(whole(stdin)?)
        .output()?;
    Ok(Ended {
        code: output.status.code(),
        signal: output.status.signal(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// A text as the input of a program, in memory and complete before the program starts. Through a pipe
/// it would see the end of its input when we are killed while writing, and nft would take the
/// beginning of a transaction ("delete all this") for the whole of it.
fn whole(text: &str) -> io::Result<File> {
    let mut file = File::from(memfd_create("toctoc", MemfdFlags::CLOEXEC)?);
    file.write_all(text.as_bytes())?;
    file.rewind()?;
    Ok(file)
}
