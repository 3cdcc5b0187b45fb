//! What happens at the doors, from looking again and again, and from what the kernel tells. Pure; `now`
//! is passed in.

pub mod screen;

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use serde::Serialize;

use crate::firewall::status::{GrantStatus, Status};
use crate::log::Opening;

/// Something that happened at a door.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Event {
    #[serde(rename = "event")]
    pub what: What,
    pub door: String,
    /// An address, or a network where grants are by prefix.
    pub source: String,
    /// `null` when it was opened by hand, or nobody knows.
    pub key: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum What {
    /// Somebody was granted the door, for the first time or again.
    Open,
    /// His grant has ended: its time was over, it was used up, or it was closed.
    Close,
}

impl What {
    /// `open` or `close`.
    pub fn name(self) -> &'static str {
        match self {
            What::Open => "open",
            What::Close => "close",
        }
    }
}

impl Event {
    /// "ssh opened to 192.0.2.7, by yves"
    pub fn words(&self) -> String {
        let Event { door, source, .. } = self;
        let by = self
            .key
            .as_ref()
            .map_or(String::new(), |key| format!(", by {key}"));
        match self.what {
            What::Open => format!("{door} opened to {source}{by}"),
            What::Close => format!("{door} closed to {source}{by}"),
        }
    }
}

/// A grant that is told by the log may take so long until it is seen in the kernel, and the other way
/// round.
const LAG: Duration = Duration::from_secs(2);

/// Who is in, and since when that is known.
#[derive(Debug, Default)]
pub struct Tracker {
    /// By door and source.
    held: BTreeMap<(String, String), Held>,
    /// What was told lately, and not yet seen.
    told: VecDeque<(Instant, Opening)>,
    /// Whether anything was seen yet: who is in already has not come now.
    begun: bool,
    counts: VecDeque<(Instant, Counts)>,
}

#[derive(Debug)]
struct Held {
    key: Option<String>,
    since: Instant,
    /// How long it lasted when it was seen last, in seconds.
    expires_in: f64,
}

/// What is counted since the rules are there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Counts {
    opened: u64,
    wrong: u64,
    shut_out: u64,
}

/// How often something happened in a second, over the last few.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Rates {
    /// Keys that were completed.
    pub opened: f64,
    /// Knocks that were not the next one, of sources midway.
    pub wrong: f64,
    /// New connections to a door by those who have no grant.
    pub shut_out: f64,
}

/// Rates are over this time.
const OVER: Duration = Duration::from_secs(5);

impl Tracker {
    /// The kernel has told of an opening.
    pub fn tell(&mut self, opening: Opening, now: Instant) -> Event {
        let event = Event {
            what: What::Open,
            door: opening.door.clone(),
            source: opening.source.to_string(),
            key: Some(opening.key.clone()).filter(|key| !key.is_empty()),
        };
        self.told.push_back((now, opening));
        event
    }

    /// The kernel was looked at. Returns what has happened since the last time, but for openings that were
    /// told. When it is looked at for the first time nothing has.
    pub fn look(&mut self, status: &Status, now: Instant) -> Vec<Event> {
        let mut events = Vec::new();
        let mut there = BTreeMap::new();
        for door in &status.doors {
            for grant in &door.grants {
                there.insert((door.name.clone(), grant.source.clone()), grant);
            }
        }
        let gone = self.held.keys().filter(|at| !there.contains_key(*at));
        let gone: Vec<_> = gone.cloned().collect();
        for at in gone {
            let held = self.held.remove(&at);
            events.push(event(What::Close, &at, held.and_then(|held| held.key)));
        }
        for (at, grant) in there {
            let told = self.was_told(&at, grant);
            let key = grant.key.clone().or_else(|| told.clone());
            let before = self.held.get(&at);
            // A grant lasts longer than before only when it is given again.
            let again = before.is_some_and(|held| {
                let passed = now.saturating_duration_since(held.since).as_secs_f64();
                grant.expires_in > held.expires_in - passed + LAG.as_secs_f64()
            });
            let is_new = before.is_none() || again;
            if is_new && told.is_none() && self.begun {
                events.push(event(What::Open, &at, key.clone()));
            }
            let held = Held {
                key,
                since: now,
                expires_in: grant.expires_in,
            };
            self.held.insert(at, held);
        }
        self.begun = true;
        // Told and never seen: used up, or closed, before anybody looked.
        while let Some((at, _)) = self.told.front()
            && now.saturating_duration_since(*at) > LAG
        {
            if let Some((_, opening)) = self.told.pop_front() {
                let at = (opening.door, opening.source.to_string());
                events.push(event(What::Close, &at, Some(opening.key)));
            }
        }
        let opened = status.keys.iter().map(|key| key.opened).sum();
        let counts = Counts {
            opened,
            wrong: status.wrong,
            shut_out: status.shut_out,
        };
        self.counts.push_back((now, counts));
        while self.counts.len() > 2
            && self
                .counts
                .front()
                .is_some_and(|(at, _)| now.saturating_duration_since(*at) > OVER)
        {
            self.counts.pop_front();
        }
        events
    }

    /// Nothing of ours is in the kernel: whoever was in is so by no grant any more.
    pub fn nothing_is_there(&mut self) -> Vec<Event> {
        let held = std::mem::take(&mut self.held);
        self.begun = true;
        held.into_iter()
            .map(|(at, held)| event(What::Close, &at, held.key))
            .collect()
    }

    /// The key of an opening that was told and is this grant; it is told no more then.
    fn was_told(&mut self, at: &(String, String), grant: &GrantStatus) -> Option<String> {
        let network: Option<IpNet> = at.1.parse().ok().or_else(|| {
            let address: std::net::IpAddr = at.1.parse().ok()?;
            Some(IpNet::from(address))
        });
        let same = |opening: &Opening| {
            let cut = grant.key.as_ref();
            opening.door == at.0
                && network.is_some_and(|network| network.contains(&opening.source))
                && cut.is_none_or(|key| key.starts_with(&opening.key))
        };
        let mut key = None;
        self.told.retain(|(_, opening)| {
            let own = same(opening);
            if own {
                key = Some(opening.key.clone());
            }
            !own
        });
        key
    }

    /// How often things happened lately.
    pub fn rates(&self) -> Rates {
        let (Some((from, first)), Some((to, last))) = (self.counts.front(), self.counts.back())
        else {
            return Rates::default();
        };
        let seconds = to.saturating_duration_since(*from).as_secs_f64();
        let rate = |before: u64, after: u64| match seconds > 0.0 {
            true => after.saturating_sub(before) as f64 / seconds,
            false => 0.0,
        };
        Rates {
            opened: rate(first.opened, last.opened),
            wrong: rate(first.wrong, last.wrong),
            shut_out: rate(first.shut_out, last.shut_out),
        }
    }
}

fn event(what: What, at: &(String, String), key: Option<String>) -> Event {
    Event {
        what,
        door: at.0.clone(),
        source: at.1.clone(),
        key,
    }
}
