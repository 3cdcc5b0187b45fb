//! A policy as a picture: on the left a stranger, then the knocks that lead on, the keys that they
//! make, and on the right the doors.
//!
//! `(Policy, Automaton) --gather--> Picture --text, dot, place and svg--> String`. Everything that
//! is said is said in the [`Picture`]; the renderers only choose where. Knocks are the states of the
//! automaton, so sequences with the same beginning share it.
//!
//! Not drawn: where a wrong knock falls back to. That is a rule, the same at every knock, and stands
//! in a sentence. Never drawn: what scratch keys knock, and the secrets of tokens.

mod colours;
mod doors;
mod dot;
mod frame;
mod gather;
mod place;
mod settle;
mod svg;
mod text;
mod words;

use std::fmt;

use crate::automaton::Automaton;
use crate::policy::Policy;

pub use dot::dot;
pub use frame::{Frame, Of};
pub use place::{Drawing, Leads, Line, place};
pub use svg::svg;
pub use text::text;

/// Tells whether a picture shows the numbers that are to be known by few.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ports {
    Shown,
    /// No port, and no address of a source. How many knocks a key has is still seen.
    LeftOut,
}

/// The things to draw, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// "2 keys for 1 door"
    pub title: String,
    /// Whole sentences on what holds for all of it.
    pub notes: Vec<String>,
    /// A tree. The first is the stranger; each other comes behind the one that leads to it.
    pub knocks: Vec<Knocked>,
    /// In the order of the policy.
    pub keys: Vec<Key>,
    /// In the order of the policy; never empty.
    pub doors: Vec<Door>,
}

/// The progress of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Knocked {
    /// The knock that leads here: `443` for TCP, `53/udp`; or a few words.
    pub label: String,
    pub look: Look,
    /// Places in [`Picture::knocks`]. Empty where a key is complete.
    pub then: Vec<usize>,
    /// The key that is complete here, a place in [`Picture::keys`].
    pub makes: Option<usize>,
}

/// The kind of thing that leads to a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    Stranger,
    Tcp,
    Udp,
    Token,
    Scratch,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    pub name: String,
    /// The way it is knocked: `443, 2387, 920`, "a token to 20123/udp".
    pub way: String,
    /// Places in [`Picture::doors`]; never empty.
    pub opens: Vec<usize>,
    /// "ssh and vpn for 1m"; of many doors only their number.
    pub grants: String,
    /// "one connection", "until 2031-01-31"
    pub limits: Vec<String>,
    pub expired: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Door {
    pub name: String,
    /// Each as `22/tcp`. Empty when they are left out.
    pub ports: Vec<String>,
    /// "each new connection extends it to 10m from then, 8h in all at most"; empty where a grant ends in its time.
    pub extends: String,
    /// "trusts 192.0.2.0/24"; empty when it trusts nobody.
    pub trusts: String,
    /// Places in [`Picture::keys`].
    pub opened_by: Vec<usize>,
}

impl Picture {
    /// The picture of a policy and its automaton at `now`, in seconds since 1970.
    pub fn of(policy: &Policy, automaton: &Automaton, ports: Ports, now: i64) -> Picture {
        gather::gather(policy, automaton, ports, now)
    }

    /// The number of things drawn: knocks, keys, doors, and lines between the latter.
    fn things(&self) -> usize {
        let lines: usize = self.keys.iter().map(|key| key.opens.len()).sum();
        self.knocks.len() + self.keys.len() + self.doors.len() + lines
    }

    /// # Errors
    /// When nobody could make sense of a drawing of so much.
    fn fits(&self) -> Result<(), TooMuch> {
        match self.things() {
            things if things > MOST_THINGS => Err(TooMuch { things }),
            _ => Ok(()),
        }
    }
}

/// The most that is drawn: about 1,400 keys of five knocks, 90,000 pixels from top to bottom.
pub const MOST_THINGS: usize = 10_000;

/// A picture with more than [`MOST_THINGS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooMuch {
    pub things: usize,
}

impl fmt::Display for TooMuch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "too much for a drawing: {} knocks, keys, doors and lines, and at most {MOST_THINGS} are \
             drawn; `--as text` has no such limit",
            self.things
        )
    }
}

impl std::error::Error for TooMuch {}
