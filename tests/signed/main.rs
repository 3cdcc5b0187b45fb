//! The program's very bytes against the plain verifier.

mod interpreter;
mod policy;
mod vectors;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::{NonZeroU16, NonZeroU32};

use interpreter::{Machine, Packet};
use toctoc::signed::program::{Entry, Settings, program};
use toctoc::signed::{Binding, Bound, Signer, Time};
use toctoc::single_use::Secret;

const PORT: u16 = 20_123;
const MARK: u32 = 0x7063_6b21;
const OTHER_MARK: u32 = 0x1234;
const NOW: u64 = 1_783_350_030_000_000_000;
const SINCE_BOOT: u64 = 777_000_000_000;
const NOT_BEFORE: u64 = NOW - 60_000_000_000;

/// Numbers from a seed (splitmix64): a failure comes again.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ z >> 31) % sides
    }

    fn byte(&mut self) -> u8 {
        self.roll(256) as u8
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.byte()).collect()
    }
}

fn signers() -> Vec<(Signer, Binding)> {
    let of = |first: u8| {
        let bytes: [u8; 32] = std::array::from_fn(|i| (i as u8).wrapping_mul(7) ^ first);
        Signer::of(&Secret::new(bytes.into()))
    };
    Binding::ALL
        .into_iter()
        .enumerate()
        .map(|(number, binding)| (of(number as u8 + 1), binding))
        .collect()
}

fn settings() -> Settings {
    Settings {
        port: NonZeroU16::new(PORT).unwrap(),
        mark: NonZeroU32::new(MARK).unwrap(),
        started: Time(NOW - SINCE_BOOT),
        not_before: Time(NOT_BEFORE),
    }
}

fn ip(source: IpAddr, udp: &[u8]) -> (u16, Vec<u8>) {
    match source {
        IpAddr::V4(source) => {
            let mut packet = vec![0x45, 0];
            packet.extend((20 + udp.len() as u16).to_be_bytes());
            packet.extend([0, 0, 0x40, 0, 64, 17, 0, 0]);
            packet.extend(source.octets());
            packet.extend([192, 0, 2, 1]);
            packet.extend(udp);
            (0x0800, packet)
        }
        IpAddr::V6(source) => {
            let mut packet = vec![0x60, 0, 0, 0];
            packet.extend((udp.len() as u16).to_be_bytes());
            packet.extend([17, 64]);
            packet.extend(source.octets());
            packet.extend(Ipv6Addr::LOCALHOST.octets());
            packet.extend(udp);
            (0x86dd, packet)
        }
    }
}

