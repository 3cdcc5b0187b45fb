//! Which backend guards, and what the other one does.

use super::super::{Failure, Firewall, Iptables};
use crate::held::Drift;
use crate::knock::PortRange;
use crate::policy::{Backend, Policy};
use crate::ruleset::iptables::Saved;

/// The backend whose rules are in the kernel, if it is one alone.
///
/// # Errors
/// When the kernel could not be read.
pub fn running_backend(firewall: &Firewall) -> Result<Option<Backend>, Failure> {
    let nftables = firewall.nft.is_there()?;
    Ok(match (nftables, Iptables::has_rules()?) {
        (true, false) => Some(Backend::Nftables),
        (false, true) => Some(Backend::Iptables),
        _ => None,
    })
}

/// The doors of the policy of which all ports are guarded.
pub(super) fn whole(policy: &Policy, guards: impl Fn(PortRange) -> bool) -> Vec<bool> {
    let doors = policy.doors.iter();
    doors
        .map(|door| door.ports.iter().all(|ports| guards(*ports)))
        .collect()
}

/// Which doors of the policy are guarded by the backend that it does not use; `None` when that has no
/// rules.
pub(super) fn guarded_by_the_other(
    firewall: &Firewall,
    policy: &Policy,
) -> Result<Option<Vec<bool>>, Failure> {
    match policy.backend {
        Backend::Nftables if Iptables::has_rules()? => {
            // Rules that the host's other iptables has loaded guard as well.
            let mut variants: Vec<Vec<Saved>> = Vec::new();
            for variant in [&[firewall.iptables][..], &Iptables::BY_NAME].concat() {
                let families = Iptables::families().into_iter();
                let saved = families.map(|family| variant.save_if_there(family));
                variants.push(saved.collect::<Result<_, _>>()?);
            }
            Ok(Some(whole(policy, |ports| {
                let mut variants = variants.iter();
                variants.any(|families| families.iter().all(|saved| saved.guards(ports)))
            })))
        }
        Backend::Nftables => Ok(None),
        Backend::Iptables => {
            let listing = firewall.nft.list_if_there()?;
            Ok(listing.map(|listing| whole(policy, |ports| listing.guards(ports))))
        }
    }
}

/// The difference that rules of the other backend make.
pub(super) fn of_the_other(backend: Backend, applied: bool) -> Drift {
    match (backend, applied) {
        (Backend::Nftables, true) => Drift::new(
            "iptables: our chains",
            "guard too, besides nftables (`toctoc apply` removes them)",
        ),
        (Backend::Nftables, false) => Drift::new(
            "iptables: our chains",
            "are there instead (`toctoc status --backend iptables` shows them)",
        ),
        (Backend::Iptables, true) => Drift::new(
            "table inet toctoc",
            "guards too, besides iptables (`toctoc apply` removes it)",
        ),
        (Backend::Iptables, false) => Drift::new(
            "table inet toctoc",
            "is there instead (`toctoc status --backend nftables` shows it)",
        ),
    }
}

/// The difference between everything and nothing.
pub fn table_missing() -> Drift {
    Drift::new("table inet toctoc", "is missing and guards no door")
}
