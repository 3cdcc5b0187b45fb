//! `trust` by the name of a host, as the system's resolver answers: here from `/etc/hosts` of a mount namespace.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use toctoc::client::Door;
use toctoc::lab::{CLIENT, STRANGER};

use crate::world::World;

const POLICY: &str = "[door.ssh]\nports = [22]\ntrust = [\"Home.example.org\"]\n\
                      [key.yves]\nopens = [\"ssh\"]\nsequence = [4431, 2387, 9920, 31007]\n";

/// Runs `toctoc` on the server, where the file of hosts says this.
fn toctoc(world: &World, hosts: &str, arguments: &[&str]) -> Output {
    let mut command = command(world, hosts, arguments);
    world
        .lab
        .server
        .inside(|| command.output())
        .unwrap()
        .unwrap()
}

fn command(world: &World, hosts: &str, arguments: &[&str]) -> Command {
    let file = world.private_file("hosts", hosts);
    let inner = world.toctoc_command(arguments);
    let mut outer = Command::new("unshare");
    outer
        .args(["--mount", "sh", "-c"])
        .arg("mount --bind \"$0\" /etc/hosts && exec \"$@\"")
        .arg(file)
        .arg(inner.get_program())
        .args(inner.get_args());
    for (name, value) in inner.get_envs() {
        if let Some(value) = value {
            outer.env(name, value);
        }
    }
    outer
}

/// The same, which must succeed. Returns all that it says.
fn yes(world: &World, hosts: &str, arguments: &[&str]) -> String {
    let output = toctoc(world, hosts, arguments);
    let said = [output.stdout, output.stderr].map(|said| String::from_utf8(said).unwrap());
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {said:?}");
    said.concat()
}

fn hosts(addresses: &[&str]) -> String {
    let lines = addresses
        .iter()
        .map(|address| format!("{address} home.example.org\n"));
    format!("127.0.0.1 localhost\n{}", lines.collect::<String>())
}

fn world() -> World {
    let world = World::bare();
    std::fs::write(world.path(), POLICY).unwrap();
    world.listen(22);
    world
}

fn is_in(world: &World, from: &str) -> bool {
    world.connect(from, 22) == Door::Open
}

#[test]
fn a_host_is_trusted_at_the_addresses_that_its_name_has() {
    let world = world();
    let said = yes(&world, &hosts(&CLIENT), &["apply"]);
    assert!(said.contains("; trusts home.example.org\n"), "{said}");
    let said = yes(&world, &hosts(&CLIENT), &["check"]);
    assert!(
        said.contains("ssh          trusts home.example.org\n"),
        "{said}"
    );
    for (client, stranger) in CLIENT.into_iter().zip(STRANGER) {
        assert!(is_in(&world, client) && !is_in(&world, stranger));
    }
    let path = world.path();
    let status = ["status", path.to_str().unwrap()];
    let said = yes(&world, "", &status[..1]);
    let [four, six] = CLIENT;
    let trusts = format!("closed to all, trusts home.example.org ({four} and {six})");
    assert!(said.contains(&trusts), "{said}");
    let door = world.status()["doors"][0].clone();
    assert_eq!(door["trust"], serde_json::json!(["home.example.org"]));
    assert_eq!(
        door["addresses"],
        serde_json::json!({ "home.example.org": [four, six] })
    );
    assert!(!said.contains("cannot be resolved"), "{said}");
    // Nothing has changed, and the healing has nothing to say.
    assert_eq!(yes(&world, &hosts(&CLIENT), &["heal"]), "");
    // The host moves: the timer sees it, and a grant by hand stays.
    world.yes(&["open", "ssh", CLIENT[1]]);
    let said = yes(&world, &hosts(&STRANGER[..1]), &["heal"]);
    assert!(said.contains("home.example.org: other addresses"), "{said}");
    assert!(is_in(&world, STRANGER[0]) && !is_in(&world, CLIENT[0]));
    assert!(is_in(&world, CLIENT[1]) && !is_in(&world, STRANGER[1]));
    assert_eq!(yes(&world, &hosts(&STRANGER[..1]), &["heal"]), "");
    assert!(yes(&world, "", &["status"]).contains("the kernel holds what the policy says"));
}

#[test]
fn the_last_known_addresses_stay_in_use_while_nobody_answers() {
    let world = world();
    // Nobody is trusted before the first answer.
    let said = yes(&world, &hosts(&[]), &["apply"]);
    assert!(said.contains("nobody is trusted by that name"), "{said}");
    assert!(!is_in(&world, CLIENT[0]) && !is_in(&world, STRANGER[0]));
    let said = yes(&world, "", &["status"]);
    assert!(said.contains("nobody is trusted by that name"), "{said}");
    yes(&world, &hosts(&CLIENT[..1]), &["heal"]);
    assert!(is_in(&world, CLIENT[0]));
    for nothing in [
        hosts(&[]),
        hosts(&["0.0.0.0"]),
        hosts(&["127.0.0.1", STRANGER[0]]),
        hosts(&["224.0.0.1"]),
    ] {
        assert_eq!(yes(&world, &nothing, &["heal"]), "");
        assert!(is_in(&world, CLIENT[0]) && !is_in(&world, STRANGER[0]));
        let said = yes(&world, "", &["status"]);
        assert!(
            said.contains("home.example.org cannot be resolved since"),
            "{said}"
        );
        let stays = format!("stay in use: {}", CLIENT[0]);
        assert!(said.contains(&stays), "{said}");
        // An apply asks too, and uses them all the same.
        yes(&world, &nothing, &["apply"]);
        assert!(is_in(&world, CLIENT[0]) && !is_in(&world, STRANGER[0]));
    }
    // Rules that others flush are restored with them.
    world.nft("flush ruleset");
    yes(&world, &hosts(&[]), &["heal"]);
    assert!(is_in(&world, CLIENT[0]) && !is_in(&world, STRANGER[0]));
    yes(&world, &hosts(&CLIENT[..1]), &["heal"]);
    assert!(!yes(&world, "", &["status"]).contains("cannot be resolved"));
}

