//! A saved ruleset that is loaded again, after a start of the machine or hours later: whoever was in when it
//! was saved is let in no more, from the first apply, refill or healing on.

use toctoc::client::Door;
use toctoc::lab::{CLIENT, STRANGER};

use crate::token_world::{SECRET, good, guarded_by};
use crate::world::World;

/// A door that opens by a sequence, a token or by hand, for one connection or for some time.
const DOORS: &str = r#"
token_port = 40123

[door.ssh]
ports = [22]

[door.web]
ports = [80]

[key.alice]
opens = ["ssh"]
token = "alice.secret"
open_for = "1h"

[key.once]
opens = ["web"]
sequence = [443, 2387, 920]
open_for = "1h"
once = true
"#;

/// A world with somebody in at each door, and what was saved then.
fn saved(stateless: bool) -> (World, String) {
    let world = guarded_by(DOORS);
    world.listen(80);
    world.send(CLIENT[0], &good(0).0);
    world.yes(&["open", "ssh", STRANGER[0], "--for", "1h"]);
    world.knock(CLIENT[0], &[443, 2387, 920]);
    world.until("they are in", || world.holders("ssh").len() == 2);
    world.until("once", || world.holders("web").len() == 1);
    let list: &[&str] = match stateless {
        true => &["nft", "-s", "list", "ruleset"],
        false => &["nft", "list", "ruleset"],
    };
    let text = world.server(list);
    assert!(text.contains(STRANGER[0]), "{text}");
    (world, text)
}

/// The ways to load it: instead of all that is there, on top of it, and where it is gone.
fn load(world: &World, way: &str, saved: &str) {
    match way {
        "instead" => world.nft(&format!("flush ruleset\n{saved}")),
        "on top" => world.nft(saved),
        _ => {
            world.nft("delete table inet toctoc");
            world.nft(saved);
        }
    }
}

const WAYS: [&str; 3] = ["instead", "on top", "where it is gone"];

fn all_are_out(world: &World, what: &str) {
    assert!(world.nobody_is_in(), "{what}");
    for source in [CLIENT[0], STRANGER[0]] {
        assert_eq!(world.connect(source, 22), Door::Silent, "{what}");
        assert_eq!(world.connect(source, 80), Door::Silent, "{what}");
    }
}

/// A table that was loaded then is as good as new: the next apply keeps what was granted since.
fn goes_on(world: &World, what: &str) {
    world.send(CLIENT[0], &good(5).0);
    world.until(what, || world.connect(CLIENT[0], 22) == Door::Open);
    let said = world.yes(&["apply"]);
    assert!(said.contains("1 live grant kept"), "{what}: {said}");
    assert_eq!(world.connect(CLIENT[0], 22), Door::Open, "{what}");
}

#[test]
fn a_saved_ruleset_lets_nobody_in_after_an_apply() {
    for stateless in [false, true] {
        for way in WAYS {
            for apply in [&["apply"][..], &["apply", "--boot"]] {
                let what = format!("{way}, stateless: {stateless}, {apply:?}");
                let (world, saved) = saved(stateless);
                load(&world, way, &saved);
                let status = world.toctoc(&["status"]);
                let status = String::from_utf8_lossy(&status.stdout).into_owned();
                assert!(status.contains("a saved ruleset"), "{what}: {status}");
                let said = world.yes(apply);
                assert!(said.contains("of a saved ruleset ended"), "{what}: {said}");
                all_are_out(&world, &what);
                goes_on(&world, &what);
            }
        }
    }
}

#[test]
fn a_saved_ruleset_lets_nobody_in_after_a_refill() {
    for stateless in [false, true] {
        for way in WAYS {
            let what = format!("{way}, stateless: {stateless}");
            let (world, saved) = saved(stateless);
            load(&world, way, &saved);
            let output = world.toctoc(&["refill"]);
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(said.contains("a saved ruleset"), "{what}: {said}");
            all_are_out(&world, &what);
            // And nobody is put out by the next one.
            world.yes(&["open", "ssh", CLIENT[0], "--for", "1h"]);
            world.yes(&["refill"]);
            assert_eq!(world.holders("ssh").len(), 1, "{what}");
        }
    }
}

/// Also where no key opens only once, and there is nothing to refill.
#[test]
fn a_refill_of_nothing_ends_the_past_too() {
    let world = World::with(crate::world::YVES);
    world.listen(22);
    world.yes(&["open", "ssh", CLIENT[0], "--for", "1h"]);
    let saved = world.server(&["nft", "list", "ruleset"]);
    world.nft(&format!("flush ruleset\n{saved}"));
    assert_eq!(world.connect(CLIENT[0], 22), Door::Open);
    world.yes(&["refill"]);
    assert_eq!(world.connect(CLIENT[0], 22), Door::Silent);
}

/// A table of the past gives nothing to the other backend, and a trial's end brings none of it back.
#[test]
fn the_past_does_not_move_and_does_not_come_back() {
    let (world, text) = saved(false);
    load(&world, "instead", &text);
    let policy = crate::world::YVES;
    world.apply_with("iptables", policy);
    assert_eq!(world.connect(STRANGER[0], 22), Door::Silent);
    let (world, text) = saved(false);
    load(&world, "instead", &text);
    let output = world.toctoc(&["apply", "--confirm", "1h"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.code() != Some(0) {
        // What runs is not what was noted, and no trial begins.
        assert!(said.contains("no way back"), "{said}");
        world.yes(&["apply"]);
        world.yes(&["apply", "--confirm", "1h"]);
    }
    world.yes(&["rollback"]);
    all_are_out(&world, "after a rollback");
}

/// The twin: whoever is in stays in over applies, refills, openings by hand, and an apply of a table without
/// a seal, which an earlier release has made.
#[test]
fn a_table_that_is_none_of_the_past_keeps_its_grants() {
    let world = guarded_by(DOORS);
    world.yes(&["open", "ssh", STRANGER[0], "--for", "1h"]);
    for _ in 0..2 {
        for command in ["apply", "refill"] {
            world.yes(&[command]);
            assert_eq!(world.holders("ssh").len(), 1, "{command}");
        }
        world.yes(&["status"]);
        world.nft("delete set inet toctoc seal");
    }
    world.yes(&["apply"]);
    assert_eq!(world.holders("ssh").len(), 1);
    world.private_file("alice.secret", SECRET);
    world.yes(&["status"]);
}

#[test]
fn a_saved_ruleset_lets_nobody_in_after_a_healing() {
    for stateless in [false, true] {
        for way in WAYS {
            let what = format!("{way}, stateless: {stateless}");
            let (world, saved) = saved(stateless);
            load(&world, way, &saved);
            let output = world.toctoc(&["heal"]);
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(said.contains("a saved ruleset"), "{what}: {said}");
            all_are_out(&world, &what);
            world.yes(&["status"]);
            goes_on(&world, &what);
        }
    }
}
