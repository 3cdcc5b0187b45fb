//! Hosts that a policy trusts by name: the addresses that the system's resolver gave last, in `names.json` beside the
//! journal. An apply asks for them, and the timer of the healing does. Where nobody answers, the last known addresses stay in
//! use. The policy itself knows the names alone.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::StateFile;
use super::sighting::Sighting;
use crate::lookup::lookup;
use crate::policy::{Door, Policy};

/// The time that all names of a policy have together.
const PATIENCE: Duration = Duration::from_secs(5);

/// More addresses are no host's.
const MOST: usize = 64;

/// The time for which a name is remembered that no policy asks for: one that is on its way back finds it.
const MEMORY: i64 = 7 * 24 * 3600;

/// The addresses that are known of names, and those that are in force.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrustedNames {
    /// The last answers, also for names that a policy before asked for, or one that was refused.
    hosts: BTreeMap<String, Answer>,
    /// The addresses that the rules have, by the names of the policy that was applied last.
    rules: BTreeMap<String, BTreeSet<IpAddr>>,
}

/// The last answer for a name.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
struct Answer {
    /// The last known addresses, in their order.
    addresses: BTreeSet<IpAddr>,
    /// Set while the name cannot be resolved.
    failure: Option<Silence>,
    /// When it was asked for, in seconds since 1970.
    asked: i64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Silence {
    /// In seconds since 1970.
    since: i64,
    /// A sentence.
    why: String,
}

impl TrustedNames {
    /// Reads them. What cannot be read is not known: nobody is trusted by a name then, until the next answer.
    pub fn read(state: &StateFile) -> TrustedNames {
        let text = state.text(&file()).ok().flatten();
        let read = text.and_then(|text| serde_json::from_str(&text).ok());
        read.unwrap_or_default()
    }

    /// Asks for all names of a policy that is being applied. Nothing is written: the policy may be refused.
    pub(super) fn asked_for(state: &StateFile, policy: &Policy, now: i64) -> TrustedNames {
        let names: BTreeSet<&str> = policy.trusted_names().collect();
        let mut known = TrustedNames::read(state);
        let names = names.into_iter().map(str::to_string);
        known.hear(resolve(names.collect()), now);
        known
    }

    /// The names that the rules in force were made with. A lost file of ours loses none of them while the machine runs.
    pub(super) fn in_force(state: &StateFile, last: Option<&Sighting>) -> Vec<String> {
        match last {
            Some(last) => last.names.clone(),
            None => TrustedNames::read(state).rules.into_keys().collect(),
        }
    }

    /// Notes answers. Returns what is known now, and those of the names in force whose addresses are others than the rules
    /// have.
    pub(super) fn note(
        state: &StateFile,
        in_force: &[String],
        answers: BTreeMap<String, Found>,
        now: i64,
    ) -> (TrustedNames, Vec<String>) {
        let before = TrustedNames::read(state);
        if in_force.is_empty() {
            return (before, Vec::new());
        }
        let mut known = before.clone();
        known.hear(answers, now);
        if !known.says_the_same(&before) {
            // They are in use all the same, and the next healing asks again.
            let _unwritten = known.write(state);
        }
        let moved = in_force.iter().filter(|name| {
            let answer = known.hosts.get(*name);
            answer.is_some_and(|answer| known.rules.get(*name) != Some(&answer.addresses))
        });
        let moved = moved.cloned().collect();
        (known, moved)
    }

    /// Notes that the rules of a policy have the addresses that are known. Returns why it could not be noted, a sentence.
    pub(super) fn note_applied(
        mut self,
        state: &StateFile,
        policy: &Policy,
        now: i64,
    ) -> Result<(), String> {
        let addresses = |name: &str| {
            let answer = self.hosts.get(name);
            answer.map_or(BTreeSet::new(), |answer| answer.addresses.clone())
        };
        let names = policy.trusted_names();
        let rules: BTreeMap<_, _> = names
            .map(|name| (name.to_string(), addresses(name)))
            .collect();
        self.rules = rules;
        let (rules, hosts) = (&self.rules, &mut self.hosts);
        hosts.retain(|name, answer| rules.contains_key(name) || now - answer.asked < MEMORY);
        match self.hosts.is_empty() {
            true => {
                state.remove(&file());
                Ok(())
            }
            false => self.write(state),
        }
    }

