//! The hosts' access to the engine: as a user of its own, and over TLS.

use std::path::Path;
use std::process::Command;

use super::bottle::{DOORS, ENGINE, Fleet, until};

const FIRST: &str = "192.0.2.101";

/// The line of docs/fleet.md that says what the engine's user may do.
fn user_of_the_guide() -> Vec<String> {
    let guide = std::fs::read_to_string("docs/fleet.md").unwrap();
    let line = guide
        .lines()
        .find_map(|line| line.strip_prefix("user "))
        .unwrap();
    line.split(' ').map(str::to_string).collect()
}

#[test]
fn a_user_that_may_do_what_the_guide_says_is_enough() {
    let mut fleet = Fleet::bare(2);
    fleet.start_engine(&[]);
    let words = user_of_the_guide();
    let words: Vec<&str> = ["ACL", "SETUSER"]
        .into_iter()
        .chain(words.iter().map(String::as_str))
        .collect();
    assert!(fleet.redis(&words).contains("OK"), "{words:?}");
    for place in 0..2 {
        let policy = fleet.policy(place, DOORS);
        fleet.apply(place, &policy.replace("redis://", "redis://toctoc@"));
        fleet.start_agent(place);
        fleet.listen(place, 22);
    }
    fleet.until_all_know_each_other();
    fleet.knock(0, FIRST);
    fleet.until_open(1, FIRST, 22);
    fleet.yes(1, &["close", "ssh", FIRST]);
    fleet.until_shut(0, FIRST, 22);
    for place in 0..2 {
        assert!(
            !fleet.said(place).contains("permit"),
            "{}",
            fleet.said(place)
        );
    }
    // One that may do less is told of.
    fleet.redis(&["ACL", "SETUSER", "toctoc", "-set"]);
    fleet.knock(0, FIRST);
    fleet.until_said(0, "it does not permit its user what is needed");
    // Who may not listen is not taken for one who does.
    fleet.redis(&["ACL", "SETUSER", "toctoc", "+set", "-subscribe"]);
    fleet.redis(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    until("status says so", || {
        let report = &fleet.status(1)["fleet"]["report"];
        let why = report["why"].as_str().unwrap_or_default();
        report["connected"] == false && why.contains("does not permit")
    });
}

/// An authority, and a certificate of the engine that comes from it.
fn certificates(directory: &Path) {
    let script = format!(
        "openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=authority\n\
         openssl req -newkey rsa:2048 -nodes -keyout engine.key -out engine.csr -subj /CN=engine\n\
         echo subjectAltName=IP:{ENGINE} >extra\n\
         openssl x509 -req -in engine.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile extra \
         -out engine.pem\n"
    );
    let output = Command::new("sh")
        .args(["-ec", &script])
        .current_dir(directory)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}

#[test]
fn over_tls_the_engine_shows_whose_it_is() {
    let mut fleet = Fleet::bare(3);
    certificates(fleet.directory());
    fleet.start_engine(&[
        "--tls-port",
        "6380",
        "--tls-cert-file",
        "engine.pem",
        "--tls-key-file",
        "engine.key",
        "--tls-auth-clients",
        "no",
    ]);
    let authority = std::fs::read_to_string(fleet.directory().join("ca.pem")).unwrap();
    for place in 0..3 {
        let policy = fleet.policy(place, DOORS);
        let policy = policy.replace("redis://192.0.2.10:6379", "rediss://192.0.2.10:6380");
        // The third one does not know the authority.
        let policy = match place {
            2 => policy,
            _ => policy.replace("\nshare", "\nauthority = \"ca.pem\"\nshare"),
        };
        fleet.file(place, "ca.pem", &authority);
        fleet.apply(place, &policy);
        fleet.start_agent(place);
        fleet.listen(place, 22);
    }
    fleet.until_connected(0);
    fleet.until_connected(1);
    fleet.knock(0, FIRST);
    fleet.until_open(1, FIRST, 22);
    fleet.until_said(2, "certificate");
    assert!(!fleet.is_open(2, FIRST, 22));
    assert_eq!(fleet.status(2)["fleet"]["report"]["connected"], false);
}
