//! Reading a policy from a file: the one effect of this part of the house.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::diagnostic::Diagnostic;
use super::file::File as Written;
use super::lint::{Surroundings, lint};
use super::{Host, LARGEST_FILE, Password, Passwords, Policy, Report, Secrets};
use crate::private_file;
use crate::single_use::Secret;

/// Why there is no policy.
#[derive(Debug)]
pub enum LoadError {
    /// There is no such file.
    Missing(PathBuf),
    /// The file could not be read: a sentence.
    Unreadable(String),
    /// The file was read, and is wrong.
    Wrong(Report),
}

impl LoadError {
    /// Names another file, as [`Report::shown_at`] does.
    pub fn shown_at(self, path: &Path) -> LoadError {
        match self {
            LoadError::Wrong(report) => LoadError::Wrong(report.shown_at(path)),
            other => other,
        }
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LoadError::Missing(path) => {
                write!(
                    f,
                    "{} cannot be read: No such file is there",
                    path.display()
                )
            }
            LoadError::Unreadable(message) => f.write_str(message),
            LoadError::Wrong(report) => report.fmt(f),
        }
    }
}

impl std::error::Error for LoadError {}

/// Reads and checks a policy file, for a host.
///
/// # Errors
/// When it cannot be read, is larger than [`LARGEST_FILE`], is not UTF-8, or has mistakes.
pub fn load(path: &Path, host: &Host) -> Result<Policy, LoadError> {
    load_text(path, &read_text(path)?, host)
}

/// The same, with warnings of what is not wise.
///
/// # Errors
/// As for [`load`].
pub fn load_and_lint(
    path: &Path,
    host: &Host,
    around: &Surroundings,
) -> Result<(Policy, Report), LoadError> {
    let text = read_text(path)?;
    let (policy, file) = load_text_and_file(path, &text, host)?;
    let warnings = lint(&file, &policy, around);
    let shown = path.display().to_string();
    Ok((policy, Report::new(&shown, &text, warnings)))
}

/// The text of a policy file.
///
/// # Errors
/// When it cannot be read, is larger than [`LARGEST_FILE`], or is not UTF-8.
pub fn read_text(path: &Path) -> Result<String, LoadError> {
    let shown = path.display().to_string();
    let unreadable =
        |what: &dyn fmt::Display| LoadError::Unreadable(format!("{shown} cannot be read: {what}"));
    let mut bytes = Vec::new();
    File::open(opened(path))
        .and_then(|file| file.take(LARGEST_FILE + 1).read_to_end(&mut bytes))
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => LoadError::Missing(path.to_path_buf()),
            _ => LoadError::Unreadable(private_file::unreadable(path, &error)),
        })?;
    if bytes.len() as u64 > LARGEST_FILE {
        let limit = LARGEST_FILE >> 20;
        return Err(unreadable(&format!(
            "it is larger than {limit} MiB, which no policy needs"
        )));
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(text),
        Err(error) => {
            let at = error.utf8_error().valid_up_to();
            let byte = error.as_bytes()[at];
            let lossy = String::from_utf8_lossy(error.as_bytes()).into_owned();
            let diagnostic = Diagnostic::new(
                at..at + '\u{fffd}'.len_utf8(),
                format!("the byte 0x{byte:02x} is not UTF-8"),
            )
            .label("not text")
            .help("is this a policy file?");
            Err(LoadError::Wrong(Report::new(
                &shown,
                &lossy,
                vec![diagnostic],
            )))
        }
    }
}

/// `-` is standard input, as for many programs.
fn opened(path: &Path) -> &Path {
    match path.as_os_str().as_encoded_bytes() {
        b"-" => Path::new("/dev/stdin"),
        _ => path,
    }
}

/// Checks a text as that of a policy file at `path`: beside it are the files that it names.
///
/// # Errors
/// When it has mistakes.
pub fn load_text(path: &Path, text: &str, host: &Host) -> Result<Policy, LoadError> {
    load_text_and_file(path, text, host).map(|(policy, _)| policy)
}

/// The files that a policy names, by these names, as they were when it was read.
pub type Beside = BTreeMap<String, Zeroizing<String>>;

/// The same, with the files that it names.
///
/// # Errors
/// As for [`load_text`].
pub fn load_text_and_beside(
    path: &Path,
    text: &str,
    host: &Host,
) -> Result<(Policy, Beside), LoadError> {
    let found = RefCell::new(Beside::new());
    let read = |name: &str, longest| {
        let text = private_text(&beside(path, name), longest)?;
        found.borrow_mut().insert(name.to_string(), text.clone());
        Ok(text)
    };
    let (policy, _) = load_with(path, text, host, &read)?;
    Ok((policy, found.into_inner()))
}

