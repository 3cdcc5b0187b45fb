//! The table of nftables.

use std::thread;

use super::super::apply::Applied;
use super::super::by_hand_nftables::ListedTable;
use super::super::look::Look;
use super::super::seal::Sealed;
use super::super::status::table_missing;
use super::super::tokens::{Load, Refilled, stop, top_up};
use super::super::verified::{Judged, Verified, digest};
use super::super::{Failure, Firewall, Iptables, apply_nftables, nf_tables};
use super::{ByHand, Moving, Old, Reason, Side, tokens, whole};
use crate::automaton::Automaton;
use crate::held::{Drift, Glance, Grant, Held};
use crate::policy::Policy;
use crate::ruleset::nftables::{
    Command, Listing, Marks, Script, SetId, TABLE, burnt, compare, render, strange, strange_tokens,
};
use crate::single_use::Journal;
use crate::single_use::journal::Clocks;

/// See the module.
pub(super) struct NftablesSide<'f>(pub &'f Firewall);

impl<'f> Side<'f> for NftablesSide<'f> {
    fn is_there(&self) -> Result<bool, Failure> {
        self.0.nft.is_there()
    }

    fn grants(&self) -> Result<Vec<Grant>, Failure> {
        let nft = &self.0.nft;
        // Grants of a copy end with the next change.
        if !nft.is_there()? || nft.sealed() == Sealed::Copy {
            return Ok(Vec::new());
        }
        let listing = nft.list_grants()?;
        Ok(listing.map_or(Vec::new(), |listing| listing.grants()))
    }

    fn glance(&self, _: &Policy, _: &Automaton) -> Result<Glance, Failure> {
        let listing = self.0.nft.glance()?;
        Ok(listing.map_or_else(Glance::default, |listing| listing.glance()))
    }

    fn read(
        &self,
        policy: &Policy,
        automaton: &Automaton,
        journal: Option<&Journal>,
        now: i64,
    ) -> Result<Held, Failure> {
        let Firewall { nft, state, .. } = self.0;
        let script = render(policy, automaton);
        let quickly = match Verified::judge(nft, state, &script) {
            Judged::Unchanged => self.unchanged(policy, journal, now),
            Judged::Changed { noted, now: marks } => {
                self.changed(policy, &script, (&noted, &marks), journal, now)
            }
            Judged::Unknown => None,
        };
        if let Some(held) = quickly {
            return Ok(held);
        }
        let before = nf_tables::generation();
        let (listing, expected) = thread::scope(|scope| {
            let expected = scope.spawn(|| nft.list_fresh(&script));
            (nft.list(), expected.join())
        });
        let Some(listing) = listing? else {
            return Ok(Held {
                drifts: vec![table_missing()],
                tokens: Some(Default::default()),
                ..Held::default()
            });
        };
        let mut held = Held {
            tokens: Some(tokens::listed(&listing)),
            burnt: burnt(&listing),
            glance: listing.glance(),
            ..Held::default()
        };
        if listing.dormant {
            let what = "is dormant and guards no door";
            held.drifts = vec![Drift::new("table inet toctoc", what)];
            return Ok(held);
        }
        let expected = expected.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        held.drifts = compare(&expected, &listing);
        if held.drifts.is_empty() {
            self.note(&script, before);
        } else if !is_stopped(journal) {
            held.rules_differ = true;
            held.glance.guarded = Some(whole(policy, |door, ports| {
                listing.guards_door(door, ports)
            }));
        }
        held.rules_differ |= lets_all_in(&listing);
        held.drifts.extend(strange(policy, &listing));
        held.drifts.extend(strange_tokens(policy, &listing, now));
        self.tell_a_copy(&mut held);
        Ok(held)
    }

    fn guarded(&self, policy: &Policy) -> Result<Option<Vec<bool>>, Failure> {
        let listing = match self.0.nft.is_there()? {
            true => self.0.nft.list()?,
            false => None,
        };
        Ok(listing.map(|listing| whole(policy, |door, ports| listing.guards_door(door, ports))))
    }

    fn look(&self) -> Result<Look, Failure> {
        Look::of_nftables()
    }

    fn apply(&self, policy: &Policy, moving: Moving<'_>) -> Result<Applied, Failure> {
        apply_nftables::apply(self.0, policy, moving)
    }

    fn load_tokens(&self, policy: &Policy, clocks: Clocks) -> Result<Option<Refilled>, Failure> {
        let Firewall { nft, state, .. } = self.0;
        match policy.is_single_use() {
            true => top_up(nft, state, policy, clocks, Load::All).map(Some),
            false => Ok(None),
        }
    }

    fn old(&self, reason: Reason) -> Result<Option<Old>, Failure> {
        let nft = &self.0.nft;
        if !nft.is_there()? {
            return Ok(None);
        }
        let mut old = Old::default();
        if reason == Reason::Replaced && nft.sealed() == Sealed::Copy {
            let listing = nft.list_grants()?;
            old.of_the_past = listing.map_or(0, |listing| listing.grants().len());
        }
        Ok(Some(old))
    }

    fn remove(&self, _: &Old, clocks: Clocks) -> Result<Option<Failure>, Failure> {
        let unsaved = stop(&self.0.nft, &self.0.state, clocks).err();
        self.0.nft.load(&Command::DeleteTable.into())?;
        Ok(unsaved)
    }

    fn rest(&self) -> String {
        format!("table {TABLE} is there still, or again")
    }

    fn by_hand(&self) -> Result<Option<Box<dyn ByHand + 'f>>, Failure> {
        let nft = &self.0.nft;
        // Where iptables guards, there may be no nft at all.
        if Iptables::has_rules()? && !nft.is_there()? {
            return Ok(None);
        }
        Ok(match nft.list_grants()? {
            Some(listing) => Some(Box::new(ListedTable {
                firewall: self.0,
                listing,
            })),
            None => None,
        })
    }
}

