//! What is handed to the kernel, and what is read back from it. A backend is a renderer and a
//! reader, nothing else: all of it is pure text and values. Running programs is
//! [`firewall`](crate::firewall)'s part.

pub mod iptables;
pub mod nftables;

pub use nftables::{BY_HAND, Drift, Family, Grant, Opened, Progress};