    /// Forgets which addresses are in force, since no rules are.
    pub(super) fn note_removed(state: &StateFile) {
        state.remove(&file());
    }

    /// The policy with the last known addresses in the place of the names.
    pub(super) fn resolved<'p>(&self, policy: Cow<'p, Policy>) -> Cow<'p, Policy> {
        with_addresses(policy, |name| {
            self.hosts.get(name).map(|answer| &answer.addresses)
        })
    }

    /// The policy with the addresses that the rules have; those that are known where it is another policy.
    pub(super) fn in_rules<'p>(&self, policy: Cow<'p, Policy>) -> Cow<'p, Policy> {
        with_addresses(policy, |name| self.found_in_rules(name))
    }

    /// The addresses that the rules have for each name that a door trusts.
    pub(super) fn addresses_in_rules(&self, door: &Door) -> BTreeMap<String, Vec<String>> {
        let names = door.trusted_names.iter();
        let shown = names.map(|name| {
            let addresses = self.found_in_rules(name).into_iter().flatten();
            (name.clone(), addresses.map(IpAddr::to_string).collect())
        });
        shown.collect()
    }

    fn found_in_rules(&self, name: &str) -> Option<&BTreeSet<IpAddr>> {
        let known = self.hosts.get(name).map(|answer| &answer.addresses);
        self.rules.get(name).or(known)
    }

    /// The names of a policy that cannot be resolved, a sentence each.
    pub fn failures(&self, policy: &Policy) -> Vec<String> {
        let names: BTreeSet<&str> = policy.trusted_names().collect();
        let failures = names.into_iter().filter_map(|name| {
            let Some(answer) = self.hosts.get(name) else {
                return Some(format!(
                    "{name} has no known address: nobody is trusted by that name (`toctoc heal` asks again)"
                ));
            };
            let Silence { since, why } = answer.failure.as_ref()?;
            let since = jiff::Timestamp::from_second(*since).ok()?;
            let addresses: Vec<String> = answer.addresses.iter().map(IpAddr::to_string).collect();
            let rest = match addresses.is_empty() {
                true => "nobody is trusted by that name".to_string(),
                false => format!(
                    "its last known addresses stay in use: {}",
                    addresses.join(" ")
                ),
            };
            Some(format!(
                "{name} cannot be resolved since {since} ({why}): {rest}"
            ))
        });
        failures.collect()
    }

    fn hear(&mut self, answers: BTreeMap<String, Found>, now: i64) {
        for (name, found) in answers {
            let answer = self.hosts.entry(name).or_default();
            answer.asked = now;
            match found {
                Ok(addresses) => {
                    answer.addresses = addresses;
                    answer.failure = None;
                }
                Err(why) => {
                    let since = answer.failure.as_ref().map_or(now, |failure| failure.since);
                    answer.failure = Some(Silence { since, why });
                }
            }
        }
    }

    /// The same answers, whenever they were given: nothing is written every half minute.
    fn says_the_same(&self, other: &TrustedNames) -> bool {
        let alike = |(one, other): ((&String, &Answer), (&String, &Answer))| {
            let (a, b) = (one.1, other.1);
            one.0 == other.0 && a.addresses == b.addresses && a.failure == b.failure
        };
        self.hosts.len() == other.hosts.len() && self.hosts.iter().zip(&other.hosts).all(alike)
    }

    fn write(&self, state: &StateFile) -> Result<(), String> {
        let text = serde_json::to_string(self)
            .map_err(|error| format!("{} cannot be written: {error}", state.shown(&file())))?;
        state.put(&file(), &text)
    }
}

