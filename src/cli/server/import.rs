//! `toctoc import`

use std::io::Read;
use std::path::PathBuf;

use clap::Args;

use super::{Answer, complain, say};
use crate::import::import;
use crate::policy;
use crate::policy::diagnostic::Style;

#[derive(Args)]
pub(in crate::cli) struct Arguments {
    /// A knockd.conf, or a script with an array of ports (`K22P=(4431 2387 920)`).
    file: PathBuf,
}

/// Larger files are something else.
const LARGEST: u64 = 1 << 20;

pub(super) fn run(arguments: &Arguments) -> Answer {
    let path = arguments.file.display();
    let mut text = String::new();
    let read = std::fs::File::open(&arguments.file)
        .and_then(|file| file.take(LARGEST).read_to_string(&mut text));
    if let Err(error) = read {
        complain(&format!("{path} cannot be read: {error}"));
        return Answer::CouldNot;
    }
    let imported = match import(&text) {
        Ok(imported) => imported,
        Err(error) => {
            complain(&format!("{path}: {error}"));
            return Answer::No;
        }
    };
    say(&imported);
    // It is shown whatever `check` says of it: the errors say what to mend.
    match policy::read("the policy above", &imported) {
        Ok(_) => Answer::Yes,
        Err(report) => {
            use std::io::Write;
            let _ = writeln!(anstream::stderr(), "\n{}", report.render(Style::Coloured));
            Answer::No
        }
    }
}
