//! Apply when something is in its way: a table that somebody changed, a kill, traffic.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use toctoc::client::Door;
use toctoc::lab::{CLIENT, STRANGER};

use crate::inject::SYN;
use crate::lifecycle::{ANNA, TWO, left};
use crate::world::{SEQUENCE, World, YVES};

/// A table that somebody switched off guards nothing, whatever rules it holds.
#[test]
fn a_dormant_table_is_named_and_woken() {
    let world = World::with(TWO);
    world.listen(22);
    world.knock(STRANGER[0], &SEQUENCE);
    world.nft("add table inet toctoc { flags dormant\n}");
    assert_eq!(world.connect(CLIENT[0], 22), Door::Open);
    let status = world.status();
    assert_eq!(
        (&status["applied"], &status["matches_policy"]),
        (&false.into(), &false.into())
    );
    let said = String::from_utf8(world.toctoc(&["status"]).stdout).unwrap();
    assert!(said.contains("is dormant"), "{said}");
    world.yes(&["apply"]);
    assert_eq!(world.connect(CLIENT[0], 22), Door::Silent);
    assert_eq!(world.connect(STRANGER[0], 22), Door::Open);
    assert_eq!(world.status()["matches_policy"], true);
}

/// Whatever somebody did to our table, the next apply makes it whole.
#[test]
fn apply_heals_a_table_in_odd_shapes() {
    let world = World::bare();
    world.listen(22);
    for shape in [
        "table inet toctoc { }",
        "table inet toctoc { set grants4 { type ipv4_addr\n }\n}",
        "table inet toctoc { set grants4 { type ipv4_addr . classid; size 65536\n }\n}",
        "table inet toctoc { map grants4 { type ipv4_addr : classid\n }\n}",
        "table inet toctoc { set opened4 { type ipv4_addr . classid; flags timeout\n \
         elements = { 192.0.2.7 . 1:2 timeout 60s }\n }\n}",
        "table inet toctoc { set steps { type ipv4_addr; flags interval; elements = { 192.0.2.0/24 }\n }\n}",
        "table inet toctoc { chain knocks-tcp { type filter hook input priority 5; drop\n }\n}",
        "table inet toctoc { chain knocks-tcp { drop\n }\n}",
        "table inet toctoc { chain judge { type filter hook prerouting priority -1; counter\n }\n}",
        "table inet toctoc { counter opened-yves { packets 7 bytes 9\n }\n counter other { }\n}",
        "table inet toctoc { chain a { jump b\n }\n chain b { counter\n }\n \
         map m { type inet_service : verdict; elements = { 5 : goto a }\n }\n}",
    ] {
        world.nft(shape);
        world.apply(YVES);
        assert_eq!(world.status()["matches_policy"], true, "{shape}");
        assert_eq!(world.connect(CLIENT[0], 22), Door::Silent, "{shape}");
        world.knock(CLIENT[0], &SEQUENCE);
        assert_eq!(world.connect(CLIENT[0], 22), Door::Open, "{shape}");
        world.yes(&["remove"]);
    }
}

/// Killed at any point, an apply has happened or it has not: no half of it, no open door. (A script
/// this long does not fit into a pipe.)
#[test]
fn a_killed_apply_leaves_the_old_or_the_new() {
    let keys = |first: u32| {
        let mut policy = format!("open_for = \"5m\"\n{YVES}");
        for key in first..first + 100 {
            let (a, b) = (1000 + key, 60_000 - 7 * key);
            policy += &format!("[key.k{key}]\nopens = [\"ssh\"]\nsequence = [{a}, {b}, 7]\n");
        }
        policy
    };
    let policies = [keys(0), keys(100)];
    let world = World::with(&policies[0]);
    world.listen(22);
    world.knock(CLIENT[0], &SEQUENCE);
    let mut killed = 0;
    for round in 0..16u64 {
        std::fs::write(world.path(), &policies[(round % 2) as usize]).unwrap();
        let mut apply =
            crate::world::start_command(&world.lab.server, world.toctoc_command(&["apply"]));
        thread::sleep(std::time::Duration::from_millis(20 + round * 12));
        killed += u32::from(apply.0.try_wait().unwrap().is_none());
        drop(apply);
        assert_eq!(
            world.connect(STRANGER[0], 22),
            Door::Silent,
            "round {round}"
        );
        // Killed after its transaction, it has not noted that this is what was applied now.
        let _ = std::fs::remove_dir_all(world.state_directory());
        let whole = policies.iter().any(|policy| {
            std::fs::write(world.path(), policy).unwrap();
            // nft may still be at work on what it was given whole.
            (0..20).any(|_| world.status()["matches_policy"] == true)
        });
        assert!(whole, "round {round}: neither the one nor the other");
        assert_eq!(world.holders("ssh").len(), 1, "round {round}");
    }
    assert!(killed > 0, "only {killed} were killed in time");
}

