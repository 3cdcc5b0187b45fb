//! The part of a policy that the fleet goes by: which doors, and how long at most. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::message::DAY;
use toctoc::knock::GrantPrefix;
use toctoc::policy::{DoorId, KeyId, KeyKind, Name, Policy};
use toctoc::single_use::Secret;

/// See the module.
#[derive(Debug, Clone)]
pub struct Rules {
    /// The name of this host for the others.
    pub me: Name,
    /// The secret that the hosts sign with.
    pub secret: Option<Secret>,
    pub share: BTreeSet<Name>,
    accept: BTreeSet<Name>,
    doors: BTreeMap<Name, Door>,
    keys: BTreeMap<Name, Key>,
    /// Doors and keys by their ids.
    names: HashMap<u32, Name>,
    pub scratch: BTreeSet<u32>,
    /// `true` if a key is signed.
    pub has_signed: bool,
    /// The part of an address that a grant covers here.
    pub prefix: GrantPrefix,
    /// The most sources that may hold grants, for each door of other hosts.
    pub most: usize,
    /// All of this as a number, by which it is told whether the kernel has it.
    pub terms: u32,
}

#[derive(Debug, Clone)]
struct Door {
    /// Milliseconds that a grant lasts at most, whoever gives it.
    longest: i64,
}

#[derive(Debug, Clone)]
struct Key {
    /// Milliseconds for each door.
    opens: BTreeMap<Name, i64>,
    once: bool,
    expires: Option<i64>,
    secret: Option<Secret>,
    scratch: bool,
    signed: bool,
}

/// Why a grant of another host does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Not {
    /// `accept` does not name the door.
    Accepted,
    /// The key has expired here.
    Expired,
}

impl Rules {
    /// Those of a policy; `None` when it has no `[fleet]`.
    pub fn of(policy: &Policy) -> Option<Rules> {
        let fleet = policy.fleet.as_ref()?;
        let named = |doors: &[toctoc::policy::DoorIndex]| {
            let doors = doors.iter().map(|&door| policy.door(door).name.clone());
            doors.collect::<BTreeSet<Name>>()
        };
        let milliseconds =
            |time: std::time::Duration| i64::try_from(time.as_millis()).unwrap_or(DAY).min(DAY);
        let keys = policy.keys.iter().map(|key| {
            let opens = key.opens.iter().map(|opening| {
                let door = policy.door(opening.door).name.clone();
                (door, milliseconds(opening.open_for))
            });
            let known = Key {
                opens: opens.collect(),
                once: key.once,
                expires: key.expires,
                secret: match &key.kind {
                    KeyKind::Token(secret) => Some(secret.clone()),
                    KeyKind::Sequence(_) | KeyKind::Scratch(_) | KeyKind::Signed(_) => None,
                },
                scratch: matches!(key.kind, KeyKind::Scratch(_)),
                signed: matches!(key.kind, KeyKind::Signed(_)),
            };
            (key.name.clone(), known)
        });
        let keys: BTreeMap<Name, Key> = keys.collect();
        let doors = policy.doors.iter().map(|door| {
            let by_keys = keys.values().filter_map(|key| key.opens.get(&door.name));
            let own = milliseconds(door.open_for);
            let longest = by_keys
                .copied()
                .max()
                .map_or(own, |longest| longest.max(own));
            (door.name.clone(), Door { longest })
        });
        let doors: BTreeMap<Name, Door> = doors.collect();
        let names = doors.keys().chain(keys.keys());
        Some(Rules {
            names: names.map(|name| (name.id(), name.clone())).collect(),
            me: fleet.name.clone(),
            secret: fleet.secret.clone(),
            share: named(&fleet.share),
            accept: named(&fleet.accept),
            doors,
            scratch: policy.scratch_ids(),
            has_signed: policy.has_signed(),
            keys,
            prefix: policy.grant,
            most: policy.max_sources as usize,
            terms: policy.terms(),
        })
    }

    /// For how many milliseconds a grant of another host counts here, from when it was given. `now` is in
    /// seconds since 1970.
    ///
    /// # Errors
    /// When it does not count at all.
    pub fn limit(&self, door: &Name, key: Option<&Name>, now: i64) -> Result<i64, Not> {
        let known = self.doors.get(door).filter(|_| self.accept.contains(door));
        let known = known.ok_or(Not::Accepted)?;
        let Some(key) = key.and_then(|key| self.keys.get(key)) else {
            return Ok(known.longest);
        };
        if key.expires.is_some_and(|end| now >= end) {
            return Err(Not::Expired);
        }
        Ok(key.opens.get(door).copied().unwrap_or(known.longest))
    }

    /// For how many milliseconds a key of this host has just opened a door, if the others are told.
    pub fn shared_for(&self, door: &Name, key: &Name) -> Option<i64> {
        let key = self.keys.get(key).filter(|key| !key.once)?;
        let lasting = key.opens.get(door).copied()?;
        self.share.contains(door).then_some(lasting)
    }

    /// For how many milliseconds this policy grants a door, to a key or (at most) to anybody.
    pub fn longest(&self, door: &Name, key: Option<&Name>) -> i64 {
        let by_key = key.and_then(|key| self.keys.get(key)?.opens.get(door));
        let by_anybody = self.doors.get(door).map(|door| door.longest);
        by_key.copied().or(by_anybody).unwrap_or(0)
    }

    /// Returns whether the fleet has to do with a door at all.
    pub fn concerns(&self, door: &Name) -> bool {
        self.share.contains(door) || self.accept.contains(door)
    }

    /// The door of an [id](Name::id).
    pub fn door(&self, id: DoorId) -> Option<&Name> {
        let name = self.names.get(&id.0)?;
        self.doors.contains_key(name).then_some(name)
    }

    /// The key of an [id](Name::id).
    pub fn key(&self, id: KeyId) -> Option<&Name> {
        let name = self.names.get(&id.0)?;
        self.keys.contains_key(name).then_some(name)
    }

    /// The secret of a token key.
    pub fn secret_of(&self, key: &Name) -> Option<&Secret> {
        self.keys.get(key)?.secret.as_ref()
    }

    /// All token keys.
    pub fn secrets(&self) -> impl Iterator<Item = (&Name, &Secret)> {
        let keys = self.keys.iter();
        keys.filter_map(|(name, key)| Some((name, key.secret.as_ref()?)))
    }

    /// Returns whether a key opens with signed datagrams.
    pub fn is_signed(&self, key: &Name) -> bool {
        self.keys.get(key).is_some_and(|key| key.signed)
    }

    /// Returns whether the sequences of a key are each good once.
    pub fn is_scratch(&self, key: &Name) -> bool {
        self.keys.get(key).is_some_and(|key| key.scratch)
    }
}
