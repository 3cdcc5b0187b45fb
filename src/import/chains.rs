//! Chains of rules that put sources into lists, port after port: the sequences that they mean.
//!
//! A rule that puts a source into a list is an edge: from the list that the source must be in, by a port, to the
//! list that it comes into. A rule that accepts a source of a list is a door. A sequence is a way along the edges
//! to the list of a door. Jumps are followed, so that the conditions of a jump count for the chain behind it.

use std::collections::HashMap;

use super::draft::{Draft, DraftKey, DraftWay};
use super::place::{Beside, Opened, Place};
use super::rule::{
    self, Judgement, Knocker, ListUse, Match, Operation, Rule, Verdict, is_accepting,
};
use crate::knock::Knock;
use crate::policy::KnockAt;

/// The chains of a script.
#[derive(Debug, Default)]
pub(super) struct Chains {
    chains: Vec<Chain>,
    places: HashMap<(String, String), usize>,
}

#[derive(Debug)]
struct Chain {
    /// The name that tells what its packets are: that of iptables for a hook of nft.
    way: String,
    rules: Vec<Rule>,
}

impl Chains {
    fn chain(&mut self, table: &str, name: &str) -> &mut Chain {
        let key = (table.to_string(), name.to_string());
        let place = *self.places.entry(key).or_insert(self.chains.len());
        if place == self.chains.len() {
            self.chains.push(Chain {
                way: name.to_string(),
                rules: Vec::new(),
            });
        }
        &mut self.chains[place]
    }

    /// Says at which hook a chain of nft is.
    pub fn hook(&mut self, table: &str, name: &str, hook: &str) {
        self.chain(table, name).way = hook.to_ascii_uppercase();
    }

    /// Puts a rule where the command puts it, or takes rules away.
    pub fn place(&mut self, table: &str, rule: Rule) {
        if rule.operation == Operation::Flush {
            let is_meant = |(of, name): &(String, String)| {
                of == table && (rule.chain.is_empty() || *name == rule.chain)
            };
            let meant = self.places.iter().filter(|(key, _)| is_meant(key));
            for (_, &place) in meant {
                self.chains[place].rules.clear();
            }
            return;
        }
        let chain = self.chain(table, &rule.chain.clone());
        match rule.operation {
            Operation::Append => chain.rules.push(rule),
            Operation::Insert(place) => {
                let place = place.min(chain.rules.len());
                chain.rules.insert(place, rule);
            }
            Operation::Replace(place) => {
                if let Some(old) = chain.rules.get_mut(place) {
                    *old = rule;
                }
            }
            Operation::RemoveAt(place) => {
                if place < chain.rules.len() {
                    chain.rules.remove(place);
                }
            }
            Operation::Remove => {
                let same = |other: &Rule| {
                    let operation = other.operation;
                    *other
                        == Rule {
                            operation,
                            ..rule.clone()
                        }
                };
                if let Some(place) = chain.rules.iter().position(same) {
                    chain.rules.remove(place);
                }
            }
            Operation::Flush | Operation::Other => {}
        }
    }

    pub fn is_empty(&self) -> bool {
        self.chains.iter().all(|chain| chain.rules.is_empty())
    }
}

/// A rule that puts sources into a list.
#[derive(Debug)]
struct Edge {
    /// The lists that the source must be in; the last is the nearest.
    from: Vec<String>,
    knock: Result<Knock, String>,
    /// Its packets are on their way to hosts behind this one.
    is_behind: bool,
    to: String,
    /// The time that it stays there.
    seconds: Option<u64>,
}

/// A rule that lets sources of a list in.
#[derive(Debug)]
struct Door {
    from: Vec<String>,
    seconds: Option<u64>,
    opens: Judgement,
}

#[derive(Debug, Default)]
struct Found {
    edges: Vec<Edge>,
    doors: Vec<Door>,
    /// The longest time that a rule which opens nothing gives a list.
    pauses: HashMap<String, u64>,
    /// Translations that ask no list, and masquerades.
    beside: Beside,
    visits: usize,
}

/// More than any ruleset of people has.
const MOST_VISITS: usize = 50_000;
const MOST_WAYS: usize = 64;
/// Edges that are looked at for all doors together.
const MOST_STEPS: usize = 2_000_000;
const DEEPEST: usize = 30;
const LONGEST_WAY: usize = 100;

