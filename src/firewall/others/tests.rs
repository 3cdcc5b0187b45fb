use serde_json::json;

use super::rules::Base;
use super::*;
use crate::policy::{Host, read_for};

fn policy() -> Policy {
    let text =
        "[door.ssh]\nports = [22]\n[key.k]\nopens = [\"ssh\"]\nsequence = [4431, 2387, 9920]\n";
    read_for("test", text, &Host::default()).unwrap()
}

/// The findings about a chain of nft with a policy and rules, each the expressions of one.
fn nft(policy_is: &str, rules: &[serde_json::Value]) -> Vec<String> {
    let mut all = vec![
        json!({"metainfo": {"version": "1.0.6"}}),
        json!({"chain": {"family": "inet", "table": "filter", "name": "input", "type": "filter",
                         "hook": "input", "prio": 0, "policy": policy_is}}),
        json!({"chain": {"family": "inet", "table": "filter", "name": "side"}}),
        json!({"rule": {"family": "inet", "table": "filter", "chain": "side", "expr": [port(22), {"accept": null}]}}),
        // Ours is none of theirs.
        json!({"chain": {"family": "inet", "table": "toctoc", "name": "incoming", "type": "filter",
                         "hook": "input", "prio": 0, "policy": "drop"}}),
    ];
    for rule in rules {
        all.push(
            json!({"rule": {"family": "inet", "table": "filter", "chain": "input", "expr": rule}}),
        );
    }
    let tables = nft_json::tables(&json!({ "nftables": all }));
    drops(&policy(), &tables, &["eth0"], &[Family::V4])
}

fn port(port: u16) -> serde_json::Value {
    json!({"match": {"op": "==", "left": {"payload": {"protocol": "tcp", "field": "dport"}}, "right": port}})
}

fn is(left: serde_json::Value, op: &str, right: serde_json::Value) -> serde_json::Value {
    json!({"match": {"op": op, "left": left, "right": right}})
}

fn meta(key: &str) -> serde_json::Value {
    json!({"meta": {"key": key}})
}

fn state() -> serde_json::Value {
    json!({"ct": {"key": "state"}})
}

const DROPS: &str = "another firewall (table inet filter, chain input) drops 22/tcp, whatever";
const MAY: &str = "another firewall (table inet filter, chain input) may drop 22/tcp, whatever";

#[test]
fn a_chain_that_drops_is_named() {
    let accept = || json!({"accept": null});
    let drop = || json!({"drop": null});
    let established = is(state(), "==", json!({"set": ["established", "related"]}));
    for rules in [
        vec![],
        vec![json!([established, accept()])],
        vec![json!([is(meta("iifname"), "==", json!("lo")), accept()])],
        vec![json!([port(80), accept()])],
        vec![json!([
            is(
                json!({"payload": {"protocol": "icmpv6", "field": "type"}}),
                "==",
                json!("nd-redirect")
            ),
            accept()
        ])],
        vec![json!([
            is(
                json!({"payload": {"protocol": "ip6", "field": "saddr"}}),
                "==",
                json!("fe80::")
            ),
            accept()
        ])],
        vec![json!([is(meta("l4proto"), "==", json!("udp")), accept()])],
        vec![
            json!([{"counter": {"packets": 0, "bytes": 0}}, {"log": null}, drop()]),
            json!([accept()]),
        ],
        vec![
            json!([port(22), {"reject": {"type": "tcp reset"}}]),
            json!([accept()]),
        ],
        vec![
            json!([{"vmap": {"key": state(), "data": {"set": [["new", drop()], ["established", accept()]]}}}]),
            json!([port(22), accept()]),
        ],
    ] {
        let told = nft("drop", &rules);
        assert!(
            told.len() == 1 && told[0].starts_with(DROPS),
            "{rules:?}: {told:?}"
        );
    }
}

