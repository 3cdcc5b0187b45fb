//! Events at the doors, from looking again and again, and from what the kernel tells. Pure; `now` is
//! passed in. Only `terminal` is not: the screen is drawn on it.

pub mod screen;
pub mod terminal;

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use serde::Serialize;

use crate::firewall::status::Status;
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

/// The sources that are in, and since when that is known.
#[derive(Debug, Default)]
pub struct Tracker {
    /// By door and source.
    held: BTreeMap<(String, String), Standing>,
    /// Openings told lately, and not yet seen, by door and source: when, and the key.
    told: BTreeMap<String, BTreeMap<IpAddr, (Instant, String)>>,
    /// Openings seen lately, and not yet told.
    seen: Vec<Seen>,
    /// `true` if anything was seen yet: who is in already has not come now.
    begun: bool,
    counts: VecDeque<(Instant, Counts)>,
}

/// A grant that is new.
#[derive(Debug)]
struct Seen {
    at: Instant,
    door: String,
    source: IpNet,
    key: Option<String>,
}

#[derive(Debug)]
struct Standing {
    key: Option<String>,
    since: Instant,
    /// The time that it had left when it was seen last, in seconds; where connections extend it, that time.
    ends_in: f64,
}

/// The counts since the rules are there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Counts {
    opened: u64,
    wrong: u64,
    shut_out: u64,
}

