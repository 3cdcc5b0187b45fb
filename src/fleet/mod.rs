//! Several hosts that let in whom one of them let in: `toctoc fleet`.
//!
//! `message` is what they tell each other, `signature` by what it is known to be theirs, and `rules` what a policy
//! makes of it; `clock` is the engine's, the one that all see; `ledger` keeps who is in, `take` and `hear` take in what
//! others say and `tell` says it to them. All these are pure. `engine` and `ask` talk to Redis or Valkey, `kernel` to
//! this host's firewall; `agent` is the loop, `answers` what it makes of the engine's, and `report` what `toctoc status`
//! shows of it.

pub mod agent;
mod answers;
mod ask;
#[cfg(test)]
mod cases;
pub mod clock;
pub mod engine;
mod hear;
mod kernel;
pub mod ledger;
pub mod message;
pub mod report;
pub mod rules;
pub mod signature;
#[cfg(test)]
mod small_world;
pub mod take;
pub mod tell;
