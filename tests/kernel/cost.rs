//! The cost of a command does not grow with what others keep in their tables, nor more than it must with the policy: no
//! program lists what is not asked for. And what is read and written without nft is what nft reads and writes.

use std::collections::BTreeMap;
use std::time::Duration;

use ipnet::IpNet;
use serde_json::Value;
use toctoc::client::Door;
use toctoc::firewall::nf_tables::{self, Portion};
use toctoc::held::{Grant, Guest, Opened};
use toctoc::lab::{CLIENT, STRANGER};
use toctoc::policy::{DoorId, KeyId, Name};
use toctoc::ruleset::nftables::{
    Command, Element, Lasting, Listing, Part, Transaction, burnt, loaded, spent_and_life,
};
use toctoc::single_use::Token;

use crate::lifecycle::{ANNA, TWO};
use crate::stand_in::{StandIn, here};
use crate::token_world::{OTHER, SECRET, good};
use crate::world::World;

/// A bit of everything that a table can hold.
const ALL: &str = r#"
token_port = 40123
[grant]
prefix6 = 64
[fleet]
url = "redis://127.0.0.1"
name = "me"
share = ["ssh", "web"]
accept = ["ssh", "web"]
[door.ssh]
ports = [22]
trust = ["198.51.100.0/24", "2001:db8:5::/48"]
[door.web]
ports = [443, "443/udp"]
[key.yves]
opens = ["ssh"]
sequence = [4431, 2387, 920, 18357, 50]
[key.once]
opens = ["web"]
sequence = [4431, 2387, 1111, "53/udp", 7]
once = true
[key.paper]
opens = ["ssh"]
scratch = [[2388, 921, 18358], [7101, 640, 5223]]
[key.alice]
opens = ["ssh"]
token = "alice.secret"
"#;

pub fn with_all() -> World {
    let world = World::bare();
    world.private_file("alice.secret", SECRET);
    world.apply(ALL);
    world
}

/// Runs something in the server's namespace.
pub fn there<T: Send>(world: &World, run: impl FnOnce() -> T + Send) -> T {
    world.lab.server.inside(run).unwrap()
}

/// The listing of nft.
fn listed(world: &World) -> Listing {
    let text = world.server(&["nft", "-j", "list", "table", "inet", "toctoc"]);
    Listing::parse(&text).unwrap()
}

/// Times are told to the second below, by two who look one after the other.
fn about(left: Duration) -> u64 {
    left.as_secs().div_ceil(5)
}

fn places(grants: &[Grant]) -> Vec<(Guest, bool, Option<KeyId>, u64)> {
    let place = |g: &Grant| {
        let key = g.opened_by.map(|opened| opened.key);
        (g.guest(), g.once, key, about(g.expires_in))
    };
    grants.iter().map(place).collect()
}

fn openings(mut opened: Vec<Opened>) -> Vec<(String, DoorId, KeyId, u64)> {
    opened.sort_by_key(|o| (o.source, o.door, o.key));
    let place = |o: &Opened| (o.source.to_string(), o.door, o.key, o.given_for.as_secs());
    opened.iter().map(place).collect()
}

