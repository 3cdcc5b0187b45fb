//! Reading a policy from a file: the one effect of this part of the house.

use std::fmt;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use zeroize::Zeroizing;

use super::diagnostic::Diagnostic;
use super::{Host, LARGEST_FILE, Policy, Report, Secrets};
use crate::single_use::Secret;

/// Why there is no policy.
#[derive(Debug)]
pub enum LoadError {
    /// The file could not be read: a sentence.
    Unreadable(String),
    /// The file was read, and is wrong.
    Wrong(Report),
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
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
    let shown = path.display().to_string();
    let unreadable =
        |what: &dyn fmt::Display| LoadError::Unreadable(format!("{shown} cannot be read: {what}"));
    let mut bytes = Vec::new();
    // `-` is standard input, as for many programs.
    let opened = match path.as_os_str().as_encoded_bytes() {
        b"-" => Path::new("/dev/stdin"),
        _ => path,
    };
    File::open(opened)
        .and_then(|file| file.take(LARGEST_FILE + 1).read_to_end(&mut bytes))
        .map_err(|error| unreadable(&error))?;
    if bytes.len() as u64 > LARGEST_FILE {
        let limit = LARGEST_FILE >> 20;
        return Err(unreadable(&format!(
            "it is larger than {limit} MiB, which no policy needs"
        )));
    }
    let text = match String::from_utf8(bytes) {
        Ok(text) => text,
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
            return Err(LoadError::Wrong(Report::new(
                &shown,
                &lossy,
                vec![diagnostic],
            )));
        }
    };
    load_text(path, &text, host)
}

/// Checks a text as that of a policy file at `path`: beside it are the files that it names.
///
/// # Errors
/// When it has mistakes.
pub fn load_text(path: &Path, text: &str, host: &Host) -> Result<Policy, LoadError> {
    let shown = path.display().to_string();
    let directory = path.parent().unwrap_or(Path::new(""));
    let secret = |name: &str| secret(&directory.join(name));
    let host = Host {
        secrets: Secrets(Some(&secret)),
        ..*host
    };
    super::read_for(&shown, text, &host).map_err(LoadError::Wrong)
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
    let shown = path.display();
    let unreadable = |error: io::Error| format!("{shown} cannot be read: {error}");
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
    if found.uid() != user && found.uid() != 0 {
        return Err(format!("{shown} belongs to another user"));
    }
    if found.mode() & 0o077 != 0 {
        return Err(format!(
            "{shown} can be read or changed by others (mode {:04o}): `chmod 600 {shown}`",
            found.mode() & 0o7777
        ));
    }
    let room = Secret::LONGEST_FILE as usize + 1;
    let mut text = Zeroizing::new(String::with_capacity(room));
    file.take(Secret::LONGEST_FILE + 1)
        .read_to_string(&mut text)
        .map_err(unreadable)?;
    Secret::parse(&text).map_err(|error| format!("{shown}: {error}"))
}
