//! The output of `iptables-save -c`, as far as it is ours.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::hook::Hook;
use super::names::{chain as chain_of, is_ours};
use crate::knock::PortRange;

/// Our chains of one family, and the rules of others that lead to them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Saved {
    pub tables: BTreeMap<String, SavedTable>,
    /// Tables that are there and that the program cannot show, each with what it says instead. Nobody may
    /// take them for empty.
    pub hidden: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct SavedTable {
    pub chains: BTreeMap<String, Vec<SavedRule>>,
    /// Rules in chains that are not ours: the chain, and the rule that jumps to us.
    pub jumps: Vec<(String, String)>,
    /// Of those chains, the ones in which a rule before that jump accepts, or leads to one that does, with that rule.
    pub passed_by: Vec<(String, String)>,
    /// `true` if the table is switched off (`flags dormant`): nothing in it is asked.
    pub is_dormant: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub struct SavedRule {
    /// The text after `-A CHAIN`.
    pub rule: String,
    pub packets: u64,
    pub bytes: u64,
}

/// The text is not what `iptables-save` prints.
#[derive(Debug)]
pub enum SavedError {
    /// A line that it never prints.
    Line(String),
    /// The listing of this table has no end.
    Unfinished(String),
}

impl fmt::Display for SavedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SavedError::Line(line) => {
                write!(f, "iptables-save printed a line that is no rule: {line}")
            }
            SavedError::Unfinished(table) => {
                write!(
                    f,
                    "iptables-save did not print the table {table} to its end"
                )
            }
        }
    }
}

impl std::error::Error for SavedError {}

