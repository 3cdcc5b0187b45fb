//! The chains and lists of iptables.

use std::collections::BTreeSet;

use super::super::look::Look;
use super::super::{Failure, Firewall, Iptables, apply_iptables, hidden};
use super::{Side, whole};
use crate::automaton::Automaton;
use crate::held::{Counts, Glance, Grant, Guests, Held, Rules};
use crate::policy::{Name, Policy};
use crate::ruleset::Family;
use crate::ruleset::iptables::{self, Saved};
use crate::single_use::Journal;

/// See the module.
pub(super) struct Chains<'f>(pub &'f Firewall);

impl Side for Chains<'_> {
    fn is_there(&self) -> Result<bool, Failure> {
        Iptables::has_rules()
    }

    fn grants(&self) -> Result<Vec<Grant>, Failure> {
        match Iptables::has_rules()? {
            true => Ok(Iptables::lists()?.grants()),
            false => Ok(Vec::new()),
        }
    }

    fn glance(&self, policy: &Policy, automaton: &Automaton) -> Result<Glance, Failure> {
        match Iptables::has_rules()? {
            true => seen(policy, automaton, &self.saved()?),
            false => Ok(Glance::default()),
        }
    }

    fn read(
        &self,
        policy: &Policy,
        automaton: &Automaton,
        _: Option<&Journal>,
        _: i64,
    ) -> Result<Held, Failure> {
        let saved = self.saved()?;
        let shown = saved.iter().filter(|(_, saved)| !saved.is_empty());
        let shown: Vec<Family> = shown.map(|(family, _)| *family).collect();
        hidden::none_is_missing(&shown)?;
        let mut drifts = Vec::new();
        let glance = seen(policy, automaton, &saved)?;
        for (family, saved) in &saved {
            let programs = self.0.iptables;
            let differences =
                apply_iptables::differences(programs, policy, automaton, *family, saved)?;
            drifts.extend(differences);
        }
        Ok(Held {
            rules_differ: !drifts.is_empty(),
            drifts,
            glance,
            ..Held::default()
        })
    }

    fn guarded(&self, policy: &Policy) -> Result<Option<Vec<bool>>, Failure> {
        if !Iptables::has_rules()? {
            return Ok(None);
        }
        // Rules that the host's other iptables has loaded guard as well.
        let mut variants: Vec<Vec<Saved>> = Vec::new();
        for variant in [&[self.0.iptables][..], &Iptables::BY_NAME].concat() {
            let families = Iptables::families().into_iter();
            let saved = families.map(|family| variant.save_if_there(family));
            variants.push(saved.collect::<Result<_, _>>()?);
        }
        Ok(Some(whole(policy, |ports| {
            let mut variants = variants.iter();
            variants.any(|families| families.iter().all(|saved| saved.guards(ports)))
        })))
    }

    fn look(&self) -> Result<Look, Failure> {
        Look::of_iptables(self.0.iptables)
    }
}

impl Chains<'_> {
    fn saved(&self) -> Result<Vec<(Family, Saved)>, Failure> {
        let families = Iptables::families().into_iter();
        families
            .map(|family| Ok((family, self.0.iptables.save(family)?)))
            .collect()
    }
}

/// The state in these rules and the kernel's lists.
fn seen(
    policy: &Policy,
    automaton: &Automaton,
    saved: &[(Family, Saved)],
) -> Result<Glance, Failure> {
    let saved = || saved.iter().map(|(_, saved)| saved);
    let guarded = whole(policy, |ports| saved().all(|saved| saved.guards(ports)));
    let has_rules = Iptables::has_rules()?;
    let (mut guests, mut progress) = (Guests::default(), Vec::new());
    if has_rules {
        let lists = Iptables::lists()?;
        guests = lists.guests();
        progress = lists.progress(policy, automaton);
    }
    let doors: BTreeSet<Name> = saved().flat_map(iptables::doors).collect();
    let opened = |key: &Name| {
        saved()
            .map(|saved| iptables::opened_count(saved, key))
            .sum()
    };
    let keys = policy.keys.iter().map(|key| key.name.clone());
    Ok(Glance {
        rules: match guarded.contains(&true) || policy.doors.is_empty() {
            true => Rules::Guard,
            false if has_rules => Rules::Idle,
            false => Rules::Absent,
        },
        guarded: Some(guarded),
        doors: doors.into_iter().collect(),
        guests,
        progress,
        counts: Counts {
            opened: keys.map(|name| (name.clone(), opened(&name))).collect(),
            wrong: saved().map(iptables::wrong_count).sum(),
            shut_out: saved().map(iptables::shut_out_count).sum(),
        },
    })
}
