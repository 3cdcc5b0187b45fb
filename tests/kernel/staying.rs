//! Grants that stay while they are used (`extend`), and end `at_most` after their opening all the same.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use toctoc::client::Door;
use toctoc::lab::{CLIENT, STRANGER};

use crate::inject::SYN;
use crate::world::{SHUT, World};

const KNOCKS: [u16; 3] = [4431, 2387, 9920];

/// Two doors, of which the first extends its grants, with these settings.
fn policy(settings: &str) -> String {
    format!(
        "open_for = \"2s\"\n[door.ssh]\nports = [22]\n{settings}\n[door.web]\nports = [443]\n\
         [key.yves]\nopens = [\"ssh\", \"web\"]\nsequence = [4431, 2387, 9920]\n"
    )
}

const SHORTLY: &str = "extend = \"2s\"\nat_most = \"7s\"";
const LONG: &str = "extend = \"10m\"\nat_most = \"8h\"";

fn world(settings: &str) -> World {
    let world = World::with(&policy(settings));
    world.listen(22);
    world.listen(443);
    world
}

/// The only grant for a door.
fn grant(world: &World, door: &str) -> Value {
    let status = world.status();
    let doors = status["doors"].as_array().unwrap().iter();
    let door = doors.clone().find(|found| found["name"] == door).unwrap();
    let grants = door["grants"].as_array().unwrap();
    assert_eq!(grants.len(), 1, "{door}");
    grants[0].clone()
}

fn left(grant: &Value) -> f64 {
    grant["expires_in"].as_f64().unwrap()
}

/// Used again and again it stays, and ends `at_most` after the opening to the moment; a door without `extend` and a
/// stranger see nothing of it.
#[test]
fn a_grant_stays_while_it_is_used_and_ends_at_most_so_long_after_its_opening() {
    let world = world(SHORTLY);
    for (client, stranger) in CLIENT.into_iter().zip(STRANGER) {
        let before = Instant::now();
        world.knock(client, &KNOCKS);
        let opened = Instant::now();
        let mut last = opened;
        while world.connect(client, 22) == Door::Open {
            last = Instant::now();
            assert!(last - opened < Duration::from_secs(9), "it has no end");
            thread::sleep(Duration::from_millis(200));
        }
        // The connection that failed was tried for a while.
        assert!(
            last - before > Duration::from_secs(5),
            "{:?}",
            last - before
        );
        assert!(last - opened < Duration::from_millis(7500));
        assert_eq!(world.connect(client, 443), Door::Silent);
        assert_eq!(world.connect(stranger, 22), Door::Silent);
        // It is over, and one more packet brings nothing back.
        assert_eq!(world.connect(client, 22), Door::Silent);
    }
}

#[test]
fn a_grant_that_nobody_uses_ends_in_its_time() {
    let world = world(SHORTLY);
    for client in CLIENT {
        world.knock(client, &KNOCKS);
        world.until("the grant ends", || world.nobody_is_in());
        assert_eq!(world.connect(client, 22), Door::Silent);
        // A connection that another door lets in extends nothing here.
        world.knock(client, &KNOCKS);
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(2500) {
            let _ = world.connect(client, 443);
            thread::sleep(SHUT);
        }
        assert_eq!(world.connect(client, 22), Door::Silent);
    }
}

/// The status says for how long a grant holds, and for how long connections may extend it.
#[test]
fn the_status_says_how_long_connections_may_extend_a_grant() {
    let world = world(LONG);
    world.knock(CLIENT[0], &KNOCKS);
    let unused = grant(&world, "ssh");
    assert!(left(&unused) <= 2.0, "{unused}");
    assert_eq!(world.connect(CLIENT[0], 22), Door::Open);
    let used = grant(&world, "ssh");
    assert!((590.0..=600.0).contains(&left(&used)), "{used}");
    let at_most = used["extendable_for"].as_f64().unwrap();
    assert!((28_700.0..=28_800.0).contains(&at_most), "{used}");
    assert_eq!(used["key"], "yves");
    assert_eq!(grant(&world, "web")["extendable_for"], Value::Null);
    let said = String::from_utf8(world.toctoc(&["status"]).stdout).unwrap();
    assert!(said.contains("left, at most 7h 59m"), "{said}");
    assert!(said.contains("while it is used, by yves"), "{said}");
    // Its own time is over, and whose it is is still known.
    world.until("the other grant ends", || world.holders("web").is_empty());
    let later = grant(&world, "ssh");
    assert!(left(&later) > 500.0 && later["key"] == "yves", "{later}");
}