fn with_addresses<'p, 'a>(
    policy: Cow<'p, Policy>,
    addresses: impl Fn(&str) -> Option<&'a BTreeSet<IpAddr>>,
) -> Cow<'p, Policy> {
    if policy.trusted_names().next().is_none() {
        return policy;
    }
    let mut policy = policy.into_owned();
    for door in &mut policy.doors {
        let names = door.trusted_names.iter();
        let addresses = names.filter_map(|name| addresses(name)).flatten();
        let networks = addresses.map(|&address| IpNet::from(address));
        door.trust.extend(networks);
        door.trust = IpNet::aggregate(&door.trust);
    }
    Cow::Owned(policy)
}

/// Each network namespace has a firewall of its own.
fn file() -> String {
    super::record::file().replace("applied", "names")
}

/// The addresses of a name, or why there are none: a sentence.
pub(super) type Found = Result<BTreeSet<IpAddr>, String>;

/// Asks the system's resolver, for all names at the same time.
pub(super) fn resolve(names: Vec<String>) -> BTreeMap<String, Found> {
    let (sender, answers) = mpsc::channel();
    let count = names.len();
    for name in names.iter().cloned() {
        let sender = sender.clone();
        // One that hangs is left behind: this process ends soon.
        thread::spawn(move || {
            let found =
                lookup(&name).map_err(|error| crate::errno::without_numbers(&error.to_string()));
            let found = found.and_then(|found| of_a_host(found.iter().map(|found| found.ip())));
            let _nobody_waits = sender.send((name, found));
        });
    }
    let end = Instant::now() + PATIENCE;
    let mut found = BTreeMap::new();
    while found.len() < count {
        match answers.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok((name, answer)) => found.insert(name, answer),
            Err(_) => break,
        };
    }
    for name in names {
        let silence = || Err("nobody has answered in time".to_string());
        found.entry(name).or_insert_with(silence);
    }
    found
}

/// The addresses, if each may be that of one host elsewhere.
fn of_a_host(addresses: impl Iterator<Item = IpAddr>) -> Found {
    let addresses: BTreeSet<IpAddr> = addresses.map(|address| address.to_canonical()).collect();
    if let Some(odd) = addresses.iter().find(|address| is_odd(**address)) {
        return Err(format!(
            "its address {odd} is that of no single host elsewhere"
        ));
    }
    match addresses.len() {
        0 => Err("it has no address".to_string()),
        1..=MOST => Ok(addresses),
        many => Err(format!("it has {many} addresses, more than any host")),
    }
}

