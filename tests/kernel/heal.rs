//! `toctoc heal`, which a timer runs: whatever somebody did to our rules, what was applied is there again.
//! And nothing else: what was removed, edited or is on trial stays so.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Output;

use toctoc::client::Door;
use toctoc::firewall::run;
use toctoc::lab::{CLIENT, STRANGER};

use crate::token_world::{ALICE, SECRET, good};
use crate::world::{Kind, SEQUENCE, World, YVES};

/// Another policy for the same door.
const ZOE: &str =
    "[door.ssh]\nports = [22]\n[key.zoe]\nopens = [\"ssh\"]\nsequence = [7002, 5003, 7001]\n";

fn said(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// Heals; it must say that it did, and the doors are shut to strangers then.
fn heals(world: &World, what: &str) -> String {
    let output = world.toctoc(&["heal"]);
    let said = said(&output);
    assert_eq!(output.status.code(), Some(0), "{what}: {said}");
    assert!(said.contains("restored "), "{what}: {said}");
    assert!(
        said.contains("may have been open to strangers for "),
        "{what}: {said}"
    );
    for stranger in STRANGER {
        assert_eq!(world.connect(stranger, 22), Door::Silent, "{what}");
    }
    said
}

/// Heals where nothing is to be done: without a word.
fn is_quiet(world: &World, what: &str) {
    let output = world.toctoc(&["heal"]);
    assert_eq!(
        (said(&output).as_str(), output.status.code()),
        ("", Some(0)),
        "{what}"
    );
}

fn shell(world: &World, script: &str) {
    world.server(&["sh", "-ec", script]);
}

/// Harm that people and programs do, on each firewall.
fn harms(world: &World) -> &'static [&'static str] {
    match world.kind {
        Kind::Nftables => &[
            "nft flush ruleset",
            "nft delete table inet toctoc",
            "nft flush table inet toctoc",
            "nft flush chain inet toctoc knocks-tcp",
            "nft flush chain inet toctoc judge",
            "nft flush chain inet toctoc door-ssh",
            "nft flush chain inet toctoc glance",
            "nft insert rule inet toctoc door-ssh accept",
            "nft insert rule inet toctoc knocks-tcp accept",
            "nft flush map inet toctoc ports",
            "nft delete element inet toctoc heard '{ 22 }'",
            "nft add element inet toctoc ports '{ udp . 22 : accept }'",
            "nft flush map inet toctoc steps",
            "nft 'add table inet toctoc { flags dormant; }'",
            "h=$(nft -a list chain inet toctoc shut | sed -n 's/.* drop # handle //p'); \
             nft replace rule inet toctoc shut handle $h accept",
            "printf 'flush ruleset\ntable ip theirs {\n}\n' | nft -f -",
        ],
        _ => &[
            "for v in '' 6; do for t in raw mangle filter; do ip${v}tables -t $t -F; ip${v}tables -t $t -X; done; done",
            "iptables -t raw -F PREROUTING",
            "ip6tables -t raw -F PREROUTING",
            "iptables -t raw -F toctoc",
            "iptables -t raw -F toctoc-door-ssh",
            "ip6tables -t raw -F toctoc-door-ssh",
            "iptables -t raw -I PREROUTING -j ACCEPT",
            "for t in raw:PREROUTING mangle:INPUT; do iptables -t ${t%:*} -N theirs; \
             iptables -t ${t%:*} -A theirs -p tcp --dport 22 -j ACCEPT; \
             iptables -t ${t%:*} -I ${t#*:} -j theirs; done",
            "for t in raw:PREROUTING mangle:INPUT; do iptables -t ${t%:*} -N empty; \
             iptables -t ${t%:*} -I ${t#*:} -g empty; done",
            "printf '*raw\\nCOMMIT\\n' | iptables-restore",
            "iptables -t raw -D PREROUTING -j toctoc",
        ],
    }
}

fn what_others_do_is_undone() {
    let world = World::with(YVES);
    world.listen(22);
    is_quiet(&world, "just applied");
    for harm in harms(&world) {
        shell(&world, harm);
        heals(&world, harm);
        is_quiet(&world, harm);
        world.yes(&["status"]);
        world.knock(CLIENT[0], &SEQUENCE);
        world.until(harm, || world.connect(CLIENT[0], 22) == Door::Open);
        world.yes(&["close"]);
    }
}

