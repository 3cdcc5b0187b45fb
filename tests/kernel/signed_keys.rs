//! Signed keys: each datagram opens once, from the address that it was signed for, while the program is there.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use toctoc::client::Door;
use toctoc::lab::{CLIENT, SERVER, STRANGER};
use toctoc::signed::{Bound, Signer, Time};

use crate::token_world::{OTHER, PORT, SECRET, secret};
use crate::world::World;

const PHONE: &str = r#"
token_port = 40123

[door.ssh]
ports = [22]

[key.phone]
opens = ["ssh"]
signed = "phone.secret"
open_for = "1h"
"#;

fn guarded_by(policy: &str) -> World {
    let mounts = fs::read_to_string("/proc/mounts").unwrap();
    let mounted = mounts.contains(" /sys/fs/bpf bpf ");
    assert!(
        !mounted,
        "these tests see filters: scripts/kernel-tests hides the BPF file system"
    );
    let world = World::bare();
    world.private_file("phone.secret", SECRET);
    world.apply(policy);
    world.listen(22);
    world
}

pub fn guarded() -> World {
    guarded_by(PHONE)
}

fn signer() -> Signer {
    Signer::of(&secret(SECRET))
}

fn now() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    u64::try_from(now.unwrap().as_nanos()).unwrap()
}

fn signed_at(from: &str, bound: Bound, time: u64) -> Vec<u8> {
    signer()
        .sign(from.parse().unwrap(), bound, Time(time))
        .to_vec()
}

/// Each is another one: they differ in time.
pub fn signed(from: &str) -> Vec<u8> {
    signed_at(from, Bound::Address, now())
}

pub fn warnings(world: &World) -> String {
    world.status()["warnings"].to_string()
}

/// Both opens and stays shut: with the key, and for everybody else.
pub fn opens(world: &World) {
    world.send(CLIENT[0], &signed(CLIENT[0]));
    assert_eq!(world.connect(CLIENT[0], 22), Door::Open);
    assert_eq!(world.connect(STRANGER[0], 22), Door::Silent);
}

pub fn close(world: &World) {
    world.yes(&["close"]);
    assert_eq!(world.connect(CLIENT[0], 22), Door::Silent);
}

#[test]
fn a_signed_datagram_opens_once_and_for_its_address_alone() {
    let world = guarded();
    for family in [0, 1] {
        let (client, stranger) = (CLIENT[family], STRANGER[family]);
        assert_eq!(world.connect(client, 22), Door::Silent);
        let mut datagram = signed(client);
        datagram.extend(vec![7; 64 * family]);
        // Held back, and sent from another address first.
        world.send(stranger, &datagram);
        assert_eq!(world.connect(stranger, 22), Door::Silent);
        world.send(client, &datagram);
        assert_eq!(world.connect(client, 22), Door::Open);
        world.send(stranger, &datagram);
        assert_eq!(world.connect(stranger, 22), Door::Silent);
    }
    assert_eq!(world.status()["keys"][0]["opened"], 2);
    // The same again from the same address: nothing is counted, and nothing opens once it is closed.
    let datagram = signed(CLIENT[0]);
    world.send(CLIENT[0], &datagram);
    assert_eq!(world.status()["keys"][0]["opened"], 3);
    close(&world);
    world.send(CLIENT[0], &datagram);
    assert_eq!(world.connect(CLIENT[0], 22), Door::Silent);
    opens(&world);
    assert_eq!(warnings(&world), "[]");
}

