//! The status for people: the fleet, the policy file, a trial

use std::fmt::Write as _;

use super::super::count;
use super::text::seconds;
use crate::firewall::noted::{Noted, OtherFile};
use crate::firewall::status::FleetStatus;
use crate::firewall::unit::UNIT;

pub(super) fn about_the_fleet(fleet: &FleetStatus) -> String {
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

pub(super) fn about_the_file(noted: &Noted) -> String {
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
