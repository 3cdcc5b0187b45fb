//! The names of our lists and chains. The kernel keeps lists of addresses by name
//! (`/proc/net/xt_recent/NAME`), and the name says all that a list means.
//!
//! | list | holds sources that |
//! |---|---|
//! | `toctoc4:ssh:yves:60s` | opened the door ssh with the key yves; a grant of 60 s from the last opening |
//! | `toctoc4:ssh:_hand:3600s` | were let in by an administrator |
//! | `toctoc4:ssh:anna:60s:once` | may start one connection |
//! | `toctoc4:_door-ssh` | are in any of those lists of the door ssh |
//! | `toctoc4:yves:3` | have made three knocks of yves's sequence |
//! | `toctoc4:yves` | are in any of `toctoc4:yves:1` and so on |
//! | `toctoc4:_after:50-tcp` | have just completed a sequence that ends with this knock |
//! | `toctoc4:_midway` | are in any of these |
//! | `toctoc4:_admitted-ssh` | have sent a `once` packet that has passed PREROUTING and is not delivered yet |
//! | `toctoc6-p64:_crowd` | became guests, as networks of 64 bits |
//! | `toctoc6-p64:_beginners` | made a first knock, as networks of 64 bits |
//! | `toctoc4:_told-yves` | opened with this key lately, where no list of grants says how often; limits log lines |
//!
//! IPv6 lists begin with `toctoc6`; grants by prefix have its length: `toctoc4-p24:ssh:yves:60s`. No
//! name of a door or key begins with `_`.

use std::fmt;

use crate::automaton::Place;
pub use crate::chain_name::{CHAIN, chain};
use crate::knock::{Knock, Protocol};
use crate::policy::{KeyId, Name, Policy};
use crate::ruleset::Family;

/// The key or hand that gave the grants of a list.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Holder {
    Key(Name),
    ByHand,
}

impl Holder {
    /// The key, or [`KeyId::BY_HAND`].
    pub fn id(&self) -> KeyId {
        match self {
            Holder::Key(name) => name.key_id(),
            Holder::ByHand => KeyId::BY_HAND,
        }
    }
}

/// A list of grants.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct GrantList {
    pub family: Family,
    /// The length of the networks that are let in.
    pub prefix: u8,
    pub door: Name,
    pub holder: Holder,
    /// The time of a grant from the last opening, in seconds.
    pub seconds: u64,
    /// `true` if each grant is for one connection.
    pub once: bool,
}

const BY_HAND: &str = "_hand";

/// No grant lasts longer, in seconds: 30 days.
const LONGEST: u64 = 30 * 86_400;

impl GrantList {
    /// Reads a list's name; `None` when it is not one of ours, or not one of grants.
    pub fn parse(name: &str) -> Option<GrantList> {
        let parts: Vec<&str> = name.split(':').collect();
        let (family, prefix) = parse_root(parts.first()?)?;
        let (door, holder, seconds, once) = match parts[1..] {
            [door, holder, seconds] => (door, holder, seconds, false),
            [door, holder, seconds, "once"] => (door, holder, seconds, true),
            _ => return None,
        };
        let holder = match holder {
            BY_HAND => Holder::ByHand,
            key => Holder::Key(Name::new(key)?),
        };
        let list = GrantList {
            family,
            prefix,
            door: Name::new(door)?,
            holder,
            seconds: seconds.strip_suffix('s')?.parse().ok()?,
            once,
        };
        (list.to_string() == name && list.seconds <= LONGEST).then_some(list)
    }
}

impl fmt::Display for GrantList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let root = root(self.family, self.prefix);
        let holder = match &self.holder {
            Holder::Key(name) => name.as_str(),
            Holder::ByHand => BY_HAND,
        };
        let once = if self.once { ":once" } else { "" };
        write!(f, "{root}:{}:{holder}:{}s{once}", self.door, self.seconds)
    }
}

/// The list of all sources that may hold a grant for a door.
pub fn guests(family: Family, prefix: u8, door: &Name) -> String {
    format!("{}:_door-{door}", root(family, prefix))
}

/// Reads [`guests`] back: the length of the networks, and the door.
pub fn parse_guests(name: &str) -> Option<(u8, Name)> {
    let (start, door) = name.split_once(":_door-")?;
    Some((parse_root(start)?.1, Name::new(door)?))
}

/// The length of a network that is one source in IPv6, where room is shared.
pub const ONE_HOST: u8 = 64;

/// The list of the IPv6 networks whose sources became guests.
pub fn crowd() -> String {
    format!("{}:_crowd", root(Family::V6, ONE_HOST))
}

/// The list of the IPv6 networks whose sources made a first knock.
pub fn beginners() -> String {
    format!("{}:_beginners", root(Family::V6, ONE_HOST))
}

/// The list of sources that opened with this key lately. It limits log lines.
pub fn told(family: Family, key: &Name) -> String {
    format!("{}:_told-{key}", root(family, family.longest_prefix()))
}

/// The list of all sources midway.
pub fn midway(family: Family) -> String {
    format!("{}:_midway", root(family, family.longest_prefix()))
}

/// The list of sources whose `once` packet has passed PREROUTING and is not delivered yet.
/// to this door.
pub fn admitted(family: Family, door: &Name) -> String {
    let root = root(family, family.longest_prefix());
    format!("{root}{ADMITTED}{door}")
}

/// Returns whether a list is one of those.
pub fn is_admitted(list: &str) -> bool {
    let parts = list.split_once(ADMITTED);
    parts.is_some_and(|(start, _)| parse_root(start).is_some())
}

const ADMITTED: &str = ":_admitted-";

