//! The ledger as `toctoc status` shows it.

use toctoc::fleet_report::{Elsewhere, HostReport, Report};
use toctoc::knock::display_source;

use crate::clock::Moment;
use crate::ledger::Ledger;

/// So many grants are told of; the kernel knows all.
const MOST_GRANTS: usize = 2000;

/// The report of a ledger on others.
pub fn report(ledger: &Ledger, now: Moment) -> Report {
    let hosts = ledger.hosts.iter().map(|(name, seen)| HostReport {
        name: name.to_string(),
        seen: now.saturating_sub(seen.at).max(0) as f64 / 1000.0,
        lag: seen.lag,
    });
    let grants = ledger.elsewhere(now).take(MOST_GRANTS);
    let grants = grants.map(|((door, source), host, given)| Elsewhere {
        door: door.to_string(),
        source: display_source(source),
        host: host.map(ToString::to_string),
        key: given.key.as_ref().map(ToString::to_string),
    });
    Report {
        name: ledger.rules.me.to_string(),
        hosts: hosts.collect(),
        grants: grants.collect(),
        at: now,
        ..Report::default()
    }
}
