//! The classic script: `K22P=(443 2387 920 18357 50)` and rules of `iptables -m recent`.

use super::draft::{Draft, DraftKey};
use crate::knock::{Knock, Protocol};

/// Reads the script; `None` when there is no array of ports in it.
pub(super) fn read(text: &str) -> Option<Draft> {
    let arrays: Vec<(&str, Vec<&str>)> = text.lines().filter_map(array).collect();
    if arrays.is_empty() {
        return None;
    }
    let mut draft = Draft {
        source: "an iptables script",
        ..Draft::default()
    };
    // The window of a grant stands in the rule that accepts, that of a knock in the one that waits.
    let seconds = |accepts: bool| {
        let mut rules = text.lines().filter(|line| {
            let line = line.trim();
            !line.starts_with('#') && line.contains("-j ACCEPT") == accepts
        });
        rules.find_map(|line| number_after(line, "--seconds"))
    };
    draft.within = seconds(false);
    let open_for = seconds(true);
    for (name, words) in arrays {
        let sequence: Result<Vec<Knock>, _> = words.iter().map(|word| word.parse()).collect();
        let sequence = match sequence {
            Ok(sequence) => sequence,
            Err(error) => {
                draft.left_out.push(format!("{name}: {error}"));
                continue;
            }
        };
        let Some(door) = door_of(name, text) else {
            draft.left_out.push(format!(
                "{name}: which port it opens is told neither by its name nor by a rule"
            ));
            continue;
        };
        let opens = draft.door(&[door]);
        let key = DraftKey {
            name: draft.key_name(&name.to_lowercase()),
            opens,
            sequence,
            open_for,
            remarks: vec![format!("the array {name}")],
        };
        draft.keys.push(key);
    }
    draft.remarks = vec![
        "The bogus first knock of the script's clients is not needed any more, and does no harm."
            .to_string(),
        "Its other rules (policies, INPUT, FORWARD) stay as they are: toctoc has a table of its own."
            .to_string(),
    ];
    Some(draft)
}

/// `NAME=(words)` on a line, with digits in it.
fn array(line: &str) -> Option<(&str, Vec<&str>)> {
    let (name, rest) = line.trim().split_once("=(")?;
    let (inside, _) = rest.split_once(')')?;
    let name_fits = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    let words: Vec<&str> = inside.split_whitespace().collect();
    // A list of programs may hold names of services.
    let is_number = |word: &str| word.starts_with(|c: char| c.is_ascii_digit());
    let ports = words
        .iter()
        .any(|word| is_number(word) && word.parse::<Knock>().is_ok());
    (!name.is_empty() && name_fits && ports).then_some((name, words))
}

/// The port that an array opens: the number in its name, else the only one that a rule accepts.
fn door_of(name: &str, text: &str) -> Option<Knock> {
    let digits: String = name
        .chars()
        .skip_while(|c| !c.is_ascii_digit())
        .take_while(char::is_ascii_digit)
        .collect();
    let port = digits.parse().ok().or_else(|| {
        let accepting = text.lines().filter(|line| line.contains("-j ACCEPT"));
        let mut ports = accepting.filter_map(|line| number_after(line, "--dport"));
        let first = ports.next()?;
        ports.all(|port| port == first).then_some(first)
    })?;
    Knock::new(Protocol::Tcp, u16::try_from(port).ok()?)
}

/// The whole number that follows a word.
fn number_after(line: &str, word: &str) -> Option<u64> {
    let (_, rest) = line.split_once(word)?;
    rest.split_whitespace().next()?.parse().ok()
}
