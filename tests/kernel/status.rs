//! `toctoc status`: what it names, what it tells, and that the next apply heals it.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use serde_json::Value;
use toctoc::client::Door;
use toctoc::lab::{CLIENT, STRANGER};

use crate::lifecycle::{ANNA, TWO};
use crate::world::{Kind, SEQUENCE, World, YVES, on};

fn removing_opens_the_door_to_all() {
    let world = World::with(YVES);
    world.listen(22);
    assert_eq!(world.connect(CLIENT[0], 22), Door::Silent);
    world.yes(&["remove"]);
    assert_eq!(world.connect(CLIENT[0], 22), Door::Open);
    assert!(world.yes(&["remove"]).contains("nothing to remove"));
    let output = world.toctoc(&["status"]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stdout).unwrap();
    let missing = match world.kind {
        Kind::Nftables => "table inet toctoc is missing",
        _ => "ip6tables: our chains are missing",
    };
    assert!(said.contains(missing), "{said}");
    assert!(said.contains("OPEN TO EVERYONE"), "{said}");
    assert_eq!(world.status()["applied"], false);
}

/// The names in a JSON value, however deep.
fn names(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            found.extend(object.keys().cloned());
            object.values().for_each(|value| names(value, found));
        }
        Value::Array(list) => list.iter().for_each(|value| names(value, found)),
        _ => {}
    }
}

#[test]
fn every_name_in_json_is_documented() {
    let scratch = "[key.paper]\nopens = [\"ssh\"]\nscratch = [[20011, 4431, 33, 40001]]\n";
    let world = World::with(&format!("{TWO}{scratch}[firewall]\nallow = [80]\n"));
    world.knock(CLIENT[0], &SEQUENCE[..2]);
    world.yes(&["open", "ssh", "192.0.2.9"]);
    let mut found = BTreeSet::new();
    for arguments in [
        &["status", "--json"][..],
        &["check", "--json", "--rehearse"],
    ] {
        let output = world.toctoc(arguments);
        let value = serde_json::from_slice(&output.stdout).unwrap();
        names(&value, &mut found);
    }
    for name in [
        "expires_in",
        "scratch",
        "knocks",
        "reason",
        "opened",
        "trial_ends_in",
    ] {
        assert!(found.contains(name), "{name} is in no output: {found:?}");
    }
    let documented = std::fs::read_to_string("docs/json.md").unwrap();
    let documented: BTreeSet<&str> = documented.split('`').collect();
    let rates = ["1", "1000", "1000000"];
    found.retain(|name| !documented.contains(name.as_str()) && !rates.contains(&name.as_str()));
    assert!(found.is_empty(), "not in docs/json.md: {found:?}");
}

/// An element that stands for everybody lets strangers in, whatever the rules say. `status` says so; an apply takes it away.
#[test]
fn a_list_with_everybody_on_it_is_named_and_cleared() {
    let world = crate::cost::with_all();
    world.listen(22);
    let everybody = "element inet toctoc";
    for (list, element) in [
        ("grants4", "* timeout 1h"),
        ("grants4", "*"),
        ("grants6-p64", "* timeout 1h"),
        ("elsewhere4", "* timeout 1h"),
        ("opened4", "* timeout 1h"),
        ("progress4", "* timeout 1h : 0:4"),
        ("progress6", "* : 0:4"),
        ("tokens", "* timeout 1h : 0:1"),
    ] {
        assert_eq!(world.status()["matches_policy"], true, "{list}");
        world.nft(&format!("add {everybody} {list} {{ {element} }}"));
        if list == "grants4" {
            assert_eq!(world.connect(STRANGER[0], 22), Door::Open);
        }
        for _ in 0..2 {
            let said = world.toctoc(&["status"]);
            let text = String::from_utf8(said.stdout).unwrap();
            assert_eq!(world.status()["matches_policy"], false, "{list}: {text}");
            assert!(text.contains("MAY BE OPEN"), "{list}: {text}");
            assert!(!text.contains("closed to all"), "{list}: {text}");
            let is_door = list != "tokens";
            assert_eq!(
                text.contains("strangers may enter"),
                is_door,
                "{list}: {text}"
            );
            world.forget_what_was_compared();
        }
        world.yes(&["apply"]);
        assert_eq!(world.connect(STRANGER[0], 22), Door::Silent);
    }
}

