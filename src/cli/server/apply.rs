//! `toctoc apply`

use std::fmt::{self, Display, Formatter, Write as _};
use std::path::Path;
use std::time::Duration;

use clap::Args;

use super::duration::between;
use super::refill::{OF_THE_PAST, refilled};
use super::status::everything_else;
use super::trial::begin;
use super::{
    Answer, PolicyPath, complain, could_not_read, count, now, policy_and_origin, report,
    warn_of_readers,
};
use crate::firewall::apply::{Applied, Recorded, apply, apply_from};
use crate::firewall::caller::{Connection, connection};
use crate::firewall::others::about_this_host;
use crate::firewall::preview::{Running, preview};
use crate::firewall::record::{AtStart, Moment, Origin, Record, Refused};
use crate::firewall::status::Guard;
use crate::firewall::tokens::{clocks, used_up};
use crate::firewall::{Failure, Firewall, Left, list_size};
use crate::knock::{Knock, Protocol};
use crate::policy::differences::differences;
use crate::policy::writers::others_can_change;
use crate::policy::{Door, DoorIndex, KeyKind, Policy, Shut, and, show};

#[derive(Args)]
pub(in crate::cli) struct Arguments {
    #[command(flatten)]
    policy: PolicyPath,
    /// Go back to what was there before, unless `toctoc confirm` comes within this time.
    #[arg(long, value_name = "TIME", value_parser = trial_time)]
    confirm: Option<Duration>,
    /// Apply it even if you would not get in again, or no interface that it names is there.
    #[arg(long)]
    anyway: bool,
    /// Say what would change, and change nothing.
    #[arg(long, conflicts_with_all = ["confirm", "boot", "anyway"])]
    dry_run: bool,
    /// The machine starts: a policy that was on trial and not confirmed stays out.
    #[arg(long, conflicts_with = "confirm")]
    boot: bool,
}

/// The shortest and the longest trial.
const TRIAL: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(24 * 3600)];

pub(super) fn trial_time(text: &str) -> Result<Duration, String> {
    between(text, TRIAL[0], TRIAL[1])
}

pub(super) fn run(arguments: &Arguments) -> Answer {
    let firewall = Firewall::default();
    let done = match (arguments.boot, arguments.dry_run) {
        (true, _) => at_start(&firewall, &arguments.policy),
        (_, true) => dry_run(&firewall, &arguments.policy),
        _ => by_hand(&firewall, arguments),
    };
    done.unwrap_or_else(|answer| answer)
}

fn by_hand(firewall: &Firewall, arguments: &Arguments) -> Result<Answer, Answer> {
    let path = &arguments.policy;
    let (policy, origin) = policy_and_origin(path).map_err(unchanged)?;
    let guard = Guard::of(&policy);
    if !arguments.anyway
        && let Some(why) = guards_nothing(&guard)
    {
        complain(&why);
        return Err(unchanged(Answer::No));
    }
    let entered = || match guard.gaps.is_empty() || arguments.anyway {
        true => Answer::Yes,
        false => Answer::No,
    };
    let Some(lasting) = arguments.confirm else {
        if !arguments.anyway
            && let Some(why) = shut_out(firewall, &policy)
        {
            complain(&why);
            return Err(unchanged(Answer::No));
        }
        return Ok(applied(firewall, Which::of(path), &policy, origin, None)?.max(entered()));
    };
    let begun = begin(firewall, path, &policy, origin, lasting);
    let (answer, to) = begun.map_err(|not| not.answer)?;
    let lasting = show(lasting);
    report(&format!(
        "on trial: in {lasting} it goes back to {to}\n\
         try a new connection, and if it works: toctoc confirm\n"
    ));
    Ok(answer.max(entered()))
}

