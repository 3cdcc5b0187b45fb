//! Faults, and what holds then.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;

use super::bottle::{DOORS, ENGINE, Fleet, PASSWORD, until, until_or, until_within};
use crate::fleet_program::fleet_program;

/// The one source that most tests are about, and one that comes when something has happened.
const FIRST: &str = "192.0.2.101";
const LATER: &str = "192.0.2.102";
const STRANGER: &str = "192.0.2.109";

fn listening(number: usize) -> Fleet {
    let fleet = Fleet::of(number);
    for place in 0..number {
        fleet.listen(place, 22);
    }
    fleet
}

#[test]
fn without_the_engine_each_host_goes_on_and_afterwards_all_is_told() {
    let mut fleet = listening(3);
    fleet.knock(0, FIRST);
    fleet.until_open(2, FIRST, 22);
    fleet.kill_engine();
    fleet.until_said(0, "this host goes on by itself");
    // Who is in stays in, and each host lets in whom it would by itself.
    assert!(fleet.is_open(2, FIRST, 22));
    fleet.knock(1, LATER);
    fleet.until_open(1, LATER, 22);
    assert!(!fleet.is_open(0, LATER, 22));
    let status = fleet.status(0);
    assert_eq!(status["drift"], serde_json::json!([]));
    // It comes back, and knows nothing.
    fleet.start_engine(&[]);
    fleet.until_open(0, LATER, 22);
    fleet.until_open(2, LATER, 22);
    until("the engine knows again who is in", || {
        fleet.redis(&["KEYS", "toctoc:grant:*"]).lines().count() == 2
    });
    let ends: Vec<f64> = (0..3).map(|place| left(&fleet, place, LATER)).collect();
    assert!(
        ends[0] <= ends[1] + 1.0 && ends[2] <= ends[1] + 1.0,
        "{ends:?}"
    );
    assert!(!fleet.is_open(0, STRANGER, 22));
}

/// Seconds that are left of a grant.
fn left(fleet: &Fleet, place: usize, source: &str) -> f64 {
    let grants = fleet.grants(place, "ssh");
    grants.iter().find(|(s, _)| s == source).unwrap().1
}

#[test]
fn hosts_that_are_cut_off_go_on_and_learn_afterwards() {
    let fleet = listening(3);
    fleet.knock(0, FIRST);
    fleet.until_open(2, FIRST, 22);
    fleet.plug(2, false);
    fleet.until_said(2, "this host goes on by itself");
    // The others do not wait for it.
    fleet.knock(0, LATER);
    fleet.until_open(1, LATER, 22);
    fleet.yes(1, &["close", "ssh", FIRST]);
    fleet.until_shut(0, FIRST, 22);
    assert!(fleet.is_in(2, FIRST), "it cannot know");
    assert!(!fleet.is_in(2, LATER));
    fleet.plug(2, true);
    fleet.until_open(2, LATER, 22);
    fleet.until_shut(2, FIRST, 22);
    assert!(!fleet.is_in(0, FIRST) && !fleet.is_in(1, FIRST));
}

#[test]
fn a_slow_engine_keeps_nobody_waiting_and_prolongs_nothing() {
    let fleet = listening(2);
    fleet.freeze_engine(true);
    fleet.knock(0, FIRST);
    // The kernel opens it at once.
    fleet.until_open(0, FIRST, 22);
    fleet.until_said(0, "it does not answer");
    assert!(!fleet.is_open(1, FIRST, 22));
    fleet.yes(0, &["close", "ssh", STRANGER]);
    fleet.freeze_engine(false);
    fleet.until_open(1, FIRST, 22);
    let (own, other) = (left(&fleet, 0, FIRST), left(&fleet, 1, FIRST));
    assert!(other <= own + 1.0, "{own} {other}");
    assert!(!fleet.is_open(1, LATER, 22));
}