/// Under a constant stream of strangers' SYNs to the door, applies of changing policies let not one
/// through, and a grant that is there is used all the time. Grants end when they were to end, to the
/// second.
fn no_stranger_gets_through_while_applying() {
    let world = World::with(TWO);
    world.yes(&["open", "ssh", CLIENT[0], "--for", "1h"]);
    world.knock(STRANGER[0], &SEQUENCE);
    let start = Instant::now();
    let granted = left(&world);
    assert_eq!(granted.len(), 2, "{granted:?}");
    let keep_their_deadlines = |round: u32| {
        let earliest = start.elapsed().as_millis() as u64;
        let now = left(&world);
        let latest = start.elapsed().as_millis() as u64;
        assert_eq!(now.len(), 2, "round {round}: {now:?}");
        for ((who, first), (same, left)) in granted.iter().zip(&now) {
            assert_eq!(who, same);
            let in_time = first - 1000..=first + 1000;
            assert!(
                in_time.contains(&(left + earliest)) || in_time.contains(&(left + latest)),
                "round {round}: {who} was to end in {first} ms, and {latest} ms later in {left} ms"
            );
        }
    };
    let rounds = applies(&world);
    while_strangers_and_a_guest_come(&world, || {
        for round in 0..rounds {
            let policy = match round % 4 {
                0 => TWO.to_string(),
                1 => YVES.to_string(),
                2 => format!("ignore = [80]\n{TWO}[door.other]\nports = [99, \"98/udp\"]\n"),
                _ => TWO.replace("[443,", "[441, 442,"),
            };
            world.apply(&policy);
            if round % 8 == 7 {
                keep_their_deadlines(round);
            }
        }
    });
    keep_their_deadlines(rounds);
}

/// The number of times that a policy is applied: 80; with iptables, which takes longer, 16 times. `APPLIES` says
/// otherwise.
fn applies(world: &World) -> u32 {
    let usual = if world.is_nftables() { 80 } else { 16 };
    std::env::var("APPLIES").map_or(usual, |number| number.parse().unwrap())
}

/// A key that is taken away while it is being used leaves nothing open.
fn a_key_taken_away_while_it_knocks_leaves_no_grant() {
    let world = World::with(TWO);
    let without_anna = &TWO[..TWO.find("[key.anna]").unwrap()];
    let stop = AtomicBool::new(false);
    let mut knocked = 0u32;
    thread::scope(|scope| {
        scope.spawn(|| {
            world.inject(|injector| {
                while !stop.load(Ordering::Relaxed) {
                    knocked += 1;
                    let source = Ipv4Addr::from(0x0a00_0000 + knocked % 5_000);
                    for port in ANNA {
                        injector.tcp(source.into(), 40_000, port, SYN);
                    }
                    thread::sleep(std::time::Duration::from_micros(300));
                }
            });
        });
        let _stop = Stop(&stop);
        for _ in 0..5 {
            world.apply(TWO);
            world.until("anna is in", || !world.nobody_is_in());
            world.apply(without_anna);
            assert!(world.nobody_is_in());
        }
    });
    assert!(knocked > 500, "only {knocked} knocked");
}

