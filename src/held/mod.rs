//! What the kernel holds of ours at a moment, whichever backend it is in, and the edits of it. Pure: nothing here knows
//! what nft prints, how a list of iptables is called, or a kernel.

mod edit;
mod rights;
mod room;
mod words;

pub use edit::{Departure, around};
pub use rights::Rights;
pub use room::{Spared, first_to_end};
pub use words::{BY_HAND, Drift, Fault, Grant, Guest, Opened, Progress, Subject, granted_network};

/// The sources that are let in.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Guests {
    /// The live grants of this host.
    pub grants: Vec<Grant>,
    /// The records of openings, of live grants and of others.
    pub opened: Vec<Opened>,
    /// The live grants that other hosts of the fleet gave. Who opened them, the kernel does not know.
    pub elsewhere: Vec<Grant>,
}
