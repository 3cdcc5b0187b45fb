//! What a backend cannot do is refused here, with the reason and the way out.

use super::diagnostic::Diagnostic;
use super::file::{File, Spanned};
use super::{Backend, Closed, Host, Policy, show};
use std::time::Duration;

const NFTABLES_SOURCES: u32 = 65_536;

/// How many sources a list of `xt_recent` holds where nobody said otherwise.
const DEFAULT_LIST: u32 = 100;

/// The last second that `-m time` can name, in 2038 (`xtables-extensions(8)`).
const LAST_MOMENT: i64 = i32::MAX as i64;

/// The most states that the sequences of a policy may have with the iptables backend. Each is a list,
/// and the kernel goes through all lists to find one: with so many, a wrong knock of a source midway
/// costs about a millisecond.
const MOST_STATES: usize = 2_000;

/// How many sources may be midway, and how many may hold grants. With iptables the kernel decides, and
/// the policy can only ask for no more.
pub fn sources(backend: Backend, host: &Host, written: Option<u32>) -> u32 {
    match backend {
        Backend::Nftables => written.unwrap_or(NFTABLES_SOURCES),
        Backend::Iptables => host.ip_list_tot.or(written).unwrap_or(DEFAULT_LIST),
    }
}

/// Reports what the policy's backend cannot do.
pub fn limits(file: &File, host: &Host, policy: &Policy, diagnostics: &mut Vec<Diagnostic>) {
    if policy.backend == Backend::Iptables {
        diagnostics.extend(iptables(file, host, policy));
    }
}

const WAY_OUT: &str = "or use the nftables backend (`backend = \"nftables\"`)";

fn iptables(file: &File, host: &Host, policy: &Policy) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    let of_doors = file.doors.iter().map(|door| &door.open_for);
    let of_keys = file.keys.iter().map(|key| &key.open_for);
    let times = [&file.within, &file.open_for]
        .into_iter()
        .chain(of_doors)
        .chain(of_keys);
    found.extend(times.flatten().filter_map(fraction));
    if let Some(closed) = file.closed.as_ref().filter(|c| c.value == Closed::Reject) {
        found.push(
            Diagnostic::new(
                closed.at.clone(),
                "the iptables backend cannot reject, only drop",
            )
            .label("not with iptables")
            .help(format!(
                "doors are shut before connection tracking, and iptables rejects after it only; \
                     write `closed = \"drop\"`, {WAY_OUT}"
            )),
        );
    }
    let room = file.max_sources.as_ref().zip(host.ip_list_tot);
    if let Some((written, room)) = room.filter(|(written, room)| written.value > *room) {
        found.push(
            Diagnostic::new(
                written.at.clone(),
                format!(
                    "this kernel's lists hold {room} sources, not {}",
                    written.value
                ),
            )
            .label(format!("at most {room}"))
            .help(format!(
                "leave `max_sources` out; or the module xt_recent takes more when it is loaded: write `options xt_recent \
                 ip_list_tot={}` into /etc/modprobe.d/toctoc.conf and restart, {WAY_OUT}",
                written.value
            )),
        );
    }
    let dates = file.keys.iter().filter_map(|key| key.expires.as_ref());
    for date in dates.filter(|date| date.value > LAST_MOMENT) {
        found.push(
            Diagnostic::new(
                date.at.clone(),
                "iptables knows no date after 19 January 2038",
            )
            .label("too late")
            .help(format!("write an earlier date, {WAY_OUT}")),
        );
    }
    let states = states(policy);
    if states > MOST_STATES {
        let at = file
            .backend
            .as_ref()
            .map_or(0..0, |backend| backend.at.clone());
        found.push(
            Diagnostic::new(
                at,
                format!("these sequences need {states} lists of the kernel"),
            )
            .label(format!("iptables: at most {MOST_STATES}"))
            .help(format!("take fewer or shorter sequences, {WAY_OUT}")),
        );
    }
    found
}

/// A time that is not in whole seconds.
fn fraction(time: &Spanned<Duration>) -> Option<Diagnostic> {
    (time.value.subsec_nanos() != 0).then(|| {
        let up = Duration::from_secs(time.value.as_secs() + 1);
        Diagnostic::new(
            time.at.clone(),
            format!("iptables counts whole seconds, not {}", show(time.value)),
        )
        .label("not a whole number of seconds")
        .help(format!("write `\"{}\"`, {WAY_OUT}", show(up)))
    })
}

/// The beginnings of all sequences, each counted once.
fn states(policy: &Policy) -> usize {
    let mut beginnings = std::collections::HashSet::new();
    for sequence in policy.sequences() {
        for length in 1..sequence.len() {
            beginnings.insert(&sequence[..length]);
        }
    }
    beginnings.len()
}
