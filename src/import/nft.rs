//! A file of nft: tables with chains, sets and rules, in blocks or as commands.

use super::chains::Chains;
use super::nft_rule::{Names, command, plain, rule, tokens};
use super::rule::Operation;
use super::times;

/// Adds the chains of a text, and returns the files that it includes.
pub(super) fn add(text: &str, chains: &mut Chains) -> Vec<String> {
    let tokens = tokens(text);
    let mut reader = Reader {
        tokens: &tokens,
        at: 0,
        names: Names::default(),
        files: Vec::new(),
    };
    // Sets may stand behind the rules that use them.
    reader.declarations();
    reader.at = 0;
    while reader.at < tokens.len() {
        reader.top(chains);
    }
    reader.files
}

struct Reader<'t> {
    tokens: &'t [String],
    at: usize,
    names: Names,
    /// The files that it includes.
    files: Vec<String>,
}

impl<'t> Reader<'t> {
    fn peek(&self) -> &'t str {
        self.tokens.get(self.at).map_or("", String::as_str)
    }

    fn next(&mut self) -> &'t str {
        let token = self.peek();
        self.at += 1;
        token
    }

    /// The tokens up to the end of a statement; braces inside hold it together.
    fn statement(&mut self) -> Vec<String> {
        let mut words: Vec<String> = Vec::new();
        let mut depth = 0usize;
        while self.at < self.tokens.len() {
            match self.peek() {
                ";" if depth == 0 => break,
                "}" if depth == 0 => break,
                "{" => depth += 1,
                "}" => depth -= 1,
                _ => {}
            }
            let token = self.next();
            if token != ";" {
                words.push(token.to_string());
            }
        }
        words
    }

    /// Passes over a block in braces.
    fn block(&mut self) {
        let mut depth = 0usize;
        while self.at < self.tokens.len() {
            match self.next() {
                "{" => depth += 1,
                "}" => {
                    depth = depth.saturating_sub(1);
                    if depth == 0 {
                        return;
                    }
                }
                _ => {}
            }
        }
    }

    /// Reads `define`s and sets.
    fn declarations(&mut self) {
        while self.at < self.tokens.len() {
            match self.next() {
                "define" | "redefine" => {
                    let name = self.next().to_string();
                    if self.peek() == "=" {
                        self.at += 1;
                    }
                    let words = self.statement();
                    let words = words
                        .iter()
                        .filter(|w| !matches!(w.as_str(), "{" | "}" | ","));
                    let words = words.map(|word| plain(word).to_string()).collect();
                    self.names.values.insert(name, words);
                }
                "set" if self.set_ahead() => {
                    while self
                        .tokens
                        .get(self.at + 1)
                        .is_some_and(|token| token != "{")
                    {
                        self.at += 1;
                    }
                    let name = self.next().to_string();
                    self.set(&name);
                }
                _ => {}
            }
        }
    }

    /// `set NAME {`, or `add set FAMILY TABLE NAME {`
    fn set_ahead(&self) -> bool {
        let ahead = &self.tokens[self.at..];
        let open = ahead.iter().take(5).position(|token| token == "{");
        open.is_some_and(|place| place > 0 && !ahead[..place].iter().any(|token| token == ";"))
    }

    fn set(&mut self, name: &str) {
        let start = self.at;
        self.block();
        let body = &self.tokens[start..self.at.min(self.tokens.len())];
        let after = |word: &str| {
            body.iter()
                .position(|token| token == word)
                .map(|place| place + 1)
        };
        // `flags timeout` is none; `timeout 5s` is one.
        let times = body.windows(2).filter(|pair| pair[0] == "timeout");
        if let Some(seconds) = times.filter_map(|pair| times::seconds(&pair[1])).next() {
            self.names.timeouts.insert(name.to_string(), seconds);
        }
        let ports = after("type").and_then(|place| body.get(place));
        if ports.is_some_and(|kind| kind == "inet_service")
            && let Some(place) = after("elements")
        {
            let elements = body[place..]
                .iter()
                .skip_while(|token| *token != "{")
                .skip(1);
            let elements = elements.take_while(|token| *token != "}");
            let ports = elements.filter(|token| !matches!(token.as_str(), "," | ";"));
            let ports = ports.map(|port| plain(port).to_string()).collect();
            self.names.values.insert(format!("@{name}"), ports);
        }
    }

    /// A statement outside of any table.
    fn top(&mut self, chains: &mut Chains) {
        let start = self.at;
        match self.peek() {
            ";" | "}" => self.at += 1,
            "table" => {
                self.at += 1;
                self.table(chains);
            }
            "include" => {
                let words = self.statement();
                let file = words.get(1).map_or("", |word| plain(word));
                self.files.push(file.to_string());
            }
            _ => {
                let words = self.statement();
                match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
                    ["add" | "create", "chain", ref rest @ ..] => {
                        let hook = rest.iter().position(|word| *word == "hook");
                        let open = rest.iter().position(|word| *word == "{");
                        if let (Some(hook), Some(open)) = (hook, open)
                            && let (Some(name), Some(way)) = (
                                open.checked_sub(1).and_then(|at| rest.get(at)),
                                rest.get(hook + 1),
                            )
                        {
                            chains.hook(&rest[..open - 1].join(" "), name, way);
                        }
                    }
                    _ => {
                        if let Some(Ok(rule)) = command(&words, &self.names) {
                            let chain = words.iter().position(|word| *word == rule.chain);
                            let table = words.get(2..chain.unwrap_or(2)).unwrap_or_default();
                            chains.place(&table.join(" "), rule);
                        }
                    }
                }
            }
        }
        self.at = self.at.max(start + 1);
    }

    /// `inet filter { ... }`
    fn table(&mut self, chains: &mut Chains) {
        let mut name = Vec::new();
        while !matches!(self.peek(), "{" | ";" | "") {
            name.push(self.next());
        }
        if self.peek() != "{" {
            return;
        }
        self.at += 1;
        let nat = name.last() == Some(&"nat");
        let table = name.join(" ");
        loop {
            match self.next() {
                "" | "}" => return,
                ";" => {}
                "chain" => {
                    let chain = self.next().to_string();
                    if self.peek() == "{" {
                        self.at += 1;
                        self.chain(chains, &table, &chain, nat);
                    }
                }
                _ => {
                    while !matches!(self.peek(), "{" | "}" | ";" | "") {
                        self.at += 1;
                    }
                    if self.peek() == "{" {
                        self.block();
                    }
                }
            }
        }
    }

    fn chain(&mut self, chains: &mut Chains, table: &str, chain: &str, nat: bool) {
        loop {
            match self.peek() {
                "" => return,
                "}" => {
                    self.at += 1;
                    return;
                }
                ";" => self.at += 1,
                "type" | "policy" => {
                    let words = self.statement();
                    let hook = words.iter().position(|word| word == "hook");
                    if let Some(way) = hook.and_then(|place| words.get(place + 1)) {
                        chains.hook(table, chain, way);
                    }
                }
                "comment" => {
                    self.statement();
                }
                _ => {
                    let before = self.at;
                    let words = self.statement();
                    self.at = self.at.max(before + 1);
                    for words in verdicts(&words) {
                        let mut rule = rule(&words, &self.names);
                        rule.chain = chain.to_string();
                        rule.operation = Operation::Append;
                        if nat {
                            rule.table = "nat".to_string();
                        }
                        chains.place(table, rule);
                    }
                }
            }
        }
    }
}

/// `tcp dport vmap { 1000 : jump a, 2000 : accept }` as a rule for each of its values.
fn verdicts(words: &[String]) -> Vec<Vec<String>> {
    let place = words.iter().position(|word| word == "vmap");
    let Some((before, map)) = place.map(|place| (&words[..place], &words[place + 1..])) else {
        return vec![words.to_vec()];
    };
    let inside = map.strip_prefix(&["{".to_string()]);
    let Some(inside) = inside.and_then(|inside| inside.strip_suffix(&["}".to_string()])) else {
        return vec![words.to_vec()];
    };
    let pairs = inside.split(|word| word == ",");
    let pairs = pairs.map(|pair| pair.iter().filter(|word| *word != ":"));
    let rules = pairs.map(|pair| before.iter().chain(pair).cloned());
    rules
        .map(|rule| {
            rule.map(|word| word.trim_end_matches(':').to_string())
                .collect()
        })
        .collect()
}
