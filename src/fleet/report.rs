//! The report of `toctoc fleet` for `toctoc status`: a small file in `/run`, one for each network namespace.

use std::env;
use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::clock::Moment;
use super::engine::now;
use super::ledger::Ledger;
use crate::knock::display_source;

/// So many grants are told of; the kernel knows all.
const MOST_GRANTS: usize = 2000;

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
    /// When this was written, by the clock of this host since its start.
    pub at: Moment,
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
    /// The report of a ledger on others.
    pub fn of(ledger: &Ledger) -> Report {
        let now = now();
        let hosts = ledger.hosts.iter().map(|(name, seen)| HostReport {
            name: name.to_string(),
            seen: now.saturating_sub(seen.at).max(0) as f64 / 1000.0,
            lag: seen.lag,
        });
        let grants = ledger.elsewhere(now).take(MOST_GRANTS);
        let grants = grants.map(|((door, source), host, given)| Elsewhere {
            door: door.to_string(),
            source: display_source(source),
            host: host.map(ToString::to_string),
            key: given.key.as_ref().map(ToString::to_string),
        });
        Report {
            name: ledger.rules.me.to_string(),
            hosts: hosts.collect(),
            grants: grants.collect(),
            at: now,
            ..Report::default()
        }
    }

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
        let age = now().saturating_sub(report.at).max(0) as f64 / 1000.0;
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
