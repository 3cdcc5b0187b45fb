//! Ends by an administrator at one host: they reach all of them.

use toctoc::firewall::run;

use super::bottle::{DOORS, Fleet, until};

const FIRST: &str = "192.0.2.101";
const SECOND: &str = "192.0.2.102";

fn sources(fleet: &Fleet, place: usize) -> Vec<String> {
    let grants = fleet.grants(place, "ssh").into_iter();
    let mut sources: Vec<String> = grants.map(|(source, _)| source).collect();
    sources.dedup();
    sources
}

fn left(fleet: &Fleet, place: usize, source: &str) -> f64 {
    let grants = fleet.grants(place, "ssh");
    grants.iter().find(|(s, _)| s == source).unwrap().1
}

#[test]
fn close_reaches_all_and_a_new_knock_opens_again() {
    let fleet = Fleet::of(3);
    (0..3).for_each(|place| fleet.listen(place, 22));
    fleet.knock(0, FIRST);
    fleet.knock(0, SECOND);
    for place in 1..3 {
        fleet.until_open(place, FIRST, 22);
        fleet.until_open(place, SECOND, 22);
    }
    // At a host that had it from another one.
    let said = fleet.yes(1, &["close", "ssh", FIRST]);
    assert_eq!(said, "ended 1 grant\n");
    for place in 0..3 {
        fleet.until_shut(place, FIRST, 22);
        assert!(fleet.is_open(place, SECOND, 22), "{place}");
    }
    assert!(!fleet.redis(&["KEYS", "toctoc:grant:*"]).contains(FIRST));
    // It does not come back, not even for those who read everything again.
    let mut fleet = fleet;
    for place in 0..3 {
        fleet.kill_agent(place);
        fleet.start_agent(place);
        fleet.until_connected(place);
    }
    for place in 0..3 {
        assert!(!fleet.is_open(place, FIRST, 22), "{place}");
    }
    fleet.knock(2, FIRST);
    for place in 0..3 {
        fleet.until_open(place, FIRST, 22);
    }
    // Everything.
    fleet.yes(2, &["close"]);
    for place in 0..3 {
        fleet.until_shut(place, FIRST, 22);
        fleet.until_shut(place, SECOND, 22);
    }
}

#[test]
fn what_is_opened_by_hand_is_shared_for_what_the_others_give() {
    let fleet = Fleet::of(2);
    fleet.yes(0, &["open", "ssh", "2001:db8::7", "--for", "5m"]);
    fleet.yes(0, &["open", "web", "2001:db8::7", "--for", "5m"]);
    until("it is in", || sources(&fleet, 1) == ["2001:db8::7"]);
    assert!(left(&fleet, 0, "2001:db8::7") > 200.0);
    // Also for hosts that come later.
    let mut fleet = fleet;
    fleet.kill_agent(1);
    let policy = fleet.path(1, "policy.toml");
    fleet.yes(1, &["remove"]);
    fleet.yes(1, &["apply", &policy]);
    fleet.start_agent(1);
    until("it is in again", || sources(&fleet, 1) == ["2001:db8::7"]);
    assert!(left(&fleet, 1, "2001:db8::7") <= 60.0);
    assert!(fleet.grants(1, "web").is_empty());
    let grant = &fleet.status(0)["doors"][0]["grants"][0];
    assert_eq!(grant["by_hand"], true);
    fleet.yes(0, &["close", "ssh", "2001:db8::7"]);
    until("it is out", || sources(&fleet, 1).is_empty());
}

#[test]
fn a_revoked_key_is_out_everywhere() {
    let doors = format!("{DOORS}[key.lost]\nopens = [\"ssh\"]\nsequence = [5571, 6602, 7733]\n");
    let fleet = Fleet::with(3, &doors);
    (0..3).for_each(|place| fleet.listen(place, 22));
    fleet.knock(0, FIRST);
    fleet.knock_with(0, SECOND, &["5571", "6602", "7733"]);
    fleet.knock_with(2, "192.0.2.103", &["5571", "6602", "7733"]);
    for place in 0..3 {
        for source in [FIRST, SECOND, "192.0.2.103"] {
            fleet.until_open(place, source, 22);
        }
    }
    // By a host where it did not open.
    let policy = fleet.path(1, "policy.toml");
    let said = fleet.yes(1, &["key", "revoke", "lost", &policy]);
    assert!(
        said.contains("the other hosts of the fleet end its grants too"),
        "{said}"
    );
    for place in 0..3 {
        fleet.until_shut(place, SECOND, 22);
        fleet.until_shut(place, "192.0.2.103", 22);
        fleet.until_open(place, FIRST, 22);
    }
}