/// Returns whether a list has an element for everybody. The doors may then be open, whatever the rules say.
fn lets_all_in(listing: &Listing) -> bool {
    listing.open_to_all().next().is_some()
}

/// Returns whether single-use keys were stopped: chains were emptied for that, and are no drift of the doors.
fn is_stopped(journal: Option<&Journal>) -> bool {
    journal.is_some_and(|journal| journal.clean)
}

impl NftablesSide<'_> {
    /// The table where its rules were already seen to be the policy's: only the sets that change by themselves are read.
    /// `None` when the kernel does not say.
    fn unchanged(&self, policy: &Policy, journal: Option<&Journal>, now: i64) -> Option<Held> {
        let (_, mut held) = self.filled(policy, journal, now)?;
        self.tell_a_copy(&mut held);
        Some(held)
    }

    /// The table where its rules were the policy's and are not any more: the sets that change by themselves are read, and
    /// the marks show what differs. `None` when the kernel does not say, or there is nothing that can be named.
    fn changed(
        &self,
        policy: &Policy,
        script: &Script,
        (noted, marks): (&Marks, &Marks),
        journal: Option<&Journal>,
        now: i64,
    ) -> Option<Held> {
        let (mut listing, mut held) = self.filled(policy, journal, now)?;
        if listing.dormant {
            return None;
        }
        let (mut expected, mut actual) = (noted.listing(), marks.listing());
        for set in noted.other_elements(marks) {
            expected.add_elements(set, script.elements_of(set));
            actual.move_elements(nf_tables::set(set).ok()??);
        }
        let drifts = compare(&expected, &actual);
        if drifts.is_empty() {
            return None;
        }
        held.drifts.splice(..0, drifts);
        if !is_stopped(journal) {
            for set in [SetId::Ports, SetId::Heard] {
                if let Some(set) = nf_tables::set(set.name()).ok()? {
                    listing.merge(set);
                }
            }
            let known = self.0.nft.list_fresh(&script.asking()).ok()?;
            listing.add_rules(marks, noted, &known);
            held.rules_differ = true;
            held.glance.guarded = Some(whole(policy, |door, ports| {
                listing.guards_door(door, ports)
            }));
        }
        self.tell_a_copy(&mut held);
        Some(held)
    }

    /// The sets that the kernel and a refill fill.
    fn filled(
        &self,
        policy: &Policy,
        journal: Option<&Journal>,
        now: i64,
    ) -> Option<(Listing, Held)> {
        let mut listing = nf_tables::read(nf_tables::Portion::Glance).ok()??;
        if policy.has_scratch() {
            listing.merge(nf_tables::set(SetId::Burnt.name()).ok()??);
        }
        let seen = tokens::seen(policy, journal, now)?;
        let mut held = Held {
            drifts: strange(policy, &listing),
            tokens: Some(seen.tokens),
            burnt: burnt(&listing),
            glance: listing.glance(),
            rules_differ: lets_all_in(&listing) || seen.let_all_in,
        };
        held.drifts.extend(seen.drifts);
        Some((listing, held))
    }

    /// Adds a line if the table was loaded from a saved ruleset, whose grants count again.
    fn tell_a_copy(&self, held: &mut Held) {
        if self.0.nft.sealed() == Sealed::Copy {
            let what = "was loaded from a saved ruleset: what that granted is of the past";
            held.drifts.insert(0, Drift::new("table inet toctoc", what));
        }
    }

    /// Notes that the rules were seen to be the policy's, if nothing has changed since the transaction of this number.
    fn note(&self, script: &Script, before: Option<u64>) {
        if let Ok(Some((parts, generation))) = nf_tables::parts()
            && before == Some(generation)
            && let Some(seen) = Verified::now(&self.0.nft, digest(script), &parts)
        {
            seen.note(&self.0.state);
        }
    }
}
