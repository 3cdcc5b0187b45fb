//! Settings that are allowed and not wise: each warning, how it is silenced, and what `check` makes of them.
//!
//! `SNAPSHOTS=overwrite cargo test --test lint` writes the warnings anew; read them then.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use toctoc::knock::{Knock, Protocol};
use toctoc::policy::lint::{RULES, Surroundings, about};
use toctoc::policy::load::load_and_lint;
use toctoc::policy::ways::{Program, To, Way};
use toctoc::policy::{Host, Report};

/// 2026-11-23
const NOW: i64 = 1_795_392_000;

fn around(listening: &[&str]) -> Surroundings {
    let port = |text: &&str| text.parse::<Knock>().unwrap();
    Surroundings {
        listening: Some(listening.iter().map(port).collect()),
        interfaces: vec![
            vec!["eth0".to_string(), "enp2s0".to_string()],
            vec!["wlan0".to_string()],
        ],
        programs: Vec::new(),
        translations: Vec::new(),
        now: NOW,
    }
}

/// A port that others translate.
fn way(from: u16, to: To, port: Option<u16>) -> Way {
    Way {
        protocol: Protocol::Tcp,
        from: (from, from),
        to,
        port,
        by: "table ip nat, chain prerouting".to_string(),
    }
}

/// The same host with other ways to port 22.
fn with_ways(listening: &[&str]) -> Surroundings {
    Surroundings {
        programs: vec![Program {
            name: "sshd".to_string(),
            ports: ["22", "2222", "53/udp"]
                .map(|port| port.parse().unwrap())
                .into(),
        }],
        translations: vec![way(2022, To::Here, Some(22))],
        ..around(listening)
    }
}

fn warnings(text: &str, around: &Surroundings) -> Report {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("policy.toml");
    fs::write(&path, text).unwrap();
    let found = load_and_lint(&path, &Host::default(), around);
    found.unwrap_or_else(|error| panic!("{error}")).1
}

fn names(text: &str, around: &Surroundings) -> Vec<&'static str> {
    let report = warnings(text, around);
    let found = report.diagnostics().iter();
    found.map(|found| found.warning.unwrap().name).collect()
}

#[test]
fn every_warning_is_shown_as_recorded() {
    let file = Path::new("tests/golden/lint/everything.toml");
    let (_, report) = load_and_lint(file, &Host::default(), &with_ways(&["22", "3306"])).unwrap();
    let expected = snapbox::Data::read_from(&file.with_extension("txt"), None).raw();
    snapbox::Assert::new()
        .action_env("SNAPSHOTS")
        .normalize_paths(false)
        .eq(format!("{report}\n"), expected);
    // None is left out of the file, so none can be forgotten in the code.
    let text = fs::read_to_string(file).unwrap();
    let found = names(&text, &with_ways(&["22", "3306"]));
    // One needs a secret, and has a test of its own.
    for rule in RULES.iter().filter(|rule| rule.name != "signed-unbound") {
        assert!(found.contains(&rule.name), "{}", rule.name);
    }
}

const GOOD: &str = "[door.ssh]\nports = [22]\n\n[key.yves]\nopens = [\"ssh\"]\n\
                    sequence = [4431, 2387, 9920, 18357, 5077]\n";

#[test]
fn a_signed_key_that_is_bound_to_nothing_is_told_of() {
    let directory = tempfile::tempdir().unwrap();
    let secret = directory.path().join("phone.secret");
    fs::write(&secret, "0011223344556677".repeat(4)).unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    let path = directory.path().join("policy.toml");
    let found = |settings: &str| {
        let text = format!(
            "token_port = 20123\n[door.ssh]\nports = [22]\n[key.phone]\nopens = [\"ssh\"]\nsigned = \"phone.secret\"\n{settings}"
        );
        fs::write(&path, text).unwrap();
        let found = load_and_lint(&path, &Host::default(), &around(&["22"]));
        let report = found.unwrap_or_else(|error| panic!("{error}")).1;
        report
            .diagnostics()
            .iter()
            .map(|found| found.warning.unwrap().name)
            .collect::<Vec<_>>()
    };
    assert_eq!(found("binding = \"none\"\n"), ["signed-unbound"]);
    for settings in [
        "",
        "binding = \"address\"\n",
        "binding = \"network\"\n",
        "binding = \"none\"\nsilence = [\"signed-unbound\"]\n",
    ] {
        assert_eq!(found(settings), [""; 0], "{settings}");
    }
}

