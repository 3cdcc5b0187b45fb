//! The automaton equals the model, on random policies and traces with a hand-moved clock.

#[path = "support/outcome.rs"]
mod outcome;
#[path = "support/random.rs"]
mod random;

use std::cell::Cell;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use toctoc::automaton::Automaton;
use toctoc::model::Model;
use toctoc::trace::run::Run;

use outcome::outcome;

/// The number of random policies and traces: proptest's own variable, for those who run this a thousand
/// times.
fn cases() -> u32 {
    let set = std::env::var("PROPTEST_CASES").ok();
    set.map_or(20_000, |cases| cases.parse().unwrap())
}

#[test]
fn automaton_equals_model() {
    let openings = Cell::new(0);
    let cases = cases();
    let mut runner = TestRunner::new(Config::with_cases(cases));
    let both = (random::policy(), random::trace());
    let result = runner.run(&both, |(policy, trace)| {
        let automaton = Automaton::build(policy.sequences());
        let mut model = Model::new(&policy, 0);
        let mut run = Run::new(&policy, &automaton, 0);
        for packet in trace {
            let by_model = model.packet(packet);
            let meaning = run.packet(packet);
            prop_assert_eq!(outcome(&meaning), by_model, "{} {:?}", packet, meaning);
            let ends: Vec<_> = run
                .grants(packet.at)
                .into_iter()
                .map(|(holding, (end, _))| (holding, end))
                .collect();
            let expected: Vec<_> = model.grants(packet.at).into_iter().collect();
            prop_assert_eq!(ends, expected, "grants after {}", packet);
            prop_assert_eq!(
                run.progress(packet.at),
                model.progress(packet.at),
                "after {}",
                packet
            );
        }
        prop_assert_eq!(run.opened(), model.opened());
        openings.set(openings.get() + run.opened().iter().sum::<u64>());
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    // Agreement over traces in which nothing happens would prove nothing.
    let enough = u64::from(cases / 4);
    assert!(openings.get() > enough, "only {} openings", openings.get());
}
