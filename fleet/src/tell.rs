//! Items of the ledger, told as messages. Pure.

use crate::clock::{Clock, Moment};
use crate::ledger::{Item, Ledger};
use crate::message::{DAY, Message, News, Tag};
use crate::signature::signed;

/// In milliseconds.
pub(crate) const HOUR: i64 = 3_600_000;

/// In milliseconds: for how long a signed datagram that was spent is remembered, here and in the kernel. It is good for two
/// minutes, and for an hour more where a clock is set back.
pub(crate) const SIGNED_FOR: i64 = 2 * HOUR;

/// In milliseconds: no host is silent for longer.
const LONGEST_BEAT: i64 = 60_000;

/// A message for the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Telling {
    /// Under which name it is kept.
    pub key: String,
    /// `None`: what is kept goes.
    pub text: Option<String>,
    /// For how many milliseconds it is kept; `None` for ever.
    pub lasting: Option<i64>,
}

impl Ledger {
    /// The message for an item now; `None` when it is over. `seconds` is the time since 1970.
    pub fn telling(
        &self,
        item: &Item,
        now: Moment,
        clock: &Clock,
        seconds: i64,
    ) -> Option<Telling> {
        let at = clock.earliest(now)?;
        let age = |began: Moment| now.saturating_sub(began).clamp(0, DAY);
        let (news, lasting) = match item {
            Item::Grant(place) => {
                let given = self.own.get(place)?;
                let left = given.end.saturating_sub(now).min(DAY);
                let news = News::Grant {
                    door: place.0.clone(),
                    source: given.source,
                    key: given.key.clone(),
                    age: age(given.began),
                    left,
                };
                (left > 0).then_some((news, Some(left)))?
            }
            Item::Gone(place, source) => {
                let news = News::Grant {
                    door: place.0.clone(),
                    source: *source,
                    key: None,
                    age: 0,
                    left: 0,
                };
                return Some(Telling {
                    key: Message::new(self.rules.me.clone(), at, news).key(),
                    text: None,
                    lasting: None,
                });
            }
            Item::Closed(place) => {
                let age = age(self.closed.get(place)?.at);
                let news = News::Closed {
                    door: place.0.clone(),
                    source: place.1,
                    age,
                };
                (age < DAY).then_some((news, Some(DAY - age)))?
            }
            Item::Revoked(key) => {
                let age = age(self.revoked.get(key)?.at);
                let news = News::Revoked { key: *key, age };
                (age < DAY).then_some((news, Some(DAY - age)))?
            }
            Item::Spent(token) => {
                let left = token.window.over().saturating_sub(seconds);
                let news = News::Spent {
                    key: token.key.clone(),
                    window: token.window.0,
                    number: token.number,
                };
                // A clock that is set back makes it good again for so long.
                let lasting = left.clamp(0, 2 * DAY / 1000).saturating_mul(1000) + HOUR;
                (news, Some(lasting))
            }
            Item::Signed(tag) => (News::Signed { tag: Tag(*tag) }, Some(SIGNED_FOR)),
            Item::Burnt(id) => (News::Burnt { id: *id }, None),
        };
        let message = Message::new(self.rules.me.clone(), at, news);
        Some(Telling {
            key: message.key(),
            text: Some(self.signed(&message)),
            lasting,
        })
    }

    fn signed(&self, message: &Message) -> String {
        signed(self.rules.secret.as_ref(), message.text())
    }

    /// The message of what is added to the engine's clock.
    pub fn offset(&self, now: Moment, clock: &Clock) -> Option<Telling> {
        let by = clock.offset();
        let news = News::Offset { by };
        let message = Message::new(self.rules.me.clone(), clock.earliest(now)?, news);
        Some(Telling {
            key: message.key(),
            text: Some(self.signed(&message)),
            lasting: None,
        })
    }

    /// That this host is there.
    pub fn here(&self, now: Moment, clock: &Clock) -> Option<Telling> {
        let news = News::Here { run: self.run };
        let message = Message::new(self.rules.me.clone(), clock.earliest(now)?, news);
        Some(Telling {
            key: message.key(),
            text: Some(self.signed(&message)),
            lasting: Some(5 * self.beat(now)),
        })
    }

    /// The time between two words of a host that it is there, in milliseconds. What all say, all hear: of a
    /// thousand each says it every 20 s, and the engine passes on as much as of a hundred that say it every 2 s.
    /// Hosts that are silent do not count.
    pub fn beat(&self, now: Moment) -> i64 {
        let seen = self.hosts.values().map(|seen| seen.at);
        let hosts = seen
            .filter(|at| now.saturating_sub(*at) < 5 * LONGEST_BEAT)
            .count();
        let hosts = i64::try_from(hosts).unwrap_or(i64::MAX);
        hosts.saturating_mul(20).clamp(2000, LONGEST_BEAT)
    }
}