/// An engine (or whoever is between) that answers, and never to an end: each byte of it comes in time.
#[test]
fn an_engine_that_drips_is_told_of() {
    let mut fleet = Fleet::bare(2);
    fleet.start_engine(&[]);
    let drips = Arc::new(AtomicBool::new(false));
    fleet.start_dripping(7000, &drips);
    for (place, port) in [(0, "6379"), (1, "7000")] {
        let policy = fleet.policy(place, DOORS).replace("6379", port);
        fleet.apply(place, &policy);
        fleet.start_agent(place);
        fleet.listen(place, 22);
    }
    fleet.until_all_know_each_other();
    drips.store(true, Ordering::Relaxed);
    // Reading what is kept may take two minutes, and may have begun just now.
    let tells = "it passes on nothing of what it is told";
    until_within(Duration::from_secs(150), tells, || {
        fleet.said(1).contains(tells)
    });
    let report = &fleet.status(1)["fleet"]["report"];
    assert_eq!(report["connected"], false, "{report}");
    // It lets in whom it would by itself, and the other one hears nothing of it, nor it of the other one.
    fleet.knock(1, LATER);
    fleet.until_open(1, LATER, 22);
    fleet.knock(0, FIRST);
    fleet.until_open(0, FIRST, 22);
    assert!(!fleet.is_in(1, FIRST));
    drips.store(false, Ordering::Relaxed);
    fleet.until_open(1, FIRST, 22);
    fleet.until_open(0, LATER, 22);
    fleet.until_connected(1);
    assert!(!fleet.is_open(0, STRANGER, 22) && !fleet.is_open(1, STRANGER, 22));
}

/// An agent that is swapped out, or whose machine was asleep: what it hears then has happened at any time.
#[test]
fn an_agent_that_stood_still_prolongs_nothing() {
    let fleet = listening(2);
    fleet.freeze_agent(0, true);
    fleet.knock(0, FIRST);
    fleet.until_open(0, FIRST, 22);
    fleet.yes(0, &["open", "ssh", LATER, "--for", "1m"]);
    until("some time has gone", || left(&fleet, 0, LATER) <= 56.0);
    assert!(!fleet.is_in(1, FIRST) && !fleet.is_in(1, LATER));
    fleet.freeze_agent(0, false);
    for source in [FIRST, LATER] {
        fleet.until_open(1, source, 22);
        let (own, other) = (left(&fleet, 0, source), left(&fleet, 1, source));
        assert!(other <= own + 1.0, "{source}: {own} {other}");
    }
    assert!(!fleet.is_open(1, STRANGER, 22));
}

/// The messages that an engine keeps from before its clock was set back.
#[test]
fn a_grant_of_a_time_to_come_is_refused() {
    let mut fleet = listening(2);
    fleet.knock(0, FIRST);
    fleet.until_open(1, FIRST, 22);
    let name = format!("toctoc:grant:a:ssh:{FIRST}");
    let whole = fleet.redis(&["GET", &name]);
    let (begin, rest) = whole.trim().split_once("\"at\":").unwrap();
    let (at, rest) = rest.split_once(',').unwrap();
    let at: i64 = at.parse().unwrap();
    for (source, ahead) in [(LATER, 0), (STRANGER, 30_000)] {
        let text = format!("{begin}\"at\":{},{rest}", at + ahead).replace(FIRST, source);
        fleet.redis(&["SET", &format!("toctoc:grant:a:ssh:{source}"), &text]);
    }
    fleet.kill_agent(1);
    fleet.start_agent(1);
    fleet.until_connected(1);
    fleet.until_open(1, LATER, 22);
    fleet.until_said(1, "a grant of a time to come");
    assert!(!fleet.is_in(1, STRANGER));
}

