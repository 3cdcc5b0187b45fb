//! The shortest trace that still shows a difference, found by trying on the kernel.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::thread;

use toctoc::trace::Packet;

use super::judge::{Difference, judge};
use super::play::play;
use super::policies::Case;
use super::traces::{BEAT, Trace};
use crate::world::World;

/// A policy that the model judges by, what is applied (the same, except when this search itself is
/// tested), and the hosts to try on.
pub struct Search<'w> {
    pub worlds: &'w [World],
    pub judged: &'w Case,
    pub applied: &'w Case,
}

impl Search<'_> {
    /// Shrinks a trace that showed a difference, until every packet and every pause is needed; `None`
    /// when it never does so again.
    pub fn shrink(&self, trace: &Trace, difference: &Difference) -> Option<Trace> {
        let around = |source| self.judged.policy.grant.around(source);
        let own = Trace {
            steps: trace
                .steps
                .iter()
                .filter(|step| difference.networks.contains(&around(step.source)))
                .copied()
                .collect(),
            end: trace.end,
        };
        let again = vec![own.clone(), trace.clone(), own, trace.clone()];
        let mut shortest = self.first_that_differs(again)?;
        // By source, then by packet.
        let mut sources: BTreeMap<_, Vec<usize>> = BTreeMap::new();
        for (index, step) in shortest.steps.iter().enumerate() {
            sources.entry(step.source).or_default().push(index);
        }
        shortest = self.fewer(shortest, sources.into_values().collect());
        loop {
            let before = shortest.length();
            while let Some(quicker) = self.first_that_differs(with_a_pause_less(&shortest)) {
                shortest = quicker;
            }
            let packets = (0..shortest.steps.len()).map(|index| vec![index]);
            shortest = self.fewer(shortest.clone(), packets.collect());
            if shortest.length() == before {
                return Some(shortest);
            }
        }
    }

    /// Leaves out units of steps, halves first, as long as it still differs.
    fn fewer(&self, trace: Trace, mut units: Vec<Vec<usize>>) -> Trace {
        let only = |units: &[Vec<usize>]| {
            let kept: BTreeSet<usize> = units.iter().flatten().copied().collect();
            Trace {
                steps: kept.into_iter().map(|index| trace.steps[index]).collect(),
                end: trace.end,
            }
        };
        let mut size = units.len().div_ceil(2);
        while size > 0 && units.len() > 1 {
            let without: Vec<Vec<Vec<usize>>> = (0..units.len())
                .step_by(size)
                .map(|from| {
                    let to = (from + size).min(units.len());
                    [&units[..from], &units[to..]].concat()
                })
                .filter(|rest| !rest.is_empty())
                .collect();
            let candidates = without.iter().map(|rest| only(rest)).collect();
            match self.index_that_differs(candidates) {
                Some(index) => {
                    units = without[index].clone();
                    size = size.min(units.len().div_ceil(2));
                }
                None => size /= 2,
            }
        }
        only(&units)
    }

    fn first_that_differs(&self, candidates: Vec<Trace>) -> Option<Trace> {
        let index = self.index_that_differs(candidates.clone())?;
        Some(candidates[index].clone())
    }

    /// As many at once as there are hosts.
    fn index_that_differs(&self, candidates: Vec<Trace>) -> Option<usize> {
        let mut tried = 0;
        for some in candidates.chunks(self.worlds.len()) {
            let differs: Vec<bool> = thread::scope(|scope| {
                let try_on = |(world, trace): (&'_ World, &'_ Trace)| {
                    let played = play(world, self.applied, trace);
                    judge(self.judged, &played).difference.is_some()
                };
                let pairs = self.worlds.iter().zip(some);
                let tries: Vec<_> = pairs
                    .map(|pair| scope.spawn(move || try_on(pair)))
                    .collect();
                let joined = tries.into_iter().map(|one| one.join().unwrap());
                joined.collect()
            });
            if let Some(index) = differs.iter().position(|&differs| differs) {
                return Some(tried + index);
            }
            tried += some.len();
        }
        None
    }
}

/// The trace with one beat taken out, for each beat.
fn with_a_pause_less(trace: &Trace) -> Vec<Trace> {
    let shortened = |beat: usize| {
        let mut trace = trace.clone();
        trace.end -= 1;
        let later = trace.steps.iter_mut().filter(|step| step.beat >= beat);
        later.for_each(|step| step.beat -= 1);
        trace
    };
    (1..=trace.end).map(shortened).collect()
}

/// A trace as `explain` reads it.
pub fn explained(trace: &Trace) -> String {
    let seconds = |beat: usize| BEAT.as_secs_f64() * beat as f64;
    let mut text = String::new();
    for step in &trace.steps {
        let at = seconds(step.beat);
        let to = Packet {
            at: BEAT,
            source: step.source,
            host: step.host,
            to: step.to,
        };
        let _ = writeln!(text, "{at:.3} {} {}", step.source, to.destination());
    }
    let _ = writeln!(text, "# looked at after {:.3} s", seconds(trace.end));
    text
}
