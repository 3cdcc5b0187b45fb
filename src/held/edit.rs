//! The edits of what the kernel holds: which guests go when an administrator closes doors, another host of the fleet
//! takes a grant back, or another policy comes. Each backend turns the result into its own commands.

use std::collections::{BTreeSet, HashSet};
use std::net::IpAddr;

use ipnet::IpNet;

use super::{Grant, Guest, Guests, Opened, Rights};
use crate::policy::Name;

/// The guests that go.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Departure {
    /// Live grants of this host.
    pub grants: Vec<Grant>,
    /// Those of other hosts.
    pub elsewhere: Vec<Grant>,
    pub opened: Vec<Opened>,
    /// Grants that may be there although none was listed: the kernel lists a set that is just being filled with gaps,
    /// and without its record nobody would know whose a grant was.
    pub unlisted: Vec<Grant>,
}

impl Departure {
    /// The number of live grants that end, each source, door and kind (`once` or not) counted once.
    pub fn count(&self) -> usize {
        let ended = self.grants.iter().chain(&self.elsewhere);
        let ended: HashSet<(Guest, bool)> = ended.map(|g| (g.guest(), g.once)).collect();
        ended.len()
    }

    /// The guests (source and door) that end.
    pub fn guests(&self) -> BTreeSet<Guest> {
        let ended = self.grants.iter().chain(&self.elsewhere);
        ended.map(Grant::guest).collect()
    }
}

impl Guests {
    /// Closes doors by hand: one or all, to one source or all. A source inside a granted network ends that grant.
    pub fn close(&self, door: Option<&Name>, source: Option<IpNet>) -> Departure {
        self.end(|grant| {
            let network = &grant.source;
            let touches = |source: IpNet| source.contains(network) || network.contains(&source);
            door.is_none_or(|door| door.door_id() == grant.door) && source.is_none_or(touches)
        })
    }

    /// Takes back what other hosts have ended: grants of just these networks.
    pub fn take_back(&self, places: &HashSet<Guest>) -> Departure {
        self.end(|grant| places.contains(&grant.guest()))
    }

    fn end(&self, meant: impl Fn(&Grant) -> bool) -> Departure {
        let of = |grants: &[Grant]| -> Vec<Grant> {
            grants.iter().filter(|g| meant(g)).cloned().collect()
        };
        let grants = of(&self.grants);
        let places: HashSet<Guest> = grants.iter().map(Grant::guest).collect();
        let lengths: BTreeSet<u8> = grants.iter().map(|g| g.source.prefix_len()).collect();
        let is_of_them = |opened: &&Opened| {
            let mut networks = lengths.iter().filter_map(|&l| around(opened.source, l));
            networks.any(|source| {
                let door = opened.door;
                places.contains(&Guest { source, door })
            })
        };
        Departure {
            elsewhere: of(&self.elsewhere),
            opened: self.opened.iter().filter(is_of_them).copied().collect(),
            grants,
            unlisted: Vec::new(),
        }
    }

    /// Carries the guests over to a policy that gives these rights. Returns the grants of this host that stay, and what
    /// goes.
    pub fn carry_over(&self, rights: &Rights) -> (Vec<Grant>, Departure) {
        let (staying, grants): (Vec<Grant>, Vec<Grant>) = self
            .grants
            .iter()
            .cloned()
            .partition(|grant| rights.hold(grant) && !grant.is_endless);
        let elsewhere = self.elsewhere.iter().filter(|grant| !rights.accept(grant));
        let (rightful, dead): (Vec<Opened>, Vec<Opened>) = self
            .opened
            .iter()
            .partition(|opened| rights.include(opened));
        let place = |opened: &Opened| Guest {
            source: opened.source.into(),
            door: opened.door,
        };
        // A grant that is listed is judged by itself.
        let known: HashSet<Guest> = rightful.iter().map(place).collect();
        let listed: HashSet<Guest> = self.grants.iter().map(Grant::guest).collect();
        let unlisted = dead.iter().filter(|opened| {
            let place = place(opened);
            !known.contains(&place) && !listed.contains(&place)
        });
        let unlisted = unlisted.flat_map(|opened| {
            [false, true].map(|once| Grant {
                source: opened.source.into(),
                door: opened.door,
                once,
                opened_by: Some(*opened),
                expires_in: opened.expires_in,
                is_endless: false,
                stay: None,
            })
        });
        let departure = Departure {
            elsewhere: elsewhere.cloned().collect(),
            unlisted: unlisted.collect(),
            grants,
            opened: dead,
        };
        (staying, departure)
    }

