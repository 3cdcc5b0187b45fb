//! `nft -j list ruleset --read--> tables of others`. Tolerant: what is not known is [`Test::Unknown`]. Pure.

use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::{Map as Object, Value as Json};

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

/// A map of verdicts that has a name.
#[derive(Debug, PartialEq, Eq)]
pub struct Map {
    family: String,
    table: String,
    /// As rules write it: "@jumps"
    reference: String,
}

impl Map {
    fn is_of(&self, rule: &Json) -> bool {
        rule["family"] == *self.family && rule["table"] == *self.table
    }
}

/// The maps that rules of others ask for their verdict, each with the words by which nft knows it.
pub fn maps(listing: &Json) -> Vec<(Map, [String; 3])> {
    let mut found: Vec<(Map, [String; 3])> = Vec::new();
    let objects = listing["nftables"].as_array().into_iter().flatten();
    for rule in objects.filter_map(|object| object.get("rule")) {
        let text = |key: &str| rule[key].as_str().unwrap_or_default().to_string();
        let (family, table) = (text("family"), text("table"));
        if format!("{family} {table}") == TABLE {
            continue;
        }
        for statement in rule["expr"].as_array().into_iter().flatten() {
            let Some(reference) = statement["vmap"]["data"].as_str() else {
                continue;
            };
            let words = [&family, &table, reference.trim_start_matches('@')].map(str::to_string);
            let map = Map {
                family: family.clone(),
                table: table.clone(),
                reference: reference.to_string(),
            };
            if !found.iter().any(|(known, _)| *known == map) {
                found.push((map, words));
            }
        }
    }
    found
}

/// Writes the elements of a map into the rules that name it.
pub fn fill(listing: &mut Json, map: &Map, told: &Json) {
    let objects = told["nftables"].as_array().into_iter().flatten();
    let elements = objects
        .filter_map(|object| object["map"].get("elem"))
        .next();
    // An empty map has none.
    let elements = elements.cloned().unwrap_or_else(|| Json::Array(Vec::new()));
    let objects = listing["nftables"].as_array_mut().into_iter().flatten();
    for rule in objects.filter_map(|object| object.get_mut("rule")) {
        if !map.is_of(rule) {
            continue;
        }
        for statement in rule["expr"].as_array_mut().into_iter().flatten() {
            if let Some(data) = statement
                .get_mut("vmap")
                .and_then(|vmap| vmap.get_mut("data"))
                && *data == *map.reference
            {
                *data = Json::Object(Object::from_iter([("set".to_string(), elements.clone())]));
            }
        }
    }
}

/// The priority of connection tracking (`NF_IP_PRI_CONNTRACK`).
const TRACKING: i64 = -200;

/// That of translations of the destination (`NF_IP_PRI_NAT_DST`).
const TRANSLATION: i64 = -100;

fn priority(chain: &Json) -> Option<i64> {
    chain["prio"].as_i64()
}

fn base(chain: &Json) -> Option<Base> {
    let work = match (chain["type"].as_str()?, chain["hook"].as_str()?) {
        ("filter", "prerouting") if priority(chain) <= Some(TRANSLATION) => Work::FilterArriving,
        ("filter", "input" | "prerouting") => Work::Filter,
        ("filter", "forward") => Work::FilterForwarded,
        ("nat", "prerouting") => Work::Translate,
        _ => return None,
    };
    Some(Base {
        chain: chain["name"].as_str()?.to_string(),
        work,
        is_early: chain["hook"] == "prerouting"
            && priority(chain).is_some_and(|priority| priority <= TRACKING),
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
        let unknown = Json::Object(Object::from_iter([("queue".to_string(), Json::Null)]));
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
        (Some(Field::Address), Some(values)) => match values.into_iter().map(network).collect() {
            Some(values) => Test::Field(Field::Address, values, sense),
            None => Test::Unknown,
        },
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
        ("meta", "oifname" | "oif") => Field::Out,
        ("meta", "nfproto") => Field::Family,
        ("meta", "pkttype") => Field::Destination,
        ("ct", "state") => Field::State,
        ("ct", "status") => Field::Status,
        ("fib", _) if how["result"] == "type" && how["flags"][0] == "daddr" => Field::Destination,
        ("&", _) if is_flags(&how[0]) && contains(&how[1], "syn") => Field::Flags,
        ("payload", _) => match part {
            ("ip", "protocol") | ("ip6", "nexthdr") => Field::Protocol,
            ("ip" | "ip6", "daddr") => Field::Address,
            ("tcp", "dport") => Field::Port(Some(Protocol::Tcp)),
            ("udp", "dport") => Field::Port(Some(Protocol::Udp)),
            ("th", "dport") => Field::Port(None),
            ("tcp", "flags") => Field::Flags,
            _ => return None,
        },
        _ => return None,
    })
}

/// A value as addresses.
fn network(value: Value) -> Option<Value> {
    match value {
        Value::Text(text) => {
            let address: IpAddr = text.parse().ok()?;
            Some(Value::Network(address.into()))
        }
        Value::Network(_) => Some(value),
        Value::Ports(..) => None,
    }
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
        Json::Object(object) if object.contains_key("prefix") => {
            let (address, length) = (&right["prefix"]["addr"], right["prefix"]["len"].as_u64()?);
            let network = IpNet::new(address.as_str()?.parse().ok()?, length.try_into().ok()?);
            network.ok().map(Value::Network)
        }
        Json::Object(object) => match (object.get("range"), object.get("elem")) {
            (Some(range), _) => Some(Value::Ports(port(&range[0])?, port(&range[1])?)),
            (_, Some(element)) => value(&element["val"]),
            _ => None,
        },
        _ => None,
    }
}
