//! The commands that a knock daemon runs for an opening: which doors they open for the source.

use super::place::{Beside, Opened, join};
use super::rule::{Judgement, Knocker, Operation, Rule};
use super::shell::{self, ShellCommand};
use super::{firewalld, iptables, nft_rule, saved, times, ufw};

/// The meaning of a setting with commands.
#[derive(Debug, Default)]
pub(super) struct Opening {
    pub opens: Vec<Opened>,
    /// Rules that change the sender of connections.
    pub beside: Beside,
    /// It opens every port.
    pub everything: bool,
    /// All that has no counterpart, beside the ports.
    pub remarks: Vec<String>,
    /// Why the commands that name no port open no door.
    pub reasons: Vec<String>,
    /// Commands that are not of a firewall.
    pub others: Vec<String>,
    /// Commands that take a rule away.
    pub closings: usize,
    /// The time that the commands themselves name: `sleep 30; iptables -D ...`, `--timeout=60`.
    pub open_for: Option<u64>,
}

impl Opening {
    /// Joins the rules that are about one connection.
    pub fn join(&mut self) {
        let joined = join(&mut self.opens, &self.beside);
        self.reasons.extend(joined.reasons);
        for remark in joined.remarks {
            self.remark(remark);
        }
        let masquerades = std::mem::take(&mut self.beside).masquerades;
        for (rule, _) in masquerades
            .iter()
            .zip(joined.used)
            .filter(|(_, used)| !used)
        {
            let reason = format!("is about packets that leave ({})", rule.chain);
            if !self.reasons.contains(&reason) {
                self.reasons.push(reason);
            }
        }
    }

    fn remark(&mut self, remark: String) {
        if !self.remarks.contains(&remark) {
            self.remarks.push(remark);
        }
    }
}

/// Reads commands as a shell does. `knocker` is how the source is written in them.
pub(super) fn read(text: &str, knocker: &[&str]) -> Opening {
    let mut opening = Opening::default();
    let found = shell::commands(text);
    for remark in found.remarks {
        opening.remark(remark);
    }
    let mut slept = None;
    for command in &found.commands {
        if command.program() == "sleep" {
            slept = command.words.get(1).and_then(|time| times::seconds(time));
            continue;
        }
        let before = opening.closings;
        match rules(command) {
            Some(rules) => {
                for rule in rules {
                    judge(&mut opening, rule, knocker);
                }
            }
            None if is_silent(command) => {}
            None => opening.others.push(command.words.join(" ")),
        }
        let opens = opening.everything || !opening.opens.is_empty();
        if opening.closings > before && opens {
            opening.open_for = opening.open_for.or(slept);
        }
    }
    opening
}

fn judge(opening: &mut Opening, rule: Result<Rule, String>, knocker: &[&str]) {
    let rule = match rule {
        Ok(rule) => rule,
        Err(reason) => return opening.reasons.push(reason),
    };
    if rule.is_masquerade() {
        return opening.beside.masquerades.push(rule);
    }
    match rule.judge(Knocker::Written(knocker)) {
        Judgement::Opens { opens, remarks } => {
            for opened in opens {
                if !opening.opens.contains(&opened) {
                    opening.opens.push(opened);
                }
            }
            for remark in remarks {
                opening.remark(remark);
            }
            opening.open_for = opening.open_for.or(rule.seconds);
        }
        Judgement::Everything { remarks } => {
            opening.everything = true;
            for remark in remarks {
                opening.remark(remark);
            }
            opening.open_for = opening.open_for.or(rule.seconds);
        }
        Judgement::Closes => opening.closings += 1,
        Judgement::Not(reason) => opening.reasons.push(reason),
        Judgement::Nothing => {}
    }
}

/// The rules of a command of a firewall's program; `None` for other programs.
fn rules(command: &ShellCommand) -> Option<Vec<Result<Rule, String>>> {
    let arguments = &command.words[1..];
    let program = command.program();
    if iptables::is_iptables(program) {
        return Some(vec![iptables::read(arguments, "filter")]);
    }
    match program {
        "nft" => Some(nft_rule::commands(
            &arguments.join(" "),
            command.input.as_deref(),
        )),
        "ufw" => Some(vec![ufw::read(arguments)]),
        "firewall-cmd" => Some(firewalld::read(arguments)),
        "iptables-restore" | "ip6tables-restore" => {
            let rules = saved::rules(command.input.as_deref()?);
            Some(rules.into_iter().map(|(rule, _)| rule).collect())
        }
        "ipset" => Some(vec![ipset(arguments)]),
        "conntrack" => Some(Vec::new()),
        _ => None,
    }
}

fn ipset(arguments: &[String]) -> Result<Rule, String> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let words: Vec<&str> = words.into_iter().filter(|w| !w.starts_with('-')).collect();
    match words[..] {
        ["add", set, ..] => Err(format!(
            "adds the source to the set `{set}`; which port that opens stands in another rule: name the door you mean"
        )),
        ["del", ..] => Ok(Rule {
            operation: Operation::Remove,
            ..Rule::default()
        }),
        _ => Ok(Rule {
            operation: Operation::Other,
            ..Rule::default()
        }),
    }
}

/// Programs that neither open nor say anything of importance.
fn is_silent(command: &ShellCommand) -> bool {
    matches!(
        command.program(),
        "true" | ":" | "set" | "wait" | "return" | "exit" | "[" | "test" | "[["
    )
}
