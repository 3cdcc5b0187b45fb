//! Checks that nobody but root and the user can change a file, or a directory on the way to it: that of a policy, or a
//! program.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Display, Path, PathBuf};

/// Links that lead to links: the kernel follows no more either.
const MOST_LINKS: usize = 40;

/// The use of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    Policy,
    Program,
}

impl Use {
    fn name(self) -> &'static str {
        match self {
            Use::Policy => "policy",
            Use::Program => "program",
        }
    }

    /// The command that takes the file from others.
    fn remedy(self, shown: &Display<'_>) -> String {
        match self {
            Use::Policy => format!("`chmod 600 {shown}`"),
            Use::Program => format!("`chmod go-w {shown}`"),
        }
    }

    /// A place that is safe.
    fn place(self) -> &'static str {
        match self {
            Use::Policy => "keep it in /etc/toctoc",
            Use::Program => "install it as root",
        }
    }
}

/// A sentence, if others than root and the user can change what a policy file says: the file, what it is a link
/// to, or a directory in which one of these could be replaced. Standard input is whoever's it is.
pub fn others_can_change(path: &Path) -> Option<String> {
    others_can_write(path, Use::Policy)
}

/// The same for a program.
pub fn others_can_replace(program: &Path) -> Option<String> {
    others_can_write(program, Use::Program)
}

fn others_can_write(path: &Path, what: Use) -> Option<String> {
    let user = rustix::process::geteuid().as_raw();
    if path.as_os_str() == "-" {
        return None;
    }
    let mut place = path.to_path_buf();
    for _ in 0..MOST_LINKS {
        // Directories that are links themselves: they can be changed where these are.
        let parent = match place.parent() {
            Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
            Some(parent) => parent,
            None => return None,
        };
        if let Some(why) = links_of(parent, user, what) {
            return Some(why);
        }
        // A file that cannot be read is told of by its reader.
        let found = place.symlink_metadata().ok()?;
        if !is_the_kernels(parent) {
            let directory = parent.metadata().ok()?;
            if let Some(why) = directory_judged(parent, &directory, user, what) {
                return Some(why);
            }
        }
        if !found.is_symlink() {
            return judged(&place, &found, user, what);
        }
        place = parent.join(place.read_link().ok()?);
    }
    None
}

/// Judges the directories that hold the links on the way to a directory.
fn links_of(directory: &Path, user: u32, what: Use) -> Option<String> {
    let mut so_far = PathBuf::new();
    for part in directory {
        let parent = match so_far.as_os_str().is_empty() {
            true => PathBuf::from("."),
            false => so_far.clone(),
        };
        so_far.push(part);
        let is_link = so_far
            .symlink_metadata()
            .is_ok_and(|found| found.is_symlink());
        if is_link && !is_the_kernels(&parent) {
            let found = parent.metadata().ok()?;
            if let Some(why) = directory_judged(&parent, &found, user, what) {
                return Some(why);
            }
        }
    }
    None
}

/// Where the kernel keeps what is the process's own.
fn is_the_kernels(directory: &Path) -> bool {
    directory.starts_with("/proc") || directory.starts_with("/dev")
}

fn judged(path: &Path, found: &Metadata, user: u32, what: Use) -> Option<String> {
    let (shown, mode) = (path.display(), found.mode() & 0o7777);
    if !found.is_file() {
        return None;
    }
    if !is_trusted(found.uid(), user) {
        return Some(format!(
            "{shown} belongs to another user ({}), who can change the {}: `chown root {shown}`",
            found.uid(),
            what.name()
        ));
    }
    (mode & 0o022 != 0).then(|| {
        let remedy = what.remedy(&shown);
        format!("{shown} can be changed by others (mode {mode:04o}): {remedy}")
    })
}

fn directory_judged(path: &Path, found: &Metadata, user: u32, what: Use) -> Option<String> {
    let (shown, mode) = (path.display(), found.mode() & 0o7777);
    let name = what.name();
    if !is_trusted(found.uid(), user) {
        return Some(format!(
            "{shown}, the directory of the {name}, belongs to another user ({}), who can replace the {name}: {}",
            found.uid(),
            what.place()
        ));
    }
    // Where only the owner of a file can replace it (/tmp), the file's owner is enough.
    let is_sticky = mode & 0o1000 != 0;
    (mode & 0o022 != 0 && !is_sticky).then(|| {
        format!(
            "others can write into {shown}, the directory of the {name}, and replace it (mode {mode:04o}): `chmod \
             go-w {shown}`"
        )
    })
}

fn is_trusted(owner: u32, user: u32) -> bool {
    owner == user || owner == 0
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn with(mode: u32, path: &Path) {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn the_file_and_its_directory_are_judged() {
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().join("toctoc");
        fs::create_dir(&directory).unwrap();
        let path = directory.join("policy.toml");
        fs::write(&path, "").unwrap();
        for (of_file, of_directory, wanted) in [
            (0o600, 0o700, None),
            (0o644, 0o755, None),
            (0o400, 0o1777, None),
            (0o602, 0o700, Some("(mode 0602)")),
            (0o620, 0o700, Some("(mode 0620)")),
            (0o600, 0o702, Some("(mode 0702)")),
            (0o600, 0o770, Some("(mode 0770)")),
        ] {
            with(of_file, &path);
            with(of_directory, &directory);
            let said = others_can_change(&path);
            assert_eq!(
                said.is_some(),
                wanted.is_some(),
                "{of_file:o} {of_directory:o}"
            );
            assert!(
                said.unwrap_or_default()
                    .contains(wanted.unwrap_or_default())
            );
        }
        assert!(!is_trusted(1000, 0) && !is_trusted(1000, 1001));
        assert!(is_trusted(0, 1000) && is_trusted(1000, 1000));
        assert_eq!(others_can_change(Path::new("-")), None);
        assert_eq!(others_can_change(Path::new("/dev/stdin")), None);
        assert_eq!(others_can_change(&home.path().join("none")), None);
    }

    /// A link is as safe as the directory it is in, what it points to, and where that is.
    #[test]
    fn links_are_judged_with_what_they_point_to() {
        let home = tempfile::tempdir().unwrap();
        let (own, common) = (home.path().join("own"), home.path().join("common"));
        fs::create_dir(&own).unwrap();
        fs::create_dir(&common).unwrap();
        for directory in [&own, &common] {
            fs::write(directory.join("policy.toml"), "").unwrap();
            with(0o600, &directory.join("policy.toml"));
            with(0o700, directory);
        }
        with(0o777, &common);
        let link = |at: PathBuf, to: &Path| {
            symlink(to, &at).unwrap();
            at
        };
        let out = link(own.join("out"), &common.join("policy.toml"));
        let into = link(common.join("in"), &own.join("policy.toml"));
        let within = link(own.join("within"), Path::new("policy.toml"));
        let around = link(own.join("around"), &into);
        let to_directory = link(common.join("directory"), &own).join("policy.toml");
        for bad in [out, into, around, to_directory] {
            assert!(others_can_change(&bad).is_some(), "{}", bad.display());
        }
        assert_eq!(others_can_change(&within), None);
        with(0o606, &own.join("policy.toml"));
        assert!(others_can_change(&within).is_some());
    }
}
