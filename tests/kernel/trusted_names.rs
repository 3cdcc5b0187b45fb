//! `trust` by the name of a host, as the system's resolver answers: here from `/etc/hosts` of a mount namespace.

use std::process::{Command, Output};

use toctoc::client::Door;
use toctoc::lab::{CLIENT, STRANGER};

use crate::world::World;

const POLICY: &str = "[door.ssh]\nports = [22]\ntrust = [\"Home.example.org\"]\n\
                      [key.yves]\nopens = [\"ssh\"]\nsequence = [4431, 2387, 9920, 31007]\n";

/// Runs `toctoc` on the server, where the file of hosts says this.
fn toctoc(world: &World, hosts: &str, arguments: &[&str]) -> Output {
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
    world.lab.server.inside(|| outer.output()).unwrap().unwrap()
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
    yes(&world, &hosts(&CLIENT), &["apply"]);
    for (client, stranger) in CLIENT.into_iter().zip(STRANGER) {
        assert!(is_in(&world, client) && !is_in(&world, stranger));
    }
    let path = world.path();
    let status = ["status", path.to_str().unwrap()];
    let said = yes(&world, "", &status[..1]);
    assert!(said.contains("closed to all, trusts"), "{said}");
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
    yes(&world, &hosts(&[]), &["apply"]);
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

/// A policy without names leaves nothing of them behind.
#[test]
fn a_policy_without_names_forgets_them() {
    let world = world();
    yes(&world, &hosts(&CLIENT), &["apply"]);
    let is_noted = || {
        let files = std::fs::read_dir(world.state_directory())
            .unwrap()
            .flatten();
        let mut names = files.map(|file| file.file_name().into_string().unwrap());
        names.any(|name| name.starts_with("names"))
    };
    assert!(is_noted());
    std::fs::write(
        world.path(),
        POLICY.replace("trust = [\"Home.example.org\"]\n", ""),
    )
    .unwrap();
    yes(&world, &hosts(&CLIENT), &["apply"]);
    assert!(!is_noted() && !is_in(&world, CLIENT[0]));
    assert_eq!(yes(&world, &hosts(&CLIENT), &["heal"]), "");
}
