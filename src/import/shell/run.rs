//! Statements one after the other: assignments, loops, functions; what is left are simple commands.

use std::collections::HashMap;

use super::arithmetic::evaluate;
use super::expand::Variables;
use super::parse::{Simple, Statement, parse};
use super::{Commands, ShellCommand};

/// More steps than any firewall script takes.
const MOST_STEPS: usize = 20_000;
pub(super) const MOST_ROUNDS: usize = 1_000;
const DEEPEST: usize = 20;
/// Bytes of all commands together.
const MOST_TEXT: usize = 1 << 22;

pub(super) fn run(statements: &[Statement]) -> Commands {
    let mut runner = Runner::default();
    runner.all(statements);
    if runner.steps >= MOST_STEPS {
        let last = "the script has too many steps: the rest was not read".to_string();
        runner.found.remarks.push(last);
    }
    runner.found.arrays = std::mem::take(&mut runner.variables.arrays);
    runner.found
}

#[derive(Default)]
struct Runner {
    variables: Variables,
    functions: HashMap<String, Vec<Statement>>,
    found: Commands,
    steps: usize,
    depth: usize,
    /// Bytes of the commands found.
    text: usize,
}

impl Runner {
    fn all(&mut self, statements: &[Statement]) {
        if self.depth >= DEEPEST {
            return;
        }
        self.depth += 1;
        for statement in statements {
            self.steps += 1;
            if self.steps >= MOST_STEPS {
                break;
            }
            self.one(statement);
        }
        self.depth -= 1;
    }

    fn one(&mut self, statement: &Statement) {
        match statement {
            Statement::Simple(simple) => self.simple(simple),
            Statement::Group(body) => self.all(body),
            Statement::Function { name, body } => {
                self.functions.insert(name.clone(), body.clone());
            }
            Statement::For { name, words, body } => {
                let mut rounds = 0;
                for word in words {
                    for value in self.variables.words(word) {
                        rounds += 1;
                        if rounds > MOST_ROUNDS {
                            return self.cut_short();
                        }
                        self.variables.set(name, value);
                        self.all(body);
                    }
                }
            }
            Statement::Count { header, body } => self.count(header, body),
            Statement::While {
                condition,
                body,
                line,
            } => self.while_loop(condition, body, *line),
            Statement::If(branches) => self.branches(branches),
        }
    }

    /// Says that a loop was not read to its end.
    fn cut_short(&mut self) {
        let said = format!("a loop has more than {MOST_ROUNDS} rounds: the rest was not read");
        if !self.found.remarks.contains(&said) {
            self.found.remarks.push(said);
        }
    }

    fn count(&mut self, header: &str, body: &[Statement]) {
        let mut parts = header.split(';');
        let (first, condition, step) = (
            parts.next().unwrap_or_default(),
            parts.next().unwrap_or_default(),
            parts.next().unwrap_or_default(),
        );
        self.arithmetic(first);
        for _ in 0..MOST_ROUNDS {
            if self.arithmetic(condition).unwrap_or(0) == 0 || self.steps >= MOST_STEPS {
                return;
            }
            self.all(body);
            self.arithmetic(step);
        }
        self.cut_short();
    }

    fn arithmetic(&mut self, text: &str) -> Option<i64> {
        let text = self.variables.text(text);
        evaluate(&text, &mut self.variables)
    }

    fn while_loop(&mut self, condition: &[Statement], body: &[Statement], line: usize) {
        for round in 0..MOST_ROUNDS {
            match self.test(condition) {
                Some(true) if self.steps < MOST_STEPS => self.all(body),
                None if round == 0 => {
                    let said =
                        format!("line {line}: how often this loop runs is not known: read once");
                    self.found.remarks.push(said);
                    return self.all(body);
                }
                _ => return,
            }
        }
    }

    /// The branch that is taken; where that is not known, each of them.
    fn branches(&mut self, branches: &[(Vec<Statement>, Vec<Statement>)]) {
        for (condition, body) in branches {
            let holds = if condition.is_empty() {
                Some(true)
            } else {
                self.test(condition)
            };
            if holds != Some(false) {
                self.all(body);
            }
            if holds == Some(true) && !condition.is_empty() {
                return;
            }
        }
    }

