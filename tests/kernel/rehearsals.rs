//! `toctoc check --rehearse`: every key at every door, and nothing of this host is touched.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Output;

use crate::person::said;
use crate::token_world::SECRET;
use crate::world::{World, YVES};

/// All kinds of keys; a door that trusts where the client would come from; two families; an interface of
/// another name than there is.
const ALL_KINDS: &str = r#"
interfaces = ["wan7"]
token_port = 40123
closed = "reject"

[door.ssh]
ports = [22, 2222]
trust = ["192.0.2.0/24", "2001:db8::/64"]

[door.vpn]
ports = ["51820/udp"]

[key.yves]
opens = ["ssh", "vpn"]
sequence = [4431, "2387/udp", 920, 18357, 50]

[key.guest]
opens = ["ssh"]
once = true
sequence = [4432, 2387, 920, 18357, 51]

[key.boat]
opens = ["vpn"]
sequence = [4433, 2387, 920, 18357, 52]

[key.phone]
opens = ["ssh"]
token = "phone.secret"

[key.paper]
opens = ["ssh"]
scratch = [[4434, 2387, 920, 18357], [4435, 2388, 921, 18358]]

[key.student]
opens = ["ssh"]
expires = 2020-01-31
sequence = [4436, 2387, 920, 18357, 53]
"#;

fn rehearse(world: &World, policy: &str) -> Output {
    fs::write(world.path(), policy).unwrap();
    world.toctoc(&["check", "--elsewhere", "--rehearse"])
}

fn the_classic_opens() {
    let world = World::with(YVES);
    let before = world.all_rules();
    let output = rehearse(&world, YVES);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let text = said(&output);
    let all = "all doors are shut; 1 key opened exactly its doors, 2 times";
    assert!(text.contains(all), "{text}");
    assert!(world.all_rules() == before);
    assert!(world.nobody_is_in());
}

on_every_firewall!(the_classic_opens);

#[test]
fn every_kind_of_key_opens() {
    let world = World::bare();
    world.private_file("phone.secret", SECRET);
    let output = rehearse(&world, ALL_KINDS);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let text = said(&output);
    // Four keys in two families, and each scratch sequence once.
    assert!(
        text.contains("5 keys opened exactly their doors, 10 times"),
        "{text}"
    );
    assert!(
        text.contains("not rehearsed: key student has expired"),
        "{text}"
    );
    assert!(!world.state_directory().exists());
}

/// A key that nobody can try is told, and is no success.
#[test]
fn what_cannot_be_tried_is_told() {
    let world = World::bare();
    let trusting = YVES.replace("ports = [22]", "ports = [22]\ntrust = [\"0.0.0.0/0\"]");
    let output = rehearse(&world, &trusting);
    let text = said(&output);
    assert!(text.contains("IPv4: a door trusts every address"), "{text}");
    assert!(
        text.contains("1 key opened exactly its doors, 1 time"),
        "{text}"
    );
}

/// An nft that does something else than it is told.
fn disturbed(world: &World, after_loading: &str) {
    let nft = world.programs().join("nft");
    let script = format!(
        "#!/bin/sh\n/usr/sbin/nft \"$@\"; status=$?\n\
         [ \"$1\" != -f ] || /usr/sbin/nft {after_loading} 2>/dev/null\nexit $status\n"
    );
    fs::write(&nft, script).unwrap();
    fs::set_permissions(nft, PermissionsExt::from_mode(0o755)).unwrap();
}

#[test]
fn a_key_that_does_not_open_is_an_error() {
    let world = World::bare();
    disturbed(&world, "flush chain inet toctoc key-yves");
    let output = rehearse(&world, YVES);
    assert_eq!(output.status.code(), Some(1));
    let text = said(&output);
    assert!(
        text.contains("rehearsal: key yves does not open door ssh"),
        "{text}"
    );
}

#[test]
fn a_door_that_is_open_is_an_error() {
    let world = World::bare();
    disturbed(&world, "insert rule inet toctoc door-ssh accept");
    let output = rehearse(&world, YVES);
    assert_eq!(output.status.code(), Some(1));
    let text = said(&output);
    assert!(
        text.contains("door ssh is open to everyone at 22/tcp"),
        "{text}"
    );
}
