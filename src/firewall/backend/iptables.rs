//! The chains and lists of iptables.

use std::collections::BTreeSet;

use super::super::apply::Applied;
use super::super::by_hand_iptables::SavedChains;
use super::super::look::Look;
use super::super::tokens::Refilled;
use super::super::{Failure, Firewall, Iptables, Left, apply_iptables, hidden};
use super::{ByHand, Moving, Old, Reason, Side, whole};
use crate::automaton::Automaton;
use crate::held::{Glance, Grant, Guests, Held, Presence, Tally};
use crate::policy::{Name, Policy};
use crate::ruleset::Family;
use crate::ruleset::iptables::{self, Saved};
use crate::single_use::Journal;
use crate::single_use::journal::Clocks;

/// See the module.
pub(super) struct IptablesSide<'f>(pub &'f Firewall);

impl<'f> Side<'f> for IptablesSide<'f> {
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
        // Presence that the host's other iptables has loaded guard as well.
        let mut variants: Vec<Vec<Saved>> = Vec::new();
        for variant in [&[self.0.iptables][..], &Iptables::BY_NAME].concat() {
            let families = Iptables::families().into_iter();
            let saved = families.map(|family| variant.save_if_there(family));
            variants.push(saved.collect::<Result<_, _>>()?);
        }
        Ok(Some(whole(policy, |door, ports| {
            let mut variants = variants.iter();
            let guards = |families: &Vec<Saved>| families.iter().all(|saved| saved.guards(ports));
            door.is_here() && variants.any(guards)
        })))
    }

    fn look(&self) -> Result<Look, Failure> {
        Look::of_iptables(self.0.iptables)
    }

    fn apply(&self, policy: &Policy, moving: Moving<'_>) -> Result<Applied, Failure> {
        // Presence of the host's other iptables are not seen by this one.
        let others = Variants::read(self.0, Scope::Others)?;
        let mut applied = apply_iptables::apply(self.0.iptables, policy, moving)?;
        applied.readable_lists = Iptables::readable_lists();
        let removed = others.remove();
        removed.map_err(|failure| failure.leaving(Left::Changed))?;
        Ok(applied)
    }

    fn load_tokens(&self, _: &Policy, _: Clocks) -> Result<Option<Refilled>, Failure> {
        Ok(None)
    }

    fn old(&self, reason: Reason) -> Result<Option<Old>, Failure> {
        let has_rules = Iptables::has_rules()?;
        if reason == Reason::Replaced && !has_rules {
            return Ok(None);
        }
        let chains = Variants::read(self.0, Scope::All)?;
        if reason == Reason::Removed {
            if chains.is_empty() && has_rules {
                // That there is no such program is the better word.
                self.0.iptables.save(Family::V4)?;
            }
            // IptablesSide that somebody has emptied mention no list any more: that they are not asked for is right.
            hidden::none_is_missing(&chains.families())?;
            if chains.is_empty() {
                return Ok(None);
            }
        }
        Ok(Some(Old {
            of_the_past: 0,
            chains,
        }))
    }

    fn remove(&self, old: &Old, _: Clocks) -> Result<Option<Failure>, Failure> {
        old.chains.remove().map(|()| None)
    }

    fn rest(&self) -> String {
        "the kernel keeps lists of toctoc's rules still".to_string()
    }

    fn by_hand(&self) -> Result<Option<Box<dyn ByHand + 'f>>, Failure> {
        if !Iptables::has_rules()? {
            return Ok(None);
        }
        let mut families = self.saved()?;
        families.retain(|(_, saved)| !saved.is_empty());
        let shown: Vec<Family> = families.iter().map(|(family, _)| *family).collect();
        hidden::none_is_missing(&shown)?;
        let iptables = self.0.iptables;
        Ok(match families.is_empty() {
            true => None,
            false => Some(Box::new(SavedChains { iptables, families })),
        })
    }
}

impl IptablesSide<'_> {
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
    let guarded = whole(policy, |door, ports| {
        door.is_here() && saved().all(|saved| saved.guards(ports))
    });
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
            true => Presence::Guard,
            false if has_rules => Presence::Idle,
            false => Presence::Absent,
        },
        guarded: Some(guarded),
        doors: doors.into_iter().collect(),
        guests,
        progress,
        counts: Tally {
            opened: keys.map(|name| (name.clone(), opened(&name))).collect(),
            wrong: saved().map(iptables::wrong_count).sum(),
            shut_out: saved().map(iptables::shut_out_count).sum(),
        },
    })
}

/// Our chains in the variants of iptables, as they were read.
#[derive(Debug, Default)]
pub(super) struct Variants(Vec<(Iptables, Vec<(Family, Saved)>)>);

/// Scope variants are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    All,
    /// Those that are not the host's own choice.
    Others,
}

impl Variants {
    /// Reads them. Nothing is changed before all could be read.
    fn read(firewall: &Firewall, which: Scope) -> Result<Variants, Failure> {
        let own = firewall.iptables;
        let mut chains = Variants::default();
        if which == Scope::All {
            chains.0.push((own, apply_iptables::chains(own)?));
        }
        for variant in Iptables::BY_NAME {
            let same = match which {
                Scope::Others => match own.is(variant) {
                    Ok(same) => same,
                    Err(failure) => {
                        // That there is no such program at all is the better word.
                        own.save(Family::V4)?;
                        return Err(failure);
                    }
                },
                // Where the host's own is missing, nothing was read of it.
                Scope::All => own.is(variant).unwrap_or(false),
            };
            if !same {
                chains.0.push((variant, apply_iptables::chains(variant)?));
            }
        }
        Ok(chains)
    }

    fn is_empty(&self) -> bool {
        self.0.iter().all(|(_, found)| found.is_empty())
    }

    /// The families in which there are any.
    fn families(&self) -> Vec<Family> {
        let found = self.0.iter().flat_map(|(_, found)| found);
        found.map(|(family, _)| *family).collect()
    }

    fn remove(&self) -> Result<(), Failure> {
        let mut variants = self.0.iter();
        variants.try_for_each(|(variant, found)| apply_iptables::remove(*variant, found))
    }
}
