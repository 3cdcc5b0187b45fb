//! `[fleet]`: the other hosts, and what is shared with them.

use super::Checker;
use crate::policy::diagnostic::Diagnostic;
use crate::policy::file::{Entry, Spanned};
use crate::policy::{Host, Log, Password};

impl Checker<'_> {
    /// Judges the section. Returns the engine's password, if it asks for one.
    pub(super) fn fleet(&mut self, host: &Host) -> Option<Password> {
        let file = self.file;
        let fleet = file.fleet.as_ref()?;
        let missing = [
            (
                matches!(fleet.url, Entry::Missing),
                "`[fleet]` has no `url`",
                "write for example `url = \"redis://192.0.2.10:6379\"` below it",
            ),
            (
                matches!(fleet.name, Entry::Missing),
                "`[fleet]` has no `name`",
                "write what the others call this host, for example `name = \"alpha\"`, below it",
            ),
            (
                // What is written and wrong has been reported.
                fleet.share.is_none() && fleet.accept.is_none() && self.diagnostics.is_empty(),
                "`[fleet]` shares nothing and accepts nothing",
                "write for example `share = [\"ssh\"]` and `accept = [\"ssh\"]` below it",
            ),
        ];
        for (_, wrong, help) in missing.iter().filter(|(missing, ..)| *missing) {
            self.error(Diagnostic::new(fleet.at.clone(), *wrong).help(*help));
        }
        for list in [&fleet.share, &fleet.accept].into_iter().flatten() {
            self.doors_of(&list.value);
        }
        let group = fleet.group.as_ref().map_or(7, |group| group.value);
        if let Some(log) = &file.log
            && log.value == Log::Nflog(group)
        {
            let at = fleet.group.as_ref().map_or(&fleet.at, |group| &group.at);
            self.error(
                Diagnostic::new(
                    at.clone(),
                    format!("NFLOG group {group} is that of `log` already"),
                )
                .label("one program at a time can listen to a group")
                .help(format!("write for example `group = {}`", group ^ 1))
                .also(log.at.clone(), "the other one"),
            );
        }
        let Spanned { value: path, at } = fleet.password.as_ref()?;
        let read = match host.passwords.0 {
            Some(read) => read(path),
            None => return None,
        };
        match read {
            Ok(password) => Some(password),
            Err(message) => {
                self.error(
                    Diagnostic::new(at.clone(), message)
                        .label("the file of the password")
                        .help("a file of one line that nobody else may read (0600), beside the policy"),
                );
                None
            }
        }
    }
}
