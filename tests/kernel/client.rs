//! Our client from the other side of the cable: when it knocks, and where. The client does not know which
//! firewall it meets, so one is enough.

use std::process::Output;

use toctoc::lab::{CLIENT, SERVER};

use crate::person::{Person, SEQUENCE, said};
use crate::world::{World, YVES};

/// Counts what comes to the ports of the sequence.
fn count_knocks(world: &World) {
    world.nft(
        "table inet beside { counter knocks { }\n chain c { type filter hook prerouting priority -400; \
         tcp flags & (fin | syn | rst | ack) == syn tcp dport { 443, 2387, 920, 18357, 50 } counter name knocks\n}\n}",
    );
}

#[test]
fn a_profile_opens_its_door_and_another_sequence_does_not() {
    let world = World::with(YVES);
    world.listen(22);
    let person = Person::with_profile(&world);
    person.add_profile(&format!(
        "wrong --host {} --door 22 --sequence 443,2387,920,50",
        SERVER[0]
    ));
    let output = person.toctoc(&["knock", "wrong"]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("22/tcp at 192.0.2.1 stays shut"));
    assert!(
        said(&output).contains("the knocks reach it"),
        "{}",
        said(&output)
    );
    assert!(world.nobody_is_in());
    let output = person.yes(&["knock", "server"]);
    assert!(
        output.starts_with("22/tcp at 192.0.2.1 is open, after "),
        "{output}"
    );
    assert_eq!(world.holders("ssh").len(), 1);
}

#[test]
fn an_open_door_is_not_knocked_at() {
    let world = World::with(YVES);
    world.listen(22);
    count_knocks(&world);
    let person = Person::with_profile(&world);
    world.yes(&["open", "ssh", CLIENT[0]]);
    for arguments in [&["knock", "server"][..], &["connect", "server"]] {
        let output = person.toctoc(arguments);
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
        assert_eq!(world.counted("knocks"), 0, "{arguments:?}");
    }
    assert!(said(&person.toctoc(&["knock", "server"])).contains("open already: did not knock"));
    // The twins: asked to, and when it is shut.
    person.yes(&["knock", "--always", "server"]);
    assert_eq!(world.counted("knocks"), 5);
    world.yes(&["close"]);
    person.yes(&["knock", "server"]);
    assert_eq!(world.counted("knocks"), 10);
}

#[test]
fn quiet_says_nothing_when_it_works_and_when_there_is_no_profile() {
    let world = World::with(YVES);
    world.listen(22);
    let person = Person::with_profile(&world);
    for (target, code) in [("server", 0), ("nobody.example", 2)] {
        let output = person.toctoc(&["knock", "--quiet", target]);
        assert_eq!(output.status.code(), Some(code));
        assert_eq!(said(&output), "", "{target}");
    }
    assert!(said(&person.toctoc(&["knock", "nobody.example"])).contains("there is no profile"));
    world.yes(&["close"]);
    person.add_profile(&format!(
        "wrong --host {} --door 22 --sequence 5",
        SERVER[0]
    ));
    let output = person.toctoc(&["knock", "--quiet", "wrong"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("stays shut"));
}

/// Names for the client, in a mount namespace of the program.
fn with_hosts(person: &Person, hosts: &str, script: &str) -> Output {
    let file = person.home.path().join("hosts");
    std::fs::write(&file, hosts).unwrap();
    let script = format!("mount --bind {} /etc/hosts && {script}", file.display());
    person.run(&["unshare", "--mount", "--", "sh", "-c", &script])
}

#[test]
fn an_address_that_swallows_everything_does_not_keep_one_out() {
    let world = World::with(YVES);
    world.listen(22);
    // There is a way to the first address, and it is a hole.
    world
        .lab
        .client
        .ip("route add 2001:db8:dead::/64 dev eth0")
        .unwrap();
    let neighbour = "neigh add 2001:db8:dead::1 lladdr 02:00:00:00:00:77 dev eth0";
    world.lab.client.ip(neighbour).unwrap();
    let person = Person::on(&world);
    let hosts = "2001:db8:dead::1 two.example\n192.0.2.1 two.example\n";
    person.add_profile(&format!(
        "two --host two.example --door 22 --sequence {SEQUENCE}"
    ));
    let output = with_hosts(&person, hosts, "toctoc knock two");
    assert!(
        said(&output).starts_with("22/tcp at 192.0.2.1 is open, after "),
        "{}",
        said(&output)
    );
    assert!(
        said(&output).ends_with("ms\n"),
        "at the first try: {}",
        said(&output)
    );
    // The twin: alone, it does.
    world.yes(&["close"]);
    let output = with_hosts(&person, hosts, "toctoc knock -6 two");
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(world.nobody_is_in());
}

#[test]
fn both_families_are_opened_when_asked_for() {
    let world = World::with(YVES);
    world.listen(22);
    let person = Person::on(&world);
    let hosts = "2001:db8::1 two.example\n192.0.2.1 two.example\n";
    person.add_profile(&format!(
        "two --host two.example --door 22 --sequence {SEQUENCE}"
    ));
    let output = with_hosts(&person, hosts, "toctoc knock two");
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    world.until("one is in", || world.holders("ssh").len() == 1);
    world.yes(&["close"]);
    let output = with_hosts(&person, hosts, "toctoc knock --both two");
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    world.until("both are in", || world.holders("ssh").len() == 2);
    // A host with one family has not both.
    let output = with_hosts(
        &person,
        "192.0.2.1 two.example\n",
        "toctoc knock --both two",
    );
    assert!(
        said(&output).contains("has no IPv6 address"),
        "{}",
        said(&output)
    );
    assert_eq!(output.status.code(), Some(2));
}

/// Slow knocks are not disturbed by the SYN that looked whether the door was open.
#[test]
fn slow_knocks_open_at_the_first_try() {
    let world = World::with(YVES);
    world.listen(22);
    let person = Person::with_profile(&world);
    let output = person.toctoc(&["knock", "--gap", "300ms", "server"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(
        said(&output).contains("is open, after"),
        "{}",
        said(&output)
    );
    assert!(!said(&output).contains("try"), "{}", said(&output));
}