/// Before connection tracking a first packet is not new.
#[test]
fn a_state_that_a_first_packet_does_not_have_is_no_drop() {
    for (priority, state, drops) in [
        (-300, "new", false),
        (-300, "invalid", true),
        (-200, "new", false),
        (-150, "new", true),
        (-150, "invalid", false),
    ] {
        let chain = json!({"family": "inet", "table": "filter", "name": "early", "type": "filter",
                           "hook": "prerouting", "prio": priority, "policy": "accept"});
        let expressions = json!([is(self::state(), "in", json!(state)), {"drop": null}]);
        let rule =
            json!({"family": "inet", "table": "filter", "chain": "early", "expr": expressions});
        let all = json!({"nftables": [{"chain": chain}, {"rule": rule}]});
        let told = super::drops(&policy(), &nft_json::tables(&all), &["eth0"], &[Family::V4]);
        assert_eq!(!told.is_empty(), drops, "{priority} {state}: {told:?}");
    }
    for (table, state, drops) in [
        ("raw", "NEW", false),
        ("raw", "INVALID", true),
        ("mangle", "NEW", true),
    ] {
        let text = format!(
            "*{table}\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -m conntrack --ctstate {state} -j DROP\nCOMMIT\n"
        );
        let told = super::drops(
            &policy(),
            &super::saved::tables(&text, Family::V4),
            &["eth0"],
            &[Family::V4],
        );
        assert_eq!(!told.is_empty(), drops, "{table} {state}: {told:?}");
    }
}

#[test]
fn a_chain_that_lets_the_door_be_is_not_named() {
    let accept = || json!({"accept": null});
    assert_eq!(nft("accept", &[]), [""; 0]);
    assert_eq!(nft("accept", &[json!([port(80), {"drop": null}])]), [""; 0]);
    let (range, set) = (
        json!({"range": [1, 1024]}),
        json!({"set": [80, 22, {"range": [90, 99]}]}),
    );
    let dport = || json!({"payload": {"protocol": "th", "field": "dport"}});
    let flags = json!({"&": [{"payload": {"protocol": "tcp", "field": "flags"}}, ["fin", "syn", "rst", "ack"]]});
    for rules in [
        vec![json!([port(22), accept()])],
        vec![json!([{"jump": {"target": "side"}}])],
        vec![json!([is(meta("iifname"), "==", json!("eth*")), {"goto": {"target": "side"}}])],
        vec![json!([is(dport(), "==", range), accept()])],
        vec![json!([is(dport(), "==", set), accept()])],
        vec![json!([is(dport(), "!=", json!(80)), accept()])],
        vec![
            json!([is(state(), "in", json!(["new", "related"])), port(22), {"limit": {"rate": 5}}, accept()]),
        ],
        vec![json!([is(flags, "==", json!("syn")), accept()])],
        vec![
            json!([{"vmap": {"key": meta("iifname"), "data": {"set": [["eth0", {"jump": {"target": "side"}}]]}}}]),
        ],
        // Some sources are shut out, which others have chosen.
        vec![
            json!([is(json!({"payload": {"protocol": "ip", "field": "saddr"}}), "==", json!("@bad")), {"drop": null}]),
            json!([port(22), accept()]),
        ],
        vec![
            json!([is(state(), "==", json!("invalid")), {"drop": null}]),
            json!([port(22), accept()]),
        ],
        // Nobody knows what becomes of that.
        vec![json!([{"queue": {"num": 1}}])],
    ] {
        assert_eq!(nft("drop", &rules), [""; 0], "{rules:?}");
    }
}

#[test]
fn what_is_not_understood_may_drop() {
    let accept = || json!({"accept": null});
    let source = json!({"payload": {"protocol": "ip", "field": "saddr"}});
    for rules in [
        vec![json!([
            is(source.clone(), "==", json!("192.0.2.0")),
            port(22),
            accept()
        ])],
        vec![json!([
            is(
                json!({"payload": {"protocol": "tcp", "field": "dport"}}),
                "==",
                json!("@open")
            ),
            accept()
        ])],
        vec![json!([is(meta("mark"), "==", json!(1)), accept()])],
        vec![json!([{"xt": {"type": "match", "name": "set"}}, accept()])],
        vec![json!([{"something": "new"}, accept()])],
        vec![json!([{"vmap": {"key": meta("iifname"), "data": "@zones"}}])],
        vec![json!([is(source, "!=", json!("192.0.2.0")), {"jump": {"target": "nowhere"}}])],
    ] {
        let told = nft("drop", &rules);
        assert!(
            told.len() == 1 && told[0].starts_with(MAY),
            "{rules:?}: {told:?}"
        );
    }
}

