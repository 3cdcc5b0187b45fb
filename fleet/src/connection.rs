//! The connections to the engine as this host knows them: one listens, the other one tells and asks.

use crate::clock::Moment;
use crate::ledger::Item;

/// The time that this host's words may take to come back to it, in milliseconds.
pub const PATIENCE: i64 = 10_000;

/// The state of the connection that tells and asks. It does one thing at a time.
#[derive(Debug, PartialEq, Eq)]
pub enum Teller {
    Down,
    Idle,
    Reading,
    /// These are being told.
    Telling(Vec<Item>),
}

/// See the module.
#[derive(Debug)]
pub struct Connection {
    /// Where the engine is, for people.
    pub engine: String,
    pub is_listening: bool,
    pub teller: Teller,
    /// What is kept must be read: this host has not listened for some time.
    pub unread: bool,
    /// The first time this host said something, or wanted to, that it has not heard itself yet.
    pub unheard: Option<Moment>,
    /// The time that a message is under way, there and back, in milliseconds.
    pub lag: Option<i64>,
    /// Why it does not work, if so.
    pub why: Option<String>,
}

impl Connection {
    /// The state before anything was heard.
    pub fn new(engine: String) -> Connection {
        Connection {
            engine,
            is_listening: false,
            teller: Teller::Down,
            unread: true,
            unheard: None,
            lag: None,
            why: Some("not connected yet".to_string()),
        }
    }

    /// Returns whether something can be told or asked now.
    pub fn is_free(&self) -> bool {
        self.is_listening && self.teller == Teller::Idle
    }

    /// Returns whether it works, as far as is known.
    pub fn is_up(&self, now: Moment) -> bool {
        self.is_listening && self.teller != Teller::Down && !self.is_unheard(now)
    }

    /// Returns whether what this host said does not come back to it. An engine that hangs breaks the connection; one that
    /// sends its answers a byte at a time, or keeps words back, does not.
    pub fn is_unheard(&self, now: Moment) -> bool {
        self.unheard
            .is_some_and(|said| now.saturating_sub(said) > PATIENCE)
    }

    /// This host has heard what it said.
    pub fn came_back(&mut self, now: Moment) {
        // Nobody knows what was kept back meanwhile.
        self.unread |= self.is_unheard(now);
        self.unheard = None;
    }

    /// It does not work: a sentence for people, if that is news.
    pub fn broke(&mut self, why: String) -> Option<String> {
        let is_news = self.why.as_ref() != Some(&why);
        let said = format!("{}: {why}; this host goes on by itself", self.engine);
        self.lag = None;
        self.why = Some(why);
        is_news.then_some(said)
    }
}
