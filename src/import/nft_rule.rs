//! Statements of nft: the tokens of a text, and a rule.

use std::collections::HashMap;

use super::ports::PortList;
use super::rule::{ListUse, Match, Operation, Rule, Verdict};
use super::{services, times};

/// The meaning of names: `define` and named sets of ports.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// `define`, and `@set` for a set of ports.
    pub values: HashMap<String, Vec<String>>,
    /// The timeout of each set whose elements have one without saying so.
    pub timeouts: HashMap<String, u64>,
}

impl Names {
    /// The elements of a value: of a name, or itself.
    fn elements(&self, word: &str) -> Vec<String> {
        let name = word.strip_prefix('$').unwrap_or(word);
        match self.values.get(name) {
            Some(values) => values.clone(),
            None => vec![word.to_string()],
        }
    }
}

/// The tokens of a text. `;` and the end of a line are `;`, and braces and commas stand alone.
pub(super) fn tokens(text: &str) -> Vec<String> {
    let mut tokens: Vec<String> = Vec::new();
    let mut word = String::new();
    let mut chars = text.chars().peekable();
    let end = |word: &mut String, tokens: &mut Vec<String>| {
        if !word.is_empty() {
            tokens.push(std::mem::take(word));
        }
    };
    while let Some(c) = chars.next() {
        match c {
            '#' if word.is_empty() => {
                while chars.peek().is_some_and(|&c| c != '\n') {
                    chars.next();
                }
            }
            '\\' => {
                end(&mut word, &mut tokens);
                while chars.peek().is_some_and(|&c| c == '\r' || c == ' ') {
                    chars.next();
                }
                if chars.peek() == Some(&'\n') {
                    chars.next();
                }
            }
            '"' => {
                // A text in quotes is one word that begins with a quote.
                end(&mut word, &mut tokens);
                let mut quoted = String::from("\"");
                for c in chars.by_ref() {
                    if c == '"' {
                        break;
                    }
                    quoted.push(c);
                }
                tokens.push(quoted);
            }
            '\n' | ';' => {
                end(&mut word, &mut tokens);
                tokens.push(";".to_string());
            }
            '{' | '}' | ',' | '(' | ')' => {
                end(&mut word, &mut tokens);
                tokens.push(c.to_string());
            }
            '!' | '=' | '<' | '>' => {
                end(&mut word, &mut tokens);
                let mut sign = c.to_string();
                if chars.peek() == Some(&'=') {
                    chars.next();
                    sign.push('=');
                }
                tokens.push(sign);
            }
            c if c.is_whitespace() => end(&mut word, &mut tokens),
            c => word.push(c),
        }
    }
    end(&mut word, &mut tokens);
    tokens
}

/// A word without the mark of a quote.
pub(super) fn plain(word: &str) -> &str {
    word.strip_prefix('"').unwrap_or(word)
}

/// The rules of `nft ARGUMENTS`; `input` is what `nft -f -` reads.
pub(super) fn commands(text: &str, input: Option<&str>) -> Vec<Result<Rule, String>> {
    let mut found = Vec::new();
    for text in [Some(text), input].into_iter().flatten() {
        for statement in tokens(text).split(|token| token == ";") {
            found.extend(command(statement, &Names::default()));
        }
    }
    found
}

