//! `toctoc status`, and plain `toctoc`

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use super::{
    Answer, POLICY, PolicyPath, applied_policy, complain, could_not_read, count, host, now, say,
};
use crate::firewall::Firewall;
use crate::firewall::absence::Absence;
use crate::firewall::heal::is_unnoted;
use crate::firewall::noted::{Noted, OtherFile};
use crate::firewall::others::about_this_host;
use crate::firewall::record::{Moment, Record};
use crate::firewall::status::{
    DoorStatus, FleetStatus, GrantStatus, ScratchStatus, Status, TokenStatus, guarded_on, observe,
};
use crate::firewall::unit::{UNIT, is_enabled};
use crate::fleet::report::Report;
use crate::policy::load::{LoadError, load_text, read_text};
use crate::policy::writers::others_can_change;
use crate::policy::{Backend, Policy, show};

/// More differences than this are counted: somebody looks at another policy.
const SHOWN: usize = 8;

#[derive(Args, Default)]
pub(in crate::cli) struct Arguments {
    /// The policy file to judge by. Without one: the policy that runs, or else /etc/toctoc/policy.toml.
    #[arg(value_name = "POLICY")]
    path: Option<PathBuf>,
    /// `nftables` or `iptables`, instead of what the policy says.
    #[arg(long, value_name = "BACKEND", value_parser = super::backend)]
    backend: Option<Backend>,
    /// Name the chains, sets and elements that differ, too.
    #[arg(short, long, conflicts_with = "json")]
    verbose: bool,
    /// For programs.
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

/// The words for what differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Words {
    OfThePolicy,
    /// Those, and then chains, sets and elements.
    OfTheKernel,
}

/// The status for people.
pub(super) fn text(status: &Status, words: Words) -> String {
    let mut text = String::from("doors\n");
    let ports = |door: &DoorStatus| match door.in_policy {
        true => door.ports.join(" "),
        false => "not in this policy".to_string(),
    };
    let width = |length: fn(&DoorStatus) -> usize| status.doors.iter().map(length).max();
    let names = width(|door| door.name.len()).unwrap_or(0).max(12);
    let widest = status.doors.iter().map(|door| ports(door).len()).max();
    // A door of thousands of ports does not push the others' state away, and a width has an end.
    let widest = widest.unwrap_or(0).clamp(14, 40);
    for door in &status.doors {
        let (name, ports) = (&door.name, ports(door));
        let state = state(status, door);
        let _ = writeln!(text, "  {name:<names$} {ports:<widest$} {state}");
        for grant in &door.grants {
            let _ = writeln!(text, "    {}", holder(grant));
        }
    }
    if let Some(allowed) = &status.allowed {
        let everything_else = match status.drift.is_empty() {
            true => everything_else(allowed),
            false => "not as the policy says, see below".to_string(),
        };
        let _ = writeln!(text, "everything else\n  {everything_else}");
    }
    if !status.progress.is_empty() {
        text.push_str("midway\n");
        for entry in &status.progress {
            let how_far = match entry.knocks {
                0 => String::new(),
                knocks => format!("  {} of {}", count(knocks, "knock"), some(&entry.keys)),
            };
            let left = seconds(entry.expires_in);
            let _ = writeln!(text, "  {:<39} {left} left{how_far}", entry.source);
        }
    }
    if !status.keys.is_empty() {
        text.push_str("keys\n");
    }
    for key in &status.keys {
        let opened = match key.opened {
            0 => "no opening counted".to_string(),
            1 => "opened 1 time".to_string(),
            times => format!("opened {times} times"),
        };
        let expired = if key.expired { ", expired" } else { "" };
        let tokens = key.tokens.as_ref().map_or(String::new(), tokens);
        let scratch = key.scratch.as_ref().map_or(String::new(), scratch);
        let _ = writeln!(
            text,
            "  {:<12} {opened}{expired}{tokens}{scratch}",
            key.name
        );
    }
    if status.drift.is_empty() {
        text.push_str(match status.noted.file_changed {
            false => "the kernel holds what the policy says\n",
            true => "the kernel holds what was applied\n",
        });
    } else {
        text.push_str(match status.noted.file_changed {
            false => "the kernel differs from the policy\n",
            true => "the kernel differs from what was applied\n",
        });
        for difference in status.differences.iter().take(SHOWN) {
            let _ = writeln!(text, "  {difference}");
        }
        if status.differences.len() > SHOWN {
            let more = status.differences.len() - SHOWN;
            let _ = writeln!(
                text,
                "  ... and {more} more: it may hold another policy than this file"
            );
        }
        if words == Words::OfTheKernel {
            text.push_str("in the kernel's words\n");
            for drift in &status.drift {
                let _ = writeln!(text, "  {drift}");
            }
        }
        let next = status.noted.absence.as_deref().unwrap_or(match status.noted.restores {
            true => "`toctoc heal` restores the rules that were applied last; `toctoc apply` applies the file",
            false => "`toctoc apply` applies the file",
        });
        let _ = writeln!(text, "  {next}");
    }
    if status.backend == "iptables" {
        let room = status.max_sources;
        let _ = writeln!(text, "a list of this kernel holds {room} sources");
    }
    if let (Some(on), false) = (&status.guarded_on, status.not_guarded_on.is_empty())
        && let Some(words) = guarded_on(on, &status.not_guarded_on)
    {
        let _ = writeln!(text, "{words}");
    }
    for gap in &status.gaps {
        let _ = writeln!(text, "STRANGERS ENTER: {gap}");
    }
    for warning in &status.warnings {
        let _ = writeln!(text, "{warning}");
    }
    if let Some(fleet) = &status.fleet {
        text.push_str(&about_the_fleet(fleet));
    }
    text.push_str(&about_the_file(&status.noted));
    text
}

