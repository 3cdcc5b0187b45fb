//! Other ways to write the same ruleset: what each would save, or cost.
//!
//! Each is the script that toctoc renders with a few lines changed; where the text to be changed is not
//! there any more, measuring stops with an error.

use std::io;

use crate::cost::{Contestant, KINDS, take_turns};
use crate::figures::Figures;
use crate::place::Place;
use crate::policies::{policy, sequences};

/// What is put where, all times that it occurs.
type Change = (&'static str, &'static str);

struct Variant {
    name: &'static str,
    changes: &'static [Change],
}

const TO_JUDGE: &str = "\t\ttcp flags & (fin | syn | rst | ack) == syn iifname != \"lo\" fib daddr type local goto judge\n";
const GLANCE: &str = "\t\ttcp flags & (fin | syn | rst | ack) == syn iifname != \"lo\" meta priority 0:0 goto glance\n\t\ttcp flags & (fin | syn | rst | ack) == syn iifname != \"lo\" fib daddr type local goto judge\n";
const JUDGE: &str = "\tchain judge {\n";
const GLANCE_FIRSTS: &str = "\tset heard {\n\t\ttype inet_service\n\t\telements = { HEARD }\n\t}\n\tchain glance {\n\t\tth dport @heard fib daddr type local goto judge\n\t\tmeta priority set ip saddr map @progress4\n\t\tmeta priority set ip6 saddr map @progress6\n\t\tmeta priority 0:0 accept\n\t\tmeta priority set 0:0\n\t\tfib daddr type local goto judge\n\t}\n\tchain judge {\n";
const GLANCE_LAST: &str = "\tset heard {\n\t\ttype inet_service\n\t\telements = { HEARD }\n\t}\n\tchain glance {\n\t\tmeta priority set ip saddr map @progress4\n\t\tmeta priority set ip6 saddr map @progress6\n\t\tmeta priority 0:0 th dport != @heard accept\n\t\tmeta priority set 0:0\n\t\tfib daddr type local goto judge\n\t}\n\tchain judge {\n";
const GLANCE_SIZED: &str = "\tset heard {\n\t\ttype inet_service\n\t\tsize 65535\n\t\telements = { HEARD }\n\t}\n\tchain glance {\n\t\tth dport @heard fib daddr type local goto judge\n\t\tmeta priority set ip saddr map @progress4\n\t\tmeta priority set ip6 saddr map @progress6\n\t\tmeta priority 0:0 accept\n\t\tmeta priority set 0:0\n\t\tfib daddr type local goto judge\n\t}\n\tchain judge {\n";

const VARIANTS: [Variant; 5] = [
    Variant {
        name: "as it is",
        changes: &[],
    },
    Variant {
        name: "no fib",
        changes: &[(
            TO_JUDGE,
            "\t\ttcp flags & (fin | syn | rst | ack) == syn iifname != \"lo\" goto judge\n",
        )],
    },
    Variant {
        name: "glance",
        changes: &[(TO_JUDGE, GLANCE), (JUDGE, GLANCE_FIRSTS)],
    },
    Variant {
        name: "glance last",
        changes: &[(TO_JUDGE, GLANCE), (JUDGE, GLANCE_LAST)],
    },
    Variant {
        name: "glance sized",
        changes: &[(TO_JUDGE, GLANCE), (JUDGE, GLANCE_SIZED)],
    },
];

pub fn measure(figures: &mut Figures) -> io::Result<()> {
    let mut contestants = vec![Contestant::nothing()?];
    for keys in [1, 10_000] {
        let place = Place::new("legacy")?;
        let file = place.write("policy.toml", &policy("", &sequences(keys)))?;
        let script = place.on_server(&["toctoc", "render", &file.display().to_string()])?;
        for variant in &VARIANTS {
            let mut script = script.clone();
            for (before, after) in variant.changes {
                if !script.contains(before) {
                    return Err(io::Error::other(format!("{}: no `{before}`", variant.name)));
                }
                script = script.replace(before, after);
            }
            let mut heard: Vec<String> = sequences(keys)
                .iter()
                .map(|one| one[0].to_string())
                .collect();
            heard.push("22".to_string());
            let script = script.replace("HEARD", &heard.join(", "));
            let place = Place::new("legacy")?;
            place.feed(&["nft", "-f", "-"], &script)?;
            contestants.push(Contestant::new(variant.name, keys, place)?);
        }
    }
    take_turns("variants", &contestants, &KINDS, figures)
}
