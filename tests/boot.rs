//! A machine that starts: systemd as the first process, in namespaces of its own, with the real units.
//!
//! Needs root; `make test` names what is left out without.

use std::fs;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// What is mounted over the host's: /run, /etc, /var/lib and the control groups. Only our units are
/// there, and stand-ins for the targets that they name.
const START: &str = r#"
set -e
mount --make-rprivate /
mount -t tmpfs run /run
umount -R /sys/fs/cgroup
mount -t cgroup2 cgroup /sys/fs/cgroup
mount -t proc proc /proc
mount -t tmpfs lib /var/lib
mkdir -p /run/units /run/over/etc /run/over/work
mount -t overlay etc -o lowerdir=/etc,upperdir=/run/over/etc,workdir=/run/over/work /etc
cp "$PROGRAM" /run/toctoc-program
for unit in toctoc.service toctoc-refill.service toctoc-refill.timer; do
    sed 's,/usr/bin/toctoc,/run/toctoc-program,' packaging/$unit >/run/units/$unit
done
for target in sysinit basic timers shutdown network-pre local-fs; do
    printf '[Unit]\nDefaultDependencies=no\n' >/run/units/$target.target
done
printf '[Unit]\nDefaultDependencies=no\nWants=toctoc.service toctoc-refill.timer\n' >/run/units/start.target
rm -rf /etc/toctoc
mkdir -m 700 /etc/toctoc
(umask 077; printf '%s' "$POLICY" >/etc/toctoc/policy.toml)
ip link set lo up
cd /
export SYSTEMD_UNIT_PATH=/run/units:/run/systemd/transient container=lab
exec /lib/systemd/systemd --system --unit=start.target --log-target=null --show-status=no
"#;

const POLICY: &str = "[door.ssh]\nports = [22]\n[key.yves]\nopens = [\"ssh\"]\n\
                      sequence = [4431, 2387, 920, 18357, 50]\n";

const PATIENCE: Duration = Duration::from_secs(20);

/// The machine; it is switched off with the test. There is one at a time: they would share their control
/// groups.
struct Machine {
    unshare: Child,
    _alone: MutexGuard<'static, ()>,
}

static ALONE: Mutex<()> = Mutex::new(());

impl Machine {
    fn start() -> Machine {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let unshare = Command::new("unshare")
            .args(["--mount", "--pid", "--uts", "--ipc", "--net", "--cgroup"])
            .args(["--fork", "--kill-child", "--", "sh", "-c", START])
            .env("PROGRAM", env!("CARGO_BIN_EXE_toctoc"))
            .env("POLICY", POLICY)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let machine = Machine {
            unshare,
            _alone: alone,
        };
        machine.until("systemd is up", || {
            if machine.first().is_empty() {
                return false;
            }
            let state = machine.run("systemctl is-system-running");
            String::from_utf8_lossy(&state.stdout).trim() == "running"
        });
        machine
    }

    /// The number of the machine's first process, empty while there is none.
    fn first(&self) -> String {
        let unshare = self.unshare.id();
        let children = format!("/proc/{unshare}/task/{unshare}/children");
        fs::read_to_string(children).unwrap().trim().to_string()
    }

    /// Runs a script on the machine.
    fn run(&self, script: &str) -> Output {
        Command::new("nsenter")
            .args(["--target", &self.first(), "--all", "sh", "-c", script])
            .env("PATH", "/run:/usr/sbin:/usr/bin:/sbin:/bin")
            .output()
            .unwrap()
    }

    /// The same; it must succeed.
    fn does(&self, script: &str) -> String {
        let output = self.run(script);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{script}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn until(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds() {
            assert!(Instant::now() < deadline, "not in time: {what}");
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Whether the kernel knows a port as a knock.
    fn knows(&self, port: &str) -> bool {
        self.does("nft list ruleset").contains(port)
    }

    fn timers(&self) -> String {
        self.does("systemctl list-timers --no-pager")
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Its end is that of the first process, and so of all others in there.
        let _ = self.unshare.kill();
        let _ = self.unshare.wait();
    }
}

/// Under all the restrictions of the real units: the policy is in the kernel when the network may come,
/// a stop keeps the doors shut, and nothing has failed.
#[test]
fn a_machine_starts_with_its_doors_shut() {
    let machine = Machine::start();
    machine.does("systemctl is-active toctoc.service toctoc-refill.timer");
    assert!(machine.knows("4431"));
    machine.does("systemctl start toctoc-refill.service");
    machine.does("systemctl reload toctoc.service");
    assert!(machine.knows("4431"));
    machine.does("systemctl stop toctoc.service");
    assert!(machine.knows("4431"));
    machine.does("systemctl start toctoc.service");
    machine.does("toctoc-program status");
    assert_eq!(
        machine.does("systemctl --failed --no-legend --no-pager"),
        ""
    );
}

/// Where systemd rules, it is systemd that ends a trial: whatever the session was, it has no part in it.
#[test]
fn systemd_ends_a_trial() {
    let machine = Machine::start();
    let try_other = "sed -i s/4431/5531/ /etc/toctoc/policy.toml
                     STATE_DIRECTORY=/var/lib/toctoc toctoc-program apply --confirm";
    machine.does(&format!("{try_other} 2s"));
    assert!(machine.timers().contains("toctoc-rollback-"));
    assert!(machine.knows("5531") && !machine.knows("4431"));
    machine.until("it went back", || machine.knows("4431"));
    assert!(!machine.knows("5531"));
    // The next start is not a confirmation either.
    machine.does("systemctl restart toctoc.service");
    assert!(machine.knows("4431") && !machine.knows("5531"));
    machine.does(&format!("{try_other} 1h"));
    machine.does("toctoc-program confirm");
    assert!(!machine.timers().contains("toctoc-rollback-"));
    machine.does("systemctl restart toctoc.service");
    assert!(machine.knows("5531") && !machine.knows("4431"));
    assert_eq!(
        machine.does("systemctl --failed --no-legend --no-pager"),
        ""
    );
}
