//! Rules that are as they were applied are recognized by their fingerprint, and no change of them escapes.

use serde_json::{Value, json};
use toctoc::client::Door;
use toctoc::firewall::nf_tables;
use toctoc::lab::{CLIENT, STRANGER};

use crate::cost::{there, with_all};
use crate::lifecycle::TWO;
use crate::stand_in::StandIn;
use crate::token_world::good;
use crate::world::{SEQUENCE, World, YVES};

fn fingerprint(world: &World) -> String {
    let parts = there(world, nf_tables::parts).unwrap();
    parts.expect("there is a table").0.digest()
}

/// Where no rule has changed, `status` lists none; where one has, it names it.
#[test]
fn what_is_as_it_was_applied_is_not_listed() {
    let world = World::with(TWO);
    let lists =
        "case \"$*\" in *list*) echo 'list nothing' >&2; exit 1;; *) exec $real \"$@\";; esac";
    let quickly = || {
        let _nft = StandIn::new(&world, "nft", lists);
        world.toctoc(&["status"]).status.code()
    };
    assert_eq!(quickly(), Some(0));
    world.knock(CLIENT[0], &SEQUENCE);
    world.yes(&["open", "ssh", STRANGER[0]]);
    assert_eq!(quickly(), Some(0));
    assert_eq!(world.holders("ssh").len(), 2);
    // A table that was saved and loaded again is another one.
    let saved = world.server(&["nft", "list", "table", "inet", "toctoc"]);
    world.nft(&format!("delete table inet toctoc\n{saved}"));
    assert_eq!(quickly(), Some(2));
    assert_eq!(world.status()["matches_policy"], false);
    world.yes(&["apply"]);
    assert_eq!(quickly(), Some(0));
    // So is what another policy would make.
    std::fs::write(world.path(), YVES).unwrap();
    world.forget_what_was_applied();
    assert_eq!(quickly(), Some(2));
    assert_eq!(world.status()["matches_policy"], false);
    std::fs::write(world.path(), TWO).unwrap();
    assert_eq!(quickly(), Some(0));
    // A difference is not noted as right, however often it is looked at.
    world.nft("add rule inet toctoc shut accept");
    for _ in 0..2 {
        assert_eq!(quickly(), Some(2));
        assert_eq!(world.status()["matches_policy"], false);
    }
    // What is noted of another policy, or by another program, counts for nothing; nor does a damaged note.
    world.yes(&["apply"]);
    let files = std::fs::read_dir(world.state_directory()).unwrap();
    let mut paths = files.map(|file| file.unwrap().path());
    let note = paths
        .find(|path| path.to_str().unwrap().contains("verified"))
        .unwrap();
    let text = std::fs::read_to_string(&note).unwrap();
    assert_eq!(quickly(), Some(0));
    for damaged in [
        text.replace("\"program\":\"", "\"program\":\"9"),
        text.replace("\"table\":\"", "\"table\":\"9"),
        text.replace("\"script\":\"", "\"script\":\"9"),
        text.replace("\"nft\":\"", "\"nft\":\"9"),
        text.replace("\"fingerprint\":\"", "\"fingerprint\":\"9"),
        text.replace("\"version\":2", "\"version\":3"),
        text[..text.len() / 2].to_string(),
        String::new(),
    ] {
        assert_ne!(damaged, text);
        std::fs::write(&note, &damaged).unwrap();
        assert_eq!(quickly(), Some(2), "{damaged}");
    }
    std::fs::write(&note, &text).unwrap();
    assert_eq!(quickly(), Some(0));
}

