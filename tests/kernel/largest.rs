//! The largest and smallest of everything that `check` accepts. Each is applied, and the door is shut to strangers and
//! opens to those who knock; or it is refused before anything is changed.

use toctoc::client::Door;
use toctoc::lab::CLIENT;

use crate::world::{World, YVES};

const KNOCKS: [u16; 3] = [4431, 2387, 920];

/// The longest name, with this at its end.
fn name(end: usize) -> String {
    format!("{:n<28}{end:04}", "")
}

fn list<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    format!("[{}]", items.join(", "))
}

fn quoted<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    list(
        items
            .into_iter()
            .map(|item| format!("\"{}\"", item.to_string())),
    )
}

/// Every other port, so that nothing can be put together to ranges: TCP and UDP in turn.
fn scattered(from: u16, number: u16) -> String {
    let ports = (0..number).map(|i| match (from + 2 * i, i % 2) {
        (port, 0) => port.to_string(),
        (port, _) => format!("\"{port}/udp\""),
    });
    list(ports)
}

/// Sequences of as many knocks as there may be, all different from the second knock on.
fn long_sequences(number: usize) -> impl Iterator<Item = String> {
    let port =
        |i: usize, knock: usize| 20_000 + (i * 7919 + knock * 4099 + knock * knock * i) % 40_000;
    (0..number).map(move |i| list((0..32).map(|knock| port(i, knock))))
}

/// A policy with this at its top, in its door and in its key, and below all.
struct Parts {
    what: &'static str,
    top: String,
    door: String,
    key: String,
    below: String,
}

fn parts(what: &'static str) -> Parts {
    Parts {
        what,
        top: String::new(),
        door: String::new(),
        key: String::new(),
        below: String::new(),
    }
}

impl Parts {
    fn policy(&self) -> String {
        let Parts {
            top,
            door,
            key,
            below,
            ..
        } = self;
        format!(
            "{top}\n[door.ssh]\n{door}\nports = [22]\n[key.yves]\nopens = [\"ssh\"]\nsequence = {}\n{key}\n{below}\n",
            list(KNOCKS)
        )
    }
}

fn all() -> Vec<Parts> {
    let mut all = Vec::new();
    for (what, top) in [
        (
            "longest",
            "within = \"1h\"\nopen_for = \"30d\"\nlog = \"nflog:65535\"",
        ),
        (
            "shortest",
            "within = \"1s\"\nopen_for = \"1s\"\nlog = \"nflog:0\"",
        ),
        (
            "odd",
            "within = \"59m 59s\"\nopen_for = \"29days 23h 59m 59s\"\nlog = \"off\"",
        ),
        (
            "most sources",
            "max_sources = 1048576\nopen_for = \"30d\"\nwithin = \"1h\"",
        ),
        (
            "fewest sources",
            "max_sources = 256\nopen_for = \"30d\"\nwithin = \"1h\"",
        ),
        (
            "sources in no time",
            "max_sources = 1048576\nwithin = \"100ms\"\nopen_for = \"1s\"",
        ),
        (
            "finest",
            "within = \"59m 59s 999ms\"\nopen_for = \"29days 23h 59m 59s 999ms\"",
        ),
        ("reject", "closed = \"reject\""),
        ("ignored", &format!("ignore = {}", scattered(30_001, 800))),
        ("interfaces", &format!("interfaces = {}", interfaces(150))),
        (
            "odd interfaces",
            "interfaces = [\"eth0\", \"a.b-c_d@e12345\", \"-x\"]",
        ),
    ] {
        all.push(Parts {
            top: top.to_string(),
            ..parts(what)
        });
        if ["longest", "fewest sources"].contains(&what) {
            all.push(Parts {
                top: top.to_string(),
                key: "once = true".to_string(),
                ..parts(what)
            });
        }
    }
    for (what, trust) in [
        ("many networks", networks(300)),
        (
            "networks in one another",
            quoted([
                "10.0.0.0/8",
                "10.1.0.0/16",
                "10.1.2.3",
                "10.1.2.3",
                "fd00::/8",
                "fd00::1",
            ]),
        ),
        (
            "nearly everybody",
            quoted([
                "0.0.0.0/1",
                "128.0.0.0/2",
                "198.0.0.0/7",
                "255.255.255.255",
                "fe00::/7",
                "ffff::/16",
            ]),
        ),
    ] {
        all.push(Parts {
            door: format!("trust = {trust}"),
            ..parts(what)
        });
    }
    for (what, below) in [
        (
            "widest grants",
            "[grant]\nprefix4 = 8\nprefix6 = 32".to_string(),
        ),
        (
            "narrowest grants",
            "[grant]\nprefix4 = 32\nprefix6 = 128".to_string(),
        ),
        (
            "allowed",
            format!(
                "[firewall]\ndefault = \"drop\"\nforward = \"drop\"\nping = true\nallow = {}",
                scattered(30_001, 800)
            ),
        ),
        (
            "one long door",
            format!("[door.{}]\nports = {}", name(0), scattered(30_001, 800)),
        ),
        ("doors", doors(150)),
        ("some doors", doors(60)),
        (
            "scratch",
            format!(
                "[key.{}]\nopens = [\"ssh\"]\nscratch = {}",
                name(1),
                list(long_sequences(100))
            ),
        ),
        ("long keys", keys(200)),
        ("some long keys", keys(8)),
    ] {
        all.push(Parts {
            below,
            ..parts(what)
        });
    }
    for expires in ["2037-12-31", "2199-12-31T23:59:59Z"] {
        all.push(Parts {
            below: format!(
                "[key.{}]\nopens = [\"ssh\"]\nsequence = [7123, 812, 9411]\nexpires = {expires}",
                name(1)
            ),
            ..parts("a date")
        });
    }
    all
}

