//! Words of other hosts, taken in. Pure. Any host that can write to the engine can have said them.

use std::collections::BTreeMap;

use ipnet::IpNet;

use crate::clock::Moment;
use crate::ledger::{
    By, Ended, Given, Item, Ledger, Place, Refusal, Seen, SpentToken, networks_around,
};
use crate::message::{Message, News};
use crate::rules::Not;
use toctoc::policy::{KeyId, Name};
use toctoc::single_use::{TOKENS_PER_WINDOW, Window};

/// More hosts than any fleet has.
const MOST_HOSTS: usize = 4096;

/// Far more hosts than let the same source in at once; more names than that are made up.
const MOST_AT_A_PLACE: usize = 64;

/// Room for signed datagrams that were spent: a hundred keys that spend as many as they may, and less than the kernel's set
/// holds.
const MOST_SIGNED: usize = 720_000;

/// The windows that a token may be ahead of now: the longest horizon, and a clock that is late.
const AHEAD: u64 = 24 * 60 + 5;

/// The windows that it may be behind: grace, and a clock that is early.
const BEHIND: u64 = 5;

/// Longer than a word is under way, in milliseconds: two beginnings that are nearer may be the same.
pub(crate) const SAME: i64 = 1000;

impl Ledger {
    /// Takes in a message that was said between `least` and `most` milliseconds before `now`. `seconds` is the
    /// time since 1970.
    ///
    /// # Errors
    /// When it does not count here.
    pub fn hear(
        &mut self,
        message: &Message,
        (least, most): (i64, i64),
        now: Moment,
        seconds: i64,
    ) -> Result<(), Refusal> {
        let from = &message.from;
        let mut by = By::Elsewhere;
        if *from == self.rules.me {
            match &message.news {
                // Somebody else has the name of this one.
                News::Here { run } if *run != self.run => return Err(Refusal::Twin),
                News::Here { .. } | News::Grant { .. } | News::Offset { .. } => return Ok(()),
                // It may have been told by this host and be forgotten, its table being another.
                News::Spent { .. } | News::Signed { .. } | News::Burnt { .. } => {}
                News::Closed { .. } | News::Revoked { .. } => by = By::HereBefore,
            }
        }
        match &message.news {
            News::Here { .. } => {
                if self.hosts.len() < MOST_HOSTS || self.hosts.contains_key(from) {
                    let seen = Seen {
                        at: now.saturating_sub(least),
                        lag: most,
                    };
                    self.hosts.insert(from.clone(), seen);
                }
                Ok(())
            }
            News::Grant {
                door,
                source,
                key,
                age,
                left,
            } => {
                let limit = match self.rules.limit(door, key.as_ref(), seconds) {
                    Ok(limit) => limit,
                    Err(Not::Accepted) => return Err(Refusal::Door),
                    Err(Not::Expired) => return Err(Refusal::Expired),
                };
                let began = now.saturating_sub(most).saturating_sub(*age);
                let told = now.saturating_sub(most).saturating_add(*left);
                let given = Given {
                    source: *source,
                    key: key.clone(),
                    began,
                    end: told.min(began.saturating_add(limit)),
                    since: now,
                };
                self.granted(door, from, given, most - least, now)
            }
            News::Closed { door, source, age } => {
                // Also for doors that this policy has not: it may be on trial.
                let at = now.saturating_sub(least).saturating_sub(*age);
                let noted = self.end(door, *source, Ended { at, by });
                noted.unless_there_was_no_room()
            }
            News::Revoked { key, age } => {
                let at = now.saturating_sub(least).saturating_sub(*age);
                let noted = self.revoke(*key, Ended { at, by });
                noted.unless_there_was_no_room()
            }
            News::Spent {
                key,
                window,
                number,
            } => {
                // A key of another host.
                if self.rules.secret_of(key).is_none() {
                    return Ok(());
                }
                let current = Window::at(seconds).0;
                // It opens nothing any more, and is kept for clocks that are set back.
                if *window < current.saturating_sub(BEHIND) {
                    return Ok(());
                }
                if *window > current.saturating_add(AHEAD) || *number >= TOKENS_PER_WINDOW {
                    return Err(Refusal::Token);
                }
                let token = SpentToken {
                    key: key.clone(),
                    window: Window(*window),
                    number: *number,
                };
                if self.spent.insert(token.clone()) {
                    self.work.spend.push(token);
                }
                Ok(())
            }
            News::Signed { tag } => {
                // Of a key of another host, perhaps: a tag does not say whose it is.
                if !self.rules.has_signed || self.signed.contains_key(&tag.0) {
                    return Ok(());
                }
                if self.signed.len() >= MOST_SIGNED {
                    return Err(Refusal::Crowd);
                }
                self.signed.insert(tag.0, now);
                self.work.signed.push(tag.0);
                Ok(())
            }
            // For the clock.
            News::Offset { .. } => Ok(()),
            News::Burnt { id } => {
                if self.rules.scratch.contains(id) && self.burnt.insert(*id) {
                    self.work.burn.push(*id);
                }
                Ok(())
            }
        }
    }

