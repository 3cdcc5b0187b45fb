//! Other ways to write the same ruleset: what each would save, or cost.
//!
//! Each is the script that toctoc renders with a few lines changed; where the text to be changed is not
//! there any more, measuring stops with an error.

use std::io;

use crate::cost::{Contestant, KINDS, take_turns};
use crate::figures::Figures;
use crate::place::Place;
use crate::policies::{policy, sequences};

/// A text, and the place that it is put at.
type Change = (&'static str, &'static str);

/// Rounds in which everybody has a turn.
const ROUNDS: usize = 15;

struct Variant {
    name: &'static str,
    changes: &'static [Change],
}

const GLANCE: &str =
    "\t\ttcp flags & (fin | syn | rst | ack) == syn iif != 1 meta priority 0:0 jump glance\n";
const SLOW_LOAD: &str = "\t\tmeta l4proto tcp @th,104,24 & 0x170000 == 0x020000 iif != 1 meta priority 0:0 jump glance\n";
const IN_A_HEADER: &str = " @th,104,24 & 0x170000 == 0x020000";
const HEARD: &str = "\t\tth dport @heard @th,104,24 & 0x170000 == 0x020000 jump near\n";
const NO_PROGRESS: &str =
    "\t\tmeta priority set ip6 saddr map @progress6\n\t\tmeta priority 0:0 accept\n";
const JUDGE_LOCAL: &str =
    "\t\tmeta priority set 0:0 @th,104,24 & 0x170000 == 0x020000 fib daddr type local goto judge\n";

/// The hooks of what is beside the knocks, and the same chains without a hook.
const HEADERS: Change = (
    "\tchain fragments {\n\t\ttype filter hook prerouting priority -450; policy accept;\n",
    "\tchain fragments {\n",
);
const AGAIN: Change = (
    "\tchain incoming {\n\t\ttype filter hook input priority filter; policy accept;\n",
    "\tchain incoming {\n",
);

const VARIANTS: [Variant; 12] = [
    Variant {
        name: "as it is",
        changes: &[],
    },
    // As it was before: everybody pays for `fib` and three look-ups.
    Variant {
        name: "no glance: all is judged",
        changes: &[(GLANCE, "")],
    },
    // Whether there is a header is asked of every SYN, not only where it matters.
    Variant {
        name: "flags by a slow load",
        changes: &[(GLANCE, SLOW_LOAD)],
    },
    // Later fragments are taken for SYNs where their data looks so. This one is not the same ruleset.
    Variant {
        name: "flags by fast loads alone (does less)",
        changes: &[(IN_A_HEADER, "")],
    },
    // The port is asked for after the source.
    Variant {
        name: "glance: the source first",
        changes: &[
            (HEARD, ""),
            (
                NO_PROGRESS,
                "\t\tmeta priority set ip6 saddr map @progress6\n\
                 \t\tmeta priority 0:0 th dport != @heard accept\n",
            ),
        ],
    },
    // With a size the kernel takes a table of fixed size, or a bitmap, in place of one that grows.
    Variant {
        name: "heard of a fixed size",
        changes: &[(
            "\tset heard {\n\t\ttype inet_service\n",
            "\tset heard {\n\t\ttype inet_service\n\t\tsize 65535\n",
        )],
    },
    Variant {
        name: "steps of a fixed size",
        changes: &[(
            "\t\ttype classid . inet_proto . inet_service : classid\n",
            "\t\ttype classid . inet_proto . inet_service : classid\n\t\tsize 131072\n",
        )],
    },
    // A policy for IPv4 alone could leave this out. This one is not the same ruleset.
    Variant {
        name: "IPv4 alone (does less)",
        changes: &[(NO_PROGRESS, "\t\tmeta priority 0:0 accept\n")],
    },
    // Whose packets they are is not asked at all. This one is not the same ruleset.
    Variant {
        name: "without fib (does less)",
        changes: &[
            (
                HEARD,
                "\t\tth dport @heard @th,104,24 & 0x170000 == 0x020000 goto judge\n",
            ),
            (
                JUDGE_LOCAL,
                "\t\tmeta priority set 0:0 @th,104,24 & 0x170000 == 0x020000 goto judge\n",
            ),
        ],
    },
    // A chain that no hook calls. These are not the same ruleset.
    Variant {
        name: "no look at IPv6 headers (does less)",
        changes: &[HEADERS],
    },
    Variant {
        name: "doors asked once (does less)",
        changes: &[AGAIN],
    },
    // Where packets come in, before the host's other rules: it has to name its interfaces.
    Variant {
        name: "ingress hook (does less)",
        changes: &[
            HEADERS,
            AGAIN,
            (
                "table inet toctoc\ndelete table inet toctoc\n\ntable inet toctoc {",
                "table netdev toctoc\ndelete table netdev toctoc\n\ntable netdev toctoc {",
            ),
            (
                "type filter hook prerouting priority raw; policy accept;",
                "type filter hook ingress device eth0 priority 0; policy accept;",
            ),
            ("meta nfproto ipv6", "meta protocol ip6"),
            // There is no `meta nfproto`. Without a flood nobody comes further than here.
            (
                "\t\tmeta nfproto @flood fib daddr type local goto judge\n",
                "",
            ),
            ("\t\tupdate @flood { meta nfproto }\n", ""),
            ("meta nfproto != @flood goto leave", "goto leave"),
        ],
    },
];

pub fn measure(figures: &mut Figures) -> io::Result<()> {
    let mut contestants = vec![Contestant::nothing()?];
    for keys in [1, 10_000] {
        let renderer = Place::new("legacy")?;
        let file = renderer.write("policy.toml", &policy("", &sequences(keys)))?;
        let script = renderer.on_server(&["toctoc", "render", &file.display().to_string()])?;
        for variant in &VARIANTS {
            eprintln!("variants: {}, {keys} keys", variant.name);
            let place = Place::new("legacy")?;
            place.feed(&["nft", "-f", "-"], &changed(&script, variant)?)?;
            contestants.push(Contestant::new(variant.name, keys, place)?);
        }
    }
    take_turns("variants", &contestants, &KINDS, ROUNDS, figures)
}

fn changed(script: &str, variant: &Variant) -> io::Result<String> {
    let mut script = script.to_string();
    for (before, after) in variant.changes {
        if !script.contains(before) {
            return Err(io::Error::other(format!(
                "{}: there is no `{}`",
                variant.name,
                before.trim()
            )));
        }
        script = script.replace(before, after);
    }
    Ok(script)
}
