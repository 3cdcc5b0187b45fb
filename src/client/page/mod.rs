//! A web page that knocks: one file that needs nothing else. Pure.
//!
//! The page holds the key, or takes it from the fragment of its address; it may be under a passphrase ([`seal`]). A policy
//! of its own (CSP) lets it send requests to the host alone; it cannot name an IPv6 address, so with one the policy names
//! the protocols. WebRTC, which carries tokens, is governed by no such policy.

mod seal;

use std::net::IpAddr;
use std::num::NonZeroU16;

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::browser::{knocks_at, sends_tokens_to};
use crate::knock::{Knock, Protocol};
use crate::single_use::{Form, Secret, base64};
pub use seal::{Passphrase, Random};

/// The most bytes of a page.
pub const LARGEST: usize = 8192;

/// The key that a page knocks with.
#[derive(Debug, Clone, Copy)]
pub enum Key<'k> {
    Sequence(&'k [Knock]),
    /// Each good once. The number is the page's own: under it the browser remembers how many are used.
    Scratch(&'k [Vec<Knock>], u32),
    Token(&'k Secret, NonZeroU16),
}

/// All that a page needs to know.
#[derive(Debug, Clone, Copy)]
pub struct Settings<'s> {
    /// The name of the host, for people and for ssh.
    pub host: &'s str,
    pub door: Option<NonZeroU16>,
    /// One of each family: browsers send no token to a name.
    pub addresses: &'s [IpAddr],
    pub key: Key<'s>,
}

/// The first address of each family.
pub fn one_of_each_family(addresses: impl IntoIterator<Item = IpAddr>) -> Vec<IpAddr> {
    let mut chosen: Vec<IpAddr> = Vec::new();
    for address in addresses.into_iter().map(|address| address.to_canonical()) {
        if !chosen.iter().any(|one| one.is_ipv4() == address.is_ipv4()) {
            chosen.push(address);
        }
    }
    chosen
}

/// The settings of a page as it reads them. Holds the key.
pub struct Written {
    text: Zeroizing<String>,
    /// The places that a page may ask, as its policy names them.
    connect: String,
    /// The tasks of the page.
    parts: Vec<Part>,
    lock: Lock,
}

/// A part of the script, by its name there. What is in all pages is in none of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Token,
    /// HMAC without a browser's help.
    Open,
    /// HMAC by WebCrypto.
    Subtle,
    Sequence,
    Seal,
    Code,
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Part::Token => "token",
            Part::Open => "open",
            Part::Subtle => "subtle",
            Part::Sequence => "sequence",
            Part::Seal => "seal",
            Part::Code => "code",
        }
    }
}

/// The thing that keeps others from the key in a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lock {
    Nothing,
    Passphrase,
}

/// Writes the settings.
///
/// # Errors
/// A sentence, when no browser can send that.
pub fn write(settings: &Settings<'_>) -> Result<Written, String> {
    let text = text_of(settings)?;
    let connect = match settings.key {
        Key::Token(..) => "'none'".to_string(),
        _ if settings.addresses.iter().all(IpAddr::is_ipv4) => {
            let each = settings.addresses.iter();
            let each = each.map(|address| format!("https://{address}:* wss://{address}:*"));
            each.collect::<Vec<_>>().join(" ")
        }
        _ => ANYWHERE.to_string(),
    };
    let parts = match settings.key {
        Key::Token(..) => vec![Part::Token, Part::Open],
        Key::Sequence(_) | Key::Scratch(..) => vec![Part::Sequence],
    };
    Ok(Written {
        text,
        connect,
        parts,
        lock: Lock::Nothing,
    })
}

impl Written {
    /// The same under a passphrase.
    #[must_use]
    pub fn seal(self, passphrase: &Passphrase, random: &Random) -> Written {
        let mut parts = self.parts;
        for part in &mut parts {
            if *part == Part::Open {
                *part = Part::Subtle;
            }
        }
        parts.push(Part::Seal);
        Written {
            text: seal::seal(&self.text, passphrase, random),
            lock: Lock::Passphrase,
            parts,
            ..self
        }
    }

    /// The same with a QR code for a second device: `modules` are its rows one after the other, dark ones `true`.
    #[must_use]
    pub fn with_code(self, modules: &[bool]) -> Written {
        let bytes = modules.chunks(8).map(|eight| {
            let bits = eight.iter().enumerate();
            bits.fold(0, |byte, (at, dark)| byte | u8::from(*dark) << (7 - at))
        });
        let mut bytes: Vec<u8> = bytes.collect();
        // The bytes that a browser reads are whole groups of three; a side more takes far more than two of them.
        bytes.resize(bytes.len().next_multiple_of(3), 0);
        let (mut text, mut parts) = (self.text, self.parts);
        text.push_str("&code=");
        text.push_str(&base64(&bytes));
        parts.push(Part::Code);
        Written {
            text,
            parts,
            ..self
        }
    }

