//! Ports for a new key: random, of full strength, and none that anything else uses.

use std::collections::HashSet;

use super::scanned_ports::TCP;
use super::{HostFirewall, Policy};
use crate::knock::{Knock, PortRange, Protocol};

/// Ports below this belong to services.
const FIRST: u16 = 1024;

/// The TCP ports that a new sequence may have: no door, ignored, allowed or token port, none that
/// listens, none that a common scanner tries first, none of a service.
pub fn free_ports(policy: &Policy, listening: &HashSet<u16>) -> Vec<Knock> {
    let mut used: HashSet<u16> = listening.iter().chain(TCP.iter()).copied().collect();
    let allowed = policy.firewall.iter().flat_map(HostFirewall::ports);
    let guarded = policy.doors.iter().flat_map(|door| &door.ports).copied();
    let ranges = guarded.chain(allowed);
    let named = ranges
        .flat_map(PortRange::ports)
        .chain(policy.ignore.iter().copied());
    used.extend(named.map(|knock| knock.port.get()));
    used.extend(policy.token_port.map(|port| port.get()));
    let free = (FIRST..=u16::MAX).filter(|port| !used.contains(port));
    free.filter_map(|port| Knock::new(Protocol::Tcp, port))
        .collect()
}

/// `count` different ones of `ports`, each as likely as any other. `random` gives evenly distributed
/// numbers. Fewer when there are not so many.
pub fn pick(mut ports: Vec<Knock>, count: usize, mut random: impl FnMut() -> u64) -> Vec<Knock> {
    let mut picked = Vec::new();
    while picked.len() < count && !ports.is_empty() {
        let length = ports.len() as u64;
        // The rest of the numbers would make some ports likelier than others.
        let fair = u64::MAX - u64::MAX % length;
        let number = random();
        if number < fair {
            picked.push(ports.swap_remove((number % length) as usize));
        }
    }
    picked
}

/// A sequence that is not wise is drawn again. Three ports in a row go up or down once in three times.
const DRAWS: usize = 1000;

/// Draws a wise sequence of `count` different ones of `ports`, each such sequence as likely as any other. `None`
/// when there are not so many ports, or hardly any sequence of them is wise.
pub fn draw(
    ports: &[Knock],
    count: usize,
    mut random: impl FnMut() -> u64,
    is_wise: impl Fn(&[Knock]) -> bool,
) -> Option<Vec<Knock>> {
    let mut draws = (0..DRAWS).map(|_| pick(ports.to_vec(), count, &mut random));
    draws.find(|knocks| knocks.len() == count && is_wise(knocks))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::policy::lint::is_wise;

    /// Numbers that look random.
    fn numbers() -> impl FnMut() -> u64 {
        let mut number = 0x2545_f491_4f6c_dd1d_u64;
        move || {
            number ^= number << 13;
            number ^= number >> 7;
            number ^= number << 17;
            number
        }
    }

    /// Of few ports and knocks, as `key new` draws the shortest sequences and those of scratch keys: no drawn one
    /// has a warning, and all others are as likely as before.
    #[test]
    fn only_wise_sequences_are_drawn_and_each_is_as_likely() {
        let ports = [41_010, 41_020, 41_030].map(|port| Knock::new(Protocol::Tcp, port).unwrap());
        let mut random = numbers();
        let mut seen = HashMap::new();
        for _ in 0..4000 {
            let drawn = draw(&ports, 3, &mut random, is_wise).unwrap();
            *seen.entry(drawn).or_insert(0) += 1;
        }
        // Six orders, without the one that goes up and the one that goes down.
        assert_eq!(seen.len(), 4);
        assert!(
            seen.values().all(|often| (850..1150).contains(often)),
            "{seen:?}"
        );
        assert!(seen.keys().all(|drawn| is_wise(drawn)));
        let free = free_ports(
            &crate::policy::read("p", "[door.a]\nports = [22]\n").unwrap(),
            &HashSet::new(),
        );
        for count in [3, 4, 5, 32].repeat(20) {
            let drawn = draw(&free, count, &mut random, is_wise).unwrap();
            assert!(is_wise(&drawn) && drawn.len() == count, "{drawn:?}");
        }
        // It ends where there is none.
        assert_eq!(draw(&ports, 4, numbers(), is_wise), None);
        assert_eq!(draw(&ports[..2], 2, numbers(), is_wise), None);
    }

    #[test]
    fn only_free_ports_are_chosen_and_none_twice() {
        let text = "token_port = 40123\nignore = [5000]\n[door.a]\nports = [6001]\n\
                    [firewall]\nallow = [7002]\n";
        let policy = crate::policy::read("p", text).unwrap();
        let free = free_ports(&policy, &HashSet::from([12_345]));
        assert!(free.len() > 60_000);
        for used in [22, 443, 1023, 5000, 6001, 7002, 8080, 12_345, 40_123] {
            assert!(free.iter().all(|knock| knock.port.get() != used), "{used}");
        }
        let mut picked = pick(free, 1000, numbers());
        picked.sort();
        picked.dedup();
        assert_eq!(picked.len(), 1000);
    }

    #[test]
    fn a_number_that_would_make_some_ports_likelier_is_passed_over() {
        let ports = (1..=10).filter_map(|port| Knock::new(Protocol::Tcp, port));
        let ports: Vec<Knock> = ports.collect();
        for (numbers, port) in [
            ([u64::MAX, 4], 5),
            ([u64::MAX - 5, 4], 5),
            ([u64::MAX - 6, 4], 10),
        ] {
            let mut numbers = numbers.into_iter();
            let picked = pick(ports.clone(), 1, || numbers.next().unwrap());
            assert_eq!(picked[0].port.get(), port, "{numbers:?}");
        }
    }
}
