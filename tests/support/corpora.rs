//! Inputs that were kept, each as it is and with some bytes changed.

use std::fs;

use proptest::prelude::Rng;
use proptest::test_runner::{RngAlgorithm, TestRng};

/// Bytes that mean something to some reader.
const INTERESTING: &[u8] = b"\"'[]{}=,:/-. \n#\\0159a\xff\x00";

/// Changed inputs for each kept one.
const CHANGED: usize = 10;

/// Looks whether a promise holds for all inputs in these directories, and their neighbours.
pub fn try_all(directories: &[&str], holds: fn(&[u8])) {
    let files = directories
        .iter()
        .flat_map(|directory| fs::read_dir(directory).unwrap());
    let mut paths: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() >= 3, "{directories:?}");
    let mut rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    for path in paths {
        let input = fs::read(&path).unwrap();
        hold(holds, &input);
        for _ in 0..CHANGED {
            hold(holds, &changed(&mut rng, &input));
        }
    }
}

fn hold(holds: fn(&[u8]), input: &[u8]) {
    if let Err(panic) = std::panic::catch_unwind(|| holds(input)) {
        let input = String::from_utf8_lossy(input);
        eprintln!("it does not hold for:\n{input}");
        std::panic::resume_unwind(panic);
    }
}

/// A byte replaced, a piece left out or a piece repeated, a few times.
fn changed(rng: &mut TestRng, input: &[u8]) -> Vec<u8> {
    let mut bytes = input.to_vec();
    let mut below = |end: usize| rng.next_u32() as usize % end.max(1);
    for _ in 0..1 + below(4) {
        let at = below(bytes.len());
        let length = below(8).min(bytes.len() - at);
        let piece = bytes[at..at + length].to_vec();
        match below(4) {
            0 => drop(bytes.drain(at..at + length)),
            1 => drop(bytes.splice(at..at, piece)),
            2 => {
                let to = below(bytes.len());
                bytes.splice(to..to, piece);
            }
            _ => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = INTERESTING[below(INTERESTING.len())];
                }
            }
        }
    }
    bytes
}
