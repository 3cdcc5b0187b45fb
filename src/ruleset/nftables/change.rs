//! From what the kernel holds to what it shall hold, as one nft transaction that keeps live grants.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::by_hand::NOTED_FOR;
use super::compare::for_ever;
use super::elements::{
    Element, Lasting, Part, SHORTEST, grant_key, grant_set, key_text, opened_key, place_key,
};
use super::listed_set::ListedSet;
use super::listing::Listing;
use super::script::{Script, Set};
use super::transaction::{Command, Transaction};
use super::{AtApply, SetId, admits, is_left};
use crate::held::{Departure, Grant, Guest, Guests, Opened, Rights, Stay, around};
use crate::policy::{DoorId, Policy};
use crate::ruleset::Family;

/// A transaction, and what it means for those who hold grants.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Transition {
    pub transaction: Transaction,
    /// Live grants that stay.
    pub kept: usize,
    /// Those of them that were in our table.
    pub staying: Vec<Grant>,
    /// Live grants that end with it, their door or key being gone.
    pub removed: usize,
    /// Those of them that were in our table.
    pub ended: Vec<Grant>,
    /// Live grants for one connection that end, since their set is made anew. One of them may be used
    /// up between listing and commit, and would come back.
    pub ended_once: usize,
    /// The other hosts of a fleet are told.
    pub noted: bool,
    /// The elements that are written into sets made anew.
    pub carried: Vec<Carried>,
}

/// An element that moves from an old set to a new one.
#[derive(Debug, Clone, PartialEq)]
pub struct Carried {
    set: String,
    key: Vec<Part>,
    /// When it was listed.
    expires_in: Duration,
    /// For how long it was given, as far as that means anything: in a fleet it tells when a grant began.
    given_for: Duration,
}

impl Carried {
    /// The element with what is left of it some time after the listing, to the second below. `None` if it has
    /// ended.
    fn later(&self, after: Duration) -> Option<Element> {
        let left = self.expires_in.saturating_sub(after).as_secs();
        let given = self.given_for.as_secs();
        let seconds = Duration::from_secs;
        (left > 0).then(|| lasting(self.key.clone(), seconds(left), seconds(given)))
    }
}

/// An element, by what is left of it, and for how long it was given.
fn lasting(key: Vec<Part>, left: Duration, given: Duration) -> Element {
    let lasting = match given > left {
        true => Lasting {
            timeout: given,
            left: Some(left),
        },
        false => Lasting {
            timeout: left,
            left: None,
        },
    };
    Element {
        key,
        lasting: Some(lasting),
        value: None,
    }
}

/// The transaction that makes `script` (rendered from `policy`) the running one. `running` is our
/// table as it was, `None` when there was none; `late` is the time from the beginning of that listing
/// to the commit.
///
/// Kept sets are not touched, but for grants of doors and keys that are gone. A kept set whose
/// declaration changed (`max_sources`, `[grant]`) is made anew and its live elements are carried
/// over, less `late`, but for grants for one connection.
pub fn transaction(
    policy: &Policy,
    script: &Script,
    running: Option<&Listing>,
    late: Duration,
) -> Transition {
    let Some(running) = running else {
        return Transition {
            transaction: Command::Load(Box::new(script.clone())).into(),
            ..Transition::default()
        };
    };
    let rights = Rights::of(policy);
    let guests = running.guests();
    let (live, departure) = guests.carry_over(&rights);

    let mut transaction = Transaction::default();
    announce_new_sets(&mut transaction, script, running);
    transaction.push(Command::FlushTable);
    let unchanged = remove_old(&mut transaction, script, running);
    let (once, live): (Vec<Grant>, Vec<Grant>) = live
        .into_iter()
        .partition(|grant| grant.once && !unchanged.contains(&grant_set(grant)));
    let stays = Stays::of(policy);
    let mut carried = carried(
        script,
        running,
        &guests.opened,
        &live,
        &rights,
        &stays,
        &unchanged,
    );
    carried.extend(stays.end(&mut transaction, running, &live, &unchanged));
    let mut script = script.clone();
    for set in &mut script.sets {
        for item in carried.iter().filter(|item| item.set == set.name) {
            if let Some(element) = item.later(late) {
                set.elements.push((element.to_string(), "kept".to_string()));
            }
        }
    }
    transaction.push(Command::Load(Box::new(script)));
    remove(&mut transaction, running, &departure, &unchanged);
    Transition {
        transaction,
        kept: live.len(),
        staying: live,
        removed: departure.grants.len(),
        ended: departure.grants,
        ended_once: once.len(),
        carried,
        ..Transition::default()
    }
}

