//! Other ways to the service behind a door, as far as a host shows them. Pure.

use super::Policy;
use crate::knock::{Knock, Protocol};

/// A program, and all that it listens at for others than this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    pub name: String,
    pub ports: Vec<Knock>,
}

/// A translation of ports, by rules of others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Way {
    pub protocol: Protocol,
    /// The first and the last port.
    pub from: (u16, u16),
    pub to: To,
    /// The port that it becomes. `None`: it stays.
    pub port: Option<u16>,
    /// Where the rule is.
    pub by: String,
}

/// The destination of a translated packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum To {
    Here,
    /// An address of another host.
    Elsewhere(String),
}

impl Way {
    pub fn is_from(&self, port: Knock) -> bool {
        self.protocol == port.protocol && (self.from.0..=self.from.1).contains(&port.port.get())
    }

    /// "2022/tcp", "2000-2999/tcp", "every tcp port"
    fn words(&self) -> String {
        let protocol = self.protocol;
        match self.from {
            (1, u16::MAX) => format!("every {protocol} port"),
            (first, last) if first == last => format!("{first}/{protocol}"),
            (first, last) => format!("{first}-{last}/{protocol}"),
        }
    }
}

fn is_door(policy: &Policy, port: Knock) -> bool {
    policy.door_at(port).is_some()
}

/// Returns whether a stranger's packet to a port that is no door gets to a program.
fn is_open(policy: &Policy, port: Knock) -> bool {
    let drops = policy.firewall.as_ref();
    drops.is_none_or(|firewall| firewall.allows(port))
}

/// Other ports of the programs that listen at a door's port: a sentence for each program.
pub fn beside(policy: &Policy, programs: &[Program], port: Knock) -> Vec<String> {
    let listens = programs
        .iter()
        .filter(|program| program.ports.contains(&port));
    let told = listens.filter_map(|program| {
        let others = program.ports.iter().filter(|other| {
            !is_door(policy, **other) && !policy.ignore.contains(other) && is_open(policy, **other)
        });
        let others: Vec<String> = others.map(Knock::to_string).collect();
        let shown = match others.len() {
            0 => return None,
            1 => format!("{}, which is no door", others[0]),
            2..=4 => format!("{}, which are no doors", others.join(", ")),
            many => format!(
                "{} and {} more, which are no doors",
                others[..3].join(", "),
                many - 3
            ),
        };
        Some(format!(
            "{}, which listens at {port}, also listens at {shown}",
            program.name
        ))
    });
    told.collect()
}

/// Translations to a door's port and from it: a sentence each.
pub fn translated(policy: &Policy, door: &str, ways: &[Way], port: Knock) -> Vec<String> {
    let mut found = Vec::new();
    for way in ways {
        let by = &way.by;
        let becomes = way
            .port
            .map_or(Some(port), |to| Knock::new(port.protocol, to));
        let is_about = way.is_from(port) && way.from != (1, u16::MAX);
        match &way.to {
            To::Here
                if way.protocol == port.protocol
                    && way.port == Some(port.port.get())
                    && !is_only(way, port) =>
            {
                found.push(format!(
                    "{} is translated to {port} ({by}): there too nobody gets in without a grant for `{door}`",
                    way.words()
                ));
            }
            To::Here => {
                if let Some(to) =
                    becomes.filter(|to| is_about && *to != port && !is_door(policy, *to))
                {
                    let open = match is_open(policy, to) {
                        true => ", which is no door: strangers get to the same service there",
                        false => "",
                    };
                    found.push(format!("{port} is translated to {to} ({by}){open}"));
                }
            }
            To::Elsewhere(address) if way.is_from(port) => {
                let to = way.port.unwrap_or(port.port.get());
                let to = match address.contains(':') {
                    true => format!("[{address}]:{to}"),
                    false => format!("{address}:{to}"),
                };
                found.push(format!(
                    "{port} may be translated to {to} ({by}): a guest gets there, and not to a program of this host"
                ));
            }
            To::Elsewhere(_) => {}
        }
    }
    found.sort();
    found.dedup();
    found
}

/// Returns whether a translation is from that port alone.
fn is_only(way: &Way, port: Knock) -> bool {
    way.from == (port.port.get(), port.port.get())
}
