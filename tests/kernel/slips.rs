//! Slips of people at the command line: a port or a key in the place of a door, a door in that of a key, a port behind a
//! host. Each is told what was meant; nothing is changed.

use toctoc::client::Door;
use toctoc::lab::{CLIENT, SERVER};

use crate::person::{Person, said};
use crate::token_world::{SECRET, guarded, guarded_without_a_wait};
use crate::world::{SEQUENCE, World, YVES};

#[test]
fn what_is_no_door_is_told_what_it_is() {
    let world = World::with(YVES);
    world.listen(22);
    world.knock(CLIENT[0], &SEQUENCE);
    let before = world.all_rules();
    for (arguments, wanted) in [
        (
            &["close", "22"][..],
            "no door `22`; port 22 is of door `ssh`",
        ),
        (
            &["open", "22", CLIENT[1]],
            "no door `22`; port 22 is of door `ssh`",
        ),
        (&["close", "yves"], "`yves` is a key, which opens `ssh`"),
        (&["close", "shs"], "did you mean `ssh`?"),
        (&["close", "23"], "the doors are: ssh"),
        (
            &["open", "22/tcp", CLIENT[1]],
            "`toctoc status` shows the doors and their ports",
        ),
    ] {
        let output = world.toctoc(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(
            said(&output).contains(wanted),
            "{arguments:?}: {}",
            said(&output)
        );
    }
    assert_eq!(world.all_rules(), before);
    assert_eq!(world.connect(CLIENT[0], 22), Door::Open);
}

#[test]
fn what_is_no_key_is_told_what_it_is() {
    let world = World::with(YVES);
    let path = world.path().display().to_string();
    for (name, wanted) in [
        ("ssh", "`ssh` is a door, opened by yves"),
        ("yve", "did you mean `yves`?"),
        ("somebody", "the keys are: yves"),
    ] {
        let output = world.toctoc(&["key", "revoke", name, &path]);
        assert_eq!(output.status.code(), Some(1), "{name}");
        assert!(said(&output).contains(wanted), "{name}: {}", said(&output));
    }
}

/// The port for tokens stays for the next key, and that is said; once, and not while another key has tokens.
#[test]
fn the_port_of_the_last_token_key_is_told() {
    let world = guarded();
    let path = world.path().display().to_string();
    world.yes(&["key", "new", "bob", "--host", SERVER[0], &path]);
    let told = "`token_port = 40123` stays";
    for (name, is_last) in [("bob", false), ("alice", true)] {
        let text = world.yes(&["key", "revoke", name, "--anyway", &path]);
        assert_eq!(text.contains(told), is_last, "{name}: {text}");
    }
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains("token_port = 40123"), "{text}");
    world.yes(&[
        "key",
        "new",
        "carol",
        "--sequence",
        "4",
        "--host",
        SERVER[0],
        &path,
    ]);
    let text = world.yes(&["key", "revoke", "carol", "--anyway", &path]);
    assert!(!text.contains(told), "{text}");
}

#[test]
fn a_host_with_a_port_or_a_user_is_told_how_to_write_it() {
    let world = World::with(YVES);
    let person = Person::with_profile(&world);
    for (arguments, wanted) in [
        (
            &["knock", "192.0.2.1:22"][..],
            "`toctoc knock 192.0.2.1 --door 22`",
        ),
        (
            &["knock", "[2001:db8::1]:22"],
            "`toctoc knock 2001:db8::1 --door 22`",
        ),
        (
            &["knock", "192.0.2.1:22", "443", "2387"],
            "`toctoc knock 192.0.2.1 --door 22 4431 2387 920`",
        ),
        (&["knock", "root@192.0.2.1"], "`toctoc knock 192.0.2.1`"),
        (&["knock", "192.0.2.1", "tcp/443"], "write 443/tcp"),
        (&["knock", "a b", "443"], "a host is a name or an address"),
    ] {
        let output = person.toctoc(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let said = said(&output);
        assert!(
            said.contains(wanted) && !said.contains("os error"),
            "{arguments:?}: {said}"
        );
    }
}

/// A second token counts, although a first one has just opened, and a client that did not look does not say that it was the
/// knock that opened.
#[test]
fn knocking_in_any_case_renews_with_tokens_too() {
    let world = guarded_without_a_wait();
    let person = Person::on(&world);
    let profile = world.profile(&format!(
        "host = \"192.0.2.1\"\ndoor = 22\ntoken = \"{SECRET}\"\ntoken_port = 40123\n"
    ));
    let opened = || {
        let status = world.status();
        status["keys"][0]["opened"].as_u64().unwrap()
    };
    let text = person.yes(&["knock", &profile]);
    assert!(text.contains("is open, after"), "{text}");
    assert_eq!(opened(), 1);
    // The twin: without `--always` an open door is left alone.
    let text = person.yes(&["knock", &profile]);
    assert!(text.contains("is open already"), "{text}");
    assert_eq!(opened(), 1);
    for times in 2..5 {
        let text = person.yes(&["knock", &profile, "--always"]);
        assert!(text.contains("is open; it may have been before"), "{text}");
        assert_eq!(opened(), times, "{text}");
    }
}
