//! Tokens: each opens once, for whoever sends it first, whatever happens to the table in between.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use toctoc::client::Door;
use toctoc::firewall::tokens::{clocks, refill};
use toctoc::firewall::{Firewall, StateFile};
use toctoc::lab::{CLIENT, STRANGER};
use toctoc::policy::load::load;
use toctoc::policy::{Host, Policy};
use toctoc::single_use::journal::Clocks;
use toctoc::single_use::{Journal, Secret, Token, Window, token};

use crate::apply_under_stress::Stop;
use crate::world::{World, on};

const PORT: u16 = 40_123;
const SECRET: &str = "5dc2a1f0b7e46983175c2f8e90ab3d64c8f10e7755a92b6d13f4e8c07a9b2d61";
const OTHER: &str = "e1907a5c3b8d24f6ea7710c95d3f6b82490c1e6d7fa3558b2096d4c7e8f13a0b";

pub const ALICE: &str = r#"
token_port = 40123

[door.ssh]
ports = [22]

[key.alice]
opens = ["ssh"]
token = "alice.secret"
open_for = "1h"
"#;

fn secret(text: &str) -> Secret {
    Secret::parse(text).unwrap()
}

fn now() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs() as i64
}

/// A token that is loaded whatever came before: of a window in a few minutes.
fn good(number: u32) -> Token {
    token(
        &secret(SECRET),
        Window(Window::at(now()).0 + 3 + u64::from(number / 4)),
        number % 4,
    )
}

/// Alice's policy, applied for the first time.
fn guarded() -> World {
    guarded_by(ALICE)
}

fn guarded_by(policy: &str) -> World {
    let world = World::bare();
    world.private_file("alice.secret", SECRET);
    world.apply(policy);
    world.listen(22);
    world
}

/// The same after a clean stop: the tokens of this minute are good too.
fn guarded_without_a_wait() -> World {
    let world = World::bare();
    let (mut journal, _) = Journal::go_on(None, None, 1, clocks());
    journal.clean = true;
    journal.barred = None;
    StateFile::within(world.state_directory())
        .write(&journal)
        .unwrap();
    world.private_file("alice.secret", SECRET);
    let said = world.apply(ALICE);
    assert!(said.contains("loaded 145"), "{said}");
    assert!(!said.contains("tokens open from"), "{said}");
    world.listen(22);
    world
}

impl World {
    fn send(&self, from: &str, payload: &[u8]) {
        let from = from.parse().unwrap();
        self.inject(|injector| injector.datagram(from, 4000, PORT, payload));
    }

    fn policy(&self) -> Policy {
        load(&self.path(), &Host::default()).unwrap()
    }

    /// `toctoc refill` with clocks that are set by hand.
    fn refill_at(&self, clocks: Clocks) -> toctoc::firewall::tokens::Refilled {
        let firewall = Firewall {
            state: StateFile::within(self.state_directory()),
            ..Firewall::default()
        };
        let policy = self.policy();
        let done = self
            .lab
            .server
            .inside(|| refill(&firewall, &policy, clocks));
        done.unwrap().unwrap()
    }

    fn profile(&self, text: &str) -> String {
        let path = self.private_file("phone.toml", text);
        path.display().to_string()
    }
}

fn with_padding(token: Token, padding: usize) -> Vec<u8> {
    [&token.0[..], &vec![7; padding]].concat()
}

#[test]
fn a_token_opens_once_and_only_for_who_sent_it() {
    let world = guarded();
    for (number, family) in [0, 1].into_iter().enumerate() {
        let (client, stranger) = (CLIENT[family], STRANGER[family]);
        assert_eq!(world.connect(client, 22), Door::Silent);
        let datagram = with_padding(good(number as u32), 64 * family);
        world.send(client, &datagram);
        assert_eq!(world.connect(client, 22), Door::Open);
        // Who has recorded it has nothing.
        world.send(stranger, &datagram);
        world.send(stranger, &datagram[..16]);
        assert_eq!(world.connect(stranger, 22), Door::Silent);
    }
    let holders = world.holders("ssh");
    assert_eq!(holders.len(), 2);
    assert!(
        holders
            .iter()
            .all(|(_, key)| key.as_deref() == Some("alice"))
    );
    assert_eq!(world.status()["keys"][0]["opened"], 2);
    // Who is in may send it again; it is not counted.
    world.send(CLIENT[0], &good(0).0);
    assert_eq!(world.status()["keys"][0]["opened"], 2);
}