/// Guests stay in when rules are healed; and elements that the kernel fills are no harm.
fn a_healing_keeps_who_is_in() {
    let world = World::with(YVES);
    world.listen(22);
    world.knock(CLIENT[0], &SEQUENCE);
    world.until("in", || world.connect(CLIENT[0], 22) == Door::Open);
    world.yes(&["open", "ssh", CLIENT[1], "--for", "1h"]);
    world.knock(STRANGER[0], &SEQUENCE[..3]);
    is_quiet(&world, "grants and progress");
    shell(
        &world,
        match world.kind {
            Kind::Nftables => "nft flush chain inet toctoc door-ssh",
            _ => "iptables -t raw -D PREROUTING -j toctoc",
        },
    );
    heals(&world, "a flushed chain");
    assert_eq!(world.holders("ssh").len(), 2);
    assert_eq!(world.connect(CLIENT[0], 22), Door::Open);
    assert_eq!(world.connect(CLIENT[1], 22), Door::Open);
}

/// The tables of other programs are none of our business.
fn what_others_do_for_themselves_heals_nothing() {
    let world = World::with(YVES);
    shell(
        &world,
        match world.kind {
            Kind::Nftables => "nft add table inet theirs; nft add chain inet theirs c",
            _ => "iptables -N theirs; iptables -A theirs -j ACCEPT; iptables -A FORWARD -j theirs",
        },
    );
    is_quiet(&world, "rules of others");
    world.yes(&["apply"]);
    is_quiet(&world, "applied again");
}

/// Nothing that was not applied comes in: no file, no edit of it, nothing that was removed.
fn only_what_was_applied_comes_back() {
    let world = World::bare();
    world.listen(22);
    fs::write(world.path(), YVES).unwrap();
    is_quiet(&world, "nobody has applied it");
    assert_eq!(world.connect(STRANGER[0], 22), Door::Open);
    world.yes(&["apply"]);
    for edited in [Some(ZOE), Some("[door.ssh]\nports = [0]\n"), None] {
        match edited {
            Some(text) => fs::write(world.path(), text).unwrap(),
            None => fs::remove_file(world.path()).unwrap(),
        }
        is_quiet(&world, "the file was edited");
        shell(&world, harms(&world)[0]);
        heals(&world, "the file was edited");
        world.knock(STRANGER[0], &[7002, 5003, 7001]);
        assert_eq!(world.connect(STRANGER[0], 22), Door::Silent);
        world.knock(CLIENT[0], &SEQUENCE);
        world.until("in", || world.connect(CLIENT[0], 22) == Door::Open);
        world.yes(&["close"]);
    }
    world.yes(&["remove"]);
    is_quiet(&world, "removed");
    assert_eq!(world.connect(STRANGER[0], 22), Door::Open);
    world.private_file("policy.toml", YVES);
    world.yes(&["apply"]);
    let backend = match world.is_nftables() {
        true => "nftables",
        false => "iptables",
    };
    world.yes(&["remove", "--backend", backend]);
    is_quiet(&world, "removed by name");
    assert_eq!(world.connect(STRANGER[0], 22), Door::Open);
}

/// A trial goes on, with its own rules, and ends as it would have.
fn a_healing_ends_no_trial() {
    let world = World::with(YVES);
    world.listen(22);
    fs::write(world.path(), ZOE).unwrap();
    world.yes(&["apply", "--confirm", "1h"]);
    is_quiet(&world, "on trial");
    shell(&world, harms(&world)[0]);
    heals(&world, "on trial");
    let status = said(&world.toctoc(&["status"]));
    assert!(status.contains("on trial: in "), "{status}");
    world.knock(CLIENT[0], &[7002, 5003, 7001]);
    world.until("in", || world.connect(CLIENT[0], 22) == Door::Open);
    world.yes(&["close"]);
    world.yes(&["rollback"]);
    is_quiet(&world, "went back");
    shell(&world, harms(&world)[0]);
    heals(&world, "after the trial");
    world.knock(CLIENT[0], &SEQUENCE);
    world.until("in", || world.connect(CLIENT[0], 22) == Door::Open);
    world.yes(&["remove"]);
    // Back to nothing: that stays too.
    world.yes(&["apply", "--confirm", "1h"]);
    world.yes(&["rollback"]);
    is_quiet(&world, "went back to nothing");
}

