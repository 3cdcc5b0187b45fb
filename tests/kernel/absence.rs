//! No rules of ours are in the kernel: each command says why, and names the step that helps.

use toctoc::lab::CLIENT;

use crate::world::{World, YVES};

/// After a `remove` no command speaks as if nothing had ever been applied, or as if `heal` undid it.
fn what_remove_took_out_is_remembered() {
    let world = World::with(YVES);
    let told = |arguments: &[&str]| {
        let output = world.toctoc(arguments);
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    };
    let backend = if world.is_nftables() {
        "nftables"
    } else {
        "iptables"
    };
    world.yes(&["remove", "--backend", backend]);
    let removed = "`toctoc remove` took the rules out: `toctoc apply` closes the doors again";
    for command in [
        &["open", "ssh", CLIENT[0]][..],
        &["close"],
        &["refill"],
        &["status"],
    ] {
        let said = told(command);
        assert!(said.contains(removed), "{command:?}: {said}");
        assert!(!said.contains("toctoc heal"), "{command:?}: {said}");
    }
    // The twin: what others have flushed, `heal` restores.
    world.yes(&["apply"]);
    assert!(!told(&["status"]).contains(removed));
    assert!(!told(&["open", "ssh", CLIENT[0]]).contains(removed));
}

on_every_firewall!(what_remove_took_out_is_remembered);
