//! A key less in the firewall that runs, and nothing else: the policy that was applied without that key, not
//! what its file says by now. A trial goes on.

use std::path::{Path, PathBuf};

use super::apply::{Applied, apply_locked};
use super::heal::note_applied;
use super::lock::Lock;
use super::record::{Origin, Record};
use super::sighting::{Sighting, Verdict};
use super::status::observe;
use super::{Failure, Firewall, Left};
use crate::policy::edit::has_key;
use crate::policy::load::Beside;
use crate::policy::{Name, Policy};
use crate::single_use::journal::Clocks;

/// The file that a key is taken out of, before and after.
#[derive(Debug, Clone, Copy)]
pub struct Edit<'t> {
    pub path: &'t Path,
    /// The text as it is and as it is to be; `None` where the file is gone or cannot be read.
    pub texts: Option<(&'t str, &'t str)>,
    /// The file as it was before, where it is a policy, and the files that it names.
    pub policy: Option<&'t (Policy, Beside)>,
}

/// The outcome for the running firewall.
#[derive(Debug)]
pub enum InForce {
    /// No rules of ours are in the kernel.
    Nothing,
    /// The running policy was read from another file.
    OtherFile(PathBuf),
    /// The running policy does not have the key.
    WithoutKey,
    /// The key was taken out, and this was done. No key opens these doors any more, and this one did.
    Without(Box<Applied>, Vec<Name>),
}

/// Why a key was not revoked. Nothing was changed, but for what the failure says.
#[derive(Debug)]
pub enum NotRevoked {
    /// The caller said no.
    Refused,
    Failed(Failure),
}

impl From<Failure> for NotRevoked {
    fn from(failure: Failure) -> NotRevoked {
        NotRevoked::Failed(failure)
    }
}

/// The result.
#[derive(Debug)]
pub struct Revoked {
    pub in_force: InForce,
    /// `true` if the key was in what runs, or in anything that is noted. It is not any more.
    pub was_there: bool,
    /// `true` if a trial is under way, which goes on.
    pub in_trial: bool,
    /// Why it could not be noted, if so: a sentence.
    pub unnoted: Option<String>,
}

/// Takes a key out of the policy that runs, out of what a trial would go back to, and out of the record of both.
/// `may` is asked first whether a policy without the key may run; it is also given the one with it, as far as
/// that can still be read.
///
/// # Errors
/// Anything that stopped it, with the state the firewall was left in.
pub fn revoke(
    firewall: &Firewall,
    edit: Edit<'_>,
    name: &Name,
    may: impl Fn(&Policy, Option<&Policy>) -> bool,
    clocks: Clocks,
) -> Result<Revoked, NotRevoked> {
    let _lock = Lock::take()?;
    let is_guarded = firewall.is_guarded()?;
    let mut record = Record::read(&firewall.state).map_err(|why| unknown(&why))?;
    if record.running.is_none() && is_guarded {
        record.running = Some(unnoted(firewall, edit, clocks)?);
    }
    let in_trial = record.trial.is_some();
    let mut was_there = false;
    // The policy that a trial goes back to must not bring the key back.
    let before = record
        .trial
        .as_mut()
        .and_then(|trial| trial.before.as_mut());
    if let Some(before) = before.filter(|before| before.is_at(edit.path))
        && has_key(&before.text, name)
    {
        let with = before.policy().ok();
        *before = before.without_key(name).map_err(Failure::unchanged)?;
        was_there = true;
        if let Ok(rest) = before.policy()
            && !may(&rest, with.as_ref())
        {
            return Err(NotRevoked::Refused);
        }
    }
    let running = match &record.running {
        Some(origin) if !origin.is_at(edit.path) => {
            let in_force = match is_guarded {
                true => InForce::OtherFile(origin.path.clone()),
                false => InForce::Nothing,
            };
            let revoked = Revoked::new(in_force, was_there, in_trial);
            return Ok(noted(firewall, record, edit, None, revoked));
        }
        running => running.clone(),
    };
    let Some(origin) = running.filter(|origin| has_key(&origin.text, name)) else {
        let in_force = match is_guarded {
            true => InForce::WithoutKey,
            false => InForce::Nothing,
        };
        let revoked = Revoked::new(in_force, was_there, in_trial);
        return Ok(noted(firewall, record, edit, None, revoked));
    };
    let rest = origin.without_key(name).map_err(Failure::unchanged)?;
    if !is_guarded {
        // Whoever brings back what was applied (a healing) does not bring this key back.
        let last = Sighting::last().filter(|last| last.is_of(&origin));
        if let Some(last) = last {
            last.note_rest(&rest);
        }
        let revoked = Revoked::new(InForce::Nothing, true, in_trial);
        return Ok(noted(firewall, record, edit, Some(rest), revoked));
    }
    let with = origin.policy().ok();
    let policy = rest.policy().map_err(|error| {
        Failure::unchanged(format!(
            "what was applied cannot be read any more, so the key cannot be taken out of it: {error}"
        ))
    })?;
    if !may(&policy, with.as_ref()) {
        return Err(NotRevoked::Refused);
    }
    let mut applied = match apply_locked(firewall, &policy, clocks, &[]) {
        Ok(applied) => applied,
        Err(failure) => {
            if failure.left == Left::Changed {
                Sighting::note(&rest, &policy, Verdict::Applied);
                let text = match edit.texts {
                    Some((before, _)) => before.to_string(),
                    None => origin.text.clone(),
                };
                record.note_edit(&text, &text, Some(rest));
                let _unnoted = record.write(&firewall.state);
            }
            return Err(failure.into());
        }
    };
    note_applied(&rest, &policy, &mut applied);
    let shut = with.map_or(Vec::new(), |with| shut_by(&with, &policy, clocks.now));
    let revoked = Revoked::new(InForce::Without(Box::new(applied), shut), true, in_trial);
    Ok(noted(firewall, record, edit, Some(rest), revoked))
}

