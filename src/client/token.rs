//! Opening a door with a token: one datagram, and the next one if the door stays shut.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::num::NonZeroU16;
use std::time::Duration;

use super::{Entered, until_open};
use crate::single_use::{Secret, TOKENS_PER_WINDOW, Token, WINDOW, Window, token};

/// The most random bytes after a token: so that its length says nothing.
const PADDING: usize = 64;

/// The tokens to try at a moment, in order: those of this window, and two of the next. Which of its own
/// window comes first changes every quarter of a minute, so that who opens twice begins with one that
/// has not been spent.
pub fn tokens(secret: &Secret, now: i64) -> Vec<Token> {
    let window = Window::at(now);
    let length = WINDOW.as_secs() as i64;
    let quarter = now.rem_euclid(length) * i64::from(TOKENS_PER_WINDOW) / length;
    let own = (0..TOKENS_PER_WINDOW).map(|number| (window, number));
    let mut order: Vec<(Window, u32)> = own.collect();
    order.rotate_left(quarter as usize);
    let next = Window(window.0 + 1);
    order.extend([(next, 0), (next, 1)]);
    let tokens = order
        .into_iter()
        .map(|(window, number)| token(secret, window, number));
    tokens.collect()
}

/// Sends one token. The port of `host` is not used.
///
/// # Errors
/// When the datagram could not be sent, or there are no random numbers.
pub fn send_token(host: SocketAddr, port: NonZeroU16, token: &Token) -> io::Result<()> {
    let mut datagram = [0; 16 + PADDING];
    getrandom::fill(&mut datagram).map_err(io::Error::other)?;
    let length = 16 + usize::from(datagram[0]) % (PADDING + 1);
    datagram[..16].copy_from_slice(&token.0);
    let any: SocketAddr = match host {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let mut address = host;
    address.set_port(port.get());
    UdpSocket::bind(any)?.send_to(&datagram[..length], address)?;
    Ok(())
}

/// How long to wait for the door after the first token, and after each other one. Shorter than the
/// second after which a SYN is repeated.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const NEXT_WAIT: Duration = Duration::from_millis(900);

/// Sends a token and connects to the door; goes on to the next token if it stays shut. The port of
/// `host` is not used, `now` is in seconds since 1970.
///
/// # Errors
/// When packets cannot be sent at all.
pub fn enter_with_token(
    host: SocketAddr,
    secret: &Secret,
    port: NonZeroU16,
    door: NonZeroU16,
    now: i64,
) -> io::Result<Entered> {
    let tokens = tokens(secret, now);
    let mut waits = vec![NEXT_WAIT; tokens.len()];
    waits[0] = FIRST_WAIT;
    until_open(host, door, &waits, |index| {
        send_token(host, port, &tokens[index])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_token_changes_within_a_minute_and_all_are_different() {
        let bytes: [u8; 32] = std::array::from_fn(|i| i as u8);
        let secret = Secret::new(bytes.into());
        let minute = 1_783_350_000;
        let first: Vec<Token> = (0..4)
            .map(|i| tokens(&secret, minute + 15 * i)[0])
            .collect();
        let window = Window::at(minute);
        let wanted: Vec<Token> = (0..4).map(|n| token(&secret, window, n)).collect();
        assert_eq!(first, wanted);
        let next = Window(window.0 + 1);
        let wanted = [token(&secret, next, 0), token(&secret, next, 1)];
        assert_eq!(tokens(&secret, minute + 59)[4..], wanted);
        for second in 0..60 {
            let mut all = tokens(&secret, minute + second);
            assert_eq!(all.len(), 6);
            all.sort();
            all.dedup();
            assert_eq!(all.len(), 6, "{second}");
        }
    }

    #[test]
    fn a_datagram_is_the_token_and_up_to_64_random_bytes() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = server.local_addr().unwrap();
        let port = NonZeroU16::new(address.port()).unwrap();
        let mut lengths = Vec::new();
        for number in 0..3000u32 {
            let sent = Token([number as u8; 16]);
            send_token(address, port, &sent).unwrap();
            let mut datagram = [0; 200];
            let length = server.recv(&mut datagram).unwrap();
            assert_eq!(datagram[..16], sent.0);
            lengths.push(length);
        }
        lengths.sort_unstable();
        lengths.dedup();
        // So many datagrams have each of them.
        assert_eq!(lengths, (16..=80).collect::<Vec<_>>());
    }
}
