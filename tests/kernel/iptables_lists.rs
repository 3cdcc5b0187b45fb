//! The lists of iptables: of a fixed size, the newest pushes out the oldest, and every user may read them.

use std::net::Ipv4Addr;

use toctoc::client::Door;
use toctoc::lab::{CLIENT, STRANGER};

use crate::inject::SYN;
use crate::lifecycle::{ANNA, TWO};
use crate::world::{SEQUENCE, World, YVES, on};

/// A list holds a hundred sources here and drops whoever was seen longest ago. Strangers who all knock
/// at the first port push one another out, and whoever is midway; who is in stays in.
fn full_lists_fail_closed_and_harm_no_grant() {
    let world = World::with(YVES);
    world.listen(22);
    assert_eq!(world.status()["max_sources"], 100);
    world.knock(CLIENT[0], &SEQUENCE);
    let flood = |port: u16| {
        world.inject(|injector| {
            for i in 0..300u32 {
                let source = Ipv4Addr::from(0x0a03_0000 + i);
                injector.tcp(source.into(), 7, port, SYN);
            }
        });
    };
    world.knock(STRANGER[0], &SEQUENCE[..4]);
    flood(SEQUENCE[0]);
    world.knock(STRANGER[0], &SEQUENCE[4..]);
    assert_eq!(world.connect(STRANGER[0], 22), Door::Silent);
    assert_eq!(world.connect(CLIENT[0], 22), Door::Open);
    assert!(world.status()["progress"].as_array().unwrap().len() <= 100);
    // The twin: strangers at other ports harm nobody, nor do those before a whole sequence.
    world.knock(STRANGER[0], &SEQUENCE[..4]);
    flood(7);
    world.knock(STRANGER[0], &SEQUENCE[4..]);
    assert_eq!(world.connect(STRANGER[0], 22), Door::Open);
}

/// A source that floods the list of all that are midway, to be forgotten there, must not keep a place in a
/// sequence from which to guess on: a wrong knock still loses everything, or nothing counts.
fn a_flooded_list_does_not_spare_wrong_knocks() {
    let world = World::with(YVES);
    let flood = || {
        world.inject(|injector| {
            for i in 0..300u32 {
                let source = Ipv4Addr::from(0x0a03_0000 + i);
                injector.tcp(source.into(), 7, SEQUENCE[0], SYN);
            }
        });
    };
    world.knock(CLIENT[0], &SEQUENCE[..2]);
    flood();
    // Wrong guesses that nobody remembers, then the right one: it must not count.
    world.knock(CLIENT[0], &[919, 921, 920]);
    assert_eq!(
        world.status()["progress"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|p| p["source"] == CLIENT[0])
            .count(),
        0
    );
    world.knock(CLIENT[0], &SEQUENCE[3..]);
    assert!(world.nobody_is_in());
    // Back in the sequence by its first knock, one wrong guess ends it all.
    world.knock(CLIENT[0], &[443, 919, 920, 18357, 50]);
    assert!(world.nobody_is_in());
    world.knock(CLIENT[0], &SEQUENCE);
    assert_eq!(world.holders("ssh").len(), 1);
}

/// Guests of one door push out no guests of another, and `status` tells who is really in.
fn a_crowd_at_one_door_harms_no_guest_of_another() {
    let world = World::with(TWO.replace("\"ssh\", \"web\"", "\"web\"").as_str());
    world.listen(22);
    world.knock(CLIENT[0], &SEQUENCE);
    world.yes(&["open", "ssh", STRANGER[0], "--for", "1h"]);
    let crowd = |ports: &[u16]| {
        world.inject(|injector| {
            for i in 0..120u32 {
                let source = Ipv4Addr::from(0x0a05_0000 + i);
                for &port in ports {
                    injector.tcp(source.into(), 7, port, SYN);
                }
            }
        });
    };
    crowd(&ANNA);
    assert_eq!(world.holders("web").len(), 100);
    assert_eq!(world.holders("ssh").len(), 2);
    for guest in [CLIENT[0], STRANGER[0]] {
        assert_eq!(world.connect(guest, 22), Door::Open);
    }
    // A crowd at the same door does, and nobody is told otherwise.
    crowd(&SEQUENCE);
    assert_eq!(world.connect(STRANGER[0], 22), Door::Silent);
    assert_eq!(world.holders("ssh").len(), 100);
    assert!(
        world
            .holders("ssh")
            .iter()
            .all(|(source, _)| source.starts_with("10.5.0."))
    );
}

