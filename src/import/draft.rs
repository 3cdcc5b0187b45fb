//! A policy being written: doors and keys with remarks beside them.

use std::fmt;

use crate::knock::{Knock, Protocol};

/// The policy that will be printed.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub source: &'static str,
    /// Remarks about the whole, above everything.
    pub remarks: Vec<String>,
    pub within: Option<u64>,
    pub interfaces: Vec<String>,
    pub doors: Vec<DraftDoor>,
    pub keys: Vec<DraftKey>,
    /// The settings left out and why, below everything.
    pub left_out: Vec<String>,
}

#[derive(Debug, PartialEq)]
pub(super) struct DraftDoor {
    pub name: String,
    pub ports: Vec<Knock>,
}

#[derive(Debug)]
pub(super) struct DraftKey {
    pub name: String,
    pub opens: Vec<String>,
    pub sequence: Vec<Knock>,
    /// Seconds.
    pub open_for: Option<u64>,
    pub remarks: Vec<String>,
}

impl Draft {
    /// The door that guards these ports, made if there is none yet. A port belongs to one door.
    pub fn door(&mut self, ports: &[Knock]) -> Vec<String> {
        let mut names = Vec::new();
        for &port in ports {
            let known = self.doors.iter().find(|door| door.ports.contains(&port));
            let name = match known {
                Some(door) => door.name.clone(),
                None => {
                    let name = service_name(port);
                    self.doors.push(DraftDoor {
                        name: name.clone(),
                        ports: vec![port],
                    });
                    name
                }
            };
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    /// A name for a key that no other key has, from whatever it was called.
    pub fn key_name(&self, called: &str) -> String {
        let kept = |c: char| match c {
            c if c.is_ascii_alphanumeric() || matches!(c, '-' | '_') => c,
            _ => '-',
        };
        let name: String = called.chars().map(kept).collect();
        let parts: Vec<&str> = name.split('-').filter(|part| !part.is_empty()).collect();
        let name: String = parts.join("-").chars().take(28).collect();
        let name = name.trim_start_matches(['-', '_']);
        let name = if name.is_empty() { "key" } else { name };
        let taken = |name: &str| self.keys.iter().any(|key| key.name == name);
        if !taken(name) {
            return name.to_string();
        }
        let numbered = (2..).map(|n| format!("{name}-{n}"));
        let mut free = numbered.filter(|name| !taken(name));
        free.next().unwrap_or_default()
    }
}

/// `ssh` for port 22, `port-8443` for others; never two doors with one name.
fn service_name(port: Knock) -> String {
    let usual = match (port.protocol, port.port.get()) {
        (Protocol::Tcp, 22) => Some("ssh"),
        (Protocol::Tcp, 80) => Some("http"),
        (Protocol::Tcp, 443) => Some("https"),
        (Protocol::Tcp, 3389) => Some("rdp"),
        (Protocol::Udp, 1194) => Some("openvpn"),
        (Protocol::Udp, 51820) => Some("wireguard"),
        _ => None,
    };
    match (usual, port.protocol) {
        (Some(name), _) => name.to_string(),
        (None, Protocol::Tcp) => format!("port-{}", port.port),
        (None, Protocol::Udp) => format!("udp-{}", port.port),
    }
}

/// The policy as a file.
impl fmt::Display for Draft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "# Made from {} by `toctoc import`. Read it, then `toctoc check` it.",
            self.source
        )?;
        for remark in &self.remarks {
            writeln!(f, "# {}", harmless(remark))?;
        }
        if self.within.is_some() || !self.interfaces.is_empty() {
            writeln!(f)?;
        }
        if let Some(within) = self.within {
            writeln!(f, "within = \"{within}s\"")?;
        }
        if !self.interfaces.is_empty() {
            let names: Vec<String> = self.interfaces.iter().map(|n| format!("\"{n}\"")).collect();
            writeln!(f, "interfaces = [{}]", names.join(", "))?;
        }
        for door in &self.doors {
            writeln!(f, "\n[door.{}]\nports = [{}]", door.name, list(&door.ports))?;
        }
        for key in &self.keys {
            writeln!(f)?;
            for remark in &key.remarks {
                writeln!(f, "# {}", harmless(remark))?;
            }
            let opens: Vec<String> = key.opens.iter().map(|name| format!("\"{name}\"")).collect();
            writeln!(f, "[key.{}]", key.name)?;
            writeln!(f, "opens    = [{}]", opens.join(", "))?;
            writeln!(f, "sequence = [{}]", list(&key.sequence))?;
            if let Some(open_for) = key.open_for {
                writeln!(f, "open_for = \"{open_for}s\"")?;
            }
        }
        if !self.left_out.is_empty() {
            writeln!(f, "\n# Left out:")?;
        }
        for remark in &self.left_out {
            writeln!(f, "#   {}", harmless(remark))?;
        }
        Ok(())
    }
}

fn list(ports: &[Knock]) -> String {
    let one = |port: &Knock| match port.protocol {
        Protocol::Tcp => port.port.to_string(),
        Protocol::Udp => format!("\"{port}\""),
    };
    let ports: Vec<String> = ports.iter().map(one).collect();
    ports.join(", ")
}

/// Text of the other file inside a comment: one line, no control characters, not endless.
fn harmless(text: &str) -> String {
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    let line: String = text.chars().map(clean).take(200).collect();
    line.trim_end().to_string()
}
