//! The record of the policy applied last, the one on trial, and the one refused: `applied.json` beside the journal.
//! It holds the text of the policy, so that there is a way back when its file has changed.

mod copy;
mod moment;
mod on_trial;

use std::path::{Path, PathBuf};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::lock::forget_vanished as forget_vanished_files;
use super::namespaces::{Cookie, is_here, living};
use super::{Failure, Firewall, StateFile, list_size};
use crate::policy::edit::{remove_key, secret_files};
use crate::policy::load::{Beside, LoadError, beside, load_text_again};
use crate::policy::{Backend, Host, Name, Policy};

pub use moment::Moment;
use moment::this_start;
pub use on_trial::{Stuck, Trial};

/// The record of the kernel's first network namespace.
const FILE: &str = "applied.json";

/// The version of the file that this program writes, and the only one it reads.
const VERSION: u32 = 1;

/// The record of this firewall. None of it is needed for the firewall to work.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    version: u32,
    /// The start of the machine in which `running` was applied, or all was removed; empty where an earlier release wrote
    /// it.
    #[serde(default)]
    boot: String,
    /// The network namespace in which that was.
    #[serde(default)]
    namespace: Option<Cookie>,
    /// The policy that runs, `None` when none of ours does.
    pub running: Option<Origin>,
    /// Set while `running` is on trial.
    pub trial: Option<Trial>,
    /// Set when the last trial was not confirmed in time.
    pub refused: Option<Refused>,
}

/// The text and files that a policy was read from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// Absolute; the files that the policy names are beside it.
    pub path: PathBuf,
    /// The name of the backend.
    pub backend: String,
    pub text: String,
    /// The files that it names (secrets), should they be gone when it is needed again.
    #[serde(default, skip_serializing_if = "Beside::is_empty")]
    files: Beside,
}

/// A policy that was on trial and was not confirmed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refused {
    /// SHA-256 of its text, in hexadecimal.
    digest: String,
    /// When it went back, in seconds since 1970.
    pub at: i64,
    /// Why it could not go back, if so: a sentence. Earlier releases wrote it.
    pub failed: Option<String>,
    /// As [`Trial`] has them.
    #[serde(default)]
    edits: Vec<String>,
}

/// The policy to apply when the machine starts.
#[derive(Debug, PartialEq)]
pub enum AtStart {
    /// The one in the file.
    File,
    /// The one on trial, which goes on: it was only a reload.
    OnTrial(Origin),
    /// The one before a trial that was not confirmed (`None`: there was none).
    Before(Option<Origin>, Option<Refused>),
    /// The policy that was applied since the machine was started: it was only a reload, and the file was changed.
    Applied(Origin, Option<Refused>),
}

impl Origin {
    /// Makes the origin of a policy; `path` may be relative.
    pub fn new(path: &Path, text: String, files: Beside, backend: Backend) -> Origin {
        Origin {
            path: std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf()),
            backend: backend.name().to_string(),
            text,
            files,
        }
    }

    /// The same, for a file that will be at `path`.
    pub fn moved_to(self, path: &Path) -> Origin {
        Origin {
            path: std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf()),
            ..self
        }
    }

    /// The files that it names and that cannot be read any more, a sentence each.
    pub fn missing(&self) -> Vec<String> {
        let names = self.files.keys();
        let paths = names.map(|name| beside(&self.path, name));
        let missing = paths.filter_map(|path| {
            let error = std::fs::File::open(&path).err()?;
            Some(format!("{} cannot be read: {error}", path.display()))
        });
        missing.collect()
    }

    /// Checks it again, with the files that it named as they were.
    ///
    /// # Errors
    /// When it is no policy any more: an earlier release, which did not note those files, has noted it, or
    /// took what this one refuses.
    pub fn policy(&self) -> Result<Policy, LoadError> {
        let host = Host {
            backend: Backend::named(&self.backend),
            ip_list_tot: list_size(),
            ..Host::default()
        };
        load_text_again(&self.path, &self.text, &host, &self.files)
    }

    /// The same without a key, and without the secret of that key.
    ///
    /// # Errors
    /// A sentence, when it has no such key.
    pub fn without_key(&self, name: &Name) -> Result<Origin, String> {
        let text = remove_key(&self.text, name)?;
        let named = |text: &str| -> Result<Vec<String>, String> {
            let files = secret_files(text)?.into_iter();
            Ok(files.map(|(_, file)| file).collect())
        };
        let (before, after) = (named(&self.text)?, named(&text)?);
        let mut files = self.files.clone();
        files.retain(|file, _| !before.contains(file) || after.contains(file));
        Ok(Origin {
            text,
            files,
            ..self.clone()
        })
    }

    /// Returns whether this is what a file at `path` says that holds `text`.
    pub fn is(&self, path: &Path, text: &str) -> bool {
        self.is_at(path) && self.text == text
    }

    /// Returns whether it was read from `path`.
    pub fn is_at(&self, path: &Path) -> bool {
        std::path::absolute(path).is_ok_and(|path| path == self.path)
    }
}