/// Changes of the table as it is now: of each rule and each chain, each set and each element of those that only an apply
/// fills.
fn changes(world: &World) -> Vec<String> {
    let value: Value =
        serde_json::from_str(&world.server(&["nft", "-j", "list", "table", "inet", "toctoc"]))
            .unwrap();
    let objects = value["nftables"].as_array().unwrap();
    let mut changes: Vec<String> = Vec::new();
    let mut fixed = 0;
    for object in objects {
        let (rule, chain) = (&object["rule"], &object["chain"]);
        if let Some(name) = rule["chain"].as_str() {
            let at = format!("inet toctoc {name} handle {}", rule["handle"]);
            changes.push(format!("delete rule {at}"));
            changes.push(format!("insert rule {at} accept"));
            changes.push(format!("replace rule {at} counter"));
        }
        if let Some(name) = chain["name"].as_str() {
            changes.push(format!("flush chain inet toctoc {name}"));
            changes.push(format!("add rule inet toctoc {name} continue"));
        }
        if let Some(policy) = chain["policy"].as_str() {
            let (name, hook, priority) = (&chain["name"], &chain["hook"], &chain["prio"]);
            let words = |value: &Value| value.to_string().replace('"', "");
            assert_eq!(policy, "accept");
            changes.push(format!(
                "add chain inet toctoc {} {{ type filter hook {} priority {}; policy drop; }}",
                words(name),
                words(hook),
                words(priority)
            ));
        }
        for (kind, set) in [("set", &object["set"]), ("map", &object["map"])] {
            let Some(name) = set["name"].as_str() else {
                continue;
            };
            if ["heard", "ports", "steps", "arrivals", "terms"].contains(&name) {
                fixed += 1;
                changes.push(format!("flush {kind} inet toctoc {name}"));
            }
        }
    }
    assert_eq!(fixed, 5);
    let element = |set: &str, element: &str| format!("element inet toctoc {set} {{ {element} }}");
    changes.extend(
        [
            format!("add {}", element("heard", "7")),
            format!("delete {}", element("heard", "22")),
            format!("add {}", element("ports", "tcp . 7 : accept")),
            format!("delete {}", element("ports", "tcp . 22")),
            format!(
                "delete {}\nadd {}",
                element("ports", "tcp . 22"),
                element("ports", "tcp . 22 : accept")
            ),
            format!("add {}", element("steps", "0:0 . tcp . 7 : 0:2")),
            format!("add {}", element("terms", "1:1")),
            "add chain inet toctoc theirs".to_string(),
            "add chain inet toctoc theirs { type filter hook input priority 5; policy drop; }"
                .to_string(),
            "add set inet toctoc theirs { type ipv4_addr; }".to_string(),
            "add counter inet toctoc theirs".to_string(),
            "add table inet toctoc { flags dormant; }".to_string(),
            "delete table inet toctoc\nadd table inet toctoc".to_string(),
        ]
        .map(|change| change.to_string()),
    );
    assert!(changes.len() > 200, "{}", changes.len());
    changes
}

#[test]
fn a_fingerprint_notices_every_change() {
    let world = with_all();
    let script = world.yes(&["render"]);
    assert_eq!(fingerprint(&world), {
        world.nft(&script);
        fingerprint(&world)
    });
    let right = fingerprint(&world);
    let changes = changes(&world);
    // Each by itself. The same script gives a new table the same handles.
    for change in &changes {
        world.nft(&script);
        world.nft(change);
        assert_ne!(fingerprint(&world), right, "{change}");
    }
    world.nft(&script);
    assert_eq!(fingerprint(&world), right);
}

/// Whatever has changed, `status` says the same of it by the marks that an apply has left and by two listings of nft.
#[test]
fn a_difference_is_told_by_marks_as_by_listings() {
    let world = with_all();
    // The same transaction gives a new table the same handles.
    let anew = || {
        world.nft("delete table inet toctoc");
        world.yes(&["apply"]);
    };
    let status = || {
        let said = world.toctoc(&["status", "--json"]);
        let text = String::from_utf8(said.stdout).unwrap();
        // nft has a word for the number of the root.
        let text = text.replace("none . ", "0:0 . ");
        let mut value: Value = serde_json::from_str(&text).unwrap();
        // They depend on the second.
        value["keys"] = Value::Null;
        value["warnings"] = Value::Null;
        (said.status.code(), value)
    };
    anew();
    let changes = changes(&world);
    // Each kind of change in its turn, and a handful of each kind.
    let some = changes.iter().enumerate();
    let some = some.filter(|(at, _)| at % 13 == 0 || at + 16 > changes.len());
    let mut told = 0;
    for (_, change) in some.filter(|(_, change)| !change.contains("delete table")) {
        anew();
        world.nft(change);
        let by_marks = status();
        told += usize::from(by_marks.1["drift"] != json!([]));
        world.forget_what_was_compared();
        assert_eq!(by_marks, status(), "{change}");
    }
    // One counter too many is no difference.
    assert!(told > 20, "{told}");
}

/// The traces of packets, guests, administrators' grants and refills are no change.
#[test]
fn grants_and_counts_do_not_change_the_fingerprint() {
    let world = with_all();
    world.listen(22);
    let right = fingerprint(&world);
    let same = |what: &str| assert_eq!(fingerprint(&world), right, "{what}");
    world.knock(STRANGER[0], &[4431, 2387]);
    same("progress");
    world.knock(CLIENT[0], &[4431, 2387, 920, 18357, 50]);
    world.knock(CLIENT[0], &[2388, 921, 18358]);
    world.send(CLIENT[1], &good(0).0);
    assert_eq!(world.connect(CLIENT[0], 22), Door::Open);
    assert_eq!(world.connect(STRANGER[0], 22), Door::Silent);
    same("openings, counters, what is used up");
    world.yes(&["open", "ssh", "203.0.113.5"]);
    world.yes(&["refill"]);
    same("grants by hand, a refill");
    world.yes(&["close"]);
    world.nft("flush set inet toctoc grants4");
    same("no grants");
    world.nft("table inet other {\nchain c {\ntype filter hook input priority 0\naccept\n}\n}");
    world.nft("table ip toctoc {\nchain judge {\naccept\n}\n}");
    same("tables of others");
    world.yes(&["apply"]);
    same("the same policy again");
}
