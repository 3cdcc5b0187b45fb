//! `toctoc refill`

use clap::Args;

use super::{Answer, PolicyPath, complain, count, policy, say};
use crate::firewall::Firewall;
use crate::firewall::tokens::{Refilled, clocks, halt, refill};
use crate::policy::Policy;

#[derive(Args)]
pub(in crate::cli) struct Arguments {
    #[command(flatten)]
    policy: PolicyPath,
    /// Before a reboot: save what was used up, and load nothing. Nothing that opens once does until the
    /// next apply; doors stay shut and grants stay.
    #[arg(long)]
    stop: bool,
}

pub(super) fn run(arguments: &Arguments) -> Answer {
    if arguments.stop {
        return stop();
    }
    let firewall = Firewall::default();
    let (policy, answer) = match policy(&arguments.policy) {
        Ok(policy) => (policy, Answer::Yes),
        Err(answer) => match what_runs(&firewall) {
            Some(policy) => (policy, answer),
            None => {
                complain("the running firewall was not changed");
                return answer;
            }
        },
    };
    match refill(&firewall, &policy, clocks()) {
        Ok(done) => {
            if done.of_the_past {
                complain(OF_THE_PAST);
            }
            match policy.is_single_use() {
                true => say(&refilled(&policy, &done)),
                false => say("no key of this policy opens only once: nothing to refill\n"),
            }
            for warning in &done.warnings {
                complain(warning);
            }
            answer
        }
        Err(failure) => {
            complain(&failure.to_string());
            Answer::CouldNot
        }
    }
}

/// The policy that was applied last: tokens do not run out because its file has errors now.
fn what_runs(firewall: &Firewall) -> Option<Policy> {
    let origin = firewall.record().ok()?.running?;
    let policy = origin.policy().ok()?;
    complain(&format!(
        "so {} is taken as it was applied last",
        origin.path.display()
    ));
    Some(policy)
}

/// A copy of the table was found.
pub(super) const OF_THE_PAST: &str =
    "somebody had loaded a saved ruleset: what that granted was of the past, and has ended";

fn stop() -> Answer {
    match halt(&Firewall::default(), clocks()) {
        Ok(true) => {
            say("saved what was used up; nothing that opens once does until the next apply\n")
        }
        Ok(false) => say("nothing that opens once is in the running firewall\n"),
        Err(failure) => {
            complain(&failure.to_string());
            return Answer::CouldNot;
        }
    }
    Answer::Yes
}

/// "loaded all 1452 tokens; tokens open from 2026-07-06 14:02:00 UTC on"
pub(super) fn refilled(policy: &Policy, done: &Refilled) -> String {
    if !policy.has_tokens() {
        return "saved which scratch sequences are used up\n".to_string();
    }
    let mut text = match (done.added, done.all) {
        (0, true) => "no token is loaded".to_string(),
        (added, true) => format!("loaded all {}", count(added, "token")),
        (0, false) => "no token had to be loaded".to_string(),
        (added, false) => format!("loaded {} more", count(added, "token")),
    };
    if let Some(wait) = &done.wait {
        text.push_str(&format!("; {wait}"));
    }
    text.push('\n');
    text
}