impl Record {
    /// Reads what is noted of this firewall; nothing, when there is no record.
    ///
    /// # Errors
    /// A sentence, when the file cannot be read or is damaged.
    pub fn read(state: &StateFile) -> Result<Record, String> {
        let record = Record::found(state)?;
        Ok(record.unwrap_or_else(|| Record {
            version: VERSION,
            ..Record::default()
        }))
    }

    /// The same, `None` when there is no record.
    ///
    /// # Errors
    /// As for [`Record::read`].
    pub fn found(state: &StateFile) -> Result<Option<Record>, String> {
        let file = file();
        let record = match state.text(&file) {
            Ok(None) => Ok(None),
            Err(message) => Err(message),
            Ok(Some(text)) => serde_json::from_str(&text)
                .ok()
                .filter(|record: &Record| record.version == VERSION)
                .map(Some)
                .ok_or_else(|| format!("{} is damaged", state.shown(&file))),
        };
        let record = match record {
            Ok(Some(record)) => record,
            Ok(None) | Err(_) if let Some(copy) = copy::of_a_trial(state) => copy,
            other => return other,
        };
        // The number of a namespace that is gone was given to this one.
        let of_another = file != FILE && record.is_of_this_start() && !is_here(record.namespace);
        Ok(Some(record).filter(|_| !of_another))
    }

    /// Returns whether what it calls running was applied since the machine was started.
    pub(super) fn is_of_this_start(&self) -> bool {
        !self.boot.is_empty() && self.boot == this_start()
    }

    /// Notes what runs from now on.
    pub(super) fn runs(&mut self, running: Option<Origin>) {
        self.running = running;
        self.boot = this_start();
        self.namespace = Cookie::own();
    }

    /// Writes it.
    ///
    /// # Errors
    /// A sentence.
    pub fn write(&self, state: &StateFile) -> Result<(), String> {
        let file = file();
        let text = serde_json::to_string(self)
            .map(Zeroizing::new)
            .map_err(|error| format!("{} cannot be written: {error}", state.shown(&file)))?;
        state.put(&file, &text)?;
        copy::keep(state, self);
        forget_vanished(state, &file);
        Ok(())
    }

    /// Notes that this is applied for good.
    ///
    /// # Errors
    /// A sentence.
    pub fn note_applied(
        state: &StateFile,
        running: Option<Origin>,
        refused: Option<Refused>,
    ) -> Result<(), String> {
        let mut record = Record {
            version: VERSION,
            refused,
            ..Record::default()
        };
        record.runs(running);
        record.write(state)
    }

    /// Forgets what was noted, as far as it can be.
    pub(super) fn forget(state: &StateFile) {
        state.remove(&file());
        copy::forget();
    }

    /// Notes that nothing of ours is there any more. A policy on trial was not confirmed by that. `now` is in seconds since
    /// 1970.
    ///
    /// # Errors
    /// A sentence.
    pub fn note_removed(state: &StateFile, now: i64) -> Result<(), String> {
        let mut record = match Record::found(state) {
            Ok(None) => return Ok(()),
            Ok(Some(record)) => record,
            Err(_) => Record::default(),
        };
        record.refused = None;
        if let Some(trial) = record.trial.take() {
            record.refuse(&trial, now);
        }
        Record::note_applied(state, None, record.refused)
    }

    /// Notes that grants were ended by hand, so that no rollback brings them back.
    ///
    /// # Errors
    /// When a trial is under way and it cannot be noted.
    pub fn note_closed(
        state: &StateFile,
        door: Option<&Name>,
        source: Option<IpNet>,
    ) -> Result<(), Failure> {
        let Ok(mut record) = Record::read(state) else {
            return Ok(());
        };
        let Some(trial) = &mut record.trial else {
            return Ok(());
        };
        let before = trial.ended.len();
        trial.close(door, source);
        match trial.ended.len() == before {
            true => Ok(()),
            false => record.write(state).map_err(|message| Failure {
                message: format!(
                    "{message}; a rollback of the policy on trial would bring closed grants back"
                ),
                left: super::Left::Partly,
            }),
        }
    }

    /// The policy that runs was not confirmed; `trial` is what it was on. `now` is in seconds since 1970.
    pub fn refuse(&mut self, trial: &Trial, now: i64) {
        let refused = self.running.as_ref().map(|origin| Refused {
            digest: digest(&origin.text),
            at: now,
            failed: None,
            edits: trial.edits.clone(),
        });
        self.refused = refused;
    }

