//! The part of the record that `status` shows.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::heal::restores;
use super::record::{Moment, Record};

/// The record about the policy, its file and its trial.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Noted {
    /// The file was changed since it was applied: all else here is about what was applied.
    pub file_changed: bool,
    /// Seconds until the trial of the running policy ends and the policy before it returns. `None`: no trial.
    pub trial_ends_in: Option<f64>,
    /// The file is what was on trial last, and it was not confirmed.
    pub not_confirmed: bool,
    /// Why it could not go back after a trial, if so. It is tried again while `trial_ends_in` is 0.
    pub could_not_go_back: Option<String>,
    /// Attempts to go back: how many, and seconds since the last.
    #[serde(default)]
    pub tried: Option<(u32, f64)>,
    /// Why the file cannot be used, if so: all else here is about what was applied, and so is the next boot.
    #[serde(default)]
    pub file_unusable: Option<String>,
    /// `true` if `toctoc heal` would restore the rules.
    #[serde(default)]
    pub restores: bool,
    /// `true` if what was applied last could not be noted: which policy runs is not known.
    #[serde(default)]
    pub unnoted: bool,
    /// Why no rules are there, where none are.
    #[serde(default)]
    pub absence: Option<String>,
    /// The file that runs, if it is not the one that is applied at boot and no file was asked about.
    #[serde(default)]
    pub running: Option<OtherFile>,
}

/// A policy that runs, from another file than the one that the next boot applies.
#[derive(Debug, Serialize, Deserialize)]
pub struct OtherFile {
    pub path: String,
    /// The file that `toctoc.service` applies.
    pub at_boot: String,
    /// `true` if there is such a file.
    pub at_boot_exists: bool,
    /// `true` if that unit is enabled.
    pub enabled: bool,
}

impl Noted {
    /// Returns whether a trial is over and the policy before it is not back.
    pub fn is_stuck(&self) -> bool {
        self.trial_ends_in == Some(0.0)
    }

    /// The record at a moment, about the policy at `path` whose file holds `text`.
    pub fn of(record: &Record, now: &Moment, path: &Path, text: &str) -> Noted {
        let running = record.running.as_ref().filter(|origin| origin.is_at(path));
        let refused = record.refused.as_ref();
        let trial = record.trial.as_ref();
        let stuck = trial.and_then(|trial| trial.stuck.as_ref());
        let failed = refused.and_then(|refused| refused.failed.clone());
        Noted {
            file_changed: running.is_some_and(|origin| origin.text != text),
            trial_ends_in: trial.map(|trial| trial.left(now).as_secs_f64()),
            not_confirmed: record.has_refused(text),
            file_unusable: None,
            unnoted: false,
            restores: restores(record),
            absence: None,
            running: None,
            could_not_go_back: stuck.map(|stuck| stuck.why.clone()).or(failed),
            tried: stuck.map(|stuck| (stuck.tries, stuck.ago(now).as_secs_f64())),
        }
    }
}
