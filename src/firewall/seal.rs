//! The seal on our table of nftables: an element that says which table this is, and since when.
//!
//! Somebody may save the ruleset and load it again, after a start of the machine or hours later. The copy
//! carries a seal too, but that of another table: the kernel gives each table a number, and never the same
//! one twice in a network namespace. A namespace that is made anew counts from 1 again, so the seal also
//! has a moment, and the kernel counts its time down: in a copy, clock and countdown disagree by the time
//! between saving and loading. What a copy grants is of the past.

use std::fs;
use std::io;
use std::net::Ipv6Addr;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::netlink::{GET_RULES, GET_SETS, find, find_number, find_text, listing_request, number};
use super::nf_tables::attributes::{OF_TABLE, element, elements_in, key_of, rule, set, time_of};
use super::nf_tables::{Socket, all_of, elements_of, table_number};
use super::{Failure, Nft};
use crate::ruleset::nftables::{
    Command, Element, Part, Set, SetId, TABLE_NAME, Transaction, admits,
};

/// The time that the kernel counts down. No machine runs as long.
const LASTING: Duration = Duration::from_secs(3650 * 86_400);

/// So much may clock and countdown disagree. A copy that was loaded faster has the grants as they were.
const TOLERANCE: Duration = Duration::from_secs(10);

/// The chain that packets come to first. No other rule there is like its first.
const FIRST_CHAIN: &str = "knocks-tcp";

/// The meaning of an element of the set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seal {
    /// Which table it was put on.
    table: u64,
    /// The kernel's clock then, without suspends: its countdowns stand still meanwhile.
    at: Duration,
    /// The number of times that the first chain had its first rule: once more with each ruleset that was loaded on top.
    layers: u16,
}

/// The room for the moment in milliseconds; the rest of 64 bits are the layers.
const MOMENT: u32 = 48;

impl Seal {
    fn read(key: &[u8]) -> Option<Seal> {
        let (table, rest) = key.first_chunk::<16>()?.split_at(8);
        let rest = number(rest)?;
        Some(Seal {
            table: number(table)?,
            at: Duration::from_millis(rest & ((1 << MOMENT) - 1)),
            layers: u16::try_from(rest >> MOMENT).ok()?,
        })
    }

    /// As an element.
    fn written(self) -> Ipv6Addr {
        let at = self.at.as_millis() & ((1 << MOMENT) - 1);
        let layers = u128::from(self.layers) << MOMENT;
        Ipv6Addr::from(u128::from(self.table) << 64 | layers | at)
    }

    /// Returns whether this is the seal of a table, with so much time left of its countdown at a moment.
    fn is_of(self, table: u64, left: Duration, now: Duration) -> bool {
        let counted = LASTING.saturating_sub(left);
        let passed = now.checked_sub(self.at);
        self.table == table && passed.is_some_and(|passed| passed.abs_diff(counted) <= TOLERANCE)
    }
}

/// The state of our table's seal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sealed {
    /// There is no table of ours.
    NoTable,
    /// The kernel does not say. Nobody loses a grant for that.
    Unknown,
    /// Its seal is missing or out of date, and nothing shows that it is a copy: a new table, one of an earlier release,
    /// or one whose doubled rules an apply has removed.
    Not,
    /// It is the table that was sealed.
    Whole,
    /// It was loaded from a saved ruleset, or a saved ruleset was loaded on top of it.
    Copy,
}

impl Nft {
    /// Reads the seal of our table. It takes a moment, whatever there is in the table.
    pub(super) fn sealed(&self) -> Sealed {
        match this_table() {
            Ok(None) => Sealed::NoTable,
            Ok(Some(table)) => look(table).unwrap_or(Sealed::Unknown),
            Err(_) => Sealed::Unknown,
        }
    }

    /// Seals our table, unless it is.
    ///
    /// # Errors
    /// When nft refuses.
    pub(super) fn seal(&self) -> Result<(), Failure> {
        match self.sealed() {
            Sealed::Not | Sealed::Copy => {
                self.load(&room())?;
                self.edit(&sealing()?)
            }
            Sealed::NoTable | Sealed::Whole | Sealed::Unknown => Ok(()),
        }
    }

    /// Ends what a copy of our table grants: grants, openings and tokens. Returns whether it is one.
    ///
    /// # Errors
    /// When the kernel cannot be asked, or nft refuses.
    pub(super) fn end_the_past(&self) -> Result<bool, Failure> {
        if self.sealed() != Sealed::Copy {
            return Ok(false);
        }
        let failed = |error: io::Error| Failure::unchanged(format!("no sets are listed: {error}"));
        let mut ending = Transaction::default();
        for (set, kind) in sets().map_err(failed)? {
            if admits(&set) {
                ending.0.push(Command::Flush { kind, set });
            }
        }
        ending.append(room());
        self.load(&ending)?;
        // Until this is done it stays a copy.
        self.edit(&sealing()?)?;
        Ok(true)
    }
}

