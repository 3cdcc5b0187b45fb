//! Apply, apply again, status, close, remove: what they keep, what they end, what they never touch.

use std::process::Command;
use std::thread;

use toctoc::client::Door;
use toctoc::lab::{CLIENT, STRANGER};

use crate::world::{SEQUENCE, World, YVES};

pub const TWO: &str = r#"
open_for = "5m"

[door.ssh]
ports = [22]

[door.web]
ports = [8443]

[key.yves]
opens    = ["ssh"]
sequence = [443, 2387, 920, 18357, 50]

[key.anna]
opens    = ["ssh", "web"]
sequence = [9001, 37, 4242]
"#;

pub const ANNA: [u16; 3] = [9001, 37, 4242];

/// The IPv4 grants as the kernel itself lists them, with the time each has left in milliseconds.
pub fn left(world: &World) -> Vec<(String, u64)> {
    if !world.is_nftables() {
        return left_by_status(world);
    }
    let text = world.server(&["nft", "list", "set", "inet", "toctoc", "grants4"]);
    let elements = text.split("elements = {").nth(1).unwrap_or_default();
    let elements = elements.split('}').next().unwrap_or_default().split(',');
    let parse = |element: &str| {
        let (who, expires) = element.trim().split_once(" expires ")?;
        let duration = humantime::parse_duration(&spaced(expires.trim())).unwrap();
        let who = who.split(" timeout").next().unwrap();
        Some((who.to_string(), duration.as_millis() as u64))
    };
    let mut grants: Vec<_> = elements.filter_map(parse).collect();
    grants.sort();
    grants
}

fn left_by_status(world: &World) -> Vec<(String, u64)> {
    let status = world.status();
    let mut grants = Vec::new();
    for door in status["doors"].as_array().unwrap() {
        for grant in door["grants"].as_array().unwrap() {
            let who = format!("{} {}", grant["source"], door["name"]);
            let left = grant["expires_in"].as_f64().unwrap() * 1000.0;
            if !who.contains(':') {
                grants.push((who, left as u64));
            }
        }
    }
    grants.sort();
    grants
}

/// "4m59s992ms" as "4m 59s 992ms".
fn spaced(text: &str) -> String {
    let mut out = String::new();
    let mut letter = false;
    for c in text.chars() {
        if letter && c.is_ascii_digit() {
            out.push(' ');
        }
        letter = c.is_ascii_alphabetic();
        out.push(c);
    }
    out
}

fn applying_again_neither_drops_nor_prolongs_a_grant() {
    let world = World::with(TWO);
    world.knock(CLIENT[0], &SEQUENCE);
    world.knock(STRANGER[0], &ANNA);
    let before = left(&world);
    assert_eq!(before.len(), 3);
    for round in 0..10 {
        // Also when the policy changes: another door, other keys, another order, another time.
        let policy = match round % 3 {
            0 => TWO.to_string(),
            1 => {
                let reject = if world.is_nftables() {
                    "closed = \"reject\"\n"
                } else {
                    ""
                };
                format!("within = \"3s\"\n{reject}{TWO}[door.other]\nports = [99]\n")
            }
            _ => {
                let (doors, keys) = TWO.split_at(TWO.find("[key.yves]").unwrap());
                let (yves, anna) = keys.split_at(keys.find("[key.anna]").unwrap());
                format!("{doors}{anna}{yves}").replace("[443,", "[441, 442,")
            }
        };
        let said = world.apply(&policy);
        assert!(said.contains("3 live grants kept"), "{said}");
        let after = left(&world);
        assert_eq!(after.len(), 3);
        for ((who, was), (same, is)) in before.iter().zip(&after) {
            assert_eq!(who, same);
            assert!(is <= was, "{who} was prolonged from {was} ms to {is} ms");
        }
    }
    assert_eq!(world.status()["keys"][0]["opened"], 1);
}

