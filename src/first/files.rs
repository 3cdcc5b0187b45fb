//! The files of a first policy: written into a directory of their own, and put in place when the policy is on trial. So
//! nothing finds them before: no boot, and nobody who thinks that they were tried.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process;

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::{SEQUENCE, SIGNED, TOKEN, TOKEN_PORT, policy};
use crate::enrol::{EnrolError, Enrolled, For, Kind, new_key, replace};
use crate::knock::Knock;
use crate::policy::edit::add_comments;
use crate::policy::{Backend, Host, Name};
use crate::private_file::{make_own_directory, write_new};

/// Files that wait for being put in place. Dropped, they are removed.
#[derive(Debug)]
pub struct Files {
    waiting: Waiting,
    pub key: Enrolled,
    /// The policy, where it waits.
    pub policy: PathBuf,
    /// The profile of the client, where it will be.
    pub profile: PathBuf,
}

/// The directory in which files wait.
#[derive(Debug)]
struct Waiting {
    path: PathBuf,
    /// The directory of the policy and those above it, as far as they were made for this: the deepest one first.
    made: Vec<PathBuf>,
    /// `true` if nothing is removed: the files are needed.
    is_kept: bool,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.is_kept {
            return;
        }
        let _ = fs::remove_dir_all(&self.path);
        for directory in &self.made {
            // Somebody else may have put something into it meanwhile.
            let _ = fs::remove_dir(directory);
        }
    }
}

/// The settings of a first policy.
#[derive(Debug)]
pub struct First<'f> {
    pub path: &'f Path,
    pub door: &'f str,
    pub ports: &'f [Knock],
    pub backend: Option<Backend>,
    pub key: &'f Name,
    pub kind: Kind,
    pub server: &'f str,
}

/// Writes a policy with a door and a new key, and the profile of its client. `host` is what the policy is read for.
///
/// # Errors
/// When a file is there already, or cannot be written. Then none is left that was not there before.
pub fn write(first: &First<'_>, host: &Host<'_>) -> Result<Files, EnrolError> {
    let made = made_directories(first.path)?;
    let waiting = Waiting {
        path: first
            .path
            .with_file_name(format!(".toctoc-init-{}", process::id())),
        made,
        is_kept: false,
    };
    let failed = |error| format!("{} cannot be made: {error}", waiting.path.display());
    let mut directory = DirBuilder::new();
    directory
        .mode(0o700)
        .create(&waiting.path)
        .map_err(failed)?;
    let name = first.path.file_name().unwrap_or_default();
    let policy = waiting.path.join(name);
    let profile = format!("{}.profile.toml", first.key);
    let key = fill(first, host, &policy, &waiting.path.join(&profile))?;
    for file in names(&waiting.path)? {
        let there = first.path.with_file_name(&file);
        if there.symlink_metadata().is_ok() {
            return Err(format!(
                "{} is there already: move it away, or take another name",
                there.display()
            )
            .into());
        }
    }
    Ok(Files {
        waiting,
        key,
        policy,
        profile: first.path.with_file_name(profile),
    })
}

/// Makes the directory of the policy. Returns what was not there, the deepest one first.
fn made_directories(path: &Path) -> Result<Vec<PathBuf>, String> {
    let Some(parent) = path.parent() else {
        return Ok(Vec::new());
    };
    let missing = parent.ancestors().take_while(|directory| {
        !directory.as_os_str().is_empty() && directory.symlink_metadata().is_err()
    });
    let missing: Vec<PathBuf> = missing.map(Path::to_path_buf).collect();
    if !missing.is_empty() {
        make_own_directory(parent)?;
    }
    Ok(missing)
}

fn fill(
    first: &First<'_>,
    host: &Host<'_>,
    path: &Path,
    profile: &Path,
) -> Result<Enrolled, EnrolError> {
    let text = policy(first.door, first.ports, first.backend);
    write_new(path, text.as_bytes())?;
    let server = || Ok(first.server.to_string());
    let mut made = new_key(
        path,
        host,
        first.key,
        &[first.door.to_string()],
        first.kind,
        For::Program,
        server,
    )?;
    let comments = match first.kind {
        Kind::Token => TOKEN,
        Kind::Signed => SIGNED,
        Kind::Sequence(_) | Kind::Scratch(_) => SEQUENCE,
    };
    made.after = add_comments(&made.after, first.key, comments, TOKEN_PORT)?;
    replace(path, &made.after)?;
    if let Some(text) = &made.profile {
        write_new(profile, text.text().as_bytes())?;
    }
    Ok(made)
}

