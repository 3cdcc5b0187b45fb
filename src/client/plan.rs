//! The packets that open a door, try after try. Pure.

use std::num::NonZeroU16;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::profile::{Signed, Way};
use crate::knock::Knock;
use crate::single_use::{Secret, TOKENS_PER_WINDOW, Token, WINDOW, Window, token};

/// All that is needed to open a door.
#[derive(Debug)]
pub struct Plan {
    /// The time to look whether the door is open already; `None`: knock in any case.
    pub look: Option<Duration>,
    pub tries: Vec<Try>,
    /// The tokens of the tries. Each is good for one address only.
    slots: Vec<Slot>,
    /// The next one of them.
    next: Option<AtomicUsize>,
    /// The number of tries that an address gets.
    each: usize,
}

/// The place of a token: its number among those of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    pub window: Window,
    pub number: u32,
}

/// One try.
#[derive(Debug, Clone, PartialEq)]
pub struct Try {
    pub packets: Packets,
    /// The pause after each knock. Behind a token: the time until a second connection follows the first one.
    pub gap: Duration,
    /// The time to wait for the door after the last packet.
    pub wait: Duration,
}

/// The packets of one try.
#[derive(Debug, Clone, PartialEq)]
pub enum Packets {
    Knocks(Vec<Knock>),
    /// A token, to this UDP port.
    Token(Token, NonZeroU16),
    /// A datagram that is signed when it is sent.
    Signed(Signed),
}

/// The factor by which each try knocks slower, and the time that it waits for the door.
///
/// All waits but the last stay below the second after which a SYN is repeated: a repeated SYN at a door that is
/// still closed is a knock that leads nowhere, and could hit the next try in the middle.
const TRIES: [(u32, Duration); 3] = [(1, FIRST_WAIT), (5, NEXT_WAIT), (25, LAST_WAIT)];
const FIRST_WAIT: Duration = Duration::from_millis(500);
const NEXT_WAIT: Duration = Duration::from_millis(900);
/// For answers that are long under way.
const LAST_WAIT: Duration = Duration::from_secs(3);

/// Slower tries start from this when no gap was asked for.
const SMALLEST_SLOW_GAP: Duration = Duration::from_millis(10);

impl Plan {
    /// `gap` is the pause after each packet of the first try, `now` in seconds since 1970. Tokens that were `sent` come
    /// last.
    pub fn new(way: &Way, gap: Duration, look: Option<Duration>, now: i64, sent: &[Slot]) -> Plan {
        match way {
            Way::Sequence(knocks) => Plan {
                look,
                tries: TRIES
                    .map(|(slower, wait)| {
                        let gap = match slower {
                            1 => gap,
                            _ => gap.max(SMALLEST_SLOW_GAP) * slower,
                        };
                        let packets = Packets::Knocks(knocks.clone());
                        Try { packets, gap, wait }
                    })
                    .into(),
                slots: Vec::new(),
                next: None,
                each: TRIES.len(),
            },
            Way::Signed(signed) => {
                let waits = [FIRST_WAIT, NEXT_WAIT, NEXT_WAIT, LAST_WAIT];
                let tries = waits.map(|wait| Try {
                    packets: Packets::Signed(signed.clone()),
                    gap,
                    wait,
                });
                Plan {
                    look,
                    each: tries.len(),
                    tries: tries.into(),
                    slots: Vec::new(),
                    next: None,
                }
            }
            Way::Token(secret, port) => {
                let mut slots = slots(now);
                slots.sort_by_key(|slot| sent.contains(slot));
                let last = slots.len() - 1;
                let tokens = slots
                    .iter()
                    .map(|slot| token(secret, slot.window, slot.number));
                let tries = tokens.enumerate().map(|(index, token)| Try {
                    packets: Packets::Token(token, *port),
                    gap,
                    wait: match index {
                        0 => FIRST_WAIT,
                        _ if index == last => LAST_WAIT,
                        _ => NEXT_WAIT,
                    },
                });
                Plan {
                    look,
                    each: last + 1,
                    tries: tries.collect(),
                    slots,
                    next: Some(AtomicUsize::new(0)),
                }
            }
        }
    }

    /// For so many addresses: none of them takes what another needs, as far as there is enough.
    pub fn shared_by(mut self, addresses: usize) -> Plan {
        if self.next.is_some() {
            self.each = (self.tries.len() / addresses.max(1)).max(1);
        }
        self
    }