fn about_the_fleet(fleet: &FleetStatus) -> String {
    let (Some(report), Some(age)) = (&fleet.report, fleet.age) else {
        return "fleet\n  `toctoc fleet` does not run: this host has its doors for itself\n"
            .to_string();
    };
    let mut text = format!("fleet, as {} saw it {} ago\n", report.name, seconds(age));
    if let Some(waits) = &report.waits {
        let _ = writeln!(text, "  {waits}");
    }
    if !fleet.running {
        text.push_str(
            "  `toctoc fleet` DOES NOT RUN ANY MORE: this host has its doors for itself\n",
        );
        return text;
    }
    let told = match (&report.why, report.connected) {
        (None, true) => "connected".to_string(),
        (Some(why), _) => why.clone(),
        (None, false) => "not connected".to_string(),
    };
    let lag = report
        .lag
        .map(|lag| format!(", there and back in {lag} ms"));
    let _ = writeln!(
        text,
        "  {} {told}{}",
        report.engine,
        lag.unwrap_or_default()
    );
    // Each says that it is there every 2 s, and in a large fleet less often.
    let beat = f64::max(2.0, 0.02 * report.hosts.len() as f64);
    for host in &report.hosts {
        // It has grown older since.
        let since = host.seen + age;
        let (ago, lag) = (seconds(since), host.lag);
        let _ = match report.why.is_none() && since > 5.0 * beat {
            true => writeln!(text, "  {:<12} NOT HEARD OF for {ago}", host.name),
            false => writeln!(text, "  {:<12} seen {ago} ago, {lag} ms away", host.name),
        };
    }
    if report.unkept > 0 {
        let _ = writeln!(
            text,
            "  the engine does not keep {}",
            count(report.unkept, "message")
        );
    }
    if let Some(why) = &report.last_refused {
        let refused = report.refused;
        let ago = seconds(report.refused_ago.unwrap_or_default() + age);
        let _ = writeln!(
            text,
            "  refused {refused} of what others say, the last time {ago} ago: {why}"
        );
    }
    text
}

fn about_the_file(noted: &Noted) -> String {
    let mut text = String::new();
    match noted.trial_ends_in {
        None => {}
        Some(0.0) if noted.could_not_go_back.is_some() => {
            let why = noted.could_not_go_back.as_deref().unwrap_or_default();
            let (tries, ago) = noted.tried.unwrap_or_default();
            let _ = writeln!(
                text,
                "on trial, and the time is over: IT COULD NOT GO BACK to what was before: {why}\ntried {}, the \
                 last time {} ago; it is tried again by itself (`toctoc rollback` tries at once, `toctoc apply` \
                 keeps the policy)",
                count(tries as usize, "time"),
                seconds(ago)
            );
        }
        // A moment more is what it takes.
        Some(0.0) => text.push_str(
            "on trial, and the time is over: if it does not go back in a moment, nothing is left that \
             would (`toctoc rollback` does; `toctoc apply` keeps it)\n",
        ),
        Some(left) => {
            let left = seconds(left);
            let _ = writeln!(
                text,
                "on trial: in {left} it goes back to what was before (`toctoc confirm` keeps it)"
            );
        }
    }
    if let Some(running) = &noted.running {
        text.push_str(&about_what_runs(running));
    }
    if noted.unnoted {
        text.push_str(
            "what was applied or removed last could not be noted: which policy runs is NOT KNOWN, and this is what \
             the file says (`toctoc apply` applies and notes it)\n",
        );
    }
    if let Some(why) = &noted.file_unusable {
        let _ = writeln!(
            text,
            "the policy file CANNOT BE USED ({why}): this is what was applied last, and the next boot applies \
             it again (`toctoc check`)"
        );
    }
    if noted.file_changed {
        let confirmed = match noted.not_confirmed {
            true => " (it was on trial and not confirmed)",
            false => "",
        };
        let _ = writeln!(
            text,
            "the policy file was changed since{confirmed}: `toctoc check`, then `toctoc apply --confirm 10m`"
        );
    }
    if let Some(why) = noted
        .could_not_go_back
        .as_ref()
        .filter(|_| noted.trial_ends_in.is_none())
    {
        let _ = writeln!(text, "the trial is over, and it could not go back: {why}");
    }
    text
}

