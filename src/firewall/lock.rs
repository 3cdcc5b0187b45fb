//! One change at a time: a lock file for each network namespace, which is to say for each firewall.

use std::collections::HashSet;
use std::fs::{self, File, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::{FdFlags, fcntl_setfd};

use super::Failure;

/// The longest wait of a change for another one to finish.
const PATIENCE: Duration = Duration::from_secs(20);

/// Held while the firewall is being changed; released when dropped, also by a death of any kind. The
/// programs that are started meanwhile hold it too: an nft whose toctoc was killed may still be at
/// work, and nobody else shall be before it ends.
#[derive(Debug)]
pub struct Lock {
    file: File,
    /// Where it is, unless the namespace itself is locked.
    path: Option<PathBuf>,
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
        let (mut file, path) = open().map_err(failed)?;
        let start = Instant::now();
        loop {
            match file.try_lock() {
                // Whoever held it has removed it: another may have made it again meanwhile.
                Ok(()) if path.as_ref().is_some_and(|path| !is_at(&file, path)) => {
                    file = open().map_err(failed)?.0;
                }
                Ok(()) => {
                    fcntl_setfd(&file, FdFlags::empty()).map_err(|e| failed(e.into()))?;
                    if let Some(path) = &path {
                        remove_others(path);
                    }
                    return Ok(Lock { file, path });
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

/// A lock is there while it is held, and no longer: network namespaces come and go. Whatever else holds the
/// file (an nft of ours that is still at work) keeps it, since we end only after it.
impl Drop for Lock {
    fn drop(&mut self) {
        if let Some(path) = self.path.as_ref().filter(|path| is_at(&self.file, path)) {
            let _ = fs::remove_file(path);
        }
    }
}

/// Removes the locks that nobody holds: of those who were killed, in namespaces that may be gone.
fn remove_others(own: &Path) {
    let files = own
        .parent()
        .and_then(|directory| fs::read_dir(directory).ok());
    let paths = files
        .into_iter()
        .flatten()
        .flatten()
        .map(|file| file.path());
    let is_lock = |path: &PathBuf| path.extension().is_some_and(|end| end == "lock") && path != own;
    for path in paths.filter(is_lock) {
        let nofollow = rustix::fs::OFlags::NOFOLLOW.bits() as i32;
        let file = File::options()
            .write(true)
            .custom_flags(nofollow)
            .open(&path);
        // Held while it is removed, so that nobody takes it in between without seeing that it is gone.
        if let Ok(file) = file
            && file.try_lock().is_ok()
            && is_at(&file, &path)
        {
            let _ = fs::remove_file(&path);
        }
    }
}

/// Returns whether this is the file that is there.
fn is_at(file: &File, path: &Path) -> bool {
    let number = |found: fs::Metadata| (found.dev(), found.ino());
    let (own, there) = (file.metadata(), fs::symlink_metadata(path));
    own.is_ok_and(|own| there.is_ok_and(|there| number(own) == number(there)))
}

/// The file to lock: `/run/toctoc/NAMESPACE.lock`. Who cannot write there (root of a user namespace)
/// locks the namespace itself, which only who is inside can reach; were it so for everyone, any
/// local user could keep the administrator waiting.
fn open() -> io::Result<(File, Option<PathBuf>)> {
    let Some(path) = beside("lock") else {
        return Ok((File::open(NAMESPACE)?, None));
    };
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits() as i32)
        .open(&path);
    match file {
        // Nobody of ours can have a lock there.
        Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {
            Ok((File::open(NAMESPACE)?, None))
        }
        file => Ok((file?, Some(path))),
    }
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

/// Writes the file `/run/toctoc/NAMESPACE.KIND`, which only root may read.
///
/// # Errors
/// When it cannot be written. None is there then: an old one would say what is no more.
pub(super) fn put_beside(kind: &str, text: &[u8]) -> io::Result<()> {
    let path = beside(kind).ok_or(io::ErrorKind::PermissionDenied)?;
    // The directory is ours alone.
    let new = path.with_extension(format!("{kind}.new"));
    let _ = fs::remove_file(&new);
    let mut options = File::options();
    let written = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&new)
        .and_then(|mut file| file.write_all(text))
        .and_then(|()| fs::rename(&new, &path));
    if written.is_err() {
        let _ = fs::remove_file(&new);
        let _ = fs::remove_file(&path);
    }
    written
}

/// Removes that file, if it is there.
pub(super) fn remove_beside(kind: &str) {
    if let Some(path) = beside(kind) {
        let _ = fs::remove_file(path);
    }
}

/// Removes the files of network namespaces that are gone. Locks go by themselves.
pub(super) fn forget_vanished(living: &HashSet<u64>) {
    let own = beside("lock");
    let directory = own
        .as_ref()
        .and_then(|own| fs::read_dir(own.parent()?).ok());
    let paths = directory.into_iter().flatten().flatten();
    for path in paths.map(|file| file.path()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if let Some((number, kind)) = name.split_once('.')
            && kind != "lock"
            && number
                .parse()
                .is_ok_and(|number: u64| !living.contains(&number))
        {
            let _ = fs::remove_file(&path);
        }
    }
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