/// Grants that are given while an apply reads the kernel are kept: none may look ownerless because
/// its owner was listed a moment before.
fn grants_given_during_an_apply_are_kept() {
    let world = World::with(TWO);
    let stop = AtomicBool::new(false);
    let mut knocked = 0u32;
    thread::scope(|scope| {
        scope.spawn(|| {
            world.inject(|injector| {
                while !stop.load(Ordering::Relaxed) && knocked < 2_000 {
                    let source = Ipv4Addr::from(0x0a00_0000 + knocked);
                    knocked += 1;
                    // Twice: an apply forgets progress, and with it a knock now and then.
                    for port in [ANNA, ANNA].concat() {
                        injector.tcp(source.into(), 40_000, port, SYN);
                    }
                    thread::sleep(std::time::Duration::from_micros(200));
                }
            });
        });
        let _stop = Stop(&stop);
        for _ in 0..10 {
            let said = world.apply(TWO);
            assert!(
                !said.contains("ended") || said.contains(" 0 ended"),
                "{said}"
            );
        }
    });
    assert!(knocked > 500, "only {knocked} knocked");
}

/// An nft that waits before it loads something until it is let go.
struct SlowNft(tempfile::TempDir);

impl SlowNft {
    fn new(world: &World) -> SlowNft {
        let directory = tempfile::tempdir().unwrap();
        let there = world.command("sh").args(["-c", "command -v nft"]).output();
        let there = String::from_utf8(there.unwrap().stdout).unwrap();
        let (here, there) = (directory.path().display(), there.trim());
        // Where there is no table the same script is loaded only to be compared with.
        let script = format!(
            "#!/bin/sh\nif [ \"$1\" = -f ] && {there} list tables | grep -q toctoc; then\n\
             touch {here}/waits\nwhile [ ! -e {here}/go ]; do sleep 0.02; done\nfi\n\
             exec {there} \"$@\"\n"
        );
        let path = directory.path().join("nft");
        std::fs::write(&path, script).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        SlowNft(directory)
    }

    /// Starts to apply a policy, and waits until the listing is done and nft is to load.
    fn start(&self, world: &World, policy: &str) -> Child {
        let here = self.0.path();
        std::fs::write(world.path(), policy).unwrap();
        let mut command = world.command(env!("CARGO_BIN_EXE_toctoc"));
        let path = format!("{}:{}", here.display(), std::env::var("PATH").unwrap());
        command.arg("apply").arg(world.path()).env("PATH", path);
        command.stdout(Stdio::piped());
        let child = world.lab.server.inside(|| command.spawn().unwrap());
        world.until("nft waits", || here.join("waits").exists());
        child.unwrap()
    }

    fn go(&self) {
        std::fs::write(self.0.path().join("go"), "").unwrap();
    }

    /// Applies a policy; in between listing and commit something happens.
    fn apply(&self, world: &World, policy: &str, meanwhile: impl FnOnce()) -> String {
        let child = self.start(world, policy);
        meanwhile();
        self.go();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    }
}

/// A program that is killed leaves the lock to the nft that still works for it, and to nobody else.
#[test]
fn the_lock_is_held_until_the_nft_of_a_killed_apply_ends() {
    let world = World::with(YVES);
    let slow = SlowNft::new(&world);
    let mut killed = slow.start(&world, TWO);
    killed.kill().unwrap();
    killed.wait().unwrap();
    let later = YVES.replace("[443,", "[441,");
    thread::scope(|scope| {
        let next = scope.spawn(|| world.apply(&later));
        thread::sleep(Duration::from_millis(1500));
        assert!(!next.is_finished());
        slow.go();
        next.join().unwrap();
    });
    // It came last, and it holds.
    assert_eq!(world.status()["matches_policy"], true);
    assert_eq!(world.status()["doors"].as_array().unwrap().len(), 1);
    world.apply(TWO);
}

/// A grant for one connection that is used up while an apply makes its set anew does not come back.
#[test]
fn a_grant_spent_during_an_apply_does_not_come_back() {
    let policy = YVES.replace("50]", "50]\nonce = true");
    let world = World::with(&policy);
    world.listen(22);
    for (client, stranger) in CLIENT.into_iter().zip(STRANGER) {
        world.apply(&policy);
        // A busy machine may drop or turn round a knock.
        world.until("both are in", || {
            world.knock(client, &SEQUENCE);
            world.knock(stranger, &SEQUENCE);
            world.holders("ssh").len() == 2
        });
        let changed = format!("max_sources = 300\n{policy}");
        let said = SlowNft::new(&world).apply(&world, &changed, || {
            assert_eq!(world.connect(client, 22), Door::Open);
        });
        assert!(
            said.contains("2 live grants for one connection ended"),
            "{said}"
        );
        assert_eq!(world.connect(client, 22), Door::Silent);
        assert_eq!(world.connect(stranger, 22), Door::Silent);
        world.knock(stranger, &SEQUENCE);
        assert_eq!(world.connect(stranger, 22), Door::Open);
    }
}

