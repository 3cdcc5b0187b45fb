//! The program as a link of tcx (kernels from 6.6), which costs a packet less than a filter of clsact. The link lasts for as
//! long as a process or a file holds it: a file below [`DIRECTORY`], in the BPF file system.

use std::collections::HashSet;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use aya::maps::MapInfo;
use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::tc::{SchedClassifierLink, TcAttachOptions};
use aya::programs::{LinkOrder, ProgramError, ProgramInfo, SchedClassifier, TcAttachType};
use rustix::fs::statfs;
use rustix::io::Errno;

use super::super::links::{Link, Links};
use super::super::namespaces::Cookie;
use super::kernel::{NAME, whole};
use crate::signed::program::Entry;

/// Where systemd mounts the BPF file system.
pub(super) const FILE_SYSTEM: &str = "/sys/fs/bpf";
const DIRECTORY: &str = "/sys/fs/bpf/toctoc";

/// Attempts to list programs of which some go meanwhile.
const TRIES: u32 = 3;

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

/// The programs at an interface, in the order in which they are asked. None on kernels before 6.6, and where the interface is
/// gone.
///
/// # Errors
/// When the kernel does not say: which program it is, only who has CAP_SYS_ADMIN is told.
pub(super) fn programs(link: &Link) -> io::Result<Vec<ProgramInfo>> {
    let mut tries = 0..TRIES;
    loop {
        let error = match SchedClassifier::query_tcx(&link.name, TcAttachType::Ingress) {
            Ok((_, programs)) => return Ok(programs),
            Err(ProgramError::SyscallError(error)) => error.io_error,
            Err(other) => io::Error::other(whole(&other)),
        };
        match error.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::INVAL | Errno::NODEV) => return Ok(Vec::new()),
            // One has just gone: they are listed first, and looked up then.
            Some(Errno::NOENT) if tries.next().is_some() => {}
            _ if Links::read()?.numbered(link.index).is_none() => return Ok(Vec::new()),
            _ => return Err(error),
        }
    }
}

/// Returns whether a program is one of toctoc. A refill loads it without a name: it has not the right to ask whether this
/// kernel takes one. Such a program is known by its map, the only one.
pub(super) fn is_ours(program: &ProgramInfo) -> bool {
    match program.name() {
        [] => {
            let maps = program.map_ids().ok().flatten().unwrap_or_default();
            let is_of_keys = |map: &u32| {
                MapInfo::from_id(*map)
                    .is_ok_and(|map| map.key_size() == 4 && map.value_size() == Entry::LENGTH)
            };
            maps.len() == 1 && maps.iter().all(is_of_keys)
        }
        name => name == NAME.as_bytes(),
    }
}

/// Takes ours away from an interface, if it is held here. The kernel may do it a moment later.
pub(super) fn detach(link: &Link) {
    let held = file(link).and_then(|file| PinnedLink::from_pin(file).ok());
    // The last who holds it lets it go at once; a file alone would do so later.
    drop(held.map(PinnedLink::unpin));
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