fn interfaces(number: usize) -> String {
    let names = (0..number).map(|i| format!("if{i:013}"));
    quoted(names.chain(["eth0".to_string()]))
}

fn networks(number: usize) -> String {
    let v4 = (0..number).map(|i| format!("10.{}.{}.0/24", i / 256, i % 256));
    quoted(v4.chain((0..number).map(|i| format!("fd00:{i:x}::/32"))))
}

/// Doors with the longest names, and two keys for all of them whose times take the most room.
fn doors(number: usize) -> String {
    let each = (0..number).map(|i| {
        format!(
            "[door.{}]\nports = [{}, \"{}/udp\"]\n",
            name(i),
            30_000 + i,
            40_000 + i
        )
    });
    let opens = quoted((0..number).map(name));
    let key = |key: usize, sequence: &str, more: &str| {
        format!(
            "[key.{}]\nopens = {opens}\nsequence = {sequence}\nopen_for = \"29days 23h 59m 59s\"\n{more}\n",
            name(key)
        )
    };
    let keys = key(1, "[7123, 812, 9411]", "") + &key(2, "[8123, 712, 9511]", "once = true");
    each.collect::<String>() + &keys
}

fn keys(number: usize) -> String {
    let each = long_sequences(number).enumerate();
    each.map(|(i, sequence)| {
        format!(
            "[key.{}]\nopens = [\"ssh\"]\nsequence = {sequence}\n",
            name(i)
        )
    })
    .collect()
}

fn the_largest_that_is_accepted_is_applied() {
    let world = World::bare();
    world.listen(22);
    let (mut refused, mut applied) = (Vec::new(), 0);
    for parts in all() {
        let (what, policy) = (parts.what, parts.policy());
        std::fs::write(world.path(), &policy).unwrap();
        let before = world.all_rules();
        let checked = world.toctoc(&["check"]);
        let output = world.toctoc(&["apply"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if checked.status.code() == Some(1) {
            assert_eq!(output.status.code(), Some(1), "{what}: {said}");
            assert!(
                said.contains("the running firewall was not changed"),
                "{what}: {said}"
            );
            assert_eq!(world.all_rules(), before, "{what}");
            refused.push(what);
            continue;
        }
        let checked = String::from_utf8_lossy(&checked.stderr).into_owned();
        assert_eq!(output.status.code(), Some(0), "{what}: {said} {checked}");
        let status = world.status();
        assert_eq!(
            status["matches_policy"], true,
            "{what}: {}",
            status["drift"]
        );
        applied += 1;
        let opened = || world.status()["keys"][0]["opened"].as_u64().unwrap();
        let before = opened();
        world.knock(CLIENT[0], &KNOCKS);
        assert_eq!(opened() - before, 1, "{what}");
        // Somebody is in, and nobody else. Where rules are many this could be otherwise.
        if !parts.below.is_empty() {
            assert_eq!(world.connect(CLIENT[0], 22), Door::Open, "{what}");
            world.yes(&["close"]);
            assert_ne!(world.connect(CLIENT[0], 22), Door::Open, "{what}");
        }
    }
    assert!(applied > 15, "refused: {refused:?}");
    match world.is_nftables() {
        true => assert_eq!(refused, [] as [&str; 0]),
        false => {
            let known = [
                "finest",
                "reject",
                "sources",
                "doors",
                "scratch",
                "long keys",
                "a date",
            ];
            let odd: Vec<_> = refused
                .iter()
                .filter(|what| !known.iter().any(|k| what.contains(k)))
                .collect();
            assert!(odd.is_empty(), "{odd:?}");
        }
    }
    world.apply(YVES);
}

on_every_firewall!(the_largest_that_is_accepted_is_applied);
