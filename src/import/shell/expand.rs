//! Variables, and a word as written as the words that it becomes.

use std::collections::HashMap;

use super::Array;
use super::arithmetic::evaluate;
use super::run::MOST_ROUNDS;

#[derive(Debug, Default)]
pub(super) struct Variables {
    values: HashMap<String, String>,
    pub arrays: Vec<Array>,
    /// The arguments of the function that runs.
    pub arguments: Vec<String>,
    /// The depth of an expansion in others.
    depth: usize,
}

/// A value longer than any that people write.
const LONGEST: usize = 1 << 14;
const DEEPEST: usize = 10;
/// So many words come of one, or of a range in braces: one more than a loop takes, which tells that.
const MOST: usize = MOST_ROUNDS + 1;

impl Variables {
    pub fn set(&mut self, name: &str, value: String) {
        if value.len() <= LONGEST {
            self.values.insert(name.to_string(), value);
        }
    }

    pub fn set_array(&mut self, name: &str, words: Vec<String>, more: bool) {
        let before = self.array(name).filter(|_| more).unwrap_or_default();
        let length: usize = before.iter().chain(&words).map(String::len).sum();
        // None of it: a part would be taken for a sequence.
        let (words, more) = match length > LONGEST {
            true => (Vec::new(), false),
            false => (words, more),
        };
        match self.arrays.iter_mut().find(|array| array.name == name) {
            Some(array) if more => array.words.extend(words),
            Some(array) => array.words = words,
            None => self.arrays.push(Array {
                name: name.to_string(),
                words,
            }),
        }
        if let Some(array) = self.arrays.iter_mut().find(|array| array.name == name) {
            array.words.truncate(MOST);
        }
    }

    /// `K[3]=x`
    pub fn set_element(&mut self, name: &str, index: i64, value: String) {
        let Ok(index) = usize::try_from(index) else {
            return;
        };
        let mut words = self.array(name).map(<[String]>::to_vec).unwrap_or_default();
        if index >= MOST {
            return;
        }
        if words.len() <= index {
            words.resize(index + 1, String::new());
        }
        words[index] = value;
        self.set_array(name, words, false);
    }

    fn array(&self, name: &str) -> Option<&[String]> {
        let found = self.arrays.iter().find(|array| array.name == name)?;
        Some(&found.words)
    }

    pub fn number(&self, name: &str) -> Option<i64> {
        self.values.get(name)?.trim().parse().ok()
    }

    pub fn element(&self, name: &str, index: i64) -> Option<String> {
        let words = self.array(name)?;
        let index = match usize::try_from(index) {
            Ok(index) => index,
            Err(_) => words
                .len()
                .checked_sub(usize::try_from(index.checked_neg()?).ok()?)?,
        };
        words.get(index).cloned()
    }

    /// The value of `$name`, `$1`, `$#`; `None` when it is not set.
    fn value(&self, name: &str) -> Option<String> {
        if let Some(value) = self.values.get(name) {
            return Some(value.clone());
        }
        if let Some(words) = self.array(name) {
            return words.first().cloned();
        }
        match name {
            "#" => Some(self.arguments.len().to_string()),
            number => {
                let place = number.parse::<usize>().ok()?.checked_sub(1)?;
                self.arguments.get(place).cloned()
            }
        }
    }

    /// The words that a word as written becomes.
    pub fn words(&mut self, raw: &str) -> Vec<String> {
        let mut all = Vec::new();
        for raw in braces(raw) {
            let mut words = Words::default();
            self.expand(&raw, Quotes::None, &mut words);
            all.extend(words.end());
            if all.len() > MOST {
                break;
            }
        }
        all.truncate(MOST);
        all
    }

    /// One text, as for an assignment.
    pub fn text(&mut self, raw: &str) -> String {
        let mut words = Words::default();
        self.expand(raw, Quotes::Double, &mut words);
        words.end().pop().unwrap_or_default()
    }

