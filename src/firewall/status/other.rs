//! Differences in the rules as a whole.

use crate::held::{Drift, Presence};
use crate::policy::Backend;

/// The difference that rules of the other backend make.
pub(super) fn of_the_other(backend: Backend, rules: Presence) -> Drift {
    match (backend, rules == Presence::Guard) {
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
