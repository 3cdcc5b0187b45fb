//! `[fleet]`: the other hosts, and what is shared with them.

use std::collections::BTreeMap;

use super::Checker;
use crate::policy::diagnostic::Diagnostic;
use crate::policy::file::{Entry, Spanned};
use crate::policy::{Host, Log, Password};
use crate::single_use::Secret;

/// The content of a fleet's files.
#[derive(Default)]
pub(super) struct Private {
    pub password: Option<Password>,
    pub secret: Option<Secret>,
}

impl Checker<'_> {
    /// Judges the section. `keys` are the secrets of keys, by their places.
    pub(super) fn fleet(&mut self, host: &Host, keys: &BTreeMap<usize, Secret>) -> Private {
        let file = self.file;
        let Some(fleet) = &file.fleet else {
            return Private::default();
        };
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
                // Settings that are written and wrong have been reported.
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
        let password = fleet.password.as_ref();
        let password = password.and_then(|written| self.password(host, written));
        let secret = fleet.secret.as_ref().and_then(|written| {
            let from = "copy it from another host of the fleet (`toctoc fleet --new-secret FILE` makes the first)";
            let secret = self.secret(host, written, "secret = \"fleet.secret\"", from)?;
            let same = |password: &Password| Secret::parse(password.reveal()).as_ref() == Ok(&secret);
            if password.as_ref().is_some_and(same) {
                self.error(
                    Diagnostic::new(written.at.clone(), "the secret is the engine's password")
                        .label("the same text")
                        .help("whoever knows the password could sign for the hosts; `toctoc fleet --new-secret FILE` makes another one"),
                );
            }
            if let Some((&place, _)) = keys.iter().find(|(_, key)| key.is_same(&secret)) {
                let key = &file.keys[place].name;
                self.error(
                    Diagnostic::new(
                        written.at.clone(),
                        format!("the fleet and `{}` have the same secret", key.value),
                    )
                    .label("the same secret")
                    .help(
                        "the device that has the key could sign for the hosts; `toctoc fleet --new-secret FILE` \
                         makes another one",
                    )
                    .also(key.at.clone(), "the key"),
                );
            }
            Some(secret)
        });
        Private { password, secret }
    }

    /// The password in a file that the policy names. Where files cannot be read there is none.
    fn password(&mut self, host: &Host, written: &Spanned<String>) -> Option<Password> {
        let Spanned { value: path, at } = written;
        match host.passwords.0?(path) {
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
