//! `toctoc refill`

use super::{Answer, PolicyPath, complain, count, policy, say};
use crate::firewall::Firewall;
use crate::firewall::tokens::{Refilled, clocks, refill};

pub(super) fn run(path: &PolicyPath) -> Answer {
    let policy = match policy(path) {
        Ok(policy) => policy,
        Err(answer) => {
            complain("the running firewall was not changed");
            return answer;
        }
    };
    if policy.token_keys().next().is_none() {
        say("no key of this policy has a token: nothing to refill\n");
        return Answer::Yes;
    }
    match refill(&Firewall::default(), &policy, clocks()) {
        Ok(done) => {
            say(&refilled(&done));
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

/// "loaded 60 tokens; the first opens at 20:41 UTC"
pub(super) fn refilled(done: &Refilled) -> String {
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