/// The same again: the files that it names are as they were then. Those that are not known are read.
///
/// # Errors
/// As for [`load_text`].
pub fn load_text_again(
    path: &Path,
    text: &str,
    host: &Host,
    known: &Beside,
) -> Result<Policy, LoadError> {
    let read = |name: &str, longest| match known.get(name) {
        Some(text) => Ok(text.clone()),
        None => private_text(&beside(path, name), longest),
    };
    load_with(path, text, host, &read).map(|(policy, _)| policy)
}

fn load_text_and_file(
    path: &Path,
    text: &str,
    host: &Host,
) -> Result<(Policy, Written), LoadError> {
    let read = |name: &str, longest| private_text(&beside(path, name), longest);
    load_with(path, text, host, &read)
}

/// Reads a file that a policy names, of so many bytes at most.
type ReadBeside<'r> = dyn Fn(&str, u64) -> Result<Zeroizing<String>, String> + 'r;

fn load_with(
    path: &Path,
    text: &str,
    host: &Host,
    read: &ReadBeside,
) -> Result<(Policy, Written), LoadError> {
    let shown = path.display().to_string();
    let secret = |name: &str| {
        let text = read(name, Secret::LONGEST_FILE)?;
        parse_secret(&beside(path, name), &text)
    };
    let password = |name: &str| {
        let text = read(name, Password::LONGEST as u64 + 2)?;
        parse_password(&beside(path, name), &text)
    };
    let host = Host {
        secrets: Secrets(Some(&secret)),
        passwords: Passwords(Some(&password)),
        ..*host
    };
    super::read_with_file(&shown, text, &host).map_err(LoadError::Wrong)
}

/// A file that a policy names: beside it. Where systemd handed over a copy of the policy's whole directory
/// (`LoadCredential=toctoc:/etc/toctoc`), `keys/alice` is called `toctoc_keys_alice`.
pub fn beside(path: &Path, name: &str) -> PathBuf {
    let directory = path.parent().unwrap_or(Path::new(""));
    match credentials() {
        Some(handed) if path == handed.join(HANDED_POLICY) => {
            handed.join(format!("toctoc_{}", name.replace('/', "_")))
        }
        _ => directory.join(name),
    }
}

/// The policy that systemd has handed over, if it has.
pub fn handed_policy() -> Option<PathBuf> {
    let path = credentials()?.join(HANDED_POLICY);
    path.is_file().then_some(path)
}

const HANDED_POLICY: &str = "toctoc_policy.toml";

fn credentials() -> Option<PathBuf> {
    let told = std::env::var_os("CREDENTIALS_DIRECTORY");
    told.filter(|told| !told.is_empty()).map(PathBuf::from)
}

/// A sentence, if others than the owner can read or change the file of a policy that holds sequences.
pub fn exposed(path: &Path, policy: &Policy) -> Option<String> {
    policy.sequences().next()?;
    let found = path.metadata().ok().filter(Metadata::is_file)?;
    let shown = path.display();
    (found.mode() & 0o077 != 0).then(|| {
        format!(
            "{shown} can be read or changed by others (mode {:04o}), and sequences are secrets: \
             `chmod 600 {shown}`",
            found.mode() & 0o7777
        )
    })
}

/// Reads the file of a secret.
///
/// # Errors
/// A sentence, when it cannot be read, others can read or change it, or holds no secret. Nothing of
/// what it holds is told.
pub fn secret(path: &Path) -> Result<Secret, String> {
    parse_secret(path, &private_text(path, Secret::LONGEST_FILE)?)
}

fn parse_secret(path: &Path, text: &str) -> Result<Secret, String> {
    Secret::parse(text).map_err(|error| format!("{}: {error}", path.display()))
}

/// Reads the file of a password.
///
/// # Errors
/// As for [`secret`].
pub fn password(path: &Path) -> Result<Password, String> {
    parse_password(path, &private_text(path, Password::LONGEST as u64 + 2)?)
}

fn parse_password(path: &Path, text: &str) -> Result<Password, String> {
    Password::parse(text).ok_or_else(|| {
        format!(
            "{} holds no password: one line of at most {} bytes",
            path.display(),
            Password::LONGEST
        )
    })
}

/// The text of a file that nobody else may read, of so many bytes at most.
fn private_text(path: &Path, longest: u64) -> Result<Zeroizing<String>, String> {
    let shown = path.display();
    let unreadable = |error: io::Error| private_file::unreadable(path, &error);
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    let file = File::options()
        .read(true)
        .custom_flags(nonblocking)
        .open(path);
    let file = file.map_err(unreadable)?;
    let found = file.metadata().map_err(unreadable)?;
    let user = rustix::process::geteuid().as_raw();
    if !found.is_file() {
        return Err(format!("{shown} is no file"));
    }
    if !trusted(found.uid(), user) {
        return Err(format!("{shown} belongs to another user"));
    }
    // systemd lets the user of a service read what it hands over, which may look like a group that can.
    let handed = credentials().is_some_and(|handed| path.starts_with(handed));
    let others = if handed { 0o037 } else { 0o077 };
    if found.mode() & others != 0 {
        return Err(format!(
            "{shown} can be read or changed by others (mode {:04o}): `chmod 600 {shown}`",
            found.mode() & 0o7777
        ));
    }
    // One more than there may be, and room for it: a larger text would leave parts behind unwiped.
    let most = longest + 1;
    let mut text = Zeroizing::new(String::with_capacity(most as usize));
    file.take(most)
        .read_to_string(&mut text)
        .map_err(unreadable)?;
    if text.len() as u64 == most {
        return Err(format!("{shown} is longer than any file of a secret"));
    }
    Ok(text)
}

