//! A fingerprint of our table, taken when it was found to match the policy, and a mark of each part. If the fingerprint is
//! the same now, `status` does not compare again; if it is another, the marks tell what differs. Nothing is listed then,
//! which takes seconds and a gigabyte with ten thousand keys.
//!
//! It counts only for the same table, start of the machine, script, toctoc and nft. Where any of these is not known, it
//! counts for nothing.

use std::fmt::{self, Write as _};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::nf_tables::{self, Parts};
use super::nft::Nft;
use super::state_file::StateFile;
use crate::ruleset::nftables::{Marks, Script};

/// The version of the file, and of how a fingerprint is made.
const VERSION: u32 = 2;

/// A fingerprint, and what it counts for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verified {
    version: u32,
    program: String,
    nft: String,
    /// The start of the machine, and the number of the table.
    table: String,
    /// SHA-256 of the script, in hexadecimal.
    script: String,
    fingerprint: String,
    marks: Marks,
}

/// Our table, held against what was noted of it.
pub enum Judged {
    /// It is as it was when it matched the script.
    Unchanged,
    Changed {
        noted: Marks,
        now: Marks,
    },
    /// Nothing is noted that counts for this script and this table, or the kernel does not say. Compare.
    Unknown,
}

impl Verified {
    /// The parts of a table that matches the script with this [digest], taken now. `None` when the table or the version of
    /// nft is not known.
    pub fn now(nft: &Nft, script: String, parts: &Parts) -> Option<Verified> {
        Some(Verified {
            version: VERSION,
            program: env!("CARGO_PKG_VERSION").to_string(),
            nft: nft.version()?,
            table: nft.table().ok().flatten()?,
            script,
            fingerprint: parts.digest(),
            marks: parts.marks(),
        })
    }

    /// Writes it. If that fails, the next `status` takes longer and says the same.
    pub fn note(&self, state: &StateFile) {
        if let Ok(text) = serde_json::to_string(self) {
            let _unnoted = state.put(&file(), &text);
        }
    }

    /// Holds our table against what was noted for this script.
    pub fn judge(nft: &Nft, state: &StateFile, script: &Script) -> Judged {
        let judged = || {
            let text = state.text(&file()).ok()??;
            let noted: Verified = serde_json::from_str(&text).ok()?;
            let (parts, _) = nf_tables::parts().ok()??;
            let now = Verified::now(nft, digest(script), &parts)?;
            if noted == now {
                return Some(Judged::Unchanged);
            }
            let same_marks = Verified {
                fingerprint: now.fingerprint.clone(),
                marks: now.marks.clone(),
                ..noted.clone()
            };
            (same_marks == now).then_some(Judged::Changed {
                noted: noted.marks,
                now: now.marks,
            })
        };
        judged().unwrap_or(Judged::Unknown)
    }
}

/// SHA-256 of a script, in hexadecimal.
pub fn digest(script: &Script) -> String {
    struct Into(Sha256);
    impl fmt::Write for Into {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            self.0.update(text.as_bytes());
            Ok(())
        }
    }
    let mut into = Into(Sha256::new());
    let _never_fails = write!(into, "{script}");
    let digest = into.0.finalize();
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn file() -> String {
    super::record::file().replace("applied", "verified")
}
