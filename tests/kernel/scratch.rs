//! Scratch sequences: each opens once, also after the table was made anew.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use toctoc::client::Door;
use toctoc::lab::{CLIENT, STRANGER};

use crate::inject::SYN;
use crate::world::World;

const PAPER: &str = r#"
[door.ssh]
ports = [22]

[key.paper]
opens = ["ssh"]
scratch = [[2387, 920, 18357], [7101, 640, 5223]]
"#;

const FIRST: [u16; 3] = [2387, 920, 18357];
const SECOND: [u16; 3] = [7101, 640, 5223];

fn guarded() -> World {
    let world = World::with(PAPER);
    world.listen(22);
    world
}

fn shut_again(world: &World, from: &str) {
    world.yes(&["close"]);
    assert_eq!(world.connect(from, 22), Door::Silent);
}

#[test]
fn a_scratch_sequence_opens_once() {
    let world = guarded();
    for (sequence, client) in [(SECOND, CLIENT[0]), (FIRST, CLIENT[1])] {
        assert_eq!(world.connect(client, 22), Door::Silent);
        world.knock(client, &sequence);
        assert_eq!(world.connect(client, 22), Door::Open);
    }
    for sequence in [FIRST, SECOND] {
        for source in [CLIENT[0], STRANGER[0], STRANGER[1]] {
            shut_again(&world, source);
            world.knock(source, &sequence);
            assert_eq!(world.connect(source, 22), Door::Silent);
        }
    }
    let status = world.status();
    assert_eq!(status["keys"][0]["opened"], 2);
    assert_eq!(status["matches_policy"], true);
}

/// Applies, a clean stop, somebody who flushes all, a cut after the last refill: used up stays used up,
/// and what was not used opens.
#[test]
fn what_was_used_up_stays_so() {
    let world = guarded();
    world.knock(CLIENT[0], &FIRST);
    assert_eq!(world.connect(CLIENT[0], 22), Door::Open);
    let reordered = PAPER.replace(
        "[[2387, 920, 18357], [7101, 640, 5223]]",
        "[[3000, 4001, 77], [7101, 640, 5223], [2387, 920, 18357]]",
    );
    let steps: [&dyn Fn(); 4] = [
        &|| {
            world.apply(&reordered);
        },
        &|| {
            world.yes(&["remove"]);
            world.yes(&["apply"]);
        },
        &|| {
            world.yes(&["refill"]);
            world.nft("flush ruleset\n");
            world.yes(&["apply"]);
        },
        &|| {
            world.nft("delete table inet toctoc\n");
            world.yes(&["apply"]);
        },
    ];
    for step in steps {
        step();
        first_is_used_up(&world);
    }
    second_opens(&world);
}

fn first_is_used_up(world: &World) {
    shut_again(world, STRANGER[0]);
    world.knock(STRANGER[0], &FIRST);
    assert_eq!(world.connect(STRANGER[0], 22), Door::Silent);
}

fn second_opens(world: &World) {
    world.knock(CLIENT[0], &SECOND);
    assert_eq!(world.connect(CLIENT[0], 22), Door::Open);
}

/// While the policy is taken away nothing is lost that is spent at the last moment.
#[test]
fn stopping_while_knocks_come_in_revives_nothing() {
    let sequences: Vec<[u16; 3]> = (0..60)
        .map(|n| [20_001 + 7 * n, 30_011 + 13 * n, 40_003 + 17 * n])
        .collect();
    let list: Vec<String> = sequences.iter().map(|s| format!("{s:?}")).collect();
    let policy = format!(
        "open_for = \"1h\"\n[door.ssh]\nports = [22]\n[key.paper]\nopens = [\"ssh\"]\nscratch = [{}]\n",
        list.join(", ")
    );
    let world = World::with(&policy);
    // A third of them is never sent.
    const SENT: usize = 40;
    let done = AtomicUsize::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            world.inject(|injector| {
                for (number, sequence) in sequences[..SENT].iter().enumerate() {
                    let source = Ipv4Addr::from(0x0a00_0001 + number as u32);
                    for port in sequence {
                        injector.tcp(source.into(), 40_001, *port, SYN);
                    }
                    done.store(number, Ordering::SeqCst);
                    thread::sleep(std::time::Duration::from_millis(10));
                }
            });
        });
        world.until("some are used up", || done.load(Ordering::SeqCst) > 10);
        world.yes(&["remove"]);
    });
    world.yes(&["apply"]);
    let state = std::fs::read_to_string(world.state_directory().join("state.json")).unwrap();
    let state: serde_json::Value = serde_json::from_str(&state).unwrap();
    let used_up = state["burnt"].as_array().unwrap().len();
    assert!((10..=SENT).contains(&used_up), "{used_up}");
    // Each sequence once more: those that opened before must not, the others must.
    world.inject(|injector| {
        for (number, sequence) in sequences.iter().enumerate() {
            let source = Ipv4Addr::from(0x0a01_0001 + number as u32);
            for port in sequence {
                injector.tcp(source.into(), 40_001, *port, SYN);
            }
        }
    });
    world.until("the others open", || {
        world.holders("ssh").len() >= 60 - used_up
    });
    assert_eq!(world.holders("ssh").len(), 60 - used_up);
}