#[test]
fn a_good_policy_has_none() {
    assert_eq!(names(GOOD, &around(&["22"])), [""; 0]);
    // Of another host nothing is known.
    let elsewhere = Surroundings {
        now: NOW,
        ..Surroundings::default()
    };
    assert_eq!(names(GOOD, &elsewhere), [""; 0]);
    assert_eq!(names(GOOD, &around(&[])), ["door-silent"]);
}

#[test]
fn a_public_first_knock_is_one_that_is_open_or_that_scans_try() {
    let first = |port: &str| GOOD.replace("4431", port);
    let found = |text: &str, listening: &[&str]| names(text, &around(listening));
    assert_eq!(found(&first("80"), &["22"]), ["first-knock-public"]);
    assert_eq!(found(&first("\"80/udp\""), &["22"]), [""; 0]);
    assert_eq!(found(GOOD, &["22", "4431"]), ["first-knock-public"]);
    assert_eq!(found(GOOD, &["22", "9920"]), ["knock-listening"]);
    let allowed = format!("{GOOD}[firewall]\ndefault = \"drop\"\nallow = [4431]\n");
    assert_eq!(found(&allowed, &["22"]), ["first-knock-public"]);
}

/// A sequence that everybody can read is no secret. It is told of that, and of nothing else, in our own documents too.
#[test]
fn what_is_published_is_told_and_our_documents_have_nothing_else() {
    let with = |ports: &str| GOOD.replace("4431, 2387, 9920, 18357, 5077", ports);
    for ports in [
        "4589, 2387, 920, 18357, 50",
        "443, 2387, 920, 18357, 50",
        "7000, '8000/udp', 9000",
        "571, 290, 911",
        "8881, 7777, 9991",
        "4479, 3280, 3428, 5438",
    ] {
        assert_eq!(
            names(&with(ports), &around(&["22"])),
            ["sequence-published"],
            "{ports}"
        );
    }
    assert_eq!(
        names(&with("4589, 2387, 920, 18357, 51"), &around(&["22"])),
        [""; 0]
    );
    let silenced = format!(
        "silence = [\"sequence-published\"]\n{}",
        with("571, 290, 911")
    );
    assert_eq!(names(&silenced, &around(&["22"])), [""; 0]);
    // Every sequence that we show.
    let mut texts = vec![fs::read_to_string("README.md").unwrap()];
    for directory in [
        "docs",
        "docs/recipes",
        "examples",
        "src/cli",
        "src/cli/server",
        "src/policy/check",
    ] {
        let files = fs::read_dir(directory)
            .unwrap()
            .map(|file| file.unwrap().path());
        let texts_of = files
            .filter(|path| path.is_file())
            .map(|path| fs::read_to_string(path).unwrap());
        texts.extend(texts_of);
    }
    let mut seen = 0;
    for line in texts.iter().flat_map(|text| text.lines()) {
        let Some((_, rest)) = line.split_once("sequence = [") else {
            continue;
        };
        let Some((list, _)) = rest.split_once(']') else {
            continue;
        };
        // The manual's example of a sequence that is refused.
        let is_refused = list.replace(' ', "") == "7000,8000,9000";
        if is_refused || !list.contains(',') || list.contains('{') {
            continue;
        }
        seen += 1;
        let found = names(&with(list), &around(&["22"]));
        assert_eq!(found, ["sequence-published"], "{line}");
    }
    assert!(seen >= 15, "{seen}");
}

#[test]
fn a_warning_is_silenced_for_all_or_for_one() {
    let text = GOOD.replace("4431", "80");
    let here = around(&["22"]);
    for (silence, left) in [
        ("silence = [\"first-knock-public\"]\n", 0),
        ("silence = [\"sequence-weak\"]\n", 1),
        ("silence = []\n", 1),
    ] {
        assert_eq!(names(&format!("{silence}{text}"), &here).len(), left);
        assert_eq!(names(&format!("{text}{silence}"), &here).len(), left);
        // In the door it is not that of the key.
        let in_door = text.replace("[22]\n", &format!("[22]\n{silence}"));
        assert_eq!(names(&in_door, &here).len(), 1);
    }
}

