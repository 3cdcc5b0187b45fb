//! `toctoc refill`

use std::path::Path;

use clap::Args;

use super::{
    Answer, POLICY, PolicyAlone, PolicyPath, complain, could_not_read, count, policy, say,
};
use crate::firewall::Firewall;
use crate::firewall::absence::Absence;
use crate::firewall::tokens::{Refilled, clocks, halt, refill};
use crate::policy::Policy;

#[derive(Args)]
pub(in crate::cli) struct Arguments {
    #[command(flatten)]
    policy: PolicyAlone,
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
    let (policy, answer) = match running(&firewall, &arguments.policy.as_written()) {
        Ok(found) => found,
        Err(answer) => {
            complain("the running firewall was not changed");
            return answer;
        }
    };
    match refill(&firewall, &policy, clocks()) {
        Ok(done) => {
            if done.of_the_past {
                complain(OF_THE_PAST);
            }
            if policy.has_signed() {
                say("loaded the program of the signed keys, with the clock as it is now\n");
            }
            match policy.is_single_use() {
                true => say(&refilled(&policy, &done)),
                false if policy.has_signed() => {}
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

/// A copy of the table was found.
pub(super) const OF_THE_PAST: &str =
    "somebody had loaded a saved ruleset: what that granted was of the past, and has ended";

/// The policy that was applied, whatever its file says by now; what the file says where nothing is noted. The
/// answer is whether the file can be used.
fn running(firewall: &Firewall, path: &PolicyPath) -> Result<(Policy, Answer), Answer> {
    let record = firewall.record().map_err(|why| {
        complain(&format!("{why}: what was applied is not known"));
        Answer::CouldNot
    })?;
    let file = policy(path);
    let Some(origin) = record.running else {
        let policy = file?;
        // A timer runs it: that there is nothing to do is no failure.
        let absence = Absence::read(firewall);
        let is_told = matches!(absence, Absence::Removed | Absence::NotConfirmed);
        if is_told
            && firewall
                .running_backend()
                .is_ok_and(|backend| backend.is_none())
        {
            complain(absence.words());
            return Err(Answer::Yes);
        }
        return Ok((policy, Answer::Yes));
    };
    let shown = origin.path.display();
    // The timer names no file.
    if path.path != Path::new(POLICY) && !origin.is_at(&path.path) {
        complain(&format!(
            "what runs was applied from {shown}, not from {}",
            path.path.display()
        ));
        return Err(Answer::CouldNot);
    }
    let running = origin.policy().map_err(could_not_read)?;
    let answer = file.err().unwrap_or(Answer::Yes);
    if answer != Answer::Yes {
        complain(&format!("so {shown} is taken as it was applied last"));
    }
    Ok((running, answer))
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
