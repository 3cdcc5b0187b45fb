//! The one-line cases on the model and on the automaton. (On the kernel: `kernel/`.)

#[path = "support/cases.rs"]
mod cases;

use std::time::Duration;

use cases::{CASES, POLICY, outcome, packets, sorted};
use toctoc::automaton::Automaton;
use toctoc::model::{Model, Outcome};
use toctoc::trace::Packet;
use toctoc::trace::run::{Meaning, Run};

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

/// At the end of `within` a knock still counts; at the end of a grant nobody passes any more.
#[test]
fn the_last_moment() {
    let policy = toctoc::policy::read("cases", POLICY).unwrap();
    let automaton = Automaton::build(policy.sequences());
    let open_for = policy.keys[0].opens[0].open_for;
    let moment = Duration::from_nanos(1);
    for (pause, stay, passes) in [
        (policy.within, open_for - moment, true),
        (policy.within, open_for, false),
        (policy.within + moment, Duration::ZERO, false),
    ] {
        let packet = |at: Duration, to: &str| Packet {
            at,
            source: [192, 0, 2, 7].into(),
            host: None,
            to: to.parse().unwrap(),
        };
        let opened = pause * 2;
        let trace = [
            packet(Duration::ZERO, "443"),
            packet(pause, "2387"),
            packet(opened, "920"),
            packet(opened + stay, "22"),
        ];
        let mut model = Model::new(&policy, 1_800_000_000);
        let outcomes = trace.map(|packet| model.packet(packet));
        assert_eq!(
            matches!(outcomes[3], Outcome::Passes(_)),
            passes,
            "{pause:?} {stay:?}"
        );
        let at = trace[3].at;
        assert_eq!(model.grants(at).len(), usize::from(passes));
        let mut run = Run::new(&policy, &automaton, 1_800_000_000);
        let meanings = trace.map(|packet| run.packet(packet));
        assert_eq!(
            matches!(meanings[3], Meaning::Granted { .. }),
            passes,
            "{pause:?} {stay:?}"
        );
        assert_eq!(run.grants(at).len(), usize::from(passes));
    }
}
