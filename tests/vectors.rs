//! Tokens as another language makes them: the vectors and the client of docs/tokens.md.

use std::fs;
use std::net::UdpSocket;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use toctoc::firewall::run;
use toctoc::single_use::{Secret, Token, Window, token};

const SECRET: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

fn document() -> String {
    fs::read_to_string("docs/tokens.md").unwrap()
}

#[test]
fn the_documents_vectors_are_our_tokens() {
    let secret = Secret::parse(SECRET).unwrap();
    let document = document();
    assert!(document.contains(SECRET));
    let mut vectors = 0;
    for line in document.lines() {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [window, number, hex] = cells.as_slice() else {
            continue;
        };
        let (Ok(window), Ok(number)) = (window.parse(), number.parse()) else {
            continue;
        };
        assert_eq!(
            token(&secret, Window(window), number).hex(),
            hex.trim_matches('`')
        );
        vectors += 1;
    }
    assert_eq!(vectors, 4);
}

#[test]
fn the_documents_client_sends_a_token_of_this_minute() {
    let document = document();
    let program = document
        .split("```python\n")
        .nth(1)
        .unwrap()
        .split("```")
        .next()
        .unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    let port = socket.local_addr().unwrap().port().to_string();
    let secret = Secret::parse(SECRET).unwrap();
    let now = || {
        let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        Window::at(elapsed.as_secs() as i64).0
    };
    let before = now();
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), SECRET).unwrap();
    let path = file.path().display().to_string();
    let ended = run(&["python3", "-c", program, &path, "127.0.0.1", &port], "").unwrap();
    assert!(ended.succeeded(), "{}", ended.stderr);
    let mut datagram = [0; 200];
    let length = socket.recv(&mut datagram).unwrap();
    assert!((16..=80).contains(&length), "{length}");
    let sent = Token(datagram[..16].try_into().unwrap());
    let mut good = (before..=now()).flat_map(|window| (0..4).map(move |number| (window, number)));
    assert!(good.any(|(window, number)| token(&secret, Window(window), number) == sent));
}