/// Says what an apply would change.
fn dry_run(firewall: &Firewall, path: &PolicyPath) -> Result<Answer, Answer> {
    const REFUSED: &str = "apply would refuse this:";
    if let Some(why) = others_can_change(&path.path) {
        complain(&format!("{REFUSED} {why}"));
        return Err(unchanged(Answer::No));
    }
    let (policy, _) = policy_and_origin(path).map_err(unchanged)?;
    let refusal = guards_nothing(&Guard::of(&policy)).or_else(|| shut_out(firewall, &policy));
    if let Some(why) = &refusal {
        complain(&format!("{REFUSED} {why}"));
    }
    let there = preview(firewall, &policy, clocks()).map_err(failed)?;
    let mut text = match &there.running {
        Running::Nothing => "nothing of toctoc runs here yet\n".to_string(),
        Running::Unknown(why) => {
            complain(&format!(
                "what runs is not known ({why}): all of the file is shown"
            ));
            String::new()
        }
        Running::Policy(_) => String::new(),
    };
    let before = match &there.running {
        Running::Policy(policy) => Some(policy.as_ref()),
        Running::Nothing | Running::Unknown(_) => None,
    };
    let lines = differences(before, &policy);
    for line in &lines {
        let _ = writeln!(text, "{line}");
    }
    if lines.is_empty() {
        text.push_str("the policy stays as it is\n");
    }
    for drift in &there.drifts {
        let _ = writeln!(
            text,
            "~ what runs is not what was applied, and would be again: {drift}"
        );
    }
    for grant in &there.ended {
        let _ = writeln!(text, "- grant of {grant}");
    }
    if there.kept + there.ended.len() > 0 {
        let kept = count(there.kept, "live grant");
        let _ = writeln!(text, "{kept} would be kept, {} ended", there.ended.len());
    }
    text.push_str("nothing was changed (dry run)\n");
    let written = report(&text);
    Ok(match (refusal, written) {
        (Some(_), _) => Answer::No,
        (None, true) => Answer::Yes,
        (None, false) => Answer::CouldNot,
    })
}

/// At the start of the machine nobody can confirm anything.
fn at_start(firewall: &Firewall, path: &PolicyPath) -> Result<Answer, Answer> {
    let found = firewall.record().inspect_err(|why| {
        complain(&format!(
            "{why}: whether a policy was on trial is not known"
        ));
    });
    let record = found.as_ref().ok();
    let (policy, origin) = match policy_and_origin(path) {
        Ok(read) => read,
        Err(answer) => return fall_back(firewall, path, record, answer),
    };
    let noted = record.cloned().unwrap_or_default();
    match noted.at_start(&origin.text, &Moment::now(), now()) {
        AtStart::OnTrial(running) => {
            complain("a policy is on trial, and stays so");
            let policy = running
                .policy()
                .map_err(could_not_read)
                .map_err(unchanged)?;
            let applied = apply(firewall, &policy, clocks()).map_err(failed)?;
            Ok(said(
                Which::noted(&running, "the policy on trial"),
                &policy,
                &applied,
            ))
        }
        AtStart::File => match apply_from(firewall, &policy, origin, None, clocks()) {
            Ok((applied, recorded)) => {
                Ok(said(Which::of(path), &policy, &applied).max(about(&recorded)))
            }
            Err(failure) if failure.left == Left::Unchanged => {
                complain(&failure.message);
                fall_back(firewall, path, record, Answer::CouldNot)
            }
            Err(failure) => Err(failed(failure)),
        },
        AtStart::Applied(running, refused) => {
            complain(&format!(
                "{} was changed since it was applied: what was applied is applied again (`toctoc apply` applies \
                 the file)",
                path.path.display()
            ));
            match running.policy() {
                Ok(policy) => {
                    let which = Which::noted(&running, "as it was applied");
                    applied(firewall, which, &policy, running.clone(), refused)
                }
                Err(error) => {
                    could_not_read(error);
                    complain("so the policy of the file is applied after all");
                    applied(firewall, Which::of(path), &policy, origin, None)
                }
            }
        }
        AtStart::Before(Some(before), refused) => {
            complain(&format!(
                "{} was on trial and not confirmed: the policy before it is applied (`toctoc apply \
                 --confirm 10m` tries this one again)",
                path.path.display()
            ));
            match before.policy() {
                Ok(policy) => {
                    let which = Which::noted(&before, "as it was before the trial");
                    applied(firewall, which, &policy, before.clone(), refused)
                }
                Err(error) => {
                    // Doors that are shut are better than none.
                    could_not_read(error);
                    complain("so the policy of the file is applied after all");
                    applied(firewall, Which::of(path), &policy, origin, None)
                }
            }
        }
        AtStart::Before(None, _) => {
            complain(&format!(
                "{} was on trial and not confirmed, and nothing was applied before it: no door is \
                 guarded (`toctoc apply --confirm 10m` tries it again)",
                path.path.display()
            ));
            Err(Answer::No)
        }
    }
}

