//! Sources that are in, here and elsewhere, and what follows from what is heard. Pure: times are passed in.
//!
//! Three rules keep a grant from living longer than it was given:
//!
//! - A host tells the others of what began with it, and never of what it was told.
//! - Whoever is told reckons the time that is left as the least that it can be.
//! - What an administrator ended is noted with its moment, and nothing that began before counts any more.
//!
//! Grants of several hosts to one source are kept for each, and the latest end counts.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::clock::Moment;
use crate::hear::{Noted, SAME, note};
use crate::message::DAY;
use crate::rules::Rules;
use crate::tell::{HOUR, SIGNED_FOR};
use toctoc::policy::{KeyId, Name};
use toctoc::single_use::{Token, Window};

/// A door, and the source as grants of this host have it.
pub type Place = (Name, IpNet);

/// A grant, by this host's clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// The address that opened.
    pub source: IpAddr,
    /// `None`: an administrator did it, or nobody knows.
    pub key: Option<Name>,
    /// Not later than it was.
    pub began: Moment,
    /// Not later than it is.
    pub end: Moment,
    /// It was known here no later than that.
    pub since: Moment,
}

/// The end of what began before a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    pub at: Moment,
    pub by: By,
}

/// The side that has ended something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// An administrator of this host, as its kernel has it. The others are told. What the engine says is not said
    /// again: each time it would be a little later, and at last end what began after it.
    Here,
    /// The same, as the engine has kept it: the kernel may have begun anew since then. What it has of this host's own
    /// grants began after it. It is told again too: it may be kept nowhere else.
    HereBefore,
    Elsewhere,
}

/// A token that has opened.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SpentToken {
    pub key: Name,
    pub window: Window,
    /// Which of its window it is.
    pub number: u32,
}

/// A thing to tell the others, once however often it changes meanwhile.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Item {
    Grant(Place),
    /// A grant of this host that was ended: its name in the engine goes.
    Gone(Place, IpAddr),
    Closed(Place),
    Revoked(KeyId),
    Spent(SpentToken),
    /// A datagram of a signed key that has opened, by its tag.
    Signed(Token),
    Burnt(u32),
}

/// Work to be done in the kernel.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Grants of other hosts, by door: until when they count now, or that they do no more.
    pub elsewhere: Vec<(Place, Option<Moment>)>,
    /// Grants of this host that are to end.
    pub end: BTreeSet<Place>,
    /// Places that other hosts ended, and when, to be remembered; and the keys that they revoked.
    pub ended: BTreeMap<Place, Moment>,
    pub revoked: BTreeMap<KeyId, Moment>,
    /// Tokens of keys of this host that other hosts took.
    pub spend: Vec<SpentToken>,
    /// The same of signed datagrams, by their tags.
    pub signed: Vec<Token>,
    pub burn: Vec<u32>,
}

impl Work {
    pub fn is_empty(&self) -> bool {
        *self == Work::default()
    }
}

/// Why what another host says does not count. Nothing of it is repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    Door,
    Expired,
    /// As many sources are in as this policy has room for.
    Full,
    /// A token of no key here, or of a time that makes no sense.
    Token,
    /// As many signed datagrams are remembered as there is room for.
    Crowd,
    /// It was said by another clock than this host has seen: nobody knows how much of it is left.
    ToCome,
    /// A closing or a revoked key counts, and is not remembered.
    Unnoted,
    /// Another host has the name of this one.
    Twin,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refusal::Door => "a grant for a door that `accept` does not name",
            Refusal::Expired => "a grant by a key that has expired here",
            Refusal::Full => "a grant, since there is no more room (`max_sources`)",
            Refusal::Token => "a token of no key of this policy, or of another time",
            Refusal::Crowd => "a signed datagram, since too many are remembered",
            Refusal::ToCome => {
                "a grant of a time to come, by a clock that this host has not seen yet"
            }
            Refusal::Unnoted => {
                "a closing, which counts now, and of which there is no room for a note"
            }
            Refusal::Twin => {
                "another host that has the name of this one: each needs a `name` of its own"
            }
        })
    }
}

/// A host that was heard of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    pub at: Moment,
    /// The longest time that its words were under way.
    pub lag: i64,
}

/// See the module.
#[derive(Debug)]
pub struct Ledger {
    pub rules: Rules,
    /// Tells this start of the agent from others.
    pub run: u64,
    pub own: BTreeMap<Place, Given>,
    /// By the host that gave it; `None` was in the kernel when this agent began.
    pub(crate) others: BTreeMap<Place, BTreeMap<Option<Name>, Given>>,
    /// Places that administrators ended; sources are at most as long as grants of this host are.
    pub closed: BTreeMap<Place, Ended>,
    pub(crate) revoked: BTreeMap<KeyId, Ended>,
    /// Keys whose grants are still to be ended.
    pub(crate) revoking: BTreeMap<KeyId, Ended>,
    pub(crate) spent: BTreeSet<SpentToken>,
    /// Tags of signed datagrams that have opened, and since when that is known here.
    pub(crate) signed: BTreeMap<Token, Moment>,
    pub(crate) burnt: BTreeSet<u32>,
    pub hosts: BTreeMap<Name, Seen>,
    pub to_tell: BTreeSet<Item>,
    pub work: Work,
    /// Where other hosts' grants have changed.
    pub(crate) changed: BTreeSet<Place>,
}