    /// The text of an assignment, where quotes count and blanks do not split.
    pub fn assigned(&mut self, raw: &str) -> String {
        let mut words = Words::default();
        self.expand(raw, Quotes::None, &mut words);
        words.end().join(" ")
    }

    fn expand(&mut self, raw: &str, mut quotes: Quotes, words: &mut Words) {
        if self.depth >= DEEPEST {
            return;
        }
        self.depth += 1;
        let inside_text = quotes == Quotes::Double;
        let chars: Vec<char> = raw.chars().collect();
        let mut at = 0;
        while at < chars.len() && words.room() {
            let c = chars[at];
            match (c, quotes) {
                ('\'', Quotes::None) => quotes = Quotes::Single,
                ('\'', Quotes::Single) => quotes = Quotes::None,
                (c, Quotes::Single) => words.push(c),
                ('"', Quotes::None) => quotes = Quotes::Double,
                ('"', Quotes::Double) if !inside_text => quotes = Quotes::None,
                ('\\', Quotes::None) if at + 1 < chars.len() => {
                    at += 1;
                    words.push(chars[at]);
                }
                ('\\', Quotes::Double)
                    if chars.get(at + 1).is_some_and(|c| "\"\\$`".contains(*c)) =>
                {
                    at += 1;
                    words.push(chars[at]);
                }
                ('$' | '`', _) => {
                    let end = reference_end(&chars, at);
                    let reference: String = chars[at..end].iter().collect();
                    self.refer(&reference, quotes, words);
                    at = end;
                    words.began |= quotes == Quotes::Double;
                    continue;
                }
                (c, _) => words.push(c),
            }
            words.began |= quotes != Quotes::None;
            at += 1;
        }
        self.depth -= 1;
    }

    /// Adds what `$x`, `${x}`, `$((x))`, `$(x)` or `` `x` `` stands for.
    fn refer(&mut self, reference: &str, quotes: Quotes, words: &mut Words) {
        let separators = self.separators();
        let list = match reference {
            "$@" | "$*" | "${@}" | "${*}" if !self.arguments.is_empty() => {
                Some(self.arguments.clone())
            }
            _ => self.all_of_array(reference),
        };
        if let Some(list) = list {
            let together = quotes == Quotes::Double && reference.contains('*');
            if together {
                words.push_text(&list.join(" "));
                return;
            }
            for (place, word) in list.iter().enumerate() {
                if place > 0 {
                    words.split();
                }
                match quotes {
                    Quotes::Double => words.push_text(word),
                    _ => words.push_split(word, separators.as_deref()),
                }
            }
            return;
        }
        match (self.resolve(reference), quotes) {
            (Some(value), Quotes::Double) => words.push_text(&value),
            (Some(value), _) => words.push_split(&value, separators.as_deref()),
            (None, _) => words.push_text(reference),
        }
    }

    /// IFS, when it is of signs that stand between words.
    fn separators(&self) -> Option<String> {
        let separators = self.values.get("IFS")?;
        let signs = separators.chars().all(|c| " ,:;|-\t".contains(c));
        (signs && !separators.is_empty()).then(|| separators.clone())
    }

    /// `${K[@]}`, `${!K[@]}`
    fn all_of_array(&self, reference: &str) -> Option<Vec<String>> {
        let inside = reference.strip_prefix("${")?.strip_suffix('}')?;
        let name = inside.strip_suffix("[@]").or(inside.strip_suffix("[*]"))?;
        if let Some(name) = name.strip_prefix('!') {
            let count = self.array(name)?.len();
            return Some((0..count).map(|place| place.to_string()).collect());
        }
        if name.starts_with('#') {
            return None;
        }
        Some(self.array(name)?.to_vec())
    }

