//! The kernel's state beside that of the model, network by network.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use toctoc::held::Grant;
use toctoc::model::{Model, Outcome};
use toctoc::policy::Policy;

use super::play::{Played, Sent};
use super::policies::Case;

/// Whatever would have gone another way with all deadlines so much earlier or later is not judged.
pub const MARGIN: Duration = Duration::from_millis(300);

/// iptables counts whole seconds, nft prints them.
const SECOND: Duration = Duration::from_secs(1);

/// The verdict on a round.
#[derive(Default)]
pub struct Verdict {
    /// Sources that were compared.
    pub compared: usize,
    /// Sources too close to a deadline.
    pub unclear: usize,
    pub openings: u64,
    pub difference: Option<Difference>,
}

pub struct Difference {
    /// Where kernel and model differ; all of them when they agree on each, but not on how often keys
    /// have opened.
    pub networks: BTreeSet<IpNet>,
    pub told: String,
}

/// The door of a grant, and whether it is for one connection.
type Granted = (String, bool);

/// The grants of sources that share a network.
#[derive(Debug, PartialEq)]
struct Holds {
    grants: BTreeSet<Granted>,
    midway: BTreeMap<IpAddr, usize>,
    /// For each packet, whether it came through.
    passed: Vec<bool>,
}

pub fn judge(case: &Case, played: &Played) -> Verdict {
    let policy = &case.policy;
    let mut verdict = Verdict::default();
    let mut networks: BTreeMap<IpNet, Vec<Sent>> = BTreeMap::new();
    for sent in &played.packets {
        let network = policy.grant.around(sent.packet.source);
        networks.entry(network).or_default().push(*sent);
    }
    let mut differing = BTreeSet::new();
    let mut told = String::new();
    let mut opened = vec![(0, 0); policy.keys.len()];
    let known = |network: &IpNet| networks.contains_key(network);
    for grant in played.grants.iter().filter(|g| !known(&g.source)) {
        differing.insert(grant.source);
        let _ = writeln!(told, "{}: a grant for nobody's packets", grant.source);
    }
    for (&network, packets) in &networks {
        let found = Holds {
            grants: granted(policy, played, network)
                .map(|grant| (door(policy, grant), grant.once))
                .collect(),
            midway: played
                .midway
                .iter()
                .filter(|(source, _)| network.contains(*source))
                .map(|(&source, &knocks)| (source, knocks))
                .collect(),
            passed: packets.iter().map(|sent| sent.passed).collect(),
        };
        let expected = expected(case, packets, played.seen);
        let sources: BTreeSet<IpAddr> = packets.iter().map(|sent| sent.packet.source).collect();
        for (sum, (least, most)) in opened.iter_mut().zip(&expected.opened) {
            *sum = (sum.0 + least, sum.1 + most);
        }
        let Some(holds) = expected.holds else {
            verdict.unclear += sources.len();
            continue;
        };
        verdict.compared += sources.len();
        verdict.openings += expected.opened.iter().map(|(least, _)| least).sum::<u64>();
        let mut what = String::new();
        if found != holds {
            let _ = writeln!(what, "kernel {found:?}\nmodel  {holds:?}");
        }
        for grant in granted(policy, played, network) {
            let Some(&end) = expected.ends.get(&(door(policy, grant), grant.once)) else {
                continue;
            };
            let least = end.saturating_sub(played.seen[1] + MARGIN + SECOND);
            let most = end.saturating_sub(played.seen[0]) + MARGIN + SECOND;
            if grant.expires_in < least || grant.expires_in > most {
                let left = grant.expires_in;
                let _ = writeln!(what, "{left:?} left, not {least:?} to {most:?}");
            }
        }
        if !what.is_empty() {
            differing.insert(network);
            let _ = write!(told, "{network}\n{what}");
        }
    }
    for ((key, count), (least, most)) in policy.keys.iter().zip(&played.opened).zip(opened) {
        if *count < least || *count > most {
            let _ = writeln!(told, "{} opened {count} times, not {least}", key.name);
            if differing.is_empty() {
                differing.extend(networks.keys());
            }
        }
    }
    verdict.difference = (!told.is_empty()).then_some(Difference {
        networks: differing,
        told,
    });
    verdict
}

fn granted<'p>(
    policy: &'p Policy,
    played: &'p Played,
    network: IpNet,
) -> impl Iterator<Item = &'p Grant> {
    let own = move |grant: &&Grant| grant.source == network;
    let known = |grant: &&Grant| policy.doors.iter().any(|d| d.name.door_id() == grant.door);
    played.grants.iter().filter(own).inspect(move |grant| {
        assert!(known(grant), "a grant for an unknown door: {grant:?}");
    })
}

fn door(policy: &Policy, grant: &Grant) -> String {
    let mut doors = policy.doors.iter().map(|door| &door.name);
    let door = doors.find(|name| name.door_id() == grant.door);
    door.unwrap().as_str().to_string()
}

struct Expected {
    /// `None` when a deadline is near.
    holds: Option<Holds>,
    /// When each grant ends.
    ends: BTreeMap<Granted, Duration>,
    /// At least and at most, for each key.
    opened: Vec<(u64, u64)>,
}

/// The words of the model, with deadlines as they are and moved by the margin.
fn expected(case: &Case, packets: &[Sent], seen: [Duration; 2]) -> Expected {
    let policy = &case.policy;
    let shifts = [
        |time: Duration| time,
        |time: Duration| time + MARGIN,
        |time: Duration| time - MARGIN,
    ];
    let now = jiff::Timestamp::now().as_second();
    let mut all: Vec<Holds> = Vec::new();
    let mut ends = None;
    let mut opened: Vec<(u64, u64)> = vec![(u64::MAX, 0); policy.keys.len()];
    for within in shifts {
        for lasting in shifts {
            let mut shifted = policy.clone();
            shifted.within = within(policy.within);
            for opening in shifted.keys.iter_mut().flat_map(|key| &mut key.opens) {
                opening.open_for = lasting(opening.open_for);
            }
            for extension in shifted
                .doors
                .iter_mut()
                .flat_map(|door| &mut door.extension)
            {
                extension.extend = lasting(extension.extend);
                extension.at_most = lasting(extension.at_most);
            }
            let mut model = Model::with_room(&shifted, now, case.room.clone());
            let outcomes = packets.iter().map(|sent| model.packet(sent.packet));
            let refused = |outcome| matches!(outcome, Outcome::Refused(_));
            let passed: Vec<bool> = outcomes.map(|outcome| !refused(outcome)).collect();
            for ((least, most), &count) in opened.iter_mut().zip(model.opened()) {
                (*least, *most) = (count.min(*least), count.max(*most));
            }
            for at in seen {
                let grants = model.grants(at);
                let name = |holding: &toctoc::trace::Holding| {
                    let door = policy.door(holding.door).name.as_str();
                    (door.to_string(), holding.once)
                };
                let holds = Holds {
                    grants: grants.keys().map(name).collect(),
                    midway: model.progress(at),
                    passed: passed.clone(),
                };
                all.push(holds);
                let own = grants.iter().map(|(holding, &end)| (name(holding), end));
                ends.get_or_insert_with(|| own.collect());
            }
        }
    }
    let certain = opened.iter().all(|(least, most)| least == most)
        && all.iter().all(|holds| *holds == all[0]);
    Expected {
        holds: certain.then(|| all.swap_remove(0)),
        ends: ends.unwrap_or_default(),
        opened,
    }
}