/// A key that is renamed, or taken out and put back, has not got its sequences back.
#[test]
fn another_name_or_a_while_without_it_makes_nothing_new() {
    let world = guarded();
    world.knock(CLIENT[0], &FIRST);
    assert_eq!(world.connect(CLIENT[0], 22), Door::Open);
    let without = "[door.ssh]\nports = [22]\n";
    for policy in [
        PAPER.replace("key.paper", "key.paper2"),
        without.to_string(),
        PAPER.to_string(),
    ] {
        world.apply(&policy);
        assert_eq!(world.status()["matches_policy"], true);
        first_is_used_up(&world);
    }
    second_opens(&world);
}

/// Nobody knows any more which were used: none opens, and it is said.
#[test]
fn with_a_damaged_state_file_no_sequence_opens() {
    let world = guarded();
    world.knock(CLIENT[0], &FIRST);
    std::fs::write(world.state_directory().join("state.json"), "x").unwrap();
    world.nft("delete table inet toctoc\n");
    let output = world.toctoc(&["apply"]);
    let warned = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        warned.contains("all scratch sequences are taken as used up"),
        "{warned}"
    );
    for sequence in [FIRST, SECOND] {
        world.knock(STRANGER[0], &sequence);
        assert_eq!(world.connect(STRANGER[0], 22), Door::Silent);
    }
}

#[test]
fn a_flushed_memory_is_named_and_filled_again() {
    let world = guarded();
    world.knock(CLIENT[0], &FIRST);
    world.yes(&["refill"]);
    world.nft("flush set inet toctoc burnt\nflush set inet toctoc burning\n");
    let output = world.toctoc(&["status"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said.contains("has 1 scratch sequences less than were used up"),
        "{said}"
    );
    world.yes(&["refill"]);
    world.yes(&["status"]);
    shut_again(&world, STRANGER[0]);
    world.knock(STRANGER[0], &FIRST);
    assert_eq!(world.connect(STRANGER[0], 22), Door::Silent);
}

/// Before a reboot what opens once does not any more; other keys open as before.
#[test]
fn a_stop_leaves_other_keys_alone_and_a_refill_does_not_undo_it() {
    let world = World::with(&format!(
        "{PAPER}\n[key.yves]\nopens = [\"ssh\"]\nsequence = [443, 9000, 5]\n"
    ));
    world.listen(22);
    world.yes(&["refill", "--stop"]);
    world.knock(STRANGER[0], &FIRST);
    assert_eq!(world.connect(STRANGER[0], 22), Door::Silent);
    world.knock(CLIENT[0], &[443, 9000, 5]);
    assert_eq!(world.connect(CLIENT[0], 22), Door::Open);
    let output = world.toctoc(&["refill"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2));
    assert!(said.contains("`toctoc apply` starts it again"), "{said}");
    world.yes(&["apply"]);
    world.yes(&["close"]);
    world.knock(CLIENT[0], &FIRST);
    assert_eq!(world.connect(CLIENT[0], 22), Door::Open);
}

/// The way out is open whatever the disk says.
#[test]
fn remove_works_when_nothing_can_be_saved() {
    let world = guarded();
    std::fs::remove_dir_all(world.state_directory()).unwrap();
    std::fs::write(world.state_directory(), "no directory").unwrap();
    let output = world.toctoc(&["remove"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("could not be saved"), "{said}");
    assert!(said.contains("that could not be noted"), "{said}");
    assert_eq!(world.connect(STRANGER[0], 22), Door::Open);
}

/// A full sequence by two sources at the same moment.
#[test]
fn one_sequence_by_two_sources_at_once_lets_one_in() {
    let sequences: Vec<[u16; 2]> = (0..200)
        .map(|n| [20_001 + 7 * n, 40_003 + 17 * n])
        .collect();
    let list: Vec<String> = sequences.iter().map(|s| format!("{s:?}")).collect();
    let policy = format!(
        "open_for = \"1h\"\n[door.ssh]\nports = [22]\n[key.paper]\nopens = [\"ssh\"]\nscratch = [{}]\n",
        list.join(", ")
    );
    let world = World::with(&policy);
    let turn = AtomicUsize::new(0);
    thread::scope(|scope| {
        for side in 0..2_u32 {
            let (world, sequences, turn) = (&world, &sequences, &turn);
            scope.spawn(move || {
                world.inject(|injector| {
                    for (number, [first, last]) in sequences.iter().enumerate() {
                        let source = Ipv4Addr::from(0x0a00_0001 + (side << 16) + number as u32);
                        injector.tcp(source.into(), 40_001, *first, SYN);
                        turn.fetch_add(1, Ordering::SeqCst);
                        while turn.load(Ordering::SeqCst) < 2 * (number + 1) {
                            std::hint::spin_loop();
                        }
                        injector.tcp(source.into(), 40_001, *last, SYN);
                    }
                });
            });
        }
    });
    world.until("all are listed", || world.holders("ssh").len() >= 200);
    let mut holders: Vec<u32> = world
        .holders("ssh")
        .iter()
        .map(|(source, _)| u32::from(source.parse::<Ipv4Addr>().unwrap()) & 0xffff)
        .collect();
    holders.sort_unstable();
    assert_eq!(holders, (1..=200).collect::<Vec<u32>>());
}