#[test]
fn both_readers_see_the_same() {
    let world = with_all();
    world.knock(CLIENT[0], &[4431, 2387, 920, 18357, 50]);
    world.knock(CLIENT[1], &[2388, 921, 18358]);
    world.send(STRANGER[0], &good(0).0);
    world.knock(STRANGER[0], &[4431, 2387]);
    world.knock(STRANGER[1], &[4431]);
    world.connect(STRANGER[0], 443);
    world.yes(&["open", "web", "203.0.113.5"]);
    let door = Name::new("web").unwrap().door_id();
    there(&world, || {
        let source: IpNet = "203.0.113.9/32".parse().unwrap();
        let guest = Guest { source, door };
        let grants = [(guest, Some(Duration::from_secs(900)))];
        let transaction = toctoc::ruleset::nftables::elsewhere(&grants);
        nf_tables::commit(&transaction).unwrap();
    });
    world.yes(&["close", "web", "203.0.113.5"]);
    let nft = listed(&world);
    let own = there(&world, || nf_tables::read(Portion::Glance))
        .unwrap()
        .unwrap();
    assert_eq!(nft.grants().len(), 3);
    assert_eq!(places(&own.grants()), places(&nft.grants()));
    assert_eq!(openings(own.opened()), openings(nft.opened()));
    assert_eq!(nft.elsewhere().len(), 1);
    assert_eq!(places(&own.elsewhere()), places(&nft.elsewhere()));
    let ended = |listing: &Listing| -> Vec<Guest> {
        let closed = listing.closed().into_iter();
        closed.map(|(guest, _)| guest).collect()
    };
    assert!(!ended(&nft).is_empty());
    assert_eq!(ended(&own), ended(&nft));
    let midway = |listing: &Listing| -> Vec<(String, u32)> {
        let progress = listing.progress();
        progress
            .iter()
            .map(|p| (p.source.to_string(), p.state))
            .collect()
    };
    assert!(midway(&nft).len() > 1);
    assert_eq!(midway(&own), midway(&nft));
    assert_eq!(own.doors(), nft.doors());
    assert_eq!(own.scratch_chains(), nft.scratch_chains());
    for key in ["yves", "once", "paper", "alice"] {
        let key = Name::new(key).unwrap();
        assert_eq!(own.opened_count(&key), nft.opened_count(&key), "{key}");
    }
    assert_eq!(own.opened_count(&Name::new("alice").unwrap()), 1);
    assert_eq!(
        (own.wrong_count(), own.shut_out_count()),
        (nft.wrong_count(), nft.shut_out_count())
    );
    let part = |set: &str| there(&world, || nf_tables::set(set)).unwrap().unwrap();
    assert_eq!(burnt(&part("burnt")), burnt(&nft));
    assert_eq!(burnt(&nft).unwrap().len(), 1);
    assert_eq!(spent_and_life(&part("spent")), spent_and_life(&nft));
    assert_eq!(spent_and_life(&nft).unwrap().0.len(), 1);
    assert_eq!(part("terms").terms(), nft.terms());
    assert!(nft.terms().is_some());
    let tokens = |listing: &Listing| -> BTreeMap<Token, (u32, Option<u64>)> {
        let tokens = loaded(listing).unwrap().into_iter();
        tokens
            .map(|(token, l)| (token, (l.id, l.expires_in.map(about))))
            .collect()
    };
    assert!(tokens(&nft).len() > 1000);
    assert_eq!(tokens(&part("tokens")), tokens(&nft));
    assert!(
        there(&world, || nf_tables::set("no-such-set"))
            .unwrap()
            .is_none()
    );
    // The twin: where there is no table, nobody sees one.
    world.yes(&["remove"]);
    assert!(
        there(&world, || nf_tables::read(Portion::Glance))
            .unwrap()
            .is_none()
    );
    assert!(there(&world, nf_tables::parts).unwrap().is_none());
}

/// The sets of a table as nft lists them, with what elements were given, and not what is left of it.
fn contents(world: &World) -> BTreeMap<String, Vec<String>> {
    let text = world.server(&["nft", "-j", "list", "table", "inet", "toctoc"]);
    let value: Value = serde_json::from_str(&text).unwrap();
    let mut contents = BTreeMap::new();
    for object in value["nftables"].as_array().unwrap() {
        for kind in ["set", "map"] {
            let set = &object[kind];
            let elements = set["elem"].as_array().into_iter().flatten().map(|element| {
                let mut element = element.clone();
                let key = match element.is_array() {
                    true => &mut element[0],
                    false => &mut element,
                };
                if let Some(timed) = key.get_mut("elem").and_then(Value::as_object_mut) {
                    timed.remove("expires");
                }
                element.to_string()
            });
            let mut elements: Vec<String> = elements.collect();
            elements.sort();
            if let Some(name) = set["name"].as_str() {
                contents.insert(name.to_string(), elements);
            }
        }
    }
    contents
}

