//! A ruleset of one family as text for `iptables-restore`, with its comments, in the order it prints.

use std::fmt;

use crate::ruleset::Family;

/// All our chains of one family.
#[derive(Debug, Clone, PartialEq)]
pub struct Script {
    pub family: Family,
    /// The origin of the script, as comment lines.
    pub header: Vec<String>,
    pub tables: Vec<Table>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    pub name: &'static str,
    /// Each built-in chain that jumps, and the chain of ours it jumps to.
    pub jumps: Vec<(&'static str, String)>,
    pub lines: Vec<Line>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Line {
    /// A chain and what follows `-A CHAIN`.
    Rule(String, String),
    Comment(String),
    Blank,
}

impl Table {
    pub fn new(name: &'static str) -> Table {
        Table {
            name,
            jumps: Vec::new(),
            lines: Vec::new(),
        }
    }

    pub fn rule(&mut self, chain: &str, rule: impl Into<String>) {
        self.lines.push(Line::Rule(chain.to_string(), rule.into()));
    }

    pub fn note(&mut self, comment: impl Into<String>) {
        self.lines.push(Line::Comment(comment.into()));
    }

    /// Begins a new part of the text.
    pub fn part(&mut self, title: impl Into<String>) {
        self.lines.push(Line::Blank);
        self.note(title);
    }

    /// The chains in the order in which they first get a rule, with their rules.
    pub fn chains(&self) -> Vec<(&str, Vec<&str>)> {
        let mut chains: Vec<(&str, Vec<&str>)> = Vec::new();
        let mut places = std::collections::HashMap::new();
        for line in &self.lines {
            if let Line::Rule(chain, rule) = line {
                let place = *places.entry(chain.as_str()).or_insert_with(|| {
                    chains.push((chain, Vec::new()));
                    chains.len() - 1
                });
                chains[place].1.push(rule);
            }
        }
        chains
    }
}

/// The output of `render`: a file for `iptables-restore --noflush`, where no rules of ours are yet.
impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.header {
            comment(f, line)?;
        }
        for table in &self.tables {
            writeln!(f, "\n*{}", table.name)?;
            for (chain, _) in table.chains() {
                writeln!(f, ":{chain} - [0:0]")?;
            }
            for line in &table.lines {
                match line {
                    Line::Rule(chain, rule) => writeln!(f, "-A {chain} {rule}")?,
                    Line::Comment(text) => comment(f, text)?,
                    Line::Blank => writeln!(f)?,
                }
            }
            writeln!(f, "\n# Everything is in place: send packets through it.")?;
            for (from, to) in &table.jumps {
                writeln!(f, "-I {from} -j {to}")?;
            }
            writeln!(f, "COMMIT")?;
        }
        Ok(())
    }
}

/// A comment in lines of a hundred letters: iptables-restore takes the rest of a very long one for a
/// rule.
fn comment(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    const WIDTH: usize = 100;
    let mut line = String::from("#");
    for word in text.split(' ') {
        if line.len() + word.len() >= WIDTH && line.len() > 1 {
            writeln!(f, "{line}")?;
            line = String::from("#");
        }
        if !word.is_empty() {
            line.push(' ');
            line.push_str(word);
        }
    }
    writeln!(f, "{line}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_comments_are_broken_between_words() {
        let script = |comment: String| Script {
            family: Family::V4,
            header: vec![comment],
            tables: Vec::new(),
        };
        let text = script(["word"; 60].join(" ")).to_string();
        assert_eq!(text.lines().count(), 4, "{text}");
        assert!(
            text.lines()
                .all(|line| line.len() <= 100 && line.starts_with("# word"))
        );
        // A word that has no room anywhere stands alone, and after nothing.
        let long = "x".repeat(120);
        assert_eq!(
            script(format!("{long}  y")).to_string(),
            format!("# {long}\n# y\n")
        );
        assert_eq!(script(String::new()).to_string(), "#\n");
    }
}
