//! From what the kernel holds to what it shall hold, as one text for `iptables-restore --noflush`.
//! Each table of it is one transaction.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::OPENED;
use super::hook::Hook;
use super::names::{self, GrantList};
use super::saved::{Saved, SavedRule, option};
use super::script::Script;

/// Our chains of one family as they shall be.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Wanted(BTreeMap<String, WantedTable>);

#[derive(Debug, Clone, Default, PartialEq)]
struct WantedTable {
    jumps: Vec<(String, String)>,
    /// Each chain with its rules, `-A CHAIN RULE` and maybe the rule's counters in front.
    chains: Vec<(String, Vec<String>)>,
}

/// The chain that does nothing but mention lists: the kernel forgets a list that no rule mentions.
const HOLD: &str = "hold";

impl Wanted {
    /// The rules of a script, the counts of openings going on from where they are.
    pub fn script(script: &Script, running: &Saved) -> Wanted {
        let tables = script.tables.iter().map(|table| {
            let jumps = table.jumps.iter();
            let jumps = jumps.map(|(from, to)| (from.to_string(), format!("-j {to}")));
            let chains = table.chains().into_iter().map(|(chain, rules)| {
                let written = rules.iter().map(|rule| {
                    let counted = option(rule, "--comment") == Some(OPENED);
                    match opened(running, chain).filter(|_| counted) {
                        Some(SavedRule { packets, bytes, .. }) => {
                            format!("[{packets}:{bytes}] -A {chain} {rule}")
                        }
                        None => format!("-A {chain} {rule}"),
                    }
                });
                (chain.to_string(), written.collect())
            });
            let table_wanted = WantedTable {
                jumps: jumps.collect(),
                chains: chains.collect(),
            };
            (table.name.to_string(), table_wanted)
        });
        Wanted(tables.collect())
    }

    /// The rules that were there, to go back to them.
    pub fn again(saved: &Saved) -> Wanted {
        let tables = saved.tables.iter().map(|(name, table)| {
            let chains = table.chains.iter().map(|(chain, rules)| {
                let written = rules
                    .iter()
                    .map(|r| format!("[{}:{}] -A {chain} {}", r.packets, r.bytes, r.rule));
                (chain.clone(), written.collect())
            });
            let wanted = WantedTable {
                jumps: table.jumps.clone(),
                chains: chains.collect(),
            };
            (name.clone(), wanted)
        });
        Wanted(tables.collect())
    }

    /// The same without whatever knows how far a source has come: the doors alone. Loaded in between,
    /// it makes the kernel forget all progress, which would mean something else to new sequences.
    pub fn without_progress(mut self) -> Wanted {
        let is_progress = |word: &str| {
            let ours = word.starts_with("toctoc4") || word.starts_with("toctoc6");
            let of_doors = names::parse_guests(word).is_some()
                || GrantList::parse(word).is_some()
                || names::is_admitted(word);
            ours && !of_doors
        };
        for (_, rules) in self.0.values_mut().flat_map(|table| &mut table.chains) {
            rules.retain(|rule| !rule.split(' ').any(is_progress));
        }
        self
    }

    /// The same, letting in through `[firewall]` only those door ports that the running one lets in
    /// too. A door that comes must be guarded before it is let in, one that goes until it is not.
    pub fn with_known_doors(mut self, running: &Saved) -> Wanted {
        let what = |rule: &str| {
            let words = ["-i", "-p", "--dports"].map(|word| option(rule, word).map(str::to_string));
            (option(rule, "--comment") == Some(super::DOOR)).then_some(words)
        };
        let there = running.tables.get("filter").into_iter();
        let there = there.flat_map(|table| table.chains.values().flatten());
        let known: Vec<_> = there.filter_map(|rule| what(&rule.rule)).collect();
        if let Some(table) = self
            .0
            .get_mut("filter")
            .filter(|_| running.tables.contains_key("filter"))
        {
            for (_, rules) in &mut table.chains {
                rules.retain(|rule| what(rule).is_none_or(|door| known.contains(&door)));
            }
        }
        self
    }

    /// This one's filter table if it has one, and everything else of `other`. A `[firewall]` that goes
    /// stays until the doors of the new policy are guarded.
    pub fn filter_only(mut self, mut other: Wanted) -> Wanted {
        other.0.extend(self.0.remove_entry("filter"));
        other
    }

    /// The same, and none of these lists is forgotten; `early` are made if they are not there.
    pub fn holding<'l>(
        mut self,
        lists: impl IntoIterator<Item = &'l GrantList>,
        early: &[String],
    ) -> Wanted {
        let hold = names::chain(HOLD);
        let early = early.iter().map(|rule| format!("-A {hold} {rule}"));
        let rules: Vec<String> = early.chain(lists.into_iter().map(mention)).collect();
        if !rules.is_empty() {
            let table = self.0.entry("raw".to_string()).or_default();
            table.chains.push((names::chain(HOLD), rules));
        }
        self
    }
}

/// The rule that counts a chain's openings.
fn opened<'s>(running: &'s Saved, chain: &'s str) -> Option<&'s SavedRule> {
    let mut rules = running.rules(chain);
    rules.find(|rule| option(&rule.rule, "--comment") == Some(OPENED))
}