/// Adds the keys that the chains mean to a draft.
pub(super) fn draft(chains: &Chains, draft: &mut Draft, arrays: &[(String, Vec<Knock>)]) {
    let mut found = Found::default();
    for root in roots(chains) {
        let way = chains.chains[root].way.clone();
        let start = Rule {
            chain: way,
            ..Rule::default()
        };
        walk(chains, root, &start, &mut found, 0);
    }
    if found.visits > MOST_VISITS {
        draft.remarks.push(format!(
            "There are more than {MOST_VISITS} rules on the ways through the chains: the rest was not read."
        ));
    }
    let mut steps = 0;
    let mut used = Vec::new();
    let mut reasons: Vec<(String, String)> = Vec::new();
    for door in &found.doors {
        let Some(list) = door.from.last() else {
            continue;
        };
        let (ways, several) = found.ways(&door.from, &mut steps);
        if ways.is_empty() {
            let reason =
                several.unwrap_or_else(|| "no knock puts a source into this list".to_string());
            reasons.push((format!("the list {list}"), reason));
            continue;
        }
        let (opens, everything, remarks) = match &door.opens {
            Judgement::Opens { opens, remarks } => (opens.as_slice(), false, remarks),
            Judgement::Everything { remarks } => (&[][..], true, remarks),
            Judgement::Not(reason) => {
                reasons.push((format!("the list {list}"), reason.clone()));
                continue;
            }
            Judgement::Closes | Judgement::Nothing => continue,
        };
        for way in ways {
            let at_the_door = |knock: &Knock| {
                let mut opens = opens.iter();
                opens.any(|opened| {
                    opened.is_at_this_host() != way.is_behind && opened.ports.contains(*knock)
                })
            };
            if way.knocks.iter().any(at_the_door) {
                let reason =
                    "its knocks are connections to the door itself: a limit, not a sequence";
                reasons.push((format!("the list {list}"), reason.to_string()));
                continue;
            }
            let array = arrays.iter().find(|(_, knocks)| *knocks == way.knocks);
            let called = array.map_or(list.as_str(), |(name, _)| name);
            used.extend(array.map(|(name, _)| name.clone()));
            let mut said = vec![match array {
                Some((name, _)) => format!("the array {name}"),
                None => format!("the list {list}"),
            }];
            said.extend(remarks.iter().cloned());
            let open_for = door.seconds.or(way.last_seconds);
            if open_for.is_none() {
                said.push("open there without an end; here a grant ends by itself".to_string());
            }
            let opens: Vec<Opened> = opens.iter().map(|opened| heard(opened, &way)).collect();
            if way.is_behind && opens.iter().any(Opened::is_at_this_host) {
                said.push(
                    "its knocks were heard on the way to other hosts; here they are heard at this one"
                        .to_string(),
                );
            }
            draft.widen(way.pause);
            draft.add(DraftKey {
                called: called.to_lowercase(),
                everything,
                opens,
                way: DraftWay::Sequence(way.knocks),
                open_for,
                remarks: said,
            });
        }
    }
    draft.join(&found.beside);
    reasons.sort();
    reasons.dedup();
    for (name, reason) in reasons {
        draft.leave_out(name, reason);
    }
    for (name, _) in arrays {
        if !used.contains(name) {
            draft.leave_out(
                format!("the array {name}"),
                "no rule that can be followed uses its ports as knocks",
            );
        }
    }
}

/// The ports with the addresses at which the knocks of a way are heard.
fn heard(opened: &Opened, way: &Way) -> Opened {
    let mut opened = opened.clone();
    if let (Place::Behind(_, knock_at), true) = (&mut opened.place, way.is_behind) {
        *knock_at = KnockAt::Both;
    }
    opened
}

/// The chains that no rule leads to.
fn roots(chains: &Chains) -> Vec<usize> {
    let mut targets = vec![false; chains.chains.len()];
    for ((table, _), &place) in &chains.places {
        for rule in &chains.chains[place].rules {
            if let Verdict::Jump(name) | Verdict::Goto(name) = &rule.verdict
                && let Some(&target) = chains.places.get(&(table.clone(), name.clone()))
                && target != place
            {
                targets[target] = true;
            }
        }
    }
    (0..targets.len())
        .filter(|&place| !targets[place])
        .collect()
}

