//! A machine that starts, and what happens to the rules there.

use super::Machine;

/// `make install`, a policy, and the units enabled.
const SETUP: &str = r#"
make --silent install PREFIX=/usr PROGRAM="$PROGRAM"
(umask 077; printf '%s' "$POLICY" >/etc/toctoc/policy.toml)
systemctl --quiet enable toctoc.service toctoc-refill.timer toctoc-heal.timer 2>/dev/null
"#;

/// A unit that begins when the network may, in the place of systemd-networkd.service or networking.service, and
/// says what the firewall held by then; and a service that does not wait for toctoc.
const WITNESS: &str = r#"
cat >/etc/systemd/system/witness.service <<END
[Unit]
DefaultDependencies=no
Wants=network.target
After=network-pre.target
Before=network.target multi-user.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=sh -c 'nft list ruleset >/run/seen; ip link add door type veth'
[Install]
WantedBy=multi-user.target
END
systemctl --quiet enable witness.service nftables.service
"#;

/// The beginning of Debian's /etc/nftables.conf, and a table of the administrator's own.
const NFTABLES: &str = r#"
printf 'flush ruleset\ntable inet theirs {\n\tchain input {\n\t\ttype filter hook input priority 0;\n\t}\n}\n' \
    >/etc/nftables.conf
"#;

fn started() -> Machine {
    Machine::start(SETUP)
}

/// Under all the restrictions of the real units: the policy is in the kernel, a stop keeps the doors shut,
/// and nothing has failed.
#[test]
fn a_machine_starts_with_its_doors_shut() {
    let machine = started();
    machine.does("systemctl is-active toctoc.service toctoc-refill.timer toctoc-heal.timer");
    assert!(machine.knows("4431"));
    machine.does("systemctl start toctoc-refill.service");
    machine.does("systemctl reload toctoc.service");
    assert!(machine.knows("4431"));
    machine.does("systemctl stop toctoc.service");
    assert!(machine.knows("4431"));
    machine.does("systemctl start toctoc.service");
    machine.does("toctoc status");
    machine.is_well();
}

/// Where the distribution's own nftables.service flushes everything at boot, toctoc comes after it, and
/// both before the network. A reload and a restart of it bring our rules back, grants excepted.
#[test]
fn the_network_comes_when_the_doors_are_shut() {
    let machine = Machine::start(&[NFTABLES, SETUP, WITNESS].concat());
    let seen = machine.does("cat /run/seen");
    assert!(seen.contains("4431") && seen.contains("theirs"), "{seen}");
    machine.does("ip link show door");
    for verb in ["reload", "restart"] {
        machine.does("toctoc open ssh 192.0.2.7 --for 1h");
        machine.does(&format!("systemctl {verb} nftables.service"));
        machine.until(verb, || machine.run("toctoc status").status.success());
        let rules = machine.does("nft list ruleset");
        assert!(
            rules.contains("theirs") && !rules.contains("192.0.2.7"),
            "{verb}"
        );
    }
    machine.is_well();
}

/// Under all the restrictions of the real units: what somebody flushes is there again, by the timer's service and
/// by a reload, which applies no file; a grant of a saved ruleset ends. A policy file that cannot be used is no
/// success at boot, and what was applied last guards.
#[test]
fn a_machine_heals_and_falls_back() {
    let machine = started();
    // The timer comes within 35 s at most.
    let timer = machine.does("systemctl cat toctoc-heal.timer");
    assert!(timer.contains("OnUnitActiveSec=30s") && timer.contains("AccuracySec=5s"));
    machine.does("sed -i s/4431/5531/ /etc/toctoc/policy.toml");
    for unit in ["start toctoc-heal.service", "reload toctoc.service"] {
        for harm in ["nft flush ruleset", "nft flush chain inet toctoc judge"] {
            machine.does(&format!("{harm} && systemctl {unit}"));
            assert!(
                machine.knows("4431") && !machine.knows("5531"),
                "{unit}, {harm}"
            );
            let judge = machine.does("nft list chain inet toctoc judge");
            assert!(judge.contains("@ports"), "{unit}, {harm}: {judge}");
        }
    }
    machine.does("toctoc open ssh 192.0.2.7 --for 1h");
    machine.does("nft list ruleset >/run/saved && nft flush ruleset && nft -f /run/saved");
    machine.does("systemctl start toctoc-heal.service");
    assert!(!machine.does("nft list ruleset").contains("192.0.2.7"));
    // A refill by the unit and an apply by hand see the same table.
    machine.does("toctoc open ssh 192.0.2.7 --for 1h && systemctl start toctoc-refill.service");
    assert!(machine.does("nft list ruleset").contains("192.0.2.7"));
    // What is removed stays removed, and the next boot is told of.
    let said = machine.does("toctoc remove");
    assert!(said.contains("systemctl disable toctoc.service"), "{said}");
    machine.does("systemctl start toctoc-heal.service; systemctl reload toctoc.service");
    assert_eq!(machine.does("nft list tables"), "");
    machine.does("systemctl --quiet disable toctoc.service");
    machine.does("systemctl restart toctoc.service");
    assert!(!machine.does("toctoc remove").contains("next boot"));
    machine.does("systemctl restart toctoc.service");
    assert!(machine.knows("5531"));
    machine.is_well();
    for spoil in [
        "echo no >/etc/toctoc/policy.toml",
        "rm /etc/toctoc/policy.toml",
    ] {
        machine.does(spoil);
        machine.does("systemctl stop toctoc.service; nft flush ruleset");
        machine.does("! systemctl start toctoc.service");
        assert!(machine.knows("5531"), "{spoil}");
        machine.does("systemctl is-failed toctoc.service");
    }
}

/// Where systemd rules, it is systemd that ends a trial: whatever the session was, it has no part in it.
#[test]
fn systemd_ends_a_trial() {
    let machine = started();
    let timers = || machine.does("systemctl list-timers --no-pager");
    let try_other = "sed -i s/4431/5531/ /etc/toctoc/policy.toml && toctoc apply --confirm";
    machine.does(&format!("{try_other} 2s"));
    assert!(timers().contains("toctoc-rollback-"));
    assert!(machine.knows("5531") && !machine.knows("4431"));
    machine.until("it went back", || machine.knows("4431"));
    assert!(!machine.knows("5531"));
    // Nor does it hang on the record.
    machine.does(&format!(
        "{try_other} 3s && rm /var/lib/toctoc/applied*.json"
    ));
    assert!(machine.knows("5531") && !machine.knows("4431"));
    machine.until("it went back", || machine.knows("4431"));
    assert!(!machine.knows("5531"));
    // The next start is not a confirmation either, nor is a reload.
    machine.does("systemctl reload toctoc.service");
    assert!(machine.knows("4431") && !machine.knows("5531"));
    machine.does("systemctl restart toctoc.service");
    assert!(machine.knows("4431") && !machine.knows("5531"));
    machine.does(&format!("{try_other} 1h"));
    // A reload ends no trial.
    machine.does("nft flush ruleset && systemctl reload toctoc.service");
    assert!(machine.knows("5531") && !machine.knows("4431"));
    machine.does("toctoc confirm");
    assert!(!timers().contains("toctoc-rollback-"));
    machine.does("systemctl restart toctoc.service");
    assert!(machine.knows("5531") && !machine.knows("4431"));
    machine.is_well();
}