    /// Returns whether `[ a -lt b ]` or `(( a < b ))` holds; `None` for other conditions.
    fn test(&mut self, condition: &[Statement]) -> Option<bool> {
        let [Statement::Simple(simple)] = condition else {
            self.commands_of(condition);
            return None;
        };
        if let [word] = &simple.words[..]
            && let Some(inside) = word.strip_prefix("((").and_then(|w| w.strip_suffix("))"))
        {
            return self.arithmetic(inside).map(|value| value != 0);
        }
        let mut words = Vec::new();
        for word in &simple.words {
            words.extend(self.variables.words(word));
        }
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        if let ["[" | "[[" | "test", sign @ ("-z" | "-n"), text, ..] = words[..]
            && words.len() <= 4
            && !text.contains(['$', '`'])
        {
            return Some(text.is_empty() == (sign == "-z"));
        }
        let ["[" | "[[" | "test", left, operator, right, "]" | "]]"] = words[..] else {
            self.commands_of(condition);
            return None;
        };
        if left.contains(['$', '`']) || right.contains(['$', '`']) {
            return None;
        }
        let numbers = left.parse::<i64>().ok().zip(right.parse::<i64>().ok());
        match (operator, numbers) {
            ("=" | "==", _) => Some(left == right),
            ("!=", _) => Some(left != right),
            ("-eq", Some((left, right))) => Some(left == right),
            ("-ne", Some((left, right))) => Some(left != right),
            ("-lt", Some((left, right))) => Some(left < right),
            ("-le", Some((left, right))) => Some(left <= right),
            ("-gt", Some((left, right))) => Some(left > right),
            ("-ge", Some((left, right))) => Some(left >= right),
            _ => None,
        }
    }

    /// A command that is a condition runs too: `if ! iptables -C ...`.
    fn commands_of(&mut self, condition: &[Statement]) {
        let is_test = |statement: &Statement| match statement {
            Statement::Simple(simple) => simple
                .words
                .first()
                .is_some_and(|word| matches!(word.as_str(), "[" | "[[" | "test")),
            _ => false,
        };
        if !condition.iter().any(is_test) {
            self.all(condition);
        }
    }

    fn simple(&mut self, simple: &Simple) {
        if let [word] = &simple.words[..]
            && let Some(inside) = word.strip_prefix("((").and_then(|w| w.strip_suffix("))"))
        {
            self.arithmetic(inside);
            return;
        }
        let mut words: Vec<String> = Vec::new();
        for (place, raw) in simple.words.iter().enumerate() {
            let declares = place == 0 || words.first().is_none_or(|word| is_declaration(word));
            if words.first().is_some_and(|word| word == "let") {
                break;
            }
            if declares && self.assign(raw) {
                continue;
            }
            words.extend(self.variables.words(raw));
        }
        if words.first().is_some_and(|word| word == "let") {
            for raw in &simple.words[1..] {
                let text = self.variables.assigned(raw);
                evaluate(&text, &mut self.variables);
            }
            return;
        }
        let start = words.iter().take_while(|word| *word == "!").count();
        let words = words.split_off(start);
        if words.first().is_none_or(|word| is_declaration(word)) {
            return;
        }
        let input = simple.input.as_ref().map(|input| match input.literal {
            true => input.text.clone(),
            false => self.lines(&input.text),
        });
        self.command(ShellCommand {
            certain: self.depth == 1,
            words,
            input,
            line: simple.line,
        });
    }

    fn lines(&mut self, text: &str) -> String {
        let mut read = String::new();
        for line in text.split_inclusive('\n') {
            read.push_str(&self.variables.text(line));
        }
        read
    }