/// Whoever is closed out is out: also where an element for everybody would still let him in.
#[test]
fn a_closing_ends_what_stands_for_everybody() {
    let world = World::with(TWO);
    world.listen(22);
    for closing in [&["close"][..], &["close", "ssh"], &["close", STRANGER[0]]] {
        world.nft("add element inet toctoc grants4 { * timeout 1h }");
        assert_eq!(world.connect(STRANGER[0], 22), Door::Open);
        world.yes(closing);
        assert_eq!(world.connect(STRANGER[0], 22), Door::Silent, "{closing:?}");
        assert_eq!(world.status()["matches_policy"], true);
    }
}

/// Whatever one part of the rules is lost: where `status` says that a door is open to everyone, a stranger gets in, and
/// where one gets in, it says so.
#[test]
fn a_door_is_called_open_when_strangers_get_in_and_only_then() {
    let world = World::with(TWO);
    world.listen(22);
    let mut seen = BTreeSet::new();
    for damage in [
        "delete element inet toctoc heard { 22 }",
        "flush set inet toctoc heard",
        "flush chain inet toctoc incoming",
        "flush chain inet toctoc incoming; delete element inet toctoc heard { 22 }",
        "delete element inet toctoc ports { tcp . 22 }",
        "flush chain inet toctoc knocks-tcp",
        "flush chain inet toctoc knocks-tcp; flush chain inet toctoc incoming",
        "flush chain inet toctoc glance",
        "flush chain inet toctoc glance; flush chain inet toctoc incoming",
        "flush chain inet toctoc judge; flush chain inet toctoc incoming",
        "flush chain inet toctoc door-ssh",
    ] {
        world.yes(&["apply"]);
        assert_eq!(world.connect(STRANGER[0], 22), Door::Silent);
        world.nft(damage);
        let is_open = world.connect(STRANGER[0], 22) == Door::Open;
        let output = world.toctoc(&["status"]);
        let said = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(1), "{damage}: {said}");
        assert_eq!(
            said.contains("OPEN TO EVERYONE"),
            is_open,
            "{damage}: {said}"
        );
        seen.insert(is_open);
    }
    assert_eq!(seen.len(), 2, "one of the two never came");
}

