//! A command of firewall-cmd as rules: ports, services, rich rules, direct rules.

use super::iptables;
use super::ports::PortList;
use super::rule::{Match, Operation, Rule, Verdict};
use super::services;

/// The meaning of each option of a command: a rule, or the reason why it is none.
pub(super) fn read(arguments: &[String]) -> Vec<Result<Rule, String>> {
    let mut found = Vec::new();
    let mut seconds = None;
    let mut at = 0;
    while at < arguments.len() {
        let word = arguments[at].as_str();
        at += 1;
        let Some(option) = word.strip_prefix("--") else {
            continue;
        };
        let (name, joined) = match option.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (option, None),
        };
        let mut value = || {
            joined.map(str::to_string).unwrap_or_else(|| {
                let value = arguments.get(at).cloned().unwrap_or_default();
                at += 1;
                value
            })
        };
        match name {
            "timeout" => seconds = super::times::seconds(&value()),
            "zone" | "policy" => {
                value();
            }
            "add-port" => {
                let ports = PortList::of(&value());
                found.push(Ok(open(Match::Is(ports))));
            }
            "add-service" => found.push(service(&value())),
            "add-rich-rule" => found.push(rich(&value())),
            "add-forward-port" => found.push(Ok(forward_port(&value()))),
            // What leaves by an interface of the zone.
            "add-masquerade" => found.push(Ok(Rule {
                out: Match::Is("an interface of this zone".to_string()),
                verdict: Verdict::Masquerade("masquerade".to_string()),
                chain: "POSTROUTING".to_string(),
                ..open(Match::Any)
            })),
            "ipset" => {
                let set = value();
                found.push(Err(format!(
                    "adds the source to the set `{set}`; which port that opens stands in another rule: name the door you mean"
                )));
            }
            "add-entry" => {
                value();
            }
            "add-source" | "add-interface" | "add-protocol" | "set-target" => {
                let value = value();
                found.push(Err(format!(
                    "--{name}={value} opens all that a zone allows: name the door you mean"
                )));
            }
            "direct"
            | "permanent"
            | "reload"
            | "complete-reload"
            | "quiet"
            | "runtime-to-permanent" => {}
            "passthrough" | "add-passthrough" => {
                let rest = arguments.get(at + usize::from(joined.is_none())..);
                found.push(iptables::read(rest.unwrap_or_default(), "filter"));
                break;
            }
            "add-rule" => {
                found.push(direct(arguments.get(at..).unwrap_or_default()));
                break;
            }
            name if name.starts_with("remove-") => {
                if joined.is_none() {
                    at = arguments.len();
                }
                found.push(Ok(Rule {
                    operation: Operation::Remove,
                    ..open(Match::Any)
                }));
            }
            name if name.starts_with("query-")
                || name.starts_with("list-")
                || name.starts_with("get-") => {}
            _ => found.push(Err(format!("{word} of firewall-cmd is not known here"))),
        }
    }
    for rule in found.iter_mut().flatten() {
        rule.seconds = seconds;
    }
    found
}

fn open(ports: Match<PortList>) -> Rule {
    Rule {
        chain: "INPUT".to_string(),
        table: "filter".to_string(),
        verdict: Verdict::Accept,
        ports,
        ..Rule::default()
    }
}

/// `port=2222:proto=tcp:toport=22:toaddr=192.168.1.5`; an address of IPv6 has colons of its own.
fn forward_port(text: &str) -> Rule {
    let parts = text.split_once("toaddr=");
    let (rest, address) = parts.unwrap_or((text, ""));
    let mut rule = open(Match::Any);
    let mut port = "";
    for part in rest.split(':') {
        match part.split_once('=') {
            Some(("port", ports)) => rule.ports = Match::Is(PortList::of(ports)),
            Some(("proto", name)) => rule.protocol = Match::Is(name.to_string()),
            Some(("toport", to)) => port = to,
            _ => {}
        }
    }
    // Where `toaddr` comes first, the rest stands behind it.
    let (address, port) = match address.split_once(":toport=") {
        Some((address, port)) => (address, port),
        None => (address, port),
    };
    rule.verdict = translation(address, port);
    rule
}

