//! Hands over to [`toctoc::cli`].
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    toctoc::cli::main()
}
