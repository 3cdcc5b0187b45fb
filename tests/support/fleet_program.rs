//! The program of the fleet. Cargo builds no program of another package for a test, so here is looked whether it is that
//! of these sources.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The program `toctoc-fleet`, which `toctoc` finds beside itself.
pub fn fleet_program() -> PathBuf {
    let program = Path::new(env!("CARGO_BIN_EXE_toctoc")).with_file_name("toctoc-fleet");
    let changed = |path: &Path| -> Option<SystemTime> { fs::metadata(path).ok()?.modified().ok() };
    let Some(built) = changed(&program) else {
        panic!("there is no {}: {BUILD}", program.display());
    };
    // Cargo lists there what it was made of.
    let list = fs::read_to_string(program.with_extension("d")).unwrap();
    let (_, sources) = list.split_once(": ").unwrap();
    let newer = |source: &&str| changed(Path::new(source)).is_none_or(|changed| changed > built);
    if let Some(source) = sources.split_ascii_whitespace().find(newer) {
        panic!("{} is older than {source}: {BUILD}", program.display());
    }
    program
}

const BUILD: &str = "`cargo test --workspace --no-run` makes it";