/// Whatever loads it: a refill that was slow, or an administrator's script.
#[test]
fn a_spent_token_that_is_loaded_again_opens_nothing() {
    let world = guarded();
    world.send(CLIENT[0], &good(0).0);
    assert_eq!(world.connect(CLIENT[0], 22), Door::Open);
    let (spent, id) = (good(0).hex(), secret(SECRET).id());
    let (high, low) = (id >> 16, id & 0xffff);
    world.nft(&format!(
        "add element inet toctoc tokens {{ 0x{spent} timeout 1h : {high:x}:{low:x} }}\n"
    ));
    for _ in 0..3 {
        world.send(STRANGER[0], &good(0).0);
        assert_eq!(world.connect(STRANGER[0], 22), Door::Silent);
    }
    world.yes(&["refill"]);
    world.send(STRANGER[0], &good(1).0);
    assert_eq!(world.connect(STRANGER[0], 22), Door::Open);
}

#[test]
fn what_is_no_token_opens_nothing() {
    let world = guarded();
    let life = world.server(&["nft", "-j", "list", "set", "inet", "toctoc", "spent"]);
    let life = life.split("0x").nth(1).unwrap()[..32].to_string();
    let windows = |away: i64| {
        let window = Window(Window::at(now()).0.wrapping_add_signed(away));
        token(&secret(SECRET), window, 0)
    };
    let late = token(&secret(SECRET), Window(Window::at(now()).0 - 3), 0);
    for wrong in [
        &good(0).0[..15],
        &[],
        &[0; 16],
        &Token::from_hex(&life).unwrap().0,
        &[&[0], &good(0).0[..]].concat(),
        &good(0).hex().into_bytes(),
        &token(&secret(OTHER), Window(Window::at(now()).0 + 3), 0).0,
        &late.0,
        &windows(1441).0,
    ] {
        world.send(STRANGER[0], wrong);
        assert_eq!(world.connect(STRANGER[0], 22), Door::Silent, "{wrong:?}");
    }
    // The right one, at another port, over TCP's number, or to nobody.
    let stranger: IpAddr = STRANGER[0].parse().unwrap();
    world.inject(|injector| {
        injector.datagram(stranger, 4000, PORT + 1, &good(0).0);
        injector.datagram(stranger, PORT, 22, &good(0).0);
    });
    assert_eq!(world.connect(STRANGER[0], 22), Door::Silent);
    assert!(world.nobody_is_in());
    world.send(CLIENT[0], &good(0).0);
    assert_eq!(world.connect(CLIENT[0], 22), Door::Open);
}

