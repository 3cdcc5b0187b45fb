//! `toctoc refill`

use clap::Args;

use super::{Answer, PolicyPath, complain, count, policy, say};
use crate::firewall::Firewall;
use crate::firewall::tokens::{Refilled, clocks, halt, refill};
use crate::policy::Policy;

#[derive(Args)]
pub(super) struct Arguments {
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

/// "loaded 60 tokens; the first opens at 20:41 UTC"
pub(super) fn refilled(policy: &Policy, done: &Refilled) -> String {
    if !policy.has_tokens() {
        return "saved which scratch sequences are used up\n".to_string();
    }
    let mut text = match done.added {
        0 => "no token had to be loaded".to_string(),
        added => format!("loaded {}", count(added, "token")),
    };
    if done.removed > 0 {
        text.push_str(&format!(", took away {}", done.removed));
    }
    if let Some(at) = done.from {
        text.push_str(&format!("; tokens open from {} on", moment(at)));
    }
    if let Some(at) = done.waiting_for {
        let at = moment(at);
        text.push_str(&format!(
            "; this clock is behind what it was before, and no token opens until it is {at}"
        ));
    }
    text.push('\n');
    text
}

fn moment(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map_or_else(
        |_| seconds.to_string(),
        |time| time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
    )
}
