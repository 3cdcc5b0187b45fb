//! The words for what a kernel holds, the same for both backends.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use crate::policy::{DoorId, KeyId};

/// A live grant.
#[derive(Debug, Clone, PartialEq)]
pub struct Grant {
    pub source: IpNet,
    pub door: DoorId,
    /// `true` if the first connection uses it up.
    pub once: bool,
    /// The source and key that opened it.
    pub opened_by: Option<Opened>,
    /// The time left; with nftables rounded down to seconds.
    pub expires_in: Duration,
    /// The kernel never ends it. None of ours is so: somebody else has put it there.
    pub is_endless: bool,
    /// `None` where no connection extends it.
    pub stay: Option<Stay>,
}

/// The remaining times of a grant that connections extend. It ends at the latest of them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stay {
    /// The time left of the grant as it was given; `None` when that is over.
    pub given: Option<Duration>,
    /// The time left since its last connection; `None` when there was none of late.
    pub used: Option<Duration>,
    /// The time left in which connections may extend it.
    pub at_most: Duration,
}

impl Stay {
    /// The time left of the grant.
    pub fn left(&self) -> Duration {
        let used = self.used.map(|used| used.min(self.at_most));
        self.given.max(used).unwrap_or_default()
    }
}

impl Grant {
    pub fn guest(&self) -> Guest {
        Guest {
            source: self.source,
            door: self.door,
        }
    }
}

/// The source of a grant, and the door that it is let in by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Guest {
    pub source: IpNet,
    pub door: DoorId,
}

/// The network that a grant covers which is given to `source` on a host whose grants are of this
/// length.
///
/// # Errors
/// A sentence, when the source is a network of another length.
pub fn granted_network(source: IpNet, prefix: u8) -> Result<IpNet, String> {
    let single = source.prefix_len() == source.max_prefix_len();
    if !single && source.prefix_len() != prefix {
        return Err(format!(
            "grants on this host are for a /{prefix}, not for {source}"
        ));
    }
    Ok(IpNet::new(source.addr(), prefix).map_or(source, |net| net.trunc()))
}

/// The source that opened a door, and with what.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Opened {
    pub source: IpAddr,
    pub door: DoorId,
    pub key: KeyId,
    pub expires_in: Duration,
    /// The time for which it was first given; zero where the kernel does not know. A knock renews what is left, and
    /// not this.
    pub given_for: Duration,
}

impl Opened {
    /// Returns whether an administrator opened it, and no key.
    pub fn by_hand(&self) -> bool {
        self.key == KeyId::BY_HAND
    }
}

/// A source midway.
#[derive(Debug, Clone, PartialEq)]
pub struct Progress {
    pub source: IpAddr,
    /// A state of the automaton that the kernel holds.
    pub state: u32,
    pub expires_in: Duration,
}

/// One difference between a policy and what is in the kernel.
#[derive(Debug, Clone, PartialEq)]
pub struct Drift {
    /// `chain judge`, `map steps`, `iptables raw: chain toctoc`, ...
    pub part: String,
    /// "is missing", "has been flushed", ...
    pub what: String,
    pub subject: Subject,
}

/// The part of the rules that differs, for those who say what it means in the policy.
#[derive(Debug, Default, Clone, PartialEq)]
pub enum Subject {
    /// Something else, whose sentence is plain already.
    #[default]
    Other,
    /// Something else, in the words of the policy.
    Said(String),
    Chain(String, Fault),
    /// A set or map as such.
    Set(String, Fault),
    /// Elements of a set or map, as a person reads them.
    Elements(String, Fault, Vec<String>),
}

/// The kind of a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    Missing,
    Changed,
    /// It is there besides what the policy says.
    Besides,
}

impl Drift {
    pub fn new(part: impl Into<String>, what: impl Into<String>) -> Drift {
        Drift {
            part: part.into(),
            what: what.into(),
            subject: Subject::Other,
        }
    }

    #[must_use]
    pub fn about(self, subject: Subject) -> Drift {
        Drift { subject, ..self }
    }
}

impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.part, self.what)
    }
}
