//! Whole machines: systemd as the first process, in namespaces of its own, with the real units.
//!
//! Needs root; `make test` names what is left out without.

mod boot;
mod fleet;
#[path = "../support/fleet_program.rs"]
mod fleet_program;
mod package;

use std::fs;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// A machine begins as a copy of the host, with another /run, control groups and network, and nothing that
/// it does reaches the host's files. Of the host's units only the targets and nftables.service are there;
/// only what the test enables is started.
const START: &str = r#"
set -e
mount --make-rprivate /
mount -t tmpfs run /run
umount -R /sys/fs/cgroup
mount -t cgroup2 cgroup /sys/fs/cgroup
mount -t proc proc /proc
for tree in etc usr var tmp; do
    mkdir -p /run/over/$tree /run/over/$tree.work
    mount -t overlay $tree -o lowerdir=/$tree,upperdir=/run/over/$tree,workdir=/run/over/$tree.work /$tree
done
mount -t tmpfs tmp /var/tmp
units=/usr/lib/systemd/system
mkdir /run/kept
for target in sysinit basic multi-user timers shutdown local-fs network-pre network; do
    cp $units/$target.target /run/kept
done
cp $units/nftables.service /run/kept
mount -t tmpfs units $units
cp /run/kept/* $units
mount -t tmpfs enabled /etc/systemd/system
rm -rf /etc/toctoc /var/lib/toctoc /usr/sbin/policy-rc.d
ip link set lo up
eval "$SETUP"
cd /
export SYSTEMD_UNIT_PATH=/etc/systemd/system:/run/systemd/transient:$units container=lab
exec /lib/systemd/systemd --system --unit=multi-user.target --log-target=null --show-status=no
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
    /// One that starts after a script was run on it, in the directory of the sources. `$PROGRAM` is the
    /// program of this build there, `$POLICY` a policy with a door and a key.
    fn start(setup: &str) -> Machine {
        // `make install` installs it too.
        fleet_program::fleet_program();
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let unshare = Command::new("unshare")
            .args(["--mount", "--pid", "--uts", "--ipc", "--net", "--cgroup"])
            .args(["--fork", "--kill-child", "--", "sh", "-c", START])
            .env("PROGRAM", env!("CARGO_BIN_EXE_toctoc"))
            .env("POLICY", POLICY)
            .env("SETUP", setup)
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
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("POLICY", POLICY)
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

    /// Returns whether the kernel knows a port as a knock.
    fn knows(&self, port: &str) -> bool {
        // Tokens have digits too.
        let step = format!(" tcp . {port} ");
        self.does("nft list map inet toctoc steps").contains(&step)
    }

    /// No unit has failed.
    fn is_well(&self) {
        let failed = self.does("systemctl --failed --no-legend --no-pager");
        assert_eq!(failed, "");
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Its end is that of the first process, and so of all others in there.
        let _ = self.unshare.kill();
        let _ = self.unshare.wait();
    }
}
