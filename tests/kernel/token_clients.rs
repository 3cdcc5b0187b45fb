//! Clients with a profile, and with any tool that can send bytes.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;

use toctoc::client::Door;
use toctoc::firewall::tokens::clocks;
use toctoc::lab::{CLIENT, STRANGER};
use toctoc::single_use::Token;
use toctoc::single_use::journal::Clocks;

use crate::token_world::{SECRET, guarded, guarded_without_a_wait, now, secret};
use crate::world::{World, on};

fn toctoc(world: &World, arguments: &[&str]) -> (Option<i32>, String, String) {
    // What other tests have sent at the same time is remembered elsewhere.
    let cache = world.path().with_file_name("cache");
    let cache = format!("XDG_CACHE_HOME={}", cache.display());
    let program = ["env", &cache, env!("CARGO_BIN_EXE_toctoc")];
    let ended = on(&world.lab.client, &[&program, arguments].concat());
    (ended.code, ended.stdout, ended.stderr)
}

#[test]
fn the_client_opens_with_a_profile_and_goes_on_to_the_next_token() {
    let world = guarded_without_a_wait();
    let profile = world.profile(&format!(
        "host = \"192.0.2.1\"\ndoor = 22\ntoken = \"{SECRET}\"\ntoken_port = 40123\n"
    ));
    let (code, said, error) = toctoc(&world, &["knock", &profile]);
    assert_eq!(code, Some(0), "{error}");
    assert!(
        said.contains("22/tcp at 192.0.2.1 is open, after"),
        "{said}"
    );
    world.yes(&["close"]);
    // The first tokens it could take are gone.
    let spent: Vec<Token> = toctoc::client::tokens(&secret(SECRET), now())[..2].to_vec();
    for token in spent {
        world.send(STRANGER[0], &token.0);
    }
    world.yes(&["close"]);
    let (code, said, error) = toctoc(&world, &["knock", &profile]);
    assert_eq!(code, Some(0), "{error}");
    assert!(said.contains("at try"), "{said}");
}

/// A SYN that finds the door shut, since it has overtaken its token, is followed by a second one: no more tokens are
/// spent. Without a gap it is the only one, and the next token has to open.
#[test]
fn a_syn_that_overtakes_its_token_is_followed_by_a_second_one() {
    let world = guarded_without_a_wait();
    for (gap, wanted, tokens) in [("50ms", "is open; it may", 1), ("0", "at try 2", 2)] {
        world.nft(
            "table inet beside
            delete table inet beside
            table inet beside {
                counter syns { }
                counter tokens { }
                chain before {
                    type filter hook prerouting priority -500;
                    tcp dport 22 tcp flags & (syn | ack) == syn counter name syns quota until 60 bytes drop
                    udp dport 40123 counter name tokens
                }
            }",
        );
        let profile = world.profile(&format!(
            "host = \"192.0.2.1\"\ndoor = 22\ntoken = \"{SECRET}\"\ntoken_port = 40123\ngap = \"{gap}\"\n"
        ));
        let (code, said, error) = toctoc(&world, &["knock", &profile, "--always"]);
        assert_eq!(code, Some(0), "{error}");
        assert!(said.contains(wanted), "{gap}: {said}");
        assert_eq!(said.contains("at try"), gap == "0", "{said}");
        assert_eq!(world.counted("syns"), 2, "{gap}");
        assert_eq!(world.counted("tokens"), tokens, "{gap}");
        world.yes(&["close"]);
    }
}

#[test]
fn a_token_can_be_sent_by_any_tool() {
    let world = guarded_without_a_wait();
    let profile = world.profile(&format!(
        "host = \"192.0.2.1\"\ntoken = \"{SECRET}\"\ntoken_port = 40123\n"
    ));
    let (code, said, _) = toctoc(&world, &["code", &profile]);
    assert_eq!(code, Some(0));
    assert!(Token::from_hex(said.trim()).is_some_and(|token| token.hex() == said.trim()));
    assert_eq!(world.connect(CLIENT[0], 22), Door::Silent);
    let send =
        "printf \"$(sed 's/../\\\\x&/g' <<< \"$0\")\" | nc -u -w 1 -s 192.0.2.7 192.0.2.1 40123";
    let ended = world.client(&["bash", "-c", send, said.trim()]);
    assert!(ended.succeeded(), "{}", ended.stderr);
    assert_eq!(world.connect(CLIENT[0], 22), Door::Open);
}

/// The door of a client whose clock is wrong stays shut, and he learns by how much it is.
#[test]
fn a_wrong_clock_is_named() {
    let world = guarded();
    let clocks = clocks();
    let ahead = Clocks {
        now: clocks.now + 3600,
        ..clocks
    };
    world.refill_at(ahead);
    let profile = world.profile(&format!(
        "host = \"192.0.2.1\"\ndoor = 22\ntoken = \"{SECRET}\"\ntoken_port = 40123\n"
    ));
    let (code, _, error) = toctoc(&world, &["knock", &profile]);
    assert_eq!(code, Some(1));
    assert!(error.contains("is this clock right (2"), "{error}");
    let listener = world
        .lab
        .server
        .inside(|| TcpListener::bind(("0.0.0.0", 80)))
        .unwrap()
        .unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 1000]);
            let time = jiff_date(now() + 3600);
            let _ = stream.write_all(format!("HTTP/1.0 200 OK\r\nDate: {time}\r\n\r\n").as_bytes());
        }
    });
    let (code, _, error) = toctoc(&world, &["knock", &profile]);
    assert_eq!(code, Some(1));
    assert!(
        error.contains("this clock is 1h behind") || error.contains("this clock is 59m"),
        "{error}"
    );
    assert!(!error.contains(SECRET));
}

/// As a web server writes it.
fn jiff_date(seconds: i64) -> String {
    let ended = toctoc::firewall::run(
        &[
            "date",
            "-u",
            "-d",
            &format!("@{seconds}"),
            "+%a, %d %b %Y %H:%M:%S GMT",
        ],
        "",
    );
    ended.unwrap().stdout.trim().to_string()
}