fn transactions_of_every_kind() -> Vec<Transaction> {
    let minutes = |number: u64| Duration::from_secs(60 * number);
    let (v4, v6) = (CLIENT[0].parse().unwrap(), "2001:db8::".parse().unwrap());
    let (door, key) = (Name::new("ssh").unwrap().id(), 1);
    let place = |source| vec![Part::Address(source), Part::Class(door)];
    let opened = |source| vec![Part::Address(source), Part::Class(door), Part::Class(key)];
    let add = |set: &str, elements: Vec<Element>| Command::Add {
        set: set.to_string(),
        elements,
    };
    let delete = |set: &str, keys: Vec<Vec<Part>>| Command::Delete {
        set: set.to_string(),
        keys,
    };
    let tokens = (0..3000u128).map(|number| Element {
        value: Some(Part::Class(0x5076_f9b8)),
        ..Element::timed(vec![Part::Token(Token(number.to_be_bytes()))], minutes(30))
    });
    let left = Element {
        lasting: Some(Lasting {
            timeout: minutes(60),
            left: Some(minutes(20)),
        }),
        ..Element::timed(place(v6), minutes(60))
    };
    let endless = Element {
        lasting: None,
        ..Element::timed(vec![Part::Class(7)], minutes(1))
    };
    vec![
        Transaction(vec![
            add("grants4", vec![Element::timed(place(v4), minutes(3))]),
            add("opened4", vec![Element::timed(opened(v4), minutes(3))]),
            add("opened6", vec![Element::timed(opened(v6), minutes(4))]),
            add("grants6-p64", vec![left.clone()]),
            add("elsewhere6-p64", vec![left]),
            add("burnt", vec![endless]),
        ]),
        // Many at once; what is not there is deleted after it was added.
        Transaction(vec![
            Command::Flush {
                kind: "map",
                set: "tokens".to_string(),
            },
            add("tokens", tokens.collect()),
            add("grants4", vec![Element::timed(place(v4), minutes(1))]),
            delete("grants4", vec![place(v4)]),
            add("closed4", vec![Element::timed(place(v4), minutes(9))]),
        ]),
        Transaction(vec![
            Command::Flush {
                kind: "set",
                set: "opened4".to_string(),
            },
            delete("opened6", vec![opened(v6)]),
        ])
        .awake(),
    ]
}

#[test]
fn both_writers_write_the_same() {
    let [own, nft] = [with_all(), with_all()];
    for (number, transaction) in transactions_of_every_kind().iter().enumerate() {
        there(&own, || nf_tables::commit(transaction)).unwrap();
        nft.nft(&transaction.to_string());
        let (own, nft) = (contents(&own), contents(&nft));
        assert_eq!(own.len(), nft.len());
        for (set, elements) in &own {
            // Each table has another life and another seal, and tokens of another second until all are written anew.
            let differs = set == "spent" || set == "seal" || (set == "tokens" && number == 0);
            assert!(differs || nft[set] == *elements, "{number}: {set}");
        }
    }
    assert_eq!(contents(&own)["tokens"].len(), 3000);
    // The twin: what the kernel refuses changes nothing, neither what stands before it nor after it.
    let before = contents(&own);
    let (v4, door) = (CLIENT[0].parse().unwrap(), Name::new("ssh").unwrap().id());
    let key = vec![Part::Address(v4), Part::Class(door)];
    let good = Command::Add {
        set: "grants4".to_string(),
        elements: vec![Element::timed(key.clone(), Duration::from_secs(60))],
    };
    for bad in [
        Command::Delete {
            set: "once4".to_string(),
            keys: vec![key.clone()],
        },
        Command::Delete {
            set: "no-such-set".to_string(),
            keys: vec![key],
        },
        Command::Add {
            set: "grants4".to_string(),
            elements: vec![Element::timed(
                vec![Part::Address(v4)],
                Duration::from_secs(60),
            )],
        },
    ] {
        let transaction = Transaction(vec![good.clone(), bad, good.clone()]);
        assert!(
            there(&own, || nf_tables::commit(&transaction)).is_err(),
            "{transaction}"
        );
        assert_eq!(contents(&own), before, "{transaction}");
    }
}

/// Others have a table with tens of thousands of networks. nft reads it all to add one element of ours, so nobody asks it.
#[test]
fn grants_are_given_and_ended_without_nft() {
    let world = World::with(TWO);
    world.listen(22);
    let networks: Vec<String> = (0..20_000u32)
        .map(|number| {
            format!(
                "{}.{}.{}.0/24",
                1 + number / 65_536,
                number / 256 % 256,
                number % 256
            )
        })
        .step_by(2)
        .collect();
    world.nft(&format!(
        "table inet geo {{\nset bad {{\ntype ipv4_addr; flags interval\nelements = {{ {} }}\n}}\n}}",
        networks.join(", ")
    ));
    world.knock(STRANGER[0], &ANNA);
    let asked = "echo \"$*\" >> $here/asked; exec $real \"$@\"";
    let nft = StandIn::new(&world, "nft", asked);
    assert_eq!(world.connect(CLIENT[0], 22), Door::Silent);
    world.yes(&["open", "ssh", CLIENT[0], "--for", "1h"]);
    assert_eq!(world.connect(CLIENT[0], 22), Door::Open);
    // The last opening counts.
    world.yes(&["open", "ssh", CLIENT[0], "--for", "1m"]);
    let said = world.yes(&["close", "ssh", CLIENT[0]]);
    assert_eq!(said, "ended 1 grant\n");
    assert_eq!(world.connect(CLIENT[0], 22), Door::Silent);
    assert_eq!(world.connect(STRANGER[0], 22), Door::Open);
    assert_eq!(world.yes(&["close"]), "ended 2 grants\n");
    assert_eq!(world.connect(STRANGER[0], 22), Door::Silent);
    let asked = std::fs::read_to_string(here(&world).join("asked")).unwrap_or_default();
    assert_eq!(asked, "");
    drop(nft);
    assert!(
        world
            .server(&["nft", "list", "tables"])
            .contains("inet geo")
    );
}

