//! Tokens: each opens once, for whoever sends it first, and nothing else opens.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use toctoc::client::Door;
use toctoc::lab::{CLIENT, STRANGER};
use toctoc::single_use::{Token, Window, token};

use crate::apply_under_stress::Stop;
use crate::token_world::{OTHER, PORT, SECRET, good, guarded, guarded_by, now, secret};

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

/// The tokens that were loaded for a lost phone open nothing from the moment its key is gone, also if a key of the
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