/// The change that takes live grants of another backend into a transaction. Those that
/// the policy gives to nobody, and those that end within `late`, are left behind.
pub fn carry(policy: &Policy, grants: &[Grant], late: Duration) -> Transition {
    let rights = Rights::of(policy);
    let mut change = Transition::default();
    for grant in grants {
        let homeless = grant.once && !policy.has_once();
        let left = grant.expires_in.saturating_sub(late);
        if left < SHORTEST || homeless || !rights.hold(grant) {
            change.removed += 1;
            continue;
        }
        let family = Family::of(grant.source.addr());
        let prefix = family.prefix_of(policy.grant);
        let network = IpNet::new(grant.source.addr(), prefix).map_or(grant.source, |n| n.trunc());
        let grant = Grant {
            source: network,
            ..grant.clone()
        };
        let opened = grant.opened_by.map(|opened| {
            let set = SetId::Opened.of_family(family);
            (set, opened_key(&opened), opened.given_for)
        });
        let granted = (grant_set(&grant), grant_key(&grant), Duration::ZERO);
        for (set, key, given_for) in opened.into_iter().chain([granted]) {
            change
                .transaction
                .add(&set, vec![lasting(key, left, given_for)]);
        }
        change.kept += 1;
    }
    change
}

/// The transaction that gives what was carried over no more time than it had, when the commit came
/// `late`.
pub fn shorten(carried: &[Carried], late: Duration) -> Transaction {
    let mut transaction = Transaction::default();
    for item in carried {
        transaction.remove(&item.set, item.key.clone());
        transaction.add(&item.set, item.later(late).into_iter().collect());
    }
    transaction
}

/// The transaction that [sweeps](Guests::sweep) what `policy` gives to nobody. Empty when there is nothing.
pub fn leftovers(policy: &Policy, running: &Listing, before: Option<&Guests>) -> Transition {
    let sets: HashSet<String> = running.sets.keys().cloned().collect();
    let guests = running.guests();
    let departure = guests.sweep(&Rights::of(policy), before);
    let mut transaction = Transaction::default();
    remove(&mut transaction, running, &departure, &sets);
    let removed = departure.grants.len();
    Transition {
        transaction,
        kept: guests.grants.len() - removed,
        removed,
        ended: departure.grants,
        ..Transition::default()
    }
}

/// Removes what goes from these sets, and whatever never ends.
fn remove(
    transaction: &mut Transaction,
    running: &Listing,
    departure: &Departure,
    sets: &HashSet<String>,
) {
    for (set, key) in for_ever(running) {
        if sets.contains(&set) {
            transaction.remove(&set, key);
        }
    }
    transaction.end(departure, sets);
}

/// Sets that the table does not have yet come first, each in a line: nft 0.9.8 crashes when it first
/// meets a set inside a table's block and something was deleted before.
fn announce_new_sets(transaction: &mut Transaction, script: &Script, running: &Listing) {
    for set in &script.sets {
        if !running.sets.contains_key(&set.name) {
            let elements = Vec::new();
            transaction.push(Command::Declare(Set {
                elements,
                ..set.clone()
            }));
        }
    }
}

