//! `toctoc log`

use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use clap::Args;

use super::{Answer, PolicyPath, complain, heard, policy};
use crate::log::{Opening, Source, in_file};
use crate::policy::Log;

#[derive(Args)]
pub(in crate::cli) struct Arguments {
    #[command(flatten)]
    policy: PolicyPath,
    /// Go on, and say what comes.
    #[arg(long, short)]
    follow: bool,
    /// Read a file that syslog has written, or what `journalctl -k -o short-iso` prints (`-`: standard
    /// input), for older entries than the kernel still has.
    #[arg(long, value_name = "FILE", conflicts_with = "follow")]
    file: Option<PathBuf>,
    /// A line of JSON for each.
    #[arg(long)]
    json: bool,
}

/// How often it is looked for what comes.
const GLANCE: Duration = Duration::from_millis(100);

pub(super) fn run(arguments: &Arguments) -> Answer {
    let mut any = false;
    let mut tell = |opening: &Opening| {
        any = true;
        heard(&line(opening, arguments.json))
    };
    if let Some(path) = &arguments.file {
        let read = in_file(path, |opening| tell(&opening));
        if let Err(error) = read {
            complain(&format!("{} cannot be read: {error}", path.display()));
            return Answer::CouldNot;
        }
        return told(any, "no opening is in there");
    }
    let policy = match policy(&arguments.policy) {
        Ok(policy) => policy,
        Err(answer) => return answer,
    };
    let mut source = match Source::of(policy.log) {
        Ok(Some(source)) => source,
        Ok(None) => {
            complain("the policy says `log = \"off\"`: nobody notes who opens what");
            return Answer::No;
        }
        Err(error) => {
            complain(&deaf(policy.log, &error));
            return Answer::CouldNot;
        }
    };
    let follow = arguments.follow || matches!(policy.log, Log::Nflog(_));
    if let Log::Nflog(group) = policy.log {
        complain(&format!(
            "listening to NFLOG group {group}: it has no past, so this is what comes from now on"
        ));
    }
    loop {
        match source.hear() {
            Ok(Some(opening)) if tell(&opening) => {}
            Ok(Some(_)) => return Answer::Yes,
            Ok(None) if follow => thread::sleep(GLANCE),
            Ok(None) => return told(any, "no opening is in the kernel's log"),
            Err(error) => {
                complain(&deaf(policy.log, &error));
                return Answer::CouldNot;
            }
        }
    }
}

fn told(any: bool, nothing: &str) -> Answer {
    if !any {
        complain(nothing);
    }
    Answer::Yes
}

/// Why nothing is heard.
pub(super) fn deaf(log: Log, error: &std::io::Error) -> String {
    let denied = error.kind() == std::io::ErrorKind::PermissionDenied;
    let (what, hint) = match log {
        Log::Nflog(group) => (
            format!("NFLOG group {group}"),
            " (for root, and one program at a time can listen to a group: is there another?)",
        ),
        _ => ("the kernel's log".to_string(), " (for root)"),
    };
    let hint = if denied { hint } else { "" };
    format!("{what} cannot be heard: {error}{hint}")
}

/// "2026-07-06 14:02:00 UTC  192.0.2.7  ssh  by yves"
fn line(opening: &Opening, json: bool) -> String {
    if json {
        return serde_json::to_string(opening).unwrap_or_default() + "\n";
    }
    let at = opening.at.map_or_else(
        || "at some time          ".to_string(),
        |at| at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
    );
    format!(
        "{at}  {:<39}  {:<12}  by {}\n",
        opening.source, opening.door, opening.key
    )
}
