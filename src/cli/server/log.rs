//! `toctoc log`

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use jiff::Timestamp;
use serde::Serialize;

use super::{
    Answer, PolicyAlone, PolicyPath, applied_policy, complain, could_not_read, heard, host,
    own_namespace, policy,
};
use crate::firewall::Firewall;
use crate::log::{Claim, Doubt, Group, Opening, Proof, Ring, Rules, Writers, in_file};
use crate::policy::load::{LoadError, load};
use crate::policy::{Log, Policy};

#[derive(Args)]
pub(in crate::cli) struct Arguments {
    #[command(flatten)]
    policy: PolicyAlone,
    /// Go on, and say what comes. An NFLOG group has no past: of it, only this can be told.
    #[arg(long, short)]
    follow: bool,
    /// Read what `journalctl --dmesg --output=short-iso` prints (`-`: standard input), for older entries than the
    /// kernel still has; or a `kern.log`, which does not prove that the kernel wrote it. Other files prove nothing.
    #[arg(long, value_name = "FILE", conflicts_with = "follow")]
    file: Option<PathBuf>,
    /// A line of JSON for each.
    #[arg(long)]
    json: bool,
}

/// The time between two looks for what comes.
const GLANCE: Duration = Duration::from_millis(100);

pub(super) fn run(arguments: &Arguments) -> Answer {
    match &arguments.file {
        Some(path) => of_file(arguments, path),
        None => of_kernel(arguments),
    }
}

/// Prints the openings that a file tells.
fn of_file(arguments: &Arguments, path: &Path) -> Answer {
    let named = arguments.policy.as_written();
    let rules = match load(&named.path, &host(&named, None)) {
        Ok(policy) => rules_of(&named, &policy),
        Err(LoadError::Unreadable(why)) => {
            complain(&format!(
                "{why}: the names of doors and keys are not checked"
            ));
            Rules::of_any_policy()
        }
        Err(error) => return could_not_read(error),
    };
    let (mut any, mut unproven) = (false, false);
    let read = in_file(path, &rules, |opening, proof| {
        any = true;
        unproven |= proof == Proof::Missing;
        heard(&line(&opening, proof, arguments.json))
    });
    let shown = match path == Path::new("-") {
        true => "standard input".to_string(),
        false => path.display().to_string(),
    };
    let doubts = match read {
        Ok(doubts) => doubts,
        Err(error) => {
            complain(&format!("{shown} cannot be read: {error}"));
            return Answer::CouldNot;
        }
    };
    for words in doubts.words() {
        complain(&format!("{shown}: {words}"));
    }
    if !any && doubts.count(Doubt::Form) > 0 && path == Path::new("-") {
        complain("standard input has to be what `journalctl --dmesg --output=short-iso` prints");
    }
    if unproven {
        complain(&format!(
            "{shown}: users can get lines into it (rsyslog believes who says that he is the kernel); \
             `journalctl --dmesg --output=short-iso | toctoc log --file -` reads what the kernel said"
        ));
    }
    if !any {
        complain("no opening is in there");
    }
    Answer::Yes
}