    /// Splits a plan that two families share; the second part is for the other family.
    pub fn split(mut self) -> [Plan; 2] {
        let (look, each, single) = (self.look, self.each, self.next.is_some());
        let other = match single {
            true => self.tries.split_off(self.tries.len() / 2),
            false => self.tries.clone(),
        };
        let next = single.then(|| AtomicUsize::new(0));
        let slots = self.slots.split_off(self.slots.len() / 2);
        let other = Plan {
            look,
            tries: other,
            slots,
            next,
            each,
        };
        [self, other]
    }

    /// Every port that is knocked at.
    pub fn ports(&self) -> Vec<u16> {
        let of = |one: &Try| match &one.packets {
            Packets::Knocks(knocks) => knocks.iter().map(|knock| knock.port.get()).collect(),
            Packets::Token(_, port) => vec![port.get()],
            Packets::Signed(signed) => vec![signed.port.get()],
        };
        self.tries.iter().flat_map(of).collect()
    }

    /// No knocks: the door is tried once, for this long.
    pub fn of_nothing(patience: Duration) -> Plan {
        let nothing = Try {
            packets: Packets::Knocks(Vec::new()),
            gap: Duration::ZERO,
            wait: patience,
        };
        Plan {
            look: None,
            tries: vec![nothing],
            slots: Vec::new(),
            next: None,
            each: 1,
        }
    }

    /// The tokens that were taken to be sent.
    pub fn sent(&self) -> &[Slot] {
        let next = self
            .next
            .as_ref()
            .map_or(0, |next| next.load(Ordering::Relaxed));
        &self.slots[..next.min(self.slots.len())]
    }

    /// The next try for who has made so many: of what opens once, nobody gets what another has.
    pub fn next(&self, made: usize) -> Option<&Try> {
        if made >= self.each {
            return None;
        }
        let index = match &self.next {
            Some(next) => next.fetch_add(1, Ordering::Relaxed),
            None => made,
        };
        self.tries.get(index)
    }
}

impl Try {
    /// The time it takes to send.
    pub fn lasts(&self) -> Duration {
        let packets = match &self.packets {
            Packets::Knocks(knocks) => knocks.len(),
            Packets::Token(..) | Packets::Signed(_) => 1,
        };
        self.gap
            .saturating_mul(u32::try_from(packets).unwrap_or(u32::MAX))
    }
}

/// The tokens to try at a moment, in order.
pub fn tokens(secret: &Secret, now: i64) -> Vec<Token> {
    let slots = slots(now).into_iter();
    slots
        .map(|slot| token(secret, slot.window, slot.number))
        .collect()
}

