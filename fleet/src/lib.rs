//! Several hosts that let in whom one of them let in: `toctoc-fleet`, which `toctoc fleet` starts. The policy, the rules
//! in the kernel and what is read of them are toctoc's; only this program knows Redis and TLS.
//!
//! ```text
//!   kernel, engine, clock --Event--> Member::step --Effect--> kernel, engine, status, log
//! ```
//!
//! `member` is a host of the fleet as a state machine without clock or socket; `answers` is the part of it that takes in
//! the engine's words. It is made of these: `ledger` keeps who is in, `take` and `hear` take in what others say and `tell`
//! says it to them; `reading` takes in what the kernel says and holds; `clock` is the engine's, the one that all see;
//! `connection` is what is known of the engine, `refusals` what did not count. `message` is what hosts tell each other,
//! `signature` by what it is known to be theirs, `rules` what a policy makes of it, `exchange` what is asked of the engine.
//! All these are pure.
//!
//! At the edges, `agent` is the loop, `engine` and `ask` talk to Redis or Valkey, `kernel` to this host's firewall,
//! `own_clock` reads the time, `report` is what `toctoc status` shows, and `program` the command line.
#![forbid(unsafe_code)]

pub mod agent;
mod answers;
mod ask;
pub mod clock;
pub mod connection;
pub mod engine;
pub mod exchange;
mod hear;
mod kernel;
pub mod ledger;
pub mod member;
pub mod message;
pub mod own_clock;
pub mod program;
pub mod reading;
pub mod refusals;
mod report;
pub mod rules;
pub mod signature;
pub mod take;
pub mod tell;
