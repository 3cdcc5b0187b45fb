//! This host's firewall, as the fleet needs it: what is in it, what it tells, and what is added.

use std::collections::HashSet;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use ipnet::IpNet;
use jiff::Timestamp;

use crate::clock::Moment;
use crate::engine::now;
use crate::ledger::{Ledger, SpentToken, Work};
use crate::rules::Rules;
use toctoc::firewall::events::{Change, Events, Note};
use toctoc::firewall::{Failure, Nft};
use toctoc::held::{EndsElsewhere, Guest};
use toctoc::log::Group;
use toctoc::policy::{DoorId, KeyId, Name};
use toctoc::ruleset::log_prefix;
use toctoc::ruleset::nftables::{
    SetId, burn, burnt, elsewhere, end, note_ended_elsewhere, spend_elsewhere, spent_and_life,
};
use toctoc::single_use::{self, TOKENS_PER_WINDOW, Token, Window};

/// Room for what is told while nobody listens: some ten thousand openings.
const ROOM: usize = 16 << 20;

/// The time that a commit may take longer than the last one, in milliseconds. What is given is shorter by so
/// much, so that it never lasts longer than it was given elsewhere.
const MARGIN: i64 = 50;

/// For how much longer than it is good a token is refused that another host took.
const HOUR: Duration = Duration::from_secs(3600);

/// A note is exact to a second, as nft says it, and to the time that its commit took.
const INEXACT: Duration = Duration::from_secs(2);

/// The windows around now in which a token that has just opened is looked for; then the whole day.
const NEAR: u64 = 3;
const DAY: u64 = 24 * 60 + 3;

/// See the module.
pub struct Kernel {
    nft: Nft,
    group: Group,
    events: Events,
    /// When there was nothing to hear last: what is heard now has happened since.
    quiet_since: Moment,
    /// The milliseconds that the last change took.
    took: i64,
}

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
    /// Says what is waited for.
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

/// The result of listening.
#[derive(Debug, Default)]
pub struct Told {
    /// Rules were loaded.
    pub applied: bool,
    /// Not all that happened was heard: what is there has to be read.
    pub lost: bool,
}

/// The result.
#[derive(Debug, Default)]
pub struct Done {
    /// The work to be done again: it failed, or took so long that it lasts too long.
    pub again: Work,
    /// Why the kernel refused it, if so.
    pub failure: Option<Failure>,
    /// The notes that it refused, and what follows from that: sentences. They are not tried again.
    pub forgotten: Vec<String>,
}

impl Kernel {
    /// Listens to the NFLOG group of this number, and to changes.
    ///
    /// # Errors
    /// A sentence, when that is not permitted or somebody else listens.
    pub fn listen(group: u16) -> Result<Kernel, String> {
        let deaf = |error: std::io::Error| {
            format!(
                "NFLOG group {group} cannot be heard: perhaps another program listens to it (another `toctoc fleet`?), \
                 and one at a time can: {error}"
            )
        };
        let events = Events::listen().map_err(deaf)?;
        let group = Group::listen(group).map_err(deaf)?;
        group.make_room(ROOM);
        Ok(Kernel {
            nft: Nft::default(),
            group,
            events,
            quiet_since: now(),
            took: 0,
        })
    }

    /// Can be read when something is told.
    pub fn wakes(&self) -> [BorrowedFd<'_>; 2] {
        [self.group.as_fd(), self.events.as_fd()]
    }

    /// There was nothing to hear, as somebody found who looked after that moment.
    pub fn was_quiet_at(&mut self, moment: Moment) {
        self.quiet_since = self.quiet_since.max(moment);
    }