#[test]
fn a_key_expires_soon_or_has_expired() {
    let here = around(&["22"]);
    for (day, wanted) in [
        ("2026-11-21", Some("key-expired")),
        ("2026-11-25", Some("key-expires-soon")),
        ("2027-11-25", None),
    ] {
        let text = format!("{GOOD}expires = {day}\n");
        assert_eq!(names(&text, &here), Vec::from_iter(wanted), "{day}");
    }
}

/// The last that is wise, and the first that is not.
#[test]
fn what_is_not_wise_begins_there() {
    let top = |setting: &str| format!("{setting}\n{GOOD}");
    let trust = |network: &str| GOOD.replace("[22]\n", &format!("[22]\ntrust = [\"{network}\"]\n"));
    let knocks = |ports: &str| GOOD.replace("4431, 2387, 9920, 18357, 5077", ports);
    let expires = |moment: &str| format!("{GOOD}expires = {moment}\n");
    for (name, wise, unwise) in [
        (
            "within-long",
            top("within = '1m'"),
            top("within = '1m 1ms'"),
        ),
        (
            "open-long",
            top("open_for = '1h'"),
            top("open_for = '1h 1s'"),
        ),
        ("trust-everyone", trust("10.0.0.0/8"), trust("10.0.0.0/7")),
        ("trust-everyone", trust("2001::/20"), trust("2001::/19")),
        (
            "key-expires-soon",
            expires("2026-12-07T00:00:00Z"),
            expires("2026-12-06T23:59:59Z"),
        ),
        // 43 bits take 51 days, and 38 less than two.
        (
            "sequence-weak",
            knocks("12001, 23001, 301"),
            knocks("12001, 301, 777"),
        ),
    ] {
        assert_eq!(names(&wise, &around(&["22"])), [""; 0], "{wise}");
        assert_eq!(names(&unwise, &around(&["22"])), [name], "{unwise}");
    }
    let last_second = expires("2026-11-23T00:00:01Z");
    assert_eq!(names(&last_second, &around(&["22"])), ["key-expires-soon"]);
    let over = expires("2026-11-23T00:00:00Z");
    assert_eq!(names(&over, &around(&["22"])), ["key-expired"]);
}

#[test]
fn ports_in_order_are_a_pattern_from_the_first_to_the_last() {
    for (ports, wanted) in [
        ("12001, 14003, 23001, 33003", Some("sequence-patterned")),
        ("33003, 23001, 14003, 12001", Some("sequence-patterned")),
        ("12001, 23001, 33003, 14003", None),
        ("33003, 14003, 12001, 23001", None),
        // The same port again is neither up nor down.
        ("12001, '12001/udp', 23001, 33003", None),
        ("33003, 23001, 12001, '12001/udp'", None),
        ("444, 2387, 920, 18357, 50", None),
        // A scan knocks the rest, and in a flood of first knocks that is all it takes.
        ("34000, 12001, 12002, 12003", Some("sequence-patterned")),
        ("11000, 12003, 12002, 12001", Some("sequence-patterned")),
        ("34000, 12001, 12002, 12004", None),
        ("34000, 12001, '12002/udp', 12003", None),
    ] {
        let text = GOOD.replace("4431, 2387, 9920, 18357, 5077", ports);
        let text = format!("silence = ['first-knock-public']\n{text}");
        let found = names(&text, &around(&["22"]));
        assert_eq!(found, Vec::from_iter(wanted), "{ports}");
    }
}

