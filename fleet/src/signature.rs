//! Words with a signature, so that nobody but the hosts of a fleet can speak for them. Pure.
//!
//! With a secret that all hosts share, what goes over the wire is
//!
//! ```text
//! MAC SPACE MESSAGE
//! ```
//!
//! where MAC is the first 16 bytes of HMAC-SHA-256 (RFC 2104), as 32 hexadecimal digits, with the secret as its key
//! over `"toctoc fleet v1"` and the message. Without a secret it is the message alone.

use subtle::ConstantTimeEq;

use crate::message::{LONGEST, Odd};
use toctoc::single_use::{Secret, mac};

/// Hexadecimal digits of the MAC.
const DIGITS: usize = 32;

/// A message as it goes over the wire.
pub fn signed(secret: Option<&Secret>, message: String) -> String {
    match secret {
        Some(secret) => format!("{} {message}", digits(secret, message.as_bytes())),
        None => message,
    }
}

/// The message in what came over the wire, whoever wrote it.
///
/// # Errors
/// When it is not signed with this secret; without one, when it is signed.
pub fn verified<'b>(secret: Option<&Secret>, bytes: &'b [u8]) -> Result<&'b [u8], Odd> {
    if bytes.len() > LONGEST {
        return Err(Odd::Long);
    }
    let parts = bytes.split_at_checked(DIGITS);
    let parts = parts.and_then(|(mac, rest)| Some((mac, rest.strip_prefix(b" ")?)));
    match (secret, parts) {
        (None, Some((mac, _))) if mac.iter().all(u8::is_ascii_hexdigit) => Err(Odd::Signed),
        (None, _) => Ok(bytes),
        (Some(secret), Some((mac, message))) => {
            let right = digits(secret, message).as_bytes().ct_eq(mac);
            bool::from(right).then_some(message).ok_or(Odd::Unsigned)
        }
        (Some(_), None) => Err(Odd::Unsigned),
    }
}

fn digits(secret: &Secret, message: &[u8]) -> String {
    let mac = mac(secret, &[b"toctoc fleet v1", message]);
    let bytes = mac.iter().take(DIGITS / 2);
    bytes.map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(last: &str) -> Secret {
        let text = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e";
        Secret::parse(&format!("{text}{last}")).unwrap()
    }

    #[test]
    fn what_is_signed_is_read_with_the_same_secret_alone() {
        let (ours, theirs) = (secret("1f"), secret("20"));
        let plain = "{\"v\":1}".to_string();
        let wire = signed(Some(&ours), plain.clone());
        // By Python's hmac.
        assert_eq!(wire, "670e9c085aaf561797b9a54037a1df5a {\"v\":1}");
        assert_eq!(verified(Some(&ours), wire.as_bytes()), Ok(plain.as_bytes()));
        assert_eq!(verified(Some(&theirs), wire.as_bytes()), Err(Odd::Unsigned));
        assert_eq!(verified(None, wire.as_bytes()), Err(Odd::Signed));
        assert_eq!(signed(None, plain.clone()), plain);
        assert_eq!(verified(None, plain.as_bytes()), Ok(plain.as_bytes()));
        assert_eq!(verified(Some(&ours), plain.as_bytes()), Err(Odd::Unsigned));
    }

    #[test]
    fn a_changed_byte_anywhere_is_noticed() {
        let ours = secret("1f");
        let wire = signed(Some(&ours), "{\"v\":1,\"from\":\"alpha\"}".to_string());
        for place in 0..wire.len() {
            for other in [0, b'0', b' ', b'{', 0xff] {
                let mut bytes = wire.clone().into_bytes();
                if bytes[place] == other {
                    continue;
                }
                bytes[place] = other;
                assert_eq!(verified(Some(&ours), &bytes), Err(Odd::Unsigned), "{place}");
            }
            let cut = &wire.as_bytes()[..place];
            assert_eq!(verified(Some(&ours), cut), Err(Odd::Unsigned), "{place}");
        }
        let long = format!("{wire}{}", " ".repeat(LONGEST));
        assert_eq!(verified(Some(&ours), long.as_bytes()), Err(Odd::Long));
        // In other letters it would be another text of the same meaning.
        let upper = wire.to_uppercase();
        assert_eq!(verified(Some(&ours), upper.as_bytes()), Err(Odd::Unsigned));
    }
}
