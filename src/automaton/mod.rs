//! All sequences of a policy as one deterministic machine.
//!
//! # From a loop to a table
//!
//! The plain way to judge a knock is to keep each source's last knocks and to ask, at every new
//! one, which sequence begins with the longest run of them ([`model`](crate::model) does exactly
//! that). The answer depends only on that longest run, so it is enough to remember which run it
//! was. Runs that begin sequences are the nodes of a trie; a source's progress is one node.
//!
//! For the keys `a b c`, `a b d` and `b e` (letters stand for ports):
//!
//! ```text
//!        a        b        c
//!   0 ------> 1 ------> 3 ------> opens key 1
//!   |                   |  d
//!   |                   +-------> opens key 2
//!   |    b        e
//!   +------> 2 ------> opens key 3
//! ```
//!
//! A source at node 3 (`a b`) that knocks `e` does not start from nothing: its last knocks `b e`
//! are all of key 3. The longest proper end of `a b` that is itself a node, here `b`, is node 3's
//! *fail link*; what node 3 does not know, it asks there. Since a fail link never changes, its
//! answers are copied into the node (only those that differ from the root's), and one look-up
//! `(node, knock)` is left, or two: a miss means "forget, and ask the root".
//!
//! Two things that are not in the textbook: an *echo* (the knock that led to this very node) is a
//! step of its own, [`Step::Echo`], that changes nothing; and when a sequence is complete the
//! source is put on a *done* node, which knows no step but the echo of that last knock.
//!
//! Invariant: every node but the root is reached by one knock only, so its echo is well defined.

mod build;

use std::collections::BTreeMap;
use std::fmt;

use crate::knock::{KeyIndex, Knock, SequenceIndex};

/// A node of the machine. 0 is the root: no progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct State(pub u32);

impl State {
    pub const ROOT: State = State(0);
}

/// The effect of one knock on a source's progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The same knock again: nothing changes, no time is won.
    Echo,
    /// Progress is now this; [`State::ROOT`] means there is none.
    To(State),
    /// This sequence is complete. Progress becomes [`Automaton::after`].
    Complete(SequenceIndex),
}

/// The meaning of a state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    Root,
    /// The first `knocks` knocks of each of these keys (never none).
    Midway {
        knocks: usize,
        keys: Vec<KeyIndex>,
    },
    /// A sequence that ended with this knock has just been completed.
    Done(Knock),
}

/// The machine. See the [module](self) for how it is thought out.
pub struct Automaton {
    /// For each state, its steps that differ from the root's.
    steps: Vec<BTreeMap<Knock, Step>>,
    places: Vec<Place>,
    /// For each sequence, the state after its completion.
    after: BTreeMap<SequenceIndex, State>,
}

impl Automaton {
    /// Builds the machine of some sequences, in their order: each non-empty, none inside
    /// another, no knock twice in a row, as a checked policy has them. Time and size grow with the
    /// number of steps, see [`Automaton::size`].
    pub fn build<'s>(
        sequences: impl IntoIterator<Item = (SequenceIndex, &'s [Knock])>,
    ) -> Automaton {
        let sequences: Vec<_> = sequences.into_iter().collect();
        build::build(&sequences)
    }

    /// The most steps that the machine of these sequences has, told without building it, and the
    /// key with the state that copies the most from others. Mostly that is about twice the number of
    /// knocks. When many sequences go through what many others begin with, it is a product.
    pub fn size<'s>(
        sequences: impl IntoIterator<Item = (SequenceIndex, &'s [Knock])>,
    ) -> (u64, Option<KeyIndex>) {
        let sequences: Vec<_> = sequences.into_iter().collect();
        build::size(&sequences)
    }

    /// The effect of `knock` on a source in `state`.
    pub fn step(&self, state: State, knock: Knock) -> Step {
        self.own_step(state, knock)
            .or_else(|| self.own_step(State::ROOT, knock))
            .unwrap_or(Step::To(State::ROOT))
    }

    fn own_step(&self, state: State, knock: Knock) -> Option<Step> {
        self.steps[state.0 as usize].get(&knock).copied()
    }

    /// Where a source stands after completing a sequence of this machine.
    pub fn after(&self, sequence: SequenceIndex) -> State {
        self.after.get(&sequence).copied().unwrap_or(State::ROOT)
    }

    /// The meaning of a state; `None` for a number that is no state of this machine.
    pub fn place(&self, state: State) -> Option<&Place> {
        self.places.get(state.0 as usize)
    }

    /// Each state with its steps that differ from the root's, in order.
    pub fn table(&self) -> impl Iterator<Item = (State, Knock, Step)> + '_ {
        (0u32..).zip(&self.steps).flat_map(|(state, steps)| {
            steps
                .iter()
                .map(move |(&knock, &step)| (State(state), knock, step))
        })
    }

    /// The number of states.
    pub fn state_count(&self) -> usize {
        self.places.len()
    }
}

/// The machine as a table, one line for each state.
impl fmt::Debug for Automaton {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (place, steps)) in self.places.iter().zip(&self.steps).enumerate() {
            let what = match place {
                Place::Root => "root".to_string(),
                Place::Done(knock) => format!("done {knock}"),
                Place::Midway { knocks, keys } => {
                    let keys: Vec<String> = keys.iter().map(|k| k.0.to_string()).collect();
                    format!("{knocks} of key {}", keys.join(","))
                }
            };
            write!(f, "{number:>4}  {what:<16}")?;
            for (knock, step) in steps {
                match step {
                    Step::Echo => write!(f, "  {knock} echo")?,
                    Step::To(state) => write!(f, "  {knock} -> {}", state.0)?,
                    Step::Complete(sequence) => {
                        write!(f, "  {knock} opens key {}", sequence.key.0)?;
                    }
                }
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sequences(text: &[&str]) -> Vec<Vec<Knock>> {
        text.iter()
            .map(|s| s.split(' ').map(|k| k.parse().unwrap()).collect())
            .collect()
    }

    #[test]
    fn the_drawn_example_prints_as_a_table() {
        let keys = sequences(&["1 2 3", "1 2 4", "2 5"]);
        let named = keys.iter().enumerate().map(|(key, sequence)| {
            let key = KeyIndex(key);
            (SequenceIndex { key, number: 0 }, sequence.as_slice())
        });
        let table = format!("{:?}", Automaton::build(named));
        let expected = "
   0  root              1/tcp -> 1  2/tcp -> 2
   1  1 of key 0,1      1/tcp echo  2/tcp -> 3
   2  1 of key 2        2/tcp echo  5/tcp opens key 2
   3  2 of key 0,1      2/tcp echo  3/tcp opens key 0  4/tcp opens key 1  5/tcp opens key 2
   4  done 3/tcp        3/tcp echo
   5  done 4/tcp        4/tcp echo
   6  done 5/tcp        5/tcp echo
";
        assert_eq!(format!("\n{table}"), expected);
    }
}
