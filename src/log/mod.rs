//! Openings, by whom and when, as the kernel says it: in its log, or to an NFLOG group.
//!
//! A line is believed if the kernel said it ([`kernel`], [`file`]), if it has the form of an opening from its first
//! byte to its last ([`line`]), and if a rule of the policy writes what it begins with ([`rules`]).

mod ear;
mod file;
mod kernel;
mod line;
mod nflog;
mod rules;

use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Serialize, Serializer};

pub use ear::{Ear, Heard, MOST_WAITING};
pub use file::{Doubt, Doubts, in_file};
pub use kernel::{Ring, Writers};
pub use line::{Claim, Format, in_line};
pub use nflog::Group;
pub use rules::Rules;

/// An opening of one door.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Opening {
    /// When, as far as it is told.
    #[serde(serialize_with = "in_words")]
    pub at: Option<Timestamp>,
    pub source: IpAddr,
    /// The door's name.
    pub door: String,
    /// The key's name. Names that are long and begin alike may be cut with iptables.
    pub key: String,
}

/// The proof that the kernel wrote a line for a rule of this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    Kernel,
    /// Others can get such lines to where this one was found.
    Missing,
}

fn in_words<S: Serializer>(at: &Option<Timestamp>, to: S) -> Result<S::Ok, S::Error> {
    at.map(|at| at.to_string()).serialize(to)
}