fn about_what_runs(running: &OtherFile) -> String {
    let OtherFile { path, at_boot, .. } = running;
    let then = match (running.at_boot_exists, running.enabled) {
        (true, true) => format!("at boot {UNIT} applies another file, {at_boot}"),
        (true, false) => format!(
            "at boot {UNIT} would apply another file, {at_boot}, but it is not enabled: no door is guarded then"
        ),
        (false, true) => format!(
            "at boot {UNIT} looks for another file, {at_boot}, which is not there: it applies this one again, \
             and fails"
        ),
        (false, false) => format!(
            "at boot {UNIT} would look for another file, {at_boot}, but it is not enabled: no door is guarded \
             then"
        ),
    };
    format!("this is {path}, which runs; {then}\n")
}

/// ", tokens for 5h 58m"
fn tokens(tokens: &TokenStatus) -> String {
    let lasting = match tokens.loaded {
        0 => ", NO TOKENS".to_string(),
        _ => format!(", tokens for {}", minutes(tokens.last_for)),
    };
    match tokens.low {
        true if tokens.loaded == 0 => {
            format!("{lasting}: `toctoc apply` loads some (and the timer keeps them coming)")
        }
        true => format!("{lasting} only: `toctoc refill` loads more, is its timer running?"),
        false => lasting,
    }
}

/// ", 3 of 5 scratch sequences left"
fn scratch(scratch: &ScratchStatus) -> String {
    let ScratchStatus { left, of } = scratch;
    match left {
        0 => format!(", NONE of {of} scratch sequences left"),
        left => format!(", {left} of {of} scratch sequences left"),
    }
}

/// "5h 58m": the seconds only if that is all there is.
fn minutes(seconds: f64) -> String {
    let whole = seconds.max(0.0) as u64;
    show(Duration::from_secs(match whole {
        0..60 => whole,
        _ => whole / 60 * 60,
    }))
}

/// "dropped, but for 80/tcp (5432/tcp vrrp from 10.0.0.0/8)"
pub(super) fn everything_else(allowed: &[String]) -> String {
    match allowed {
        [] => "dropped".to_string(),
        allowed => {
            let grouped = allowed.iter().map(|one| match one.contains(' ') {
                true => format!("({one})"),
                false => one.clone(),
            });
            let grouped: Vec<String> = grouped.collect();
            format!("dropped, but for {}", grouped.join(" "))
        }
    }
}

/// "closed to all", "open to 2 sources", ...
fn state(status: &Status, door: &DoorStatus) -> String {
    match &door.guarded_by {
        None => return "OPEN TO EVERYONE".to_string(),
        Some(backend) if *backend != status.backend => {
            return format!("guarded by {backend}, not as this policy says");
        }
        Some(_) => {}
    }
    let trusted = match door.trust.as_slice() {
        [] => String::new(),
        trust => format!(", trusts {}", some(trust)),
    };
    // A source that is in here and at another host is one.
    let sources: BTreeSet<&str> = door.grants.iter().map(|g| g.source.as_str()).collect();
    let state = match sources.len() {
        0 if status.rules_differ => "MAY BE OPEN to all: its rules were changed".to_string(),
        0 if !status.drift.is_empty() => "no grants".to_string(),
        0 if status.open_on.is_empty() && !status.gaps.is_empty() => "not known".to_string(),
        0 if status.guarded_on.is_none() && !status.open_on.is_empty() => {
            "closed to all on other interfaces".to_string()
        }
        0 => format!("closed to all{}", on(status)),
        holders if status.rules_differ => {
            let holders = count(holders, "source");
            format!("open to {holders}, MAYBE TO ALL: its rules were changed")
        }
        holders => format!("open to {}", count(holders, "source")),
    };
    let past = match status.open_on.as_slice() {
        [] => String::new(),
        names => format!(", OPEN TO EVERYONE on {}", some(names)),
    };
    format!("{state}{trusted}{past}")
}

/// " on eth0", where the policy names interfaces.
fn on(status: &Status) -> String {
    match status.guarded_on.as_deref() {
        None | Some([]) => String::new(),
        Some(names) => format!(" on {}", some(names)),
    }
}

/// "192.0.2.7  41s left, by yves"
fn holder(grant: &GrantStatus) -> String {
    let at = match (&grant.host, grant.elsewhere) {
        (Some(host), _) => format!(" at {host}"),
        (None, true) => " at another host".to_string(),
        (None, false) => String::new(),
    };
    let by = match &grant.key {
        None if grant.elsewhere => String::new(),
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
        "{:<39} {} left{by}{at}{once}",
        grant.source,
        seconds(grant.expires_in)
    )
}

/// "41s", "1h 30m"
fn seconds(seconds: f64) -> String {
    // To the second below, as far as there is one.
    let left = Duration::from_secs_f64(seconds.max(0.0));
    match left.as_secs() {
        0 => show(Duration::from_millis(left.as_millis() as u64)),
        whole => show(Duration::from_secs(whole)),
    }
}

fn some(names: &[String]) -> String {
    match names {
        [one] => one.clone(),
        [one, two] => format!("{one} and {two}"),
        [one, ..] => format!("{one} and {} more", names.len() - 1),
        [] => String::new(),
    }
}
