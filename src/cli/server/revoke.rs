//! `toctoc key revoke`

use std::path::Path;

use clap::Args;
use clap_complete::ArgValueCandidates;

use super::apply::way_back;
use super::completions::keys as key_names;
use super::key::{failed, name};
use super::{Answer, PolicyAlone, PolicyPath, complain, count, host, say, trusted};
use crate::enrol::{Mistakes, PolicyFile, Removal};
use crate::firewall::Firewall;
use crate::firewall::by_hand::note_revoked;
use crate::firewall::revoke::{Edit, InForce, NotRevoked, Revoked, revoke};
use crate::firewall::tokens::clocks;
use crate::policy::edit::idle_token_port;
use crate::policy::{DoorIndex, Key, Name, Policy, nearest};

/// More keys than this are not listed.
const MANY: usize = 10;

#[derive(Args)]
pub(in crate::cli) struct Arguments {
    /// The key.
    #[arg(value_parser = name, add = ArgValueCandidates::new(key_names))]
    name: Name,
    #[command(flatten)]
    policy: PolicyAlone,
    /// Revoke it even if you would not get in again.
    #[arg(long)]
    anyway: bool,
}

pub(super) fn run(arguments: &Arguments) -> Answer {
    done(arguments).unwrap_or_else(|answer| answer)
}

fn done(arguments: &Arguments) -> Result<Answer, Answer> {
    let Arguments {
        name,
        policy,
        anyway,
    } = arguments;
    let path = &policy.as_written();
    let firewall = Firewall::default();
    let could_not = |why: &dyn std::fmt::Display| {
        complain(&why.to_string());
        Answer::CouldNot
    };
    trusted(&path.path).inspect_err(|_| complain("nothing was changed"))?;
    let backend = firewall
        .running_backend()
        .map_err(|failure| could_not(&failure))?;
    let removal = Removal::read(&path.path, &host(path, backend), name).map_err(failed)?;
    let edit = Edit {
        path: &path.path,
        texts: removal.file.texts(),
        policy: removal.policy.as_ref(),
    };
    let may = |without: &Policy, with: Option<&Policy>| {
        let shut = |policy: &Policy| way_back(&firewall, policy).err();
        let Some(why) = shut(without).filter(|_| !anyway) else {
            return true;
        };
        if with.is_some_and(|with| shut(with).is_some()) {
            // Whatever lets the caller in, it is not this key.
            return true;
        }
        complain(&format!(
            "{why}\nmake another key first (`toctoc key new`, `toctoc apply`), or insist (`toctoc key revoke \
             {name} --anyway`)"
        ));
        false
    };
    let revoked = revoke(&firewall, edit, name, may, clocks()).map_err(|why| match why {
        NotRevoked::Refused => {
            complain("nothing was changed");
            Answer::No
        }
        NotRevoked::Failed(failure) => {
            complain(&format!("the policy's file was not changed: {failure}"));
            Answer::CouldNot
        }
    })?;
    let is_out = matches!(revoked.in_force, InForce::Without(..));
    let is_in_file = matches!(removal.file, PolicyFile::With { .. });
    if !is_in_file && !revoked.was_there {
        if let InForce::OtherFile(running) = &revoked.in_force {
            let (shown, running) = (path.path.display(), running.display());
            complain(&format!(
                "no key `{name}` is in {shown}, and what runs is another file's: nothing was changed\n\
                 next: `toctoc key revoke {name} {running}`"
            ));
            return Err(Answer::CouldNot);
        }
        return Err(nowhere(path, name, &removal));
    }
    let mut answer = about_the_file(path, name, &removal);
    if is_in_file && answer == Answer::Yes {
        forget(removal.secret.as_deref());
    }
    about_what_runs(name, &revoked);
    if let Err(why) = tell_fleet(&firewall, name, is_out) {
        complain(&format!("the other hosts of the fleet are not told: {why}"));
    }
    if let Some(why) = &revoked.unnoted {
        complain(&format!(
            "that could not be noted, and a reload of the unit, a healing (toctoc-heal.timer){} may bring the key back: {why}",
            if revoked.in_trial {
                " or the end of the trial"
            } else {
                ""
            }
        ));
        answer = Answer::CouldNot;
    }
    for (what, ending) in [("profile", "profile.toml"), ("secret", "secret")] {
        let file = path.path.with_file_name(format!("{name}.{ending}"));
        let is_left = match ending {
            // Beside a file that can be read, it is another key's, or the administrator's.
            "secret" => removal.file.texts().is_none(),
            _ => true,
        };
        if is_left && file.symlink_metadata().is_ok() {
            let shown = file.display();
            say(&format!("its {what} is still there: rm {shown}\n"));
        }
    }
    Ok(answer)
}

/// Says that the key was not found.
fn nowhere(path: &PolicyPath, name: &Name, removal: &Removal) -> Answer {
    let policy = removal.policy.as_ref().map(|(policy, _)| policy);
    let file = &removal.file;
    let shown = path.path.display();
    let not_found = |why: &str| format!("no key `{name}` is in what runs, and {why}");
    let (message, answer) = match file {
        PolicyFile::Gone => (
            not_found(&format!("{shown} is not there")),
            Answer::CouldNot,
        ),
        PolicyFile::Unreadable(why) => (not_found(why), Answer::CouldNot),
        PolicyFile::Garbled { line, key, .. } => (
            not_found(&garbled(path, name, *line, *key)),
            Answer::CouldNot,
        ),
        PolicyFile::Without { .. } | PolicyFile::With { .. } => (
            format!(
                "there is no key `{name}`, neither in {shown} nor in what runs{}",
                meant(name, policy)
            ),
            Answer::No,
        ),
    };
    complain(&message);
    answer
}