#[test]
fn of_two_hosts_that_let_in_one_source_the_later_end_counts() {
    let doors = format!(
        "{DOORS}[key.short]\nopens = [\"ssh\"]\nopen_for = \"20s\"\nsequence = [5571, 6602, 7733]\n"
    );
    let fleet = Fleet::with(3, &doors);
    (0..3).for_each(|place| fleet.listen(place, 22));
    fleet.knock(0, FIRST);
    fleet.knock_with(1, FIRST, &["5571", "6602", "7733"]);
    for place in 0..3 {
        fleet.until_open(place, FIRST, 22);
        until("the later end is there", || {
            let grants = fleet.grants(place, "ssh");
            let latest = grants.iter().map(|(_, left)| *left).fold(0.0, f64::max);
            (25.0..=60.0).contains(&latest)
        });
    }
    // He is in by two, and is one.
    assert_eq!(fleet.grants(0, "ssh").len(), 2);
    let policy = fleet.path(0, "policy.toml");
    let shown = fleet.toctoc(0, &["status", &policy]);
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains("open to 1 source\n"), "{shown}");
    assert!(!fleet.is_open(2, SECOND, 22));
}

#[test]
fn a_grant_for_one_connection_stays_where_it_was_given() {
    let doors = DOORS.replace("sequence =", "once = true\nsequence =");
    let fleet = Fleet::with(2, &doors);
    (0..2).for_each(|place| fleet.listen(place, 22));
    fleet.knock(0, FIRST);
    until("it is in", || !fleet.grants(0, "ssh").is_empty());
    // What is told later has arrived, so that would have too.
    fleet.yes(0, &["open", "ssh", SECOND]);
    fleet.until_open(1, SECOND, 22);
    assert!(!fleet.is_open(1, FIRST, 22));
    fleet.until_open(0, FIRST, 22);
}

#[test]
fn networks_are_shared_as_each_host_grants_them() {
    let mut fleet = Fleet::bare(2);
    fleet.start_engine(&[]);
    let narrow = fleet.policy(0, DOORS);
    fleet.apply(0, &narrow);
    let wide = format!("grant.prefix4 = 30\n{}", fleet.policy(1, DOORS));
    fleet.apply(1, &wide);
    (0..2).for_each(|place| fleet.start_agent(place));
    fleet.until_all_know_each_other();
    (0..2).for_each(|place| fleet.listen(place, 22));
    // .101 is in 192.0.2.100/30, and so is .102; .104 is not.
    fleet.knock(0, FIRST);
    fleet.until_open(1, FIRST, 22);
    assert!(fleet.is_open(1, SECOND, 22) && !fleet.is_open(1, "192.0.2.104", 22));
    assert!(!fleet.is_open(0, SECOND, 22));
    fleet.knock(1, "192.0.2.105");
    fleet.until_open(0, "192.0.2.105", 22);
    assert!(!fleet.is_open(0, "192.0.2.106", 22));
    fleet.yes(1, &["close", "ssh", SECOND]);
    fleet.until_shut(0, FIRST, 22);
}

/// Notes of a day stand in the way of none: the room for them is not that for sources.
#[test]
fn a_closing_does_not_fail_for_want_of_room_for_notes() {
    let doors = format!("max_sources = 256\n{DOORS}");
    let fleet = Fleet::with(2, &doors);
    (0..2).for_each(|place| fleet.listen(place, 22));
    let elements: Vec<String> = (0..300)
        .map(|n| format!("10.0.{}.{} . 1:{n:x} timeout 1d", n / 256, n % 256))
        .collect();
    let text = format!(
        "add element inet toctoc closed4 {{ {} }}\n",
        elements.join(", ")
    );
    let host = &fleet.members[0].host;
    let ended = host
        .inside(|| run(&["nft", "-f", "-"], &text).unwrap())
        .unwrap();
    assert!(ended.succeeded(), "{}", ended.stderr);
    fleet.knock(0, FIRST);
    fleet.knock(0, SECOND);
    for source in [FIRST, SECOND] {
        fleet.until_open(1, source, 22);
    }
    assert_eq!(fleet.yes(0, &["close", "ssh", FIRST]), "ended 1 grant\n");
    for place in 0..2 {
        fleet.until_shut(place, FIRST, 22);
        assert!(fleet.is_open(place, SECOND, 22), "{place}");
    }
}

