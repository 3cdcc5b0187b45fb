//! For who is not root: root of a user namespace of our own, where that is allowed.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

use super::{Answer, complain};

/// Returns whether this process may make network namespaces, or is as far as it gets.
pub(super) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Starts again as its root, with the same arguments and `--entered`. Returns only when that cannot be.
pub(super) fn enter() -> Answer {
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => {
            complain(&format!("cannot find myself: {error}"));
            return Answer::CouldNot;
        }
    };
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let error = Command::new("unshare")
        .args(["--user", "--map-root-user", "--"])
        .arg(program)
        .args(arguments)
        .arg("--entered")
        .exec();
    complain(&format!("unshare could not be started: {error}"));
    Answer::CouldNot
}
