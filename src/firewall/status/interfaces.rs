//! Where the doors are guarded, and where a stranger enters although the policy names the interface. The judgement is
//! pure; [`Guard::of`] reads what it takes.

use super::super::links::{Link, Links, NamedInterface};
use super::super::sighting::Sighting;
use crate::policy::{Interfaces, Policy};

/// Where the doors of a policy are guarded on this host, now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Guard {
    /// The interfaces that are there and guarded, by the names that rules see. `None` for all but loopback.
    pub on: Option<Vec<String>>,
    /// Interfaces that are up and not guarded, as the policy says.
    pub not_on: Vec<String>,
    /// Interfaces by which strangers enter, though the policy does not mean to let them.
    pub open_on: Vec<String>,
    /// Why they do, a sentence each.
    pub gaps: Vec<String>,
    /// Other facts worth knowing, a sentence each.
    pub notes: Vec<String>,
    /// Interfaces that the policy names and this host does not have now.
    pub missing: Vec<String>,
}

impl Guard {
    /// Looks at the interfaces of this host (its network namespace).
    pub fn of(policy: &Policy) -> Guard {
        if policy.interfaces == Interfaces::AllButLoopback && policy.backend.knows_loopback() {
            return Guard::default();
        }
        match Links::read() {
            Ok(links) => {
                let seen = Sighting::last().map(|last| last.interfaces);
                judge(policy, &links, &seen.unwrap_or_default())
            }
            Err(error) => Guard {
                gaps: vec![format!(
                    "the kernel does not tell its interfaces ({error}): where the doors are guarded is not known"
                )],
                ..Guard::default()
            },
        }
    }

    /// Returns whether no interface is guarded at all.
    pub fn is_nowhere(&self) -> bool {
        self.on.as_ref().is_some_and(Vec::is_empty)
    }

    /// Returns whether no interface is guarded, and strangers enter.
    pub fn is_open(&self) -> bool {
        self.is_nowhere() && !self.open_on.is_empty()
    }

    /// The interfaces in words, as [`guarded_on`]. `None` for all but loopback too.
    pub fn words(&self) -> Option<String> {
        guarded_on(self.on.as_ref()?, &self.not_on)
    }
}

/// "guarded on eth0 only", "guarded on eth0, eth1 only, not on docker0". `None` when no interface is guarded.
pub fn guarded_on(on: &[String], not_on: &[String]) -> Option<String> {
    if on.is_empty() {
        return None;
    }
    let on = on.join(", ");
    Some(match not_on {
        [] => format!("guarded on {on} only"),
        not_on => format!("guarded on {on} only, not on {}", not_on.join(", ")),
    })
}

/// The name that the kernel gives to the loopback interface.
const LOOPBACK: &str = "lo";

/// Judges by the interfaces that are there. `seen` are those of the policy, as they were when it was applied.
pub fn judge(policy: &Policy, links: &Links, seen: &[NamedInterface]) -> Guard {
    let Interfaces::Only(names) = &policy.interfaces else {
        return judge_loopback(policy, links);
    };
    let mut judge = Judge {
        names,
        links,
        drops_all: policy.firewall.is_some(),
        guard: Guard::default(),
    };
    let mut on = Vec::new();
    for name in names {
        let meant = links.meant(name, seen);
        if let (Some(link), None) = (meant, links.named(name)) {
            let real = &link.name;
            judge.guard.notes.push(format!(
                "there is no interface {name} now: {real}, which had that name, is guarded; name {real} in the policy"
            ));
        }
        match meant {
            Some(link) if judge.is_taken_over(link) => {}
            Some(link) if on.contains(&link.name) => {}
            Some(link) => on.push(link.name.clone()),
            None => {
                let index = seen.iter().find(|named| named.written == *name);
                let index = index.and_then(|named| named.index);
                judge.missing(name, index.and_then(|index| links.numbered(index)));
            }
        }
    }
    judge.finish(on)
}

/// Judges by the name of the loopback interface, by which rules of iptables tell it.
fn judge_loopback(policy: &Policy, links: &Links) -> Guard {
    let mut guard = Guard::default();
    if policy.backend.knows_loopback() {
        return guard;
    }
    let named = links.0.iter().find(|link| link.name == LOOPBACK);
    if let Some(link) = named.filter(|link| !link.is_loopback) {
        let told = format!(
            "the interface called {LOOPBACK} is not the loopback interface, and iptables cannot tell: nothing is guarded \
             there; give it another name, or use nftables"
        );
        match link.is_up {
            true => {
                guard.open_on.push(LOOPBACK.to_string());
                guard.gaps.push(told);
            }
            false => guard.notes.push(told),
        }
    }
    if let Some(link) = links
        .0
        .iter()
        .find(|link| link.is_loopback && link.name != LOOPBACK)
    {
        guard.notes.push(format!(
            "the loopback interface is called {}, and iptables cannot tell: this host must knock at itself",
            link.name
        ));
    }
    guard
}

