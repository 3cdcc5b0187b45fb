//! Room that all share: an administrator always finds some, and one host takes no more than its share.

use std::net::{Ipv4Addr, Ipv6Addr, TcpStream};
use std::process::Output;

use toctoc::client::Door;
use toctoc::lab::{CLIENT, SERVER, STRANGER};

use crate::inject::SYN;
use crate::world::{SEQUENCE, World, YVES, by_nft};

const ROOM: usize = 256;

fn policy() -> String {
    format!("max_sources = {ROOM}\nopen_for = \"10m\"\n{YVES}")
}

/// Gives grants behind toctoc's back: sources, and for how long.
fn fill(world: &World, family: char, grants: &[(String, &str)]) {
    let door = toctoc::policy::Name::new("ssh").unwrap();
    let door = toctoc::ruleset::nftables::classid(door.id());
    let elements = |rest: &str| {
        let each = grants.iter().map(|(source, time)| match *time {
            "" => format!("{source} . {door}{rest}"),
            time => format!("{source} . {door}{rest} timeout {time}"),
        });
        each.collect::<Vec<_>>().join(", ")
    };
    world.nft(&format!(
        "add element inet toctoc grants{family} {{ {} }}\n\
         add element inet toctoc opened{family} {{ {} }}\n",
        elements(""),
        elements(" . 0:1")
    ));
}

/// The addresses of `10.4.0.0/16` with a time each.
fn guests(number: usize, time: &str) -> Vec<(String, &str)> {
    let address = |i: usize| Ipv4Addr::from(0x0a04_0000 + i as u32).to_string();
    (0..number).map(|i| (address(i), time)).collect()
}

fn sources(world: &World) -> Vec<String> {
    let holders = world.holders("ssh").into_iter();
    holders.map(|(source, _)| source).collect()
}

