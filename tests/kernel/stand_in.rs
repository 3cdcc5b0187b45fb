//! Stand-ins: a shell script where this world's `nft` or `iptables-restore` was. It calls the real
//! program when and as it likes, and makes it fail in ways that are hard to bring about otherwise.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use crate::world::World;

/// Stands in until it is dropped.
pub struct StandIn {
    program: PathBuf,
    /// Where the real one is meanwhile, if it was in the same place.
    aside: Option<PathBuf>,
}

impl StandIn {
    /// The script finds the real program in `$real`, and a directory of its own in `$here`.
    pub fn new(world: &World, program: &str, script: &str) -> StandIn {
        let place = world.programs().join(program);
        // Its name tells a program of iptables what it is.
        let directory = world.programs().join("real");
        std::fs::create_dir_all(&directory).unwrap();
        let there = place.symlink_metadata().is_ok();
        let aside = there.then(|| directory.join(program));
        if let Some(aside) = &aside {
            std::fs::rename(&place, aside).unwrap();
        }
        let real = match &aside {
            Some(aside) => aside.display().to_string(),
            None => found(program),
        };
        let here = directory.display();
        let script = format!("#!/bin/sh\nreal={real} here={here}\n{script}\n");
        std::fs::write(&place, script).unwrap();
        std::fs::set_permissions(&place, PermissionsExt::from_mode(0o755)).unwrap();
        StandIn {
            program: place,
            aside,
        }
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.program);
        if let Some(aside) = &self.aside {
            let _ = std::fs::rename(aside, &self.program);
        }
    }
}

/// The directory `$here` of all stand-ins of a world.
pub fn here(world: &World) -> PathBuf {
    world.programs().join("real")
}

fn found(program: &str) -> String {
    let command = format!("PATH=$PATH:/usr/sbin:/sbin command -v {program}");
    let output = Command::new("sh").args(["-c", &command]).output().unwrap();
    let path = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "there is no {program}");
    path.trim().to_string()
}
