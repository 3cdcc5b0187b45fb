//! Interfaces that the policy names: renamed, missing, parts of a bridge, known by another name. `status` never calls a
//! door closed by which a stranger enters.

use toctoc::client::Door;
use toctoc::lab::{CLIENT, STRANGER};

use crate::world::{SEQUENCE, World, YVES};

fn on(interfaces: &str) -> String {
    format!("interfaces = [{interfaces}]\n{YVES}")
}

fn rename(world: &World, from: &str, to: &str) {
    let server = &world.lab.server;
    server.ip(&format!("link set {from} down")).unwrap();
    server.ip(&format!("link set {from} name {to}")).unwrap();
    server.ip(&format!("link set {to} up")).unwrap();
}

fn strangers_get(world: &World, door: Door) {
    world.until("strangers", || world.connect(STRANGER[0], 22) == door);
}

/// The output of `status`. It must end so.
fn status(world: &World, code: i32) -> String {
    let output = world.toctoc(&["status"]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(code), "{said}");
    said
}

fn says_open(world: &World, why: &str) {
    let said = status(world, 1);
    assert!(said.contains("OPEN TO EVERYONE"), "{said}");
    assert!(!said.contains("closed to all"), "{said}");
    assert!(said.contains(why), "{said}");
    let status = world.status();
    assert_eq!(status["doors"][0]["guarded_by"], serde_json::Value::Null);
    assert_ne!(status["gaps"].as_array().unwrap().len(), 0);
}

fn a_door_on_a_renamed_interface_is_not_called_closed() {
    let world = World::with(&on("\"eth0\""));
    world.listen(22);
    assert!(status(&world, 0).contains("closed to all on eth0"));
    rename(&world, "eth0", "wan0");
    strangers_get(&world, Door::Open);
    says_open(&world, "eth0 is called wan0 now");
    rename(&world, "wan0", "eth0");
    strangers_get(&world, Door::Silent);
    status(&world, 0);
    world.lab.server.ip("link set eth0 down").unwrap();
    assert!(status(&world, 0).contains("closed to all on eth0"));
}

#[test]
fn a_renamed_interface_among_others_is_named() {
    let world = World::bare();
    let server = &world.lab.server;
    server
        .ip("link add eth1 type veth peer name other")
        .unwrap();
    server.ip("link set eth1 up").unwrap();
    world.apply(&on("\"eth0\", \"eth1\""));
    assert!(status(&world, 0).contains("closed to all on eth0 and eth1"));
    rename(&world, "eth1", "lan1");
    let said = status(&world, 1);
    for part in [
        "closed to all on eth0, OPEN TO EVERYONE on lan1",
        "STRANGERS ENTER: eth1 is called lan1 now",
    ] {
        assert!(said.contains(part), "{said}");
    }
    // That is so after another apply, which says it too.
    assert_eq!(world.toctoc(&["apply"]).status.code(), Some(1));
    status(&world, 1);
    // What is not guarded by choice is told, and no fault.
    world.apply(&on("\"eth0\""));
    assert!(status(&world, 0).contains("guarded on eth0 only, not on lan1"));
}

fn a_door_on_a_part_of_a_bridge_is_not_called_closed() {
    let world = World::with(&on("\"eth0\""));
    world.listen(22);
    let server = &world.lab.server;
    for command in [
        "link add br0 type bridge",
        "link set br0 up",
        "addr flush dev eth0",
        "link set eth0 master br0",
        "addr add 192.0.2.1/24 dev br0",
    ] {
        server.ip(command).unwrap();
    }
    strangers_get(&world, Door::Open);
    says_open(&world, "eth0 is a part of the bridge br0");
    let refused = world.toctoc(&["apply"]);
    assert_eq!(refused.status.code(), Some(1));
    world.apply(&on("\"br0\""));
    strangers_get(&world, Door::Silent);
    assert!(status(&world, 0).contains("closed to all on br0"));
    world.knock(CLIENT[0], &SEQUENCE);
    assert_eq!(world.connect(CLIENT[0], 22), Door::Open);
}