/// Nothing answers, and no connection tracking is spent on what comes to the port.
#[test]
fn the_port_for_tokens_is_silent_and_keeps_no_state() {
    let world = guarded();
    let socket = world
        .lab
        .client
        .inside(|| UdpSocket::bind((CLIENT[0], 0)))
        .unwrap()
        .unwrap();
    socket.connect(("192.0.2.1", PORT)).unwrap();
    socket.set_read_timeout(Some(crate::world::SHUT)).unwrap();
    for payload in [&[1; 16][..], &good(0).0, &[2; 80]] {
        socket.send(payload).unwrap();
        let error = socket.recv(&mut [0; 9]).unwrap_err();
        // A closed port refuses, see below.
        assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
    }
    let tracked = world.server(&["cat", "/proc/sys/net/netfilter/nf_conntrack_count"]);
    assert_eq!(tracked.trim(), "0");
    socket.connect(("192.0.2.1", PORT + 1)).unwrap();
    socket.send(&[1; 16]).unwrap();
    let error = socket.recv(&mut [0; 9]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
}

#[test]
fn a_hundred_thousand_wrong_tokens_open_nothing_and_leave_nothing() {
    let world = guarded();
    let listed = |kind: &str, name: &str| {
        let text = world.server(&["nft", "list", kind, "inet", "toctoc", name]);
        text.matches("0x").count()
    };
    let before = (listed("map", "tokens"), listed("set", "spent"));
    world.inject(|injector| {
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        for number in 0..100_000_u32 {
            let mut payload = [0; 16];
            for byte in &mut payload {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                *byte = state as u8;
            }
            let source = Ipv4Addr::from(0x0a00_0000 + number);
            injector.datagram(source.into(), 4000, PORT, &payload);
        }
    });
    assert_eq!((listed("map", "tokens"), listed("set", "spent")), before);
    let status = world.status();
    assert_eq!(status["keys"][0]["opened"], 0);
    assert!(status["progress"].as_array().unwrap().is_empty() && world.nobody_is_in());
    world.send(CLIENT[0], &good(0).0);
    assert_eq!(world.connect(CLIENT[0], 22), Door::Open);
}

/// Two senders, two processors: the kernel lets the first one in, and nobody else.
#[test]
fn one_token_from_two_addresses_at_once_lets_one_in() {
    let world = guarded();
    const TOKENS: u32 = 600;
    let tokens: Vec<Token> = (0..TOKENS).map(good).collect();
    let turn = AtomicUsize::new(0);
    thread::scope(|scope| {
        for side in 0..2_u32 {
            let (world, tokens, turn) = (&world, &tokens, &turn);
            scope.spawn(move || {
                world.inject(|injector| {
                    for (number, token) in tokens.iter().enumerate() {
                        let source = Ipv4Addr::from(0x0a00_0000 + (side << 16) + number as u32);
                        turn.fetch_add(1, Ordering::SeqCst);
                        while turn.load(Ordering::SeqCst) < 2 * (number + 1) {
                            std::hint::spin_loop();
                        }
                        injector.datagram(source.into(), 4000, PORT, &token.0);
                    }
                });
            });
        }
    });
    // A set that has just been filled is listed with gaps for a moment.
    world.until("all are listed", || {
        world.holders("ssh").len() >= TOKENS as usize
    });
    let mut each: BTreeMap<u32, u32> = BTreeMap::new();
    let mut sides = [0; 2];
    for (source, _) in world.holders("ssh") {
        let source = u32::from(source.parse::<Ipv4Addr>().unwrap());
        *each.entry(source & 0xffff).or_default() += 1;
        sides[usize::from(source & 0x1_0000 != 0)] += 1;
    }
    assert_eq!(each.len() as u32, TOKENS);
    assert!(each.values().all(|&holders| holders == 1));
    println!("of {TOKENS} tokens, {sides:?} opened for the one and the other");
}

/// 20 of 20: a client goes on to its next token when one is lost.
#[test]
fn tokens_open_in_a_flood_of_datagrams() {
    let world = guarded();
    let stop = AtomicBool::new(false);
    let sent = AtomicUsize::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            world.inject(|injector| {
                let start = std::time::Instant::now();
                let mut number = 0_u32;
                while !stop.load(Ordering::Relaxed) {
                    if f64::from(number) > start.elapsed().as_secs_f64() * 100_000.0 {
                        thread::sleep(Duration::from_micros(500));
                        continue;
                    }
                    for _ in 0..100 {
                        number += 1;
                        let source = Ipv4Addr::from(0x0b00_0000 + number % 0x00ff_ffff);
                        let payload = [number.to_be_bytes(); 4].concat();
                        injector.datagram(source.into(), 4000, PORT, &payload);
                    }
                    sent.store(number as usize, Ordering::Relaxed);
                }
            });
        });
        let _stop = Stop(&stop);
        world.until("the flood has begun", || {
            sent.load(Ordering::Relaxed) > 5000
        });
        for client in 0..20_u32 {
            let source = Ipv4Addr::from(0x0a00_0001 + client);
            let opened = |attempt: u32| {
                let token = good(4 * client + attempt);
                world.inject(|injector| injector.datagram(source.into(), 4000, PORT, &token.0));
                world
                    .holders("ssh")
                    .iter()
                    .any(|(holder, _)| *holder == source.to_string())
            };
            assert!((0..4).any(opened), "client {client}");
        }
    });
    assert_eq!(world.holders("ssh").len(), 20);
    let sent = sent.load(Ordering::Relaxed);
    println!("{sent} datagrams meanwhile");
    assert!(sent >= 20_000, "only {sent} datagrams were sent");
}