fn grants_of_doors_and_keys_that_are_gone_end() {
    let world = World::with(TWO);
    world.listen(22);
    world.knock(CLIENT[0], &SEQUENCE);
    world.knock(STRANGER[0], &ANNA);
    world.yes(&["open", "web", "192.0.2.200"]);
    // Key anna is gone: what she opened closes, what yves and the administrator opened stays.
    let without_anna = &TWO[..TWO.find("[key.anna]").unwrap()];
    let said = world.apply(without_anna);
    assert!(said.contains("2 live grants kept, 2 ended"), "{said}");
    assert_eq!(
        world.holders("ssh"),
        [(CLIENT[0].into(), Some("yves".into()))]
    );
    assert_eq!(world.holders("web"), [("192.0.2.200".into(), None)]);
    assert_eq!(world.connect(STRANGER[0], 22), Door::Silent);
    assert_eq!(world.connect(CLIENT[0], 22), Door::Open);
    // Door web is gone.
    let said = world.apply(&without_anna.replace("[door.web]\nports = [8443]\n", ""));
    assert!(said.contains("1 live grant kept, 1 ended"), "{said}");
    // It comes back closed.
    world.apply(TWO);
    assert_eq!(world.holders("web"), []);
    assert_eq!(world.holders("ssh").len(), 1);
}

fn a_key_that_loses_a_door_loses_its_grants_there() {
    let world = World::with(TWO);
    world.knock(CLIENT[0], &ANNA);
    let said = world.apply(&TWO.replace("[\"ssh\", \"web\"]", "[\"web\"]"));
    assert!(said.contains("1 live grant kept, 1 ended"), "{said}");
    assert_eq!(world.holders("ssh"), []);
    assert_eq!(world.holders("web").len(), 1);
}

/// A door that takes over another's port does not take over its guests.
fn a_renamed_door_starts_closed() {
    let world = World::with(YVES);
    world.knock(CLIENT[0], &SEQUENCE);
    world.apply(
        &YVES
            .replace("door.ssh", "door.admin")
            .replace("\"ssh\"", "\"admin\""),
    );
    assert_eq!(world.holders("admin"), []);
    assert!(world.status()["matches_policy"].as_bool().unwrap());
}

/// A door that moves takes its guests along.
fn a_moved_door_keeps_its_guests() {
    let world = World::with(YVES);
    world.listen(2222);
    world.knock(CLIENT[0], &SEQUENCE);
    world.apply(&YVES.replace("[22]", "[2222]"));
    assert_eq!(world.connect(CLIENT[0], 2222), Door::Open);
    assert_eq!(world.connect(STRANGER[0], 2222), Door::Silent);
}

#[test]
fn sets_made_anew_carry_grants_over() {
    let world = World::with(TWO);
    world.knock(CLIENT[0], &SEQUENCE);
    world.knock(STRANGER[0], &ANNA);
    let before = left(&world);
    let shorter = |policy: &str| {
        world.apply(policy);
        assert_eq!(world.holders("ssh").len(), 2);
        assert_eq!(world.holders("web").len(), 1);
        assert!(world.holders("ssh").iter().all(|(_, key)| key.is_some()));
    };
    shorter(&format!("max_sources = 300\n{TWO}"));
    let after = left(&world);
    for ((who, was), (same, is)) in before.iter().zip(&after) {
        assert_eq!(who, same);
        assert!(
            is <= was && is + 60_000 > *was,
            "{who}: {was} ms, then {is} ms"
        );
    }
    // Wider, and back: the addresses that opened are known, all of them.
    shorter(&format!("max_sources = 300\n{TWO}[grant]\nprefix4 = 30\n"));
    assert_eq!(world.holders("ssh")[0].0, "192.0.2.4/30");
    shorter(TWO);
    assert_eq!(world.holders("ssh")[0].0, CLIENT[0]);
}

