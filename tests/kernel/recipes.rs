//! The output of a profile for other tools, run as it stands.

use toctoc::lab::SERVER;

use crate::person::{Person, SEQUENCE, said};
use crate::token_world::{ALICE, OTHER, SECRET, after_a_clean_stop};
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
    for tool in [
        "nmap",
        "nc",
        "knock",
        "ssh",
        "knockonports",
        "bash",
        "curl",
        "python",
    ] {
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
    for tool in ["nmap", "nc", "knock", "knockonports", "bash", "python"] {
        for (profile, opens) in [("wrong", false), ("server", true)] {
            world.yes(&["close"]);
            knock_as_told(&person, profile, tool);
            assert_eq!(!world.nobody_is_in(), opens, "{tool} {profile}");
        }
    }
    for tool in ["ssh", "curl"] {
        let output = person.toctoc(&["profile", "show", "server", "--as", tool]);
        let wanted = format!("{tool} cannot knock over UDP");
        assert!(said(&output).contains(&wanted), "{}", said(&output));
    }
}

/// The command opens once; run again it opens nothing, and that of another secret never does.
#[test]
fn other_tools_send_the_token_that_a_profile_prints_for_them() {
    const TOOLS: [&str; 6] = ["nc", "nmap", "bash", "python", "ping", "knockonports"];
    // A key for each, since the commands of one moment have the same token.
    let (mut policy, mut secrets) = (
        ALICE.to_string(),
        vec![("alice.secret".into(), SECRET.into())],
    );
    for (number, tool) in TOOLS.iter().enumerate() {
        for family in ["4", "6"] {
            let (key, secret) = (
                format!("{tool}{family}"),
                format!("{number}{family}{}", &SECRET[2..]),
            );
            policy.push_str(&format!(
                "[key.{key}]\nopens = [\"ssh\"]\ntoken = \"{key}.secret\"\nping = {}\n",
                *tool == "ping"
            ));
            secrets.push((format!("{key}.secret"), secret));
        }
    }
    let files: Vec<(&str, &str)> = secrets
        .iter()
        .map(|(file, secret): &(String, String)| (file.as_str(), secret.as_str()))
        .collect();
    let (world, _) = after_a_clean_stop(&policy, &files);
    let person = Person::on(&world);
    let add = |name: &str, host: &str, secret: &str| {
        let words = ["profile", "add", name, "--host", host, "--token", "-"];
        let words = [&words[..], &["--token-port", "40123"]].concat();
        let output = person.toctoc_reading(&words, secret.as_bytes());
        assert!(output.status.success(), "{}", said(&output));
    };
    add("wrong", SERVER[0], OTHER);
    for (file, secret) in &files[1..] {
        let name = file.trim_end_matches(".secret");
        add(name, SERVER[usize::from(name.ends_with('6'))], secret);
    }
    for tool in TOOLS {
        for (profile, opens) in [
            ("wrong", false),
            (&format!("{tool}4"), true),
            (&format!("{tool}6"), true),
        ] {
            let told = person.yes(&["profile", "show", profile, "--as", tool]);
            for opens in [opens, false] {
                follow(&person, tool, &told);
                assert_eq!(!world.nobody_is_in(), opens, "{tool} {profile}: {told}");
                world.yes(&["close"]);
            }
        }
    }
    for tool in ["knock", "ssh", "curl"] {
        let output = person.toctoc(&["profile", "show", "wrong", "--as", tool]);
        assert!(
            said(&output).contains("a token is sixteen bytes over UDP"),
            "{tool}"
        );
    }
}

/// Follows what is printed for a tool. The application for telephones is not here: its file is read
/// as it reads it, and each step done.
fn knock_as_told(person: &Person, profile: &str, tool: &str) {
    let told = person.yes(&["profile", "show", profile, "--as", tool]);
    follow(person, tool, &told);
}

fn follow(person: &Person, tool: &str, told: &str) {
    if tool != "knockonports" {
        person.run(&["sh", "-c", told]);
        return;
    }
    let file: serde_json::Value = serde_json::from_str(told).unwrap();
    assert_eq!(file["version"], 1);
    let sequence = &file["sequences"][0];
    assert_eq!(sequence["delay"], 20);
    let host = sequence["host"].as_str().unwrap();
    for step in sequence["steps"].as_array().unwrap() {
        if let Some(content) = step["content"].as_str() {
            assert_eq!(
                (&step["type"], &step["encoding"]),
                (&"udp".into(), &"hex".into())
            );
            let octal = content.as_bytes().chunks(2).map(|pair| {
                let pair = std::str::from_utf8(pair).unwrap();
                format!("\\{:03o}", u8::from_str_radix(pair, 16).unwrap())
            });
            let octal: String = octal.collect();
            let send = format!("printf '{octal}' | nc -u -w 1 {host} {}", step["port"]);
            person.run(&["sh", "-c", &send]);
            continue;
        }
        let step = format!("{}:{}", step["port"], step["type"].as_str().unwrap());
        assert!(person.run(&["knock", host, &step]).status.success());
    }
}
