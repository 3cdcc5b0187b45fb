//! Many grants at once. `FLEET_RATE` grants a second for `FLEET_SECONDS` (1000 and 30 in `make verify`).

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::bottle::{DOORS, Fleet, SEQUENCE};
use crate::inject::{Injector, SYN, tcp_header};

fn number(name: &str, default: u64) -> u64 {
    let told = std::env::var(name).ok();
    told.map_or(default, |text| text.parse().unwrap())
}

fn source(number: u64) -> Ipv4Addr {
    Ipv4Addr::from(0x0a00_0000 + number as u32 + 1)
}

/// The guests by this set of a host, and for how many seconds.
fn held(fleet: &Fleet, place: usize, set: &str) -> BTreeMap<String, u64> {
    let mut command = fleet.command(place, "nft");
    command.args(["-j", "list", "set", "inet", "toctoc", set]);
    let host = &fleet.members[place].host;
    let output = host.inside(|| command.output().unwrap()).unwrap();
    let listing: Value = serde_json::from_slice(&output.stdout).unwrap();
    let objects = listing["nftables"].as_array().unwrap().iter();
    let elements = objects.filter_map(|object| object["set"]["elem"].as_array());
    let elements = elements.flatten().map(|element| {
        let elem = &element["elem"];
        let source = elem["val"]["concat"][0].as_str().unwrap();
        (source.to_string(), elem["expires"].as_u64().unwrap())
    });
    elements.collect()
}

/// Knocks for so many sources, one at each host in turn, at this rate.
fn knock(fleet: &Fleet, rate: u64, count: u64) {
    let hosts = fleet
        .members
        .iter()
        .map(|member| member.address.parse().unwrap());
    let hosts: Vec<Ipv4Addr> = hosts.collect();
    let ports: Vec<u16> = SEQUENCE.iter().map(|port| port.parse().unwrap()).collect();
    let sent = fleet.client.inside(|| {
        let injector = Injector::new().unwrap();
        let start = Instant::now();
        for number in 0..count {
            let due = start + Duration::from_nanos(number * 1_000_000_000 / rate);
            thread::sleep(due.saturating_duration_since(Instant::now()));
            let (from, to) = (source(number), hosts[number as usize % hosts.len()]);
            for &port in &ports {
                let (source, target) = (IpAddr::from(from), IpAddr::from(to));
                let header = tcp_header(source, target, 40_001, port, SYN);
                injector.fragment(from, to, 6, 0, &header);
            }
        }
    });
    sent.unwrap();
}

#[test]
fn a_thousand_grants_a_second_are_all_told_and_none_lasts_too_long() {
    let (rate, seconds) = (number("FLEET_RATE", 300), number("FLEET_SECONDS", 4));
    let count = rate * seconds;
    // Long enough that nobody is out before all are in.
    let lasting = seconds + 60;
    let doors = DOORS.replace(
        "[door.ssh]",
        &format!("[door.ssh]\nopen_for = \"{lasting}s\""),
    );
    let fleet = Fleet::with(3, &doors);
    // Nobody has to be asked who is who.
    for member in &fleet.members {
        fleet
            .client
            .ip(&format!("route replace {} dev eth0", member.address))
            .unwrap();
    }
    knock(&fleet, rate, count);
    let start = Instant::now();
    let own: Vec<_> = (0..3).map(|place| held(&fleet, place, "grants4")).collect();
    let let_in: usize = own.iter().map(BTreeMap::len).sum();
    assert!(
        let_in as u64 > count * 9 / 10,
        "{let_in} of {count}: the kernel dropped the others"
    );
    for place in 0..3 {
        let wanted: usize = let_in - own[place].len();
        let mut others = held(&fleet, place, "elsewhere4");
        while others.len() < wanted {
            let waited = start.elapsed();
            assert!(
                waited < Duration::from_secs(40),
                "{} of {wanted} after {waited:?}\n{}",
                others.len(),
                fleet.said(place)
            );
            thread::sleep(Duration::from_millis(200));
            others = held(&fleet, place, "elsewhere4");
        }
        // All of them and nobody else. What is read later has less time left.
        assert_eq!(others.len(), wanted);
        for (giver, own) in own.iter().enumerate().filter(|(giver, _)| *giver != place) {
            for (source, left) in own {
                let there = others.get(source).copied();
                let there = there.unwrap_or_else(|| panic!("{source} of {giver} is lost"));
                assert!(
                    there <= left + 1,
                    "{source}: {there} s, {left} s where he knocked"
                );
                assert!(there + lasting / 2 > *left, "{source}: {there} s, {left} s");
            }
        }
    }
    for place in 0..3 {
        let memory = std::fs::read_to_string(format!("/proc/{}/status", fleet.agent(place)));
        let memory = memory.unwrap();
        let line = memory
            .lines()
            .find(|line| line.starts_with("VmHWM"))
            .unwrap();
        let kilobytes: u64 = line
            .split_ascii_whitespace()
            .nth(1)
            .unwrap()
            .parse()
            .unwrap();
        println!("agent {place}: {kilobytes} kB at most");
        assert!(kilobytes < 300_000, "{line}");
    }
}
