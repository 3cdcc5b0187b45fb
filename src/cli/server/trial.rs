//! `toctoc confirm` and `toctoc rollback`

use clap::Args;

use super::{Answer, complain, count, reported, say};
use crate::firewall::record::Record;
use crate::firewall::tokens::clocks;
use crate::firewall::trial::{Back, Confirmed, confirm, roll_back};
use crate::firewall::watchdog::{disarm, end_trial};
use crate::firewall::{Failure, Firewall};

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
    match confirm(&Firewall::default()) {
        Ok(Confirmed::Stays(origin, trial)) => {
            disarm(trial.id);
            let what = origin.map_or_else(
                || "the policy".to_string(),
                |origin| origin.path.display().to_string(),
            );
            reported(&format!("confirmed: {what} stays\n"))
        }
        Ok(Confirmed::Nothing(record)) => {
            complain(&nothing(&record));
            Answer::No
        }
        Err(failure) => failed(&failure),
    }
}

fn nothing(record: &Record) -> String {
    if record.trial.is_some() {
        return "the time is over: what was there before is there again, or will be in a moment (`toctoc \
                status`); `toctoc apply` puts the policy in for good"
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
            say("nothing is on trial\n");
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