/// `add rule inet filter input ...`; `None` for what has nothing to do with rules.
pub(super) fn command(words: &[String], names: &Names) -> Option<Result<Rule, String>> {
    let option = |word: &&String| word.starts_with('-');
    let skip = words.iter().take_while(option).count();
    let words = &words[skip..];
    let (first, rest) = words.split_first()?;
    let (kind, rest) = match rest.split_first() {
        Some((kind, rest)) => (kind.as_str(), rest),
        None => return None,
    };
    match (first.as_str(), kind) {
        ("add" | "insert" | "replace", "rule") => {}
        ("delete", _) | ("flush", "set") => {
            return Some(Ok(Rule {
                operation: Operation::Remove,
                ..Rule::default()
            }));
        }
        ("add", "element") => {
            let set = rest.iter().take_while(|word| *word != "{").last()?;
            return Some(Err(format!(
                "adds the source to the set `{set}`; which port that opens stands in another rule: name the door you mean"
            )));
        }
        _ => return None,
    }
    let families = ["ip", "ip6", "inet", "arp", "bridge", "netdev"];
    let skip = usize::from(
        rest.first()
            .is_some_and(|word| families.contains(&word.as_str())),
    );
    let (table, chain, mut body) = match &rest[skip..] {
        [table, chain, body @ ..] => (table, chain, body),
        _ => return None,
    };
    while let [place, _, rest @ ..] = body {
        if !matches!(place.as_str(), "position" | "handle" | "index") {
            break;
        }
        body = rest;
    }
    let mut rule = rule(body, names);
    rule.chain = chain.clone();
    rule.table = if table == "nat" { "nat" } else { "filter" }.to_string();
    rule.operation = match first.as_str() {
        "insert" => Operation::Insert(0),
        _ => Operation::Append,
    };
    Some(Ok(rule))
}

/// The rule that the words of a statement say.
pub(super) fn rule(words: &[String], names: &Names) -> Rule {
    let mut reader = Reader {
        words,
        at: 0,
        names,
        rule: Rule {
            table: "filter".to_string(),
            ..Rule::default()
        },
        pairs: Vec::new(),
    };
    while reader.at < words.len() {
        reader.statement();
    }
    reader.end()
}

struct Reader<'t> {
    words: &'t [String],
    at: usize,
    names: &'t Names,
    rule: Rule,
    /// Sets of address and port that are asked with the port of this rule.
    pairs: Vec<(String, bool)>,
}

