//! The one place that starts programs.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{Access, MemfdFlags, memfd_create};
use rustix::process::{Pid, Signal, kill_process_group};

/// The end of a program, and its output.
#[derive(Debug)]
pub struct Exit {
    pub code: Option<i32>,
    /// The signal that killed it.
    pub signal: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Exit {
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
pub fn run(program: &[&str], stdin: &str) -> io::Result<Exit> {
    let Some((name, arguments)) = program.split_first() else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let output = command(name, arguments).stdin(whole(stdin)?).output()?;
    Ok(ended(output.status, &output.stdout, &output.stderr))
}

/// Starts a program that goes on when we have ended: with pipes to and from it, and nothing of our
/// terminal. `state` is where state is kept.
///
/// # Errors
/// As for [`run`].
pub fn start_apart(program: &Path, arguments: &[&str], state: &Path) -> io::Result<Child> {
    Command::new(program)
        .args(arguments)
        .env("STATE_DIRECTORY", state)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
}

/// Runs a program that only reads, without input; `None` when it takes longer than that and is ended,
/// with all that it has started.
///
/// # Errors
/// As for [`run`].
pub fn run_within(program: &[&str], limit: Duration) -> io::Result<Option<Exit>> {
    let Some((name, arguments)) = program.split_first() else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    // Files in memory, since a pipe that nobody reads would stop it.
    let mut printed = [whole("")?, whole("")?];
    let mut child = command(name, arguments)
        .stdin(Stdio::null())
        .stdout(printed[0].try_clone()?)
        .stderr(printed[1].try_clone()?)
        .process_group(0)
        .spawn()?;
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if start.elapsed() > limit {
            kill_process_group(Pid::from_child(&child), Signal::KILL)?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(Duration::from_millis(1));
    };
    let mut texts = [Vec::new(), Vec::new()];
    for (file, text) in printed.iter_mut().zip(&mut texts) {
        file.rewind()?;
        file.read_to_end(text)?;
    }
    Ok(Some(ended(status, &texts[0], &texts[1])))
}

fn command(name: &str, arguments: &[&str]) -> Command {
    let path = match std::env::var("PATH") {
        // An empty part would mean the current directory.
        Ok(path) => {
            let parts = path.split(':').filter(|part| !part.is_empty());
            let parts: Vec<&str> = parts.chain([SYSTEM_PATH]).collect();
            parts.join(":")
        }
        Err(_) => SYSTEM_PATH.to_string(),
    };
    // By its whole path: looking it up in another `PATH` than ours, the library would copy this process first (fork), which
    // takes longer the more memory it has.
    let places = path.split(':').map(|part| Path::new(part).join(name));
    let whole = match name.contains('/') {
        true => None,
        false => places
            .into_iter()
            .find(|place| place.is_file() && rustix::fs::access(place, Access::EXEC_OK).is_ok()),
    };
    let mut command = Command::new(whole.as_deref().unwrap_or(Path::new(name)));
    command.args(arguments).env("PATH", path).env("LC_ALL", "C");
    command
}

fn ended(status: ExitStatus, stdout: &[u8], stderr: &[u8]) -> Exit {
    // A shell in front of the program tells its signal so.
    let told = || status.code().filter(|code| (129..=192).contains(code));
    Exit {
        code: status.code(),
        signal: status.signal().or_else(|| told().map(|code| code - 128)),
        stdout: String::from_utf8_lossy(stdout).into_owned(),
        stderr: String::from_utf8_lossy(stderr).into_owned(),
    }
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
