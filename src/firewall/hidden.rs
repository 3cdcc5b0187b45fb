//! Tables that `iptables-save` does not show, because somebody has put a rule into them with nft.

use super::exec::run;
use super::{Failure, Iptables};
use crate::ruleset::Family;
use crate::ruleset::iptables::names::is_ours;

/// Fails unless `table` is free of our chains, by what nft shows of it. `program` did not show the table and printed
/// `words` instead.
///
/// # Errors
/// When chains of ours are in it, or nft does not show it either. The error says what is known.
pub fn holds_nothing_of_ours(
    family: Family,
    table: &str,
    program: &str,
    words: &str,
) -> Result<(), Failure> {
    let why = match chains(family, table) {
        Some(chains) if !chains.iter().any(|chain| is_ours(chain)) => return Ok(()),
        Some(_) => "nft shows chains of toctoc in it; whether they guard a door is not known",
        None => "whether chains of toctoc are in it is not known",
    };
    let known = match Iptables::has_rules() {
        Ok(true) => "rules of toctoc are loaded: the kernel keeps their lists",
        Ok(false) => "no rule of toctoc is loaded: the kernel keeps no list of theirs",
        Err(_) => "the kernel's lists cannot be read either",
    };
    Err(Failure::unchanged(format!(
        "{}\n{why}\n{known}",
        not_shown(family, table, program, words)
    )))
}

/// Fails if the kernel keeps lists of ours for a family in which no rules of ours were shown. `shown` are the families
/// in which some were.
///
/// # Errors
/// When rules of ours are loaded that were not shown.
pub fn none_is_missing(shown: &[Family]) -> Result<(), Failure> {
    for family in Iptables::families() {
        if !shown.contains(&family) && Iptables::has_rules_of(family)? {
            let family = title(family);
            return Err(Failure::unchanged(format!(
                "rules of toctoc ({family}) are loaded, since the kernel keeps their lists, and what was asked does \
                 not show them: iptables-save, iptables-nft-save and iptables-legacy-save are where they can be \
                 (`toctoc apply` moves them to this host's own iptables)"
            )));
        }
    }
    Ok(())
}

/// The message about such a table.
pub fn not_shown(family: Family, table: &str, program: &str, words: &str) -> String {
    let (name, words) = (name(family), words.trim_start_matches(['#', ' ']));
    format!(
        "the table {table} ({}) cannot be read by {program}, which says: {words}\n\
         somebody has put a rule into it with nft that iptables does not show: `nft -a list table {name} \
         {table}` shows it, and where it is gone, iptables works again",
        title(family)
    )
}

fn title(family: Family) -> &'static str {
    match family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    }
}

/// The names of the chains of a table, from nft. `None` when nft fails.
fn chains(family: Family, table: &str) -> Option<Vec<String>> {
    let ended = run(&["nft", "-t", "list", "table", name(family), table], "").ok()?;
    let lines = ended.stdout.lines().map(str::trim);
    let names = lines.filter_map(|line| line.strip_prefix("chain ")?.strip_suffix(" {"));
    let names = names.map(str::to_string).collect();
    ended.succeeded().then_some(names)
}

fn name(family: Family) -> &'static str {
    match family {
        Family::V4 => "ip",
        Family::V6 => "ip6",
    }
}
