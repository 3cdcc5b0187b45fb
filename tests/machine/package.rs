//! The Debian package, on a machine with systemd.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use super::Machine;
use super::fleet_program::fleet_program;

/// The packages with the programs of this build: toctoc, toctoc-fleet.
fn packages() -> &'static [PathBuf; 2] {
    static MADE: OnceLock<[PathBuf; 2]> = OnceLock::new();
    MADE.get_or_init(|| {
        fleet_program();
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("package");
        let mut make = Command::new("scripts/deb");
        make.arg(&directory)
            .env("PROGRAM", env!("CARGO_BIN_EXE_toctoc"))
            .env("VERSION", "1.0.0");
        done(&mut make);
        ["toctoc", "toctoc-fleet"].map(|name| {
            let mut find = Command::new("find");
            find.arg(&directory)
                .args(["-name", &format!("{name}_1.0.0_*.deb")]);
            PathBuf::from(done(&mut find).trim())
        })
    })
}

/// The same as a later version, beside them: both, as `dpkg` takes them.
fn later(version: &str) -> String {
    let paths = packages().iter().map(|package| {
        let name = package.file_stem().unwrap().display().to_string();
        let path = package.with_file_name(format!("later-{version}-{name}.deb"));
        let script = "set -e; tree=$(mktemp -d); trap 'rm -rf $tree' EXIT
                      dpkg-deb --raw-extract $0 $tree/package
                      sed -i \"s/^Version: .*/Version: $2/; s/toctoc (= [^)]*)/toctoc (= $2)/\" $tree/package/DEBIAN/control
                      dpkg-deb --root-owner-group -Znone --build $tree/package $1";
        let mut repack = Command::new("sh");
        repack.args(["-c", script]).arg(package).arg(&path).arg(version);
        done(&mut repack);
        path.display().to_string()
    });
    paths.collect::<Vec<_>>().join(" ")
}

fn done(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}{stderr}");
    said
}

/// The policy of Debian, as far as a program can judge it.
#[test]
fn lintian_finds_nothing_in_the_packages() {
    let mut lintian = Command::new("lintian");
    lintian
        .args(["--allow-root", "--fail-on", "error,warning"])
        .args(packages());
    assert_eq!(done(&mut lintian), "");
}

