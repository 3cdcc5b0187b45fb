//! `toctoc init`: the first door of a host. All questions come before the first file.

mod questions;
mod words;

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::time::Duration;

use clap::Args;

use super::apply::trial_time;
use super::check::{not_rehearsed, tell};
use super::key::{length, name, tokens_open_at_once};
use super::trial::begin;
use super::{
    Answer, PolicyPath, complain, could_not_read, host, now, own_namespace, policy_and_origin, say,
};
use crate::cli::knock::knock;
use crate::enrol::{EnrolError, Kind};
use crate::firewall::caller::connection;
use crate::firewall::listening::{services, surroundings};
use crate::firewall::others::Others;
use crate::firewall::{Firewall, Iptables, Left};
use crate::first::{Files, First, write};
use crate::knock::Knock;
use crate::policy::diagnostic::Style;
use crate::policy::load::load_and_lint;
use crate::policy::{Backend, Name, Policy};
use crate::rehearsal::{Stopped, rehearse};

#[derive(Args)]
#[command(mut_arg("backend", |arg| arg.help("`nftables` or `iptables` [default: nftables]")))]
pub(in crate::cli) struct Arguments {
    #[command(flatten)]
    policy: PolicyPath,
    /// The port to hide, as 22 or 51820/udp; several with commas [default: those of the ssh server].
    #[arg(long, value_name = "PORT", value_delimiter = ',', value_parser = knock)]
    door: Vec<Knock>,
    /// For whom: the name of a person or a device [default: your user name].
    #[arg(long, value_name = "NAME", value_parser = name)]
    key: Option<Name>,
    /// The name or address by which clients reach this host [default: where your ssh connection came to, or the address of
    /// this host].
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    /// The key opens with tokens, each good once.
    #[arg(long, conflicts_with = "sequence")]
    token: bool,
    /// The key opens with signed datagrams, each good once and from the client's address alone (needs BPF; behind NAT, see
    /// `toctoc key new --from`).
    #[arg(long, conflicts_with_all = ["sequence", "token"])]
    signed: bool,
    /// The key opens with a sequence of so many random ports [default: 5].
    #[arg(long, value_name = "N", value_parser = length)]
    sequence: Option<usize>,
    /// The time that the trial lasts.
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = trial_time)]
    confirm: Duration,
    /// Ask nothing: take the options that are given, and what is proposed for the others.
    #[arg(long)]
    yes: bool,
}

/// The knocks of a sequence, unless somebody wants another number.
const KNOCKS: usize = 5;

/// The plan that the answers make.
struct Plan {
    door: String,
    ports: Vec<Knock>,
    key: Name,
    server: String,
    kind: Kind,
}

pub(super) fn run(arguments: &Arguments) -> Answer {
    done(arguments).unwrap_or_else(|answer| {
        complain("nothing was changed: no file, and nothing in the running firewall");
        answer
    })
}

/// The error is for a host on which nothing was changed.
fn done(arguments: &Arguments) -> Result<Answer, Answer> {
    let path = &arguments.policy.path;
    possible(arguments).map_err(|why| {
        complain(&why);
        Answer::CouldNot
    })?;
    let (services, connection) = (services(), connection());
    let plan = questions::plan(arguments, &services, connection)?;
    let first = First {
        path,
        door: &plan.door,
        ports: &plan.ports,
        backend: arguments.policy.backend,
        key: &plan.key,
        kind: plan.kind,
        server: &plan.server,
    };
    let files = write(&first, &host(&arguments.policy, None)).map_err(|error| match error {
        EnrolError::Failed(message) => {
            complain(&message);
            Answer::CouldNot
        }
        EnrolError::Policy(error) => could_not_read(error.shown_at(path)),
    })?;
    match on_trial(arguments, &files) {
        Ok((answer, to)) => {
            let text = words::next(arguments, &plan, &files, &to);
            let profile = files.profile.clone();
            if let Err(why) = files.put_in_place(path) {
                complain(&format!(
                    "{why}\nthe policy is on trial all the same; next: `toctoc rollback` goes back"
                ));
                return Ok(Answer::CouldNot);
            }
            say(&format!(
                "wrote {}\nwrote {}\n{text}",
                path.display(),
                profile.display()
            ));
            Ok(answer)
        }
        Err(NotDone::Unchanged(answer)) => Err(answer),
        Err(NotDone::Changed(answer)) => {
            complain(
                "no file was written\nnext: `toctoc status` shows the state, `toctoc rollback` goes back",
            );
            Ok(answer)
        }
    }
}

