//! The kernel of this host as the ledger takes it in: what it tells, and what it holds. Pure.

use std::collections::HashSet;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use toctoc::firewall::events::Note;
use toctoc::held::Guest;
use toctoc::policy::{DoorId, KeyId, Name};
use toctoc::ruleset::nftables::{Listing, burnt, spent_and_life, tags};
use toctoc::single_use::{self, TOKENS_PER_WINDOW, Token, Window};

use crate::clock::Moment;
use crate::ledger::{Ledger, SpentToken, Work};
use crate::rules::Rules;

/// A note is exact to a second, as nft says it, and to the time that its commit took.
const INEXACT: Duration = Duration::from_secs(2);

/// The windows around now in which a token that has just opened is looked for; then the whole day.
const NEAR: u64 = 3;
const DAY: u64 = 24 * 60 + 3;

/// The policy in the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum There {
    /// This policy.
    This,
    /// Another one that has a fleet too: whoever changed the file has not applied it.
    Another,
    /// None with a fleet.
    Nothing,
}

impl There {
    /// Says what is waited for; nothing while it is this one.
    pub fn words(self) -> Option<&'static str> {
        match self {
            There::This => None,
            There::Another => {
                Some("the policy of this file is not the one that runs: waiting for `toctoc apply`")
            }
            There::Nothing => {
                Some("no policy with [fleet] is applied here: waiting for `toctoc apply`")
            }
        }
    }
}

/// The things that the kernel told since it was asked last.
#[derive(Debug, Default)]
pub struct Told {
    pub openings: Vec<Opening>,
    /// What administrators did.
    pub notes: Vec<Note>,
    /// Not before this moment.
    pub since: Moment,
    /// Rules were loaded.
    pub applied: bool,
    /// Not all that happened was heard: what is there has to be read.
    pub lost: bool,
}

/// A key has opened a door.
#[derive(Debug)]
pub struct Opening {
    pub door: Name,
    pub key: Name,
    pub source: IpAddr,
    /// The text that stands where a token would.
    pub token: Option<Token>,
}

/// The openings of which the kernel does not say by what; its sets do.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Unread {
    /// A scratch sequence was used up.
    pub scratch: bool,
    /// A signed datagram was spent, and too much was in front of its tag in the packet.
    pub signed: bool,
    /// Tokens of these keys were spent, and too much was in front of them in their packets.
    pub keys: Vec<Name>,
}

impl Unread {
    pub fn is_empty(&self) -> bool {
        !self.scratch && !self.signed && self.keys.is_empty()
    }
}

/// These sets of the kernel.
#[derive(Debug, Default)]
pub struct Seen {
    pub burnt: Vec<u32>,
    /// The tags of signed datagrams that have come.
    pub tags: HashSet<Token>,
    /// The keys whose tokens are looked for among those that are spent.
    pub keys: Vec<Name>,
    pub spent: HashSet<Token>,
}

/// The table in the kernel.
#[derive(Debug)]
pub enum Reading {
    /// It is made of this policy.
    This(Box<Contents>),
    Another,
    Nothing,
}

impl Reading {
    pub fn there(&self) -> There {
        match self {
            Reading::This(_) => There::This,
            Reading::Another => There::Another,
            Reading::Nothing => There::Nothing,
        }
    }
}

/// The sets of this policy's table, which were asked for and heard at these moments.
#[derive(Debug)]
pub struct Contents {
    pub listing: Listing,
    pub asked: Moment,
    pub heard: Moment,
}

/// The result of work in the kernel.
#[derive(Debug, Default)]
pub struct Done {
    /// The work to be done again: it failed, or took so long that it lasts too long.
    pub again: Work,
    /// Why the kernel refused it, if so: a sentence.
    pub failure: Option<String>,
    /// The notes that it refused, and what follows from that: sentences. They are not tried again.
    pub forgotten: Vec<String>,
    /// In milliseconds.
    pub took: i64,
}

/// Takes in what keys have opened. Returns what is still to be looked at.
pub fn opened(ledger: &mut Ledger, told: &Told, seconds: i64) -> Unread {
    let mut unread = Unread::default();
    for Opening {
        door,
        key,
        source,
        token,
    } in &told.openings
    {
        ledger.opened(door, key, *source, told.since);
        if ledger.rules.is_signed(key) {
            match token {
                Some(tag) => ledger.signed_here(*tag, told.since),
                None => unread.signed = true,
            }
        } else if let Some(token) =
            token.and_then(|found| search(&ledger.rules, key, found, seconds))
        {
            ledger.spent_here(token);
        } else if ledger.rules.is_scratch(key) {
            unread.scratch = true;
        } else if ledger.rules.secret_of(key).is_some() && !unread.keys.contains(key) {
            unread.keys.push(key.clone());
        }
    }
    unread
}

/// Takes in what was used up.
pub fn used_up(ledger: &mut Ledger, seen: &Seen, now: Moment, seconds: i64) {
    seen.tags
        .iter()
        .for_each(|tag| ledger.signed_here(*tag, now));
    seen.burnt.iter().for_each(|id| ledger.burnt_here(*id));
    for key in &seen.keys {
        let found = all_of(&ledger.rules, key, &seen.spent, seconds);
        found.into_iter().for_each(|found| ledger.spent_here(found));
    }
}

