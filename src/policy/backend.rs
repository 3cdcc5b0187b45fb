//! Refuses what a backend cannot do, with the reason and the way out.

use std::collections::HashMap;
use std::time::Duration;

use super::diagnostic::Diagnostic;
use super::file::{File, Spanned};
use super::{Backend, Closed, Host, Name, Policy, show};
use crate::chain_name::chains_of;

const NFTABLES_SOURCES: u32 = 65_536;

/// The number of sources that a list of `xt_recent` holds where nobody said otherwise.
const DEFAULT_LIST: u32 = 100;

/// The last second that `-m time` can name, in 2038 (`xtables-extensions(8)`).
const LAST_MOMENT: i64 = i32::MAX as i64;

/// The most lists that the kernel may have to go through for one wrong knock of a source midway: it
/// compares names one after the other, some 10 ns each, while no other list is looked at.
const MOST_COMPARED: usize = 25_000;

impl Backend {
    /// Returns whether rules tell the loopback interface by its kind, whatever it is called.
    pub fn knows_loopback(self) -> bool {
        self == Backend::Nftables
    }

    /// Returns whether a new grant is refused where there is no room. Otherwise an old one gives way.
    pub fn refuses_when_full(self) -> bool {
        self == Backend::Nftables
    }
}

/// The number of sources that may be midway, and that may hold grants. With iptables the kernel decides, and
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
                "doors are shut in the tables raw and mangle, and iptables can reject only in the table filter; \
                     write `closed = \"drop\"`, {WAY_OUT}"
            )),
        );
    }
    let behind = file.doors.iter().filter_map(|door| door.to.as_ref());
    found.extend(behind.take(1).map(|to| {
        Diagnostic::new(
            to.at.clone(),
            "the iptables backend has no doors in front of other hosts",
        )
        .label("not with iptables")
        .help(format!("leave the door out, {WAY_OUT}"))
    }));
    let forward = file.doors.iter().filter_map(|door| door.forward.as_ref());
    found.extend(forward.take(1).map(|forward| {
        Diagnostic::new(
            forward.at.clone(),
            "the iptables backend passes no connections on",
        )
        .label("not with iptables")
        .help(format!("leave it out, {WAY_OUT}"))
    }));
    let tokens = file.keys.iter().filter_map(|key| key.token.as_ref());
    found.extend(tokens.take(1).map(|token| {
        Diagnostic::new(token.at.clone(), "the iptables backend has no tokens")
            .label("not with iptables")
            .help(format!("give the key a sequence, {WAY_OUT}"))
    }));
    let signed = file.keys.iter().filter_map(|key| key.signed.as_ref());
    found.extend(signed.take(1).map(|signed| {
        Diagnostic::new(signed.at.clone(), "the iptables backend has no signed keys")
            .label("not with iptables")
            .help(format!("give the key a sequence, {WAY_OUT}"))
    }));
    let scratch = file.keys.iter().filter_map(|key| key.scratch.as_ref());
    found.extend(scratch.take(1).map(|scratch| {
        Diagnostic::new(
            scratch.at.clone(),
            "the iptables backend has no scratch sequences",
        )
        .label("not with iptables")
        .help(format!("give the key a sequence, {WAY_OUT}"))
    }));
    found.extend(file.fleet.as_ref().map(|fleet| {
        Diagnostic::new(fleet.at.clone(), "the iptables backend has no fleet")
            .label("not with iptables")
            .help(format!(
                "its lists cannot be given grants with the time that is left: leave `[fleet]` out, \
                 {WAY_OUT}"
            ))
    }));
    let every_port = file.doors.iter().find(|door| door.every_port);
    found.extend(every_port.map(|door| {
        Diagnostic::new(
            door.name.at.clone(),
            "the iptables backend has no door of every port",
        )
        .label("not with iptables")
        .help(format!(
            "its chains ask the lists of a door by the door's ports: name the ports that are meant, {WAY_OUT}"
        ))
    }));
    let extend = file.doors.iter().filter_map(|door| door.extend.as_ref());
    found.extend(extend.take(1).map(|extend| {
        Diagnostic::new(
            extend.at.clone(),
            "the iptables backend does not extend grants",
        )
        .label("not with iptables")
        .help(format!(
            "its lists do not say when a source has opened, only when it came last: write a longer `open_for`, \
             {WAY_OUT}"
        ))
    }));
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
    let compared = compared(policy);
    if compared > MOST_COMPARED {
        let at = file
            .backend
            .as_ref()
            .map_or(0..0, |backend| backend.at.clone());
        found.push(
            Diagnostic::new(at, "iptables is too slow for so many sequences and doors")
                .label(format!("{} keys, {} doors", policy.keys.len(), policy.doors.len()))
                .help(format!(
                    "the kernel would compare {compared} names of lists for one wrong knock, and a \
                     stranger could keep it busy; at most {MOST_COMPARED} are accepted, which is about \
                     a hundred keys of five knocks: take fewer or shorter ones, {WAY_OUT}"
                )),
        );
    }
    found.extend(same_chains(file));
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

/// The number of list names that the kernel compares for the dearest wrong knock: it looks for the source in
/// the group of each key, and takes it off each place in one of them. Lists of the other family come in
/// between.
fn compared(policy: &Policy) -> usize {
    let mut beginnings = std::collections::HashSet::new();
    let mut longest = 0;
    for (_, sequence) in policy.sequences() {
        longest = longest.max(sequence.len());
        for length in 1..sequence.len() {
            beginnings.insert(&sequence[..length]);
        }
    }
    let groups = policy.keys.len() + policy.doors.len() + 1;
    let grants: usize = policy.keys.iter().map(|key| key.opens.len()).sum();
    groups * groups * 3 / 2 + longest * (2 * groups + 2 * beginnings.len() + grants)
}

/// Names have room for 28 letters in a chain's name; two that are cut to the same would be one.
fn same_chains(file: &File) -> Vec<Diagnostic> {
    let doors: Vec<_> = file.doors.iter().map(|door| &door.name).collect();
    let keys: Vec<_> = file.keys.iter().map(|key| &key.name).collect();
    let mut found = Vec::new();
    for names in [doors, keys] {
        let mut seen: HashMap<String, &Spanned<Name>> = HashMap::new();
        for name in names {
            let chains = chains_of(name.value.as_str());
            let other = chains.iter().find_map(|chain| seen.get(chain).copied());
            if let Some(other) = other {
                found.push(
                    Diagnostic::new(
                        name.at.clone(),
                        format!("`{}` and `{}` get the same chain", name.value, other.value),
                    )
                    .help(format!(
                        "names are cut and hashed to 28 letters; rename one of the two, {WAY_OUT}"
                    ))
                    .also(other.at.clone(), "the other name"),
                );
            }
            seen.extend(chains.into_iter().map(|chain| (chain, name)));
        }
    }
    found
}