/// Removes everything of the old table that does not stay. Returns the names of the sets that stay
/// with what is in them.
///
/// Chains stay where the new script has them too (their rules are flushed before), and so does the
/// map of ports: a packet that is under way while this commits has begun with the old rules, and
/// goes on with the elements of now. Were the map or a door's chain another object by then, a
/// stranger's packet would find no door.
fn remove_old(
    transaction: &mut Transaction,
    script: &Script,
    running: &Listing,
) -> HashSet<String> {
    let mut unchanged = HashSet::new();
    let has_fleet = script.has_fleet();
    for (name, set) in &running.sets {
        let new = script.sets.iter().find(|new| new.name == *name);
        let kind = set.word();
        match new.map(|new| fate(new, set)) {
            Some(Fate::Filled) => {
                if running.is_copy && admits(name) {
                    transaction.flush(kind, name);
                }
                unchanged.insert(name.clone());
            }
            Some(Fate::Empty) => {
                transaction.flush(kind, name);
            }
            // A key may come back, and what it has used up stays used up.
            None if is_left(name, has_fleet) => {
                unchanged.insert(name.clone());
            }
            Some(Fate::Not) | None => {
                let set = name.clone();
                transaction.push(Command::DeleteSet { kind, set });
            }
        }
    }
    for (name, chain) in &running.chains {
        let same = script
            .chains
            .iter()
            .any(|new| new.name == *name && new.base.map(|base| base.listed()) == chain.base);
        if !same {
            transaction.push(Command::DeleteChain(name.clone()));
        }
    }
    for name in running.counters.keys() {
        if !script.counters.contains(name) {
            transaction.push(Command::DeleteCounter(name.clone()));
        }
    }
    unchanged
}

/// The fate of a set of the old table.
enum Fate {
    Filled,
    Empty,
    Not,
}

fn fate(new: &Set, old: &ListedSet) -> Fate {
    let row = new.id.row();
    match row.at_apply {
        AtApply::Refilled if old.is_plain(&new.types, new.is_hashed()) => Fate::Empty,
        _ if row.is_kept() && old.is_declared(&new.types, new.size) => Fate::Filled,
        _ => Fate::Not,
    }
}

/// The live elements for those kept sets that are made anew.
fn carried(
    script: &Script,
    running: &Listing,
    opened: &[Opened],
    live: &[Grant],
    rights: &Rights,
    stays: &Stays,
    unchanged: &HashSet<String>,
) -> Vec<Carried> {
    let mut carried = Vec::new();
    let rightful: Vec<&Opened> = opened.iter().filter(|o| rights.include(o)).collect();
    let holders = Holders::of(live, &rightful);
    for set in &script.sets {
        let Some((id, family, prefix)) = SetId::by_family(&set.name) else {
            continue;
        };
        if unchanged.contains(&set.name) {
            continue;
        }
        // The time left, and the time given.
        let mut elements: BTreeMap<Vec<Part>, (Duration, Duration)> = BTreeMap::new();
        let mut add = |key: Vec<Part>, left: Duration, given: Duration| {
            let entry = elements.entry(key).or_default();
            *entry = (left, given).max(*entry);
        };
        match id {
            SetId::Opened => {
                for opened in &rightful {
                    if Family::of(opened.source) == family {
                        add(opened_key(opened), opened.expires_in, opened.given_for);
                    }
                }
            }
            SetId::Grants => {
                let of_this_set =
                    |grant: &&Grant| Family::of(grant.source.addr()) == family && !grant.once;
                for grant in live.iter().filter(of_this_set) {
                    for source in holders.resized(grant, prefix) {
                        let key = place_key(source.addr(), grant.door);
                        if let Some(left) = stays.given(grant) {
                            add(key, left, Duration::ZERO);
                        }
                    }
                }
            }
            SetId::Stay | SetId::Use => {
                let of_family = |grant: &&Grant| Family::of(grant.source.addr()) == family;
                for grant in live.iter().filter(of_family) {
                    let Some(stay) = stays.of_grant(grant) else {
                        continue;
                    };
                    let left = match id {
                        SetId::Stay => Some(stay.at_most),
                        _ => stay.used,
                    };
                    let Some(left) = left else {
                        continue;
                    };
                    for source in holders.resized(grant, prefix) {
                        add(place_key(source.addr(), grant.door), left, Duration::ZERO);
                    }
                }
            }
            // By another length of network they would be somebody else's.
            SetId::Elsewhere => {
                for (grant, there_for) in running.elsewhere_and_since() {
                    let same = grant.source.prefix_len() == prefix;
                    let fits = same && Family::of(grant.source.addr()) == family;
                    if fits && rights.accept(&grant) {
                        let left = grant.expires_in;
                        add(grant_key(&grant), left, left + there_for);
                    }
                }
            }
            // The time since then can be told from what is left, whatever the element was given.
            SetId::Closed => {
                for (Guest { source, door }, ago) in running.closed() {
                    let same = [0, prefix].contains(&source.prefix_len());
                    if same && Family::of(source.addr()) == family && rights.know(door) {
                        let key = place_key(source.addr(), door);
                        add(key, NOTED_FOR.saturating_sub(ago), NOTED_FOR);
                    }
                }
            }
            // Used up, or over in a moment; nothing in a policy makes the last ones anew.
            _ => {}
        }
        let mut elements: Vec<_> = elements.into_iter().collect();
        elements.sort_by_cached_key(|(key, _)| key_text(key));
        let elements = elements.into_iter();
        carried.extend(elements.map(|(key, (expires_in, given_for))| Carried {
            set: set.name.clone(),
            key,
            expires_in,
            given_for,
        }));
    }
    carried
}

