//! Ports that web browsers send to. Pure.
//!
//! Browsers refuse some ports wherever a page asks for them: the "bad ports" of the Fetch standard. Chromium allows
//! 4190 and 6679 of this list, Firefox and WebKit none (measured with Chromium 156 and Firefox 153).

use std::num::NonZeroU16;

/// The bad ports, in order.
const BAD: [u16; 82] = [
    1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95, 101, 102,
    103, 104, 109, 110, 111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179, 389, 427, 465,
    512, 513, 514, 515, 526, 530, 531, 532, 540, 548, 554, 556, 563, 587, 601, 636, 989, 990, 993,
    995, 1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061, 6000, 6566, 6665, 6666, 6667, 6668,
    6669, 6679, 6697, 10080,
];

/// Returns whether a page can knock at a TCP port.
pub fn knocks_at(port: NonZeroU16) -> bool {
    BAD.binary_search(&port.get()).is_err()
}

/// Returns whether a page can send tokens to a UDP port. Chromium sends no STUN check to a port below 1024. From
/// 32768 on the host takes ports for what it begins itself.
pub fn sends_tokens_to(port: NonZeroU16) -> bool {
    (1024..32_768).contains(&port.get()) && knocks_at(port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_ports_are_in_order_and_told_from_their_neighbours() {
        assert!(BAD.is_sorted());
        let port = |port| NonZeroU16::new(port).unwrap();
        for (bad, good) in [(1, 2), (22, 24), (4190, 4191), (6679, 6680), (10080, 10081)] {
            assert!(!knocks_at(port(bad)), "{bad}");
            assert!(knocks_at(port(good)), "{good}");
        }
        for (number, sends) in [
            (80, false),
            (1023, false),
            (1024, true),
            (5060, false),
            (32_767, true),
            (32_768, false),
        ] {
            assert_eq!(sends_tokens_to(port(number)), sends, "{number}");
        }
    }
}
