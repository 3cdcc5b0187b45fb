//! What was applied last, what is on trial, and what was refused: `applied.json` beside the journal. It
//! holds the text of the policy, so that there is a way back when its file has changed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::namespaces::living;
use super::sighting::Sighting;
use super::{Failure, Firewall, StateFile, list_size};
use crate::policy::edit::{remove_key, secret_files};
use crate::policy::load::{Beside, LoadError, beside, load_text_again};
use crate::policy::{Backend, Host, Name, Policy};
use crate::ruleset::nftables::EndedElsewhere;
use crate::ruleset::{Grant, Opened};

/// The record of the kernel's first network namespace.
const FILE: &str = "applied.json";

/// The version of the file that this program writes, and the only one it reads.
const VERSION: u32 = 1;

/// The record of this firewall. None of it is needed for the firewall to work.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    version: u32,
    /// The start of the machine in which it was written; empty where an earlier release wrote it.
    #[serde(default)]
    boot: String,
    /// What runs, `None` when nothing of ours does.
    pub running: Option<Origin>,
    /// Set while `running` is on trial.
    pub trial: Option<Trial>,
    /// Set when the last trial was not confirmed in time.
    pub refused: Option<Refused>,
}

/// What a policy was read from.
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

/// A policy on trial.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trial {
    /// Random.
    pub id: u64,
    /// What ran before, `None` when nothing of ours did.
    pub before: Option<Origin>,
    ends: Moment,
    /// Grants that the policy on trial ended.
    ended: Vec<EndedGrant>,
    /// The digests of texts of the file that are the policy on trial but for keys that `toctoc key` has
    /// added or removed: these are no less on trial.
    #[serde(default)]
    edits: Vec<String>,
    /// Set when its time was over and it could not go back. It is tried again.
    #[serde(default)]
    pub stuck: Option<Stuck>,
}

/// A way back that was not found yet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stuck {
    /// A sentence.
    pub why: String,
    pub tries: u32,
    /// When it was tried last.
    last: Moment,
}

impl Stuck {
    /// How long ago it was tried last.
    pub fn ago(&self, now: &Moment) -> Duration {
        now.since(&self.last)
    }
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

/// What to apply when the machine starts.
#[derive(Debug, PartialEq)]
pub enum AtStart {
    /// What the file says.
    File,
    /// What is on trial, which goes on: it was only a reload.
    OnTrial(Origin),
    /// What ran before a trial that was not confirmed (`None`: nothing did).
    Before(Option<Origin>, Option<Refused>),
    /// What was applied since the machine was started: it was only a reload, and the file was changed.
    Applied(Origin, Option<Refused>),
}

/// A moment that no step of the clock moves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Moment {
    /// Which start of the machine.
    boot: String,
    /// Since then.
    milliseconds: u64,
}

impl Moment {
    pub fn now() -> Moment {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
        let milliseconds = u64::try_from(now.tv_nsec / 1_000_000).unwrap_or(0);
        Moment {
            boot: this_start(),
            milliseconds: seconds * 1000 + milliseconds,
        }
    }

    /// This moment and some time.
    pub fn plus(&self, time: Duration) -> Moment {
        Moment {
            milliseconds: self.milliseconds.saturating_add(milliseconds(time)),
            ..self.clone()
        }
    }

    /// Time since this moment; zero if the machine has restarted.
    pub fn ago(&self) -> Duration {
        Moment::now().since(self)
    }

    /// Whether the machine has not been started again since.
    pub fn is_of_this_start(&self) -> bool {
        !self.boot.is_empty() && self.boot == Moment::now().boot
    }