/// ": `ssh` is a door, and anna opens it", "; did you mean `anna`?"
fn meant(name: &Name, policy: Option<&Policy>) -> String {
    let Some(policy) = policy else {
        return String::new();
    };
    let keys: Vec<&str> = policy.keys.iter().map(|key| key.name.as_str()).collect();
    let is_door = |index: &DoorIndex| policy.door(*index).name == *name;
    if let Some(door) = policy.door_indices().find(is_door) {
        let opens = |key: &&Key| key.opens.iter().any(|opening| opening.door == door);
        let openers: Vec<&str> = policy
            .keys
            .iter()
            .filter(opens)
            .map(|key| key.name.as_str())
            .collect();
        return match openers.as_slice() {
            [] => format!("; `{name}` is a door"),
            openers => format!("; `{name}` is a door, opened by {}", openers.join(", ")),
        };
    }
    match nearest(name.as_str(), &keys) {
        Some(near) => format!("; did you mean `{near}`?"),
        None if keys.is_empty() || keys.len() > MANY => {
            "; `toctoc key list` shows the keys".to_string()
        }
        None => format!("; the keys are: {}", keys.join(", ")),
    }
}

/// Advice on a file that nobody can take a key out of.
fn garbled(path: &PolicyPath, name: &Name, line: usize, key: Option<usize>) -> String {
    let shown = path.path.display();
    let holds = match key {
        Some(at) => format!("`[key.{name}]` seems to stand in line {at}"),
        None => format!("it may still hold `[key.{name}]`"),
    };
    format!(
        "{shown} cannot be read because of its mistakes (line {line}; `toctoc check`), and {holds}: delete it there \
         before you apply"
    )
}

/// Writes the file, and says what became of it.
fn about_the_file(path: &PolicyPath, name: &Name, removal: &Removal) -> Answer {
    let shown = path.path.display();
    let has_mistakes = |mistakes: Mistakes, which: &str| {
        if mistakes == Mistakes::Some {
            complain(&format!("{shown} has {which} (`toctoc check`)"));
        }
        Answer::Yes
    };
    match &removal.file {
        PolicyFile::Gone => {
            complain(&format!(
                "the policy file is gone: see that the key is not in it when you put it back ({shown})"
            ));
            Answer::Yes
        }
        PolicyFile::Unreadable(why) => {
            complain(&format!(
                "{why}\nsee that key {name} is not in it before you apply it"
            ));
            Answer::CouldNot
        }
        PolicyFile::Garbled { line, key, .. } => {
            complain(&garbled(path, name, *line, *key));
            Answer::CouldNot
        }
        PolicyFile::Without { mistakes, .. } => {
            complain(&format!("{shown} did not have key {name} any more"));
            has_mistakes(*mistakes, "mistakes")
        }
        PolicyFile::With {
            mistakes,
            before,
            after,
        } => {
            if let Err(why) = removal.write() {
                complain(&format!(
                    "{why}\nkey {name} is in {shown} still, and the next apply or start of the machine brings it \
                     back"
                ));
                return Answer::CouldNot;
            }
            say(&format!("took key {name} out of {shown}\n"));
            if let (None, Some(port)) = (idle_token_port(before), idle_token_port(after)) {
                say(&format!(
                    "`token_port = {port}` stays for the next token key: delete the line if there is to be none\n"
                ));
            }
            has_mistakes(*mistakes, "mistakes besides, which are as they were")
        }
    }
}

fn about_what_runs(name: &Name, revoked: &Revoked) {
    match &revoked.in_force {
        InForce::Nothing if revoked.was_there => {
            say("no rules of toctoc are loaded here; took it out of what is noted for them\n");
        }
        InForce::Nothing => {
            say("no rules of toctoc are loaded here, so nothing else had to be done\n");
        }
        InForce::OtherFile(other) => complain(&format!(
            "what runs was applied from {}, and was not touched",
            other.display()
        )),
        InForce::WithoutKey => say("what runs did not have it, and was not touched\n"),
        InForce::Without(applied, shut) => {
            let ended = count(applied.removed, "live grant");
            say(&format!(
                "took it out of what runs, and nothing else: {ended} ended, open sessions stay\n"
            ));
            for drift in &applied.drifts {
                complain(&format!("what runs differs from what was applied: {drift}"));
            }
            if revoked.in_trial {
                say(&format!(
                    "the trial goes on; what it goes back to has no key {name} either\n"
                ));
            }
            for door in shut {
                say(&format!(
                    "no key opens {door} any more: `toctoc open` does\n"
                ));
            }
        }
    }
}

fn tell_fleet(firewall: &Firewall, name: &Name, is_out: bool) -> Result<(), String> {
    if is_out && note_revoked(firewall, name).map_err(|failure| failure.message)? {
        say(
            "the other hosts of the fleet end its grants too; where one still has this key, it opens there, and by \
             that here: revoke it there too\n",
        );
    }
    Ok(())
}

fn forget(secret: Option<&Path>) {
    let Some(secret) = secret else {
        return;
    };
    match std::fs::remove_file(secret) {
        Ok(()) => say(&format!("removed {}\n", secret.display())),
        Err(error) => complain(&format!("{} cannot be removed: {error}", secret.display())),
    }
}
