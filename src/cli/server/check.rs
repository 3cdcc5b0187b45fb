//! `toctoc check`

use std::io::{self, Write};
use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::{
    Answer, PolicyPath, complain, could_not_read, count, host, now, own_namespace, say,
    warn_of_readers,
};
use crate::firewall::listening::surroundings;
use crate::firewall::others::{self, Others};
use crate::firewall::signed;
use crate::firewall::status::Guard;
use crate::policy::diagnostic::Style;
use crate::policy::lint::{Surroundings, about};
use crate::policy::load::{LoadError, load_and_lint};
use crate::policy::strength::{A_MILLION, Strength, time_to_guess};
use crate::policy::writers::others_can_change;
use crate::policy::{Policy, Report, and};
use crate::rehearsal::{Rehearsed, Stopped, rehearse};

#[derive(Args)]
pub(in crate::cli) struct Arguments {
    #[command(flatten)]
    policy: PolicyPath,
    /// Say no to warnings too.
    #[arg(long)]
    strict: bool,
    /// The policy is for another host: do not look at what listens on this one.
    #[arg(long)]
    elsewhere: bool,
    /// Try every key at every door, on two hosts in namespaces that exist only for it.
    #[arg(long)]
    rehearse: bool,
    /// Already inside a user namespace of our own.
    #[arg(long, hide = true)]
    entered: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// The packets per second that a guesser may send.
const RATES: [u64; 3] = [1, 1000, A_MILLION];

/// Longer than anybody tries.
const CENTURIES: Duration = Duration::from_secs(1000 * 365 * 24 * 3600);

pub(super) fn run(arguments: &Arguments) -> Answer {
    if arguments.rehearse && !arguments.entered && !own_namespace::is_root() {
        return own_namespace::enter();
    }
    let path = &arguments.policy;
    let others = (!arguments.elsewhere).then(Others::read);
    let around = match &others {
        None => Surroundings {
            now: now(),
            ..Surroundings::default()
        },
        Some(others) => surroundings(now(), others),
    };
    let (policy, warnings) = match load_and_lint(&path.path, &host(path, None), &around) {
        Ok(found) => found,
        Err(LoadError::Wrong(report)) if arguments.json => {
            let errors = listed(&report);
            say(&format!(
                "{:#}\n",
                json!({ "errors": errors, "warnings": [] })
            ));
            return Answer::No;
        }
        Err(error) => return could_not_read(error),
    };
    let guard = others
        .as_ref()
        .map(|_| Guard::of(&policy))
        .unwrap_or_default();
    let mut told = others
        .as_ref()
        .map(|others| others::about(&policy, others))
        .unwrap_or_default();
    if others.is_some() && policy.has_signed() {
        told.extend(signed::conflicts(&policy));
    }
    // For another host, it is not applied from here.
    let refused = others.as_ref().and_then(|_| others_can_change(&path.path));
    let refused = refused.or_else(|| others.as_ref().and_then(|_| no_program(&policy)));
    let denied = arguments.strict && !warnings.diagnostics().is_empty();
    let rehearsed = match arguments
        .rehearse
        .then(|| rehearse(&policy, now()))
        .transpose()
    {
        Ok(rehearsed) => rehearsed,
        Err(stopped) => {
            complain(&not_rehearsed(&stopped));
            return match stopped {
                Stopped::Lab(_) => Answer::CouldNot,
                Stopped::Refused(_) => Answer::No,
            };
        }
    };
    if arguments.json {
        let warnings = listed(&warnings);
        let strength = strengths(&policy);
        say(&format!(
            "{:#}\n",
            json!({
                "errors": [],
                "warnings": warnings,
                "keys": strength,
                "rehearsal": rehearsed,
                "refused": refused,
                "gaps": guard.gaps,
                "host": guard.notes.iter().chain(&told).collect::<Vec<_>>(),
            })
        ));
    } else {
        if !warnings.diagnostics().is_empty() {
            let shown = warnings.render(Style::Coloured);
            let _ = writeln!(anstream::stderr(), "{shown}");
        }
        let verdict = match refused {
            Some(_) => "no errors in it, and refused all the same",
            None => "no errors",
        };
        say(&summary(path, &policy, verdict));
        if let Some(rehearsed) = &rehearsed {
            tell(rehearsed);
        }
    }
    warn_of_readers(&path.path, &policy);
    if !arguments.json {
        for gap in &guard.gaps {
            complain(&format!("STRANGERS ENTER: {gap}"));
        }
        for note in guard.notes.iter().chain(&told) {
            complain(note);
        }
        if others.is_some_and(|others| others.is_unread) {
            complain(
                "rules of others could not be read: whether they drop what comes to a door is not known",
            );
        }
    }
    match denied
        || refused.is_some()
        || !guard.gaps.is_empty()
        || rehearsed.is_some_and(|rehearsed| !rehearsed.wrong.is_empty())
    {
        true => Answer::No,
        false => Answer::Yes,
    }
}

/// Why this kernel cannot have the policy's signed keys, if so. Only root can ask it.
fn no_program(policy: &Policy) -> Option<String> {
    match own_namespace::is_root() {
        true => signed::probe(policy).err(),
        false => None,
    }
}

pub(super) fn tell(rehearsed: &Rehearsed) {
    for what in &rehearsed.left_out {
        say(&format!("not rehearsed: {what}\n"));
    }
    for what in &rehearsed.wrong {
        complain(&format!("rehearsal: {what}"));
    }
    if rehearsed.wrong.is_empty() {
        let whose = if rehearsed.keys == 1 { "its" } else { "their" };
        say(&format!(
            "rehearsed: all doors are shut; {} opened exactly {whose} doors, {}\n",
            count(rehearsed.keys, "key"),
            count(rehearsed.opened, "time")
        ));
    }
}

pub(super) fn not_rehearsed(stopped: &Stopped) -> String {
    match stopped {
        Stopped::Lab(error) => {
            let hint = match error.kind() {
                io::ErrorKind::NotFound => " (needs iproute2, nftables and util-linux)",
                io::ErrorKind::PermissionDenied => "; as root it works",
                _ => "",
            };
            format!("it could not be rehearsed: {error}{hint}")
        }
        Stopped::Refused(failure) => format!(
            "the kernel of this host does not take the policy: {}",
            failure.message
        ),
    }
}

fn summary(path: &PolicyPath, policy: &Policy, verdict: &str) -> String {
    let mut text = format!(
        "{}: {}, {}, {verdict}\n",
        path.path.display(),
        count(policy.doors.len(), "door"),
        count(policy.keys.len(), "key")
    );
    // Of thousands nobody reads each.
    let by_name = policy
        .doors
        .iter()
        .filter(|door| !door.trusted_names.is_empty());
    for door in by_name.take(30) {
        text.push_str(&format!(
            "  {:<12} trusts {}\n",
            door.name,
            and(&door.trusted())
        ));
    }
    for key in policy.keys.iter().take(30) {
        let words = in_words(Strength::of_key(key, policy));
        text.push_str(&format!("  {:<12} {words}\n", key.name));
    }
    text
}

/// A sentence on guessing a key.
fn in_words(strength: Strength) -> String {
    if strength == Strength(0.0) {
        return "everybody can read its sequence".to_string();
    }
    let [_, slow, fast] = RATES.map(|rate| time_to_guess(strength, rate));
    match fast > CENTURIES {
        true => format!(
            "nobody guesses it: a million packets a second take {} ({strength})",
            about(fast)
        ),
        false => format!(
            "guessing it takes {} at 1,000 packets a second, {} at a million ({strength})",
            about(slow),
            about(fast)
        ),
    }
}

fn strengths(policy: &Policy) -> Vec<serde_json::Value> {
    let keys = policy.keys.iter().map(|key| {
        let strength = Strength::of_key(key, policy);
        let seconds = RATES.map(|rate| time_to_guess(strength, rate).as_secs());
        json!({
            "name": key.name.as_str(),
            "bits": strength.0,
            "seconds_to_guess": { "1": seconds[0], "1000": seconds[1], "1000000": seconds[2] },
        })
    });
    keys.collect()
}

fn listed(report: &Report) -> Vec<serde_json::Value> {
    let all = report.diagnostics().iter().map(|found| {
        let (line, column) = report.place(found);
        json!({
            "name": found.warning.map(|rule| rule.name),
            "message": found.message,
            "line": line,
            "column": column,
            "reason": found.warning.map(|rule| rule.reason),
            "help": found.help,
        })
    });
    all.collect()
}