/// The doors that a key opens under the one policy, and none under the other.
fn shut_by(with: &Policy, without: &Policy, now: i64) -> Vec<Name> {
    let opens = |policy: &Policy, name: &Name| {
        let live = policy.keys.iter().filter(|key| !key.expired(now));
        let mut doors = live.flat_map(|key| &key.opens).map(|opens| opens.door);
        doors.any(|door| policy.door(door).name == *name)
    };
    let doors = with.doors.iter().map(|door| &door.name);
    let shut = doors.filter(|name| opens(with, name) && !opens(without, name));
    shut.cloned().collect()
}

/// Notes that `toctoc key` has changed the text of a policy's file: what was on trial or refused is so still.
///
/// # Errors
/// When the record cannot be read or written.
pub fn note_edit(firewall: &Firewall, before: &str, after: &str) -> Result<(), Failure> {
    let _lock = Lock::take()?;
    let mut record = Record::read(&firewall.state).map_err(Failure::unchanged)?;
    let as_it_was = record.clone();
    record.note_edit(before, after, None);
    match record == as_it_was {
        true => Ok(()),
        false => record.write(&firewall.state).map_err(Failure::unchanged),
    }
}

/// Why it is not known what runs.
fn unknown(why: &str) -> Failure {
    Failure::unchanged(format!(
        "{why}: what runs is not known, so no key can be taken out of it alone; take the key out of the file, \
         and `toctoc apply`"
    ))
}

/// The policy that runs, where nobody has noted it: the one in the file, if the kernel holds that.
fn unnoted(firewall: &Firewall, edit: Edit<'_>, clocks: Clocks) -> Result<Origin, Failure> {
    let failed = |why: &str| {
        unknown(&format!(
            "what runs was applied where that was not noted, and {why}"
        ))
    };
    let (before, _) = edit
        .texts
        .ok_or_else(|| failed("its file is gone or cannot be read"))?;
    let (policy, files) = edit.policy.ok_or_else(|| failed("its file has mistakes"))?;
    let backend = firewall.running_backend()?;
    if backend.is_some_and(|backend| backend != policy.backend) {
        return Err(failed("the other backend guards"));
    }
    match observe(firewall, policy, clocks.now)?.drift.first() {
        None => Ok(Origin::new(
            edit.path,
            before.to_string(),
            files.clone(),
            policy.backend,
        )),
        Some(drift) => Err(failed(&format!("it is not what the file says ({drift})"))),
    }
}

impl Revoked {
    fn new(in_force: InForce, was_there: bool, in_trial: bool) -> Revoked {
        Revoked {
            in_force,
            was_there,
            in_trial,
            unnoted: None,
        }
    }
}

fn noted(
    firewall: &Firewall,
    mut record: Record,
    edit: Edit<'_>,
    running: Option<Origin>,
    revoked: Revoked,
) -> Revoked {
    match edit.texts {
        Some((before, after)) => record.note_edit(before, after, running),
        None => {
            // The file as it was applied, should it come back: no more confirmed than it was.
            let applied = record.running.as_ref().map(|origin| origin.text.clone());
            let applied = applied.unwrap_or_default();
            record.note_edit(&applied, &applied, running);
        }
    }
    // Where nothing was ever applied, there is nothing to note.
    let unnoted = match record.running.is_some() || record.refused.is_some() {
        true => record.write(&firewall.state).err(),
        false => None,
    };
    Revoked { unnoted, ..revoked }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::read;

    /// A door that never had a key, or has another, or whose key had expired, is none that was shut.
    #[test]
    fn only_doors_that_lose_their_last_key_are_shut_by_it() {
        let now = 1_795_392_000;
        let doors = "[door.ssh]\nports = [22]\n[door.web]\nports = [443]\n[door.db]\nports = [5432]\n\
                     [door.old]\nports = [23]\n";
        let yves = "[key.yves]\nopens = ['ssh', 'db']\nsequence = [4431, 2387, 920]\n";
        let anna = "[key.anna]\nopens = ['ssh']\nsequence = [5531, 2387, 920]\n";
        let over = "[key.eve]\nopens = ['old', 'ssh']\nexpires = 2020-01-01T00:00:00Z\n\
                    sequence = [6531, 2387, 920]\n";
        let policy = |keys: &[&str]| read("p", &format!("{doors}{}", keys.concat())).unwrap();
        let shut = |with: &[&str], without: &[&str]| -> Vec<String> {
            let shut = shut_by(&policy(with), &policy(without), now);
            shut.iter().map(Name::to_string).collect()
        };
        assert_eq!(shut(&[yves, anna, over], &[anna, over]), ["db"]);
        assert_eq!(shut(&[yves, over], &[over]), ["ssh", "db"]);
        assert_eq!(shut(&[yves, anna, over], &[yves, over]), [""; 0]);
        assert_eq!(shut(&[yves, over], &[yves]), [""; 0]);
    }
}