fn is_odd(address: IpAddr) -> bool {
    let special = address.is_unspecified() || address.is_loopback() || address.is_multicast();
    special
        || match address {
            IpAddr::V4(v4) => v4.octets()[0] == 0 || v4.is_broadcast() || v4.is_link_local(),
            IpAddr::V6(v6) => v6.is_unicast_link_local(),
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(addresses: &[&str]) -> Found {
        of_a_host(addresses.iter().map(|address| address.parse().unwrap()))
    }

    #[test]
    fn an_address_of_no_single_host_is_refused() {
        let fine = found(&["192.0.2.7", "2001:db8::7", "::ffff:192.0.2.8"]).unwrap();
        let shown: Vec<String> = fine.iter().map(IpAddr::to_string).collect();
        assert_eq!(shown, ["192.0.2.7", "192.0.2.8", "2001:db8::7"]);
        for odd in [
            "0.0.0.0",
            "0.1.2.3",
            "127.0.0.1",
            "127.1.2.3",
            "224.0.0.1",
            "255.255.255.255",
            "169.254.1.1",
            "::",
            "::1",
            "ff02::1",
            "fe80::7",
            "::ffff:127.0.0.1",
        ] {
            assert!(found(&["192.0.2.7", odd]).is_err(), "{odd}");
        }
        assert!(found(&[]).is_err());
        let many: Vec<String> = (0..65).map(|n| format!("192.0.2.{n}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(found(&many).is_err() && found(&many[..64]).is_ok());
    }

    #[test]
    fn the_last_known_addresses_stay_while_nobody_answers() {
        let text = "[door.a]\nports = [22]\ntrust = [\"192.0.2.0/24\", \"Home.example.org\"]\n";
        let policy = crate::policy::read("p", text).unwrap();
        let mut known = TrustedNames::default();
        let trust = |known: &TrustedNames| {
            let resolved = known.resolved(Cow::Borrowed(&policy));
            let trust = resolved.doors[0].trust.iter();
            trust.map(IpNet::to_string).collect::<Vec<_>>()
        };
        let said = |known: &TrustedNames| known.failures(&policy).join("");
        let hear = |known: &mut TrustedNames, now, answer| {
            let name = "home.example.org".to_string();
            known.hear(BTreeMap::from([(name, answer)]), now);
        };
        assert!(said(&known).contains("has no known address"));
        hear(&mut known, 100, Err("no answer".into()));
        assert_eq!(trust(&known), ["192.0.2.0/24"]);
        assert!(said(&known).ends_with("nobody is trusted by that name"));
        hear(&mut known, 200, found(&["198.51.100.7"]));
        assert_eq!(trust(&known), ["192.0.2.0/24", "198.51.100.7/32"]);
        assert_eq!(said(&known), "");
        // Silence, twice, and an answer that makes no sense: since the first.
        for (now, why) in [(300, found(&[])), (400, found(&["0.0.0.0"]))] {
            hear(&mut known, now, why);
            assert_eq!(trust(&known), ["192.0.2.0/24", "198.51.100.7/32"]);
            let said = said(&known);
            assert!(said.contains("since 1970-01-01T00:05:00Z"), "{said}");
            assert!(said.ends_with("stay in use: 198.51.100.7"), "{said}");
        }
        hear(&mut known, 600, found(&["198.51.100.8", "2001:db8::8"]));
        assert_eq!(
            trust(&known),
            ["192.0.2.0/24", "198.51.100.8/32", "2001:db8::8/128"]
        );
        assert_eq!(said(&known), "");
    }
    /// Answers to a healing that began before another policy was applied.
    #[test]
    fn answers_that_come_late_change_nothing_of_what_the_rules_have() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateFile::within(directory.path());
        let answer = |name: &str, address| BTreeMap::from([(name.to_string(), found(&[address]))]);
        let text = "[door.a]\nports = [22]\ntrust = [\"work.example.org\"]\n";
        let policy = crate::policy::read("p", text).unwrap();
        let mut known = TrustedNames::default();
        known.hear(answer("work.example.org", "198.51.100.8"), 100);
        known.note_applied(&state, &policy, 100).unwrap();
        let names = ["work.example.org".to_string()];
        let late = answer("home.example.org", "198.51.100.7");
        let (_, moved) = TrustedNames::note(&state, &names, late, 101);
        assert_eq!(moved, [""; 0]);
        let known = TrustedNames::read(&state);
        let trust = known.in_rules(Cow::Borrowed(&policy)).doors[0]
            .trust
            .clone();
        assert_eq!(trust, ["198.51.100.8/32".parse().unwrap()]);
        // An address that is not in the rules yet is not said to be.
        let new = answer("work.example.org", "198.51.100.9");
        let (_, moved) = TrustedNames::note(&state, &names, new, 102);
        assert_eq!(moved, names);
        let trust = TrustedNames::read(&state)
            .in_rules(Cow::Borrowed(&policy))
            .doors[0]
            .trust
            .clone();
        assert_eq!(trust, ["198.51.100.8/32".parse().unwrap()]);
    }
}