/// The offset in the engine taken back is to agents as if its clock was set back. What is over does not come back by
/// that, neither at who has noticed it nor at who starts later.
#[test]
fn hosts_make_up_for_an_engine_whose_clock_is_set_back() {
    let doors = DOORS.replace("opens ", "open_for = \"20s\"\nopens ");
    let mut fleet = Fleet::with(3, &doors);
    (0..3).for_each(|place| fleet.listen(place, 22));
    let offset = |fleet: &Fleet| -> i64 {
        let kept = fleet.redis(&["GET", "toctoc:offset"]);
        let (_, by) = kept.split_once("\"by\":").unwrap_or(("", "0"));
        by.trim_end().trim_end_matches('}').parse().unwrap()
    };
    let set = |fleet: &Fleet, by: i64| {
        let text =
            format!("{{\"v\":1,\"from\":\"a\",\"at\":1,\"news\":{{\"offset\":{{\"by\":{by}}}}}}}");
        fleet.redis(&["SET", "toctoc:offset", &text]);
    };
    set(&fleet, 15_000);
    (0..3).for_each(|place| fleet.until_said(place, "clock was set ahead"));
    fleet.knock(0, FIRST);
    (1..3).for_each(|place| fleet.until_open(place, FIRST, 22));
    let old = fleet.redis(&["GET", &format!("toctoc:grant:a:ssh:{FIRST}")]);
    let old = old.trim();
    assert!(old.contains("\"grant\""), "{old}");
    (0..3).for_each(|place| fleet.until_shut(place, FIRST, 22));
    set(&fleet, 0);
    until("they make up for it", || offset(&fleet) >= 15_000);
    fleet.kill_agent(2);
    fleet.start_agent(2);
    fleet.until_connected(2);
    fleet.redis(&["PUBLISH", "toctoc:fleet", old]);
    // The same of now counts.
    let time = fleet.redis(&["TIME"]);
    let seconds: i64 = time.lines().next().unwrap().parse().unwrap();
    let (begin, rest) = old.split_once("\"at\":").unwrap();
    let (_, rest) = rest.split_once(',').unwrap();
    let now = seconds * 1000 + offset(&fleet);
    let new = format!("{begin}\"at\":{now},{rest}").replace(FIRST, LATER);
    fleet.redis(&["PUBLISH", "toctoc:fleet", &new]);
    for place in 1..3 {
        fleet.until_open(place, LATER, 22);
        assert!(!fleet.is_in(place, FIRST), "{place}");
    }
}

/// The agent reads a file, and the kernel may run another policy: one that was there before the file was edited, or
/// that a trial went back to.
#[test]
fn a_policy_that_was_not_applied_is_not_what_the_agent_goes_by() {
    let mut fleet = listening(2);
    let policy = fleet.policy(0, super::bottle::DOORS);
    let edited = policy.replace("ports = [22]\n", "ports = [22]\nopen_for = \"8h\"\n");
    let path = fleet.file(0, "policy.toml", &edited);
    fleet.kill_agent(0);
    fleet.start_agent(0);
    fleet.until_said(0, "waiting for `toctoc apply`");
    fleet.knock(0, FIRST);
    fleet.until_open(0, FIRST, 22);
    until("status says so", || {
        let waits = &fleet.status(0)["fleet"]["report"]["waits"];
        waits
            .as_str()
            .is_some_and(|waits| waits.contains("not the one that runs"))
    });
    assert!(!fleet.is_in(1, FIRST));
    fleet.yes(0, &["apply", &path.display().to_string()]);
    fleet.until_open(1, FIRST, 22);
    let (own, other) = (left(&fleet, 0, FIRST), left(&fleet, 1, FIRST));
    assert!(other <= own + 1.0 && other <= 60.0, "{own} {other}");
}

#[test]
fn an_agent_whose_table_goes_waits_until_there_is_one() {
    let fleet = listening(2);
    fleet.yes(0, &["remove"]);
    fleet.until_said(0, "no policy with [fleet] is applied here");
    for source in [FIRST, LATER] {
        fleet.knock(1, source);
        fleet.until_open(1, source, 22);
    }
    assert!(!fleet.said(0).contains("was refused"), "{}", fleet.said(0));
    let path = fleet.path(0, "policy.toml");
    fleet.yes(0, &["apply", &path]);
    for source in [FIRST, LATER] {
        fleet.until_open(0, source, 22);
    }
    assert!(!fleet.is_open(0, STRANGER, 22));
}

