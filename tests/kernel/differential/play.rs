//! A trace as real packets, and what the kernel holds afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::thread;
use std::time::{Duration, Instant};

use toctoc::automaton::{Place, State};
use toctoc::firewall::Iptables;
use toctoc::ruleset::iptables::{GrantList, Saved, lists_of, opened_count};
use toctoc::ruleset::nftables::Listing;
use toctoc::ruleset::{Grant, Progress};
use toctoc::trace::Packet;

use super::policies::Case;
use super::traces::{BEAT, Trace};
use crate::world::World;

/// What was sent when, and what came of it.
pub struct Played {
    pub packets: Vec<Packet>,
    /// When the kernel was looked at: begun and done.
    pub seen: [Duration; 2],
    pub grants: Vec<Grant>,
    /// Knocks made, for each source that has made any.
    pub midway: BTreeMap<IpAddr, usize>,
    /// For each key.
    pub opened: Vec<u64>,
}

/// Applies a policy to a host without one, sends the trace, looks, and removes the policy. Once more
/// where the machine was too busy to take all packets.
pub fn play(world: &World, case: &Case, trace: &Trace) -> Played {
    for _ in 0..10 {
        world.apply(&case.text);
        let lost = frames_lost();
        let start = Instant::now();
        let packets = send(world, trace, start);
        let begun = start.elapsed();
        let look = match world.is_nftables() {
            true => look_at_nftables,
            false => look_at_iptables,
        };
        let held = look(world, case);
        let seen = [begun, held.at - start];
        world.yes(&["remove"]);
        if frames_lost() == lost {
            return Played {
                packets,
                seen,
                grants: held.grants,
                midway: midway(case, &held.progress),
                opened: held.opened,
            };
        }
    }
    panic!("this machine loses packets between two namespaces");
}

/// The packets with the times at which they were really sent.
fn send(world: &World, trace: &Trace, start: Instant) -> Vec<Packet> {
    let mut sent = Vec::new();
    world.inject(|injector| {
        for (number, step) in trace.steps.iter().enumerate() {
            wait_for(start, step.beat);
            // The receive backlog holds 1,000 frames; a busy machine is late to empty it.
            if number % 64 == 0 {
                thread::sleep(Duration::from_millis(1));
            }
            let packet = Packet {
                at: start.elapsed(),
                source: step.source,
                to: step.to,
            };
            injector.packet(&packet);
            sent.push(packet);
        }
    });
    wait_for(start, trace.end);
    sent
}

fn wait_for(start: Instant, beat: usize) {
    let due = BEAT * u32::try_from(beat).unwrap();
    thread::sleep(due.saturating_sub(start.elapsed()));
}

/// What the kernel holds, and when that had been read.
struct Held {
    at: Instant,
    grants: Vec<Grant>,
    progress: Vec<Progress>,
    opened: Vec<u64>,
}

fn look_at_nftables(world: &World, case: &Case) -> Held {
    let text = world.server(&["nft", "-j", "list", "table", "inet", "toctoc"]);
    let at = Instant::now();
    let listing = Listing::parse(&text).unwrap();
    let keys = case.policy.keys.iter();
    Held {
        at,
        grants: listing.grants(),
        progress: listing.progress(),
        opened: keys.map(|key| listing.opened_count(&key.name)).collect(),
    }
}

fn look_at_iptables(world: &World, case: &Case) -> Held {
    let lists = world.lab.server.inside(Iptables::lists).unwrap().unwrap();
    let at = Instant::now();
    let saved = ["iptables-save", "ip6tables-save"]
        .map(|save| Saved::parse(&world.server(&[save, "-c"])).unwrap());
    let own: BTreeSet<GrantList> = saved.iter().flat_map(lists_of).collect();
    assert!(lists.held().iter().all(|held| own.contains(&held.list)));
    let opened = |name| saved.iter().map(|saved| opened_count(saved, name)).sum();
    let keys = case.policy.keys.iter();
    Held {
        at,
        grants: lists.grants(),
        progress: lists.progress(&case.policy, &case.automaton),
        opened: keys.map(|key| opened(&key.name)).collect(),
    }
}

fn midway(case: &Case, progress: &[Progress]) -> BTreeMap<IpAddr, usize> {
    let knocks = |progress: &Progress| match case.automaton.place(State(progress.state)) {
        Some(Place::Midway { knocks, .. }) => Some((progress.source, *knocks)),
        _ => None,
    };
    progress.iter().filter_map(knocks).collect()
}

/// How many frames all processors together had no room for.
fn frames_lost() -> u64 {
    let table = std::fs::read_to_string("/proc/net/softnet_stat").unwrap();
    let lost = |line: &str| u64::from_str_radix(line.split(' ').nth(1).unwrap(), 16).unwrap();
    table.lines().map(lost).sum()
}
