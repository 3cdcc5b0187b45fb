//! Runs a program to its end, and says what that took.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

/// Longer than anything here takes.
const LIMIT: Duration = Duration::from_secs(180);

/// The end of a program.
#[derive(Debug)]
pub struct Ended {
    /// From just before its start.
    pub wall: Duration,
    /// Processor time of it and of all the programs that it waited for.
    pub cpu: Duration,
    /// Memory at the most, of it or of the largest of those, in bytes.
    pub peak: u64,
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    /// # Errors
    /// When it failed: with what it was and what it said.
    pub fn succeeded(self, words: &[&str]) -> io::Result<Ended> {
        if self.status.success() {
            return Ok(self);
        }
        let (program, said) = (words.join(" "), self.stderr.trim());
        Err(io::Error::other(format!(
            "{program}: {}: {said}",
            self.status
        )))
    }
}

/// Runs a program. When it takes longer than three minutes, it is ended with all that it has started.
///
/// # Errors
/// When it cannot be started, or took too long.
pub fn run(command: &mut Command) -> io::Result<Ended> {
    run_within(command, LIMIT)?
        .ok_or_else(|| io::Error::other(format!("took longer than {LIMIT:?}: {command:?}")))
}

/// The same with a limit of its own; `None` when it took longer.
///
/// # Errors
/// When it cannot be started.
pub fn run_within(command: &mut Command, limit: Duration) -> io::Result<Option<Ended>> {
    // Files, since a pipe that nobody reads would stop it.
    let (mut stdout, mut stderr) = (tempfile::tempfile()?, tempfile::tempfile()?);
    command
        .stdout(stdout.try_clone()?)
        .stderr(stderr.try_clone()?)
        .process_group(0);
    let start = Instant::now();
    let child = command.spawn()?;
    let in_time = ends_in_time(&child, limit);
    let wall = start.elapsed();
    if !matches!(in_time, Ok(true)) {
        let _ = kill_process_group(Pid::from_child(&child), Signal::KILL);
    }
    let (status, usage) = wait(&child)?;
    if !in_time? {
        return Ok(None);
    }
    Ok(Some(Ended {
        wall,
        cpu: duration(usage.ru_utime) + duration(usage.ru_stime),
        peak: usage.ru_maxrss as u64 * 1024,
        status,
        stdout: text(&mut stdout)?,
        stderr: text(&mut stderr)?,
    }))
}

fn ends_in_time(child: &Child, limit: Duration) -> io::Result<bool> {
    let process = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
    let mut wanted = [PollFd::new(&process, PollFlags::IN)];
    let limit = Timespec::try_from(limit).map_err(io::Error::other)?;
    Ok(poll(&mut wanted, Some(&limit))? == 1)
}

/// Waits as `Child::wait` does, and returns what the program used.
fn wait(child: &Child) -> io::Result<(ExitStatus, libc::rusage)> {
    let mut status = 0;
    // SAFETY: a record of zeros is one; the call fills in both, which live on this stack.
    unsafe {
        let mut usage = std::mem::zeroed();
        if libc::wait4(child.id() as i32, &raw mut status, 0, &raw mut usage) < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok((ExitStatus::from_raw(status), usage))
    }
}

fn duration(time: libc::timeval) -> Duration {
    Duration::new(time.tv_sec as u64, time.tv_usec as u32 * 1_000)
}

fn text(file: &mut File) -> io::Result<String> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
