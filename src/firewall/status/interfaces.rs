//! Interfaces that the policy names.

use crate::policy::{Interfaces, Policy};
use std::fs;
use std::path::Path;

/// What an administrator should know about the interfaces that a policy names: nothing is guarded at
/// those that are not there, nor at those whose packets arrive under another name.
pub fn interface_warnings(policy: &Policy) -> Vec<String> {
    let Interfaces::Only(names) = &policy.interfaces else {
        return Vec::new();
    };
    let missing = missing_interfaces(policy);
    let so = match policy.firewall {
        None => "nothing is guarded there",
        Some(_) => "NOBODY gets to a door there, whatever he knocks",
    };
    let warning = |name: &String| {
        if missing.contains(name) {
            return Some(format!(
                "there is no interface {name} now: {so} until it comes (if it is another name for an \
                 interface, write the name that `ip link` shows first)"
            ));
        }
        let (kind, master) = master(name)?;
        Some(format!(
            "{name} is a part of the {kind} {master}: {so}, its packets arrive at {master}; name that \
             one"
        ))
    };
    names.iter().filter_map(warning).collect()
}

/// The bridge or bond that takes an interface's packets over before any rule sees them.
fn master(name: &str) -> Option<(&'static str, String)> {
    let directory = Path::new("/sys/class/net").join(name);
    let has = |entry: &str| directory.join(entry).exists();
    let kind = match (has("brport"), has("bonding_slave")) {
        (true, _) => "bridge",
        (_, true) => "bond",
        _ => return None,
    };
    let link = fs::read_link(directory.join("master")).ok()?;
    Some((kind, link.file_name()?.to_string_lossy().into_owned()))
}

/// The interfaces that a policy names and this host (its network namespace) does not have now.
pub(super) fn missing_interfaces(policy: &Policy) -> Vec<String> {
    let Interfaces::Only(names) = &policy.interfaces else {
        return Vec::new();
    };
    let Ok(table) = fs::read_to_string("/proc/thread-self/net/dev") else {
        return Vec::new();
    };
    let there = |name: &String| {
        let mut lines = table.lines();
        lines.any(|line| line.trim_start().starts_with(&format!("{name}:")))
    };
    names.iter().filter(|name| !there(name)).cloned().collect()
}