/// systemd would start it again at once, and for ever.
#[test]
fn a_unit_without_a_fleet_waits_for_a_policy_that_has_one() {
    let fleet = Fleet::bare(1);
    let lonely = super::bottle::DOORS;
    fleet.apply(0, lonely);
    // As systemd hands over what is in a directory.
    let handed = fleet.file(0, "toctoc_policy.toml", lonely);
    let log = fleet.file(0, "agent.log", "");
    let said = File::create(&log).unwrap();
    let mut command = fleet.command(0, fleet_program().to_str().unwrap());
    command
        .env("CREDENTIALS_DIRECTORY", handed.parent().unwrap())
        .stderr(said);
    let host = &fleet.members[0].host;
    let mut agent = host.inside(|| command.spawn().unwrap()).unwrap();
    fleet.until_said(0, "has no [fleet]");
    fleet.until_said(0, "waiting for `toctoc apply`, or a minute");
    assert!(agent.try_wait().unwrap().is_none());
    let policy = fleet.policy(0, lonely);
    fleet.apply(0, &policy);
    until("it ends, and is started anew", || {
        agent.try_wait().unwrap().is_some()
    });
    assert_eq!(fleet.said(0).matches("has no [fleet]").count(), 1);
}

#[test]
fn a_full_engine_is_told_of_and_who_listens_hears_all_the_same() {
    let mut fleet = listening(2);
    let full = ["CONFIG", "SET", "maxmemory", "1"];
    assert!(fleet.redis(&full).contains("OK"));
    fleet.knock(0, FIRST);
    fleet.until_open(1, FIRST, 22);
    fleet.until_said(0, "it is full");
    until("status tells", || {
        let status = fleet.status(0);
        status["fleet"]["report"]["unkept"].as_u64() > Some(0)
    });
    assert!(!fleet.redis(&["KEYS", "toctoc:grant:*"]).contains(FIRST));
    // When there is room, it is kept for those who come later.
    fleet.redis(&["CONFIG", "SET", "maxmemory", "0"]);
    until("it is kept", || {
        fleet.redis(&["KEYS", "toctoc:grant:*"]).contains(FIRST)
    });
    fleet.until_said(0, "the engine keeps again what it is told");
    let told = fleet.said(0).matches("does not keep").count();
    assert_eq!(told, 1, "once, and not at each beat: {}", fleet.said(0));
    fleet.kill_agent(1);
    fleet.start_agent(1);
    fleet.until_connected(1);
    assert!(fleet.is_open(1, FIRST, 22));
    assert!(!fleet.is_open(1, STRANGER, 22));
}

#[test]
fn a_wrong_password_is_told_of_and_the_host_goes_on() {
    let mut fleet = Fleet::bare(1);
    fleet.start_engine(&[]);
    let policy = fleet.policy(0, super::bottle::DOORS);
    fleet.apply(0, &policy);
    fleet.listen(0, 22);
    let wrong = "hunter2-hunter2";
    fleet.file(0, "fleet.password", wrong);
    fleet.start_agent(0);
    fleet.until_said(0, "it refuses the password");
    fleet.knock(0, FIRST);
    fleet.until_open(0, FIRST, 22);
    assert!(!fleet.is_open(0, STRANGER, 22));
    until("status says so", || {
        let why = &fleet.status(0)["fleet"]["report"]["why"];
        why.as_str()
            .is_some_and(|why| why.starts_with("it refuses the password"))
    });
    // Neither password is anywhere to be seen.
    let pid = fleet.agent(0);
    let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap();
    let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap();
    let shown = [
        fleet.said(0),
        fleet.status(0).to_string(),
        String::from_utf8_lossy(&command).into_owned(),
        String::from_utf8_lossy(&environment).into_owned(),
    ];
    for text in shown {
        assert!(!text.contains(wrong) && !text.contains(PASSWORD), "{text}");
    }
}

