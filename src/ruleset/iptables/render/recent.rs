//! Matches on lists: `-m recent`.

use std::collections::BTreeSet;

use super::Plan;
use crate::policy::Name;
use crate::ruleset::Family;
use crate::ruleset::iptables::names::{GrantList, Spot, guests, midway};

/// Puts the source on a list, or renews its time there.
pub(super) fn set(list: &str) -> String {
    format!("-m recent --name {list} --set")
}

/// Takes the source off a list; no match when it was not on it.
pub(super) fn remove(list: &str) -> String {
    format!("-m recent --name {list} --remove")
}

/// The source was put on a list at most `seconds` s ago.
pub(super) fn seen(list: &str, seconds: u64) -> String {
    format!("-m recent --name {list} --rcheck --seconds {seconds}")
}

/// Matches unless the source has at least 11 stamps on the list in the last 10 s. A source that keeps opening faster
/// stays unlogged until it pauses.
pub(super) fn seldom(list: &str) -> String {
    const SECONDS: u64 = 10;
    const TIMES: u32 = 10;
    let more = TIMES + 1;
    format!("{} --seconds {SECONDS} --hitcount {more}", absent(list))
}

/// The source is on a list, however old its entry is.
pub(super) fn present(list: &str) -> String {
    format!("-m recent --name {list} --rcheck")
}

/// The source is not on a list.
pub(super) fn absent(list: &str) -> String {
    format!("-m recent --name {list} ! --rcheck")
}

/// The name of a list of grants with what its rules need besides.
pub(super) fn granted(list: &GrantList) -> String {
    masked(list.to_string(), list.family, list.prefix)
}

pub(super) fn masked(name: String, family: Family, prefix: u8) -> String {
    if prefix == family.longest_prefix() {
        name
    } else {
        format!("{name} --mask {}", family.mask(prefix))
    }
}

/// The source was put on a list at least `times` times in the last `seconds` s.
pub(super) fn often(list: &str, seconds: u64, times: u32) -> String {
    format!("{} --hitcount {times}", seen(list, seconds))
}

impl Plan<'_> {
    pub(super) fn midway(&self) -> String {
        midway(self.family)
    }

    pub(super) fn guests(&self, door: &Name) -> String {
        let prefix = self.family.prefix_of(self.policy.grant);
        masked(guests(self.family, prefix, door), self.family, prefix)
    }

    /// The lists that strangers are looked up in, and those that a source is forgotten by.
    pub(super) fn early(&self) -> Vec<String> {
        let doors = self.policy.doors.iter().map(|door| self.guests(&door.name));
        let groups: BTreeSet<String> = self
            .spots
            .values()
            .map(|spot| spot.group_list(self.family))
            .collect();
        let lists = [self.midway()].into_iter().chain(doors).chain(groups);
        lists.map(|list| present(&list)).collect()
    }

    /// The source stands on this spot. What forgets a source takes it off its group, so that counts
    /// too.
    pub(super) fn stands(&self, spot: &Spot) -> String {
        let within = self.within();
        let group = seen(&spot.group_list(self.family), within);
        format!("{group} {}", seen(&spot.list(self.family), within))
    }
}
