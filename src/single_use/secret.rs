//! The secret that a server and one device share: 32 bytes, written as 64 hexadecimal digits.

use std::fmt;

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::token::{Form, mac};

/// 32 secret bytes, and the form of the tokens that are made of them. Wiped from memory when dropped; never printed,
/// not even by `Debug`.
#[derive(Clone)]
pub struct Secret {
    bytes: Zeroizing<[u8; Secret::LENGTH]>,
    form: Form,
}

/// Why a text is no secret. Says nothing of what it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretError {
    /// It has another number of characters than 64.
    Length(usize),
    /// A character that is no hexadecimal digit, at this place (from 1).
    Digit(usize),
    /// So few different bytes do not come from a random source.
    Guessable,
}

impl fmt::Display for SecretError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SecretError::Length(found) => {
                write!(
                    f,
                    "a secret is 64 hexadecimal digits, not {found} characters"
                )
            }
            SecretError::Digit(at) => {
                write!(
                    f,
                    "a secret is 64 hexadecimal digits; character {at} is none"
                )
            }
            SecretError::Guessable => f.write_str(
                "the secret can be guessed; take a random one, as `toctoc key new` makes it",
            ),
        }
    }
}

impl std::error::Error for SecretError {}

impl Secret {
    /// In bytes.
    pub const LENGTH: usize = 32;

    /// The length of a file that holds one, with room for white space around it.
    pub const LONGEST_FILE: u64 = 256;

    /// Takes random bytes.
    pub fn new(bytes: Zeroizing<[u8; Secret::LENGTH]>) -> Secret {
        let form = Form::default();
        Secret { bytes, form }
    }

    /// The same bytes, for tokens of this form.
    #[must_use]
    pub fn in_form(self, form: Form) -> Secret {
        Secret { form, ..self }
    }

    pub fn form(&self) -> Form {
        self.form
    }

    /// Reads 64 hexadecimal digits; white space around them does not count.
    ///
    /// # Errors
    /// When the text is anything else, or nothing that a random source gives.
    pub fn parse(text: &str) -> Result<Secret, SecretError> {
        let text = text.trim();
        let length = text.chars().count();
        if length != 2 * Secret::LENGTH {
            return Err(SecretError::Length(length));
        }
        if let Some(at) = text.chars().position(|c| !c.is_ascii_hexdigit()) {
            return Err(SecretError::Digit(at + 1));
        }
        let digit = |byte: u8| (char::from(byte)).to_digit(16).unwrap_or_default() as u8;
        let mut bytes = Zeroizing::new([0; Secret::LENGTH]);
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
            *byte = digit(pair[0]) << 4 | digit(pair[1]);
        }
        let mut seen = bytes.to_vec();
        seen.sort_unstable();
        seen.dedup();
        let different = seen.len();
        zeroize::Zeroize::zeroize(&mut seen);
        if different < 8 {
            return Err(SecretError::Guessable);
        }
        Ok(Secret::new(bytes))
    }

    /// As [`parse`](Secret::parse) reads it, with room for the end of a line: whoever adds one leaves no copy behind.
    pub fn hex(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(2 * Secret::LENGTH + 1));
        for byte in self.bytes.iter() {
            text.push(char::from_digit(u32::from(byte >> 4), 16).unwrap_or('0'));
            text.push(char::from_digit(u32::from(byte & 15), 16).unwrap_or('0'));
        }
        text
    }

    pub(super) fn bytes(&self) -> &[u8; Secret::LENGTH] {
        &self.bytes
    }

    /// Returns whether two have the same bytes, whatever their form. Takes the same time whatever is in them.
    pub fn is_same(&self, other: &Secret) -> bool {
        self.bytes.ct_eq(&*other.bytes).into()
    }

    /// The number that says in the kernel whose a token is. It is made of the secret, not of the key's
    /// name: what was loaded for an older secret of the same key, or in another form, leads nowhere. As for
    /// [`Name::id`](crate::policy::Name::id), its upper half is never 0 or ffff.
    pub fn id(&self) -> u32 {
        let label: &[u8] = match self.form {
            Form::Bytes => b"toctoc key id v1",
            Form::Letters => b"toctoc letters id v1",
        };
        let hash = mac(self, &[label]);
        let id = u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]]);
        match id >> 16 {
            0 | 0xffff => id ^ 0x5555_0000,
            _ => id,
        }
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Secret) -> bool {
        self.form == other.form && self.is_same(other)
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

    #[test]
    fn a_secret_is_read_back_and_never_shown() {
        let secret = Secret::parse(&format!(" {}\n", TEXT.to_uppercase())).unwrap();
        assert_eq!(secret.hex().as_str(), TEXT);
        assert_eq!(format!("{secret:?}"), "Secret(..)");
        assert_ne!(secret, Secret::parse(&TEXT.replace("1f", "1e")).unwrap());
    }

    #[test]
    fn eight_different_bytes_are_enough() {
        assert!(Secret::parse(&"0011223344556677".repeat(4)).is_ok());
    }

    #[test]
    fn the_number_in_the_kernel_is_never_one_of_its_own() {
        let id = |last: &str| Secret::parse(&TEXT.replace("1d1e1f", last)).unwrap().id();
        assert_eq!(id("1d1e1f"), 0x5076_f9b8);
        // Else 0000:f1a2 and ffff:5b8e.
        assert_eq!(id("005275"), 0x5555_f1a2);
        assert_eq!(id("005669"), 0xaaaa_5b8e);
    }

    #[test]
    fn what_is_no_secret_is_refused_without_showing_it() {
        let error = |text: &str| Secret::parse(text).unwrap_err();
        assert_eq!(error(""), SecretError::Length(0));
        assert_eq!(error(&TEXT[1..]), SecretError::Length(63));
        assert_eq!(error(&TEXT.replace("1f", "1g")), SecretError::Digit(64));
        assert_eq!(error(&TEXT.replace("00", "é0")), SecretError::Digit(1));
        assert_eq!(error(&"0".repeat(64)), SecretError::Guessable);
        assert_eq!(
            error(&"00112233445566".repeat(5)[..64]),
            SecretError::Guessable
        );
    }
}
