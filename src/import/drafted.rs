//! The doors of a draft: each port of a host is of one door, and each key opens whole doors.

use std::collections::HashSet;

use ipnet::IpNet;

use super::draft::Draft;
use super::place::{Opened, Place};
use super::services;
use crate::knock::{PortRange, Protocol};
use crate::policy::{KnockAt, Sender, Target};

pub(super) struct DraftDoor {
    pub name: String,
    pub ports: PortRange,
    /// The hosts behind this one that it stands in front of.
    pub to: Vec<IpNet>,
    pub knock_at: KnockAt,
    /// The places to which it passes connections on, one of each family at most.
    pub forward: Vec<Target>,
    pub sender: Sender,
    /// Seconds, where no key says it.
    pub open_for: Option<u64>,
}

impl DraftDoor {
    /// Returns whether a key that opens these ports opens this door.
    pub fn is_opened_by(&self, opened: &Opened) -> bool {
        let is_place = match &opened.place {
            Place::Behind(network, _) => self.to.contains(network),
            Place::Here | Place::PassedOn(..) => self.to.is_empty(),
            Place::Unnamed(_) => false,
        };
        is_place && opened.ports.overlaps(self.ports)
    }
}

/// The doors: those of this host, then those of hosts behind it.
pub(super) fn doors(draft: &Draft) -> Vec<DraftDoor> {
    let all = || draft.keys().flat_map(|key| &key.opens);
    let mut names = Names::default();
    let own: Vec<&Opened> = all().filter(|opened| opened.is_at_this_host()).collect();
    let mut doors: Vec<DraftDoor> = parts(&own)
        .into_iter()
        .map(|ports| own_door(ports, &own, &mut names))
        .collect();
    let mut networks: Vec<IpNet> = Vec::new();
    for opened in all() {
        if let Place::Behind(network, _) = opened.place
            && !networks.contains(&network)
        {
            networks.push(network);
        }
    }
    let mut behind: Vec<DraftDoor> = Vec::new();
    for network in networks {
        let at = |opened: &&Opened| matches!(opened.place, Place::Behind(of, _) if of == network);
        let opened: Vec<&Opened> = all().filter(at).collect();
        for ports in parts(&opened) {
            let door = door_behind(ports, network, &opened);
            // Hosts that the same keys open at the same ports have one door.
            let same = behind.iter_mut().find(|other| {
                other.ports == ports
                    && other.knock_at == door.knock_at
                    && openers(draft, other) == openers(draft, &door)
            });
            match same {
                Some(other) => other.to.push(network),
                None => behind.push(door),
            }
        }
    }
    for door in &mut behind {
        door.name = name_behind(door, &mut names);
    }
    doors.append(&mut behind);
    for door in &mut doors {
        door.open_for = time_of(draft, door);
    }
    doors
}

fn own_door(ports: PortRange, own: &[&Opened], names: &mut Names) -> DraftDoor {
    let mut forward: Vec<Target> = Vec::new();
    let mut sender = Sender::Client;
    for opened in own.iter().filter(|opened| opened.ports.overlaps(ports)) {
        let Place::PassedOn(target, of) = opened.place else {
            continue;
        };
        if !forward.contains(&target) {
            forward.push(target);
        }
        if of == Sender::ThisHost {
            sender = of;
        }
    }
    DraftDoor {
        name: door_name(ports, names),
        ports,
        to: Vec::new(),
        knock_at: KnockAt::ThisHost,
        forward,
        sender,
        open_for: None,
    }
}

fn door_behind(ports: PortRange, network: IpNet, opened: &[&Opened]) -> DraftDoor {
    let mut opened = opened.iter();
    let is_both = opened.any(|opened| matches!(opened.place, Place::Behind(_, KnockAt::Both)));
    DraftDoor {
        name: String::new(),
        ports,
        to: vec![network],
        knock_at: match is_both {
            true => KnockAt::Both,
            false => KnockAt::ThisHost,
        },
        forward: Vec::new(),
        sender: Sender::Client,
        open_for: None,
    }
}

