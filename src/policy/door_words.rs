//! A door in words.

use std::fmt;

use super::{Door, Extension, Reach, Target, show};
use crate::knock::{PortRange, display_source};

impl Door {
    /// The ports as the policy writes them: "22/tcp", "8000-8010/tcp", "all".
    pub fn ports_shown(&self) -> Vec<String> {
        match self.reach {
            Reach::Ports => self.ports.iter().map(PortRange::to_string).collect(),
            Reach::EveryPort => vec!["all".to_string()],
        }
    }

    /// The ports, and the hosts if they are not this one: "22/tcp", "at", "192.0.2.50"; "2222/tcp", "to", "192.0.2.50:22";
    /// "every port".
    pub fn words(&self) -> Vec<String> {
        let ports = match self.reach {
            Reach::Ports => self.ports_shown(),
            Reach::EveryPort => vec!["every port".to_string()],
        };
        let hosts = self.behind().map(|behind| {
            let at = std::iter::once("at".to_string());
            at.chain(behind.shown())
        });
        let forward = self.forward.as_ref().map(|forward| {
            let targets = forward.to.iter().map(Target::to_string);
            std::iter::once("to".to_string()).chain(targets)
        });
        let elsewhere = hosts.into_iter().flatten();
        let all = ports.into_iter().chain(elsewhere);
        all.chain(forward.into_iter().flatten()).collect()
    }

    /// The sources that need not knock: networks, then the names of hosts.
    pub fn trusted(&self) -> Vec<String> {
        let networks = self.trust.iter().map(display_source);
        networks.chain(self.trusted_names.iter().cloned()).collect()
    }
}

/// "each new connection extends it to 10m from then, 8h in all at most"
impl fmt::Display for Extension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (extend, at_most) = (show(self.extend), show(self.at_most));
        write!(
            f,
            "each new connection extends it to {extend} from then, {at_most} in all at most"
        )
    }
}

/// "a", "a and b", "a, b and c"
pub fn and(names: &[String]) -> String {
    match names {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}
