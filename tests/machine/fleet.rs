//! The agent of a fleet under all the restrictions of its unit, with a real redis-server.

use super::Machine;

/// An engine on the machine itself, and a policy with a fleet and a secret.
const SETUP: &str = r#"
# As on a real machine: what systemd hands over is mounted for the unit in another namespace.
mount --make-rshared /
make --silent install PREFIX=/usr PROGRAM="$PROGRAM"
umask 077
printf '%s[key.alice]\nopens = ["ssh"]\ntoken = "alice.secret"\n' "$POLICY" >/etc/toctoc/policy.toml
sed -i '1i token_port = 20123\n[fleet]\nurl = "redis://127.0.0.1"\nname = "a"\npassword = "fleet.password"\nshare = ["ssh"]\naccept = ["ssh"]' \
    /etc/toctoc/policy.toml
echo correct-horse-battery >/etc/toctoc/fleet.password
echo 5dc2a1f0b7e46983175c2f8e90ab3d64c8f10e7755a92b6d13f4e8c07a9b2d61 >/etc/toctoc/alice.secret
umask 022
cat >/etc/systemd/system/engine.service <<END
[Service]
ExecStart=/usr/bin/redis-server --requirepass correct-horse-battery --save ""
[Install]
WantedBy=multi-user.target
END
systemctl --quiet enable toctoc.service toctoc-fleet.service engine.service
"#;

/// The words of another host, now.
const TELL: &str = r#"
at=$(date +%s%3N)
redis-cli --no-auth-warning -a correct-horse-battery publish toctoc:fleet \
    '{"v":1,"from":"b","at":'$at',"news":{"grant":{"door":"ssh","source":"192.0.2.7","key":null,"age":0,"left":60000}}}'
"#;

fn connected(machine: &Machine) -> bool {
    let status = machine.run("toctoc status --json");
    String::from_utf8_lossy(&status.stdout).contains("\"connected\": true")
}

#[test]
fn a_machine_starts_in_a_fleet() {
    let machine = Machine::start(SETUP);
    machine.until("the agent is connected", || connected(&machine));
    // It is nobody, and may change the firewall and nothing else.
    let pid = machine.does("systemctl show --property MainPID --value toctoc-fleet");
    let process = machine.does(&format!("cat /proc/{}/status", pid.trim()));
    let line = |name: &str| {
        let line = process.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_ascii_whitespace().nth(1).unwrap().to_string()
    };
    assert_ne!(line("Uid:"), "0");
    for set in ["CapEff:", "CapPrm:", "CapBnd:", "CapAmb:"] {
        assert_eq!(line(set), "0000000000001000", "{set}");
    }
    let there = || {
        machine
            .does("nft list set inet toctoc elsewhere4")
            .contains("192.0.2.7")
    };
    assert!(!there());
    machine.does(TELL);
    machine.until("the grant is in the kernel", there);
    machine.does("toctoc close");
    assert!(!there());
    // After an apply it begins anew, with copies of what the policy is then.
    machine.does("sed -i 's/\"a\"/\"renamed\"/' /etc/toctoc/policy.toml && toctoc apply");
    machine.until("it has the new name", || {
        let status = machine.run("toctoc status --json");
        String::from_utf8_lossy(&status.stdout).contains("\"name\": \"renamed\"")
    });
    machine.until("it is connected again", || connected(&machine));
    machine.does(TELL);
    machine.until("the grant is in the kernel again", there);
    machine.does("systemctl stop toctoc-fleet.service");
    assert!(there());
    machine.is_well();
}