impl Ledger {
    pub fn new(rules: Rules, run: u64) -> Ledger {
        Ledger {
            rules,
            run,
            own: BTreeMap::new(),
            others: BTreeMap::new(),
            closed: BTreeMap::new(),
            revoked: BTreeMap::new(),
            revoking: BTreeMap::new(),
            spent: BTreeSet::new(),
            signed: BTreeMap::new(),
            burnt: BTreeSet::new(),
            hosts: BTreeMap::new(),
            to_tell: BTreeSet::new(),
            work: Work::default(),
            changed: BTreeSet::new(),
        }
    }

    /// The place of a source at a door: the network that grants are for.
    pub fn place(&self, door: &Name, source: IpAddr) -> Place {
        (door.clone(), self.rules.prefix.around(source))
    }

    /// A key of this host has opened a door, not before `since`.
    pub fn opened(&mut self, door: &Name, key: &Name, source: IpAddr, since: Moment) {
        if let Some(lasting) = self.rules.shared_for(door, key) {
            self.grant(
                door,
                Some(key),
                source,
                since,
                since.saturating_add(lasting),
            );
        }
    }

    /// A grant of this host: by a key, or by an administrator.
    pub fn grant(
        &mut self,
        door: &Name,
        key: Option<&Name>,
        source: IpAddr,
        began: Moment,
        end: Moment,
    ) {
        if !self.rules.share.contains(door) {
            return;
        }
        let place = self.place(door, source);
        let given = Given {
            source,
            key: key.cloned(),
            began,
            end: end.min(began.saturating_add(DAY)),
            since: began,
        };
        // With grants for networks, another address may have opened before.
        let before = self.own.insert(place.clone(), given);
        if let Some(before) = before.filter(|before| before.source != source) {
            self.to_tell
                .insert(Item::Gone(place.clone(), before.source));
        }
        self.to_tell.remove(&Item::Gone(place.clone(), source));
        self.to_tell.insert(Item::Grant(place));
    }

    /// A grant of this host is in the kernel. Times of what is found are inexact, but this is certain: it began after
    /// what an administrator of this host has ended there, or it would not be there.
    pub fn closed_before(&mut self, door: &Name, source: IpAddr, began: Moment) {
        let (_, network) = self.place(door, source);
        for around in networks_around(network) {
            let ended = self.closed.get_mut(&(door.clone(), around));
            if let Some(ended) = ended.filter(|ended| ended.by == By::Here) {
                ended.at = ended.at.min(began.saturating_sub(SAME));
            }
        }
    }

    /// Forgets a grant of an administrator that is not there any more.
    pub fn forget_by_hand(&mut self, door: &Name, source: IpAddr) {
        let place = self.place(door, source);
        if self.own.get(&place).is_some_and(|own| own.key.is_none()) {
            self.own.remove(&place);
            self.to_tell.remove(&Item::Grant(place.clone()));
            self.to_tell.insert(Item::Gone(place, source));
        }
    }

    /// A grant of another host that the kernel has held `since` then, of which nobody knows more than its
    /// end. It may have begun at any time before.
    pub fn found_elsewhere(&mut self, place: Place, since: Moment, end: Moment) {
        // The kernel is behind: what was heard of this place is still to be done there.
        if self.changed.contains(&place) {
            return;
        }
        let given = Given {
            source: place.1.addr(),
            key: None,
            began: Moment::MIN,
            end,
            since,
        };
        self.others.entry(place).or_default().insert(None, given);
    }

    /// The kernel remembers that another host ended what was granted before `at`, which is not later than it was.
    pub fn remember_ended(&mut self, door: &Name, source: IpNet, at: Moment) {
        let by = By::Elsewhere;
        let ended = Ended { at, by };
        let (place, _) = self.place_of_an_end(door, source);
        note(&mut self.closed, place, ended, self.rules.most);
    }

    /// The same of what a key opened.
    pub fn remember_revoked(&mut self, key: KeyId, at: Moment) {
        let by = By::Elsewhere;
        let ended = Ended { at, by };
        note(&mut self.revoked, key, ended, self.rules.most);
    }

    /// An administrator of this host has ended what was granted before `at`.
    pub fn closed_here(&mut self, door: &Name, source: IpNet, at: Moment) {
        let by = By::Here;
        let ended = Ended { at, by };
        if self.rules.concerns(door) && self.end(door, source, ended) == Noted::New {
            let place = (door.clone(), source);
            self.to_tell.insert(Item::Closed(place));
        }
    }

    /// An administrator of this host has taken a key away.
    pub fn revoked_here(&mut self, key: KeyId, at: Moment) {
        let by = By::Here;
        if self.revoke(key, Ended { at, by }) == Noted::New {
            self.to_tell.insert(Item::Revoked(key));
        }
    }

