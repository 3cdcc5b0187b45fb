//! Sequences that everybody can read: in this program's documents, in other manuals, and where port knocking by
//! the firewall alone was first described. Whoever guesses begins with them.

use crate::knock::Knock;

const PUBLISHED: &[&[u16]] = &[
    // README, guide, examples, demo, help and hints.
    &[4431, 2387, 920, 18357, 50],
    &[4431, 2387, 920],
    &[4431, 2387, 9920, 18357, 5021],
    &[4431, 2387, 53],
    &[4432, 2388, 921],
    &[4433, 2389, 922],
    &[4434, 2390, 923],
    &[4443, 2387, 920, 18357, 50],
    &[4443, 2387, 53, 18357, 50],
    &[4821, 31007, 999, 2222],
    &[7000, 9821, 8114],
    // The classic script, and its forms.
    &[4589, 2387, 920, 18357, 50],
    &[443, 2387, 920, 18357, 50],
    &[443, 2387, 920],
    // knockd, its manual, and what has been copied from there.
    &[7000, 8000, 9000],
    &[2222, 3333, 4444],
    &[2222, 3333, 4444, 5555],
    &[1111, 2222, 3333],
    &[1111, 2222, 3333, 4444],
    &[1234, 2345, 3456],
    &[1000, 2000, 3000],
    &[10000, 20000, 30000],
    &[571, 290, 911],
    &[7000, 8000, 9000, 10000],
    &[100, 200, 300, 400],
    &[123, 456, 789],
    &[100, 200, 300],
    &[1234, 5678, 9012],
    &[2000, 3000, 4000],
    &[3000, 4000, 5000],
    &[4000, 5000, 6000],
    &[5000, 6000, 7000],
    &[6000, 7000, 8000],
    &[8000, 9000, 10000],
    &[6001, 7001, 8001],
    &[10001, 10002, 10003],
    &[2003, 2001, 2005],
    &[3389, 80, 21, 53, 23],
    &[5438, 3428, 3280, 4479],
    // Wikis and blogs on iptables and nftables.
    &[8881, 7777, 9991],
    &[123, 234, 345, 456],
    &[10000, 2345, 3456, 1234],
    &[45, 67, 89],
];

/// Returns whether a sequence stands somewhere, whatever its protocols, or does so backwards (to close a door again).
pub fn is_published(knocks: &[Knock]) -> bool {
    let ports = || knocks.iter().map(|knock| knock.port.get());
    let mut all = PUBLISHED.iter();
    all.any(|known| {
        let known = known.iter().copied();
        ports().eq(known.clone()) || ports().eq(known.rev())
    })
}