/// Makes the record one of an earlier start of the machine.
fn as_of_an_earlier_start(world: &World) {
    let text = fs::read_to_string(world.record()).unwrap();
    let mut record: serde_json::Value = serde_json::from_str(&text).unwrap();
    record["boot"] = "another".into();
    fs::write(world.record(), record.to_string()).unwrap();
}

/// After a start of the machine nothing is applied by a healing: that is up to the unit that applies. Rules that differ
/// then are told of once, and never called well.
fn a_healing_does_nothing_before_an_apply() {
    let world = World::with(YVES);
    world.listen(22);
    fs::remove_file(world.sighting()).unwrap();
    as_of_an_earlier_start(&world);
    is_quiet(&world, "all is as it was applied");
    fs::remove_file(world.sighting()).unwrap();
    let harm = harms(&world)[3];
    shell(&world, harm);
    let output = world.toctoc(&["heal"]);
    let said = self::said(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("nobody has applied it since"), "{said}");
    let again = world.toctoc(&["heal"]);
    assert_eq!(
        (self::said(&again).as_str(), again.status.code()),
        ("", Some(1))
    );
    shell(&world, harms(&world)[0]);
    is_quiet(&world, "nothing of ours is there");
    assert_eq!(world.connect(STRANGER[0], 22), Door::Open);
    let status = self::said(&world.toctoc(&["status"]));
    assert!(status.contains("OPEN TO EVERYONE"), "{status}");
    assert!(!status.contains("toctoc heal"), "{status}");
    world.yes(&["apply"]);
    is_quiet(&world, "applied");
    shell(&world, harm);
    heals(&world, "applied");
}

/// Neither a note that is lost nor one that is no note keeps a healing from restoring what was applied in this start.
fn a_healing_needs_no_sighting() {
    let world = World::with(YVES);
    world.listen(22);
    for spoiled in [None, Some(""), Some("{"), Some("{\"at\":1}")] {
        match spoiled {
            None => fs::remove_file(world.sighting()).unwrap(),
            Some(text) => fs::write(world.sighting(), text).unwrap(),
        }
        shell(&world, harms(&world)[0]);
        let said = heals(&world, "the sighting is spoiled");
        assert!(said.contains("some time"), "{said}");
        is_quiet(&world, "healed");
    }
    // No sighting can be written any more.
    let seen = world.sighting();
    let new = seen.with_extension("seen.new");
    fs::create_dir(&new).unwrap();
    fs::remove_file(&seen).unwrap();
    for _ in 0..2 {
        is_quiet(&world, "all is well");
        shell(&world, harms(&world)[0]);
        heals(&world, "no sighting can be written");
    }
    world.yes(&["remove"]);
    is_quiet(&world, "removed");
    assert_eq!(world.connect(STRANGER[0], 22), Door::Open);
    fs::remove_dir(&new).unwrap();
}

