//! `key revoke`, `key new`, `refill` and a reload of the unit change what they name, and nothing else.

use std::fs;
use std::time::Duration;

use toctoc::client::Door;
use toctoc::lab::{CLIENT, SERVER};

use crate::person::{Person, said};
use crate::sshd::Sshd;
use crate::world::{SEQUENCE, World, YVES};

const ANNA: [u16; 5] = [5531, 2387, 9920, 18357, 5077];

fn two() -> String {
    format!("{YVES}\n# Anna's own\n[key.anna]\nopens = [\"ssh\"]\nsequence = {ANNA:?}\n")
}

/// A text that somebody is about to write, and has not applied.
const HALF: &str = "\n[door.web]\nports = [8443]\n";

fn half_written(world: &World) -> String {
    let text = format!("{}{HALF}", two());
    fs::write(world.path(), &text).unwrap();
    text
}

fn key(world: &World, arguments: &[&str]) -> std::process::Output {
    let path = world.path().display().to_string();
    world.toctoc(&[&["key"], arguments, &[path.as_str()]].concat())
}

fn yes(world: &World, arguments: &[&str]) -> String {
    let output = key(world, arguments);
    let text = said(&output);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {text}");
    text
}

fn opens(world: &World, sequence: &[u16]) -> bool {
    world.knock(CLIENT[0], sequence);
    let open = world.connect(CLIENT[0], 22) == Door::Open;
    if open {
        world.yes(&["close"]);
    }
    open
}

/// Two keys open for one source, one right after the other: the grant is that of the later one, and ends with it.
fn of_two_openings_within_a_second_the_later_one_counts() {
    for (first, second, later) in [
        (&SEQUENCE[..], &ANNA[..], "anna"),
        (&ANNA, &SEQUENCE, "yves"),
    ] {
        let world = World::with(&two());
        world.listen(22);
        for round in 0..4 {
            world.knock(CLIENT[0], first);
            assert_eq!(world.connect(CLIENT[0], 22), Door::Open);
            // The kernel counts in ticks of up to 10 ms: of two openings in one tick nobody knows.
            std::thread::sleep(Duration::from_millis(50));
            world.knock(CLIENT[0], second);
            let holder = (CLIENT[0].to_string(), Some(later.to_string()));
            assert_eq!(world.holders("ssh"), [holder], "{round}");
            if round < 3 {
                world.yes(&["close"]);
            }
        }
        let said = yes(&world, &["revoke", later]);
        assert!(said.contains("1 live grant ended"), "{said}");
        // With iptables each key has grants of its own.
        let after = match world.is_nftables() {
            true => Door::Silent,
            false => Door::Open,
        };
        assert_eq!(world.connect(CLIENT[0], 22), after);
    }
}

/// A file that is not the one that runs does not have the key: the one that runs is named, and keeps it.
fn the_file_that_runs_is_named_to_whoever_revokes_in_another() {
    let world = World::with(&two());
    world.listen(22);
    let other = world.programs().join("other.toml");
    for text in [None, Some(YVES)] {
        if let Some(text) = text {
            fs::write(&other, text).unwrap();
        }
        let output = world.toctoc(&["key", "revoke", "anna", other.to_str().unwrap()]);
        let text = said(&output);
        assert_eq!(output.status.code(), Some(2), "{text}");
        let next = format!("toctoc key revoke anna {}", world.path().display());
        assert!(text.contains(&next), "{text}");
        assert!(!text.contains("in what runs, and"), "{text}");
    }
    assert!(opens(&world, &ANNA));
    yes(&world, &["revoke", "anna"]);
    assert!(!opens(&world, &ANNA));
}

