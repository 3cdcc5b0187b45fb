//! Files that hold secrets, and files in places that others may have a hand in.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The sentence about a file that cannot be read. An ordinary user is told who can.
#[cfg(feature = "server")]
pub(crate) fn unreadable(path: &Path, error: &io::Error) -> String {
    let is_root = rustix::process::geteuid().is_root();
    match error.kind() == io::ErrorKind::PermissionDenied && !is_root {
        true => format!("only root can read {} (try with sudo)", path.display()),
        false => format!("{} cannot be read: {error}", path.display()),
    }
}

/// Writes a file that was not there before and that nobody else may read (0600).
///
/// # Errors
/// A sentence.
pub fn write_new(path: &Path, bytes: &[u8]) -> Result<(), String> {
    let failed = |error: io::Error| format!("{} cannot be written: {error}", path.display());
    let mut options = File::options();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(failed)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    written.map_err(|error| {
        let _ = fs::remove_file(path);
        failed(error)
    })
}

/// Makes a directory (0700) with those above it, where nobody but this user and root decides what is there: no
/// directory or symbolic link on the way to it belongs to another user.
///
/// # Errors
/// A sentence.
pub fn make_own_directory(directory: &Path) -> Result<(), String> {
    let failed = |error: io::Error| format!("{} cannot be made: {error}", directory.display());
    is_own_way(directory)?;
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(0o700);
    builder.create(directory).map_err(failed)?;
    // Also what was made just now, and may be by somebody else.
    is_own_way(directory)
}

/// Refuses a path on which another user decides what is there. What is not there yet is nobody's.
///
/// # Errors
/// A sentence that names the place.
pub fn is_own_way(path: &Path) -> Result<(), String> {
    let us = rustix::process::geteuid().as_raw();
    // In a user namespace root has another number, that of the owner of `/`.
    let root = fs::metadata("/").map_or(0, |found| found.uid());
    let mut way = PathBuf::new();
    for part in path.components() {
        way.push(part);
        let Ok(itself) = way.symlink_metadata() else {
            return Ok(());
        };
        let target = way.metadata();
        let owners = [Some(itself.uid()), target.ok().map(|found| found.uid())];
        let other = |owner: u32| ![us, root, 0].contains(&owner);
        if owners.into_iter().flatten().any(other) {
            return Err(format!(
                "{} belongs to another user: nothing is written there",
                way.display()
            ));
        }
    }
    Ok(())
}

/// Writes a small file whole, in place of what bears its name: a symbolic link is replaced, not followed. Its
/// directory is one of [`make_own_directory`].
///
/// # Errors
/// When it cannot be written.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}.new", std::process::id()));
    let new = path.with_file_name(name);
    let mut options = File::options();
    options.write(true).create_new(true).mode(0o600);
    let written = options
        .open(&new)
        .and_then(|mut file| file.write_all(bytes))
        .and_then(|()| fs::rename(&new, path));
    if written.is_err() {
        let _ = fs::remove_file(&new);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_replaced_and_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let (link, victim) = (
            directory.path().join("link"),
            directory.path().join("victim"),
        );
        fs::write(&victim, "precious").unwrap();
        std::os::unix::fs::symlink(&victim, &link).unwrap();
        replace(&link, b"17\n").unwrap();
        replace(&link, b"18\n").unwrap();
        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
        assert_eq!(fs::read_to_string(&link).unwrap(), "18\n");
        assert!(link.symlink_metadata().unwrap().is_file());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
    }
}
