//! A transaction as data: commands on our table, its sets and its chains, all of them or none. They become text for nft
//! here and nowhere else; `firewall/nf_tables` makes messages of those that change elements alone.

use std::collections::HashSet;
use std::fmt;
use std::time::Duration;

use super::TABLE;
use super::elements::{
    Element, Part, elsewhere_set, grant_key, in_set, key_text, opened_key, opened_set, stay_sets,
};
use super::script::{Script, Set};
use crate::held::Departure;

/// So many elements go into one command: a line of nft may be long, but not that long.
const TOGETHER: usize = 500;

/// A command on our table.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Makes our table active, should somebody have made it dormant.
    Wake,
    DeleteTable,
    /// Removes the rules of all chains.
    FlushTable,
    /// Declares what a script has: a set, chain or counter that is there stays, rules and elements are added.
    Load(Box<Script>),
    /// Declares a set or map, without elements.
    Declare(Set),
    /// Removes a set, or a map.
    DeleteSet {
        kind: &'static str,
        set: String,
    },
    FlushChain(String),
    DeleteChain(String),
    DeleteCounter(String),
    Add {
        set: String,
        elements: Vec<Element>,
    },
    Delete {
        set: String,
        keys: Vec<Vec<Part>>,
    },
    /// Removes all elements of a set, or of a map.
    Flush {
        kind: &'static str,
        set: String,
    },
}

/// A transaction of such commands: all of them or none.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Transaction(pub Vec<Command>);

impl Transaction {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the same, with our table active from then on.
    #[must_use]
    pub fn awake(mut self) -> Transaction {
        self.0.insert(0, Command::Wake);
        self
    }

    /// Adds the commands of another transaction behind these.
    pub fn append(&mut self, mut other: Transaction) {
        self.0.append(&mut other.0);
    }

    pub(super) fn push(&mut self, command: Command) {
        self.0.push(command);
    }

    pub(super) fn add(&mut self, set: &str, elements: Vec<Element>) {
        if !elements.is_empty() {
            let set = set.to_string();
            self.push(Command::Add { set, elements });
        }
    }

    pub(super) fn delete(&mut self, set: &str, keys: Vec<Vec<Part>>) {
        if !keys.is_empty() {
            let set = set.to_string();
            self.push(Command::Delete { set, keys });
        }
    }

    pub(super) fn flush(&mut self, kind: &'static str, set: &str) {
        let set = set.to_string();
        self.push(Command::Flush { kind, set });
    }

    /// Adds an element with this time, whether it is there or not.
    pub(super) fn put(&mut self, set: &str, key: Vec<Part>, lasting: Duration) {
        self.remove(set, key.clone());
        self.add(set, vec![Element::timed(key, lasting)]);
    }

    /// Removes an element that may have expired since it was listed. It is added first: deleting what is not there would
    /// fail the whole transaction.
    pub(super) fn remove(&mut self, set: &str, key: Vec<Part>) {
        let minute = Duration::from_secs(60);
        self.add(set, vec![Element::timed(key.clone(), minute)]);
        self.delete(set, vec![key]);
    }

    /// Ends what goes, as far as these sets are there.
    pub(super) fn end(&mut self, departure: &Departure, sets: &HashSet<String>) {
        let grants = departure.grants.iter().map(in_set);
        let elsewhere = departure.elsewhere.iter();
        let elsewhere = elsewhere.map(|grant| (elsewhere_set(grant), grant_key(grant)));
        let opened = departure.opened.iter();
        let opened = opened.map(|opened| (opened_set(opened), opened_key(opened)));
        let unlisted = departure.unlisted.iter().map(in_set);
        let lasting = departure.grants.iter().chain(&departure.unlisted);
        let stays = lasting.filter(|grant| !grant.once).flat_map(|grant| {
            let key = grant_key(grant);
            stay_sets(grant).map(|set| (set, key.clone()))
        });
        let grants = grants.chain(stays);
        let all = grants.chain(elsewhere).chain(opened).chain(unlisted);
        for (set, key) in all.filter(|(set, _)| sets.contains(set)) {
            self.remove(&set, key);
        }
    }
}

impl From<Command> for Transaction {
    fn from(command: Command) -> Transaction {
        Transaction(vec![command])
    }
}

/// As nft reads it.
impl fmt::Display for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|command| command.fmt(f))
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Command::Wake => writeln!(f, "add table {TABLE}"),
            Command::DeleteTable => writeln!(f, "delete table {TABLE}"),
            Command::FlushTable => writeln!(f, "flush table {TABLE}"),
            Command::Load(script) => script.fmt(f),
            Command::Declare(set) => writeln!(f, "{}", set.announcement()),
            Command::DeleteSet { kind, set } => writeln!(f, "delete {kind} {TABLE} {set}"),
            Command::FlushChain(chain) => writeln!(f, "flush chain {TABLE} {chain}"),
            Command::DeleteChain(chain) => writeln!(f, "delete chain {TABLE} {chain}"),
            Command::DeleteCounter(name) => writeln!(f, "delete counter {TABLE} {name}"),
            Command::Add { set, elements } => some(f, "add", set, elements, Element::to_string),
            Command::Delete { set, keys } => some(f, "delete", set, keys, |key| key_text(key)),
            Command::Flush { kind, set } => writeln!(f, "flush {kind} {TABLE} {set}"),
        }
    }
}

/// A line for every few elements.
fn some<T>(
    f: &mut fmt::Formatter<'_>,
    verb: &str,
    set: &str,
    all: &[T],
    text: impl Fn(&T) -> String,
) -> fmt::Result {
    for some in all.chunks(TOGETHER) {
        let some: Vec<String> = some.iter().map(&text).collect();
        let some = some.join(", ");
        writeln!(f, "{verb} element {TABLE} {set} {{ {some} }}")?;
    }
    Ok(())
}
