//! Messages between hosts of a fleet: the form on the wire. Pure, and strict: what is not exactly of
//! this form is refused.
//!
//! A message is a line of JSON. `at` is the time of the *engine* when it was said (and an offset), the one clock that
//! all hosts see; `age` and `left` are how long ago and for how long, both counted from then. No host's own
//! clock is in it. The same text is published and kept under [`key`](Message::key), for those who come
//! later.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::clock::LARGEST;
use toctoc::policy::{KeyId, Name};
use toctoc::single_use::Token;

/// The version of the form, and the only one that is read.
const VERSION: u32 = 1;

/// In bytes: more than any message of this form has.
pub const LONGEST: usize = 512;

/// The beginning of the name of everything that is kept in the engine.
pub const PREFIX: &str = "toctoc:";

/// Under which name the [offset](News::Offset) is kept: whoever looks at the engine's clock looks at it too.
pub const OFFSET: &str = "toctoc:offset";

/// Where all is published.
pub const CHANNEL: &str = "toctoc:fleet";

/// The longest time that any message speaks of, in milliseconds: a day. What is granted for longer counts
/// at other hosts for so long.
pub const DAY: i64 = 86_400_000;

/// A message as it is read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Message {
    v: u32,
    /// The host that says it.
    pub from: Name,
    /// Milliseconds since 1970, by the [clock](crate::clock) of the fleet.
    pub at: i64,
    pub news: News,
}

/// The news in a message. All times are in milliseconds, and where nothing else is said from 0 to a [`DAY`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum News {
    /// Somebody was let in.
    Grant {
        door: Name,
        source: IpAddr,
        /// `None`: an administrator did it.
        key: Option<Name>,
        age: i64,
        left: i64,
    },
    /// An administrator has ended what was granted before.
    Closed {
        door: Name,
        /// As long as grants of that host are, or of length 0: everybody.
        source: IpNet,
        age: i64,
    },
    /// A key, by its [`id`](Name::id), was taken away: what it opened before ends.
    Revoked { key: KeyId, age: i64 },
    /// A token of a key has opened: its window, and its number in there.
    Spent { key: Name, window: u64, number: u32 },
    /// A datagram of a signed key has opened: its tag.
    Signed { tag: Tag },
    /// A scratch sequence, by its [id](toctoc::policy::scratch_id), has opened.
    Burnt { id: u32 },
    /// The time that the hosts add to the engine's clock, since it was set back: 0 or more.
    Offset { by: i64 },
    /// A host is there; `run` tells one start of its agent from the next.
    Here { run: u64 },
}

/// The first 16 bytes of a signed datagram, as 32 hexadecimal digits in small letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Tag(pub Token);

impl From<Tag> for String {
    fn from(tag: Tag) -> String {
        tag.0.hex()
    }
}

impl TryFrom<String> for Tag {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Tag, &'static str> {
        let token = Token::from_hex(&text).filter(|token| token.hex() == text);
        token.map(Tag).ok_or("no tag")
    }
}

/// Why a message is refused: a few words. Nothing that it holds is repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Odd {
    Long,
    Form,
    Version,
    Time,
    Source,
    /// Not signed, or not with the secret of this host.
    Unsigned,
    /// Signed, and this host has no secret to tell by whom.
    Signed,
}

impl fmt::Display for Odd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Odd::Long => "it is longer than any message",
            Odd::Form => "it is not well formed",
            Odd::Version => "it has another version",
            Odd::Time => "its times make no sense",
            Odd::Source => "its source is no address that a host can have",
            Odd::Unsigned => "it is not signed with the `secret` of this host",
            Odd::Signed => "it is signed, and this host has no `secret`",
        })
    }
}

impl Message {
    /// A message of this host.
    pub fn new(from: Name, at: i64, news: News) -> Message {
        Message {
            v: VERSION,
            from,
            at,
            news,
        }
    }

