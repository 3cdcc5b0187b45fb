//! Limits on the room that one source may take where all share it. In IPv6 a source is a network of 64 bits: a
//! client that has one address there has them all.

use std::time::Duration;

use super::per_source;
use crate::policy::{Opening, Policy};
use crate::ruleset::Family;
use crate::ruleset::nftables::LINES_FOR;
use crate::ruleset::nftables::SetId::Crowd;
use crate::ruleset::nftables::script::Chain;

/// As a rule takes it: a rate, and how many at once.
pub(super) struct Limit {
    rate: String,
    burst: u32,
}

impl std::fmt::Display for Limit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} burst {} packets", self.rate, self.burst)
    }
}

/// The datagrams that a signed key may spend, so that it takes no more than a ninth of the memory that all share.
pub(super) fn signed() -> Limit {
    Limit {
        burst: 60,
        rate: "60/minute".to_string(),
    }
}

/// The steps that a source may make. The longest sequence is 32 knocks, and clients try again a few times. What
/// one source leaves behind within a second, the time until the kernel tidies up, is less
/// than the least `max_sources`. In IPv6 each step may be of another address: no more than a sixteenth of the room.
pub(super) fn steps(policy: &Policy, family: Family) -> Limit {
    const BURST: u32 = 128;
    let quick = Duration::from_secs(1);
    let rate = match family {
        Family::V4 => rate(32, quick),
        Family::V6 => {
            let share = u64::from(policy.max_sources) / 16;
            let thousandths = 32 * policy.within.max(quick).as_millis();
            match u128::from(share) * 1000 < thousandths {
                true => rate(share, policy.within),
                false => rate(32, quick),
            }
        }
    };
    Limit { rate, burst: BURST }
}

/// The sources with one knock for which there is room: a quarter of it at once, and half of it in the time that they are
/// remembered. The rest is for those further on.
pub(super) fn first_knocks(policy: &Policy) -> Limit {
    Limit {
        rate: rate(u64::from(policy.max_sources) / 2, policy.within),
        burst: policy.max_sources / 4,
    }
}

/// The openings of a source by one key that the kernel's log tells of: the first ones, and one a second.
pub(super) fn lines() -> Limit {
    Limit {
        rate: rate(1, Duration::from_secs(1)),
        burst: LINES,
    }
}

const LINES: u32 = LINES_FOR.as_secs() as u32;

/// The rule that grants nothing to an IPv6 network that holds its share already: by each key two of 256 parts of
/// the room, counted as grants given in the time that one lasts.
pub(super) fn no_more_than_a_share(
    chain: &mut Chain,
    policy: &Policy,
    opens: &[Opening],
    otherwise: &str,
) {
    let Some(lasting) = opens.iter().map(|opening| policy.longest(opening)).max() else {
        return;
    };
    let share = (policy.max_sources / 256).max(16);
    let limit = Limit {
        rate: rate(u64::from(share), lasting),
        burst: share,
    };
    let source = per_source(Family::V6);
    chain.rule(format!(
        "update @{Crowd} {{ {source} . meta priority limit rate over {limit} }} {otherwise}"
    ));
}

/// So many in this time, in the least unit in which that is a whole number of some size.
fn rate(number: u64, time: Duration) -> String {
    let milliseconds = (time.as_millis() as u64).max(1);
    let units = [
        ("second", 1),
        ("minute", 60),
        ("hour", 3600),
        ("day", 86_400),
        ("week", 604_800),
    ];
    let in_unit = |seconds: u64| number * 1000 * seconds / milliseconds;
    let fits = |(_, seconds): &&(&str, u64)| in_unit(*seconds) >= 8;
    let (unit, seconds) = units.iter().find(fits).unwrap_or(&units[4]);
    format!("{}/{unit}", in_unit(*seconds).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sixteenth of 640 is 40 steps in 1.5 s, and so 26 in a second.
    #[test]
    fn the_share_of_a_network_is_kept_for_any_time() {
        let of = |within: &str| {
            let text =
                format!("within = \"{within}\"\nmax_sources = 640\n[door.ssh]\nports = [22]\n");
            steps(&crate::policy::read("p", &text).unwrap(), Family::V6).rate
        };
        assert_eq!(of("1500ms"), "26/second");
        assert_eq!(of("1s"), "32/second");
        assert_eq!(of("1250ms"), "32/second");
        assert_eq!(of("1251ms"), "31/second");
    }

    #[test]
    fn rates_are_whole_numbers_of_some_size() {
        let rate = |number, seconds| rate(number, Duration::from_secs(seconds));
        assert_eq!(rate(32, 1), "32/second");
        assert_eq!(rate(256, 60), "256/minute");
        assert_eq!(rate(256, 600), "25/minute");
        assert_eq!(rate(256, 30 * 86_400), "8/day");
        assert_eq!(rate(16, 30 * 86_400), "3/week");
        assert_eq!(rate(0, 3600), "1/week");
    }
}
