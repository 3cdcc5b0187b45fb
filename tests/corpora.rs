//! The inputs that fuzzing has found worth keeping, and the seeds it began with, each as it is and with
//! some bytes changed. `make verify` looks for new ones.

#[path = "../fuzz/targets.rs"]
mod targets;

use std::fs;

use proptest::prelude::Rng;
use proptest::test_runner::{RngAlgorithm, TestRng};

use targets::Target;

/// Bytes that mean something to some reader.
const INTERESTING: &[u8] = b"\"'[]{}=,:/-. \n#\\0159a\xff\x00";

/// Changed inputs for each kept one.
const CHANGED: usize = 10;

#[test]
fn kept_inputs_and_their_neighbours_hold() {
    for target in targets::ALL {
        let own = format!("fuzz/corpus/{}", target.name);
        let directories = target.more.iter().copied().chain([own.as_str()]);
        let files = directories.flat_map(|directory| fs::read_dir(directory).unwrap());
        let mut paths: Vec<_> = files.map(|file| file.unwrap().path()).collect();
        paths.sort();
        assert!(paths.len() >= 3, "{own}");
        let mut rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
        for path in paths {
            let input = fs::read(&path).unwrap();
            holds(&target, &input);
            for _ in 0..CHANGED {
                holds(&target, &changed(&mut rng, &input));
            }
        }
    }
}

fn holds(target: &Target, input: &[u8]) {
    if let Err(panic) = std::panic::catch_unwind(|| (target.holds)(input)) {
        let (name, input) = (target.name, String::from_utf8_lossy(input));
        eprintln!("{name} does not hold for:\n{input}");
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
