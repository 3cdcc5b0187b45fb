//! Questions to the engine, and what is heard from it. Values only.

use crate::clock::Moment;
use crate::tell::Telling;

/// A message from the engine.
#[derive(Debug)]
pub enum Heard {
    /// Somebody listens to what is published, from now on.
    Listening,
    /// The engine can be told something, and is the one of this look at its clock.
    Ready(Look),
    /// The connection that listens (or the one that asks) is broken: why.
    Deaf(String),
    Mute(String),
    /// Something was published.
    Message(Vec<u8>),
    /// Some of what is kept. The last part says so, and whether it is the last because it took too long.
    Kept {
        texts: Vec<Vec<u8>>,
        last: bool,
        cut: bool,
    },
    /// All was told. Those (by their places) were published, and the engine would not keep them:
    /// why.
    Told {
        look: Look,
        refused: Vec<usize>,
        why: Option<String>,
    },
}

/// A look at the engine's clock: what it said (in milliseconds since 1970), and this host's before and after; and the
/// word that it keeps of the fleet's offset, empty if none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    pub asked: Moment,
    pub told: i64,
    pub heard: Moment,
    pub offset: Vec<u8>,
}

/// A question to it.
#[derive(Debug, PartialEq)]
pub enum Ask {
    Tell(Vec<Telling>),
    /// All that is kept.
    Read,
}
