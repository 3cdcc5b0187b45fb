//! Profiles on the disk of a client.

use std::fs;

use toctoc::lab::SERVER;

use crate::person::{Person, said};
use crate::world::{World, YVES};

#[test]
fn a_profile_is_found_by_its_host_too_unless_there_are_two() {
    let world = World::with(YVES);
    world.listen(22);
    let person = Person::with_profile(&world);
    person.yes(&["knock", SERVER[0]]);
    person.add_profile(&format!("other --host {} --sequence 5", SERVER[0]));
    let output = person.toctoc(&["knock", SERVER[0]]);
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("more than one profile, other and server"));
}

/// The file of a profile may have any name; it comes from elsewhere.
#[test]
fn no_file_name_gets_into_the_configuration_of_ssh() {
    let world = World::bare();
    let person = Person::with_profile(&world);
    let kept = person.home.path().join(".config/toctoc/server.toml");
    let odd = person
        .home
        .path()
        .join("x\n    Match exec \"touch here\"\n#.toml");
    fs::copy(kept, &odd).unwrap();
    let output = person.toctoc(&["profile", "ssh-config", odd.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        said(&output).contains("a profile with a name"),
        "{}",
        said(&output)
    );
    assert!(
        person
            .yes(&["profile", "ssh-config", "server"])
            .contains("connect --fdpass server %p")
    );
}

/// Where there is no home, nothing is taken from the directory that one happens to be in.
#[test]
fn without_a_home_there_are_no_profiles() {
    let world = World::bare();
    let person = Person::with_profile(&world);
    let config = person.home.path().join(".config");
    for (home, code) in [("", 2), (config.parent().unwrap().to_str().unwrap(), 0)] {
        let mut command = person.command("toctoc");
        command
            .args(["profile", "show", "server"])
            .current_dir(&config);
        command.env("HOME", home).env("XDG_CONFIG_HOME", ".");
        assert_eq!(command.output().unwrap().status.code(), Some(code));
    }
    let mut command = person.command("toctoc");
    command
        .env("HOME", "")
        .args(["profile", "add", "x", "--host", "x", "--sequence", "5"]);
    assert!(said(&command.output().unwrap()).contains("HOME is not set"));
}

#[test]
fn profiles_are_kept_shown_without_secrets_and_taken_away() {
    const SECRET: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
    let world = World::bare();
    let person = Person::on(&world);
    assert!(person.yes(&["profile", "list"]).contains("no profiles"));
    let add = [
        "profile",
        "add",
        "phone",
        "--host",
        "server.example",
        "--door",
        "22",
        "--token",
        "-",
        "--token-port",
        "40123",
    ];
    let output = person.toctoc_reading(&add, format!("{SECRET}\n").as_bytes());
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let file = person.home.path().join(".config/toctoc/phone.toml");
    let mode = std::os::unix::fs::MetadataExt::mode(&file.metadata().unwrap());
    assert_eq!(mode & 0o777, 0o600);
    person.add_profile("home --host 192.0.2.1 --sequence 443,53/udp");
    let list = person.yes(&["profile", "list"]);
    assert!(
        list.contains("home             192.0.2.1                -          2 knocks\n"),
        "{list}"
    );
    assert!(
        list.contains(
            "phone            server.example           22/tcp     a token to 40123/udp\n"
        ),
        "{list}"
    );
    for (arguments, secret) in [
        (&["profile", "show", "phone"][..], false),
        (&["profile", "ssh-config", "phone"], false),
        (&["profile", "show", "phone", "--reveal"], true),
        (&["profile", "show", "phone", "--link"], true),
    ] {
        let shown = person.yes(arguments);
        assert_eq!(shown.contains(SECRET), secret, "{shown}");
    }
    assert!(!person.yes(&["profile", "show", "home"]).contains("443"));
    // By its link to another name, and back to the same profile.
    let link = person.yes(&["profile", "show", "phone", "--link"]);
    let output = person.toctoc_reading(&["profile", "import", "-"], link.as_bytes());
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert_eq!(
        person.yes(&["profile", "show", "server.example", "--reveal"]),
        person.yes(&["profile", "show", "phone", "--reveal"])
    );
    let output = person.toctoc_reading(&["profile", "import", "-"], link.as_bytes());
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("`toctoc profile remove server.example` takes it away"));
    person.yes(&["profile", "remove", "phone"]);
    assert!(!file.exists());
    for (arguments, wanted) in [
        (
            &["profile", "remove", "phone"][..],
            "there is no profile phone",
        ),
        (&["profile", "remove", "../x"], "is no name of a profile"),
        (&["profile", "show", "phone"], "there is no profile phone"),
        (&["profile", "remove", "phone"], "; there are: "),
        (&["profile", "show", "phone"], "; there are: "),
        (&["knock", "phone"], "server.example"),
        (
            &["profile", "add", "a b", "--host", "x", "--sequence", "5"],
            "is no name",
        ),
        (
            &["profile", "add", "a", "--host", "x;y", "--sequence", "5"],
            "neither a name of a host",
        ),
        (&["profile", "add", "a", "--host", "x"], "--sequence"),
        (
            &["profile", "add", "a", "--host", "x", "--sequence", "443,0"],
            "no port is 0",
        ),
        (
            &["profile", "show", "home", "--as", "telnet"],
            "not one of nmap, nc, knock, ssh",
        ),
    ] {
        let output = person.toctoc(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(said(&output).contains(wanted), "{}", said(&output));
    }
}
