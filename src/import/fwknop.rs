//! fwknop's access.conf: stanzas that begin with SOURCE. A secret of fwknop is of no use here: each stanza
//! becomes doors, and the command that makes a key for them. No secret is repeated.

use super::draft::{Draft, DraftKey, DraftWay};
use super::ports::PortList;

/// The time that fwknopd takes where FW_ACCESS_TIMEOUT is not set, in seconds.
const DEFAULT_TIMEOUT: u64 = 30;

#[derive(Default)]
struct Stanza {
    settings: Vec<(String, String)>,
}

impl Stanza {
    fn get(&self, name: &str) -> Option<&str> {
        let mut found = self.settings.iter().filter(|(key, _)| key == name);
        found.next().map(|(_, value)| value.as_str())
    }

    fn is_set(&self, name: &str) -> bool {
        self.get(name)
            .is_some_and(|value| value.starts_with(['Y', 'y']))
    }
}

pub(super) fn read(text: &str) -> Draft {
    let mut draft = Draft {
        source: "fwknop's access.conf",
        ..Draft::default()
    };
    let mut stanzas: Vec<Stanza> = Vec::new();
    for line in text.lines().map(str::trim) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let name = name.trim_end_matches([':', ';']).to_ascii_uppercase();
        let value = value.trim().trim_end_matches(';').trim().to_string();
        if name.starts_with('%') {
            draft.leave_out(
                format!("{} {value}", name.to_lowercase()),
                "that file is not read with it",
            );
            continue;
        }
        if name == "SOURCE" {
            stanzas.push(Stanza::default());
        }
        if let Some(stanza) = stanzas.last_mut() {
            stanza.settings.push((name, value));
        }
    }
    for (place, stanza) in stanzas.iter().enumerate() {
        let called = match stanza.get("REQUIRE_USERNAME") {
            Some(name) => name.to_string(),
            None => format!("stanza-{}", place + 1),
        };
        match key(stanza, &called) {
            Ok(key) => {
                let timeout = stanza.get("FW_ACCESS_TIMEOUT");
                let timeout = timeout.and_then(|time| time.parse().ok());
                let timeout = timeout.filter(|&seconds| seconds > 0);
                let timeout = timeout.unwrap_or(DEFAULT_TIMEOUT);
                draft
                    .times
                    .extend(key.opens.iter().map(|&port| (port, timeout)));
                draft.add(key);
            }
            Err(reason) => draft.leave_out(called, reason),
        }
    }
    draft
}

fn key(stanza: &Stanza, called: &str) -> Result<DraftKey, String> {
    let source = stanza.get("SOURCE").unwrap_or_default();
    let mut remarks = vec![format!("{called}: SOURCE {source}")];
    for name in ["FORCE_NAT", "FORWARD_ALL"] {
        if let Some(to) = stanza.get(name) {
            return Err(format!(
                "{name} {to}: a door of a host behind this one; write it by hand, with `{}`",
                match name {
                    "FORCE_NAT" => format!("forward = \"{}\"", to.trim().replace(' ', ":")),
                    _ => "to".to_string(),
                }
            ));
        }
    }
    let Some(ports) = stanza.get("OPEN_PORTS") else {
        return Err(
            "without OPEN_PORTS the client names the port: name the door you mean".to_string(),
        );
    };
    // `tcp/22`: the protocol comes first.
    let words = ports
        .split(',')
        .map(str::trim)
        .filter(|word| !word.is_empty());
    let words = words.map(|word| match word.split_once('/') {
        Some((protocol, port)) => format!("{port}/{protocol}"),
        None => word.to_string(),
    });
    let opens = PortList(words.collect()).ranges(&[])?;
    if !source.eq_ignore_ascii_case("any") {
        remarks.push(
            "no counterpart: its packets came from this source alone; a key opens from anywhere"
                .to_string(),
        );
    }
    for (name, value) in &stanza.settings {
        let silent = [
            "SOURCE",
            "OPEN_PORTS",
            "FW_ACCESS_TIMEOUT",
            "MAX_FW_TIMEOUT",
            "REQUIRE_USERNAME",
        ];
        let secret = ["KEY", "HMAC", "GPG", "ENCRYPTION"];
        if silent.contains(&name.as_str()) || secret.iter().any(|word| name.starts_with(word)) {
            continue;
        }
        match name.as_str() {
            "REQUIRE_SOURCE_ADDRESS" | "REQUIRE_SOURCE" => {}
            "ACCESS_EXPIRE" | "ACCESS_EXPIRE_EPOCH" => {
                remarks.push(format!("{name} {value}: give the key `expires`"));
            }
            "CMD_CYCLE_OPEN" | "CMD_CYCLE_CLOSE" => remarks.push(format!(
                "no counterpart: {name} {value} (`toctoc watch --exec PROGRAM` runs a program on openings)"
            )),
            "ENABLE_CMD_EXEC" if !stanza.is_set(name) => {}
            _ => remarks.push(format!("no counterpart: {name} {value}")),
        }
    }
    Ok(DraftKey {
        called: called.to_string(),
        everything: false,
        opens,
        way: DraftWay::New,
        open_for: None,
        remarks,
    })
}