    fn resolve(&mut self, reference: &str) -> Option<String> {
        let arithmetic = reference
            .strip_prefix("$((")
            .and_then(|rest| rest.strip_suffix("))"));
        if let Some(inside) = arithmetic {
            let inside = self.text(inside);
            return evaluate(&inside, self).map(|value| value.to_string());
        }
        let substituted = reference
            .strip_prefix("$(")
            .and_then(|rest| rest.strip_suffix(')'))
            .or_else(|| {
                reference
                    .strip_prefix('`')
                    .and_then(|rest| rest.strip_suffix('`'))
            });
        if let Some(inside) = substituted {
            let inside = self.text(inside);
            return substitute(&inside);
        }
        let inside = reference
            .strip_prefix("${")
            .and_then(|rest| rest.strip_suffix('}'));
        let Some(inside) = inside else {
            return self.value(reference.strip_prefix('$')?);
        };
        if let Some(name) = inside.strip_prefix('#') {
            if let Some(name) = name.strip_suffix("[@]").or(name.strip_suffix("[*]")) {
                return Some(self.array(name)?.len().to_string());
            }
            return Some(self.value(name)?.len().to_string());
        }
        let end = inside.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        let Some(end) = end else {
            return self.value(inside);
        };
        let (name, rest) = inside.split_at(end);
        if let Some(rest) = rest.strip_prefix('[') {
            let index = self.text(rest.strip_suffix(']')?);
            let index = evaluate(&index, self)?;
            return self.element(name, index);
        }
        if let Some(then) = rest.strip_prefix(":+").or(rest.strip_prefix('+')) {
            let set = self.value(name).is_some_and(|value| !value.is_empty());
            return Some(if set {
                self.assigned(then)
            } else {
                String::new()
            });
        }
        if rest.starts_with(['%', '#']) {
            return cut(&self.value(name)?, rest);
        }
        let otherwise = rest
            .strip_prefix(":-")
            .or(rest.strip_prefix('-'))
            .or(rest.strip_prefix(":="))?;
        match self.value(name).filter(|value| !value.is_empty()) {
            Some(value) => Some(value),
            None => Some(self.assigned(otherwise)),
        }
    }
}

/// `${x%/*}`, `${x%%/*}`, `${x#*/}`, `${x##*/}`: what is left of a value.
fn cut(value: &str, rest: &str) -> Option<String> {
    let pattern = rest.trim_start_matches(['%', '#']);
    let signs = &rest[..rest.len() - pattern.len()];
    let end = pattern.strip_suffix('*').unwrap_or(pattern);
    let start = pattern.strip_prefix('*').unwrap_or(pattern);
    let kept = match signs {
        "%" if end != pattern => value.rsplit_once(end).map(|(kept, _)| kept),
        "%%" if end != pattern => value.split_once(end).map(|(kept, _)| kept),
        "%" | "%%" => value.strip_suffix(pattern),
        "#" if start != pattern => value.split_once(start).map(|(_, kept)| kept),
        "##" if start != pattern => value.rsplit_once(start).map(|(_, kept)| kept),
        "#" | "##" => value.strip_prefix(pattern),
        _ => return None,
    };
    Some(kept.unwrap_or(value).to_string())
}

/// The output of the few commands whose output is known.
fn substitute(command: &str) -> Option<String> {
    if let Some((before, after)) = command.split_once('|') {
        // `echo $PORTS | tr ',' ' '`
        let text = substitute(before)?;
        let quotes = after.trim().strip_prefix("tr ")?;
        let (from, to) = quotes.trim().split_once(' ')?;
        let sign = |word: &str| word.trim_matches(['\'', '"']).chars().next();
        let (from, to) = (sign(from)?, sign(to).unwrap_or(' '));
        return Some(text.replace(from, &to.to_string()));
    }
    let words: Vec<&str> = command.split_whitespace().collect();
    match words[..] {
        ["expr", ..] => {
            let value = evaluate(
                &words[1..].join(" ").replace('\\', ""),
                &mut Variables::default(),
            );
            value.map(|value| value.to_string())
        }
        ["which" | "type", .., program] | ["command", "-v" | "-V", program, ..] => {
            Some(program.to_string())
        }
        ["seq", last] => Some(range(1, 1, last.parse().ok()?)),
        ["seq", first, last] => Some(range(first.parse().ok()?, 1, last.parse().ok()?)),
        ["seq", first, step, last] => Some(range(
            first.parse().ok()?,
            step.parse().ok()?,
            last.parse().ok()?,
        )),
        ["echo", ..] => Some(words[1..].join(" ")),
        _ => None,
    }
}