    /// `NAME=value`, `NAME=(words)`, `NAME+=...`, `NAME[1]=value`
    fn assign(&mut self, raw: &str) -> bool {
        let Some((name, value)) = raw.split_once('=') else {
            return false;
        };
        let (name, more) = match name.strip_suffix('+') {
            Some(name) => (name, true),
            None => (name, false),
        };
        let (name, index) = match name.strip_suffix(']').and_then(|n| n.split_once('[')) {
            Some((name, index)) => (name, Some(index)),
            None => (name, None),
        };
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let fits = !name.is_empty()
            && name.chars().all(is_part)
            && !name.starts_with(|c: char| c.is_ascii_digit());
        if !fits {
            return false;
        }
        if let Some(inside) = value.strip_prefix('(').and_then(|v| v.strip_suffix(')')) {
            let mut words = Vec::new();
            for statement in parse(inside) {
                if let Statement::Simple(simple) = statement {
                    for word in &simple.words {
                        words.extend(self.variables.words(word));
                    }
                }
            }
            self.variables.set_array(name, words, more);
            return true;
        }
        let value = self.variables.assigned(value);
        if let Some(index) = index {
            if let Some(index) = self.arithmetic(index) {
                self.variables.set_element(name, index, value);
            }
        } else if more {
            let before = self.variables.text(&format!("${{{name}:-}}"));
            self.variables.set(name, before + &value);
        } else {
            self.variables.set(name, value);
        }
        true
    }

    /// A command without what only starts another one.
    fn command(&mut self, mut command: ShellCommand) {
        loop {
            match command.program() {
                name if starter(name).is_some() => {
                    let (valued, operands) = starter(name).unwrap_or_default();
                    let Some(place) = started(&command.words, valued, operands) else {
                        return;
                    };
                    command.words.drain(..place);
                }
                "sh" | "bash" | "dash" | "ash" | "ksh" | "eval" => {
                    let text = match &command.words[..] {
                        [_, flag, text, ..] if flag.starts_with('-') && flag.ends_with('c') => {
                            text.clone()
                        }
                        [eval, text @ ..] if eval == "eval" => text.join(" "),
                        _ => break,
                    };
                    let mut statements = parse(&text);
                    set_line(&mut statements, command.line);
                    return self.all(&statements);
                }
                "set" if command.words.get(1).is_some_and(|word| word == "--") => {
                    self.variables.arguments = command.words.split_off(2);
                    return;
                }
                "shift" => {
                    if !self.variables.arguments.is_empty() {
                        self.variables.arguments.remove(0);
                    }
                    return;
                }
                name => {
                    let Some(body) = self.functions.get(name).cloned() else {
                        break;
                    };
                    let arguments = command.words.split_off(1);
                    let before = std::mem::replace(&mut self.variables.arguments, arguments);
                    self.all(&body);
                    self.variables.arguments = before;
                    return;
                }
            }
        }
        let words = command.words.iter().map(String::len).sum::<usize>();
        self.text += words + command.input.as_ref().map_or(0, String::len);
        if self.text > MOST_TEXT {
            self.steps = MOST_STEPS;
            return;
        }
        self.found.commands.push(command);
    }
}

/// A program that only starts another one: its options that take a value in the next word, and the number of words before
/// the command. `None` for any other program.
fn starter(name: &str) -> Option<(&'static str, usize)> {
    Some(match name {
        "sudo" => ("ugphrtCDRTU", 0),
        "doas" => ("uC", 0),
        "nice" => ("n", 0),
        "ionice" => ("cnpPu", 0),
        "env" => ("uCS", 0),
        "exec" => ("a", 0),
        "time" => ("fo", 0),
        "timeout" => ("sk", 1),
        "flock" => ("wE", 1),
        "stdbuf" => ("ioe", 0),
        "nohup" | "command" | "setsid" | "builtin" => ("", 0),
        _ => return None,
    })
}

/// The place of the command that a starter starts.
fn started(words: &[String], valued: &str, mut operands: usize) -> Option<usize> {
    let mut place = 1;
    loop {
        let word = words.get(place)?;
        let mut letters = word.strip_prefix('-').unwrap_or_default().chars();
        let takes_next = match (letters.next(), letters.next()) {
            (Some(letter), None) => valued.contains(letter),
            _ => false,
        };
        place += match () {
            () if word == "--" => return Some(place + 1 + operands),
            () if takes_next => 2,
            () if word.starts_with('-') || word.contains('=') => 1,
            () if operands > 0 => {
                operands -= 1;
                1
            }
            () => return Some(place),
        };
    }
}

fn set_line(statements: &mut [Statement], line: usize) {
    for statement in statements {
        if let Statement::Simple(simple) = statement {
            simple.line = line;
        }
    }
}

fn is_declaration(word: &str) -> bool {
    matches!(
        word,
        "declare" | "typeset" | "local" | "readonly" | "export" | "unset" | "let"
    )
}
