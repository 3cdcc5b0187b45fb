//! `toctoc completions`, and what a shell is told when it asks: the program itself is asked each time,
//! so that profiles, doors and keys are those that there are.

use clap::{Args, CommandFactory};
use clap_complete::env::Shells;
use clap_complete::{CompleteEnv, CompletionCandidate};

use super::{Answer, Cli, complain, say};
use crate::client::store;

#[derive(Args)]
pub(super) struct Arguments {
    /// The shell.
    #[arg(value_parser = clap::builder::PossibleValuesParser::new(["bash", "zsh", "fish"]))]
    shell: String,
}

/// Where a shell says that it asks.
const ASKED_BY: &str = "TOCTOC_COMPLETE";

/// Answers a shell and ends, if it was one that started this process.
pub(super) fn answer_shell() {
    CompleteEnv::with_factory(Cli::command)
        .var(ASKED_BY)
        .complete();
}

pub(super) fn run(arguments: &Arguments) -> Answer {
    let shells = Shells::builtins();
    let Some(shell) = shells.completer(&arguments.shell) else {
        return Answer::CouldNot;
    };
    let mut text = Vec::new();
    match shell.write_registration(ASKED_BY, "toctoc", "toctoc", "toctoc", &mut text) {
        Ok(()) => {
            say(&String::from_utf8_lossy(&text));
            Answer::Yes
        }
        Err(error) => {
            complain(&format!("no completions: {error}"));
            Answer::CouldNot
        }
    }
}

/// The names of profiles.
pub(super) fn profiles() -> Vec<CompletionCandidate> {
    store::names()
        .into_iter()
        .map(CompletionCandidate::new)
        .collect()
}

/// The tools that `profile show --as` knows.
pub(super) fn tools() -> Vec<CompletionCandidate> {
    let names = super::profile::forms().into_iter();
    names.map(CompletionCandidate::new).collect()
}

/// The doors of the policy, where it can be read.
#[cfg(feature = "server")]
pub(super) fn doors() -> Vec<CompletionCandidate> {
    let policy = in_place();
    let doors = policy.iter().flat_map(|policy| &policy.doors);
    doors
        .map(|door| CompletionCandidate::new(door.name.as_str()))
        .collect()
}

/// Its keys.
#[cfg(feature = "server")]
pub(super) fn keys() -> Vec<CompletionCandidate> {
    let policy = in_place();
    let keys = policy.iter().flat_map(|policy| &policy.keys);
    keys.map(|key| CompletionCandidate::new(key.name.as_str()))
        .collect()
}

#[cfg(feature = "server")]
fn in_place() -> Option<crate::policy::Policy> {
    let path = std::path::Path::new(super::server::POLICY);
    crate::policy::load::load(path, &crate::policy::Host::default()).ok()
}
