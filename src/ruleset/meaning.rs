//! Words for what differs from a policy, for both backends.

use std::collections::HashSet;

use crate::held::Fault;

/// Sentences, each once, in the order in which they came.
#[derive(Debug, Default)]
pub struct Meanings {
    list: Vec<String>,
    known: HashSet<String>,
}

impl Meanings {
    pub fn add(&mut self, meaning: String) {
        if self.known.insert(meaning.clone()) {
            self.list.push(meaning);
        }
    }

    pub fn list(self) -> Vec<String> {
        self.list
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