    /// Time from `earlier` to this moment; zero if negative or across a restart.
    fn since(&self, earlier: &Moment) -> Duration {
        match self.boot == earlier.boot {
            true => Duration::from_millis(self.milliseconds.saturating_sub(earlier.milliseconds)),
            false => Duration::ZERO,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EndedGrant {
    source: String,
    opened_from: String,
    door: u32,
    key: u32,
    ends: Moment,
    /// For how long it was given, in milliseconds.
    #[serde(default)]
    given_for: u64,
}

impl EndedGrant {
    /// `None` for what is not given again: grants for one connection, and those that nobody opened.
    fn of(grant: &Grant, now: &Moment) -> Option<EndedGrant> {
        let opened = grant.opened_by.filter(|_| !grant.once)?;
        Some(EndedGrant {
            source: grant.source.to_string(),
            opened_from: opened.source.to_string(),
            door: grant.door,
            key: opened.key,
            ends: now.plus(grant.expires_in),
            given_for: milliseconds(opened.given_for.max(grant.expires_in)),
        })
    }

    fn grant(&self, now: &Moment) -> Option<Grant> {
        let expires_in = self.ends.since(now);
        let grant = Grant {
            source: self.source.parse().ok()?,
            door: self.door,
            once: false,
            opened_by: Some(Opened {
                source: self.opened_from.parse().ok()?,
                door: self.door,
                key: self.key,
                expires_in,
                given_for: Duration::from_millis(self.given_for),
            }),
            expires_in,
        };
        (!expires_in.is_zero()).then_some(grant)
    }

    /// Whether another host of the fleet has ended it since it was given.
    fn is_over(&self, now: &Moment, elsewhere: &EndedElsewhere) -> bool {
        let began = self.ends.milliseconds.saturating_sub(self.given_for);
        let since = |ago: &Duration| began <= now.milliseconds.saturating_sub(milliseconds(*ago));
        let own = self.source.parse::<IpNet>();
        let touches = |source: &IpNet| {
            let own = own.as_ref();
            own.is_ok_and(|own| source.contains(own) || own.contains(source))
        };
        let mut places = elsewhere.places.iter();
        let mut keys = elsewhere.keys.iter();
        places.any(|(source, door, ago)| *door == self.door && touches(source) && since(ago))
            || keys.any(|(key, ago)| *key == self.key && since(ago))
    }
}

/// A name for this start of the machine.
fn this_start() -> String {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    boot.trim().to_string()
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl Origin {
    /// What a policy was read from; `path` may be relative.
    pub fn new(path: &Path, text: String, files: Beside, backend: Backend) -> Origin {
        Origin {
            path: std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf()),
            backend: backend.name().to_string(),
            text,
            files,
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
        let known = [Backend::Nftables, Backend::Iptables];
        let host = Host {
            backend: known.into_iter().find(|b| b.name() == self.backend),
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

    /// Whether this is what a file at `path` says that holds `text`.
    pub fn is(&self, path: &Path, text: &str) -> bool {
        self.is_at(path) && self.text == text
    }

    /// Whether it was read from `path`.
    pub fn is_at(&self, path: &Path) -> bool {
        std::path::absolute(path).is_ok_and(|path| path == self.path)
    }
}

impl Trial {
    /// A trial from now on. `before` is what ran until now.
    pub fn new(id: u64, before: Option<Origin>, lasting: Duration) -> Trial {
        Trial {
            id,
            before,
            ends: Moment::now().plus(lasting),
            ended: Vec::new(),
            edits: Vec::new(),
            stuck: None,
        }
    }

    /// Notes that it could not go back.
    pub fn note_stuck(&mut self, why: &str, now: Moment) {
        let tries = self.stuck.as_ref().map_or(0, |stuck| stuck.tries);
        self.stuck = Some(Stuck {
            why: why.to_string(),
            tries: tries.saturating_add(1),
            last: now,
        });
    }

    /// The same for another policy, and a time of its own: it goes back to what was there before both.
    pub fn again(self, id: u64, lasting: Duration) -> Trial {
        let mut again = Trial {
            id,
            edits: Vec::new(),
            stuck: None,
            ..self
        };
        again.extend(lasting);
        again
    }

    /// How long it lasts still.
    pub fn left(&self, now: &Moment) -> Duration {
        self.ends.since(now)
    }

    /// Whether it was begun before the machine was started.
    pub fn is_of_another_start(&self, now: &Moment) -> bool {
        self.ends.boot != now.boot
    }

    /// It lasts so long from now on.
    pub fn extend(&mut self, lasting: Duration) {
        self.ends = Moment::now().plus(lasting);
    }

    /// Notes grants that were there at `then` and are not any more. They do not come back twice.
    pub fn note_ended(&mut self, before: &[Grant], then: &Moment, after: &[Grant]) {
        let gone = before.iter().filter(|grant| !holds(after, grant));
        self.ended
            .extend(gone.filter_map(|grant| EndedGrant::of(grant, then)));
    }

    /// The ended grants that would still be live, that are not among `there`, and that no other host has ended.
    pub fn returning(
        &self,
        now: &Moment,
        there: &[Grant],
        elsewhere: &EndedElsewhere,
    ) -> Vec<Grant> {
        let mut returning: Vec<Grant> = Vec::new();
        let over = |ended: &&EndedGrant| ended.is_over(now, elsewhere);
        let ended = self.ended.iter().filter(|ended| !over(ended));
        for grant in ended.filter_map(|ended| ended.grant(now)) {
            if !holds(there, &grant) && !holds(&returning, &grant) {
                returning.push(grant);
            }
        }
        returning
    }

    /// Somebody has closed doors: these do not come back.
    fn close(&mut self, door: Option<&Name>, source: Option<IpNet>) {
        self.ended.retain(|ended| {
            let of_door = door.is_none_or(|door| door.id() == ended.door);
            let of_source = match (source, ended.source.parse::<IpNet>()) {
                (Some(source), Ok(own)) => source.contains(&own) || own.contains(&source),
                _ => true,
            };
            !(of_door && of_source)
        });
    }
}

/// Whether the source of a grant has one for its door.
fn holds(grants: &[Grant], wanted: &Grant) -> bool {
    let same = |grant: &Grant| {
        grant.source == wanted.source && grant.door == wanted.door && grant.once == wanted.once
    };
    grants.iter().any(same)
}

impl Record {
    /// What is noted of this firewall; nothing, when there is no record.
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
        let Some(text) = state.text(&file)? else {
            return Ok(None);
        };
        serde_json::from_str(&text)
            .ok()
            .filter(|record: &Record| record.version == VERSION)
            .map(Some)
            .ok_or_else(|| format!("{} is damaged", state.shown(&file)))
    }

    /// Writes it.
    ///
    /// # Errors
    /// A sentence.
    pub fn write(&self, state: &StateFile) -> Result<(), String> {
        let file = file();
        let record = Record {
            boot: this_start(),
            ..self.clone()
        };
        let text = serde_json::to_string(&record)
            .map(Zeroizing::new)
            .map_err(|error| format!("{} cannot be written: {error}", state.shown(&file)))?;
        state.put(&file, &text)?;
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
        let record = Record {
            version: VERSION,
            running,
            refused,
            ..Record::default()
        };
        record.write(state)
    }

    /// Notes that nothing of ours is there any more.
    ///
    /// # Errors
    /// A sentence.
    pub fn note_removed(state: &StateFile) -> Result<(), String> {
        match state.text(&file())? {
            None => Ok(()),
            Some(_) => Record::note_applied(state, None, None),
        }
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

    /// Whether a policy of this text was on trial last, and not confirmed.
    pub fn has_refused(&self, text: &str) -> bool {
        let refused = self.refused.as_ref();
        let digest = digest(text);
        refused.is_some_and(|refused| refused.digest == digest || refused.edits.contains(&digest))
    }

    /// Whether a file of this text says what is on trial.
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

    /// What to apply when the machine starts or the unit is reloaded, where the file of the policy says
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
    /// What is noted of this firewall.
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

/// Removes the records of network namespaces that are gone: those of an earlier start of the machine, and those
/// that no process knows any more. The first namespace is always there.
fn forget_vanished(state: &StateFile, own: &str) {
    let number = |name: &str| -> Option<u64> {
        let number = name.strip_prefix("applied-")?.strip_suffix(".json")?;
        number.parse().ok().filter(|_| name != own)
    };
    let names = state.names();
    let others: Vec<(u64, &String)> = names
        .iter()
        .filter_map(|name| Some((number(name)?, name)))
        .collect();
    if others.is_empty() {
        return;
    }
    let (living, start) = (living(), this_start());
    if let Some(living) = &living {
        Sighting::forget_vanished(living);
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A grant that was given for a minute, ten seconds before a trial ended it, and its time five seconds later.
    fn case() -> (Trial, Moment) {
        let (then, seconds) = (Moment::now(), Duration::from_secs);
        let source: IpNet = "192.0.2.7/32".parse().unwrap();
        let grant = Grant {
            source,
            door: 0x2_0002,
            once: false,
            opened_by: Some(Opened {
                source: source.addr(),
                door: 0x2_0002,
                key: 0x9_0001,
                expires_in: seconds(50),
                given_for: seconds(60),
            }),
            expires_in: seconds(50),
        };
        let mut trial = Trial::new(1, None, seconds(600));
        trial.note_ended(&[grant], &then, &[]);
        (trial, then.plus(seconds(5)))
    }

    #[test]
    fn who_comes_back_is_who_was_let_in_after_what_others_ended() {
        let (trial, now) = case();
        let ended = |source: &str, door: u32, key: u32, ago: u64| EndedElsewhere {
            places: vec![(source.parse().unwrap(), door, Duration::from_secs(ago))],
            keys: vec![(key, Duration::from_secs(ago))],
        };
        for (source, door, key, ago, comes_back) in [
            // While he was in, and before he came.
            ("192.0.2.7/32", 0x2_0002, 0, 0, false),
            ("192.0.2.7/32", 0x2_0002, 0, 15, false),
            ("192.0.2.7/32", 0x2_0002, 0, 16, true),
            ("192.0.2.0/24", 0x2_0002, 0, 3, false),
            ("0.0.0.0/0", 0x2_0002, 0, 3, false),
            ("192.0.2.7/32", 0, 0x9_0001, 15, false),
            ("192.0.2.7/32", 0, 0x9_0001, 16, true),
            // Others, and elsewhere.
            ("192.0.2.8/32", 0x2_0002, 0, 0, true),
            ("192.0.2.7/32", 0x2_0003, 0x9_0002, 0, true),
            ("::/0", 0x2_0002, 0, 0, true),
        ] {
            let back = trial.returning(&now, &[], &ended(source, door, key, ago));
            assert_eq!(
                back.len(),
                usize::from(comes_back),
                "{source} {door:x} {key:x} {ago}"
            );
            for grant in back {
                assert_eq!(grant.expires_in, Duration::from_secs(45));
                let given_for = grant.opened_by.map(|opened| opened.given_for);
                assert_eq!(given_for, Some(Duration::from_secs(60)));
            }
        }
        let late = now.plus(Duration::from_secs(60));
        let none = EndedElsewhere::default();
        assert!(trial.returning(&late, &[], &none).is_empty(), "it is over");
    }
}