/// The transaction that makes room for a seal. It is empty then, or has the one that was there.
fn room() -> Transaction {
    Command::Declare(Set::seal()).into()
}

/// The transaction that seals the table which is there.
fn sealing() -> Result<Transaction, Failure> {
    let table = this_table().ok().flatten();
    let table = table.ok_or_else(|| Failure::unchanged("there is no table to seal"))?;
    let layers = Socket::open()
        .and_then(|socket| layers(&socket))
        .unwrap_or(1);
    let seal = Seal {
        table,
        at: clock(),
        layers,
    };
    let seal = vec![Part::Address(seal.written().into())];
    Ok(Transaction(vec![
        Command::Flush {
            kind: "set",
            set: SetId::Seal.to_string(),
        },
        Command::Add {
            set: SetId::Seal.to_string(),
            elements: vec![Element::timed(seal, LASTING)],
        },
    ]))
}

fn clock() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    Duration::try_from(now).unwrap_or_default()
}

/// A number for our table: made of this start of the machine, the network namespace, and the number that
/// the kernel gave to the table. `None` when there is no table.
pub(super) fn this_table() -> io::Result<Option<u64>> {
    let Some(table) = table_number()? else {
        return Ok(None);
    };
    let start = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let namespace = fs::metadata("/proc/thread-self/ns/net")?.ino();
    let digest = Sha256::digest(format!("{} {namespace} {table}", start.trim()));
    Ok(digest.first_chunk().map(|first| u64::from_be_bytes(*first)))
}

fn look(table: u64) -> io::Result<Sealed> {
    let socket = Socket::open()?;
    let layers = layers(&socket)?;
    let mut seals = Vec::new();
    let listed = socket.list(&elements_of(SetId::Seal.name()), |told| {
        for one in elements_in(told) {
            let left = time_of(one, element::EXPIRATION).unwrap_or(Duration::MAX);
            seals.push((key_of(one).and_then(Seal::read), left));
        }
    });
    listed.or_else(none_there)?;
    let now = clock();
    Ok(match seals.as_slice() {
        [] if layers <= 1 => Sealed::Not,
        [(Some(seal), left)] if seal.is_of(table, *left, now) && layers <= seal.layers => {
            match layers == seal.layers {
                true => Sealed::Whole,
                false => Sealed::Not,
            }
        }
        _ => Sealed::Copy,
    })
}

fn none_there(error: io::Error) -> io::Result<()> {
    match error.kind() {
        io::ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    }
}

/// The number of times that the first chain has its first rule.
fn layers(socket: &Socket) -> io::Result<u16> {
    let mut rules: Vec<Vec<u8>> = Vec::new();
    let of = [(OF_TABLE, TABLE_NAME), (rule::CHAIN, FIRST_CHAIN)];
    let listed = socket.list(&listing_request(GET_RULES, &of), |told| {
        if find_text(told, rule::CHAIN) == Some(FIRST_CHAIN) {
            let rule = find(told, rule::EXPRESSIONS).unwrap_or_default();
            rules.push(rule.to_vec());
        }
    });
    listed.or_else(none_there)?;
    let first = rules.first();
    let layers = rules.iter().filter(|rule| first == Some(*rule)).count();
    Ok(u16::try_from(layers).unwrap_or(u16::MAX))
}

/// The sets and maps of our table, with what nft calls each.
fn sets() -> io::Result<Vec<(String, &'static str)>> {
    let mut sets = Vec::new();
    Socket::open()?.list(&all_of(GET_SETS), |told| {
        let name = find_text(told, set::NAME).unwrap_or_default();
        let flags = find_number(told, set::FLAGS).unwrap_or_default();
        let kind = if flags & set::MAP == 0 { "set" } else { "map" };
        sets.push((name.to_string(), kind));
    })?;
    Ok(sets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seal_is_read_back() {
        let seal = Seal {
            table: 0x0102_0304_0506_0708,
            at: Duration::from_millis(77),
            layers: 3,
        };
        assert_eq!(Seal::read(&seal.written().octets()), Some(seal));
        for cut in 0..16 {
            assert_eq!(Seal::read(&seal.written().octets()[..cut]), None, "{cut}");
        }
    }

    /// Hours later, with and without what is left of each element; and another table.
    #[test]
    fn a_copy_is_told_by_its_number_and_by_its_time() {
        let seconds = Duration::from_secs;
        let seal = Seal {
            table: 7,
            at: seconds(100),
            layers: 1,
        };
        let left = |passed| LASTING - seconds(passed);
        assert!(seal.is_of(7, left(0), seconds(100)));
        assert!(seal.is_of(7, left(50_000), seconds(50_103)));
        assert!(!seal.is_of(8, left(0), seconds(100)), "another table");
        assert!(!seal.is_of(7, left(60), seconds(7_200)), "saved with state");
        assert!(!seal.is_of(7, left(0), seconds(7_200)), "without state");
        assert!(!seal.is_of(7, left(60), seconds(20)), "another start");
        assert!(!seal.is_of(7, Duration::MAX, seconds(7_200)), "no end");
    }
}