fn udp(port: u16, payload: &[u8]) -> Vec<u8> {
    let mut datagram = 40_000_u16.to_be_bytes().to_vec();
    datagram.extend(port.to_be_bytes());
    datagram.extend((8 + payload.len() as u16).to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(payload);
    datagram
}

/// Reads a packet as the program says it does, and asks the plain verifier. Returns the class.
fn plain(packet: &Packet, keys: &[(Signer, Binding)]) -> Option<u32> {
    let (bytes, number) = (&packet.bytes, |at: usize| {
        let two = packet.bytes.get(at..at + 2)?;
        Some(u16::from_be_bytes([two[0], two[1]]))
    });
    // A source in ::/64 is none.
    let (source, begin): (IpAddr, usize) = match packet.protocol {
        0x0800 => {
            let plain = *bytes.first()? == 0x45 && *bytes.get(9)? == 17 && number(6)? & 0x3fff == 0;
            let whole = number(2)? == number(24)?.checked_add(20)?;
            let source: [u8; 4] = bytes.get(12..16)?.try_into().ok()?;
            (plain && whole).then_some((Ipv4Addr::from(source).into(), 20))?
        }
        0x86dd => {
            let plain = *bytes.first()? >> 4 == 6 && *bytes.get(6)? == 17;
            let source: [u8; 16] = bytes.get(8..24)?.try_into().ok()?;
            let whole = number(4)? == number(44)?;
            let usual = source[..8] != [0; 8];
            (plain && whole && usual).then_some((Ipv6Addr::from(source).into(), 40))?
        }
        _ => return None,
    };
    let length = usize::from(number(begin + 4)?).checked_sub(8)?;
    if packet.kind != 0 || number(begin + 2)? != PORT || !(32..=96).contains(&length) {
        return None;
    }
    let mut payload = bytes.get(begin + 8..begin + 40)?.to_vec();
    // What is behind is not read.
    payload.resize(length, 0);
    keys.iter().find_map(|(signer, binding)| {
        let judged = signer.judge(&payload, source, *binding, Time(NOW), Time(NOT_BEFORE));
        judged.ok().map(|()| signer.class())
    })
}

fn source(dice: &mut Dice) -> IpAddr {
    match dice.roll(8) {
        0..4 => Ipv4Addr::from(dice.roll(1 << 32) as u32).into(),
        4 => Ipv4Addr::from(0xc000_0200 + dice.roll(4) as u32)
            .to_ipv6_mapped()
            .into(),
        _ => Ipv6Addr::from(u128::from(dice.roll(u64::MAX)) << 64 | u128::from(dice.byte())).into(),
    }
}

/// Mostly good, and then damaged in one of many ways, or not.
fn random(dice: &mut Dice, keys: &[(Signer, Binding)]) -> Packet {
    let source = source(dice);
    let (signer, _) = &keys[dice.roll(3) as usize];
    let bound = [Bound::Address, Bound::Network, Bound::Nothing][dice.roll(3) as usize];
    let time = match dice.roll(10) {
        0 => dice.roll(u64::MAX),
        1 => NOW - 121_000_000_000 + dice.roll(2_000_000_000),
        2 => NOW + 119_000_000_000 + dice.roll(2_000_000_000),
        3 => NOT_BEFORE - 1 + dice.roll(2),
        _ => NOT_BEFORE + dice.roll(100_000_000_000),
    };
    let mut payload = signer.sign(source, bound, Time(time)).to_vec();
    let padding = dice.roll(66) as usize;
    payload.extend(dice.bytes(padding));
    let from = match (dice.roll(6), source) {
        (0, IpAddr::V4(source)) => Ipv4Addr::from(u32::from(source) ^ 1 << dice.roll(32)).into(),
        (0, IpAddr::V6(source)) => Ipv6Addr::from(u128::from(source) ^ 1 << dice.roll(128)).into(),
        (_, source) => source,
    };
    let port = match dice.roll(12) {
        0 => dice.roll(1 << 16) as u16,
        _ => PORT,
    };
    let (protocol, mut bytes) = ip(from, &udp(port, &payload));
    match dice.roll(8) {
        0 => {
            let at = dice.roll(bytes.len() as u64) as usize;
            bytes[at] ^= 1 << dice.roll(8);
        }
        1 => bytes.truncate(dice.roll(bytes.len() as u64 + 1) as usize),
        2 => bytes.extend(dice.bytes(5)),
        3 => bytes = dice.bytes(padding * 3),
        _ => {}
    }
    Packet {
        mark: [0, 0, MARK, OTHER_MARK][dice.roll(4) as usize],
        priority: dice.roll(3) as u32,
        kind: u32::from(dice.roll(20) == 0) * 3,
        protocol: match dice.roll(20) {
            0 => [0x0800, 0x86dd, 0x0806, 0x8100][dice.roll(4) as usize],
            _ => protocol,
        },
        bytes,
    }
}

#[test]
fn the_emitted_program_equals_the_plain_verifier_on_200_000_packets() {
    let keys = signers();
    let map: HashMap<[u8; 4], [u8; 24]> = keys
        .iter()
        .map(|(signer, binding)| {
            let entry = Entry::of(signer, *binding);
            let value: Vec<u8> = entry.value.iter().flat_map(|n| n.to_ne_bytes()).collect();
            (entry.id, value.try_into().unwrap())
        })
        .collect();
    let code = program(&settings()).encode();
    let machine = Machine {
        code: &code.bytes,
        keys: &map,
        since_boot: SINCE_BOOT,
    };
    let mut dice = Dice(2026);
    let mut good = 0;
    for number in 0..200_000 {
        let before = random(&mut dice, &keys);
        let mut after = before.clone();
        assert_eq!(machine.run(&mut after), -1, "all packets pass");
        let wanted = plain(&before, &keys);
        good += u32::from(wanted.is_some());
        let (mark, priority) = match (wanted, before.mark) {
            (Some(class), _) => (MARK, class),
            (None, MARK) => (0, before.priority),
            (None, other) => (other, before.priority),
        };
        let wanted = Packet {
            mark,
            priority,
            ..before.clone()
        };
        assert_eq!(after, wanted, "packet {number}: {before:?}");
    }
    // Enough of both kinds.
    assert!((20_000..180_000).contains(&good), "{good} good ones");
}

/// One good datagram of each family, so that the test above cannot be satisfied by refusing everything; and the same with a
/// header more, which is refused.
#[test]
fn good_datagrams_are_marked_and_other_headers_are_not() {
    let keys = signers();
    let (signer, binding) = &keys[0];
    let entry = Entry::of(signer, *binding);
    let value: Vec<u8> = entry.value.iter().flat_map(|n| n.to_ne_bytes()).collect();
    let map = HashMap::from([(entry.id, value.try_into().unwrap())]);
    let code = program(&settings()).encode();
    let run = |protocol, bytes: Vec<u8>| {
        let machine = Machine {
            code: &code.bytes,
            keys: &map,
            since_boot: SINCE_BOOT,
        };
        let mut packet = Packet {
            mark: 0,
            priority: 0,
            kind: 0,
            protocol,
            bytes,
        };
        machine.run(&mut packet);
        (packet.mark, packet.priority)
    };
    let good = (MARK, signer.class());
    for source in ["192.0.2.7", "2001:db8::7"] {
        let source: IpAddr = source.parse().unwrap();
        let payload = signer.sign(source, Bound::Address, Time(NOW));
        let (protocol, bytes) = ip(source, &udp(PORT, &payload));
        assert_eq!(run(protocol, bytes.clone()), good);
        let mut other = bytes.clone();
        match protocol {
            0x0800 => {
                // Options; then each kind of fragment.
                let mut options = bytes.clone();
                options[0] = 0x46;
                options.splice(20..20, [1, 1, 1, 1]);
                options[3] += 4;
                assert_eq!(run(protocol, options), (0, 0));
                for fragment in [[0x20, 0], [0, 1], [0x3f, 0xff]] {
                    other[6..8].copy_from_slice(&fragment);
                    assert_eq!(run(protocol, other.clone()), (0, 0));
                }
            }
            _ => {
                for header in [0, 43, 44, 60] {
                    let mut extended = bytes.clone();
                    extended[6] = header;
                    extended.splice(40..40, [17, 0, 1, 4, 0, 0, 0, 0]);
                    extended[5] += 8;
                    assert_eq!(run(protocol, extended), (0, 0), "{header}");
                }
            }
        }
    }
}

/// The kernel before 5.2 takes 4,096; ours are far below.
#[test]
fn the_program_is_small_and_its_listing_has_every_instruction() {
    let program = program(&settings());
    assert!(program.places() < 900, "{}", program.places());
    let listing = program.to_string();
    for part in ["; SipHash over id", "pass:", "call since boot", "exit"] {
        assert!(listing.contains(part), "{part}");
    }
}
