//! The two address families. Each has state of its own in the kernel.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::knock::GrantPrefix;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    pub const BOTH: [Family; 2] = [Family::V4, Family::V6];

    pub fn of(address: IpAddr) -> Family {
        if address.is_ipv4() {
            Family::V4
        } else {
            Family::V6
        }
    }

    pub fn digit(self) -> char {
        match self {
            Family::V4 => '4',
            Family::V6 => '6',
        }
    }

    pub fn longest_prefix(self) -> u8 {
        match self {
            Family::V4 => 32,
            Family::V6 => 128,
        }
    }

    /// The length of the networks that grants of this family are for.
    pub fn prefix_of(self, grant: GrantPrefix) -> u8 {
        match self {
            Family::V4 => grant.v4,
            Family::V6 => grant.v6,
        }
    }

    /// A prefix as an address: `255.255.255.0`.
    pub fn mask(self, prefix: u8) -> IpAddr {
        let prefix = u32::from(prefix);
        match self {
            Family::V4 => Ipv4Addr::from(u32::MAX.checked_shl(32 - prefix).unwrap_or(0)).into(),
            Family::V6 => Ipv6Addr::from(u128::MAX.checked_shl(128 - prefix).unwrap_or(0)).into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_are_those_of_the_prefix() {
        let written = |family: Family, prefix| family.mask(prefix).to_string();
        assert_eq!(written(Family::V4, 24), "255.255.255.0");
        assert_eq!(written(Family::V4, 32), "255.255.255.255");
        assert_eq!(written(Family::V4, 8), "255.0.0.0");
        assert_eq!(written(Family::V6, 64), "ffff:ffff:ffff:ffff::");
    }
}