impl Files {
    /// Puts them in place: the policy last.
    ///
    /// # Errors
    /// A sentence that says where they are.
    pub fn put_in_place(mut self, path: &Path) -> Result<(), String> {
        let policy = path.file_name().unwrap_or_default();
        self.waiting.is_kept = true;
        let mut files = names(&self.waiting.path)?;
        files.sort_by_key(|file| file == policy);
        for file in files {
            let (from, to) = (self.waiting.path.join(&file), path.with_file_name(&file));
            let moved = renameat_with(CWD, &from, CWD, &to, RenameFlags::NOREPLACE);
            if let Err(error) = moved {
                let (from, to) = (from.display(), to.display());
                return Err(format!("{from} cannot be moved to {to}: {error}"));
            }
        }
        let _ = fs::remove_dir(&self.waiting.path);
        Ok(())
    }
}

/// The names of all files of a directory.
fn names(directory: &Path) -> Result<Vec<std::ffi::OsString>, String> {
    let failed = |error| format!("{} cannot be read: {error}", directory.display());
    let files = fs::read_dir(directory).map_err(failed)?;
    files
        .map(|file| Ok(file.map_err(failed)?.file_name()))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::knock::Protocol;
    use crate::policy::load::load;

    const PORTS: fn() -> Vec<Knock> = || Knock::new(Protocol::Tcp, 22).into_iter().collect();

    fn written(path: &Path, kind: Kind) -> Result<Files, EnrolError> {
        let first = First {
            path,
            door: "ssh",
            ports: &PORTS(),
            backend: None,
            key: &Name::new("anna").unwrap(),
            kind,
            server: "192.0.2.1",
        };
        write(&first, &Host::default())
    }

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap().flatten();
        let mut names: Vec<String> = entries
            .map(|e| e.file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn what_is_written_is_private_explained_and_removed_again() {
        let home = tempfile::tempdir().unwrap();
        let above = home.path().join("etc");
        let directory = above.join("toctoc");
        let path = directory.join("policy.toml");
        for (kind, wanted) in [
            (Kind::Sequence(5), &["anna.profile.toml", "policy.toml"][..]),
            (
                Kind::Token,
                &["anna.profile.toml", "anna.secret", "policy.toml"],
            ),
            (
                Kind::Signed,
                &["anna.profile.toml", "anna.secret", "policy.toml"],
            ),
        ] {
            let files = written(&path, kind).unwrap();
            assert_eq!(
                names(&directory),
                [format!(".toctoc-init-{}", process::id())]
            );
            drop(files);
            assert!(!above.exists());
            let files = written(&path, kind).unwrap();
            let text = files.key.after.clone();
            files.put_in_place(&path).unwrap();
            assert_eq!(names(&directory), wanted);
            for name in wanted {
                let mode = directory
                    .join(name)
                    .metadata()
                    .unwrap()
                    .permissions()
                    .mode();
                assert_eq!(mode & 0o777, 0o600, "{name}");
            }
            assert_eq!(load(&path, &Host::default()).unwrap().keys.len(), 1);
            assert_eq!(text, fs::read_to_string(&path).unwrap());
            for paragraph in text.split("\n\n") {
                assert!(paragraph.starts_with('#'), "not explained: {paragraph}");
            }
            assert!(text.lines().all(|line| line.len() <= 90), "{text}");
            fs::remove_dir_all(&above).unwrap();
        }
    }

    #[test]
    fn no_file_that_was_there_is_touched() {
        for there in ["policy.toml", "anna.profile.toml", "anna.secret"] {
            let home = tempfile::tempdir().unwrap();
            fs::write(home.path().join(there), "mine").unwrap();
            let error = written(&home.path().join("policy.toml"), Kind::Token).unwrap_err();
            assert!(error.to_string().contains(there), "{error}");
            assert_eq!(names(home.path()), [there]);
            assert_eq!(fs::read_to_string(home.path().join(there)).unwrap(), "mine");
        }
    }
}
