//! Checks the door of every port, `ports = "all"`.

use super::Checker;
use crate::policy::diagnostic::Diagnostic;
use crate::policy::file::{DoorEntry, Entry};

impl Checker<'_> {
    pub(super) fn every_port(&mut self) {
        let file = self.file;
        let mut doors = file.doors.iter().filter(|door| door.every_port);
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
    /// A door of every port is a door of this host, and nothing that comes to it is passed on.
    pub(super) fn every_port_is_here(&mut self, door: &DoorEntry) {
        let name = &door.name.value;
        let settings = [
            ("to", door.to.as_ref().map(|to| &to.at)),
            ("knock_at", door.knock_at.as_ref().map(|value| &value.at)),
            ("forward", door.forward.as_ref().map(|value| &value.at)),
            (
                "masquerade",
                door.masquerade.as_ref().map(|value| &value.at),
            ),
        ];
        let written = settings
            .iter()
            .filter_map(|(setting, at)| Some((setting, (*at)?.clone())));
        for (setting, at) in written.collect::<Vec<_>>() {
            self.error(
                Diagnostic::new(at, format!("door `{name}` opens every port of this host"))
                    .label(format!("`{setting}` is for doors that name their ports"))
                    .help("write a door of its own for what goes on to other hosts"),
            );
        }
    }
}
