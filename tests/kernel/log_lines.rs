//! The lines that openings leave in the kernel's log: one for each first opening, few for one source.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use toctoc::lab::CLIENT;

use crate::inject::SYN;
use crate::world::World;

/// The rules that write. With nftables, which counts only where it is told to, each gets a rule that counts in front of it.
struct Lines<'w> {
    world: &'w World,
}

impl<'w> Lines<'w> {
    fn of(world: &'w World) -> Lines<'w> {
        let keys = ["yves", "anna"];
        for key in keys.iter().filter(|_| world.is_nftables()) {
            let chain = format!("key-{key}");
            let listed = world.server(&["nft", "-a", "list", "chain", "inet", "toctoc", &chain]);
            let rule = listed.lines().find(|line| line.contains("log prefix"));
            let rule = rule.unwrap().trim();
            let (matches, _) = rule.split_once("log prefix").unwrap();
            let handle = rule.rsplit(' ').next().unwrap();
            let counter =
                format!("insert rule inet toctoc {chain} handle {handle} {matches} counter");
            world.nft(&counter);
        }
        Lines { world }
    }

    fn count(&self) -> u64 {
        let world = self.world;
        if world.is_nftables() {
            let chains = ["key-yves", "key-anna"]
                .map(|chain| world.server(&["nft", "list", "chain", "inet", "toctoc", chain]));
            let words = chains.iter().flat_map(|text| text.split_whitespace());
            let after = words.clone().skip(1);
            let counted = words.zip(after).filter(|(word, _)| *word == "packets");
            // The rules that limit end in "burst 10 packets".
            return counted.filter_map(|(_, n)| n.parse::<u64>().ok()).sum();
        }
        let saved = ["iptables-save", "ip6tables-save"].map(|save| world.server(&[save, "-c"]));
        let lines = saved.iter().flat_map(|text| text.lines());
        let logging = lines.filter(|line| line.contains("-j LOG"));
        logging
            .map(|line| line[1..].split(':').next().unwrap().parse::<u64>().unwrap())
            .sum()
    }
}

const TWO_KEYS: &str = "
within = \"1s\"
[door.ssh]
ports = [22]

[key.yves]
opens = [\"ssh\"]
sequence = [443, 2387]

[key.anna]
opens = [\"ssh\"]
sequence = [18357, 50]
";

fn open(world: &World, source: IpAddr, sequence: [u16; 2], times: usize) {
    world.inject(|injector| {
        for _ in 0..times {
            for port in sequence {
                injector.tcp(source, 7, port, SYN);
            }
        }
    });
}

/// The same until it has opened once: with iptables an IPv6 network makes only so many first knocks in a second.
fn opens(world: &World, source: IpAddr, sequence: [u16; 2]) {
    let before = opened(world);
    world.until("it has opened", || {
        open(world, source, sequence, 1);
        opened_since(world, before) > 0
    });
    assert_eq!(opened_since(world, before), 1);
}

const FEW: u64 = 16;

/// A source that opens again and again leaves some lines, and each first opening leaves one: of each source and each key,
/// also of neighbours in a network that is granted as a whole.
fn no_source_fills_the_log_and_each_first_opening_is_told() {
    let wide = format!("{TWO_KEYS}[grant]\nprefix4 = 24\nprefix6 = 64\n");
    let once = TWO_KEYS
        .replace("[key", "\n[key")
        .replace("387]", "387]\nonce = true");
    for policy in [TWO_KEYS, &once, &wide] {
        let world = World::with(policy);
        let lines = Lines::of(&world);
        let guests = (1..=30).flat_map(|i: u16| {
            let v4 = Ipv4Addr::new(10, 4, 0, i as u8);
            let v6 = Ipv6Addr::new(0x2001, 0xdb8, 7, 7, 0, 0, 0, i);
            [IpAddr::from(v4), IpAddr::from(v6)]
        });
        for (told, guest) in guests.enumerate() {
            open(&world, guest, [443, 2387], 1);
            assert_eq!(lines.count(), told as u64 + 1, "{guest} {policy}");
        }
        for client in CLIENT {
            let client: IpAddr = client.parse().unwrap();
            let (before, opened) = (lines.count(), opened(&world));
            // Not all at once: so quick a source leaves more behind than the kernel keeps up with.
            world.until("a source has opened often", || {
                open(&world, client, [443, 2387], 10);
                opened_since(&world, opened) > 3 * FEW
            });
            let told = lines.count() - before;
            assert!(
                (1..=FEW).contains(&told),
                "{told} lines of {client} {policy}"
            );
            // His first opening with another key, and that of his neighbour.
            opens(&world, client, [18_357, 50]);
            assert_eq!(lines.count() - before, told + 1, "{client} {policy}");
            let neighbour = match client {
                IpAddr::V4(_) => "192.0.2.77",
                IpAddr::V6(_) => "2001:db8::77",
            };
            opens(&world, neighbour.parse().unwrap(), [443, 2387]);
            assert_eq!(lines.count() - before, told + 2, "{client} {policy}");
        }
    }
}

fn opened(world: &World) -> u64 {
    let status = world.status();
    let keys = status["keys"].as_array().unwrap().clone();
    keys.iter().map(|key| key["opened"].as_u64().unwrap()).sum()
}

fn opened_since(world: &World, before: u64) -> u64 {
    opened(world) - before
}

on_every_firewall!(no_source_fills_the_log_and_each_first_opening_is_told);
