//! Transactions that change no rule: grants that are ended, here or at another host of the fleet, and those that
//! another host has given.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::change::Transition;
use super::compare::for_ever;
use super::elements::{Part, SHORTEST, place_key};
use super::listing::Listing;
use super::transaction::Transaction;
use super::{LENGTH, SetId};
use crate::held::{Departure, EndsElsewhere, Guest, granted_network};
use crate::policy::Name;
use crate::ruleset::Family;

/// The transaction that ends grants: of one door or all, of one source or all. An element for everybody is nobody's grant and
/// goes in any case: with it nothing would be closed. In a fleet it leaves notes for the other hosts.
pub fn close(running: &Listing, door: Option<&Name>, source: Option<IpNet>) -> Transition {
    let guests = running.guests();
    let departure = guests.close(door, source);
    let mut change = end(running, &departure);
    change.kept = guests.grants.len() - departure.grants.len();
    for (set, key) in for_ever(running) {
        if key == [Part::Everything] {
            change.transaction.remove(&set, key);
            change.removed += 1;
        }
    }
    // Behind the rest: to be deleted an opening is added, and whoever hears of that hears of the closing later.
    change.noted = note_closed(
        &mut change.transaction,
        running,
        &departure.guests(),
        door,
        source,
    );
    change
}

/// The transaction that ends what goes.
pub fn end(running: &Listing, departure: &Departure) -> Transition {
    let sets: HashSet<String> = running.sets.keys().cloned().collect();
    let mut transaction = Transaction::default();
    transaction.end(departure, &sets);
    // A packet that just used up a grant may not be repeated either. Which door it was for is not told apart:
    // to somebody else it means no more than a lost packet.
    for name in running.sets.keys() {
        if matches!(SetId::by_family(name), Some((SetId::Admitted, ..))) {
            transaction.flush("set", name);
        }
    }
    Transition {
        transaction,
        removed: departure.count(),
        ..Transition::default()
    }
}

/// The time for which an ended grant is noted for the other hosts: as long as any counts there.
pub const NOTED_FOR: Duration = Duration::from_secs(24 * 3600);

/// Leaves notes of what is ended, and of what is meant and may be at other hosts alone: a source that is named, or all.
/// Returns whether there are any.
fn note_closed(
    transaction: &mut Transaction,
    running: &Listing,
    ended: &BTreeSet<Guest>,
    door: Option<&Name>,
    source: Option<IpNet>,
) -> bool {
    let mut is_noted = false;
    let places = running.sets.keys().filter_map(|name| {
        let (id, family, prefix) = SetId::by_family(name)?;
        (id == SetId::Closed).then_some((name, family, prefix))
    });
    for (set, family, prefix) in places {
        let here = ended.iter().filter(|place| {
            Family::of(place.source.addr()) == family && place.source.prefix_len() == prefix
        });
        let mut noted: BTreeSet<Guest> = here.copied().collect();
        let meant = match source {
            None => Some(everybody(family)),
            Some(all) if all == everybody(family) => Some(all),
            Some(source) if Family::of(source.addr()) == family => {
                granted_network(source, prefix).ok()
            }
            Some(_) => None,
        };
        let doors = running.doors().into_iter();
        for meant_door in doors.filter(|own| door.is_none_or(|door| door == own)) {
            let door = meant_door.door_id();
            noted.extend(meant.map(|source| Guest { source, door }));
        }
        // An address of no host stands for everybody.
        let is_fine = |source: IpNet| {
            !source.addr().is_unspecified() || source == everybody(Family::of(source.addr()))
        };
        for place in noted.into_iter().filter(|place| is_fine(place.source)) {
            is_noted = true;
            let key = place_key(place.source.addr(), place.door);
            transaction.put(set, key, NOTED_FOR);
        }
    }
    is_noted
}

/// The transaction that notes what other hosts of the fleet have ended.
pub fn note_ended_elsewhere(ended: &EndsElsewhere) -> Transaction {
    let mut transaction = Transaction::default();
    let live = |ago: Duration| Some(NOTED_FOR.saturating_sub(ago)).filter(|l| *l >= SHORTEST);
    for (key, ago) in &ended.keys {
        if let Some(left) = live(*ago) {
            transaction.put(
                SetId::RevokedElsewhere.name(),
                vec![Part::Class(key.0)],
                left,
            );
        }
    }
    for (Guest { source, door }, ago) in &ended.guests {
        if let Some(left) = live(*ago) {
            let family = Family::of(source.addr());
            let set = SetId::Ended.of_family(family);
            let mut key = place_key(source.addr(), *door);
            key.push(Part::Class(LENGTH | u32::from(source.prefix_len())));
            transaction.put(&set, key, left);
        }
    }
    transaction
}

