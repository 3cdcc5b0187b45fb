//! The program as a link of tcx (kernels from 6.6), which costs a packet less than a filter of clsact. The link lasts for as
//! long as a process or a file holds it: a file below [`DIRECTORY`], in the BPF file system.

use std::collections::HashSet;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::tc::{SchedClassifierLink, TcAttachOptions};
use aya::programs::{LinkOrder, ProgramInfo, SchedClassifier, TcAttachType};
use rustix::fs::statfs;

use super::super::links::Link;
use super::super::namespaces::Cookie;
use super::kernel::{NAME, whole};

/// Where systemd mounts the BPF file system.
pub(super) const FILE_SYSTEM: &str = "/sys/fs/bpf";
const DIRECTORY: &str = "/sys/fs/bpf/toctoc";

/// The file that holds the link at an interface. `None` where there is no BPF file system.
pub(super) fn file(link: &Link) -> Option<PathBuf> {
    /// `BPF_FS_MAGIC`
    const MAGIC: u32 = 0xcafe_4a11;
    // Of other widths on other machines.
    let kind = statfs(FILE_SYSTEM).ok()?.f_type as u32;
    (kind == MAGIC).then_some(())?;
    Some(Path::new(DIRECTORY).join(named(Cookie::own()?, link.index)))
}

/// Neither number is given twice before the machine starts again.
fn named(namespace: Cookie, interface: u32) -> String {
    format!("{namespace}-{interface}")
}

/// Puts a program at an interface, in the place of the one before without a gap, or else before all others.
///
/// # Errors
/// A sentence; on kernels before 6.6 always.
pub(super) fn attach(
    program: &mut SchedClassifier,
    link: &Link,
    file: &Path,
) -> Result<(), String> {
    if let Ok(held) = PinnedLink::from_pin(file) {
        let there = SchedClassifierLink::try_from(FdLink::from(held));
        let replaced = there.ok().and_then(|old| program.attach_to_link(old).ok());
        if let Some(place) = replaced {
            // The file goes on holding it.
            let taken = program.take_link(place);
            return taken.map(drop).map_err(|error| whole(&error));
        }
        fs::remove_file(file).map_err(|error| error.to_string())?;
    }
    let options = TcAttachOptions::TcxOrder(LinkOrder::first());
    let place = program
        .attach_with_options(&link.name, TcAttachType::Ingress, options)
        .map_err(|error| whole(&error))?;
    let place = program.take_link(place).map_err(|error| whole(&error))?;
    let place = FdLink::try_from(place).map_err(|error| whole(&error))?;
    let _ = DirBuilder::new().mode(0o700).create(DIRECTORY);
    // Where it cannot be held, it goes with this process.
    place.pin(file).map(drop).map_err(|error| whole(&error))
}

/// The programs at an interface, in the order in which they are asked. None on kernels before 6.6.
pub(super) fn programs(link: &Link) -> Vec<ProgramInfo> {
    SchedClassifier::query_tcx(&link.name, TcAttachType::Ingress)
        .map_or_else(|_| Vec::new(), |(_, programs)| programs)
}

/// Returns whether a program is one of toctoc.
pub(super) fn is_ours(program: &ProgramInfo) -> bool {
    program.name_as_str() == Some(NAME)
}

/// Takes ours away from an interface, if it is held here.
pub(super) fn detach(link: &Link) {
    if let Some(file) = file(link) {
        let _ = fs::remove_file(file);
    }
}

/// Removes the files of interfaces of this namespace that are gone.
pub(super) fn forget_vanished(links: &[Link]) {
    let Some(own) = Cookie::own() else { return };
    let there: HashSet<String> = links.iter().map(|link| named(own, link.index)).collect();
    let files = fs::read_dir(DIRECTORY).into_iter().flatten().flatten();
    let ours = format!("{own}-");
    for file in files {
        let name = file.file_name().to_string_lossy().into_owned();
        if name.starts_with(&ours) && !there.contains(&name) {
            let _ = fs::remove_file(file.path());
        }
    }
}