/// Follows a chain. `before` has the conditions of the jumps to it.
fn walk(chains: &Chains, place: usize, before: &Rule, found: &mut Found, depth: usize) {
    let Some(table) = chains.places.iter().find(|(_, at)| **at == place) else {
        return;
    };
    let table = &table.0.0;
    let mut before = before.clone();
    for rule in &chains.chains[place].rules {
        found.visits += 1;
        if found.visits > MOST_VISITS {
            return;
        }
        let whole = both(&before, rule);
        found.note(&whole, rule);
        match &rule.verdict {
            Verdict::Jump(name) | Verdict::Goto(name) => {
                let target = chains.places.get(&(table.clone(), name.clone()));
                if let Some(&target) = target
                    && depth < DEEPEST
                {
                    let mut whole = whole;
                    // The source that the jump puts into a list is noted already.
                    whole
                        .lists
                        .retain(|used| !matches!(used, ListUse::Enter(..)));
                    whole.verdict = Verdict::None;
                    walk(chains, target, &whole, found, depth + 1);
                }
            }
            // A gate: from here on, the source is in the list.
            Verdict::Return | Verdict::Refuse(_)
                if rule.ports == Match::Any && rule.states.is_none() =>
            {
                let lists = rule.lists.iter().filter_map(|used| match used {
                    ListUse::NotIn(list, seconds) => Some(ListUse::In(list.clone(), *seconds)),
                    _ => None,
                });
                let lists: Vec<ListUse> = lists.collect();
                before.lists.extend(lists);
            }
            _ => {}
        }
    }
}

/// The conditions of two rules, one after the other.
fn both(before: &Rule, rule: &Rule) -> Rule {
    let mut whole = rule.clone();
    whole.chain = before.chain.clone();
    if whole.protocol == Match::Any {
        whole.protocol = before.protocol.clone();
    }
    if whole.ports == Match::Any {
        whole.ports = before.ports.clone();
    }
    if whole.destination == Match::Any {
        whole.destination = before.destination.clone();
    }
    if whole.source == Match::Any {
        whole.source = before.source.clone();
    }
    if whole.interface == Match::Any {
        whole.interface = before.interface.clone();
    }
    if whole.out == Match::Any {
        whole.out = before.out.clone();
    }
    if whole.states.is_none() {
        whole.states = before.states.clone();
    }
    whole.lists = before.lists.clone();
    whole.lists.extend(rule.lists.iter().cloned());
    whole.conditions = before.conditions.clone();
    whole.conditions.extend(rule.conditions.iter().cloned());
    whole
}

impl Found {
    /// Notes the edges and the door of a rule; `whole` has the conditions of the jumps too.
    fn note(&mut self, whole: &Rule, rule: &Rule) {
        let from: Vec<String> = whole.lists.iter().filter_map(must_be_in).collect();
        for used in &rule.lists {
            if let ListUse::Enter(to, seconds) = used {
                let edge = Edge {
                    from: from.clone(),
                    knock: knock(whole),
                    is_behind: whole.way() == rule::Way::Through,
                    to: to.clone(),
                    seconds: *seconds,
                };
                self.edges.push(edge);
            }
        }
        if whole.is_masquerade() {
            self.beside.masquerades.push(whole.clone());
        }
        if from.is_empty()
            && matches!(rule.verdict, Verdict::Translate(_))
            && let Judgement::Opens { opens, .. } = whole.judge(Knocker::Listed)
        {
            self.beside.translations.extend(opens);
        }
        let seconds = whole.lists.iter().rev().find_map(|used| match used {
            ListUse::In(_, seconds) => *seconds,
            _ => None,
        });
        let lets_in = match &rule.verdict {
            Verdict::Accept | Verdict::Translate(_) | Verdict::Redirect(_) => true,
            Verdict::Jump(name) | Verdict::Goto(name) => is_accepting(name),
            _ => false,
        };
        // A rule that puts the source into another list is a knock, whatever it does with the packet.
        let is_knock = rule.lists.iter().any(|used| match used {
            ListUse::Enter(list, _) => !from.contains(list),
            _ => false,
        });
        if lets_in && !is_knock && !from.is_empty() {
            self.doors.push(Door {
                from,
                seconds,
                opens: whole.judge(Knocker::Listed),
            });
            return;
        }
        for used in &whole.lists {
            if let ListUse::In(list, Some(seconds)) = used {
                let pause = self.pauses.entry(list.clone()).or_default();
                *pause = (*pause).max(*seconds);
            }
        }
        // `! --rcheck -j DROP` at a port: those of the list alone get past it.
        let lacks: Vec<String> = rule.lists.iter().filter_map(must_not_be_in).collect();
        if matches!(rule.verdict, Verdict::Refuse(_))
            && rule.ports != Match::Any
            && !lacks.is_empty()
        {
            let accepts = Rule {
                verdict: Verdict::Accept,
                ..whole.clone()
            };
            let seconds = rule.lists.iter().find_map(|used| match used {
                ListUse::NotIn(_, seconds) => *seconds,
                _ => None,
            });
            self.doors.push(Door {
                from: lacks,
                seconds,
                opens: accepts.judge(Knocker::Listed),
            });
        }
    }