/// A policy without names trusts nobody by one. A removal leaves nothing of them behind.
#[test]
fn a_policy_without_names_trusts_nobody_by_one() {
    let world = world();
    yes(&world, &hosts(&CLIENT), &["apply"]);
    assert!(names_file(&world).is_some());
    let other = POLICY.replace("trust = [\"Home.example.org\"]\n", "");
    std::fs::write(world.path(), other).unwrap();
    yes(&world, &hosts(&CLIENT), &["apply"]);
    assert!(!is_in(&world, CLIENT[0]));
    assert_eq!(yes(&world, &hosts(&CLIENT), &["heal"]), "");
    yes(&world, "", &["remove"]);
    assert_eq!(names_file(&world), None);
}

fn names_file(world: &World) -> Option<PathBuf> {
    let files = std::fs::read_dir(world.state_directory()).unwrap();
    let mut paths = files.flatten().map(|file| file.path());
    paths.find(|path| {
        let name = path.file_name().unwrap();
        name.to_str().unwrap().starts_with("names")
    })
}

/// A file of ours that is gone or damaged: the next healing asks again, and follows the host.
#[test]
fn names_that_were_lost_are_asked_for_again() {
    let world = world();
    let mut at = CLIENT[0];
    for lose in [
        |file: &Path| std::fs::remove_file(file).unwrap(),
        |file: &Path| std::fs::write(file, "{").unwrap(),
    ] {
        yes(&world, &hosts(&[at]), &["apply"]);
        lose(&names_file(&world).unwrap());
        let other = if at == CLIENT[0] {
            STRANGER[0]
        } else {
            CLIENT[0]
        };
        yes(&world, &hosts(&[other]), &["heal"]);
        assert!(is_in(&world, other) && !is_in(&world, at));
        let said = yes(&world, "", &["status"]);
        assert!(
            said.contains("the kernel holds what the policy says"),
            "{said}"
        );
        at = other;
    }
    // What cannot be noted is in force all the same, and is told.
    let file = names_file(&world).unwrap();
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    let said = yes(&world, &hosts(&[at]), &["apply"]);
    assert!(said.contains("names"), "{said}");
    assert!(is_in(&world, at) && !is_in(&world, STRANGER[1]));
}

/// A policy that goes back finds the addresses of its names, also where nobody answers now.
#[test]
fn a_trial_that_goes_back_finds_the_last_known_addresses() {
    let world = world();
    yes(&world, &hosts(&CLIENT[..1]), &["apply"]);
    let other = POLICY.replace("Home", "work");
    std::fs::write(world.path(), other).unwrap();
    let work = format!("127.0.0.1 localhost\n{} work.example.org\n", STRANGER[0]);
    yes(&world, &work, &["apply", "--confirm", "5m"]);
    assert!(is_in(&world, STRANGER[0]) && !is_in(&world, CLIENT[0]));
    yes(&world, &hosts(&[]), &["rollback"]);
    assert!(is_in(&world, CLIENT[0]) && !is_in(&world, STRANGER[0]));
    std::fs::write(world.path(), POLICY).unwrap();
    assert_eq!(yes(&world, &hosts(&[]), &["heal"]), "");
    let said = yes(&world, "", &["status"]);
    assert!(
        said.contains("the kernel holds what the policy says"),
        "{said}"
    );
}

/// What is refused changes nothing of the names in force.
#[test]
fn an_apply_that_fails_changes_no_addresses() {
    let world = world();
    yes(&world, &hosts(&CLIENT[..1]), &["apply"]);
    std::fs::write(world.path(), POLICY.replace("Home", "work")).unwrap();
    let folder = world.path().with_file_name("programs");
    std::fs::create_dir(&folder).unwrap();
    let nft = folder.join("nft");
    let script = "#!/bin/sh\ncase \" $* \" in *\" -f \"*) echo no >&2; exit 1;; esac\nexec /usr/sbin/nft \"$@\"\n";
    std::fs::write(&nft, script).unwrap();
    std::fs::set_permissions(&nft, std::fs::Permissions::from_mode(0o755)).unwrap();
    let work = format!("127.0.0.1 localhost\n{} work.example.org\n", STRANGER[0]);
    let mut apply = command(&world, &work, &["apply"]);
    let path = std::env::var("PATH").unwrap();
    apply.env("PATH", format!("{}:{path}", folder.display()));
    let output = world.lab.server.inside(|| apply.output()).unwrap().unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    std::fs::write(world.path(), POLICY).unwrap();
    for nothing in ["", &hosts(&[]), &hosts(&CLIENT[..1])] {
        assert_eq!(yes(&world, nothing, &["heal"]), "");
        assert!(is_in(&world, CLIENT[0]) && !is_in(&world, STRANGER[0]));
        let said = yes(&world, "", &["status"]);
        assert!(
            said.contains("the kernel holds what the policy says"),
            "{said}"
        );
    }
}
