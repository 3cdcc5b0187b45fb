//! Why no rules of ours are in the kernel, as far as the record says.

use super::Firewall;
use super::heal::restores;
use super::record::Record;

/// Why no rules of ours are in the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absence {
    /// No policy was applied yet.
    Never,
    /// `toctoc remove` took them out.
    Removed,
    /// A policy was on trial, and nobody confirmed it.
    NotConfirmed,
    /// They were applied and are gone.
    Flushed,
    /// They were applied, but not since the machine was started, or otherwise than is noted.
    Earlier,
    /// The record cannot be read.
    Unknown,
}

impl Absence {
    /// Reads the record. It is for a kernel without rules of ours.
    pub fn read(firewall: &Firewall) -> Absence {
        match Record::found(&firewall.state) {
            Err(_) => Absence::Unknown,
            Ok(None) => Absence::Never,
            Ok(Some(record)) if restores(&record) => Absence::Flushed,
            Ok(Some(record)) if record.running.is_some() => Absence::Earlier,
            Ok(Some(record)) if record.refused.is_some() => Absence::NotConfirmed,
            Ok(Some(_)) => Absence::Removed,
        }
    }

    /// The reason, and the next step.
    pub fn words(self) -> &'static str {
        match self {
            Absence::Never | Absence::Unknown => {
                "nothing is applied: `toctoc apply` applies a policy"
            }
            Absence::Removed => {
                "`toctoc remove` took the rules out: `toctoc apply` closes the doors again"
            }
            Absence::NotConfirmed => {
                "the policy was on trial and not confirmed: `toctoc apply --confirm 10m` tries it again"
            }
            Absence::Earlier => {
                "the rules are gone, and were not applied since this machine was started as far as is noted: `toctoc \
                 apply` applies them"
            }
            Absence::Flushed => {
                "the rules were applied, and somebody has flushed them: `toctoc heal` restores them"
            }
        }
    }
}