    /// Takes in what was told, if the policy that runs `is_ours`; else it is only said what changed. `seconds`
    /// is the time since 1970.
    ///
    /// # Errors
    /// A sentence, when the kernel cannot be heard any more.
    pub fn hear(
        &mut self,
        ledger: &mut Ledger,
        is_ours: bool,
        seconds: i64,
    ) -> Result<Told, String> {
        let deaf = |error: std::io::Error| format!("the kernel cannot be heard any more: {error}");
        let mut told = Told::default();
        let began = now();
        let (mut scratch, mut unread) = (false, Vec::new());
        while let Some((claim, found)) = self
            .group
            .hear_with_token(Timestamp::UNIX_EPOCH)
            .map_err(deaf)?
        {
            let names = log_prefix::names(&claim.prefix);
            let names = names.map(|(door, key)| (Name::new(door), Name::new(key)));
            let Some((Some(door), Some(key))) = names else {
                continue;
            };
            if !is_ours {
                continue;
            }
            ledger.opened(&door, &key, claim.source, self.quiet_since);
            if let Some(found) = found
                && let Some(token) = search(&ledger.rules, &key, found, seconds)
            {
                ledger.spent_here(token);
            } else if ledger.rules.is_scratch(&key) {
                scratch = true;
            } else if ledger.rules.secret_of(&key).is_some() && !unread.contains(&key) {
                unread.push(key);
            }
        }
        for change in self.events.hear().map_err(deaf)? {
            match change {
                Change::Applied => told.applied = true,
                Change::Removed => told.lost = true,
                Change::Noted(note) if is_ours => noted(ledger, &note, self.quiet_since),
                Change::Noted(_) => {}
            }
        }
        self.quiet_since = began;
        told.lost |= self.group.has_lost() | self.events.has_lost();
        // The kernel does not say which of its sequences it was.
        if scratch {
            match self.nft.list_set(SetId::Burnt) {
                Ok(listing) => {
                    let ids = listing.as_ref().and_then(burnt).unwrap_or_default();
                    ids.into_iter().for_each(|id| ledger.burnt_here(id));
                }
                Err(_) => told.lost = true,
            }
        }
        // Too much was in front of the token in its packet.
        if !unread.is_empty() {
            match self.nft.list_set(SetId::Spent) {
                Ok(listing) => {
                    let listing = listing.as_ref();
                    let (spent, _) = listing.and_then(spent_and_life).unwrap_or_default();
                    for key in &unread {
                        let found = all_of(&ledger.rules, key, &spent, seconds);
                        found.into_iter().for_each(|found| ledger.spent_here(found));
                    }
                }
                Err(_) => told.lost = true,
            }
        }
        Ok(told)
    }

    /// Reads all that is there into the ledger, if it is its policy's.
    ///
    /// # Errors
    /// When nft cannot be asked.
    pub fn read(&mut self, ledger: &mut Ledger, seconds: i64) -> Result<There, Failure> {
        let Some(terms) = self.nft.list_set(SetId::Terms)? else {
            return Ok(There::Nothing);
        };
        if terms.terms() != Some(ledger.rules.terms) {
            return Ok(There::Another);
        }
        let asked = now();
        let Some(mut listing) = self.nft.list_grants()? else {
            return Ok(There::Nothing);
        };
        for set in [
            SetId::Revoked,
            SetId::RevokedElsewhere,
            SetId::Spent,
            SetId::Burnt,
        ] {
            if let Some(part) = self.nft.list_set(set)? {
                listing.merge(part);
            }
        }
        let heard = now();
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
        let (spent, _) = spent_and_life(&listing).unwrap_or_default();
        let keys: Vec<Name> = ledger.rules.secrets().map(|(key, _)| key.clone()).collect();
        for key in &keys {
            for found in all_of(&ledger.rules, key, &spent, seconds) {
                ledger.spent_here(found);
            }
        }
        for id in burnt(&listing).unwrap_or_default() {
            ledger.burnt_here(id);
        }
        Ok(There::This)
    }