fn saved(rules: &str) -> Vec<String> {
    let text = format!(
        "# Generated\n*filter\n:INPUT DROP [0:0]\n:FORWARD ACCEPT [0:0]\n:side - [0:0]\n:toctoc - [0:0]\n\
         -A INPUT -m comment --comment \"toctoc: here\" -j toctoc\n-A toctoc -j DROP\n{rules}\nCOMMIT\n"
    );
    let tables = super::saved::tables(&text, Family::V4);
    drops(&policy(), &tables, &["eth0"], &Family::BOTH)
}

#[test]
fn rules_of_iptables_are_read() {
    for rules in [
        "-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT",
        "[0:0] -A INPUT -p tcp -m tcp --dport 22 -j ACCEPT",
        "-A INPUT -p tcp -m multiport --dports 80,20:23 -j ACCEPT",
        "-A INPUT -p tcp -m conntrack --ctstate NEW -m tcp ! --dport 80 -m limit --limit 5/min -j ACCEPT",
        "-A INPUT -i eth+ -p tcp -m comment --comment \"a -j DROP\" -g side\n-A side -j ACCEPT",
        "-A INPUT -m addrtype --dst-type LOCAL -j side\n-A side -p tcp -m tcp --dport 22 --tcp-flags FIN,SYN,RST,ACK SYN -j ACCEPT",
        "-A INPUT -m state --state INVALID -j DROP\n-A INPUT -s 192.0.2.0/24 -j DROP\n-A INPUT -j LOG\n-A INPUT -j ACCEPT",
    ] {
        assert_eq!(saved(rules), [""; 0], "{rules}");
    }
    for (rules, what) in [
        ("", "drops 22/tcp"),
        ("-A INPUT -i lo -j ACCEPT", "drops 22/tcp"),
        (
            "-A INPUT -p tcp -m tcp --dport 22 -j REJECT --reject-with tcp-reset\n-A INPUT -j ACCEPT",
            "drops 22/tcp",
        ),
        (
            "-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
            "drops 22/tcp",
        ),
        (
            "-A INPUT -s 192.0.2.0/24 -p tcp -m tcp --dport 22 -j ACCEPT",
            "may drop 22/tcp",
        ),
        (
            "-A INPUT -m set --match-set home src -j ACCEPT",
            "may drop 22/tcp",
        ),
    ] {
        let told = saved(rules);
        let begins = format!("another firewall (iptables, table filter, chain INPUT) {what}");
        assert!(
            told.len() == 1 && told[0].starts_with(&begins),
            "{rules}: {told:?}"
        );
    }
}

#[test]
fn translations_are_read() {
    let own = ["192.0.2.1".parse().unwrap()];
    let text = "*nat\n:PREROUTING ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n:DOCKER - [0:0]\n\
                -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER\n\
                -A OUTPUT -p tcp -m tcp --dport 7 -j REDIRECT --to-ports 22\n\
                -A DOCKER ! -i docker0 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80\n\
                -A DOCKER -p tcp -m tcp --dport 2022 -j REDIRECT --to-ports 22\n\
                -A DOCKER -p udp -m udp --dport 53 -j DNAT --to-destination 192.0.2.1\nCOMMIT\n";
    let read = |tables: &[Table]| -> Vec<(String, To, Option<u16>)> {
        let ways = translated(tables, &own).into_iter();
        ways.map(|way| {
            (
                format!("{}-{}/{}", way.from.0, way.from.1, way.protocol),
                way.to,
                way.port,
            )
        })
        .collect()
    };
    let away = || To::Elsewhere("172.17.0.2".to_string());
    assert_eq!(
        read(&super::saved::tables(text, Family::V4)),
        [
            ("8080-8080/tcp".to_string(), away(), Some(80)),
            ("2022-2022/tcp".to_string(), To::Here, Some(22)),
            ("53-53/udp".to_string(), To::Here, None),
        ]
    );
    let rule = |expr: serde_json::Value| json!({"rule": {"family": "ip", "table": "nat", "chain": "p", "expr": expr}});
    let listing = json!({"nftables": [
        {"chain": {"family": "ip", "table": "nat", "name": "p", "type": "nat", "hook": "prerouting", "prio": -100}},
        rule(json!([port(2022), {"redirect": {"port": 22}}])),
        rule(json!([port(2023), {"dnat": {"addr": "172.17.0.2", "port": 22}}])),
        rule(json!([{"dnat": {"addr": {"map": {}}}}])),
    ]});
    assert_eq!(
        read(&nft_json::tables(&listing)),
        [
            ("2022-2022/tcp".to_string(), To::Here, Some(22)),
            ("2023-2023/tcp".to_string(), away(), Some(22)),
        ]
    );
}

