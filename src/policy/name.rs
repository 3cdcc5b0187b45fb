//! Names of doors and keys, and the numbers that stand for them in the kernel.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::knock::Knock;

/// The name of a door or key: 1 to 32 of `a-z A-Z 0-9 - _ .`, the first a letter or digit.
///
/// Names become names of chains and counters, so they hold nothing that any backend would quote.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

impl TryFrom<String> for Name {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Name, &'static str> {
        Name::new(&text).ok_or("no name")
    }
}

impl From<Name> for String {
    fn from(name: Name) -> String {
        name.0
    }
}

impl Name {
    pub const LONGEST: usize = 32;

    /// `None` when the text is not a name.
    pub fn new(text: &str) -> Option<Name> {
        let body = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        let fits = text.len() <= Name::LONGEST && text.bytes().all(body);
        let starts = text.bytes().next()?.is_ascii_alphanumeric();
        (fits && starts).then(|| Name(text.to_string()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The number that stands for this name in the kernel's sets: the same wherever and whenever it
    /// is computed, so that what a set holds keeps its meaning when the policy changes. FNV-1a
    /// (draft-eastlake-fnv) of the name, its upper half never 0 or ffff: nft prints those specially,
    /// and small numbers are the automaton's states. `check` refuses two names with one id.
    pub fn id(&self) -> u32 {
        id(&self.0)
    }

    /// The same, if this is the name of a door.
    pub fn door_id(&self) -> DoorId {
        DoorId(self.id())
    }

    /// The same, if this is the name of a key.
    pub fn key_id(&self) -> KeyId {
        KeyId(self.id())
    }
}

/// The [number](Name::id) of a door in the kernel's sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DoorId(pub u32);

/// The [number](Name::id) of a key there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyId(pub u32);

impl KeyId {
    /// Stands for the administrator, who opens without a key.
    pub const BY_HAND: KeyId = KeyId(1);
}

/// The number that stands for a scratch sequence in the kernel: the same for the same knocks, whosever
/// they are and wherever they stand in the file.
pub fn scratch_id(knocks: &[Knock]) -> u32 {
    let knocks: Vec<String> = knocks.iter().map(Knock::to_string).collect();
    id(&knocks.join(" "))
}

pub(super) fn id(text: &str) -> u32 {
    let hash = text.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    match hash >> 16 {
        0 | 0xffff => hash ^ 0x5555_0000,
        _ => hash,
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// nft prints the halves 0 and ffff of a number specially.
    #[test]
    fn no_name_has_a_number_that_nft_prints_specially() {
        // Of so many, some would have one.
        let mut ids = (0..200_000).map(|n| Name::new(&format!("k{n}")).unwrap().id());
        assert!(ids.all(|id| ![0, 0xffff].contains(&(id >> 16))));
    }
}