/// A note that is carried into sets that an apply makes anew is as old as it was: a closing that came late still ends it, and
/// one that is noted still ends what began before it, and not what came after.
#[test]
fn sets_that_are_made_anew_change_nothing_of_when_a_grant_began() {
    let mut fleet = Fleet::with(2, &DOORS.replace("opens ", "open_for = \"1h\"\nopens "));
    (0..2).for_each(|place| fleet.listen(place, 22));
    let policy = |fleet: &Fleet, place, more: &str| {
        let doors = DOORS.replace("opens ", "open_for = \"1h\"\nopens ");
        fleet.policy(place, &format!("{more}{doors}"))
    };
    fleet.knock(0, FIRST);
    fleet.until_open(1, FIRST, 22);
    fleet.plug(0, false);
    fleet.until_said(0, "this host goes on by itself");
    assert_eq!(fleet.yes(1, &["close", "ssh", FIRST]), "ended 1 grant\n");
    // Both are made anew: the one with the grant, and the one with the note of its end.
    for place in [0, 1] {
        let larger = policy(&fleet, place, "max_sources = 9000\n");
        fleet.apply(place, &larger);
        fleet.kill_agent(place);
        fleet.start_agent(place);
    }
    assert!(
        fleet
            .grants(0, "ssh")
            .iter()
            .any(|(source, _)| source == FIRST)
    );
    fleet.plug(0, true);
    fleet.until_connected(0);
    fleet.until_shut(0, FIRST, 22);
    assert!(!fleet.is_open(1, FIRST, 22));
    fleet.knock(0, FIRST);
    fleet.until_open(1, FIRST, 22);
}

/// Two sources that a trial has ended, of which another host ends one; then the way back.
fn a_trial_that_ends_two(fleet: &Fleet) {
    (0..2).for_each(|place| fleet.listen(place, 22));
    fleet.knock(0, FIRST);
    fleet.knock(0, SECOND);
    for source in [FIRST, SECOND] {
        fleet.until_open(1, source, 22);
    }
    let other = lasting().replace("yves", "other").replace("4431", "4439");
    let path = fleet.file(0, "policy.toml", &fleet.policy(0, &other));
    let path = path.display().to_string();
    fleet.yes(0, &["apply", "--confirm", "10m", &path]);
    for source in [FIRST, SECOND] {
        fleet.until_shut(0, source, 22);
    }
}

fn lasting() -> String {
    DOORS.replace("opens ", "open_for = \"1h\"\nopens ")
}

#[test]
fn a_way_back_lets_nobody_in_whom_another_host_has_ended() {
    let fleet = Fleet::with(2, &lasting());
    a_trial_that_ends_two(&fleet);
    assert_eq!(fleet.yes(1, &["close", "ssh", FIRST]), "ended 1 grant\n");
    until("it is noted", || fleet.list(0, "ended4").contains(FIRST));
    let said = fleet.yes(0, &["rollback"]);
    fleet.until_open(0, SECOND, 22);
    assert!(!fleet.is_open(0, FIRST, 22), "{said}");
    assert_eq!(sources(&fleet, 0), [SECOND]);
}

/// Where nobody listened during the trial, nothing is noted; the engine knows, and that he is in since before.
#[test]
fn a_rollback_prolongs_no_grant() {
    let mut fleet = Fleet::with(2, &lasting());
    a_trial_that_ends_two(&fleet);
    fleet.kill_agent(0);
    assert_eq!(fleet.yes(1, &["close", "ssh", FIRST]), "ended 1 grant\n");
    fleet.yes(0, &["rollback"]);
    assert_eq!(sources(&fleet, 0), [FIRST, SECOND], "it cannot know");
    fleet.file(0, "policy.toml", &fleet.policy(0, &lasting()));
    fleet.start_agent(0);
    fleet.until_shut(0, FIRST, 22);
    assert!(fleet.is_open(0, SECOND, 22));
}

