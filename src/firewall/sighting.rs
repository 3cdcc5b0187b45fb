//! The note of our last look: a file in /run, so that it ends with this start of the
//! machine. It says what was applied since then, and by which [`Look`] a healing knows that all is well.

use std::fs;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::links::NamedInterface;
use super::lock;
use super::look::Look;
use super::namespaces::{Cookie, is_here};
use super::record::{Moment, Origin};
use crate::policy::{Backend, Policy};

/// The kind of its file.
const KIND: &str = "seen";

/// A sighting. Writers hold the lock. Readers need none: the file is replaced whole.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sighting {
    /// When it was seen last.
    pub at: Moment,
    /// The network namespace it is about.
    #[serde(default)]
    namespace: Option<Cookie>,
    /// SHA-256 of what was applied, in hexadecimal. `None` if all was removed.
    applied: Option<String>,
    pub backend: Backend,
    /// The interfaces that the policy names, as the rules have them.
    #[serde(default)]
    pub interfaces: Vec<NamedInterface>,
    /// The names of hosts that the policy trusts.
    #[serde(default)]
    pub names: Vec<String>,
    /// Some key is signed.
    #[serde(default)]
    pub signed: bool,
    pub verdict: Verdict,
}

/// The finding of that look.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Verdict {
    /// The policy was just applied; nobody has looked since.
    Applied,
    /// All was as it was applied.
    Well(Look),
    /// It was not, and a healing could not change that.
    Unhealed(Look),
    /// It is not known to have been as it was applied, or what was applied is not noted; a healing has said so.
    Strange(Look),
    /// All was removed, and the record could not be told.
    Removed,
}

impl Sighting {
    /// Notes the state of what was applied, as it is seen now. Returns whether that could be noted.
    pub(super) fn note(origin: &Origin, policy: &Policy, verdict: Verdict) -> bool {
        let before = Sighting::last().map(|last| last.interfaces);
        let sighting = Sighting {
            at: Moment::now(),
            namespace: Cookie::own(),
            applied: Some(digest(origin)),
            backend: policy.backend,
            interfaces: NamedInterface::look_up(policy, &before.unwrap_or_default()),
            names: policy.trusted_names().map(str::to_string).collect(),
            signed: policy.has_signed(),
            verdict,
        };
        sighting.write()
    }

    /// Notes that all was removed, for a record that could not be told. Returns whether that could be noted.
    pub(super) fn note_removed() -> bool {
        let sighting = Sighting {
            at: Moment::now(),
            namespace: Cookie::own(),
            applied: None,
            backend: Backend::Nftables,
            interfaces: Vec::new(),
            names: Vec::new(),
            signed: false,
            verdict: Verdict::Removed,
        };
        sighting.write()
    }

    /// Notes rules of which nothing else is known.
    ///
    /// # Errors
    /// As for `look`.
    pub(super) fn note_unknown<E>(look: impl Fn(Backend) -> Result<Look, E>) -> Result<bool, E> {
        let nftables = look(Backend::Nftables)?;
        let (backend, look) = match nftables.has_table() {
            true => (Backend::Nftables, nftables),
            false => (Backend::Iptables, look(Backend::Iptables)?),
        };
        let sighting = Sighting {
            at: Moment::now(),
            namespace: Cookie::own(),
            applied: None,
            backend,
            interfaces: Vec::new(),
            names: Vec::new(),
            signed: false,
            verdict: Verdict::Strange(look),
        };
        Ok(sighting.write())
    }

    /// The same was seen again.
    pub(super) fn again(&self, verdict: Verdict) {
        let sighting = Sighting {
            at: Moment::now(),
            verdict,
            ..self.clone()
        };
        sighting.write();
    }

    /// The same of what is in force instead, of which nothing else is known.
    pub(super) fn note_rest(&self, rest: &Origin) {
        let sighting = Sighting {
            applied: Some(digest(rest)),
            ..self.clone()
        };
        sighting.again(Verdict::Applied);
    }

    /// Nothing of ours is there any more, as somebody wished.
    pub(super) fn forget() {
        lock::remove_beside(KIND);
    }

    /// The last one, if it is of this start of the machine, and of this network namespace.
    pub(super) fn last() -> Option<Sighting> {
        let text = fs::read_to_string(lock::beside(KIND)?).ok()?;
        let sighting: Sighting = serde_json::from_str(&text).ok()?;
        let is_ours = is_here(sighting.namespace) && sighting.at.is_of_this_start();
        is_ours.then_some(sighting)
    }

    /// Returns whether it is about this.
    pub(super) fn is_of(&self, origin: &Origin) -> bool {
        self.applied == Some(digest(origin))
    }

    /// Returns whether it could be written. Where not, none is there.
    fn write(&self) -> bool {
        let text = serde_json::to_string(self);
        text.is_ok_and(|text| lock::put_beside(KIND, text.as_bytes()).is_ok())
    }
}

fn digest(origin: &Origin) -> String {
    let mut digest = Sha256::new();
    for part in [
        origin.path.as_os_str().as_encoded_bytes(),
        origin.backend.as_bytes(),
        origin.text.as_bytes(),
    ] {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    let digest = digest.finalize();
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