#[test]
fn what_is_not_well_formed_is_refused_and_told_and_opens_nothing() {
    let fleet = listening(2);
    fleet.knock(0, FIRST);
    fleet.until_open(1, FIRST, 22);
    let whole = fleet.redis(&["GET", &format!("toctoc:grant:a:ssh:{FIRST}")]);
    let whole = whole.trim();
    let odd = [
        "".to_string(),
        "hello".to_string(),
        "{}".to_string(),
        "[".repeat(500),
        "x".repeat(100_000),
        whole.replace("\"v\":1", "\"v\":2"),
        whole.replace(FIRST, "192.0.2.102; flush ruleset"),
        whole.replace(FIRST, "0.0.0.0/0"),
        whole.replace(FIRST, "0.0.0.0"),
        whole.replace("\"left\":", "\"left\":-"),
        whole.replace("\"left\":", "\"left\":999999999999"),
        // Well formed, and of a door that is not accepted, or not there.
        whole.replace("\"ssh\"", "\"web\"").replace(FIRST, LATER),
        whole
            .replace("\"ssh\"", "\"nowhere\"")
            .replace(FIRST, LATER),
    ];
    for text in &odd {
        fleet.redis(&["PUBLISH", "toctoc:fleet", text]);
    }
    fleet.redis(&["SET", "toctoc:grant:x:ssh:1", "what nobody wrote"]);
    fleet.redis(&["LPUSH", "toctoc:grant:x:ssh:2", "not even a text"]);
    let refused = || {
        fleet.status(1)["fleet"]["report"]["refused"]
            .as_u64()
            .unwrap()
    };
    until_or(
        "all are refused",
        || refused() >= odd.len() as u64,
        || fleet.said(1),
    );
    fleet.until_said(1, "it is not well formed");
    fleet.until_said(1, "a grant for a door that `accept` does not name");
    let web = fleet.grants(1, "web");
    assert!(web.is_empty(), "{web:?}");
    assert_eq!(fleet.grants(1, "ssh").len(), 1);
    assert_eq!(fleet.status(1)["drift"], Value::Array(Vec::new()));
    // It still works, and one that is well formed counts, as long as this policy gives.
    let forged = whole
        .replace("\"from\":\"a\"", "\"from\":\"x\"")
        .replace(FIRST, LATER);
    let (_, rest) = forged.split_once("\"left\":").unwrap();
    let (left_there, _) = rest.split_once('}').unwrap();
    let forged = forged.replace(&format!("\"left\":{left_there}"), "\"left\":86400000");
    fleet.redis(&["PUBLISH", "toctoc:fleet", &forged]);
    until("it is in", || fleet.is_in(1, LATER));
    assert!(left(&fleet, 1, LATER) <= 60.0);
    // Read again from the start, with what is kept.
    let mut fleet = fleet;
    fleet.kill_agent(1);
    fleet.start_agent(1);
    fleet.until_connected(1);
    assert_eq!(fleet.grants(1, "ssh").len(), 2);
}

/// Made-up grants fill the room for those of other hosts, and one more comes in the moment in which another is closed.
#[test]
fn closings_count_also_where_there_is_no_room_for_more_grants() {
    let mut fleet = Fleet::bare(2);
    fleet.start_engine(&[]);
    for place in 0..2 {
        let policy = fleet.policy(place, super::bottle::DOORS);
        fleet.apply(place, &format!("max_sources = 256\n{policy}"));
        fleet.start_agent(place);
        fleet.listen(place, 22);
    }
    fleet.until_all_know_each_other();
    fleet.knock(0, FIRST);
    fleet.until_open(1, FIRST, 22);
    let whole = fleet.redis(&["GET", &format!("toctoc:grant:a:ssh:{FIRST}")]);
    let grant = whole.trim().replace("\"from\":\"a\"", "\"from\":\"x\"");
    let (begin, _) = grant.split_once("\"news\"").unwrap();
    let closed = "\"news\":{\"closed\":{\"door\":\"ssh\",\"source\":\"10.0.0.250/32\",\"age\":0}}}";
    let (many, one, closed) = (
        grant.replace(FIRST, "10.0.0.NUMBER"),
        grant.replace(FIRST, "9.0.0.1"),
        format!("{begin}{closed}"),
    );
    let say = "for i = 0, 254 do local text = string.gsub(ARGV[1], 'NUMBER', i); \
               redis.call('PUBLISH', 'toctoc:fleet', text) end";
    fleet.redis(&["EVAL", say, "0", &many]);
    let held = |source: &str| {
        fleet
            .list(1, "elsewhere4")
            .contains(&format!("{source} . "))
    };
    until("it is full", || held("10.0.0.254") && held("10.0.0.250"));
    let say = "for i = 1, 2 do redis.call('PUBLISH', 'toctoc:fleet', ARGV[i]) end";
    fleet.redis(&["EVAL", say, "0", &closed, &one]);
    until("the closing counts", || !held("10.0.0.250"));
    fleet.yes(0, &["close", "ssh", FIRST]);
    fleet.until_shut(1, FIRST, 22);
    until("and who came into the free room is in", || held("9.0.0.1"));
    assert!(held("10.0.0.254"));
    assert!(!fleet.said(1).contains("was refused"), "{}", fleet.said(1));
}

