//! docs/fleet.md as it stands: three hosts, an engine and a client, from the text alone.
//!
//! `<!-- file: HOSTS: PATH -->` makes a block a file there, `<!-- copy: HOST to HOSTS: PATH -->` stands for a block that
//! copies one, `<!-- run: HOSTS -->` runs its commands there, and
//! `<!-- run: HOST, until -->` runs them until they print what stands there. What ends with `&` is ended with
//! the test.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use toctoc::lab::Host;

use super::bottle::Fleet;
use crate::document::{blocks, sessions};
use crate::fleet_program::fleet_program;
use crate::world::PATIENCE;

/// A host with a home, and an `/etc/toctoc`, of its own.
struct Place<'f> {
    name: &'f str,
    host: &'f Host,
    home: PathBuf,
}

impl Place<'_> {
    fn shell(&self, line: &str) -> (String, Option<i32>) {
        let program = Path::new(env!("CARGO_BIN_EXE_toctoc")).parent().unwrap();
        let path = std::env::var("PATH").unwrap_or_default();
        let line = match line.ends_with('&') {
            true => format!("{line} echo $! >>pids"),
            false => line.to_string(),
        };
        let home = self.home.display();
        let script = format!(
            "mkdir -p /etc/toctoc 2>/dev/null; mount --bind {home}/etc /etc/toctoc && cd {home} && \
             {{ {line}\n}} 2>&1"
        );
        let output = self.host.inside(|| {
            Command::new("unshare")
                .args(["--mount", "--", "sh", "-c", &script])
                .env(
                    "PATH",
                    format!("{}:{path}:/usr/sbin:/sbin", program.display()),
                )
                .env("HOME", &self.home)
                .env("STATE_DIRECTORY", self.home.join("state"))
                .env("RUNTIME_DIRECTORY", self.home.join("run"))
                .stdin(Stdio::null())
                .output()
                .unwrap()
        });
        let output = output.unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        (said, output.status.code())
    }

    fn path(&self, path: &str) -> PathBuf {
        self.home.join(path.replace("/etc/toctoc/", "etc/"))
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap()
    }

    fn file(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let pids = fs::read_to_string(self.home.join("pids")).unwrap_or_default();
        for pid in pids.lines() {
            let _ = Command::new("kill").args(["-9", pid]).output();
        }
    }
}

#[test]
fn the_guide_to_the_fleet_is_true() {
    fleet_program();
    let fleet = Fleet::bare(3);
    let directory = tempfile::tempdir().unwrap();
    let place = |name: &'static str, host| {
        let home = directory.path().join(name);
        fs::create_dir_all(home.join("etc")).unwrap();
        Place { name, host, home }
    };
    let [a, b, c] = [0, 1, 2].map(|number| &fleet.members[number].host);
    let places = [
        place("a", a),
        place("b", b),
        place("c", c),
        place("engine", &fleet.engine),
        place("client", &fleet.client),
    ];
    for number in 0..3 {
        fleet.listen(number, 22);
    }
    let text = fs::read_to_string("docs/fleet.md").unwrap();
    let mut commands = 0;
    for block in blocks(&text) {
        let named = |names: &str| -> Vec<&Place> {
            let names = names.split(' ');
            let found = names.map(|name| places.iter().find(|p| p.name == name).expect(name));
            found.collect()
        };
        if let Some(rest) = block.mark.strip_prefix("file: ") {
            let (names, path) = rest.split_once(": ").unwrap();
            for place in named(names) {
                place.file(path, &block.text);
            }
            continue;
        }
        if let Some(rest) = block.mark.strip_prefix("copy: ") {
            let (names, path) = rest.split_once(": ").unwrap();
            let (from, to) = names.split_once(" to ").unwrap();
            let text = named(from)[0].read(path);
            named(to).iter().for_each(|place| place.file(path, &text));
            continue;
        }
        let Some(run) = block.mark.strip_prefix("run: ") else {
            assert_ne!(block.language, "console", "not run: {}", block.text);
            continue;
        };
        let (names, until) = run
            .split_once(", until")
            .map_or((run, false), |(n, _)| (n, true));
        for place in named(names) {
            for session in sessions(&block.text) {
                commands += 1;
                prints(place, &session.command, &session.output, until);
            }
        }
    }
    assert!(commands >= 15, "only {commands} commands found");
}

/// Runs a command, or runs it until it prints this.
fn prints(place: &Place, command: &str, output: &str, until: bool) {
    let deadline = Instant::now() + 2 * PATIENCE;
    loop {
        let (said, code) = place.shell(command);
        let assert = snapbox::Assert::new().normalize_paths(false);
        let wanted = snapbox::Data::text(output.to_string());
        match assert.try_eq(None, said.clone().into(), wanted) {
            Ok(()) if code.is_some() => return,
            _ if until && Instant::now() < deadline => thread::sleep(Duration::from_millis(100)),
            Ok(()) => panic!("{command} was killed at {}", place.name),
            Err(error) => panic!("{command} at {}:\n{error}\n{said}", place.name),
        }
    }
}