struct Judge<'p> {
    names: &'p [String],
    links: &'p Links,
    /// With `[firewall]` whatever is not guarded is dropped.
    drops_all: bool,
    guard: Guard,
}

impl Judge<'_> {
    fn is_named(&self, link: &Link) -> bool {
        self.names.iter().any(|name| {
            self.links
                .named(name)
                .is_some_and(|l| l.index == link.index)
        })
    }

    /// The words for a place that the policy guards and no packet comes to.
    fn so(&self) -> &'static str {
        match self.drops_all {
            false => "nothing is guarded there",
            true => "NOBODY gets to a door there, whatever is knocked",
        }
    }

    /// Returns whether the packets of an interface arrive at another one. `iifname` is that of the other then, since a bridge,
    /// a bond and a team change it before any rule of ours; a VRF does so before the input hook, after the first of two
    /// passes through prerouting (Documentation/networking/vrf.rst).
    fn is_taken_over(&mut self, link: &Link) -> bool {
        let Some(master) = link.master.and_then(|index| self.links.numbered(index)) else {
            return false;
        };
        if !master.takes_over() {
            return false;
        }
        if self.is_named(master) {
            return true;
        }
        let (name, kind, at, so) = (&link.name, &master.kind, &master.name, self.so());
        let told = match kind.as_str() {
            "openvswitch" => format!(
                "{name} is a part of an Open vSwitch: {so}, its packets arrive at the internal ports of that; name \
                 those"
            ),
            _ => format!(
                "{name} is a part of the {kind} {at}: {so}, its packets arrive at {at}; name that one"
            ),
        };
        match master.is_up && !self.drops_all {
            true => self.open(at.clone(), told),
            false => self.guard.notes.push(told),
        }
        true
    }

    /// An interface of the policy that is not there. `now` is the one that it was, should it have another name now.
    fn missing(&mut self, name: &str, now: Option<&Link>) {
        self.guard.missing.push(name.to_string());
        let so = self.so();
        match now {
            Some(link) if self.is_named(link) => {}
            Some(link) => {
                let real = &link.name;
                let told = format!("{name} is called {real} now: {so}; name {real} in the policy");
                match link.is_up && !self.drops_all {
                    true => self.open(real.clone(), told),
                    false => self.guard.notes.push(told),
                }
            }
            None => {
                let mut told = format!("there is no interface {name} now: {so} until it comes");
                if let Some((real, _)) = name.split_once('@')
                    && self.links.named(real).is_some()
                {
                    told.push_str(&format!(" (`ip link` shows {name}; its name is {real})"));
                }
                self.guard.notes.push(told);
            }
        }
    }

    fn open(&mut self, on: String, why: String) {
        if !self.guard.open_on.contains(&on) {
            self.guard.open_on.push(on);
        }
        self.guard.gaps.push(why);
    }

    fn finish(mut self, on: Vec<String>) -> Guard {
        // Packets that come by a part of something arrive at the whole.
        let at = |link: &&Link| {
            let whole = link.master.and_then(|index| self.links.numbered(index));
            !whole.is_some_and(Link::takes_over)
        };
        let up = self.links.0.iter().filter(|l| l.is_up && !l.is_loopback);
        let up = up.filter(at).map(|link| link.name.clone());
        let not_on: Vec<String> = up.filter(|name| !on.contains(name)).collect();
        if on.is_empty() && !self.drops_all && !not_on.is_empty() {
            let what = match self.guard.missing.len() == self.names.len() {
                true => "no interface that the policy names is there",
                false => "at no interface that the policy names packets arrive",
            };
            let up = not_on.join(", ");
            let told = format!("{what}; these are up and not guarded: {up}");
            self.guard.gaps.insert(0, told);
            self.guard.open_on = not_on;
        } else {
            let open = &self.guard.open_on;
            self.guard.not_on = not_on.into_iter().filter(|n| !open.contains(n)).collect();
        }
        self.guard.on = Some(on);
        self.guard
    }
}

#[cfg(test)]
#[path = "interfaces_tests.rs"]
mod tests;
