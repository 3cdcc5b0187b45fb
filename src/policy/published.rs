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
    &[9000, 8000, 7000],
    &[2222, 3333, 4444],
    &[1111, 2222, 3333],
    &[3333, 2222, 1111],
    &[1234, 2345, 3456],
    &[1000, 2000, 3000],
    &[10000, 20000, 30000],
    &[571, 290, 911],
    &[7000, 8000, 9000, 10000],
    &[100, 200, 300, 400],
    &[123, 456, 789],
];

/// Returns whether a sequence stands somewhere, whatever its protocols.
pub fn is_published(knocks: &[Knock]) -> bool {
    let ports = || knocks.iter().map(|knock| knock.port.get());
    let mut all = PUBLISHED.iter();
    all.any(|known| ports().eq(known.iter().copied()))
}
