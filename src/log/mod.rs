//! Who opened what and when, as the kernel says it: in its log, or to an NFLOG group.

mod kernel;
mod line;
mod nflog;
mod source;

use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Serialize, Serializer};

pub use kernel::{Ring, in_file};
pub use line::{Format, in_line, prefix};
pub use nflog::Group;
pub use source::Source;

/// An opening of one door.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Opening {
    /// When, as far as it is told.
    #[serde(serialize_with = "in_words")]
    pub at: Option<Timestamp>,
    pub source: IpAddr,
    /// The door's name.
    pub door: String,
    /// The key's name. Long names may be cut with iptables.
    pub key: String,
}

fn in_words<S: Serializer>(at: &Option<Timestamp>, to: S) -> Result<S::Ok, S::Error> {
    at.map(|at| at.to_string()).serialize(to)
}