/// Each sequence of a scratch key opens: the second may be the one that is guessed.
#[test]
fn each_scratch_sequence_is_judged() {
    let good = "[43210, 2387, 9920, 18357]";
    let text = |second: &str| {
        format!(
            "[door.ssh]\nports = [22]\n\n[key.paper]\nopens = [\"ssh\"]\nscratch = [{good}, {second}, \
             [43211, 2388, 9921, 18358]]\n"
        )
    };
    for (second, wanted) in [
        ("[12001, 14003, 23001, 33003]", "sequence-patterned"),
        ("[33003, 23001, 14003, 12001]", "sequence-patterned"),
        ("[4589, 2387, 920, 18357, 50]", "sequence-published"),
        ("[12001, 301, 777]", "sequence-weak"),
        ("[80, 14003, 12001, 33003]", "first-knock-public"),
        ("[14003, 22022, 12001, 33003]", "knock-listening"),
    ] {
        let text = text(second);
        assert_eq!(names(&text, &around(&["22", "22022"])), [wanted], "{text}");
        let own = text.replace("opens =", &format!("silence = ['{wanted}']\nopens ="));
        assert_eq!(names(&own, &around(&["22", "22022"])), [""; 0], "{own}");
    }
    let report = warnings(&text("[1201, 1400, 2300, 3300]"), &around(&["22"]));
    let said = report.to_string();
    assert!(
        said.contains("scratch sequence 2 of `paper` goes up or down all the way")
            && said.contains("key new NAME --scratch"),
        "{said}"
    );
    assert_eq!(
        names(&text("[14003, 12001, 23001, 33003]"), &around(&["22"])),
        [""; 0]
    );
}

#[test]
fn an_interface_is_unguarded_if_the_host_has_it() {
    let only = |list: &str| format!("interfaces = [{list}]\n{GOOD}");
    let here = around(&["22"]);
    assert_eq!(names(&only("'eth0'"), &here), ["interface-unguarded"]);
    assert_eq!(names(&only("'eth0', 'wlan0'"), &here), [""; 0]);
    // The policy may be for a host that has no other.
    let elsewhere = Surroundings {
        listening: None,
        ..here
    };
    assert_eq!(names(&only("'eth0'"), &elsewhere), [""; 0]);
}

/// An element of `allow` for an interface that is not there lets nothing in, and nobody would see why.
#[test]
fn an_interface_in_allow_is_missing_if_the_host_does_not_have_it() {
    let only = |list: &str| {
        format!(
            "{GOOD}\n[firewall]\ndefault = 'drop'\nallow = [{{ ports = [5432], interfaces = [{list}] }}]\n"
        )
    };
    let here = around(&["22", "5432"]);
    assert_eq!(names(&only("'eht0'"), &here), ["interface-missing"]);
    let twice = ["interface-missing", "interface-missing"];
    assert_eq!(names(&only("'eth7', 'enp2s0', 'wlan1'"), &here), twice);
    let said = warnings(&only("'eht0'"), &here).to_string();
    assert!(said.contains("did you mean `eth0`?"), "{said}");
    for there in ["'eth0'", "'enp2s0'", "'wlan0', 'eth0'"] {
        assert_eq!(names(&only(there), &here), [""; 0]);
    }
    let silenced = format!("silence = ['interface-missing']\n{}", only("'eht0'"));
    assert_eq!(names(&silenced, &here), [""; 0]);
    // The policy may be for a host that has it.
    let elsewhere = Surroundings {
        listening: None,
        ..here
    };
    assert_eq!(names(&only("'eht0'"), &elsewhere), [""; 0]);
}

#[test]
fn another_name_of_an_interface_guards_it() {
    let text = format!("interfaces = ['enp2s0', 'wlan0']\n{GOOD}");
    assert_eq!(names(&text, &around(&["22"])), [""; 0]);
}

/// A listener beside a door is told once for each program, and not where nobody gets to it.
#[test]
fn a_program_behind_a_door_and_another_port_is_named() {
    let here = with_ways(&["22"]);
    let here = Surroundings {
        translations: Vec::new(),
        ..here
    };
    let messages = |text: &str, around: &Surroundings| -> Vec<String> {
        let report = warnings(text, around);
        report
            .diagnostics()
            .iter()
            .map(|found| found.message.clone())
            .collect()
    };
    assert_eq!(
        messages(GOOD, &here),
        ["sshd, which listens at 22/tcp, also listens at 2222/tcp, 53/udp, which are no doors"]
    );
    let dropped = format!("{GOOD}[firewall]\ndefault = 'drop'\nallow = [");
    let well = [
        format!("ignore = [2222, '53/udp']\n{GOOD}"),
        GOOD.replace("[22]", "[22, 2222, '53/udp']"),
        format!("silence = ['door-beside']\n{GOOD}"),
        format!("{dropped}80]\n"),
    ];
    for text in &well {
        let found = names(text, &here);
        assert!(!found.contains(&"door-beside"), "{text}");
    }
    let allowed = messages(&format!("{dropped}2222]\n"), &here);
    assert!(
        allowed[0].ends_with("also listens at 2222/tcp, which is no door"),
        "{allowed:?}"
    );
}

