//! `nft -j list ruleset --read--> tables of others`. Tolerant: what is not known is [`Test::Unknown`]. Pure.

use serde_json::{Map, Value as Json};

use super::rules::{Base, Field, Rule, Sense, Table, Test, Then, Value, Work};
use crate::knock::Protocol;
use crate::ruleset::Family;
use crate::ruleset::nftables::TABLE;

/// All tables that a packet to this host comes through, but our own.
pub fn tables(listing: &Json) -> Vec<Table> {
    let mut found: Vec<(String, Table)> = Vec::new();
    let objects = listing["nftables"].as_array().into_iter().flatten();
    for object in objects {
        let Some((kind, object)) = object.as_object().and_then(|object| object.iter().next())
        else {
            continue;
        };
        let of = |key: &str| object[key].as_str().unwrap_or_default();
        let table = match kind.as_str() {
            "chain" | "rule" => format!("{} {}", of("family"), of("table")),
            _ => continue,
        };
        let family = match of("family") {
            "inet" => None,
            "ip" => Some(Family::V4),
            "ip6" => Some(Family::V6),
            _ => continue,
        };
        if table == TABLE {
            continue;
        }
        let place = found.iter().position(|(name, _)| *name == table);
        let place = place.unwrap_or_else(|| {
            let title = format!("table {table}");
            let new = Table {
                title,
                family,
                ..Table::default()
            };
            found.push((table, new));
            found.len() - 1
        });
        let table = &mut found[place].1;
        if kind == "chain" {
            table.chains.entry(of("name").to_string()).or_default();
            table.bases.extend(base(object));
        } else {
            let rules = rules(object["expr"].as_array().map_or(&[], Vec::as_slice));
            let chain = table.chains.entry(of("chain").to_string()).or_default();
            chain.extend(rules);
        }
    }
    let tables = found.into_iter().map(|(_, table)| table);
    tables.filter(|table| !table.bases.is_empty()).collect()
}

/// The priority of connection tracking (`NF_IP_PRI_CONNTRACK`).
const TRACKING: i64 = -200;

fn base(chain: &Json) -> Option<Base> {
    let work = match (chain["type"].as_str()?, chain["hook"].as_str()?) {
        ("filter", "input" | "prerouting") => Work::Filter,
        ("filter", "forward") => Work::FilterForwarded,
        ("nat", "prerouting") => Work::Translate,
        _ => return None,
    };
    Some(Base {
        chain: chain["name"].as_str()?.to_string(),
        work,
        is_early: chain["hook"] == "prerouting"
            && chain["prio"]
                .as_i64()
                .is_some_and(|priority| priority <= TRACKING),
        drops: chain["policy"] == "drop",
    })
}

/// A rule as one or, where it has a map of verdicts, as several.
fn rules(statements: &[Json]) -> Vec<Rule> {
    let mut tests = Vec::new();
    let mut rules = Vec::new();
    for statement in statements {
        let Some((what, how)) = statement.as_object().and_then(|s| s.iter().next()) else {
            continue;
        };
        let target = || how["target"].as_str().unwrap_or_default().to_string();
        let then = match what.as_str() {
            "match" => {
                tests.extend(matches(how));
                continue;
            }
            "limit" if how["inv"] != true => continue,
            "counter" | "log" | "mangle" | "comment" | "notrack" => continue,
            "vmap" => {
                for (key_is, verdict) in map(how) {
                    for mut rule in self::rules(&[verdict]) {
                        rule.tests.splice(..0, [&tests[..], &key_is].concat());
                        rules.push(rule);
                    }
                }
                continue;
            }
            "accept" => Then::Accept,
            "drop" | "reject" => Then::Drop,
            "return" => Then::Return,
            "continue" => Then::Nothing,
            "jump" => Then::Jump(target()),
            "goto" => Then::Goto(target()),
            "redirect" | "dnat" => translate(how),
            "queue" | "synproxy" => Then::Unknown,
            // A target of iptables may end anything.
            "xt" if how["type"] == "target" || how.is_null() => {
                tests.push(Test::Unknown);
                Then::Unknown
            }
            _ => {
                tests.push(Test::Unknown);
                continue;
            }
        };
        rules.push(Rule {
            tests: tests.clone(),
            then,
        });
    }
    rules
}

fn translate(how: &Json) -> Then {
    let address = match &how["addr"] {
        Json::Null => None,
        Json::String(address) => Some(address.clone()),
        _ => return Then::Unknown,
    };
    let port = match &how["port"] {
        Json::Null => None,
        port => match port.as_u64().and_then(|port| u16::try_from(port).ok()) {
            Some(port) => Some(port),
            None => return Then::Unknown,
        },
    };
    Then::Translate(address, port)
}

