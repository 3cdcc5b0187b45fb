//! A copy of the record in /run while a policy is on trial, so that the way back does not hang on one file.

use std::fs;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{Record, is_here};
use crate::firewall::{StateFile, lock};

/// The kind of its file.
const KIND: &str = "trial";

/// A copy of a record, and the state directory that it belongs to.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Copy {
    directory: PathBuf,
    record: Record,
}

/// Keeps a copy while a policy is on trial, and removes it otherwise. If it cannot be written, the trial still ends by
/// the record itself.
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

/// The copy, if its trial was begun since this start of the machine, in this network namespace and with this directory.
pub(super) fn of_a_trial(state: &StateFile) -> Option<Record> {
    let text = fs::read_to_string(lock::beside(KIND)?).ok()?;
    let text = Zeroizing::new(text);
    let copy: Copy = serde_json::from_str(&text).ok()?;
    let is_ours = copy.directory == state.directory() && is_here(copy.record.namespace);
    let record = Some(copy.record).filter(|_| is_ours)?;
    record.is_of_this_start().then_some(record)
}
