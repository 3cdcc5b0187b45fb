//! fwknop's NAT modes: each policy of docs/recipes/fwknop-nat.md, with three hosts in a row (as in `behind`).

use toctoc::client::Door;
use toctoc::lab::{CLIENT, SERVER, STRANGER};

use crate::behind::{INNER, Row};
use crate::document::blocks;
use crate::world::{SEQUENCE, alive, on};

const OTHER: &str = "198.51.100.51";

/// The three hosts with a policy of the page, and a key for these doors.
fn with(name: &str, opens: &[&str]) -> Row {
    let page = std::fs::read_to_string("docs/recipes/fwknop-nat.md").unwrap();
    let mark = format!("file: /etc/toctoc/{name}.toml");
    let block = blocks(&page).into_iter().find(|block| block.mark == mark);
    let doors = block.unwrap_or_else(|| panic!("no policy {name}")).text;
    let key = match opens {
        [] => String::new(),
        _ => format!("[key.anna]\nopens = {opens:?}\nsequence = {SEQUENCE:?}\n"),
    };
    Row::with(&format!("open_for = \"60s\"\n{doors}{key}"))
}

/// The guest gets in after the knock, and the stranger neither before nor after.
fn opens(row: &Row, to: &str, port: u16) {
    for from in [CLIENT[0], STRANGER[0]] {
        assert_eq!(row.connect(from, to, port), Door::Silent, "{from}");
    }
    row.world.knock(CLIENT[0], &SEQUENCE);
    assert_eq!(row.connect(CLIENT[0], to, port), Door::Open);
    assert_eq!(row.connect(STRANGER[0], to, port), Door::Silent);
}

#[test]
fn force_nat_passes_on_to_one_host() {
    let row = with("force-nat", &["pi"]);
    opens(&row, SERVER[0], 2222);
    let mut session = row.world.session(CLIENT[0], 2222);
    assert!(alive(&mut session));
    let seen = on(&row.inner, &["ss", "-Htn", "state", "established"]).stdout;
    assert!(seen.contains(CLIENT[0]), "{seen}");
}

#[test]
fn force_masquerade_needs_no_way_back() {
    for (mode, comes_back) in [("force-nat", false), ("force-masquerade", true)] {
        let row = with(mode, &["pi"]);
        row.inner.ip("route del 192.0.2.0/24").unwrap();
        row.world.knock(CLIENT[0], &SEQUENCE);
        let door = row.connect(CLIENT[0], SERVER[0], 2222);
        assert_eq!(door == Door::Open, comes_back, "{mode}");
        assert_eq!(row.connect(STRANGER[0], SERVER[0], 2222), Door::Silent);
    }
}

#[test]
fn disable_dnat_lets_through_what_is_routed() {
    let row = with("disable-dnat", &["pi"]);
    opens(&row, INNER[0], 22);
    assert_eq!(
        row.connect(STRANGER[0], INNER[0], 80),
        Door::Open,
        "no door"
    );
}

/// A key for one of the doors opens that one.
#[test]
fn a_client_that_named_a_host_has_a_door_for_it() {
    for (opened, shut) in [(("pi", 2222), 8080), (("web", 8080), 2222)] {
        let row = with("each-host", &[opened.0]);
        opens(&row, SERVER[0], opened.1);
        assert_eq!(row.connect(CLIENT[0], SERVER[0], shut), Door::Silent);
        assert_eq!(row.connect(CLIENT[0], OTHER, 80), Door::Open, "routed");
    }
}

#[test]
fn nat_local_is_another_port_of_this_host() {
    let row = with("nat-local", &["alt", "ssh"]);
    row.world.listen(22);
    assert_eq!(row.connect(CLIENT[0], SERVER[0], 22), Door::Silent);
    opens(&row, SERVER[0], 2222);
    assert_eq!(row.connect(STRANGER[0], SERVER[0], 22), Door::Silent);
}

/// Granted by hand: the door is what counts here, and it has no sequences.
#[test]
fn forward_all_is_a_door_in_front_of_a_network() {
    let row = with("forward-all", &[]);
    for port in [22, 80, 8005] {
        for to in [INNER[0], OTHER] {
            assert_eq!(
                row.connect(CLIENT[0], to, port),
                Door::Silent,
                "{to} {port}"
            );
        }
    }
    row.world.yes(&["open", "inside", CLIENT[0]]);
    for port in [22, 80, 8005] {
        for to in [INNER[0], OTHER] {
            assert_eq!(row.connect(CLIENT[0], to, port), Door::Open, "{to} {port}");
            assert_eq!(
                row.connect(STRANGER[0], to, port),
                Door::Silent,
                "{to} {port}"
            );
        }
    }
}
