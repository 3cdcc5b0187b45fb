//! The command line of `toctoc-fleet`: the one process that may run, where it is asked for.

use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use clap::Parser;
use toctoc::cli::fleet::Arguments;
use toctoc::cli::{Answer, POLICY, complain, policy_at, say};
use toctoc::enrol::write_new_secret;
use toctoc::firewall::events::wait_for_apply;
use toctoc::policy::Fleet;
use toctoc::policy::load::{beside, handed_policy};

use crate::agent;
use crate::engine::Address;
use crate::member::End;
use crate::rules::Rules;

/// The pause after a policy was applied: an apply has its own looks at the end.
const SETTLING: Duration = Duration::from_millis(200);

/// The wait for a policy of use, before systemd starts us with what it is then.
const ANOTHER_LOOK: Duration = Duration::from_secs(60);

/// Share grants with other hosts. It runs until it is stopped.
#[derive(Parser)]
#[command(name = "toctoc-fleet", version)]
struct Program {
    #[command(flatten)]
    arguments: Arguments,
}

/// Runs what the process was started for.
pub fn main() -> ExitCode {
    run(&Program::parse().arguments).into()
}

fn run(arguments: &Arguments) -> Answer {
    if let Some(file) = &arguments.new_secret {
        return make(file);
    }
    let written = arguments.policy();
    let handed = handed_policy().filter(|_| written == Path::new(POLICY));
    let path = handed.as_deref().unwrap_or(written);
    loop {
        let policy = match policy_at(path) {
            Ok(policy) => policy,
            Err(answer) => return give_up(answer, handed.is_some()),
        };
        let (Some(fleet), Some(rules)) = (&policy.fleet, Rules::of(&policy)) else {
            complain(&format!(
                "{} has no [fleet]: this host has its doors for itself",
                path.display()
            ));
            return give_up(Answer::No, handed.is_some());
        };
        match serve(path, fleet, rules) {
            Ok(End::Applied) if handed.is_some() => {
                // systemd starts us anew, with copies of what the policy is now.
                complain("a policy was applied: starting anew");
                return Answer::Yes;
            }
            Ok(End::Applied) => thread::sleep(SETTLING),
            Ok(End::Failed(why)) | Err(why) => {
                complain(&why);
                return Answer::CouldNot;
            }
        }
    }
}

fn make(file: &Path) -> Answer {
    if let Err(why) = write_new_secret(file) {
        complain(&why);
        return Answer::CouldNot;
    }
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    say(&format!(
        "wrote {}: copy it to all hosts of the fleet, beside the policy, with `secret = {name:?}` in its [fleet]\n",
        file.display()
    ));
    Answer::Yes
}

/// Ends, since the policy is of no use. systemd would start us again at once and for ever, so we wait for an apply,
/// after which there may be another policy; somebody may mend it without one too.
fn give_up(answer: Answer, handed: bool) -> Answer {
    if handed {
        complain("waiting for `toctoc apply`, or a minute");
        wait_for_apply(ANOTHER_LOOK);
    }
    answer
}

fn serve(path: &Path, fleet: &Fleet, rules: Rules) -> Result<End, String> {
    let authority = match &fleet.authority {
        Some(name) => {
            let file = beside(path, name);
            let read = std::fs::read(&file);
            Some(read.map_err(|error| format!("{} cannot be read: {error}", file.display()))?)
        }
        None => None,
    };
    let address = Address {
        engine: fleet.engine.clone(),
        password: fleet.password.clone(),
        authority,
    };
    let number = getrandom::u64().map_err(|error| format!("no random numbers: {error}"))?;
    let mut say = |what: &str| complain(what);
    Ok(agent::run(rules, fleet.group, &address, number, &mut say))
}
