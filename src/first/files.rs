//! The files of a first policy: written only where there was nothing, and removed again when something fails.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::{SEQUENCE, TOKEN, TOKEN_PORT, policy};
use crate::enrol::{EnrolError, Enrolled, For, Kind, new_key, replace};
use crate::knock::Knock;
use crate::policy::edit::add_comments;
use crate::policy::{Backend, Host, Name};
use crate::private_file::{make_own_directory, write_new};

/// The files that were written.
#[derive(Debug)]
pub struct Files {
    paths: Vec<PathBuf>,
    /// The directory, if it was made for them.
    directory: Option<PathBuf>,
    pub key: Enrolled,
    /// The profile of the client.
    pub profile: PathBuf,
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
/// When a file is there already, or cannot be written. Then none is left that was not there before, or the message names
/// it.
pub fn write(first: &First<'_>, host: &Host<'_>) -> Result<Files, EnrolError> {
    let directory = made_directory(first.path)?;
    let mut paths = Vec::new();
    match fill(first, host, &mut paths) {
        Ok((key, profile)) => Ok(Files {
            paths,
            directory,
            key,
            profile,
        }),
        Err(error) => {
            remove(&paths, directory.as_deref())?;
            Err(error)
        }
    }
}

/// The directory of the policy, if it was not there.
fn made_directory(path: &Path) -> Result<Option<PathBuf>, String> {
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let Some(directory) = parent.filter(|parent| parent.symlink_metadata().is_err()) else {
        return Ok(None);
    };
    make_own_directory(directory)?;
    Ok(Some(directory.to_path_buf()))
}

fn fill(
    first: &First<'_>,
    host: &Host<'_>,
    paths: &mut Vec<PathBuf>,
) -> Result<(Enrolled, PathBuf), EnrolError> {
    let First { path, key, .. } = *first;
    let text = policy(first.door, first.ports, first.backend);
    write_new(path, text.as_bytes())?;
    paths.push(path.to_path_buf());
    let server = || Ok(first.server.to_string());
    let mut made = new_key(
        path,
        host,
        key,
        &[first.door.to_string()],
        first.kind,
        For::Program,
        server,
    )?;
    paths.extend(made.secret.clone());
    let comments = match first.kind {
        Kind::Token => TOKEN,
        Kind::Sequence(_) | Kind::Scratch(_) => SEQUENCE,
    };
    made.after = add_comments(&made.after, key, comments, TOKEN_PORT)?;
    replace(path, &made.after)?;
    let profile_path = path.with_file_name(format!("{key}.profile.toml"));
    if let Some(profile) = &made.profile {
        write_new(&profile_path, profile.text().as_bytes())?;
        paths.push(profile_path.clone());
    }
    Ok((made, profile_path))
}

impl Files {
    /// Removes them again.
    ///
    /// # Errors
    /// A sentence that names those that are left.
    pub fn remove(self) -> Result<(), String> {
        remove(&self.paths, self.directory.as_deref())
    }
}

fn remove(paths: &[PathBuf], directory: Option<&Path>) -> Result<(), String> {
    let mut left = Vec::new();
    for path in paths {
        match fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                left.push(format!("{} ({error})", path.display()));
            }
            _ => {}
        }
    }
    // Somebody else may have put something into it meanwhile.
    let _ = directory.map(fs::remove_dir);
    match left.is_empty() {
        true => Ok(()),
        false => Err(format!("cannot be removed again: {}", left.join(", "))),
    }
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
        let directory = home.path().join("toctoc");
        let path = directory.join("policy.toml");
        for (kind, wanted) in [
            (Kind::Sequence(5), &["anna.profile.toml", "policy.toml"][..]),
            (
                Kind::Token,
                &["anna.profile.toml", "anna.secret", "policy.toml"],
            ),
        ] {
            let files = written(&path, kind).unwrap();
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
            let text = fs::read_to_string(&path).unwrap();
            assert_eq!(text, files.key.after);
            for paragraph in text.split("\n\n") {
                assert!(paragraph.starts_with('#'), "not explained: {paragraph}");
            }
            assert!(text.lines().all(|line| line.len() <= 90), "{text}");
            files.remove().unwrap();
            assert!(!directory.exists());
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