    /// A host has let somebody in. `doubt` is how inexact its times are.
    fn granted(
        &mut self,
        door: &Name,
        from: &Name,
        given: Given,
        doubt: i64,
        now: Moment,
    ) -> Result<(), Refusal> {
        let place = self.place(door, given.source);
        if self.was_ended(&place, &given) {
            // The kernel may hold it since before this agent began.
            if let Some(by_host) = self.others.get_mut(&place)
                && by_host.remove(&None).is_some()
            {
                self.changed.insert(place);
            }
            return Ok(());
        }
        if given.end <= now {
            return Ok(());
        }
        if !self.others.contains_key(&place) && self.others.len() >= self.rules.most {
            return Err(Refusal::Full);
        }
        let before = self.latest(&place);
        let by_host = self.others.entry(place.clone()).or_default();
        let host = Some(from.clone());
        let full = by_host.len() >= MOST_AT_A_PLACE;
        match by_host.get_mut(&host) {
            // Words may overtake each other.
            Some(known) if given.began < known.began.saturating_sub(SAME + doubt) => {}
            // The same grant, told again: either end is not later than the real one. One that ends earlier was given
            // a moment later.
            Some(known)
                if given.began <= known.began.saturating_add(SAME + doubt)
                    && given.end >= known.end.saturating_sub(SAME + doubt) =>
            {
                let end = known.end.max(given.end);
                *known = Given { end, ..given };
            }
            None if full => return Err(Refusal::Full),
            _ => {
                by_host.insert(host, given);
            }
        }
        // The grant found in the kernel was this, or was told too by the host that gave it.
        if let Some(by_host) = self.others.get_mut(&place) {
            by_host.remove(&None);
        }
        if self.latest(&place) != before {
            self.changed.insert(place);
        }
        Ok(())
    }

    /// Returns whether a grant began before an administrator ended such grants.
    fn was_ended(&self, place: &Place, given: &Given) -> bool {
        let (door, source) = place;
        let mut around = networks_around(*source)
            .filter_map(|network| self.closed.get(&(door.clone(), network)));
        let since = |ended: &Ended| given.began <= ended.at;
        let revoked = given
            .key
            .as_ref()
            .and_then(|key| self.revoked.get(&key.key_id()));
        around.any(since) || revoked.is_some_and(since)
    }

    /// The place of an end, and whether that is one grant: part of what is one here ends all of it.
    pub(crate) fn place_of_an_end(&self, door: &Name, source: IpNet) -> (Place, bool) {
        let whole = self.rules.prefix.around(source.addr());
        let is_one = source.prefix_len() >= whole.prefix_len();
        ((door.clone(), if is_one { whole } else { source }), is_one)
    }

    /// Ends what was granted to a source before a moment, unless that is known.
    pub(crate) fn end(&mut self, door: &Name, source: IpNet, ended: Ended) -> Noted {
        let (place, is_one) = self.place_of_an_end(door, source);
        let before = self.closed.get(&place).map(|known| known.at);
        let noted = note(&mut self.closed, place.clone(), ended, self.rules.most);
        if noted == Noted::Known {
            return noted;
        }
        if noted == Noted::New && ended.is_news_of_others(before) {
            self.work.ended.insert(place.clone(), ended.at);
        }
        if is_one {
            self.end_at(&place, ended);
        } else {
            // As sources are sorted, those of a network stand together.
            let last = IpNet::from(source.broadcast());
            let around = (door.clone(), source)..=(door.clone(), last);
            let own = self.own.range(around.clone()).map(|(place, _)| place);
            let others = self.others.range(around).map(|(place, _)| place);
            for place in own.chain(others).cloned().collect::<Vec<Place>>() {
                self.end_at(&place, ended);
            }
        }
        noted
    }

    /// Ends what a key opened before a moment, unless that is known.
    pub(crate) fn revoke(&mut self, key: KeyId, ended: Ended) -> Noted {
        let before = self.revoked.get(&key).map(|known| known.at);
        let noted = note(&mut self.revoked, key, ended, self.rules.most);
        if noted == Noted::New && ended.is_news_of_others(before) {
            self.work.revoked.insert(key, ended.at);
        }
        if noted != Noted::Known {
            let pending = self.revoking.entry(key).or_insert(ended);
            if pending.at < ended.at {
                *pending = ended;
            }
        }
        noted
    }

