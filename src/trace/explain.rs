//! Says in words what each packet of a trace meant, and why.

use std::fmt::Write as _;
use std::time::Duration;

use super::Packet;
use super::run::{Before, Effect, Meaning, Run};
use crate::automaton::{Automaton, Place, State};
use crate::knock::display_source;
use crate::policy::{DoorIndex, KeyIndex, Policy};

/// One line about one packet, without a line end.
pub fn sentence(
    policy: &Policy,
    automaton: &Automaton,
    packet: &Packet,
    meaning: &Meaning,
) -> String {
    let words = Words { policy, automaton };
    let at = packet.at.as_secs_f64();
    let source = packet.source.to_string();
    format!(
        "{at:>9.3}  {source:<15}  {:<9}  {}",
        packet.destination(),
        words.meaning(meaning)
    )
}

/// The grants that hold at `at`, one line each, with a heading.
pub fn grants(policy: &Policy, run: &Run<'_>, at: Duration) -> String {
    let grants = run.grants(at);
    if grants.is_empty() {
        return "no grants\n".to_string();
    }
    let mut text = String::from("grants\n");
    for (holding, (end, key)) in grants {
        let _ = writeln!(
            text,
            "  {} to {}{} for {} more, opened by {}",
            display_source(&holding.source),
            policy.door(holding.door).name,
            if holding.once { " once" } else { "" },
            seconds(end - at),
            policy.key(key).name
        );
    }
    text
}

struct Words<'p> {
    policy: &'p Policy,
    automaton: &'p Automaton,
}

impl Words<'_> {
    fn meaning(&self, meaning: &Meaning) -> String {
        match meaning {
            Meaning::NotJudged => "no knock: the policy has no UDP port".to_string(),
            Meaning::Ignored => "no knock: an ignored port".to_string(),
            Meaning::Trusted(door) => format!("passes: {} trusts this source", self.door(*door)),
            Meaning::Granted {
                door,
                left,
                once,
                extended,
            } => {
                let used = match (once, extended) {
                    (true, _) => ", which is used up now".to_string(),
                    (false, Some(left)) => format!(", now for {}", seconds(*left)),
                    (false, None) => String::new(),
                };
                format!(
                    "passes: holds a grant for {} ({} left){used}",
                    self.door(*door),
                    seconds(*left)
                )
            }
            Meaning::NotHeard => {
                "no knock: goes on to a host behind this one, where no knocks are heard".to_string()
            }
            Meaning::Echo => "echo: the same knock again, does not count".to_string(),
            Meaning::Knock { effect, before } => self.knock(*effect, *before),
        }
    }

    fn knock(&self, effect: Effect, before: Before) -> String {
        let late = match before {
            Before::TooLate(state, pause) if self.midway(state) => {
                format!(
                    "too late: {} after the last knock, at most {} is allowed; ",
                    seconds(pause),
                    crate::policy::show(self.policy.within)
                )
            }
            _ => String::new(),
        };
        let progress = match before {
            Before::Progress(state) if self.midway(state) => Some(state),
            _ => None,
        };
        let what = match effect {
            Effect::Refused(door) => {
                let lost = if progress.is_some() {
                    ", and progress is lost"
                } else {
                    ""
                };
                format!(
                    "refused: {} is closed to this source{lost}",
                    self.door(door)
                )
            }
            Effect::Nowhere => match progress {
                Some(state) => format!("wrong: not {}; progress is lost", self.awaited(state)),
                None => "begins no sequence".to_string(),
            },
            Effect::Progress(state) => {
                let fresh = self.knocks(state) == 1;
                match progress {
                    Some(was) if self.knocks(was) + 1 != self.knocks(state) => {
                        let again = if fresh { "starts again" } else { "falls back" };
                        format!("wrong, {again}: {}", self.place(state))
                    }
                    _ => self.place(state),
                }
            }
            Effect::Opens(key) => self.opens(key),
            Effect::Burnt(key) => format!(
                "last knock of {}, used up by an earlier opening: opens nothing",
                self.key(key)
            ),
            Effect::Expired(key) => {
                format!(
                    "last knock of {}, which has expired: opens nothing",
                    self.key(key)
                )
            }
        };
        format!("{late}{what}")
    }

    fn opens(&self, index: KeyIndex) -> String {
        let key = self.policy.key(index);
        let doors: Vec<String> = key
            .opens
            .iter()
            .map(|o| {
                let lasting = crate::policy::show(o.open_for);
                let stays = match self.policy.door(o.door).extension {
                    Some(extension) => {
                        let at_most = crate::policy::show(extension.at_most);
                        format!(", or while it is used up to {at_most}")
                    }
                    None => String::new(),
                };
                format!("{} for {lasting}{stays}", self.door(o.door))
            })
            .collect();
        let once = if key.once { ", for one connection" } else { "" };
        format!(
            "last knock of {}: opens {}{once}",
            key.name,
            doors.join(" and ")
        )
    }

    fn door(&self, door: DoorIndex) -> &str {
        self.policy.door(door).name.as_str()
    }

    fn key(&self, key: KeyIndex) -> &str {
        self.policy.key(key).name.as_str()
    }

    fn midway(&self, state: State) -> bool {
        self.knocks(state) > 0
    }

    fn knocks(&self, state: State) -> usize {
        match self.automaton.place(state) {
            Some(Place::Midway { knocks, .. }) => *knocks,
            _ => 0,
        }
    }

    /// "second knock of yves and anna"
    fn place(&self, state: State) -> String {
        match self.automaton.place(state) {
            Some(Place::Midway { knocks, keys }) => {
                format!("{} knock of {}", ordinal(*knocks), self.names(keys))
            }
            _ => "no progress".to_string(),
        }
    }

    /// "the third knock of yves"
    fn awaited(&self, state: State) -> String {
        match self.automaton.place(state) {
            Some(Place::Midway { knocks, keys }) => {
                format!("the {} knock of {}", ordinal(knocks + 1), self.names(keys))
            }
            _ => "a knock that leads on".to_string(),
        }
    }

    fn names(&self, keys: &[KeyIndex]) -> String {
        let names: Vec<&str> = keys.iter().take(3).map(|&key| self.key(key)).collect();
        match keys.len() {
            0..=3 => names.join(" and "),
            more => format!("{} and {} others", names.join(", "), more - 3),
        }
    }
}

fn ordinal(number: usize) -> String {
    const WORDS: [&str; 10] = [
        "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth",
        "tenth",
    ];
    match WORDS.get(number.wrapping_sub(1)) {
        Some(word) => word.to_string(),
        None => format!(
            "{number}{}",
            match (number % 10, number % 100) {
                (_, 11..=13) => "th",
                (1, _) => "st",
                (2, _) => "nd",
                (3, _) => "rd",
                _ => "th",
            }
        ),
    }
}

/// "12.3 s", "12 s"
fn seconds(duration: Duration) -> String {
    let tenths = (duration.as_secs_f64() * 10.0).round() / 10.0;
    if tenths.fract() == 0.0 {
        format!("{tenths:.0} s")
    } else {
        format!("{tenths:.1} s")
    }
}
