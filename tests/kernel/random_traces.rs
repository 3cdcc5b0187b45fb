//! Random policies and traces as real packets: what the kernel holds afterwards is what the model
//! says, grant by grant, opening by opening, source by source.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::Duration;

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use toctoc::automaton::{Automaton, Place, State};
use toctoc::firewall::{Iptables, Nft, run};
use toctoc::model::Model;
use toctoc::policy::Policy;
use toctoc::ruleset::iptables::{GrantList, Saved, change, lists_of};
use toctoc::ruleset::{Family, Grant, Progress, iptables, nftables};
use toctoc::trace::Packet;

use crate::random;
use crate::world::{Kind, World};

/// Each policy meets so many traces at once; the lists of iptables hold a hundred sources.
const TRACES: usize = 24;

/// So many policies on each firewall at least, and so many openings: agreement over traces in which
/// nothing happens would prove nothing.
const POLICIES: usize = 60;
const OPENINGS: u64 = 400;

fn the_kernel_does_what_the_model_says() {
    let world = World::bare();
    let seed = seed();
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let mut openings = 0;
    let mut round = 0;
    while round < POLICIES || openings < OPENINGS {
        round += 1;
        assert!(round < 10 * POLICIES, "only {openings} openings");
        let policy = timeless(random::policy().new_tree(&mut runner).unwrap().current());
        let traces: Vec<Vec<Packet>> = (0..TRACES)
            .map(|number| {
                own(
                    number,
                    random::trace().new_tree(&mut runner).unwrap().current(),
                )
            })
            .collect();
        let automaton = Automaton::build(policy.sequences());
        load(&world, &policy, &automaton);
        world.inject(|injector| {
            for trace in &traces {
                trace.iter().for_each(|packet| injector.packet(packet));
                // The receive backlog holds 1,000 frames; a busy machine is late to empty it.
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        let (grants, progress, opened) = held(&world, &policy, &automaton);

        let now = jiff::Timestamp::now().as_second();
        let mut model = Model::new(&policy, now);
        for packet in traces.iter().flatten() {
            model.packet(*packet);
        }
        let expected: BTreeSet<String> = model
            .grants(Duration::ZERO)
            .keys()
            .map(|h| format!("{} {} {}", h.source, policy.door(h.door).name, h.once))
            .collect();
        let found: BTreeSet<String> = grants
            .iter()
            .map(|grant| {
                let mut doors = policy.doors.iter().map(|door| &door.name);
                let door = doors.find(|name| name.id() == grant.door).unwrap();
                format!("{} {door} {}", grant.source, grant.once)
            })
            .collect();
        let midway: BTreeMap<IpAddr, usize> = progress
            .iter()
            .filter_map(|p| match automaton.place(State(p.state)) {
                Some(Place::Midway { knocks, .. }) => Some((p.source, *knocks)),
                _ => None,
            })
            .collect();
        let same = found == expected
            && midway == model.progress(Duration::ZERO)
            && opened == model.opened();
        if !same {
            let mut told = String::new();
            for packet in traces.iter().flatten() {
                let _ = writeln!(told, "{packet}");
            }
            panic!(
                "policy {round}: {policy:#?}\n{told}\n\
                 grants {found:?}\nexpected {expected:?}\nmidway {midway:?}\nexpected {:?}\n\
                 opened {opened:?} expected {:?}",
                model.progress(Duration::ZERO),
                model.opened()
            );
        }
        openings += opened.iter().sum::<u64>();
    }
}

/// `SEED`, as a failed run prints it, or another for each run.
fn seed() -> [u8; 32] {
    let number = match std::env::var("SEED") {
        Ok(text) => text.parse().unwrap(),
        Err(_) => std::process::id() ^ jiff::Timestamp::now().as_nanosecond() as u32,
    };
    println!("SEED={number}");
    std::array::from_fn(|i| number.to_be_bytes()[i % 4] ^ i as u8)
}

/// Without times: the packets of a trace come as fast as they can be sent.
fn timeless(mut policy: Policy) -> Policy {
    policy.within = Duration::from_secs(300);
    for opening in policy.keys.iter_mut().flat_map(|key| &mut key.opens) {
        opening.open_for += Duration::from_secs(300);
    }
    policy
}

/// More steps of one source in a second than nftables has room for are forgotten (the README says so).
const STEPS: usize = 14;

/// A trace from sources of its own, all at time 0. Who is trusted everywhere stays out.
fn own(number: usize, trace: Vec<Packet>) -> Vec<Packet> {
    let number = u8::try_from(number).unwrap();
    let mut sent: BTreeMap<IpAddr, usize> = BTreeMap::new();
    let moved = trace.into_iter().filter_map(|packet| {
        let steps = sent.entry(packet.source).or_default();
        *steps += 1;
        if *steps > STEPS {
            return None;
        }
        let source = match packet.source {
            IpAddr::V4(v4) if v4.octets()[3] == 9 => return None,
            IpAddr::V4(v4) => IpAddr::from([10, 8, number, v4.octets()[3]]),
            IpAddr::V6(_) => IpAddr::from([0xfd00, 0, 0, 0, 0, 8, u16::from(number), 2]),
        };
        Some(Packet {
            at: Duration::ZERO,
            source,
            ..packet
        })
    });
    moved.collect()
}

/// Loads a policy that no file can say (few ports, in rows), where nothing is kept.
fn load(world: &World, policy: &Policy, automaton: &Automaton) {
    if world.kind == Kind::Nftables {
        world.nft(&nftables::render(policy, automaton).standalone());
        return;
    }
    for (family, program) in [(Family::V4, "iptables"), (Family::V6, "ip6tables")] {
        let program = variant(world, program);
        let server = &world.lab.server;
        let save = [&format!("{program}-save")[..], "-c"];
        let saved = server.inside(|| run(&save, "")).unwrap().unwrap().stdout;
        let before = Saved::parse(&saved).unwrap();
        let gone = change(&before, &iptables::Wanted::default());
        let script = iptables::render(policy, automaton, family, &[]).to_string();
        for text in [gone, script] {
            let restore = [&format!("{program}-restore")[..], "--noflush"];
            let ended = server.inside(|| run(&restore, &text)).unwrap().unwrap();
            assert!(ended.succeeded(), "{}\n{text}", ended.stderr);
        }
    }
}

fn variant(world: &World, program: &str) -> String {
    match world.kind {
        Kind::IptablesLegacy => format!("{program}-legacy"),
        _ => format!("{program}-nft"),
    }
}

/// The grants, the progress and the openings of each key that the kernel has.
fn held(
    world: &World,
    policy: &Policy,
    automaton: &Automaton,
) -> (Vec<Grant>, Vec<Progress>, Vec<u64>) {
    let server = &world.lab.server;
    if world.kind == Kind::Nftables {
        let listing = server
            .inside(|| Nft::default().list())
            .unwrap()
            .unwrap()
            .unwrap();
        let opened = policy
            .keys
            .iter()
            .map(|key| listing.opened_count(&key.name));
        return (listing.grants(), listing.progress(), opened.collect());
    }
    let lists = server.inside(Iptables::lists).unwrap().unwrap();
    let saved: Vec<Saved> = ["iptables", "ip6tables"]
        .iter()
        .map(|program| {
            let save = [&format!("{}-save", variant(world, program))[..], "-c"];
            Saved::parse(&server.inside(|| run(&save, "")).unwrap().unwrap().stdout).unwrap()
        })
        .collect();
    let own: BTreeSet<GrantList> = saved.iter().flat_map(lists_of).collect();
    assert!(lists.held().iter().all(|held| own.contains(&held.list)));
    let opened = policy.keys.iter().map(|key| {
        saved
            .iter()
            .map(|saved| iptables::opened_count(saved, &key.name))
            .sum()
    });
    (
        lists.grants(),
        lists.progress(policy, automaton),
        opened.collect(),
    )
}

on_every_firewall!(the_kernel_does_what_the_model_says);
