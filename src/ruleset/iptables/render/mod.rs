//! `Policy, Automaton --render--> Script`. Pure, and the same text for the same policy.

mod doors;
mod host;
mod inner;
mod keys;
mod ports;
mod recent;
mod way_in;

use std::collections::BTreeMap;

use super::names::{self, GrantList, Holder, Spot};
use super::script::{Script, Table};
use crate::automaton::{Automaton, Place, State, Step};
use crate::knock::{KeyIndex, Knock, Protocol};
use crate::policy::{Key, Opening, Policy, show};
use crate::ruleset::Family;
pub use doors::{kept_ends, kept_rule};

/// Compiles a policy for one family. `automaton` is that of the same policy; `kept` are lists of
/// grants that the policy itself does not make: by hand, carried over, of a time that has changed.
pub fn render(
    policy: &Policy,
    automaton: &Automaton,
    family: Family,
    kept: &[GrantList],
) -> Script {
    let plan = Plan::new(policy, automaton, family, kept);
    let mut inner = match policy.judges_udp() {
        true => plan.table(Protocol::Udp),
        false => Table::new(names::table_of(Protocol::Udp)),
    };
    plan.inner(&mut inner);
    let mut tables = vec![plan.table(Protocol::Tcp), inner];
    if let Some(firewall) = &policy.firewall {
        tables.push(plan.host(firewall));
    }
    Script {
        family,
        header: header(policy, family),
        tables,
    }
}

/// Matches for the lists that should be made before all others, of both families.
pub fn early(policy: &Policy, automaton: &Automaton, family: Family) -> Vec<String> {
    Plan::new(policy, automaton, family, &[]).early()
}

/// The lists of grants that the policy itself makes.
pub fn own_lists(policy: &Policy, family: Family) -> Vec<GrantList> {
    let keys = policy.keys.iter();
    let lists = keys.flat_map(|key| {
        key.opens
            .iter()
            .map(move |o| grant_list(policy, family, key, o))
    });
    lists.collect()
}

fn grant_list(policy: &Policy, family: Family, key: &Key, opening: &Opening) -> GrantList {
    GrantList {
        family,
        prefix: family.prefix_of(policy.grant),
        door: policy.door(opening.door).name.clone(),
        holder: Holder::Key(key.name.clone()),
        seconds: opening.open_for.as_secs(),
        once: key.once,
    }
}

/// The plan that all parts of the text are written from.
struct Plan<'p> {
    policy: &'p Policy,
    family: Family,
    /// In the order of their names.
    kept: Vec<&'p GrantList>,
    own: Vec<GrantList>,
    /// Where each state is kept. A state that could only be echoed without effect has no place.
    spots: BTreeMap<State, Spot>,
    /// The step of each knock from a source that is not midway.
    first: BTreeMap<Knock, Step>,
    /// The knock that led to each state: its echo.
    echoes: BTreeMap<State, Knock>,
    /// The ways to each state: from where, by which knock.
    ways: BTreeMap<State, Vec<(State, Knock)>>,
    /// The states from which each key's sequence is completed.
    ends: BTreeMap<KeyIndex, Vec<State>>,
    /// For each key, the spot of sources that have just opened with it, if it is worth keeping.
    after: Vec<Option<State>>,
}

