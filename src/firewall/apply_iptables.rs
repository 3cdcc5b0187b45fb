//! `Script --apply--> kernel` for the iptables backend: two families, one after the other, and back
//! again when the second fails.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use super::apply::Applied;
use super::backend::Moving;
use super::iptables::Iptables;
use super::look::Look;
use super::{Failure, Left};
use crate::automaton::Automaton;
use crate::held::{Drift, Grant, Rights};
use crate::policy::{DoorId, KeyId, Name, Policy};
use crate::ruleset::Family;
use crate::ruleset::iptables::{
    GrantList, Holder, Membership, Saved, Wanted, change, compare, early, let_go, lists_of, names,
    own_lists, render,
};

/// The rules of a family in the kernel, and those that shall be.
struct Turn {
    family: Family,
    before: Saved,
    /// The rules to load one after the other; the last are those that shall be.
    steps: Vec<Wanted>,
    /// Lists of grants that must not be forgotten on the way.
    held: BTreeSet<GrantList>,
}

/// Makes the policy the running one. Whoever calls holds the lock.
///
/// Grants for one connection move when both backends guard: by then none can be used up in the one
/// and stay in the other.
///
/// # Errors
/// Anything that stopped it, with the state the firewall was left in.
pub fn apply(iptables: Iptables, policy: &Policy, moving: Moving<'_>) -> Result<Applied, Failure> {
    let Moving {
        grants: moving,
        began,
        again,
    } = moving;
    let automaton = Automaton::build(policy.sequences());
    let rights = Rights::of(policy);
    let live = if Iptables::has_rules()? {
        Iptables::lists()?.memberships()
    } else {
        Vec::new()
    };
    let (staying, ending): (Vec<Membership>, Vec<Membership>) =
        live.into_iter().partition(|held| may(&rights, &held.list));
    let late = began.elapsed() + MARGIN;
    let in_time = || began.elapsed() <= late;
    let mut moved = moved(policy, &moving, late);
    let without_right = moving.len() - moved.len();
    moved.retain(|(list, _)| list.seconds > 0);
    // The last ones push out the first when a list is full.
    moved.sort_by_key(|(list, _)| list.seconds);
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
        iptables.shows_all(&before, &script)?;
        let held = lists_of(&before).into_iter().chain(kept).collect();
        let wanted = Wanted::script(&script, &before);
        iptables.check(family, &change(&before, &wanted))?;
        let early = early(policy, &automaton, family);
        let steps = steps(&before, wanted, &held, &early);
        turns.push(Turn {
            family,
            before,
            steps,
            held,
        });
    }
    let (once, lasting): (Vec<_>, Vec<_>) = moved.iter().cloned().partition(|(list, _)| list.once);
    carry(iptables, &turns, &lasting, in_time)?;
    load(iptables, &turns)?;
    let done = |failure: Failure| failure.leaving(Left::Changed);
    let mut entered = lasting;
    if !once.is_empty() {
        let unused = again().map_err(done)?;
        let is_unused = |(list, source): &&(GrantList, IpAddr)| {
            let same =
                |g: &Grant| g.source.addr() == *source && g.door == list.door.door_id() && g.once;
            unused.iter().any(same)
        };
        // Later it would be given more time than it had.
        let once = once.iter().filter(is_unused).filter(|_| in_time());
        let once: Vec<_> = once.cloned().collect();
        enter(&once).map_err(done)?;
        entered.extend(once);
    }
    for turn in &turns {
        iptables.restore(turn.family, &let_go()).map_err(done)?;
    }
    let anyone = !staying.is_empty() || !moved.is_empty();
    let (kept, pushed_out) = match anyone {
        true => {
            let lists = Iptables::lists().map_err(done)?;
            let out = entered.iter().filter(|(list, source)| {
                let guests = names::guests(list.family, list.prefix, &list.door);
                !lists.has(&guests, *source)
            });
            (lists.grants().len(), out.count())
        }
        false => (0, 0),
    };
    let look = Look::of_iptables(iptables).map_err(done)?;
    let drifts = verify(iptables, policy, &automaton).map_err(done)?;
    let again = Look::of_iptables(iptables).map_err(done)?;
    Ok(Applied {
        kept,
        pushed_out,
        removed: ending.len() + without_right,
        drifts,
        look: (look == again).then_some(again),
        ..Applied::default()
    })
}

