//! The datagram: how it is made, and when it is good.
//!
//! ```text
//! tag 16 | key id 4 | version 1 | bound 1 | zero 2 | time 8 | 0 to 64 random bytes
//! ```
//!
//! All numbers are big-endian. `time` is in nanoseconds since 1970 (UTC). `bound` is the number of bits of the source
//! address that are signed. The tag is SipHash-2-4 with an output of 128 bits over the 16 bytes between tag and padding,
//! and then the source address as 16 bytes (`::ffff:a.b.c.d` for IPv4), in which all bits that are not bound are 0.
//!
//! The key of SipHash, the id and the class come from the secret by HMAC-SHA-256, each with a text of its own.
//! docs/signed.json has test vectors.

use std::fmt;
use std::hash::Hasher;
use std::net::IpAddr;
use std::time::Duration;

use siphasher::sip128::{Hasher128, SipHasher24};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::single_use::{Secret, mac};

/// The bytes of a datagram without padding.
pub const SHORTEST: usize = 32;

/// The most random bytes behind it: so that its length says nothing.
pub const LONGEST_PADDING: usize = 64;

/// The most bytes of a datagram.
pub const LONGEST: usize = SHORTEST + LONGEST_PADDING;

/// The most by which the clocks of client and server may differ, either way.
pub const SKEW: Duration = Duration::from_secs(120);

/// The version of this form.
const VERSION: u8 = 1;

const TAG: usize = 16;

/// Nanoseconds since 1970 (UTC).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub u64);

impl Time {
    /// The moment of so many whole seconds since 1970. Before that there is none but the first.
    pub fn of_seconds(seconds: i64) -> Time {
        let seconds = u64::try_from(seconds).unwrap_or(0);
        Time(seconds.saturating_mul(1_000_000_000))
    }

    /// Whole seconds since 1970.
    pub fn seconds(self) -> i64 {
        i64::try_from(self.0 / 1_000_000_000).unwrap_or(i64::MAX)
    }
}

/// The part of the source address that a datagram is signed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// All of it.
    Address,
    /// The network around it: /24 in IPv4, /64 in IPv6.
    Network,
    /// Nothing: the datagram opens from any address.
    Nothing,
}

impl Bound {
    /// As the datagram says it, in bits of the form of 16 bytes.
    pub fn bits(self, source: IpAddr) -> u8 {
        match (self, source.to_canonical()) {
            (Bound::Address, _) => 128,
            (Bound::Network, IpAddr::V4(_)) => 96 + 24,
            (Bound::Network, IpAddr::V6(_)) => 64,
            (Bound::Nothing, _) => 0,
        }
    }

    fn of_bits(bits: u8, source: IpAddr) -> Option<Bound> {
        let all = [Bound::Address, Bound::Network, Bound::Nothing];
        all.into_iter().find(|bound| bound.bits(source) == bits)
    }
}

/// The datagrams that a policy takes of a key: those that are bound at least so much.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Binding {
    #[default]
    Address,
    Network,
    Nothing,
}

impl Binding {
    pub const ALL: [Binding; 3] = [Binding::Address, Binding::Network, Binding::Nothing];

    /// As the policy file and profiles write it.
    pub fn name(self) -> &'static str {
        match self {
            Binding::Address => "address",
            Binding::Network => "network",
            Binding::Nothing => "none",
        }
    }

    /// The binding of this name.
    pub fn named(name: &str) -> Option<Binding> {
        Binding::ALL.into_iter().find(|one| one.name() == name)
    }

    /// Returns whether it takes a datagram that is bound so.
    pub fn takes(self, bound: Bound) -> bool {
        match bound {
            Bound::Address => true,
            Bound::Network => self >= Binding::Network,
            Bound::Nothing => self == Binding::Nothing,
        }
    }
}

/// Why a datagram opens nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    Length,
    Version,
    /// `bound` is no length that the family of the source has.
    Bits,
    /// It is bound less than the policy asks for.
    Loose,
    /// It is more than two minutes older or newer than this clock.
    Clock,
    /// It is older than the memory of what was spent.
    Forgotten,
    /// No such key.
    Unknown,
    /// Another secret, another source, or something was changed.
    Tag,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refusal::Length => "length",
            Refusal::Version => "version",
            Refusal::Bits => "bits",
            Refusal::Loose => "loose",
            Refusal::Clock => "clock",
            Refusal::Forgotten => "forgotten",
            Refusal::Unknown => "unknown",
            Refusal::Tag => "tag",
        })
    }
}