    /// Ends what came in between the listing that an apply began with and its commit, by keys that are gone now. Also ends a
    /// grant that had no owner in this listing nor in the one before (`before`): its record was removed before the grant
    /// came.
    pub fn sweep(&self, rights: &Rights, before: Option<&Guests>) -> Departure {
        let (staying, mut departure) = self.carry_over(rights);
        let orphans = |guests: &Guests| -> HashSet<(Guest, bool)> {
            let orphans = guests.grants.iter();
            let orphans = orphans.filter(|g| g.opened_by.is_none() && rights.hold(g));
            orphans.map(|grant| (grant.guest(), grant.once)).collect()
        };
        let earlier = before.map(orphans).unwrap_or_default();
        let still = staying.into_iter().filter(|grant| {
            grant.opened_by.is_none() && earlier.contains(&(grant.guest(), grant.once))
        });
        departure.grants.extend(still);
        departure
    }
}

/// The network of this length around an address.
pub fn around(source: IpAddr, prefix: u8) -> Option<IpNet> {
    IpNet::new(source, prefix).ok().map(|net| net.trunc())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::policy::{DoorId, KeyId};

    const POLICY: &str = "[door.ssh]\nports = [22]\n[door.web]\nports = [443]\n\
                          [key.yves]\nopens = ['ssh', 'web']\nsequence = [4431, 2387, 920]\n\
                          [key.anna]\nopens = ['ssh']\nsequence = [5531, 2387, 920]\n";

    fn door(name: &str) -> DoorId {
        Name::new(name).unwrap().door_id()
    }

    fn key(name: &str) -> KeyId {
        Name::new(name).unwrap().key_id()
    }

    fn rights(text: &str) -> Rights {
        Rights::of(&crate::policy::read("p", text).unwrap())
    }

    fn opened(source: &str, at: &str, key: KeyId) -> Opened {
        Opened {
            source: source.parse().unwrap(),
            door: door(at),
            key,
            expires_in: Duration::from_secs(50),
            given_for: Duration::from_secs(60),
        }
    }

    fn grant(network: &str, at: &str, opened_by: Option<Opened>) -> Grant {
        Grant {
            source: network.parse().unwrap(),
            door: door(at),
            once: false,
            opened_by,
            expires_in: Duration::from_secs(50),
            is_endless: false,
            stay: None,
        }
    }

    /// Yves at ssh and web, anna at ssh, one by hand at ssh, and one whom another host let in.
    fn guests() -> Guests {
        let yves = key("yves");
        let opened = [
            opened("192.0.2.7", "ssh", yves),
            opened("192.0.2.7", "web", yves),
            opened("192.0.2.8", "ssh", key("anna")),
            opened("192.0.2.9", "ssh", KeyId::BY_HAND),
        ];
        let grants = opened.map(|opened| Grant {
            source: opened.source.into(),
            ..grant("192.0.2.0/32", "ssh", Some(opened))
        });
        let grants = grants.into_iter().zip(opened).map(|(grant, opened)| Grant {
            door: opened.door,
            ..grant
        });
        Guests {
            grants: grants.collect(),
            opened: opened.to_vec(),
            elsewhere: vec![grant("192.0.2.7/32", "ssh", None)],
        }
    }

    /// The source and the door of each grant, in words.
    fn words<'g>(grants: impl IntoIterator<Item = &'g Grant>) -> Vec<String> {
        let ssh = door("ssh");
        let words = grants.into_iter().map(|grant| {
            let door = if grant.door == ssh { "ssh" } else { "web" };
            format!("{} {door}", grant.source)
        });
        words.collect()
    }

    #[test]
    fn a_closing_ends_what_touches_the_source_and_nothing_else() {
        let (guests, ssh) = (guests(), Name::new("ssh").unwrap());
        let close =
            |door, source: Option<&str>| guests.close(door, source.map(|s| s.parse().unwrap()));
        let one = close(Some(&ssh), Some("192.0.2.7/32"));
        assert_eq!(words(&one.grants), ["192.0.2.7/32 ssh"]);
        assert_eq!(one.elsewhere, guests.elsewhere);
        assert_eq!(one.opened, guests.opened[..1]);
        // At this host and at another: one guest less.
        assert_eq!(one.count(), 1);
        let both_doors = close(None, Some("192.0.2.7/32"));
        assert_eq!(both_doors.count(), 2);
        assert_eq!(close(None, Some("192.0.2.0/24")).count(), 4);
        assert_eq!(close(None, None).grants, guests.grants);
        assert_eq!(close(None, Some("192.0.3.7/32")), Departure::default());
        // A source inside a granted network.
        let of_network = Guests {
            grants: vec![grant("192.0.2.0/24", "ssh", None)],
            ..guests.clone()
        };
        let ended = of_network.close(Some(&ssh), Some("192.0.2.99/32".parse().unwrap()));
        assert_eq!(words(&ended.grants), ["192.0.2.0/24 ssh"]);
        // All records of the network go with its grant; that of another door stays.
        assert_eq!(ended.opened.len(), 3);
    }

    #[test]
    fn what_is_taken_back_is_just_that_network() {
        let guests = guests();
        let guest = |source: &str| Guest {
            source: source.parse().unwrap(),
            door: door("ssh"),
        };
        let ended = guests.take_back(&HashSet::from([guest("192.0.2.8/32")]));
        assert_eq!(words(&ended.grants), ["192.0.2.8/32 ssh"]);
        assert_eq!(ended.opened, guests.opened[2..3]);
        let wider = guests.take_back(&HashSet::from([guest("192.0.2.0/24")]));
        assert_eq!(wider, Departure::default());
    }

    /// A revoked key, a door that is gone, a host of the fleet that does not count: each takes its own grants along.
    #[test]
    fn guests_are_carried_over_by_what_the_policy_gives() {
        let guests = guests();
        let carried = |text: &str| guests.carry_over(&rights(text));
        let (staying, departure) = carried(POLICY);
        assert_eq!(staying, guests.grants);
        assert_eq!(departure.elsewhere, guests.elsewhere, "no fleet");
        assert_eq!((departure.grants, departure.opened), (vec![], vec![]));
        let (before, anna) = POLICY.split_once("[key.anna]").unwrap();
        let (staying, departure) = carried(before);
        assert_eq!(words(&departure.grants), ["192.0.2.8/32 ssh"]);
        assert_eq!(departure.opened, guests.opened[2..3]);
        assert_eq!(staying.len(), 3, "by hand too");
        let (doors, _) = before.split_once("[door.web]").unwrap();
        let (staying, departure) = carried(&format!("{doors}[key.anna]{anna}"));
        let gone = ["192.0.2.7/32 ssh", "192.0.2.7/32 web"];
        assert_eq!(words(&departure.grants), gone);
        assert_eq!(staying.len(), 2);
    }

    #[test]
    fn a_grant_without_an_end_or_an_owner_is_no_way_in_for_ever() {
        let mut guests = guests();
        let all = rights(POLICY);
        guests.grants[3].is_endless = true;
        let (_, departure) = guests.carry_over(&all);
        assert_eq!(words(&departure.grants), ["192.0.2.9/32 ssh"]);
        // Without an owner it stays while its door does, until two looks show none.
        let orphan = Guests {
            grants: vec![grant("192.0.2.5/32", "ssh", None)],
            ..Guests::default()
        };
        assert_eq!(orphan.carry_over(&all).0, orphan.grants);
        assert_eq!(orphan.sweep(&all, None).count(), 0);
        assert_eq!(orphan.sweep(&all, Some(&guests)).count(), 0);
        assert_eq!(orphan.sweep(&all, Some(&orphan)).grants, orphan.grants);
        // The record of a revoked key goes with a grant that the kernel did not list.
        let unlisted = Guests {
            opened: vec![opened("192.0.2.5", "ssh", key("eve"))],
            ..Guests::default()
        };
        let departure = unlisted.sweep(&all, None);
        assert_eq!(departure.opened, unlisted.opened);
        let once: Vec<bool> = departure.unlisted.iter().map(|grant| grant.once).collect();
        assert_eq!(once, [false, true]);
    }
}