/// Closing, revoking and opening by hand end what connections have extended; nothing brings it back.
#[test]
fn what_ends_a_grant_ends_its_stay() {
    let world = world(LONG);
    let use_it = || {
        for client in CLIENT {
            world.knock(client, &KNOCKS);
            assert_eq!(world.connect(client, 22), Door::Open);
        }
        world.until("their own time is over", || world.holders("web").is_empty());
        for client in CLIENT {
            assert_eq!(world.connect(client, 22), Door::Open);
        }
    };
    let all_are_out = || {
        for client in CLIENT {
            assert_eq!(world.connect(client, 22), Door::Silent);
        }
        assert!(world.nobody_is_in());
    };
    use_it();
    let said = world.yes(&["close", "ssh"]);
    assert!(said.contains('2'), "{said}");
    all_are_out();
    // By hand it lasts as long as the administrator says.
    use_it();
    for client in CLIENT {
        world.yes(&["open", "ssh", client, "--for", "2s"]);
        assert_eq!(world.connect(client, 22), Door::Open);
    }
    world.until("the grants by hand end", || world.nobody_is_in());
    all_are_out();
    // Knocked again, the last opening counts.
    use_it();
    for client in CLIENT {
        world.knock(client, &KNOCKS);
    }
    world.until("both doors are shut", || world.nobody_is_in());
    all_are_out();
    use_it();
    world.yes(&["key", "revoke", "yves", world.path().to_str().unwrap()]);
    all_are_out();
}

/// An apply keeps what is left: with other rooms, with other networks, and without `extend`, where nothing is added any more.
#[test]
fn an_apply_keeps_what_connections_have_extended() {
    let world = world(LONG);
    for client in CLIENT {
        world.knock(client, &KNOCKS);
        assert_eq!(world.connect(client, 22), Door::Open);
    }
    world.until("their own time is over", || world.holders("web").is_empty());
    let grants = || {
        let status = world.status();
        let grants = status["doors"][0]["grants"].as_array().unwrap();
        let each = grants
            .iter()
            .map(|grant| (left(grant), grant["extendable_for"].as_f64()));
        each.collect::<Vec<_>>()
    };
    // Settings of the whole file come before its sections.
    let with = |top: &str, settings: &str| {
        policy(settings).replacen(
            "open_for = \"2s\"\n",
            &format!("open_for = \"2s\"\n{top}"),
            1,
        )
    };
    let network = "max_sources = 1000\n[grant]\nprefix4 = 24\nprefix6 = 64\n";
    for other in ["", "max_sources = 1000\n", network] {
        world.apply(&with(other, LONG));
        let held = grants();
        assert_eq!(held.len(), 2, "{other}: {held:?}");
        for (left, at_most) in held {
            assert!((500.0..=600.0).contains(&left), "{other}: {left}");
            assert!(at_most.is_some_and(|most| (28_000.0..=28_800.0).contains(&most)));
        }
    }
    world.apply(&with(network, ""));
    let before = grants();
    assert_eq!(before.len(), 2);
    for client in CLIENT {
        assert_eq!(world.connect(client, 22), Door::Open);
    }
    for ((left, at_most), (earlier, _)) in grants().into_iter().zip(before) {
        assert!(
            at_most.is_none() && left <= earlier && left > 400.0,
            "{left}"
        );
    }
    // And with `extend` again: they keep their time, which no connection extends.
    world.apply(&with(network, LONG));
    assert!(
        grants()
            .iter()
            .all(|(left, at_most)| at_most.is_none() && *left > 400.0)
    );
    world.yes(&["close"]);
    for client in CLIENT {
        assert_eq!(world.connect(client, 22), Door::Silent);
    }
}

/// Each grant is in by its last connection alone, and the room is full: one more by hand ends one of them.
#[test]
fn open_finds_room_among_grants_that_stay() {
    let policy = policy(LONG).replace("[door.web]\nports = [443]\n", "");
    let policy = policy.replace("opens = [\"ssh\", \"web\"]", "opens = [\"ssh\"]");
    let world = World::with(&format!("within = \"1s\"\nmax_sources = 256\n{policy}"));
    world.listen(22);
    let sources = (0..300u32).map(|n| std::net::Ipv4Addr::from_bits(0x0a08_0000 + n).into());
    world.inject(|injector| {
        for source in sources {
            for port in KNOCKS {
                injector.tcp(source, 7, port, SYN);
            }
            injector.tcp(source, 8, 22, SYN);
            // What a step leaves behind takes room for a second.
            thread::sleep(Duration::from_millis(25));
        }
    });
    world.until("their own time is over", || {
        !world
            .server(&["nft", "list", "set", "inet", "toctoc", "grants4"])
            .contains("expires")
    });
    assert_eq!(world.holders("ssh").len(), 256);
    let said = world.yes(&["open", "ssh", CLIENT[0]]);
    assert!(said.contains("ended"), "{said}");
    assert_eq!(world.connect(CLIENT[0], 22), Door::Open);
    assert_eq!(world.holders("ssh").len(), 256);
}
