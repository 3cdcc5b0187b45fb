//! Scripts of `iptables -m recent`, what `iptables-save` prints, and files of nft: the rules themselves say which
//! ports are knocked, in which order, and what that opens.

use super::chains::{self, Chains};
use super::draft::Draft;
use super::rule::Rule;
use super::{iptables, nft, saved, shell};
use crate::knock::Knock;

/// A shell script.
pub(super) fn read(text: &str) -> Draft {
    let mut draft = Draft {
        source: "a script of firewall rules",
        ..Draft::default()
    };
    let found = shell::commands(text);
    let mut chains = Chains::default();
    let mut nft_text = String::new();
    for remark in found.remarks {
        draft.remark(remark);
    }
    for command in &found.commands {
        let program = command.program();
        let arguments = &command.words[1..];
        if iptables::is_iptables(program) {
            let rule = iptables::read(arguments, "filter");
            // A command that takes rules away may be in another branch than the one that adds them: `start` and `stop`.
            let counts = |rule: &Rule| command.certain || rule.adds();
            if rule.as_ref().is_ok_and(counts) {
                place(&mut chains, program, rule);
            }
        } else if program.ends_with("tables-restore") {
            for (rule, _) in saved::rules(command.input.as_deref().unwrap_or_default()) {
                place(&mut chains, program, rule);
            }
        } else if program == "nft" {
            let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
            let words = words.into_iter().skip_while(|word| word.starts_with('-'));
            nft_text.extend(words.flat_map(|word| [word, " "]));
            nft_text.push('\n');
            nft_text.push_str(command.input.as_deref().unwrap_or_default());
            nft_text.push('\n');
        }
    }
    for file in nft::add(&nft_text, &mut chains) {
        draft.leave_out(file, "this file is not read with it");
    }
    let knocks = |words: &[String]| words.iter().map(|word| Knock::spelled(word).ok()).collect();
    let arrays = found.arrays.iter().filter(|array| array.words.len() > 1);
    let arrays = arrays.filter_map(|array| {
        let knocks: Option<Vec<Knock>> = knocks(&array.words);
        Some((array.name.clone(), knocks?))
    });
    let arrays: Vec<(String, Vec<Knock>)> = arrays.collect();
    finish(&chains, &mut draft, &arrays);
    draft
}

/// Reads the output of `iptables-save`.
pub(super) fn read_saved(text: &str) -> Draft {
    let mut draft = Draft {
        source: "saved rules of iptables",
        ..Draft::default()
    };
    let mut chains = Chains::default();
    for (rule, _) in saved::rules(text) {
        place(&mut chains, "iptables", rule);
    }
    finish(&chains, &mut draft, &[]);
    draft
}

/// A file of nft.
pub(super) fn read_nft(text: &str) -> Draft {
    let mut draft = Draft {
        source: "rules of nft",
        ..Draft::default()
    };
    let mut chains = Chains::default();
    for file in nft::add(text, &mut chains) {
        draft.leave_out(file, "this file is not read with it");
    }
    finish(&chains, &mut draft, &[]);
    draft
}

fn place(chains: &mut Chains, program: &str, rule: Result<Rule, String>) {
    let Ok(rule) = rule else {
        return;
    };
    // Those for IPv6 are another ruleset.
    let family = if program.contains("ip6") { "ip6 " } else { "" };
    let table = format!("{family}{}", rule.table);
    chains.place(&table, rule);
}

fn finish(chains: &Chains, draft: &mut Draft, arrays: &[(String, Vec<Knock>)]) {
    chains::draft(chains, draft, arrays);
    if chains.is_empty() && arrays.is_empty() {
        draft.leave_out("all of it", "there is no rule of a firewall in it");
    }
    draft.remarks.push(
        "Its other rules (policies, INPUT, FORWARD) stay as they are: toctoc has a table of its own."
            .to_string(),
    );
    if draft.within.is_none() && draft.keys().next().is_some() {
        draft.remarks.push(
            "It names no time between two knocks; here it is 10 s, see `within`.".to_string(),
        );
    }
}