/// The places of the keys that open a door.
fn openers(draft: &Draft, door: &DraftDoor) -> Vec<usize> {
    let keys = draft.keys().enumerate();
    let opens = keys.filter(|(_, key)| key.opens.iter().any(|opened| door.is_opened_by(opened)));
    opens.map(|(place, _)| place).collect()
}

/// The ports cut such that those of each part are opened together.
fn parts(all: &[&Opened]) -> Vec<PortRange> {
    let ranges = || all.iter().map(|opened| opened.ports);
    let mut cuts: Vec<(Protocol, u32)> = ranges()
        .flat_map(|range| {
            let [first, last] = [range.first(), range.last()].map(|end| u32::from(end.port.get()));
            [(range.protocol(), first), (range.protocol(), last + 1)]
        })
        .collect();
    cuts.sort_unstable();
    cuts.dedup();
    let mut parts: Vec<PortRange> = Vec::new();
    let mut known = HashSet::new();
    for range in ranges() {
        let mut rest = Some(range);
        while let Some(whole) = rest.take() {
            let start = (whole.protocol(), u32::from(whole.first().port.get()));
            let next = cuts.partition_point(|cut| *cut <= start);
            let cut = cuts
                .get(next)
                .and_then(|(_, port)| u16::try_from(*port).ok());
            let after = cut
                .and_then(|port| PortRange::new(whole.protocol(), port, whole.last().port.get()));
            let after = after.filter(|after| after.overlaps(whole));
            let part = match after {
                Some(after) => whole.without(after).into_iter().next(),
                None => Some(whole),
            };
            rest = after;
            parts.extend(part.filter(|part| known.insert(*part)));
        }
    }
    parts
}

/// The time of a door that the other file gives it, the shortest of several.
fn time_of(draft: &Draft, door: &DraftDoor) -> Option<u64> {
    let times = draft.times.iter();
    let times = times.filter(|(opened, _)| door.is_opened_by(opened));
    times.map(|(_, seconds)| *seconds).min()
}

/// `ssh` for port 22, `port-8443` for others.
fn door_name(ports: PortRange, names: &mut Names) -> String {
    if let Some(name) = ports.only().and_then(services::name)
        && !names.taken.contains(name)
    {
        return names.free(name, "door");
    }
    names.free(&numbered(ports), "door")
}

fn numbered(ports: PortRange) -> String {
    let protocol = match ports.protocol() {
        Protocol::Tcp => "port",
        Protocol::Udp => "udp",
    };
    format!("{protocol}-{}", ports.numbers('-'))
}

/// `ssh-10-1-0-2` for port 22 of 10.1.0.2.
fn name_behind(door: &DraftDoor, names: &mut Names) -> String {
    let service = door.ports.only().and_then(services::name);
    let ports = service.map_or_else(|| numbered(door.ports), str::to_string);
    let host = door.to.first().map(|network| network.addr().to_string());
    names.free(&format!("{ports}-{}", host.unwrap_or_default()), "door")
}

/// The names that are taken.
#[derive(Default)]
pub(super) struct Names {
    taken: HashSet<String>,
    /// The number that the last of several with one name has.
    last: usize,
}

impl Names {
    /// A name that no other has, from whatever it was called.
    pub fn free(&mut self, called: &str, otherwise: &str) -> String {
        let kept = |c: char| match c {
            c if c.is_ascii_alphanumeric() || matches!(c, '-' | '_') => c,
            _ => '-',
        };
        let name: String = called.chars().map(kept).collect();
        let parts: Vec<&str> = name.split('-').filter(|part| !part.is_empty()).collect();
        let name: String = parts.join("-").chars().take(26).collect();
        let name = name.trim_start_matches(['-', '_']);
        let name = if name.is_empty() { otherwise } else { name };
        let mut free = name.to_string();
        let mut number = self.last.max(1);
        while self.taken.contains(&free) {
            number += 1;
            free = format!("{name}-{number}");
        }
        // With a great many of one name, the numbers go on where they were.
        self.last = if number > 100 { number } else { 0 };
        self.taken.insert(free.clone());
        free
    }
}
