//! One change at a time: a lock file for each network namespace, which is to say for each firewall.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::Failure;

/// How long a change waits for another one to finish.
const PATIENCE: Duration = Duration::from_secs(20);

/// Held while the firewall is being changed; released when dropped, also by a death of any kind.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Waits until nobody else changes this firewall.
    ///
    /// # Errors
    /// When somebody still does after some time, or there is no place for the lock file.
    pub fn take() -> Result<Lock, Failure> {
        let path = path().map_err(|error| {
            Failure::unchanged(format!("there is no place for a lock file: {error}"))
        })?;
        let failed = |error: io::Error| {
            Failure::unchanged(format!("{} cannot be locked: {error}", path.display()))
        };
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits() as i32)
            .open(&path)
            .map_err(failed)?;
        let start = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Lock { _file: file }),
                Err(TryLockError::Error(error)) => return Err(failed(error)),
                Err(TryLockError::WouldBlock) if start.elapsed() < PATIENCE => {
                    thread::sleep(Duration::from_millis(20));
                }
                Err(TryLockError::WouldBlock) => {
                    return Err(Failure::unchanged(format!(
                        "another toctoc has been changing this firewall for {} s (it holds {})",
                        PATIENCE.as_secs(),
                        path.display()
                    )));
                }
            }
        }
    }
}

/// `/run/toctoc/NAMESPACE.lock`; for root of a user namespace, who cannot write there, a directory of
/// his own below the temporary one.
fn path() -> io::Result<PathBuf> {
    let namespace = fs::metadata("/proc/self/ns/net")?.ino();
    let own = format!("toctoc-{}", rustix::process::geteuid().as_raw());
    let candidates = [PathBuf::from("/run/toctoc"), std::env::temp_dir().join(own)];
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for directory in candidates {
        match ours(&directory) {
            Ok(()) => return Ok(directory.join(format!("{namespace}.lock"))),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Makes the directory, and sees that it is a directory that only we can write to.
fn ours(directory: &Path) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let found = fs::symlink_metadata(directory)?;
    let private = found.is_dir()
        && found.uid() == rustix::process::geteuid().as_raw()
        && found.mode() & 0o022 == 0;
    if private {
        Ok(())
    } else {
        Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("{} belongs to somebody else", directory.display()),
        ))
    }
}
