//! Several hosts that let in whom one of them let in: `toctoc fleet`.
//!
//! `message` is what they tell each other and `rules` what a policy makes of it; `clock` is the engine's, the
//! one that all see; `ledger` keeps who is in, and `hear` takes in what others say. All these are pure.
//! `engine` talks to Redis or Valkey, `kernel` to this host's firewall, `agent` is the loop, and `report`
//! what `toctoc status` shows of it.

pub mod agent;
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