/// A macvlan or macvtap that passes all packets through takes those of the interface below, as a bridge does.
fn a_door_below_a_macvlan_that_takes_all_is_not_called_closed() {
    let world = World::with(&on("\"eth0\""));
    world.listen(22);
    let server = &world.lab.server;
    for command in [
        "link add link eth0 name mv0 type macvlan mode bridge",
        "link set mv0 up",
    ] {
        server.ip(command).unwrap();
    }
    // One with an address of its own takes no packet from eth0.
    strangers_get(&world, Door::Silent);
    assert!(status(&world, 0).contains("not on mv0"));
    for command in [
        "link del mv0",
        "link add link eth0 name mv0 type macvlan mode passthru",
        "link set mv0 up",
        "addr flush dev eth0",
        "addr add 192.0.2.1/24 dev mv0",
    ] {
        server.ip(command).unwrap();
    }
    strangers_get(&world, Door::Open);
    says_open(&world, "eth0 is a part of the macvlan mv0");
    assert_eq!(world.toctoc(&["apply"]).status.code(), Some(1));
    world.apply(&on("\"mv0\""));
    strangers_get(&world, Door::Silent);
    assert!(status(&world, 0).contains("closed to all on mv0"));
}

/// An apply by hand guards something, or changes nothing. A start of the machine goes before the interfaces.
fn where_no_interface_is_there_apply_refuses() {
    let world = World::with(YVES);
    world.listen(22);
    let before = world.all_rules();
    for text in [
        on("\"eth8\", \"eth9\""),
        on("\"eth8\"") + "[firewall]\ndefault = \"drop\"\n",
    ] {
        std::fs::write(world.path(), text).unwrap();
        for more in [
            &["apply"][..],
            &["apply", "--confirm", "60s"],
            &["apply", "--dry-run"],
        ] {
            let output = world.toctoc(more);
            let said = [&output.stderr[..], &output.stdout].concat();
            let said = String::from_utf8(said).unwrap();
            assert_eq!(output.status.code(), Some(1), "{said}");
            let would = said.starts_with("toctoc: apply would refuse this: ");
            assert_eq!(would, more.contains(&"--dry-run"), "{said}");
            for part in ["no interface eth8", "no door would be guarded", "changed"] {
                assert!(said.contains(part), "{said}");
            }
            assert_eq!(world.all_rules(), before);
        }
        let output = world.toctoc(&["check"]);
        assert!(
            String::from_utf8(output.stderr)
                .unwrap()
                .contains("no interface eth8")
        );
    }
    strangers_get(&world, Door::Silent);
    std::fs::write(world.path(), on("\"eth8\"")).unwrap();
    assert_eq!(world.toctoc(&["check"]).status.code(), Some(1));
    world.yes(&["remove"]);
    world.yes(&["apply", "--boot"]);
    strangers_get(&world, Door::Open);
    says_open(&world, "these are up and not guarded: eth0");
    world.yes(&["apply", "--anyway"]);
    says_open(&world, "these are up and not guarded: eth0");
    rename(&world, "eth0", "eth8");
    strangers_get(&world, Door::Silent);
    status(&world, 0);
    world.yes(&["apply"]);
}

/// `enp2s0` is another name of eth0, whatever that is called.
fn another_name_of_an_interface_guards_it() {
    let world = World::bare();
    world.listen(22);
    let server = &world.lab.server;
    server
        .ip("link property add dev eth0 altname enp2s0")
        .unwrap();
    world.apply(&on("\"enp2s0\""));
    strangers_get(&world, Door::Silent);
    assert!(status(&world, 0).contains("closed to all on eth0"));
    let checked = String::from_utf8(world.toctoc(&["check"]).stderr).unwrap();
    assert!(!checked.contains("not guarded"), "{checked}");
    world.knock(CLIENT[0], &SEQUENCE);
    assert_eq!(world.connect(CLIENT[0], 22), Door::Open);
    rename(&world, "eth0", "wan0");
    strangers_get(&world, Door::Open);
    let said = status(&world, 1);
    assert!(!said.contains("closed to all"), "{said}");
    heals(&world);
    assert!(status(&world, 0).contains(" on wan0") || !world.nobody_is_in());
    server
        .ip("link property del dev wan0 altname enp2s0")
        .unwrap();
    // What had the name when rules were made is still guarded, and no healing changes that.
    let said = status(&world, 0);
    assert!(
        said.contains("wan0, which had that name, is guarded"),
        "{said}"
    );
    world.yes(&["heal"]);
    strangers_get(&world, Door::Silent);
    server
        .ip("link property add dev wan0 altname enp2s0")
        .unwrap();
    status(&world, 0);
}

/// At boot the other names may come after the policy.
#[test]
fn another_name_that_comes_later_is_guarded_by_the_next_healing() {
    let world = World::bare();
    world.listen(22);
    std::fs::write(world.path(), on("\"enp2s0\"")).unwrap();
    world.yes(&["apply", "--boot"]);
    strangers_get(&world, Door::Open);
    let server = &world.lab.server;
    server
        .ip("link property add dev eth0 altname enp2s0")
        .unwrap();
    status(&world, 1);
    heals(&world);
    status(&world, 0);
}

