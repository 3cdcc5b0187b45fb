//! knockd's configuration (knockd(1)): sections with a sequence and commands.
//!
//! A section becomes a key; the ports that its commands open for the source become doors. A section whose
//! commands take a rule away has no counterpart: grants end by themselves.

use super::commands::{self, Opening};
use super::draft::{Draft, DraftKey, DraftWay};
use crate::knock::{Knock, KnockError, PortRange};
use crate::policy::is_interface_name;

/// A section as written.
#[derive(Debug, Default)]
pub(super) struct Section {
    pub name: String,
    /// Names in small letters.
    pub settings: Vec<(String, String)>,
}

impl Section {
    /// The value of a setting; of several, knockd takes the last.
    fn get(&self, name: &str) -> Option<&str> {
        let mut found = self.settings.iter().filter(|(key, _)| key == name);
        found.next_back().map(|(_, value)| value.as_str())
    }

    fn seconds(&self, name: &str) -> Option<u64> {
        self.get(name)?.parse().ok().filter(|&seconds| seconds > 0)
    }

    fn label(&self) -> String {
        format!("[{}]", self.name)
    }
}

/// The words by which knockd writes the source in a command.
const KNOCKER: [&str; 1] = ["%IP%"];

pub(super) fn read(text: &str) -> Draft {
    from_sections(sections(text), "a knockd configuration")
}

pub(super) fn from_sections(sections: Vec<Section>, source: &'static str) -> Draft {
    let mut draft = Draft {
        source,
        ..Draft::default()
    };
    for section in sections {
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

fn sections(text: &str) -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    for line in text.lines().map(str::trim) {
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            sections.push(Section {
                name: name.trim().to_string(),
                ..Section::default()
            });
        } else if let Some(section) = sections.last_mut() {
            let (key, value) = line.split_once('=').unwrap_or((line, ""));
            let key = key.trim().to_lowercase();
            section.settings.push((key, value.trim().to_string()));
        }
    }
    sections
}

fn real_name(interface: &str) -> &str {
    interface
        .split_once(':')
        .map_or(interface, |(name, _)| name)
}

fn options(draft: &mut Draft, section: &Section) {
    for (key, value) in &section.settings {
        match key.as_str() {
            // `eth0:0` is a label of an address of eth0.
            "interface" if draft.interfaces.iter().any(|name| name == real_name(value)) => {}
            "interface" if is_interface_name(real_name(value)) => {
                draft.interfaces.push(real_name(value).to_string());
            }
            "usesyslog" => {
                draft.no_counterpart("UseSyslog: openings are logged by the kernel (`log`)")
            }
            "logfile" => draft.no_counterpart(format!(
                "LogFile {value}: openings are logged by the kernel (`log`)"
            )),
            "pidfile" => draft.no_counterpart("PidFile: there is no process"),
            _ => draft.no_counterpart(format!("option {key} = {value}")),
        }
    }
}

/// Settings that have been read, or mean nothing without a daemon.
const KNOWN: [&str; 11] = [
    "sequence",
    "seq_timeout",
    "tcpflags",
    "command",
    "command_6",
    "start_command",
    "start_command_6",
    "cmd_timeout",
    "stop_command",
    "stop_command_6",
    "enabled",
];

fn door_knock(draft: &mut Draft, section: &Section) {
    match key(section) {
        Ok(key) => {
            if let Some(seconds) = section.seconds("seq_timeout") {
                draft.widen(Some(seconds));
            }
            draft.add(key);
        }
        Err(reason) => draft.leave_out(section.label(), reason),
    }
}

