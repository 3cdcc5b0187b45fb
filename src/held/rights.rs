//! The rights that a policy gives.

use std::collections::HashSet;

use super::{BY_HAND, Grant, Opened};
use crate::policy::Policy;

/// Which key may open which door, by their ids.
pub struct Rights {
    own: HashSet<(u32, u32)>,
    /// The doors for which grants of other hosts count.
    accept: HashSet<u32>,
}

impl Rights {
    pub fn of(policy: &Policy) -> Rights {
        let by_key = policy.keys.iter().flat_map(|key| {
            let doors = key.opens.iter().map(|o| policy.door(o.door).name.id());
            doors.map(|door| (door, key.name.id()))
        });
        let by_hand = policy.doors.iter().map(|door| (door.name.id(), BY_HAND));
        let accept = policy.door_indices().filter(|&door| policy.accepts(door));
        Rights {
            own: by_key.chain(by_hand).collect(),
            accept: accept.map(|door| policy.door(door).name.id()).collect(),
        }
    }

    /// Returns whether a grant of another host counts.
    pub fn accept(&self, grant: &Grant) -> bool {
        self.accept.contains(&grant.door)
    }

    /// Returns whether a key, or the administrator, may open a door.
    pub fn give(&self, door: u32, key: u32) -> bool {
        self.own.contains(&(door, key))
    }

    pub fn include(&self, opened: &Opened) -> bool {
        self.give(opened.door, opened.key)
    }

    /// Returns whether there is such a door.
    pub fn know(&self, door: u32) -> bool {
        self.give(door, BY_HAND)
    }

    /// Returns whether a grant of this host stays under the policy. One without a known owner stays while its door does:
    /// nft lists the owners before the grants, and one may have come in between.
    pub fn hold(&self, grant: &Grant) -> bool {
        match grant.opened_by {
            Some(opened) => self.include(&opened),
            None => self.know(grant.door),
        }
    }
}
