//! The real kernel, the real nft, real programs, on two hosts in namespaces.
//!
//! Needs root, or root of a user namespace: `unshare --user --map-root-user -- cargo test`. Where
//! that is not so the tests fail; nothing is skipped.

#[path = "../support/cases.rs"]
mod cases;

mod apply_under_stress;
mod cases_on_the_kernel;
mod doors;
mod inject;
mod lifecycle;
mod programs;
mod strangers;
mod world;
