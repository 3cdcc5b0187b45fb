//! fwknop's access.conf: stanzas that begin with SOURCE. A secret of fwknop is of no use here: each stanza
//! becomes doors, and the command that makes a key for them. No secret is repeated.

use super::draft::{Draft, DraftKey, DraftWay};
use super::place::{Opened, Place};
use super::ports::PortList;
use crate::knock::{Knock, PortRange};
use crate::policy::{KnockAt, Sender, target_of};

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
        match stanzas.last_mut() {
            Some(stanza) => stanza.settings.push((name, value)),
            None if is_off(&value) => {}
            None => draft.remark(general(&name, &value)),
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
                    .extend(key.opens.iter().map(|opened| (opened.clone(), timeout)));
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
    if stanza.is_set("FORWARD_ALL") {
        return Err(
            "FORWARD_ALL: lets the source through to every host: name the hosts and ports you mean, in doors with `to`"
                .to_string(),
        );
    }
    let Some(ports) = stanza.get("OPEN_PORTS") else {
        let with = stanza.get("FORCE_NAT").map_or(String::new(), |to| {
            format!(", with `forward = \"{}\"`", words(to).join(":"))
        });
        return Err(format!(
            "without OPEN_PORTS the client names the port: name the door you mean{with}"
        ));
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
    let ports = PortList(words.collect()).ranges(&[])?;
    let opens = opened(stanza, ports, &mut remarks)?;
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
            // They are read with FORCE_NAT, or switched off.
            "FORCE_NAT" => {}
            "FORCE_SNAT" | "FORCE_MASQUERADE" | "DISABLE_DNAT"
                if stanza.get("FORCE_NAT").is_some() => {}
            "FORCE_MASQUERADE" | "DISABLE_DNAT" | "FORWARD_ALL" if !stanza.is_set(name) => {}
            "FORCE_SNAT" | "FORCE_MASQUERADE" => remarks.push(format!(
                "{name} {value}: where the client named an inner host (-N), write a door with `forward` and \
                 `masquerade = true`"
            )),
            "DISABLE_DNAT" => remarks.push(format!(
                "{name} {value}: where the client named an inner host, write a door with `to`"
            )),
            _ if names_inner_hosts(name) && is_off(value) => {}
            "ACCESS_EXPIRE" | "ACCESS_EXPIRE_EPOCH" => {
                remarks.push(format!("{name} {value}: give the key `expires`"));
            }
            "CMD_CYCLE_OPEN" | "CMD_CYCLE_CLOSE" => remarks.push(format!(
                "no counterpart: {name} {value} (`toctoc watch --exec PROGRAM` runs a program on openings)"
            )),
            "ENABLE_CMD_EXEC" if !stanza.is_set(name) => {}
            _ => remarks.push(general(name, value)),
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

/// The doors of a stanza: of this host, or of the one that FORCE_NAT names.
fn opened(
    stanza: &Stanza,
    ports: Vec<PortRange>,
    remarks: &mut Vec<String>,
) -> Result<Vec<Opened>, String> {
    let Some(nat) = stanza.get("FORCE_NAT") else {
        return Ok(ports.into_iter().map(Opened::here).collect());
    };
    let words = words(nat);
    let by_hand = || {
        format!(
            "FORCE_NAT {nat}: a door of a host behind this one; write it by hand, with `forward` and an address"
        )
    };
    // Some name the protocol between address and port.
    let (Some(host), Some(port)) = (words.first(), words.last()) else {
        return Err(by_hand());
    };
    let target = target_of(&format!("{host}:{port}")).ok_or_else(by_hand)?;
    let snat = stanza.get("FORCE_SNAT").filter(|value| !is_off(value));
    if stanza.is_set("DISABLE_DNAT") {
        if snat.is_some() || stanza.is_set("FORCE_MASQUERADE") {
            remarks.push(
                "no counterpart: a sender that changes without a translation (FORCE_SNAT, FORCE_MASQUERADE)"
                    .to_string(),
            );
        }
        let at = |ports: PortRange| {
            let ports = target.port.map_or(ports, |port| {
                let protocol = ports.protocol();
                Knock { protocol, port }.into()
            });
            Opened {
                ports,
                place: Place::Behind(target.host.into(), KnockAt::ThisHost),
            }
        };
        let mut opens: Vec<Opened> = ports.into_iter().map(at).collect();
        opens.dedup();
        return Ok(opens);
    }
    let sender = match snat.is_some() || stanza.is_set("FORCE_MASQUERADE") {
        true => Sender::ThisHost,
        false => Sender::Client,
    };
    if let Some(address) = snat.filter(|address| !address.starts_with(['Y', 'y'])) {
        remarks.push(format!(
            "FORCE_SNAT {address}: `masquerade` takes the address of the interface by which packets leave"
        ));
    }
    let place = Place::PassedOn(target, sender);
    let at = |ports: PortRange| Opened {
        ports,
        place: place.clone(),
    };
    Ok(ports.into_iter().map(at).collect())
}

/// The words of FORCE_NAT.
fn words(nat: &str) -> Vec<&str> {
    let words = nat.split([' ', '\t', ',', ':']);
    words.filter(|word| !word.is_empty()).collect()
}

fn is_off(value: &str) -> bool {
    value.is_empty() || value.starts_with(['N', 'n'])
}

/// The remark about a setting that is no door.
fn general(name: &str, value: &str) -> String {
    match name {
        "SNAT_TRANSLATE_IP" | "ENABLE_IPT_SNAT" => format!(
            "{name} {value}: `masquerade = true` beside `forward`, with this host's own address"
        ),
        "ENABLE_IPT_LOCAL_NAT" | "ENABLE_FIREWD_LOCAL_NAT" => format!(
            "{name} {value}: another port of this host is `forward = \"ADDRESS:PORT\"` with its own address"
        ),
        _ if names_inner_hosts(name) => format!(
            "{name} {value}: the client names an inner host (-N): write a door with `forward` for each that is meant"
        ),
        _ => format!("no counterpart: {name} {value}"),
    }
}

/// Settings, of fwknopd.conf too, that let a client name inner hosts.
fn names_inner_hosts(name: &str) -> bool {
    matches!(
        name,
        "ENABLE_IPT_FORWARDING"
            | "ENABLE_FIREWD_FORWARDING"
            | "ENABLE_NAT_DNS"
            | "ENABLE_FORWARD_ACCESS"
            | "FORWARD_ACCESS"
            | "ENABLE_IPT_LOCAL_NAT"
            | "ENABLE_FIREWD_LOCAL_NAT"
            | "ENABLE_IPT_SNAT"
    )
}
