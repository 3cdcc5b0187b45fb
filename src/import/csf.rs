//! csf's `PORTKNOCKING = "openport;protocol;timeout;kport1;kport2;kport3[;...],..."`.

use super::draft::{Draft, DraftKey, DraftWay};
use super::place::Opened;
use super::ports::PortList;
use crate::knock::{Knock, PortRange, Protocol};

pub(super) fn read(text: &str) -> Draft {
    let mut draft = Draft {
        source: "csf's PORTKNOCKING",
        ..Draft::default()
    };
    for line in text.lines().map(str::trim) {
        let Some((name, value)) = line.split_once('=') else {
            continue;
        };
        let value = value.trim();
        let value = value.strip_prefix('"').map_or(value, |value| {
            value.split_once('"').map_or(value, |(inside, _)| inside)
        });
        match name.trim() {
            "PORTKNOCKING" if value.trim().is_empty() => {
                draft.leave_out("PORTKNOCKING", "it is empty: csf opens nothing by knocks");
            }
            "PORTKNOCKING" => entries(value, &mut draft),
            "PORTKNOCKING_LOG" => {
                draft.no_counterpart("PORTKNOCKING_LOG: openings are logged by the kernel (`log`)");
            }
            "PORTKNOCKING_ALERT" if value != "0" => {
                draft.no_counterpart(
                    "PORTKNOCKING_ALERT: `toctoc watch --exec PROGRAM` tells of openings",
                );
            }
            _ => {}
        }
    }
    draft
        .remarks
        .push("Its other settings (TCP_IN and so on) stay as they are.".to_string());
    draft
}

fn entries(value: &str, draft: &mut Draft) {
    for entry in value.split(',').map(str::trim).filter(|e| !e.is_empty()) {
        match key(entry) {
            Ok((key, seconds)) => {
                draft.widen(seconds);
                draft.add(key);
            }
            Err(reason) => draft.leave_out(entry, reason),
        }
    }
}

fn key(entry: &str) -> Result<(DraftKey, Option<u64>), String> {
    let parts: Vec<&str> = entry.split(';').map(str::trim).collect();
    let [port, protocol, timeout, ref knocks @ ..] = parts[..] else {
        return Err("it is not of the form `22;TCP;20;100;200;300`".to_string());
    };
    let protocol = match protocol.to_ascii_lowercase().as_str() {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        _ => return Err(format!("`{protocol}` is neither tcp nor udp")),
    };
    let opens: Vec<PortRange> = PortList::of(port).ranges(&[protocol])?;
    let seconds: Option<u64> = timeout.parse().ok().filter(|&seconds| seconds > 0);
    if seconds.is_none() {
        return Err(format!("`{timeout}` is no time in seconds"));
    }
    if knocks.len() < 3 {
        return Err("csf asks for three knocks at least".to_string());
    }
    let knock = |port: &&str| {
        let knock = Knock::spelled(port).map_err(|error| error.to_string())?;
        Ok(Knock { protocol, ..knock })
    };
    let sequence: Result<Vec<Knock>, String> = knocks.iter().map(knock).collect();
    let key = DraftKey {
        called: format!("csf-{port}"),
        everything: false,
        opens: opens.into_iter().map(Opened::here).collect(),
        way: DraftWay::Sequence(sequence?),
        open_for: seconds,
        remarks: vec![entry.to_string()],
    };
    Ok((key, seconds))
}
