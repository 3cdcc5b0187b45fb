//! This host's firewall, as the fleet needs it: what is in it, what it tells, and what is added.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use ipnet::IpNet;
use jiff::Timestamp;
use toctoc::firewall::events::{Change, Events};
use toctoc::firewall::{Failure, Nft};
use toctoc::held::{EndsElsewhere, Guest};
use toctoc::log::Group;
use toctoc::policy::Name;
use toctoc::ruleset::log_prefix;
use toctoc::ruleset::nftables::{
    SetId, burn, burnt, elsewhere, end, note_ended_elsewhere, spend_elsewhere, spent_and_life, tags,
};
use toctoc::single_use::{self, Token};

use crate::clock::Moment;
use crate::ledger::Work;
use crate::own_clock::now;
use crate::reading::{Contents, Done, Opening, Reading, Seen, Told, Unread};
use crate::rules::Rules;
use crate::tell::SIGNED_FOR;

/// Room for what is told while nobody listens: some ten thousand openings.
const ROOM: usize = 16 << 20;

/// The time that a commit may take longer than the last one, in milliseconds. What is given is shorter by so
/// much, so that it never lasts longer than it was given elsewhere.
const MARGIN: i64 = 50;

/// For how much longer than it is good a token is refused that another host took.
const HOUR: Duration = Duration::from_secs(3600);

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

    /// Hears what was told.
    ///
    /// # Errors
    /// A sentence, when the kernel cannot be heard any more.
    pub fn hear(&mut self) -> Result<Told, String> {
        let deaf = |error: std::io::Error| format!("the kernel cannot be heard any more: {error}");
        let mut told = Told {
            since: self.quiet_since,
            ..Told::default()
        };
        let began = now();
        while let Some((claim, token)) = self
            .group
            .hear_with_token(Timestamp::UNIX_EPOCH)
            .map_err(deaf)?
        {
            let names = log_prefix::names(&claim.prefix);
            let names = names.map(|(door, key)| (Name::new(door), Name::new(key)));
            if let Some((Some(door), Some(key))) = names {
                let source = claim.source;
                told.openings.push(Opening {
                    door,
                    key,
                    source,
                    token,
                });
            }
        }
        for change in self.events.hear().map_err(deaf)? {
            match change {
                Change::Applied => told.applied = true,
                Change::Removed => told.lost = true,
                Change::Noted(note) => told.notes.push(note),
            }
        }
        self.quiet_since = began;
        told.lost |= self.group.has_lost() | self.events.has_lost();
        Ok(told)
    }

    /// Looks at the sets that say what was used up.
    ///
    /// # Errors
    /// When nft cannot be asked.
    pub fn see(&self, unread: Unread) -> Result<Seen, Failure> {
        let mut seen = Seen::default();
        // The kernel does not say which of its sequences it was.
        if unread.scratch {
            let listing = self.nft.list_set(SetId::Burnt)?;
            seen.burnt = listing
                .as_ref()
                .and_then(burnt)
                .into_iter()
                .flatten()
                .collect();
        }
        if unread.signed {
            let listing = self.nft.list_set(SetId::Tags)?;
            seen.tags = listing.as_ref().and_then(tags).unwrap_or_default();
        }
        if !unread.keys.is_empty() {
            let listing = self.nft.list_set(SetId::Spent)?;
            let spent = listing.as_ref().and_then(spent_and_life);
            seen.spent = spent.map(|(spent, _)| spent).unwrap_or_default();
            seen.keys = unread.keys;
        }
        Ok(seen)
    }

    /// Reads all that is there, if it is made of the policy of these terms.
    ///
    /// # Errors
    /// When nft cannot be asked.
    pub fn read(&self, policy: u32) -> Result<Reading, Failure> {
        let Some(terms) = self.nft.list_set(SetId::Terms)? else {
            return Ok(Reading::Nothing);
        };
        if terms.terms() != Some(policy) {
            return Ok(Reading::Another);
        }
        let asked = now();
        let Some(mut listing) = self.nft.list_grants()? else {
            return Ok(Reading::Nothing);
        };
        for set in [
            SetId::Revoked,
            SetId::RevokedElsewhere,
            SetId::Spent,
            SetId::Tags,
            SetId::Burnt,
        ] {
            if let Some(part) = self.nft.list_set(set)? {
                listing.merge(part);
            }
        }
        let heard = now();
        Ok(Reading::This(Box::new(Contents {
            listing,
            asked,
            heard,
        })))
    }

    /// Does what is to be done: first what ends, then what is granted, then what is refused. Each by itself, since
    /// there may be no room for one of them. `seconds` is the time since 1970.
    pub fn work(&mut self, work: Work, rules: &Rules, seconds: i64) -> Done {
        if let Err(failure) = self.end(&work) {
            return Done {
                again: work,
                failure: Some(failure.message),
                ..Done::default()
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
        let spent = self.spend(&work, rules, seconds);
        let noted = self.remember(&work);
        let forgotten = [
            (
                "tokens and signed datagrams that opened elsewhere open here too, once",
                spent,
            ),
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
            failure: given.err().map(|failure| failure.message),
            forgotten: forgotten.collect(),
            took: self.took,
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

    /// Has tokens and signed datagrams refused that other hosts took, for as long as they are good.
    fn spend(&self, work: &Work, rules: &Rules, seconds: i64) -> Result<(), Failure> {
        let tokens = work.spend.iter().filter_map(|token| {
            let left = token.window.over().saturating_sub(seconds).max(0);
            // A clock that is set back makes it good again.
            let lasting = Duration::from_secs(left.unsigned_abs()) + HOUR;
            let secret = rules.secret_of(&token.key)?;
            Some((
                single_use::token(secret, token.window, token.number),
                lasting,
            ))
        });
        let lasting = Duration::from_millis(SIGNED_FOR.unsigned_abs());
        let signed = work.signed.iter().map(|tag| (*tag, lasting));
        let tokens: Vec<(Token, Duration)> = tokens.chain(signed).collect();
        match tokens.is_empty() {
            true => Ok(()),
            false => self.nft.edit(&spend_elsewhere(&tokens)),
        }
    }
}

fn guest(door: &Name, source: IpNet) -> Guest {
    let door = door.door_id();
    Guest { source, door }
}