/// Neighbours in a network that was granted stay in when one of them knocks for himself alone.
fn an_opening_ends_no_wider_grant() {
    let world = World::with(&format!("{YVES}[grant]\nprefix4 = 24\n"));
    world.listen(22);
    world.knock(CLIENT[0], &SEQUENCE);
    world.apply(YVES);
    world.knock(CLIENT[0], &SEQUENCE);
    assert_eq!(world.connect(STRANGER[0], 22), Door::Open);
}

/// More grants than a list holds: the last ones hold.
fn a_hundred_guests_fit() {
    let world = World::with(YVES);
    world.inject(|injector| {
        for i in 0..120u32 {
            let source = Ipv4Addr::from(0x0a04_0000 + i);
            for port in SEQUENCE {
                injector.tcp(source.into(), 7, port, SYN);
            }
        }
    });
    let holders = world.holders("ssh");
    assert_eq!(holders.len(), 100);
    assert!(holders.iter().any(|(source, _)| source == "10.4.0.119"));
    assert_eq!(world.status()["keys"][0]["opened"], 120);
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

/// A list keeps those whose grants have ended. They make room for one who is let in by hand, before
/// any who is in and came earlier.
fn who_is_in_no_more_makes_room() {
    let world = World::with(&format!("open_for = \"2s\"\n{YVES}"));
    world.listen(22);
    world.yes(&["open", "ssh", STRANGER[0], "--for", "1h"]);
    crowd_in(&world, 99);
    let list = "/proc/thread-self/net/xt_recent/toctoc4:_door-ssh";
    assert_eq!(world.server(&["cat", list]).lines().count(), 100);
    world.until("their grants have ended", || {
        world.holders("ssh").len() == 1
    });
    assert_eq!(world.server(&["cat", list]).lines().count(), 100);
    world.yes(&["open", "ssh", CLIENT[0], "--for", "1h"]);
    for guest in [STRANGER[0], CLIENT[0]] {
        assert_eq!(world.connect(guest, 22), Door::Open);
    }
}

/// A grant is for whom it was given: a wider prefix makes it no wider, a narrower one no narrower.
fn a_change_of_prefix_changes_no_live_grant() {
    let world = World::with(TWO);
    world.listen(22);
    world.knock(CLIENT[0], &SEQUENCE);
    let wide = format!("{TWO}[grant]\nprefix4 = 24\n");
    world.apply(&wide);
    assert_eq!(world.connect(CLIENT[0], 22), Door::Open);
    assert_eq!(world.connect(STRANGER[0], 22), Door::Silent);
    world.knock(STRANGER[0], &SEQUENCE);
    let holders: Vec<String> = world.holders("ssh").into_iter().map(|h| h.0).collect();
    assert_eq!(holders, ["192.0.2.0/24", CLIENT[0]]);
    world.apply(TWO);
    assert_eq!(world.holders("ssh").len(), 2);
    assert_eq!(world.status()["matches_policy"], true);
}

/// The time of a grant that is there stays when the policy gives another to new ones; and a new one
/// ends it, longer or shorter.
fn a_changed_time_is_for_new_grants() {
    let world = World::with(TWO);
    world.knock(CLIENT[0], &SEQUENCE);
    world.knock(STRANGER[0], &SEQUENCE);
    world.apply(&TWO.replace("5m", "30s"));
    let left = |who: &str| {
        let status = world.status();
        assert_eq!(status["matches_policy"], true);
        let grants = status["doors"][0]["grants"].as_array().unwrap().clone();
        let own: Vec<_> = grants
            .iter()
            .filter(|grant| grant["source"] == who)
            .collect();
        assert_eq!(own.len(), 1);
        own[0]["expires_in"].as_f64().unwrap()
    };
    assert!(left(CLIENT[0]) > 200.0);
    world.knock(CLIENT[0], &SEQUENCE);
    assert!(left(CLIENT[0]) <= 30.0);
    assert!(left(STRANGER[0]) > 200.0);
    assert_eq!(world.yes(&["close", STRANGER[0]]), "ended 1 grant\n");
}

/// A first packet that used up its grant passes once; who listens answers it again by itself.
fn once_is_for_one_first_packet() {
    let world = World::with(&YVES.replace("50]", "50]\nonce = true"));
    crate::doors::count_syns_to(&world, 22);
    for client in CLIENT {
        let before = world.counted("seen");
        world.knock(client, &SEQUENCE);
        let client = client.parse().unwrap();
        world.inject(|injector| {
            for port in [5000, 5000, 5001] {
                injector.tcp(client, port, 22, SYN);
            }
        });
        assert_eq!(world.counted("seen") - before, 1);
    }
}

/// An ordinary user of the host does not see who knocks where; root does. Lists of others keep their
/// mode, also those that are called almost like ours.
fn ordinary_users_cannot_read_our_lists() {
    let world = World::bare();
    let others = ["theirs", "toctoc4", "toctocs:x"];
    for name in others {
        let port = "-A INPUT -p tcp --dport 5 -m recent --set --name";
        let words = port.split(' ').chain([name]);
        let words: Vec<&str> = std::iter::once("iptables").chain(words).collect();
        world.server(&words);
    }
    let lists = "/proc/thread-self/net/xt_recent";
    let read = |user: &str, list: &str| {
        let path = format!("{lists}/{list}");
        let user = [format!("--reuid={user}"), format!("--regid={user}")];
        let setpriv = [
            "setpriv",
            &user[0],
            &user[1],
            "--clear-groups",
            "cat",
            &path,
        ];
        on(&world.lab.server, &setpriv).succeeded()
    };
    let private = || {
        let names = world.server(&["ls", lists]);
        let ours = names.lines().filter(|name| !others.contains(name));
        let ours: Vec<&str> = ours.collect();
        assert!(ours.len() > 10, "{ours:?}");
        for list in &ours {
            assert!(!read("65534", list), "{list}");
            assert!(read("0", list), "{list}");
        }
        for list in others {
            assert!(read("65534", list), "{list}");
        }
        ours.len()
    };
    world.apply(TWO);
    let before = private();
    for client in CLIENT {
        world.knock(client, &SEQUENCE);
    }
    assert_eq!(world.holders("ssh").len(), 2);
    world.yes(&["open", "ssh", STRANGER[0], "--for", "77s"]);
    assert!(private() > before);
    world.apply(&TWO.replace("[443,", "[441, 442,"));
    assert!(private() > before);
    world.apply_with("nftables", TWO);
    world.apply_with("iptables", TWO);
    private();
    assert_eq!(world.holders("ssh").len(), 3);
}

on_each_iptables!(
    ordinary_users_cannot_read_our_lists,
    full_lists_fail_closed_and_harm_no_grant,
    a_flooded_list_does_not_spare_wrong_knocks,
    a_crowd_at_one_door_harms_no_guest_of_another,
    an_opening_ends_no_wider_grant,
    a_hundred_guests_fit,
    who_is_in_no_more_makes_room,
    a_change_of_prefix_changes_no_live_grant,
    a_changed_time_is_for_new_grants,
    once_is_for_one_first_packet,
);
