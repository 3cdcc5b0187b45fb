//! Which openings the rules of a policy can log. Pure.

use std::collections::HashMap;

use super::Opening;
use super::line::Claim;
use crate::policy::Policy;
use crate::ruleset::log_prefix::{all, names};

/// The prefixes of the log rules of some policies, each with the door and the key that it stands for.
#[derive(Debug, Default)]
pub struct Rules {
    by_prefix: HashMap<String, (String, String)>,
    others: Others,
}

/// The treatment of a prefix that no rule has.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Others {
    #[default]
    Refuse,
    /// Believe it if it has the form of one: no policy says what its rules write.
    Believe,
}

impl Rules {
    /// The rules of these policies. A pair of names that was cut like another one keeps its cut names.
    pub fn of<'p>(policies: impl IntoIterator<Item = &'p Policy>) -> Rules {
        let mut by_prefix = HashMap::new();
        for policy in policies {
            for key in &policy.keys {
                for opening in &key.opens {
                    let door = policy.door(opening.door).name.as_str();
                    let pair = (door.to_string(), key.name.as_str().to_string());
                    for prefix in all(&pair.0, &pair.1) {
                        let cut = names(&prefix).map(|(d, k)| (d.to_string(), k.to_string()));
                        by_prefix
                            .entry(prefix)
                            .and_modify(|known| {
                                if *known != pair
                                    && let Some(cut) = cut
                                {
                                    *known = cut;
                                }
                            })
                            .or_insert_with(|| pair.clone());
                    }
                }
            }
        }
        Rules {
            by_prefix,
            others: Others::Refuse,
        }
    }

    /// Where no policy is known: every prefix that has the form of one.
    pub fn of_any_policy() -> Rules {
        Rules {
            others: Others::Believe,
            ..Rules::default()
        }
    }

    /// The opening that a line tells of; `None` if no rule writes that.
    pub fn opening(&self, claim: &Claim) -> Option<Opening> {
        let (door, key) = match (self.by_prefix.get(&claim.prefix), self.others) {
            (Some((door, key)), _) => (door.as_str(), key.as_str()),
            (None, Others::Believe) => names(&claim.prefix)?,
            (None, Others::Refuse) => return None,
        };
        Some(Opening {
            at: claim.at,
            source: claim.source,
            door: door.to_string(),
            key: key.to_string(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = r#"
        [door.ssh]
        ports = [22]
        [door.a-door-with-quite-a-long-name]
        ports = [80]
        [key.yves]
        opens = ["ssh"]
        sequence = [4431, 2387, 920]
        [key.somebody-with-a-long-name]
        opens = ["ssh", "a-door-with-quite-a-long-name"]
        sequence = [5431, 3387, 1920]
        [key.somebody-with-another-name]
        opens = ["a-door-with-quite-a-long-name"]
        sequence = [6431, 4387, 2920]
    "#;

    fn read(rules: &Rules, prefix: &str) -> Option<(String, String)> {
        let claim = Claim {
            at: None,
            prefix: prefix.to_string(),
            source: "192.0.2.7".parse().unwrap(),
        };
        let opening = rules.opening(&claim)?;
        Some((opening.door, opening.key))
    }

    #[test]
    fn doors_and_keys_are_those_of_the_policy() {
        let policy = crate::policy::read("policy.toml", POLICY).unwrap();
        let rules = Rules::of([&policy]);
        let long = "a-door-with-quite-a-long-name";
        for (prefix, door, key) in [
            ("toctoc: opened door=ssh key=yves ", "ssh", "yves"),
            ("toctoc: door=ssh key=yves ", "ssh", "yves"),
            (
                "toctoc: ssh somebody-with-a ",
                "ssh",
                "somebody-with-a-long-name",
            ),
            ("toctoc: a-door-wi somebody- ", "a-door-wi", "somebody-"),
            (
                "toctoc: opened door=a-door-with-quite-a-long-name key=somebody-with-another-name ",
                long,
                "somebody-with-another-name",
            ),
        ] {
            let wanted = Some((door.to_string(), key.to_string()));
            assert_eq!(read(&rules, prefix), wanted, "{prefix}");
        }
        for prefix in [
            // Another door, another key, a key that does not open the door.
            "toctoc: opened door=www key=yves ",
            "toctoc: opened door=ssh key=zoe ",
            "toctoc: opened door=a-door-with-quite-a-long-name key=yves ",
            "toctoc: opened door=ssh key=somebody-with-another-name ",
            // The form of a rule with other names, and other forms.
            "toctoc: ssh yves ",
            "toctoc: ssh yves",
            "toctoc: opened door=ssh key=yves",
            "toctoc: opened door=ssh key=yves  ",
            " toctoc: opened door=ssh key=yves ",
            "",
        ] {
            assert_eq!(read(&rules, prefix), None, "{prefix}");
        }
    }

    #[test]
    fn without_a_policy_the_form_is_all_there_is() {
        let rules = Rules::of_any_policy();
        let wanted = Some(("www".to_string(), "zoe".to_string()));
        assert_eq!(read(&rules, "toctoc: opened door=www key=zoe "), wanted);
        for prefix in ["x: opened door=www key=zoe ", "toctoc: a\\x1b b "] {
            assert_eq!(read(&rules, prefix), None, "{prefix}");
        }
    }
}