/// The way from what is there to what is wanted: doors that are let in through `[firewall]` and stay;
/// the doors alone, so that all progress is forgotten; the lists that should be found first; all.
fn steps(
    before: &Saved,
    wanted: Wanted,
    held: &BTreeSet<GrantList>,
    early: &[String],
) -> Vec<Wanted> {
    let mut steps = Vec::new();
    let nothing = if before.is_empty() {
        Wanted::default()
    } else {
        let known = wanted.clone().with_known_doors(before);
        steps.push(
            known
                .clone()
                .filter_only(Wanted::again(before))
                .holding(held, &[]),
        );
        let doors_alone = known.without_progress();
        steps.push(doors_alone.clone().holding(held, &[]));
        doors_alone
    };
    steps.push(nothing.holding(held, early));
    steps.push(wanted.holding(held, &[]));
    steps
}

/// Puts the grants that come from elsewhere on their lists, before any rule asks for them.
fn carry(
    iptables: Iptables,
    turns: &[Turn],
    moved: &[(GrantList, IpAddr)],
    in_time: impl Fn() -> bool,
) -> Result<(), Failure> {
    if moved.is_empty() {
        return Ok(());
    }
    for turn in turns {
        let lists = Wanted::again(&turn.before).holding(&turn.held, &[]);
        iptables
            .restore(turn.family, &change(&turn.before, &lists))
            .map_err(|failure| back(iptables, turns, None, failure))?;
    }
    let entered = match in_time() {
        true => enter(moved),
        false => Err(Failure::unchanged(
            "another program kept this firewall busy, and grants would move with more time than \
             they have: try again",
        )),
    };
    entered.map_err(|failure| back(iptables, turns, None, failure))
}

/// Puts sources on lists.
fn enter<'m>(moved: impl IntoIterator<Item = &'m (GrantList, IpAddr)>) -> Result<(), Failure> {
    for (list, source) in moved {
        Iptables::add(
            &names::guests(list.family, list.prefix, &list.door),
            *source,
        )?;
        Iptables::add(&list.to_string(), *source)?;
    }
    Ok(())
}

/// Loads step by step, in each step one family after the other. When one is refused, all go back to
/// what they were.
fn load(iptables: Iptables, turns: &[Turn]) -> Result<(), Failure> {
    let most = turns.iter().map(|turn| turn.steps.len()).max().unwrap_or(0);
    for number in 0..most {
        for turn in turns {
            let Some(step) = turn.steps.get(number) else {
                continue;
            };
            let now = iptables.save(turn.family);
            let loaded = now.and_then(|now| iptables.restore(turn.family, &change(&now, step)));
            if let Err(failure) = loaded {
                return Err(back(iptables, turns, Some(turn.family), failure));
            }
        }
    }
    Ok(())
}

/// Puts all families back, after the rules of one of them were refused or before any were loaded.
fn back(iptables: Iptables, turns: &[Turn], refused: Option<Family>, failure: Failure) -> Failure {
    let mut said = failure.message;
    let mut left = Left::Unchanged;
    for turn in turns {
        let put = iptables.save(turn.family).and_then(|now| {
            if now.same_rules(&turn.before) {
                return Ok(false);
            }
            let before = Wanted::again(&turn.before);
            iptables.restore(turn.family, &change(&now, &before))?;
            Ok(true)
        });
        let rules = match turn.family {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        };
        match put {
            Ok(true) if refused.is_some_and(|family| family != turn.family) => {
                said = format!(
                    "{said}\nthe {rules} rules, which had been loaded, were put back as they were"
                );
            }
            Ok(_) => {}
            Err(second) => {
                said = format!("{said}\nand going back failed: {}", second.message);
                left = Left::Unknown;
            }
        }
    }
    Failure {
        message: said,
        left,
    }
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
    let rights = Rights::of(policy);
    let own: BTreeSet<GrantList> = own_lists(policy, family).into_iter().collect();
    let there = lists_of(actual);
    let kept: Vec<GrantList> = there
        .difference(&own)
        .filter(|list| may(&rights, list))
        .cloned()
        .collect();
    let script = render(policy, automaton, family, &kept);
    let fresh = iptables.save_fresh(family, &script.to_string())?;
    Ok(compare(family, &fresh, actual))
}