    /// Returns whether a policy of this text was on trial last, and not confirmed.
    pub fn has_refused(&self, text: &str) -> bool {
        let refused = self.refused.as_ref();
        let digest = digest(text);
        refused.is_some_and(|refused| refused.digest == digest || refused.edits.contains(&digest))
    }

    /// Returns whether a file of this text says what is on trial.
    fn is_on_trial(&self, text: &str) -> bool {
        let (Some(trial), Some(running)) = (&self.trial, &self.running) else {
            return false;
        };
        running.text == text || trial.edits.contains(&digest(text))
    }

    /// Notes that `toctoc key` changes the text of the policy's file: what was on trial or refused is so
    /// still. `running` is the policy that runs from now on, if that changes too.
    pub fn note_edit(&mut self, before: &str, after: &str, running: Option<Origin>) {
        let (on_trial, refused) = (self.is_on_trial(before), self.has_refused(before));
        self.running = running.or(self.running.take());
        if let Some(trial) = self.trial.as_mut().filter(|_| on_trial) {
            trial.edits.push(digest(after));
        }
        if let Some(record) = self.refused.as_mut().filter(|_| refused) {
            record.edits.push(digest(after));
        }
    }

    /// The policy that worked last: what runs, or, when the time of a trial is over, what ran before it.
    pub fn worked(&self, now: &Moment) -> Option<&Origin> {
        match &self.trial {
            Some(trial) if trial.left(now).is_zero() => trial.before.as_ref(),
            _ => self.running.as_ref(),
        }
    }

    /// The policy to apply when the machine starts or the unit is reloaded, where the file of the policy says
    /// `text`: a policy that was on trial and not confirmed does not come in this way, and what is in the
    /// file and was not applied comes in with a start of the machine only.
    pub fn at_start(mut self, text: &str, now: &Moment, clock: i64) -> AtStart {
        let same_start = self.boot == now.boot;
        if let Some(trial) = &self.trial
            && !trial.left(now).is_zero()
            && let Some(running) = &self.running
        {
            return AtStart::OnTrial(running.clone());
        }
        let on_trial = self.is_on_trial(text);
        if let Some(trial) = self.trial.take() {
            self.refuse(&trial, clock);
            self.running = trial.before;
            if on_trial {
                return AtStart::Before(self.running, self.refused);
            }
        } else if self.has_refused(text) {
            return AtStart::Before(self.running, self.refused);
        }
        match self.running {
            Some(running) if same_start && running.text != text => {
                AtStart::Applied(running, self.refused)
            }
            _ => AtStart::File,
        }
    }
}

impl Firewall {
    /// Reads what is noted of this firewall.
    ///
    /// # Errors
    /// A sentence, when the file cannot be read or is damaged.
    pub fn record(&self) -> Result<Record, String> {
        Record::read(&self.state)
    }
}

fn digest(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Removes what is kept for network namespaces that are gone: those of an earlier start of the machine, and those
/// that no process knows any more. The first namespace is always there.
fn forget_vanished(state: &StateFile, own: &str) {
    let number = |name: &str| -> Option<u64> {
        let start = ["applied-", "verified-", "names-"].into_iter();
        let mut rest = start.filter_map(|start| name.strip_prefix(start));
        rest.next()?.strip_suffix(".json")?.parse().ok()
    };
    let own = number(own);
    let names = state.names();
    let others: Vec<(u64, &String)> = names
        .iter()
        .filter_map(|name| Some((number(name)?, name)))
        .filter(|(number, _)| Some(*number) != own)
        .collect();
    if others.is_empty() {
        return;
    }
    let (living, start) = (living(), this_start());
    if let Some(living) = &living {
        forget_vanished_files(living);
    }
    for (number, name) in others {
        let text = state.text(name).ok().flatten().unwrap_or_default();
        let record: Option<Record> = serde_json::from_str(&text).ok();
        let boot = record.map_or(String::new(), |record| record.boot);
        let is_old = !boot.is_empty() && boot != start;
        if is_old
            || living
                .as_ref()
                .is_some_and(|living| !living.contains(&number))
        {
            state.remove(name);
        }
    }
}

/// The name of the file: each network namespace has a firewall of its own. The kernel's first one is known
/// by a setting that no other has; that can be seen without privileges, so that everybody, a unit too,
/// comes to the same name.
pub(super) fn file() -> String {
    use std::os::unix::fs::MetadataExt;
    let own = std::fs::metadata("/proc/thread-self/ns/net").map_or(0, |found| found.ino());
    let is_first = Path::new("/proc/sys/net/core/netdev_max_backlog").exists();
    match is_first {
        true => FILE.to_string(),
        false => format!("applied-{own}.json"),
    }
}
