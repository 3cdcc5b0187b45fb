//! Where profiles are: `~/.config/toctoc/NAME.toml` (`$XDG_CONFIG_HOME` counts).

use std::env;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use zeroize::Zeroizing;

use super::Profile;
use super::plan::Slot;
use super::profile::is_host;
use crate::private_file::{is_own_way, make_own_directory, replace, write_new};
use crate::single_use::Window;

/// Far more than any profile has.
pub const LARGEST: u64 = 64 << 10;

/// The longest name of a profile, in bytes.
const LONGEST_NAME: usize = 100;

/// Returns whether a text can be the name of a profile: a part of a file name, a word of ssh's configuration.
pub fn is_name(text: &str) -> bool {
    let body = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    let starts = text
        .bytes()
        .next()
        .is_some_and(|b| b.is_ascii_alphanumeric());
    starts && text.len() <= LONGEST_NAME && text.bytes().all(body)
}

/// The directory of profiles.
pub fn directory() -> PathBuf {
    below("XDG_CONFIG_HOME", ".config")
}

/// Where there is nothing, for who has no home.
const NOWHERE: &str = "/nonexistent";

/// A directory of ours below that of an environment variable, or below another of the home.
fn below(variable: &str, otherwise: &str) -> PathBuf {
    let told = |name| {
        env::var_os(name)
            .map(PathBuf::from)
            .filter(|told| told.is_absolute())
    };
    let base = told(variable).or_else(|| told("HOME").map(|home| home.join(otherwise)));
    base.unwrap_or(NOWHERE.into()).join("toctoc")
}

/// The file of a profile: a path as it is, or a name in the directory of profiles.
pub fn path(name: &str) -> PathBuf {
    match name.contains('/') {
        true => PathBuf::from(name),
        false => directory().join(format!("{name}.toml")),
    }
}

/// A profile, and where it was found.
#[derive(Debug)]
pub struct Found {
    /// Its name, or its path.
    pub name: String,
    pub profile: Profile,
}

/// The profile of a name or path; otherwise the one profile for that host. `None` when there is none.
///
/// # Errors
/// A sentence: it cannot be read, or there are several for the host.
pub fn find(target: &str) -> Result<Option<Found>, String> {
    let file = path(target);
    if file.symlink_metadata().is_ok() {
        let profile = load(&file)?;
        let name = target.to_string();
        return Ok(Some(Found { name, profile }));
    }
    let mut fitting = Vec::new();
    for name in names() {
        match load(&path(&name)) {
            Ok(profile) if profile.host.eq_ignore_ascii_case(target) => {
                fitting.push(Found { name, profile });
            }
            // One that is broken is not the one that was asked for, as far as anybody knows.
            Ok(_) | Err(_) => {}
        }
    }
    if let [first, second, ..] = fitting.as_slice() {
        return Err(format!(
            "{target} has more than one profile, {} and {}: name the one that you mean",
            first.name, second.name
        ));
    }
    Ok(fitting.pop())
}

