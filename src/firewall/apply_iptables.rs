//! `Script --apply--> kernel` for the iptables backend: two families, one after the other, and back
//! again when the second fails.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::apply::Applied;
use super::iptables::Iptables;
use super::{Failure, Left};
use crate::automaton::Automaton;
use crate::policy::{Name, Policy};
use crate::ruleset::iptables::{
    GrantList, Held, Holder, Saved, Wanted, change, compare, let_go, lists_of, names, own_lists,
    render,
};
use crate::ruleset::{BY_HAND, Drift, Family, Grant};

/// What is in the kernel of a family, and what shall be.
struct Turn {
    family: Family,
    before: Saved,
    wanted: Wanted,
    /// Lists of grants that must not be forgotten on the way.
    held: BTreeSet<GrantList>,
}

/// Makes the policy the running one. `moving` are live grants that another backend has given, read
/// when it all `began`; `again` reads them again. Whoever calls holds the lock.
///
/// Grants for one connection move when both backends guard: by then none can be used up in the one
/// and stay in the other.
///
/// # Errors
/// Anything that stopped it, with the state the firewall was left in.
pub fn apply(
    iptables: Iptables,
    policy: &Policy,
    moving: &[Grant],
    began: Instant,
    again: impl Fn() -> Result<Vec<Grant>, Failure>,
) -> Result<Applied, Failure> {
    let automaton = Automaton::build(policy.sequences());
    let live = if Iptables::has_lists() {
        Iptables::lists()?.held()
    } else {
        Vec::new()
    };
    let (staying, ending): (Vec<Held>, Vec<Held>) =
        live.into_iter().partition(|held| may(policy, &held.list));
    let moved = moved(policy, moving, began.elapsed() + MARGIN);
    let mut turns = Vec::new();
    for family in Iptables::families() {
        let before = iptables.save(family)?;
        let own: BTreeSet<GrantList> = own_lists(policy, family).into_iter().collect();
        let staying = staying.iter().map(|held| &held.list);
        let lists = staying.chain(moved.iter().map(|(list, _)| list));
        let kept: BTreeSet<GrantList> = lists
            .filter(|list| list.family == family)
            .cloned()
            .collect();
        let extra: Vec<GrantList> = kept.difference(&own).cloned().collect();
        let script = render(policy, &automaton, family, &extra);
        let held = lists_of(&before).into_iter().chain(kept).collect();
        let wanted = Wanted::script(&script, &before);
        iptables.check(family, &change(&before, &wanted))?;
        turns.push(Turn {
            family,
            before,
            wanted,
            held,
        });
    }
    let (once, lasting): (Vec<_>, Vec<_>) = moved.iter().cloned().partition(|(list, _)| list.once);
    carry(iptables, &turns, &lasting)?;
    load(iptables, &turns)?;
    let done = |failure: Failure| Failure {
        left: Left::Changed,
        ..failure
    };
    if !once.is_empty() {
        let unused = again().map_err(done)?;
        let is_unused = |(list, source): &&(GrantList, IpAddr)| {
            let same = |g: &Grant| g.source.addr() == *source && g.door == list.door.id() && g.once;
            unused.iter().any(same)
        };
        enter(once.iter().filter(is_unused)).map_err(done)?;
    }
    for turn in turns.iter().filter(|turn| !turn.held.is_empty()) {
        iptables.restore(turn.family, &let_go()).map_err(done)?;
    }
    let moved_in = moved.len();
    Ok(Applied {
        kept: staying.len() + moved_in,
        removed: ending.len() + (moving.len() - moved_in.min(moving.len())),
        ended_once: 0,
        drifts: verify(iptables, policy, &automaton).map_err(done)?,
    })
}

/// Puts the grants that come from elsewhere on their lists, before any rule asks for them.
fn carry(iptables: Iptables, turns: &[Turn], moved: &[(GrantList, IpAddr)]) -> Result<(), Failure> {
    if moved.is_empty() {
        return Ok(());
    }
    let back = |failure: Failure| {
        let undone = turns.iter().all(|turn| {
            let held = Wanted::again(&turn.before);
            let now = iptables.save(turn.family);
            now.is_ok_and(|now| iptables.restore(turn.family, &change(&now, &held)).is_ok())
        });
        let left = if undone {
            Left::Unchanged
        } else {
            Left::Unknown
        };
        Failure { left, ..failure }
    };
    for turn in turns {
        let lists = Wanted::again(&turn.before).holding(&turn.held);
        iptables
            .restore(turn.family, &change(&turn.before, &lists))
            .map_err(back)?;
    }
    enter(moved).map_err(back)
}

/// Puts sources on lists.
fn enter<'m>(moved: impl IntoIterator<Item = &'m (GrantList, IpAddr)>) -> Result<(), Failure> {
    for (list, source) in moved {
        Iptables::add(&names::grants(list.family, list.prefix), *source)?;
        Iptables::add(&list.to_string(), *source)?;
    }
    Ok(())
}

