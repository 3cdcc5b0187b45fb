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
use crate::lookup::lookup;
use crate::policy::Policy;

/// The time that all names of a policy have together.
const PATIENCE: Duration = Duration::from_secs(5);

/// More addresses are no host's.
const MOST: usize = 64;

/// The names of the policy that was applied last.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrustedNames {
    hosts: BTreeMap<String, Answer>,
    /// `true` if the rules have these addresses.
    applied: bool,
}

/// The last answer for a name.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
struct Answer {
    /// The last known addresses, in their order.
    addresses: BTreeSet<IpAddr>,
    /// Set while the name cannot be resolved.
    failure: Option<Silence>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Silence {
    /// In seconds since 1970.
    since: i64,
    /// A sentence.
    why: String,
}

impl TrustedNames {
    /// Reads them. What cannot be read is not known: nobody is trusted by a name then.
    pub fn read(state: &StateFile) -> TrustedNames {
        let text = state.text(&file()).ok().flatten();
        let read = text.and_then(|text| serde_json::from_str(&text).ok());
        read.unwrap_or_default()
    }

    /// Asks for all names of a policy that is being applied.
    pub(super) fn ask_for(state: &StateFile, policy: &Policy, now: i64) {
        let names: BTreeSet<&str> = policy.trusted_names().collect();
        if names.is_empty() {
            return state.remove(&file());
        }
        let mut known = TrustedNames::read(state);
        known.hosts.retain(|name, _| names.contains(name.as_str()));
        for name in names {
            known.hosts.entry(name.to_string()).or_default();
        }
        known.ask(now, resolve);
        known.applied = false;
        known.write(state);
    }

    /// Asks again. Returns the names whose addresses are others than the rules have.
    pub(super) fn ask_again(state: &StateFile, now: i64) -> Vec<String> {
        let before = TrustedNames::read(state);
        if before.hosts.is_empty() {
            return Vec::new();
        }
        let mut known = before.clone();
        known.ask(now, resolve);
        let moved = |(name, answer): (&String, &Answer)| {
            let same = before.hosts.get(name).map(|old| &old.addresses) == Some(&answer.addresses);
            (!same || !before.applied).then(|| name.clone())
        };
        let moved: Vec<String> = known.hosts.iter().filter_map(moved).collect();
        known.applied &= moved.is_empty();
        if known != before {
            known.write(state);
        }
        moved
    }

    /// Notes that the rules have these addresses.
    pub(super) fn note_applied(state: &StateFile) {
        let mut known = TrustedNames::read(state);
        if !known.hosts.is_empty() && !known.applied {
            known.applied = true;
            known.write(state);
        }
    }

    /// The policy with the addresses in the place of the names.
    pub(super) fn resolved<'p>(&self, policy: Cow<'p, Policy>) -> Cow<'p, Policy> {
        if policy.trusted_names().next().is_none() {
            return policy;
        }
        let mut policy = policy.into_owned();
        for door in &mut policy.doors {
            let answers = door
                .trusted_names
                .iter()
                .filter_map(|name| self.hosts.get(name));
            let addresses = answers.flat_map(|answer| &answer.addresses);
            door.trust
                .extend(addresses.map(|&address| IpNet::from(address)));
            door.trust = IpNet::aggregate(&door.trust);
        }
        Cow::Owned(policy)
    }

    /// The names of a policy that cannot be resolved, a sentence each.
    pub fn failures(&self, policy: &Policy) -> Vec<String> {
        let names: BTreeSet<&str> = policy.trusted_names().collect();
        let failures = names.into_iter().filter_map(|name| {
            let answer = self.hosts.get(name)?;
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

    fn ask(&mut self, now: i64, resolve: impl Fn(Vec<String>) -> BTreeMap<String, Found>) {
        let mut found = resolve(self.hosts.keys().cloned().collect());
        for (name, answer) in &mut self.hosts {
            match found
                .remove(name)
                .unwrap_or_else(|| Err("nobody has answered in time".to_string()))
            {
                Ok(addresses) => {
                    *answer = Answer {
                        addresses,
                        failure: None,
                    };
                }
                Err(why) => {
                    let since = answer.failure.as_ref().map_or(now, |failure| failure.since);
                    answer.failure = Some(Silence { since, why });
                }
            }
        }
    }

    /// Writes them. If that fails, the next healing asks again.
    fn write(&self, state: &StateFile) {
        if let Ok(text) = serde_json::to_string(self) {
            let _asked_again = state.put(&file(), &text);
        }
    }
}

/// Each network namespace has a firewall of its own.
fn file() -> String {
    super::record::file().replace("applied", "names")
}

/// The addresses of a name, or why there are none.
type Found = Result<BTreeSet<IpAddr>, String>;

/// Asks the system's resolver, for all names at the same time.
fn resolve(names: Vec<String>) -> BTreeMap<String, Found> {
    let (sender, answers) = mpsc::channel();
    let count = names.len();
    for name in names {
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

    fn one(answer: Found) -> impl Fn(Vec<String>) -> BTreeMap<String, Found> {
        move |names| {
            names
                .into_iter()
                .map(|name| (name, answer.clone()))
                .collect()
        }
    }

    #[test]
    fn the_last_known_addresses_stay_while_nobody_answers() {
        let text = "[door.a]\nports = [22]\ntrust = [\"192.0.2.0/24\", \"Home.example.org\"]\n";
        let policy = crate::policy::read("p", text).unwrap();
        let mut known = TrustedNames::default();
        known
            .hosts
            .insert("home.example.org".to_string(), Answer::default());
        let trust = |known: &TrustedNames| {
            let resolved = known.resolved(Cow::Borrowed(&policy));
            let trust = resolved.doors[0].trust.iter();
            trust.map(IpNet::to_string).collect::<Vec<_>>()
        };
        known.ask(100, one(Err("no answer".into())));
        assert_eq!(trust(&known), ["192.0.2.0/24"]);
        assert!(known.failures(&policy)[0].ends_with("nobody is trusted by that name"));
        known.ask(200, one(found(&["198.51.100.7"])));
        assert_eq!(trust(&known), ["192.0.2.0/24", "198.51.100.7/32"]);
        assert!(known.failures(&policy).is_empty());
        // Silence, twice, and an answer that makes no sense: since the first.
        for (now, why) in [(300, found(&[])), (400, found(&["0.0.0.0"]))] {
            known.ask(now, one(why));
            assert_eq!(trust(&known), ["192.0.2.0/24", "198.51.100.7/32"]);
            let said = known.failures(&policy).join("");
            assert!(said.contains("since 1970-01-01T00:05:00Z"), "{said}");
            assert!(said.ends_with("stay in use: 198.51.100.7"), "{said}");
        }
        known.ask(500, |_| BTreeMap::new());
        assert!(known.failures(&policy)[0].contains("nobody has answered in time"));
        known.ask(600, one(found(&["198.51.100.8", "2001:db8::8"])));
        assert_eq!(
            trust(&known),
            ["192.0.2.0/24", "198.51.100.8/32", "2001:db8::8/128"]
        );
        assert!(known.failures(&policy).is_empty());
    }
}
