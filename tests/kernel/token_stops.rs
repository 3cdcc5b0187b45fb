//! Ends of a table, and what opens after the next start: clean stops, power cuts, rulesets of others.

use toctoc::client::Door;
use toctoc::lab::{CLIENT, STRANGER};
use toctoc::single_use::{Window, token};

use crate::token_world::{SECRET, good, guarded_without_a_wait, now, secret};

#[test]
fn a_clean_stop_and_a_start_lose_no_token_and_revive_none() {
    let world = guarded_without_a_wait();
    let current = token(&secret(SECRET), Window::at(now()), 0);
    world.send(CLIENT[0], &current.0);
    world.send(CLIENT[1], &good(0).0);
    assert_eq!(world.connect(CLIENT[0], 22), Door::Open);
    world.yes(&["remove"]);
    let state = std::fs::read_to_string(world.state_directory().join("state.json")).unwrap();
    assert!(
        state.contains("\"clean\":true") && state.contains(&current.hex()),
        "{state}"
    );
    assert!(!state.contains(SECRET));
    let said = world.yes(&["apply"]);
    assert!(!said.contains("tokens open from"), "{said}");
    for spent in [current, good(0)] {
        world.send(STRANGER[0], &spent.0);
        assert_eq!(world.connect(STRANGER[0], 22), Door::Silent);
    }
    let next = token(&secret(SECRET), Window::at(now()), 1);
    world.send(CLIENT[0], &next.0);
    assert_eq!(world.connect(CLIENT[0], 22), Door::Open);
}

/// Somebody has taken the table away, or the power was cut: what was spent last is not known.
#[test]
fn after_an_unclean_stop_no_window_that_clients_have_used_opens() {
    for damage in ["the table", "the spent ones", "the file", "the text"] {
        let world = guarded_without_a_wait();
        let minute = Window::at(now());
        let used = token(&secret(SECRET), minute, 0);
        world.send(CLIENT[0], &used.0);
        let file = world.state_directory().join("state.json");
        match damage {
            "the table" => world.nft("delete table inet toctoc\n"),
            "the spent ones" => world.nft("flush set inet toctoc spent\n"),
            "the file" => std::fs::remove_file(file).unwrap(),
            _ => std::fs::write(file, "{\"version\": 1").unwrap(),
        }
        let output = world.toctoc(&["apply"]);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(said.contains("; tokens open from 2"), "{damage}: {said}");
        let warned = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(
            warned.contains("as after a power cut"),
            damage.starts_with("the f") || damage == "the text",
            "{warned}"
        );
        let status = world.yes(&["status"]);
        let from = said.split(" tokens; ").nth(1).unwrap();
        let from = from.lines().next().unwrap();
        assert!(status.contains(from), "{damage}: {status}");
        world.yes(&["close"]);
        for window in [minute.0, minute.0 + 1] {
            for number in 0..4 {
                let token = token(&secret(SECRET), Window(window), number);
                world.send(STRANGER[0], &token.0);
            }
        }
        assert_eq!(world.connect(STRANGER[0], 22), Door::Silent, "{damage}");
        world.send(CLIENT[0], &good(1).0);
        assert_eq!(world.connect(CLIENT[0], 22), Door::Open, "{damage}");
    }
}

/// After a power cut, a clock that is days behind: it is told, since then nobody has to wait for years.
#[test]
fn a_clock_far_behind_is_believed_and_told() {
    let world = guarded_without_a_wait();
    let file = world.state_directory().join("state.json");
    let text = std::fs::read_to_string(&file).unwrap();
    let mut journal: serde_json::Value = serde_json::from_str(&text).unwrap();
    journal["saved"] = (now() + 3 * 86_400 + 60).into();
    std::fs::write(file, journal.to_string()).unwrap();
    world.nft("delete table inet toctoc\n");
    let output = world.toctoc(&["apply"]);
    let warned = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        warned.contains("this clock is 3 days behind what it was, and is believed"),
        "{warned}"
    );
    let warned = world.toctoc(&["refill"]).stderr;
    assert!(warned.is_empty());
    world.send(CLIENT[0], &good(1).0);
    assert_eq!(world.connect(CLIENT[0], 22), Door::Open);
}

/// Somebody has saved the whole ruleset, and loads it again when tokens have been spent.
#[test]
fn a_ruleset_that_was_saved_and_loaded_again_revives_no_token() {
    revives_no_token(true);
    revives_no_token(false);
}

/// A host that has not refilled in between does not know what was spent: then the windows that clients use are
/// barred, as after a power cut.
fn revives_no_token(refilled: bool) {
    let world = guarded_without_a_wait();
    let saved = world.server(&["nft", "list", "ruleset"]);
    world.send(CLIENT[0], &good(0).0);
    let current = token(&secret(SECRET), Window::at(now()), 0);
    world.send(CLIENT[0], &current.0);
    if refilled {
        world.yes(&["refill"]);
    }
    world.nft(&format!("flush ruleset\n{saved}"));
    let said = world.yes(&["apply"]);
    assert!(said.contains("; tokens open from 2"), "{said}");
    world.yes(&["close"]);
    let known = refilled.then(|| good(0));
    for spent in known.into_iter().chain([current]) {
        world.send(STRANGER[0], &spent.0);
        assert_eq!(world.connect(STRANGER[0], 22), Door::Silent);
    }
    world.send(CLIENT[0], &good(1).0);
    assert_eq!(world.connect(CLIENT[0], 22), Door::Open);
}