fn a_revoked_key_takes_nothing_else_along() {
    let world = World::with(&two());
    world.listen(22);
    world.listen(8443);
    world.knock(CLIENT[0], &ANNA);
    let text = half_written(&world);
    let said = yes(&world, &["revoke", "yves"]);
    assert!(
        said.contains("and nothing else: 0 live grants ended"),
        "{said}"
    );
    assert!(!said.contains("applied "), "{said}");
    // Anna is in, and so is everybody where the door is not finished.
    assert_eq!(world.connect(CLIENT[0], 22), Door::Open);
    assert_eq!(world.connect(CLIENT[0], 8443), Door::Open);
    world.yes(&["close"]);
    assert!(!opens(&world, &SEQUENCE) && opens(&world, &ANNA));
    let rest = fs::read_to_string(world.path()).unwrap();
    assert!(rest.ends_with(HALF) && rest.contains("# Anna's own") && !rest.contains("yves"));
    assert_eq!(
        text.len() - rest.len(),
        text.find("\n# Anna").unwrap() - text.find("\n[key.yves]").unwrap()
    );
    let status = world.status();
    assert_eq!(status["noted"]["file_changed"], true);
    assert_eq!(status["doors"].as_array().unwrap().len(), 1);
    assert_eq!(status["drift"].as_array().unwrap().len(), 0);
    // In the file alone, or in what runs alone.
    world.yes(&["apply"]);
    assert_eq!(world.connect(CLIENT[0], 8443), Door::Silent);
    fs::write(world.path(), format!("{}{HALF}", two())).unwrap();
    assert!(yes(&world, &["revoke", "yves"]).contains("what runs did not have it"));
    fs::write(world.path(), YVES).unwrap();
    assert!(yes(&world, &["revoke", "anna"]).contains("did not have key anna any more"));
    assert!(!opens(&world, &ANNA));
    assert_eq!(world.connect(CLIENT[0], 8443), Door::Silent);
    let output = key(&world, &["revoke", "nobody"]);
    assert_eq!(output.status.code(), Some(1));
}

/// Mistakes in the file keep no key in.
fn a_key_goes_although_the_file_has_mistakes() {
    let world = World::with(&two());
    world.listen(22);
    fs::write(
        world.path(),
        format!("{}\n[door.web]\nport = 8443\n", two()),
    )
    .unwrap();
    let said = yes(&world, &["revoke", "yves"]);
    assert!(said.contains("has mistakes besides"), "{said}");
    assert!(!opens(&world, &SEQUENCE) && opens(&world, &ANNA));
    fs::write(world.path(), format!("{}\n[door.web\n", two())).unwrap();
    let output = key(&world, &["revoke", "anna"]);
    let said = self::said(&output);
    assert_eq!(output.status.code(), Some(2), "{said}");
    let text = fs::read_to_string(world.path()).unwrap();
    let line = |wanted: &str| 1 + text.lines().position(|line| line == wanted).unwrap();
    for wanted in [
        format!("because of its mistakes (line {}", line("[door.web")),
        format!("`[key.anna]` seems to stand in line {}", line("[key.anna]")),
        "delete it there before you apply".to_string(),
    ] {
        assert!(said.contains(&wanted), "`{wanted}` in {said}");
    }
    assert!(!opens(&world, &ANNA));
    // A file that is TOML does not have it, mistakes or not.
    fs::write(world.path(), two()).unwrap();
    world.yes(&["apply"]);
    fs::write(world.path(), format!("{YVES}[door.web]\nport = 1\n")).unwrap();
    let said = yes(&world, &["revoke", "anna"]);
    assert!(
        said.contains("did not have key anna any more") && said.contains("has mistakes"),
        "{said}"
    );
    assert!(!opens(&world, &ANNA) && opens(&world, &SEQUENCE));
}

/// A file that is gone, or that nobody can read, keeps no key in; what is noted has it no more either.
fn a_key_goes_although_the_file_is_gone() {
    let world = World::with(&two());
    world.listen(22);
    let elsewhere = world.path().with_file_name("elsewhere");
    fs::rename(world.path(), &elsewhere).unwrap();
    let said = yes(&world, &["revoke", "anna"]);
    assert!(
        said.contains(
            "the policy file is gone: see that the key is not in it when you put it back"
        ),
        "{said}"
    );
    assert!(!world.path().exists());
    assert!(!opens(&world, &ANNA) && opens(&world, &SEQUENCE));
    // A healing and a start without the file bring back what was noted.
    world.toctoc(&["apply", "--boot"]);
    assert!(!opens(&world, &ANNA) && opens(&world, &SEQUENCE));
    // Nobody has it any more, or ever had.
    for nobody in ["anna", "nobody"] {
        let output = key(&world, &["revoke", nobody]);
        let said = self::said(&output);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("is not there"), "{said}");
    }
    // What is no text, and what is no file.
    fs::rename(&elsewhere, world.path()).unwrap();
    world.yes(&["apply"]);
    fs::write(world.path(), [0xff, 0xfe]).unwrap();
    let output = key(&world, &["revoke", "anna"]);
    let said = self::said(&output);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("see that key anna is not in it"), "{said}");
    assert!(!opens(&world, &ANNA) && opens(&world, &SEQUENCE));
    fs::remove_file(world.path()).unwrap();
    fs::create_dir(world.path()).unwrap();
    let output = key(&world, &["revoke", "yves"]);
    assert_eq!(output.status.code(), Some(2), "{}", self::said(&output));
    assert!(!opens(&world, &SEQUENCE));
    // Of what is noted alone, where no rules are loaded.
    fs::remove_dir(world.path()).unwrap();
    fs::write(world.path(), two()).unwrap();
    world.yes(&["apply"]);
    let (record, noted) = (world.record(), fs::read_to_string(world.record()).unwrap());
    world.yes(&["remove"]);
    fs::write(&record, noted).unwrap();
    fs::remove_file(world.path()).unwrap();
    let said = yes(&world, &["revoke", "anna"]);
    assert!(said.contains("out of what is noted"), "{said}");
    world.toctoc(&["apply", "--boot"]);
    assert!(!opens(&world, &ANNA) && opens(&world, &SEQUENCE));
}

