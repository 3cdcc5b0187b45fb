//! Rules that are handed to the kernel, and state that is read back from it. A backend is a renderer and a
//! reader, nothing else: all of it is pure text and values. Running programs is
//! [`firewall`](crate::firewall)'s part.

mod family;
pub mod iptables;
pub mod log_prefix;
mod meaning;
pub mod nftables;

pub use family::Family;

use crate::automaton::Automaton;
use crate::held::Drift;
use crate::policy::{Backend, Policy};

/// The rules of a policy as text, with iptables those of one family.
pub fn text(policy: &Policy, automaton: &Automaton, family: Family) -> String {
    match policy.backend {
        Backend::Nftables => nftables::render(policy, automaton).standalone(),
        Backend::Iptables => iptables::render(policy, automaton, family, &[]).to_string(),
    }
}

/// The differences in the words of the policy, each sentence once. What has no meaning there is told as it stands.
pub fn meanings(drifts: &[Drift], policy: &Policy, automaton: &Automaton) -> Vec<String> {
    match policy.backend {
        Backend::Nftables => nftables::meanings(drifts, policy, automaton),
        Backend::Iptables => iptables::meanings(drifts, policy),
    }
}
