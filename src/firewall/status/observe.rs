//! Reading what the status says.

use super::super::links::named;
use super::super::signed::{Seen, conflicts};
use super::super::state_file::Kept;
use super::super::trusted_names::TrustedNames;
use super::super::{Failure, Firewall};
use super::Status;
use super::assemble::{Findings, status};
use super::interfaces::Guard;
use crate::automaton::Automaton;
use crate::held::Presence;
use crate::policy::Policy;

/// Reads the kernel and holds it against the policy. `now` is in seconds since 1970.
///
/// # Errors
/// When the kernel could not be read.
pub fn observe(firewall: &Firewall, policy: &Policy, now: i64) -> Result<Status, Failure> {
    let guard = Guard::of(policy);
    let names = TrustedNames::read(&firewall.state);
    let failures = names.failures(policy);
    let written = policy;
    let policy = &*names.in_rules(named(policy));
    let automaton = Automaton::build(policy.sequences());
    let (journal, is_broken) = match firewall.state.read() {
        Kept::Journal(journal) if policy.is_single_use() => (Some(journal), false),
        Kept::Broken(_) => (None, true),
        Kept::Journal(_) | Kept::Nothing => (None, false),
    };
    let own = firewall.side(policy.backend);
    let held = own.read(policy, &automaton, journal.as_ref(), now)?;
    let other = firewall.side(policy.backend.other()).guarded(policy)?;
    let mut findings = Findings::of(policy, &held, journal, other, now);
    findings.used_up = findings.used_up.filter(|_| !is_broken);
    let mut status = status(policy, &automaton, &held.glance, findings, guard, now);
    for (shown, door) in status.doors.iter_mut().zip(&written.doors) {
        shown.trust = door.trusted();
        shown.addresses = names.addresses_in_rules(door);
    }
    status.warnings.extend(failures);
    if policy.has_signed() && status.applied {
        status.warnings.extend(about_signed_keys());
        status.warnings.extend(conflicts(policy));
    }
    Ok(status)
}

/// What an administrator should know of the program of signed keys.
fn about_signed_keys() -> Vec<String> {
    match Seen::read() {
        Ok(seen) => seen.words(),
        Err(error) => vec![format!(
            "whether signed keys open is not known: the kernel does not say ({error})"
        )],
    }
}

/// Reads what changes from one second to the next: grants, progress, and how often keys have opened. That
/// is quick also where the ruleset is large; whether it is the policy's is not asked, and tokens are left
/// out. `None` when nothing of ours is there. `now` is in seconds since 1970.
///
/// # Errors
/// When the kernel could not be read.
pub fn glance(
    firewall: &Firewall,
    policy: &Policy,
    automaton: &Automaton,
    now: i64,
) -> Result<Option<Status>, Failure> {
    let seen = firewall.side(policy.backend).glance(policy, automaton)?;
    if seen.rules == Presence::Absent {
        return Ok(None);
    }
    let (findings, guard) = (Findings::default(), Guard::of(policy));
    Ok(Some(status(policy, automaton, &seen, findings, guard, now)))
}
