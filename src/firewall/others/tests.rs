use serde_json::json;

use super::rules::Base;
use super::*;
use crate::policy::{Host, read_for};

/// What others drop where packets come by these interfaces.
fn dropped(
    policy: &Policy,
    tables: &[Table],
    interfaces: &[&str],
    families: &[Family],
) -> Vec<String> {
    let link = |name: &&str| Link {
        name: (*name).to_string(),
        kind: if name.contains("br") { "bridge" } else { "" }.to_string(),
        ..Link::default()
    };
    let links: Vec<Link> = interfaces.iter().map(link).collect();
    let network = |text: &str| text.parse().unwrap();
    let around = Around {
        interfaces: links.iter().collect(),
        families: families.to_vec(),
        networks: vec![
            (network("172.17.0.0/16"), "br-docker"),
            (network("192.168.122.0/24"), "virbr0"),
        ],
    };
    super::drops(policy, tables, &around)
}

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
    dropped(&policy(), &tables, &["eth0"], &[Family::V4])
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
        let told = dropped(&policy(), &nft_json::tables(&all), &["eth0"], &[Family::V4]);
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
        let told = dropped(
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
    dropped(&policy(), &tables, &["eth0"], &Family::BOTH)
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
            dropped(
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
    assert!(dropped(&policy(), &[endless], &["eth0"], &Family::BOTH).is_empty());
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
    let told =
        |policy: &Policy, tables: &[Table]| dropped(policy, tables, &["eth0"], &[Family::V4]);
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

const DOCKER_20: &str = include_str!("../../../tests/kernel/neighbour_rules/docker-20.rules");
const DOCKER_28: &str = include_str!("../../../tests/kernel/neighbour_rules/docker-28.rules");
const LIBVIRT_9: &str = include_str!("../../../tests/kernel/neighbour_rules/libvirt-9.rules");

/// The rules that these programs make, word for word: the chain that drops is named with the line that helps, and what
/// they let on is not named.
#[test]
fn chains_of_docker_and_libvirt_are_named_with_the_line_that_helps() {
    let docker = |rules: &str| rules.replace("docker0", "br-docker");
    let told = |rules: &str, door: &str| {
        let text = format!("[door.it]\n{door}\n");
        let policy = read_for("test", &text, &Host::default()).unwrap();
        let tables = saved::tables(rules, Family::V4);
        // Packets from the containers' own bridges pass, and are no guests' way.
        dropped(
            &policy,
            &tables,
            &["eth0", "br-docker", "virbr0"],
            &Family::BOTH,
        )
        .join("\n")
    };
    for rules in [docker(DOCKER_20), docker(DOCKER_28)] {
        let published = told(&rules, "ports = [8080]");
        assert!(published.is_empty(), "{published}");
        let forward = told(&rules, "ports = [2222]\nforward = \"172.17.0.2:80\"");
        assert!(forward.is_empty(), "{forward}");
        let shut = told(&rules, "ports = [2222]\nforward = \"172.17.0.2:22\"");
        let line = "iptables -I DOCKER-USER -d 172.17.0.2 -p tcp --dport 22 -j ACCEPT";
        assert!(
            shut.contains(" drops 22/tcp on the way to 172.17.0.2, "),
            "{shut}"
        );
        assert!(shut.contains(line) && shut.lines().count() == 1, "{shut}");
        let let_on = rules.replace(
            ":DOCKER-USER - [0:0]\n",
            ":DOCKER-USER - [0:0]\n-A DOCKER-USER -d 172.17.0.2/32 -p tcp -m tcp --dport 22 -j ACCEPT\n",
        );
        let none = told(&let_on, "ports = [2222]\nforward = \"172.17.0.2:22\"");
        assert!(none.is_empty(), "{none}");
        // Another container, another port and another protocol are not let on by it.
        for other in ["172.17.0.3:22", "172.17.0.2:23"] {
            let shut = told(&let_on, &format!("ports = [2222]\nforward = \"{other}\""));
            assert!(shut.contains("DOCKER-USER"), "{other}: {shut}");
        }
        let shut = told(
            &let_on,
            "ports = [\"2222/udp\"]\nforward = \"172.17.0.2:22\"",
        );
        assert!(shut.contains("-p udp --dport 22"), "{shut}");
    }
    let to = "ports = [80]\nto = [\"172.17.0.2\"]";
    assert!(told(&docker(DOCKER_20), to).is_empty());
    let routed = told(&docker(DOCKER_28), to);
    assert!(routed.contains("table raw, chain PREROUTING) drops 80/tcp on the way to 172.17.0.2"));
    assert!(routed.contains("publish the port"), "{routed}");
    // A network of containers is let on in part.
    let some = told(&docker(DOCKER_20), "ports = [80]\nto = [\"172.17.0.0/16\"]");
    assert!(
        some.contains("may drop 80/tcp on the way to 172.17.0.0/16"),
        "{some}"
    );
    for door in [
        "ports = [22]\nto = [\"192.168.122.10\"]",
        "ports = [2222]\nforward = \"192.168.122.10:22\"",
    ] {
        let shut = told(LIBVIRT_9, door);
        assert!(shut.contains("chain LIBVIRT_FWI) drops 22/tcp"), "{shut}");
        let line = "iptables -I FORWARD -d 192.168.122.10 -p tcp --dport 22 -j ACCEPT";
        assert!(shut.contains(line), "{shut}");
    }
    // Its routed network is open, and hosts elsewhere are no matter of its.
    let routed = LIBVIRT_9
        .replace("virbr1", "br-docker")
        .replace("198.51.100", "172.17.0");
    for (rules, host) in [(routed.as_str(), "172.17.0.50"), (LIBVIRT_9, "203.0.113.9")] {
        let none = told(rules, &format!("ports = [22]\nto = [\"{host}\"]"));
        // Where a host is elsewhere, its interface is not known.
        assert!(!none.contains(" drops "), "{none}");
    }
    let open = told(&routed, "ports = [22]\nto = [\"172.17.0.50\"]");
    assert!(open.is_empty(), "{open}");
}

/// Of nft: addresses, networks and the interface by which packets leave.
#[test]
fn addresses_and_ways_out_are_understood() {
    let path = |key: &str| json!({"meta": {"key": key}});
    let daddr = || json!({"payload": {"protocol": "ip", "field": "daddr"}});
    let network = |len: u8| json!({"prefix": {"addr": "192.168.122.0", "len": len}});
    let told = |rules: &[serde_json::Value]| {
        let mut all = vec![
            json!({"chain": {"family": "ip", "table": "libvirt_network", "name": "forward",
            "type": "filter", "hook": "forward", "prio": 0, "policy": "accept"}}),
        ];
        all.extend(rules.iter().map(|rule| {
            json!({"rule": {"family": "ip", "table": "libvirt_network", "chain": "forward", "expr": rule}})
        }));
        let text = "[door.vm]\nports = [22]\nto = [\"192.168.122.10\"]\n";
        let policy = read_for("test", text, &Host::default()).unwrap();
        let tables = nft_json::tables(&json!({ "nftables": all }));
        dropped(&policy, &tables, &["eth0"], &[Family::V4]).join("\n")
    };
    let rejects = || json!({"reject": null});
    let out = |name: &str| is(path("oif"), "==", json!(name));
    let drops = told(&[json!([out("virbr0"), rejects()])]);
    assert!(drops.contains(
        "nft insert rule ip libvirt_network guest_input ip daddr 192.168.122.10 tcp dport 22 accept"
    ));
    assert!(told(&[json!([out("virbr1"), rejects()])]).is_empty());
    assert!(
        told(&[json!([is(path("oifname"), "==", json!("vir*")), rejects()])]).contains("drops")
    );
    for (test, is_dropped) in [
        (is(daddr(), "==", json!("192.168.122.10")), true),
        (is(daddr(), "==", json!("192.168.122.11")), false),
        (is(daddr(), "!=", json!("192.168.122.11")), true),
        (is(daddr(), "==", network(24)), true),
        (is(daddr(), "!=", network(24)), false),
        (
            is(
                daddr(),
                "==",
                json!({"set": ["192.0.2.1", "192.168.122.10"]}),
            ),
            true,
        ),
        (
            is(daddr(), "==", json!({"set": ["192.0.2.1", network(28)]})),
            true,
        ),
    ] {
        let told = told(&[json!([test, rejects()])]);
        assert_eq!(told.contains(" drops "), is_dropped, "{test}: {told}");
    }
    // A set that is not known may let it be.
    assert!(told(&[json!([is(daddr(), "==", json!("@some")), rejects()])]).is_empty());
}

/// Docker's own table asks maps by their names, whose elements nft tells apart.
#[test]
fn maps_of_verdicts_are_filled_in() {
    let chain = json!({"chain": {"family": "ip", "table": "docker-bridges", "name": "filter-FORWARD", "type": "filter",
                                 "hook": "forward", "prio": 0, "policy": "accept"}});
    let rule = |chain: &str, expr: serde_json::Value| json!({"rule": {"family": "ip", "table": "docker-bridges", "chain": chain, "expr": expr}});
    let map = json!([{"vmap": {"key": meta("oifname"), "data": "@jumps"}}]);
    let mut listing = json!({"nftables": [chain, rule("filter-FORWARD", map), rule("in", json!([port(80), {"accept": null}])),
                                          rule("in", json!([{"drop": null}]))]});
    let told = |listing: &serde_json::Value, port: u16| {
        let text = format!("[door.it]\nports = [{port}]\nto = [\"172.17.0.2\"]\n");
        let policy = read_for("test", &text, &Host::default()).unwrap();
        dropped(
            &policy,
            &nft_json::tables(listing),
            &["eth0"],
            &[Family::V4],
        )
        .join("\n")
    };
    assert!(told(&listing, 22).is_empty());
    let maps = nft_json::maps(&listing);
    let [(jumps, words)] = &maps[..] else {
        panic!("{maps:?}");
    };
    assert_eq!(words.join(" "), "ip docker-bridges jumps");
    for (name, drops) in [("br-docker", true), ("other", false)] {
        let mut listing = listing.clone();
        let elements = json!([[name, {"jump": {"target": "in"}}]]);
        let answer =
            json!({"nftables": [{"metainfo": {}}, {"map": {"name": "jumps", "elem": elements}}]});
        nft_json::fill(&mut listing, jumps, &answer);
        assert!(told(&listing, 80).is_empty());
        let told = told(&listing, 22);
        assert_eq!(told.contains("chain in) drops 22/tcp"), drops, "{told}");
        assert_eq!(told.contains("publish the port"), drops, "{told}");
    }
    // An empty map leads nowhere.
    nft_json::fill(
        &mut listing,
        jumps,
        &json!({"nftables": [{"map": {"name": "jumps"}}]}),
    );
    assert!(told(&listing, 22).is_empty());
}
