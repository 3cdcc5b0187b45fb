//! Making and revoking keys: the policy file, the secret beside it, and the client's profile; and a fleet's
//! secret. Effects on files only; the kernel is changed by `apply`.
//!
//! A policy that would not be accepted is never written, and files are there whole or not at all.

use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, UdpSocket};
use std::num::NonZeroU16;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::browser::{knocks_at, sends_tokens_to};
use crate::client::profile::{GAP, Signed, Way};
use crate::client::{Outside, Profile};
use crate::firewall::listening::listeners;
use crate::knock::{Knock, Protocol};
use crate::policy::choose::{draw, free_ports};
use crate::policy::edit::{
    NewKey, add_key, garbled_at, has_key, line_of_key, remove_key, secret_files,
};
use crate::policy::lint::is_wise;
use crate::policy::load::{Beside, LoadError, load, load_text, load_text_and_beside};
use crate::policy::{Door, Host, KeyKind, Name, Policy};
use crate::private_file::{unreadable as cannot_read, write_new};
use crate::signed::Binding;
use crate::single_use::{Form, Secret};

/// The kind of key to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Token,
    Signed,
    /// A sequence of so many knocks.
    Sequence(usize),
    /// So many sequences that open once.
    Scratch(usize),
}

/// The tool that the key's owner will knock with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum For {
    Program,
    /// A web page: the key has tokens and ports that browsers send.
    Browser,
}

/// The key that was made.
#[derive(Debug)]
pub struct Enrolled {
    pub opens: Vec<String>,
    /// The doors in front of the address that the client knocks at, where nobody hears knocks.
    pub deaf: Vec<Name>,
    /// The file of the secret, of a token key.
    pub secret: Option<PathBuf>,
    /// None for a scratch key: that is for other people's machines.
    pub profile: Option<Profile>,
    /// The sequences of a scratch key.
    pub scratch: Vec<Vec<Knock>>,
    pub door: Option<NonZeroU16>,
    /// The way in which the client reaches this host.
    pub server: String,
    /// The text of the file before, and with the key.
    pub before: String,
    pub after: String,
}

/// The knocks of a scratch sequence: 64 bits, and short enough to type.
const SCRATCH_KNOCKS: usize = 4;

/// Why no key was made or revoked.
#[derive(Debug)]
pub enum EnrolError {
    /// A sentence.
    Failed(String),
    /// The policy is wrong as it is, or would be with the key.
    Policy(LoadError),
}