#[test]
fn what_is_not_signed_so_opens_nothing() {
    let world = guarded();
    let other = Signer::of(&secret(OTHER));
    let source: IpAddr = CLIENT[0].parse().unwrap();
    const DAY: u64 = 86_400_000_000_000;
    let good = signed(CLIENT[0]);
    let mut wrong = vec![
        good[..31].to_vec(),
        [&good[..], &[0; 65]].concat(),
        other.sign(source, Bound::Address, Time(now())).to_vec(),
        signed_at(CLIENT[0], Bound::Nothing, now()),
        signed_at(CLIENT[0], Bound::Network, now()),
        signed_at(CLIENT[0], Bound::Address, now() - DAY),
        signed_at(CLIENT[0], Bound::Address, now() + DAY),
        signed_at(CLIENT[0], Bound::Address, now() + 125_000_000_000),
        // Before this table was there, and within the two minutes.
        signed_at(CLIENT[0], Bound::Address, now() - 100_000_000_000),
        vec![0; 32],
        Vec::new(),
    ];
    for bit in 0..256 {
        let mut changed = good.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        wrong.push(changed);
    }
    for datagram in &wrong {
        world.send(CLIENT[0], datagram);
    }
    assert!(world.nobody_is_in());
    world.send(CLIENT[0], &good);
    assert_eq!(world.connect(CLIENT[0], 22), Door::Open);
}

/// 1,000 of 1,000 that a thief holds back are of no use to him.
#[test]
fn a_thousand_that_were_held_back_open_from_no_other_address() {
    let world = guarded();
    let held_back: Vec<Vec<u8>> = (0..1000).map(|_| signed(CLIENT[0])).collect();
    for datagram in &held_back {
        world.send(STRANGER[0], datagram);
    }
    assert!(world.nobody_is_in());
    world.send(CLIENT[0], &held_back[999]);
    assert_eq!(world.connect(CLIENT[0], 22), Door::Open);
    assert_eq!(world.connect(STRANGER[0], 22), Door::Silent);
}

#[test]
fn a_policy_says_what_a_datagram_must_be_bound_to() {
    let network = PHONE.replace("open_for", "binding = \"network\"\nopen_for");
    let world = guarded_by(&network);
    let bound = |from, bound| signed_at(from, bound, now());
    world.send(STRANGER[0], &bound(CLIENT[0], Bound::Nothing));
    world.send(STRANGER[0], &bound(CLIENT[0], Bound::Address));
    assert_eq!(world.connect(STRANGER[0], 22), Door::Silent);
    // They are of one /24, and of one /64.
    for family in [0, 1] {
        let datagram = bound(CLIENT[family], Bound::Network);
        world.send(STRANGER[family], &datagram);
        assert_eq!(world.connect(STRANGER[family], 22), Door::Open);
        world.send(CLIENT[family], &datagram);
        assert_eq!(world.connect(CLIENT[family], 22), Door::Silent);
    }
    world.yes(&["close"]);
    world.apply(&network.replace("network", "none"));
    let datagram = bound("198.51.100.1", Bound::Nothing);
    world.send(STRANGER[0], &datagram);
    assert_eq!(world.connect(STRANGER[0], 22), Door::Open);
    world.send(CLIENT[0], &datagram);
    assert_eq!(world.connect(CLIENT[0], 22), Door::Silent);
}

/// Takes away the rule by which a key has so many datagrams in a minute.
fn without_limit(world: &World) {
    let chain = world.server(&[
        "nft",
        "-a",
        "list",
        "chain",
        "inet",
        "toctoc",
        "signed-phone",
    ]);
    let rule = chain
        .lines()
        .find(|line| line.contains("limit rate over 60/minute"));
    let (_, handle) = rule.unwrap().rsplit_once(' ').unwrap();
    world.nft(&format!(
        "delete rule inet toctoc signed-phone handle {handle}"
    ));
}