#[test]
fn status_names_what_is_gone_and_apply_heals_it() {
    let world = World::with(TWO);
    world.knock(CLIENT[0], &SEQUENCE);
    // Handles change with every apply.
    let second_rule = || {
        let judge = ["nft", "-a", "list", "chain", "inet", "toctoc", "judge"];
        let listing = world.server(&judge);
        let mut lines = listing.lines();
        let line = lines.find(|l| l.contains("meta priority set none"));
        line.unwrap().rsplit(' ').next().unwrap().to_string()
    };
    let damages: Vec<(Vec<&str>, &str)> = vec![
        (
            vec!["flush", "chain", "inet", "toctoc", "judge"],
            "chain judge has been flushed",
        ),
        (
            vec!["flush", "chain", "inet", "toctoc", "key-anna"],
            "chain key-anna has been flushed",
        ),
        (
            vec![
                "delete", "rule", "inet", "toctoc", "judge", "handle", "HANDLE",
            ],
            "chain judge lacks 1 of its 11 rules, from rule 2 on",
        ),
        (
            vec!["add", "rule", "inet", "toctoc", "shut", "accept"],
            "chain shut has a rule too many, rule 4",
        ),
        (
            vec!["insert", "rule", "inet", "toctoc", "door-ssh", "accept"],
            "chain door-ssh",
        ),
        (
            vec![
                "delete",
                "element",
                "inet",
                "toctoc",
                "steps",
                "{ 0:0 . tcp . 443 }",
            ],
            "map steps lacks 0:0 . tcp . 443 : 0:",
        ),
        (
            vec![
                "add",
                "element",
                "inet",
                "toctoc",
                "steps",
                "{ 0:0 . tcp . 7 : 0:2 }",
            ],
            "map steps has, besides, 0:0 . tcp . 7 : 0:2",
        ),
        (
            vec!["flush", "map", "inet", "toctoc", "ports"],
            "map ports lacks",
        ),
        (
            vec!["add", "chain", "inet", "toctoc", "theirs"],
            "chain theirs is not in the policy",
        ),
        (
            vec![
                "add",
                "element",
                "inet",
                "toctoc",
                "grants4",
                "{ 203.0.113.9 . be3e:ff51 }",
            ],
            "set grants4 has 203.0.113.9 . be3e:ff51, which never ends",
        ),
        (
            vec![
                "add",
                "element",
                "inet",
                "toctoc",
                "grants6",
                "{ 2001:db8::99 . 1:2 timeout 60s }",
            ],
            "set grants6 has 2001:db8::99 . 1:2, a grant for a door that the policy does not have",
        ),
        (
            vec![
                "add",
                "element",
                "inet",
                "toctoc",
                "opened4",
                "{ 203.0.113.9 . be3e:ff51 . 1:2 timeout 60s }",
            ],
            "set opened4 has 203.0.113.9 . be3e:ff51 . 1:2, an opening by a key that may not",
        ),
        (
            vec!["delete", "table", "inet", "toctoc"],
            "table inet toctoc is missing",
        ),
    ];
    for (damage, named) in damages {
        assert_eq!(world.status()["matches_policy"], true);
        let handle = second_rule();
        let words = damage.iter().map(|&word| match word {
            "HANDLE" => handle.as_str(),
            word => word,
        });
        let words: Vec<&str> = std::iter::once("nft").chain(words).collect();
        world.server(&words);
        let output = world.toctoc(&["status", "--verbose"]);
        let said = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        let (said, kernels) = said.split_once("in the kernel's words\n").unwrap();
        assert!(kernels.contains(named), "{damage:?}: {kernels}");
        // What nobody has to look up stands above: no chain, set or element.
        let differences = said
            .split_once("the kernel differs from the policy\n")
            .unwrap()
            .1;
        let ours = ["chain judge", "map ", "set ", " . ", "chain key-"];
        let is_plain = |line: &str| !ours.iter().any(|word| line.contains(word));
        assert!(
            differences.lines().all(is_plain),
            "{damage:?}: {differences}"
        );
        world.yes(&["apply"]);
        if damage[1] != "table" {
            assert_eq!(world.holders("ssh").len(), 1, "{damage:?}");
        }
    }
    // The kernel holds another policy than the file says.
    std::fs::write(world.path(), TWO.replace("\"5m\"", "\"301s\"")).unwrap();
    world.forget_what_was_applied();
    let output = world.toctoc(&["status"]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stdout).unwrap();
    let different = "the rules that give grants were changed";
    assert!(said.contains(different), "{said}");
}