/// The keys that come from a secret. Wiped from memory when dropped.
#[derive(Clone)]
pub struct Signer {
    key: Zeroizing<[u8; 16]>,
    id: u32,
    class: u32,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signer(..)")
    }
}

impl Signer {
    pub fn of(secret: &Secret) -> Signer {
        let first = |label: &[u8]| {
            let hash = Zeroizing::new(mac(secret, &[label]));
            u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]])
        };
        let hash = Zeroizing::new(mac(secret, &[b"toctoc signed key v1"]));
        let mut key = Zeroizing::new([0; 16]);
        key.copy_from_slice(&hash[..16]);
        let class = first(b"toctoc signed class v1");
        Signer {
            key,
            id: first(b"toctoc signed id v1"),
            class: match class >> 16 {
                0 | 0xffff => class ^ 0x5555_0000,
                _ => class,
            },
        }
    }

    /// The number that a datagram names its key by. Everybody on the path sees it.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// The number that stands for the key in the kernel, in a packet's priority. Nobody sees it on the network. Its upper
    /// half is never 0 or ffff, which have meanings of their own there.
    pub fn class(&self) -> u32 {
        self.class
    }

    /// The two halves of the key of SipHash, as numbers.
    pub fn halves(&self) -> Zeroizing<[u64; 2]> {
        let half = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&self.key[at..at + 8]);
            u64::from_le_bytes(bytes)
        };
        Zeroizing::new([half(0), half(8)])
    }

    /// The signed bytes, tag first, without padding.
    pub fn sign(&self, source: IpAddr, bound: Bound, time: Time) -> [u8; SHORTEST] {
        let mut datagram = [0; SHORTEST];
        datagram[16..20].copy_from_slice(&self.id.to_be_bytes());
        datagram[20] = VERSION;
        datagram[21] = bound.bits(source);
        datagram[24..32].copy_from_slice(&time.0.to_be_bytes());
        let tag = self.tag(&datagram[TAG..], source);
        datagram[..TAG].copy_from_slice(&tag);
        datagram
    }

    fn tag(&self, signed: &[u8], source: IpAddr) -> [u8; TAG] {
        let bits = u32::from(signed[5]).min(128);
        let v6 = match source.to_canonical() {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
        let mut hasher = SipHasher24::new_with_key(&self.key);
        hasher.write(signed);
        hasher.write(&(u128::from(v6) & mask).to_be_bytes());
        // As the reference prints it: each half with its lowest byte first.
        let hash = hasher.finish128();
        let mut tag = [0; TAG];
        tag[..8].copy_from_slice(&hash.h1.to_le_bytes());
        tag[8..].copy_from_slice(&hash.h2.to_le_bytes());
        tag
    }

    /// Says whether a datagram of this key that came from `source` is good. The kernel also asks whether its tag was spent.
    ///
    /// # Errors
    /// The first reason why not.
    pub fn judge(
        &self,
        datagram: &[u8],
        source: IpAddr,
        binding: Binding,
        now: Time,
        not_before: Time,
    ) -> Result<(), Refusal> {
        if !(SHORTEST..=LONGEST).contains(&datagram.len()) {
            return Err(Refusal::Length);
        }
        let number = |from: usize, to: usize| {
            let bytes = datagram[from..to].iter();
            bytes.fold(0_u64, |number, byte| number << 8 | u64::from(*byte))
        };
        if datagram[20] != VERSION || number(22, 24) != 0 {
            return Err(Refusal::Version);
        }
        let bound = Bound::of_bits(datagram[21], source).ok_or(Refusal::Bits)?;
        let time = Time(number(24, 32));
        if Duration::from_nanos(time.0.abs_diff(now.0)) > SKEW {
            return Err(Refusal::Clock);
        }
        if time < not_before {
            return Err(Refusal::Forgotten);
        }
        if number(16, 20) != u64::from(self.id) {
            return Err(Refusal::Unknown);
        }
        if !binding.takes(bound) {
            return Err(Refusal::Loose);
        }
        let tag = self.tag(&datagram[TAG..SHORTEST], source);
        match bool::from(tag.ct_eq(&datagram[..TAG])) {
            true => Ok(()),
            false => Err(Refusal::Tag),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signer(last: u8) -> Signer {
        let mut bytes: [u8; 32] = std::array::from_fn(|i| i as u8);
        bytes[31] = last;
        Signer::of(&Secret::new(bytes.into()))
    }

    const NOW: Time = Time(1_783_350_030_000_000_000);
    const NEVER: Time = Time(0);

    fn judge(
        signer: &Signer,
        datagram: &[u8],
        from: &str,
        binding: Binding,
    ) -> Result<(), Refusal> {
        signer.judge(datagram, from.parse().unwrap(), binding, NOW, NEVER)
    }

    #[test]
    fn a_datagram_is_good_from_its_source_alone() {
        let signer = signer(31);
        for (from, neighbour, far) in [
            ("192.0.2.7", "192.0.2.8", "192.0.3.7"),
            ("2001:db8::7", "2001:db8::8", "2001:db8:0:1::7"),
        ] {
            let source = from.parse().unwrap();
            let all = [Bound::Address, Bound::Network, Bound::Nothing];
            for (loose, bound) in all.into_iter().enumerate() {
                let datagram = signer.sign(source, bound, NOW);
                let binding = Binding::ALL[loose];
                let at = |from| judge(&signer, &datagram, from, binding);
                assert_eq!(at(from), Ok(()));
                assert_eq!(at(neighbour).is_ok(), bound != Bound::Address);
                assert_eq!(at(far).is_ok(), bound == Bound::Nothing);
                for tighter in &Binding::ALL[..loose] {
                    let judged = judge(&signer, &datagram, from, *tighter);
                    assert_eq!(judged, Err(Refusal::Loose));
                }
            }
        }
    }

    #[test]
    fn every_bit_counts_but_those_of_the_padding() {
        let signer = signer(31);
        let source = "192.0.2.7".parse().unwrap();
        let mut datagram = signer.sign(source, Bound::Address, NOW).to_vec();
        datagram.extend([7; 5]);
        for bit in 0..8 * datagram.len() {
            let mut other = datagram.clone();
            other[bit / 8] ^= 1 << (bit % 8);
            let judged = judge(&signer, &other, "192.0.2.7", Binding::Nothing);
            assert_eq!(judged.is_ok(), bit >= 8 * SHORTEST, "{bit}");
        }
        let other = self::signer(30);
        assert!(judge(&other, &datagram, "192.0.2.7", Binding::Nothing).is_err());
    }

    #[test]
    fn time_counts_both_ways_and_the_memory_too() {
        let signer = signer(31);
        let source: IpAddr = "192.0.2.7".parse().unwrap();
        let skew = SKEW.as_nanos() as u64;
        let at = |time: u64, not_before: u64| {
            let datagram = signer.sign(source, Bound::Address, Time(time));
            signer.judge(&datagram, source, Binding::Address, NOW, Time(not_before))
        };
        assert_eq!(at(NOW.0 - skew, 0), Ok(()));
        assert_eq!(at(NOW.0 + skew, NOW.0 + skew), Ok(()));
        assert_eq!(at(NOW.0 - skew - 1, 0), Err(Refusal::Clock));
        assert_eq!(at(NOW.0 + skew + 1, 0), Err(Refusal::Clock));
        assert_eq!(at(NOW.0, NOW.0 + 1), Err(Refusal::Forgotten));
        for extreme in [0, u64::MAX] {
            assert_eq!(at(extreme, 0), Err(Refusal::Clock));
        }
    }

    #[test]
    fn numbers_in_the_kernel_are_never_those_of_others() {
        for last in 0..=255 {
            let signer = signer(last);
            assert!(!matches!(signer.class() >> 16, 0 | 0xffff));
            assert_ne!(signer.class(), signer.id());
        }
        assert_eq!(format!("{:?}", signer(1)), "Signer(..)");
    }
}