/// The file of a policy on trial goes and comes back: the trial is no more confirmed than before.
fn a_revocation_without_the_file_confirms_no_trial() {
    let world = World::with(YVES);
    world.listen(22);
    fs::write(world.path(), two()).unwrap();
    world.yes(&["apply", "--confirm", "1h"]);
    fs::remove_file(world.path()).unwrap();
    let said = yes(&world, &["revoke", "yves"]);
    assert!(said.contains("the trial goes on"), "{said}");
    assert!(!opens(&world, &SEQUENCE) && opens(&world, &ANNA));
    fs::write(world.path(), two()).unwrap();
    world.yes(&["rollback"]);
    assert!(!opens(&world, &SEQUENCE) && !opens(&world, &ANNA));
    let output = world.toctoc(&["apply", "--boot"]);
    let said = self::said(&output);
    assert!(said.contains("not confirmed"), "{said}");
    assert!(!opens(&world, &SEQUENCE) && !opens(&world, &ANNA));
}

/// Doors that never had a key, or have another, are not this key's affair.
fn only_doors_that_lose_their_last_key_are_told() {
    let world = World::with(&format!("{}{HALF}", two()));
    let said = yes(&world, &["revoke", "yves"]);
    assert!(!said.contains("no key opens"), "{said}");
    let said = yes(&world, &["revoke", "anna"]);
    assert!(said.contains("no key opens ssh any more"), "{said}");
    assert!(!said.contains("no key opens web"), "{said}");
}

/// A trial goes on, and its end brings no key back.
fn a_revoked_key_confirms_no_trial() {
    let world = World::with(&two());
    world.listen(22);
    let other = two().replace("5077", "5078");
    fs::write(world.path(), &other).unwrap();
    world.yes(&["apply", "--confirm", "1h"]);
    let said = yes(&world, &["revoke", "yves"]);
    assert!(said.contains("the trial goes on"), "{said}");
    assert!(world.status()["noted"]["trial_ends_in"].as_f64().unwrap() > 3000.0);
    assert!(!opens(&world, &SEQUENCE) && !opens(&world, &ANNA));
    assert!(opens(&world, &[5531, 2387, 9920, 18357, 5078]));
    world.yes(&["rollback"]);
    assert!(!opens(&world, &SEQUENCE) && opens(&world, &ANNA));
    // The file is what was refused, but for that key: a start does not bring it in.
    let output = world.toctoc(&["apply", "--boot"]);
    assert!(
        self::said(&output).contains("not confirmed"),
        "{}",
        self::said(&output)
    );
    assert!(!opens(&world, &SEQUENCE) && opens(&world, &ANNA));
}

/// A new key in the file of a policy on trial makes it no other policy.
fn a_new_key_confirms_no_trial() {
    let world = World::with(YVES);
    world.listen(22);
    fs::write(world.path(), two().replace("2387, 920", "2387, 921")).unwrap();
    world.yes(&["apply", "--confirm", "1h"]);
    let said = yes(
        &world,
        &["new", "bob", "--sequence", "5", "--host", "192.0.2.1"],
    );
    assert!(said.contains("a policy is on trial"), "{said}");
    assert!(world.status()["noted"]["trial_ends_in"].is_number());
    world.yes(&["rollback"]);
    let output = world.toctoc(&["apply", "--boot"]);
    assert!(
        self::said(&output).contains("not confirmed"),
        "{}",
        self::said(&output)
    );
    assert!(opens(&world, &SEQUENCE) && !opens(&world, &ANNA));
}

fn a_new_key_makes_no_half_written_door_go_live() {
    let world = World::with(&two());
    world.listen(8443);
    let said = yes(
        &world,
        &[
            "new",
            "bob",
            "--opens",
            "ssh",
            "--sequence",
            "5",
            "--host",
            "192.0.2.1",
        ],
    );
    assert!(!said.contains("these changes too"), "{said}");
    half_written(&world);
    let said = yes(
        &world,
        &[
            "new",
            "eve",
            "--opens",
            "ssh",
            "--sequence",
            "5",
            "--host",
            "192.0.2.1",
        ],
    );
    assert!(
        said.contains("an apply brings in these changes too"),
        "{said}"
    );
    assert_eq!(world.connect(CLIENT[0], 8443), Door::Open);
    assert!(opens(&world, &SEQUENCE) || !opens(&world, &ANNA));
}