/// `toctoc status | true`: nobody reads, and the answer is what it is.
#[test]
fn status_answers_the_same_when_nobody_reads() {
    let world = World::with(YVES);
    let unread = || {
        let mut command = world.toctoc_command(&["status"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let spawn = || {
            let mut child = command.spawn().unwrap();
            drop(child.stdout.take());
            child.wait_with_output().unwrap()
        };
        let output = world.lab.server.inside(spawn).unwrap();
        assert!(output.stderr.is_empty());
        output.status.code()
    };
    assert_eq!(unread(), Some(0));
    world.server(&["nft", "flush", "chain", "inet", "toctoc", "judge"]);
    assert_eq!(unread(), Some(1));
}

/// A full disk where the report goes: what was done is done, and it is said.
#[test]
fn a_report_that_cannot_be_written_is_no_failed_change() {
    let world = World::bare();
    std::fs::write(world.path(), YVES).unwrap();
    let full = |arguments: &[&str]| {
        let full = std::fs::File::options().write(true).open("/dev/full");
        let mut command = world.toctoc_command(arguments);
        command.stdout(full.unwrap());
        let output = world.lab.server.inside(|| command.output().unwrap());
        let output = output.unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("cannot write: No space left"), "{said}");
        said
    };
    let changed = "the running firewall was changed; only the report could not be written";
    for arguments in [&["apply"][..], &["open", "ssh", CLIENT[0]], &["close"]] {
        let said = full(arguments);
        assert!(said.contains(changed), "{arguments:?}: {said}");
        world.yes(&["status"]);
    }
    for arguments in [&["close"][..], &["status"]] {
        assert!(!full(arguments).contains(changed), "{arguments:?}");
    }
    assert!(full(&["remove"]).contains(changed));
    assert_eq!(world.toctoc(&["status"]).status.code(), Some(1));
    // Nobody reading is something else.
    let mut command = world.toctoc_command(&["apply"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let spawn = || {
        let mut child = command.spawn().unwrap();
        drop(child.stdout.take());
        child.wait_with_output().unwrap()
    };
    let output = world.lab.server.inside(spawn).unwrap();
    assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0));
}

/// Whatever a set is declared with counts, not only its type.
#[test]
fn status_names_a_set_that_is_declared_differently() {
    let world = World::bare();
    std::fs::write(world.path(), YVES).unwrap();
    let script = world.yes(&["render"]);
    for (set, and) in [
        ("set grants4", "gc-interval 3s"),
        ("set opened6", "timeout 1h"),
        ("set grants6", "policy memory"),
        ("map ports", "policy memory"),
    ] {
        let changed = script.replace(&format!("{set} {{\n"), &format!("{set} {{\n\t\t{and}\n"));
        assert_ne!(changed, script);
        world.nft(&changed);
        let output = world.toctoc(&["status", "--verbose"]);
        let said = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(1), "{set} {and}: {said}");
        assert!(
            said.contains(&format!("{set} is declared differently")),
            "{said}"
        );
        world.yes(&["apply"]);
        world.knock(CLIENT[0], &SEQUENCE);
        world.yes(&["status"]);
        assert_eq!(world.holders("ssh").len(), 1);
        world.yes(&["close"]);
    }
}

/// An nft that misses a file of its own does not say that nothing is guarded.
#[test]
fn what_nft_itself_lacks_is_no_missing_table() {
    let world = World::with(YVES);
    let directory = tempfile::tempdir().unwrap();
    let broken = directory.path().join("nft");
    let says = "nft: error while loading shared libraries: libnftables.so.1: cannot open shared \
                object file: No such file or directory";
    std::fs::write(&broken, format!("#!/bin/sh\necho '{says}' >&2\nexit 127\n")).unwrap();
    std::fs::set_permissions(&broken, std::fs::Permissions::from_mode(0o755)).unwrap();
    let with_broken = |command: &str| {
        let path = format!("{}:/usr/sbin:/usr/bin:/bin", directory.path().display());
        let mut toctoc = Command::new(env!("CARGO_BIN_EXE_toctoc"));
        toctoc.arg(command).env("PATH", path);
        if command != "remove" {
            toctoc.arg(world.path());
        }
        let output = world
            .lab
            .server
            .inside(|| toctoc.output().unwrap())
            .unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (
            output.status.code(),
            text(output.stdout) + &text(output.stderr),
        )
    };
    for command in ["status", "apply", "remove"] {
        let (code, said) = with_broken(command);
        assert_eq!(code, Some(2), "{command}: {said}");
        assert!(said.contains("libnftables.so.1"), "{command}: {said}");
    }
    world.yes(&["status"]);
    world.yes(&["remove"]);
    assert_eq!(world.toctoc(&["status"]).status.code(), Some(1));
}

/// Durations that nft's JSON rounds away are still told apart.
#[test]
fn status_sees_a_difference_of_milliseconds() {
    let world = World::with(&format!("within = \"1500ms\"\n{YVES}"));
    std::fs::write(world.path(), format!("within = \"1400ms\"\n{YVES}")).unwrap();
    world.forget_what_was_applied();
    assert_eq!(world.status()["matches_policy"], false);
}

