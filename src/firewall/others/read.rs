//! Rules of other programs, read-only. No program is started where others have neither a base chain of nf_tables for
//! packets to this host nor a table of legacy iptables.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::time::Duration;

use serde_json::Value as Json;

use super::super::exec::run_within;
use super::super::netlink::{GET_CHAINS, GET_TABLE, Message, find, listing_request, number, utf8};
use super::super::nf_tables::Socket;
use super::rules::Table;
use super::{nft_json, saved};
use crate::ruleset::Family;
use crate::ruleset::nftables::TABLE_NAME;

/// The time that a program may take. nft reads large sets of others where it is asked for a table, seconds long, and not
/// where it is asked for all without elements (`-t list ruleset`).
const PATIENCE: Duration = Duration::from_millis(700);

/// From so many chains on, our own table takes long to list.
const LARGE: usize = 300;

/// So many maps of others are read: Docker has two.
const MOST_MAPS: usize = 6;

/// The rules of other programs.
#[derive(Debug, Default)]
pub struct Others {
    pub tables: Vec<Table>,
    /// `true` if something could not be read.
    pub is_unread: bool,
}

impl Others {
    pub fn read() -> Others {
        let mut others = Others::default();
        let Ok(bases) = Bases::read() else {
            others.is_unread = true;
            return others;
        };
        if !bases.tables.is_empty() {
            others.read_nft(&bases);
            let title = |(family, table): &(&str, String)| format!("table {family} {table}");
            let awake: Vec<String> = bases.tables.iter().map(title).collect();
            others.tables.retain(|table| awake.contains(&table.title));
        }
        for (family, v) in [(Family::V4, "ip"), (Family::V6, "ip6")] {
            if bases.of_iptables {
                let tables = others.read_saved(&format!("{v}tables-nft-save"), family);
                // iptables tells more of its own rules than nft does.
                let of_nft = |table: &Table| {
                    let name = table.title.rsplit(' ').next().unwrap_or_default();
                    format!("table {v} {name}")
                };
                let told: Vec<String> = tables.iter().map(of_nft).collect();
                others.tables.retain(|table| !told.contains(&table.title));
                others.tables.extend(tables);
            }
            let names = fs::read_to_string(format!("/proc/thread-self/net/{v}_tables_names"));
            if names.is_ok_and(|names| !names.trim().is_empty()) {
                let tables = others.read_saved(&format!("{v}tables-legacy-save"), family);
                others.tables.extend(tables);
            }
        }
        others
    }

    fn read_nft(&mut self, bases: &Bases) {
        let all: [&[&str]; 1] = [&["ruleset"]];
        let each: Vec<[&str; 3]> = bases
            .tables
            .iter()
            .map(|(family, table)| ["table", *family, table.as_str()])
            .collect();
        let each: Vec<&[&str]> = each.iter().map(|words| &words[..]).collect();
        let questions = match bases.own < LARGE {
            true => &all[..],
            false => &each[..],
        };
        for what in questions {
            let command = [&["nft", "-j", "-t", "list"], *what].concat();
            let text = self.read_program(&command);
            match serde_json::from_str::<Json>(text.as_deref().unwrap_or_default()) {
                Ok(mut listing) => {
                    self.read_maps(&mut listing);
                    self.tables.extend(nft_json::tables(&listing));
                }
                Err(_) => self.is_unread = true,
            }
        }
    }

    /// Puts the verdicts of maps that have names in their place. The listing has no elements of sets and maps.
    fn read_maps(&mut self, listing: &mut Json) {
        for (map, words) in nft_json::maps(listing).into_iter().take(MOST_MAPS) {
            let words = words.iter().map(String::as_str);
            let command: Vec<&str> = ["nft", "-j", "list", "map"]
                .into_iter()
                .chain(words)
                .collect();
            let text = self.read_program(&command).unwrap_or_default();
            if let Ok(told) = serde_json::from_str::<Json>(&text) {
                nft_json::fill(listing, &map, &told);
            }
        }
    }

    fn read_saved(&mut self, program: &str, family: Family) -> Vec<Table> {
        let text = self.read_program(&[program]).unwrap_or_default();
        saved::tables(&text, family)
    }

    /// The output of a program. `None` where there is none, or it takes too long.
    fn read_program(&mut self, command: &[&str]) -> Option<String> {
        match run_within(command, PATIENCE) {
            Ok(Some(ended)) if ended.succeeded() => Some(ended.stdout),
            _ => {
                self.is_unread = true;
                None
            }
        }
    }
}

/// Owners of the chains that the kernel calls for packets to this host.
#[derive(Debug, Default)]
struct Bases {
    /// The number of chains of ours.
    own: usize,
    /// The family and name of each table of others.
    tables: BTreeSet<(&'static str, String)>,
    /// `true` if one of these looks like a table of iptables.
    of_iptables: bool,
}

impl Bases {
    fn read() -> io::Result<Bases> {
        /// `NFTA_CHAIN_TABLE`, `_NAME`, `_HOOK` with `NFTA_HOOK_HOOKNUM`
        const OF_TABLE: u16 = 1;
        const NAME: u16 = 3;
        const HOOK: u16 = 4;
        const NUMBER: u16 = 1;
        /// `NF_INET_PRE_ROUTING`, `NF_INET_LOCAL_IN`, `NF_INET_FORWARD`
        const IN: [u64; 3] = [0, 1, 2];
        let mut bases = Bases::default();
        let asleep = asleep()?;
        Socket::open()?.list_at_once(&of_all_families(GET_CHAINS), |message| {
            let word = |kind| find(message.attributes(), kind).and_then(utf8);
            let (Some(family), Some(table), Some(chain)) =
                (family(&message), word(OF_TABLE), word(NAME))
            else {
                return;
            };
            if family == "inet" && table == TABLE_NAME {
                bases.own += 1;
                return;
            }
            if asleep.contains(&(family, table.to_string())) {
                return;
            }
            let hook = find(message.attributes(), HOOK).and_then(|hook| find(hook, NUMBER));
            if hook.and_then(number).is_some_and(|hook| IN.contains(&hook)) {
                bases.of_iptables |=
                    family != "inet" && ["INPUT", "PREROUTING", "FORWARD"].contains(&chain);
                bases.tables.insert((family, table.to_string()));
            }
        })?;
        Ok(bases)
    }
}

fn of_all_families(kind: u16) -> Vec<u8> {
    let mut question = listing_request(kind, &[]);
    question[16] = 0;
    question
}

fn family(message: &Message<'_>) -> Option<&'static str> {
    Some(match message.body().first()? {
        1 => "inet",
        2 => "ip",
        10 => "ip6",
        _ => return None,
    })
}

/// Tables that are switched off (`flags dormant`). What nft prints of flags is not to be believed before 1.0.7.
pub(in super::super) fn asleep() -> io::Result<BTreeSet<(&'static str, String)>> {
    /// `NFTA_TABLE_NAME`, `_FLAGS` with `NFT_TABLE_F_DORMANT`
    const NAME: u16 = 1;
    const FLAGS: u16 = 2;
    const DORMANT: u64 = 1;
    let mut found = BTreeSet::new();
    Socket::open()?.list_at_once(&of_all_families(GET_TABLE), |message| {
        let flags = find(message.attributes(), FLAGS).and_then(number);
        let name = find(message.attributes(), NAME).and_then(utf8);
        if let (Some(family), Some(name), true) =
            (family(&message), name, flags.unwrap_or(0) & DORMANT != 0)
        {
            found.insert((family, name.to_string()));
        }
    })?;
    Ok(found)
}