/// The tests for each key of a map, and what it leads to. Of one that has a name nothing is known.
fn map(vmap: &Json) -> Vec<(Vec<Test>, Json)> {
    let Some(pairs) = vmap["data"]["set"].as_array() else {
        let unknown = Json::Object(Map::from_iter([("queue".to_string(), Json::Null)]));
        return vec![(vec![Test::Unknown], unknown)];
    };
    let pair = |pair: &Json| {
        let is = tests(&vmap["key"], &pair[0], Sense::Is);
        (is, pair[1].clone())
    };
    pairs.iter().map(pair).collect()
}

fn matches(how: &Json) -> Vec<Test> {
    let (op, right) = (how["op"].as_str().unwrap_or_default(), &how["right"]);
    match op {
        // All flags of a list, and no others.
        "==" | "!=" if right.as_array().is_some_and(|list| list.len() > 1) => vec![Test::Unknown],
        "==" | "in" => tests(&how["left"], right, Sense::Is),
        "!=" => tests(&how["left"], right, Sense::IsNot),
        _ => vec![Test::Unknown],
    }
}

fn tests(left: &Json, right: &Json, sense: Sense) -> Vec<Test> {
    let (also, field) = (belongs(left), field(left));
    let test = match (field, values(right)) {
        (Some(field), Some(values)) => Test::Field(field, values, sense),
        _ => Test::Unknown,
    };
    also.into_iter().chain([test]).collect()
}

/// The kind of packet that has a field.
fn belongs(left: &Json) -> Option<Test> {
    let protocol = left["payload"]["protocol"].as_str()?;
    let (field, value) = match protocol {
        "ip" => (Field::Family, "ipv4"),
        "ip6" => (Field::Family, "ipv6"),
        "th" | "ether" | "vlan" | "ll" | "nh" => return None,
        other => (Field::Protocol, other),
    };
    let values = vec![Value::Text(value.to_string())];
    Some(Test::Field(field, values, Sense::Is))
}

fn field(left: &Json) -> Option<Field> {
    let (what, how) = left.as_object()?.iter().next()?;
    let key = how["key"].as_str().unwrap_or_default();
    let part = (
        how["protocol"].as_str().unwrap_or_default(),
        how["field"].as_str().unwrap_or_default(),
    );
    Some(match (what.as_str(), key) {
        ("meta", "l4proto") => Field::Protocol,
        ("meta", "iifname" | "iif") => Field::Interface,
        ("meta", "nfproto") => Field::Family,
        ("meta", "pkttype") => Field::Destination,
        ("ct", "state") => Field::State,
        ("ct", "status") => Field::Status,
        ("fib", _) if how["result"] == "type" && how["flags"][0] == "daddr" => Field::Destination,
        ("&", _) if is_flags(&how[0]) && contains(&how[1], "syn") => Field::Flags,
        ("payload", _) => match part {
            ("ip", "protocol") | ("ip6", "nexthdr") => Field::Protocol,
            ("tcp", "dport") => Field::Port(Some(Protocol::Tcp)),
            ("udp", "dport") => Field::Port(Some(Protocol::Udp)),
            ("th", "dport") => Field::Port(None),
            ("tcp", "flags") => Field::Flags,
            _ => return None,
        },
        _ => return None,
    })
}

fn is_flags(left: &Json) -> bool {
    left["payload"]["protocol"] == "tcp" && left["payload"]["field"] == "flags"
}

fn contains(list: &Json, word: &str) -> bool {
    list == word
        || list["|"]
            .as_array()
            .is_some_and(|list| list.iter().any(|w| contains(w, word)))
        || list
            .as_array()
            .is_some_and(|list| list.iter().any(|w| contains(w, word)))
}

/// The values of one, a set without a name, or a list. `None` where not all are known.
fn values(right: &Json) -> Option<Vec<Value>> {
    let list = right["set"].as_array().or_else(|| right.as_array());
    match list {
        Some(list) => list.iter().map(value).collect(),
        None => Some(vec![value(right)?]),
    }
}

fn value(right: &Json) -> Option<Value> {
    let port = |json: &Json| u16::try_from(json.as_u64()?).ok();
    match right {
        Json::String(text) if !text.starts_with('@') => Some(Value::Text(text.clone())),
        Json::Number(_) => port(right).map(|port| Value::Ports(port, port)),
        Json::Object(object) => match (object.get("range"), object.get("elem")) {
            (Some(range), _) => Some(Value::Ports(port(&range[0])?, port(&range[1])?)),
            (_, Some(element)) => value(&element["val"]),
            _ => None,
        },
        _ => None,
    }
}