/// Takes in all that is there.
pub fn take_in(ledger: &mut Ledger, contents: &Contents, seconds: i64) {
    let Contents {
        listing,
        asked,
        heard,
    } = contents;
    let (asked, heard) = (*asked, *heard);
    let milliseconds = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
    for (Guest { source, door }, ago) in listing.closed() {
        if let Some(door) = ledger.rules.door(door).cloned() {
            ledger.closed_here(&door, source, heard.saturating_sub(milliseconds(ago)));
        }
    }
    let ended = listing.ended_elsewhere();
    let at = |ago: Duration| asked.saturating_sub(milliseconds(ago + INEXACT));
    for (Guest { source, door }, ago) in ended.guests {
        if let Some(door) = ledger.rules.door(door).cloned() {
            ledger.remember_ended(&door, source, at(ago));
        }
    }
    for (key, ago) in ended.keys {
        ledger.remember_revoked(key, at(ago));
    }
    for grant in listing.grants() {
        let Some(opened) = grant.opened_by.filter(|_| !grant.once) else {
            continue;
        };
        let Some(door) = ledger.rules.door(grant.door).cloned() else {
            continue;
        };
        let key = ledger.rules.key(opened.key).cloned();
        if key.is_none() && opened.key != KeyId::BY_HAND {
            continue;
        }
        // Ended elsewhere, and still to be ended here.
        let place = ledger.place(&door, opened.source);
        if ledger.work.end.contains(&place) {
            continue;
        }
        let end = asked.saturating_add(milliseconds(grant.expires_in));
        // A knock renews what is left, and not what the element says it was given at first.
        let given_for = match opened.given_for < grant.expires_in {
            true => ledger.rules.longest(&door, key.as_ref()),
            false => milliseconds(opened.given_for),
        };
        let began = end.saturating_sub(given_for).min(asked);
        ledger.closed_before(&door, opened.source, began);
        ledger.grant(&door, key.as_ref(), opened.source, began, end);
    }
    for (grant, there_for) in listing.elsewhere_and_since() {
        if let Some(door) = ledger.rules.door(grant.door).cloned() {
            let end = asked.saturating_add(milliseconds(grant.expires_in));
            let since = asked.saturating_sub(milliseconds(there_for));
            ledger.found_elsewhere((door, grant.source), since, end);
        }
    }
    for (key, ago) in listing.revoked() {
        ledger.revoked_here(key, heard.saturating_sub(milliseconds(ago)));
    }
    let (spent, _) = spent_and_life(listing).unwrap_or_default();
    let keys: Vec<Name> = ledger.rules.secrets().map(|(key, _)| key.clone()).collect();
    for key in &keys {
        for found in all_of(&ledger.rules, key, &spent, seconds) {
            ledger.spent_here(found);
        }
    }
    for tag in tags(listing).unwrap_or_default() {
        ledger.signed_here(tag, heard);
    }
    for id in burnt(listing).unwrap_or_default() {
        ledger.burnt_here(id);
    }
}

/// Takes in what an administrator did, at some time since then.
pub fn take_note(ledger: &mut Ledger, note: &Note, since: Moment, now: Moment) {
    let known = |ledger: &Ledger, door: DoorId| ledger.rules.door(door).cloned();
    match note {
        Note::Opened {
            source,
            door,
            key: KeyId::BY_HAND,
            lasting,
        } => {
            if let Some(door) = known(ledger, *door) {
                let lasting = i64::try_from(lasting.as_millis()).unwrap_or(i64::MAX);
                let end = since.saturating_add(lasting);
                ledger.grant(&door, None, *source, since, end);
            }
        }
        Note::Forgotten {
            source,
            door,
            key: KeyId::BY_HAND,
        } => {
            if let Some(door) = known(ledger, *door) {
                ledger.forget_by_hand(&door, *source);
            }
        }
        Note::Opened { .. } | Note::Forgotten { .. } => {}
        Note::Closed { source, door } => {
            if let Some(door) = known(ledger, *door) {
                let network = match source.is_unspecified() {
                    true => IpNet::new(*source, 0).unwrap_or_else(|_| IpNet::from(*source)),
                    false => ledger.rules.prefix.around(*source),
                };
                ledger.closed_here(&door, network, now);
            }
        }
        Note::Revoked { key } => ledger.revoked_here(*key, now),
    }
}

/// Which token of a key this is. Those of about now are tried first.
fn search(rules: &Rules, key: &Name, found: Token, seconds: i64) -> Option<SpentToken> {
    let current = Window::at(seconds).0;
    let near = current.saturating_sub(NEAR)..=current.saturating_add(NEAR);
    let ahead = current.saturating_add(NEAR + 1)..=current.saturating_add(DAY);
    let mut all = tokens_of(rules, key, near.chain(ahead));
    all.find_map(|(named, token)| (token == found).then_some(named))
}

/// Which tokens of a key are among these, as far as they are still good.
fn all_of(rules: &Rules, key: &Name, spent: &HashSet<Token>, seconds: i64) -> Vec<SpentToken> {
    if spent.is_empty() {
        return Vec::new();
    }
    let current = Window::at(seconds).0;
    let windows = current.saturating_sub(NEAR)..=current.saturating_add(DAY);
    let all = tokens_of(rules, key, windows);
    let found = all.filter(|(_, token)| spent.contains(token));
    found.map(|(named, _)| named).collect()
}

/// The tokens of a key in these windows; none of a key without a secret.
fn tokens_of(
    rules: &Rules,
    key: &Name,
    windows: impl Iterator<Item = u64>,
) -> impl Iterator<Item = (SpentToken, Token)> {
    let secret = rules.secret_of(key);
    let numbered =
        windows.flat_map(|window| (0..TOKENS_PER_WINDOW).map(move |n| (Window(window), n)));
    numbered.filter_map(move |(window, number)| {
        let token = single_use::token(secret?, window, number);
        let key = key.clone();
        Some((
            SpentToken {
                key,
                window,
                number,
            },
            token,
        ))
    })
}