/// Tokens are spent, and sent again, while the policy is applied and tokens are refilled: none opens a
/// second time, none is lost.
#[test]
fn applies_and_refills_while_tokens_are_spent_lose_none_and_revive_none() {
    let world = guarded();
    let changed = format!("ignore = [80]\n{ALICE}");
    let times: u32 = std::env::var("APPLIES").map_or(200, |number| number.parse().unwrap());
    let stop = AtomicBool::new(false);
    let spent = AtomicUsize::new(0);
    // Far enough ahead that none ends meanwhile, and within the horizon.
    let base = Window::at(now()).0 + 30;
    let of = |number: usize| {
        token(
            &secret(SECRET),
            Window(base + number as u64 / 4),
            (number % 4) as u32,
        )
    };
    let source =
        |number: usize, replay: u32| Ipv4Addr::from(0x0a00_0000 + (replay << 16) + number as u32);
    thread::scope(|scope| {
        scope.spawn(|| {
            world.inject(|injector| {
                for number in 0..1200 {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    injector.datagram(source(number, 0).into(), 4000, PORT, &of(number).0);
                    for old in [number, number / 2, number / 3] {
                        injector.datagram(source(old, 1).into(), 4000, PORT, &of(old).0);
                    }
                    spent.store(number + 1, Ordering::Relaxed);
                    // Spread over the whole time: what is sent after the last apply shows less.
                    thread::sleep(Duration::from_millis(40));
                }
            });
        });
        let _stop = Stop(&stop);
        let mut dice = 7_u32;
        for _ in 0..times {
            dice = dice.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            match dice >> 30 {
                0 | 1 => world.yes(&["refill"]),
                2 => world.apply(ALICE),
                _ => world.apply(&changed),
            };
        }
    });
    let spent = spent.load(Ordering::Relaxed);
    assert!(spent > 100, "{spent}");
    world.until("all are listed", || world.holders("ssh").len() >= spent);
    let mut holders: Vec<u32> = world
        .holders("ssh")
        .iter()
        .map(|(source, _)| u32::from(source.parse::<Ipv4Addr>().unwrap()))
        .collect();
    holders.sort_unstable();
    let wanted: Vec<u32> = (0..spent)
        .map(|number| u32::from(source(number, 0)))
        .collect();
    assert_eq!(holders, wanted);
    println!("{spent} tokens were spent during {times} applies and refills");
}

#[test]
fn a_clean_stop_and_a_start_lose_no_token_and_revive_none() {
    let world = guarded_without_a_wait();
    let current = token(&secret(SECRET), Window::at(now()), 0);
    world.send(CLIENT[0], &current.0);
    world.send(CLIENT[1], &good(0).0);
    assert_eq!(world.connect(CLIENT[0], 22), Door::Open);
    world.yes(&["remove"]);
    let state = std::fs::read_to_string(world.state_directory().join("state.json")).unwrap();
    assert!(
        state.contains("\"clean\":true") && state.contains(&current.hex()),
        "{state}"
    );
    assert!(!state.contains(SECRET));
    let said = world.yes(&["apply"]);
    assert!(!said.contains("tokens open from"), "{said}");
    for spent in [current, good(0)] {
        world.send(STRANGER[0], &spent.0);
        assert_eq!(world.connect(STRANGER[0], 22), Door::Silent);
    }
    let next = token(&secret(SECRET), Window::at(now()), 1);
    world.send(CLIENT[0], &next.0);
    assert_eq!(world.connect(CLIENT[0], 22), Door::Open);
}

