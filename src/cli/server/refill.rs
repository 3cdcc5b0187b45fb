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
    let path = &arguments.policy;
    let policy = match policy(path) {
        Ok(policy) => policy,
        Err(answer) => {
            complain("the running firewall was not changed");
            return answer;
        }
    };
    if !policy.is_single_use() {
        say("no key of this policy opens only once: nothing to refill\n");
        return Answer::Yes;
    }
    match refill(&Firewall::default(), &policy, clocks()) {
        Ok(done) => {
            say(&refilled(&policy, &done));
            for warning in &done.warnings {
                complain(warning);
            }
            Answer::Yes
        }
        Err(failure) => {
            complain(&failure.to_string());
            Answer::CouldNot
        }
    }
}

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