impl fmt::Display for EnrolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EnrolError::Failed(message) => f.write_str(message),
            EnrolError::Policy(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for EnrolError {}

impl From<String> for EnrolError {
    fn from(message: String) -> EnrolError {
        EnrolError::Failed(message)
    }
}

/// From here on the kernel takes ports for what the host itself begins (`ip_local_port_range`).
const FIRST_EPHEMERAL: u16 = 32_768;

/// A sequence of random ports may be one that the check refuses; hardly ever twice.
const TRIES: usize = 50;

/// Adds a key to a policy file, with a secret or a sequence that nobody can guess. `opens` may be empty
/// where there is one door only. `server` says how the client reaches this host.
///
/// # Errors
/// When `server` does not know, the policy is wrong, has such a key, or a file cannot be written. Then nothing was changed.
pub fn new_key(
    path: &Path,
    host: &Host<'_>,
    name: &Name,
    opens: &[String],
    kind: Kind,
    user: For,
    server: impl FnOnce() -> Result<String, String>,
) -> Result<Enrolled, EnrolError> {
    let _alone = alone(path)?;
    let text = read(path)?;
    let policy = load(path, host).map_err(EnrolError::Policy)?;
    let opens = match (opens, policy.doors.as_slice()) {
        ([], [door]) => vec![door.name.to_string()],
        ([], doors) => {
            let names: Vec<&str> = doors.iter().map(|door| door.name.as_str()).collect();
            let names = names.join(", ");
            return Err(
                format!("which doors shall `{name}` open (--opens)? There are: {names}").into(),
            );
        }
        (opens, _) => opens.to_vec(),
    };
    let server = server()?;
    let free = || ports_for(user, free_ports(&policy, &taken_here()));
    let mut scratch = Vec::new();
    let before = text.clone();
    let (text, way, secret) = match kind {
        Kind::Token | Kind::Signed => {
            let found = secret_key(path, host, &policy, &text, name, &opens, kind, user)?;
            let (text, way, secret) = found;
            (text, Some(way), secret)
        }
        Kind::Sequence(_) => {
            let found = sequences(path, host, &free(), &text, name, &opens, kind)?;
            let (text, mut found) = found;
            (text, found.pop().map(Way::Sequence), None)
        }
        Kind::Scratch(_) => {
            let (text, found) = sequences(path, host, &free(), &text, name, &opens, kind)?;
            scratch = found;
            (text, None, None)
        }
    };
    if let Err(message) = replace(path, &text) {
        if let Some(secret) = &secret {
            let _ = fs::remove_file(secret);
        }
        return Err(message.into());
    }
    let opened = || {
        let doors = policy.doors.iter();
        doors.filter(|door| opens.contains(&door.name.to_string()))
    };
    let at: Option<IpAddr> = server.parse().ok().filter(|at| !is_own(*at));
    let door = port_at(opened(), at);
    let deaf = at
        .filter(|at| !policy.hears_at(*at))
        .map_or_else(Vec::new, |at| {
            let behind =
                opened().filter(|door| door.behind().is_some_and(|behind| behind.contains(at)));
            behind.map(|door| door.name.clone()).collect()
        });
    Ok(Enrolled {
        opens,
        deaf,
        secret,
        profile: way.map(|way| Profile {
            host: server.clone(),
            door,
            way,
            gap: GAP,
        }),
        scratch,
        door,
        server,
        before,
        after: text,
    })
}

/// The first TCP port of the doors that a client finds at an address: those in front of it, or else those of this host.
/// `None` for `at`: this host.
fn port_at<'d>(
    doors: impl Iterator<Item = &'d Door> + Clone,
    at: Option<IpAddr>,
) -> Option<NonZeroU16> {
    let is_at = |door: &&Door| match (door.behind(), at) {
        (Some(behind), Some(at)) => behind.contains(at),
        _ => false,
    };
    let is_behind = doors.clone().any(|door| is_at(&door));
    let fits = doors.filter(|door| match is_behind {
        true => is_at(door),
        false => door.is_here(),
    });
    let mut ports = fits.flat_map(|door| &door.ports);
    let tcp = ports.find(|ports| ports.protocol() == Protocol::Tcp);
    tcp.map(|ports| ports.first().port)
}

/// Returns whether an address is one of this host. Nothing is sent.
fn is_own(address: IpAddr) -> bool {
    UdpSocket::bind((address, 0)).is_ok()
}

/// A key with a secret in a file: of tokens, or a signed one.
#[allow(clippy::too_many_arguments)]
fn secret_key(
    path: &Path,
    host: &Host<'_>,
    policy: &Policy,
    text: &str,
    name: &Name,
    opens: &[String],
    kind: Kind,
    user: For,
) -> Result<(String, Way, Option<PathBuf>), EnrolError> {
    let file = format!("{name}.secret");
    let secret_path = path.with_file_name(&file);
    if secret_path.symlink_metadata().is_ok() {
        let shown = secret_path.display();
        let user = secret_files(text)?
            .into_iter()
            .find(|(_, used)| *used == file);
        let user = user.map(|(user, _)| user);
        return Err(match user {
            Some(user) => format!("{shown} is there already, for {user}: take another name"),
            None => format!(
                "{shown} is there already, and the policy does not name it: it was left by a `key new` \
                 that was interrupted, or is somebody's; `rm {shown}`, or take another name"
            ),
        }
        .into());
    }
    let form = match user {
        For::Program => Form::Bytes,
        For::Browser => Form::Letters,
    };
    let secret = new_secret()?.in_form(form);
    let port = match policy.token_port {
        Some(port) => port,
        None => free_port(policy)?,
    };
    let new = match kind {
        Kind::Signed => NewKey::Signed(&file, port),
        _ => NewKey::Token(&file, form, port),
    };
    let text = add_key(text, name, opens, new)
        .map_err(|message| format!("{}: {message}", path.display()))?;
    write_secret(&secret_path, &secret)?;
    if let Err(error) = load_text(path, &text, host) {
        let _ = fs::remove_file(&secret_path);
        return Err(EnrolError::Policy(error));
    }
    let way = match kind {
        Kind::Signed => Way::Signed(Signed {
            secret,
            port,
            binding: Binding::Address,
            from: Outside::Own,
        }),
        _ => Way::Token(secret, port),
    };
    Ok((text, way, Some(secret_path)))
}

