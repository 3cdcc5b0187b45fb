//! Finds out whether systemd applies a policy at boot. Files are looked at, and systemd is not asked: it may not
//! run yet, or not here.

use std::fs;
use std::path::Path;

/// The unit that applies the policy.
pub const UNIT: &str = "toctoc.service";

/// Where systemd looks for units.
const DIRECTORIES: [&str; 4] = [
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
];

/// Returns whether the unit is started at boot.
pub fn is_enabled() -> bool {
    is_enabled_in(&DIRECTORIES.map(Path::new))
}

/// Returns whether the unit is installed.
pub fn is_there() -> bool {
    let files = DIRECTORIES.map(|directory| Path::new(directory).join(UNIT));
    files.iter().any(|file| file.exists())
}

fn is_enabled_in(directories: &[&Path]) -> bool {
    let nowhere = Path::new("/dev/null");
    let masks = |directory: &&Path| {
        fs::read_link(directory.join(UNIT)).is_ok_and(|target| target == nowhere)
    };
    !directories.iter().any(masks) && directories.iter().any(|directory| wants(directory))
}

/// Returns whether something that systemd starts wants the unit.
fn wants(directory: &Path) -> bool {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut wanting = entries.map(|entry| entry.path()).filter(|path| {
        let kind = path.extension().and_then(|kind| kind.to_str());
        matches!(kind, Some("wants" | "requires"))
    });
    wanting.any(|path| path.join(UNIT).symlink_metadata().is_ok())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_is_wanted_and_not_masked_is_enabled() {
        let directory = tempfile::tempdir().unwrap();
        let (etc, run) = (directory.path().join("etc"), directory.path().join("run"));
        let enabled = || is_enabled_in(&[&etc, &run]);
        assert!(!enabled());
        fs::create_dir_all(etc.join("multi-user.target.wants")).unwrap();
        fs::create_dir(&run).unwrap();
        assert!(!enabled());
        symlink("/nowhere", etc.join("multi-user.target.wants").join(UNIT)).unwrap();
        assert!(enabled());
        symlink("/dev/null", run.join(UNIT)).unwrap();
        assert!(!enabled());
    }
}