fn a_spent_grant_for_once_does_not_come_back() {
    let policy = YVES.replace("50]", "50]\nonce = true");
    let world = World::with(&policy);
    world.listen(22);
    world.knock(CLIENT[0], &SEQUENCE);
    world.knock(STRANGER[0], &SEQUENCE);
    assert_eq!(world.connect(CLIENT[0], 22), Door::Open);
    for changed in ["closed = \"drop\"", "within = \"9s\""] {
        let said = world.apply(&format!("{changed}\n{policy}"));
        assert!(said.contains("1 live grant kept"), "{said}");
        assert_eq!(world.connect(CLIENT[0], 22), Door::Silent);
    }
    assert_eq!(world.connect(STRANGER[0], 22), Door::Open);
}

/// When their set is made anew, grants for one connection end: one may be used up just then.
#[test]
fn grants_for_once_end_with_their_set() {
    let policy = YVES.replace("50]", "50]\nonce = true");
    for changed in [
        format!("max_sources = 300\n{policy}"),
        format!("{policy}[grant]\nprefix4 = 31\n"),
        YVES.to_string(),
    ] {
        let world = World::with(&policy);
        world.listen(22);
        world.yes(&["open", "ssh", STRANGER[0], "--for", "5m"]);
        world.knock(CLIENT[0], &SEQUENCE);
        let said = world.apply(&changed);
        let ended = "1 live grant for one connection ended";
        assert!(
            said.contains(ended) && said.contains("1 live grant kept, 0 ended"),
            "{said}"
        );
        assert_eq!(world.connect(CLIENT[0], 22), Door::Silent);
        assert_eq!(world.connect(STRANGER[0], 22), Door::Open);
    }
}

/// States are numbered afresh by every apply; progress under the old numbers must not open anything
/// under the new ones.
fn old_progress_means_nothing_to_a_new_automaton() {
    let world = World::with(YVES);
    world.knock(CLIENT[0], &SEQUENCE[..4]);
    assert_eq!(world.status()["progress"][0]["knocks"], 4);
    world.apply(&YVES.replace("[443, 2387, 920, 18357, 50]", "[1, 3, 5, 9, 50]"));
    assert_eq!(world.status()["progress"], serde_json::json!([]));
    world.knock(CLIENT[0], &[50]);
    assert!(world.nobody_is_in());
}

const FOREIGN: &str = "
table inet filter {
	set toctoc { type ipv4_addr; flags dynamic,timeout; timeout 1h; elements = { 192.0.2.50 } }
	chain input { type filter hook input priority filter; policy accept;
		tcp dport 8080 accept comment \"somebody else's\"
	}
	chain judge { counter
	}
}
table ip toctoc {
	chain knocks-tcp { type filter hook prerouting priority raw; policy accept;
		ip saddr 203.0.113.0/24 drop
	}
}
";

#[test]
fn other_tables_are_never_touched() {
    let world = World::bare();
    world.nft(FOREIGN);
    world.server(&[
        "iptables-nft",
        "-A",
        "INPUT",
        "-p",
        "tcp",
        "--dport",
        "99",
        "-j",
        "DROP",
    ]);
    let ruleset = || {
        let all = world.server(&["nft", "-s", "list", "ruleset"]);
        let ours = all.find("table inet toctoc {");
        let others = match ours {
            None => all,
            Some(start) => {
                let end = start + all[start..].find("\n}\n").unwrap() + 3;
                format!("{}{}", &all[..start], &all[end..])
            }
        };
        // How long the foreign element has left is its own affair.
        let lines = others.lines().filter(|line| !line.contains("expires"));
        lines.map(|line| format!("{line}\n")).collect::<String>()
    };
    let before = ruleset();
    assert!(before.contains("somebody else's") && before.contains("203.0.113.0/24"));
    world.apply(YVES);
    assert_eq!(ruleset(), before);
    world.knock(CLIENT[0], &SEQUENCE);
    world.yes(&["open", "ssh", "192.0.2.99"]);
    world.yes(&["close"]);
    world.apply(TWO);
    assert_eq!(ruleset(), before);
    world.yes(&["remove"]);
    assert_eq!(ruleset(), before);
    assert!(
        !world
            .server(&["nft", "list", "tables"])
            .contains("inet toctoc")
    );
}

