//! The common part of the commands of the server: the policy that they are given, and reports of changes.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;

use super::{Answer, complain, print};
use crate::firewall::list_size;
use crate::firewall::record::{Origin, Record};
use crate::policy::diagnostic::Style;
use crate::policy::load::{LoadError, exposed, load, load_text_and_beside, read_text};
use crate::policy::manual::POLICY_MANUAL;
use crate::policy::writers::others_can_change;
use crate::policy::{Backend, Host, Policy};

/// Where a policy is unless another is named.
pub const POLICY: &str = "/etc/toctoc/policy.toml";

#[derive(Args)]
pub(in crate::cli) struct PolicyPath {
    /// The policy file.
    #[arg(value_name = "POLICY", default_value = POLICY)]
    pub(super) path: PathBuf,
    /// `nftables` or `iptables`, instead of what the policy says.
    #[arg(long, value_name = "BACKEND", value_parser = backend)]
    pub(super) backend: Option<Backend>,
}

/// The policy file, for what does not depend on a backend.
#[derive(Args)]
pub struct PolicyAlone {
    /// The policy file.
    #[arg(value_name = "POLICY", default_value = POLICY)]
    pub(super) path: PathBuf,
}

impl PolicyAlone {
    /// With the backend that the policy names.
    pub(super) fn as_written(&self) -> PolicyPath {
        PolicyPath {
            path: self.path.clone(),
            backend: None,
        }
    }
}

pub(super) fn backend(text: &str) -> Result<Backend, String> {
    Backend::named(text).ok_or_else(|| format!("`{text}` is no backend: nftables and iptables are"))
}

/// Reads the policy, or says on standard error why not.
pub(super) fn policy(path: &PolicyPath) -> Result<Policy, Answer> {
    load(&path.path, &host(path, None)).map_err(could_not_read)
}

/// Reads the policy of this file as it is written, or says on standard error why not.
///
/// # Errors
/// The answer of a command that needs it.
pub fn policy_at(path: &Path) -> Result<Policy, Answer> {
    policy(&PolicyPath {
        path: path.to_path_buf(),
        backend: None,
    })
}

/// Says no to a policy that somebody else could change, before it is put in force or changed.
pub(super) fn trusted(path: &Path) -> Result<(), Answer> {
    match others_can_change(path) {
        None => Ok(()),
        Some(why) => {
            complain(&why);
            Err(Answer::No)
        }
    }
}

/// Reads the policy, with what it was read from.
pub(super) fn policy_and_origin(path: &PolicyPath) -> Result<(Policy, Origin), Answer> {
    trusted(&path.path)?;
    let read = || {
        let text = read_text(&path.path)?;
        let (policy, files) = load_text_and_beside(&path.path, &text, &host(path, None))?;
        let origin = Origin::new(&path.path, text, files, policy.backend);
        Ok((policy, origin))
    };
    read().map_err(could_not_read)
}

/// The policy that was applied from here last, as far as it is noted and can still be read.
pub(super) fn applied_policy(record: &Record, path: &PolicyPath) -> Option<Policy> {
    let same = |name: &str| path.backend.is_none_or(|backend| backend.name() == name);
    let running = record.running.as_ref();
    let origin = running.filter(|origin| origin.is_at(&path.path) && same(&origin.backend))?;
    origin.policy().ok()
}

/// The host that a policy is read for.
pub(super) fn host(path: &PolicyPath, default: Option<Backend>) -> Host<'static> {
    Host {
        backend: path.backend,
        default,
        ip_list_tot: list_size(),
        ..Host::default()
    }
}

/// Warns when others can change a policy, or read one that holds sequences.
pub(super) fn warn_of_readers(path: &Path, policy: &Policy) {
    let others = others_can_change(path);
    let others = others.map(|why| format!("`toctoc apply` refuses this policy: {why}"));
    // Whoever can change it is told of first: the same step mends both, or the other is told of next.
    if let Some(warning) = others.or_else(|| exposed(path, policy)) {
        complain(&warning);
    }
}

/// Says why there is no policy.
pub(super) fn could_not_read(error: LoadError) -> Answer {
    match error {
        LoadError::Missing(path) => {
            complain(&no_policy(&path));
            Answer::CouldNot
        }
        LoadError::Unreadable(message) => {
            complain(&message);
            Answer::CouldNot
        }
        LoadError::Wrong(report) => {
            let mut stderr = anstream::stderr();
            let _ = writeln!(stderr, "{}", report.render(Style::Coloured));
            Answer::No
        }
    }
}

/// Advice where there is no policy yet.
fn no_policy(path: &Path) -> String {
    let shown = path.display();
    if path != Path::new(POLICY) {
        return format!(
            "{shown} cannot be read: No such file is there\nnext: name the file of your policy, or none for {POLICY}; \
             `toctoc init {shown}` makes one there"
        );
    }
    let in_example = installed(&EXAMPLE).map_or(String::new(), |file| format!(" as in {file}"));
    let manual = match installed(&MANUAL) {
        Some(_) => "man toctoc-policy",
        None => POLICY_MANUAL,
    };
    format!(
        "{shown} cannot be read: No such file is there\nnext: `toctoc init` asks a few questions and makes one, on \
         trial\nby hand: write {shown} (0600){in_example} (every setting: `{manual}`), `toctoc key new` for a key, \
         `toctoc check`, then `toctoc apply --confirm 2m`"
    )
}

/// The shortest policy, where a package or `make install` puts it.
const EXAMPLE: [&str; 2] = [
    "/usr/share/doc/toctoc/examples/one-server.toml",
    "/usr/local/share/doc/toctoc/examples/one-server.toml",
];

/// The manual page of policies. A package compresses it.
const MANUAL: [&str; 3] = [
    "/usr/share/man/man5/toctoc-policy.5.gz",
    "/usr/share/man/man5/toctoc-policy.5",
    "/usr/local/share/man/man5/toctoc-policy.5",
];

/// The first of these files that is there: a program that was only built has neither.
fn installed(files: &[&'static str]) -> Option<&'static str> {
    files.iter().copied().find(|file| Path::new(file).exists())
}

/// Prints what was done to the firewall. Returns whether it could be written; when nobody reads it any
/// more, that is no error.
pub(super) fn report(text: &str) -> bool {
    match print(text) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            complain(&format!(
                "cannot write: {error}\nthe running firewall was changed; only the report could not be \
                 written"
            ));
            false
        }
        _ => true,
    }
}

/// The answer of a command that has nothing more to say than its report.
pub(super) fn reported(text: &str) -> Answer {
    if report(text) {
        Answer::Yes
    } else {
        Answer::CouldNot
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where there is no policy yet, the next steps are told, and no file is named that is not there.
    #[test]
    fn a_new_user_is_told_where_to_begin() {
        let said = no_policy(Path::new(POLICY));
        for words in [
            "next: `toctoc init`",
            "by hand",
            "toctoc key new",
            "toctoc apply --confirm",
        ] {
            assert!(said.contains(words), "{said}");
        }
        for (files, words) in [
            (&EXAMPLE[..], "as in /usr"),
            (&MANUAL[..], "`man toctoc-policy`"),
        ] {
            assert_eq!(said.contains(words), installed(files).is_some(), "{said}");
        }
        let said = no_policy(Path::new("other.toml"));
        assert!(
            said.contains("`toctoc init other.toml`") && said.contains(POLICY),
            "{said}"
        );
    }
}