/// The rates of events per second, over the last few.
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
    /// The kernel has told of an opening. That is an event, unless it was seen just before.
    pub fn tell(&mut self, opening: Opening, now: Instant) -> Option<Event> {
        let is_it = |seen: &Seen| {
            seen.door == opening.door
                && seen.source.contains(&opening.source)
                && seen.key.as_ref().is_none_or(|key| *key == opening.key)
                && now.saturating_duration_since(seen.at) <= LAG
        };
        if let Some(place) = self.seen.iter().position(is_it) {
            self.seen.swap_remove(place);
            return None;
        }
        let event = Event {
            what: What::Open,
            door: opening.door.clone(),
            source: opening.source.to_string(),
            key: Some(opening.key.clone()).filter(|key| !key.is_empty()),
        };
        let of_door = self.told.entry(opening.door).or_default();
        of_door.insert(opening.source, (now, opening.key));
        Some(event)
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
            let told = self.was_told(&at);
            let before = self.held.get(&at);
            let key = grant.key.clone().or_else(|| told.clone());
            // The opening is forgotten a moment before the grant.
            let key = key.or_else(|| before.and_then(|held| held.key.clone()));
            // A grant ends at another time than before only when it is given again: later, or sooner if it was
            // a longer one.
            // One that stays while it is used ends at many times, and its latest end is that of its opening.
            let ends_in = grant.extendable_for.unwrap_or(grant.expires_in);
            let again = before.is_some_and(|held| {
                let passed = now.saturating_duration_since(held.since).as_secs_f64();
                (ends_in - (held.ends_in - passed)).abs() > LAG.as_secs_f64()
            });
            let is_new = before.is_none() || again;
            if is_new && told.is_none() && self.begun {
                events.push(event(What::Open, &at, key.clone()));
                // The kernel tells of no opening by hand.
                let source = network(&at.1).filter(|_| !grant.by_hand);
                self.seen.extend(source.map(|source| Seen {
                    at: now,
                    door: at.0.clone(),
                    source,
                    key: key.clone(),
                }));
            }
            let held = Standing {
                key,
                since: now,
                ends_in,
            };
            self.held.insert(at, held);
        }
        self.begun = true;
        self.seen
            .retain(|seen| now.saturating_duration_since(seen.at) <= LAG);
        // Told and never seen: used up, or closed, before anybody looked.
        for (door, told) in &mut self.told {
            told.retain(|source, (at, key)| {
                let is_new = now.saturating_duration_since(*at) <= LAG;
                if !is_new {
                    let at = (door.clone(), source.to_string());
                    events.push(event(What::Close, &at, Some(key.clone())));
                }
                is_new
            });
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
    fn was_told(&mut self, at: &(String, String)) -> Option<String> {
        let told = self.told.get_mut(&at.0)?;
        let network = network(&at.1)?;
        let those = told.range(network.network()..=network.broadcast());
        let sources: Vec<IpAddr> = those.map(|(source, _)| *source).collect();
        let keys = sources.iter().filter_map(|source| told.remove(source));
        keys.last().map(|(_, key)| key)
    }

    /// The rates of the last seconds.
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

/// The addresses of a grant: a network, or one alone.
fn network(source: &str) -> Option<IpNet> {
    let alone = || source.parse().ok().map(|address: IpAddr| address.into());
    source.parse().ok().or_else(alone)
}

fn event(what: What, at: &(String, String), key: Option<String>) -> Event {
    Event {
        what,
        door: at.0.clone(),
        source: at.1.clone(),
        key,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::firewall::status::{DoorStatus, GrantStatus};

    /// Seconds after the start, and who is in: source, key, and for how long.
    type Look<'l> = &'l [(&'l str, Option<&'l str>, f64)];

    struct Film {
        tracker: Tracker,
        start: Instant,
    }

    impl Film {
        fn new() -> Film {
            Film {
                tracker: Tracker::default(),
                start: Instant::now(),
            }
        }

        fn at(&self, seconds: f64) -> Instant {
            self.start + Duration::from_secs_f64(seconds)
        }

        fn look(&mut self, seconds: f64, there: Look) -> Vec<String> {
            let grants = there.iter().map(|(source, key, expires_in)| GrantStatus {
                source: source.to_string(),
                key: key.map(str::to_string),
                by_hand: false,
                once: false,
                elsewhere: false,
                host: None,
                expires_in: *expires_in,
                extendable_for: None,
            });
            let door = DoorStatus {
                name: "ssh".to_string(),
                in_policy: true,
                grants: grants.collect(),
                ..DoorStatus::default()
            };
            let status = Status {
                doors: vec![door],
                ..Status::default()
            };
            let events = self.tracker.look(&status, self.at(seconds));
            events.iter().map(Event::words).collect()
        }

        fn tell(&mut self, seconds: f64, source: &str) -> Option<String> {
            let opening = Opening {
                at: None,
                source: source.parse().unwrap(),
                door: "ssh".to_string(),
                key: "yves".to_string(),
            };
            let event = self.tracker.tell(opening, self.at(seconds));
            event.map(|event| event.words())
        }
    }

    const OPENED: &str = "ssh opened to 192.0.2.7, by yves";
    const CLOSED: &str = "ssh closed to 192.0.2.7, by yves";

    #[test]
    fn who_is_in_from_the_start_has_not_come() {
        let mut film = Film::new();
        assert!(
            film.look(0.0, &[("192.0.2.7", Some("yves"), 60.0)])
                .is_empty()
        );
        assert!(
            film.look(1.0, &[("192.0.2.7", Some("yves"), 59.0)])
                .is_empty()
        );
        // The opening may be forgotten before the grant is.
        assert!(film.look(59.0, &[("192.0.2.7", None, 1.0)]).is_empty());
        assert_eq!(film.look(61.0, &[]), [CLOSED]);
    }

    #[test]
    fn an_opening_is_told_once() {
        // Seen alone; told, then seen; seen, then told.
        let mut film = Film::new();
        film.look(0.0, &[]);
        assert_eq!(
            film.look(1.0, &[("192.0.2.7", Some("yves"), 60.0)]),
            [OPENED]
        );
        assert_eq!(film.tell(1.5, "192.0.2.7"), None);
        assert_eq!(film.look(2.0, &[]), [CLOSED]);
        assert_eq!(film.tell(5.0, "192.0.2.7").unwrap(), OPENED);
        assert!(
            film.look(5.1, &[("192.0.2.0/24", Some("yves"), 60.0)])
                .is_empty()
        );
        let other = film.tell(5.2, "192.0.2.200").unwrap();
        assert_eq!(other, "ssh opened to 192.0.2.200, by yves");
    }

    #[test]
    fn another_opening_is_one_more() {
        let mut film = Film::new();
        film.look(0.0, &[("192.0.2.7", Some("yves"), 20.0)]);
        assert_eq!(
            film.look(10.0, &[("192.0.2.7", Some("yves"), 60.0)]),
            [OPENED]
        );
        assert_eq!(film.tell(20.0, "192.0.2.7").unwrap(), OPENED);
        assert!(
            film.look(20.5, &[("192.0.2.7", Some("yves"), 59.5)])
                .is_empty()
        );
    }

    /// The last opening counts: a longer grant is over, and that is an opening too.
    #[test]
    fn an_opening_that_shortens_a_grant_is_one_more() {
        let mut film = Film::new();
        film.look(0.0, &[("192.0.2.7", None, 3600.0)]);
        assert!(film.look(1.0, &[("192.0.2.7", None, 3599.0)]).is_empty());
        assert_eq!(
            film.look(2.0, &[("192.0.2.7", Some("yves"), 60.0)]),
            [OPENED]
        );
        // Told right after it was seen: the same one.
        assert_eq!(film.tell(2.1, "192.0.2.7"), None);
        assert!(
            film.look(3.0, &[("192.0.2.7", Some("yves"), 59.0)])
                .is_empty()
        );
        // Told first, and then seen.
        film.look(10.0, &[("192.0.2.7", None, 3600.0)]);
        assert_eq!(film.tell(13.0, "192.0.2.7").unwrap(), OPENED);
        assert!(
            film.look(13.5, &[("192.0.2.7", Some("yves"), 59.5)])
                .is_empty()
        );
    }

    /// As many as a second may bring, told and seen, in time that does not grow with their square.
    #[test]
    fn thousands_are_told_once_each() {
        let mut film = Film::new();
        film.look(0.0, &[]);
        let sources: Vec<String> = (0..20_000_u32)
            .map(|n| std::net::Ipv4Addr::from_bits(0x0a00_0000 + n).to_string())
            .collect();
        let told = sources.iter().filter_map(|source| film.tell(1.0, source));
        assert_eq!(told.count(), sources.len());
        let grants: Vec<_> = sources
            .iter()
            .map(|source| (source.as_str(), Some("yves"), 60.0))
            .collect();
        assert!(film.look(1.5, &grants).is_empty());
        assert_eq!(film.look(2.0, &[]).len(), sources.len());
    }

    /// A grant for one connection may be used up before anybody looks.
    #[test]
    fn what_was_told_and_never_seen_ends() {
        let mut film = Film::new();
        film.look(0.0, &[]);
        film.tell(1.0, "192.0.2.7").unwrap();
        assert!(film.look(1.1, &[]).is_empty());
        assert_eq!(film.look(4.0, &[]), [CLOSED]);
        assert!(film.look(5.0, &[]).is_empty());
    }

    #[test]
    fn rates_are_over_the_last_seconds() {
        let mut tracker = Tracker::default();
        let start = Instant::now();
        let look = |tracker: &mut Tracker, seconds: u64, wrong: u64| {
            let status = Status {
                wrong,
                shut_out: 10 * wrong,
                ..Status::default()
            };
            tracker.look(&status, start + Duration::from_secs(seconds));
        };
        assert_eq!(tracker.rates(), Rates::default());
        look(&mut tracker, 0, 1000);
        assert_eq!(tracker.rates(), Rates::default());
        for second in 1..=20 {
            look(&mut tracker, second, 1000 + 2 * second);
        }
        let rates = tracker.rates();
        assert_eq!(
            (rates.opened, rates.wrong, rates.shut_out),
            (0.0, 2.0, 20.0)
        );
        // The table was made anew.
        look(&mut tracker, 21, 0);
        assert_eq!(tracker.rates().wrong, 0.0);
    }
}
