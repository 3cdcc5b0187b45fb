//! What a profile prints for other tools, run as it stands.

use toctoc::lab::SERVER;

use crate::person::{Person, SEQUENCE, said};
use crate::world::{World, YVES};

/// Each command that `profile show --as` prints, run by a shell as it stands.
#[test]
fn other_tools_open_the_door_with_what_a_profile_prints_for_them() {
    let policy = "within = \"20s\"\n".to_string() + YVES;
    let world = World::with(&policy);
    world.listen(22);
    let person = Person::with_profile(&world);
    person.add_profile(&format!(
        "v6 --host {} --door 22 --sequence {SEQUENCE}",
        SERVER[1]
    ));
    let wrong = "443,2387,920,18357,51";
    person.add_profile(&format!(
        "wrong --host {} --door 22 --sequence {wrong}",
        SERVER[0]
    ));
    for tool in ["nmap", "nc", "knock", "ssh", "knockonports"] {
        for (profile, opens) in [("wrong", false), ("server", true), ("v6", true)] {
            world.yes(&["close"]);
            knock_as_told(&person, profile, tool);
            assert_eq!(!world.nobody_is_in(), opens, "{tool} {profile}");
        }
    }
}

#[test]
fn other_tools_knock_over_udp_with_what_a_profile_prints_for_them() {
    let policy = "within = \"20s\"\n".to_string() + &YVES.replace("920", "\"920/udp\"");
    let world = World::with(&policy);
    let person = Person::on(&world);
    for (name, third) in [("server", "920/udp"), ("wrong", "920/tcp")] {
        let sequence = SEQUENCE.replace("920", third);
        person.add_profile(&format!(
            "{name} --host {} --sequence {sequence}",
            SERVER[0]
        ));
    }
    for tool in ["nmap", "nc", "knock", "knockonports"] {
        for (profile, opens) in [("wrong", false), ("server", true)] {
            world.yes(&["close"]);
            knock_as_told(&person, profile, tool);
            assert_eq!(!world.nobody_is_in(), opens, "{tool} {profile}");
        }
    }
    let output = person.toctoc(&["profile", "show", "server", "--as", "ssh"]);
    assert!(said(&output).contains("ssh cannot knock over UDP"));
}

/// Follows what is printed for a tool. The application for telephones is not here: its file is read
/// as it reads it, and each step done.
fn knock_as_told(person: &Person, profile: &str, tool: &str) {
    let told = person.yes(&["profile", "show", profile, "--as", tool]);
    if tool != "knockonports" {
        person.run(&["sh", "-c", &told]);
        return;
    }
    let file: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!(file["version"], 1);
    let sequence = &file["sequences"][0];
    assert_eq!(sequence["delay"], 7);
    let host = sequence["host"].as_str().unwrap();
    for step in sequence["steps"].as_array().unwrap() {
        let step = format!("{}:{}", step["port"], step["type"].as_str().unwrap());
        assert!(person.run(&["knock", host, &step]).status.success());
    }
}