/// A list of progress: the group it belongs to, and its own part of the name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Spot {
    pub group: String,
    pub own: String,
}

impl Spot {
    /// Where a place of the automaton is kept; `None` for the root. Keys that begin alike share their
    /// beginning under the name of the first.
    pub fn of(policy: &Policy, place: &Place) -> Option<Spot> {
        match place {
            Place::Root => None,
            Place::Midway { knocks, keys } => Some(Spot {
                group: policy.key(*keys.first()?).name.to_string(),
                own: knocks.to_string(),
            }),
            Place::Done(knock) => Some(Spot {
                group: "_after".to_string(),
                own: format!("{}-{}", knock.port, knock.protocol),
            }),
        }
    }

    pub fn list(&self, family: Family) -> String {
        format!("{}:{}", self.group_list(family), self.own)
    }

    pub fn group_list(&self, family: Family) -> String {
        format!("{}:{}", root(family, family.longest_prefix()), self.group)
    }

    /// Reads a list's name; `None` when it is no list of progress.
    pub fn parse(name: &str) -> Option<(Family, Spot)> {
        let [start, group, own] = name.split(':').collect::<Vec<_>>().try_into().ok()?;
        let (family, prefix) = parse_root(start)?;
        (prefix == family.longest_prefix()).then(|| {
            let (group, own) = (group.to_string(), own.to_string());
            (family, Spot { group, own })
        })
    }
}

fn root(family: Family, prefix: u8) -> String {
    let digit = family.digit();
    if prefix == family.longest_prefix() {
        format!("toctoc{digit}")
    } else {
        format!("toctoc{digit}-p{prefix}")
    }
}

fn parse_root(text: &str) -> Option<(Family, u8)> {
    let rest = text.strip_prefix("toctoc")?;
    let (digit, prefix) = match rest.split_once("-p") {
        Some((digit, prefix)) => (digit, Some(prefix.parse().ok()?)),
        None => (rest, None),
    };
    let family = match digit {
        "4" => Family::V4,
        "6" => Family::V6,
        _ => return None,
    };
    let prefix = prefix.unwrap_or(family.longest_prefix());
    (prefix <= family.longest_prefix()).then_some((family, prefix))
}

/// Returns whether a list is one of ours.
pub fn is_our_list(name: &str) -> bool {
    let root = name.split(':').next().unwrap_or_default();
    root.len() < name.len() && parse_root(root).is_some()
}

/// Returns whether a chain is one of ours.
pub fn is_ours(chain: &str) -> bool {
    chain == CHAIN || chain.starts_with("toctoc-")
}

/// The chain that ends grants which the policy itself does not give, when a knock gives a new one.
pub fn renew_chain(door: &Name) -> String {
    chain(&format!("renew-{door}"))
}

/// The chain in which a key's sequence is complete.
pub fn opens_chain(key: &Name) -> String {
    chain(&format!("opens-{key}"))
}

/// The chain of those who knock at this port.
pub fn port_chain(knock: Knock) -> String {
    chain(&format!("{}-{}", knock.protocol, knock.port))
}

/// The chain that puts a source on this spot.
pub fn spot_chain(spot: &Spot) -> String {
    match spot.group.strip_prefix('_') {
        Some(group) => chain(&format!("{group}-{}", spot.own)),
        None => chain(&format!("knock-{}-{}", spot.group, spot.own)),
    }
}

/// The table in which packets of a protocol are judged.
pub fn table_of(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "raw",
        Protocol::Udp => "mangle",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_grant_lists_are_read_back() {
        for name in [
            "toctoc4:ssh:yves:60s",
            "toctoc6:ssh:_hand:3600s",
            "toctoc4-p24:ssh:anna:1s:once",
            "toctoc6-p64:a.b-c_d:K:2592000s",
        ] {
            let list = GrantList::parse(name).unwrap();
            assert_eq!(list.to_string(), name);
        }
        for other in [
            "",
            "toctoc4:_door-ssh",
            "toctoc4:ssh:yves:18446744073709551615s",
            "toctoc4:yves:3",
            "toctoc5:ssh:yves:60s",
            "toctoc4:ssh:yves:60",
            "toctoc4:ssh:yves:060s",
            "toctoc4:_x:yves:60s",
            "toctoc4:ssh:yves:60s:twice",
            "toctoc4-p33:ssh:yves:60s",
            "toctoc4-p32:ssh:yves:60s",
            "KNOCKED22-5",
        ] {
            assert_eq!(GrantList::parse(other), None, "{other}");
        }
    }

    #[test]
    fn names_of_progress_lists_are_read_back() {
        let (family, spot) = Spot::parse("toctoc6:yves:3").unwrap();
        assert_eq!(
            (family, spot.list(family).as_str()),
            (Family::V6, "toctoc6:yves:3")
        );
        assert_eq!(spot.group_list(family), "toctoc6:yves");
        assert_eq!(Spot::parse("toctoc4:_midway"), None);
        assert_eq!(Spot::parse("toctoc4:ssh:yves:60s"), None);
    }

    #[test]
    fn long_names_of_chains_fit_and_differ() {
        let chains = ["a", "b"].map(|last| {
            let key = Name::new(&format!("{}{last}", "k".repeat(31))).unwrap();
            opens_chain(&key)
        });
        assert_ne!(chains[0], chains[1]);
        assert!(
            chains
                .iter()
                .all(|chain| chain.len() == 28 && is_ours(chain))
        );
        assert_eq!(chain("door-ssh"), "toctoc-door-ssh");
        // Another release finds what this one has made.
        let long = chain(&format!("door-{}", "d".repeat(32)));
        assert_eq!(long, "toctoc-door-ddddddd~39b5a61f");
    }
}