fn open_and_close_by_hand() {
    let world = World::with(TWO);
    world.listen(22);
    for client in CLIENT {
        assert_eq!(world.connect(client, 22), Door::Silent);
        let said = world.yes(&["open", "ssh", client, "--for", "5m"]);
        assert_eq!(said, format!("ssh is open to {client} for 5m\n"));
        assert_eq!(world.connect(client, 22), Door::Open);
        assert_eq!(world.connect(client, 8443), Door::Silent);
    }
    // A second time gives the new time, longer or shorter.
    world.yes(&["open", "ssh", CLIENT[0], "--for", "10s"]);
    assert!(left(&world)[0].1 <= 10_000);
    world.yes(&["open", "ssh", CLIENT[0], "--for", "1h"]);
    assert!(left(&world)[0].1 > 3_500_000);
    // A knock gives the key's time, also over a longer grant by hand: the time restarts.
    world.knock(CLIENT[0], &SEQUENCE);
    assert!(left(&world)[0].1 <= 300_000);
    assert_eq!(world.holders("ssh")[0].1.as_deref(), Some("yves"));

    world.yes(&["open", "web", CLIENT[0]]);
    assert_eq!(world.yes(&["close", "ssh", CLIENT[1]]), "ended 1 grant\n");
    assert_eq!(world.connect(CLIENT[1], 22), Door::Silent);
    assert_eq!(world.connect(CLIENT[0], 22), Door::Open);
    assert_eq!(world.yes(&["close", CLIENT[0]]), "ended 2 grants\n");
    assert_eq!(world.connect(CLIENT[0], 22), Door::Silent);
    assert_eq!(world.yes(&["close"]), "no such grant was there\n");
    world.knock(CLIENT[0], &ANNA);
    assert_eq!(world.yes(&["close", "web"]), "ended 1 grant\n");
    assert_eq!(world.holders("ssh").len(), 1);
    assert_eq!(
        world.yes(&["close", "ssh", "192.0.2.0/24"]),
        "ended 1 grant\n"
    );
    assert!(world.nobody_is_in());
}

fn open_and_close_say_what_is_wrong() {
    let world = World::with(TWO);
    for (arguments, said) in [
        (
            &["open", "shs", "192.0.2.7"][..],
            "no door `shs`; did you mean `ssh`?",
        ),
        (
            &["open", "ssh", "192.0.2.0/24"],
            "grants on this host are for a /32",
        ),
        (
            &["open", "ssh", "example.org"],
            "`example.org` is neither an address nor a network",
        ),
        (
            &["open", "ssh", "192.0.2.7", "--for", "soon"],
            "`soon` is not a duration",
        ),
        (&["close", "mail"], "no door `mail`"),
    ] {
        let output = world.toctoc(arguments);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains(said), "{stderr}");
    }
    assert!(world.nobody_is_in());
    world.yes(&["remove"]);
    let output = world.toctoc(&["open", "ssh", "192.0.2.7"]);
    assert_eq!(output.status.code(), Some(2));
}

fn applies_at_once_wait_for_one_another() {
    let world = World::with(TWO);
    world.knock(CLIENT[0], &SEQUENCE);
    let world = &world;
    thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| world.yes(&["apply"]));
            scope.spawn(|| world.yes(&["open", "web", CLIENT[0]]));
        }
    });
    assert_eq!(world.status()["matches_policy"], true);
    assert_eq!(world.holders("ssh").len(), 1);
    assert_eq!(world.holders("web").len(), 1);
}

