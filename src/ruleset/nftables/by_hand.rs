//! Transactions that change no rule: grants that are given or ended, here or at another host of the fleet.

use std::collections::{BTreeSet, HashSet};
use std::fmt::Write as _;
use std::time::Duration;

use ipnet::IpNet;

use super::change::{Change, Holders};
use super::elements::{
    elsewhere_set, grant_element, grant_set, opened_element, opened_set, put, remove, remove_from,
    remove_grant, remove_opened,
};
use super::listing::Listing;
use super::{Kept, REVOKED, TABLE, classid, parse_set_name, set_name};
use crate::policy::Name;
use crate::ruleset::{BY_HAND, Family, Grant, Opened, granted_network};

/// The transaction that grants a source a door by hand. A grant that is there gets the new time.
///
/// Returns it with the network that is granted.
///
/// # Errors
/// A sentence, when the source is a network other than those this host grants to.
pub fn open(
    running: &Listing,
    door: &Name,
    source: IpNet,
    open_for: Duration,
) -> Result<(String, IpNet), String> {
    let family = Family::of(source.addr());
    let prefix = running
        .sets
        .keys()
        .find_map(|name| match parse_set_name(name) {
            Some((Kept::Grants, f, prefix)) if f == family => Some(prefix),
            _ => None,
        })
        .ok_or("the running firewall has no set for grants; `toctoc apply` makes it")?;
    let network = granted_network(source, prefix)?;
    let opened = Opened {
        source: source.addr(),
        door: door.id(),
        key: BY_HAND,
        expires_in: open_for,
    };
    let grant = Grant {
        source: network,
        door: door.id(),
        once: false,
        opened_by: Some(opened),
        expires_in: open_for,
    };
    let mut text = String::new();
    for (set, element) in [
        (opened_set(&opened), opened_element(&opened)),
        (grant_set(&grant), grant_element(&grant)),
    ] {
        put(&mut text, &set, &element, open_for);
    }
    Ok((text, network))
}

/// The transaction that ends grants: of one door or all, of one source or all. A source inside a granted network ends that grant.
pub fn close(running: &Listing, door: Option<&Name>, source: Option<IpNet>) -> Change {
    let touches = |network: &IpNet| {
        source.is_none_or(|source| source.contains(network) || network.contains(&source))
    };
    let for_door = |id: u32| door.is_none_or(|door| door.id() == id);
    let sets: HashSet<String> = running.sets.keys().cloned().collect();
    let (closing, staying): (Vec<Grant>, Vec<Grant>) = running
        .grants()
        .into_iter()
        .partition(|grant| for_door(grant.door) && touches(&grant.source));
    let elsewhere = running.elsewhere().into_iter();
    let elsewhere: Vec<Grant> = elsewhere
        .filter(|grant| for_door(grant.door) && touches(&grant.source))
        .collect();
    let mut text = String::new();
    for grant in &closing {
        remove_grant(&mut text, grant, &sets);
    }
    for grant in &elsewhere {
        remove_from(&mut text, &elsewhere_set(grant), grant, &sets);
    }
    let ended = closing.iter().chain(&elsewhere);
    let ended: BTreeSet<(IpNet, u32, bool)> = ended.map(|g| (g.source, g.door, g.once)).collect();
    note_closed(&mut text, running, &ended, door, source);
    let holders = Holders::of(&closing, std::iter::empty());
    for opened in running.opened() {
        if holders.include(&opened) {
            remove_opened(&mut text, &opened, &sets);
        }
    }
    // What just used up a grant may not be repeated either. Which door it was for is not told apart:
    // to somebody else it means no more than a lost packet.
    for name in running.sets.keys() {
        if matches!(parse_set_name(name), Some((Kept::Admitted, ..))) {
            let _ = writeln!(text, "flush set {TABLE} {name}");
        }
    }
    Change {
        text,
        kept: staying.len(),
        removed: ended.len(),
        ..Change::default()
    }
}

/// How long it is noted for the other hosts that a grant was ended: as long as any counts there.
pub const NOTED_FOR: Duration = Duration::from_secs(24 * 3600);

/// Leaves notes of what is ended, and of a source that is named and may be in at other hosts alone.
fn note_closed(
    text: &mut String,
    running: &Listing,
    ended: &BTreeSet<(IpNet, u32, bool)>,
    door: Option<&Name>,
    source: Option<IpNet>,
) {
    let places = running.sets.keys().filter_map(|name| {
        let (kept, family, prefix) = parse_set_name(name)?;
        (kept == Kept::Closed).then_some((name, family, prefix))
    });
    for (set, family, prefix) in places {
        let here = ended.iter().filter(|(source, ..)| {
            Family::of(source.addr()) == family && source.prefix_len() == prefix
        });
        let mut noted: BTreeSet<(IpNet, u32)> = here.map(|(s, door, _)| (*s, *door)).collect();
        let named = source.filter(|source| Family::of(source.addr()) == family);
        if let (Some(door), Some(source)) = (door, named)
            && let Ok(network) = granted_network(source, prefix)
        {
            noted.insert((network, door.id()));
        }
        for (source, door) in noted {
            let element = format!("{} . {}", source.addr(), classid(door));
            put(text, set, &element, NOTED_FOR);
        }
    }
}

/// The transaction that notes that a key was revoked.
pub fn note_revoked(key: &Name) -> String {
    let mut text = String::new();
    put(&mut text, REVOKED, &classid(key.id()), NOTED_FOR);
    text
}

/// The transaction that gives grants of other hosts, each with the time that is left of it, or takes them
/// away where that is `None`. Sources are as long as grants of this host are.
pub fn elsewhere<'g>(
    grants: impl IntoIterator<Item = &'g (IpNet, u32, Option<Duration>)>,
) -> String {
    let mut text = String::new();
    for (source, door, left) in grants {
        let family = Family::of(source.addr());
        let set = set_name(Kept::Elsewhere, family, source.prefix_len());
        let element = format!("{} . {}", source.addr(), classid(*door));
        match left {
            Some(left) => put(&mut text, &set, &element, *left),
            None => remove(&mut text, &set, &element),
        }
    }
    text
}
