//! Reaching the rules of a port by its number: a tree of ranges, so that it takes a packet about as
//! long with a thousand ports as with ten.

use crate::knock::{PortRange, Protocol};
use crate::ruleset::iptables::names::chain;
use crate::ruleset::iptables::script::Table;

/// As many rules as a chain of the tree has, at most.
const WIDTH: usize = 16;

/// A tree of chains.
pub(super) struct Tree {
    pub(super) protocol: Protocol,
    /// The beginning of its chains' names.
    pub(super) name: String,
    /// The target of every other port; back to where the packet came from if there is none.
    pub(super) other: Option<String>,
}

/// Rules that send each port to its target. `targets` are in the order of their ports, none of which is in two.
pub(super) fn dispatch(
    table: &mut Table,
    tree: &Tree,
    from: &str,
    targets: &[(PortRange, String)],
) {
    let protocol = tree.protocol;
    if targets.len() <= WIDTH {
        for (port, target) in targets {
            table.rule(
                from,
                format!("-p {protocol} --dport {} {target}", port.numbers(':')),
            );
        }
    } else {
        let parts: Vec<_> = targets.chunks(targets.len().div_ceil(WIDTH)).collect();
        let name = |part: &[(PortRange, String)]| {
            let (low, high) = (part[0].0.first().port, part[part.len() - 1].0.last().port);
            (
                format!("{low}:{high}"),
                chain(&format!("{}-{low}-{high}", tree.name)),
            )
        };
        for part in &parts {
            let (range, below) = name(part);
            table.rule(from, format!("-p {protocol} --dport {range} -g {below}"));
        }
        if let Some(other) = &tree.other {
            table.rule(from, format!("-g {other}"));
        }
        for part in parts {
            dispatch(table, tree, &name(part).1, part);
        }
        return;
    }
    if let Some(other) = &tree.other {
        table.rule(from, format!("-g {other}"));
    }
}
