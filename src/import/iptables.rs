//! A command of iptables or ip6tables, or a line of `iptables-save`, as a rule.

use super::ports::PortList;
use super::rule::{ListUse, Match, Operation, Rule, Verdict};

/// The rule of a command's arguments. `table` is the one of a saved ruleset.
///
/// # Errors
/// The reason why it cannot be read.
pub(super) fn read(arguments: &[String], table: &str) -> Result<Rule, String> {
    let mut reader = Reader {
        words: arguments,
        at: 0,
        not: false,
        rule: Rule {
            table: table.to_string(),
            operation: Operation::Other,
            ..Rule::default()
        },
        recent: None,
    };
    while let Some(word) = reader.next() {
        reader.option(&word);
    }
    reader.end_recent();
    Ok(reader.rule)
}

/// The program is one of the iptables family: also by path, by variable (`$IPT`), and as variants.
pub(super) fn is_iptables(program: &str) -> bool {
    let name = program.trim_matches(['$', '{', '}', '"']);
    let name = name.rsplit('/').next().unwrap_or(name);
    let lower = name.to_ascii_lowercase();
    let known = matches!(
        lower.as_str(),
        "iptables"
            | "ip6tables"
            | "iptables-legacy"
            | "ip6tables-legacy"
            | "iptables-nft"
            | "ip6tables-nft"
    );
    known || (program.starts_with('$') && (lower.contains("ipt") || lower.contains("ip6t")))
}

#[derive(Default)]
struct Recent {
    name: Option<String>,
    seconds: Option<u64>,
    hits: Option<u64>,
    does: Option<Does>,
    not: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Does {
    Set,
    Check,
    Remove,
}

struct Reader<'t> {
    words: &'t [String],
    at: usize,
    /// A `!` stands before the option.
    not: bool,
    rule: Rule,
    recent: Option<Recent>,
}