fn a_failing_apply_leaves_everything_as_it_was() {
    let world = World::with(TWO);
    world.knock(CLIENT[0], &SEQUENCE);
    let before = world.all_rules();
    let refused = |mut command: Command, code: i32, said: &str| {
        let output = world
            .lab
            .server
            .inside(|| command.output().unwrap())
            .unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{stderr}");
        assert!(stderr.contains(said), "{stderr}");
        assert!(
            stderr.contains("the running firewall was not changed"),
            "{stderr}"
        );
        assert_eq!(world.all_rules(), before);
        assert_eq!(world.holders("ssh").len(), 1);
    };
    let path = world.path();

    // A policy with a mistake.
    let broken = path.with_file_name("broken.toml");
    std::fs::write(&broken, TWO.replace("[22]", "[70000]")).unwrap();
    let program = env!("CARGO_BIN_EXE_toctoc");
    let backend = if world.is_nftables() {
        "nftables"
    } else {
        "iptables"
    };
    let mut command = world.command(program);
    command.args(["apply", "--backend", backend]).arg(&broken);
    refused(command, 1, "no port is 70000");

    // A policy that is not there.
    let mut command = world.command(program);
    command.args(["apply", "--backend", backend, "/nowhere/policy.toml"]);
    refused(command, 2, "cannot be read");

    // Without the right to change the firewall: root of another user namespace is not ours.
    let other = path.with_file_name("other.toml");
    std::fs::write(&other, YVES).unwrap();
    let mut command = world.command("unshare");
    command
        .args(["--user", "--map-root-user", "--", program])
        .args(["apply", "--backend", backend])
        .arg(&other);
    refused(command, 2, "this needs root");
}

#[test]
fn two_thousand_keys_are_applied_and_work() {
    many_keys_are_applied_and_work(2_000);
}

/// Keys of five ports without order, different for each.
pub fn many_keys_are_applied_and_work(keys: u32) {
    let port = |key: u32, i: u32| {
        let number = (key * 5 + i).wrapping_mul(2_654_435_761) % 64_000;
        u16::try_from(1024 + number).unwrap()
    };
    let mut policy = String::from("open_for = \"10m\"\n[door.ssh]\nports = [22]\n");
    for key in 0..keys {
        let sequence: Vec<String> = (0..5).map(|i| port(key, i).to_string()).collect();
        let sequence = sequence.join(", ");
        policy += &format!("[key.k{key}]\nopens = [\"ssh\"]\nsequence = [{sequence}]\n");
    }
    let world = World::with(&policy);
    for (last, key) in (10u8..).zip([0, 1, keys / 2, keys - 1]) {
        let ports: Vec<u16> = (0..5).map(|i| port(key, i)).collect();
        let source = format!("10.6.0.{last}");
        world.knock(STRANGER[0], &ports[..4]);
        world.knock(&source, &ports);
        let opened = (source, Some(format!("k{key}")));
        assert!(world.holders("ssh").contains(&opened), "{opened:?}");
    }
    assert_eq!(world.holders("ssh").len(), 4);
}

/// Yves and six hundred others, from that number on: a large table.
fn keys(from: u32) -> String {
    let mut policy = format!("open_for = \"10m\"\n{YVES}");
    for key in from..from + 600 {
        let (a, b) = (1000 + key, 60_000 - 7 * key);
        policy += &format!("[key.k{key}]\nopens = [\"ssh\"]\nsequence = [{a}, {b}, 7]\n");
    }
    policy
}

/// A counter that somebody has added is in no outline, and no rule of ours uses it: `apply` and `status`
/// say the same, in a small table and in a large one. One of ours that is gone is another matter.
#[test]
fn a_strange_counter_is_no_difference_and_a_missing_one_is() {
    for policy in [YVES.to_string(), keys(0)] {
        let world = World::with(&policy);
        world.nft("add counter inet toctoc theirs\nadd counter inet toctoc opened-nobody\n");
        world.yes(&["status"]);
        let said = world.apply(&policy);
        assert!(said.contains("the kernel holds"), "{said}");
        world.yes(&["status"]);
    }
    let world = World::with(YVES);
    world.nft("flush chain inet toctoc key-yves\ndelete counter inet toctoc opened-yves\n");
    let said = String::from_utf8(world.toctoc(&["status", "--verbose"]).stdout).unwrap();
    assert!(said.contains("counter opened-yves is missing"), "{said}");
}

