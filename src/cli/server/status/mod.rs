//! `toctoc status`, and plain `toctoc`

mod about;
mod text;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use clap::Args;

use super::{Answer, POLICY, PolicyPath, applied_policy, complain, could_not_read, host, now, say};
use crate::firewall::Firewall;
use crate::firewall::absence::Absence;
use crate::firewall::heal::is_unnoted;
use crate::firewall::noted::{Noted, OtherFile};
use crate::firewall::others::about_this_host;
use crate::firewall::record::{Moment, Record};
use crate::firewall::status::{FleetStatus, Status, observe};
use crate::firewall::unit::is_enabled;
use crate::fleet_report::Report;
use crate::policy::load::{LoadError, load_text, read_text};
use crate::policy::writers::others_can_change;
use crate::policy::{Backend, Policy};

use about::about_the_file;
pub(super) use text::{Words, everything_else, text};

#[derive(Args, Default)]
pub(in crate::cli) struct Arguments {
    /// The policy file to judge by [default: the policy that runs, or else /etc/toctoc/policy.toml].
    #[arg(value_name = "POLICY")]
    path: Option<PathBuf>,
    /// `nftables` or `iptables`, instead of what the policy says.
    #[arg(long, value_name = "BACKEND", value_parser = super::backend)]
    backend: Option<Backend>,
    /// Name the chains, sets and elements that differ, too.
    #[arg(short, long, conflicts_with = "json")]
    verbose: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> Answer {
    let firewall = Firewall::default();
    let (policy, noted) = match judged(&firewall, arguments) {
        Ok(judged) => judged,
        Err(answer) => return answer,
    };
    let mut status = match observe(&firewall, &policy, now()) {
        Ok(status) => status,
        Err(failure) => {
            complain(&failure.message);
            let noted = about_the_file(&noted);
            if !noted.is_empty() {
                complain(noted.trim_end());
            }
            return Answer::CouldNot;
        }
    };
    status.matches_policy &= !noted.file_changed && noted.file_unusable.is_none();
    status.noted = noted;
    if !status.drift.is_empty() && status.doors.iter().all(|door| door.guarded_by.is_none()) {
        status.noted.absence = Some(Absence::read(&firewall).words().to_string());
    }
    status.warnings.extend(about_this_host(&policy));
    status.fleet = policy.fleet.is_some().then(|| fleet_of(&mut status));
    if arguments.json {
        match serde_json::to_string_pretty(&status) {
            Ok(json) => say(&format!("{json}\n")),
            Err(error) => {
                complain(&error.to_string());
                return Answer::CouldNot;
            }
        }
    } else {
        let words = match arguments.verbose {
            true => Words::OfTheKernel,
            false => Words::OfThePolicy,
        };
        say(&text(&status, words));
    }
    let alone = |fleet: &FleetStatus| !fleet.takes_part();
    if status.matches_policy
        && status.gaps.is_empty()
        && !status.noted.is_stuck()
        && !status.noted.unnoted
        && !status.tokens_low()
        && !status.fleet.as_ref().is_some_and(alone)
    {
        Answer::Yes
    } else {
        Answer::No
    }
}

/// Reads what the agent says, and notes the givers of grants.
fn fleet_of(status: &mut Status) -> FleetStatus {
    let Some(told) = Report::read() else {
        return FleetStatus {
            running: false,
            age: None,
            report: None,
        };
    };
    let grants = told.report.grants.iter();
    let by_place: HashMap<_, _> = grants
        .map(|grant| ((grant.door.as_str(), grant.source.as_str()), grant))
        .collect();
    for door in &mut status.doors {
        for grant in door.grants.iter_mut().filter(|grant| grant.elsewhere) {
            if let Some(told) = by_place.get(&(door.name.as_str(), grant.source.as_str())) {
                grant.host.clone_from(&told.host);
                grant.key.clone_from(&told.key);
            }
        }
    }
    FleetStatus {
        running: told.runs,
        age: Some(told.age),
        report: Some(told.report),
    }
}

/// The policy that the kernel is judged by: what was applied, should the file say something else by now, or be
/// another one than the administrator asks about.
fn judged(firewall: &Firewall, arguments: &Arguments) -> Result<(Policy, Noted), Answer> {
    let record = firewall.record();
    let is_root = rustix::process::geteuid().is_root();
    let unknown = record.is_err();
    let mut record = record.unwrap_or_else(|why| {
        if is_root {
            complain(&why);
        }
        Record::default()
    });
    let unnoted = is_unnoted(&record);
    if unnoted {
        record.running = None;
    }
    let (running, path) = asked(&record, arguments);
    let unreadable = |error: &LoadError| matches!(error, LoadError::Unreadable(_));
    if !is_root && (unknown || read_text(&path.path).is_err_and(|error| unreadable(&error))) {
        complain(
            "status needs root: nobody else may read the policy and the firewall (try with sudo)",
        );
        return Err(Answer::CouldNot);
    }
    let applied = || applied_policy(&record, &path);
    let text = match (read_text(&path.path), applied()) {
        (Ok(text), _) => text,
        (Err(error), None) => return Err(could_not_read(error)),
        (Err(error), Some(applied)) => {
            let text = record.running.as_ref().map(|origin| origin.text.clone());
            let noted = Noted::of(
                &record,
                &Moment::now(),
                &path.path,
                &text.unwrap_or_default(),
            );
            let file_unusable = Some(error.to_string());
            return Ok((
                applied,
                Noted {
                    file_unusable,
                    running,
                    ..noted
                },
            ));
        }
    };
    let noted = Noted {
        running,
        unnoted,
        ..Noted::of(&record, &Moment::now(), &path.path, &text)
    };
    let file = load_text(
        &path.path,
        &text,
        &host(&path, firewall.running_backend().ok().flatten()),
    );
    match (file, applied()) {
        (Err(_), Some(applied)) => {
            let file_unusable = Some(format!("{} has errors", path.path.display()));
            Ok((
                applied,
                Noted {
                    file_unusable,
                    ..noted
                },
            ))
        }
        (_, Some(applied)) if noted.file_changed => Ok((applied, noted)),
        (file, applied) => {
            // The next start refuses what an apply refuses.
            let refused = applied.and_then(|_| others_can_change(&path.path));
            let noted = Noted {
                file_changed: false,
                file_unusable: refused,
                ..noted
            };
            file.map(|policy| (policy, noted)).map_err(could_not_read)
        }
    }
}

/// Which file is meant; and, if none was named and another runs than is applied at boot, that.
fn asked(record: &Record, arguments: &Arguments) -> (Option<OtherFile>, PolicyPath) {
    let backend = arguments.backend;
    let of = |path: PathBuf| PolicyPath { path, backend };
    if let Some(path) = &arguments.path {
        return (None, of(path.clone()));
    }
    let same = |name: &str| backend.is_none_or(|backend| backend.name() == name);
    let elsewhere = record
        .running
        .as_ref()
        .filter(|origin| !origin.is_at(Path::new(POLICY)) && same(&origin.backend));
    let running = elsewhere.map(|origin| OtherFile {
        path: origin.path.display().to_string(),
        at_boot: POLICY.to_string(),
        at_boot_exists: Path::new(POLICY).exists(),
        enabled: is_enabled(),
    });
    let path = elsewhere.map_or_else(|| POLICY.into(), |origin| origin.path.clone());
    (running, of(path))
}
