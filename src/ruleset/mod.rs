//! Rules that are handed to the kernel, and state that is read back from it. A backend is a renderer and a
//! reader, nothing else: all of it is pure text and values. Running programs is
//! [`firewall`](crate::firewall)'s part.

mod family;
pub mod iptables;
pub mod log_prefix;
mod meaning;
pub mod nftables;

pub use family::Family;
