//! Clients of signed keys: the address that they sign for (their own, a named one, or one that a STUN server says), and the
//! profiles that `key new` makes for them.

use std::fs;

use toctoc::lab::{CLIENT, Host, SERVER};

use crate::signed_keys::{guarded, opens};
use crate::token_world::{PORT, SECRET};
use crate::world::{World, on, start};

/// The program of `toctoc knock`, by the address that it sends from; and by a wrong one, as behind NAT.
#[test]
fn the_client_signs_the_address_that_it_sends_from() {
    let world = guarded();
    for server in SERVER {
        let text =
            format!("host = \"{server}\"\ndoor = 22\nsigned = \"{SECRET}\"\ntoken_port = {PORT}\n");
        let good = world.profile(&text);
        let toctoc = env!("CARGO_BIN_EXE_toctoc");
        let exit = world.client(&[toctoc, "knock", &good]);
        assert!(exit.code == Some(0), "{}", exit.stderr);
        world.yes(&["close"]);
        let wrong = match server.contains(':') {
            true => "2001:db8:9::1",
            false => "198.51.100.1",
        };
        let wrong = world.profile(&format!("{text}from = \"{wrong}\"\n"));
        let exit = world.client(&[toctoc, "knock", &wrong]);
        assert!(exit.code != Some(0), "{}", exit.stdout);
        assert!(world.nobody_is_in());
    }
}

/// A host behind the world's client, which lets it out under its own address alone (NAT).
fn behind_nat(world: &World) -> Host {
    let (home, router) = (Host::new().unwrap(), &world.lab.client);
    for words in [
        &format!("link add far type veth peer name eth0 netns {}", home.pid()) as &str,
        "addr add 10.9.0.1/24 dev far",
        "link set far up",
    ] {
        router.ip(words).unwrap();
    }
    for words in [
        "addr add 10.9.0.7/24 dev eth0",
        "link set eth0 up",
        "route add default via 10.9.0.1",
    ] {
        home.ip(words).unwrap();
    }
    for command in [
        "sysctl -qw net.ipv4.ip_forward=1",
        "iptables-legacy -t nat -A POSTROUTING -o eth0 -j MASQUERADE",
    ] {
        let words: Vec<&str> = command.split(' ').collect();
        assert!(world.client(&words).succeeded());
    }
    home
}

/// A real STUN server says which address datagrams have outside. Without it, or when it is silent, nothing opens.
#[test]
fn behind_nat_a_server_says_which_address_to_sign() {
    let world = guarded();
    let home = behind_nat(&world);
    let knock = |host: &str, from: &str, source: &Host| {
        let profile = world.profile(&format!(
            "host = \"{host}\"\ndoor = 22\nsigned = \"{SECRET}\"\ntoken_port = {PORT}\n{from}"
        ));
        on(source, &[env!("CARGO_BIN_EXE_toctoc"), "knock", &profile])
    };
    let asked = "from = \"stun:192.0.2.1\"\n";
    let exit = knock(SERVER[0], "", &home);
    assert!(
        !exit.succeeded() && exit.stderr.contains("NAT"),
        "{}",
        exit.stderr
    );
    let exit = knock(SERVER[0], asked, &home);
    assert!(!exit.succeeded(), "{}", exit.stdout);
    assert!(
        exit.stderr
            .contains("stun:192.0.2.1 does not say which address this host has outside"),
        "{}",
        exit.stderr
    );
    assert!(world.nobody_is_in());
    let file = world.private_file("turnserver.pid", "");
    let pid = format!("--pidfile={}", file.display());
    let _server = start(
        &world.lab.server,
        &[
            "turnserver",
            "-n",
            "--stun-only",
            "--no-tls",
            "--no-dtls",
            "--no-cli",
            "--log-file=stdout",
            "-L",
            SERVER[0],
            "-L",
            SERVER[1],
            &pid,
        ],
    );
    world.until("the STUN server answers", || {
        knock(SERVER[0], asked, &home).succeeded()
    });
    assert!(
        world
            .server(&["nft", "list", "set", "inet", "toctoc", "grants4"])
            .contains(CLIENT[0])
    );
    world.yes(&["close"]);
    // As `key new` writes it.
    let policy = world.path().display().to_string();
    let new = [
        "key", "new", "home", &policy, "--signed", "--host", SERVER[0],
    ];
    world.yes(&[&new[..], &["--from", "stun:192.0.2.1"]].concat());
    world.yes(&["apply"]);
    let profile = world.path().with_file_name("home.profile.toml");
    let profile = profile.display().to_string();
    let exit = on(&home, &[env!("CARGO_BIN_EXE_toctoc"), "knock", &profile]);
    assert!(exit.succeeded(), "{}", exit.stderr);
    world.yes(&["close"]);
    // Without NAT, and in the other family.
    let exit = knock(
        SERVER[1],
        "from = \"stun:[2001:db8::1]\"\n",
        &world.lab.client,
    );
    assert!(exit.succeeded(), "{}", exit.stderr);
    world.yes(&["close"]);
    // A server that has no address of the family is not asked: there is hardly any NAT there.
    let exit = knock(SERVER[1], asked, &world.lab.client);
    assert!(exit.succeeded(), "{}", exit.stderr);
}

/// From `key new --signed` to `key revoke`, with no other key harmed.
#[test]
fn a_new_signed_key_opens_and_opens_nothing_once_it_is_revoked() {
    let world = guarded();
    let profile = world.path().with_file_name("laptop.profile.toml");
    let policy = world.path().display().to_string();
    let new = [
        "key", "new", "laptop", &policy, "--signed", "--host", SERVER[0],
    ];
    let said = world.yes(&new);
    assert!(said.contains("signed datagrams"), "{said}");
    let text = fs::read_to_string(world.path()).unwrap();
    assert!(text.contains("signed = \"laptop.secret\""), "{text}");
    world.yes(&["apply"]);
    let toctoc = env!("CARGO_BIN_EXE_toctoc");
    let profile = profile.display().to_string();
    let knock = || world.client(&[toctoc, "knock", &profile]);
    let exit = knock();
    assert!(exit.code == Some(0), "{}", exit.stderr);
    world.yes(&["key", "revoke", "laptop", &policy]);
    assert!(world.nobody_is_in());
    assert!(knock().code != Some(0));
    assert!(world.nobody_is_in());
    opens(&world);
}
