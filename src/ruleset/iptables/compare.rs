//! Tells whether the kernel holds what a policy says: what `iptables-save` prints of our chains, and what
//! it prints of the same policy loaded where nothing else is.

use super::saved::{Saved, SavedTable};
use crate::held::{Drift, Fault, Subject};
use crate::ruleset::Family;

/// The differences between what should be there and what is. Empty when there are none. Counters are
/// no difference.
pub fn compare(family: Family, expected: &Saved, actual: &Saved) -> Vec<Drift> {
    let program = match family {
        Family::V4 => "iptables",
        Family::V6 => "ip6tables",
    };
    let mut drifts = Vec::new();
    if actual.is_empty() && !expected.is_empty() {
        let part = format!("{program}: our chains");
        return vec![Drift::new(part, "are missing and guard no door")];
    }
    let nothing = SavedTable::default();
    let names = expected.tables.keys().chain(actual.tables.keys());
    for name in names.collect::<std::collections::BTreeSet<_>>() {
        let wanted = expected.tables.get(name).unwrap_or(&nothing);
        let found = actual.tables.get(name).unwrap_or(&nothing);
        table(&format!("{program} {name}:"), wanted, found, &mut drifts);
    }
    drifts
}

fn table(part: &str, wanted: &SavedTable, found: &SavedTable, drifts: &mut Vec<Drift>) {
    if found.is_dormant {
        let what = "is dormant: nothing in it is asked (somebody has switched it off with nft)";
        drifts.push(Drift::new(format!("{part} table"), what));
    }
    for jump in &wanted.jumps {
        let (chain, rule) = jump;
        match found.jumps.iter().filter(|other| *other == jump).count() {
            1 => {}
            0 => drifts.push(Drift::new(
                format!("{part} chain {chain}"),
                format!("does not jump to us (`{rule}`)"),
            )),
            times => drifts.push(Drift::new(
                format!("{part} chain {chain}"),
                format!("jumps to us {times} times"),
            )),
        }
    }
    for (chain, rule) in found
        .jumps
        .iter()
        .filter(|jump| !wanted.jumps.contains(jump))
    {
        drifts.push(Drift::new(
            format!("{part} chain {chain}"),
            format!("has a rule of somebody that leads to us: {rule}"),
        ));
    }
    for (chain, rule) in &found.passed_by {
        drifts.push(Drift::new(
            format!("{part} chain {chain}"),
            format!("accepts before it jumps to us ({rule}): what it accepts we do not see"),
        ));
    }
    for (chain, rules) in &wanted.chains {
        let part = format!("{part} chain {chain}");
        let about = |fault| Subject::Chain(chain.to_string(), fault);
        let Some(others) = found.chains.get(chain) else {
            drifts.push(Drift::new(part, "is missing").about(about(Fault::Missing)));
            continue;
        };
        let same = rules
            .iter()
            .zip(others)
            .take_while(|(a, b)| a.rule == b.rule)
            .count();
        if same == rules.len() && same == others.len() {
            continue;
        }
        let what = match (rules.len(), others.len()) {
            (_, 0) => "has been flushed".to_string(),
            (all, there) if all > there => {
                let lacking = all - there;
                format!(
                    "lacks {lacking} of its {all} rules, from rule {} on",
                    same + 1
                )
            }
            (all, there) if all + 1 == there => format!("has a rule too many, rule {}", same + 1),
            (all, there) if all < there => {
                format!(
                    "has {} rules too many, from rule {} on",
                    there - all,
                    same + 1
                )
            }
            _ => format!("differs from rule {} on", same + 1),
        };
        let fault = match (others.len(), others.len() > rules.len()) {
            (0, _) => Fault::Missing,
            (_, true) => Fault::Besides,
            (_, false) => Fault::Changed,
        };
        drifts.push(Drift::new(part, what).about(about(fault)));
    }
    for chain in found
        .chains
        .keys()
        .filter(|chain| !wanted.chains.contains_key(*chain))
    {
        let drift = Drift::new(
            format!("{part} chain {chain}"),
            "is not in the policy's ruleset",
        );
        drifts.push(drift.about(Subject::Chain(chain.to_string(), Fault::Besides)));
    }
}
