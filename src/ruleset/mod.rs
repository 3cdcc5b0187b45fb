//! Rules that are handed to the kernel, and state that is read back from it. A backend is a renderer and a
//! reader, nothing else: all of it is pure text and values. Running programs is
//! [`firewall`](crate::firewall)'s part.

mod family;
pub mod iptables;
pub mod log_prefix;
pub mod nftables;
mod room;
mod state;

pub use family::Family;
pub use room::{Spared, first_to_end};
pub use state::{BY_HAND, Drift, Grant, Opened, Progress, granted_network};
