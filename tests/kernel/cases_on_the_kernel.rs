//! The one-line cases, all at once, as real packets: each case from sources of its own, in both
//! families.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::thread;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use toctoc::firewall::status::Status;
use toctoc::policy::{DoorIndex, Policy};
use toctoc::trace::{Holding, Packet};

use crate::cases::{CASES, POLICY, outcome, packets, sorted};
use crate::world::World;

/// A packet later than this would make a case mean something else. Pauses are 0.6 and 1.8 `within`,
/// echoes at twice 0.6, so the nearest deadline is 0.2 `within` away.
const MARGIN: Duration = Duration::from_millis(300);

fn cases_on_the_kernel() {
    let policy = toctoc::policy::read("cases", POLICY).unwrap();
    let world = World::with(POLICY);

    // Cases end together, so that the progress of each can be seen at the end.
    let mut schedule: Vec<Packet> = Vec::new();
    let mut traces = Vec::new();
    for v6 in [false, true] {
        for (index, case) in CASES.iter().enumerate() {
            traces.push(packets(index, case.trace, policy.within, v6));
        }
    }
    let end = traces.iter().map(|(_, end)| *end).max().unwrap();
    for (packets, own_end) in &traces {
        let shift = |packet: &Packet| Packet {
            at: packet.at + (end - *own_end),
            ..*packet
        };
        schedule.extend(packets.iter().map(shift));
    }
    schedule.sort_by_key(|packet| packet.at);

    let mut worst = Duration::ZERO;
    world.inject(|injector| {
        let start = Instant::now();
        for packet in &schedule {
            thread::sleep(packet.at.saturating_sub(start.elapsed()));
            worst = worst.max(start.elapsed() - packet.at);
            injector.packet(packet);
        }
        thread::sleep(end.saturating_sub(start.elapsed()));
    });
    let output = world.toctoc(&["status", "--json"]);
    let status: Status = serde_json::from_slice(&output.stdout).unwrap();
    assert!(
        worst < MARGIN,
        "this machine was {worst:?} late; the cases need {MARGIN:?}"
    );
    assert!(status.matches_policy, "{:?}", status.drift);

    let mut wrong = Vec::new();
    for v6 in [false, true] {
        for (index, case) in CASES.iter().enumerate() {
            let found = outcome(
                &policy,
                index,
                v6,
                grants(&policy, &status),
                &progress(&status),
            );
            if found != sorted(case.expected) {
                wrong.push(format!("{} [{}] v6={v6}: {found}", case.name, case.trace));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn grants(policy: &Policy, status: &Status) -> Vec<Holding> {
    let mut grants = Vec::new();
    for (index, door) in status.doors.iter().enumerate() {
        assert_eq!(door.name, policy.doors[index].name.as_str());
        for grant in &door.grants {
            let source: IpAddr = grant.source.parse().unwrap();
            assert!(grant.expires_in > 200.0 && grant.expires_in <= 300.0);
            assert!(grant.key.is_some());
            grants.push(Holding {
                source: IpNet::from(source),
                door: DoorIndex(index),
                once: grant.once,
            });
        }
    }
    grants
}

fn progress(status: &Status) -> BTreeMap<IpAddr, usize> {
    let entries = status.progress.iter();
    entries
        .map(|p| (p.source.parse().unwrap(), p.knocks))
        .collect()
}

on_every_firewall!(cases_on_the_kernel,);
