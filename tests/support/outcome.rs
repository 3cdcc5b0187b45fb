//! The automaton's answers in the model's words.

use toctoc::model::Outcome;
use toctoc::trace::run::{Effect, Meaning};

/// A meaning in the model's words.
pub fn outcome(meaning: &Meaning) -> Outcome {
    match *meaning {
        Meaning::Trusted(door) | Meaning::Granted { door, .. } => Outcome::Passes(door),
        Meaning::Knock { effect, .. } => match effect {
            Effect::Refused(door) => Outcome::Refused(door),
            Effect::Opens(key) => Outcome::Opens(key),
            Effect::Nowhere | Effect::Progress(_) | Effect::Expired(_) | Effect::Burnt(_) => {
                Outcome::Untouched
            }
        },
        Meaning::Echo | Meaning::Ignored | Meaning::NotJudged | Meaning::NotHeard => {
            Outcome::Untouched
        }
    }
}
