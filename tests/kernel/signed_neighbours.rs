//! Others beside the program of signed keys: their filters at the same interface, and rules with the same mark.

use toctoc::client::Door;
use toctoc::lab::CLIENT;

use crate::signed_keys::{close, guarded, interface, opens, signed, warnings};
use crate::world::World;

/// A filter of another program that decides about every packet.
fn decides(world: &World, priority: &str) {
    let name = interface(world);
    let at = [
        "tc", "filter", "add", "dev", &name, "ingress", "prio", priority,
    ];
    let all = [
        "protocol", "all", "u32", "match", "u32", "0", "0", "flowid", "1:1",
    ];
    world.server(&[&at[..], &all[..]].concat());
}

#[test]
fn a_filter_of_others_before_the_program_is_named() {
    let world = guarded();
    decides(&world, "10");
    assert_eq!(warnings(&world), "[]", "behind it, it takes nothing away");
    opens(&world);
    close(&world);
    decides(&world, "1");
    world.send(CLIENT[0], &signed(CLIENT[0]));
    assert_eq!(world.connect(CLIENT[0], 22), Door::Silent);
    let said = warnings(&world);
    assert!(
        said.contains("a filter of tc (u32, priority 1) at ")
            && said.contains("before the program of signed keys"),
        "{said}"
    );
    let name = interface(&world);
    world.server(&["tc", "filter", "del", "dev", &name, "ingress", "prio", "1"]);
    assert_eq!(warnings(&world), "[]");
    opens(&world);
}

/// Its place is taken: `apply` and `status` say by what, and nothing opens.
#[test]
fn an_interface_that_refuses_the_program_is_named_with_the_reason() {
    let world = guarded();
    let name = interface(&world);
    world.server(&["tc", "filter", "del", "dev", &name, "ingress"]);
    decides(&world, "3");
    world.yes(&["heal"]);
    let said = warnings(&world);
    assert!(
        said.contains(&format!("signed keys do not open on {name} (refused: ")),
        "{said}"
    );
    world.send(CLIENT[0], &signed(CLIENT[0]));
    assert_eq!(world.connect(CLIENT[0], 22), Door::Silent);
    world.server(&["tc", "filter", "del", "dev", &name, "ingress"]);
    world.yes(&["heal"]);
    assert_eq!(warnings(&world), "[]");
    opens(&world);
}

/// Whoever uses the same mark is named, and nobody who uses another one.
#[test]
fn others_who_use_the_mark_are_named() {
    let world = guarded();
    let rules = |mark: &str| {
        world.nft(&format!(
            "table ip other {{\n chain marks {{\n type filter hook output priority 0;\n meta mark set {mark}\n }}\n}}\n"
        ));
        world.server(&["ip", "rule", "add", "fwmark", mark, "table", "100"]);
        world.server(&["ip", "-6", "rule", "add", "fwmark", mark, "table", "100"]);
        let rule = [
            "-t",
            "mangle",
            "-A",
            "OUTPUT",
            "-j",
            "MARK",
            "--set-mark",
            mark,
        ];
        world.server(&[&["iptables-nft"], &rule[..]].concat());
    };
    rules("0x74637464");
    assert_eq!(warnings(&world), "[]");
    rules("0x74637463");
    let said = warnings(&world);
    for named in [
        "table `other`, chain `marks`",
        "table `mangle`, chain `OUTPUT`",
        "a rule of routing",
    ] {
        assert!(said.contains(named), "{named}: {said}");
    }
    assert!(said.contains("choose another `signed_mark`"), "{said}");
    let checked = world.toctoc(&["check", "--json"]);
    let checked = String::from_utf8(checked.stdout).unwrap();
    assert!(
        checked.contains("table `other`, chain `marks`"),
        "{checked}"
    );
}
