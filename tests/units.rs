//! The systemd units: accepted by systemd, as tight as the document says, and enough for what they start.

use std::fs;
use std::path::Path;

use toctoc::firewall::{Exit, run};
use toctoc::lab::Lab;

#[path = "support/fleet_program.rs"]
mod fleet_program;

const UNITS: [&str; 6] = [
    "toctoc.service",
    "toctoc-refill.service",
    "toctoc-refill.timer",
    "toctoc-heal.service",
    "toctoc-heal.timer",
    "toctoc-fleet.service",
];

fn unit(name: &str) -> String {
    fs::read_to_string(Path::new("packaging").join(name)).unwrap()
}

/// The units with the program of this build.
fn installed() -> tempfile::TempDir {
    fleet_program::fleet_program();
    let directory = tempfile::tempdir().unwrap();
    for name in UNITS {
        // `toctoc-fleet` stands beside it.
        let text = unit(name).replace("/usr/bin/toctoc", env!("CARGO_BIN_EXE_toctoc"));
        fs::write(directory.path().join(name), text).unwrap();
    }
    directory
}

fn program(command: &[&str]) -> Exit {
    run(command, "").unwrap()
}

/// The pages that a unit names are there once it is installed. (The program itself is another build here.)
#[test]
fn what_the_units_name_is_installed() {
    let directory = tempfile::tempdir().unwrap();
    let to = directory.path().display();
    let ended = program(&[
        "sh",
        "-c",
        "make --no-print-directory --dry-run install PREFIX=/opt/toctoc DESTDIR=$0 | grep -v target/release | sh -e",
        &to.to_string(),
    ]);
    assert!(ended.succeeded(), "{}", ended.stderr);
    for name in UNITS {
        let installed = directory
            .path()
            .join("opt/toctoc/lib/systemd/system")
            .join(name);
        let text = fs::read_to_string(installed).unwrap();
        let page = text
            .lines()
            .find_map(|line| line.strip_prefix("Documentation=file:/"));
        assert!(directory.path().join(page.unwrap()).is_file(), "{text}");
        assert!(!text.contains("=/usr/bin/toctoc"), "{text}");
    }
}

#[test]
fn systemd_accepts_the_units() {
    let directory = installed();
    for name in UNITS {
        let path = directory.path().join(name).display().to_string();
        let ended = program(&["systemd-analyze", "verify", "--man=no", &path]);
        assert!(
            ended.succeeded() && ended.stderr.trim().is_empty(),
            "{name}: {}",
            ended.stderr
        );
    }
    // It would say if there was something.
    let path = directory.path().join("toctoc.service");
    fs::write(
        &path,
        unit("toctoc.service").replace("Type=oneshot", "Type=onceshot"),
    )
    .unwrap();
    let ended = program(&[
        "systemd-analyze",
        "verify",
        "--man=no",
        &path.display().to_string(),
    ]);
    assert!(ended.stderr.contains("onceshot"), "{}", ended.stderr);
}

/// docs/tokens.md and docs/fleet.md state these.
#[test]
fn the_services_are_as_exposed_as_the_document_says() {
    let directory = installed();
    let documents = ["docs/tokens.md", "docs/fleet.md"];
    let document = documents
        .map(|path| fs::read_to_string(path).unwrap())
        .concat();
    for name in [
        "toctoc.service",
        "toctoc-refill.service",
        "toctoc-heal.service",
        "toctoc-fleet.service",
    ] {
        let path = directory.path().join(name).display().to_string();
        let ended = program(&[
            "systemd-analyze",
            "security",
            "--offline=true",
            "--no-pager",
            &path,
        ]);
        let line = ended
            .stdout
            .lines()
            .find(|line| line.contains("Overall exposure level"))
            .unwrap();
        let score = line.split_once(": ").unwrap().1.split(' ').next().unwrap();
        assert!(
            document.contains(&format!("| `{name}` | {score} |")),
            "{name}: {line}"
        );
    }
}

/// Each command of a unit does its work with no more than the capabilities that the unit leaves it.
#[test]
fn the_services_have_the_capabilities_that_they_need() {
    let lab = Lab::new().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let policy = directory.path().join("policy.toml");
    fs::write(
        &policy,
        "[door.ssh]\nports = [22]\n[key.paper]\nopens = [\"ssh\"]\nscratch = [[2387, 920, 18357]]\n",
    )
    .unwrap();
    let start = |name: &str, verb: &str| {
        let text = unit(name);
        let setting = |name: &str| {
            let found = text
                .lines()
                .filter_map(|line| line.strip_prefix(name))
                .next();
            found.unwrap_or_else(|| panic!("{name}")).to_string()
        };
        let capabilities = setting("CapabilityBoundingSet=")
            .to_lowercase()
            .replace("cap_", "+");
        let bounding = format!("--bounding-set=-all,{}", capabilities.replace(' ', ","));
        let command = setting(&format!("Exec{verb}=/usr/bin/"));
        let mut command: Vec<&str> = command.split(' ').collect();
        command[0] = env!("CARGO_BIN_EXE_toctoc");
        let path = policy.display().to_string();
        let state = format!(
            "STATE_DIRECTORY={}",
            directory.path().join("state").display()
        );
        let prefix = ["env", &state, "setpriv", "--no-new-privs", &bounding, "--"];
        // What was applied is healed, whatever a file says.
        let of: &[&str] = match command.contains(&"heal") {
            true => &[],
            false => &[path.as_str()],
        };
        let command = [&prefix[..], &command, of].concat();
        let ended = lab.server.inside(|| program(&command)).unwrap();
        assert!(ended.succeeded(), "{name} {verb}: {}", ended.stderr);
        ended.stdout
    };
    assert!(start("toctoc.service", "Start").contains("the kernel holds"));
    assert!(start("toctoc-refill.service", "Start").contains("saved which scratch"));
    for (name, verb) in [
        ("toctoc.service", "Reload"),
        ("toctoc-heal.service", "Start"),
    ] {
        assert_eq!(start(name, verb), "");
        let flush = ["nft", "flush", "ruleset"];
        lab.server.inside(|| program(&flush)).unwrap();
        assert_eq!(start(name, verb), "");
        let listed = lab
            .server
            .inside(|| program(&["nft", "list", "ruleset"]))
            .unwrap();
        assert!(
            listed.stdout.contains("door-ssh"),
            "{name}: {}",
            listed.stdout
        );
    }
    assert!(start("toctoc.service", "Stop").contains("until the next apply"));
    assert!(start("toctoc.service", "Start").contains("the kernel holds"));
}
