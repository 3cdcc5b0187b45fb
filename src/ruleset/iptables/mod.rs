//! The iptables backend: chains of our own, one jump to them, and the kernel's lists of addresses
//! (`xt_recent`). The same text for iptables-legacy and iptables-nft, once for each family.
//!
//! # The way of a packet
//!
//! ```text
//!  raw PREROUTING                     mangle PREROUTING (only if the policy has UDP ports)
//!  chain toctoc: SYN?                 chain toctoc: starts a flow?
//!          |                                  |
//!          +-------------+--------------------+
//!                        v
//!  chain toctoc-ports: which port? --> toctoc-door-NAME: grant? pass. else forget progress, drop.
//!                        |        \--> toctoc-tcp-PORT: stands where this knock leads on?
//!                        | other           |        | no       | yes
//!                        v                 v        |          v
//!              toctoc-wrong: forget    first knock? |   toctoc-knock-KEY-N: stands there now
//!                                      else forget <+   toctoc-opens-KEY: grants, count, log
//! ```
//!
//! Packets at mangle INPUT meet chain toctoc-inner: IPv6 headers behind which the stack may find
//! another packet than these rules? drop. A door's port, maybe after a translation, or at an address that is
//! not in the routing table `local`? The door is asked again.
//!
//! # Why the lists are as they are
//!
//! Where a source stands is one list for each state of the automaton, as in the classic script, and
//! not a number spread over a few lists: a list is read and written at once by the kernel, several
//! are not, and a packet on another processor could read a number that nobody wrote.
//!
//! To forget a source, it must be taken off the list it is on. Which one that is, is not known: each
//! key's states share a list of their own (the *group*), and all groups share one, so that most
//! sources are done with at the first look-up. A full list drops the source that was put there longest ago. It
//! could drop a source from the one and not the other; therefore a source stands somewhere only if it
//! is on all three: were a group's list only a short cut, who floods it could no longer be forgotten,
//! and might guess a sequence knock by knock.
//!
//! A list of grants says in its name who may pass where and for how long ([`names`]), so it keeps its
//! meaning over an apply, and the rules for lists that the policy itself does not make (by hand,
//! carried over) can be written from the name alone.

mod change;
mod compare;
mod hook;
mod lists;
mod meaning;
pub mod names;
mod observe;
mod render;
mod saved;
mod script;

pub use change::{Wanted, add_list, change, has_door, let_go, lists_of, prefix_of};
pub use compare::compare;
pub use lists::{Clock, Entry, parse as parse_list};
pub use meaning::meanings;
pub use names::{GrantList, Holder};
pub use observe::{Clearance, Lists, Membership, doors, opened_count, shut_out_count, wrong_count};
pub use render::{early, own_lists, render};
pub use saved::{Saved, SavedError};
pub use script::Script;

/// The comment of rules for lists that the policy itself does not make.
const KEPT: &str = "kept";

/// The comment of rules that let in packets which have passed a door.
const DOOR: &str = "door";

/// The comment of the rule that counts a key's openings.
const OPENED: &str = "opened";