/// A reload of the unit brings back what was applied; what is in the file waits for an apply.
fn a_reload_applies_what_was_applied() {
    let world = World::with(&two());
    world.listen(22);
    world.listen(8443);
    half_written(&world);
    let output = world.toctoc(&["apply", "--boot"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(
        said(&output).contains("was changed since it was applied"),
        "{}",
        said(&output)
    );
    assert_eq!(world.connect(CLIENT[0], 8443), Door::Open);
    assert!(opens(&world, &SEQUENCE));
    // Another start of the machine brings in the file.
    let record = world.record();
    let text = fs::read_to_string(&record).unwrap();
    let mut noted: serde_json::Value = serde_json::from_str(&text).unwrap();
    noted["boot"] = "another start".into();
    fs::write(&record, noted.to_string()).unwrap();
    world.yes(&["apply", "--boot"]);
    assert_eq!(world.connect(CLIENT[0], 8443), Door::Silent);
}

/// Doors that are shut are better than none: a file that others can change is told, and what was applied guards.
fn a_start_does_without_a_file_that_others_can_change() {
    let world = World::with(&two());
    world.listen(22);
    fs::write(world.path(), format!("{YVES}{HALF}")).unwrap();
    let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o666);
    fs::set_permissions(world.path(), permissions).unwrap();
    let output = world.toctoc(&["apply"]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(
        said(&output).contains("was not changed"),
        "{}",
        said(&output)
    );
    let record = world.record();
    let text = fs::read_to_string(&record).unwrap();
    let output = world.toctoc(&["remove"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    // As after a power cut: the record is there, and the kernel holds nothing.
    let mut noted: serde_json::Value = serde_json::from_str(&text).unwrap();
    noted["boot"] = "another start".into();
    fs::write(&record, noted.to_string()).unwrap();
    let output = world.toctoc(&["apply", "--boot"]);
    let text = said(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("can be changed by others"), "{text}");
    assert!(text.contains("the policy that worked last is"), "{text}");
    assert!(opens(&world, &ANNA) && opens(&world, &SEQUENCE));
}

/// Through a real ssh connection: the last key that leads back is not taken away unasked.
fn nobody_revokes_his_own_way_back() {
    let world = World::with(&two());
    world.yes(&["open", "ssh", CLIENT[0]]);
    let sshd = Sshd::on(&world);
    let person = Person::on(&world);
    let config = person.home.path().join("config");
    fs::write(&config, sshd.settings(10)).unwrap();
    let run = |arguments: &[&str]| {
        let path = world.path().display().to_string();
        let key = world.toctoc_command(&[&["key", "revoke"], arguments, &[path.as_str()]].concat());
        let mut words = vec!["env".to_string(), "-i".to_string()];
        for name in ["PATH", "STATE_DIRECTORY", "XTABLES_LOCKFILE"] {
            let set = key.get_envs().find(|(n, _)| *n == name);
            let set = set.and_then(|(_, value)| value);
            words.extend(set.map(|value| format!("{name}={}", value.to_str().unwrap())));
        }
        words.push(key.get_program().to_str().unwrap().to_string());
        words.extend(
            key.get_args()
                .map(|word| word.to_str().unwrap().to_string()),
        );
        let command = format!("sh -c '{}; exit $?'", words.join(" "));
        person.run(&["ssh", "-F", config.to_str().unwrap(), SERVER[0], &command])
    };
    let output = run(&["yves"]);
    assert_eq!(
        output.status.code(),
        Some(0),
        "{} {}",
        said(&output),
        sshd.log()
    );
    let before = fs::read_to_string(world.path()).unwrap();
    let output = run(&["anna"]);
    let text = said(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(
        text.contains("no key opens ssh") && text.contains("nothing was changed"),
        "{text}"
    );
    assert_eq!(fs::read_to_string(world.path()).unwrap(), before);
    assert!(opens(&world, &ANNA));
    world.yes(&["open", "ssh", CLIENT[0]]);
    // Another key in the file that does not run is no way back.
    fs::write(world.path(), two()).unwrap();
    assert_eq!(run(&["anna"]).status.code(), Some(1));
    let output = run(&["anna", "--anyway"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    world.yes(&["close"]);
    assert!(!opens(&world, &ANNA));
}

on_every_firewall!(
    a_revoked_key_takes_nothing_else_along,
    of_two_openings_within_a_second_the_later_one_counts,
    the_file_that_runs_is_named_to_whoever_revokes_in_another,
    a_key_goes_although_the_file_has_mistakes,
    a_key_goes_although_the_file_is_gone,
    a_revocation_without_the_file_confirms_no_trial,
    only_doors_that_lose_their_last_key_are_told,
    a_revoked_key_confirms_no_trial,
    a_new_key_confirms_no_trial,
    a_new_key_makes_no_half_written_door_go_live,
    a_reload_applies_what_was_applied,
    a_start_does_without_a_file_that_others_can_change,
    nobody_revokes_his_own_way_back,
);

/// The mistake goes with the key: the secret of a key that is revoked is not missed.
#[test]
fn a_mistake_of_the_revoked_key_is_none_after_it() {
    let world = World::bare();
    fs::write(world.path(), two()).unwrap();
    yes(&world, &["new", "tok", "--host", "192.0.2.1"]);
    world.yes(&["apply"]);
    fs::remove_file(world.path().with_file_name("tok.secret")).unwrap();
    let said = yes(&world, &["revoke", "tok"]);
    assert!(!said.contains("mistakes"), "{said}");
    world.yes(&["check"]);
    // The twin: another key's secret is missed still.
    fs::remove_file(world.path().with_file_name("tok.profile.toml")).unwrap();
    yes(&world, &["new", "tok", "--host", "192.0.2.1"]);
    yes(&world, &["new", "tik", "--host", "192.0.2.1"]);
    world.yes(&["apply"]);
    fs::remove_file(world.path().with_file_name("tok.secret")).unwrap();
    let said = yes(&world, &["revoke", "tik"]);
    assert!(said.contains("has mistakes besides"), "{said}");
}

/// Tokens of keys that run go on, and those of keys that only the file has are not loaded.
#[test]
fn a_refill_goes_by_what_was_applied() {
    let world = World::bare();
    fs::write(world.path(), "[door.ssh]\nports = [22]\n").unwrap();
    let new = |name: &str| yes(&world, &["new", name, "--host", "192.0.2.1"]);
    new("alice");
    world.yes(&["apply"]);
    new("bob");
    let loaded = || world.server(&["nft", "-j", "list", "map", "inet", "toctoc", "tokens"]);
    let tokens = || loaded().matches("0x").count();
    let before = tokens();
    world.yes(&["refill"]);
    assert!(tokens() < before + before / 2, "{before} {}", tokens());
    // A mistake in the file is told, and stops no timer.
    let text = fs::read_to_string(world.path()).unwrap();
    fs::write(world.path(), format!("{text}[door.web")).unwrap();
    world.server(&["nft", "flush", "map", "inet", "toctoc", "tokens"]);
    let output = world.toctoc(&["refill"]);
    assert!(said(&output).contains("loaded"), "{}", said(&output));
    assert!(tokens() >= before / 2);
}

/// The effects of an apply are told, and nothing is done.
fn a_dry_run_says_what_would_change() {
    let world = World::bare();
    fs::write(world.path(), two()).unwrap();
    let dry = || {
        let text = world.yes(&["apply", "--dry-run"]);
        assert!(text.contains("nothing was changed"), "{text}");
        text
    };
    let text = dry();
    assert!(
        text.contains("nothing of toctoc runs here yet") && text.contains("+ door ssh 22/tcp"),
        "{text}"
    );
    assert!(!world.all_rules().contains("toctoc"));
    world.yes(&["apply"]);
    world.listen(22);
    assert!(dry().contains("stays as it is"));
    world.knock(CLIENT[0], &ANNA);
    world.yes(&["open", "ssh", "192.0.2.9"]);
    fs::write(world.path(), format!("{YVES}{HALF}")).unwrap();
    let before = world.all_rules();
    let text = dry();
    for line in [
        "+ door web 8443/tcp\n",
        "- key anna: what it opened is shut\n",
        "- grant of 192.0.2.7 to ssh, by anna\n",
        "1 live grant would be kept, 1 ended\n",
    ] {
        assert!(text.contains(line), "`{line}` in {text}");
    }
    assert_eq!(world.all_rules(), before);
    assert_eq!(world.connect(CLIENT[0], 22), Door::Open);
    assert!(world.yes(&["apply"]).contains("1 live grant kept, 1 ended"));
}

mod dry {
    use super::a_dry_run_says_what_would_change;

    on_every_firewall!(a_dry_run_says_what_would_change);
}
