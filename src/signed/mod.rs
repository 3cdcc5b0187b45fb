//! Signed keys: a datagram that says when and from where it was sent, and a signature that only the key's device can make.
//!
//! ```text
//! Secret --derive--> Signer --sign(source, time)--> datagram --judge(source, now)--> Class
//! ```
//!
//! The kernel judges it with a small BPF program ([`program`]) and says so in the packet's mark and priority; the rules do
//! the rest. [`Signer::judge`] is the same in plain Rust: tests compare the two. Pure; `firewall/signed` loads the program.
//!
//! This room does not know interfaces, rules or files.

#[cfg(feature = "server")]
pub mod assembler;
mod datagram;
#[cfg(feature = "server")]
pub mod program;
#[cfg(feature = "server")]
mod siphash;

pub use datagram::{
    Binding, Bound, LONGEST, LONGEST_PADDING, Refusal, SHORTEST, SKEW, Signer, Time,
};