/// All addresses, which no grant is for. An element for them has the address 0.0.0.0 or ::, where no packet comes from.
pub(super) fn everybody(family: Family) -> IpNet {
    match family {
        Family::V4 => IpNet::V4(Ipv4Net::default()),
        Family::V6 => IpNet::V6(Ipv6Net::default()),
    }
}

/// The transaction that notes that a key was revoked.
pub fn note_revoked(key: &Name) -> Transaction {
    let mut transaction = Transaction::default();
    transaction.put(
        SetId::Revoked.name(),
        vec![Part::Class(key.key_id().0)],
        NOTED_FOR,
    );
    transaction
}

/// The transaction that gives grants of other hosts, each with the time that is left of it, or takes them
/// away where that is `None`. Sources are as long as grants of this host are.
pub fn elsewhere<'g>(
    grants: impl IntoIterator<Item = &'g (Guest, Option<Duration>)>,
) -> Transaction {
    let mut transaction = Transaction::default();
    for (Guest { source, door }, left) in grants {
        let family = Family::of(source.addr());
        let set = SetId::Elsewhere.of_network(family, source.prefix_len());
        let key = place_key(source.addr(), *door);
        match left.filter(|left| *left >= SHORTEST) {
            Some(left) => transaction.put(&set, key, left),
            None => transaction.remove(&set, key),
        }
    }
    transaction
}

#[cfg(test)]
mod tests {
    use super::super::classid;
    use super::*;
    use crate::policy::{DoorId, KeyId};

    fn guest(source: &str, door: u32) -> Guest {
        Guest {
            source: source.parse().unwrap(),
            door: DoorId(door),
        }
    }

    /// Kernels before 6.12 take less than a tick for no time at all, and let it last for ever.
    #[test]
    fn what_is_nearly_over_is_taken_away_and_not_given() {
        let guest = guest("192.0.2.7/32", 0x2_0002);
        let given = |milliseconds: u64| {
            let left = Some(Duration::from_millis(milliseconds));
            let transaction = elsewhere(&[(guest, left)]);
            transaction.to_string().contains("ms }")
        };
        for (milliseconds, is_given) in [(0, false), (1, false), (19, false), (20, true)] {
            assert_eq!(given(milliseconds), is_given, "{milliseconds}");
        }
        let none = elsewhere(&[(guest, None)]);
        let nearly = elsewhere(&[(guest, Some(Duration::from_millis(3)))]);
        assert_eq!(none, nearly);
    }