/// Somebody has taken the table away, or the power was cut: what was spent last is not known.
#[test]
fn after_an_unclean_stop_no_window_that_clients_have_used_opens() {
    for damage in ["the table", "the spent ones", "the file", "the text"] {
        let world = guarded_without_a_wait();
        let minute = Window::at(now());
        let used = token(&secret(SECRET), minute, 0);
        world.send(CLIENT[0], &used.0);
        let file = world.state_directory().join("state.json");
        match damage {
            "the table" => world.nft("delete table inet toctoc\n"),
            "the spent ones" => world.nft("flush set inet toctoc spent\n"),
            "the file" => std::fs::remove_file(file).unwrap(),
            _ => std::fs::write(file, "{\"version\": 1").unwrap(),
        }
        let output = world.toctoc(&["apply"]);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(said.contains("; tokens open from 2"), "{damage}: {said}");
        let warned = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(
            warned.contains("as after a power cut"),
            damage.starts_with("the f") || damage == "the text",
            "{warned}"
        );
        world.yes(&["close"]);
        for window in [minute.0, minute.0 + 1] {
            for number in 0..4 {
                let token = token(&secret(SECRET), Window(window), number);
                world.send(STRANGER[0], &token.0);
            }
        }
        assert_eq!(world.connect(STRANGER[0], 22), Door::Silent, "{damage}");
        world.send(CLIENT[0], &good(1).0);
        assert_eq!(world.connect(CLIENT[0], 22), Door::Open, "{damage}");
    }
}

/// Somebody has saved the whole ruleset, and loads it again when tokens have been spent.
#[test]
fn a_ruleset_that_was_saved_and_loaded_again_revives_no_token() {
    let world = guarded_without_a_wait();
    let saved = world.server(&["nft", "list", "ruleset"]);
    world.send(CLIENT[0], &good(0).0);
    let current = token(&secret(SECRET), Window::at(now()), 0);
    world.send(CLIENT[0], &current.0);
    world.yes(&["refill"]);
    world.nft(&format!("flush ruleset\n{saved}"));
    let said = world.yes(&["apply"]);
    assert!(said.contains("; tokens open from 2"), "{said}");
    for spent in [good(0), current] {
        world.send(STRANGER[0], &spent.0);
        assert_eq!(world.connect(STRANGER[0], 22), Door::Silent);
    }
    world.send(CLIENT[0], &good(1).0);
    assert_eq!(world.connect(CLIENT[0], 22), Door::Open);
}

/// The right windows are there an hour later, after a clock that was wrong, and after hours without a
/// refill; and not what was spent.
#[test]
fn refills_follow_the_clock() {
    let world = guarded();
    let began = clocks();
    let spent = good(0);
    world.send(CLIENT[0], &spent.0);
    world.yes(&["close"]);
    // The machine's own clock goes on meanwhile, or does not.
    for (seconds, since_start) in [
        (3600, 3600),
        (9 * 3600, 9 * 3600),
        (-3600, 60),
        (7200, 120),
        (200, 200),
    ] {
        let clocks = Clocks {
            now: began.now + seconds,
            since_start: began.since_start + Duration::from_secs(since_start),
        };
        world.refill_at(clocks);
        assert_eq!(world.refill_at(clocks).added, 0);
        let minute = Window::at(clocks.now).0;
        for (away, door) in [
            (3, Door::Open),
            (359, Door::Open),
            (361, Door::Silent),
            (-4, Door::Silent),
        ] {
            let token = token(&secret(SECRET), Window(minute.wrapping_add_signed(away)), 2);
            world.send(STRANGER[0], &token.0);
            assert_eq!(
                world.connect(STRANGER[0], 22),
                door,
                "{seconds} s, window {away}"
            );
            world.yes(&["close"]);
        }
        world.send(STRANGER[0], &spent.0);
        assert_eq!(world.connect(STRANGER[0], 22), Door::Silent);
    }
}