/// As on a kernel that does not know the messages: nft does the same.
#[test]
fn where_the_kernel_takes_no_messages_nft_does_all() {
    let world = World::with(TWO);
    world.listen(22);
    let by_nft = |arguments: &[&str]| {
        let output = world.toctoc_by_nft(arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    };
    by_nft(&["apply"]);
    by_nft(&["open", "ssh", CLIENT[0]]);
    assert_eq!(world.connect(CLIENT[0], 22), Door::Open);
    assert!(by_nft(&["status"]).contains(CLIENT[0]));
    assert_eq!(by_nft(&["close"]), "ended 1 grant\n");
    assert_eq!(world.connect(CLIENT[0], 22), Door::Silent);
    assert!(by_nft(&["status"]).contains("closed to all"));
}

/// A hundred keys have so many tokens that it takes the kernel long to list them.
#[test]
fn many_tokens_are_counted_and_those_that_no_key_has_are_named() {
    let world = World::bare();
    let mut policy = "token_port = 40123\n[door.ssh]\nports = [22]\n".to_string();
    for number in 0..8 {
        let text = format!("{number}{}", &SECRET[1..]);
        world.private_file(&format!("{number}.secret"), &text);
        policy += &format!("[key.k{number}]\nopens = [\"ssh\"]\ntoken = \"{number}.secret\"\n");
    }
    let (mut journal, _) =
        toctoc::single_use::Journal::go_on(None, None, 1, toctoc::firewall::tokens::clocks());
    journal.clean = true;
    journal.barred = None;
    toctoc::firewall::StateFile::within(world.state_directory())
        .write(&journal)
        .unwrap();
    world.apply(&policy);
    let held = || {
        let listing = there(&world, || nf_tables::set("tokens")).unwrap().unwrap();
        let mut each: BTreeMap<u32, u64> = BTreeMap::new();
        for token in loaded(&listing).unwrap().values() {
            *each.entry(token.id).or_default() += 1;
        }
        each.into_values().collect::<Vec<u64>>()
    };
    assert!(held().iter().sum::<u64>() > 10_000);
    let told = || {
        let status = world.status();
        let keys = status["keys"].as_array().unwrap().iter();
        let mut loaded: Vec<u64> = keys
            .map(|key| key["tokens"]["loaded"].as_u64().unwrap())
            .collect();
        loaded.sort_unstable();
        (status["matches_policy"] == true, loaded)
    };
    // A minute may end in between.
    let agree = |matches: bool| {
        world.until("what is told is what is held", || {
            let mut held = held();
            held.sort_unstable();
            told() == (matches, held)
        });
    };
    agree(true);
    // Some are spent.
    let mut first = toctoc::single_use::Secret::parse(&format!("0{}", &SECRET[1..])).unwrap();
    let window = toctoc::single_use::Window::at(crate::token_world::now());
    for number in 0..3 {
        let token = toctoc::single_use::token(&first, window, number);
        world.send(CLIENT[0], &token.0);
    }
    assert_eq!(world.holders("ssh").len(), 1);
    agree(true);
    // One that no key has would let somebody in.
    first = toctoc::single_use::Secret::parse(OTHER).unwrap();
    let strange = toctoc::single_use::token(&first, window, 0).hex();
    let some = loaded(&there(&world, || nf_tables::set("tokens")).unwrap().unwrap()).unwrap();
    let id = some.values().next().unwrap().id;
    let id = toctoc::ruleset::nftables::classid(id);
    world.nft(&format!(
        "add element inet toctoc tokens {{ 0x{strange} timeout 1h : {id} }}\n"
    ));
    world.until("it is named", || {
        let output = world.toctoc(&["status"]);
        String::from_utf8_lossy(&output.stdout).contains("1 token that no key of this policy has")
    });
    world.nft(&format!(
        "delete element inet toctoc tokens {{ 0x{strange} }}\n"
    ));
    agree(true);
    // Those of the last hours are gone.
    world.nft("flush map inet toctoc tokens");
    assert_eq!(told().1, vec![0; 8]);
}
