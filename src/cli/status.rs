//! `toctoc status`, and plain `toctoc`

use std::fmt::Write as _;

use clap::Args;

use super::{Answer, PolicyPath, complain, count, now, policy, say};
use crate::firewall::Nft;
use crate::firewall::status::{GrantStatus, Status, observe};

#[derive(Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    policy: PolicyPath,
    /// For programs.
    #[arg(long)]
    json: bool,
}

impl Default for Arguments {
    fn default() -> Arguments {
        Arguments {
            policy: PolicyPath {
                path: "/etc/toctoc/policy.toml".into(),
            },
            json: false,
        }
    }
}

pub(super) fn run(arguments: &Arguments) -> Answer {
    let policy = match policy(&arguments.policy) {
        Ok(policy) => policy,
        Err(answer) => return answer,
    };
    let status = match observe(&Nft::default(), &policy, now()) {
        Ok(status) => status,
        Err(failure) => {
            complain(&failure.message);
            return Answer::CouldNot;
        }
    };
    if arguments.json {
        match serde_json::to_string_pretty(&status) {
            Ok(json) => say(&format!("{json}\n")),
            Err(error) => {
                complain(&error.to_string());
                return Answer::CouldNot;
            }
        }
    } else {
        say(&text(&status));
    }
    if status.matches_policy {
        Answer::Yes
    } else {
        Answer::No
    }
}

/// The status for people.
pub(super) fn text(status: &Status) -> String {
    let mut text = String::from("doors\n");
    for door in &status.doors {
        let ports = door.ports.join(" ");
        let state = match door.grants.len() {
            0 if !status.matches_policy => "no grants; see below".to_string(),
            0 => "closed to all".to_string(),
            holders => format!("open to {}", count(holders, "source")),
        };
        let _ = writeln!(text, "  {:<12} {ports:<14} {state}", door.name);
        for grant in &door.grants {
            let _ = writeln!(text, "    {}", holder(grant));
        }
    }
    if !status.progress.is_empty() {
        text.push_str("midway\n");
        for entry in &status.progress {
            let how_far = match entry.knocks {
                0 => String::new(),
                knocks => format!("  {} of {}", count(knocks, "knock"), some(&entry.keys)),
            };
            let left = entry.expires_in;
            let _ = writeln!(text, "  {:<39} {left:.0}s left{how_far}", entry.source);
        }
    }
    if !status.keys.is_empty() {
        text.push_str("keys\n");
    }
    for key in &status.keys {
        let opened = match key.opened {
            0 => "never opened".to_string(),
            1 => "opened once".to_string(),
            times => format!("opened {times} times"),
        };
        let expired = if key.expired { ", expired" } else { "" };
        let _ = writeln!(text, "  {:<12} {opened}{expired}", key.name);
    }
    if status.matches_policy {
        text.push_str("the kernel holds what the policy says\n");
    } else {
        text.push_str("the kernel differs from the policy\n");
        for drift in &status.drift {
            let _ = writeln!(text, "  {drift}");
        }
    }
    text
}

/// "192.0.2.7  41s left, by yves"
fn holder(grant: &GrantStatus) -> String {
    let by = match &grant.key {
        Some(key) => format!(", by {key}"),
        None if grant.by_hand => ", by hand".to_string(),
        None => String::new(),
    };
    let once = if grant.once {
        ", for one connection"
    } else {
        ""
    };
    format!(
        "{:<39} {:.0}s left{by}{once}",
        grant.source, grant.expires_in
    )
}

fn some(names: &[String]) -> String {
    match names {
        [one] => one.clone(),
        [one, two] => format!("{one} and {two}"),
        [one, ..] => format!("{one} and {} more", names.len() - 1),
        [] => String::new(),
    }
}
