//! `$(( ))`: whole numbers, variables, array elements, assignments.

use super::expand::Variables;

/// The value of an expression; `None` when a variable has no number or the text is something else.
pub(super) fn evaluate(text: &str, variables: &mut Variables) -> Option<i64> {
    let mut value = None;
    // The comma operator: the last part is the value.
    for part in text.split(',') {
        let mut reader = Reader {
            text: part,
            variables,
            depth: 0,
        };
        let found = reader.assignment();
        reader.spaces();
        value = found.filter(|_| reader.text.is_empty());
    }
    value
}

struct Reader<'t, 'v> {
    /// The rest, not read yet.
    text: &'t str,
    variables: &'v mut Variables,
    depth: usize,
}

/// Binary operators, the loosest first; longer ones before their beginnings.
const LEVELS: [&[&str]; 6] = [
    &["||"],
    &["&&"],
    &["==", "!="],
    &["<=", ">=", "<", ">"],
    &["+", "-"],
    &["*", "/", "%"],
];

const DEEPEST: usize = 20;

impl<'t> Reader<'t, '_> {
    fn spaces(&mut self) {
        self.text = self.text.trim_start();
    }

    fn take(&mut self, sign: &str) -> bool {
        self.spaces();
        match self.text.strip_prefix(sign) {
            Some(rest) => {
                self.text = rest;
                true
            }
            None => false,
        }
    }

    fn name(&mut self) -> Option<&'t str> {
        self.spaces();
        let text = self.text;
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let end = text.find(|c| !is_part(c)).unwrap_or(text.len());
        let name = &text[..end];
        if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
            return None;
        }
        self.text = &text[end..];
        Some(name)
    }

    fn assignment(&mut self) -> Option<i64> {
        let start = self.text;
        if let Some(name) = self.name() {
            for (sign, sum) in [("+=", 1), ("-=", -1), ("=", 0)] {
                self.spaces();
                if self.text.starts_with("==") || !self.take(sign) {
                    continue;
                }
                let value = self.level(0)?;
                let value = match sum {
                    0 => value,
                    sum => self
                        .variables
                        .number(name)?
                        .checked_add(value.checked_mul(sum)?)?,
                };
                self.variables.set(name, value.to_string());
                return Some(value);
            }
        }
        self.text = start;
        self.level(0)
    }

    fn level(&mut self, level: usize) -> Option<i64> {
        let Some(operators) = LEVELS.get(level) else {
            return self.atom();
        };
        let mut left = self.level(level + 1)?;
        'next: loop {
            for operator in *operators {
                if self.take(operator) {
                    let right = self.level(level + 1)?;
                    left = apply(operator, left, right)?;
                    continue 'next;
                }
            }
            return Some(left);
        }
    }

    fn atom(&mut self) -> Option<i64> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return None;
        }
        let value = self.part();
        self.depth -= 1;
        value
    }

    fn part(&mut self) -> Option<i64> {
        for (sign, step) in [("++", 1), ("--", -1)] {
            if self.take(sign) {
                let name = self.name()?;
                return self.step(name, step);
            }
        }
        if self.take("-") {
            return self.atom()?.checked_neg();
        }
        if self.take("!") {
            return Some(i64::from(self.atom()? == 0));
        }
        if self.take("(") {
            let value = self.level(0)?;
            return self.take(")").then_some(value);
        }
        if let Some(name) = self.name() {
            if self.take("[") {
                let index = self.level(0)?;
                let element = self.variables.element(name, index)?.parse().ok();
                return element.filter(|_| self.take("]"));
            }
            let value = self.variables.number(name)?;
            for (sign, step) in [("++", 1), ("--", -1)] {
                if self.take(sign) {
                    self.step(name, step)?;
                }
            }
            return Some(value);
        }
        self.spaces();
        let text = self.text;
        let end = text.find(|c: char| !c.is_ascii_digit());
        let (digits, rest) = text.split_at(end.unwrap_or(text.len()));
        self.text = rest;
        digits.parse().ok()
    }

    fn step(&mut self, name: &str, step: i64) -> Option<i64> {
        let value = self.variables.number(name)?.checked_add(step)?;
        self.variables.set(name, value.to_string());
        Some(value)
    }
}

fn apply(operator: &str, left: i64, right: i64) -> Option<i64> {
    match operator {
        "||" => Some(i64::from(left != 0 || right != 0)),
        "&&" => Some(i64::from(left != 0 && right != 0)),
        "==" => Some(i64::from(left == right)),
        "!=" => Some(i64::from(left != right)),
        "<=" => Some(i64::from(left <= right)),
        ">=" => Some(i64::from(left >= right)),
        "<" => Some(i64::from(left < right)),
        ">" => Some(i64::from(left > right)),
        "+" => left.checked_add(right),
        "-" => left.checked_sub(right),
        "*" => left.checked_mul(right),
        "/" => left.checked_div(right),
        _ => left.checked_rem(right),
    }
}
