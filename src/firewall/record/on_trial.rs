//! A policy on trial: what ran before it, when it ends, and the grants that it ended.

use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::Origin;
use super::moment::{Moment, milliseconds};
use crate::held::{EndsElsewhere, Grant, Opened};
use crate::policy::{DoorId, KeyId, Name};

/// A policy on trial.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trial {
    /// Random.
    pub id: u64,
    /// The policy that ran before, `None` when none of ours did.
    pub before: Option<Origin>,
    pub(super) ends: Moment,
    /// Grants that the policy on trial ended.
    pub(super) ended: Vec<EndedGrant>,
    /// The digests of texts of the file that are the policy on trial but for keys that `toctoc key` has
    /// added or removed: these are no less on trial.
    #[serde(default)]
    pub(super) edits: Vec<String>,
    /// Set when its time was over and it could not go back. It is tried again.
    #[serde(default)]
    pub stuck: Option<Stuck>,
}

/// A way back that was not found yet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stuck {
    /// A sentence.
    pub why: String,
    pub tries: u32,
    /// When it was tried last.
    last: Moment,
}

impl Stuck {
    /// Time since the last attempt.
    pub fn ago(&self, now: &Moment) -> Duration {
        now.since(&self.last)
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EndedGrant {
    source: String,
    opened_from: String,
    door: DoorId,
    key: KeyId,
    ends: Moment,
    /// For how long it was given, in milliseconds.
    #[serde(default)]
    given_for: u64,
}

impl EndedGrant {
    /// `None` for what is not given again: grants for one connection, and those that nobody opened.
    fn of(grant: &Grant, now: &Moment) -> Option<EndedGrant> {
        let opened = grant.opened_by.filter(|_| !grant.once)?;
        Some(EndedGrant {
            source: grant.source.to_string(),
            opened_from: opened.source.to_string(),
            door: grant.door,
            key: opened.key,
            ends: now.plus(grant.expires_in),
            given_for: milliseconds(opened.given_for.max(grant.expires_in)),
        })
    }

    fn grant(&self, now: &Moment) -> Option<Grant> {
        let expires_in = self.ends.since(now);
        let grant = Grant {
            source: self.source.parse().ok()?,
            door: self.door,
            once: false,
            opened_by: Some(Opened {
                source: self.opened_from.parse().ok()?,
                door: self.door,
                key: self.key,
                expires_in,
                given_for: Duration::from_millis(self.given_for),
            }),
            expires_in,
            is_endless: false,
            stay: None,
        };
        (!expires_in.is_zero()).then_some(grant)
    }

    /// Returns whether another host of the fleet has ended it since it was given.
    fn is_over(&self, now: &Moment, elsewhere: &EndsElsewhere) -> bool {
        let began = self.ends.milliseconds.saturating_sub(self.given_for);
        let since = |ago: &Duration| began <= now.milliseconds.saturating_sub(milliseconds(*ago));
        let own = self.source.parse::<IpNet>();
        let touches = |source: &IpNet| {
            let own = own.as_ref();
            own.is_ok_and(|own| source.contains(own) || own.contains(source))
        };
        let mut guests = elsewhere.guests.iter();
        let mut keys = elsewhere.keys.iter();
        guests.any(|(guest, ago)| guest.door == self.door && touches(&guest.source) && since(ago))
            || keys.any(|(key, ago)| *key == self.key && since(ago))
    }
}

impl Trial {
    /// A trial from now on. `before` is what ran until now.
    pub fn new(id: u64, before: Option<Origin>, lasting: Duration) -> Trial {
        Trial {
            id,
            before,
            ends: Moment::now().plus(lasting),
            ended: Vec::new(),
            edits: Vec::new(),
            stuck: None,
        }
    }

    /// Notes that it could not go back.
    pub fn note_stuck(&mut self, why: &str, now: Moment) {
        let tries = self.stuck.as_ref().map_or(0, |stuck| stuck.tries);
        self.stuck = Some(Stuck {
            why: why.to_string(),
            tries: tries.saturating_add(1),
            last: now,
        });
    }

    /// The same for another policy, and a time of its own: it goes back to what was there before both.
    pub fn again(self, id: u64, lasting: Duration) -> Trial {
        let mut again = Trial {
            id,
            edits: Vec::new(),
            stuck: None,
            ..self
        };
        again.extend(lasting);
        again
    }

    /// The time it lasts still.
    pub fn left(&self, now: &Moment) -> Duration {
        self.ends.since(now)
    }

    /// Returns whether it was begun before the machine was started.
    pub fn is_of_another_start(&self, now: &Moment) -> bool {
        self.ends.boot != now.boot
    }

    /// It lasts so long from now on.
    pub fn extend(&mut self, lasting: Duration) {
        self.ends = Moment::now().plus(lasting);
    }

    /// Notes grants that were there at `then` and are not any more. They do not come back twice.
    pub fn note_ended(&mut self, before: &[Grant], then: &Moment, after: &[Grant]) {
        let gone = before.iter().filter(|grant| !holds(after, grant));
        self.ended
            .extend(gone.filter_map(|grant| EndedGrant::of(grant, then)));
    }

    /// The ended grants that would still be live, that are not among `there`, and that no other host has ended.
    pub fn returning(
        &self,
        now: &Moment,
        there: &[Grant],
        elsewhere: &EndsElsewhere,
    ) -> Vec<Grant> {
        let mut returning: Vec<Grant> = Vec::new();
        let over = |ended: &&EndedGrant| ended.is_over(now, elsewhere);
        let ended = self.ended.iter().filter(|ended| !over(ended));
        for grant in ended.filter_map(|ended| ended.grant(now)) {
            if !holds(there, &grant) && !holds(&returning, &grant) {
                returning.push(grant);
            }
        }
        returning
    }

    /// Somebody has closed doors: these do not come back.
    pub(super) fn close(&mut self, door: Option<&Name>, source: Option<IpNet>) {
        self.ended.retain(|ended| {
            let of_door = door.is_none_or(|door| door.door_id() == ended.door);
            let of_source = match (source, ended.source.parse::<IpNet>()) {
                (Some(source), Ok(own)) => source.contains(&own) || own.contains(&source),
                _ => true,
            };
            !(of_door && of_source)
        });
    }
}

/// Returns whether the source of a grant has one for its door.
fn holds(grants: &[Grant], wanted: &Grant) -> bool {
    let same = |grant: &Grant| {
        grant.source == wanted.source && grant.door == wanted.door && grant.once == wanted.once
    };
    grants.iter().any(same)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::held::Guest;

    /// A grant that was given for a minute, ten seconds before a trial ended it, and its time five seconds later.
    fn case() -> (Trial, Moment) {
        let (then, seconds) = (Moment::now(), Duration::from_secs);
        let source: IpNet = "192.0.2.7/32".parse().unwrap();
        let grant = Grant {
            source,
            door: DoorId(0x2_0002),
            once: false,
            opened_by: Some(Opened {
                source: source.addr(),
                door: DoorId(0x2_0002),
                key: KeyId(0x9_0001),
                expires_in: seconds(50),
                given_for: seconds(60),
            }),
            expires_in: seconds(50),
            is_endless: false,
            stay: None,
        };
        let mut trial = Trial::new(1, None, seconds(600));
        trial.note_ended(&[grant], &then, &[]);
        (trial, then.plus(seconds(5)))
    }

    #[test]
    fn who_comes_back_is_who_was_let_in_after_what_others_ended() {
        let (trial, now) = case();
        let ended = |source: &str, door: u32, key: u32, ago: u64| EndsElsewhere {
            guests: vec![(
                Guest {
                    source: source.parse().unwrap(),
                    door: DoorId(door),
                },
                Duration::from_secs(ago),
            )],
            keys: vec![(KeyId(key), Duration::from_secs(ago))],
        };
        for (source, door, key, ago, comes_back) in [
            // While the guest was in, and before it came.
            ("192.0.2.7/32", 0x2_0002, 0, 0, false),
            ("192.0.2.7/32", 0x2_0002, 0, 15, false),
            ("192.0.2.7/32", 0x2_0002, 0, 16, true),
            ("192.0.2.0/24", 0x2_0002, 0, 3, false),
            ("0.0.0.0/0", 0x2_0002, 0, 3, false),
            ("192.0.2.7/32", 0, 0x9_0001, 15, false),
            ("192.0.2.7/32", 0, 0x9_0001, 16, true),
            // Others, and elsewhere.
            ("192.0.2.8/32", 0x2_0002, 0, 0, true),
            ("192.0.2.7/32", 0x2_0003, 0x9_0002, 0, true),
            ("::/0", 0x2_0002, 0, 0, true),
        ] {
            let back = trial.returning(&now, &[], &ended(source, door, key, ago));
            assert_eq!(
                back.len(),
                usize::from(comes_back),
                "{source} {door:x} {key:x} {ago}"
            );
            for grant in back {
                assert_eq!(grant.expires_in, Duration::from_secs(45));
                let given_for = grant.opened_by.map(|opened| opened.given_for);
                assert_eq!(given_for, Some(Duration::from_secs(60)));
            }
        }
        let late = now.plus(Duration::from_secs(60));
        let none = EndsElsewhere::default();
        assert!(trial.returning(&late, &[], &none).is_empty(), "it is over");
    }
}
