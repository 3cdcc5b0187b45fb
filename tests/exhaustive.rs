//! The automaton equals the model in every small world: all policies of up to two keys of up to three
//! knocks over three ports, all traces of up to seven steps. A step is a knock at one of the ports or
//! at the door, or a while.

#[path = "support/outcome.rs"]
mod outcome;

use std::net::{IpAddr, Ipv4Addr};
use std::thread;
use std::time::Duration;

use toctoc::automaton::Automaton;
use toctoc::knock::Knock;
use toctoc::model::Model;
use toctoc::policy::{KeyKind, read};
use toctoc::trace::Packet;
use toctoc::trace::run::Run;

use outcome::outcome;

const LONGEST: usize = 7;

/// The door knows two times, and a grant for one connection. One while is less than `within`, two are
/// more; the first key opens for two, the second for one.
const WORLD: &str = r#"
within = "10s"
[door.ssh]
ports = [22]
[key.one]
opens = ["ssh"]
open_for = "15s"
sequence = [1, 5, 2]
[key.two]
opens = ["ssh"]
once = true
open_for = "9s"
sequence = [5, 1, 9]
"#;

const WHILE: Duration = Duration::from_secs(6);

const SOURCE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));

#[test]
fn automaton_equals_model_in_every_small_world() {
    let sequences = sequences();
    assert_eq!(sequences.len(), 3 + 6 + 12);
    let mut policies = vec![Vec::new()];
    for one in &sequences {
        policies.push(vec![one.clone()]);
        for two in &sequences {
            if !inside(one, two) && !inside(two, one) {
                policies.push(vec![one.clone(), two.clone()]);
            }
        }
    }
    let half = policies.len() / 2;
    let (steps, openings) = thread::scope(|scope| {
        let halves = [&policies[..half], &policies[half..]];
        let seen = halves.map(|some| scope.spawn(|| Seen::in_all(some)));
        let seen = seen.map(|half| half.join().unwrap());
        (
            seen[0].steps + seen[1].steps,
            seen[0].openings + seen[1].openings,
        )
    });
    println!(
        "{} policies, {steps} traces, {openings} openings",
        policies.len()
    );
    // Each beginning of a trace is a trace too.
    let traces: usize = (1..=LONGEST as u32).map(|length| 5usize.pow(length)).sum();
    assert_eq!(steps, policies.len() * traces);
    assert!(openings > steps / 100);
}

/// Without a knock twice in a row.
fn sequences() -> Vec<Vec<Knock>> {
    let mut all: Vec<Vec<Knock>> = Vec::new();
    let mut longest = vec![Vec::new()];
    for _ in 0..3 {
        let longer = longest.iter().flat_map(|sequence: &Vec<Knock>| {
            let others = knocks()
                .into_iter()
                .filter(|knock| sequence.last() != Some(knock));
            others.map(|knock| [sequence.as_slice(), &[knock]].concat())
        });
        longest = longer.collect();
        all.extend(longest.iter().cloned());
    }
    all
}

fn knocks() -> [Knock; 3] {
    ["1", "2", "3"].map(|knock| knock.parse().unwrap())
}

fn inside(part: &[Knock], whole: &[Knock]) -> bool {
    whole.windows(part.len()).any(|window| window == part)
}

/// The number of comparisons.
#[derive(Default)]
struct Seen {
    steps: usize,
    openings: usize,
}

impl Seen {
    fn in_all(policies: &[Vec<Vec<Knock>>]) -> Seen {
        let world = read("world", WORLD).unwrap();
        let mut seen = Seen::default();
        for sequences in policies {
            let mut policy = world.clone();
            policy.keys.truncate(sequences.len());
            for (key, sequence) in policy.keys.iter_mut().zip(sequences) {
                key.kind = KeyKind::Sequence(sequence.clone());
            }
            let automaton = Automaton::build(policy.sequences());
            let model = Model::new(&policy, 0);
            let run = Run::new(&policy, &automaton, 0);
            seen.beyond(&mut Vec::new(), &model, &run, Duration::ZERO);
        }
        seen
    }

    /// All traces that begin with this one, which has led to these states.
    fn beyond(&mut self, trace: &mut Vec<Option<Knock>>, model: &Model, run: &Run, at: Duration) {
        if trace.len() == LONGEST {
            return;
        }
        let door = "22".parse().unwrap();
        let knocks = knocks().into_iter().chain([door]);
        for step in knocks.map(Some).chain([None]) {
            trace.push(step);
            let (mut model, mut run, mut at) = (model.clone(), run.clone(), at);
            match step {
                Some(to) => {
                    let packet = Packet {
                        at,
                        source: SOURCE,
                        host: None,
                        to,
                    };
                    let before: u64 = run.opened().iter().sum();
                    let (expected, found) = (model.packet(packet), outcome(&run.packet(packet)));
                    assert_eq!(found, expected, "{trace:?}");
                    let after: u64 = run.opened().iter().sum();
                    self.openings += usize::from(after > before);
                }
                None => at += WHILE,
            }
            assert_eq!(run.progress(at), model.progress(at), "{trace:?}");
            assert_eq!(run.opened(), model.opened(), "{trace:?}");
            let grants = run.grants(at);
            let ends = grants.iter().map(|(holding, (end, _))| (*holding, *end));
            assert!(ends.eq(model.grants(at)), "{trace:?}");
            self.steps += 1;
            self.beyond(trace, &model, &run, at);
            trace.pop();
        }
    }
}