/// All keys share the memory of what was spent. A key has a small part of it, and one that has expired none; a repeat takes
/// nothing of that.
#[test]
fn no_key_fills_the_memory_of_what_was_spent() {
    const OTHER: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeef1";
    let own = "[key.own]\nopens = [\"ssh\"]\nsigned = \"own.secret\"\nopen_for = \"1h\"\n";
    let world = World::bare();
    world.private_file("phone.secret", SECRET);
    world.private_file("own.secret", OTHER);
    world.listen(22);
    let spent = || {
        let said = world.server(&["nft", "list", "set", "inet", "toctoc", "spent"]);
        said.matches("expires").count()
    };
    let flood = |datagrams: &[Vec<u8>]| {
        world.inject(|injector| {
            for datagram in datagrams {
                injector.datagram(CLIENT[0].parse().unwrap(), 4000, PORT, datagram);
            }
        });
    };
    let of_own = || {
        let signer = Signer::of(&secret(OTHER));
        let datagram = signer.sign(CLIENT[0].parse().unwrap(), Bound::Address, Time(now()));
        vec![datagram.to_vec()]
    };
    let expired = PHONE.replace("open_for", "expires = 2020-01-01\nopen_for");
    for (policy, most) in [(expired.as_str(), 0), (PHONE, 80)] {
        world.apply(&format!("{policy}{own}"));
        let many: Vec<Vec<u8>> = (0..3000).map(|_| signed(CLIENT[0])).collect();
        flood(&many);
        let taken = spent();
        assert!(taken <= most, "{taken} of {most}");
        assert_eq!(taken > 0, most > 0);
        close(&world);
        flood(&of_own());
        world.until("another key opens", || !world.nobody_is_in());
        close(&world);
        world.yes(&["remove"]);
    }
    // A repeat is not counted.
    world.apply(PHONE);
    let first = signed(CLIENT[0]);
    flood(&vec![first; 1000]);
    close(&world);
    flood(&[signed(CLIENT[0])]);
    world.until("the next one opens", || !world.nobody_is_in());
}

/// Of two that send the same at once, from two processors, one gets in.
#[test]
fn an_unbound_datagram_from_two_addresses_at_once_lets_one_in() {
    let world = guarded_by(&PHONE.replace("open_for", "binding = \"none\"\nopen_for"));
    let number = std::env::var("DATAGRAMS").map_or(2000, |number| number.parse().unwrap());
    without_limit(&world);
    let all: Vec<Vec<u8>> = (0..number)
        .map(|_| signed_at("0.0.0.0", Bound::Nothing, now()))
        .collect();
    let turn = AtomicUsize::new(0);
    thread::scope(|scope| {
        for side in 0..2_u32 {
            let (world, all, turn) = (&world, &all, &turn);
            scope.spawn(move || {
                world.inject(|injector| {
                    for (number, datagram) in all.iter().enumerate() {
                        let source = Ipv4Addr::from(0x0a00_0000 + (side << 16) + number as u32);
                        turn.fetch_add(1, Ordering::SeqCst);
                        while turn.load(Ordering::SeqCst) < 2 * (number + 1) {
                            std::hint::spin_loop();
                        }
                        injector.datagram(source.into(), 4000, PORT, datagram);
                    }
                });
            });
        }
    });
    world.until("all are listed", || world.holders("ssh").len() >= number);
    let mut each: BTreeMap<u32, u32> = BTreeMap::new();
    for (source, _) in world.holders("ssh") {
        let source = u32::from(source.parse::<Ipv4Addr>().unwrap());
        *each.entry(source & 0xffff).or_default() += 1;
    }
    assert_eq!(each.len(), number);
    assert!(each.values().all(|&holders| holders == 1));
}

