//! `toctoc heal`

use std::io::IsTerminal;
use std::time::Duration;

use super::refill::OF_THE_PAST;
use super::{Answer, complain, own_namespace};
use crate::firewall::Firewall;
use crate::firewall::heal::{Healed, Outcome, heal};
use crate::firewall::tokens::clocks;
use crate::policy::show;

/// More differences than this are counted.
const SHOWN: usize = 3;

/// Says nothing when nothing is wrong: a timer runs it every half minute.
pub(super) fn run() -> Answer {
    if !own_namespace::is_root() {
        complain("heal needs root (try with sudo)");
        return Answer::CouldNot;
    }
    let healing = match heal(&Firewall::default(), clocks()) {
        Ok(healing) => healing,
        Err(failure) => {
            complain(&failure.to_string());
            return Answer::CouldNot;
        }
    };
    if healing.of_the_past {
        complain(OF_THE_PAST);
    }
    match healing.outcome {
        Outcome::Well => Answer::Yes,
        Outcome::NothingToKeep => {
            // A timer has nobody to tell.
            if std::io::stderr().is_terminal() {
                complain(
                    "nothing was applied since this machine was started, so nothing is restored: `toctoc apply`",
                );
            }
            Answer::Yes
        }
        Outcome::Unhealed => Answer::No,
        Outcome::Unknown(why) => {
            complain(&why);
            Answer::No
        }
        Outcome::Program => {
            complain(
                "the BPF program of signed keys was not at each interface, or was not ours: it was put there",
            );
            Answer::Yes
        }
        Outcome::Moved(names) => {
            complain(&format!(
                "{}: other addresses than before, which are trusted now",
                names.join(", ")
            ));
            Answer::Yes
        }
        Outcome::Healed(healed) => told(&healed),
    }
}

fn told(healed: &Healed) -> Answer {
    let path = healed.origin.path.display();
    let mut found = healed.found.iter().take(SHOWN).cloned().collect::<Vec<_>>();
    if healed.found.len() > SHOWN {
        found.push(format!("and {} more", healed.found.len() - SHOWN));
    }
    let how_long = match healed.unseen {
        Some(unseen) => format!("up to {}", show(Duration::from_secs(unseen.as_secs() + 1))),
        None => "some time: it is not known when they were looked at last".to_string(),
    };
    complain(&format!(
        "toctoc's rules were missing or changed: {}\n\
         restored {path} as it was applied last; a door may have been open to strangers for {how_long}",
        found.join("; "),
    ));
    for why in healed.origin.missing() {
        complain(&format!(
            "{why}: what was noted of it when it was applied is used"
        ));
    }
    if healed.applied.of_the_past > 0 {
        complain(OF_THE_PAST);
    }
    let warnings = healed
        .applied
        .refilled
        .iter()
        .flat_map(|done| &done.warnings);
    for warning in warnings {
        complain(warning);
    }
    if healed.applied.drifts.is_empty() {
        return Answer::Yes;
    }
    for drift in &healed.applied.drifts {
        complain(&format!("still differs from the policy: {drift}"));
    }
    Answer::No
}