/// The policy of the file cannot be used: the one that worked last is. That is no success. `record` is `None` where it
/// cannot be read.
fn fall_back(
    firewall: &Firewall,
    path: &PolicyPath,
    record: Option<&Record>,
    answer: Answer,
) -> Result<Answer, Answer> {
    let now = Moment::now();
    let Some(record) = record else {
        complain("what was applied before is not known, so nothing is applied instead");
        return Err(unchanged(answer));
    };
    let Some(last) = record.worked(&now) else {
        complain("nothing was applied before that could be applied instead");
        return Err(unchanged(answer));
    };
    let policy = last
        .policy()
        .map_err(could_not_read)
        .map_err(|_| unchanged(answer))?;
    complain(&format!(
        "{} cannot be used (`toctoc check` says why), so the policy that worked last is: {}, as it was \
         applied then",
        path.path.display(),
        last.path.display()
    ));
    for why in last.missing() {
        complain(&format!("{why}: what was noted of it then is used"));
    }
    let which = Which::noted(last, "as it was applied");
    let on_trial = record.trial.as_ref();
    match on_trial.is_some_and(|trial| !trial.left(&now).is_zero()) {
        true => {
            let applied = apply(firewall, &policy, clocks()).map_err(failed)?;
            said(which, &policy, &applied);
        }
        false => {
            let refused = record.refused.clone();
            applied(firewall, which, &policy, last.clone(), refused)?;
        }
    }
    Err(answer)
}

/// A policy in words: its file, and as it was when, unless that is now.
#[derive(Clone, Copy)]
pub(super) struct Which<'p> {
    path: &'p Path,
    as_it_was: Option<&'static str>,
}

impl<'p> Which<'p> {
    pub(super) fn of(path: &'p PolicyPath) -> Which<'p> {
        Which {
            path: &path.path,
            as_it_was: None,
        }
    }

    fn noted(origin: &'p Origin, as_it_was: &'static str) -> Which<'p> {
        Which {
            path: &origin.path,
            as_it_was: Some(as_it_was),
        }
    }
}

impl Display for Which<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.path.display().fmt(f)?;
        match self.as_it_was {
            None => Ok(()),
            Some(as_it_was) => write!(f, ", {as_it_was}"),
        }
    }
}

fn applied(
    firewall: &Firewall,
    which: Which<'_>,
    policy: &Policy,
    origin: Origin,
    refused: Option<Refused>,
) -> Result<Answer, Answer> {
    let done = apply_from(firewall, policy, origin, refused, clocks());
    let (applied, recorded) = done.map_err(failed)?;
    let answer = said(which, policy, &applied);
    Ok(answer.max(about(&recorded)))
}

/// Says what became of a trial, and what could not be noted.
fn about(recorded: &Recorded) -> Answer {
    match (&recorded.unnoted, recorded.in_trial) {
        (None, false) => Answer::Yes,
        (None, true) => {
            complain("the trial that was under way is over: this stays");
            Answer::Yes
        }
        (Some(why), false) => {
            complain(&format!(
                "the policy is applied, but it could not be noted: {why}\n\
                 until that is mended and it is applied again, `status` may take another policy for the one that runs, \
                 and a healing (toctoc-heal.timer) may restore what was noted before"
            ));
            Answer::No
        }
        (Some(why), true) => {
            complain(&format!(
                "the trial that is under way could not be ended, and will undo this: {why}"
            ));
            Answer::CouldNot
        }
    }
}

