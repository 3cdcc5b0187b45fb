//! A comparison of two tables: do they rank the programs in the same order?

use std::collections::BTreeMap;

use crate::figures::Row;

/// Those who are closer to one another than this part of the larger one are equals.
const EQUALS: f64 = 0.15;

/// Questions that all programs were asked in the same way, and the answer of each.
type Contests<'a> = BTreeMap<(&'a str, &'a str, u64), BTreeMap<&'a str, f64>>;

/// A sentence for each pair whose order in one table is not that of the other.
pub fn differences(before: &[Row], now: &[Row]) -> Vec<String> {
    let (before, now) = (contests(before), contests(now));
    let mut found = Vec::new();
    for (contest, now) in &now {
        let Some(before) = before.get(contest) else {
            continue;
        };
        for (first, one) in now {
            for (second, other) in now.iter().filter(|(who, _)| *who > first) {
                let (Some(one_before), Some(other_before)) =
                    (before.get(first), before.get(second))
                else {
                    continue;
                };
                if order(*one_before, *other_before) * order(*one, *other) < 0.0 {
                    let (section, what, at) = contest;
                    found.push(format!(
                        "{section}, {what}, {at}: {first} {one_before} and {second} {other_before}, \
                         now {one} and {other}"
                    ));
                }
            }
        }
    }
    found
}

/// The number of pairs whose order could differ.
pub fn pairs(before: &[Row], now: &[Row]) -> usize {
    let (before, now) = (contests(before), contests(now));
    let of = |(contest, now): (&(&str, &str, u64), &BTreeMap<&str, f64>)| {
        let common = before
            .get(contest)
            .map_or(0, |b| now.keys().filter(|who| b.contains_key(*who)).count());
        common * common.saturating_sub(1) / 2
    };
    now.iter().map(of).sum()
}

/// A difference from no rules may be nothing but noise, so whole ways are ranked, not those.
fn contests(rows: &[Row]) -> Contests<'_> {
    let mut contests = Contests::new();
    for row in rows.iter().filter(|row| !row.what.ends_with(", rules")) {
        let contest = (row.section.as_str(), row.what.as_str(), row.at);
        contests
            .entry(contest)
            .or_default()
            .insert(&row.who, row.median);
    }
    contests
}

/// Positive if the first is larger, 0 if they are equals.
fn order(one: f64, other: f64) -> f64 {
    if (one - other).abs() <= EQUALS * one.abs().max(other.abs()) {
        return 0.0;
    }
    one - other
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(medians: [f64; 3]) -> Vec<Row> {
        let row = |(who, median): (&str, f64)| Row {
            section: "cost".to_string(),
            what: "a SYN".to_string(),
            who: who.to_string(),
            at: 1,
            of: "keys".to_string(),
            unit: "ns".to_string(),
            median,
            least: median,
            most: median,
            runs: 1,
        };
        ["a", "b", "c"].into_iter().zip(medians).map(row).collect()
    }

    #[test]
    fn only_a_clear_change_of_order_is_one() {
        let before = rows([1.0, 2.0, 3.0]);
        assert_eq!(pairs(&before, &before), 3);
        for (now, changed) in [
            ([1.0, 2.0, 3.0], 0),
            ([10.0, 20.0, 30.0], 0),
            ([2.05, 2.0, 3.0], 0),
            ([2.5, 2.0, 3.0], 1),
            ([3.0, 2.0, 1.0], 3),
        ] {
            assert_eq!(differences(&before, &rows(now)).len(), changed, "{now:?}");
        }
    }
}