/// The doors of the new policy that extend their grants.
struct Stays(HashSet<DoorId>);

impl Stays {
    fn of(policy: &Policy) -> Stays {
        let doors = policy.doors.iter().filter(|door| door.extension.is_some());
        Stays(doors.map(|door| door.name.door_id()).collect())
    }

    /// The parts of a grant that goes on staying while it is used.
    fn of_grant(&self, grant: &Grant) -> Option<Stay> {
        grant.stay.filter(|_| self.0.contains(&grant.door))
    }

    /// The time left of a grant besides what its last connection gives.
    fn given(&self, grant: &Grant) -> Option<Duration> {
        let stay = self.of_grant(grant);
        stay.map_or(Some(grant.expires_in), |stay| stay.given)
    }

    /// Ends what connections extend where the new policy says nothing of that. Returns the grants that live by their
    /// last connection alone: each keeps what is left of it, in the set of those with a time of their own.
    fn end(
        &self,
        transaction: &mut Transaction,
        running: &Listing,
        live: &[Grant],
        unchanged: &HashSet<String>,
    ) -> Vec<Carried> {
        let over = |door: &DoorId| !self.0.contains(door);
        for id in [SetId::Stay, SetId::Use] {
            for (set, key) in running.places(id) {
                let is_over = matches!(key[1], Part::Class(door) if over(&DoorId(door)));
                if unchanged.contains(&set) && is_over {
                    transaction.remove(&set, key);
                }
            }
        }
        let mut carried = Vec::new();
        for grant in live.iter().filter(|grant| over(&grant.door)) {
            let longer = |stay: Stay| Some(stay.left()) > stay.given;
            let set = grant_set(grant);
            if grant.stay.is_some_and(longer) && unchanged.contains(&set) {
                transaction.remove(&set, grant_key(grant));
                carried.push(Carried {
                    set,
                    key: grant_key(grant),
                    expires_in: grant.expires_in,
                    given_for: Duration::ZERO,
                });
            }
        }
        carried
    }
}

/// The sources that opened each of some grants. There may be tens of thousands.
struct Holders(HashMap<Guest, Vec<IpAddr>>);

impl Holders {
    fn of(grants: &[Grant], opened: &[&Opened]) -> Holders {
        let lengths: BTreeSet<u8> = grants.iter().map(|g| g.source.prefix_len()).collect();
        let mut holders: HashMap<Guest, Vec<IpAddr>> = grants
            .iter()
            .map(|grant| (grant.guest(), Vec::new()))
            .collect();
        for opened in opened {
            for &length in &lengths {
                let place = around(opened.source, length).map(|source| Guest {
                    source,
                    door: opened.door,
                });
                if let Some(sources) = place.and_then(|place| holders.get_mut(&place)) {
                    sources.push(opened.source);
                }
            }
        }
        Holders(holders)
    }

    /// The networks of another length for a grant: around each address that opened it.
    fn resized(&self, grant: &Grant, prefix: u8) -> BTreeSet<IpNet> {
        let sources = self.0.get(&grant.guest());
        let networks = sources.into_iter().flatten();
        networks
            .filter_map(|&source| around(source, prefix))
            .collect()
    }
}
