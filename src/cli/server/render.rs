//! `toctoc render`

use clap::Args;

use super::{Answer, PolicyPath, policy, say};
use crate::automaton::Automaton;
use crate::policy::{Backend, Policy};
use crate::ruleset::{self, Family};
use crate::signed::Time;
use crate::signed::program::{Settings, program};

#[derive(Args)]
pub(in crate::cli) struct Arguments {
    /// The policy file.
    #[arg(value_name = "POLICY", default_value = super::POLICY)]
    path: std::path::PathBuf,
    /// `nftables`, `iptables` or `ip6tables`, instead of what the policy says.
    #[arg(long, value_name = "BACKEND", value_parser = target)]
    backend: Option<Target>,
}

/// The backend and family to print.
#[derive(Debug, Clone, Copy)]
struct Target {
    backend: Backend,
    family: Family,
}

fn target(text: &str) -> Result<Target, String> {
    let (backend, family) = match text {
        "ip6tables" => (Backend::Iptables, Family::V6),
        text => (super::backend(text)?, Family::V4),
    };
    Ok(Target { backend, family })
}

pub(super) fn run(arguments: &Arguments) -> Answer {
    let path = PolicyPath {
        path: arguments.path.clone(),
        backend: arguments.backend.map(|target| target.backend),
    };
    let policy = match policy(&path) {
        Ok(policy) => policy,
        Err(answer) => return answer,
    };
    let automaton = Automaton::build(policy.sequences());
    let family = arguments.backend.map_or(Family::V4, |target| target.family);
    say(&ruleset::text(&policy, &automaton, family));
    say(&listing(&policy));
    Answer::Yes
}

/// The program of signed keys, in comments. Times and keys are put in when it is loaded.
fn listing(policy: &Policy) -> String {
    let Some(port) = policy.token_port.filter(|_| policy.has_signed()) else {
        return String::new();
    };
    let program = program(&Settings {
        port,
        mark: policy.signed_mark,
        started: Time(0),
        not_before: Time(0),
    });
    let lines = program.to_string();
    let lines: String = lines.lines().map(|line| format!("#{line}\n")).collect();
    format!(
        "\n# The program of signed keys at the interfaces, of {} instructions. Here both times are 0.\n#\n{lines}",
        program.places()
    )
}