/// The same for a key, and for trials of which the last one has neither the door nor a fleet.
#[test]
fn a_way_back_lets_nobody_in_whose_key_another_host_has_revoked() {
    let lost = "[key.lost]\nopens = [\"ssh\"]\nopen_for = \"1h\"\nsequence = [5571, 6602, 7733]\n";
    let mut fleet = Fleet::with(2, &format!("{}{lost}", lasting()));
    (0..2).for_each(|place| fleet.listen(place, 22));
    fleet.knock_with(0, FIRST, &["5571", "6602", "7733"]);
    fleet.knock(0, SECOND);
    for source in [FIRST, SECOND] {
        fleet.until_open(1, source, 22);
    }
    let web =
        "[door.web]\nports = [443]\n[key.yves]\nopens = [\"web\"]\nsequence = [4431, 2387, 920]\n";
    let with_fleet = fleet.policy(0, web).replace("[\"ssh\"]\n", "[\"web\"]\n");
    let trial = |text: &str| {
        let path = fleet.file(0, "policy.toml", text).display().to_string();
        fleet.yes(0, &["apply", "--confirm", "10m", &path]);
    };
    trial(&with_fleet);
    assert!(fleet.status(0)["doors"][0]["name"] == "web");
    let policy = fleet.path(1, "policy.toml");
    fleet.yes(1, &["key", "revoke", "lost", &policy]);
    until("it is noted", || {
        fleet.list(0, "revoked-elsewhere").contains("elements")
    });
    trial(web);
    fleet.kill_engine();
    fleet.yes(0, &["rollback"]);
    fleet.until_open(0, SECOND, 22);
    assert!(!fleet.is_open(0, FIRST, 22));
}

/// Its own words are in the engine, and the grants of others too.
#[test]
fn a_host_that_begins_anew_knows_what_it_has_closed() {
    let mut fleet = Fleet::with(2, &lasting());
    (0..2).for_each(|place| fleet.listen(place, 22));
    fleet.knock(1, FIRST);
    fleet.knock(1, SECOND);
    for source in [FIRST, SECOND] {
        fleet.until_open(0, source, 22);
    }
    fleet.plug(1, false);
    fleet.yes(0, &["close", "ssh", FIRST]);
    until("the engine knows", || {
        fleet.redis(&["KEYS", "toctoc:closed:*"]).contains(FIRST)
    });
    // As after a start of the machine.
    let policy = fleet.path(0, "policy.toml");
    fleet.kill_agent(0);
    fleet.yes(0, &["remove"]);
    fleet.yes(0, &["apply", &policy]);
    fleet.start_agent(0);
    fleet.until_open(0, SECOND, 22);
    assert_eq!(sources(&fleet, 0), [SECOND]);
}

/// Also who is in at other hosts alone.
#[test]
fn close_without_a_source_ends_what_this_host_does_not_know_of() {
    let fleet = Fleet::of(2);
    (0..2).for_each(|place| fleet.listen(place, 22));
    fleet.plug(0, false);
    fleet.until_said(0, "this host goes on by itself");
    fleet.knock(1, FIRST);
    fleet.until_open(1, FIRST, 22);
    fleet.yes(1, &["open", "ssh", "2001:db8::7", "--for", "10m"]);
    fleet.yes(1, &["open", "web", SECOND, "--for", "10m"]);
    let said = fleet.yes(0, &["close", "ssh"]);
    assert_eq!(
        said,
        "no such grant was here; the hosts of the fleet that share the door are told\n"
    );
    fleet.plug(0, true);
    fleet.until_shut(1, FIRST, 22);
    until("both families", || sources(&fleet, 1).is_empty());
    assert_eq!(fleet.grants(1, "web").len(), 2, "another door");
    assert!(!fleet.is_open(0, FIRST, 22));
    fleet.until_connected(0);
    fleet.knock(1, FIRST);
    (0..2).for_each(|place| fleet.until_open(place, FIRST, 22));
}

/// A grant ends also where that cannot be noted, and a grant that is given afterwards counts.
#[test]
fn want_of_room_for_notes_of_others_stops_nothing() {
    let fleet = Fleet::of(2);
    (0..2).for_each(|place| fleet.listen(place, 22));
    let host = &fleet.members[0].host;
    for set in ["ended4", "revoked-elsewhere"] {
        let delete = ["nft", "delete", "set", "inet", "toctoc", set];
        let ended = host.inside(|| run(&delete, "").unwrap()).unwrap();
        assert!(ended.succeeded(), "{}", ended.stderr);
    }
    fleet.knock(1, FIRST);
    fleet.until_open(0, FIRST, 22);
    fleet.yes(1, &["close", "ssh", FIRST]);
    fleet.until_shut(0, FIRST, 22);
    fleet.until_said(
        0,
        "the way back of a trial may let in whom others have ended",
    );
    fleet.knock(1, SECOND);
    fleet.until_open(0, SECOND, 22);
    assert!(!fleet.is_open(0, FIRST, 22));
}