/// A healing closes the doors to strangers, and the next one finds nothing to do.
/// An interface that is called like the loopback interface is none: nftables guards it, and with iptables `status` says
/// that strangers enter.
fn an_interface_called_lo_is_not_called_closed() {
    let world = World::with(YVES);
    world.listen(22);
    let server = &world.lab.server;
    server.ip("link set lo down").unwrap();
    server.ip("link set lo name loop0").unwrap();
    server.ip("link set loop0 up").unwrap();
    strangers_get(&world, Door::Silent);
    rename(&world, "eth0", "lo");
    match world.is_nftables() {
        true => {
            strangers_get(&world, Door::Silent);
            status(&world, 0);
            world.knock(CLIENT[0], &SEQUENCE);
            world.until("in", || world.connect(CLIENT[0], 22) == Door::Open);
        }
        false => {
            strangers_get(&world, Door::Open);
            let said = status(&world, 1);
            assert!(said.contains("OPEN TO EVERYONE on lo"), "{said}");
            assert!(said.contains("is not the loopback interface"), "{said}");
        }
    }
}

/// A tun device with the type of the loopback interface, by which a SYN comes before and after its source was let in.
const TUN: &str = r#"
import fcntl, os, select, struct, subprocess, sys, time
tun = os.open('/dev/net/tun', os.O_RDWR)
fcntl.ioctl(tun, 0x400454ca, struct.pack('16sH22x', b'tun7', 0x1001))
fcntl.ioctl(tun, 0x400454cd, 772)
for words in 'address add 10.77.0.1/24 dev tun7', 'link set tun7 up':
    subprocess.check_call(['ip'] + words.split())
there, here = bytes([10, 77, 0, 2]), bytes([10, 77, 0, 1])
def sum16(data):
    total = sum(struct.unpack('!%dH' % (len(data) // 2), data))
    total = (total >> 16) + (total & 0xffff)
    return ~(total + (total >> 16)) & 0xffff
def answered(port):
    tcp = struct.pack('!HHIIBBHHH', port, 22, 7, 0, 0x50, 2, 1024, 0, 0)
    sum = sum16(there + here + struct.pack('!HH', 6, len(tcp)) + tcp)
    tcp = tcp[:16] + struct.pack('!H', sum) + tcp[18:]
    ip = struct.pack('!BBHHHBBH', 0x45, 0, 40, 1, 0, 64, 6, 0) + there + here
    os.write(tun, ip[:10] + struct.pack('!H', sum16(ip)) + ip[12:] + tcp)
    end = time.monotonic() + 1
    while (left := end - time.monotonic()) > 0:
        if not select.select([tun], [], [], left)[0]:
            break
        got = os.read(tun, 2048)
        if got[0] == 0x45 and got[9] == 6 and got[33] & 0x12 == 0x12:
            return 'answered'
    return 'silent'
first = answered(4000)
subprocess.check_call([sys.argv[1], 'open', 'ssh', '10.77.0.2'], stdout=subprocess.DEVNULL)
print(first, answered(4001))
"#;

/// The owner of a tun device can give it the type of the loopback interface. That makes it none.
fn a_device_of_the_type_of_loopback_is_guarded() {
    let world = World::with(YVES);
    world.listen(22);
    let mut python = world.command("python3");
    python.args(["-c", TUN, env!("CARGO_BIN_EXE_toctoc")]);
    let output = world
        .lab
        .server
        .inside(|| python.output().unwrap())
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(said.trim(), "silent answered", "{errors}");
}

fn heals(world: &World) {
    let healed = world.toctoc(&["heal"]);
    let said = String::from_utf8(healed.stderr).unwrap();
    assert!(said.contains("restored "), "{said}");
    strangers_get(world, Door::Silent);
    let again = world.toctoc(&["heal"]);
    assert_eq!(String::from_utf8(again.stderr).unwrap(), "");
}

on_every_firewall!(
    an_interface_called_lo_is_not_called_closed,
    a_device_of_the_type_of_loopback_is_guarded,
    a_door_on_a_renamed_interface_is_not_called_closed,
    a_door_on_a_part_of_a_bridge_is_not_called_closed,
    a_door_below_a_macvlan_that_takes_all_is_not_called_closed,
    where_no_interface_is_there_apply_refuses,
    another_name_of_an_interface_guards_it,
);
