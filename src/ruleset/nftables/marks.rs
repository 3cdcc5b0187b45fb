//! Marks of a table: a few bytes for each chain, rule and set. Two lists of marks tell where a table differs from what it
//! was, without either of them being listed.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::guards::ASKING;
use super::listed_set::ListedSet;
use super::listing::{ListedChain, Listing};
use super::{Script, Set, SetId, is_compared};

/// The first bytes of a digest. Equal marks may be chance; only the whole fingerprint says that all is well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Mark(pub u64);

/// The marks of a table, by the names of its parts.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Marks {
    pub chains: BTreeMap<String, ChainMarks>,
    /// Sets and maps without those that are parts of rules.
    pub sets: BTreeMap<String, SetMarks>,
    pub counters: BTreeSet<String>,
}

/// The marks of a chain: its declaration, then each rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainMarks(pub Mark, pub Vec<Mark>);

/// The marks of a set: its declaration, then all its elements where they are a matter of the policy alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetMarks(pub Mark, pub Option<Mark>);

impl Marks {
    /// The table in the form in which two are compared, without the elements of sets.
    pub fn listing(&self) -> Listing {
        let mark = |mark: &Mark| json!(mark.0);
        let chains = self
            .chains
            .iter()
            .map(|(name, ChainMarks(declared, rules))| {
                let chain = ListedChain {
                    base: Some(declared.0.to_string()),
                    rules: rules.iter().map(mark).collect(),
                };
                (name.clone(), chain)
            });
        let sets = self.sets.iter().map(|(name, SetMarks(declared, _))| {
            let set = ListedSet {
                declaration: BTreeMap::from([("type", mark(declared))]),
                is_map: SetId::of(name).is_some_and(|row| row.word() == "map"),
                elements: Vec::new(),
            };
            (name.clone(), set)
        });
        Listing {
            chains: chains.collect(),
            sets: sets.collect(),
            counters: self.counters.iter().map(|name| (name.clone(), 0)).collect(),
            ..Listing::default()
        }
    }

    /// The sets of both tables whose elements differ.
    pub fn other_elements<'m>(&'m self, now: &'m Marks) -> impl Iterator<Item = &'m str> {
        let both = self.sets.iter();
        both.filter_map(|(name, SetMarks(_, was))| {
            let SetMarks(_, is) = now.sets.get(name)?;
            (is_compared(name) && was != is).then_some(&**name)
        })
    }
}

impl Script {
    /// The elements of one of its sets, in the form of a listing.
    pub fn elements_of(&self, name: &str) -> impl Iterator<Item = Value> {
        let set = self.sets.iter().find(move |set| set.name == *name);
        let elements = set.into_iter().flat_map(|set| &set.elements);
        elements.map(|(element, _)| Value::String(element.clone()))
    }

    /// A script of which only the chains in [`ASKING`] keep their rules. Sets are emptied, and the chains that these rules call
    /// are declared empty, so that nft accepts it.
    pub fn asking(&self) -> Script {
        let asks = |name: &str| ASKING.contains(&name);
        let rules = self.chains.iter().filter(|chain| asks(&chain.name));
        let rules = rules.flat_map(|chain| chain.rules());
        let words: BTreeSet<&str> = rules
            .flat_map(|rule| rule.split(|c: char| !(c.is_alphanumeric() || "-_./".contains(c))))
            .collect();
        let mut script = Script {
            header: Vec::new(),
            ..self.clone()
        };
        script
            .chains
            .retain(|chain| asks(&chain.name) || words.contains(&*chain.name));
        for chain in &mut script.chains {
            if !asks(&chain.name) {
                chain.lines.clear();
            }
        }
        script.sets.iter_mut().for_each(Set::clear);
        script
    }
}

impl Listing {
    /// Gives the chains of this table the rules that its marks tell of: those of a list of rules with their marks where
    /// they are known (`known` has the chains, `noted` their marks), and something else for all others.
    pub fn add_rules(&mut self, now: &Marks, noted: &Marks, known: &Listing) {
        for (name, ChainMarks(_, rules)) in &now.chains {
            let Some(chain) = self.chains.get_mut(name) else {
                continue;
            };
            let listed = known.chains.get(name).map_or(&[][..], |chain| &chain.rules);
            let marked = noted.chains.get(name).map_or(&[][..], |chain| &chain.1);
            let of_mark = |mark: &Mark| {
                let pairs = marked.iter().zip(listed);
                let mut found = pairs.filter(|(known, _)| *known == mark);
                found.next().map_or(Value::Null, |(_, rule)| rule.clone())
            };
            chain.rules = rules.iter().map(of_mark).collect();
        }
    }
}