    /// Ends what was revoked since this was done last: once for all of it, since each grant has to be looked at.
    pub(crate) fn end_revoked(&mut self) {
        let revoking = std::mem::take(&mut self.revoking);
        if revoking.is_empty() {
            return;
        }
        let by = |given: &Given| {
            let key = given.key.as_ref()?.key_id();
            revoking.get(&key).filter(|ended| given.began <= ended.at)
        };
        // A grant found without its key may be of a revoked one, if it was there by then: the host that gave it says
        // so again if it is not.
        let latest = revoking.values().map(|ended| ended.at).max();
        let found = |by_host: &BTreeMap<Option<Name>, Given>| {
            let found = by_host.get(&None).map(|given| given.since);
            found.is_some_and(|since| Some(since) <= latest)
        };
        let own = self
            .own
            .iter()
            .filter_map(|(place, given)| Some((place, *by(given)?)))
            .filter(|(_, ended)| ended.by != By::HereBefore);
        for (place, ended) in own.map(|(p, e)| (p.clone(), e)).collect::<Vec<_>>() {
            self.end_own(&place, ended);
        }
        for (place, by_host) in &mut self.others {
            let before = by_host.len();
            if found(by_host) {
                by_host.remove(&None);
            }
            by_host.retain(|_, given| by(given).is_none());
            if by_host.len() != before {
                self.changed.insert(place.clone());
            }
        }
        self.others.retain(|_, by_host| !by_host.is_empty());
    }

    /// Ends a grant of this host.
    fn end_own(&mut self, place: &Place, ended: Ended) {
        let Some(given) = self.own.remove(place) else {
            return;
        };
        self.to_tell.remove(&Item::Grant(place.clone()));
        self.to_tell.insert(Item::Gone(place.clone(), given.source));
        // A grant that an administrator ended here is out of the kernel already, and a new one may be in.
        if ended.by == By::Elsewhere {
            self.work.end.insert(place.clone());
        }
    }

    /// Ends what was granted at a place before a moment.
    fn end_at(&mut self, place: &Place, ended: Ended) {
        let ends = |given: &Given| given.began <= ended.at;
        if ended.by != By::HereBefore && self.own.get(place).is_some_and(ends) {
            self.end_own(place, ended);
        }
        if let Some(by_host) = self.others.get_mut(place) {
            let before = by_host.len();
            by_host.retain(|_, given| !ends(given));
            if by_host.len() != before {
                self.changed.insert(place.clone());
            }
            if by_host.is_empty() {
                self.others.remove(place);
            }
        }
    }
}

impl Ended {
    /// Returns whether this, which was known before, says as much. What the kernel has of this host's own ends is not less than
    /// what the engine has kept of them, which may seem later; and it is told to the others.
    fn covers(&self, other: Ended) -> bool {
        match (self.by, other.by) {
            (By::Here, By::HereBefore) => true,
            // It comes back each time that it is told.
            (By::HereBefore, By::HereBefore) => self.at >= other.at.saturating_sub(SAME),
            (By::HereBefore | By::Elsewhere, By::Here) => self.at > other.at,
            _ => self.at >= other.at,
        }
    }

    /// Returns whether the kernel is to remember it, if this was known `before`. Told again it may seem a little later.
    fn is_news_of_others(&self, before: Option<Moment>) -> bool {
        self.by != By::Here && before.is_none_or(|before| self.at > before.saturating_add(SAME))
    }
}

/// The result of noting that something has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Noted {
    New,
    /// There is no room for it. What is there ends; of what is told late, nobody will know that it has.
    NoRoom,
    /// A later end was known, or the same.
    Known,
}

impl Noted {
    fn unless_there_was_no_room(self) -> Result<(), Refusal> {
        match self {
            Noted::New | Noted::Known => Ok(()),
            Noted::NoRoom => Err(Refusal::Unnoted),
        }
    }
}

/// Notes that something ended. There is room for `most` notes of what others say, and for all of this host.
pub(crate) fn note<T: Ord>(
    known: &mut BTreeMap<T, Ended>,
    what: T,
    ended: Ended,
    most: usize,
) -> Noted {
    let room = known.len() < most || ended.by == By::Here;
    match known.get(&what) {
        Some(before) if before.covers(ended) => return Noted::Known,
        None if !room => return Noted::NoRoom,
        _ => {}
    }
    known.insert(what, ended);
    Noted::New
}
