//! The real firewalld, ufw, shorewall and iptables-restore beside us: whatever their reload does to our rules, a
//! healing restores them, and leaves theirs.

use toctoc::client::Door;
use toctoc::lab::{CLIENT, STRANGER};

use crate::world::{SEQUENCE, World, YVES};

/// A directory tree of its own, on which these programs may write. `$1` is the firewall, `$2` our backend.
const SCRIPT: &str = r#"
set -e
mount --make-rprivate /
mount -t tmpfs run /run
mkdir -p /run/lock /run/dbus /run/over
for tree in etc var; do
    mkdir -p /run/over/$tree /run/over/$tree.work
    mount -t overlay $tree -o lowerdir=/$tree,upperdir=/run/over/$tree,workdir=/run/over/$tree.work /$tree
done
firewall=$1 backend=$2 policy=$3 toctoc=$4 door=$5 their=
unset XTABLES_LOCKFILE
theirs() { nft list ruleset | grep -c "$mark"; }
case $firewall in
firewalld-*)
    sed -i "s/^FirewallBackend=.*/FirewallBackend=${firewall#firewalld-}/" /etc/firewalld/firewalld.conf
    dbus-daemon --system --fork --nopidfile
    firewalld --nofork --nopid >/run/firewalld.log 2>&1 & their=$!
    trap 'kill $their 2>/dev/null || true' EXIT
    for i in $(seq 100); do ! firewall-cmd --state >/dev/null 2>&1 || break; sleep 0.1; done
    firewall-cmd --permanent --remove-service=ssh
    [ $door = shut ] || firewall-cmd --add-port=22/tcp --permanent
    firewall-cmd --reload
    reloads="firewall-cmd --reload" mark=IN_public ;;
ufw)
    [ $door = shut ] || ufw allow 22/tcp
    ufw --force enable
    reloads="ufw reload" mark=ufw-user-input ;;
shorewall)
    printf 'fw firewall\nnet ipv4\n' >/etc/shorewall/zones
    printf 'net eth0\n' >/etc/shorewall/interfaces
    printf '$FW net ACCEPT\nnet all DROP\n' >/etc/shorewall/policy
    [ $door = shut ] || printf '?SECTION NEW\nACCEPT net $FW tcp 22\n' >/etc/shorewall/rules
    sed -i s/STARTUP_ENABLED=No/STARTUP_ENABLED=Yes/ /etc/shorewall/shorewall.conf
    shorewall start
    shorewall save
    reloads="shorewall reload;shorewall restart;shorewall restore" mark=net-fw ;;
restore)
    for table in raw mangle filter; do iptables -t $table -N theirs; ip6tables -t $table -N theirs; done
    iptables-save >/run/v4
    ip6tables-save >/run/v6
    reloads="iptables-restore /run/v4 && ip6tables-restore /run/v6" mark=theirs ;;
esac >&2
"$toctoc" apply --backend "$backend" "$policy" >&2
"$toctoc" status --backend "$backend" "$policy" | grep "another firewall" || echo "no other firewall"
[ $door = open ] || reloads=
IFS=';'
for reload in $reloads; do
    before=$(theirs)
    sh -c "$reload" >&2
    now=0
    "$toctoc" status --backend "$backend" "$policy" >/run/status || now=$?
    "$toctoc" heal
    again=$("$toctoc" heal 2>&1)
    [ -z "$again" ]
    "$toctoc" status --backend "$backend" "$policy" >&2
    [ "$(theirs)" -ge "$before" ]
    echo "$reload: status $now"
done
# It takes its rules along, and ours.
[ -z "$their" ] || { kill $their; wait $their || true; "$toctoc" heal; }
"#;

/// Runs a firewall with all its reloads beside each of our backends. Returns what was said.
fn beside(firewall: &str, backend: &str) -> String {
    let (world, said) = run(firewall, backend, "open");
    assert!(
        said.contains("no other firewall"),
        "{firewall} {backend}: {said}"
    );
    for stranger in STRANGER {
        assert_eq!(
            world.connect(stranger, 22),
            Door::Silent,
            "{firewall} {backend}"
        );
    }
    world.knock(CLIENT[0], &SEQUENCE);
    world.until(firewall, || world.connect(CLIENT[0], 22) == Door::Open);
    said
}

/// Runs a firewall that lets the door's port in, or does not.
fn run(firewall: &str, backend: &str, door: &str) -> (World, String) {
    let world = World::bare();
    world.private_file("policy.toml", YVES);
    world.listen(22);
    let path = world.path().display().to_string();
    let toctoc = env!("CARGO_BIN_EXE_toctoc");
    let shell = [
        "sh", "-c", SCRIPT, "sh", firewall, backend, &path, toctoc, door,
    ];
    let said = world.server(
        &[
            &[
                "unshare",
                "--mount",
                "--pid",
                "--fork",
                "--kill-child",
                "--mount-proc",
                "--",
            ],
            &shell[..],
        ]
        .concat(),
    );
    (world, said)
}

/// Where they do not let the door's port in, `status` says so.
#[test]
fn other_firewalls_that_shut_the_door_are_named() {
    for (firewall, who) in [
        (
            "firewalld-nftables",
            "table inet firewalld, chain filter_INPUT",
        ),
        ("firewalld-iptables", "iptables, table filter, chain INPUT"),
        ("ufw", "iptables, table filter, chain INPUT"),
        ("shorewall", "iptables, table filter, chain INPUT"),
    ] {
        for backend in ["nftables", "iptables"] {
            let (_, said) = run(firewall, backend, "shut");
            let told = format!("another firewall ({who}) drops 22/tcp");
            assert!(said.contains(&told), "{firewall} {backend}: {said}");
        }
    }
}

/// A reload of firewalld empties raw and mangle.
#[test]
fn firewalld_reloads_and_our_rules_are_there_again() {
    for theirs in ["firewalld-nftables", "firewalld-iptables"] {
        let said = beside(theirs, "iptables");
        assert!(said.contains("status 1"), "{theirs}: {said}");
        let said = beside(theirs, "nftables");
        assert!(said.contains("status 0"), "{theirs}: {said}");
    }
}

#[test]
fn ufw_reloads_and_our_rules_are_there_again() {
    for backend in ["iptables", "nftables"] {
        beside("ufw", backend);
    }
}

#[test]
fn shorewall_reloads_and_our_rules_are_there_again() {
    for backend in ["iptables", "nftables"] {
        beside("shorewall", backend);
    }
}

#[test]
fn a_restore_of_other_rules_and_our_rules_are_there_again() {
    let said = beside("restore", "iptables");
    assert!(said.contains("status 1"), "{said}");
    beside("restore", "nftables");
}
