//! Others who use the mark of signed keys: rules of nftables, those of iptables-nft among them, and rules of routing
//! (`ip rule`). Those of iptables-legacy and programs of BPF are not seen.

use std::num::NonZeroU32;

use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};

use super::super::netlink::{Attributes, GET_RULES, NEW_RULE, find, find_number, find_text};
use super::super::netlink_listing::{listing, word};
use super::super::nf_tables::attributes::{OF_TABLE, expression, rule};
use crate::ruleset::nftables::TABLE_NAME;

/// The others who use this mark, in words, each once. Where the kernel does not say, nobody.
pub(super) fn others(mark: NonZeroU32) -> Vec<String> {
    let mark = mark.get().to_ne_bytes();
    let mut found = in_tables(mark);
    found.extend(in_routing(mark));
    found.sort();
    found.dedup();
    found
}

fn in_tables(mark: [u8; 4]) -> Vec<String> {
    let mut found = Vec::new();
    // Of all families: `struct nfgenmsg` of zeros.
    let _ = listing(NETLINK_NETFILTER, GET_RULES, &[0; 4], |message| {
        let told = message.attributes();
        let one = || {
            (message.kind == NEW_RULE).then_some(())?;
            let table = find_text(told, OF_TABLE).filter(|table| *table != TABLE_NAME)?;
            let chain = find_text(told, rule::CHAIN)?;
            let expressions = find(told, rule::EXPRESSIONS)?;
            uses(expressions, mark)
                .then(|| format!("a rule of the table `{table}`, chain `{chain}`"))
        };
        found.extend(one());
    });
    found
}

/// Returns whether expressions of a rule deal with marks, and name this one. Numbers stand at multiples of four bytes.
fn uses(expressions: &[u8], mark: [u8; 4]) -> bool {
    /// `NFTA_META_KEY` and `NFTA_CT_KEY`; `NFT_META_MARK` and `NFT_CT_MARK`
    const KEY: u16 = 2;
    const OF_PACKET: u64 = 3;
    const OF_CONNECTION: u64 = 3;
    let deals = Attributes(expressions).any(|(_, one)| {
        let data = find(one, expression::DATA).unwrap_or_default();
        match find_text(one, expression::NAME) {
            Some("meta") => find_number(data, KEY) == Some(OF_PACKET),
            Some("ct") => find_number(data, KEY) == Some(OF_CONNECTION),
            // As iptables-nft writes them: their numbers are those of the extension.
            Some("match" | "target") => true,
            _ => false,
        }
    });
    deals && expressions.chunks(4).any(|four| four == mark)
}

fn in_routing(mark: [u8; 4]) -> Vec<String> {
    /// `RTM_GETRULE`; `FRA_FWMARK`, `FRA_PRIORITY`; the length of `struct fib_rule_hdr`
    const GET_ROUTING: u16 = 34;
    const MARK: u16 = 10;
    const PRIORITY: u16 = 6;
    const HEAD: usize = 12;
    let mut found = Vec::new();
    for family in [
        rustix::net::AddressFamily::INET,
        rustix::net::AddressFamily::INET6,
    ] {
        let mut question = [0; HEAD];
        question[0] = family.as_raw() as u8;
        let _ = listing(NETLINK_ROUTE, GET_ROUTING, &question, |message| {
            let told = message.body().get(HEAD..).unwrap_or_default();
            if find(told, MARK) == Some(&mark) {
                let priority = find(told, PRIORITY).and_then(|number| word(number, 0));
                let priority = priority.unwrap_or_default();
                found.push(format!(
                    "a rule of routing (`ip rule`, priority {priority})"
                ));
            }
        });
    }
    found
}