#[test]
fn an_agent_that_is_killed_begins_where_it_was() {
    let mut fleet = listening(3);
    fleet.knock(0, FIRST);
    fleet.until_open(1, FIRST, 22);
    fleet.kill_agent(0);
    fleet.kill_agent(1);
    // It is seen at once.
    let runs = [0, 1, 2].map(|place| fleet.status(place)["fleet"]["running"] == true);
    assert_eq!(runs, [false, false, true]);
    let exit = [0, 2].map(|place| {
        let policy = fleet.path(place, "policy.toml");
        fleet.toctoc(place, &["status", &policy]).status.code()
    });
    assert_eq!(exit, [Some(1), Some(0)]);
    // What the kernels have, they have; and what happens meanwhile is found.
    assert!(fleet.is_open(1, FIRST, 22));
    fleet.knock(0, LATER);
    fleet.until_open(0, LATER, 22);
    fleet.yes(1, &["close", "ssh", FIRST]);
    assert!(!fleet.is_open(2, LATER, 22));
    fleet.start_agent(0);
    fleet.start_agent(1);
    for place in [1, 2] {
        fleet.until_open(place, LATER, 22);
        fleet.until_shut(place, FIRST, 22);
    }
    fleet.until_shut(0, FIRST, 22);
    let own = left(&fleet, 0, LATER);
    for place in [1, 2] {
        assert!(left(&fleet, place, LATER) <= own + 1.0);
    }
    assert!(!fleet.is_open(2, STRANGER, 22));
}

#[test]
fn two_hosts_with_one_name_are_told_of() {
    let mut fleet = Fleet::bare(2);
    fleet.start_engine(&[]);
    for place in 0..2 {
        let policy = fleet.policy(0, super::bottle::DOORS);
        fleet.apply(place, &policy);
        fleet.start_agent(place);
    }
    for place in 0..2 {
        fleet.until_said(place, "another host that has the name of this one");
    }
}

#[test]
fn an_apply_gives_the_agent_the_new_policy() {
    let fleet = listening(2);
    fleet.knock(0, FIRST);
    fleet.until_open(1, FIRST, 22);
    // This host accepts nothing any more.
    let policy = fleet.policy(1, super::bottle::DOORS);
    fleet.apply(1, &policy.replace("accept = [\"ssh\"]", "accept = []"));
    fleet.until_shut(1, FIRST, 22);
    fleet.until_connected(1);
    fleet.knock(0, LATER);
    fleet.until_open(0, LATER, 22);
    fleet.until_said(1, "`accept` does not name");
    assert!(!fleet.is_open(1, LATER, 22));
    assert_eq!(fleet.status(1)["drift"], serde_json::json!([]));
    fleet.apply(1, &policy);
    fleet.until_open(1, LATER, 22);
    assert!(fleet.redis(&["PING"]).contains("PONG"), "{ENGINE}");
}

/// A program that answers like an engine and is none is called by its name, with a password of its own or without.
#[test]
fn a_sentinel_and_a_node_of_a_cluster_are_named() {
    let mut fleet = Fleet::bare(1);
    let policy = fleet.policy(0, DOORS);
    fleet.apply(0, &policy);
    fleet.start_agent(0);
    let sentinel = "it is a Sentinel, which keeps nothing";
    let password = format!("requirepass {PASSWORD}");
    for (words, sentinel) in [
        (sentinel, Some("")),
        (sentinel, Some(password.as_str())),
        ("it is a node of a cluster", None),
    ] {
        match sentinel {
            Some(settings) => fleet.start_sentinel(settings),
            None => fleet.start_engine(&["--cluster-enabled", "yes"]),
        }
        fleet.until_said(0, words);
        fleet.kill_engine();
        fleet.kill_agent(0);
        let log = fleet.path(0, "agent.log");
        std::fs::write(log, "").unwrap();
        fleet.start_agent(0);
    }
    // The twin: an engine.
    fleet.start_engine(&[]);
    fleet.until_connected(0);
}