/// Loads one family after the other. When one is refused, those before it go back to what they were.
fn load(iptables: Iptables, turns: &[Turn]) -> Result<(), Failure> {
    for (number, turn) in turns.iter().enumerate() {
        let wanted = turn.wanted.clone().holding(&turn.held);
        let doors_alone = wanted.clone().without_progress();
        let step = |wanted: &Wanted| {
            let now = iptables.save(turn.family)?;
            iptables.restore(turn.family, &change(&now, wanted))
        };
        let loaded = match turn.before.is_empty() {
            true => step(&wanted),
            false => step(&doors_alone).and_then(|()| step(&wanted)),
        };
        let Err(failure) = loaded else {
            continue;
        };
        let mut said = failure.message;
        let mut left = Left::Unchanged;
        for earlier in turns[..=number].iter().rev() {
            let back = iptables.save(earlier.family).and_then(|now| {
                if now.same_rules(&earlier.before) {
                    return Ok(());
                }
                let before = Wanted::again(&earlier.before);
                iptables.restore(earlier.family, &change(&now, &before))
            });
            if let Err(second) = back {
                said = format!("{said}\nand going back failed: {}", second.message);
                left = Left::Unknown;
            }
        }
        if number > 0 && left == Left::Unchanged {
            said = format!(
                "{said}\nthe IPv4 rules, which had been loaded, were put back as they were"
            );
        }
        return Err(Failure {
            message: said,
            left,
        });
    }
    Ok(())
}

/// The differences between the kernel and the policy, in both families.
///
/// # Errors
/// When the kernel could not be read.
pub fn verify(
    iptables: Iptables,
    policy: &Policy,
    automaton: &Automaton,
) -> Result<Vec<Drift>, Failure> {
    let mut drifts = Vec::new();
    for family in Iptables::families() {
        let actual = iptables.save(family)?;
        drifts.extend(differences(iptables, policy, automaton, family, &actual)?);
    }
    Ok(drifts)
}

/// The differences of one family. Lists that the policy does not make are none, if they are for a door
/// and by a key that it has.
///
/// # Errors
/// When the policy could not be loaded aside.
pub fn differences(
    iptables: Iptables,
    policy: &Policy,
    automaton: &Automaton,
    family: Family,
    actual: &Saved,
) -> Result<Vec<Drift>, Failure> {
    let own: BTreeSet<GrantList> = own_lists(policy, family).into_iter().collect();
    let there = lists_of(actual);
    let kept: Vec<GrantList> = there
        .difference(&own)
        .filter(|list| may(policy, list))
        .cloned()
        .collect();
    let script = render(policy, automaton, family, &kept);
    let fresh = iptables.save_fresh(family, &script.to_string())?;
    Ok(compare(family, &fresh, actual))
}

/// Takes our chains out of the firewall, both families. Returns whether there were any.
///
/// # Errors
/// When they could not be read or removed.
pub fn remove(iptables: Iptables) -> Result<bool, Failure> {
    let mut any = false;
    for family in Iptables::families() {
        let running = iptables.save_if_there(family)?;
        if !running.is_empty() {
            iptables.restore(family, &change(&running, &Wanted::default()))?;
            any = true;
        }
    }
    Ok(any)
}

/// Whether the policy lets this list's holder have this door.
fn may(policy: &Policy, list: &GrantList) -> bool {
    let door = |index| &policy.door(index).name;
    match &list.holder {
        Holder::ByHand => policy.doors.iter().any(|d| d.name == list.door),
        Holder::Key(name) => {
            let mut keys = policy.keys.iter().filter(|key| key.name == *name);
            keys.any(|key| key.opens.iter().any(|o| *door(o.door) == list.door))
        }
    }
}

/// As many lists for grants that come from elsewhere, per door and holder, at most.
const MOST_LISTS: u64 = 64;

/// How long it takes at most from the text to the entries that it needs.
const MARGIN: Duration = Duration::from_secs(1);

/// Grants of another backend as entries of lists that last as long as they have left when they are
/// written `late`, to the second below; coarser when there are many.
fn moved(policy: &Policy, grants: &[Grant], late: Duration) -> Vec<(GrantList, IpAddr)> {
    let left = |grant: &Grant| grant.expires_in.saturating_sub(late).as_secs();
    let longest = grants.iter().map(left).max().unwrap_or(0);
    let step = longest.div_ceil(MOST_LISTS).max(1);
    let doors: BTreeMap<u32, &Name> = policy
        .doors
        .iter()
        .map(|d| (d.name.id(), &d.name))
        .collect();
    let moved = grants.iter().filter_map(|grant| {
        let seconds = left(grant) / step * step;
        let holder = match grant.opened_by.map(|opened| opened.key) {
            None | Some(BY_HAND) => Holder::ByHand,
            Some(id) => {
                let mut names = policy.keys.iter().map(|key| &key.name);
                Holder::Key(names.find(|name| name.id() == id)?.clone())
            }
        };
        let list = GrantList {
            family: Family::of(grant.source.addr()),
            prefix: grant.source.prefix_len(),
            door: (*doors.get(&grant.door)?).clone(),
            holder,
            seconds,
            once: grant.once,
        };
        (seconds > 0 && may(policy, &list)).then_some((list, grant.source.addr()))
    });
    moved.collect()
}
