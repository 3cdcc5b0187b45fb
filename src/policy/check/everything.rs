//! Checks the door of everything, `ports = "all"`.

use super::Checker;
use crate::policy::diagnostic::Diagnostic;
use crate::policy::file::{DoorEntry, Entry};

impl Checker<'_> {
    pub(super) fn everything(&mut self) {
        let file = self.file;
        let mut doors = file.doors.iter().filter(|door| door.everything);
        let Some(door) = doors.next() else {
            return;
        };
        let at = match &door.ports {
            Entry::Written(ports) => ports.at.clone(),
            Entry::Missing | Entry::Wrong => door.name.at.clone(),
        };
        let name = &door.name.value;
        if file.firewall.is_none() {
            self.error(
                Diagnostic::new(
                    at,
                    format!("door `{name}` opens what `[firewall]` drops, and there is none"),
                )
                .label("nothing is closed that it could open")
                .help(
                    "write `[firewall]` with `default = \"drop\"`, and what everyone reaches into its `allow`; or name \
                     the ports of the door",
                ),
            );
        }
        for DoorEntry { name: other, .. } in doors {
            self.error(
                Diagnostic::new(
                    other.at.clone(),
                    format!("`{}` and `{name}` open every port", other.value),
                )
                .label("again here")
                .help(
                    "one such door is enough: each key that opens it is named by itself in the log",
                )
                .also(door.name.at.clone(), "first here"),
            );
        }
        for key in file.keys.iter().filter(|key| key.once) {
            let opens = key.opens.written().into_iter().flat_map(|list| &list.value);
            for opened in opens.filter(|opened| opened.value == name.as_str()) {
                self.error(
                    Diagnostic::new(
                        opened.at.clone(),
                        format!(
                            "key `{}` opens every port for one connection",
                            key.name.value
                        ),
                    )
                    .label("a grant for every port is for any number of connections")
                    .help("leave `once` out, or name the door that is meant")
                    .also(door.name.at.clone(), "the door of every port"),
                );
            }
        }
    }
}
