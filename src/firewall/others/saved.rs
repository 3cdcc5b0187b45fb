//! `iptables-save --read--> tables of others`. What is not known is [`Test::Unknown`]. Pure.

use super::rules::{Base, Field, Rule, Sense, Table, Test, Then, Value, Work};
use crate::knock::Protocol;
use crate::ruleset::Family;
use crate::ruleset::iptables::names::is_ours;

/// Targets after which a packet goes on in the same chain.
const GO_ON: [&str; 14] = [
    "LOG", "NFLOG", "ULOG", "MARK", "CONNMARK", "TCPMSS", "CT", "NOTRACK", "TRACE", "SET", "AUDIT",
    "CHECKSUM", "DSCP", "TOS",
];

/// The tables that iptables of a family shows.
pub fn tables(text: &str, family: Family) -> Vec<Table> {
    let program = match family {
        Family::V4 => "iptables",
        Family::V6 => "ip6tables",
    };
    let mut tables: Vec<Table> = Vec::new();
    let mut name = "";
    for line in text.lines() {
        if let Some(table) = line.strip_prefix('*') {
            name = table.trim();
            tables.push(Table {
                title: format!("{program}, table {name}"),
                family: Some(family),
                ..Table::default()
            });
        }
        let Some(table) = tables.last_mut() else {
            continue;
        };
        if let Some(chain) = line.strip_prefix(':') {
            let mut words = chain.split(' ');
            let (chain, policy) = (words.next().unwrap_or_default(), words.next());
            table.chains.entry(chain.to_string()).or_default();
            table
                .bases
                .extend(base(name, chain, policy == Some("DROP")));
        } else if let Some(rule) = line.find("-A ").map(|at| &line[at + 3..])
            && !line.starts_with('#')
        {
            let words = words(rule);
            let mut words = words.iter().map(String::as_str);
            let chain = words.next().unwrap_or_default();
            if !is_ours(chain) {
                let rules = table.chains.entry(chain.to_string()).or_default();
                rules.push(self::rule(words));
            }
        }
    }
    tables.retain(|table| !table.bases.is_empty());
    tables
}

fn base(table: &str, chain: &str, drops: bool) -> Option<Base> {
    let work = match (table, chain) {
        ("nat", "PREROUTING") => Work::Translate,
        ("filter" | "mangle" | "security", "INPUT") => Work::Filter,
        ("raw" | "mangle", "PREROUTING") => Work::FilterArriving,
        ("filter" | "mangle" | "security", "FORWARD") => Work::FilterForwarded,
        _ => return None,
    };
    Some(Base {
        chain: chain.to_string(),
        work,
        is_early: table == "raw",
        drops,
    })
}

/// The words of a line; one between quotation marks is one word.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let (mut word, mut is_quoted, mut any) = (String::new(), false, false);
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => word.extend(letters.next()),
            '"' => (is_quoted, any) = (!is_quoted, true),
            ' ' if !is_quoted => {
                if any || !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                any = false;
            }
            _ => word.push(letter),
        }
    }
    if any || !word.is_empty() {
        words.push(word);
    }
    words
}

fn rule<'w>(mut words: impl Iterator<Item = &'w str>) -> Rule {
    let mut tests = Vec::new();
    let mut then = Then::Nothing;
    let mut sense = Sense::Is;
    let mut protocol = None;
    let text = |text: &str| vec![Value::Text(text.to_lowercase())];
    while let Some(word) = words.next() {
        let mut next = || words.next().unwrap_or_default();
        let test = match word {
            "!" => {
                sense = Sense::IsNot;
                continue;
            }
            "-p" => {
                let name = next();
                protocol = [Protocol::Tcp, Protocol::Udp]
                    .into_iter()
                    .find(|p| p.name() == name);
                Test::Field(Field::Protocol, text(name), sense)
            }
            "-i" => {
                let name = Value::Text(next().replace('+', "*"));
                Test::Field(Field::Interface, vec![name], sense)
            }
            "-o" => {
                let name = Value::Text(next().replace('+', "*"));
                Test::Field(Field::Out, vec![name], sense)
            }
            "-d" => match next().parse() {
                Ok(network) => Test::Field(Field::Address, vec![Value::Network(network)], sense),
                Err(_) => Test::Unknown,
            },
            "--dport" | "--dports" => match ports(next()) {
                Some(ports) => Test::Field(Field::Port(protocol), ports, sense),
                None => Test::Unknown,
            },
            "--state" | "--ctstate" => {
                let states = next().split(',').flat_map(text).collect();
                Test::Field(Field::State, states, sense)
            }
            "--dst-type" | "--pkt-type" => Test::Field(Field::Destination, text(next()), sense),
            "--tcp-flags" => match (next(), next()) {
                (all, "SYN") if all.split(',').any(|flag| flag == "SYN") => {
                    Test::Field(Field::Flags, text("SYN"), sense)
                }
                _ => Test::Unknown,
            },
            "-m" => match next() {
                "tcp" | "udp" | "conntrack" | "state" | "multiport" | "comment" | "limit"
                | "addrtype" | "pkttype" => continue,
                _ => Test::Unknown,
            },
            "--comment" | "--limit" | "--limit-burst" => {
                next();
                continue;
            }
            "-g" => {
                then = Then::Goto(next().to_string());
                continue;
            }
            "-j" => {
                then = target(next());
                if let Then::Translate(..) = then {
                    let rest: Vec<&str> = words.by_ref().collect();
                    then = translate(&rest);
                }
                // The rest tells more of the target.
                break;
            }
            _ => Test::Unknown,
        };
        tests.push(test);
        sense = Sense::Is;
    }
    Rule { tests, then }
}

fn target(name: &str) -> Then {
    match name {
        "ACCEPT" => Then::Accept,
        "DROP" | "REJECT" => Then::Drop,
        "RETURN" => Then::Return,
        "REDIRECT" | "DNAT" => Then::Translate(None, None),
        "QUEUE" | "NFQUEUE" | "SYNPROXY" | "TPROXY" => Then::Unknown,
        name if GO_ON.contains(&name) || is_ours(name) => Then::Nothing,
        name => Then::Jump(name.to_string()),
    }
}

/// "--to-ports 22", "--to-destination 192.0.2.9:22"
fn translate(words: &[&str]) -> Then {
    let Some(pair) = words.windows(2).find(|pair| pair[0].starts_with("--to-")) else {
        return Then::Translate(None, None);
    };
    let to = pair[1];
    let (address, port) = match (pair[0], to.strip_prefix('[')) {
        ("--to-ports", _) => (None, Some(to)),
        (_, Some(v6)) => match v6.split_once(']') {
            Some((address, port)) => (Some(address), port.strip_prefix(':')),
            None => return Then::Unknown,
        },
        _ if to.matches(':').count() > 1 => (Some(to), None),
        _ => match to.split_once(':') {
            Some((address, port)) => (Some(address).filter(|a| !a.is_empty()), Some(port)),
            None => (Some(to), None),
        },
    };
    match port.map(str::parse).transpose() {
        Ok(port) => Then::Translate(address.map(str::to_string), port),
        Err(_) => Then::Unknown,
    }
}

/// "22", "80:90", "22,80:90"
fn ports(text: &str) -> Option<Vec<Value>> {
    let port = |text: &str| text.parse::<u16>().ok();
    let part = |part: &str| match part.split_once(':') {
        Some((first, last)) => Some(Value::Ports(port(first)?, port(last)?)),
        None => Some(Value::Ports(port(part)?, port(part)?)),
    };
    text.split(',').map(part).collect()
}
