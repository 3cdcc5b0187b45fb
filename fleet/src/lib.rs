//! Several hosts that let in whom one of them let in: `toctoc-fleet`, which `toctoc fleet` starts. The policy, the rules
//! in the kernel and what is read of them are toctoc's; only this program knows Redis and TLS.
//!
//! `message` is what they tell each other, `signature` by what it is known to be theirs, and `rules` what a policy
//! makes of it; `clock` is the engine's, the one that all see; `ledger` keeps who is in, `take` and `hear` take in what
//! others say and `tell` says it to them. All these are pure. `engine` and `ask` talk to Redis or Valkey, `kernel` to
//! this host's firewall; `agent` is the loop, `answers` what it makes of the engine's, and `report` what `toctoc status`
//! shows of it. `program` is the command line.
#![forbid(unsafe_code)]

pub mod agent;
mod answers;
mod ask;
pub mod clock;
pub mod engine;
mod hear;
mod kernel;
pub mod ledger;
pub mod message;
pub mod program;
mod report;
pub mod rules;
pub mod signature;
pub mod take;
pub mod tell;
