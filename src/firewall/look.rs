//! A quick look at what closes the doors: whether it is what it was. It takes some milliseconds, since nothing
//! is compared: chains, rules and sets go into one number as the kernel tells them.
//!
//! Elements that the kernel fills (grants, progress, counts) and tokens are not part of it.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};

use super::netlink::{
    Attributes, GET_CHAINS, GET_ELEMENTS, GET_GENERATION, GET_RULES, GET_SETS, GET_TABLE,
    NEW_GENERATION, NEW_TABLE, find, messages, number, text,
};
use super::nf_tables::Socket;
use super::seal::{own_name, this_table};
use super::{Failure, Firewall, Iptables};
use crate::policy::Backend;

/// What was seen.
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
    /// Looks at what guards.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub(super) fn take(firewall: &Firewall, backend: Backend) -> Result<Look, Failure> {
        match backend {
            Backend::Nftables => nftables().map_err(failed),
            Backend::Iptables => Look::of_iptables(firewall.iptables),
        }
    }

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

    /// Looks at our table of nftables alone. `None` where the kernel does not say.
    pub(super) fn of_nftables() -> Option<Look> {
        nftables().ok()
    }

    /// Returns whether our table of nftables looks the same now.
    pub(super) fn is_still(&self) -> bool {
        let now = Look::of_nftables();
        now.is_some_and(|now| (now.table, now.digest) == (self.table, self.digest))
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
        if backend == Backend::Nftables && self.generation.is_some() {
            let socket = Socket::open().map_err(failed)?;
            let same = this_table().map_err(failed)? == self.table
                && self.generation == generation(&socket).map_err(failed)?;
            if same {
                return Ok(Some(self.clone()));
            }
        }
        let now = Look::take(firewall, backend)?;
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
    let generation = generation(&socket)?;
    let table = this_table()?;
    let mut digest = DefaultHasher::new();
    if table.is_some() {
        table_flags(&socket)?.hash(&mut digest);
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

fn generation(socket: &Socket) -> io::Result<Option<u64>> {
    /// `NFTA_GEN_ID`
    const ID: u16 = 1;
    let answer = socket.ask(GET_GENERATION, &[])?;
    let mut told = messages(&answer).filter(|message| message.kind == NEW_GENERATION);
    let told = told.next().map(|message| message.attributes());
    Ok(told.and_then(|told| find(told, ID)).and_then(number))
}

/// The first attribute of tables is their name; that of all else is the table.
const OF_TABLE: u16 = 1;

/// The table's flags (`NFT_TABLE_F_*`).
fn table_flags(socket: &Socket) -> io::Result<Option<u64>> {
    /// `NFTA_TABLE_FLAGS`
    const FLAGS: u16 = 2;
    let answer = socket.ask(GET_TABLE, &[(OF_TABLE, own_name())])?;
    let mut told = messages(&answer).filter(|message| message.kind == NEW_TABLE);
    let told = told.next().map(|message| message.attributes());
    Ok(told.and_then(|told| find(told, FLAGS)).and_then(number))
}

/// The attributes of these kinds, as they are.
fn some_of(message: &[u8], kinds: &[u16]) -> Vec<Option<Vec<u8>>> {
    let found = kinds.iter().map(|&kind| find(message, kind));
    found.map(|value| value.map(<[u8]>::to_vec)).collect()
}

fn is_own(message: &[u8]) -> bool {
    find(message, OF_TABLE).map(text) == Some(own_name().as_bytes())
}

fn chains(socket: &Socket) -> io::Result<Vec<Vec<Option<Vec<u8>>>>> {
    /// `NFTA_CHAIN_HANDLE`, `_NAME`, `_HOOK`, `_POLICY`, `_TYPE`
    const WHAT: [u16; 5] = [2, 3, 4, 5, 7];
    let mut chains = Vec::new();
    socket.list(GET_CHAINS, &[], |message| {
        if is_own(message) {
            chains.push(some_of(message, &WHAT));
        }
    })?;
    Ok(chains)
}

fn rules(socket: &Socket, digest: &mut DefaultHasher) -> io::Result<()> {
    /// `NFTA_RULE_CHAIN`, `_HANDLE`, `_EXPRESSIONS`. A rule that replaces another one may keep its number.
    const WHAT: [u16; 3] = [2, 3, 4];
    socket.list(GET_RULES, &[(OF_TABLE, own_name())], |message| {
        if is_own(message) {
            WHAT.map(|kind| find(message, kind)).hash(digest);
        }
    })
}

/// The declarations of all sets, and the elements of those that nobody but an apply fills.
fn sets(socket: &Socket, digest: &mut DefaultHasher) -> io::Result<()> {
    /// `NFTA_SET_NAME`, `_FLAGS`, `_TIMEOUT`, `_HANDLE`
    const WHAT: [u16; 4] = [2, 3, 11, 16];
    /// `NFT_SET_TIMEOUT`
    const TIMES_OUT: u64 = 0x10;
    let mut fixed = Vec::new();
    socket.list(GET_SETS, &[(OF_TABLE, own_name())], |message| {
        let name = find(message, WHAT[0]).map(text).unwrap_or_default();
        let name = String::from_utf8_lossy(name).into_owned();
        WHAT.map(|kind| find(message, kind)).hash(digest);
        let flags = find(message, WHAT[1]).and_then(number).unwrap_or(0);
        // Large sets of ports have the flag, and no element that times out.
        if flags & TIMES_OUT == 0 || OF_DOORS.contains(&name.as_str()) {
            fixed.push(name);
        }
    })?;
    for name in fixed {
        elements(&name)?.hash(digest);
    }
    Ok(())
}

/// The sets without which a door is open.
const OF_DOORS: [&str; 2] = ["heard", "ports"];

/// So many elements of the maps of the automaton are looked at: the kernel takes seconds to list fifty thousand, and
/// no door opens because some of them are missing. Of ports, all are.
const MOST: usize = 4096;

/// A number for the elements of a set, whatever order they are listed in.
fn elements(set: &str) -> io::Result<u64> {
    /// `NFTA_SET_ELEM_LIST_SET`, `_ELEMENTS`; `NFTA_SET_ELEM_KEY`, `_DATA`, `_FLAGS`, `_KEY_END`
    const OF_SET: u16 = 2;
    const ELEMENTS: u16 = 3;
    const WHAT: [u16; 4] = [1, 2, 3, 10];
    let (mut sum, mut seen) = (0_u64, 0);
    let of = [(OF_TABLE, own_name()), (OF_SET, set)];
    Socket::open()?.list_until(GET_ELEMENTS, &of, |message| {
        let elements = find(message, ELEMENTS).unwrap_or_default();
        for (_, element) in Attributes(elements) {
            let mut one = DefaultHasher::new();
            WHAT.map(|kind| find(element, kind)).hash(&mut one);
            sum = sum.wrapping_add(one.finish());
            seen += 1;
        }
        match seen < MOST || OF_DOORS.contains(&set) {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        }
    })?;
    Ok(sum)
}
