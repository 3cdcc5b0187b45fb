//! The transaction that grants a door by hand. Where there is no room it ends another grant.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::SetId;
use super::elements::{Part, grant_key, grant_set, opened_key, opened_set, stay_sets};
use super::listed_set::key_of;
use super::listing::Listing;
use super::transaction::Transaction;
use crate::held::{Grant, Opened, Spared, first_to_end, granted_network};
use crate::policy::{KeyId, Name};
use crate::ruleset::Family;

/// A grant by hand, as a transaction.
#[derive(Debug, Clone, PartialEq)]
pub struct Admission {
    pub transaction: Transaction,
    /// The network that is granted.
    pub network: IpNet,
    /// Live grants that end for want of room.
    pub ended: Vec<Grant>,
}

/// The room in the sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// As the listing shows it.
    Listed,
    /// There is none, whatever the listing shows: elements that are over take up room until the kernel tidies up.
    Taken,
}

/// The transaction that grants a source a door by hand. A grant that is there gets the new time. Where a set is full,
/// the grant that others can do without first ends with it; never one from where `caller` came.
///
/// Elements are taken away without more ado: if one has just expired, the kernel refuses the whole of it as
/// outdated.
///
/// # Errors
/// A sentence, when the source is a network other than those this host grants to.
pub fn open(
    running: &Listing,
    door: &Name,
    source: IpNet,
    open_for: Duration,
    caller: Option<IpAddr>,
    room: Room,
) -> Result<Admission, String> {
    let family = Family::of(source.addr());
    let (.., prefix) = running
        .sets_of(SetId::Grants)
        .find(|(_, of, _)| *of == family)
        .ok_or("the running firewall has no set for grants; `toctoc apply` makes it")?;
    let network = granted_network(source, prefix)?;
    let opened = Opened {
        source: source.addr(),
        door: door.door_id(),
        key: KeyId::BY_HAND,
        expires_in: open_for,
        given_for: open_for,
    };
    let grant = Grant {
        source: network,
        door: door.door_id(),
        once: false,
        opened_by: Some(opened),
        expires_in: open_for,
        is_endless: false,
        stay: None,
    };
    let mut transaction = Transaction::default();
    let spared = Spared { network, caller };
    let ended = make_room(&mut transaction, running, &grant, &opened, &spared, room);
    transaction.put(&opened_set(&opened), opened_key(&opened), open_for);
    transaction.put(&grant_set(&grant), grant_key(&grant), open_for);
    // It lasts as long as the administrator says: no connection extends it.
    for set in stay_sets(&grant) {
        if running.sets.contains_key(&set) {
            transaction.remove(&set, grant_key(&grant));
        }
    }
    Ok(Admission {
        transaction,
        network,
        ended,
    })
}

/// Ends what must end so that a grant and its record find room. Returns the live grants among it.
fn make_room(
    transaction: &mut Transaction,
    running: &Listing,
    grant: &Grant,
    opened: &Opened,
    spared: &Spared,
    room: Room,
) -> Vec<Grant> {
    let (grants, records) = (grant_set(grant), opened_set(opened));
    let lacks_grant = lacks_room(running, &grants, &grant_key(grant), room);
    let lacks_record = lacks_room(running, &records, &opened_key(opened), room);
    if !lacks_grant && !lacks_record {
        return Vec::new();
    }
    let all = running.grants();
    let here = running.opened().into_iter();
    let here: Vec<Opened> = here.filter(|other| opened_set(other) == records).collect();
    let has_record = |grant: &Grant| here.iter().any(|opened| holds(grant, opened));
    // All that a source holds of a door goes together, whether for one connection or more.
    let choose = |meant: &dyn Fn(&Grant) -> bool| -> Vec<Grant> {
        let candidates: Vec<Grant> = all.iter().filter(|g| meant(g)).cloned().collect();
        let chosen = first_to_end(&candidates, spared);
        let same = |grant: &&Grant| {
            chosen.is_some_and(|chosen| (chosen.source, chosen.door) == (grant.source, grant.door))
        };
        all.iter().filter(same).cloned().collect()
    };
    let mut ended = match lacks_grant {
        true => choose(&|grant| grant_set(grant) == grants),
        false => Vec::new(),
    };
    if lacks_record && !ended.iter().any(has_record) {
        // The record of a grant that was used up is missed by nobody.
        let left_over = here.iter().filter(|o| !all.iter().any(|g| holds(g, o)));
        match left_over.min_by_key(|opened| opened.expires_in) {
            Some(opened) => transaction.delete(&records, vec![opened_key(opened)]),
            None => ended.extend(choose(&has_record)),
        }
    }
    for grant in &ended {
        let parts = grant.stay.map(|stay| {
            let [opening, last] = stay_sets(grant);
            let given = (grant_set(grant), stay.given.is_some());
            [given, (opening, true), (last, stay.used.is_some())]
        });
        let parts: Vec<String> = match parts {
            None => vec![grant_set(grant)],
            Some(parts) => {
                let there = parts.into_iter().filter(|(_, is_there)| *is_there);
                there.map(|(set, _)| set).collect()
            }
        };
        for set in parts {
            transaction.delete(&set, vec![grant_key(grant)]);
        }
    }
    let gone = here.iter().filter(|o| ended.iter().any(|g| holds(g, o)));
    transaction.delete(&records, gone.map(opened_key).collect());
    ended
}

