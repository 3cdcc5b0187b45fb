//! The program of the fleet. Cargo builds no program of another package for a test, so here is looked whether it is that
//! of these sources.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The program `toctoc-fleet`, which `toctoc` finds beside itself.
pub fn fleet_program() -> PathBuf {
    let program = Path::new(env!("CARGO_BIN_EXE_toctoc")).with_file_name("toctoc-fleet");
    let Ok(built) = fs::metadata(&program).and_then(|built| built.modified()) else {
        panic!("there is no {}: {BUILD}", program.display());
    };
    for folder in ["src", "fleet/src"] {
        if let Some(source) = newer(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), built) {
            let (program, source) = (program.display(), source.display());
            panic!("{program} is older than {source}: {BUILD}");
        }
    }
    program
}

const BUILD: &str = "`cargo test --workspace --no-run` makes it";

/// A source below a folder that has changed since a moment. Tests are not built into a program, nor is what `toctoc` begins with.
fn newer(folder: &Path, built: SystemTime) -> Option<PathBuf> {
    let mut entries = fs::read_dir(folder).unwrap().flatten();
    entries.find_map(|entry| {
        let path = entry.path();
        if path.is_dir() {
            return newer(&path, built);
        }
        let name = entry.file_name();
        let name = name.to_str()?;
        let counts =
            name.ends_with(".rs") && !name.ends_with("tests.rs") && !path.ends_with("src/main.rs");
        let changed = entry.metadata().unwrap().modified().unwrap();
        (counts && changed > built).then_some(path)
    })
}
