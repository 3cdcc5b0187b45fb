//! One table of the file while it is read.

use toml::de::DeTable;

use super::Name;
use super::diagnostic::Diagnostic;
use super::file::{Entry, Spanned};
use super::values::{Reader, Value, nearest};

/// One table of the file while it is read: remembers which settings it knows, so that those it
/// does not know can be named at the end.
pub(super) struct Section<'t, 'i> {
    table: &'t DeTable<'i>,
    what: &'static str,
    known: Vec<&'static str>,
}

impl<'t, 'i> Section<'t, 'i> {
    pub fn new(table: &'t DeTable<'i>, what: &'static str) -> Section<'t, 'i> {
        Section {
            table,
            what,
            known: Vec::new(),
        }
    }

    /// Reads an optional setting.
    pub fn take<T>(
        &mut self,
        reader: &mut Reader,
        name: &'static str,
        read: impl FnOnce(&mut Reader, &Value<'i>) -> Option<T>,
    ) -> Option<Spanned<T>> {
        self.known.push(name);
        let value = self.table.get(name)?;
        let at = value.span();
        read(reader, value).map(|value| Spanned { value, at })
    }

    /// Reads a setting that must be there.
    pub fn entry<T>(
        &mut self,
        reader: &mut Reader,
        name: &'static str,
        read: impl FnOnce(&mut Reader, &Value<'i>) -> Option<T>,
    ) -> Entry<T> {
        match self.take(reader, name, read) {
            Some(spanned) => Entry::Written(spanned),
            None if self.is_written(name) => Entry::Wrong,
            None => Entry::Missing,
        }
    }

    /// Returns whether a setting was written, be it by a name that it does not have: that is reported, and it is not
    /// missing.
    pub fn is_written(&self, name: &'static str) -> bool {
        if self.table.contains_key(name) {
            return true;
        }
        let mut written = self.table.iter().map(|(name, _)| name.get_ref());
        written.any(|written| meant(written, &[name]) == Some(name))
    }

    /// A section below this one.
    pub fn table(
        &mut self,
        reader: &mut Reader,
        name: &'static str,
        example: &str,
    ) -> Option<&'t DeTable<'i>> {
        self.known.push(name);
        let value = self.table.get(name)?;
        let table = value.get_ref().as_table();
        if table.is_none() {
            reader.wrong_type(value, &format!("a section `[{name}]`"), example);
        }
        table
    }

    /// The sections `[kind.NAME]`, in the order of the file.
    pub fn named(
        &mut self,
        reader: &mut Reader,
        kind: &'static str,
    ) -> Vec<(Spanned<Name>, &'t DeTable<'i>)> {
        let example = format!("[{kind}.name]");
        let Some(table) = self.table(reader, kind, &example) else {
            return Vec::new();
        };
        let mut named = Vec::new();
        for (name, value) in table {
            let Some(section) = value.get_ref().as_table() else {
                let wanted = format!("a section with a name, `[{kind}.{}]`,", name.get_ref());
                reader.wrong_type(value, &wanted, &example);
                continue;
            };
            match Name::new(name.get_ref()) {
                Some(valid) => named.push((
                    Spanned {
                        value: valid,
                        at: name.span(),
                    },
                    section,
                )),
                None => {
                    reader.misnamed.push(name.get_ref().to_string());
                    reader.error(
                        Diagnostic::new(
                            name.span(),
                            format!("a {kind} cannot be named `{}`", name.get_ref()),
                        )
                        .label("not a name")
                        .help(format!(
                            "a name has 1 to {} letters (a-z), digits, `-`, `_` or `.`, \
                             and starts with a letter or digit",
                            Name::LONGEST
                        )),
                    );
                }
            }
        }
        named
    }

    pub fn finish(self, reader: &mut Reader) {
        for (name, _) in self.table {
            let written: &str = name.get_ref();
            if self.known.contains(&written) {
                continue;
            }
            let diagnostic =
                Diagnostic::new(name.span(), format!("{} has no `{written}`", self.what))
                    .label("unknown");
            let help = match meant(written, &self.known) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("known are: {}", self.known.join(", ")),
            };
            reader.error(diagnostic.help(help));
        }
    }
}

/// Names that people give to settings, and the names that they have.
const OTHER_NAMES: [(&str, &str); 16] = [
    ("door", "opens"),
    ("doors", "opens"),
    ("seq", "sequence"),
    ("knocks", "sequence"),
    ("knock", "sequence"),
    ("ports", "sequence"),
    ("secret", "token"),
    ("port", "ports"),
    ("timeout", "open_for"),
    ("duration", "open_for"),
    ("ttl", "open_for"),
    ("seq_timeout", "within"),
    ("interface", "interfaces"),
    ("whitelist", "trust"),
    ("allow", "trust"),
    ("expiry", "expires"),
];

/// The known setting that a name stands for, as far as that can be told.
fn meant(written: &str, known: &[&'static str]) -> Option<&'static str> {
    if known.contains(&written) {
        return None;
    }
    let lower = written.to_ascii_lowercase().replace('-', "_");
    let mut others = OTHER_NAMES.iter().filter(|(other, _)| *other == lower);
    let other = others.find_map(|(_, name)| known.contains(name).then_some(*name));
    other.or_else(|| nearest(&lower, known))
}