#[test]
fn status_says_how_long_tokens_last_and_warns() {
    let world = guarded();
    let said = world.yes(&["status"]);
    assert!(
        said.contains("alice        never opened, tokens for 6h"),
        "{said}"
    );
    assert!(!said.contains(&good(0).hex()) && !said.contains(SECRET));
    // What an hour's refill leaves is less than a quarter of six.
    let text = std::fs::read_to_string(world.path()).unwrap();
    std::fs::write(world.path(), format!("token_horizon = \"1h\"\n{text}")).unwrap();
    world.yes(&["refill"]);
    std::fs::write(world.path(), text).unwrap();
    let output = world.toctoc(&["status"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("only: `toctoc refill` loads more"), "{said}");
    world.yes(&["refill"]);
    world.yes(&["status"]);
}

/// What was loaded for a lost phone opens nothing from the moment its key is gone, also if a key of the
/// same name has another secret by then.
#[test]
fn a_key_that_is_gone_takes_its_tokens_along() {
    let world = guarded();
    world.send(CLIENT[0], &good(0).0);
    world.private_file("alice.secret", OTHER);
    world.yes(&["apply"]);
    world.send(STRANGER[0], &good(1).0);
    assert_eq!(world.connect(STRANGER[0], 22), Door::Silent);
    let new = token(&secret(OTHER), Window(Window::at(now()).0 + 3), 0);
    world.send(STRANGER[1], &new.0);
    assert_eq!(world.connect(STRANGER[1], 22), Door::Open);
    let said = world.apply("[door.ssh]\nports = [22]\n");
    assert!(
        said.contains("2 ended because their door or key is gone"),
        "{said}"
    );
    let newer = token(&secret(OTHER), Window(Window::at(now()).0 + 3), 1);
    world.send(STRANGER[1], &newer.0);
    assert_eq!(world.connect(STRANGER[1], 22), Door::Silent);
    assert_eq!(world.connect(CLIENT[0], 22), Door::Silent);
}

/// A grant that a token gives is like any other: once, for a while, for a network.
#[test]
fn a_token_grants_what_its_key_may() {
    let policy = "token_port = 40123\n[grant]\nprefix4 = 24\n[door.ssh]\nports = [22]\n\
                  [door.web]\nports = [443]\n[key.alice]\nopens = [\"ssh\"]\n\
                  token = \"alice.secret\"\nonce = true\nexpires = 2020-01-01\n";
    let world = guarded_by(policy);
    world.listen(443);
    world.send(CLIENT[0], &good(0).0);
    assert_eq!(world.connect(CLIENT[0], 22), Door::Silent);
    world.apply(&policy.replace("expires = 2020-01-01\n", ""));
    world.send(CLIENT[0], &good(0).0);
    assert_eq!(world.connect(CLIENT[0], 443), Door::Silent);
    // The neighbour, and then nobody.
    assert_eq!(world.connect(STRANGER[0], 22), Door::Open);
    assert_eq!(world.connect(CLIENT[0], 22), Door::Silent);
}

/// A secret that others can read is no secret, and one that is missing opens nothing.
#[test]
fn a_secret_that_cannot_be_trusted_is_refused_before_anything_changes() {
    use std::os::unix::fs::PermissionsExt;
    let world = guarded();
    let path = world.path().with_file_name("alice.secret");
    let refused = |wanted: &str| {
        let output = world.toctoc(&["apply"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(
            said.contains(wanted) && said.contains("was not changed"),
            "{said}"
        );
        assert!(!said.contains(&SECRET[..16]), "{said}");
    };
    for mode in [0o644, 0o640, 0o602] {
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        refused("can be read or changed by others");
    }
    world.private_file("alice.secret", &SECRET[1..]);
    refused("64 hexadecimal digits, not 63 characters");
    std::fs::remove_file(&path).unwrap();
    refused("cannot be read: No such file");
    std::fs::create_dir(&path).unwrap();
    refused("is no file");
    world.send(CLIENT[0], &good(0).0);
    assert_eq!(world.connect(CLIENT[0], 22), Door::Open);
}

fn toctoc(world: &World, arguments: &[&str]) -> (Option<i32>, String, String) {
    let ended = on(
        &world.lab.client,
        &[&[env!("CARGO_BIN_EXE_toctoc")], arguments].concat(),
    );
    (ended.code, ended.stdout, ended.stderr)
}

#[test]
fn the_client_opens_with_a_profile_and_goes_on_to_the_next_token() {
    let world = guarded_without_a_wait();
    let profile = world.profile(&format!(
        "host = \"192.0.2.1\"\ndoor = 22\ntoken = \"{SECRET}\"\ntoken_port = 40123\n"
    ));
    let (code, said, error) = toctoc(&world, &["knock", &profile]);
    assert_eq!(code, Some(0), "{error}");
    assert!(
        said.contains("22/tcp at 192.0.2.1 is open, after"),
        "{said}"
    );
    world.yes(&["close"]);
    // The first tokens it could take are gone.
    let spent: Vec<Token> = toctoc::client::tokens(&secret(SECRET), now())[..2].to_vec();
    for token in spent {
        world.send(STRANGER[0], &token.0);
    }
    world.yes(&["close"]);
    let (code, said, error) = toctoc(&world, &["knock", &profile]);
    assert_eq!(code, Some(0), "{error}");
    assert!(said.contains("at try"), "{said}");
}

#[test]
fn a_token_can_be_sent_by_any_tool() {
    let world = guarded_without_a_wait();
    let profile = world.profile(&format!(
        "host = \"192.0.2.1\"\ntoken = \"{SECRET}\"\ntoken_port = 40123\n"
    ));
    let (code, said, _) = toctoc(&world, &["code", &profile]);
    assert_eq!(code, Some(0));
    assert!(Token::from_hex(said.trim()).is_some_and(|token| token.hex() == said.trim()));
    assert_eq!(world.connect(CLIENT[0], 22), Door::Silent);
    let send =
        "printf \"$(sed 's/../\\\\x&/g' <<< \"$0\")\" | nc -u -w 1 -s 192.0.2.7 192.0.2.1 40123";
    let ended = world.client(&["bash", "-c", send, said.trim()]);
    assert!(ended.succeeded(), "{}", ended.stderr);
    assert_eq!(world.connect(CLIENT[0], 22), Door::Open);
}

/// The door of a client whose clock is wrong stays shut, and he learns by how much it is.
#[test]
fn a_wrong_clock_is_named() {
    let world = guarded();
    let clocks = clocks();
    let ahead = Clocks {
        now: clocks.now + 3600,
        ..clocks
    };
    world.refill_at(ahead);
    let profile = world.profile(&format!(
        "host = \"192.0.2.1\"\ndoor = 22\ntoken = \"{SECRET}\"\ntoken_port = 40123\n"
    ));
    let (code, _, error) = toctoc(&world, &["knock", &profile]);
    assert_eq!(code, Some(1));
    assert!(error.contains("is this clock right (2"), "{error}");
    let listener = world
        .lab
        .server
        .inside(|| TcpListener::bind(("0.0.0.0", 80)))
        .unwrap()
        .unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 1000]);
            let time = jiff_date(now() + 3600);
            let _ = stream.write_all(format!("HTTP/1.0 200 OK\r\nDate: {time}\r\n\r\n").as_bytes());
        }
    });
    let (code, _, error) = toctoc(&world, &["knock", &profile]);
    assert_eq!(code, Some(1));
    assert!(
        error.contains("this clock is 1h behind") || error.contains("this clock is 59m"),
        "{error}"
    );
    assert!(!error.contains(SECRET));
}

/// As a web server writes it.
fn jiff_date(seconds: i64) -> String {
    let ended = toctoc::firewall::run(
        &[
            "date",
            "-u",
            "-d",
            &format!("@{seconds}"),
            "+%a, %d %b %Y %H:%M:%S GMT",
        ],
        "",
    );
    ended.unwrap().stdout.trim().to_string()
}

/// iptables has no sets of bytes.
#[test]
fn iptables_refuses_token_keys() {
    let world = guarded();
    let output = world.toctoc(&["check", "--backend", "iptables"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said.contains("the iptables backend has no tokens"),
        "{said}"
    );
}

/// Only where there is a place for tokens.
#[test]
fn refill_says_when_nothing_is_applied() {
    let world = World::bare();
    world.private_file("alice.secret", SECRET);
    std::fs::write(world.path(), ALICE).unwrap();
    let output = world.toctoc(&["refill"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2));
    assert!(said.contains("apply the policy first"), "{said}");
    assert!(!world.state_directory().exists());
}
