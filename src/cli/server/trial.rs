//! A policy on trial: `toctoc confirm`, `toctoc rollback`, and the beginning that `apply` and `init` share

use std::path::Path;
use std::time::Duration;

use clap::Args;

use super::apply::{Which, said};
use super::{Answer, POLICY, PolicyPath, complain, count, own_namespace, reported};
use crate::firewall::record::{Origin, Record};
use crate::firewall::tokens::clocks;
use crate::firewall::trial::{self, Back, Confirmed, confirm, roll_back};
use crate::firewall::watchdog::{arm, disarm, end_trial};
use crate::firewall::{Failure, Firewall, Left};
use crate::policy::Policy;
use crate::policy::load::{LoadError, read_text};

/// No trial has begun. What there is to say was said.
pub(super) struct NoTrial {
    pub answer: Answer,
    /// The state the firewall was left in.
    pub left: Left,
}

impl From<Failure> for NoTrial {
    fn from(failure: Failure) -> NoTrial {
        NoTrial {
            answer: failed(&failure),
            left: failure.left,
        }
    }
}

/// Puts a policy on trial, and says what was applied. Returns the answer, and in words what it goes back to.
pub(super) fn begin(
    firewall: &Firewall,
    path: &PolicyPath,
    policy: &Policy,
    origin: Origin,
    lasting: Duration,
) -> Result<(Answer, String), NoTrial> {
    let id = getrandom::u64()
        .map_err(|error| Failure::unchanged(format!("no random numbers: {error}")))?;
    let watchdog = arm(&firewall.state, id, lasting)?;
    let begun = trial::begin(firewall, policy, origin, id, lasting, clocks());
    let (applied, back) = begun.inspect_err(|failure| {
        let record = firewall.record().ok();
        let needed = record.and_then(|record| record.trial).is_some();
        if failure.left == Left::Unchanged && !needed {
            disarm(id);
        }
    })?;
    drop(watchdog);
    let answer = said(Which::of(path), policy, &applied);
    let to = match &back {
        Some(origin) if origin.is_at(&path.path) => "the policy as it was before".to_string(),
        Some(origin) => origin.path.display().to_string(),
        None => "a firewall without toctoc, with open doors".to_string(),
    };
    Ok((answer, to))
}

#[derive(Args)]
pub(in crate::cli) struct Rollback {
    /// Wait for the end of this trial: what `apply --confirm` starts.
    #[arg(long, hide = true)]
    trial: Option<u64>,
    /// Not as a part of any session.
    #[arg(long, hide = true, requires = "trial")]
    apart: bool,
}

pub(super) fn stay() -> Answer {
    if !own_namespace::is_root() {
        complain("confirm needs root (try with sudo)");
        return Answer::CouldNot;
    }
    match confirm(&Firewall::default()) {
        Ok(Confirmed::Stays(origin, trial)) => {
            disarm(trial.id);
            let stays = origin.map_or("the policy stays".to_string(), |origin| stays(&origin));
            reported(&format!("confirmed: {stays}\n"))
        }
        Ok(Confirmed::Nothing(record)) => {
            complain(&nothing(&record));
            Answer::No
        }
        Err(failure) => failed(&failure),
    }
}

/// The policy that was tried stays, whatever the file says by now.
fn stays(tried: &Origin) -> String {
    let shown = tried.path.display();
    match read_text(&tried.path) {
        Ok(text) if text == tried.text => format!("{shown} stays"),
        Err(LoadError::Missing(_)) => {
            format!("what was tried stays; the file is gone since ({shown})")
        }
        Err(LoadError::Unreadable(why)) => format!("what was tried stays; {why}"),
        Ok(_) | Err(LoadError::Wrong(_)) => {
            let named = match tried.path == Path::new(POLICY) {
                true => String::new(),
                false => format!(" {shown}"),
            };
            format!(
                "what was tried stays; the file was changed since (toctoc apply --dry-run{named} shows what differs)"
            )
        }
    }
}

fn nothing(record: &Record) -> String {
    if record.trial.is_some() {
        return "the time is over: what was there before is there again, or will be in a moment (`toctoc \
                status`); `toctoc apply --confirm 10m` tries the policy again"
            .to_string();
    }
    match &record.refused {
        Some(_) => {
            "nothing is on trial any more: the time was over, and what was there before is there \
                    again"
                .to_string()
        }
        None => "nothing is on trial".to_string(),
    }
}

pub(super) fn go_back(arguments: &Rollback) -> Answer {
    if !own_namespace::is_root() {
        complain("rollback needs root (try with sudo)");
        return Answer::CouldNot;
    }
    let firewall = Firewall::default();
    let back = match arguments.trial {
        Some(id) => end_trial(&firewall, id, arguments.apart),
        None => {
            let id = firewall.record().ok().and_then(|record| record.trial);
            let back = roll_back(&firewall, None, None, clocks());
            if let (Some(trial), Ok(Some(_))) = (id, &back) {
                disarm(trial.id);
            }
            back
        }
    };
    match back {
        Ok(Some(back)) => {
            if let Some((_, why)) = &back.unnoted {
                complain(&format!("it could not be noted: {why}"));
            }
            reported(&went(&back))
        }
        Ok(None) if arguments.trial.is_some() => Answer::Yes,
        Ok(None) => {
            complain("nothing is on trial");
            Answer::No
        }
        Err(failure) => failed(&failure),
    }
}

fn went(back: &Back) -> String {
    match &back.to {
        None => "went back: no door is guarded, as before\n".to_string(),
        Some(origin) => {
            let path = origin.path.display();
            let returned = match back.returned {
                0 => String::new(),
                returned => format!(
                    ", with {} that the trial had ended",
                    count(returned, "grant")
                ),
            };
            format!("went back to {path} as it was before{returned}\n")
        }
    }
}

fn failed(failure: &Failure) -> Answer {
    complain(&failure.to_string());
    Answer::CouldNot
}