#[test]
fn translations_of_a_door_are_named() {
    let elsewhere = || To::Elsewhere("192.0.2.9".to_string());
    for (way, told) in [
        (
            way(2022, To::Here, Some(22)),
            "2022/tcp is translated to 22/tcp",
        ),
        (
            way(22, To::Here, Some(2222)),
            "22/tcp is translated to 2222/tcp (table ip nat, chain prerouting), which",
        ),
        (
            way(22, elsewhere(), None),
            "22/tcp may be translated to 192.0.2.9:22",
        ),
        (
            way(22, elsewhere(), Some(2222)),
            "22/tcp may be translated to 192.0.2.9:2222",
        ),
    ] {
        let here = Surroundings {
            translations: vec![way],
            ..around(&["22"])
        };
        let report = warnings(GOOD, &here);
        let found: Vec<_> = report.diagnostics().iter().collect();
        assert!(found[0].message.starts_with(told), "{}", found[0].message);
        assert_eq!(found.len(), 1, "{told}");
    }
    for way in [
        way(80, To::Here, Some(8080)),
        way(8022, elsewhere(), Some(22)),
        way(22, To::Here, None),
    ] {
        let here = Surroundings {
            translations: vec![way.clone()],
            ..around(&["22"])
        };
        assert_eq!(names(GOOD, &here), [""; 0], "{way:?}");
    }
    // The program that a translated port leads to is not at that port.
    let here = Surroundings {
        translations: vec![way(22, elsewhere(), None)],
        ..around(&[])
    };
    assert_eq!(names(GOOD, &here), ["door-translated"]);
}

#[test]
fn a_time_is_told_in_its_largest_unit() {
    const DAY: u64 = 86_400;
    const YEAR: u64 = 31_557_600;
    for (seconds, text) in [
        (0, "less than a second"),
        (1, "1 second"),
        (59, "59 seconds"),
        (60, "1 minute"),
        (3599, "59 minutes"),
        (2 * 3600, "2 hours"),
        (DAY, "1 day"),
        (YEAR - 1, "365 days"),
        (YEAR, "1 year"),
        (1_000_000 * YEAR - 1, "999999 years"),
        (1_000_000 * YEAR, "more than a million years"),
    ] {
        assert_eq!(about(Duration::from_secs(seconds)), text);
    }
}

fn check(text: &str, arguments: &[&str]) -> Output {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("policy.toml");
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    Command::new(env!("CARGO_BIN_EXE_toctoc"))
        .arg("check")
        .args(arguments)
        .arg(path)
        .output()
        .unwrap()
}

#[test]
fn warnings_are_no_errors_unless_they_are_denied() {
    let text = GOOD.replace("4431", "80");
    for (text, arguments, code) in [
        (GOOD, &["--strict"][..], 0),
        (&text, &[], 0),
        (&text, &["--strict"], 1),
        (&text, &["--strict", "--json"], 1),
        ("x = 1", &["--json"], 1),
    ] {
        let output = check(text, &[arguments, &["--elsewhere"]].concat());
        assert_eq!(output.status.code(), Some(code), "{arguments:?}");
    }
    let output = check(GOOD, &["--strict=everything"]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn programs_get_names_places_and_strength() {
    let text = GOOD.replace("4431", "80");
    let output = check(&text, &["--elsewhere", "--json"]);
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(value["warnings"][0]["name"], "first-knock-public");
    assert_eq!(value["warnings"][0]["line"], 6);
    assert_eq!(value["warnings"][0]["column"], 13);
    assert_eq!(value["keys"][0]["name"], "yves");
    assert!(value["keys"][0]["bits"].as_f64().unwrap() > 60.0);
    assert_eq!(output.stderr, b"");
    let output = check("x = 1", &["--elsewhere", "--json"]);
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(value["errors"][0]["line"], 1);
}

#[test]
fn a_name_that_is_none_is_an_error_with_a_hint() {
    let output = check(&format!("silence = [\"sequence-week\"]\n{GOOD}"), &[]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("did you mean `sequence-weak`?"), "{said}");
}