fn an_interface_that_is_not_there_is_named() {
    let world = World::bare();
    world.listen(22);
    std::fs::write(
        world.path(),
        format!("interfaces = [\"eth0\", \"eth9\"]\n{YVES}"),
    )
    .unwrap();
    let output = world.toctoc(&["apply"]);
    assert_eq!(output.status.code(), Some(0));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("there is no interface eth9 now"), "{said}");
    assert_eq!(
        world.status()["missing_interfaces"],
        serde_json::json!(["eth9"])
    );
    assert_eq!(world.connect(CLIENT[0], 22), Door::Silent);
}

/// The packets of a bridge's port arrive at the bridge.
#[test]
fn a_part_of_a_bridge_is_named() {
    let world = World::bare();
    let server = &world.lab.server;
    server.ip("link add br0 type bridge").unwrap();
    server
        .ip("link add port type veth peer name other")
        .unwrap();
    server.ip("link set port master br0").unwrap();
    let named = |interfaces: &str| {
        let policy = format!("interfaces = {interfaces}\n{YVES}");
        std::fs::write(world.path(), policy).unwrap();
        // /sys shows the namespace that mounted it.
        let with_sys =
            "mount -t sysfs none /sys && \"$0\" apply \"$1\" && exec \"$0\" status \"$1\"";
        let path = world.path();
        let program = env!("CARGO_BIN_EXE_toctoc");
        let command = ["unshare", "--mount", "sh", "-c", with_sys, program];
        let ended = on(server, &[&command[..], &[path.to_str().unwrap()]].concat());
        assert!(ended.succeeded(), "{}", ended.stderr);
        (ended.stdout, ended.stderr)
    };
    let (status, apply) = named("[\"eth0\", \"port\"]");
    for said in [&status, &apply] {
        assert!(
            said.contains("port is a part of the bridge br0") && said.contains("name that one"),
            "{said}"
        );
        assert!(!said.contains("eth0 is a part"), "{said}");
    }
    let (status, apply) = named("[\"eth0\", \"br0\", \"other\"]");
    assert!(
        !status.contains("part of") && apply.is_empty(),
        "{status}{apply}"
    );
}

#[test]
fn status_shows_the_grants_of_doors_that_only_the_kernel_knows() {
    let world = World::with(TWO);
    world.knock(CLIENT[0], &ANNA);
    std::fs::write(world.path(), YVES).unwrap();
    world.forget_what_was_applied();
    let status = world.status();
    assert_eq!(status["matches_policy"], false);
    let web = &status["doors"][1];
    assert_eq!(
        (&web["name"], &web["in_policy"]),
        (&"web".into(), &false.into())
    );
    assert_eq!(web["grants"][0]["source"], CLIENT[0]);
}

/// So many ports are in a set of another kind than few are; and `status`, whose columns have an end, panicked.
#[test]
fn a_door_of_twelve_thousand_ports_is_applied_and_shown() {
    let ports: Vec<String> = (20_000..32_000).map(|port: u16| port.to_string()).collect();
    let many = format!(
        "[door.many]\nports = [{}]\n[key.many]\nopens = [\"many\"]\nsequence = [7, 5, 9, 6]\n{YVES}",
        ports.join(", ")
    );
    let world = World::with(YVES);
    let kind = || world.server(&["nft", "list", "set", "inet", "toctoc", "heard"]);
    world.knock(CLIENT[0], &SEQUENCE);
    assert!(!kind().contains("flags timeout"));
    world.apply(&many);
    assert!(kind().contains("flags timeout"));
    assert_eq!(world.connect(CLIENT[0], 25_000), Door::Silent);
    assert!(world.yes(&["status"]).contains("open to 1 source"));
    // The set stays where it is, is filled again, and is as the policy says.
    world.apply(&many);
    assert_eq!(world.status()["matches_policy"], true);
    assert_eq!(world.connect(CLIENT[0], 31_999), Door::Silent);
    world.apply(YVES);
    assert!(!kind().contains("flags timeout"));
    assert_eq!(world.connect(CLIENT[0], 25_000), Door::Refused);
    assert_eq!(world.holders("ssh").len(), 1);
}

on_every_firewall!(
    removing_opens_the_door_to_all,
    an_interface_that_is_not_there_is_named,
    status_shows_the_grants_of_doors_that_only_the_kernel_knows,
);