/// Prints the openings that the kernel tells now.
fn of_kernel(arguments: &Arguments) -> Answer {
    let named = arguments.policy.as_written();
    let policy = match policy(&named) {
        Ok(policy) => policy,
        Err(answer) => return answer,
    };
    if let (Log::Nflog(group), false) = (policy.log, arguments.follow) {
        complain(&format!(
            "NFLOG group {group} has no past: `toctoc log --follow` shows what comes from now on"
        ));
        return Answer::CouldNot;
    }
    let mut source = match source(policy.log) {
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
    let mut names = Names::new(&named, &policy);
    let (writers, proof) = match (policy.log, Writers::look()) {
        (Log::Nflog(group), _) => {
            complain(&format!(
                "listening to NFLOG group {group}: this is what comes from now on"
            ));
            (Writers::Own, Proof::Kernel)
        }
        (_, Writers::Own) => (Writers::Own, Proof::Kernel),
        (_, others) => (others, Proof::Missing),
    };
    let (mut any, mut others) = (false, 0_u64);
    let answer = loop {
        match source() {
            Ok(Some(claim)) => match names.opening(&claim) {
                Some(opening) => {
                    any = true;
                    if !heard(&line(&opening, proof, arguments.json)) {
                        break Answer::Yes;
                    }
                }
                None if claim.prefix.starts_with("toctoc: ") => others += 1,
                None => {}
            },
            Ok(None) if arguments.follow => thread::sleep(GLANCE),
            Ok(None) => break Answer::Yes,
            Err(error) => {
                complain(&deaf(policy.log, &error));
                return Answer::CouldNot;
            }
        }
    };
    if others > 0 {
        complain(&format!(
            "not believed, since no key of the policy opens such a door: {others} (`dmesg` has them)"
        ));
    }
    if any && proof == Proof::Missing {
        complain(
            "net.netfilter.nf_log_all_netns is set: rules of every network namespace write to the kernel's log, \
             so this does not prove that a door of this host opened",
        );
    }
    if !any {
        complain(match writers {
            Writers::NotOwn => {
                "no opening is in the kernel's log: it is silent in a network namespace like this one, unless the \
                 host sets net.netfilter.nf_log_all_netns=1 (better: `log = \"nflog:5\"` in the policy)"
            }
            Writers::Own | Writers::All => "no opening is in the kernel's log",
        });
    }
    answer
}

/// Gives the next line that is there already.
type Source = Box<dyn FnMut() -> std::io::Result<Option<Claim>>>;

fn source(log: Log) -> std::io::Result<Option<Source>> {
    Ok(match log {
        Log::Kernel => {
            let mut ring = Ring::open()?;
            Some(Box::new(move || ring.hear()))
        }
        Log::Nflog(group) => {
            let mut group = Group::listen(group)?;
            Some(Box::new(move || group.hear(Timestamp::now())))
        }
        Log::Off => None,
    })
}

/// The doors and keys that are known, of the policy in the file and of the one that runs. They are read again when
/// a name is not among them: the policy may have changed since.
pub(super) struct Names<'a> {
    path: &'a PolicyPath,
    rules: Rules,
    read: Instant,
}

/// The least time before they are read again.
const AGAIN: Duration = Duration::from_secs(1);

impl Names<'_> {
    pub(super) fn new<'a>(path: &'a PolicyPath, policy: &Policy) -> Names<'a> {
        Names {
            path,
            rules: rules_of(path, policy),
            read: Instant::now(),
        }
    }

    /// The opening of a door of this host that a line tells of.
    pub(super) fn opening(&mut self, claim: &Claim) -> Option<Opening> {
        let found = self.rules.opening(claim);
        let is_ours = claim.prefix.starts_with("toctoc: ");
        if found.is_some() || !is_ours || self.read.elapsed() < AGAIN {
            return found;
        }
        self.read = Instant::now();
        let policy = load(&self.path.path, &host(self.path, None)).ok()?;
        self.rules = rules_of(self.path, &policy);
        self.rules.opening(claim)
    }
}

/// Of the policy in the file, and of the one that runs.
fn rules_of(path: &PolicyPath, policy: &Policy) -> Rules {
    let record = Firewall::default().record().unwrap_or_default();
    let applied = applied_policy(&record, path);
    Rules::of(applied.iter().chain([policy]))
}

/// Why nothing is heard.
pub(super) fn deaf(log: Log, error: &std::io::Error) -> String {
    let denied = error.kind() == std::io::ErrorKind::PermissionDenied;
    let (what, hint) = match log {
        Log::Nflog(group) => (
            format!("NFLOG group {group}"),
            "probably another program listens to it, and one at a time can: ",
        ),
        _ => ("the kernel's log".to_string(), ""),
    };
    if denied && !own_namespace::is_root() {
        return format!("only root can hear {what} (try with sudo)");
    }
    let hint = if denied { hint } else { "" };
    format!("{what} cannot be heard: {hint}{error}")
}

#[derive(Serialize)]
struct Line<'o> {
    #[serde(flatten)]
    opening: &'o Opening,
    /// `true` if it is certain that the kernel said so.
    proven: bool,
}

/// "2026-07-06 14:02:00 UTC  192.0.2.7  ssh  by yves"
fn line(opening: &Opening, proof: Proof, json: bool) -> String {
    let proven = proof == Proof::Kernel;
    if json {
        let line = Line { opening, proven };
        return serde_json::to_string(&line).unwrap_or_default() + "\n";
    }
    let at = opening.at.map_or_else(
        || "at some time          ".to_string(),
        |at| at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
    );
    let doubt = if proven { "" } else { ", unproven" };
    format!(
        "{at}  {:<39}  {:<12}  by {}{doubt}\n",
        opening.source, opening.door, opening.key
    )
}
