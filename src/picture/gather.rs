//! From a policy and its automaton to what there is to draw.

use std::collections::HashMap;

use super::words;
use super::{Door, Key, Knocked, Look, Picture, Ports};
use crate::automaton::{Automaton, State, Step};
use crate::knock::{Knock, Protocol};
use crate::policy::{KeyKind, Policy};

pub(super) fn gather(policy: &Policy, automaton: &Automaton, ports: Ports, now: i64) -> Picture {
    let mut tree = Tree::new(ports);
    for (place, key) in policy.keys.iter().enumerate() {
        let look = match &key.kind {
            KeyKind::Sequence(knocks) => {
                tree.sequence(automaton, knocks, place);
                continue;
            }
            KeyKind::Token(_) | KeyKind::Signed(_) => Look::Token,
            KeyKind::Scratch(_) => Look::Scratch,
        };
        let way = words::way(policy, key, ports);
        tree.add(0, way, look, Some(place));
    }
    let mut opened_by = vec![Vec::new(); policy.doors.len()];
    for (place, key) in policy.keys.iter().enumerate() {
        for opening in &key.opens {
            opened_by[opening.door.0].push(place);
        }
    }
    let keys = policy.keys.iter().map(|key| Key {
        name: key.name.to_string(),
        way: words::way(policy, key, ports),
        opens: key.opens.iter().map(|opening| opening.door.0).collect(),
        grants: words::grants(policy, key),
        limits: words::limits(key, now),
        expired: key.expired(now),
    });
    let doors = policy.doors.iter().zip(opened_by);
    let doors = doors.map(|(door, opened_by)| Door {
        name: door.name.to_string(),
        ports: match ports {
            Ports::Shown => door.words(),
            Ports::LeftOut => Vec::new(),
        },
        extends: door
            .extension
            .map_or(String::new(), |found| found.to_string()),
        trusts: words::trusts(door, ports),
        opened_by,
    });
    Picture {
        title: words::title(policy),
        notes: words::notes(policy, ports),
        keys: keys.collect(),
        doors: doors.collect(),
        knocks: tree.knocks,
    }
}

struct Tree {
    ports: Ports,
    knocks: Vec<Knocked>,
    /// Where the states of the automaton are among them.
    places: HashMap<State, usize>,
}

impl Tree {
    fn new(ports: Ports) -> Tree {
        let stranger = Knocked {
            label: "stranger".to_string(),
            look: Look::Stranger,
            then: Vec::new(),
            makes: None,
        };
        Tree {
            ports,
            knocks: vec![stranger],
            places: HashMap::from([(State::ROOT, 0)]),
        }
    }

    /// Goes the way of a sequence through the machine, and adds the states where nobody has been.
    fn sequence(&mut self, automaton: &Automaton, knocks: &[Knock], key: usize) {
        let (mut state, mut at) = (State::ROOT, 0);
        for (number, &knock) in (1..).zip(knocks) {
            // The last knock completes the sequence: its state knows nothing but an echo.
            let last = number == knocks.len();
            if let Step::To(next) = automaton.step(state, knock) {
                state = next;
            }
            at = match self.places.get(&state) {
                Some(&place) if !last => place,
                _ => self.knock(at, knock, last.then_some(key)),
            };
            if !last {
                self.places.insert(state, at);
            }
        }
    }

    fn knock(&mut self, from: usize, knock: Knock, makes: Option<usize>) -> usize {
        let (label, look) = match (self.ports, knock.protocol) {
            (Ports::LeftOut, _) => ("\u{2022}".to_string(), Look::Tcp),
            (Ports::Shown, Protocol::Tcp) => (words::knock(knock), Look::Tcp),
            (Ports::Shown, Protocol::Udp) => (words::knock(knock), Look::Udp),
        };
        self.add(from, label, look, makes)
    }

    fn add(&mut self, from: usize, label: String, look: Look, makes: Option<usize>) -> usize {
        let place = self.knocks.len();
        self.knocks[from].then.push(place);
        self.knocks.push(Knocked {
            label,
            look,
            then: Vec::new(),
            makes,
        });
        place
    }
}
