//! OpenWrt's form of knockd's configuration, `/etc/config/knockd`: `config`, `option`.

use super::draft::Draft;
use super::knockd::{Section, from_sections};

pub(super) fn read(text: &str) -> Draft {
    let mut sections: Vec<Section> = Vec::new();
    for line in text.lines() {
        let words = words(line);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        match words[..] {
            ["config", kind] if kind.eq_ignore_ascii_case("options") => {
                sections.push(section("options"));
            }
            ["config", kind, _] if kind.eq_ignore_ascii_case("options") => {
                sections.push(section("options"));
            }
            ["config", kind] => sections.push(section(kind)),
            ["config", _, name] => sections.push(section(name)),
            ["option" | "list", name, ref value @ ..] => {
                if let Some(section) = sections.last_mut() {
                    section
                        .settings
                        .push((name.to_lowercase(), value.join(" ")));
                }
            }
            _ => {}
        }
    }
    from_sections(sections, "OpenWrt's configuration of knockd")
}

fn section(name: &str) -> Section {
    Section {
        name: name.to_string(),
        ..Section::default()
    }
}

/// The words of a line. Quotes hold a word together; inside, nothing else is special.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match (c, quote) {
            (c, Some(open)) if c == open => quote = None,
            ('\'' | '"', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            ('\\', None | Some('"')) => word.get_or_insert_default().extend(chars.next()),
            ('#', None) if word.is_none() => break,
            (c, None) if c.is_whitespace() => words.extend(word.take()),
            (c, _) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}