fn new_secret() -> Result<Secret, String> {
    let mut bytes = Zeroizing::new([0; Secret::LENGTH]);
    getrandom::fill(&mut *bytes).map_err(|error| format!("no random numbers: {error}"))?;
    Ok(Secret::new(bytes))
}

fn write_secret(path: &Path, secret: &Secret) -> Result<(), String> {
    let mut line = secret.hex();
    line.push('\n');
    write_new(path, line.as_bytes())
}

/// Writes a random secret into a new file that nobody else may read.
///
/// # Errors
/// A sentence, when there is such a file, or it cannot be written.
pub fn write_new_secret(path: &Path) -> Result<(), String> {
    write_secret(path, &new_secret()?)
}

/// Those of the free ports that its owner can knock at.
fn ports_for(user: For, mut free: Vec<Knock>) -> Vec<Knock> {
    if user == For::Browser {
        free.retain(|knock| knocks_at(knock.port));
    }
    free
}

/// The sequence or sequences of a new key.
fn sequences(
    path: &Path,
    host: &Host<'_>,
    free: &[Knock],
    text: &str,
    name: &Name,
    opens: &[String],
    kind: Kind,
) -> Result<(String, Vec<Vec<Knock>>), EnrolError> {
    let (number, length, scratch) = match kind {
        Kind::Sequence(length) => (1, length, false),
        Kind::Scratch(number) => (number, SCRATCH_KNOCKS, true),
        Kind::Token | Kind::Signed => (0, 0, false),
    };
    let mut refused = None;
    for _ in 0..TRIES {
        let found: Result<Vec<Vec<Knock>>, String> = (0..number)
            .map(|_| random_knocks(free, length, is_wise))
            .collect();
        let found = found?;
        let new = match found.as_slice() {
            [knocks] if !scratch => NewKey::Sequence(knocks),
            several => NewKey::Scratch(several),
        };
        let text = add_key(text, name, opens, new)
            .map_err(|message| format!("{}: {message}", path.display()))?;
        match load_text(path, &text, host) {
            Ok(_) => return Ok((text, found)),
            Err(error) => refused = Some(error),
        }
    }
    Err(match refused {
        Some(error) => EnrolError::Policy(error),
        None => "no sequence was found".to_string().into(),
    })
}

fn free_port(policy: &Policy) -> Result<NonZeroU16, String> {
    // Answers to what this host sends come to the ports above, and would be dropped.
    let mut free = free_ports(policy, &taken_here());
    free.retain(|knock| knock.port.get() < FIRST_EPHEMERAL && sends_tokens_to(knock.port));
    let knocks = random_knocks(&free, 1, |_| true)?;
    let knock = knocks.first().ok_or("no port is free for tokens")?;
    Ok(knock.port)
}

fn random_knocks(
    free: &[Knock],
    count: usize,
    is_wise: impl Fn(&[Knock]) -> bool,
) -> Result<Vec<Knock>, String> {
    let mut failed = None;
    let random = || {
        getrandom::u64().unwrap_or_else(|error| {
            failed = Some(error);
            0
        })
    };
    let drawn = draw(free, count, random, is_wise);
    match (failed, drawn) {
        (Some(error), _) => Err(format!("no random numbers: {error}")),
        (None, Some(knocks)) => Ok(knocks),
        (None, None) => Err(format!(
            "of the {} free ports no sequence of {count} was found that nobody would try first",
            free.len()
        )),
    }
}

/// A key on its way out of a policy file, which nobody else changes meanwhile.
#[derive(Debug)]
pub struct Removal {
    path: PathBuf,
    pub file: PolicyFile,
    /// The file as it is, with the files that it names, where it is a policy. Mistakes do not keep a key in.
    pub policy: Option<(Policy, Beside)>,
    /// The file of the key's secret, where nothing else needs it.
    pub secret: Option<PathBuf>,
    /// Where there is a file to change.
    _alone: Option<File>,
}