/// The names of all profiles, sorted.
pub fn names() -> Vec<String> {
    let files = fs::read_dir(directory()).into_iter().flatten().flatten();
    let names = files.filter_map(|file| {
        let name = file.file_name().into_string().ok()?;
        let name = name.strip_suffix(".toml")?;
        is_name(name).then(|| name.to_string())
    });
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

/// Reads a profile file.
///
/// # Errors
/// A sentence, when it cannot be read, others can read it, or something is wrong with it.
pub fn load(path: &Path) -> Result<Profile, String> {
    let shown = path.display();
    let unreadable = |error: io::Error| format!("{shown} cannot be read: {error}");
    let (file, found) = open_file(path).map_err(unreadable)?;
    let us = rustix::process::geteuid().as_raw();
    if ![us, 0].contains(&found.uid()) {
        return Err(format!("{shown} belongs to somebody else"));
    }
    let mode = found.mode();
    if mode & 0o077 != 0 {
        return Err(format!(
            "{shown} can be read or changed by others (mode {:04o}): `chmod 600 {shown}`",
            mode & 0o7777
        ));
    }
    let mut text = Zeroizing::new(String::with_capacity(LARGEST as usize));
    file.take(LARGEST)
        .read_to_string(&mut text)
        .map_err(unreadable)?;
    Profile::parse(&text).map_err(|error| format!("{shown}: {error}"))
}

/// Opens a file that is one: a pipe would be waited for.
fn open_file(path: &Path) -> io::Result<(File, Metadata)> {
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    let mut options = File::options();
    let file = options.read(true).custom_flags(nonblocking).open(path)?;
    let found = file.metadata()?;
    match found.is_file() {
        true => Ok((file, found)),
        false => Err(io::Error::other("it is no file")),
    }
}

/// Writes a profile under a name that is not taken. Returns its path.
///
/// # Errors
/// A sentence.
pub fn save(name: &str, profile: &Profile) -> Result<PathBuf, String> {
    let directory = directory();
    if directory.starts_with(NOWHERE) {
        return Err("there is no place for profiles: HOME is not set".to_string());
    }
    make_own_directory(&directory)?;
    let path = path(name);
    if path.symlink_metadata().is_ok() {
        return Err(format!(
            "there is a profile {name} already ({}): `toctoc profile remove {name}` takes it away, or \
             use another name",
            path.display()
        ));
    }
    write_new(&path, profile.text().as_bytes())?;
    Ok(path)
}

/// Takes a profile away. Returns its path.
///
/// # Errors
/// A sentence.
pub fn remove(name: &str) -> Result<PathBuf, String> {
    let path = path(name);
    is_own_way(&directory())?;
    fs::remove_file(&path)
        .map_err(|error| format!("{} cannot be removed: {error}", path.display()))?;
    Ok(path)
}

/// The time that the last connection to a host took to be answered, as far as anybody remembers.
pub fn round_trip(host: &str) -> Option<Duration> {
    let (file, _) = open_file(&round_trip_file(host)?).ok()?;
    let mut text = String::new();
    file.take(32).read_to_string(&mut text).ok()?;
    let micros: u64 = text.trim().parse().ok()?;
    Some(Duration::from_micros(micros))
}

/// Remembers it. When it cannot be, or somebody else decides what is there, the next connection is a little slower.
pub fn remember_round_trip(host: &str, round_trip: Duration) {
    let Some(file) = round_trip_file(host) else {
        return;
    };
    if let Some(Ok(())) = file.parent().map(make_own_directory) {
        let _ = replace(&file, format!("{}\n", round_trip.as_micros()).as_bytes());
    }
}

fn round_trip_file(host: &str) -> Option<PathBuf> {
    remembered(host, "round-trip")
}

/// The file in which something is remembered of a host.
fn remembered(host: &str, what: &str) -> Option<PathBuf> {
    let directory = below("XDG_CACHE_HOME", ".cache").join(what);
    (is_host(host) && !host.starts_with('.')).then(|| directory.join(host))
}

/// The tokens that were sent to a host and are still good, as far as anybody remembers. No secret: their places in time.
pub fn sent_tokens(host: &str, now: i64) -> Vec<Slot> {
    let file = remembered(host, "tokens").and_then(|path| open_file(&path).ok());
    let Some((file, _)) = file else {
        return Vec::new();
    };
    let mut text = String::new();
    let _ = file.take(LARGEST).read_to_string(&mut text);
    let slots = text.lines().filter_map(|line| {
        let (window, number) = line.split_once(' ')?;
        let (window, number) = (Window(window.parse().ok()?), number.parse().ok()?);
        Some(Slot { window, number })
    });
    slots.filter(|slot| slot.window.over() > now).collect()
}

/// Remembers tokens that were sent. When they cannot be, a later knock may begin with one that is spent.
pub fn remember_tokens(host: &str, sent: &[Slot], now: i64) {
    let file = remembered(host, "tokens").filter(|_| !sent.is_empty());
    let Some(file) = file else {
        return;
    };
    let mut all = sent_tokens(host, now);
    all.extend(sent);
    let lines = all
        .iter()
        .map(|slot| format!("{} {}\n", slot.window.0, slot.number));
    let lines: String = lines.collect();
    if let Some(Ok(())) = file.parent().map(make_own_directory) {
        let _ = replace(&file, lines.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::is_name;

    #[test]
    fn names_are_parts_of_file_names() {
        for name in ["server", "a", "db-1.example.com", "4"] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", ".x", "-x", "a/b", "..", "a b", "é", &"a".repeat(101)] {
            assert!(!is_name(name), "{name}");
        }
    }
}