    /// The page with its key.
    ///
    /// # Errors
    /// A sentence, when it is too large.
    pub fn page(&self) -> Result<Zeroizing<String>, String> {
        let warning = match self.lock {
            Lock::Nothing => {
                "Whoever has this file has the key. When the device is lost, ask the administrator to revoke it."
            }
            Lock::Passphrase => {
                "Whoever has this file and its passphrase has the key, and can try out passphrases. When the device is \
                 lost, ask the administrator to revoke it."
            }
        };
        let page = assemble(&self.text, &self.connect, &self.parts, warning);
        match page.len() > LARGEST {
            true => Err(format!(
                "the page would have {} bytes: it has room for fewer or shorter sequences, or for no QR code, up to \
                 {LARGEST}",
                page.len()
            )),
            false => Ok(page),
        }
    }

    /// The fragment of the address of a page without a key, without the `#`.
    pub fn fragment(&self) -> &str {
        &self.text
    }
}

/// The page without a key, for a static web host: the key is in the fragment of the address.
pub fn empty_page() -> Zeroizing<String> {
    assemble(
        "",
        ANYWHERE,
        &[
            Part::Token,
            Part::Open,
            Part::Sequence,
            Part::Seal,
            Part::Code,
        ],
        "Whoever has the whole address of this page has the key, and so has whoever serves another page in its place.",
    )
}

const ANYWHERE: &str = "https: wss:";

/// The settings as a text.
fn text_of(settings: &Settings<'_>) -> Result<Zeroizing<String>, String> {
    if settings.addresses.is_empty() {
        return Err("the page needs an address of the host".to_string());
    }
    let addresses: Vec<String> = settings.addresses.iter().map(IpAddr::to_string).collect();
    let mut text = Zeroizing::new(String::with_capacity(LARGEST));
    text.push_str(&format!(
        "name={}&address={}",
        settings.host,
        addresses.join(",")
    ));
    if let Some(door) = settings.door {
        text.push_str(&format!("&door={door}"));
    }
    match settings.key {
        Key::Sequence(knocks) => text.push_str(&format!("&sequences={}", ports(knocks)?)),
        Key::Scratch(sequences, id) => {
            let each: Result<Vec<String>, String> =
                sequences.iter().map(|knocks| ports(knocks)).collect();
            text.push_str(&format!("&id={id:08x}&sequences={}", each?.join(";")));
        }
        Key::Token(secret, port) => {
            if secret.form() != Form::Letters {
                return Err(format!(
                    "a browser cannot send any 16 bytes: the key needs `browser = true` in the policy and in the \
                     profile ({ANOTHER})"
                ));
            }
            if !sends_tokens_to(port) {
                return Err(format!(
                    "browsers send no tokens to port {port}: the `token_port` must be one from 1024 to 32767 that \
                     they do not block"
                ));
            }
            text.push_str(&format!("&port={port}&token="));
            text.push_str(&secret.hex());
        }
    }
    Ok(text)
}

const ANOTHER: &str = "`toctoc key new NAME --for browser` makes such a key";

/// The ports of a sequence.
fn ports(knocks: &[Knock]) -> Result<String, String> {
    let port = |knock: &Knock| match (knock.protocol, knocks_at(knock.port)) {
        (Protocol::Udp, _) => Err(format!("a browser cannot knock over UDP ({knock})")),
        (Protocol::Tcp, false) => Err(format!(
            "browsers refuse port {}: it is one that they block everywhere ({ANOTHER})",
            knock.port
        )),
        (Protocol::Tcp, true) => Ok(knock.port.to_string()),
    };
    let ports: Result<Vec<String>, String> = knocks.iter().map(port).collect();
    Ok(ports?.join(","))
}

