//! Keys that open once: tokens made of a secret, loaded into the kernel ahead of time.
//!
//! `Secret --token--> Token`, and `plan`: which tokens the kernel shall hold at a moment. Pure; what
//! the kernel holds and what was spent is passed in, and so is the time. The kernel spends a token by
//! itself, see [`nftables`](crate::ruleset::nftables); `firewall/tokens` loads them.

#[cfg(feature = "server")]
pub mod journal;
#[cfg(feature = "server")]
pub mod plan;
mod secret;
mod token;

#[cfg(feature = "server")]
pub use journal::Journal;
pub use secret::{Secret, SecretError};
pub(crate) use token::base64;
pub use token::mac;
pub use token::{Form, GRACE, Token, WINDOW, Window, token};

/// The tokens that each window has: so many openings a minute.
pub const TOKENS_PER_WINDOW: u32 = 4;