/// However long a commit takes: what is carried over has no more time than it had, and what has
/// ended meanwhile has ended.
#[test]
fn a_slow_apply_prolongs_no_grant() {
    let world = World::with(TWO);
    world.listen(22);
    world.yes(&["open", "ssh", CLIENT[0], "--for", "60s"]);
    world.yes(&["open", "ssh", STRANGER[0], "--for", "5s"]);
    let start = Instant::now();
    let before = left(&world);
    SlowNft::new(&world).apply(&world, &format!("max_sources = 300\n{TWO}"), || {
        thread::sleep(Duration::from_secs(6));
    });
    let passed = start.elapsed().as_millis() as u64;
    let after = left(&world);
    assert_eq!(after.len(), 1, "{after:?}");
    assert_eq!(after[0].0, before[0].0);
    assert!(
        after[0].1 + passed <= before[0].1 + 200,
        "{before:?}, {after:?} {passed} ms later"
    );
    assert!(after[0].1 + passed > before[0].1 - 20_000);
    assert_eq!(world.connect(CLIENT[0], 22), Door::Open);
    assert_eq!(world.connect(STRANGER[0], 22), Door::Silent);
}

/// Does something while SYNs come to port 22 as fast as they can be sent: of strangers, IPv4 and IPv6 in
/// turn, not one of which may get through, and now and then of the client, which must.
pub fn while_strangers_and_a_guest_come(world: &World, work: impl FnOnce()) {
    seen_at(world, "prerouting priority -299", work);
}

/// The same, with packets counted at this hook.
pub fn seen_at(world: &World, hook: &str, work: impl FnOnce()) {
    world.nft(&format!(
        "table inet beside {{ counter seen {{ }}\n counter guest {{ }}\n chain c {{ \
         type filter hook {hook}; \
         ip saddr 10.0.0.0/8 tcp dport 22 counter name seen\n \
         ip6 saddr 2001:db8:a::/48 tcp dport 22 counter name seen\n \
         ip saddr 192.0.2.7 tcp dport 22 counter name guest\n}}\n}}",
    ));
    let stop = AtomicBool::new(false);
    let (mut strangers, mut guests) = (0u32, 0u64);
    thread::scope(|scope| {
        scope.spawn(|| {
            world.inject(|injector| {
                let guest = CLIENT[0].parse().unwrap();
                while !stop.load(Ordering::Relaxed) {
                    for _ in 0..1000 {
                        strangers += 1;
                        let number = strangers % 60_000;
                        let source = match strangers % 2 {
                            0 => Ipv4Addr::from(0x0a00_0000 + number).into(),
                            _ => {
                                Ipv6Addr::new(0x2001, 0xdb8, 0xa, 0, 0, 0, 0, number as u16).into()
                            }
                        };
                        injector.tcp(source, 40_000, 22, SYN);
                    }
                    guests += 1;
                    injector.tcp(guest, 40_000, 22, SYN);
                }
            });
        });
        // Also when an apply fails: the stream must not go on for ever.
        let _stop = Stop(&stop);
        work();
    });
    assert!(strangers > 50_000, "only {strangers} SYNs were sent");
    assert_eq!(world.counted("seen"), 0, "of {strangers}");
    // The receive backlog drops a few of such a stream before any rule sees them.
    let guest = world.counted("guest");
    assert!(guest * 10 >= guests * 9, "{guest} of {guests}");
}

/// Ends a stream of packets when it goes out of scope.
pub struct Stop<'s>(pub &'s AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

on_every_firewall!(
    no_stranger_gets_through_while_applying,
    a_key_taken_away_while_it_knocks_leaves_no_grant,
    grants_given_during_an_apply_are_kept,
);
