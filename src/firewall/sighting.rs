//! What was seen when somebody of ours looked last: a file in /run, so that it ends with this start of the
//! machine. It says what was applied since then, and by which [`Look`] a healing knows that all is well.

use std::collections::HashSet;
use std::fs;
use std::io::Write as _;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::links::NamedInterface;
use super::lock;
use super::look::Look;
use super::record::{Moment, Origin};
use crate::policy::{Backend, Policy};

/// A sighting. Writers hold the lock. Readers need none: the file is replaced whole.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sighting {
    /// When it was seen last.
    pub at: Moment,
    /// SHA-256 of what was applied, in hexadecimal.
    applied: String,
    pub backend: Backend,
    /// The interfaces that the policy names, as the rules have them.
    #[serde(default)]
    pub interfaces: Vec<NamedInterface>,
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
    /// It is not known to have been as it was applied: an earlier release, or nobody, has made it.
    Strange(Look),
}

impl Sighting {
    /// Notes the state of what was applied, as it is seen now. Where it cannot be noted, nothing is healed.
    pub(super) fn note(origin: &Origin, policy: &Policy, verdict: Verdict) {
        let before = Sighting::last().map(|last| last.interfaces);
        let sighting = Sighting {
            at: Moment::now(),
            applied: digest(origin),
            backend: policy.backend,
            interfaces: NamedInterface::look_up(policy, &before.unwrap_or_default()),
            verdict,
        };
        sighting.write();
    }

    /// The same was seen again.
    pub(super) fn again(&self, verdict: Verdict) {
        let sighting = Sighting {
            at: Moment::now(),
            applied: self.applied.clone(),
            backend: self.backend,
            interfaces: self.interfaces.clone(),
            verdict,
        };
        sighting.write();
    }

    /// The same of what is in force instead, of which nothing else is known.
    pub(super) fn note_rest(&self, rest: &Origin) {
        let sighting = Sighting {
            applied: digest(rest),
            ..self.clone()
        };
        sighting.again(Verdict::Applied);
    }

    /// Nothing of ours is there any more, as somebody wished.
    pub(super) fn forget() {
        if let Some(path) = lock::beside("seen") {
            let _ = fs::remove_file(path);
        }
    }

    /// Removes those of network namespaces that are gone.
    pub(super) fn forget_vanished(living: &HashSet<u64>) {
        let own = lock::beside("seen");
        let directory = own
            .as_ref()
            .and_then(|own| fs::read_dir(own.parent()?).ok());
        let paths = directory.into_iter().flatten().flatten();
        for path in paths.map(|file| file.path()) {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let number = name.strip_suffix(".seen").map(str::parse::<u64>);
            if let Some(Ok(number)) = number
                && !living.contains(&number)
            {
                let _ = fs::remove_file(&path);
            }
        }
    }

    /// The last one, if it is of this start of the machine.
    pub(super) fn last() -> Option<Sighting> {
        let text = fs::read_to_string(lock::beside("seen")?).ok()?;
        let sighting: Sighting = serde_json::from_str(&text).ok()?;
        let same_start = sighting.at.is_of_this_start();
        same_start.then_some(sighting)
    }

    /// Returns whether it is about this.
    pub(super) fn is_of(&self, origin: &Origin) -> bool {
        self.applied == digest(origin)
    }

    fn write(&self) {
        let Some(path) = lock::beside("seen") else {
            return;
        };
        let Ok(text) = serde_json::to_string(self) else {
            return;
        };
        // The directory is ours alone. A file that is cut is no sighting.
        let new = path.with_extension("seen.new");
        let _ = fs::remove_file(&new);
        let written = fs::File::create_new(&new)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .and_then(|()| fs::rename(&new, &path));
        if written.is_err() {
            let _ = fs::remove_file(&path);
        }
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
