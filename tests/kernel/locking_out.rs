//! An apply that would lock its administrator out.

use std::fs;

use toctoc::lab::{CLIENT, SERVER};

use crate::person::{Person, said};
use crate::sshd::Sshd;
use crate::world::{World, YVES};

on_every_firewall!(nobody_shuts_himself_out);

/// Through a real ssh connection: a policy under which the administrator would not get in again is refused.
fn nobody_shuts_himself_out() {
    let world = World::bare();
    let sshd = Sshd::on(&world);
    let person = Person::on(&world);
    let config = person.home.path().join("config");
    fs::write(&config, sshd.settings(10)).unwrap();
    let run = |policy: &str, arguments: &[&str]| {
        fs::write(world.path(), policy).unwrap();
        let apply = world.toctoc_command(&[&["apply"], arguments].concat());
        let mut words = vec!["env".to_string(), "-i".to_string()];
        for name in ["PATH", "STATE_DIRECTORY", "XTABLES_LOCKFILE"] {
            let set = apply.get_envs().find(|(n, _)| *n == name);
            let set = set.and_then(|(_, value)| value);
            words.extend(set.map(|value| format!("{name}={}", value.to_str().unwrap())));
        }
        words.push(apply.get_program().to_str().unwrap().to_string());
        words.extend(
            apply
                .get_args()
                .map(|word| word.to_str().unwrap().to_string()),
        );
        // Through `sh` and `env -i`, as through sudo: the program itself is told nothing.
        let command = format!("sh -c '{}; exit $?'", words.join(" "));
        person.run(&["ssh", "-F", config.to_str().unwrap(), SERVER[0], &command])
    };
    let no_key = "[door.ssh]\nports = [22]\n";
    let dropping = "[door.web]\nports = [8443]\n[firewall]\ndefault = \"drop\"\nallow = [443]\n";
    for (policy, why) in [
        (no_key, "which is door ssh, and no key opens ssh"),
        (dropping, "which `[firewall]` would drop"),
    ] {
        let output = run(policy, &[]);
        assert_eq!(
            output.status.code(),
            Some(1),
            "{} {}",
            said(&output),
            sshd.log()
        );
        let text = said(&output);
        assert!(text.contains("comes from 192.0.2.7 to 22/tcp"), "{text}");
        assert!(text.contains(why), "{text}");
        assert!(text.contains("was not changed"), "{text}");
        assert!(!world.all_rules().contains("toctoc"));
        let output = run(policy, &["--dry-run"]);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{told}");
        assert!(
            told.starts_with("toctoc: apply would refuse this: ") && told.contains(why),
            "{told}"
        );
    }
    let output = run(YVES, &["--dry-run"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let output = run(no_key, &["--confirm", "1h"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    world.yes(&["rollback"]);
    assert!(!world.all_rules().contains("toctoc"));
    let output = run(YVES, &[]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    world.yes(&["open", "ssh", CLIENT[0]]);
    let output = run(no_key, &["--anyway"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
}