/// Over an apply and a refill: what was spent stays spent. After the table is gone, what was sent before is too old.
#[test]
fn what_was_spent_stays_spent_and_what_came_before_the_table_stays_out() {
    let world = guarded();
    let datagram = signed(CLIENT[0]);
    let unspent = signed(CLIENT[0]);
    world.send(CLIENT[0], &datagram);
    assert_eq!(world.connect(CLIENT[0], 22), Door::Open);
    for again in [&["apply"][..], &["refill"], &["heal"]] {
        world.yes(again);
        close(&world);
        world.send(CLIENT[0], &datagram);
        assert_eq!(world.connect(CLIENT[0], 22), Door::Silent, "{again:?}");
        opens(&world);
    }
    // As after a power cut, or when somebody flushes all: nothing is known of what was spent.
    world.nft("delete table inet toctoc\n");
    world.yes(&["heal"]);
    for old in [&datagram, &unspent] {
        world.send(CLIENT[0], old);
        assert_eq!(world.connect(CLIENT[0], 22), Door::Silent);
    }
    opens(&world);
    world.yes(&["remove"]);
    world.apply(PHONE);
    for old in [&datagram, &unspent] {
        world.send(CLIENT[0], old);
        assert_eq!(world.connect(CLIENT[0], 22), Door::Silent);
    }
    opens(&world);
}

pub fn interface(world: &World) -> String {
    let links = world.server(&["ip", "-o", "link", "show", "type", "veth"]);
    let name = links.split(": ").nth(1).unwrap();
    name.split('@').next().unwrap().to_string()
}

#[test]
fn without_the_program_nothing_opens_and_status_says_so() {
    let world = guarded();
    opens(&world);
    close(&world);
    let name = interface(&world);
    world.server(&["tc", "filter", "del", "dev", &name, "ingress"]);
    world.send(CLIENT[0], &signed(CLIENT[0]));
    assert_eq!(world.connect(CLIENT[0], 22), Door::Silent);
    let said = warnings(&world);
    assert!(
        said.contains(&format!("signed keys do not open on {name}")),
        "{said}"
    );
    assert!(said.contains("everything else holds"), "{said}");
    // It says what it did, and nothing where there is nothing to do.
    let heal = || {
        let output = world.toctoc(&["heal"]);
        assert_eq!(output.status.code(), Some(0));
        String::from_utf8(output.stderr).unwrap()
    };
    let said = heal();
    assert!(said.contains("it was put there"), "{said}");
    assert_eq!(heal(), "");
    assert_eq!(warnings(&world), "[]");
    opens(&world);
    close(&world);
    // The whole of clsact, as when another program makes it anew.
    world.server(&["tc", "qdisc", "del", "dev", &name, "clsact"]);
    world.send(CLIENT[0], &signed(CLIENT[0]));
    assert_eq!(world.connect(CLIENT[0], 22), Door::Silent);
    world.yes(&["heal"]);
    opens(&world);
}

#[test]
fn an_interface_that_comes_later_gets_the_program_by_a_healing() {
    let world = guarded();
    let pair = [
        "ip", "link", "add", "late0", "type", "veth", "peer", "name", "late1",
    ];
    world.server(&pair);
    let said = warnings(&world);
    assert!(said.contains("late0") && said.contains("late1"), "{said}");
    world.yes(&["heal"]);
    assert_eq!(warnings(&world), "[]");
    // Replaced by another one of its name.
    world.server(&["ip", "link", "del", "late0"]);
    world.server(&pair);
    assert!(warnings(&world).contains("late0"));
    world.yes(&["heal"]);
    let shown = world.server(&["tc", "filter", "show", "dev", "late0", "ingress"]);
    assert!(shown.contains("toctoc direct-action"), "{shown}");
    world.yes(&["remove"]);
    for name in ["late0", "late1", &interface(&world)] {
        let shown = world.server(&["tc", "filter", "show", "dev", name, "ingress"]);
        assert!(!shown.contains("toctoc"), "{name}: {shown}");
    }
}