/// The tokens to try at a moment, in order: those of this window, and two of the next. The first one changes every quarter
/// of a minute: a client that remembers nothing, and opens twice, mostly begins with one that is not spent.
fn slots(now: i64) -> Vec<Slot> {
    let window = Window::at(now);
    let length = WINDOW.as_secs() as i64;
    let quarter = now.rem_euclid(length) * i64::from(TOKENS_PER_WINDOW) / length;
    let own = (0..TOKENS_PER_WINDOW).map(|number| Slot { window, number });
    let mut order: Vec<Slot> = own.collect();
    order.rotate_left(quarter as usize);
    let window = Window(window.0 + 1);
    order.extend([0, 1].map(|number| Slot { window, number }));
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret() -> Secret {
        let bytes: [u8; 32] = std::array::from_fn(|i| i as u8);
        Secret::new(bytes.into())
    }

    const MINUTE: i64 = 1_783_350_000;

    #[test]
    fn the_first_token_changes_within_a_minute_and_all_are_different() {
        let secret = secret();
        let first: Vec<Token> = (0..4)
            .map(|i| tokens(&secret, MINUTE + 15 * i)[0])
            .collect();
        let window = Window::at(MINUTE);
        let wanted: Vec<Token> = (0..4).map(|n| token(&secret, window, n)).collect();
        assert_eq!(first, wanted);
        let next = Window(window.0 + 1);
        let wanted = [token(&secret, next, 0), token(&secret, next, 1)];
        assert_eq!(tokens(&secret, MINUTE + 59)[4..], wanted);
        for second in 0..60 {
            let mut all = tokens(&secret, MINUTE + second);
            assert_eq!(all.len(), 6);
            all.sort();
            all.dedup();
            assert_eq!(all.len(), 6, "{second}");
        }
    }

    /// Tokens that were sent come last: all others are tried before them, at any moment, and none is lost.
    #[test]
    fn a_token_that_was_sent_is_not_sent_first_again() {
        let way = Way::Token(secret(), NonZeroU16::new(40123).unwrap());
        let mut sent: Vec<Slot> = Vec::new();
        for second in [0, 1, 2, 20, 20, 59] {
            let plan = Plan::new(&way, Duration::ZERO, None, MINUTE + second, &sent);
            assert_eq!((plan.tries.len(), plan.sent().len()), (6, 0));
            let fresh = plan
                .slots
                .iter()
                .take_while(|slot| !sent.contains(slot))
                .count();
            assert!(plan.slots[fresh..].iter().all(|slot| sent.contains(slot)));
            let first = plan.next(0).map(|one| one.packets.clone());
            let [slot] = plan.sent() else {
                panic!("one was taken")
            };
            let wanted = token(&secret(), slot.window, slot.number);
            assert!(matches!(first, Some(Packets::Token(token, _)) if token == wanted));
            assert!(!sent.contains(slot), "{second}");
            sent.push(*slot);
        }
        let plan = Plan::new(&way, Duration::ZERO, None, MINUTE, &sent);
        assert_eq!(plan.slots, slots(MINUTE));
    }

    #[test]
    fn each_try_knocks_slower_and_no_wait_reaches_the_second_of_a_repeated_syn() {
        let way = Way::Sequence(vec!["443".parse().unwrap(), "53/udp".parse().unwrap()]);
        let gaps = |gap: u64| -> Vec<u128> {
            let plan = Plan::new(&way, Duration::from_millis(gap), None, MINUTE, &[]);
            let early = &plan.tries[..2];
            assert!(early.iter().all(|one| one.wait < Duration::from_secs(1)));
            let gaps = plan.tries.iter().map(|one| match &one.packets {
                Packets::Knocks(knocks) => {
                    assert_eq!(knocks.len(), 2);
                    one.gap.as_millis()
                }
                Packets::Token(..) | Packets::Signed(_) => panic!("a token"),
            });
            gaps.collect()
        };
        assert_eq!(gaps(0), [0, 50, 250]);
        assert_eq!(gaps(8), [8, 50, 250]);
        assert_eq!(gaps(20), [20, 100, 500]);
    }

    #[test]
    fn many_addresses_leave_one_another_a_token_and_so_do_families() {
        let port = NonZeroU16::new(40123).unwrap();
        let plan = || {
            Plan::new(
                &Way::Token(secret(), port),
                Duration::ZERO,
                None,
                MINUTE,
                &[],
            )
        };
        let tries = |plan: &Plan| (0..9).filter(|made| plan.next(*made).is_some()).count();
        for (addresses, each) in [(0, 6), (1, 6), (2, 3), (5, 1), (50, 1)] {
            assert_eq!(tries(&plan().shared_by(addresses)), each, "{addresses}");
        }
        let [six, four] = plan().split();
        assert_eq!((tries(&six), tries(&four)), (3, 3));
        let [six, four] = plan().split();
        assert_ne!(six.next(0), four.next(0));
        let way = Way::Sequence(vec!["443".parse().unwrap()]);
        let sequence = Plan::new(&way, Duration::ZERO, None, MINUTE, &[]).shared_by(50);
        let [six, four] = sequence.split();
        assert_eq!((tries(&six), tries(&four)), (3, 3));
    }

    #[test]
    fn two_addresses_share_no_token_and_each_gets_the_whole_sequence() {
        let port = NonZeroU16::new(40123).unwrap();
        let plan = Plan::new(
            &Way::Token(secret(), port),
            Duration::ZERO,
            None,
            MINUTE,
            &[],
        );
        let sent = |plan: &Plan, made: usize| plan.next(made).map(|one| one.packets.clone());
        let both: Vec<_> = (0..4)
            .flat_map(|n| [sent(&plan, n), sent(&plan, n)])
            .collect();
        let mut different = both[..6].to_vec();
        different.dedup();
        assert!(different.iter().all(Option::is_some) && different.len() == 6);
        assert_eq!(both[6..], [None, None]);
        let way = Way::Sequence(vec!["443".parse().unwrap()]);
        let plan = Plan::new(&way, Duration::ZERO, None, MINUTE, &[]);
        assert_eq!(sent(&plan, 0), sent(&plan, 0));
        assert_eq!(sent(&plan, 3), None);
    }
}