fn said(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Opens by hand, as somebody who came through this connection.
fn open_through(world: &World, session: &TcpStream, source: &str, time: &str) -> String {
    let from = session.local_addr().unwrap();
    let mut command = world.toctoc_command(&["open", "ssh", source, "--for", time]);
    let connection = format!("{} {} {} 22", from.ip(), from.port(), SERVER[0]);
    command.env("SSH_CONNECTION", connection);
    let output = world.lab.server.inside(|| command.output().unwrap());
    said(&output.unwrap())
}

/// In a full set the grant ends that would have ended first, and all others stay. With room left nobody's ends.
#[test]
fn open_finds_room_in_a_full_set() {
    let by = |world: &World, nft: bool| {
        let mut command = world.toctoc_command(&["open", "ssh", CLIENT[0]]);
        if nft {
            command = by_nft(&command);
        }
        let output = world.lab.server.inside(|| command.output().unwrap());
        said(&output.unwrap())
    };
    for nft in [false, true] {
        let world = World::with(&policy());
        world.listen(22);
        let mut full = guests(ROOM, "1h");
        full[7].1 = "10m";
        // Nobody gave it an end, and it has none.
        full[9].1 = "";
        fill(&world, '4', &full[..ROOM - 1]);
        let text = by(&world, nft);
        assert_eq!(text, "ssh is open to 192.0.2.7 for 1m\n");
        assert_eq!(sources(&world).len(), ROOM);
        world.yes(&["close", CLIENT[0]]);
        fill(&world, '4', &full[ROOM - 1..]);
        let before = sources(&world);
        assert_eq!(before.len(), ROOM);
        let text = by(&world, nft);
        assert!(
            text.contains("there was no room: the grant of 10.4.0.7 for ssh, with "),
            "{text}"
        );
        let after = sources(&world);
        let kept = before.iter().filter(|source| *source != "10.4.0.7");
        assert!(kept.clone().all(|source| after.contains(source)));
        assert_eq!(after.len(), ROOM);
        assert_eq!(world.connect(CLIENT[0], 22), Door::Open);
        // Somebody who is in needs no room.
        let text = by(&world, nft);
        assert_eq!(text, "ssh is open to 192.0.2.7 for 1m\n");
        assert_eq!(sources(&world), after);
    }
}

/// An expired element takes up room until the kernel tidies up. No guest goes for it.
#[test]
fn open_waits_for_room_that_nobody_needs() {
    let world = World::with(&policy());
    world.listen(22);
    fill(&world, '4', &guests(ROOM, "1h")[6..]);
    for _ in 0..3 {
        fill(&world, '4', &guests(6, "1200ms"));
        world.until("some have ended", || sources(&world).len() == ROOM - 6);
        let text = world.yes(&["open", "ssh", CLIENT[0]]);
        assert_eq!(text, "ssh is open to 192.0.2.7 for 1m\n");
        assert_eq!(sources(&world).len(), ROOM - 5);
        world.yes(&["close", CLIENT[0]]);
        world.until("the kernel has tidied up", || {
            let set = world.server(&["nft", "-j", "list", "set", "inet", "toctoc", "grants4"]);
            !set.contains("\"10.4.0.5\"")
        });
    }
}

/// In IPv6 the network that holds most gives way, however long its grants last.
#[test]
fn open_ends_a_grant_of_the_biggest_crowd() {
    let world = World::with(&policy());
    world.listen(22);
    let address = |net: usize, i: usize| {
        Ipv6Addr::new(0x2001, 0xdb8, 7, net as u16, 0, 0, 0, i as u16).to_string()
    };
    let alone = (0..ROOM - 40).map(|net| (address(net, 1), "5m"));
    let crowd = (0..40).map(|i| (address(0xffff, i), "2h"));
    let all: Vec<_> = alone.chain(crowd).collect();
    fill(&world, '6', &all);
    for round in 1..=3 {
        let new = format!("2001:db8:8::{round}");
        let text = world.yes(&["open", "ssh", &new]);
        assert!(
            text.contains("there was no room: the grant of 2001:db8:7:ffff::"),
            "{text}"
        );
        let now = sources(&world);
        assert!(now.contains(&new));
        assert!(
            all[..ROOM - 40]
                .iter()
                .all(|(source, _)| now.contains(source))
        );
        assert_eq!(now.len(), ROOM);
    }
    // The other family has its own room.
    let text = world.yes(&["open", "ssh", CLIENT[0]]);
    assert_eq!(text, "ssh is open to 192.0.2.7 for 1m\n");
}

/// The grant through which the administrator came is not the one that ends.
#[test]
fn open_does_not_end_the_way_of_the_administrator() {
    let world = World::with(&policy());
    world.listen(22);
    let mut full = guests(ROOM - 1, "1h");
    full[3].1 = "20m";
    fill(&world, '4', &full);
    world.yes(&["open", "ssh", CLIENT[0], "--for", "1m"]);
    let session = world.session(CLIENT[0], 22);
    let text = open_through(&world, &session, STRANGER[0], "1m");
    assert!(text.contains("the grant of 10.4.0.3 for ssh"), "{text}");
    assert_eq!(world.connect(CLIENT[0], 22), Door::Open);
    assert_eq!(world.connect(STRANGER[0], 22), Door::Open);
    // Through no connection it ends as any other.
    let text = world.yes(&["open", "ssh", "192.0.2.99", "--for", "2m"]);
    assert!(text.contains("the grant of 192.0.2."), "{text}");
}

/// Records of grants that were used up go before any grant does.
#[test]
fn open_forgets_what_was_used_up_first() {
    let once = YVES.replace("50]", "50]\nonce = true");
    let world = World::with(&format!("max_sources = {ROOM}\nopen_for = \"10m\"\n{once}"));
    world.listen(22);
    world.knock(STRANGER[0], &SEQUENCE);
    let full = guests(ROOM - 1, "1h");
    fill(&world, '4', &full);
    // One place is left among the grants, and none among the records.
    let taken = "delete element inet toctoc grants4 { 10.4.0.5 . 0:1 }";
    let door = toctoc::policy::Name::new("ssh").unwrap();
    let door = toctoc::ruleset::nftables::classid(door.id());
    world.nft(&taken.replace("0:1", &door));
    let text = world.yes(&["open", "ssh", CLIENT[0]]);
    assert_eq!(text, "ssh is open to 192.0.2.7 for 1m\n");
    let now = sources(&world);
    assert_eq!(now.len(), ROOM);
    assert!(now.contains(&STRANGER[0].to_string()));
    assert_eq!(world.connect(STRANGER[0], 22), Door::Open);
}

/// Lets so many in, from addresses of `10.4.0.0/24`.
fn crowd_in(world: &World, guests: u32) {
    for first in (0..guests).step_by(20) {
        world.inject(|injector| {
            for i in first..guests.min(first + 20) {
                let source = Ipv4Addr::from(0x0a04_0000 + i);
                for port in SEQUENCE {
                    injector.tcp(source.into(), 7, port, SYN);
                }
            }
        });
    }
}

/// A list of iptables would drop whoever came first. By hand it drops whoever ends first, and it is said who.
fn open_finds_room_on_a_full_list() {
    let world = World::with(&format!("open_for = \"10m\"\n{YVES}"));
    world.listen(22);
    world.yes(&["open", "ssh", STRANGER[0], "--for", "1h"]);
    world.yes(&["open", "ssh", CLIENT[0], "--for", "2m"]);
    let session = world.session(CLIENT[0], 22);
    crowd_in(&world, 98);
    let before = sources(&world);
    assert_eq!(before.len(), 100);
    let text = open_through(&world, &session, "192.0.2.98", "1h");
    assert!(
        text.contains("there was no room: the grant of 10.4.0."),
        "{text}"
    );
    let now = sources(&world);
    assert!(now.contains(&"192.0.2.98".to_string()));
    assert_eq!(now.len(), 100);
    let gone: Vec<_> = before
        .iter()
        .filter(|source| !now.contains(source))
        .collect();
    assert!(
        gone.len() == 1 && text.contains(gone[0].as_str()),
        "{gone:?} {text}"
    );
    for guest in [STRANGER[0], CLIENT[0]] {
        assert_eq!(world.connect(guest, 22), Door::Open);
    }
    // Through no connection it ends as any other.
    let text = world.yes(&["open", "ssh", "192.0.2.97", "--for", "1h"]);
    assert!(
        text.contains("the grant of 192.0.2.7 for ssh, with 1m"),
        "{text}"
    );
    assert_eq!(sources(&world).len(), 100);
    // Somebody who is in may stay longer, the other family has its own list, and so has each time.
    for (source, all) in [("10.4.0.93", 100), (CLIENT[1], 101)] {
        let text = world.yes(&["open", "ssh", source, "--for", "1h"]);
        assert_eq!(text.lines().count(), 1, "{text}");
        assert_eq!(sources(&world).len(), all);
    }
}

/// A list of those who were let in by hand for the same time is full by itself.
fn open_finds_room_on_a_full_list_of_its_own() {
    let world = World::with(YVES);
    for i in 0..100 {
        let text = world.yes(&["open", "ssh", &format!("10.6.0.{i}"), "--for", "1h"]);
        assert_eq!(text.lines().count(), 1, "{text}");
    }
    let text = world.yes(&["open", "ssh", CLIENT[0], "--for", "1h"]);
    assert!(
        text.contains("the grant of 10.6.0.0 for ssh, with "),
        "{text}"
    );
    let now = sources(&world);
    assert!(
        now.contains(&CLIENT[0].to_string()) && now.len() == 100,
        "{now:?}"
    );
}

/// A network of 64 bits full of addresses that know the sequence lets in its share, and ends nobody's grant.
fn one_ipv6_network_pushes_out_no_guest_of_a_list() {
    let world = World::with(&format!("open_for = \"10m\"\nwithin = \"1s\"\n{YVES}"));
    world.listen(22);
    let knock_all = |sources: Vec<Ipv6Addr>| {
        world.inject(|injector| {
            for source in sources {
                for port in SEQUENCE {
                    injector.tcp(source.into(), 7, port, SYN);
                }
            }
        });
    };
    let address = |net: u16, i: u16| Ipv6Addr::new(0x2001, 0xdb8, 7, net, 0, 0, 0, i);
    world.knock(CLIENT[1], &SEQUENCE);
    knock_all((1..=20).map(|net| address(net, 1)).collect());
    let before = sources(&world);
    assert_eq!(before.len(), 21);
    for _ in 0..2 {
        knock_all((1..=300).map(|i| address(0xffff, i)).collect());
    }
    let now = sources(&world);
    assert!(before.iter().all(|source| now.contains(source)), "{now:?}");
    assert_eq!(now.len(), 21 + 50);
    assert_eq!(world.connect(CLIENT[1], 22), Door::Open);
    // Others come in as ever, and one source as often as it likes.
    knock_all(vec![address(0x100, 1)]);
    for _ in 0..6 {
        knock_all(vec![address(0x101, 1); 10]);
        world.knock(CLIENT[1], &[7]);
    }
    // So many first knocks in a second were the share of its network for that second.
    world.until("neighbours of it are in", || {
        knock_all((1..=3).map(|i| address(0x101, i)).collect());
        sources(&world).contains(&address(0x101, 3).to_string())
    });
    let now = sources(&world);
    for source in [address(0x100, 1), address(0x101, 1), address(0x101, 3)] {
        assert!(now.contains(&source.to_string()), "{source} {now:?}");
    }
    assert_eq!(now.len(), 21 + 50 + 4);
    assert_eq!(world.connect(CLIENT[1], 22), Door::Open);
}

/// A network of 64 bits full of addresses that know the first knock takes its share of the room for sources midway, and
/// those of others come to their end.
fn one_ipv6_network_pushes_out_nobody_midway() {
    let world = World::with(&format!("within = \"1m\"\n{YVES}"));
    world.listen(22);
    let address = |net: u16, i: u16| Ipv6Addr::new(0x2001, 0xdb8, 7, net, 0, 0, 0, i);
    let (last, first) = SEQUENCE.split_last().unwrap();
    let knock = |sources: &[Ipv6Addr], ports: &[u16]| {
        world.inject(|injector| {
            for source in sources {
                for port in ports {
                    injector.tcp((*source).into(), 7, *port, SYN);
                }
            }
        });
    };
    let others: Vec<_> = (1..=20).map(|net| address(net, 1)).collect();
    knock(&others, first);
    let crowd: Vec<_> = (1..=300).map(|i| address(0xffff, i)).collect();
    knock(&crowd, &first[..1]);
    knock(&others, &[*last]);
    let now = sources(&world);
    assert_eq!(now.len(), others.len(), "{now:?}");
    assert!(
        others
            .iter()
            .all(|source| now.contains(&source.to_string()))
    );
    // The network has had its share, and one more of another network has not.
    knock(&[address(0xffff, 999), address(0xfffe, 1)], &SEQUENCE);
    let now = sources(&world);
    assert!(now.contains(&address(0xfffe, 1).to_string()), "{now:?}");
    assert!(!now.contains(&address(0xffff, 999).to_string()), "{now:?}");
}

on_each_iptables!(
    one_ipv6_network_pushes_out_nobody_midway,
    one_ipv6_network_pushes_out_no_guest_of_a_list,
    open_finds_room_on_a_full_list,
    open_finds_room_on_a_full_list_of_its_own,
);