/// The state of the file of a policy for a key that is on its way out.
#[derive(Debug)]
pub enum PolicyFile {
    /// There is no such file.
    Gone,
    /// It cannot be read: a sentence.
    Unreadable(String),
    /// It is not TOML.
    Garbled {
        text: String,
        /// The line of the mistake.
        line: usize,
        /// The line in which the key seems to begin.
        key: Option<usize>,
    },
    /// It does not have the key.
    Without { text: String, mistakes: Mistakes },
    /// It has the key: the text as it is, and without the key. The mistakes are those of the latter.
    With {
        before: String,
        after: String,
        mistakes: Mistakes,
    },
}

/// Tells whether a file has mistakes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mistakes {
    No,
    Some,
}

impl PolicyFile {
    /// The text as it is, and as it is to be, where it could be read.
    pub fn texts(&self) -> Option<(&str, &str)> {
        match self {
            PolicyFile::Gone | PolicyFile::Unreadable(_) => None,
            PolicyFile::Garbled { text, .. } | PolicyFile::Without { text, .. } => {
                Some((text, text))
            }
            PolicyFile::With { before, after, .. } => Some((before, after)),
        }
    }
}

impl Removal {
    /// Reads the file. Nothing is changed. A file that is gone or cannot be read does not keep a key in.
    ///
    /// # Errors
    /// When the file would not be accepted without the key although it is with it, or cannot be locked.
    pub fn read(path: &Path, host: &Host<'_>, name: &Name) -> Result<Removal, EnrolError> {
        let as_found = |file, alone| Removal {
            path: path.to_path_buf(),
            file,
            policy: None,
            secret: None,
            _alone: alone,
        };
        if let Err(error) = fs::metadata(path) {
            return Ok(match error.kind() {
                io::ErrorKind::NotFound => as_found(PolicyFile::Gone, None),
                _ => as_found(unreadable(path, &error), None),
            });
        }
        let alone = Some(alone(path)?);
        let before = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => return Ok(as_found(unreadable(path, &error), alone)),
        };
        if let Some(line) = garbled_at(&before) {
            let key = line_of_key(&before, name);
            let text = before;
            return Ok(as_found(PolicyFile::Garbled { text, line, key }, alone));
        }
        let policy = load_text_and_beside(path, &before, host).ok();
        if !has_key(&before, name) {
            let mistakes = match policy {
                Some(_) => Mistakes::No,
                None => Mistakes::Some,
            };
            let text = before;
            return Ok(Removal {
                policy,
                ..as_found(PolicyFile::Without { text, mistakes }, alone)
            });
        }
        let after = remove_key(&before, name)?;
        let mistakes = match load_text(path, &after, host) {
            Ok(_) => Mistakes::No,
            Err(_) if policy.is_none() => Mistakes::Some,
            Err(error) => return Err(EnrolError::Policy(error)),
        };
        // Only a file that `new_key` has made, and no other key needs: another is the administrator's.
        let made = format!("{name}.secret");
        let own = (format!("key `{name}`"), made.clone());
        let named = secret_files(&before)?.contains(&own);
        let kept = secret_files(&after)?.iter().any(|(_, file)| *file == made);
        let secret = path.with_file_name(made);
        let file = PolicyFile::With {
            before,
            after,
            mistakes,
        };
        Ok(Removal {
            policy,
            secret: (named && !kept && secret.is_file()).then_some(secret),
            ..as_found(file, alone)
        })
    }

    /// Writes the file without the key.
    ///
    /// # Errors
    /// A sentence, when it cannot be written. It is as it was then.
    pub fn write(&self) -> Result<(), String> {
        match &self.file {
            PolicyFile::With { after, .. } => replace(&self.path, after),
            _ => Ok(()),
        }
    }
}

fn unreadable(path: &Path, error: &io::Error) -> PolicyFile {
    PolicyFile::Unreadable(cannot_read(path, error))
}

/// The names and kinds of the keys of a policy, with the doors that each opens. `used_up` are the scratch
/// sequences that open no more, as far as that is known.
pub fn keys(
    policy: &Policy,
    used_up: Option<&BTreeSet<u32>>,
) -> Vec<(String, String, Vec<String>)> {
    let keys = policy.keys.iter().map(|key| {
        let kind = match &key.kind {
            KeyKind::Sequence(knocks) => format!("{} knocks", knocks.len()),
            KeyKind::Token(_) => "token".to_string(),
            KeyKind::Signed(_) => "signed".to_string(),
            KeyKind::Scratch(sequences) => match used_up {
                Some(used_up) => {
                    let left = key.scratch_left(used_up).unwrap_or(0);
                    format!("{left} of {} scratch left", sequences.len())
                }
                None => format!("{} scratch", sequences.len()),
            },
        };
        let doors = key
            .opens
            .iter()
            .map(|opening| policy.door(opening.door).name.to_string());
        (key.name.to_string(), kind, doors.collect())
    });
    keys.collect()
}