impl<'p> Plan<'p> {
    fn new(
        policy: &'p Policy,
        automaton: &Automaton,
        family: Family,
        kept: &'p [GrantList],
    ) -> Plan<'p> {
        let mut kept: Vec<&GrantList> = kept.iter().filter(|list| list.family == family).collect();
        kept.sort_by_key(|list| list.to_string());
        let mut plan = Plan {
            policy,
            family,
            kept,
            own: own_lists(policy, family),
            spots: BTreeMap::new(),
            first: BTreeMap::new(),
            echoes: BTreeMap::new(),
            ways: BTreeMap::new(),
            ends: BTreeMap::new(),
            after: Vec::new(),
        };
        let from_root = automaton
            .table()
            .take_while(|(state, ..)| *state == State::ROOT);
        plan.first = from_root.map(|(_, knock, step)| (knock, step)).collect();
        for state in (0u32..).map(State).take(automaton.state_count()) {
            let Some(place) = automaton.place(state) else {
                continue;
            };
            // A source that has just opened must not begin anew with an echo of the last knock; where no
            // sequence begins with it, there is nothing to remember.
            let idle = matches!(place, Place::Done(knock) if !plan.first.contains_key(knock));
            if let Some(spot) = Spot::of(policy, place).filter(|_| !idle) {
                plan.spots.insert(state, spot);
            }
        }
        for (state, knock, step) in automaton.table() {
            if !plan.spots.contains_key(&state) {
                continue;
            }
            match step {
                Step::Echo => {
                    plan.echoes.insert(state, knock);
                }
                Step::To(to) => plan.ways.entry(to).or_default().push((state, knock)),
                Step::Complete(sequence) => {
                    plan.ends.entry(sequence.key).or_default().push(state);
                }
            }
        }
        let after = policy.sequences().map(|(index, _)| automaton.after(index));
        plan.after = after
            .map(|state| plan.spots.contains_key(&state).then_some(state))
            .collect();
        plan
    }

    /// All of one protocol.
    fn table(&self, protocol: Protocol) -> Table {
        let mut table = Table::new(names::table_of(protocol));
        self.way_in(&mut table, protocol);
        self.doors(&mut table, protocol);
        self.keys(&mut table, protocol);
        self.everything_else(&mut table, protocol);
        table
    }

    /// All knocks of one protocol, in order, and whether sources midway can do anything with them.
    fn knocks(&self, protocol: Protocol) -> BTreeMap<Knock, bool> {
        let mut knocks: BTreeMap<Knock, bool> =
            self.first.keys().map(|&knock| (knock, false)).collect();
        let ways = self.ways.values().flatten().map(|&(_, knock)| knock);
        let ends = self.ends.keys().filter_map(|&key| self.last_knock(key));
        for knock in self.echoes.values().copied().chain(ways).chain(ends) {
            knocks.insert(knock, true);
        }
        knocks.retain(|knock, _| knock.protocol == protocol);
        knocks
    }

    fn last_knock(&self, key: KeyIndex) -> Option<Knock> {
        let sequence = self.policy.key(key).sequences().first()?;
        sequence.last().copied()
    }

    fn within(&self) -> u64 {
        self.policy.within.as_secs()
    }
}

fn header(policy: &Policy, family: Family) -> Vec<String> {
    let program = match family {
        Family::V4 => "iptables-restore",
        Family::V6 => "ip6tables-restore",
    };
    vec![
        format!(
            "toctoc: {}, {}; knocks at most {} apart. For {program} --noflush.",
            count(policy.doors.len(), "door"),
            count(policy.keys.len(), "key"),
            show(policy.within),
        ),
        "Written from a policy file. Change that, not this.".to_string(),
        String::new(),
        "This is for a host without our chains; `toctoc apply` replaces them, in both families, and"
            .to_string(),
        "keeps live grants.".to_string(),
        String::new(),
        "A packet goes: toctoc -> toctoc-ports -> toctoc-door-NAME, or toctoc-tcp-PORT ->".to_string(),
        "toctoc-knock-KEY-N (stands there now), toctoc-opens-KEY (may pass now) or toctoc-forget."
            .to_string(),
        "Before delivery (mangle INPUT): toctoc-inner -> toctoc-inner-tcp -> toctoc-inner-door-NAME:"
            .to_string(),
        "the door again.".to_string(),
        String::new(),
        "The lists are in /proc/net/xt_recent. A source is on at most one list of progress: where it"
            .to_string(),
        "stands in a sequence. A door is open to the sources on the lists that bear its name.".to_string(),
    ]
}

fn count(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}
