//! Reading a policy from a file: the one effect of this part of the house.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::diagnostic::Diagnostic;
use super::{Host, LARGEST_FILE, Policy, Report};

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
    let path = match path.as_os_str().as_encoded_bytes() {
        b"-" => Path::new("/dev/stdin"),
        _ => path,
    };
    File::open(path)
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
    super::read_for(&shown, &text, host).map_err(LoadError::Wrong)
}
