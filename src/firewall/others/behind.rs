//! What this host does with packets for the hosts behind it.

use std::fs;
use std::net::IpAddr;

use ipnet::IpNet;

use super::super::links::addresses;
use crate::policy::{Policy, Target};
use crate::ruleset::Family;

/// Sentences about the doors in front of other hosts: what they cannot guard, and what nobody reaches.
pub(super) fn about(policy: &Policy) -> Vec<String> {
    let own = addresses().unwrap_or_default();
    let own: Vec<IpAddr> = own.into_iter().map(|(address, _)| address).collect();
    let off: Vec<Family> = Family::BOTH
        .into_iter()
        .filter(|family| !forwards(*family))
        .collect();
    judge(policy, &own, &off)
}

fn judge(policy: &Policy, own: &[IpAddr], off: &[Family]) -> Vec<String> {
    let mut found = Vec::new();
    for (door, behind) in policy.doors_behind() {
        let named = |address: &&IpAddr| behind.to.contains(&IpNet::from(**address));
        for address in own.iter().filter(named) {
            found.push(format!(
                "{address}, which door `{}` stands in front of, is an address of this host: there the door guards \
                 nothing (leave `to` out for a door of this host)",
                door.name
            ));
        }
    }
    let elsewhere = |target: &&Target| !own.contains(&target.host);
    let forwards = policy.forwards().map(|(door, forward)| {
        let targets = forward.to.iter().filter(elsewhere);
        (
            door,
            targets.map(|target| IpNet::from(target.host)).collect(),
        )
    });
    let behind = policy.doors_behind();
    let behind = behind.map(|(door, behind)| (door, behind.to.clone()));
    for (door, to) in behind.chain(forwards) {
        let is_for = |family: &&Family| {
            let mut to = to.iter();
            to.any(|network: &IpNet| Family::of(network.addr()) == **family)
        };
        for family in off.iter().filter(is_for) {
            let (version, setting) = words(*family);
            found.push(format!(
                "this host does not forward {version}: nobody gets through door `{}`, whatever is knocked (sysctl -w \
                 {setting}=1)",
                door.name
            ));
        }
    }
    found
}

fn words(family: Family) -> (&'static str, &'static str) {
    match family {
        Family::V4 => ("IPv4", "net.ipv4.ip_forward"),
        Family::V6 => ("IPv6", "net.ipv6.conf.all.forwarding"),
    }
}

/// Returns whether the kernel forwards packets of a family, or does not say.
fn forwards(family: Family) -> bool {
    let (_, setting) = words(family);
    let path = format!("/proc/sys/{}", setting.replace('.', "/"));
    fs::read_to_string(path).map_or(true, |value| value.trim() != "0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_door_behind_cannot_do_here_is_told() {
        let text = "[door.nas]\nports = [22]\nto = [\"192.0.2.50\", \"2001:db8::50\"]\n";
        let policy = crate::policy::read("p", text).unwrap();
        let own = |text: &str| [text.parse().unwrap()];
        assert!(judge(&policy, &own("192.0.2.1"), &[]).is_empty());
        assert!(judge(&policy, &own("2001:db8::50"), &[])[0].contains("guards nothing"));
        let off = judge(&policy, &[], &Family::BOTH);
        assert!(off[0].contains("net.ipv4.ip_forward=1") && off[1].contains("IPv6"));
        let local = crate::policy::read("p", "[door.nas]\nports = [22]\n").unwrap();
        assert!(judge(&local, &own("192.0.2.1"), &Family::BOTH).is_empty());
    }
}