fn range(first: i64, step: i64, last: i64) -> String {
    let next = |n: &i64| n.checked_add(step);
    let inside = |n: &i64| if step < 0 { *n >= last } else { *n <= last };
    let numbers = std::iter::successors(Some(first), next).take_while(inside);
    let numbers: Vec<String> = numbers.take(MOST).map(|n| n.to_string()).collect();
    numbers.join(" ")
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quotes {
    None,
    Single,
    Double,
}

/// The words that an expansion makes.
#[derive(Debug, Default)]
struct Words {
    done: Vec<String>,
    now: String,
    /// An empty word in quotes is a word.
    began: bool,
    length: usize,
}

impl Words {
    fn room(&self) -> bool {
        self.length < LONGEST
    }

    fn push(&mut self, c: char) {
        self.began = true;
        self.length += 1;
        self.now.push(c);
    }

    fn push_text(&mut self, text: &str) {
        self.began = true;
        self.length += text.len();
        self.now.push_str(text);
    }

    /// A value without quotes: blanks split it, or what IFS names.
    fn push_split(&mut self, text: &str, separators: Option<&str>) {
        for c in text.chars() {
            if separators.map_or(c.is_whitespace(), |separators| separators.contains(c)) {
                self.split();
            } else {
                self.push(c);
            }
        }
    }

    fn split(&mut self) {
        if self.began {
            self.done.push(std::mem::take(&mut self.now));
            self.began = false;
        }
    }

    fn end(mut self) -> Vec<String> {
        self.split();
        self.done
    }
}

/// Where the reference that begins at `at` ends.
fn reference_end(chars: &[char], at: usize) -> usize {
    if chars[at] == '`' {
        let close = chars[at + 1..].iter().position(|&c| c == '`');
        return close.map_or(chars.len(), |place| at + place + 2);
    }
    match chars.get(at + 1) {
        Some(&open @ ('(' | '{')) => {
            let close = if open == '(' { ')' } else { '}' };
            let mut depth = 0usize;
            for (place, &c) in chars.iter().enumerate().skip(at + 1) {
                if c == open {
                    depth += 1;
                } else if c == close {
                    depth -= 1;
                    if depth == 0 {
                        return place + 1;
                    }
                }
            }
            chars.len()
        }
        Some(c) if c.is_ascii_digit() || "@*#?$!".contains(*c) => at + 2,
        Some(c) if c.is_ascii_alphabetic() || *c == '_' => {
            let part = |c: &char| c.is_ascii_alphanumeric() || *c == '_';
            let rest = chars[at + 1..].iter().take_while(|c| part(c));
            at + 1 + rest.count()
        }
        _ => at + 1,
    }
}

/// `{1..3}` and `{a,b}` when they are a word of their own.
fn braces(raw: &str) -> Vec<String> {
    let inside = raw
        .strip_prefix('{')
        .and_then(|rest| rest.strip_suffix('}'));
    let Some(inside) = inside.filter(|inside| !inside.contains(['$', '"', '\'', '{'])) else {
        return vec![raw.to_string()];
    };
    if let Some((first, last)) = inside.split_once("..")
        && let (Ok(first), Ok(last)) = (first.parse(), last.parse())
    {
        let step = if first <= last { 1 } else { -1 };
        let numbers = range(first, step, last);
        return numbers.split(' ').map(str::to_string).collect();
    }
    if inside.contains(',') {
        return inside.split(',').map(str::to_string).collect();
    }
    vec![raw.to_string()]
}
