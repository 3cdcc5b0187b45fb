//! knockd's configuration (knockd(1)): sections with a sequence and commands.
//!
//! A section becomes a key; the ports in its iptables, nft, ufw or firewall-cmd command become doors.
//! A section whose command takes a rule away has no counterpart: grants end by themselves.

use super::draft::{Draft, DraftKey};
use crate::knock::{Knock, KnockError, Protocol};
use crate::policy::is_interface_name;

/// A section as written.
struct Section<'t> {
    name: &'t str,
    settings: Vec<(String, &'t str)>,
}

impl<'t> Section<'t> {
    /// The value of a setting; names are not case-sensitive.
    fn get(&self, name: &str) -> Option<&'t str> {
        let mut found = self.settings.iter().filter(|(key, _)| key == name);
        found.next().map(|(_, value)| *value)
    }

    fn seconds(&self, name: &str) -> Option<u64> {
        self.get(name)?.parse().ok().filter(|&seconds| seconds > 0)
    }
}

pub(super) fn read(text: &str) -> Draft {
    let mut draft = Draft {
        source: "a knockd configuration",
        ..Draft::default()
    };
    for section in sections(text) {
        if section.name.eq_ignore_ascii_case("options") {
            options(&mut draft, &section);
        } else {
            door_knock(&mut draft, &section);
        }
    }
    if draft.within.is_some() {
        draft.remarks.push(
            "knockd's seq_timeout is for a whole sequence, `within` for the pause between two knocks."
                .to_string(),
        );
    }
    draft.remarks.push(
        "Closing sequences are not needed: a grant ends by itself, and open sessions live on."
            .to_string(),
    );
    draft
}

fn sections(text: &str) -> Vec<Section<'_>> {
    let mut sections: Vec<Section<'_>> = Vec::new();
    for line in text.lines().map(str::trim) {
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            sections.push(Section {
                name: name.trim(),
                settings: Vec::new(),
            });
        } else if let Some(section) = sections.last_mut() {
            let (key, value) = line.split_once('=').unwrap_or((line, ""));
            let key = key.trim().to_lowercase();
            section.settings.push((key, value.trim()));
        }
    }
    sections
}

fn real_name(interface: &str) -> &str {
    interface
        .split_once(':')
        .map_or(interface, |(name, _)| name)
}

fn options(draft: &mut Draft, section: &Section<'_>) {
    for (key, value) in &section.settings {
        match key.as_str() {
            // `eth0:0` is a label of an address of eth0.
            "interface" if draft.interfaces.iter().any(|name| name == real_name(value)) => {}
            "interface" if is_interface_name(real_name(value)) => {
                draft.interfaces.push(real_name(value).to_string());
            }
            "usesyslog" => draft
                .left_out
                .push("UseSyslog: openings are logged by the kernel (`log`)".to_string()),
            "logfile" => draft.left_out.push(format!(
                "LogFile {value}: openings are logged by the kernel (`log`)"
            )),
            "pidfile" => draft
                .left_out
                .push("PidFile: there is no process".to_string()),
            _ => draft.left_out.push(format!("option {key} = {value}")),
        }
    }
}

/// Settings that have been read, or mean nothing without a daemon.
const KNOWN: [&str; 7] = [
    "sequence",
    "seq_timeout",
    "tcpflags",
    "command",
    "start_command",
    "cmd_timeout",
    "stop_command",
];