/// Refuses what cannot come to a good end, before anything is asked.
fn possible(arguments: &Arguments) -> Result<(), String> {
    let path = &arguments.policy.path;
    if path == Path::new("-") {
        return Err("init writes a file: name one, or none for the usual one".to_string());
    }
    let wants = match (arguments.token, arguments.signed) {
        (true, _) => Some(("tokens", "--token")),
        (_, true) => Some(("signed keys", "--signed")),
        _ => None,
    };
    if let Some((kind, option)) = wants
        && arguments.policy.backend == Some(Backend::Iptables)
    {
        return Err(format!(
            "{kind} need nftables: leave out `{option}`, or `--backend iptables`"
        ));
    }
    if path.symlink_metadata().is_ok() {
        let shown = path.display();
        return Err(format!(
            "{shown} is there already, and init overwrites nothing\n\
             next: `toctoc check` and `toctoc apply --confirm 10m` try it; `toctoc key new NAME` adds a key\n\
             to begin anew: mv {shown} {shown}.old"
        ));
    }
    if !own_namespace::is_root() {
        return Err("init needs root (try with sudo)".to_string());
    }
    already_guarded()?;
    let has_terminal = io::stdin().is_terminal() && io::stdout().is_terminal();
    if !arguments.yes && !has_terminal {
        return Err(
            "init asks questions, and there is no terminal\nnext: answer with options: `toctoc init --yes --door 22 \
             --key NAME --host HOST`"
                .to_string(),
        );
    }
    Ok(())
}

/// Refuses a host that toctoc guards: the doors of the other policy would open.
fn already_guarded() -> Result<(), String> {
    let firewall = Firewall::default();
    let is_there = firewall
        .nft
        .is_there()
        .and_then(|there| Ok(there || Iptables::has_rules()?));
    if !is_there.map_err(|failure| failure.message)? {
        return Ok(());
    }
    let record = firewall.record().ok();
    let by = record
        .and_then(|record| record.running)
        .map_or(String::new(), |origin| {
            format!(", as {} says", origin.path.display())
        });
    Err(format!(
        "toctoc guards doors of this host already{by}, and init would open them\n\
         next: `toctoc key new NAME` adds a key, `toctoc status` shows the doors, `toctoc remove` takes all away"
    ))
}

/// Why no trial has begun. What there is to say was said.
enum NotDone {
    /// The running firewall is as it was.
    Unchanged(Answer),
    Changed(Answer),
}

/// Checks, rehearses and applies what was written. Returns the answer, and in words what a trial that is not
/// confirmed goes back to.
fn on_trial(arguments: &Arguments, files: &Files) -> Result<(Answer, String), NotDone> {
    let path = &arguments.policy;
    let waiting = PolicyPath {
        path: files.policy.clone(),
        backend: path.backend,
    };
    tokens_open_at_once(files.key.profile.as_ref());
    let (policy, origin) = policy_and_origin(&waiting).map_err(NotDone::Unchanged)?;
    let origin = origin.moved_to(&path.path);
    warn(&waiting, &path.path).map_err(NotDone::Unchanged)?;
    rehearsed(&policy).map_err(NotDone::Unchanged)?;
    let begun = begin(
        &Firewall::default(),
        path,
        &policy,
        origin,
        arguments.confirm,
    );
    begun.map_err(|not| match not.left {
        Left::Unchanged => NotDone::Unchanged(not.answer),
        _ => NotDone::Changed(not.answer),
    })
}

/// Says what is allowed and not wise. The file that waits is named as it will be called.
fn warn(waiting: &PolicyPath, path: &Path) -> Result<(), Answer> {
    let around = surroundings(now(), &Others::read());
    let linted = load_and_lint(&waiting.path, &host(waiting, None), &around);
    let (_, warnings) = linted.map_err(|error| could_not_read(error.shown_at(path)))?;
    if !warnings.diagnostics().is_empty() {
        let shown = warnings.shown_at(path).render(Style::Coloured);
        let _ = writeln!(anstream::stderr(), "{shown}");
    }
    Ok(())
}

/// Tries every key at every door elsewhere. Where there are no namespaces to be had, the trial has to do.
fn rehearsed(policy: &Policy) -> Result<(), Answer> {
    match rehearse(policy, now()) {
        Ok(rehearsed) => {
            tell(&rehearsed);
            match rehearsed.wrong.is_empty() {
                true => Ok(()),
                false => Err(Answer::No),
            }
        }
        Err(stopped @ Stopped::Lab(_)) => {
            complain(&not_rehearsed(&stopped));
            Ok(())
        }
        Err(stopped @ Stopped::Refused(_)) => {
            complain(&not_rehearsed(&stopped));
            Err(Answer::CouldNot)
        }
    }
}
