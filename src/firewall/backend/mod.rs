//! The one seam between what toctoc decides and where rules of ours can be. Whatever nftables and iptables do each in
//! their own way is behind [`Side`], and which of them is meant is asked here alone.

mod iptables;
mod nftables;
mod tokens;

use std::collections::BTreeSet;
use std::time::Instant;

use ipnet::IpNet;

use super::apply::Applied;
use super::by_hand::{Closing, GivenByHand, Request};
use super::look::Look;
use super::tokens::Refilled;
use super::{Failure, Firewall};
use crate::automaton::Automaton;
use crate::held::{Glance, Grant, Held};
use crate::knock::PortRange;
use crate::policy::{Backend, Door, Name, Policy};
use crate::single_use::Journal;
use crate::single_use::journal::Clocks;
use iptables::{IptablesSide, Variants};
use nftables::NftablesSide;

/// The doors of the policy of which all ports are guarded.
fn whole(policy: &Policy, guards: impl Fn(&Door, PortRange) -> bool) -> Vec<bool> {
    let doors = policy.doors.iter();
    doors
        .map(|door| door.ports.iter().all(|ports| guards(door, *ports)))
        .collect()
}

/// The place of one backend's rules in the kernel.
pub(super) trait Side<'f> {
    /// Returns whether rules of ours are there; only names are read.
    fn is_there(&self) -> Result<bool, Failure>;

    /// The live grants. Those of a saved ruleset that was loaded again are none.
    fn grants(&self) -> Result<Vec<Grant>, Failure>;

    /// Reads what changes from one second to the next. That is quick also where the ruleset is large.
    fn glance(&self, policy: &Policy, automaton: &Automaton) -> Result<Glance, Failure>;

    /// Reads all that is there, and holds the rules against the policy. `now` is in seconds since 1970.
    fn read(
        &self,
        policy: &Policy,
        automaton: &Automaton,
        journal: Option<&Journal>,
        now: i64,
    ) -> Result<Held, Failure>;

    /// The doors of the policy of which all ports are guarded, in their order. `None` when no rules of ours are there.
    fn guarded(&self, policy: &Policy) -> Result<Option<Vec<bool>>, Failure>;

    /// Takes a quick look at what closes the doors.
    fn look(&self) -> Result<Look, Failure>;

    /// Makes the policy the running one, with the live grants that come from elsewhere. Whoever calls holds the lock.
    fn apply(&self, policy: &Policy, moving: Moving<'_>) -> Result<Applied, Failure>;

    /// Loads the tokens of a policy that was just applied. `None` where it has none.
    fn load_tokens(&self, policy: &Policy, clocks: Clocks) -> Result<Option<Refilled>, Failure>;

    /// Reads what it takes to remove the rules. `None` when there are none.
    fn old(&self, reason: Reason) -> Result<Option<Old>, Failure>;

    /// Removes the rules. Returns why it could not be saved what was used up, if so: the way out stays open, whatever the
    /// disk says.
    fn remove(&self, old: &Old, clocks: Clocks) -> Result<Option<Failure>, Failure>;

    /// The sentence for rules that are there still after a removal.
    fn rest(&self) -> String;

    /// Reads the rules for a change by hand. `None` when there are none.
    fn by_hand(&self) -> Result<Option<Box<dyn ByHand + 'f>>, Failure>;
}

/// Live grants that are given again by other rules.
pub(super) struct Moving<'m> {
    pub grants: Vec<Grant>,
    /// The time at which they were read.
    pub began: Instant,
    /// Reads them again where they come from.
    pub again: &'m dyn Fn() -> Result<Vec<Grant>, Failure>,
}

/// The reason for which rules go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    /// Replaced by rules of the other backend.
    Replaced,
    Removed,
}

/// Rules that are going to be removed.
#[derive(Debug, Default)]
pub(super) struct Old {
    /// The grants that end with them anyway, since they came from a saved ruleset that was loaded again.
    pub of_the_past: usize,
    chains: Variants,
}

/// The rules of a backend as they were read, and what an administrator does with them.
pub(super) trait ByHand {
    fn doors(&self) -> BTreeSet<Name>;

    /// Grants a door.
    fn open(&mut self, request: &Request<'_>) -> Result<GivenByHand, Failure>;

    /// Ends grants, of one door or all, of one source or all.
    fn close(&mut self, door: Option<&Name>, source: Option<IpNet>) -> Result<Closing, Failure>;
}

impl Firewall {
    /// The rules of a backend.
    pub(super) fn side(&self, backend: Backend) -> Box<dyn Side<'_> + '_> {
        match backend {
            Backend::Nftables => Box::new(NftablesSide(self)),
            Backend::Iptables => Box::new(IptablesSide(self)),
        }
    }

    /// Returns whether rules of ours are there, of whatever backend.
    ///
    /// # Errors
    /// When the kernel could not be read.
    pub fn is_guarded(&self) -> Result<bool, Failure> {
        let sides = Backend::ALL.map(|backend| self.side(backend).is_there());
        match sides.iter().any(|there| matches!(there, Ok(true))) {
            true => Ok(true),
            false => sides
                .into_iter()
                .try_fold(false, |any, there| Ok(any | there?)),
        }
    }

    /// The backend whose rules are in the kernel, if it is one alone.
    ///
    /// # Errors
    /// As for [`is_guarded`](Firewall::is_guarded).
    pub fn running_backend(&self) -> Result<Option<Backend>, Failure> {
        let mut there = Vec::new();
        for backend in Backend::ALL {
            if self.side(backend).is_there()? {
                there.push(backend);
            }
        }
        Ok(match there[..] {
            [backend] => Some(backend),
            _ => None,
        })
    }

    /// All live grants, whichever backend holds them.
    ///
    /// # Errors
    /// When nft or the lists of iptables cannot be read.
    pub fn grants(&self) -> Result<Vec<Grant>, Failure> {
        let mut grants = Vec::new();
        for backend in Backend::ALL {
            grants.extend(self.side(backend).grants()?);
        }
        Ok(grants)
    }
}