    #[test]
    fn what_other_hosts_ended_is_ended_just_there_and_leaves_no_note() {
        let text = r#"{"nftables": [
            {"chain": {"family": "inet", "table": "toctoc", "name": "door-ssh"}},
            {"set": {"family": "inet", "table": "toctoc", "name": "closed4"}},
            {"set": {"family": "inet", "table": "toctoc", "name": "elsewhere4", "elem": [
                {"elem": {"val": {"concat": ["192.0.2.7", "2:2"]}, "timeout": 60, "expires": 41}},
                {"elem": {"val": {"concat": ["192.0.2.8", "2:2"]}, "timeout": 60, "expires": 41}}]}},
            {"set": {"family": "inet", "table": "toctoc", "name": "grants4", "elem": [
                {"elem": {"val": {"concat": ["192.0.2.7", "2:2"]}, "expires": 41}},
                {"elem": {"val": {"concat": ["192.0.2.7", "2:3"]}, "expires": 41}}]}}]}"#;
        let listing = Listing::parse(text).unwrap();
        let place = guest("192.0.2.7/32", 0x2_0002);
        let departure = listing.guests().take_back(&HashSet::from([place]));
        let change = end(&listing, &departure);
        let text = change.transaction.to_string();
        assert_eq!(change.removed, 1);
        for set in ["grants4", "elsewhere4"] {
            let ended = format!("delete element inet toctoc {set} {{ 192.0.2.7 . 2:2 }}");
            assert!(text.contains(&ended), "{text}");
        }
        assert_eq!(text.matches("delete").count(), 2, "{text}");
        // By an administrator it is noted, last of all.
        let door = Name::new("ssh").unwrap();
        let noted = close(&listing, None, None).transaction.to_string();
        let last = noted.lines().last().unwrap();
        assert!(
            last.starts_with("add element inet toctoc closed4 "),
            "{noted}"
        );
        let named = close(&listing, Some(&door), Some("192.0.2.9/32".parse().unwrap()));
        let named = named.transaction.to_string();
        assert!(
            named.lines().last().unwrap().contains("192.0.2.9 . "),
            "{named}"
        );
        // All that this host knows, and all that others do.
        let ssh = classid(door.door_id().0);
        for (source, door) in [("192.0.2.7", "2:2"), ("0.0.0.0", &ssh)] {
            let element = format!("closed4 {{ {source} . {door} timeout 86400s }}");
            assert!(noted.contains(&element), "{noted}");
        }
        assert!(!named.contains("0.0.0.0"), "{named}");
        // The unspecified address is not everybody, unless that is said.
        for (source, is_noted) in [("0.0.0.0/32", false), ("0.0.0.0/0", true)] {
            let change = close(&listing, Some(&door), Some(source.parse().unwrap()));
            let text = change.transaction.to_string();
            let all = text.contains("closed4 { 0.0.0.0 . ");
            assert_eq!((all, change.noted), (is_noted, is_noted), "{source}");
        }
    }

    /// Ends at other hosts are read as they are written, of whatever length the network is.
    #[test]
    fn what_others_ended_is_written_as_it_is_read() {
        let minutes = |number: u64| Duration::from_secs(60 * number);
        let ended = EndsElsewhere {
            guests: vec![
                (guest("192.0.2.0/24", 0x2_0002), minutes(1)),
                (guest("0.0.0.0/0", 0x2_0002), minutes(2)),
                (guest("2001:db8::7/128", 0x2_0003), minutes(3)),
                (guest("2001:db8::/64", 0x2_0003), NOTED_FOR),
            ],
            keys: vec![
                (KeyId(0x9_0001), minutes(4)),
                (KeyId(0x9_0002), 2 * NOTED_FOR),
            ],
        };
        let text = note_ended_elsewhere(&ended).to_string();
        let given: Vec<&str> = text
            .lines()
            .filter(|l| !l.contains("timeout 60s }") && l.starts_with("add"))
            .collect();
        let wanted = [
            "add element inet toctoc revoked-elsewhere { 9:1 timeout 86160s }",
            "add element inet toctoc ended4 { 192.0.2.0 . 2:2 . 1:18 timeout 86340s }",
            "add element inet toctoc ended4 { 0.0.0.0 . 2:2 . 1:0 timeout 86280s }",
            "add element inet toctoc ended6 { 2001:db8::7 . 2:3 . 1:80 timeout 86220s }",
        ];
        assert_eq!(given, wanted, "{text}");
        // As nft lists it, a moment later.
        let listed = r#"{"nftables": [
            {"set": {"family": "inet", "table": "toctoc", "name": "revoked-elsewhere", "elem": [
                {"elem": {"val": "9:1", "timeout": 86160, "expires": 86159}}]}},
            {"set": {"family": "inet", "table": "toctoc", "name": "ended4", "elem": [
                {"elem": {"val": {"concat": ["192.0.2.0", "2:2", "1:18"]}, "timeout": 86340, "expires": 86339}},
                {"elem": {"val": {"concat": ["0.0.0.0", "2:2", "1:"]}, "timeout": 86280, "expires": 86279}},
                {"elem": {"val": {"concat": ["192.0.2.9", "2:2", "2:18"]}, "timeout": 60, "expires": 50}},
                {"elem": {"val": {"concat": ["192.0.2.9", "2:2", "1:21"]}, "timeout": 60, "expires": 50}}]}},
            {"set": {"family": "inet", "table": "toctoc", "name": "ended6", "elem": [
                {"elem": {"val": {"concat": ["2001:db8::7", "2:3", "1:80"]}, "timeout": 86220, "expires": 86219}}]}}
            ]}"#;
        let read = Listing::parse(listed).unwrap().ended_elsewhere();
        assert_eq!(read.guests, ended.guests[..3]);
        assert_eq!(read.keys, ended.keys[..1]);
    }
}