impl Saved {
    /// Reads what `iptables-save -c` prints. Chains and rules of others are passed over.
    ///
    /// # Errors
    /// At the first line that it never prints, and where a table has no end.
    pub fn parse(text: &str) -> Result<Saved, SavedError> {
        let mut saved = Saved::default();
        let mut table: Option<String> = None;
        let mut others = Others::default();
        let mut lines = text.lines();
        while let Some(first) = lines.next() {
            // A comment of somebody may have line breaks in its quotes.
            let mut line = first.to_string();
            while is_open(&line) {
                let Some(more) = lines.next() else {
                    break;
                };
                line = format!("{line}\n{more}");
            }
            let line = line.as_str();
            let wrong = || SavedError::Line(line.chars().take(80).collect());
            if line.is_empty() || line.starts_with('#') {
                if let Some(table) = hidden(line) {
                    saved.hidden.insert(table.to_string(), line.to_string());
                }
                continue;
            }
            if line == "COMMIT" {
                table = None;
                continue;
            }
            if let Some(name) = line.strip_prefix('*') {
                table = Some(name.to_string());
                continue;
            }
            let name = table.as_ref().ok_or_else(wrong)?;
            if let Some(chain) = line.strip_prefix(':') {
                let mut words = chain.split(' ');
                let chain = words.next().unwrap_or_default();
                if is_ours(chain) {
                    let table = saved.tables.entry(name.clone()).or_default();
                    table.chains.entry(chain.to_string()).or_default();
                } else {
                    let is_called = words.next() != Some("-");
                    others.declare(name, chain, is_called);
                }
                continue;
            }
            let (chain, saved_rule) = parse_rule(line).ok_or_else(wrong)?;
            if is_ours(chain) {
                let table = saved.tables.entry(name.clone()).or_default();
                let rules = table.chains.entry(chain.to_string()).or_default();
                rules.push(saved_rule);
            } else {
                let rule = &saved_rule.rule;
                if leads_to_us(rule) && others.is_called(name, chain) {
                    let table = saved.tables.entry(name.clone()).or_default();
                    table.jumps.push((chain.to_string(), rule.to_string()));
                }
                others.add(name, chain, rule);
            }
        }
        for (name, table) in &mut saved.tables {
            let jumps = table.jumps.iter();
            let from: BTreeSet<&String> = jumps.map(|(from, _)| from).collect();
            let passed = from.into_iter().filter_map(|from| {
                let accepting = others.passes_by(name, from)?;
                Some((from.clone(), accepting.to_string()))
            });
            table.passed_by = passed.collect();
        }
        match table {
            None => Ok(saved),
            Some(name) => Err(SavedError::Unfinished(name)),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }

    /// Returns whether packets to these ports come to a door of ours, at either hook.
    pub fn guards(&self, ports: PortRange) -> bool {
        Hook::BOTH.into_iter().any(|hook| {
            let table = self.tables.get(hook.table(ports.protocol()));
            table.is_some_and(|table| table.guards(hook, ports))
        })
    }

    /// Returns whether these are the same chains and rules, whatever they have counted.
    pub fn same_rules(&self, other: &Saved) -> bool {
        self.clone().uncounted() == other.clone().uncounted()
    }

    /// The same chains and rules, as if they had counted nothing.
    pub fn uncounted(mut self) -> Saved {
        let tables = self.tables.values_mut();
        for rule in tables.flat_map(|t| t.chains.values_mut()).flatten() {
            (rule.packets, rule.bytes) = (0, 0);
        }
        self
    }

    /// All our rules, with their chains.
    pub fn all_rules(&self) -> impl Iterator<Item = (&str, &SavedRule)> {
        let chains = self.tables.values().flat_map(|table| &table.chains);
        chains.flat_map(|(chain, rules)| rules.iter().map(move |rule| (chain.as_str(), rule)))
    }

    /// The rules of a chain, in whatever tables it is.
    pub fn rules<'s>(&'s self, chain: &'s str) -> impl Iterator<Item = &'s SavedRule> {
        let tables = self.tables.values();
        tables
            .filter_map(move |table| table.chains.get(chain))
            .flatten()
    }
}

impl SavedTable {
    /// Returns whether packets to these ports come to a door at this hook, and all chains on their way hold something.
    fn guards(&self, hook: Hook, ports: PortRange) -> bool {
        let comes = |(from, _): &(String, String)| from == hook.built_in();
        let holds = |chain: &str| {
            self.chains
                .get(chain)
                .is_some_and(|rules| !rules.is_empty())
        };
        let from = chain_of(&hook.ports(ports.protocol()));
        let doors = hook.door_chains();
        let is_door = |rule: &SavedRule| {
            option(&rule.rule, "-p") == Some(ports.protocol().name())
                && option(&rule.rule, "--dport") == Some(&ports.numbers(':'))
                && option(&rule.rule, "-g")
                    .is_some_and(|chain| chain.starts_with(&doors) && holds(chain))
        };
        let chains = self.chains.iter();
        let mut chains = chains.filter(|(chain, _)| chain.starts_with(&from));
        !self.is_dormant
            && self.jumps.iter().any(comes)
            && !self.passed_by.iter().any(comes)
            && [&hook.first_chain(), &from, &hook.shut_chain()]
                .into_iter()
                .all(|chain| holds(chain))
            && chains.any(|(_, rules)| rules.iter().any(is_door))
    }
}

/// The table that a comment of the program is about: "# Table `raw' is incompatible, use 'nft' tool.", and
/// whatever else a release may say of a table that it does not show.
fn hidden(line: &str) -> Option<&str> {
    let quote = |c| matches!(c, '`' | '\'' | '"');
    let named = line.strip_prefix("# Table ")?.strip_prefix(quote)?;
    named.split(quote).next()
}

/// The chain and the rule of `[packets:bytes] -A CHAIN RULE`.
fn parse_rule(line: &str) -> Option<(&str, SavedRule)> {
    let (counters, rest) = line.strip_prefix('[')?.split_once("] -A ")?;
    let (packets, bytes) = counters.split_once(':')?;
    let (chain, rule) = rest.split_once(' ').unwrap_or((rest, ""));
    let rule = SavedRule {
        rule: rule.to_string(),
        packets: packets.parse().ok()?,
        bytes: bytes.parse().ok()?,
    };
    Some((chain, rule))
}

/// Returns whether a quoted text goes on in the next line.
fn is_open(line: &str) -> bool {
    let mut open = false;
    let mut bytes = line.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => {
                bytes.next();
            }
            b'"' => open = !open,
            _ => {}
        }
    }
    open && !line.starts_with('#')
}

/// The chains of others, by table: the rules that let a packet go elsewhere, and the jumps to us, in their order.
#[derive(Default)]
struct Others {
    chains: BTreeMap<String, BTreeMap<String, Vec<String>>>,
    /// Chains with the name of a built-in one that the kernel does not call (nft can make such).
    uncalled: BTreeSet<(String, String)>,
}

impl Others {
    fn declare(&mut self, table: &str, chain: &str, is_called: bool) {
        let chains = self.chains.entry(table.to_string()).or_default();
        chains.entry(chain.to_string()).or_default();
        let is_built_in =
            ["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"].contains(&chain);
        if is_built_in && !is_called {
            self.uncalled.insert((table.to_string(), chain.to_string()));
        }
    }

    fn is_called(&self, table: &str, chain: &str) -> bool {
        let named = (table.to_string(), chain.to_string());
        !self.uncalled.contains(&named)
    }

    fn add(&mut self, table: &str, chain: &str, rule: &str) {
        if option(rule, "-j").or_else(|| option(rule, "-g")).is_some() {
            let chains = self.chains.entry(table.to_string()).or_default();
            let rules = chains.entry(chain.to_string()).or_default();
            rules.push(rule.to_string());
        }
    }