fn door_knock(draft: &mut Draft, section: &Section<'_>) {
    let name = section.name;
    let mut remarks = vec![format!("[{name}]")];
    if let Some(file) = section.get("one_time_sequences") {
        draft.left_out.push(format!(
            "[{name}]: one-time sequences in {file}: this version has no keys that open once"
        ));
        return;
    }
    let Some(written) = section.get("sequence") else {
        draft.left_out.push(format!("[{name}]: it has no sequence"));
        return;
    };
    let sequence = match sequence(written) {
        Ok(sequence) => sequence,
        Err(error) => {
            draft.left_out.push(format!("[{name}]: {error}"));
            return;
        }
    };
    let command = section.get("start_command").or(section.get("command"));
    let Some(command) = command else {
        draft.left_out.push(format!("[{name}]: it has no command"));
        return;
    };
    if takes_away(command) {
        draft.left_out.push(format!(
            "[{name}]: it closes a door; grants end by themselves (by hand: `toctoc close`)"
        ));
        return;
    }
    let ports = ports(command);
    if ports.is_empty() {
        draft.left_out.push(format!(
            "[{name}]: its command opens no port that can be read from it: {command}"
        ));
        return;
    }
    let open_for = section.seconds("cmd_timeout");
    if open_for.is_none() {
        remarks.push(
            "knockd kept this open until another sequence closed it; here a grant ends by itself"
                .to_string(),
        );
    }
    if let Some(flags) = section.get("tcpflags")
        && !flags.eq_ignore_ascii_case("syn")
    {
        remarks.push(format!(
            "tcpflags = {flags}: a TCP knock is always a SYN here"
        ));
    }
    for (key, value) in &section.settings {
        if !KNOWN.contains(&key.as_str()) {
            remarks.push(format!("no counterpart: {key} = {value}"));
        }
    }
    if let Some(seconds) = section.seconds("seq_timeout") {
        draft.within = Some(draft.within.unwrap_or_default().max(seconds));
    }
    let opens = draft.door(&ports);
    let key = DraftKey {
        name: draft.key_name(name),
        opens,
        sequence,
        open_for,
        remarks,
    };
    draft.keys.push(key);
}

/// `7000,8000:udp,9000:tcp`
fn sequence(written: &str) -> Result<Vec<Knock>, KnockError> {
    let knock = |word: &str| word.trim().replace(':', "/").parse::<Knock>();
    written.split(',').map(knock).collect()
}

/// Returns whether a command removes a rule rather than adding one.
fn takes_away(command: &str) -> bool {
    let words: Vec<&str> = command.split_whitespace().collect();
    let firewall = words.iter().any(|word| {
        let program = word.rsplit('/').next().unwrap_or(word);
        ["iptables", "ip6tables", "nft", "ufw", "firewall-cmd"].contains(&program)
    });
    let removes = |word: &&str| {
        matches!(*word, "-D" | "--delete" | "delete" | "deny") || word.starts_with("--remove-")
    };
    firewall && words.iter().any(removes)
}

/// The ports that a command of a usual firewall tool opens.
fn ports(command: &str) -> Vec<Knock> {
    let words: Vec<&str> = command
        .split_whitespace()
        .map(|word| word.trim_matches(['"', '\'', ';', '{', '}']))
        .collect();
    let protocol = match words.windows(2).any(|pair| {
        matches!(pair, ["-p" | "--protocol" | "proto", "udp"]) || matches!(pair, ["udp", "dport"])
    }) {
        true => Protocol::Udp,
        false => Protocol::Tcp,
    };
    let mut ports = Vec::new();
    for (index, word) in words.iter().enumerate() {
        let value = match word.split_once('=') {
            Some(("--dport" | "--dports" | "--destination-port" | "--add-port", value)) => value,
            _ if matches!(
                *word,
                "--dport" | "--dports" | "--destination-port" | "dport" | "port" | "allow"
            ) =>
            {
                words.get(index + 1).copied().unwrap_or_default()
            }
            _ => continue,
        };
        for one in value.split(',') {
            if let Some(port) = port(one, protocol)
                && !ports.contains(&port)
            {
                ports.push(port);
            }
        }
    }
    ports
}

/// `22`, `22/tcp`, `ssh`
fn port(text: &str, protocol: Protocol) -> Option<Knock> {
    if text.contains('/') {
        return text.parse().ok();
    }
    let number = match text {
        "ssh" => 22,
        "http" => 80,
        "https" => 443,
        number => number.parse().ok()?,
    };
    Knock::new(protocol, number)
}
