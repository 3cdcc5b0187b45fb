//! The rights that a policy gives.

use std::collections::HashSet;

use super::{Grant, Opened};
use crate::policy::{DoorId, KeyId, Policy};

/// The doors that each key may open, by id.
pub struct Rights {
    own: HashSet<(DoorId, KeyId)>,
    /// The doors for which grants of other hosts count.
    accept: HashSet<DoorId>,
}

impl Rights {
    pub fn of(policy: &Policy) -> Rights {
        let by_key = policy.keys.iter().flat_map(|key| {
            let doors = key.opens.iter().map(|o| policy.door(o.door).name.door_id());
            doors.map(|door| (door, key.name.key_id()))
        });
        let by_hand = policy
            .doors
            .iter()
            .map(|door| (door.name.door_id(), KeyId::BY_HAND));
        let accept = policy.door_indices().filter(|&door| policy.accepts(door));
        Rights {
            own: by_key.chain(by_hand).collect(),
            accept: accept
                .map(|door| policy.door(door).name.door_id())
                .collect(),
        }
    }

    /// Returns whether a grant of another host counts.
    pub fn accept(&self, grant: &Grant) -> bool {
        self.accept.contains(&grant.door)
    }

    /// Returns whether a key, or the administrator, may open a door.
    pub fn give(&self, door: DoorId, key: KeyId) -> bool {
        self.own.contains(&(door, key))
    }

    pub fn include(&self, opened: &Opened) -> bool {
        self.give(opened.door, opened.key)
    }

    /// Returns whether there is such a door.
    pub fn know(&self, door: DoorId) -> bool {
        self.give(door, KeyId::BY_HAND)
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
