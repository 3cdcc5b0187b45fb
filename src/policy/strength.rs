//! The strength of keys against guessing. Pure.

use std::fmt;
use std::time::Duration;

use super::published::is_published;
use super::scanned_ports;
use super::{Key, KeyKind, Policy};
use crate::knock::{Knock, Protocol};
use crate::single_use::{Form, TOKENS_PER_WINDOW, WINDOW};

/// Bits: who tries all, in the order in which people choose, has to try half of two to the power of
/// this.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Strength(pub f64);

impl fmt::Display for Strength {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.0} bits", self.0.floor())
    }
}

/// Packets per second of somebody who guesses.
pub const A_MILLION: u64 = 1_000_000;

impl Strength {
    /// Takes a port for one among 65,535, but those that scans try and those below 1024 come first.
    pub fn of_sequence(knocks: &[Knock]) -> Strength {
        let bits = knocks.iter().map(|knock| {
            let port = knock.port.get();
            let scanned = knock.protocol == Protocol::Tcp && scanned_ports::TCP.contains(&port);
            match scanned || port < 1024 {
                true => 11.0,
                false => 65_535_f64.log2(),
            }
        });
        Strength(bits.sum())
    }

    /// Of what everybody can read, none.
    fn unless_published(knocks: &[Knock]) -> Strength {
        match is_published(knocks) {
            true => Strength(0.0),
            false => Strength::of_sequence(knocks),
        }
    }

    /// Of a key: any of its sequences or tokens opens.
    pub fn of_key(key: &Key, policy: &Policy) -> Strength {
        match &key.kind {
            KeyKind::Sequence(knocks) => Strength::unless_published(knocks),
            KeyKind::Scratch(all) => {
                let each = all
                    .iter()
                    .map(|knocks| Strength::unless_published(knocks).0);
                let weakest = each.fold(f64::INFINITY, f64::min);
                Strength((weakest - (all.len() as f64).log2()).max(0.0))
            }
            // A tag; the program compares it with one alone.
            KeyKind::Signed(_) => Strength(128.0),
            KeyKind::Token(secret) => {
                let windows = policy.token_horizon.as_secs() / WINDOW.as_secs() + 3;
                let bits = match secret.form() {
                    Form::Bytes => 128.0,
                    Form::Letters => 96.0,
                };
                let loaded = windows * u64::from(TOKENS_PER_WINDOW);
                Strength(bits - (loaded as f64).log2())
            }
        }
    }
}

/// The time it takes on average. Each packet ends one guess, since the last knocks decide: a row of ports
/// can be chosen so that every run of it is another sequence.
pub fn time_to_guess(strength: Strength, packets_per_second: u64) -> Duration {
    let seconds = (strength.0 - 1.0).exp2() / packets_per_second as f64;
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Host, Secrets, read_for};
    use crate::single_use::Secret;

    fn of(texts: &[&str]) -> Strength {
        let knocks: Vec<Knock> = texts.iter().map(|text| text.parse().unwrap()).collect();
        Strength::of_sequence(&knocks)
    }

    #[test]
    fn ports_that_are_tried_first_are_worth_less() {
        assert_eq!(of(&["12001", "23001/udp"]).to_string(), "31 bits");
        assert_eq!(of(&["443", "23001"]).to_string(), "26 bits");
        assert_eq!(of(&["8080", "1000/udp"]).to_string(), "22 bits");
    }

    #[test]
    fn ports_below_1024_are_tried_first() {
        assert_eq!(of(&["1023/udp", "23001"]).to_string(), "26 bits");
        assert_eq!(of(&["1024/udp", "23001"]).to_string(), "31 bits");
    }

    /// Of a key that opens with this.
    fn of_key(with: &str) -> Strength {
        let digits = "0123456789abcdef".repeat(4);
        let secret = |_: &str| Secret::parse(&digits).map_err(|error| error.to_string());
        let host = Host {
            secrets: Secrets(Some(&secret)),
            ..Host::default()
        };
        let text = format!(
            "token_port = 4000\ntoken_horizon = \"61m\"\n[door.ssh]\nports = [22]\n\
             [key.k]\nopens = [\"ssh\"]\n{with}\n"
        );
        let policy = read_for("p", &text, &host).unwrap_or_else(|report| panic!("{report}"));
        Strength::of_key(&policy.keys[0], &policy)
    }

    #[test]
    fn whatever_opens_may_be_guessed() {
        let one = "sequence = [12001, 301, 23001]";
        assert_eq!(of_key(one), of(&["12001", "301", "23001"]));
        // The weakest of four, and one of four will do.
        let four = "scratch = [[12001, 23001, 14003, 33003], [12001, 301, 23001], \
                    [23001, 33003, 14003], [14003, 12001, 33003]]";
        assert_eq!(of_key(four).0, of_key(one).0 - 2.0);
        // Four a minute for 61 minutes, and the grace: one of 256 will do.
        assert_eq!(of_key("token = \"alice\""), Strength(120.0));
    }

    #[test]
    fn a_guess_takes_half_of_all_packets() {
        assert_eq!(time_to_guess(Strength(11.0), 1), Duration::from_secs(1024));
        assert_eq!(
            time_to_guess(Strength(31.0), 1 << 20),
            Duration::from_secs(1024)
        );
        assert_eq!(time_to_guess(Strength(5000.0), 1), Duration::MAX);
    }
}