#[test]
fn an_emptied_map_opens_nothing_and_is_filled_again() {
    let world = guarded();
    let note = fs::read_to_string(world.sighting().with_extension("signed")).unwrap();
    let note: serde_json::Value = serde_json::from_str(&note).unwrap();
    let map = u32::try_from(note["map"].as_u64().unwrap()).unwrap();
    let data = aya::maps::MapData::from_id(map).unwrap();
    let mut map = aya::maps::Map::HashMap(data);
    let mut keys: aya::maps::HashMap<_, [u8; 4], [u64; 3]> = (&mut map).try_into().unwrap();
    keys.remove(&signer().id().to_be_bytes()).unwrap();
    world.send(CLIENT[0], &signed(CLIENT[0]));
    assert_eq!(world.connect(CLIENT[0], 22), Door::Silent);
    let said = warnings(&world);
    assert!(said.contains("1 are not in the kernel's map"), "{said}");
    world.yes(&["heal"]);
    opens(&world);
}

/// The mark and the class, set by a sender in this network namespace: our program takes the mark off where the packet comes
/// in. (A veth takes the class off by itself; a counter sees that the mark arrives where the program is missing.)
#[test]
fn a_packet_that_comes_with_mark_and_class_opens_nothing() {
    let world = guarded();
    world.server(&[
        "ip", "link", "add", "late0", "type", "veth", "peer", "name", "late1",
    ]);
    for name in ["late0", "late1"] {
        world.server(&["ip", "link", "set", name, "up"]);
    }
    world.yes(&["heal"]);
    let class = signer().class().to_string();
    let sender = r#"
import socket, struct, sys
own, to, source, server, mark, priority = sys.argv[1:]
def links():
    import subprocess
    out = subprocess.run(['ip', '-o', 'link', 'show', to], capture_output=True, text=True).stdout
    return bytes.fromhex(out.split('link/ether ')[1][:17].replace(':', ''))
udp = struct.pack('!4H', 4000, 40123, 40, 0) + bytes([9] * 32)
ip = bytearray(struct.pack('!BBHHHBBH', 0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0))
ip += socket.inet_aton(source) + socket.inet_aton(server)
sum16 = sum(struct.unpack('!10H', ip))
sum16 = (sum16 & 0xffff) + (sum16 >> 16)
ip[10:12] = struct.pack('!H', 0xffff & ~((sum16 & 0xffff) + (sum16 >> 16)))
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind((own, 0))
s.setsockopt(socket.SOL_SOCKET, 36, struct.pack('=I', int(mark)))
s.setsockopt(socket.SOL_SOCKET, 12, struct.pack('=I', int(priority)))
s.send(links() + bytes(6) + b'\x08\x00' + bytes(ip) + udp)
"#;
    let send = || {
        let mark = 0x7463_7463.to_string();
        world.server(&[
            "python3", "-c", sender, "late0", "late1", CLIENT[0], SERVER[0], &mark, &class,
        ]);
    };
    world.nft(
        "table inet beside { counter marked { }\n chain c { type filter hook prerouting priority -310; \
         meta mark 0x74637463 counter name marked\n}\n}",
    );
    let arrived = || {
        let counter = world.server(&["nft", "list", "counter", "inet", "beside", "marked"]);
        !counter.contains("packets 0")
    };
    for _ in 0..3 {
        send();
    }
    assert!(world.nobody_is_in() && !arrived());
    world.server(&["tc", "filter", "del", "dev", "late1", "ingress"]);
    send();
    world.until("the test can see it", arrived);
    assert!(world.nobody_is_in());
}

/// No packet keeps the mark: that of a datagram for another host is taken off.
#[test]
fn rules_take_the_mark_off_what_is_not_for_this_host() {
    let world = guarded();
    let rules = world.server(&["nft", "list", "chain", "inet", "toctoc", "knocks-token"]);
    assert!(
        rules.contains("meta mark 0x74637463 meta mark set 0x00000000"),
        "{rules}"
    );
}

