//! A listing that is made of what the kernel says itself, without nft: what is in it has no rules, and nothing of how
//! sets are declared but their size.

use serde_json::Value;

use super::is_by_source;
use super::listed_set::ListedSet;
use super::listing::{Listing, ListingError, is_name};

impl Listing {
    /// Adds a chain; `base` is hook, priority and policy, as nft prints them.
    ///
    /// # Errors
    /// When nft has no way to write its name.
    pub fn add_chain(&mut self, name: &str, base: Option<String>) -> Result<(), ListingError> {
        self.chains.entry(known(name)?).or_default().base = base;
        Ok(())
    }

    /// Adds a set or map without elements, with room for so many.
    ///
    /// # Errors
    /// As for [`add_chain`](Listing::add_chain).
    pub fn add_set(
        &mut self,
        name: &str,
        is_map: bool,
        size: Option<u64>,
    ) -> Result<(), ListingError> {
        let set = ListedSet {
            declaration: size.map(|size| ("size", size.into())).into_iter().collect(),
            is_map,
            ..ListedSet::default()
        };
        self.sets.insert(known(name)?, set);
        Ok(())
    }

    /// Adds elements to a set that was added before.
    pub fn add_elements(&mut self, set: &str, elements: impl Iterator<Item = Value>) {
        if let Some(set) = self.sets.get_mut(set) {
            set.elements.extend(elements);
        }
    }

    /// Takes over the elements of the sets by source from another listing of the same table.
    pub fn take_guests(&mut self, from: Listing) {
        for (name, set) in from.sets {
            if let Some(own) = self.sets.get_mut(&name).filter(|_| is_by_source(&name)) {
                own.elements = set.elements;
            }
        }
    }

    /// Moves the elements of another listing to the sets of this one.
    pub fn move_elements(&mut self, from: Listing) {
        for (name, set) in from.sets {
            self.add_elements(&name, set.elements.into_iter());
        }
    }

    /// Adds a counter.
    ///
    /// # Errors
    /// As for [`add_chain`](Listing::add_chain).
    pub fn add_counter(&mut self, name: &str, packets: u64) -> Result<(), ListingError> {
        self.counters.insert(known(name)?, packets);
        Ok(())
    }
}

fn known(name: &str) -> Result<String, ListingError> {
    match is_name(name) {
        true => Ok(name.to_string()),
        false => Err(ListingError::OddName(name.to_string())),
    }
}