/// From the first installation to the last trace.
#[test]
fn a_package_comes_stays_and_goes() {
    let [path, fleet] = packages().each_ref().map(|package| package.display());
    // The machine's files are those that were there when it started.
    let later = ["1.1.0", "1.2.0"].map(later);
    let machine = Machine::start("");
    let status = || -> serde_json::Value {
        serde_json::from_str(&machine.does("toctoc status --json")).unwrap()
    };
    let dpkg = |what: &str| machine.does(&format!("dpkg --no-triggers {what} 2>&1"));
    let rules = || machine.does("nft list ruleset");
    let is = |unit: &str| {
        let output = machine.run(&format!(
            "systemctl is-enabled {unit}; systemctl is-active {unit}"
        ));
        String::from_utf8(output.stdout).unwrap().replace('\n', " ")
    };

    // It comes: all is in its place, and nothing happens.
    dpkg(&format!("--install {path}"));
    assert_eq!(is("toctoc.service"), "enabled inactive ");
    assert_eq!(is("toctoc-refill.timer"), "enabled inactive ");
    assert_eq!(is("toctoc-heal.timer"), "enabled inactive ");
    // The fleet is only for those who ask for it: another package, and a unit that nobody else enables.
    let said = machine.does("! toctoc fleet 2>&1");
    assert!(said.contains("install the package toctoc-fleet"), "{said}");
    dpkg(&format!("--install {fleet}"));
    assert_eq!(is("toctoc-fleet.service"), "disabled inactive ");
    machine.does("gzip --test /usr/share/man/man1/toctoc-fleet.1.gz && toctoc-fleet --version");
    assert_eq!(
        machine.does("stat -c %a /etc/toctoc; ls -A /etc/toctoc"),
        "700\n"
    );
    machine.does("systemctl start toctoc.service");
    assert_eq!(rules(), "");
    machine.does("cd /usr/share/man && gzip --test man1/toctoc.1.gz man1/toctoc-apply.1.gz man5/toctoc-policy.5.gz");
    let completed = "zsh -fc 'autoload -Uz compinit && compinit -D && echo $_comps[toctoc]'";
    assert_eq!(machine.does(completed), "_toctoc\n");
    machine.does("toctoc check --elsewhere /usr/share/doc/toctoc/examples/one-server.toml");

    // It is used.
    machine.does(
        "umask 077; printf '%s' \"$POLICY\" >/etc/toctoc/policy.toml
         toctoc key new phone --opens ssh --host 192.0.2.1 --profile /run/phone.toml
         systemctl start toctoc.service toctoc-refill.timer toctoc-heal.timer
         toctoc open ssh 192.0.2.7 --for 1h",
    );
    let ends = |status: &serde_json::Value| status["doors"][0]["grants"][0]["expires_in"].as_f64();
    let before = ends(&status()).unwrap();

    // A later version: nobody touches the firewall, and what runs goes on.
    machine.does("nft monitor >/run/changes 2>&1 & echo $! >/run/monitor");
    let said = dpkg(&format!("--install {}", later[0]));
    machine.does("kill $(cat /run/monitor)");
    assert_eq!(machine.does("cat /run/changes"), "");
    assert!(!said.contains("toctoc:"), "{said}");
    let after = ends(&status()).unwrap();
    assert!(after <= before && before - after < 60.0, "{before} {after}");
    assert_eq!(is("toctoc.service"), "enabled active ");
    assert_eq!(is("toctoc-refill.timer"), "enabled active ");
    machine.does("systemctl start toctoc-refill.service");

    // The administrator's own decisions stay: what he has disabled or enabled, and what he has not applied yet.
    assert_eq!(is("toctoc-fleet.service"), "disabled inactive ");
    machine.does(
        "systemctl --quiet disable toctoc-refill.timer toctoc-heal.timer
         systemctl --quiet enable toctoc-fleet.service
         sed -i s/4431/5531/ /etc/toctoc/policy.toml",
    );
    let said = dpkg(&format!("--install {}", later[1]));
    assert!(said.contains("the firewall was not touched"), "{said}");
    assert!(machine.knows("4431") && !machine.knows("5531"));
    assert_eq!(is("toctoc-refill.timer"), "disabled active ");
    assert_eq!(is("toctoc-heal.timer"), "disabled active ");
    assert!(is("toctoc-fleet.service").starts_with("enabled "));
    machine.does("systemctl --quiet disable toctoc-fleet.service");

    // It goes: the doors are open, and that is said. What was written and what was used up stays.
    let said = dpkg("--remove toctoc-fleet toctoc");
    assert!(said.contains("No door is guarded any more"), "{said}");
    assert_eq!(rules(), "");
    machine.does("ls /etc/toctoc/policy.toml /etc/toctoc/phone.secret /var/lib/toctoc/state.json");
    machine.does("! systemctl is-active toctoc.service toctoc-refill.timer toctoc-heal.timer");
    machine.is_well();

    // It comes again, and still does nothing by itself.
    let said = dpkg(&format!("--install {path} {fleet}"));
    assert!(said.contains("the firewall was not touched"), "{said}");
    assert_eq!(rules(), "");
    assert_eq!(is("toctoc-refill.timer"), "disabled inactive ");
    machine.does("systemctl start toctoc.service");
    assert!(machine.knows("5531"));

    // The last trace: all but what people have written.
    let said = dpkg("--purge toctoc-fleet toctoc");
    assert!(said.contains("still in /etc/toctoc"), "{said}");
    assert_eq!(rules(), "");
    let traces = "find /etc /usr /var /run/systemd /run/toctoc -iname '*toctoc*' -not -path '*/info/*' 2>/dev/null; true";
    assert_eq!(machine.does(traces), "/etc/toctoc\n");
    machine.does("rm -r /etc/toctoc");
    dpkg(&format!("--install {path} {fleet}"));
    dpkg("--purge toctoc-fleet toctoc");
    assert_eq!(machine.does(traces), "");
    machine.is_well();
}
