//! Times as other programs write them, as whole seconds.

/// `60`, `60s`, `5m`, `1h30m`, `500ms`; a part of a second counts as one.
pub(super) fn seconds(text: &str) -> Option<u64> {
    let mut rest = text.trim();
    let mut thousandths = 0u64;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit());
        let (digits, after) = rest.split_at(end.unwrap_or(rest.len()));
        let number: u64 = digits.parse().ok()?;
        let (unit, after) = match after.strip_prefix("ms") {
            Some(after) => (1, after),
            None => {
                let mut letters = after.chars();
                let unit = match letters.next() {
                    None | Some('s') => 1_000,
                    Some('m') => 60_000,
                    Some('h') => 3_600_000,
                    Some('d') => 86_400_000,
                    Some('w') => 604_800_000,
                    Some(_) => return None,
                };
                (unit, letters.as_str())
            }
        };
        thousandths = thousandths.checked_add(number.checked_mul(unit)?)?;
        rest = after;
    }
    Some(thousandths.div_ceil(1_000)).filter(|&seconds| seconds > 0)
}

#[cfg(test)]
mod tests {
    use super::seconds;

    #[test]
    fn times_are_whole_seconds() {
        for (text, expected) in [
            ("60", Some(60)),
            ("1h30m", Some(5_400)),
            ("500ms", Some(1)),
            ("2d", Some(172_800)),
            ("0", None),
            ("", None),
            ("5x", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(seconds(text), expected, "{text}");
        }
    }
}
