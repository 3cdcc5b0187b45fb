//! Tokens: what they are made of, and when each is good.
//!
//! Time is cut into windows of 60 s, counted since 1970 (UTC). The tokens of a window are the first
//! 16 bytes of HMAC-SHA-256 (RFC 2104) with the secret as its key over
//!
//! ```text
//! "toctoc token v1" || window (8 bytes, big-endian) || number (4 bytes, big-endian, from 0)
//! ```
//!
//! and each is good until 120 s after the end of its window. Those of a key for browsers are letters instead, see
//! [`Form`]. docs/protocol.json has test vectors.

use std::fmt;
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::{Secret, TOKENS_PER_WINDOW};

/// The length of a window.
pub const WINDOW: Duration = Duration::from_secs(60);

/// The time that a token is good after its window: for clocks that are late, and packets.
pub const GRACE: Duration = Duration::from_secs(120);

/// 16 bytes that open once. Whoever has them before they are spent can spend them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub [u8; 16]);

impl Token {
    /// 32 hexadecimal digits.
    pub fn hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Reads hexadecimal digits, without leading zeros or with them. `None` when it is something else.
    pub fn from_hex(text: &str) -> Option<Token> {
        let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit());
        let number = plain.then(|| u128::from_str_radix(text, 16).ok())??;
        Some(Token(number.to_be_bytes()))
    }
}

/// The form of a key's tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Form {
    /// Any 16 bytes.
    #[default]
    Bytes,
    /// 16 characters that may stand in the user name of a STUN check (`ice-char`, RFC 8839): a browser can send them.
    /// They are the base64 of the first 12 bytes of the HMAC over a text of their own, `"toctoc letters v1"`.
    Letters,
}

/// A token that has not been spent is a secret.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// A minute, by its number since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Window(pub u64);

impl Window {
    /// The window of a moment, in seconds since 1970. Before that there is none but the first.
    pub fn at(now: i64) -> Window {
        Window(u64::try_from(now).unwrap_or(0) / WINDOW.as_secs())
    }

    /// The first moment that is not in it, in seconds since 1970.
    pub fn end(self) -> i64 {
        let end = self.0.saturating_add(1).saturating_mul(WINDOW.as_secs());
        i64::try_from(end).unwrap_or(i64::MAX)
    }

    /// The first moment at which its tokens are no longer good.
    pub fn over(self) -> i64 {
        self.end().saturating_add(GRACE.as_secs() as i64)
    }
}

/// A token of a window; `number` is below [`TOKENS_PER_WINDOW`].
pub fn token(secret: &Secret, window: Window, number: u32) -> Token {
    debug_assert!(number < TOKENS_PER_WINDOW);
    let (window, number) = (window.0.to_be_bytes(), number.to_be_bytes());
    let hash = |label: &[u8]| mac(secret, &[label, &window, &number]);
    let mut bytes = [0; 16];
    match secret.form() {
        Form::Bytes => bytes.copy_from_slice(&hash(b"toctoc token v1")[..16]),
        Form::Letters => {
            let hash = hash(b"toctoc letters v1");
            bytes.copy_from_slice(base64(&hash[..12]).as_bytes());
        }
    }
    Token(bytes)
}

/// The base64 (RFC 4648) of bytes by threes: what is left over is left out.
pub(crate) fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let letters = bytes.chunks_exact(3).flat_map(|three| {
        let number = u32::from_be_bytes([0, three[0], three[1], three[2]]);
        [18, 12, 6, 0]
            .map(|shift| char::from(ALPHABET[(number >> shift) as usize % ALPHABET.len()]))
    });
    letters.collect()
}

/// HMAC-SHA-256 over all parts, one after the other. The first says what it is for.
pub fn mac(secret: &Secret, parts: &[&[u8]]) -> [u8; 32] {
    // A key of any length is taken.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.bytes()) else {
        unreachable!("HMAC takes keys of any length")
    };
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_minutes_and_their_tokens_last_two_more() {
        assert_eq!(Window::at(-5), Window(0));
        assert_eq!(Window::at(59), Window(0));
        assert_eq!(Window::at(60), Window(1));
        assert_eq!((Window(1).end(), Window(1).over()), (120, 240));
        assert_eq!(Window(u64::MAX / 60 - 1).over(), i64::MAX);
        assert_eq!(Window(u64::MAX).over(), i64::MAX);
    }

    #[test]
    fn tokens_are_read_as_nft_prints_them() {
        let token = Token::from_hex("102030405060708090a0b0c0d0e0f").unwrap();
        assert_eq!(token.hex(), "000102030405060708090a0b0c0d0e0f");
        assert_eq!(Token::from_hex(&token.hex()), Some(token));
        for odd in ["", "+1", "0x1", "g", &"1".repeat(33)] {
            assert_eq!(Token::from_hex(odd), None, "{odd}");
        }
        assert_eq!(format!("{token:?}"), "Token(..)");
    }
}
