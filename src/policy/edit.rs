//! Changing a policy file as its owner would: a key more, a key less. Comments, order and layout of
//! everything else stay. Pure: text in, text out; whether the result is a policy is for `check` to say.

use std::num::NonZeroU16;

use toml_edit::{Array, DocumentMut, Item, Table, Value, value};

use super::Name;
use crate::knock::{Knock, Protocol};
use crate::single_use::Form;

/// The means that a new key opens with.
#[derive(Debug, Clone, PartialEq)]
pub enum NewKey<'n> {
    Sequence(&'n [Knock]),
    Scratch(&'n [Vec<Knock>]),
    /// The file of the secret, the form of the tokens, and the port for them, written if the file names none yet.
    Token(&'n str, Form, NonZeroU16),
    /// The same of a signed key.
    Signed(&'n str, NonZeroU16),
}

/// Adds a key at the end.
///
/// # Errors
/// A sentence, when the text is not TOML, has a key of this name, or `key` is something else in it.
pub fn add_key(
    text: &str,
    name: &Name,
    opens: &[String],
    new: NewKey<'_>,
) -> Result<String, String> {
    let mut document = parse(text)?;
    let mut port_line = None;
    if let NewKey::Token(_, _, port) | NewKey::Signed(_, port) = new
        && !document.contains_key("token_port")
    {
        document.insert("token_port", value(i64::from(port.get())));
        port_line = Some(format!("token_port = {port}\n"));
    }
    let keys = document.entry("key").or_insert_with(|| {
        let mut keys = Table::new();
        keys.set_implicit(true);
        Item::Table(keys)
    });
    let keys = keys
        .as_table_like_mut()
        .ok_or("`key` is no section in it")?;
    if keys.contains_key(name.as_str()) {
        return Err(format!("there is a key {name} already"));
    }
    let mut key = Table::new();
    key.decor_mut().set_prefix("\n");
    key.insert("opens", value(Array::from_iter(opens)));
    match new {
        NewKey::Sequence(knocks) => {
            key.insert("sequence", value(array(knocks)));
        }
        NewKey::Scratch(sequences) => {
            let mut list = Array::from_iter(sequences.iter().map(|knocks| array(knocks)));
            for line in list.iter_mut() {
                line.decor_mut().set_prefix("\n    ");
            }
            list.set_trailing("\n");
            list.set_trailing_comma(true);
            key.insert("scratch", value(list));
        }
        NewKey::Signed(file, _) => {
            key.insert("signed", value(file));
        }
        NewKey::Token(file, form, _) => {
            key.insert("token", value(file));
            if form == Form::Letters {
                key.insert("browser", value(true));
            }
        }
    }
    keys.insert(name.as_str(), Item::Table(key));
    let mut rest = document.to_string();
    if let Some(line) = port_line {
        // The first section stands apart from it.
        for next in ["[", "#"] {
            let (close, apart) = (format!("{line}{next}"), format!("{line}\n{next}"));
            rest = rest.replacen(&close, &apart, 1);
        }
    }
    Ok(as_before(text, rest))
}

/// Writes comments above a key, and above the port for tokens where the text has one. Each is whole lines that begin
/// with `#`.
///
/// # Errors
/// A sentence, when the text is not TOML or has no such key.
pub fn add_comments(
    text: &str,
    name: &Name,
    above_key: &str,
    above_token_port: &str,
) -> Result<String, String> {
    let mut document = parse(text)?;
    if let Some(mut port) = document.key_mut("token_port") {
        let above = format!("\n{above_token_port}");
        port.leaf_decor_mut().set_prefix(above);
    }
    let keys = document.get_mut("key").and_then(Item::as_table_like_mut);
    let key = keys.and_then(|keys| keys.get_mut(name.as_str()));
    let key = key.and_then(Item::as_table_mut);
    let key = key.ok_or_else(|| format!("there is no key `{name}`"))?;
    key.decor_mut().set_prefix(format!("\n{above_key}"));
    Ok(document.to_string())
}

/// The port for tokens of a text in which no key has any.
pub fn idle_token_port(text: &str) -> Option<i64> {
    let document = parse(text).ok()?;
    let port = document.get("token_port")?.as_integer()?;
    let keys = document.get("key").and_then(Item::as_table_like);
    let mut keys = keys.into_iter().flat_map(|keys| keys.iter());
    let has_token = |key: &Item| {
        key.as_table_like()
            .is_some_and(|key| key.contains_key("token") || key.contains_key("signed"))
    };
    (!keys.any(|(_, key)| has_token(key))).then_some(port)
}

/// Returns whether a text has a key of this name; not if it is not TOML.
pub fn has_key(text: &str, name: &Name) -> bool {
    let document = parse(text).ok();
    let keys = document.as_ref().and_then(|document| document.get("key"));
    let keys = keys.and_then(Item::as_table_like);
    keys.is_some_and(|keys| keys.contains_key(name.as_str()))
}

/// The line of the mistake that keeps a text from being TOML, the first of all lines being 1; `None` if it is TOML.
pub fn garbled_at(text: &str) -> Option<usize> {
    let bare = text.trim_start_matches('\u{feff}');
    let error = bare.parse::<DocumentMut>().err()?;
    let at = error.span().map_or(0, |span| span.start);
    let before = bare.get(..at).unwrap_or(bare);
    Some(before.matches('\n').count() + 1)
}

/// The line in which a key seems to begin, in a text that need not be TOML: `[key.carol]`, `[key."carol"]`,
/// `key.carol.opens = ...`, `carol = {` below `[key]`.
pub fn line_of_key(text: &str, name: &Name) -> Option<usize> {
    let bare = |line: &str| -> String {
        let kept = |c: &char| !c.is_whitespace() && !['"', '\'', '\u{feff}'].contains(c);
        line.chars().filter(kept).collect()
    };
    let begins = |line: &str, start: String| {
        let rest = line.strip_prefix(&start);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with([']', '.', '=']))
    };
    let mut in_keys = false;
    let line = text.lines().map(bare).position(|line| {
        if line.starts_with('[') {
            in_keys = line.starts_with("[key]");
        }
        begins(&line, format!("[key.{name}"))
            || begins(&line, format!("key.{name}"))
            || (in_keys && begins(&line, name.to_string()))
    });
    line.map(|line| line + 1)
}

/// Takes a key out, with the comments right above it; those above an empty line stay. Returns the rest.
///
/// # Errors
/// A sentence, when the text is not TOML or has no such key.
pub fn remove_key(text: &str, name: &Name) -> Result<String, String> {
    let mut document = parse(text)?;
    let keys = document.get_mut("key").and_then(Item::as_table_like_mut);
    let removed = keys.and_then(|keys| keys.remove(name.as_str()));
    let removed = removed.ok_or_else(|| format!("there is no key `{name}`"))?;
    if let Some(table) = removed.as_table() {
        let above = table.decor().prefix().and_then(|prefix| prefix.as_str());
        let above = above.unwrap_or_default();
        let stays = above.rfind("\n\n").map_or("", |at| &above[..=at]);
        if stays.contains('#') {
            put_back(&mut document, stays, table.position());
        }
    }
    Ok(as_before(text, document.to_string()))
}

/// Puts comments above what comes after a section that is gone.
fn put_back(document: &mut DocumentMut, comments: &str, gone: Option<isize>) {
    fn next(table: &mut Table, gone: isize) -> Option<&mut Table> {
        let mut found: Option<&mut Table> = None;
        for (_, item) in table.iter_mut() {
            let Item::Table(inner) = item else { continue };
            let own = inner.position().is_some_and(|at| at > gone) && !inner.is_implicit();
            let candidate = if own { Some(inner) } else { next(inner, gone) };
            if let Some(candidate) = candidate
                && found
                    .as_ref()
                    .is_none_or(|f| candidate.position() < f.position())
            {
                found = Some(candidate);
            }
        }
        found
    }
    match gone.and_then(|gone| next(document.as_table_mut(), gone)) {
        Some(after) => {
            let own = after.decor().prefix().and_then(|prefix| prefix.as_str());
            let both = format!("{comments}{}", own.unwrap_or_default());
            after.decor_mut().set_prefix(both);
        }
        None => {
            let trailing = document.trailing().as_str().unwrap_or_default();
            let both = format!("{comments}{trailing}");
            document.set_trailing(both);
        }
    }
}

/// The byte order mark and the ends of lines that some editors write.
fn as_before(before: &str, text: String) -> String {
    let mark = "\u{feff}";
    let windows = before.contains("\r\n");
    let text = match windows {
        true => text.replace("\r\n", "\n").replace('\n', "\r\n"),
        false => text,
    };
    match before.starts_with(mark) && !text.starts_with(mark) {
        true => format!("{mark}{text}"),
        false => text,
    }
}

/// The files of secrets that a text names, each with who uses it: "key `alice`", "the fleet".
///
/// # Errors
/// A sentence, when the text is not TOML.
pub fn secret_files(text: &str) -> Result<Vec<(String, String)>, String> {
    let document = parse(text)?;
    let keys = document.get("key").and_then(Item::as_table_like);
    let keys = keys.into_iter().flat_map(|keys| keys.iter());
    let files = keys.filter_map(|(name, key)| {
        let file = key.get("token").or_else(|| key.get("signed"))?.as_str()?;
        Some((format!("key `{name}`"), file.to_string()))
    });
    let fleet = document.get("fleet").and_then(Item::as_table_like);
    let fleet = fleet.and_then(|fleet| fleet.get("secret")?.as_str());
    let fleet = fleet.map(|file| ("the fleet".to_string(), file.to_string()));
    Ok(files.chain(fleet).collect())
}

fn array(knocks: &[Knock]) -> Array {
    let knocks = knocks.iter().map(|knock| match knock.protocol {
        Protocol::Tcp => Value::from(i64::from(knock.port.get())),
        Protocol::Udp => Value::from(knock.to_string()),
    });
    Array::from_iter(knocks)
}

fn parse(text: &str) -> Result<DocumentMut, String> {
    text.trim_start_matches('\u{feff}')
        .parse::<DocumentMut>()
        .map_err(|error| format!("it is not TOML: {}", error.message()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = "# The gate.\nwithin = \"5s\" # quick\n\n# ssh\n[door.ssh]\nports = [22] # the door\n\n\
                          # Yves's own\n[key.yves]\nopens = [\"ssh\"]\nsequence = [443, 2387, 920]\n";

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    #[test]
    fn a_key_is_added_at_the_end_and_taken_away_again() {
        let port = NonZeroU16::new(40_123).unwrap();
        let opens = ["ssh".to_string()];
        let new = NewKey::Token("alice.secret", Form::Bytes, port);
        let added = add_key(POLICY, &name("alice"), &opens, new.clone()).unwrap();
        let head = POLICY.replace("# quick\n", "# quick\ntoken_port = 40123\n");
        let tail = "\n[key.alice]\nopens = [\"ssh\"]\ntoken = \"alice.secret\"\n";
        assert_eq!(added, format!("{head}{tail}"));
        let files = [("key `alice`".to_string(), "alice.secret".to_string())];
        assert_eq!(secret_files(&added).unwrap(), files);
        let signs = format!("{added}[fleet]\nsecret = \"fleet.secret\"\n");
        let fleet = ("the fleet".to_string(), "fleet.secret".to_string());
        assert!(secret_files(&signs).unwrap().contains(&fleet));
        assert_eq!(remove_key(&added, &name("alice")).unwrap(), head);
        assert!(
            add_key(&added, &name("alice"), &opens, new.clone())
                .unwrap_err()
                .contains("already")
        );
        // The port that is there stays.
        let other = NewKey::Token("bob.secret", Form::Bytes, NonZeroU16::MIN);
        assert!(
            add_key(&added, &name("bob"), &opens, other)
                .unwrap()
                .contains("token_port = 40123")
        );
        let knocks = ["443".parse().unwrap(), "53/udp".parse().unwrap()];
        let added = add_key(
            "[door.ssh]\nports = [22]\n",
            &name("a.b"),
            &opens,
            NewKey::Sequence(&knocks),
        );
        let wanted = "\n[key.\"a.b\"]\nopens = [\"ssh\"]\nsequence = [443, \"53/udp\"]\n";
        assert_eq!(
            added.unwrap(),
            format!("[door.ssh]\nports = [22]\n{wanted}")
        );
    }

    #[test]
    fn marks_and_ends_of_lines_stay() {
        let text = format!("\u{feff}{}", POLICY.replace('\n', "\r\n"));
        let opens = ["ssh".to_string()];
        let new = NewKey::Token("alice.secret", Form::Bytes, NonZeroU16::MIN);
        let added = add_key(&text, &name("alice"), &opens, new).unwrap();
        assert!(added.starts_with("\u{feff}# The gate.\r\n"), "{added:?}");
        assert!(
            added.ends_with("\r\ntoken = \"alice.secret\"\r\n"),
            "{added:?}"
        );
        assert_eq!(added.matches('\n').count(), added.matches("\r\n").count());
        let rest = remove_key(&added, &name("alice")).unwrap();
        assert_eq!(rest.replace("token_port = 1\r\n", ""), text);
    }

    #[test]
    fn the_port_stands_apart_from_the_first_section() {
        let opens = ["ssh".to_string()];
        for head in ["", "# The gate.\n"] {
            let text = format!("{head}[door.ssh]\nports = [22]\n");
            let new = NewKey::Token("alice.secret", Form::Bytes, NonZeroU16::MIN);
            let added = add_key(&text, &name("alice"), &opens, new).unwrap();
            assert!(
                added.starts_with(&format!("token_port = 1\n\n{text}")),
                "{added}"
            );
        }
    }

    /// A comment belongs to the key if no empty line is in between.
    #[test]
    fn comments_further_above_a_key_stay() {
        let text = "[door.ssh]\nports = [22]\n\n# Keys of the house.\n\n# Yves's own\n# phone\n[key.yves]\n\
                    opens = [\"ssh\"]\nsequence = [1, 2, 3]\n\n# Bob's\n[key.bob]\nopens = [\"ssh\"]\n\
                    sequence = [4, 5, 6]\n# the end\n";
        let without_yves = remove_key(text, &name("yves")).unwrap();
        let wanted = "[door.ssh]\nports = [22]\n\n# Keys of the house.\n\n# Bob's\n[key.bob]\nopens = \
                      [\"ssh\"]\nsequence = [4, 5, 6]\n# the end\n";
        assert_eq!(without_yves, wanted);
        let neither = remove_key(&without_yves, &name("bob")).unwrap();
        assert_eq!(
            neither,
            "[door.ssh]\nports = [22]\n\n# Keys of the house.\n# the end\n"
        );
    }

    /// Sections may be mixed: what comes next is next in the file.
    #[test]
    fn a_comment_stays_where_it_was_among_mixed_sections() {
        let yves =
            "# The house.\n\n# Yves's own\n[key.yves]\nopens = [\"ssh\"]\nsequence = [1, 2, 3]\n";
        let bob = "\n[key.bob]\nopens = [\"ssh\"]\nsequence = [4, 5, 6]\n";
        let door = "\n[door.ssh]\nports = [22]\n";
        for rest in [format!("{bob}{door}"), format!("{door}{bob}")] {
            let without_yves = remove_key(&format!("{yves}{rest}"), &name("yves")).unwrap();
            assert_eq!(without_yves, format!("# The house.\n{rest}"));
        }
    }

    /// A text that is not TOML is searched line by line.
    #[test]
    fn a_key_is_found_in_a_garbled_text_and_no_other() {
        let text = |key: &str| format!("[door.ssh\nports = [22]\n\n{key}\nopens = [\"ssh\"]\n");
        for key in [
            "[key.carol]",
            "[ key . \"carol\" ] # hers",
            "\t['key'.carol]",
            "[key.carol",
            "key.carol.token = 'c'",
            "key.carol = {",
            "[key]\ncarol.token = 'c'",
        ] {
            let line = 4 + key.matches('\n').count();
            assert_eq!(line_of_key(&text(key), &name("carol")), Some(line), "{key}");
            assert_eq!(garbled_at(&text(key)), Some(1), "{key}");
        }
        for other in [
            "[key.carola]",
            "[key.carol-2]",
            "# [key.carol]",
            "[door.carol]",
            "carol = 1",
        ] {
            assert_eq!(line_of_key(&text(other), &name("carol")), None, "{other}");
        }
        let windows = "\u{feff}[key.carol]\r\nopens = [\"ssh\"\r\n[door.web\r\n";
        assert_eq!(line_of_key(windows, &name("carol")), Some(1));
        assert_eq!(garbled_at(windows), Some(3));
        assert_eq!(garbled_at(POLICY), None);
    }

    #[test]
    fn what_cannot_be_changed_is_told() {
        let opens = ["ssh".to_string()];
        let new = NewKey::Sequence(&[]);
        assert!(
            add_key("a = [", &name("x"), &opens, new.clone())
                .unwrap_err()
                .contains("not TOML")
        );
        assert!(
            add_key("key = 5", &name("x"), &opens, new)
                .unwrap_err()
                .contains("no section")
        );
        assert!(
            remove_key(POLICY, &name("bob"))
                .unwrap_err()
                .contains("no key `bob`")
        );
        assert_eq!(
            remove_key(POLICY, &name("yves")).unwrap(),
            POLICY.split("\n# Yves").next().unwrap()
        );
    }
}
