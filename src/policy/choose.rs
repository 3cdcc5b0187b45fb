//! Ports for a new key: random, of full strength, and none that anything else uses.

use std::collections::HashSet;

use super::Policy;
use super::scanned_ports::TCP;
use crate::knock::{Knock, Protocol};

/// Ports below this belong to services.
const FIRST: u16 = 1024;

/// The TCP ports that a new sequence may have: no door, ignored, allowed or token port, none that
/// listens, none that a common scanner tries first, none of a service.
pub fn free_ports(policy: &Policy, listening: &HashSet<u16>) -> Vec<Knock> {
    let mut used: HashSet<u16> = listening.iter().chain(TCP.iter()).copied().collect();
    let doors = policy.doors.iter().flat_map(|door| &door.ports);
    let allowed = policy.firewall.iter().flat_map(|firewall| &firewall.allow);
    let named = doors.chain(&policy.ignore).chain(allowed);
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
        // What is left over of the numbers would make some ports likelier than others.
        let fair = u64::MAX - u64::MAX % length;
        let number = random();
        if number < fair {
            picked.push(ports.swap_remove((number % length) as usize));
        }
    }
    picked
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let mut number = 0x2545_f491_4f6c_dd1d_u64;
        let random = || {
            number ^= number << 13;
            number ^= number >> 7;
            number ^= number << 17;
            number
        };
        let mut picked = pick(free, 1000, random);
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
