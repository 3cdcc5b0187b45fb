//! The two hooks at which a door is asked, and the names of the chains there.

use super::names::{CHAIN, chain, table_of};
use crate::knock::Protocol;
use crate::policy::Name;

/// A hook at which doors are asked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// Raw PREROUTING for TCP, mangle PREROUTING for UDP: packets to the door's port, at an address that the routing
    /// table `local` has.
    Prerouting,
    /// Mangle INPUT: packets that are delivered to the door's port, whatever port and address they were sent to.
    Input,
}

impl Hook {
    pub const BOTH: [Hook; 2] = [Hook::Prerouting, Hook::Input];

    pub fn table(self, protocol: Protocol) -> &'static str {
        match self {
            Hook::Prerouting => table_of(protocol),
            Hook::Input => "mangle",
        }
    }

    /// The built-in chain that jumps to our first one.
    pub fn built_in(self) -> &'static str {
        match self {
            Hook::Prerouting => "PREROUTING",
            Hook::Input => "INPUT",
        }
    }

    pub fn first_chain(self) -> String {
        match self {
            Hook::Prerouting => CHAIN.to_string(),
            Hook::Input => chain("inner"),
        }
    }

    /// The name of the tree of chains that tells ports apart.
    pub fn ports(self, protocol: Protocol) -> String {
        match self {
            Hook::Prerouting => "ports".to_string(),
            Hook::Input => format!("inner-{protocol}"),
        }
    }

    pub fn door_chain(self, door: &Name) -> String {
        chain(&format!("{}{door}", self.door()))
    }

    /// The beginning of the names of all chains of doors.
    pub fn door_chains(self) -> String {
        chain(self.door())
    }

    fn door(self) -> &'static str {
        match self {
            Hook::Prerouting => "door-",
            Hook::Input => "inner-door-",
        }
    }

    /// The chain of packets without a grant.
    pub fn shut_chain(self) -> String {
        match self {
            Hook::Prerouting => chain("shut"),
            Hook::Input => chain("inner-shut"),
        }
    }
}