/// Our chains, of the families that have any.
///
/// # Errors
/// When they could not be read.
pub fn chains(iptables: Iptables) -> Result<Vec<(Family, Saved)>, Failure> {
    let mut found = Vec::new();
    for family in Iptables::families() {
        let running = iptables.save_if_there(family)?;
        if !running.is_empty() {
            found.push((family, running));
        }
    }
    Ok(found)
}

/// Takes these chains out of the firewall.
///
/// # Errors
/// When they could not be removed.
pub fn remove(iptables: Iptables, chains: &[(Family, Saved)]) -> Result<(), Failure> {
    for (family, running) in chains {
        iptables.restore(*family, &change(running, &Wanted::default()))?;
    }
    Ok(())
}

/// Returns whether the policy lets this list's holder have this door.
fn may(rights: &Rights, list: &GrantList) -> bool {
    rights.give(list.door.door_id(), list.holder.id())
}

/// Up to so many grants move with the second they have left; more in coarser steps, each by less than
/// a sixty-fourth of its time.
const MOST_LISTS: usize = 64;

/// The longest time from the text to the entries that it needs.
const MARGIN: Duration = Duration::from_secs(1);

/// Grants of another backend that the policy still gives, as entries of lists that last as long as
/// they have left when they are written `late`, to the second below. Those that end before are 0.
fn moved(policy: &Policy, grants: &[Grant], late: Duration) -> Vec<(GrantList, IpAddr)> {
    let doors: BTreeMap<DoorId, &Name> = policy
        .doors
        .iter()
        .map(|d| (d.name.door_id(), &d.name))
        .collect();
    let rights = Rights::of(policy);
    let moved = grants.iter().filter_map(|grant| {
        let left = grant.expires_in.saturating_sub(late).as_secs();
        let step = match grants.len() {
            few if few <= MOST_LISTS => 1,
            _ => (left / MOST_LISTS as u64).max(1),
        };
        let holder = match grant.opened_by.map(|opened| opened.key) {
            None | Some(KeyId::BY_HAND) => Holder::ByHand,
            Some(id) => {
                let mut names = policy.keys.iter().map(|key| &key.name);
                Holder::Key(names.find(|name| name.key_id() == id)?.clone())
            }
        };
        let list = GrantList {
            family: Family::of(grant.source.addr()),
            prefix: grant.source.prefix_len(),
            door: (*doors.get(&grant.door)?).clone(),
            holder,
            seconds: left / step * step,
            once: grant.once,
        };
        may(&rights, &list).then_some((list, grant.source.addr()))
    });
    moved.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::held::Opened;

    fn grant(door: &Name, last: u8, seconds: u64) -> Grant {
        let source = IpAddr::from([192, 0, 2, last]);
        let expires_in = Duration::from_secs(seconds);
        let opened = Opened {
            source,
            door: door.door_id(),
            key: KeyId::BY_HAND,
            expires_in,
            given_for: Duration::ZERO,
        };
        Grant {
            source: source.into(),
            door: door.door_id(),
            once: false,
            opened_by: Some(opened),
            expires_in,
            is_endless: false,
            stay: None,
        }
    }

    /// A long grant does not coarsen a short one; many do, and each by little.
    #[test]
    fn grants_move_with_the_time_they_have_left() {
        let policy = crate::policy::read("p", "[door.ssh]\nports = [22]\n").unwrap();
        let door = policy.doors[0].name.clone();
        let late = Duration::from_secs(1);
        let seconds = |grants: &[Grant]| -> Vec<u64> {
            let moved = moved(&policy, grants, late);
            moved.iter().map(|(list, _)| list.seconds).collect()
        };
        let few = [60, 86_400, 2_592_000, 1].map(|left| grant(&door, 1, left));
        assert_eq!(seconds(&few), [59, 86_399, 2_591_999, 0]);
        let many: Vec<Grant> = (0..200)
            .map(|i| grant(&door, i, 600 + u64::from(i)))
            .collect();
        for (grant, seconds) in many.iter().zip(seconds(&many)) {
            let left = grant.expires_in.as_secs() - 1;
            assert!(
                seconds <= left && seconds > left - left / 64 - 1,
                "{left} {seconds}"
            );
        }
        let lists: BTreeSet<u64> = seconds(&many).into_iter().collect();
        assert!(lists.len() <= 64);
    }
}
