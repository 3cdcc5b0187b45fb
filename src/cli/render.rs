//! `toctoc render`

use super::{Answer, PolicyPath, policy, say};
use crate::automaton::Automaton;
use crate::ruleset::nftables::render;

pub(super) fn run(path: &PolicyPath) -> Answer {
    let policy = match policy(path) {
        Ok(policy) => policy,
        Err(answer) => return answer,
    };
    say(&render(&policy, &Automaton::build(policy.sequences())).standalone());
    Answer::Yes
}
