//! The one seam between what toctoc decides and where rules of ours can be. Whatever nftables and iptables do each in
//! their own way is behind [`Side`], and which of them is meant is asked here alone.

mod iptables;
mod nftables;
mod tokens;

use super::look::Look;
use super::{Failure, Firewall};
use crate::automaton::Automaton;
use crate::held::{Glance, Grant, Held};
use crate::knock::PortRange;
use crate::policy::{Backend, Policy};
use crate::single_use::Journal;
use iptables::Chains;
use nftables::Table;

/// The doors of the policy of which all ports are guarded.
fn whole(policy: &Policy, guards: impl Fn(PortRange) -> bool) -> Vec<bool> {
    let doors = policy.doors.iter();
    doors
        .map(|door| door.ports.iter().all(|ports| guards(*ports)))
        .collect()
}

/// The place of one backend's rules in the kernel.
pub(super) trait Side {
    /// Returns whether rules of ours are there; only names are read.
    ///
    /// # Errors
    /// When the kernel does not say.
    fn is_there(&self) -> Result<bool, Failure>;

    /// The live grants. Those of a saved ruleset that was loaded again are none.
    ///
    /// # Errors
    /// When they cannot be read.
    fn grants(&self) -> Result<Vec<Grant>, Failure>;

    /// Reads what changes from one second to the next. That is quick also where the ruleset is large.
    ///
    /// # Errors
    /// As for [`grants`](Side::grants).
    fn glance(&self, policy: &Policy, automaton: &Automaton) -> Result<Glance, Failure>;

    /// Reads all that is there, and holds the rules against the policy. `now` is in seconds since 1970.
    ///
    /// # Errors
    /// As for [`grants`](Side::grants).
    fn read(
        &self,
        policy: &Policy,
        automaton: &Automaton,
        journal: Option<&Journal>,
        now: i64,
    ) -> Result<Held, Failure>;

    /// The doors of the policy of which all ports are guarded, in their order. `None` when no rules of ours are there.
    ///
    /// # Errors
    /// When what is there cannot be read.
    fn guarded(&self, policy: &Policy) -> Result<Option<Vec<bool>>, Failure>;

    /// Takes a quick look at what closes the doors.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    fn look(&self) -> Result<Look, Failure>;
}

impl Firewall {
    /// The rules of a backend.
    pub(super) fn side(&self, backend: Backend) -> Box<dyn Side + '_> {
        match backend {
            Backend::Nftables => Box::new(Table(self)),
            Backend::Iptables => Box::new(Chains(self)),
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