/// To an address, a port of this host, or both.
fn translation(address: &str, port: &str) -> Verdict {
    match (address.trim_matches(['[', ']']), port) {
        ("", port) => Verdict::Redirect(port.to_string()),
        (address, "") => Verdict::Translate(address.to_string()),
        (address, port) if address.contains(':') => {
            Verdict::Translate(format!("[{address}]:{port}"))
        }
        (address, port) => Verdict::Translate(format!("{address}:{port}")),
    }
}

fn service(name: &str) -> Result<Rule, String> {
    if services::ports(name).is_none() {
        return Err(format!(
            "the service `{name}` of firewalld is not known here: write its ports"
        ));
    }
    let protocols = services::protocols(name);
    let names: Vec<&str> = protocols.iter().map(|protocol| protocol.name()).collect();
    Ok(Rule {
        protocol: Match::Is(names.join(",")),
        ..open(Match::Is(PortList::of(name)))
    })
}

/// `ipv4 filter INPUT 0 -s ... -j ACCEPT`
fn direct(words: &[String]) -> Result<Rule, String> {
    let [_, table, chain, _, rest @ ..] = words else {
        return Err("a direct rule of firewalld without its chain".to_string());
    };
    let mut arguments = vec!["-A".to_string(), chain.clone()];
    arguments.extend_from_slice(rest);
    iptables::read(&arguments, table)
}

/// `rule family="ipv4" source address="%IP%" port port="22" protocol="tcp" accept`
fn rich(text: &str) -> Result<Rule, String> {
    let mut rule = open(Match::Any);
    rule.verdict = Verdict::None;
    let mut element = String::new();
    let (mut to_address, mut to_port) = (String::new(), String::new());
    for word in text.split_whitespace() {
        let (key, value) = match word.split_once('=') {
            Some((key, value)) => (key, value.trim_matches(['"', '\''])),
            None => (word, ""),
        };
        match (element.as_str(), key) {
            ("source", "address") => {
                rule.source = match rule.source {
                    Match::Not(_) => Match::Not(value.to_string()),
                    _ => Match::Is(value.to_string()),
                };
            }
            ("source", "ipset" | "mac") => rule.source = Match::Is(value.to_string()),
            ("source", "NOT" | "not" | "invert")
                if !matches!(value.to_ascii_lowercase().as_str(), "false" | "no") =>
            {
                let address = match &rule.source {
                    Match::Is(address) | Match::Not(address) => address.clone(),
                    Match::Any => String::new(),
                };
                rule.source = Match::Not(address);
            }
            ("destination", "address") => rule.destination = Match::Is(value.to_string()),
            ("port", "port") if word.contains('=') => rule.ports = Match::Is(PortList::of(value)),
            ("port", "protocol") => rule.protocol = Match::Is(value.to_string()),
            ("protocol", "value") => rule.protocol = Match::Is(value.to_string()),
            ("service", "name") => {
                let known = service(value)?;
                (rule.ports, rule.protocol) = (known.ports, known.protocol);
            }
            ("forward-port", "port") if word.contains('=') => {
                rule.ports = Match::Is(PortList::of(value));
            }
            ("forward-port", "protocol") => rule.protocol = Match::Is(value.to_string()),
            ("forward-port", "to-port") => to_port = value.to_string(),
            ("forward-port", "to-addr") => to_address = value.to_string(),
            (_, "accept") => rule.verdict = Verdict::Accept,
            (_, "drop" | "reject") => rule.verdict = Verdict::Refuse(key.to_string()),
            (_, "mark") => rule.verdict = Verdict::Other("mark".to_string()),
            ("limit", "value") => rule.conditions.push(format!("limit {value}")),
            (_, "masquerade") => {
                rule.verdict = Verdict::Masquerade(key.to_string());
                rule.chain = "POSTROUTING".to_string();
            }
            (
                _,
                "source" | "destination" | "port" | "service" | "forward-port" | "log" | "audit"
                | "limit" | "icmp-block" | "icmp-type" | "source-port",
            ) if !word.contains('=') => element = key.to_string(),
            (_, "protocol") if !word.contains('=') => element = key.to_string(),
            ("icmp-type", _) => rule.protocol = Match::Is("icmp".to_string()),
            ("source-port", _) => rule.conditions.push(format!("source-port {word}")),
            _ => {}
        }
    }
    if !(to_address.is_empty() && to_port.is_empty()) {
        rule.verdict = translation(&to_address, &to_port);
    }
    Ok(rule)
}