fn holds(grant: &Grant, opened: &Opened) -> bool {
    grant.door == opened.door && grant.source.contains(&opened.source)
}

/// Returns whether a set has no room for an element that it does not hold.
fn lacks_room(running: &Listing, set: &str, key: &[Part], room: Room) -> bool {
    let Some(set) = running.sets.get(set) else {
        return false;
    };
    let elements = set.elements.iter();
    if elements.filter_map(key_of).any(|held| held == key) {
        return false;
    }
    match (room, set.size()) {
        (Room::Taken, _) => true,
        (Room::Listed, Some(size)) => set.elements.len() as u64 >= size,
        (Room::Listed, None) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A table for one door with room for three, whose elements each say source, key and time left.
    fn table(grants: &[(&str, u64)], records: &[(&str, &str, u64)]) -> Listing {
        let door = crate::ruleset::nftables::classid(Name::new("ssh").unwrap().id());
        let element = |parts: &[&str], left: u64| match left {
            0 => format!(r#"{{"concat": {parts:?}}}"#),
            left => format!(
                r#"{{"elem": {{"val": {{"concat": {parts:?}}}, "timeout": 99, "expires": {left}}}}}"#
            ),
        };
        let set = |name: &str, elements: Vec<String>| {
            format!(
                r#"{{"set": {{"family": "inet", "table": "toctoc", "name": "{name}", "size": 3, "elem": [{}]}}}}"#,
                elements.join(", ")
            )
        };
        let grants = grants.iter().map(|(a, left)| element(&[a, &door], *left));
        let records = records
            .iter()
            .map(|(a, key, left)| element(&[a, &door, key], *left));
        let text = format!(
            r#"{{"nftables": [{}, {}]}}"#,
            set("grants4", grants.collect()),
            set("opened4", records.collect())
        );
        Listing::parse(&text).unwrap()
    }

    fn opened(
        running: &Listing,
        source: &str,
        caller: Option<&str>,
        room: Room,
    ) -> (Vec<String>, String) {
        let door = Name::new("ssh").unwrap();
        let caller = caller.map(|caller| caller.parse().unwrap());
        let source: IpAddr = source.parse().unwrap();
        let minute = Duration::from_secs(60);
        let opening = open(running, &door, source.into(), minute, caller, room).unwrap();
        let ended = opening
            .ended
            .iter()
            .map(|grant| grant.source.addr().to_string());
        (ended.collect(), opening.transaction.to_string())
    }

    #[test]
    fn a_grant_ends_where_there_is_no_room_and_only_there() {
        let three = [("10.0.0.1", 50), ("10.0.0.2", 40), ("10.0.0.3", 0)];
        let records = [("10.0.0.1", "5:5", 50), ("10.0.0.2", "5:5", 40)];
        let full = table(&three, &records);
        let (ended, transaction) = opened(&full, "10.0.0.9", None, Room::Listed);
        assert_eq!(ended, ["10.0.0.2"]);
        let deleted = transaction
            .lines()
            .filter(|line| line.starts_with("delete"));
        let first: Vec<&str> = deleted.take(2).collect();
        assert!(first[0].contains("grants4 { 10.0.0.2 . "), "{transaction}");
        assert!(first[1].contains("opened4 { 10.0.0.2 . "), "{transaction}");
        let chosen = |caller, room| opened(&full, "10.0.0.9", Some(caller), room).0;
        assert_eq!(chosen("10.0.0.2", Room::Listed), ["10.0.0.1"]);
        // Somebody who is in needs no room, and below the size there is some.
        assert!(opened(&full, "10.0.0.2", None, Room::Taken).0.len() < 2);
        assert!(opened(&full, "10.0.0.2", None, Room::Listed).0.is_empty());
        let some = table(&three[..2], &records);
        assert!(opened(&some, "10.0.0.9", None, Room::Listed).0.is_empty());
        assert_eq!(opened(&some, "10.0.0.9", None, Room::Taken).0, ["10.0.0.2"]);
        // One without an end goes when all others are spared.
        let last = table(&[("10.0.0.3", 0)], &[]);
        assert_eq!(opened(&last, "10.0.0.9", None, Room::Taken).0, ["10.0.0.3"]);
    }

    #[test]
    fn a_record_of_no_grant_is_the_first_to_go() {
        let records = [
            ("10.0.0.1", "5:5", 50),
            ("10.0.0.1", "6:6", 30),
            ("10.0.0.7", "5:5", 60),
        ];
        let used_up = table(&[("10.0.0.1", 50)], &records);
        let (ended, transaction) = opened(&used_up, "10.0.0.9", None, Room::Listed);
        assert!(ended.is_empty(), "{ended:?}");
        assert!(
            transaction.starts_with("delete element inet toctoc opened4 { 10.0.0.7 . "),
            "{transaction}"
        );
        // All records of a grant go with it.
        let both = [records[0], records[1], ("10.0.0.2", "5:5", 60)];
        let full = table(&[("10.0.0.1", 50), ("10.0.0.2", 60)], &both);
        let (ended, transaction) = opened(&full, "10.0.0.9", None, Room::Listed);
        assert_eq!(ended, ["10.0.0.1"]);
        for key in ["5:5", "6:6"] {
            assert!(
                transaction.lines().nth(1).unwrap().contains(key),
                "{transaction}"
            );
        }
    }
}