fn unchanged(answer: Answer) -> Answer {
    complain("the running firewall was not changed");
    answer
}

fn failed(failure: Failure) -> Answer {
    complain(&failure.to_string());
    Answer::CouldNot
}

/// Why no door would be guarded, if so: sentences.
fn guards_nothing(guard: &Guard) -> Option<String> {
    if !guard.is_nowhere() {
        return None;
    }
    let why: Vec<&str> = guard
        .gaps
        .iter()
        .chain(&guard.notes)
        .map(String::as_str)
        .collect();
    Some(format!(
        "{}\nno door would be guarded: name an interface that is there (`ip link`), or insist if it comes later \
         (`toctoc apply --anyway`)",
        why.join("\n")
    ))
}

/// Why the caller would not get in again, if so: sentences.
fn shut_out(firewall: &Firewall, policy: &Policy) -> Option<String> {
    let why = way_back(firewall, policy).err()?;
    Some(format!(
        "{why}\ngive yourself a way in, try it with a way back (`toctoc apply --confirm 60s`), or insist \
         (`toctoc apply --anyway`)"
    ))
}

/// Checks that the caller's own ssh connection could be made again under this policy.
///
/// # Errors
/// Why not: a sentence.
pub(super) fn way_back(firewall: &Firewall, policy: &Policy) -> Result<(), String> {
    let Some(Connection { from, to }) = connection() else {
        return Ok(());
    };
    let Some(port) = Knock::new(Protocol::Tcp, to.port()) else {
        return Ok(());
    };
    // Of what cannot be read, nothing is known to be used up.
    let used_up = used_up(firewall, policy).unwrap_or_default();
    let from = from.ip();
    let why = match policy.shuts_out(from, port, now(), &used_up) {
        None => return Ok(()),
        Some(Shut::NoKey(door)) => {
            let door = &policy.door(door).name;
            format!("which is door {door}, and no key opens {door}")
        }
        Some(Shut::Dropped) => {
            "which `[firewall]` would drop: `allow` does not have it".to_string()
        }
    };
    Err(format!(
        "your ssh connection comes from {from} to {port}, {why}: once it ends you would not get in again"
    ))
}

/// Says what was applied; `which` is the policy in words.
pub(super) fn said(which: Which<'_>, policy: &Policy, applied: &Applied) -> Answer {
    let mut text = format!("applied {which}\n");
    if let Some(before) = applied.moved_from {
        let (from, to) = (before.name(), policy.backend.name());
        let _ = writeln!(text, "moved from {from} to {to}");
    }
    for index in policy.door_indices() {
        let _ = writeln!(text, "{}", door(policy, index, policy.door(index)));
    }
    if let Some(firewall) = &policy.firewall {
        let _ = writeln!(
            text,
            "everything else that comes in is {}",
            everything_else(&firewall.words())
        );
    }
    let guard = Guard::of(policy);
    if let Some(words) = guard.words() {
        let _ = writeln!(text, "{words}");
    }
    if let Some(done) = &applied.refilled {
        if policy.has_tokens() {
            text.push_str(&refilled(policy, done));
        }
        for warning in &done.warnings {
            complain(warning);
        }
    }
    if applied.of_the_past > 0 {
        complain(OF_THE_PAST);
        let _ = writeln!(
            text,
            "{} of a saved ruleset ended",
            count(applied.of_the_past, "grant")
        );
    }
    if applied.kept + applied.removed > 0 {
        let _ = writeln!(
            text,
            "{} kept, {} ended because their door or key is gone",
            count(applied.kept, "live grant"),
            applied.removed
        );
    }
    if applied.ended_once > 0 {
        let _ = writeln!(
            text,
            "{} for one connection ended: `max_sources`, `[grant]` or `once` changed",
            count(applied.ended_once, "live grant")
        );
    }
    if applied.drifts.is_empty() {
        text.push_str("the kernel holds what the policy says\n");
    }
    let written = report(&text);
    for why in &applied.unresolved {
        complain(why);
    }
    for why in &applied.unsigned {
        complain(&format!("signed keys do not open on {why}"));
    }
    if applied.pushed_out > 0 {
        let room = list_size().map_or(String::new(), |size| format!(" (it holds {size} sources)"));
        complain(&format!(
            "{} could not be moved: a list of iptables was full{room}; those with the least time left \
             ended",
            count(applied.pushed_out, "live grant")
        ));
    }
    if applied.readable_lists > 0 {
        complain(
            "every user of this host can read the lists of iptables, see who knocks where, and so learn \
             a sequence (`chmod` is for root of the host; or load xt_recent with `ip_list_perms=0600`)",
        );
    }
    warn_of_readers(which.path, policy);
    if applied.drifts.is_empty() {
        for gap in &guard.gaps {
            complain(&format!("STRANGERS ENTER: {gap}"));
        }
        for note in guard.notes.iter().chain(&about_this_host(policy)) {
            complain(note);
        }
        return if written {
            Answer::Yes
        } else {
            Answer::CouldNot
        };
    }
    for drift in &applied.drifts {
        complain(&format!("differs from the policy: {drift}"));
    }
    complain("somebody else changed the table while it was applied; apply again");
    if written {
        Answer::No
    } else {
        Answer::CouldNot
    }
}

