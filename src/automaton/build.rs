//! Building the machine, as a list of passes over a trie.

use std::collections::{BTreeMap, HashMap, VecDeque};

use super::{Automaton, Place, State, Step};
use crate::knock::{KeyIndex, Knock, SequenceIndex};

/// A node while building: what stands behind a state or behind a completed sequence.
#[derive(Default)]
struct Node {
    children: BTreeMap<Knock, usize>,
    /// The knock that leads here; `None` for the root.
    knock: Option<Knock>,
    depth: usize,
    keys: Vec<KeyIndex>,
    completes: Option<SequenceIndex>,
    fail: usize,
}

const ROOT: usize = 0;

/// A sequence and whose it is.
type Named<'s> = (SequenceIndex, &'s [Knock]);

pub(super) fn build(sequences: &[Named<'_>]) -> Automaton {
    let mut nodes = trie(sequences);
    let order = breadth_first(&nodes);
    link_failures(&mut nodes, &order);
    let states = number_states(&nodes, &order);
    let mut steps = flatten(&nodes, &order, &states);
    let mut places = places(&nodes, &order);
    let after = add_done_states(sequences, &mut steps, &mut places);
    Automaton {
        steps,
        places,
        after,
    }
}

/// The number of steps that the machine would have, counted without making them, and the key with the state
/// that has the most. Steps that a state has in common with its fail link are counted twice.
pub(super) fn size(sequences: &[Named<'_>]) -> (u64, Option<KeyIndex>) {
    let mut nodes = trie(sequences);
    let order = breadth_first(&nodes);
    link_failures(&mut nodes, &order);
    let mut counts = vec![0u64; nodes.len()];
    let (mut sum, mut most) = (0, (0, None));
    for &at in order.iter().filter(|&&at| nodes[at].completes.is_none()) {
        let node = &nodes[at];
        // The count of a complete sequence stays 0; so does that of the root for those who ask it.
        let copied = if node.fail == ROOT {
            0
        } else {
            counts[node.fail]
        };
        let echo = u64::from(node.knock.is_some());
        counts[at] = copied + node.children.len() as u64 + echo;
        sum += counts[at];
        if copied > most.0 {
            most = (copied, node.keys.first().copied());
        }
    }
    (sum, most.1)
}

/// One path for each sequence; common beginnings share their nodes.
fn trie(sequences: &[Named<'_>]) -> Vec<Node> {
    let mut nodes = vec![Node::default()];
    for &(index, sequence) in sequences {
        let mut at = ROOT;
        for (i, &knock) in sequence.iter().enumerate() {
            at = match nodes[at].children.get(&knock) {
                Some(&child) => child,
                None => {
                    let child = nodes.len();
                    nodes.push(Node {
                        knock: Some(knock),
                        depth: i + 1,
                        ..Node::default()
                    });
                    nodes[at].children.insert(knock, child);
                    child
                }
            };
            nodes[at].keys.push(index.key);
        }
        nodes[at].completes = Some(index);
    }
    nodes
}

/// The nodes by depth, so that a fail link (always shallower) comes before who uses it.
fn breadth_first(nodes: &[Node]) -> Vec<usize> {
    let mut order = Vec::with_capacity(nodes.len());
    let mut queue = VecDeque::from([ROOT]);
    while let Some(at) = queue.pop_front() {
        order.push(at);
        queue.extend(nodes[at].children.values());
    }
    order
}

/// The fail link of a node is the longest proper end of its knocks that is itself a node.
fn link_failures(nodes: &mut [Node], order: &[usize]) {
    for &at in order {
        let children: Vec<(Knock, usize)> =
            nodes[at].children.iter().map(|(&k, &c)| (k, c)).collect();
        for (knock, child) in children {
            let mut candidate = nodes[at].fail;
            nodes[child].fail = loop {
                if at == ROOT {
                    break ROOT;
                }
                if let Some(&found) = nodes[candidate].children.get(&knock) {
                    break found;
                }
                if candidate == ROOT {
                    break ROOT;
                }
                candidate = nodes[candidate].fail;
            };
        }
    }
}

/// Numbers for the nodes where a source can stand. A complete sequence is not a place to stand.
fn number_states(nodes: &[Node], order: &[usize]) -> HashMap<usize, State> {
    order
        .iter()
        .filter(|&&at| nodes[at].completes.is_none())
        .copied()
        .zip((0u32..).map(State))
        .collect()
}

/// Each state's steps: those of its fail link, its own above them, its echo above all. The root's
/// are left out everywhere but at the root.
fn flatten(
    nodes: &[Node],
    order: &[usize],
    states: &HashMap<usize, State>,
) -> Vec<BTreeMap<Knock, Step>> {
    let mut steps: Vec<BTreeMap<Knock, Step>> = Vec::with_capacity(states.len());
    for &at in order.iter().filter(|at| states.contains_key(at)) {
        let node = &nodes[at];
        let mut own = match states.get(&node.fail) {
            Some(fail) if node.fail != ROOT => steps[fail.0 as usize].clone(),
            _ => BTreeMap::new(),
        };
        for (&knock, &child) in &node.children {
            let step = match nodes[child].completes {
                Some(index) => Step::Complete(index),
                None => Step::To(states[&child]),
            };
            own.insert(knock, step);
        }
        if let Some(knock) = node.knock {
            own.insert(knock, Step::Echo);
        }
        steps.push(own);
    }
    steps
}

fn places(nodes: &[Node], order: &[usize]) -> Vec<Place> {
    order
        .iter()
        .map(|&at| &nodes[at])
        .filter(|node| node.completes.is_none())
        .map(|node| match node.knock {
            None => Place::Root,
            Some(_) => Place::Midway {
                knocks: node.depth,
                keys: node.keys.clone(),
            },
        })
        .collect()
}

/// One state for each knock that ends a sequence, knowing only its echo.
fn add_done_states(
    sequences: &[Named<'_>],
    steps: &mut Vec<BTreeMap<Knock, Step>>,
    places: &mut Vec<Place>,
) -> BTreeMap<SequenceIndex, State> {
    let mut done: HashMap<Knock, State> = HashMap::new();
    let mut after = BTreeMap::new();
    for (index, sequence) in sequences {
        let Some(last) = sequence.last() else {
            continue;
        };
        let state = *done.entry(*last).or_insert_with(|| {
            steps.push(BTreeMap::from([(*last, Step::Echo)]));
            places.push(Place::Done(*last));
            State((places.len() - 1) as u32)
        });
        after.insert(*index, state);
    }
    after
}