    /// As it is signed and goes over the wire.
    pub fn text(&self) -> String {
        // Nothing in it can fail to be written.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Reads what came over the wire, whoever wrote it.
    ///
    /// # Errors
    /// When it is not exactly of this form.
    pub fn parse(bytes: &[u8]) -> Result<Message, Odd> {
        if bytes.len() > LONGEST {
            return Err(Odd::Long);
        }
        let message: Message = serde_json::from_slice(bytes).map_err(|_| Odd::Form)?;
        if message.v != VERSION {
            return Err(Odd::Version);
        }
        let day = 0..=DAY;
        let in_time = match &message.news {
            News::Grant { age, left, .. } => day.contains(age) && day.contains(left),
            News::Closed { age, .. } | News::Revoked { age, .. } => day.contains(age),
            News::Offset { by } => (0..=LARGEST).contains(by),
            News::Spent { .. } | News::Signed { .. } | News::Burnt { .. } | News::Here { .. } => {
                true
            }
        };
        if !in_time || message.at < 0 {
            return Err(Odd::Time);
        }
        let of_a_host = match &message.news {
            News::Grant { source, .. } => is_of_a_host(*source),
            News::Closed { source, .. } => {
                let everybody = source.prefix_len() == 0;
                (everybody || is_of_a_host(source.addr())) && *source == source.trunc()
            }
            _ => true,
        };
        of_a_host.then_some(message).ok_or(Odd::Source)
    }

    /// Under which name it is kept in the engine.
    pub fn key(&self) -> String {
        let from = &self.from;
        match &self.news {
            News::Grant { door, source, .. } => format!("{PREFIX}grant:{from}:{door}:{source}"),
            News::Closed { door, source, .. } => format!("{PREFIX}closed:{door}:{source}"),
            News::Revoked { key, .. } => format!("{PREFIX}revoked:{}", key.0),
            News::Spent {
                key,
                window,
                number,
            } => format!("{PREFIX}spent:{key}:{window}:{number}"),
            News::Signed { tag } => format!("{PREFIX}signed:{}", tag.0.hex()),
            News::Burnt { id } => format!("{PREFIX}burnt:{id}"),
            News::Offset { .. } => OFFSET.to_string(),
            News::Here { .. } => format!("{PREFIX}host:{from}"),
        }
    }
}

/// Returns whether a packet can come from there. An IPv4 address has one form.
fn is_of_a_host(source: IpAddr) -> bool {
    let mapped = matches!(source, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
    !source.is_unspecified() && !source.is_multicast() && !mapped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    fn messages() -> Vec<Message> {
        let news = [
            News::Grant {
                door: name("ssh"),
                source: "192.0.2.7".parse().unwrap(),
                key: Some(name("yves")),
                age: 12,
                left: 59_988,
            },
            News::Grant {
                door: name("ssh"),
                source: "2001:db8::7".parse().unwrap(),
                key: None,
                age: 0,
                left: DAY,
            },
            News::Closed {
                door: name("ssh"),
                source: "192.0.2.0/24".parse().unwrap(),
                age: 3,
            },
            News::Closed {
                door: name("ssh"),
                source: "::/0".parse().unwrap(),
                age: 0,
            },
            News::Revoked {
                key: KeyId(7),
                age: 0,
            },
            News::Spent {
                key: name("alice"),
                window: 29_722_500,
                number: 3,
            },
            News::Signed {
                tag: Tag(Token([0xa5; 16])),
            },
            News::Burnt { id: u32::MAX },
            News::Offset { by: 30_000 },
            News::Here { run: u64::MAX },
        ];
        news.map(|news| Message::new(name("alpha"), 1_783_350_030_123, news))
            .to_vec()
    }

    #[test]
    fn what_is_written_is_read_and_has_a_name_of_its_own() {
        let mut keys = std::collections::BTreeSet::new();
        for message in messages() {
            let text = message.text();
            assert!(text.len() < LONGEST / 2, "{text}");
            assert_eq!(
                Message::parse(text.as_bytes()),
                Ok(message.clone()),
                "{text}"
            );
            assert!(message.key().starts_with(PREFIX));
            assert!(keys.insert(message.key()));
        }
        assert_eq!(
            messages()[0].text(),
            r#"{"v":1,"from":"alpha","at":1783350030123,"news":{"grant":{"door":"ssh","source":"192.0.2.7","key":"yves","age":12,"left":59988}}}"#
        );
    }

    #[test]
    fn what_is_not_of_this_form_is_refused() {
        let whole = messages()[0].text();
        let but = |old: &str, new: &str| {
            assert!(whole.contains(old), "{old}");
            Message::parse(whole.replace(old, new).as_bytes())
        };
        for (old, new) in [
            ("{\"v\"", "[\"v\""),
            ("\"v\":1,", ""),
            ("\"v\":1", "\"v\":1,\"v\":1"),
            ("\"v\":1", "\"v\":-1"),
            ("\"v\":1", "\"v\":1,\"w\":1"),
            ("\"key\"", "\"cle\""),
            ("\"grant\"", "\"Grant\""),
            ("\"age\":12", "\"age\":1.5"),
            ("\"age\":12", "\"age\":\"12\""),
            ("\"age\":12", "\"age\":12,\"once\":true"),
            ("\"left\":59988", "\"left\":99999999999999999999"),
            ("\"ssh\"", "\"ss h\""),
            ("\"ssh\"", "\"\""),
            ("\"alpha\"", "\"; flush ruleset\""),
            ("192.0.2.7", "192.0.2.0/24"),
            ("192.0.2.7", "example"),
            ("}}}", "}}"),
            ("}}}", "}}}}"),
            ("}}}", "},\"here\":{\"run\":1}}}"),
        ] {
            assert_eq!(but(old, new), Err(Odd::Form), "{old} -> {new}");
        }
        assert_eq!(but("\"v\":1", "\"v\":2"), Err(Odd::Version));
        for (by, is_fine) in [
            (0, true),
            (LARGEST, true),
            (LARGEST + 1, false),
            (-1, false),
        ] {
            let text = Message::new(name("alpha"), 7, News::Offset { by }).text();
            assert_eq!(Message::parse(text.as_bytes()).is_ok(), is_fine, "{by}");
        }
        for (old, new) in [
            ("\"age\":12", "\"age\":-1"),
            ("\"left\":59988", "\"left\":86400001"),
            ("\"at\":", "\"at\":-"),
        ] {
            assert_eq!(but(old, new), Err(Odd::Time), "{old} -> {new}");
        }
        for odd in ["0.0.0.0", "224.0.0.1", "::ffff:192.0.2.7", "::", "ff02::1"] {
            assert_eq!(but("192.0.2.7", odd), Err(Odd::Source), "{odd}");
        }
        let tag = Message::new(
            name("alpha"),
            7,
            News::Signed {
                tag: Tag(Token([0xa5; 16])),
            },
        );
        for (old, new) in [
            ("a5a5", "A5a5"),
            ("a5a5", "a5"),
            ("a5a5", "a5a5a5"),
            ("a5a5", "x5a5"),
        ] {
            let odd = tag.text().replacen(old, new, 1);
            assert_eq!(Message::parse(odd.as_bytes()), Err(Odd::Form), "{odd}");
        }
        let long = format!("{whole}{}", " ".repeat(LONGEST));
        assert_eq!(Message::parse(long.as_bytes()), Err(Odd::Long));
        assert_eq!(Message::parse(&[0xff, 0xfe]), Err(Odd::Form));
        assert_eq!(Message::parse(b""), Err(Odd::Form));
    }
}
