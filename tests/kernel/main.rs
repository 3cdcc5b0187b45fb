//! The real kernel, the real nft, real programs, on two hosts in namespaces.
//!
//! Needs root, or root of a user namespace: `unshare --user --map-root-user -- cargo test`. Where
//! that is not so the tests fail; nothing is skipped.

#[path = "../support/cases.rs"]
mod cases;
#[path = "../support/document.rs"]
mod document;
#[path = "../support/fleet_program.rs"]
mod fleet_program;

/// Makes each function a test on each firewall there is: nftables, iptables on top of nftables, and
/// the old iptables.
macro_rules! on_every_firewall {
    ($($test:ident),* $(,)?) => {
        mod on_nftables {
            $(#[test] fn $test() { crate::world::on_firewall(crate::world::Kind::Nftables, super::$test) })*
        }
        mod on_iptables_nft {
            $(#[test] fn $test() { crate::world::on_firewall(crate::world::Kind::IptablesNft, super::$test) })*
        }
        mod on_iptables_legacy {
            $(#[test] fn $test() { crate::world::on_firewall(crate::world::Kind::IptablesLegacy, super::$test) })*
        }
    };
}

/// The same for what is about iptables alone.
macro_rules! on_each_iptables {
    ($($test:ident),* $(,)?) => {
        mod on_iptables_nft {
            $(#[test] fn $test() { crate::world::on_firewall(crate::world::Kind::IptablesNft, super::$test) })*
        }
        mod on_iptables_legacy {
            $(#[test] fn $test() { crate::world::on_firewall(crate::world::Kind::IptablesLegacy, super::$test) })*
        }
    };
}

mod absence;
mod allowances;
mod apply_under_stress;
mod behind;
mod beside;
mod browsers;
mod cases_on_the_kernel;
mod client;
mod client_says;
mod connect;
mod containers;
mod cost;
mod datagrams;
mod differential;
mod doors;
mod enrol;
mod every_port;
mod fall_back;
mod faults;
mod fingerprints;
mod fleet;
mod flood;
mod forward;
mod headers;
mod heal;
mod host_firewall;
mod hostile;
mod init;
mod inject;
mod interfaces;
mod iptables;
mod iptables_lists;
mod largest;
mod letters;
mod lifecycle;
mod locking_out;
mod log_lines;
mod moving;
mod nat_modes;
mod neighbours;
mod other_firewalls;
mod packets;
mod past;
mod person;
mod pings;
mod profiles;
mod programs;
mod ranges;
mod recipes;
mod refills;
mod rehearsals;
mod revoking;
mod room;
mod scratch;
mod signed_clients;
mod signed_keys;
mod signed_links;
mod signed_neighbours;
mod slips;
mod ssh;
mod sshd;
mod stand_in;
mod status;
mod staying;
mod strangers;
mod terminal;
mod token_clients;
mod token_stops;
mod token_world;
mod tokens;
mod trial_faults;
mod trials;
mod trusted_names;
mod unreadable;
mod watching;
mod ways_in;
mod world;
