//! `toctoc fleet`: starts `toctoc-fleet`, which is a separate package; only it contains Redis and TLS.

use std::env;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;

use super::{Answer, PolicyAlone, complain};
use crate::policy::writers::others_can_replace;

/// The name of the program, and of its package.
const PROGRAM: &str = "toctoc-fleet";

/// The arguments of that program: help, manual and completions are from here.
#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    policy: PolicyAlone,
    /// Write a new secret for the hosts to sign with into this file, and end.
    #[arg(long, value_name = "FILE")]
    pub new_secret: Option<PathBuf>,
}

impl Arguments {
    /// The policy file.
    pub fn policy(&self) -> &Path {
        &self.policy.path
    }
}

/// Becomes the other program, which stands beside this one. Returns if it is not there.
pub(super) fn run() -> Answer {
    let own = match env::current_exe() {
        Ok(own) => own,
        Err(error) => {
            complain(&format!("the place of this program is not known: {error}"));
            return Answer::CouldNot;
        }
    };
    let program = own.with_file_name(PROGRAM);
    if let Some(why) = others_can_replace(&program) {
        complain(&format!("{PROGRAM} is not started: {why}"));
        return Answer::CouldNot;
    }
    // After `toctoc fleet`. They are as they should be: they were read.
    let error = Command::new(&program).args(env::args_os().skip(2)).exec();
    let program = program.display();
    complain(&match error.kind() {
        io::ErrorKind::NotFound => format!(
            "there is no {program}: the program of the fleet is a package of its own\nnext: install the package \
             {PROGRAM} (from the sources: `cargo install --locked --path fleet`)"
        ),
        _ => format!("{program} cannot be started: {error}"),
    });
    Answer::CouldNot
}