/// A grant that nobody opened is kept at first and ended when it is looked at again: it is counted once.
#[test]
fn a_grant_that_is_ended_late_was_not_kept() {
    let world = World::with(TWO);
    world.yes(&["open", "ssh", CLIENT[0], "--for", "1h"]);
    world.yes(&["open", "ssh", STRANGER[0], "--for", "1h"]);
    world.nft("flush set inet toctoc opened4");
    world.yes(&["open", "ssh", STRANGER[0], "--for", "1h"]);
    let said = world.yes(&["apply"]);
    assert!(said.contains("1 live grant kept, 1 ended"), "{said}");
    assert_eq!(world.holders("ssh"), [(STRANGER[0].into(), None)]);
}

/// Of a large table only an outline is listed. That is enough to keep and to end grants, to wake the
/// table, and to mend what somebody changed.
#[test]
fn a_large_table_is_applied_over_like_a_small_one() {
    let world = World::with(&keys(0));
    world.listen(22);
    world.knock(CLIENT[0], &SEQUENCE);
    world.knock(STRANGER[0], &[1001, 59_993, 7]);
    let before = left(&world);
    assert_eq!(before.len(), 2);
    let said = world.apply(&keys(0));
    assert!(said.contains("2 live grants kept, 0 ended"), "{said}");
    // A counter is gone, a chain is strange, and nothing is called.
    world.nft(
        "flush chain inet toctoc key-k1\ndelete counter inet toctoc opened-k1\n\
         add chain inet toctoc strange\nflush chain inet toctoc judge\n\
         add table inet toctoc { flags dormant\n}\n",
    );
    assert_eq!(world.connect(STRANGER[1], 22), Door::Open);
    let said = world.apply(&keys(2));
    assert!(said.contains("1 live grant kept, 1 ended"), "{said}");
    assert_eq!(world.status()["matches_policy"], true);
    assert_eq!(world.connect(STRANGER[0], 22), Door::Silent);
    assert_eq!(world.connect(STRANGER[1], 22), Door::Silent);
    assert_eq!(world.connect(CLIENT[0], 22), Door::Open);
    let after = left(&world);
    assert!(after.len() == 1 && after[0].1 <= before[0].1);
    // Back to a small one.
    world.apply(YVES);
    assert_eq!(world.status()["matches_policy"], true);
    assert_eq!(world.holders("ssh").len(), 1);
}

/// Two neighbours share a grant by prefix; when grants are for single addresses again, both are in.
#[test]
fn narrowing_the_prefix_keeps_everyone_who_opened() {
    let wide = format!("{TWO}[grant]\nprefix4 = 24\n");
    let world = World::with(&wide);
    world.knock(CLIENT[0], &SEQUENCE);
    world.knock(STRANGER[0], &SEQUENCE);
    world.knock("192.0.2.77", &SEQUENCE[..4]);
    let said = world.yes(&["open", "ssh", "192.0.2.20", "--for", "1h"]);
    assert_eq!(said, "ssh is open to 192.0.2.0/24 for 1h\n");
    assert_eq!(world.holders("ssh").len(), 1);
    world.apply(TWO);
    let holders: Vec<String> = world.holders("ssh").into_iter().map(|h| h.0).collect();
    assert_eq!(holders, [CLIENT[0], STRANGER[0], "192.0.2.20"]);
}

on_every_firewall!(
    applying_again_neither_drops_nor_prolongs_a_grant,
    grants_of_doors_and_keys_that_are_gone_end,
    a_key_that_loses_a_door_loses_its_grants_there,
    a_renamed_door_starts_closed,
    a_moved_door_keeps_its_guests,
    a_spent_grant_for_once_does_not_come_back,
    old_progress_means_nothing_to_a_new_automaton,
    open_and_close_by_hand,
    open_and_close_say_what_is_wrong,
    applies_at_once_wait_for_one_another,
    a_failing_apply_leaves_everything_as_it_was,
);