/// An apply or a removal that could not be noted is told of, and undone by nobody.
fn what_could_not_be_noted_is_not_undone() {
    let world = World::with(YVES);
    world.listen(22);
    let new = format!("{}.new", world.record().display());
    fs::create_dir(&new).unwrap();
    fs::write(world.path(), ZOE).unwrap();
    let output = world.toctoc(&["apply"]);
    let said = self::said(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("could not be noted"), "{said}");
    let status = world.toctoc(&["status"]);
    assert_eq!(status.status.code(), Some(1));
    let status = self::said(&status);
    assert!(
        status.contains("which policy runs is NOT KNOWN"),
        "{status}"
    );
    assert!(!status.contains("which runs;"), "{status}");
    is_quiet(&world, "all is as it was applied");
    shell(&world, harms(&world)[3]);
    let output = world.toctoc(&["heal"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(self::said(&output).contains("could not be noted"));
    let again = world.toctoc(&["heal"]);
    assert_eq!(
        (self::said(&again).as_str(), again.status.code()),
        ("", Some(1))
    );
    assert_eq!(world.toctoc(&["apply"]).status.code(), Some(1));
    world.knock(STRANGER[0], &SEQUENCE);
    assert_eq!(world.connect(STRANGER[0], 22), Door::Silent);
    world.knock(CLIENT[0], &[7002, 5003, 7001]);
    world.until("in", || world.connect(CLIENT[0], 22) == Door::Open);
    // Nor where nothing at all can be noted.
    let unseen = world.sighting().with_extension("seen.new");
    fs::create_dir(&unseen).unwrap();
    fs::write(world.path(), YVES).unwrap();
    assert_eq!(world.toctoc(&["apply"]).status.code(), Some(1));
    world.toctoc(&["heal"]);
    world.knock(CLIENT[1], &SEQUENCE);
    world.until("in", || world.connect(CLIENT[1], 22) == Door::Open);
    fs::remove_dir(&unseen).unwrap();
    fs::remove_dir(&new).unwrap();
    world.yes(&["apply"]);
    is_quiet(&world, "noted again");
    assert!(!self::said(&world.toctoc(&["status"])).contains("NOT KNOWN"));
    fs::create_dir(&new).unwrap();
    world.toctoc(&["remove"]);
    is_quiet(&world, "a removal that was not noted");
    assert_eq!(world.connect(STRANGER[0], 22), Door::Open);
}

/// Rules of which nobody knows anything are told of once, and never called well.
fn rules_without_any_note_are_told_of() {
    let world = World::with(YVES);
    world.listen(22);
    shell(&world, harms(&world)[3]);
    world.forget_what_was_applied();
    let output = world.toctoc(&["heal"]);
    let said = self::said(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("nothing is noted"), "{said}");
    let again = world.toctoc(&["heal"]);
    assert_eq!(
        (self::said(&again).as_str(), again.status.code()),
        ("", Some(1))
    );
    world.yes(&["apply"]);
    is_quiet(&world, "applied");
}

/// Where /run cannot be written to, there is no lock file either, and what was applied is restored all the same.
fn a_healing_needs_no_lock_file() {
    let world = World::with(YVES);
    world.listen(22);
    shell(&world, harms(&world)[0]);
    assert_eq!(world.connect(STRANGER[0], 22), Door::Open);
    let script = "mount --bind /run /run && mount -o remount,bind,ro /run && ! touch /run/toctoc/x && exec \"$@\"";
    let mut command = world.command("unshare");
    command.args(["--mount", "sh", "-c", script, "sh"]);
    command.args([env!("CARGO_BIN_EXE_toctoc"), "heal"]);
    let output = world.lab.server.inside(|| command.output().unwrap());
    let said = self::said(&output.unwrap());
    assert!(said.contains("restored "), "{said}");
    assert_eq!(world.connect(STRANGER[0], 22), Door::Silent);
}

/// A policy that was on trial when all was removed was not confirmed: no start of the machine applies it.
fn a_removal_does_not_confirm_a_trial() {
    let world = World::bare();
    world.listen(22);
    fs::write(world.path(), YVES).unwrap();
    world.yes(&["apply", "--confirm", "1h"]);
    world.yes(&["remove"]);
    world.toctoc(&["apply", "--boot"]);
    assert_eq!(world.connect(STRANGER[0], 22), Door::Open);
    world.yes(&["apply"]);
    world.yes(&["remove"]);
    world.yes(&["apply", "--boot"]);
    assert_eq!(world.connect(STRANGER[0], 22), Door::Silent);
}

/// A network namespace gets the number of one that is gone, and with it the files of that. It is another one all the
/// same: nothing that was applied in the old one comes into it.
fn a_namespace_inherits_nothing() {
    let world = World::with(YVES);
    world.listen(22);
    let other = World::bare();
    other.listen(22);
    let name = |world: &World| world.sighting().file_stem().unwrap().to_owned();
    fs::copy(world.sighting(), other.sighting()).unwrap();
    let own = other.state_directory();
    fs::create_dir_all(&own).unwrap();
    let own = own.join(format!("applied-{}.json", name(&other).display()));
    fs::copy(world.record(), own).unwrap();
    is_quiet(&other, "a number that was given again");
    assert_eq!(other.connect(STRANGER[0], 22), Door::Open);
    assert_eq!(world.connect(STRANGER[0], 22), Door::Silent);
}

on_every_firewall!(
    what_others_do_is_undone,
    a_healing_keeps_who_is_in,
    what_others_do_for_themselves_heals_nothing,
    only_what_was_applied_comes_back,
    a_healing_ends_no_trial,
    a_healing_does_nothing_before_an_apply,
    a_healing_needs_no_sighting,
    what_could_not_be_noted_is_not_undone,
    a_namespace_inherits_nothing,
    rules_without_any_note_are_told_of,
    a_healing_needs_no_lock_file,
    a_removal_does_not_confirm_a_trial,
);

/// Where nothing is wrong no program is started, with many keys too.
#[test]
fn a_healing_of_nothing_starts_no_program() {
    let world = World::bare();
    let mut policy = String::from(YVES);
    for i in 0..300 {
        let ports: Vec<String> = [2, 0, 3, 1, 4]
            .into_iter()
            .map(|j: u32| (10_000 + i * 7 + j * 2111).to_string())
            .collect();
        policy.push_str(&format!(
            "[key.k{i}]\nopens = [\"ssh\"]\nsequence = [{}]\n",
            ports.join(", ")
        ));
    }
    world.apply(&policy);
    let nft = world.programs().join("nft");
    fs::write(
        &nft,
        "#!/bin/sh\ntouch \"$0.started\"\nexec /usr/sbin/nft \"$@\"\n",
    )
    .unwrap();
    fs::set_permissions(&nft, PermissionsExt::from_mode(0o755)).unwrap();
    let started = world.programs().join("nft.started");
    is_quiet(&world, "many keys");
    // Somebody changes a table of his own: ours is looked at again.
    let ended = world
        .lab
        .server
        .inside(|| run(&["nft", "add", "table", "inet", "theirs"], ""));
    ended.unwrap().unwrap();
    is_quiet(&world, "many keys");
    assert!(!started.exists());
    world.nft("flush chain inet toctoc judge");
    heals(&world, "many keys");
    assert!(started.exists());
}

/// Secrets that are gone by then were noted; tokens open again.
#[test]
fn a_healing_needs_no_file() {
    let world = World::bare();
    let secret = world.private_file("alice.secret", SECRET);
    world.apply(ALICE);
    world.listen(22);
    fs::remove_file(&secret).unwrap();
    fs::remove_file(world.path()).unwrap();
    is_quiet(&world, "without files");
    shell(&world, "nft flush ruleset");
    let said = heals(&world, "without files");
    assert!(said.contains("alice.secret cannot be read"), "{said}");
    assert!(!said.contains(&SECRET[..8]), "{said}");
    world.send(CLIENT[0], &good(0).0);
    world.until("in", || world.connect(CLIENT[0], 22) == Door::Open);
    let mode = fs::metadata(world.record()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

/// A host that was stopped for a reboot stays stopped: doors are shut, and no token opens.
#[test]
fn what_was_stopped_stays_stopped() {
    let world = World::bare();
    world.private_file("alice.secret", SECRET);
    world.apply(ALICE);
    world.listen(22);
    world.yes(&["refill", "--stop"]);
    is_quiet(&world, "stopped");
    shell(&world, "nft flush ruleset");
    heals(&world, "stopped");
    world.send(CLIENT[0], &good(0).0);
    assert_eq!(world.connect(CLIENT[0], 22), Door::Silent);
    let refused = world.toctoc(&["refill"]);
    assert_eq!(refused.status.code(), Some(2), "{}", self::said(&refused));
    world.yes(&["apply"]);
    world.send(CLIENT[0], &good(1).0);
    world.until("in", || world.connect(CLIENT[0], 22) == Door::Open);
}
