//! toctoc closes a port to everyone but those who have just knocked, and leaves no process running
//! to do it: a policy file is compiled into the kernel's own firewall.
//!
//! Data flows one way. Each arrow is a verb, and names a module:
//!
//! ```text
//! text --parse--> file --check--> Policy --build--> Automaton --render--> Script
//!                                                                            | apply
//!                                          Status <--observe-- kernel <------+
//! knocks --send--> sent --verify--> open door
//! ```
//!
//! Everything up to `Script` is pure: values in, values out. [`firewall`] is the only place that
//! changes the kernel, [`client`] the only one that sends packets, [`cli`] the only one that
//! prints. [`model`] is the contract as the plainest program; every test asks it.
#![forbid(unsafe_code)]

// From text to what is handed to the kernel: pure.
#[cfg(feature = "server")]
pub mod automaton;
pub mod browser;
#[cfg(feature = "server")]
pub mod chain_name;
#[cfg(feature = "server")]
pub mod held;
#[cfg(feature = "server")]
pub mod import;
pub mod knock;
#[cfg(feature = "server")]
pub mod picture;
#[cfg(feature = "server")]
pub mod policy;
pub mod protocol;
#[cfg(feature = "server")]
pub mod ruleset;
pub mod services;
pub mod signed;
pub mod single_use;

// The contract, and what happens over time.
#[cfg(feature = "server")]
pub mod model;
#[cfg(feature = "server")]
pub mod trace;

// The edges.
pub mod cli;
pub mod client;
#[cfg(feature = "server")]
pub mod enrol;
mod errno;
#[cfg(feature = "server")]
pub mod firewall;
#[cfg(feature = "server")]
pub mod first;
#[cfg(feature = "server")]
pub mod fleet_report;
#[cfg(feature = "server")]
pub mod lab;
#[cfg(feature = "server")]
pub mod log;
mod lookup;
mod private_file;
#[cfg(feature = "server")]
pub mod rehearsal;
#[cfg(feature = "server")]
pub mod watch;
