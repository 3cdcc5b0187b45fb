//! One change at a time: a lock file for each network namespace, which is to say for each firewall.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::{FdFlags, fcntl_setfd};

use super::Failure;

/// How long a change waits for another one to finish.
const PATIENCE: Duration = Duration::from_secs(20);

/// Held while the firewall is being changed; released when dropped, also by a death of any kind. The
/// programs that are started meanwhile hold it too: an nft whose toctoc was killed may still be at
/// work, and nobody else shall be before it ends.
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
        let failed = |error: io::Error| {
            Failure::unchanged(format!("this firewall cannot be locked: {error}"))
        };
        let file = open().map_err(failed)?;
        let start = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => {
                    fcntl_setfd(&file, FdFlags::empty()).map_err(|e| failed(e.into()))?;
                    return Ok(Lock { _file: file });
                }
                Err(TryLockError::Error(error)) => return Err(failed(error)),
                Err(TryLockError::WouldBlock) if start.elapsed() < PATIENCE => {
                    thread::sleep(Duration::from_millis(20));
                }
                Err(TryLockError::WouldBlock) => {
                    return Err(Failure::unchanged(format!(
                        "another toctoc has been changing this firewall for {} s",
                        PATIENCE.as_secs()
                    )));
                }
            }
        }
    }
}

/// The file to lock: `/run/toctoc/NAMESPACE.lock`. Who cannot write there (root of a user namespace)
/// locks the namespace itself, which only who is inside can reach; were it so for everyone, any
/// local user could keep the administrator waiting.
fn open() -> io::Result<File> {
    let Some(path) = beside("lock") else {
        return File::open(NAMESPACE);
    };
    File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits() as i32)
        .open(path)
}

/// The network namespace of this thread.
const NAMESPACE: &str = "/proc/thread-self/ns/net";

/// The file `/run/toctoc/NAMESPACE.KIND`. `None` where only somebody else may write there.
pub(super) fn beside(kind: &str) -> Option<PathBuf> {
    let directory = Path::new("/run/toctoc");
    ours(directory).ok()?;
    let number = fs::metadata(NAMESPACE).ok()?.ino();
    Some(directory.join(format!("{number}.{kind}")))
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
        Err(io::ErrorKind::PermissionDenied.into())
    }
}
