//! The report of `toctoc fleet` for `toctoc status`: a small file in `/run`, one for each network namespace. All that
//! this program knows of the other one.

use std::env;
use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// More than a report has.
const LARGEST: u64 = 4 << 20;

/// The seconds after its last word when an agent is taken to stand still.
const STILL: f64 = 10.0;

/// The report of the agent.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The name of this host.
    pub name: String,
    /// Where the engine is.
    pub engine: String,
    /// `true` if it is connected; `why` says why not.
    pub connected: bool,
    pub why: Option<String>,
    /// The time that a message is under way, there and back, in milliseconds.
    pub lag: Option<i64>,
    pub hosts: Vec<HostReport>,
    /// The number of messages refused since the agent began, and why the last one was.
    pub refused: u64,
    pub last_refused: Option<String>,
    /// The seconds from that until this was written.
    #[serde(default)]
    pub refused_ago: Option<f64>,
    /// The number of items that the engine published and would not keep.
    pub unkept: usize,
    /// The reason why the agent waits, if the kernel does not run its policy: a sentence.
    #[serde(default)]
    pub waits: Option<String>,
    /// The grants of other hosts, at most some thousands.
    pub grants: Vec<Elsewhere>,
    /// When this was written, by [`milliseconds`] of this host's clock since its start.
    pub at: i64,
}

/// Another host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HostReport {
    pub name: String,
    /// Seconds since it was heard of.
    pub seen: f64,
    /// The longest time that its words were under way, in milliseconds.
    pub lag: i64,
}

/// A grant of another host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Elsewhere {
    pub door: String,
    pub source: String,
    /// `None`: nobody knows, since the agent was started anew.
    pub host: Option<String>,
    pub key: Option<String>,
}

impl Report {
    /// Writes it. Readers find the old one or the new one, and know by the lock whether its writer is still there:
    /// whoever writes keeps the file.
    ///
    /// # Errors
    /// When there is no place for it.
    pub fn write(&self) -> io::Result<File> {
        let path = path()?;
        let directory = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
        match DirBuilder::new().mode(0o755).create(directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let new = path.with_extension("new");
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut options = File::options();
        // The sources that are in are for root alone to know.
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&new)?;
        file.lock()?;
        file.write_all(serde_json::to_string(self)?.as_bytes())?;
        fs::rename(&new, &path)?;
        Ok(file)
    }

    /// Reads the last one; `None` when there is none, or nothing that is one.
    pub fn read() -> Option<Told> {
        let path = path().ok()?;
        let (mut file, mut is_held) = look(&path)?;
        if !is_held {
            // There may be a newer one by now.
            (file, is_held) = look(&path)?;
        }
        let mut text = String::new();
        file.take(LARGEST).read_to_string(&mut text).ok()?;
        let report: Report = serde_json::from_str(&text).ok()?;
        let age = milliseconds(ClockId::Boottime)
            .saturating_sub(report.at)
            .max(0) as f64
            / 1000.0;
        Some(Told {
            runs: is_held && age < STILL,
            age,
            report,
        })
    }
}

/// The report that an agent has left.
#[derive(Debug)]
pub struct Told {
    pub report: Report,
    /// In seconds.
    pub age: f64,
    /// `true` if it is still there.
    pub runs: bool,
}

/// A clock of this host, in milliseconds.
pub fn milliseconds(clock: ClockId) -> i64 {
    let now = clock_gettime(clock);
    now.tv_sec * 1000 + now.tv_nsec / 1_000_000
}

/// The file of a report, and whether its writer is still there.
fn look(path: &Path) -> Option<(File, bool)> {
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    let mut options = File::options();
    let file = options.read(true).custom_flags(nonblocking).open(path);
    let file = file
        .ok()
        .filter(|file| file.metadata().is_ok_and(|found| found.is_file()))?;
    let is_held = matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock));
    Some((file, is_held))
}

/// `$RUNTIME_DIRECTORY` as systemd sets it, or `/run/toctoc-fleet`; in it a file for this namespace.
fn path() -> io::Result<PathBuf> {
    let told = env::var_os("RUNTIME_DIRECTORY").filter(|told| !told.is_empty());
    let directory = told.map_or_else(|| PathBuf::from("/run/toctoc-fleet"), PathBuf::from);
    let number = fs::metadata("/proc/thread-self/ns/net")?.ino();
    Ok(directory.join(format!("{number}.json")))
}
