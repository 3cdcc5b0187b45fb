//! `File --check--> Policy`: what was written, judged as a whole.
//!
//! Everything that any later step could stumble over is refused here, with the place in the file.

mod every_port;
mod extend;
mod fleet;
mod keys;
mod meaning;
mod ports;

use std::collections::BTreeMap;
use std::ops::Range;

use super::backend;
use super::diagnostic::Diagnostic;
use super::file::File;
use super::sweep;
use super::{Host, KeyIndex, Policy};
use crate::automaton::Automaton;
use crate::knock::PortRange;

/// Judges a file. Adds to `diagnostics` what is wrong; returns the policy when nothing is.
pub fn check(file: &File, host: &Host, diagnostics: &mut Vec<Diagnostic>) -> Option<Policy> {
    if !file.whole {
        return None;
    }
    let mut checker = Checker { file, diagnostics };
    let guarded = checker.guarded_ports();
    let of_any_door = checker.ports_of_any_door(&guarded);
    let ignored = checker.ignored_ports(&of_any_door);
    checker.allowed_ports(&guarded);
    checker.interfaces();
    checker.ids();
    for key in &file.keys {
        checker.opens(key);
        checker.means(key, &of_any_door, &ignored);
    }
    for door in &file.doors {
        checker.extension(door);
    }
    checker.every_port();
    checker.trusted_names();
    checker.sequences_apart();
    checker.token_port(&of_any_door, &ignored);
    let secrets = checker.secrets(host);
    let private = checker.fleet(host, &secrets);
    if !checker.diagnostics.is_empty() {
        return None;
    }
    let policy = meaning::policy(file, host, secrets, private)?;
    steps(file, &policy, diagnostics);
    if !diagnostics.is_empty() {
        return None;
    }
    sweeps(file, &policy, diagnostics);
    backend::limits(file, host, &policy, diagnostics);
    diagnostics.is_empty().then_some(policy)
}

struct Checker<'f> {
    file: &'f File,
    diagnostics: &'f mut Vec<Diagnostic>,
}

/// Where ports were first claimed, and by what. No port is in two claims.
#[derive(Default, Clone)]
struct Claims(BTreeMap<PortRange, (Range<usize>, String)>);

impl Claims {
    /// The claim on one of these ports: the ports that it is for, where it stands, and by what.
    fn find(&self, ports: impl Into<PortRange>) -> Option<(PortRange, &Range<usize>, &str)> {
        let ports = ports.into();
        // Claims are in the order of their first ports: the last that begins before these end is the only one that can
        // reach into them.
        let last = ports.last();
        let until = PortRange::new(last.protocol, last.port.get(), u16::MAX)?;
        let mut before = self.0.range(..=until).rev();
        let claim = before.next().filter(|(claim, _)| claim.overlaps(ports));
        claim.map(|(claim, (at, by))| (*claim, at, by.as_str()))
    }

    /// Adds a claim on ports that nobody has claimed.
    fn add(&mut self, ports: impl Into<PortRange>, at: &Range<usize>, by: &str) {
        self.0.insert(ports.into(), (at.clone(), by.to_string()));
    }

    /// Adds a claim on those of the ports that nobody has claimed.
    fn add_rest(&mut self, ports: PortRange, at: &Range<usize>, by: &str) {
        match self.find(ports).map(|(claim, ..)| claim) {
            None => self.add(ports, at, by),
            Some(claim) => {
                for rest in ports.without(claim) {
                    self.add_rest(rest, at, by);
                }
            }
        }
    }
}

impl Checker<'_> {
    fn error(&mut self, diagnostic: Diagnostic) {
        self.diagnostics.push(diagnostic);
    }

    /// Returns whether an error was reported inside this range, so that a follow-up would only repeat it.
    fn already_wrong(&self, at: &Range<usize>) -> bool {
        self.diagnostics
            .iter()
            .any(|d| at.contains(&d.at.start) && d.at.end <= at.end)
    }
}

/// Far more than ten thousand ordinary keys need; nft takes some seconds for as many.
const MOST_STEPS: u64 = 1_000_000;

/// Refuses sequences whose machine is too large before anything builds it.
fn steps(file: &File, policy: &Policy, diagnostics: &mut Vec<Diagnostic>) {
    let (steps, most) = Automaton::size(policy.sequences());
    if steps <= MOST_STEPS {
        return;
    }
    let at = most.map_or(0..0, |KeyIndex(index)| file.keys[index].name.at.clone());
    diagnostics.push(
        Diagnostic::new(
            at,
            format!("the sequences of this policy make {steps} steps, at most {MOST_STEPS} are taken"),
        )
        .label("most of them at keys like this one")
        .help(
            "many sequences have in their middle what many others begin with, and each pair of them \
             makes a step; let sequences begin with knocks that are in no other",
        ),
    );
}

fn sweeps(file: &File, policy: &Policy, diagnostics: &mut Vec<Diagnostic>) {
    for (index, sweep) in sweep::opened_by_sweeps(policy) {
        let key = &file.keys[index.key.0];
        if let Some((sequence, _)) = key.sequences().nth(index.number) {
            diagnostics.push(
                Diagnostic::new(
                    sequence.at.clone(),
                    format!("{sweep} knocks the sequence of `{}`", key.name.value),
                )
                .label("found by any scanner")
                .help("take ports without order, three or more"),
            );
        }
    }
}
