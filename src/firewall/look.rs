//! A quick look at what closes the doors: whether it is what it was. It takes some milliseconds, since nothing
//! is compared: chains, rules and sets go into one number as the kernel tells them.
//!
//! Elements that the kernel fills (grants, progress, counts) and tokens are not part of it.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};

use super::netlink::{GET_CHAINS, GET_RULES, GET_SETS, find, find_number, find_text};
use super::nf_tables::attributes::{about_ours, chain, element, elements_in, rule, set, table};
use super::nf_tables::{Socket, all_of, elements_of, the_table};
use super::seal::this_table;
use super::{Failure, Firewall, Iptables};
use crate::policy::Backend;
use crate::ruleset::nftables::{AtApply, SetId};

/// The state that was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Look {
    /// Which table is ours, with nftables. `None` if none is.
    table: Option<u64>,
    /// The number of changes to all tables of this network namespace, with nftables.
    generation: Option<u64>,
    /// Of chains, rules and sets that only change when somebody changes them.
    digest: u64,
}

impl Look {
    /// Looks at the rules of iptables alone.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub(super) fn of_iptables(programs: Iptables) -> Result<Look, Failure> {
        let mut digest = DefaultHasher::new();
        Iptables::has_rules()?.hash(&mut digest);
        for family in Iptables::families() {
            format!("{:?}", programs.save(family)?.uncounted()).hash(&mut digest);
        }
        Ok(Look {
            table: None,
            generation: None,
            digest: digest.finish(),
        })
    }

    /// Looks at our table of nftables alone.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub(super) fn of_nftables() -> Result<Look, Failure> {
        nftables().map_err(failed)
    }

    /// Returns whether our table of nftables looks the same now.
    pub(super) fn is_still(&self) -> bool {
        let now = Look::of_nftables();
        now.is_ok_and(|now| (now.table, now.digest) == (self.table, self.digest))
    }

    /// Looks again. `None` when something has changed since.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub(super) fn again(
        &self,
        firewall: &Firewall,
        backend: Backend,
    ) -> Result<Option<Look>, Failure> {
        if self.generation.is_some() {
            let socket = Socket::open().map_err(failed)?;
            let same = this_table().map_err(failed)? == self.table
                && self.generation == socket.generation().ok();
            if same {
                return Ok(Some(self.clone()));
            }
        }
        let now = firewall.side(backend).look()?;
        let same = (now.table, now.digest) == (self.table, self.digest);
        Ok(same.then_some(now))
    }

    /// Returns whether our table of nftables exists, dormant or not.
    pub(super) fn has_table(&self) -> bool {
        self.table.is_some()
    }
}

fn failed(error: io::Error) -> Failure {
    Failure::unchanged(format!("the kernel does not say what it holds: {error}"))
}

fn nftables() -> io::Result<Look> {
    let socket = Socket::open()?;
    // Before everything else: whoever changes something in between is seen the next time.
    let generation = socket.generation().ok();
    let table = this_table()?;
    let mut digest = DefaultHasher::new();
    if table.is_some() {
        table_flags(&socket).hash(&mut digest);
        chains(&socket)?.hash(&mut digest);
        rules(&socket, &mut digest)?;
        sets(&socket, &mut digest)?;
    }
    Ok(Look {
        table,
        generation,
        digest: digest.finish(),
    })
}

/// The table's flags (`NFT_TABLE_F_*`). `None` when the table has gone meanwhile.
fn table_flags(socket: &Socket) -> Option<u64> {
    let flags = socket.ask_for(&the_table(), |message| {
        find_number(about_ours(&message)?, table::FLAGS)
    });
    flags.ok()
}

/// The attributes of these kinds, as they are.
fn some_of<const N: usize>(told: &[u8], kinds: [u16; N]) -> [Option<&[u8]>; N] {
    kinds.map(|kind| find(told, kind))
}

fn chains(socket: &Socket) -> io::Result<Vec<Vec<Option<Vec<u8>>>>> {
    let mut chains = Vec::new();
    socket.list(&all_of(GET_CHAINS), |told| {
        let kinds = [
            chain::HANDLE,
            chain::NAME,
            chain::HOOK,
            chain::POLICY,
            chain::TYPE,
        ];
        let chain = some_of(told, kinds).map(|value| value.map(<[u8]>::to_vec));
        chains.push(chain.to_vec());
    })?;
    Ok(chains)
}

fn rules(socket: &Socket, digest: &mut DefaultHasher) -> io::Result<()> {
    // A rule that replaces another one may keep its number.
    let kinds = [rule::CHAIN, rule::HANDLE, rule::EXPRESSIONS];
    socket.list(&all_of(GET_RULES), |told| some_of(told, kinds).hash(digest))
}

/// The declarations of all sets, and the elements of those that nobody but an apply fills.
fn sets(socket: &Socket, digest: &mut DefaultHasher) -> io::Result<()> {
    let kinds = [set::NAME, set::FLAGS, set::TIMEOUT, set::HANDLE];
    let mut fixed = Vec::new();
    socket.list(&all_of(GET_SETS), |told| {
        let name = find_text(told, set::NAME).unwrap_or_default().to_string();
        some_of(told, kinds).hash(digest);
        let flags = find_number(told, set::FLAGS).unwrap_or_default();
        // Large sets of ports have the flag, and no element that times out.
        if flags & set::TIMES_OUT == 0 || closes_doors(&name) {
            fixed.push(name);
        }
    })?;
    for name in fixed {
        elements(&name)?.hash(digest);
    }
    Ok(())
}

/// Returns whether a door is open without this set.
fn closes_doors(set: &str) -> bool {
    SetId::of(set).is_some_and(|row| row.at_apply == AtApply::Refilled)
}

/// So many elements of the maps of the automaton are looked at: the kernel takes seconds to list fifty thousand, and
/// no door opens because some of them are missing. Of ports, all are.
const MOST: usize = 4096;

/// A number for the elements of a set, whatever order they are listed in.
fn elements(set: &str) -> io::Result<u64> {
    let kinds = [
        element::KEY,
        element::DATA,
        element::FLAGS,
        element::KEY_END,
    ];
    let (mut sum, mut seen) = (0_u64, 0);
    Socket::open()?.list_until(&elements_of(set), |told| {
        for element in elements_in(told) {
            let mut one = DefaultHasher::new();
            some_of(element, kinds).hash(&mut one);
            sum = sum.wrapping_add(one.finish());
            seen += 1;
        }
        match seen < MOST || closes_doors(set) {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        }
    })?;
    Ok(sum)
}
