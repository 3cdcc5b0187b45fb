//! Checks `extend` and `at_most` of a door, and that the keys and the fleet go with them.

use super::Checker;
use super::meaning::openings;
use crate::policy::diagnostic::Diagnostic;
use crate::policy::file::{DoorEntry, Entry, KeyEntry, Spanned};
use crate::policy::show;

impl Checker<'_> {
    pub(super) fn extension(&mut self, door: &DoorEntry) {
        let name = &door.name.value;
        let (extend, at_most) = match (&door.extend, &door.at_most) {
            (None, None) => return,
            (Some(extend), None) => {
                self.error(
                    Diagnostic::new(
                        extend.at.clone(),
                        format!("door `{name}` extends its grants without an end"),
                    )
                    .label("without `at_most`")
                    .help("write for example `at_most = \"8h\"` below it"),
                );
                return;
            }
            (None, Some(at_most)) => {
                self.error(
                    Diagnostic::new(
                        at_most.at.clone(),
                        format!("door `{name}` does not extend its grants"),
                    )
                    .label("without `extend`")
                    .help("write for example `extend = \"10m\"` above it, or leave it out"),
                );
                return;
            }
            (Some(extend), Some(at_most)) => (extend, at_most),
        };
        if extend.value > at_most.value {
            self.error(
                Diagnostic::new(
                    extend.at.clone(),
                    format!(
                        "one connection would extend a grant beyond the {} that `at_most` says",
                        show(at_most.value)
                    ),
                )
                .label("longer than `at_most`")
                .also(at_most.at.clone(), "the longest time"),
            );
        }
        for key in &self.file.keys {
            self.key_of_extension(door, at_most, key);
        }
        let shared = self.file.fleet.iter().flat_map(|fleet| &fleet.share);
        let mut shared = shared.flat_map(|list| &list.value);
        if let Some(shared) = shared.find(|shared| shared.value == name.as_str()) {
            self.error(
                Diagnostic::new(
                    shared.at.clone(),
                    format!("a grant for `{name}` stays while it is used, and is not shared"),
                )
                .label("the other hosts are not told that it was used")
                .help("leave the door out of `share`, or leave its `extend` out; `accept` may name it")
                .also(extend.at.clone(), "extended here"),
            );
        }
    }

    /// Judges a key that opens the door.
    fn key_of_extension(
        &mut self,
        door: &DoorEntry,
        at_most: &Spanned<std::time::Duration>,
        key: &KeyEntry,
    ) {
        let name = door.name.value.as_str();
        let Entry::Written(opens) = &key.opens else {
            return;
        };
        let Some(place) = opens.value.iter().position(|opened| opened.value == name) else {
            return;
        };
        let opened = &opens.value[place];
        if key.once {
            self.error(
                Diagnostic::new(
                    opened.at.clone(),
                    format!(
                        "key `{}` opens `{name}` for one connection, and the door stays open while it is used",
                        key.name.value
                    ),
                )
                .label("`once` and `extend` exclude each other")
                .help("leave one of the two out, or make another door for this key")
                .also(door.name.at.clone(), "the door with `extend`"),
            );
        }
        let openings = openings(self.file, key);
        let open_for = openings.and_then(|openings| Some(openings.get(place)?.open_for));
        if let Some(open_for) = open_for.filter(|open_for| *open_for >= at_most.value) {
            self.error(
                Diagnostic::new(
                    at_most.at.clone(),
                    format!(
                        "key `{}` opens `{name}` for {}: no connection would extend that",
                        key.name.value,
                        show(open_for)
                    ),
                )
                .label("no longer than the grant itself")
                .help("write a longer `at_most`, or a shorter `open_for`")
                .also(key.name.at.clone(), "the key"),
            );
        }
    }
}
