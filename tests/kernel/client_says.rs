//! The words of our client when it cannot get in, and what a network between does.

use toctoc::lab::SERVER;

use crate::person::{Person, said};
use crate::world::{World, YVES};

/// So do some firewalls say that a door is shut, before and after: RHEL's own among them.
#[test]
fn a_firewall_that_answers_in_place_of_the_door_keeps_nobody_out() {
    let world = World::with(YVES);
    world.listen(22);
    world.nft(
        "table inet between { chain c { type filter hook input priority 10; }\n chain d { \
         type filter hook prerouting priority -500; ip saddr 192.0.2.7 tcp dport 22 limit rate over \
         1/hour burst 1 packets accept\n ip saddr 192.0.2.7 tcp dport 22 meta mark set 9\n }\n \
         chain e { type filter hook prerouting priority -450; meta mark 9 reject with icmp type \
         host-prohibited\n }\n}",
    );
    let person = Person::with_profile(&world);
    let output = person.toctoc(&["knock", "server"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(
        said(&output).contains("is open, after"),
        "{}",
        said(&output)
    );
}

/// A network between that lets some ports through, one that turns packets back, and one that swallows
/// everything.
#[test]
fn what_a_network_between_does_is_told() {
    let world = World::with(YVES);
    world.listen(22);
    let person = Person::with_profile(&world);
    let between = |host: &toctoc::lab::Host, rules: &str| {
        let script = format!("table inet between {{}}\ndelete table inet between\n{rules}\n");
        let ended = host.inside(|| toctoc::firewall::run(&["nft", "-f", "-"], &script));
        let ended = ended.unwrap().unwrap();
        assert!(ended.succeeded(), "{}", ended.stderr);
    };
    let hook = "type filter hook prerouting priority -400;";
    for (on_client, rules, wanted) in [
        (
            false,
            format!("table inet between {{ chain c {{ {hook} tcp dport 2387 drop;\n}}\n}}"),
            "the host answers at 443/tcp, 920/tcp, 18357/tcp and 50/tcp, but not at 2387/tcp",
        ),
        (
            false,
            format!("table inet between {{ chain c {{ {hook} tcp dport != 80 tcp dport != 443 drop;\n}}\n}}"),
            "the host answers at 443/tcp, but not at 2387/tcp",
        ),
        (
            false,
            format!("table inet between {{ chain c {{ {hook} ip saddr 192.0.2.7 drop;\n}}\n}}"),
            "nothing there answers, at 443/tcp, 2387/tcp, 920/tcp, 18357/tcp, 50/tcp and 80/tcp either",
        ),
        (
            true,
            "table inet between { chain c { type filter hook output priority 0; tcp dport 2387 reject with \
             icmpx type admin-prohibited\n}\n}"
                .to_string(),
            "packets to 2387/tcp are turned back",
        ),
    ] {
        let host = if on_client { &world.lab.client } else { &world.lab.server };
        between(host, &rules);
        let output = person.toctoc(&["knock", "server"]);
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        assert!(said(&output).contains(wanted), "{}", said(&output));
        between(host, "");
    }
    assert!(world.nobody_is_in());
    // The twin: without them it opens.
    person.yes(&["knock", "server"]);
}

#[test]
fn what_cannot_be_sent_is_told_with_a_hint() {
    let world = World::with(YVES);
    let person = Person::on(&world);
    world
        .lab
        .client
        .ip("route add prohibit 198.51.100.0/24")
        .unwrap();
    for (host, wanted) in [
        ("203.0.113.1", "Network is unreachable"),
        ("203.0.113.1", "this machine has no way there"),
        ("198.51.100.1", "a firewall of this machine forbids it"),
        ("fe80::1", "fe80::1%eth0"),
        ("no-such-host.invalid", "no-such-host.invalid is not found"),
    ] {
        let output = person.toctoc(&["knock", host, "443", "--door", "22"]);
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        assert!(said(&output).contains(wanted), "{host}: {}", said(&output));
    }
}

#[test]
fn what_is_no_knock_is_refused() {
    let world = World::bare();
    let person = Person::on(&world);
    for (arguments, wanted) in [
        (&["-6", SERVER[0], "1"][..], "has no IPv6 address"),
        (&[SERVER[0], "0"], "no port is 0"),
        (
            &[SERVER[0], "x"],
            "`x` is neither a port nor the name of a service",
        ),
        (
            &[SERVER[0], "1", "--door", "22/udp"],
            "only a TCP door can be tried",
        ),
        (&[SERVER[0], "1", "--gap", "x"], "`x` is not a pause"),
        (&[SERVER[0], "1", "--gap", "2h"], "`2h` is not a pause"),
    ] {
        let output = person.toctoc(&[&["knock"], arguments].concat());
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        assert!(said(&output).contains(wanted), "{}", said(&output));
    }
}

#[test]
fn a_door_without_a_program_behind_it_is_told() {
    let world = World::with(YVES);
    let person = Person::with_profile(&world);
    let output = person.toctoc(&["knock", "server"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said(&output).contains("nothing listens behind it"),
        "{}",
        said(&output)
    );
}

/// The sequence is right, and another firewall drops what comes to the door: nobody can know that from here.
#[test]
fn a_right_sequence_is_not_called_wrong() {
    let world = World::with(YVES);
    world.listen(22);
    let person = Person::with_profile(&world);
    for policy in ["policy drop;", "tcp dport 22 drop;"] {
        world.nft(&format!(
            "table inet other {{}}\ndelete table inet other\ntable inet other {{ chain c {{ type filter hook input \
             priority 10; {policy}\n}}\n}}"
        ));
        world.yes(&["close"]);
        let output = person.toctoc(&["knock", "server"]);
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        assert_eq!(world.holders("ssh").len(), 1, "the key has opened");
        let wanted = "whether this key opened. If it did, another firewall there drops what comes to the door";
        assert!(said(&output).contains(wanted), "{}", said(&output));
    }
}
