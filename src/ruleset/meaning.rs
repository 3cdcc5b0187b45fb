//! Words for what differs from a policy, for both backends.

use crate::held::Fault;

/// Sentences, each once, in the order in which they came.
#[derive(Debug, Default)]
pub struct Meanings(pub Vec<String>);

impl Meanings {
    pub fn add(&mut self, meaning: String) {
        if !self.0.contains(&meaning) {
            self.0.push(meaning);
        }
    }
}

/// "the rules that guard ssh are gone"
pub fn of_part(part: &str, fault: Fault) -> String {
    match fault {
        Fault::Missing => format!("{part} are gone"),
        Fault::Changed => format!("{part} were changed"),
        Fault::Besides => format!("somebody has added something to {part}"),
    }
}
