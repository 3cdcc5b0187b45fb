//! The rooms of the house (ARCHITECTURE.md): which one may use which. The table has an order, and a room uses only rooms
//! above it, so that there are no cycles.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Each room, and those that it may use.
const ROOMS: &[(&str, &[&str])] = &[
    // Words, which know nothing else.
    ("browser", &[]),
    ("chain_name", &[]),
    ("errno", &[]),
    ("fleet_report", &[]),
    ("lookup", &[]),
    ("private_file", &[]),
    ("protocol", &[]),
    ("services", &["protocol"]),
    ("knock", &["protocol", "services"]),
    ("single_use", &[]),
    ("signed", &["single_use"]),
    // From text to what is handed to the kernel.
    ("automaton", &["knock"]),
    (
        "policy",
        &[
            "automaton",
            "browser",
            "chain_name",
            "errno",
            "knock",
            "private_file",
            "protocol",
            "services",
            "signed",
            "single_use",
        ],
    ),
    ("trace", &["automaton", "knock", "policy"]),
    ("model", &["knock", "policy", "trace"]),
    ("import", &["knock", "policy", "services"]),
    ("picture", &["automaton", "knock", "policy"]),
    ("held", &["policy"]),
    (
        "ruleset",
        &[
            "automaton",
            "chain_name",
            "held",
            "knock",
            "policy",
            "signed",
            "single_use",
        ],
    ),
    // The client knows no policy and no kernel.
    (
        "client",
        &[
            "browser",
            "knock",
            "lookup",
            "private_file",
            "signed",
            "single_use",
        ],
    ),
    // The edges of the server.
    (
        "firewall",
        &[
            "automaton",
            "errno",
            "fleet_report",
            "held",
            "knock",
            "lookup",
            "policy",
            "private_file",
            "ruleset",
            "signed",
            "single_use",
        ],
    ),
    ("log", &["policy", "ruleset", "single_use"]),
    ("lab", &["firewall"]),
    ("watch", &["firewall", "log", "policy"]),
    (
        "enrol",
        &[
            "browser",
            "client",
            "firewall",
            "knock",
            "policy",
            "private_file",
            "signed",
            "single_use",
        ],
    ),
    (
        "first",
        &["enrol", "firewall", "knock", "policy", "private_file"],
    ),
    (
        "rehearsal",
        &[
            "client", "firewall", "held", "knock", "lab", "policy", "signed",
        ],
    ),
    (
        "cli",
        &[
            "automaton",
            "client",
            "enrol",
            "errno",
            "firewall",
            "first",
            "fleet_report",
            "import",
            "knock",
            "lab",
            "log",
            "picture",
            "policy",
            "private_file",
            "rehearsal",
            "ruleset",
            "services",
            "signed",
            "single_use",
            "trace",
            "watch",
        ],
    ),
];

#[test]
fn no_room_uses_one_that_it_may_not_use() {
    let mut above = BTreeSet::new();
    for (room, may) in ROOMS {
        for used in *may {
            assert!(above.contains(used), "{room}: {used} is not above it");
        }
        above.insert(*room);
    }
    let mut rooms = BTreeSet::new();
    let mut wrong = Vec::new();
    for entry in fs::read_dir("src").unwrap().flatten() {
        let path = entry.path();
        let room = path.file_stem().unwrap().to_str().unwrap().to_string();
        if ["lib", "main"].contains(&&*room) {
            continue;
        }
        let (_, may) = ROOMS
            .iter()
            .find(|(name, _)| *name == room)
            .unwrap_or_else(|| panic!("{room} has no row"));
        for (file, text) in sources(&path) {
            for used in uses(&text) {
                if used != room && !may.contains(&&*used) {
                    wrong.push(format!("{file}: {room} may not use {used}"));
                }
            }
        }
        rooms.insert(room);
    }
    assert_eq!(wrong, [""; 0]);
    let named: BTreeSet<String> = above.iter().map(ToString::to_string).collect();
    assert_eq!(named, rooms, "rows without a room");
}

/// The files of a room without their tests.
fn sources(path: &Path) -> Vec<(String, String)> {
    if path.is_dir() {
        let entries = fs::read_dir(path).unwrap().flatten();
        return entries.flat_map(|entry| sources(&entry.path())).collect();
    }
    if path.to_str().unwrap().ends_with("tests.rs") {
        return Vec::new();
    }
    let text = fs::read_to_string(path).unwrap();
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    vec![(path.display().to_string(), code.to_string())]
}

/// The rooms that a text names: `crate::room`, `crate::{room::item, other}`.
fn uses(text: &str) -> BTreeSet<String> {
    let code: String = text
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default())
        .collect::<Vec<_>>()
        .join("\n");
    let mut rooms = BTreeSet::new();
    for rest in code.split("crate::").skip(1) {
        let Some(list) = rest.strip_prefix('{') else {
            rooms.extend(first_word(rest));
            continue;
        };
        let mut depth = 0;
        let mut begins = true;
        for (at, c) in list.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => begins = true,
                c if begins && !c.is_whitespace() => {
                    rooms.extend(first_word(&list[at..]));
                    begins = false;
                }
                _ => {}
            }
        }
    }
    rooms
}

/// The module that a path begins with; macros and the like begin otherwise.
fn first_word(path: &str) -> Option<String> {
    let word: String = path
        .chars()
        .take_while(|c| c.is_ascii_lowercase() || *c == '_')
        .collect();
    (!word.is_empty()).then_some(word)
}

/// The reader of sources finds what there is.
#[test]
fn uses_are_found_in_every_form() {
    let text = "use crate::knock::Knock;\nuse crate::{policy::{Name, Door}, held};\n// crate::cli\nlet x = crate::log::Group::new();";
    let found: Vec<String> = uses(text).into_iter().collect();
    assert_eq!(found, ["held", "knock", "log", "policy"]);
}

/// The crates below a package of this workspace, it among them.
fn crates(arguments: &[&str]) -> BTreeSet<String> {
    let mut tree = Command::new(env!("CARGO"));
    tree.args(["tree", "--offline", "--edges", "normal", "--prefix", "none"])
        .args(["--format", "{p}"])
        .args(arguments);
    let output = tree.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let text = String::from_utf8(output.stdout).unwrap();
    let names = text.lines().map(|line| {
        let mut words = line.split(' ');
        format!("{} {}", words.next().unwrap(), words.next().unwrap())
    });
    names.collect()
}

/// Only the program of the fleet has Redis and TLS; and what is below a program does not grow unseen.
#[test]
fn programs_contain_what_they_need() {
    let client = ["--no-default-features", "--features", "client"];
    let client = [&["--package", "toctoc"][..], &client].concat();
    let base = ["--package", "toctoc"];
    let fleet = ["--package", "toctoc-fleet"];
    for (arguments, engine, most) in [
        (&client[..], false, 77),
        (&base[..], false, 128),
        (&fleet[..], true, 150),
    ] {
        let crates = crates(arguments);
        for name in ["redis", "rustls", "ring"] {
            let has = crates
                .iter()
                .any(|found| found.split(' ').next() == Some(name));
            assert_eq!(has, engine, "{arguments:?}: {name}");
        }
        assert!(crates.len() <= most, "{arguments:?}: {}", crates.len());
    }
}
