//! The settings of a page under a passphrase: AES-256-GCM (NIST SP 800-38D), with a key that PBKDF2 (RFC 8018) makes with
//! HMAC-SHA-256. Browsers have both (WebCrypto).

use aes_gcm::aead::Aead;
use aes_gcm::{Aes256Gcm, KeyInit};
use hmac::Hmac;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::single_use::base64;

/// The rounds of PBKDF2: what OWASP's cheat sheet asks for with SHA-256 (2023). The page has the number too.
const ROUNDS: u32 = 600_000;

/// The fewest characters of a passphrase: it can be tried out on a file as often as somebody likes.
const SHORTEST: usize = 12;

/// The words that open a page. Wiped from memory when dropped.
pub struct Passphrase(Zeroizing<String>);

impl Passphrase {
    /// # Errors
    /// A sentence, when it is too short.
    pub fn new(words: Zeroizing<String>) -> Result<Passphrase, String> {
        match words.chars().count() < SHORTEST {
            true => Err(format!(
                "a passphrase has {SHORTEST} characters or more: whoever finds the page can try out short ones"
            )),
            false => Ok(Passphrase(words)),
        }
    }
}

/// Random bytes, new for each page.
pub struct Random {
    pub salt: [u8; 16],
    pub nonce: [u8; 12],
}

/// The settings that a page opens with the passphrase.
pub(super) fn seal(
    settings: &str,
    Passphrase(words): &Passphrase,
    random: &Random,
) -> Zeroizing<String> {
    let mut key = Zeroizing::new([0; 32]);
    // A key of any length is taken.
    let _ = pbkdf2::pbkdf2::<Hmac<Sha256>>(words.as_bytes(), &random.salt, ROUNDS, &mut *key);
    // So that base64 has nothing left over: salt, nonce and tag are 44 bytes. The page reads past the signs.
    let mut settings = Zeroizing::new(settings.to_string());
    while settings.len() % 3 != 1 {
        settings.push('&');
    }
    let sealed = Aes256Gcm::new(&(*key).into()).encrypt(&random.nonce.into(), settings.as_bytes());
    // It refuses nothing but texts of many gigabytes.
    let sealed = sealed.unwrap_or_default();
    let whole = [&random.salt[..], &random.nonce, &sealed].concat();
    Zeroizing::new(format!("sealed={}", base64(&whole)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_passphrases_are_refused() {
        let new = |words: &str| Passphrase::new(Zeroizing::new(words.to_string()));
        assert!(new("elevenchars").err().unwrap().contains("12 characters"));
        assert!(new("zwölf Zeichen").is_ok());
    }

    #[test]
    fn nothing_of_the_settings_is_readable_and_all_of_it_is_there() {
        let words = Passphrase::new(Zeroizing::new("correct horse battery".to_string())).unwrap();
        let random = |salt| Random {
            salt: [salt; 16],
            nonce: [2; 12],
        };
        for length in 60..63 {
            let settings = "x".repeat(length);
            let sealed = seal(&settings, &words, &random(1));
            let (name, text) = sealed.split_once('=').unwrap();
            assert_eq!((name, text.len() % 4), ("sealed", 0));
            assert!(text.len() >= (44 + length) * 4 / 3);
            assert!(!text.contains("eHh4"), "base64 of it");
            assert_ne!(*sealed, *seal(&settings, &words, &random(3)));
        }
    }
}