    /// The first rule of a built-in chain behind which a packet may never come to the jump to us.
    fn passes_by(&self, table: &str, chain: &str) -> Option<&str> {
        let rules = self.chains.get(table)?.get(chain)?;
        let mut before = rules.iter().take_while(|rule| !leads_to_us(rule));
        let found = before.find(|rule| {
            let accepts = ["ACCEPT", "RETURN"].map(Some).contains(&option(rule, "-j"));
            // A chain that is gone to comes back to nobody.
            accepts
                || option(rule, "-g").is_some()
                || self.accepts_below(table, rule, &mut BTreeSet::new())
        });
        found.map(String::as_str)
    }

    /// Returns whether a rule leads to a chain in which something is accepted.
    fn accepts_below<'o>(
        &'o self,
        table: &str,
        rule: &'o str,
        seen: &mut BTreeSet<&'o str>,
    ) -> bool {
        let Some(to) = option(rule, "-j").or_else(|| option(rule, "-g")) else {
            return false;
        };
        let rules = self.chains.get(table).and_then(|chains| chains.get(to));
        let Some(rules) = rules.filter(|_| seen.insert(to)) else {
            return false;
        };
        rules.iter().any(|rule| {
            option(rule, "-j") == Some("ACCEPT") || self.accepts_below(table, rule, seen)
        })
    }
}

fn leads_to_us(rule: &str) -> bool {
    let mut words = rule.split(' ').rev();
    let target = words.next().unwrap_or_default();
    is_ours(target) && matches!(words.next(), Some("-j" | "-g"))
}

/// The value after a word of a rule: `option("-m recent --rcheck --name x", "--name")`.
pub fn option<'r>(rule: &'r str, name: &str) -> Option<&'r str> {
    let mut words = rule.split(' ');
    words.find(|word| *word == name)?;
    words.next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_is_read_and_the_rest_is_passed_over() {
        let text = "# Generated by iptables-save v1.8.9\n*raw\n:PREROUTING ACCEPT [5:300]\n\
                    :toctoc - [0:0]\n:theirs - [0:0]\n[7:420] -A PREROUTING -j toctoc\n\
                    [1:2] -A PREROUTING -p tcp -j theirs\n[3:180] -A toctoc -p tcp -j DROP\n\
                    [0:0] -A theirs -j toctoctoc\nCOMMIT\n*filter\n:INPUT ACCEPT [0:0]\nCOMMIT\n";
        let saved = Saved::parse(text).unwrap();
        assert_eq!(saved.tables.len(), 1);
        let raw = &saved.tables["raw"];
        assert_eq!(
            raw.jumps,
            [("PREROUTING".to_string(), "-j toctoc".to_string())]
        );
        assert_eq!(raw.chains.len(), 1);
        let rule = &raw.chains["toctoc"][0];
        assert_eq!((rule.rule.as_str(), rule.packets), ("-p tcp -j DROP", 3));
    }

    #[test]
    fn a_comment_with_a_line_break_is_one_rule() {
        let text = "*filter\n:INPUT ACCEPT [0:0]\n\
                    [0:0] -A INPUT -m comment --comment \"a\n:toctoc-x - [0:0] \\\" b\" -j ACCEPT\n\
                    [0:0] -A INPUT -j toctoc-incoming\nCOMMIT\n";
        let filter = &Saved::parse(text).unwrap().tables["filter"];
        assert!(filter.chains.is_empty());
        assert_eq!((filter.jumps.len(), filter.passed_by.len()), (1, 1));
    }

    /// iptables-nft 1.8 says so of a table in which somebody has put a rule with nft.
    #[test]
    fn a_table_that_is_not_shown_is_not_empty() {
        let text = "# Table `raw' is incompatible, use 'nft' tool.\n\
                    # Table `nat' contains incompatible base-chains, use 'nft' tool to list them.\n\
                    # Generated by iptables-save v1.8.9 (nf_tables)\n*filter\nCOMMIT\n\
                    # Warning: iptables-legacy tables present, use iptables-legacy-save to see them\n";
        let saved = Saved::parse(text).unwrap();
        let hidden: Vec<&str> = saved.hidden.keys().map(String::as_str).collect();
        assert_eq!(hidden, ["nat", "raw"]);
    }

    #[test]
    fn what_is_no_listing_is_refused() {
        for text in [
            "nonsense",
            "*raw\n:PREROUTING ACCEPT [0:0]\n",
            "*raw\n-A x",
            "*raw\n[x:1] -A toctoc -j DROP",
            "[1:1] -A toctoc",
        ] {
            assert!(Saved::parse(text).is_err(), "{text}");
        }
    }
}