/// "  ssh  22/tcp  closed; yves opens it for 1m with 5 knocks"
fn door(policy: &Policy, index: DoorIndex, door: &Door) -> String {
    let mut line = format!("  {:<12} {:<14}", door.name, door.words().join(" "));
    let mut openers = Vec::new();
    for key in &policy.keys {
        for opening in key.opens.iter().filter(|opening| opening.door == index) {
            let with = match &key.kind {
                KeyKind::Sequence(knocks) => count(knocks.len(), "knock"),
                KeyKind::Token(_) => "a token".to_string(),
                KeyKind::Signed(_) => "a signed datagram".to_string(),
                KeyKind::Scratch(_) => "a scratch sequence".to_string(),
            };
            let lasting = show(opening.open_for);
            let once = if key.once { " (one connection)" } else { "" };
            if !key.expired(now()) {
                openers.push(format!(
                    "{} opens it for {lasting}{once} with {with}",
                    key.name
                ));
            }
        }
    }
    line.push_str(" closed; ");
    match openers.as_slice() {
        [] => line.push_str("no key opens it"),
        [one] => line.push_str(one),
        [first, rest @ ..] => {
            line.push_str(&format!("{first}, and {} more", count(rest.len(), "key")));
        }
    }
    if let Some(extension) = &door.extension {
        line.push_str(&format!("; {extension}"));
    }
    if !door.trusted().is_empty() {
        line.push_str(&format!("; trusts {}", and(&door.trusted())));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The line of each door, with single spaces.
    fn lines(text: &str) -> Vec<String> {
        let policy = crate::policy::read("p", text).unwrap_or_else(|report| panic!("{report}"));
        let doors = policy.door_indices();
        let lines = doors.map(|index| door(&policy, index, policy.door(index)));
        lines
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect()
    }

    #[test]
    fn the_line_of_a_door_tells_what_it_trusts_extends_and_spans() {
        let text = "[firewall]\ndefault = \"drop\"\n\
            [door.ssh]\nports = [22]\nextend = \"10m\"\nat_most = \"8h\"\n\
            trust = [\"home.example.org\", \"192.0.2.99\"]\n\
            [door.rescue]\nports = \"all\"\n\
            [door.plain]\nports = [80]\ntrust = [\"192.0.2.0/24\"]\n";
        assert_eq!(
            lines(text),
            [
                "ssh 22/tcp closed; no key opens it; each new connection extends it to 10m from then, 8h in all at \
                 most; trusts 192.0.2.99 and home.example.org",
                "rescue every port closed; no key opens it",
                "plain 80/tcp closed; no key opens it; trusts 192.0.2.0/24",
            ]
        );
    }
}
