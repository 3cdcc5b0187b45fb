//! The grant that ends where an administrator lets in one more than there is room for. The same for both backends.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use ipnet::IpNet;

use super::Grant;

/// The length of the IPv6 networks that count as one host.
const ONE_HOST: u8 = 64;

/// The grants that do not end for want of room.
#[derive(Debug, Clone, Copy)]
pub struct Spared {
    /// The grant that is being given.
    pub network: IpNet,
    /// The address from which the administrator came.
    pub caller: Option<IpAddr>,
}

impl Spared {
    fn include(&self, grant: &Grant) -> bool {
        let (source, network) = (&grant.source, &self.network);
        source.contains(network)
            || network.contains(source)
            || self.caller.is_some_and(|caller| source.contains(&caller))
    }
}

/// The grant to end first: of the IPv6 network with the most sources, and there the one that ends soonest.
/// One without an end goes last of all. `None` when all are spared.
pub fn first_to_end<'g>(grants: &'g [Grant], spared: &Spared) -> Option<&'g Grant> {
    let mut crowds: HashMap<IpNet, HashSet<IpNet>> = HashMap::new();
    for grant in grants {
        let crowd = crowds.entry(host(grant.source)).or_default();
        crowd.insert(grant.source);
    }
    let crowd = |grant: &Grant| crowds.get(&host(grant.source)).map_or(0, HashSet::len);
    let others = grants.iter().filter(|grant| !spared.include(grant));
    others.min_by_key(|grant| (grant.is_endless, Reverse(crowd(grant)), grant.expires_in))
}

/// The network that counts as one host: in IPv6 the network around an address, in IPv4 the address.
fn host(source: IpNet) -> IpNet {
    match source {
        IpNet::V6(network) if network.prefix_len() > ONE_HOST => {
            IpNet::new(network.addr().into(), ONE_HOST).map_or(source, |net| net.trunc())
        }
        _ => source,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn grant(source: &str, seconds: u64) -> Grant {
        Grant {
            source: source.parse().unwrap(),
            door: crate::policy::DoorId(2),
            once: false,
            opened_by: None,
            expires_in: Duration::from_secs(seconds),
            // In these tests an hour is for ever.
            is_endless: seconds == 3600,
            stay: None,
        }
    }

    fn chosen(grants: &[Grant], caller: Option<&str>) -> Option<String> {
        let spared = Spared {
            network: "192.0.2.99/32".parse().unwrap(),
            caller: caller.map(|caller| caller.parse().unwrap()),
        };
        first_to_end(grants, &spared).map(|grant| grant.source.to_string())
    }

    #[test]
    fn the_biggest_crowd_gives_way_then_whoever_ends_soonest() {
        let alone = [grant("10.0.0.1/32", 50), grant("10.0.0.2/32", 40)];
        assert_eq!(chosen(&alone, None).unwrap(), "10.0.0.2/32");
        assert_eq!(chosen(&alone, Some("10.0.0.2")).unwrap(), "10.0.0.1/32");
        let crowd = [
            grant("2001:db8:1::1/128", 5),
            grant("2001:db8:2::1/128", 90),
            grant("2001:db8:2::2/128", 80),
            grant("2001:db8:2::2/128", 85),
        ];
        assert_eq!(chosen(&crowd, None).unwrap(), "2001:db8:2::2/128");
        assert_eq!(
            chosen(&crowd, Some("2001:db8:2::2")).unwrap(),
            "2001:db8:2::1/128"
        );
        // Several doors make no crowd.
        let doors = [grant("10.0.0.1/32", 50), grant("10.0.0.1/32", 50)];
        let doors = [&doors[..], &[grant("10.0.0.2/32", 40)]].concat();
        assert_eq!(chosen(&doors, None).unwrap(), "10.0.0.2/32");
    }

    #[test]
    fn one_without_an_end_goes_last_and_those_spared_never() {
        let endless = grant("2001:db8:2::1/128", 3600);
        let crowd = grant("2001:db8:2::2/128", 3600);
        let other = grant("10.0.0.1/32", 1000);
        let all = [endless.clone(), crowd, other];
        assert_eq!(chosen(&all, None).unwrap(), "10.0.0.1/32");
        assert_eq!(chosen(&all[..1], None).unwrap(), "2001:db8:2::1/128");
        assert_eq!(chosen(&[], None), None);
        assert_eq!(chosen(&[grant("192.0.2.99/32", 5)], None), None);
        assert_eq!(chosen(&[grant("192.0.2.0/24", 5)], None), None);
        assert_eq!(chosen(&[grant("10.0.0.0/24", 5)], Some("10.0.0.9")), None);
    }
}
