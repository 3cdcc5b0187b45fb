//! `toctoc key revoke`

use std::path::Path;

use clap::Args;
use clap_complete::ArgValueCandidates;

use super::apply::way_back;
use super::completions::keys as key_names;
use super::key::{failed, name};
use super::{Answer, PolicyPath, complain, count, host, say, trusted};
use crate::enrol::Removal;
use crate::firewall::Firewall;
use crate::firewall::by_hand::note_revoked;
use crate::firewall::revoke::{Edit, InForce, NotRevoked, Revoked, revoke};
use crate::firewall::status::running_backend;
use crate::firewall::tokens::clocks;
use crate::policy::{Name, Policy};

#[derive(Args)]
pub(in crate::cli) struct Arguments {
    /// The key.
    #[arg(value_parser = name, add = ArgValueCandidates::new(key_names))]
    name: Name,
    #[command(flatten)]
    policy: PolicyPath,
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
        policy: path,
        anyway,
    } = arguments;
    let firewall = Firewall::default();
    let could_not = |why: &dyn std::fmt::Display| {
        complain(&why.to_string());
        Answer::CouldNot
    };
    trusted(&path.path).inspect_err(|_| complain("nothing was changed"))?;
    let backend = running_backend(&firewall).map_err(|failure| could_not(&failure))?;
    let removal = Removal::read(&path.path, &host(path, backend), name).map_err(failed)?;
    let edit = Edit {
        path: &path.path,
        before: &removal.before,
        after: removal.after.as_ref().unwrap_or(&removal.before),
        policy: removal.policy.as_ref().ok(),
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
    if removal.after.is_none() && !is_out {
        complain(&nowhere(path, name, &removal));
        return Err(Answer::No);
    }
    let mut answer = about_the_file(path, name, &removal);
    if answer == Answer::Yes {
        forget(removal.secret.as_deref());
    }
    about_what_runs(name, &revoked);
    if let Err(why) = tell_fleet(&firewall, name, is_out) {
        complain(&format!("the other hosts of the fleet are not told: {why}"));
    }
    if let Some(why) = &revoked.unnoted {
        complain(&format!(
            "that could not be noted, and a reload of the unit{} would bring the key back: {why}",
            if revoked.in_trial {
                " or the end of the trial"
            } else {
                ""
            }
        ));
        answer = Answer::CouldNot;
    }
    let profile = path.path.with_file_name(format!("{name}.profile.toml"));
    if profile.symlink_metadata().is_ok() {
        say(&format!(
            "its profile is still there: rm {}\n",
            profile.display()
        ));
    }
    Ok(answer)
}

fn nowhere(path: &PolicyPath, name: &Name, removal: &Removal) -> String {
    match &removal.policy {
        Ok(_) => format!(
            "there is no key `{name}`, neither in {} nor in what runs",
            path.path.display()
        ),
        Err(error) => format!(
            "no key `{name}` is in what runs, and in {} it was not found: {error}",
            path.path.display()
        ),
    }
}

/// Writes the file, and says what became of it.
fn about_the_file(path: &PolicyPath, name: &Name, removal: &Removal) -> Answer {
    let shown = path.path.display();
    if removal.after.is_none() {
        complain(&match &removal.policy {
            Ok(_) => format!("{shown} did not have key {name} any more"),
            Err(_) => format!(
                "key {name} was not found in {shown}, which has mistakes (`toctoc check`): see that it is not \
                 there before you apply it"
            ),
        });
        return match removal.policy {
            Ok(_) => Answer::Yes,
            Err(_) => Answer::CouldNot,
        };
    }
    if let Err(why) = removal.write() {
        complain(&format!(
            "{why}\nkey {name} is in {shown} still, and the next apply or start of the machine brings it back"
        ));
        return Answer::CouldNot;
    }
    say(&format!("took key {name} out of {shown}\n"));
    if removal.policy.is_err() {
        complain(&format!(
            "{shown} has mistakes besides, which are as they were (`toctoc check`)"
        ));
    }
    Answer::Yes
}

fn about_what_runs(name: &Name, revoked: &Revoked) {
    match &revoked.in_force {
        InForce::Nothing => {
            say("no rules of toctoc are loaded here, so nothing else had to be done\n")
        }
        InForce::OtherFile(other) => complain(&format!(
            "what runs was applied from {}, and was not touched",
            other.display()
        )),
        InForce::WithoutKey => say("what runs did not have it, and was not touched\n"),
        InForce::Without(policy, applied) => {
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
            for door in policy.door_indices() {
                let mut opens = policy.keys.iter().flat_map(|key| &key.opens);
                if !opens.any(|opening| opening.door == door) {
                    say(&format!(
                        "no key opens {} any more: `toctoc open` does\n",
                        policy.door(door).name
                    ));
                }
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
