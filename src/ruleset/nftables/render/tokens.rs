//! Tokens, judged where they arrive, before connection tracking. Datagrams to the token port end here; echo requests, if
//! a key has `ping`, go on.

use std::num::NonZeroU16;

use super::behind;
use super::chains::guarded;
use super::limits;
use crate::policy::{Key, Policy};
use crate::ruleset::Family;
use crate::ruleset::nftables::SetId::{Arrivals, Signed, Spent, SpentElsewhere, Tags, Tokens};
use crate::ruleset::nftables::script::{Base, Chain};
use crate::ruleset::nftables::{key_chain, signed_chain};

/// The first 16 bytes after the UDP header. A shorter datagram ends the rule.
const TOKEN: &str = "@th,64,128";

/// The same in a STUN check (RFC 8489) whose first attribute is the user name: what a browser sends to the other side of
/// a connection, and the only bytes of it that a page can choose. A binding request, its cookie, the attribute.
const CHECK: &str = "@th,64,16 1 @th,96,32 0x2112a442 @th,224,16 6";
const TOKEN_IN_CHECK: &str = "@th,256,128";

/// The same in an echo request. `ping` begins with 16 bytes of time, and then repeats its pattern.
const TOKEN_IN_ECHO: &str = "@th,192,128";

/// The match for echo requests, of each family: the type, read as three bytes, and so never of a later fragment.
const ECHOES: [&str; 2] = [
    "ip protocol icmp @th,0,24 & 0xff0000 == 0x080000",
    "meta nfproto ipv6 meta l4proto ipv6-icmp @th,0,24 & 0xff0000 == 0x800000",
];

/// The time for which the kernel remembers a spent token: longer than any is loaded ahead.
const SPENT_FOR: &str = "25h";

/// The same for signed datagrams: longer than the clock may be set back without a pause (see `firewall/signed`).
const SIGNED_FOR: &str = "2h";

pub(super) fn knocks_token(policy: &Policy, port: NonZeroU16) -> Chain {
    let here = guarded(&policy.interfaces);
    let mut chain = Chain::new(
        "knocks-token",
        &["Datagrams to the port for tokens. None goes on, so that nothing answers."],
    )
    .base(Base::Raw);
    chain.note("Not a later fragment: three bytes from the port on are read of a header alone.");
    for place in behind::places(policy, None) {
        chain.rule(format!(
            "meta l4proto udp th dport {port} @th,16,24 & 0xffff00 == 0x{port:04x}00 {here} \
             {place} goto judge-token"
        ));
    }
    if policy.has_signed() {
        let mark = policy.signed_mark;
        chain.note("A signed datagram for another host loses its mark. Nothing else has it.");
        chain.rule(format!(
            "meta mark {mark:#x} meta mark set 0x0 meta priority set 0:0"
        ));
    }
    if policy.has_pings() {
        chain.note("An echo request may carry a token. It goes on, and is answered as always.");
        for (echo, family) in ECHOES.into_iter().zip(Family::BOTH) {
            for place in behind::places(policy, Some(family)) {
                chain.rule(format!("{echo} {here} {place} goto judge-echo"));
            }
        }
    }
    chain
}

/// The verdict on a packet whose token was judged.
pub(super) fn done(policy: &Policy) -> &'static str {
    match policy.has_pings() {
        true => "goto judged",
        false => "drop",
    }
}

/// `add` lets only the first of several equal tokens through that come at one moment, whatever the
/// processor; a token that was loaded again although it is spent finds itself spent. Nobody may look
/// into that set besides: a look-up too uses up the limit of what it finds (`nft_lookup_eval`), and the
/// packet that has just put it there would go away empty-handed.
///
/// Tokens spent at another host are in a set of their own: it has no limit, and may be looked at.
pub(super) fn judge_token(policy: &Policy) -> Chain {
    let mut chain = Chain::new(
        "judge-token",
        &["A token opens once: it is looked up, remembered as spent, and taken away."],
    );
    let (check, plain) = (
        (format!("{CHECK} "), TOKEN_IN_CHECK),
        (String::new(), TOKEN),
    );
    if policy.has_signed() {
        let mark = policy.signed_mark;
        chain.note("The program at the interface has judged it: `meta priority` is whose it is.");
        chain.rule(format!("meta mark {mark:#x} meta priority vmap @{Signed}"));
        chain.rule(format!("meta mark {mark:#x} drop"));
    }
    if !policy.has_tokens() {
        chain.rule("drop");
        return chain;
    }
    let places = policy.has_letters().then_some(check).into_iter();
    for (is, token) in places.chain([plain]) {
        spend(&mut chain, policy, &is, token, "drop");
    }
    chain.rule("drop");
    chain
}

/// The chain for a good datagram of a signed key. Its tag opens once: see [`judge_token`]. A repeat ends before it is counted,
/// and a key has so many in a minute: its owner cannot fill the memory of what was spent, which all share.
pub(super) fn signed_of(policy: &Policy, key: &Key) -> Chain {
    let about = format!("A good datagram of {}: spent?", key.name);
    let mut chain = Chain::new(signed_chain(&key.name), &[&about]);
    if let Some(end) = key.expires {
        chain.rule(format!("meta time >= {end} drop"));
    }
    if policy.fleet.is_some() {
        chain.rule(format!("{TOKEN} @{SpentElsewhere} drop"));
    }
    chain.rule(format!("{TOKEN} @{Tags} drop"));
    let limit = limits::signed();
    chain.rule(format!("limit rate over {limit} drop"));
    let own = key_chain(&key.name);
    chain.rule(format!(
        "add @{Tags} {{ {TOKEN} timeout {SIGNED_FOR} }} \
         add @{Spent} {{ {TOKEN} timeout {SIGNED_FOR} limit rate 1/week burst 1 packets }} goto {own}"
    ));
    chain.rule("drop");
    chain
}

/// The chains for tokens in echo requests.
pub(super) fn echoes(policy: &Policy) -> [Chain; 2] {
    let mut judge = Chain::new("judge-echo", &["The same for a token in an echo request."]);
    spend(&mut judge, policy, "", TOKEN_IN_ECHO, "goto leave");
    judge.rule("goto leave");
    let mut judged = Chain::new(
        "judged",
        &["A datagram ends here, with a token or without; an echo request goes on."],
    );
    judged.rule("meta l4proto udp drop");
    judged.rule("goto leave");
    [judge, judged]
}

/// `is` says which packets, and `token` where it stands in them; `spent` is the verdict on one that was spent elsewhere.
fn spend(chain: &mut Chain, policy: &Policy, is: &str, token: &str, spent: &str) {
    if policy.fleet.is_some() {
        chain.rule(format!("{is}{token} @{SpentElsewhere} {spent}"));
    }
    chain.rule(format!(
        "{is}meta priority set {token} map @{Tokens} \
         add @{Spent} {{ {token} timeout {SPENT_FOR} limit rate 1/week burst 1 packets }} \
         delete @{Tokens} {{ {token} : meta priority }} goto arrived-token"
    ));
}

pub(super) fn arrived_token(policy: &Policy) -> Chain {
    let mut chain = Chain::new(
        "arrived-token",
        &["`meta priority` is whose the token was."],
    );
    chain.rule(format!("meta priority vmap @{Arrivals}"));
    chain.rule(done(policy));
    chain
}
