//! Ports as firewall programs write them.

use std::fmt;

use super::services;
use crate::knock::{PortRange, Protocol};

/// A list of ports as written, one word each: `22`, `ssh`, `8000:8010`, `8000-8010`, `53/udp`, `1024:`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct PortList(pub Vec<String>);

impl fmt::Display for PortList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(","))
    }
}

impl PortList {
    pub fn of(text: &str) -> PortList {
        let words = text.split(',').map(str::trim);
        PortList(
            words
                .filter(|word| !word.is_empty())
                .map(str::to_string)
                .collect(),
        )
    }

    /// The ports of each protocol; a word that names its protocol (`53/udp`) has that one.
    ///
    /// # Errors
    /// The reason why a word is no port.
    pub fn ranges(&self, protocols: &[Protocol]) -> Result<Vec<PortRange>, String> {
        let mut ranges = Vec::new();
        for word in &self.0 {
            let (ports, own) = match word.split_once('/') {
                Some((ports, protocol)) => (ports, Some(named_protocol(protocol, word)?)),
                None => (word.as_str(), None),
            };
            let (first, last) = range(ports)?;
            let protocols = own.as_ref().map_or(protocols, std::slice::from_ref);
            for &protocol in protocols {
                let range = PortRange::new(protocol, first, last);
                let range = range.ok_or_else(|| format!("`{word}` is no port"))?;
                if !ranges.contains(&range) {
                    ranges.push(range);
                }
            }
        }
        match ranges.is_empty() {
            true => Err("names no port".to_string()),
            false => Ok(ranges),
        }
    }
}

fn named_protocol(name: &str, word: &str) -> Result<Protocol, String> {
    match name.to_ascii_lowercase().as_str() {
        "tcp" => Ok(Protocol::Tcp),
        "udp" => Ok(Protocol::Udp),
        _ => Err(format!("`{word}` is neither of tcp nor of udp")),
    }
}

/// First and last port of a word.
fn range(word: &str) -> Result<(u16, u16), String> {
    if let Some(ports) = services::ports(word) {
        return Ok(ports);
    }
    if let Some((first, last)) = word.split_once(':').or(word.split_once('-'))
        && !word.starts_with(char::is_alphabetic)
    {
        let first = if first.is_empty() { "1" } else { first };
        let last = if last.is_empty() { "65535" } else { last };
        return Ok((port(first)?.max(1), port(last)?));
    }
    let port = port(word)?;
    Ok((port, port))
}

fn port(word: &str) -> Result<u16, String> {
    if word.starts_with(['$', '%', '`']) {
        return Err(format!("its port is {word}, which is not set in this file"));
    }
    if word.bytes().all(|b| b.is_ascii_digit()) && !word.is_empty() {
        let number = word.parse().ok();
        return number.ok_or_else(|| format!("no port is {word}: ports go from 1 to 65535"));
    }
    if let Some(ports) = services::ports(word) {
        return Ok(ports.0);
    }
    Err(format!(
        "the service `{word}` is not known here: write its port"
    ))
}
