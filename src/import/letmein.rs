//! letmein's letmeind.conf: users with secrets, and resources with ports. A secret of letmein is of no use here:
//! each user becomes the command that makes a key, the resources become doors. No secret is repeated.

use super::draft::{Draft, DraftKey, DraftWay};
use super::place::Opened;
use super::ports::PortList;
use super::times;
use crate::knock::{PortRange, Protocol};

/// The time that letmeind takes where no timeout is set, in seconds.
const DEFAULT_TIMEOUT: u64 = 600;

struct Resource {
    ports: Vec<PortRange>,
    seconds: Option<u64>,
    /// Nobody means everybody.
    users: Vec<String>,
}

pub(super) fn read(text: &str) -> Draft {
    let mut draft = Draft {
        source: "letmein's letmeind.conf",
        ..Draft::default()
    };
    let (mut section, mut timeout) = (String::new(), DEFAULT_TIMEOUT);
    let (mut users, mut resources) = (Vec::new(), Vec::new());
    for line in text.lines().map(str::trim) {
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            section = name.trim().to_ascii_uppercase();
            continue;
        }
        let Some((name, value)) = line.split_once('=') else {
            continue;
        };
        let (name, value) = (name.trim(), value.trim());
        match section.as_str() {
            "KEYS" => users.push(name.to_ascii_uppercase()),
            "RESOURCES" => match resource(value) {
                Ok(resource) => resources.push(resource),
                Err(reason) => draft.leave_out(format!("resource {name}"), reason),
            },
            "NFTABLES" if name == "timeout" => {
                timeout = times::seconds(value).unwrap_or(DEFAULT_TIMEOUT);
            }
            "GENERAL" if name == "port" => draft.no_counterpart(format!(
                "letmeind listened at port {value}; no process of toctoc listens, tokens come to `token_port`"
            )),
            _ => {}
        }
    }
    for user in &users {
        let theirs =
            |resource: &&Resource| resource.users.is_empty() || resource.users.contains(user);
        let theirs: Vec<&Resource> = resources.iter().filter(theirs).collect();
        let opens: Vec<Opened> = theirs
            .iter()
            .flat_map(|r| r.ports.iter().copied().map(Opened::here))
            .collect();
        if opens.is_empty() {
            draft.leave_out(
                format!("user {user}"),
                "no resource with a port is for this user",
            );
            continue;
        }
        for resource in theirs {
            let seconds = resource.seconds.unwrap_or(timeout);
            draft.times.extend(
                resource
                    .ports
                    .iter()
                    .map(|&port| (Opened::here(port), seconds)),
            );
        }
        draft.add(DraftKey {
            called: format!("user-{user}"),
            everything: false,
            opens,
            way: DraftWay::New,
            open_for: None,
            remarks: vec![format!("user {user}")],
        });
    }
    if users.is_empty() {
        draft.leave_out("[KEYS]", "it names no user");
    }
    draft
}

/// `port: 4500 / tcp,udp / timeout: 60 / users: 00000001, 00000002`
fn resource(value: &str) -> Result<Resource, String> {
    let mut port = None;
    let mut protocols = Vec::new();
    let mut resource = Resource {
        ports: Vec::new(),
        seconds: None,
        users: Vec::new(),
    };
    for part in value.split('/').map(str::trim) {
        match part.split_once(':') {
            Some((name, value)) => match (name.trim(), value.trim()) {
                ("port", value) => port = Some(value),
                ("timeout", value) => resource.seconds = times::seconds(value),
                ("users", value) => {
                    let users = value
                        .split(',')
                        .map(|user| user.trim().to_ascii_uppercase());
                    resource.users = users.collect();
                }
                (name, _) => return Err(format!("`{name}` has no counterpart: a door has ports")),
            },
            None => {
                for word in part
                    .split(',')
                    .map(str::trim)
                    .filter(|word| !word.is_empty())
                {
                    match word.to_ascii_lowercase().as_str() {
                        "tcp" => protocols.push(Protocol::Tcp),
                        "udp" => protocols.push(Protocol::Udp),
                        _ => return Err(format!("`{word}` is neither tcp nor udp")),
                    }
                }
            }
        }
    }
    if protocols.is_empty() {
        protocols.push(Protocol::Tcp);
    }
    let port = port.ok_or("it has no port")?;
    resource.ports = PortList::of(port).ranges(&protocols)?;
    Ok(resource)
}
