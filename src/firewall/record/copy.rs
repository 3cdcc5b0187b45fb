//! A copy of the record in /run while a policy is on trial, so that the way back does not hang on one file.

use std::fs;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{Record, is_here};
use crate::firewall::{StateFile, lock};

/// The kind of its file.
const KIND: &str = "trial";

/// The record of the state in a directory.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Copy {
    directory: PathBuf,
    record: Record,
}

/// Keeps a copy of a record with a trial, and none of another. Without it the trial ends as well, as long as the
/// record is there.
pub(super) fn keep(state: &StateFile, record: &Record) {
    if record.trial.is_none() {
        return forget();
    }
    let copy = Copy {
        directory: state.directory().to_path_buf(),
        record: record.clone(),
    };
    if let Ok(text) = serde_json::to_string(&copy).map(Zeroizing::new) {
        let _ = lock::put_beside(KIND, text.as_bytes());
    }
}

pub(super) fn forget() {
    lock::remove_beside(KIND);
}

/// The record with a trial of this start of the machine and of this network namespace, as it was noted last in that
/// directory.
pub(super) fn of_a_trial(state: &StateFile) -> Option<Record> {
    let text = fs::read_to_string(lock::beside(KIND)?).ok()?;
    let text = Zeroizing::new(text);
    let copy: Copy = serde_json::from_str(&text).ok()?;
    let is_ours = copy.directory == state.directory() && is_here(copy.record.namespace);
    let record = Some(copy.record).filter(|_| is_ours)?;
    record.is_of_this_start().then_some(record)
}