impl<'t> Reader<'t> {
    fn peek(&self) -> &'t str {
        self.words.get(self.at).map_or("", String::as_str)
    }

    fn next(&mut self) -> &'t str {
        let word = self.peek();
        self.at += 1;
        word
    }

    fn take(&mut self, word: &str) -> bool {
        let is = self.peek() == word;
        self.at += usize::from(is);
        is
    }

    fn statement(&mut self) {
        let word = self.next();
        match word {
            "ip" | "ip6" | "tcp" | "udp" | "th" | "meta" | "ct" | "iif" | "iifname" | "oif"
            | "oifname" | "icmp" | "icmpv6" | "ether" | "sctp" | "dccp" | "udplite" | "fib" => {
                self.matching(word)
            }
            "accept" => self.rule.verdict = Verdict::Accept,
            "drop" => self.rule.verdict = Verdict::Refuse(word.to_string()),
            "reject" => {
                self.rule.verdict = Verdict::Refuse(word.to_string());
                if self.take("with") {
                    self.at = self.words.len();
                }
            }
            "return" => self.rule.verdict = Verdict::Return,
            "jump" => self.rule.verdict = Verdict::Jump(self.next().to_string()),
            "goto" => self.rule.verdict = Verdict::Goto(self.next().to_string()),
            "dnat" => {
                self.rule.verdict = Verdict::Translate(self.target());
            }
            "redirect" => {
                self.take("to");
                let to = self.next().trim_start_matches(':');
                self.rule.verdict = Verdict::Redirect(to.to_string());
            }
            "masquerade" | "snat" => {
                self.rule.verdict = Verdict::Masquerade(word.to_string());
                self.at = self.words.len();
            }
            "queue" | "notrack" | "tproxy" => {
                self.rule.verdict = Verdict::Other(word.to_string());
                self.at = self.words.len();
            }
            "counter" => {
                while matches!(self.peek(), "packets" | "bytes" | "name") {
                    self.at += 2;
                }
            }
            "log" => {
                while matches!(
                    self.peek(),
                    "prefix" | "level" | "group" | "flags" | "snaplen" | "queue-threshold"
                ) {
                    self.at += 2;
                }
            }
            "comment" => {
                self.next();
            }
            "add" | "update" | "delete" => {
                let set = self.next();
                let elements = self.value();
                self.set(word, set, &elements);
            }
            "set" => {
                let how = self.next();
                let mut elements = Vec::new();
                while !matches!(self.peek(), "" | ";") && !self.peek().starts_with('@') {
                    elements.push(self.next().to_string());
                }
                let set = self.next();
                self.set(how, set, &elements);
            }
            "," | ";" | "continue" => {}
            _ => self.condition(word),
        }
    }

    /// The place of `dnat ip to 192.168.1.5:22 persistent`.
    fn target(&mut self) -> String {
        let rest = &self.words[self.at..];
        self.at = self.words.len();
        let words = rest.iter().map(|word| plain(word));
        let words = words.filter(|word| !["to", "ip", "ip6", "inet", "prefix"].contains(word));
        let ends = [
            "comment",
            "persistent",
            "random",
            "fully-random",
            "counter",
            "log",
            ";",
        ];
        let words: Vec<&str> = words.take_while(|word| !ends.contains(word)).collect();
        match words
            .iter()
            .any(|word| ["map", "{", ".", "numgen", "jhash"].contains(word))
        {
            true => words.join(" "),
            false => words.concat(),
        }
    }

    /// A condition that is not understood: the words up to one that is.
    fn condition(&mut self, first: &str) {
        let mut said = first.to_string();
        while !self.peek().is_empty() && !is_statement(self.peek()) {
            let word = self.next();
            said = format!("{said} {}", plain(word));
        }
        self.rule.conditions.push(said);
    }

    /// `ip saddr . tcp dport != value`
    fn matching(&mut self, first: &'t str) {
        let mut selectors = vec![self.selector(first)];
        while self.take(".") {
            let next = self.next();
            selectors.push(self.selector(next));
        }
        let not = self.take("!=");
        self.take("==");
        if matches!(self.peek(), "<" | ">" | "<=" | ">=" | "&" | "and") || self.peek() == "vmap" {
            return self.condition(&selectors.join(" . "));
        }
        if selectors == ["tcp flags"]
            || selectors == ["fib daddr"]
            || selectors[0].starts_with("fib")
        {
            let start = self.at;
            while !self.peek().is_empty() && !is_statement(self.peek()) {
                self.at += 1;
            }
            if self.at == start {
                self.value();
            }
            return;
        }
        let values = self.value();
        match &selectors[..] {
            [one] => self.one(one, values, not),
            [address, port] if address.ends_with("saddr") && port.ends_with("dport") => {
                if let Some(set) = values.first().and_then(|value| value.strip_prefix('@')) {
                    self.pairs.push((set.to_string(), not));
                }
            }
            [one, two] if two.ends_with("saddr") && one.ends_with("dport") => {
                if let Some(set) = values.first().and_then(|value| value.strip_prefix('@')) {
                    self.pairs.push((set.to_string(), not));
                }
            }
            _ => {
                let said = format!("{} {}", selectors.join(" . "), values.join(","));
                self.rule.conditions.push(said);
            }
        }
    }

    fn selector(&mut self, first: &'t str) -> String {
        match first {
            "iif" | "iifname" | "oif" | "oifname" => first.to_string(),
            "fib" => {
                let mut said = first.to_string();
                while !self.peek().is_empty() && !is_statement(self.peek()) && self.peek() != "type"
                {
                    said = format!("{said} {}", self.next());
                }
                self.take("type");
                said
            }
            "ct" if matches!(self.peek(), "original" | "reply") => {
                let way = self.next();
                format!("ct {way} {}", self.next())
            }
            _ => format!("{first} {}", self.next()),
        }
    }

    /// A value: a word, or the words of a set in braces.
    fn value(&mut self) -> Vec<String> {
        if !self.take("{") {
            let mut values = vec![plain(self.next()).to_string()];
            // `ct state established,related`
            while self.take(",") {
                values.push(plain(self.next()).to_string());
            }
            return values;
        }
        let mut values = Vec::new();
        let mut depth = 1;
        while self.at < self.words.len() {
            match self.next() {
                "{" => depth += 1,
                "}" => {
                    depth -= 1;
                    if depth == 0 {
                        break;
                    }
                }
                "," => {}
                word => values.push(plain(word).to_string()),
            }
        }
        values
    }

    fn one(&mut self, selector: &str, values: Vec<String>, not: bool) {
        let values: Vec<String> = values
            .iter()
            .flat_map(|value| self.names.elements(value))
            .collect();
        let text = values.join(",");
        let matched = |text: String| match not {
            true => Match::Not(text),
            false => Match::Is(text),
        };
        match selector {
            "ip saddr" | "ip6 saddr" => match text.strip_prefix('@') {
                Some(set) if not => self.rule.lists.push(ListUse::NotIn(set.to_string(), None)),
                Some(set) => self.rule.lists.push(ListUse::In(set.to_string(), None)),
                None => self.rule.source = matched(text),
            },
            "ip daddr" | "ip6 daddr" => self.rule.destination = matched(text),
            "tcp dport" | "udp dport" | "th dport" | "sctp dport" | "dccp dport"
            | "udplite dport" => {
                let protocol = selector.split(' ').next().unwrap_or_default();
                if protocol != "th" {
                    self.rule.protocol = Match::Is(protocol.to_string());
                }
                self.rule.ports = match not {
                    true => Match::Not(PortList(values)),
                    false => Match::Is(PortList(values)),
                };
            }
            "meta l4proto" | "ip protocol" | "ip6 nexthdr" => self.rule.protocol = matched(text),
            "meta nfproto" => {}
            "iif" | "iifname" | "meta iifname" | "meta iif" => self.rule.interface = matched(text),
            "oif" | "oifname" | "meta oifname" | "meta oif" => self.rule.out = matched(text),
            "ct state" => {
                let new = values.iter().any(|state| state == "new");
                self.rule.states = Some(match (not, new) {
                    (false, _) => values,
                    (true, true) => vec!["established".to_string()],
                    (true, false) => vec!["new".to_string()],
                });
            }
            _ if selector.starts_with("icmp") => self.rule.protocol = Match::Is("icmp".to_string()),
            _ => self.rule.conditions.push(format!("{selector} {text}")),
        }
    }

    /// `add @set { ip saddr . 10002 timeout 1s }`
    fn set(&mut self, how: &str, set: &str, elements: &[String]) {
        let set = set.trim_start_matches('@');
        if !elements.iter().any(|word| word == "saddr") {
            self.rule.conditions.push(format!("{how} @{set}"));
            return;
        }
        let timeout = elements.iter().position(|word| word == "timeout");
        let timeout = timeout
            .and_then(|place| elements.get(place + 1))
            .and_then(|time| times::seconds(time));
        let timeout = timeout.or(self.names.timeouts.get(set).copied());
        let dot = elements.iter().position(|word| word == ".");
        let list = match dot.and_then(|place| elements.get(place + 1)) {
            Some(port) => match &self.names.elements(port)[..] {
                [port] => pair(set, port),
                _ => pair(set, port),
            },
            None => set.to_string(),
        };
        self.rule.lists.push(match how {
            "delete" => ListUse::Leave(list),
            _ => ListUse::Enter(list, timeout),
        });
    }

    fn end(mut self) -> Rule {
        for (set, not) in std::mem::take(&mut self.pairs) {
            let port = match &self.rule.ports {
                Match::Is(PortList(words)) if words.len() == 1 => words[0].clone(),
                _ => "*".to_string(),
            };
            let list = pair(&set, &port);
            self.rule.lists.push(match not {
                true => ListUse::NotIn(list, None),
                false => ListUse::In(list, None),
            });
        }
        self.rule
    }
}

/// The list of those who may go on at a port.
fn pair(set: &str, port: &str) -> String {
    let known = services::ports(port).map(|(first, _)| first.to_string());
    let port = known.as_deref().unwrap_or(port);
    format!("{set} . {port}")
}

fn is_statement(word: &str) -> bool {
    matches!(
        word,
        "ip" | "ip6"
            | "tcp"
            | "udp"
            | "th"
            | "meta"
            | "ct"
            | "iif"
            | "iifname"
            | "oif"
            | "oifname"
            | "accept"
            | "drop"
            | "reject"
            | "return"
            | "jump"
            | "goto"
            | "dnat"
            | "redirect"
            | "counter"
            | "log"
            | "comment"
            | "add"
            | "update"
            | "delete"
            | "set"
            | "masquerade"
            | "snat"
    )
}
