//! Tells whether a scan of the port space opens a door: the scan is run through the automaton.
//!
//! A sweep is a list of knocks, faster than `within`. Guarded ports are knocks that lead nowhere,
//! ignored ports are none, as everywhere.

use std::collections::BTreeMap;

use super::scanned_ports;
use super::{Policy, SequenceIndex};
use crate::automaton::{Automaton, State, Step};
use crate::knock::{Knock, PortRange, Protocol};

/// The sequences that a sweep knocks, each with the name of the first sweep that does.
pub fn opened_by_sweeps(policy: &Policy) -> BTreeMap<SequenceIndex, String> {
    let automaton = Automaton::build(policy.sequences());
    let kinds = Kinds::of(policy);
    let mut opened = BTreeMap::new();
    let mut sweep = |name: &str, knocks: &mut dyn Iterator<Item = Knock>| {
        let mut state = State::ROOT;
        for knock in knocks {
            match kinds.kind(knock) {
                Kind::Ignored => continue,
                Kind::Nothing => {
                    state = State::ROOT;
                    continue;
                }
                Kind::Knock => {}
            }
            state = match automaton.step(state, knock) {
                Step::Echo => state,
                Step::To(next) => next,
                Step::Complete(sequence) => {
                    opened.entry(sequence).or_insert_with(|| name.to_string());
                    automaton.after(sequence)
                }
            };
        }
    };

    for protocol in [Protocol::Tcp, Protocol::Udp] {
        if protocol == Protocol::Udp && !policy.judges_udp() {
            continue;
        }
        let all = || (1..=u16::MAX).filter_map(move |port| Knock::new(protocol, port));
        sweep(&format!("an ascending {protocol} sweep"), &mut all());
        sweep(&format!("a descending {protocol} sweep"), &mut all().rev());
        let list: Vec<Knock> = scanned(protocol);
        sweep(
            &format!("a scan of common {protocol} ports, most common first,"),
            &mut list.iter().copied(),
        );
        for count in [10, 20, 50, 100, 1000] {
            let mut common: Vec<Knock> = list.iter().copied().take(count).collect();
            common.sort();
            let name = format!("scan of the {count} most common {protocol} ports");
            sweep(&format!("an ascending {name}"), &mut common.iter().copied());
            sweep(
                &format!("a descending {name}"),
                &mut common.iter().rev().copied(),
            );
        }
    }
    if policy.judges_udp() {
        let both = || (1..=u16::MAX).flat_map(|port| both_protocols(port, false));
        let reversed = || (1..=u16::MAX).flat_map(|port| both_protocols(port, true));
        sweep("an ascending tcp and udp sweep", &mut both());
        sweep("an ascending udp and tcp sweep", &mut reversed());
        sweep("a descending tcp and udp sweep", &mut reversed().rev());
        sweep("a descending udp and tcp sweep", &mut both().rev());
    }
    for (_, sequence) in policy.sequences() {
        if let Some((first, stride)) = kinds.stride(sequence) {
            let ports = (0..).map(|i| i64::from(first.port.get()) + i * stride);
            let ports = ports.map_while(|port| u16::try_from(port).ok());
            let mut knocks = ports.map_while(|port| Knock::new(first.protocol, port));
            let order = if stride > 0 {
                "an ascending"
            } else {
                "a descending"
            };
            let name = format!("{order} sweep in steps of {}", stride.abs());
            sweep(&name, &mut knocks);
        }
    }
    opened
}

#[derive(Clone, Copy)]
enum Kind {
    /// It is in a sequence.
    Knock,
    /// It is guarded, or in no sequence: it leads to the root from everywhere.
    Nothing,
    Ignored,
}

/// The kinds of all ports of each protocol, as a table: it is asked a million times, and the automaton seldom.
struct Kinds(Vec<Kind>);

impl Kinds {
    fn of(policy: &Policy) -> Kinds {
        let mut kinds = Kinds(vec![Kind::Nothing; 2 << 16]);
        for knock in policy.sequences().flat_map(|(_, sequence)| sequence) {
            kinds.0[Kinds::index(*knock)] = Kind::Knock;
        }
        for port in policy.guarded().flat_map(PortRange::ports) {
            kinds.0[Kinds::index(port)] = Kind::Nothing;
        }
        for port in &policy.ignore {
            kinds.0[Kinds::index(*port)] = Kind::Ignored;
        }
        kinds
    }

    fn kind(&self, knock: Knock) -> Kind {
        self.0[Kinds::index(knock)]
    }

    /// The first knock and the step of a sequence whose ports are evenly spaced (three or more of them:
    /// any two are), but for ignored ones in between. Such a one is what a scan with a step, or a human
    /// without imagination, finds.
    fn stride(&self, sequence: &[Knock]) -> Option<(Knock, i64)> {
        let first = *sequence.first()?;
        let ports = sequence.iter().map(|knock| i64::from(knock.port.get()));
        let ports: Vec<i64> = ports.collect();
        let gaps = || ports.windows(2).map(|pair| pair[1] - pair[0]);
        let one_way = gaps().all(|gap| gap > 0) || gaps().all(|gap| gap < 0);
        let same = |knock: &Knock| knock.protocol == first.protocol;
        if sequence.len() < 3 || !one_way || !sequence.iter().all(same) {
            return None;
        }
        let step = gaps().fold(0, greatest_common_divisor);
        let step = step * gaps().next()?.signum();
        let ignored = |port: i64| {
            let port = u16::try_from(port).ok();
            let knock = port.and_then(|port| Knock::new(first.protocol, port));
            knock.is_some_and(|knock| matches!(self.kind(knock), Kind::Ignored))
        };
        let skipped = |pair: &[i64]| {
            let mut between = (1..(pair[1] - pair[0]) / step).map(|i| pair[0] + i * step);
            between.all(ignored)
        };
        ports.windows(2).all(skipped).then_some((first, step))
    }

    fn index(knock: Knock) -> usize {
        usize::from(knock.port.get()) << 1 | usize::from(knock.protocol == Protocol::Udp)
    }
}

fn scanned(protocol: Protocol) -> Vec<Knock> {
    let ports: &[u16] = match protocol {
        Protocol::Tcp => &scanned_ports::TCP,
        Protocol::Udp => &scanned_ports::UDP,
    };
    let knocks = ports.iter().map(|&port| Knock::new(protocol, port));
    knocks.flatten().collect()
}

fn both_protocols(port: u16, udp_first: bool) -> [Knock; 2] {
    // Port 0 never comes here; the fallback keeps the function total.
    let knock = |protocol| Knock {
        protocol,
        port: std::num::NonZeroU16::new(port).unwrap_or(std::num::NonZeroU16::MIN),
    };
    if udp_first {
        [knock(Protocol::Udp), knock(Protocol::Tcp)]
    } else {
        [knock(Protocol::Tcp), knock(Protocol::Udp)]
    }
}

fn greatest_common_divisor(a: i64, b: i64) -> i64 {
    match b {
        0 => a.abs(),
        _ => greatest_common_divisor(b, a % b),
    }
}
