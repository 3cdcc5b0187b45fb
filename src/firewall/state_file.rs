//! The files on disk, in `/var/lib/toctoc`: they are written whole or not at all, and nobody else may
//! read them. `state.json` is the journal of single-use keys.

use std::env;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::private_file::unreadable;
use crate::single_use::Journal;

/// Where it is kept.
#[derive(Debug, Clone)]
pub struct StateFile {
    directory: PathBuf,
}

/// A week of tokens takes a fraction of this.
const LARGEST: u64 = 64 << 20;

/// `$STATE_DIRECTORY` as systemd sets it, or `/var/lib/toctoc`.
impl Default for StateFile {
    fn default() -> StateFile {
        let told = env::var_os("STATE_DIRECTORY").filter(|told| !told.is_empty());
        let directory = told.map_or_else(|| PathBuf::from("/var/lib/toctoc"), PathBuf::from);
        StateFile {
            // Whoever ends a trial is somewhere else.
            directory: std::path::absolute(&directory).unwrap_or(directory),
        }
    }
}

impl StateFile {
    /// Where it is, absolute where that is known.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Somewhere else.
    pub fn within(directory: impl Into<PathBuf>) -> StateFile {
        StateFile {
            directory: directory.into(),
        }
    }
}

/// The content that was found.
#[derive(Debug)]
pub enum Kept {
    Nothing,
    Journal(Journal),
    /// There is a file, and it cannot be read or is no journal: a sentence.
    Broken(String),
}

/// The journal.
const JOURNAL: &str = "state.json";

impl StateFile {
    /// Reads the journal. What cannot be read is as good as lost, and that is told.
    pub fn read(&self) -> Kept {
        match self.text(JOURNAL) {
            Ok(None) => Kept::Nothing,
            Err(message) => Kept::Broken(message),
            Ok(Some(text)) => match Journal::parse(&text) {
                Some(journal) => Kept::Journal(journal),
                None => Kept::Broken(format!("{} is damaged", self.shown(JOURNAL))),
            },
        }
    }

    /// Writes the journal. After a power cut there is the old file or the new one.
    ///
    /// # Errors
    /// A sentence, when it could not be written.
    pub fn write(&self, journal: &Journal) -> Result<(), String> {
        let text = serde_json::to_string(journal)
            .map_err(|error| format!("{} cannot be written: {error}", self.shown(JOURNAL)))?;
        self.put(JOURNAL, &text)
    }

    /// For messages.
    pub(super) fn shown(&self, name: &str) -> String {
        self.directory.join(name).display().to_string()
    }

    /// The text of a file, `None` when there is none.
    ///
    /// # Errors
    /// A sentence, when it cannot be read.
    pub(super) fn text(&self, name: &str) -> Result<Option<String>, String> {
        let mut text = String::new();
        // A pipe would be waited for.
        let nonblocking = rustix::fs::OFlags::NONBLOCK.bits() as i32;
        let mut options = File::options();
        let options = options.read(true).custom_flags(nonblocking);
        let read = options.open(self.directory.join(name)).and_then(|file| {
            match file.metadata()?.is_file() {
                true => file.take(LARGEST).read_to_string(&mut text),
                false => Err(io::Error::other("it is no file")),
            }
        });
        match read {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(unreadable(&self.directory.join(name), &error)),
            Ok(_) => Ok(Some(text)),
        }
    }

    /// The names of all files.
    pub(super) fn names(&self) -> Vec<String> {
        let files = fs::read_dir(&self.directory)
            .into_iter()
            .flatten()
            .flatten();
        let names = files.filter_map(|file| file.file_name().into_string().ok());
        names.collect()
    }

    /// Removes a file that nobody needs any more. If it cannot be removed, it stays.
    pub(super) fn remove(&self, name: &str) {
        let _ = fs::remove_file(self.directory.join(name));
    }

    /// Writes a file. After a power cut there is the old one or the new one.
    ///
    /// # Errors
    /// A sentence, when it could not be written.
    pub(super) fn put(&self, name: &str, text: &str) -> Result<(), String> {
        let path = self.directory.join(name);
        let failed = |error: io::Error| format!("{} cannot be written: {error}", path.display());
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.directory)
            .map_err(failed)?;
        let new = self.directory.join(format!("{name}.new"));
        let write = || {
            match fs::remove_file(&new) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut options = File::options();
            let mut file = options
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&new)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&new, &path)?;
            File::open(&self.directory)?.sync_all()
        };
        write().map_err(failed)
    }
}