    /// The ways from nowhere to the nearest list that knocks lead to, or why a knock is none.
    fn ways(&self, from: &[String], steps: &mut usize) -> (Vec<Way>, Option<String>) {
        let mut search = Search {
            found: self,
            steps,
            several: None,
        };
        for list in from.iter().rev() {
            let ways = search.to(list, &mut Vec::new());
            if !ways.is_empty() {
                return (ways, None);
            }
        }
        (Vec::new(), search.several)
    }
}

/// A way along the edges.
#[derive(Debug, Clone)]
struct Way {
    knocks: Vec<Knock>,
    /// Some of them are for hosts behind this one.
    is_behind: bool,
    /// The longest time between two knocks.
    pause: Option<u64>,
    /// The time that the source stays in the last list.
    last_seconds: Option<u64>,
}

struct Search<'f> {
    found: &'f Found,
    steps: &'f mut usize,
    several: Option<String>,
}

impl Search<'_> {
    /// The ways to a list that pass no list twice.
    fn to(&mut self, list: &str, passed: &mut Vec<String>) -> Vec<Way> {
        let mut ways: Vec<Way> = Vec::new();
        *self.steps += self.found.edges.len() + 1;
        if *self.steps > MOST_STEPS
            || passed.len() > LONGEST_WAY
            || passed.iter().any(|p| p == list)
        {
            return ways;
        }
        passed.push(list.to_string());
        for edge in self.found.edges.iter().filter(|edge| edge.to == list) {
            let knock = match &edge.knock {
                Ok(knock) => *knock,
                Err(reason) => {
                    self.several = Some(reason.clone());
                    continue;
                }
            };
            let starts = match edge.from.last() {
                None => vec![Way {
                    knocks: Vec::new(),
                    is_behind: false,
                    pause: None,
                    last_seconds: None,
                }],
                Some(_) => {
                    let mut starts = Vec::new();
                    for from in edge.from.iter().rev() {
                        starts = self.to(from, passed);
                        let pause = self.found.pauses.get(from).copied();
                        for way in &mut starts {
                            way.pause = way.pause.max(pause).max(way.last_seconds);
                        }
                        if !starts.is_empty() || passed.contains(from) {
                            break;
                        }
                    }
                    starts
                }
            };
            for mut way in starts {
                way.knocks.push(knock);
                way.is_behind |= edge.is_behind;
                way.last_seconds = edge.seconds;
                let known = ways.iter().any(|other| other.knocks == way.knocks);
                if !known && ways.len() < MOST_WAYS {
                    ways.push(way);
                }
            }
        }
        passed.pop();
        ways
    }
}

fn must_be_in(used: &ListUse) -> Option<String> {
    match used {
        ListUse::In(list, _) | ListUse::Leave(list) => Some(list.clone()),
        _ => None,
    }
}

fn must_not_be_in(used: &ListUse) -> Option<String> {
    match used {
        ListUse::NotIn(list, _) => Some(list.clone()),
        _ => None,
    }
}

/// The one knock that a rule is about.
fn knock(rule: &Rule) -> Result<Knock, String> {
    let (ranges, _) = rule.ranges()?;
    match ranges[..] {
        [range] if !range.is_several() => Ok(range.first()),
        _ => Err(
            "one of its knocks may be at several ports: a sequence has one port for each"
                .to_string(),
        ),
    }
}
