//! A command of ufw as a rule.

use super::ports::PortList;
use super::rule::{Match, Operation, Rule, Verdict};
use super::services;

/// The rule of the words after `ufw`.
///
/// # Errors
/// The reason why it cannot be read.
pub(super) fn read(arguments: &[String]) -> Result<Rule, String> {
    let mut rule = Rule {
        chain: "INPUT".to_string(),
        table: "filter".to_string(),
        operation: Operation::Other,
        ..Rule::default()
    };
    let mut words = arguments.iter().map(String::as_str).peekable();
    let mut removes = false;
    while let Some(word) = words.next() {
        match word {
            "insert" | "prepend" => {
                if word == "insert" {
                    words.next();
                }
                rule.operation = Operation::Insert(0);
            }
            "route" => rule.chain = "FORWARD".to_string(),
            "delete" => removes = true,
            "allow" | "limit" => {
                rule.verdict = Verdict::Accept;
                if word == "limit" {
                    rule.conditions.push("ufw limit".to_string());
                }
                break;
            }
            "deny" | "reject" => {
                rule.verdict = Verdict::Refuse(word.to_string());
                break;
            }
            _ => {}
        }
    }
    if removes {
        rule.operation = Operation::Remove;
        return Ok(rule);
    }
    if rule.verdict == Verdict::None {
        rule.operation = Operation::Other;
        return Ok(rule);
    }
    if rule.operation == Operation::Other {
        rule.operation = Operation::Append;
    }
    let mut side = Side::Here;
    // `ufw route allow in on eth0 out on eth1`
    let mut is_out = false;
    while let Some(word) = words.next() {
        match word {
            "out" if rule.chain == "FORWARD" => is_out = true,
            "out" => rule.chain = "OUTPUT".to_string(),
            "in" => is_out = false,
            "log" | "log-all" | "any" => {}
            "on" => {
                let name = Match::Is(words.next().unwrap_or_default().to_string());
                match is_out {
                    true => rule.out = name,
                    false => rule.interface = name,
                }
            }
            "proto" => {
                let name = words.next().unwrap_or_default();
                if name != "any" {
                    rule.protocol = Match::Is(name.to_string());
                }
            }
            "from" => {
                side = Side::There;
                let source = words.next().unwrap_or_default();
                if source != "any" {
                    rule.source = Match::Is(source.to_string());
                }
            }
            "to" => {
                side = Side::Here;
                let to = words.next().unwrap_or_default();
                if to != "any" {
                    rule.destination = Match::Is(to.to_string());
                }
            }
            "port" => {
                let ports = words.next().unwrap_or_default();
                match side {
                    Side::Here => rule.ports = Match::Is(PortList::of(ports)),
                    Side::There => rule.conditions.push(format!("from port {ports}")),
                }
            }
            "app" => application(&mut rule, words.next().unwrap_or_default())?,
            "comment" => {
                words.next();
            }
            ports => short(&mut rule, ports)?,
        }
    }
    protocols(&mut rule);
    Ok(rule)
}

#[derive(PartialEq)]
enum Side {
    Here,
    There,
}

/// `ufw allow 22/tcp`, `ufw allow ssh`, `ufw allow OpenSSH`
fn short(rule: &mut Rule, text: &str) -> Result<(), String> {
    let (ports, protocol) = match text.split_once('/') {
        Some((ports, protocol)) => (ports, Some(protocol)),
        None => (text, None),
    };
    let port_like = ports.starts_with(|c: char| c.is_ascii_digit() || "$%".contains(c));
    if !port_like && services::ports(ports).is_none() {
        return application(rule, text);
    }
    rule.ports = Match::Is(PortList::of(ports));
    if let Some(protocol) = protocol {
        rule.protocol = Match::Is(protocol.to_string());
    }
    Ok(())
}

/// The profiles that packages of the usual servers bring.
fn application(rule: &mut Rule, name: &str) -> Result<(), String> {
    let ports = match name.to_ascii_lowercase().as_str() {
        "openssh" | "ssh" => "22/tcp",
        "nginx http" | "apache" | "www" | "lighttpd http" => "80/tcp",
        "nginx https" | "apache secure" | "www secure" | "lighttpd https" => "443/tcp",
        "nginx full" | "apache full" | "www full" | "lighttpd full" => "80/tcp,443/tcp",
        "postfix" | "smtp" => "25/tcp",
        "postfix submission" => "587/tcp",
        "dovecot secure imap" | "imaps" => "993/tcp",
        "openvpn" => "1194/udp",
        "cups" => "631/tcp,631/udp",
        "transmission" => "51413/tcp,51413/udp",
        _ => {
            return Err(format!(
                "the application profile `{name}` of ufw is not known here: write its ports"
            ));
        }
    };
    rule.ports = Match::Is(PortList::of(ports));
    Ok(())
}

/// Without `proto`, ufw opens TCP and UDP. A well-known port is taken for what its service speaks.
fn protocols(rule: &mut Rule) {
    let (Match::Any, Match::Is(ports)) = (&rule.protocol, &rule.ports) else {
        return;
    };
    let [word] = &ports.0[..] else {
        rule.protocol = Match::Is("tcp,udp".to_string());
        return;
    };
    if word.contains('/') {
        return;
    }
    let speaks = match (services::ports(word), word.parse()) {
        (Some(_), _) => services::protocols(word),
        (None, Ok(port)) => services::protocols_at(port, port),
        _ => services::protocols_at(0, 0),
    };
    let names: Vec<&str> = speaks.iter().map(|protocol| protocol.name()).collect();
    rule.protocol = Match::Is(names.join(","));
    if let [only] = names[..] {
        let other = if only == "tcp" { "udp" } else { "tcp" };
        rule.remarks.push(format!(
            "ufw opened {word}/{other} too, which the service does not use"
        ));
    }
}
