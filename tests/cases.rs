//! The one-line cases on the model and on the automaton. (On the kernel: `kernel/`.)

#[path = "support/cases.rs"]
mod cases;

use cases::{CASES, POLICY, outcome, packets, sorted};
use toctoc::automaton::Automaton;
use toctoc::model::Model;
use toctoc::trace::run::Run;

#[test]
fn cases_on_the_model() {
    let policy = toctoc::policy::read("cases", POLICY).unwrap();
    for (index, case) in CASES.iter().enumerate() {
        let (packets, end) = packets(index, case.trace, policy.within, false);
        let mut model = Model::new(&policy, 1_800_000_000);
        for packet in packets {
            model.packet(packet);
        }
        let grants = model.grants(end).into_keys();
        let found = outcome(&policy, index, false, grants, &model.progress(end));
        assert_eq!(
            found,
            sorted(case.expected),
            "{}: {}",
            case.name,
            case.trace
        );
    }
}

#[test]
fn cases_on_the_automaton() {
    let policy = toctoc::policy::read("cases", POLICY).unwrap();
    let automaton = Automaton::build(policy.sequences());
    for (index, case) in CASES.iter().enumerate() {
        let (packets, end) = packets(index, case.trace, policy.within, false);
        let mut run = Run::new(&policy, &automaton, 1_800_000_000);
        for packet in packets {
            run.packet(packet);
        }
        let grants = run.grants(end).into_keys();
        let found = outcome(&policy, index, false, grants, &run.progress(end));
        assert_eq!(
            found,
            sorted(case.expected),
            "{}: {}",
            case.name,
            case.trace
        );
    }
}