/// 20 of 20, while 100,000 forged ones come each second.
#[test]
fn signed_datagrams_open_in_a_flood_of_forged_ones() {
    let world = guarded();
    let stop = AtomicBool::new(false);
    let sent = AtomicUsize::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            world.inject(|injector| {
                let start = Instant::now();
                let mut number = 0_u32;
                let mut forged = signed(CLIENT[0]);
                while !stop.load(Ordering::Relaxed) {
                    if f64::from(number) > start.elapsed().as_secs_f64() * 100_000.0 {
                        thread::sleep(Duration::from_micros(500));
                        continue;
                    }
                    for _ in 0..100 {
                        number += 1;
                        forged[..4].copy_from_slice(&number.to_be_bytes());
                        let source = Ipv4Addr::from(0x0a00_0000 + number % (1 << 22));
                        injector.datagram(source.into(), 4000, PORT, &forged);
                    }
                    sent.store(number as usize, Ordering::Relaxed);
                }
            });
        });
        let mut opened = 0;
        for _ in 0..20 {
            // One may be lost on the way: a client sends another one.
            for _ in 0..4 {
                world.send(CLIENT[0], &signed(CLIENT[0]));
                if world.connect(CLIENT[0], 22) == Door::Open {
                    opened += 1;
                    break;
                }
            }
            world.yes(&["close"]);
        }
        stop.store(true, Ordering::Relaxed);
        assert_eq!(opened, 20);
    });
    assert!(world.nobody_is_in());
    println!("{} forged datagrams", sent.load(Ordering::Relaxed));
}

fn filters(world: &World) -> String {
    let name = interface(world);
    world.server(&["tc", "filter", "show", "dev", &name, "ingress"])
}

/// The file in /run that says for which table the program was placed.
fn note(world: &World) -> PathBuf {
    let inode = world.server(&["stat", "--dereference", "--format=%i", "/proc/self/ns/net"]);
    Path::new("/run/toctoc").join(format!("{}.signed", inode.trim()))
}

#[test]
fn a_lost_note_of_the_program_loses_nothing_and_leaves_nothing_behind() {
    let world = guarded();
    for lose in [
        |note: &Path| std::fs::remove_file(note).unwrap(),
        |note: &Path| std::fs::write(note, "{").unwrap(),
        |note: &Path| std::fs::write(note, "").unwrap(),
    ] {
        let old = signed(CLIENT[0]);
        world.send(CLIENT[0], &old);
        world.until("it opens", || !world.nobody_is_in());
        lose(&note(&world));
        let said = warnings(&world);
        assert!(said.contains("is not that of this table"), "{said}");
        world.yes(&["heal"]);
        assert_eq!(warnings(&world), "[]");
        close(&world);
        world.send(CLIENT[0], &old);
        opens(&world);
        close(&world);
        // Without the note and the program, too.
        lose(&note(&world));
        world.server(&["tc", "filter", "del", "dev", &interface(&world), "ingress"]);
        let said = warnings(&world);
        assert!(said.contains("open nowhere"), "{said}");
        world.yes(&["heal"]);
        assert_eq!(warnings(&world), "[]");
        assert!(filters(&world).contains("toctoc"));
        // A policy without signed keys takes it away.
        lose(&note(&world));
        world.apply("[door.ssh]\nports = [22]\n");
        assert_eq!(filters(&world), "");
        world.apply(PHONE);
    }
}

/// Until the next healing the memory is that of the moment at which the ruleset was saved.
#[test]
fn a_saved_ruleset_brings_back_no_old_memory_after_a_healing() {
    let world = guarded();
    let datagram = signed(CLIENT[0]);
    let saved = world.server(&["nft", "list", "ruleset"]);
    world.send(CLIENT[0], &datagram);
    world.until("it opens", || !world.nobody_is_in());
    close(&world);
    world.nft(&format!("flush ruleset\n{saved}"));
    let said = warnings(&world);
    assert!(said.contains("may open once more"), "{said}");
    world.yes(&["heal"]);
    world.send(CLIENT[0], &datagram);
    assert_eq!(world.connect(CLIENT[0], 22), Door::Silent);
    assert!(world.nobody_is_in());
    opens(&world);
}
