//! The output of `iptables-save`, read.

use super::iptables;
use super::rule::Rule;
use super::shell;

/// The rules, each with its line.
pub(super) fn rules(text: &str) -> Vec<(Result<Rule, String>, usize)> {
    let mut table = "filter".to_string();
    let mut rules = Vec::new();
    for (place, line) in text.lines().enumerate() {
        let line = line.trim();
        if let Some(name) = line.strip_prefix('*') {
            table = name.trim().to_string();
            continue;
        }
        // Counters: `[12:720] -A INPUT ...`
        let line = match line.strip_prefix('[').and_then(|l| l.split_once(']')) {
            Some((_, rest)) => rest.trim_start(),
            None => line,
        };
        if !line.starts_with("-A") && !line.starts_with("-I") {
            continue;
        }
        for command in shell::commands(line).commands {
            rules.push((iptables::read(&command.words, &table), place + 1));
        }
    }
    rules
}

/// Returns whether a text is what `iptables-save` prints.
pub(super) fn is_saved(text: &str) -> bool {
    let mut lines = text.lines().map(str::trim);
    lines.any(|line| matches!(line, "*filter" | "*nat" | "*mangle" | "*raw" | "COMMIT"))
        || text.lines().any(|line| line.starts_with("-A "))
}