/// A rule that mentions a list and the list of all grants it belongs to, and does nothing.
fn mention(list: &GrantList) -> String {
    let mask = list.family.mask(list.prefix);
    let all = names::guests(list.family, list.prefix, &list.door);
    let present = |name: String| format!("-m recent --name {name} --mask {mask} --rcheck");
    let (all, list) = (present(all), present(list.to_string()));
    format!("-A {} {all} {list}", names::chain(HOLD))
}

/// The text that makes `wanted` of what is there, and touches nothing that is not ours. Empty when
/// there is nothing to do.
pub fn change(running: &Saved, wanted: &Wanted) -> String {
    let names: BTreeSet<&String> = running.tables.keys().chain(wanted.0.keys()).collect();
    // Tables that guard come before those that let in: raw and mangle, then filter.
    let mut names: Vec<&String> = names.into_iter().collect();
    names.sort_by_key(|name| {
        ["raw", "mangle"]
            .iter()
            .position(|n| n == name)
            .unwrap_or(2)
    });
    let (no_table, nothing) = (Default::default(), WantedTable::default());
    let mut text = String::new();
    for name in names {
        let old = running.tables.get(name).unwrap_or(&no_table);
        let new = wanted.0.get(name).unwrap_or(&nothing);
        let stay: BTreeSet<&String> = new.chains.iter().map(|(chain, _)| chain).collect();
        let gone: Vec<&String> = old.chains.keys().filter(|c| !stay.contains(c)).collect();
        let _ = writeln!(text, "*{name}");
        // A chain that is declared is emptied if it is there.
        for chain in new
            .chains
            .iter()
            .map(|(chain, _)| chain)
            .chain(gone.iter().copied())
        {
            let _ = writeln!(text, ":{chain} - [0:0]");
        }
        for (chain, rule) in &old.jumps {
            let _ = writeln!(text, "-D {chain} {rule}");
        }
        for rule in new.chains.iter().flat_map(|(_, rules)| rules) {
            let _ = writeln!(text, "{rule}");
        }
        for (chain, rule) in &new.jumps {
            let _ = writeln!(text, "-I {chain} {rule}");
        }
        for chain in gone {
            let _ = writeln!(text, "-X {chain}");
        }
        let _ = writeln!(text, "COMMIT");
    }
    text
}

/// The text that forgets what was only held.
pub fn let_go() -> String {
    let hold = names::chain(HOLD);
    format!("*raw\n:{hold} - [0:0]\n-X {hold}\nCOMMIT\n")
}

/// The lists of grants that the rules in the kernel mention.
pub fn lists_of(running: &Saved) -> BTreeSet<GrantList> {
    let chains = running
        .tables
        .values()
        .flat_map(|table| table.chains.values());
    let words = chains.flatten().flat_map(|rule| rule.rule.split(' '));
    words.filter_map(GrantList::parse).collect()
}

/// The text that adds a list made by hand to the rules of its door; `None` when it is there, or there
/// is no such door.
pub fn add_list(running: &Saved, list: &GrantList) -> Option<String> {
    let own = [
        (
            Hook::Prerouting.door_chain(&list.door),
            super::render::kept_rule(list, Hook::Prerouting),
        ),
        (
            Hook::Input.door_chain(&list.door),
            super::render::kept_rule(list, Hook::Input),
        ),
        (
            names::renew_chain(&list.door),
            super::render::kept_ends(list),
        ),
    ];
    let mut text = String::new();
    for (table, saved) in &running.tables {
        let mut rules = Vec::new();
        for (chain, rule) in &own {
            // Those lists come first, in the order of their names.
            let there = saved.chains.get(chain).map_or(&[][..], Vec::as_slice);
            let short = there
                .iter()
                .position(|rule| rule.rule.contains("! --rcheck"));
            let first = short.map_or(0, |short| short + 1);
            let kept = there[first..].iter().map(|rule| &rule.rule);
            let kept = kept.take_while(|rule| option(rule, "--comment") == Some(super::KEPT));
            let kept = kept.filter_map(|rule| rule.split(' ').find_map(GrantList::parse));
            let kept: Vec<GrantList> = kept.filter(|kept| !kept.once).collect();
            if saved.chains.contains_key(chain) && !kept.contains(list) {
                let before = kept
                    .iter()
                    .filter(|kept| kept.to_string() < list.to_string());
                rules.push(format!("-I {chain} {} {rule}", first + before.count() + 1));
            }
        }
        if !rules.is_empty() {
            let _ = writeln!(text, "*{table}\n{}\nCOMMIT", rules.join("\n"));
        }
    }
    (!text.is_empty()).then_some(text)
}

/// The length of the networks that the rules in the kernel grant to.
pub fn prefix_of(running: &Saved) -> Option<u8> {
    let rules = running.rules(names::CHAIN);
    let names = rules.filter_map(|rule| option(&rule.rule, "--name"));
    let guests = names.filter_map(names::parse_guests);
    guests.map(|(prefix, _)| prefix).next()
}

/// Returns whether the rules in the kernel guard a door.
pub fn has_door(running: &Saved, door: &crate::policy::Name) -> bool {
    let chain = Hook::Prerouting.door_chain(door);
    running
        .tables
        .values()
        .any(|table| table.chains.contains_key(&chain))
}