/// The key of a section, or the reason why there is none.
fn key(section: &Section) -> Result<DraftKey, String> {
    if matches!(section.get("enabled"), Some("0" | "no" | "off" | "false")) {
        return Err("it is not enabled".to_string());
    }
    let mut remarks = vec![section.label()];
    if let Some(file) = section.get("one_time_sequences") {
        let ports = opening(section, &mut remarks)?.opens;
        let ports: Vec<String> = ports.iter().map(ToString::to_string).collect();
        return Err(format!(
            "its sequences open once each ({file}): `toctoc key new NAME --scratch 20` makes such a key; \
             it opened {}",
            ports.join(", ")
        ));
    }
    let written = section.get("sequence").ok_or("it has no sequence")?;
    let sequence = sequence(written).map_err(|error| error.to_string())?;
    let opening = opening(section, &mut remarks)?;
    remarks.extend(opening.remarks);
    remarks.extend(
        opening
            .reasons
            .iter()
            .map(|reason| format!("left out: {reason}")),
    );
    let others = opening.others.iter();
    remarks.extend(others.map(|command| format!("no counterpart: the command `{command}`")));
    let open_for = section.seconds("cmd_timeout").or(opening.open_for);
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
    for name in ["stop_command", "stop_command_6"] {
        let Some(command) = section.get(name) else {
            continue;
        };
        let stop = commands::read(command, &KNOCKER);
        if !(!stop.everything
            && stop.opens.is_empty()
            && stop.beside.masquerades.is_empty()
            && stop.reasons.is_empty()
            && stop.others.is_empty())
        {
            remarks.push(format!("no counterpart: {name} = {command}"));
        }
    }
    Ok(DraftKey {
        called: section.name.clone(),
        everything: opening.everything,
        opens: opening.opens,
        way: DraftWay::Sequence(sequence),
        open_for,
        remarks,
    })
}

/// The ports that the commands of a section open, those for IPv6 too.
fn opening(section: &Section, remarks: &mut Vec<String>) -> Result<Opening, String> {
    let command = section.get("start_command").or(section.get("command"));
    let command = command.filter(|command| !command.is_empty());
    let six = section.get("start_command_6").or(section.get("command_6"));
    if command.is_none() && six.is_none_or(str::is_empty) {
        return Err("it has no command".to_string());
    }
    let mut opening = commands::read(command.unwrap_or_default(), &KNOCKER);
    match six {
        Some("") => {
            remarks.push("knockd opened nothing for IPv6; here it is opened too".to_string())
        }
        Some(six) => {
            let six = commands::read(six, &KNOCKER);
            if command.is_none() {
                remarks.push("knockd opened for IPv6 alone; here for IPv4 too".to_string());
            } else if (six.everything, ports(&six)) != (opening.everything, ports(&opening)) {
                remarks
                    .push("knockd opened other ports for IPv6; here both are opened".to_string());
            }
            add_new(&mut opening.opens, six.opens);
            opening.beside.masquerades.extend(six.beside.masquerades);
            add_new(&mut opening.remarks, six.remarks);
            add_new(&mut opening.reasons, six.reasons);
            add_new(&mut opening.others, six.others);
            opening.closings += six.closings;
            opening.everything |= six.everything;
        }
        None => {}
    }
    opening.join();
    if opening.everything || !opening.opens.is_empty() {
        return Ok(opening);
    }
    if opening.closings > 0 && opening.reasons.is_empty() && opening.others.is_empty() {
        return Err(
            "it closes a door; grants end by themselves (by hand: `toctoc close`)".to_string(),
        );
    }
    let others = opening.others.iter();
    let others = others.map(|command| format!("no port can be read from the command `{command}`"));
    let reasons = opening.reasons.iter().cloned().chain(others);
    let reasons: Vec<String> = reasons.chain(opening.remarks).collect();
    match reasons.is_empty() {
        true => Err("its command opens nothing".to_string()),
        false => Err(reasons.join("; ")),
    }
}

/// The ports that commands open, at whatever host.
fn ports(opening: &Opening) -> Vec<PortRange> {
    opening.opens.iter().map(|opened| opened.ports).collect()
}

fn add_new<T: PartialEq>(all: &mut Vec<T>, more: Vec<T>) {
    for one in more {
        if !all.contains(&one) {
            all.push(one);
        }
    }
}

/// `7000,8000:udp,9000:TCP`
fn sequence(written: &str) -> Result<Vec<Knock>, KnockError> {
    written.split(',').map(Knock::spelled).collect()
}