    /// A token has opened here.
    pub fn spent_here(&mut self, token: SpentToken) {
        if self.spent.insert(token.clone()) {
            self.to_tell.insert(Item::Spent(token));
        }
    }

    /// A signed datagram has opened here.
    pub fn signed_here(&mut self, tag: Token, now: Moment) {
        if self.signed.insert(tag, now).is_none() {
            self.to_tell.insert(Item::Signed(tag));
        }
    }

    /// A scratch sequence has opened here, or has been known to have opened.
    pub fn burnt_here(&mut self, id: u32) {
        if self.burnt.insert(id) {
            self.to_tell.insert(Item::Burnt(id));
        }
    }

    /// The engine may have forgotten all: everything is told again.
    pub fn tell_all(&mut self) {
        let grants = self.own.keys().cloned().map(Item::Grant);
        let closed = self
            .closed
            .iter()
            .filter(|(_, ended)| ended.by != By::Elsewhere);
        let closed = closed.map(|(place, _)| Item::Closed(place.clone()));
        let revoked = self
            .revoked
            .iter()
            .filter(|(_, ended)| ended.by == By::Here);
        let revoked = revoked.map(|(key, _)| Item::Revoked(*key));
        let spent = self.spent.iter().cloned().map(Item::Spent);
        let datagrams = self.signed.keys().copied().map(Item::Signed);
        let burnt = self.burnt.iter().copied().map(Item::Burnt);
        let all = grants
            .chain(closed)
            .chain(revoked)
            .chain(spent)
            .chain(datagrams)
            .chain(burnt);
        self.to_tell.extend(all);
    }

    /// The kernel is to be told again until when the grants of other hosts count: it has lost time.
    pub fn rewrite_all(&mut self) {
        self.changed.extend(self.others.keys().cloned());
    }

    /// The grants of other hosts have begun, and end, earlier by so much than they seemed to. Who gave them says
    /// it again.
    pub fn shorten(&mut self, milliseconds: i64) {
        for given in self.others.values_mut().flat_map(BTreeMap::values_mut) {
            given.began = given.began.saturating_sub(milliseconds);
            given.end = given.end.saturating_sub(milliseconds);
        }
        self.rewrite_all();
    }

    /// Returns whether there is anything to be done in the kernel.
    pub fn has_work(&self) -> bool {
        !self.changed.is_empty() || !self.work.is_empty() || !self.revoking.is_empty()
    }

    /// Takes the work to be done in the kernel, once.
    pub fn take_work(&mut self, now: Moment) -> Work {
        self.end_revoked();
        for place in std::mem::take(&mut self.changed) {
            let latest = self.latest(&place).filter(|end| *end > now);
            self.work.elsewhere.push((place, latest));
        }
        std::mem::take(&mut self.work)
    }

    /// Takes back work that could not be done, to be done again.
    pub fn give_back(&mut self, work: Work) {
        let places = work.elsewhere.into_iter().map(|(place, _)| place);
        self.changed.extend(places);
        self.work.end.extend(work.end);
        for (place, at) in work.ended {
            self.work.ended.entry(place).or_insert(at);
        }
        for (key, at) in work.revoked {
            self.work.revoked.entry(key).or_insert(at);
        }
        self.work.spend.extend(work.spend);
        self.work.signed.extend(work.signed);
        self.work.burn.extend(work.burn);
    }

    /// Until when other hosts' grants count.
    pub(crate) fn latest(&self, place: &Place) -> Option<Moment> {
        self.others
            .get(place)?
            .values()
            .map(|given| given.end)
            .max()
    }

    /// The live grants of other hosts, each with the host whose end is the latest.
    pub fn elsewhere(&self, now: Moment) -> impl Iterator<Item = (&Place, Option<&Name>, &Given)> {
        self.others.iter().filter_map(move |(place, by_host)| {
            let latest = by_host.iter().max_by_key(|(_, given)| given.end)?;
            let (host, given) = latest;
            (given.end > now).then_some((place, host.as_ref(), given))
        })
    }

    /// Forgets what is over. `seconds` is the time since 1970.
    pub fn tidy(&mut self, now: Moment, seconds: i64) {
        self.own.retain(|_, given| given.end > now);
        self.others.retain(|_, by_host| {
            by_host.retain(|_, given| given.end > now);
            !by_host.is_empty()
        });
        let recent = |at: Moment| now.saturating_sub(at) < DAY;
        self.closed.retain(|_, ended| recent(ended.at));
        self.revoked.retain(|_, ended| recent(ended.at));
        self.hosts.retain(|_, seen| recent(seen.at));
        let over = |window: Window| window.over().saturating_add(HOUR / 1000) < seconds;
        self.spent.retain(|token| !over(token.window));
        self.signed
            .retain(|_, since| now.saturating_sub(*since) < SIGNED_FOR);
    }
}

/// A network and every one around it.
pub(crate) fn networks_around(network: IpNet) -> impl Iterator<Item = IpNet> {
    let lengths = 0..=network.prefix_len();
    lengths.filter_map(move |length| Some(IpNet::new(network.addr(), length).ok()?.trunc()))
}
