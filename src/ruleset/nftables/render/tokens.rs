//! Tokens: datagrams that are judged where they arrive, before connection tracking, and always dropped.

use std::num::NonZeroU16;
use std::time::Duration;

use super::chains::guarded;
use crate::policy::Policy;
use crate::ruleset::nftables::script::{Base, Chain, Set, SetKind};
use crate::ruleset::nftables::{SPENT, SPENT_ELSEWHERE, TOKENS};
use crate::single_use::{GRACE, TOKENS_PER_WINDOW, WINDOW};

/// The first 16 bytes after the UDP header. A shorter datagram ends the rule.
const TOKEN: &str = "@th,64,128";

/// How long a spent token is remembered in the kernel: longer than any is loaded ahead.
const SPENT_FOR: &str = "25h";

/// How many are remembered. Only tokens that were good get in.
const MOST_SPENT: u32 = 65_536;

/// The same of a whole fleet.
const MOST_SPENT_ELSEWHERE: u32 = 1 << 20;

pub(super) fn sets(policy: &Policy) -> Vec<Set> {
    let comment = |text: &str| vec![text.to_string()];
    let mut sets = vec![
        Set {
            comment: comment(
                "Tokens that open: the first 16 bytes of the datagram -> whose it is.",
            ),
            name: TOKENS.to_string(),
            types: format!("{TOKEN} : meta priority"),
            kind: SetKind::Loaded {
                size: room(policy.token_horizon, policy.token_keys().count()),
            },
            elements: Vec::new(),
        },
        Set {
            comment: comment("Tokens that have opened, and never will again."),
            name: SPENT.to_string(),
            types: TOKEN.to_string(),
            kind: SetKind::Kept { size: MOST_SPENT },
            elements: Vec::new(),
        },
    ];
    if policy.fleet.is_some() {
        sets.push(Set {
            comment: comment("Tokens that have opened at another host of the fleet."),
            name: SPENT_ELSEWHERE.to_string(),
            types: TOKEN.to_string(),
            kind: SetKind::Kept {
                size: MOST_SPENT_ELSEWHERE,
            },
            elements: Vec::new(),
        });
    }
    sets
}

/// Room for twice the tokens that are loaded at once, in powers of two: to make the set anew is
/// seldom needed.
fn room(horizon: Duration, keys: usize) -> u32 {
    let windows = (horizon + GRACE).as_secs() / WINDOW.as_secs() + 2;
    let tokens = windows * u64::from(TOKENS_PER_WINDOW) * keys as u64;
    let room = (2 * tokens).next_power_of_two().max(4096);
    u32::try_from(room).unwrap_or(1 << 31)
}

pub(super) fn knocks_token(policy: &Policy, port: NonZeroU16) -> Chain {
    let here = guarded(&policy.interfaces);
    let mut chain = Chain::new(
        "knocks-token",
        &["Datagrams to the port for tokens. None goes on, so that nothing answers."],
    )
    .base(Base::Raw);
    chain.rule(format!(
        "meta l4proto udp th dport {port} {here} fib daddr type local goto judge-token"
    ));
    chain
}

/// `add` lets only the first of several equal tokens through that come at one moment, whatever the
/// processor; a token that was loaded again although it is spent finds itself spent. Nobody may look
/// into that set besides: a look-up too uses up the limit of what it finds (`nft_lookup_eval`), and the
/// packet that has just put it there would go away empty-handed.
///
/// What was spent at another host is in a set of its own: it has no limit, and may be looked at.
pub(super) fn judge_token(policy: &Policy) -> Chain {
    let mut chain = Chain::new(
        "judge-token",
        &["A token opens once: it is looked up, remembered as spent, and taken away."],
    );
    if policy.fleet.is_some() {
        chain.rule(format!("{TOKEN} @{SPENT_ELSEWHERE} drop"));
    }
    chain.rule(format!(
        "meta priority set {TOKEN} map @{TOKENS} \
         add @{SPENT} {{ {TOKEN} timeout {SPENT_FOR} limit rate 1/week burst 1 packets }} \
         delete @{TOKENS} {{ {TOKEN} : meta priority }} goto arrived-token"
    ));
    chain.rule("drop");
    chain
}

pub(super) fn arrived_token() -> Chain {
    let mut chain = Chain::new(
        "arrived-token",
        &["`meta priority` is whose the token was."],
    );
    chain.rule("meta priority vmap @arrivals");
    chain.rule("drop");
    chain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_for_twice_what_is_loaded() {
        let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
        assert_eq!(room(minutes(360), 0), 4096);
        // 512 windows, then 514: eight tokens each.
        assert_eq!(room(minutes(508), 1), 4096);
        assert_eq!(room(minutes(510), 1), 8192);
        assert_eq!(room(minutes(1440), 100), 1 << 21);
        assert_eq!(room(minutes(60), 1 << 40), 1 << 31);
    }
}
