//! The sequences, knock by knock, and what a complete one does.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::Plan;
use super::doors::kept_ends;
use super::recent::{absent, granted, masked, often, present, remove, seldom, set};
use crate::automaton::{State, Step};
use crate::knock::{KeyIndex, Knock, Protocol};
use crate::policy::{Key, Log, show};
use crate::ruleset::Family;
use crate::ruleset::iptables::OPENED;
use crate::ruleset::iptables::names::{
    GrantList, Holder, ONE_HOST, Spot, beginners, chain, crowd, opens_chain, port_chain,
    renew_chain, spot_chain, told,
};
use crate::ruleset::iptables::script::Table;
use crate::ruleset::log_prefix::{self, ROOM_IN_LOG, ROOM_IN_NFLOG};

impl Plan<'_> {
    /// Each key's sequence from its last knock to its first, as one reads it in the classic script:
    /// a source that has come so far, and knocks at this port, has come one further.
    pub(super) fn keys(&self, table: &mut Table, protocol: Protocol) {
        self.newcomers(table, protocol);
        for index in self.policy.key_indices() {
            let key = self.policy.key(index);
            let sequence = key.sequences().iter().flatten();
            let sequence: Vec<String> = sequence.map(|knock| knock.to_string()).collect();
            let doors = key.opens.iter().map(|opening| {
                let door = &self.policy.door(opening.door).name;
                format!("{door} for {}", show(opening.open_for))
            });
            let doors: Vec<String> = doors.collect();
            table.part(format!(
                "Key {}: {} opens {}.",
                key.name,
                sequence.join(" "),
                doors.join(" and ")
            ));
            if self.completes(index, protocol) {
                self.end(table, index, key);
            }
            let own = self.spots.iter().rev();
            for (&state, spot) in own.filter(|(_, spot)| spot.group == key.name.as_str()) {
                self.spot(table, protocol, state, spot);
            }
        }
        self.just_opened(table, protocol);
        self.longer_grants(table, protocol);
    }

    /// The rules for sources that are not midway.
    fn newcomers(&self, table: &mut Table, protocol: Protocol) {
        let knocks = self.knocks(protocol);
        if knocks.values().any(|&midway| midway) {
            table
                .part("Sources not midway: this knock begins a sequence, or (RETURN) begins none.");
        }
        let (midway, within) = (self.midway(), self.within());
        for (knock, _) in knocks.into_iter().filter(|&(_, midway)| midway) {
            let begins = match self.first.get(&knock) {
                Some(&step) => format!("-g {}", self.target(step)),
                None => "-j RETURN".to_string(),
            };
            let new = format!("-m recent --name {midway} ! --rcheck --seconds {within}");
            table.rule(&port_chain(knock), format!("{new} {begins}"));
        }
    }

    fn completes(&self, key: KeyIndex, protocol: Protocol) -> bool {
        self.last_knock(key)
            .is_some_and(|last| last.protocol == protocol)
    }

    /// Writes how a source comes to a spot, and that the same knock again does nothing there.
    fn spot(&self, table: &mut Table, protocol: Protocol, to: State, spot: &Spot) {
        let ways = self.ways.get(&to).map_or(&[][..], Vec::as_slice);
        let ways: Vec<(&Spot, Knock)> = ways
            .iter()
            .filter(|(_, knock)| knock.protocol == protocol)
            .map(|(from, knock)| (&self.spots[from], *knock))
            .collect();
        let here = spot_chain(spot);
        let echo = self
            .echoes
            .get(&to)
            .filter(|knock| knock.protocol == protocol);
        let Some(&echo) = echo else {
            return;
        };
        if !spot.group.starts_with('_') {
            table.note(format!("Knock {}, {echo}; again, it is an echo.", spot.own));
        }
        for (from, knock) in &ways {
            table.rule(
                &port_chain(*knock),
                format!("{} -g {here}", self.stands(from)),
            );
        }
        let echoed = format!("{} -m comment --comment echo -j RETURN", self.stands(spot));
        table.rule(&port_chain(echo), echoed);
        if self.first.values().any(|&step| step == Step::To(to)) {
            self.no_more_beginners_than_a_share(table, &here);
        }
        self.stand_on(table, spot);
        for (from, _) in ways {
            table.rule(&here, remove(&from.list(self.family)));
            if from.group != spot.group {
                table.rule(&here, remove(&from.group_list(self.family)));
            }
        }
    }

    /// An IPv6 network makes so many first knocks in the time in which they count, and no more: a full list would drop
    /// the sources of others midway.
    fn no_more_beginners_than_a_share(&self, table: &mut Table, here: &str) {
        if self.family == Family::V4 {
            return;
        }
        let beginners = masked(beginners(), self.family, ONE_HOST);
        let many = often(&beginners, self.within(), self.share());
        table.rule(here, format!("{many} -j RETURN"));
        table.rule(here, set(&beginners));
    }

    /// The part of a list that one IPv6 network may fill.
    fn share(&self) -> u32 {
        (self.policy.max_sources / 2).clamp(1, MOST_STAMPS)
    }

    fn stand_on(&self, table: &mut Table, spot: &Spot) {
        let chain = spot_chain(spot);
        table.rule(&chain, set(&self.midway()));
        table.rule(&chain, set(&spot.group_list(self.family)));
        table.rule(&chain, set(&spot.list(self.family)));
    }

    /// A sequence is complete.
    fn end(&self, table: &mut Table, index: KeyIndex, key: &Key) {
        let opens = opens_chain(&key.name);
        if let Some(last) = self.last_knock(index) {
            table.note(format!(
                "Knock {}, {last}: the last one.",
                key.sequences().first().map_or(0, Vec::len)
            ));
            for from in self.ends.get(&index).into_iter().flatten() {
                let stands = self.stands(&self.spots[from]);
                table.rule(&port_chain(last), format!("{stands} -g {opens}"));
            }
        }
        table.rule(&opens, format!("-j {}", chain("forget")));
        let leave = match self.after[index.0] {
            Some(state) => format!("-g {}", spot_chain(&self.spots[&state])),
            None => "-j RETURN".to_string(),
        };
        // A key that ends gives grants up to its last second, and in no case later.
        let gives = match key.expires {
            Some(end) => {
                let gives = chain(&format!("gives-{}", key.name));
                let last = moment((end - 1).max(0));
                table.rule(&opens, format!("-m time --datestop {last} -g {gives}"));
                table.rule(&opens, leave.clone());
                gives
            }
            None => opens,
        };
        let lists: Vec<&GrantList> = self.lists_of(key).collect();
        if let Some(list) = lists.first() {
            self.no_more_than_a_share(table, &gives, list, &leave);
        }
        for (number, list) in lists.iter().enumerate() {
            for other in self.once_lists(list) {
                table.rule(&gives, remove(&granted(other)));
            }
            table.rule(&gives, set(&self.guests(&list.door)));
            let counted = match number {
                0 => format!(" -m comment --comment {OPENED}"),
                _ => String::new(),
            };
            table.rule(&gives, format!("{}{counted}", set(&granted(list))));
            if !list.once {
                table.rule(&gives, format!("-j {}", renew_chain(&list.door)));
            }
            if self.longer(list).next().is_some() {
                table.rule(&gives, format!("-j {}", over_chain(list)));
            }
        }
        if let Some(told) = lists.iter().find_map(|list| self.told_apart(list)) {
            table.rule(&gives, set(&told));
        }
        for list in lists {
            if let Some(target) = self.logged(list, key) {
                table.rule(&gives, target);
            }
        }
        if self.after[index.0].is_some() {
            table.rule(&gives, leave);
        }
    }

    /// An IPv6 network lets in so many new sources in the time of the longest grant, and no more: a full list would
    /// drop the guests of others. Whoever is among the guests already takes no more room.
    fn no_more_than_a_share(&self, table: &mut Table, from: &str, list: &GrantList, leave: &str) {
        if self.family == Family::V4 || list.prefix <= ONE_HOST {
            return;
        }
        let longest = self.own.iter().map(|list| list.seconds).max();
        let crowd = masked(crowd(), self.family, ONE_HOST);
        let new = absent(&self.guests(&list.door));
        let held = often(&crowd, longest.unwrap_or_default(), self.share());
        table.rule(from, format!("{new} {held} {leave}"));
        table.rule(from, format!("{new} {}", set(&crowd)));
    }

    fn lists_of(&self, key: &Key) -> impl Iterator<Item = &GrantList> {
        let holder = Holder::Key(key.name.clone());
        self.own.iter().filter(move |list| list.holder == holder)
    }

    /// The other lists of one connection each for the same door: there is one such grant, not many.
    fn once_lists(&self, list: &GrantList) -> impl Iterator<Item = &GrantList> {
        let all = self.own.iter().chain(self.kept.iter().copied());
        let once = all.filter(move |other| list.once && other.once);
        once.filter(move |other| other.door == list.door && *other != list)
    }

    /// The lists of other keys on which a source could stay longer than the grant it has just been
    /// given.
    fn longer(&self, list: &GrantList) -> impl Iterator<Item = &GrantList> {
        let lasting = self
            .own
            .iter()
            .filter(move |other| !list.once && !other.once);
        lasting.filter(move |other| other.door == list.door && other.seconds > list.seconds)
    }

    /// The time of a grant restarts, whatever it was: longer ones end.
    fn longer_grants(&self, table: &mut Table, protocol: Protocol) {
        let keys = self
            .policy
            .key_indices()
            .filter(|&key| self.completes(key, protocol));
        let lists = keys.flat_map(|key| self.lists_of(self.policy.key(key)));
        let lists: Vec<&GrantList> = lists.filter(|list| !list.once).collect();
        if !lists.is_empty() {
            table.part("The last opening counts: a new grant ends longer ones.");
        }
        let mut done = HashSet::new();
        for list in lists {
            let renew = renew_chain(&list.door);
            if done.insert(renew.clone()) {
                let kept = self.kept.iter().filter(|kept| {
                    kept.door == list.door && !kept.once && kept.prefix == list.prefix
                });
                for kept in kept {
                    table.rule(&renew, kept_ends(kept));
                }
                table.rule(&renew, "-j RETURN");
            }
            let over = over_chain(list);
            if done.insert(over.clone()) {
                for other in self.longer(list) {
                    table.rule(&over, remove(&granted(other)));
                }
            }
        }
    }

    /// The spots of sources that have just opened: there, only the echo of the last knock is known.
    fn just_opened(&self, table: &mut Table, protocol: Protocol) {
        let keys = self
            .policy
            .key_indices()
            .filter(|&key| self.completes(key, protocol));
        let states: BTreeSet<State> = keys.filter_map(|key| self.after[key.0]).collect();
        if !states.is_empty() {
            table.part("Just opened: the last knock again begins nothing.");
        }
        for state in states {
            self.spot(table, protocol, state, &self.spots[&state]);
        }
    }

    /// Writes the rules for what is left: wrong knocks, and first ones.
    pub(super) fn everything_else(&self, table: &mut Table, protocol: Protocol) {
        table.part("Any other knock loses what there was, and may be a first one.");
        let (forget, wrong) = (chain("forget"), chain("wrong"));
        let lost = format!("{} -j {forget}", present(&self.midway()));
        for (knock, _) in self.knocks(protocol) {
            let from = port_chain(knock);
            table.rule(&from, lost.clone());
            if let Some(&step) = self.first.get(&knock) {
                table.rule(&from, format!("-g {}", self.target(step)));
            }
        }
        table.rule(&wrong, lost);
        table.rule(&forget, remove(&self.midway()));
        let mut groups: BTreeMap<&str, Vec<&Spot>> = BTreeMap::new();
        for spot in self.spots.values() {
            groups.entry(&spot.group).or_default().push(spot);
        }
        let below = |group: &str| chain(&format!("forget-{group}"));
        for (group, spots) in &groups {
            let gone = remove(&spots[0].group_list(self.family));
            table.rule(&forget, format!("{gone} -j {}", below(group)));
        }
        for (group, spots) in groups {
            for spot in spots {
                table.rule(&below(group), remove(&spot.list(self.family)));
            }
        }
    }

    /// Where a first knock leads.
    fn target(&self, step: Step) -> String {
        match step {
            Step::Complete(sequence) => opens_chain(&self.policy.key(sequence.key).name),
            Step::To(state) => spot_chain(&self.spots[&state]),
            Step::Echo => chain("wrong"),
        }
    }

    fn logged(&self, list: &GrantList, key: &Key) -> Option<String> {
        let (door, key) = (list.door.as_str(), key.name.as_str());
        match self.policy.log {
            Log::Off => None,
            Log::Kernel => {
                let prefix = log_prefix::within(door, key, ROOM_IN_LOG);
                let told = self.told_apart(list).unwrap_or_else(|| granted(list));
                Some(format!(
                    "{} -j LOG --log-level info --log-prefix \"{prefix}\"",
                    seldom(&told)
                ))
            }
            Log::Nflog(group) => {
                let prefix = log_prefix::within(door, key, ROOM_IN_NFLOG);
                Some(format!(
                    "-j NFLOG --nflog-group {group} --nflog-prefix \"{prefix}\""
                ))
            }
        }
    }

    /// The list that says how often a source has opened of late, where that of its grants does not: grants of one
    /// connection leave that, and networks are more than a source.
    fn told_apart(&self, list: &GrantList) -> Option<String> {
        let own = list.once || list.prefix < self.family.longest_prefix();
        let Holder::Key(key) = &list.holder else {
            return None;
        };
        let is_meant = own && self.policy.log == Log::Kernel;
        is_meant.then(|| told(self.family, key))
    }
}

/// The number of times a list remembers for each source, in kernels before 6.0 (`XT_RECENT_MAX_NSTAMPS`).
const MOST_STAMPS: u32 = 200;

/// The chain that ends grants longer than this one.
fn over_chain(list: &GrantList) -> String {
    chain(&format!("over-{}s-{}", list.seconds, list.door))
}

/// As `-m time` reads it, in UTC.
fn moment(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map_or_else(
        |_| seconds.to_string(),
        |time| time.strftime("%Y-%m-%dT%H:%M:%S").to_string(),
    )
}
