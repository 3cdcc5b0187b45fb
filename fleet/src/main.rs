//! Hands over to [`toctoc_fleet::program`].
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    toctoc_fleet::program::main()
}