/// `written` has letters, digits and a few signs alone: it is a text of JavaScript as it stands.
fn assemble(written: &str, connect: &str, parts: &[Part], warning: &str) -> Zeroizing<String> {
    let script = small(&chosen(include_str!("knock.js"), parts)).replacen(
        "SETTINGS",
        &format!("'{written}'"),
        1,
    );
    let script = Zeroizing::new(script);
    let style = small(include_str!("style.css"));
    let policy = format!(
        "default-src 'none'; script-src '{}'; style-src '{}'; connect-src {connect}; base-uri 'none'; form-action \
         'none'",
        hash(&script),
        hash(&style)
    );
    let page = include_str!("page.html")
        .replacen("POLICY", &policy, 1)
        .replacen("STYLE", &style, 1)
        .replacen("WARNING", warning, 1);
    let (head, tail) = page.split_once("SCRIPT").unwrap_or((&page, ""));
    let mut whole = Zeroizing::new(String::with_capacity(2 * LARGEST));
    for part in [head, &script, tail] {
        whole.push_str(part);
    }
    whole
}

/// The lines of some parts, and those of all pages.
fn chosen(script: &str, parts: &[Part]) -> String {
    let mut now = "all";
    let lines = script.lines().filter(|line| {
        if let Some(name) = line.trim_start().strip_prefix("// part ") {
            now = name;
        }
        now == "all" || parts.iter().any(|part| part.name() == now)
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Lines without their indentation, none that is a comment, and no spaces but between words and in quotes. Each line
/// of a style or script ends with a sign that needs no new line, or the new line stays.
fn small(text: &str) -> String {
    let lines = text.lines().map(str::trim_start);
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with("//"));
    let whole = lines.collect::<Vec<_>>().join("\n");
    let mut small = String::with_capacity(whole.len());
    let (mut quote, mut escaped) = (None, false);
    let mut letters = whole.chars().peekable();
    while let Some(letter) = letters.next() {
        if let Some(end) = quote {
            quote = (escaped || letter != end).then_some(end);
            escaped = !escaped && letter == '\\';
            small.push(letter);
            continue;
        }
        if ['\'', '"', '`'].contains(&letter) {
            quote = Some(letter);
        }
        let (before, after) = (small.chars().last(), letters.peek().copied());
        let is_word = |letter: Option<char>| {
            letter.is_some_and(|letter| letter.is_alphanumeric() || "_$#.%-)".contains(letter))
        };
        let needed = match letter {
            ' ' => is_word(before) && is_word(after),
            '\n' => !before.is_some_and(|before| ",;{".contains(before)),
            _ => true,
        };
        if needed {
            small.push(letter);
        }
    }
    small
}

/// As a policy names what it allows (CSP level 3).
fn hash(text: &str) -> String {
    let mut bytes = [0; 33];
    bytes[..32].copy_from_slice(&Sha256::digest(text.as_bytes()));
    // 32 bytes are 43 letters, and one to fill up.
    format!("sha256-{}=", &base64(&bytes)[..43])
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

    fn knocks(text: &str) -> Vec<Knock> {
        text.split(',')
            .map(|knock| knock.parse().unwrap())
            .collect()
    }

    fn settings<'s>(addresses: &'s [IpAddr], key: Key<'s>) -> Settings<'s> {
        Settings {
            host: "server.example",
            door: NonZeroU16::new(22),
            addresses,
            key,
        }
    }

    fn both() -> [IpAddr; 2] {
        ["192.0.2.1", "2001:db8::1"].map(|address| address.parse().unwrap())
    }

    fn secret(form: Form) -> Secret {
        Secret::parse(HEX).unwrap().in_form(form)
    }

    fn page(settings: &Settings<'_>) -> Result<Zeroizing<String>, String> {
        write(settings)?.page()
    }

    #[test]
    fn a_page_is_small_and_names_what_it_may_ask() {
        let (both, secret, port) = (
            both(),
            secret(Form::Letters),
            NonZeroU16::new(20_123).unwrap(),
        );
        let long = knocks(&vec!["65535"; 32].join(","));
        for (addresses, key, connect) in [
            (&both[..], Key::Token(&secret, port), "connect-src 'none'; "),
            (
                &both[..1],
                Key::Sequence(&long),
                "connect-src https://192.0.2.1:* wss://192.0.2.1:*; ",
            ),
            (&both, Key::Sequence(&long), "connect-src https: wss:; "),
            (
                &both,
                Key::Scratch(&vec![long[..4].to_vec(); 5], 7),
                "connect-src https: wss:; ",
            ),
        ] {
            let page = page(&settings(addresses, key)).unwrap();
            assert!(page.len() <= LARGEST, "{}", page.len());
            assert!(page.contains(connect), "{}", &page[..600]);
            assert!(page.contains("Whoever has this file has the key"));
            for left in ["SETTINGS", "POLICY", "STYLE", "SCRIPT", "WARNING"] {
                assert!(!page.contains(left), "{left}");
            }
        }
        assert!(!empty_page().contains(HEX));
        assert!(empty_page().len() <= LARGEST, "{}", empty_page().len());
    }

    /// With all that a page can have: both families, a long name, a passphrase and a code.
    #[test]
    fn a_page_with_everything_is_small_and_shows_no_key() {
        let (both, secret, port) = (
            both(),
            secret(Form::Letters),
            NonZeroU16::new(20_123).unwrap(),
        );
        let settings = Settings {
            host: "a-rather-long-name-of-a-server.department.example.org",
            ..settings(&both, Key::Token(&secret, port))
        };
        let words = "correct horse battery".to_string();
        let passphrase = Passphrase::new(Zeroizing::new(words)).unwrap();
        let random = Random {
            salt: [1; 16],
            nonce: [2; 12],
        };
        let sealed = write(&settings).unwrap().seal(&passphrase, &random);
        // The code of a link of 400 characters has 81 modules a side.
        let sealed = sealed.with_code(&vec![true; 81 * 81]);
        let page = sealed.page().unwrap();
        assert!(page.len() <= LARGEST, "{}", page.len());
        for hidden in [HEX, "department", "192.0.2.1", "Whoever has this file has"] {
            assert!(!page.contains(hidden), "{hidden}");
        }
        assert!(page.contains("Whoever has this file and its passphrase has the key"));
    }

    #[test]
    fn spaces_between_words_and_in_quotes_stay() {
        for (text, wanted) in [
            (
                "const a = 1, b = 'x = y';\n  // no\nreturn a;",
                "const a=1,b='x = y';return a;",
            ),
            (
                "a = `b ? ${c} : d` + \"e, f\"\nb()",
                "a=`b ? ${c} : d`+\"e, f\"\nb()",
            ),
            (
                "a { margin: 0 auto; x: .2rem solid var(--y); }",
                "a{margin:0 auto;x:.2rem solid var(--y);}",
            ),
            (
                "x = a - -b; y = 'it\\'s : ok' + c",
                "x=a - -b;y='it\\'s : ok'+c",
            ),
        ] {
            assert_eq!(small(text), wanted);
        }
    }

    /// The browser takes the hash of what is between the tags.
    #[test]
    fn the_policy_names_the_script_and_the_style_by_their_hashes() {
        let page = empty_page();
        for tag in ["script", "style"] {
            let (_, rest) = page.split_once(&format!("<{tag}>")).unwrap();
            let (inside, _) = rest.split_once(&format!("</{tag}>")).unwrap();
            assert!(
                page.contains(&format!("{tag}-src '{}'", hash(inside))),
                "{tag}"
            );
        }
        assert_eq!(
            hash("alert('Hello, world.');"),
            "sha256-qznLcsROx4GACP2dm0UCKCzCG+HiZ1guq6ZZDob/Tng="
        );
    }

    #[test]
    fn what_no_browser_sends_is_refused_with_the_reason() {
        let (both, port) = (both(), |port| NonZeroU16::new(port).unwrap());
        let (bytes, letters) = (secret(Form::Bytes), secret(Form::Letters));
        let (bad, udp) = (knocks("4431,6667,920"), knocks("4431,53/udp"));
        for (key, wanted) in [
            (Key::Sequence(&bad), "browsers refuse port 6667"),
            (
                Key::Scratch(&[knocks("4431"), bad.clone()], 7),
                "browsers refuse port 6667",
            ),
            (
                Key::Sequence(&udp),
                "a browser cannot knock over UDP (53/udp)",
            ),
            (Key::Token(&bytes, port(20_123)), "needs `browser = true`"),
            (
                Key::Token(&letters, port(53)),
                "browsers send no tokens to port 53",
            ),
            (
                Key::Token(&letters, port(40_123)),
                "browsers send no tokens to port 40123",
            ),
        ] {
            let error = page(&settings(&both, key)).unwrap_err();
            assert!(error.contains(wanted), "{error}");
            assert!(!error.contains(HEX), "{error}");
        }
        let error = page(&settings(&[], Key::Token(&letters, port(20_123)))).unwrap_err();
        assert!(error.contains("needs an address"), "{error}");
    }

    #[test]
    fn the_first_address_of_each_family_is_taken() {
        let all = [
            "192.0.2.1",
            "192.0.2.2",
            "::ffff:192.0.2.3",
            "2001:db8::1",
            "2001:db8::2",
        ];
        let all = all.map(|address| address.parse().unwrap());
        assert_eq!(one_of_each_family(all), both());
        assert_eq!(one_of_each_family([]), [] as [IpAddr; 0]);
    }
}
