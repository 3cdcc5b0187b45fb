//! Things of others beside a door: firewalls that drop what comes to it, programs and translations by which its service
//! is reached otherwise, addresses at which no knock is heard. It is said, and never changed.

use std::time::Instant;

use crate::world::{World, YVES};

/// The words of apply, check and status: each must have it, or none.
fn say(world: &World, part: &str, there: bool) {
    for command in ["apply", "check", "status"] {
        let output = world.toctoc(&[command]);
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8(said).unwrap();
        assert_eq!(said.contains(part), there, "{command}: {said}");
        assert!(
            there || !said.contains("another firewall"),
            "{command}: {said}"
        );
    }
}

const TABLE: &str = "table inet filter { chain input { type filter hook input priority 0; policy drop; \
                     ct state established,related accept\n iif lo accept\n }\n}";

fn a_firewall_of_others_that_drops_the_door_is_named() {
    let world = World::with(YVES);
    say(&world, "another firewall", false);
    world.nft(TABLE);
    let before = world.server(&["nft", "list", "table", "inet", "filter"]);
    say(
        &world,
        "another firewall (table inet filter, chain input) drops 22/tcp, whatever is knocked: let it in there",
        true,
    );
    assert_eq!(
        world.server(&["nft", "list", "table", "inet", "filter"]),
        before
    );
    world.nft("add rule inet filter input ip saddr 192.0.2.77 tcp dport 22 accept");
    say(
        &world,
        "(table inet filter, chain input) may drop 22/tcp",
        true,
    );
    // One that is switched off drops nothing.
    world.nft("add table inet filter { flags dormant; }");
    say(&world, "another firewall", false);
    world.nft("add table inet filter");
    say(&world, "another firewall", true);
    world.nft("add rule inet filter input tcp dport { 22, 80 } ct state new accept");
    say(&world, "another firewall", false);
}

fn chains_of_iptables_that_drop_the_door_are_named() {
    let world = World::with(YVES);
    say(&world, "another firewall", false);
    world.server(&["iptables", "-A", "INPUT", "-i", "lo", "-j", "ACCEPT"]);
    world.server(&["iptables", "-P", "INPUT", "DROP"]);
    let drops = "another firewall (iptables, table filter, chain INPUT) drops 22/tcp over IPv4";
    say(&world, drops, true);
    let rule = [
        "iptables",
        "-A",
        "INPUT",
        "-p",
        "tcp",
        "-m",
        "multiport",
        "--dports",
        "22,80",
        "-j",
        "ACCEPT",
    ];
    world.server(&rule);
    say(&world, "another firewall", false);
}

/// A blocklist of others costs nothing: none of it is read.
#[test]
fn a_large_set_of_others_is_not_read() {
    let world = World::with(YVES);
    let nets: Vec<String> = (0..100_000)
        .map(|i| format!("10.{}.{}.{}/29", i >> 13, i >> 5 & 255, i % 32 * 8))
        .collect();
    world.nft(&format!(
        "table inet big {{ set nets {{ type ipv4_addr; flags interval; elements = {{ {} }}\n }}\n \
         chain input {{ type filter hook input priority 0; policy drop; ip saddr @nets drop\n }}\n}}",
        nets.join(", ")
    ));
    let begin = Instant::now();
    world.server(&["nft", "list", "ruleset"]);
    let all = begin.elapsed();
    world.yes(&["apply"]);
    let begin = Instant::now();
    let said = world.yes(&["status"]);
    let taken = begin.elapsed();
    assert!(
        said.contains("(table inet big, chain input) drops 22/tcp"),
        "{said}"
    );
    assert!(taken < all / 2, "{taken:?}, and {all:?} for all of it");
}

#[test]
fn programs_and_translations_beside_a_door_are_named() {
    let world = World::bare();
    world.listen(22);
    std::fs::write(world.path(), YVES).unwrap();
    let check = || {
        let output = world.toctoc(&["check"]);
        String::from_utf8(output.stderr).unwrap()
    };
    let said = check();
    for word in ["door-beside", "door-translated"] {
        assert!(!said.contains(word), "{said}");
    }
    world.listen(2222);
    let said = check();
    assert!(
        said.contains("also listens at 2222/tcp, which is no door"),
        "{said}"
    );
    world.nft(
        "table ip nat { chain p { type nat hook prerouting priority -100; tcp dport 2022 redirect to :22\n \
         tcp dport 2023 dnat to 192.0.2.1:22\n tcp dport 22 dnat to 192.0.2.9\n tcp dport 80 redirect to :8080\n }\n}",
    );
    let said = check();
    for part in [
        "2022/tcp is translated to 22/tcp (table ip nat, chain p)",
        "2023/tcp is translated to 22/tcp",
        "22/tcp may be translated to 192.0.2.9:22",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(!said.contains("8080"), "{said}");
}

#[test]
fn addresses_where_no_knock_is_heard_are_named() {
    let world = World::with(YVES);
    let told = "knocks are not heard at 192.0.2.1: not in the routing table `local`";
    say(&world, told, false);
    for command in [
        "route add local 192.0.2.1 dev eth0 table 100",
        "rule add pref 1 iif eth0 lookup 100",
        "route del local 192.0.2.1 dev eth0 table local",
    ] {
        world.lab.server.ip(command).unwrap();
    }
    say(&world, told, true);
}

on_every_firewall!(
    a_firewall_of_others_that_drops_the_door_is_named,
    chains_of_iptables_that_drop_the_door_are_named,
);