impl Reader<'_> {
    fn next(&mut self) -> Option<String> {
        let word = self.words.get(self.at)?;
        self.at += 1;
        Some(word.clone())
    }

    /// Makes the rule one for packets that begin no connection.
    fn leave_out_new(&mut self) {
        self.rule.states = Some(vec!["ESTABLISHED".to_string()]);
    }

    /// The value of an option, in the same word (`--dport=22`, `-ptcp`) or the next one.
    fn value(&mut self, joined: Option<&str>) -> String {
        if let Some(joined) = joined {
            return joined.to_string();
        }
        let mut value = self.next().unwrap_or_default();
        if value == "!" {
            self.not = true;
            value = self.next().unwrap_or_default();
        }
        value
    }

    fn matched<T>(&mut self, value: T) -> Match<T> {
        match std::mem::take(&mut self.not) {
            true => Match::Not(value),
            false => Match::Is(value),
        }
    }

    fn option(&mut self, word: &str) {
        if word == "!" {
            self.not = true;
            return;
        }
        if let Some(long) = word.strip_prefix("--") {
            let (name, joined) = match long.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (long, None),
            };
            self.long(name, joined);
        } else if let Some(short) = word.strip_prefix('-')
            && let Some(letter) = short.chars().next()
        {
            let joined = Some(&short[letter.len_utf8()..]).filter(|rest| !rest.is_empty());
            self.short(letter, joined, word);
        }
        // Counters of a saved rule, and whatever stands where no option does.
        self.not = false;
    }

    fn short(&mut self, letter: char, joined: Option<&str>, word: &str) {
        let name = match letter {
            't' => "table",
            'A' => "append",
            'I' => "insert",
            'D' => "delete",
            'R' => "replace",
            'p' => "protocol",
            's' => "source",
            'd' => "destination",
            'i' => "in-interface",
            'o' => "out-interface",
            'j' => "jump",
            'g' => "goto",
            'm' => "match",
            'f' => "fragment",
            'w' => "wait",
            'n' | 'v' | '4' | '6' => return,
            'F' => "flush",
            'N' | 'X' | 'P' | 'Z' | 'E' | 'L' | 'S' | 'C' => {
                self.rule.operation = Operation::Other;
                self.rule.chain = self.value(joined);
                return;
            }
            _ => return self.unknown(word),
        };
        self.long(name, joined);
    }

    fn long(&mut self, name: &str, joined: Option<&str>) {
        match name {
            "table" => self.rule.table = self.value(joined),
            "append" => self.operation(Operation::Append, joined),
            "insert" => {
                self.operation(Operation::Insert(0), joined);
                self.place(Operation::Insert);
            }
            // Without a number, iptables refuses it.
            "replace" => {
                self.operation(Operation::Other, joined);
                self.place(Operation::Replace);
            }
            "delete" => {
                self.operation(Operation::Remove, joined);
                self.place(Operation::RemoveAt);
            }
            "protocol" | "proto" => {
                let value = self.value(joined);
                self.rule.protocol = self.matched(value);
            }
            "source" | "src" => {
                let value = self.value(joined);
                self.rule.source = self.matched(value);
            }
            "destination" | "dst" => {
                let value = self.value(joined);
                self.rule.destination = self.matched(value);
            }
            "src-range" => {
                let value = self.value(joined);
                let one = value.split_once('-').filter(|(first, last)| first == last);
                let value = one.map_or(value.clone(), |(only, _)| only.to_string());
                self.rule.source = self.matched(value);
            }
            "in-interface" => {
                let value = self.value(joined);
                self.rule.interface = self.matched(value);
            }
            "out-interface" => {
                let value = self.value(joined);
                self.rule.out = self.matched(value);
            }
            "dport" | "dports" | "destination-port" | "destination-ports" | "port" | "ports" => {
                let value = PortList::of(&self.value(joined));
                self.rule.ports = self.matched(value);
            }
            "jump" | "goto" => {
                let target = self.value(joined);
                self.rule.verdict = verdict(name, target);
            }
            "to-destination" | "to-ports" | "to-port" | "to" => {
                let to = self.value(joined);
                match &mut self.rule.verdict {
                    Verdict::Translate(target) | Verdict::Redirect(target) => *target = to,
                    _ => {}
                }
            }
            "match" => {
                let module = self.value(joined);
                self.end_recent();
                if module == "recent" {
                    self.recent = Some(Recent::default());
                }
            }
            "state" | "ctstate" => {
                let states = self.value(joined);
                let states: Vec<String> = states.split(',').map(str::to_string).collect();
                match std::mem::take(&mut self.not) {
                    true if states.iter().any(|state| state.eq_ignore_ascii_case("new")) => {
                        self.rule.states = Some(vec!["ESTABLISHED".to_string()]);
                    }
                    true => {}
                    false => self.rule.states = Some(states),
                }
            }
            "comment" | "log-prefix" | "log-level" | "reject-with" | "nflog-prefix"
            | "nflog-group" => {
                self.value(joined);
            }
            "syn" if std::mem::take(&mut self.not) => self.leave_out_new(),
            "syn" => {}
            "tcp-flags" => {
                let (mask, set) = (self.value(joined), self.value(None));
                let has =
                    |flags: &str, flag| flags.split(',').any(|f| f.eq_ignore_ascii_case(flag));
                let begins = !["ACK", "RST", "FIN"].iter().any(|flag| has(&set, flag))
                    && (has(&set, "SYN") || !has(&mask, "SYN"));
                if begins == std::mem::take(&mut self.not) {
                    self.leave_out_new();
                }
            }
            "wait" => {
                let number = self
                    .words
                    .get(self.at)
                    .is_some_and(|w| w.parse::<u32>().is_ok());
                self.at += usize::from(number && joined.is_none());
            }
            "flush" => {
                self.rule.operation = Operation::Flush;
                let chain = self.words.get(self.at);
                let is_chain = joined.is_some() || chain.is_some_and(|word| !word.starts_with('-'));
                if is_chain {
                    self.rule.chain = self.value(joined);
                }
            }
            "new-chain" | "delete-chain" | "policy" | "zero" | "rename-chain" | "list"
            | "list-rules" | "check" => {
                self.rule.operation = Operation::Other;
                self.rule.chain = self.value(joined);
            }
            "match-set" => {
                let set = self.value(joined);
                let which = self.next().unwrap_or_default();
                let not = std::mem::take(&mut self.not);
                match (which.as_str(), not) {
                    ("src", false) => self.rule.lists.push(ListUse::In(set, None)),
                    ("src", true) => self.rule.lists.push(ListUse::NotIn(set, None)),
                    _ => self
                        .rule
                        .conditions
                        .push(format!("--match-set {set} {which}")),
                }
            }
            "add-set" => {
                let set = self.value(joined);
                self.next();
                self.rule.lists.push(ListUse::Enter(set, None));
            }
            "del-set" => {
                let set = self.value(joined);
                self.next();
                self.rule.lists.push(ListUse::Leave(set));
            }
            "timeout" if matches!(self.rule.lists.last(), Some(ListUse::Enter(..))) => {
                let seconds = self.value(joined).parse().ok();
                if let Some(ListUse::Enter(_, kept)) = self.rule.lists.last_mut() {
                    *kept = seconds;
                }
            }
            _ if self.recent_option(name, joined) => {}
            _ => self.unknown(&format!("--{name}")),
        }
    }

    fn operation(&mut self, operation: Operation, joined: Option<&str>) {
        self.rule.operation = operation;
        self.rule.chain = self.value(joined);
    }

    /// The number of a rule after its chain.
    fn place(&mut self, operation: fn(usize) -> Operation) {
        let number = self
            .words
            .get(self.at)
            .and_then(|word| word.parse::<usize>().ok());
        if let Some(number) = number {
            self.at += 1;
            // They count from 1, and there is no rule 0.
            self.rule.operation = number.checked_sub(1).map_or(Operation::Other, operation);
        }
    }

    fn recent_option(&mut self, name: &str, joined: Option<&str>) -> bool {
        let does = match name {
            "set" => Some(Does::Set),
            "rcheck" | "update" => Some(Does::Check),
            "remove" => Some(Does::Remove),
            _ => None,
        };
        if does.is_none() && self.recent.is_none() {
            return false;
        }
        let value = match name {
            "name" | "seconds" | "hitcount" | "mask" => Some(self.value(joined)),
            "rttl" | "rsource" | "rdest" | "reap" => None,
            _ if does.is_some() => None,
            _ => return false,
        };
        let not = self.not;
        let recent = self.recent.get_or_insert_default();
        match (name, value) {
            ("name", Some(value)) => recent.name = Some(value),
            ("seconds", Some(value)) => recent.seconds = value.parse().ok(),
            ("hitcount", Some(value)) => recent.hits = value.parse().ok(),
            _ => {}
        }
        if does.is_some() {
            recent.does = does;
            recent.not = not;
        }
        true
    }

    /// Notes what a `-m recent` does with its list.
    fn end_recent(&mut self) {
        let Some(recent) = self.recent.take() else {
            return;
        };
        let list = recent.name.unwrap_or_else(|| "DEFAULT".to_string());
        let hits = recent.hits.filter(|&hits| hits > 1);
        if let Some(hits) = hits {
            self.rule.conditions.push(format!("--hitcount {hits}"));
        }
        let used = match (recent.does, recent.not) {
            (Some(Does::Set), _) => ListUse::Enter(list, None),
            (Some(Does::Check), false) => ListUse::In(list, recent.seconds),
            (Some(Does::Remove), false) => ListUse::Leave(list),
            (Some(Does::Check | Does::Remove), true) => ListUse::NotIn(list, recent.seconds),
            (None, _) => return,
        };
        self.rule.lists.push(used);
    }

    /// An option that is not known here, with its values.
    fn unknown(&mut self, option: &str) {
        let mut condition = option.to_string();
        while let Some(word) = self.words.get(self.at) {
            if word.starts_with('-') || word == "!" {
                break;
            }
            condition = format!("{condition} {word}");
            self.at += 1;
        }
        let decides = matches!(self.rule.verdict, Verdict::None | Verdict::Accept);
        let adds = !matches!(self.rule.operation, Operation::Other | Operation::Flush);
        if decides && adds {
            let not = if self.not { "! " } else { "" };
            self.rule.conditions.push(format!("{not}{condition}"));
        }
    }
}

fn verdict(how: &str, target: String) -> Verdict {
    match target.as_str() {
        "ACCEPT" => Verdict::Accept,
        "DROP" | "REJECT" | "TARPIT" | "STEAL" => Verdict::Refuse(target),
        "RETURN" => Verdict::Return,
        "DNAT" | "NETMAP" => Verdict::Translate("another address".to_string()),
        "REDIRECT" | "TPROXY" => Verdict::Redirect("another".to_string()),
        "MASQUERADE" | "SNAT" => Verdict::Masquerade(target),
        "LOG" | "NFLOG" | "ULOG" | "MARK" | "CONNMARK" | "SET" | "TCPMSS" | "CT" | "NOTRACK"
        | "QUEUE" | "NFQUEUE" | "AUDIT" | "TRACE" | "CLASSIFY" => Verdict::Other(target),
        _ if how == "goto" => Verdict::Goto(target),
        _ => Verdict::Jump(target),
    }
}