/// Held while a policy file is changed: by one at a time. The lock is on the directory, since the file is
/// replaced.
fn alone(path: &Path) -> Result<File, EnrolError> {
    let failed = |error: io::Error| format!("{} cannot be locked: {error}", path.display());
    let path = path.canonicalize().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => EnrolError::Policy(LoadError::Missing(path.to_path_buf())),
        _ => cannot_read(path, &error).into(),
    })?;
    let directory = File::open(path.parent().unwrap_or(Path::new("."))).map_err(failed)?;
    directory.lock().map_err(failed)?;
    Ok(directory)
}

fn read(path: &Path) -> Result<String, EnrolError> {
    fs::read_to_string(path).map_err(|error| cannot_read(path, &error).into())
}

/// Puts a new text in the place of a file's, with its owner and mode. After a power cut there is the one
/// or the other.
pub(crate) fn replace(path: &Path, text: &str) -> Result<(), String> {
    let failed = |error: io::Error| format!("{} cannot be written: {error}", path.display());
    // The target of a link is replaced, not the link.
    let path = path.canonicalize().map_err(failed)?;
    let name = path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let new = path.with_file_name(format!(".{name}.new"));
    let before = fs::metadata(&path).map_err(failed)?;
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    write_new(&new, text.as_bytes())?;
    let swap = || {
        let now = fs::metadata(&new)?;
        if (now.uid(), now.gid()) != (before.uid(), before.gid()) {
            chown(&new, Some(before.uid()), Some(before.gid()))?;
        }
        fs::set_permissions(&new, fs::Permissions::from_mode(before.mode() & 0o7777))?;
        fs::rename(&new, &path)?;
        let directory = path.parent().unwrap_or(Path::new("."));
        File::open(directory)?.sync_all()
    };
    swap().map_err(|error| {
        let _ = fs::remove_file(&new);
        failed(error)
    })
}

/// The ports that something listens at here, TCP or UDP.
fn taken_here() -> HashSet<u16> {
    let listeners = listeners().into_iter();
    listeners.map(|listener| listener.port.port.get()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_door_to_try_is_one_that_is_at_the_address() {
        let text = "[door.ssh]\nports = [22]\n[door.nas]\nports = [\"53/udp\", 5000]\nto = [\"192.0.2.48/28\"]\n";
        let policy = crate::policy::read("p", text).unwrap();
        let tried = |doors: &[usize], at: Option<&str>| {
            let doors = doors.iter().map(|&door| &policy.doors[door]);
            port_at(doors, at.map(|at| at.parse().unwrap())).map(NonZeroU16::get)
        };
        for (doors, at, wanted) in [
            (&[0][..], None, Some(22)),
            (&[0], Some("192.0.2.1"), Some(22)),
            (&[1], Some("192.0.2.50"), Some(5000)),
            (&[0, 1], Some("192.0.2.50"), Some(5000)),
            (&[0, 1], Some("192.0.2.1"), Some(22)),
            (&[0, 1], None, Some(22)),
            (&[1], Some("192.0.2.1"), None),
            (&[1], None, None),
        ] {
            assert_eq!(tried(doors, at), wanted, "{doors:?} {at:?}");
        }
    }

    #[test]
    fn a_key_for_browsers_gets_no_port_that_they_refuse() {
        let free: Vec<Knock> = (1024..12_000)
            .filter_map(|port| Knock::new(Protocol::Tcp, port))
            .collect();
        let has = |user, port| {
            let ports = ports_for(user, free.clone());
            ports.iter().any(|knock| knock.port.get() == port)
        };
        for (port, in_browsers) in [(6667, false), (10_080, false), (6664, true)] {
            assert!(has(For::Program, port));
            assert_eq!(has(For::Browser, port), in_browsers, "{port}");
        }
    }
}