    /// Does what is to be done: first what ends, then what is granted, then what is refused. Each by itself, since
    /// there may be no room for one of them. `seconds` is the time since 1970.
    pub fn work(&mut self, work: Work, rules: &Rules, seconds: i64) -> Done {
        if let Err(failure) = self.end(&work) {
            return Done {
                again: work,
                failure: Some(failure),
                forgotten: Vec::new(),
            };
        }
        let late = self.took.saturating_add(MARGIN);
        let began = now();
        let live = work
            .elsewhere
            .iter()
            .filter_map(|(place, end)| Some((place, (*end)?)));
        let grants: Vec<_> = live
            .map(|((door, source), end)| {
                let left = end.saturating_sub(began).saturating_sub(late);
                let left = u64::try_from(left).ok().map(Duration::from_millis);
                (guest(door, *source), left)
            })
            .collect();
        let given = match grants.is_empty() {
            true => Ok(()),
            false => self.nft.edit(&elsewhere(&grants)),
        };
        self.took = now().saturating_sub(began);
        // Notes that find no room are not tried again: nobody makes any.
        let spent = self.spend(&work.spend, rules, seconds);
        let noted = self.remember(&work);
        let forgotten = [
            ("tokens that opened elsewhere open here too, once", spent),
            (
                "the way back of a trial may let in whom others have ended",
                noted,
            ),
        ];
        let forgotten = forgotten.into_iter().filter_map(|(what, done)| {
            let why = done.err()?.message;
            Some(format!("{what}: {why}"))
        });
        let again = match given.is_err() || self.took > late {
            true => Work {
                elsewhere: work.elsewhere,
                ..Work::default()
            },
            false => Work::default(),
        };
        Done {
            again,
            failure: given.err(),
            forgotten: forgotten.collect(),
        }
    }

    /// Ends what is over. What was granted after it stays, since it is granted behind it.
    fn end(&self, work: &Work) -> Result<(), Failure> {
        let mut transaction = burn(&work.burn);
        if !work.end.is_empty()
            && let Some(listing) = self.nft.list_grants()?
        {
            let ended = work.end.iter().map(|(door, source)| guest(door, *source));
            let departure = listing.guests().take_back(&ended.collect());
            transaction.append(end(&listing, &departure).transaction);
        }
        let over = work.elsewhere.iter().filter(|(_, end)| end.is_none());
        let over: Vec<_> = over
            .map(|((door, source), _)| (guest(door, *source), None))
            .collect();
        transaction.append(elsewhere(&over));
        match transaction.is_empty() {
            true => Ok(()),
            false => self.nft.edit(&transaction),
        }
    }

    /// Notes what other hosts have ended.
    fn remember(&self, work: &Work) -> Result<(), Failure> {
        let now = now();
        let ago = |at: &Moment| {
            let ago = u64::try_from(now.saturating_sub(*at)).unwrap_or(0);
            Duration::from_millis(ago)
        };
        let places = work.ended.iter();
        let keys = work.revoked.iter();
        let transaction = note_ended_elsewhere(&EndsElsewhere {
            guests: places
                .map(|((door, source), at)| (guest(door, *source), ago(at)))
                .collect(),
            keys: keys.map(|(key, at)| (*key, ago(at))).collect(),
        });
        match transaction.is_empty() {
            true => Ok(()),
            false => self.nft.edit(&transaction),
        }
    }

    /// Has tokens refused that other hosts took, for as long as they are good.
    fn spend(&self, spent: &[SpentToken], rules: &Rules, seconds: i64) -> Result<(), Failure> {
        let tokens = spent.iter().filter_map(|token| {
            let left = token.window.over().saturating_sub(seconds).max(0);
            // A clock that is set back makes it good again.
            let lasting = Duration::from_secs(left.unsigned_abs()) + HOUR;
            let secret = rules.secret_of(&token.key)?;
            Some((
                single_use::token(secret, token.window, token.number),
                lasting,
            ))
        });
        let tokens: Vec<(Token, Duration)> = tokens.collect();
        match tokens.is_empty() {
            true => Ok(()),
            false => self.nft.edit(&spend_elsewhere(&tokens)),
        }
    }

    /// The milliseconds that the last change took.
    pub fn took(&self) -> i64 {
        self.took
    }
}

fn guest(door: &Name, source: IpNet) -> Guest {
    let door = door.door_id();
    Guest { source, door }
}

/// Takes in what an administrator did, at some time since then.
fn noted(ledger: &mut Ledger, note: &Note, since: Moment) {
    let known = |ledger: &Ledger, door: DoorId| ledger.rules.door(door).cloned();
    let now = now();
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