/// Whatever is printed, nothing panics and no more is said than is known.
#[test]
fn odd_texts_are_no_rules() {
    for text in [
        "",
        "*",
        ":",
        "-A",
        "*filter\n-A\n-A INPUT\n-A INPUT -p\n-A INPUT -j\n",
        "*filter\n:\n:INPUT\n",
    ] {
        assert!(
            drops(
                &policy(),
                &super::saved::tables(text, Family::V4),
                &["eth0"],
                &Family::BOTH
            )
            .is_empty()
        );
    }
    for odd in [
        json!(null),
        json!([]),
        json!({"nftables": [1, {}, {"rule": 1}, {"chain": {"family": "inet"}}]}),
    ] {
        assert!(nft_json::tables(&odd).is_empty());
    }
    let endless = Table {
        bases: vec![Base {
            chain: "a".to_string(),
            is_early: false,
            work: Work::Filter,
            drops: true,
        }],
        chains: [(
            "a".to_string(),
            vec![rules::Rule {
                tests: Vec::new(),
                then: Then::Jump("a".to_string()),
            }],
        )]
        .into(),
        ..Table::default()
    };
    assert!(drops(&policy(), &[endless], &["eth0"], &Family::BOTH).is_empty());
}

/// Chains on the way to other hosts are asked about the doors there alone; Docker's and libvirt's often drop.
#[test]
fn a_chain_that_drops_what_goes_on_is_named() {
    let chain = |hook: &str, rules: &[serde_json::Value]| {
        let mut all = vec![
            json!({"chain": {"family": "ip", "table": "filter", "name": "FORWARD", "type": "filter",
                                        "hook": hook, "prio": 0, "policy": "drop"}}),
        ];
        let rules = rules.iter();
        all.extend(rules.map(|rule| {
            json!({"rule": {"family": "ip", "table": "filter", "chain": "FORWARD", "expr": rule}})
        }));
        nft_json::tables(&json!({ "nftables": all }))
    };
    let door = |more: &str| {
        let text = format!("[door.nas]\nports = [22]\n{more}\n");
        read_for("test", &text, &Host::default()).unwrap()
    };
    let told = |policy: &Policy, tables: &[Table]| drops(policy, tables, &["eth0"], &[Family::V4]);
    let (here, behind, on) = (
        door(""),
        door("to = [\"192.0.2.50\"]"),
        door("forward = \"192.0.2.50:443\""),
    );
    let forward = chain("forward", &[]);
    assert!(told(&here, &forward).is_empty());
    assert!(told(&behind, &forward)[0].contains("chain FORWARD) drops 22/tcp"));
    assert!(told(&on, &forward)[0].contains("chain FORWARD) drops 443/tcp"));
    let input = chain("input", &[]);
    assert!(told(&here, &input)[0].contains("drops 22/tcp"));
    assert!(told(&behind, &input).is_empty() && told(&on, &input).is_empty());
    let translated = is(json!({"ct": {"key": "status"}}), "in", json!("dnat"));
    let lets_in = chain("forward", &[json!([translated, {"accept": null}])]);
    assert!(told(&on, &lets_in).is_empty());
    assert!(!told(&behind, &lets_in).is_empty());
    let lets_in = chain("forward", &[json!([port(22), {"accept": null}])]);
    assert!(told(&behind, &lets_in).is_empty());
}

#[test]
fn addresses_that_cannot_be_read_are_not_taken_for_none() {
    assert_eq!(without_knocks(Ok(Vec::new())), None);
    let deaf = without_knocks(Ok(vec!["192.0.2.9".parse().unwrap()])).unwrap();
    assert!(deaf.starts_with("knocks are not heard at 192.0.2.9:"));
    let refused = io::Error::from(io::ErrorKind::PermissionDenied);
    let unread = without_knocks(Err(refused)).unwrap();
    assert!(unread.ends_with("is not known"), "{unread}");
}