/// Returns whether the owner of a file is the user or root.
fn trusted(owner: u32, user: u32) -> bool {
    owner == user || owner == 0
}

#[cfg(test)]
mod tests {
    use std::fs::{Permissions, set_permissions, write};
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    use tempfile::TempDir;

    use super::*;

    const HEX: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
    const POLICY: &str = "[door.ssh]\nports = [22]\n[key.anna]\nopens = [\"ssh\"]\n";

    fn file(directory: &TempDir, text: impl AsRef<[u8]>, mode: u32) -> PathBuf {
        let path = directory.path().join("file");
        write(&path, text).unwrap();
        set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        path
    }

    fn load_it(path: &Path) -> Result<Policy, String> {
        load(path, &Host::default()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_policy_is_read_with_the_secrets_beside_it() {
        let directory = tempfile::tempdir().unwrap();
        let secret = file(&directory, HEX, 0o600);
        let text = format!("token_port = 40123\n{POLICY}token = \"file\"\n");
        let path = secret.with_file_name("policy");
        write(&path, text).unwrap();
        assert_eq!(load_it(&path).unwrap().token_keys().count(), 1);
        set_permissions(&secret, Permissions::from_mode(0o640)).unwrap();
        assert!(load_it(&path).unwrap_err().contains("(mode 0640)"));
    }

    #[test]
    fn what_cannot_be_a_policy_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let missing = load_it(&directory.path().join("none")).unwrap_err();
        assert!(missing.contains("none cannot be read: "), "{missing}");
        for text in [&b"[door.ssh]\nports = \xff22\n"[..], b"\xff"] {
            let broken = load_it(&file(&directory, text, 0o600)).unwrap_err();
            assert!(broken.contains("the byte 0xff is not UTF-8"), "{broken}");
            let marked: usize = broken.lines().map(|line| line.matches('^').count()).sum();
            assert_eq!(marked, 1, "{broken}");
        }
        assert_eq!(opened(Path::new("-")), Path::new("/dev/stdin"));
        assert_eq!(opened(Path::new("./-")), Path::new("./-"));
    }

    #[test]
    fn the_largest_policy_is_read_and_no_larger_one() {
        let directory = tempfile::tempdir().unwrap();
        let mut text = format!("{POLICY}sequence = [443, 2387, 920]\n#").into_bytes();
        text.resize(LARGEST_FILE as usize, b'#');
        assert!(load_it(&file(&directory, &text, 0o600)).is_ok());
        text.push(b'#');
        let refused = load_it(&file(&directory, &text, 0o600)).unwrap_err();
        assert!(refused.contains("larger than 8 MiB"), "{refused}");
    }

    #[test]
    fn sequences_that_others_can_read_are_told() {
        let directory = tempfile::tempdir().unwrap();
        let text = format!("{POLICY}sequence = [443, 2387, 920]\n");
        for (mode, told) in [
            (0o600, None),
            (0o604, Some("(mode 0604)")),
            (0o640, Some("(mode 0640)")),
        ] {
            let path = file(&directory, &text, mode);
            let policy = load_it(&path).unwrap();
            let said = exposed(&path, &policy);
            assert_eq!(said.is_some(), told.is_some(), "{mode:o}");
            assert!(said.unwrap_or_default().contains(told.unwrap_or_default()));
        }
        let path = file(&directory, "[door.ssh]\nports = [22]\n", 0o644);
        assert_eq!(exposed(&path, &load_it(&path).unwrap()), None);
    }

    #[test]
    fn a_secret_is_its_owners_alone() {
        let directory = tempfile::tempdir().unwrap();
        let read = |text: &str, mode| {
            secret(&file(&directory, text, mode)).map_err(|error| {
                assert!(!error.contains(&HEX[..8]), "{error}");
                error
            })
        };
        assert_eq!(read(HEX, 0o600).unwrap().hex().as_str(), HEX);
        assert!(read(HEX, 0o604).unwrap_err().contains("(mode 0604)"));
        assert!(secret(directory.path()).unwrap_err().contains("is no file"));
        assert!(read(&format!("{HEX:256}"), 0o600).is_ok());
        assert!(
            read(&format!("{HEX:257}x"), 0o600)
                .unwrap_err()
                .contains("longer")
        );
        for (owner, user, wanted) in [(5, 5, true), (0, 5, true), (5, 0, false), (0, 0, true)] {
            assert_eq!(trusted(owner, user), wanted);
        }
    }
}
