//! Manual pages, help and completions say what there is.

use std::collections::BTreeSet;
use std::process::Command;

use toctoc::policy::manual::PARTS;

fn toctoc(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_toctoc"))
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "{arguments:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Words that stand in quotes behind another.
fn quoted_after<'t>(text: &'t str, before: &str) -> BTreeSet<&'t str> {
    let rest = text.split(before).skip(1);
    rest.filter_map(|rest| rest.split('"').next()).collect()
}

/// The reader of policies takes settings by name; so it is its own list of them.
#[test]
fn the_manual_has_every_setting_of_a_policy_and_no_other() {
    let reader = std::fs::read_to_string("src/policy/file.rs").unwrap();
    let reader = reader.replace(
        ".take(\n                self,\n                ",
        ".take(self, ",
    );
    let mut read = quoted_after(&reader, ".take(self, \"");
    read.append(&mut quoted_after(&reader, ".entry(self, \""));
    assert!(read.len() > 20, "{read:?}");
    let told = PARTS
        .iter()
        .flat_map(|part| part.settings)
        .map(|setting| setting.name);
    assert_eq!(told.collect::<BTreeSet<_>>(), read);
    let mut sections = quoted_after(&reader, ".named(self, \"");
    sections.append(&mut quoted_after(&reader, ".table(self, \""));
    let told = PARTS
        .iter()
        .map(|part| part.header.trim_matches(['[', ']']));
    let told = told.map(|header| header.split('.').next().unwrap_or_default());
    let told: BTreeSet<&str> = told.filter(|header| !header.is_empty()).collect();
    assert_eq!(told, sections);
}

/// The example has every setting, in its section.
#[test]
fn the_example_shows_what_the_manual_tells() {
    let example = std::fs::read_to_string("examples/everything.toml").unwrap();
    for setting in PARTS.iter().flat_map(|part| part.settings) {
        let shown = example.lines().any(|line| {
            let line = line.trim_start_matches(['#', ' ']);
            line.strip_prefix(setting.name)
                .is_some_and(|rest| rest.trim_start().starts_with('='))
        });
        assert!(shown, "{}", setting.name);
    }
}

/// The pages that an installation gets, as groff and man make text of them: no warning, every section.
#[test]
fn manual_pages_are_set_without_a_warning() {
    let directory = tempfile::tempdir().unwrap();
    toctoc(&["man", "--into", directory.path().to_str().unwrap()]);
    let mut wanted: BTreeSet<String> = commands(&[])
        .iter()
        .map(|name| format!("man1/toctoc-{name}.1"))
        .collect();
    wanted.insert("man1/toctoc.1".to_string());
    wanted.insert("man5/toctoc-policy.5".to_string());
    let mut found = BTreeSet::new();
    for section in ["man1", "man5"] {
        for page in std::fs::read_dir(directory.path().join(section)).unwrap() {
            let name = page.unwrap().file_name().into_string().unwrap();
            found.insert(format!("{section}/{name}"));
        }
    }
    assert_eq!(found, wanted);
    for page in &wanted {
        let groff = Command::new("groff")
            .args(["-man", "-ww", "-Tutf8", "-P-cbou"])
            .arg(directory.path().join(page))
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&groff.stderr), "", "{page}");
        let text = String::from_utf8(groff.stdout).unwrap();
        let sections: &[&str] = match page.as_str() {
            "man1/toctoc.1" => &["NAME", "SYNOPSIS", "COMMANDS", "EXIT STATUS", "FILES"],
            "man5/toctoc-policy.5" => &["NAME", "DESCRIPTION", "SERVICES", "WARNINGS", "EXAMPLE"],
            _ => &[
                "NAME",
                "SYNOPSIS",
                "DESCRIPTION",
                "EXAMPLES",
                "EXIT STATUS",
                "SEE ALSO",
            ],
        };
        for section in sections {
            assert!(
                text.lines().any(|line| line == *section),
                "{page}: {section}: {text}"
            );
        }
        // One that prints the same as it was asked for.
        let name = page.trim_start_matches("man1/").trim_start_matches("man5/");
        let name = name
            .trim_start_matches("toctoc-")
            .trim_end_matches(|c: char| c == '.' || c.is_ascii_digit());
        let written = std::fs::read_to_string(directory.path().join(page)).unwrap();
        assert_eq!(toctoc(&["man", name]), written, "{page}");
    }
}

/// The names of commands, as `--help` lists them: those of the program are in groups.
fn commands(of: &[&str]) -> Vec<String> {
    let help = toctoc(&[of, &["--help"]].concat());
    let begin = if of.is_empty() {
        "\n\nLook and try:\n"
    } else {
        "Commands:\n"
    };
    let Some((_, list)) = help.split_once(begin) else {
        return Vec::new();
    };
    let lines = list.lines().take_while(|line| !line.is_empty());
    let names = lines.filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    let names = names.filter(|name| !name.is_empty() && *name != "help");
    names.map(str::to_string).collect()
}

/// All commands are in a group, once, and the status without a command is mentioned. It fits 80 columns.
#[test]
fn help_lists_every_command_in_a_group() {
    let help = toctoc(&["--help"]);
    for words in [
        "Look and try:",
        "Run:",
        "Keys:",
        "Client:",
        "Plain `toctoc` means `toctoc status`.",
    ] {
        assert!(help.contains(words), "{words}: {help}");
    }
    assert!(
        help.lines().all(|line| line.chars().count() <= 80),
        "{help}"
    );
    let listed = commands(&[]);
    let once: BTreeSet<&String> = listed.iter().collect();
    assert_eq!(once.len(), listed.len());
    // What the shells are offered is what there is.
    let output = Command::new(env!("CARGO_BIN_EXE_toctoc"))
        .args(["--", "toctoc", ""])
        .env("TOCTOC_COMPLETE", "fish")
        .output()
        .unwrap();
    let offered = String::from_utf8(output.stdout).unwrap();
    let words = offered.lines().filter_map(|line| line.split('\t').next());
    let there = words.filter(|word| !word.starts_with('-') && *word != "help");
    let there: BTreeSet<&str> = there.collect();
    assert_eq!(there, listed.iter().map(String::as_str).collect());
}

/// An option that would change nothing is not offered; a default has one form.
#[test]
fn options_are_offered_where_they_have_an_effect() {
    for (command, has) in [
        (&["apply"][..], true),
        (&["check"], true),
        (&["status"], true),
        (&["init"], true),
        (&["draw"], false),
        (&["explain"], false),
        (&["log"], false),
        (&["refill"], false),
        (&["fleet"], false),
        (&["key", "list"], false),
        (&["key", "revoke"], false),
    ] {
        let help = toctoc(&[command, &["--help"]].concat());
        assert_eq!(help.contains("--backend"), has, "{command:?}");
    }
    for name in commands(&[]) {
        let mut helps = vec![toctoc(&[&name, "--help"])];
        helps.extend(
            commands(&[&name])
                .iter()
                .map(|inner| toctoc(&[&name, inner, "--help"])),
        );
        for help in helps {
            assert!(
                !help.contains("(default") && !help.contains("(Default"),
                "{help}"
            );
            // "for how long [default: 60s]", and never "for how long. [default: 60s]", nor a default in words.
            let flat = help.split_whitespace().collect::<Vec<_>>().join(" ");
            for (at, _) in flat.match_indices("[default") {
                let (before, default) = flat.split_at(at);
                assert!(
                    default.starts_with("[default: ") || default.starts_with("[default]"),
                    "{help}"
                );
                assert!(!before.trim_end().ends_with('.'), "{help}");
            }
            assert!(
                !flat.contains("Without one:") && !flat.contains(" by default"),
                "{help}"
            );
        }
        // In the manual each help is a sentence, and the default stands behind it.
        let page = toctoc(&["man", &name]).replace("\\-", "-");
        for (at, _) in page.match_indices(" [default") {
            assert!(
                page[..at].ends_with(['.', '?', ')']),
                "{name}: {}",
                &page[..at]
            );
        }
    }
}

#[test]
fn every_command_is_in_the_manual_and_its_help_fits_a_screen() {
    let overview = toctoc(&["man"]).replace("\\-", "-");
    let mut all = vec![vec![]];
    for name in commands(&[]) {
        for inner in commands(&[&name]) {
            all.push(vec![name.clone(), inner]);
        }
        all.push(vec![name]);
    }
    assert!(all.len() > 25);
    for command in &all {
        let words: Vec<&str> = command.iter().map(String::as_str).collect();
        let help = toctoc(&[&words[..], &["--help"]].concat());
        let most = if command.is_empty() { 48 } else { 40 };
        assert!(
            help.lines().count() <= most,
            "{words:?}: {}",
            help.lines().count()
        );
        assert!(
            help.lines().all(|line| line.chars().count() <= 100),
            "{help}"
        );
        let Some(first) = words.first() else {
            continue;
        };
        assert!(overview.contains(&format!("toctoc-{first}")), "{first}");
        let page = toctoc(&["man", first]).replace("\\-", "-");
        if words.len() == 2 {
            let header = format!(".SS \"toctoc {}", words.join(" "));
            assert!(page.contains(&header), "{header}");
        }
        if commands(&words).is_empty() {
            let options = help.split("--").skip(1);
            let options = options.filter_map(|rest| rest.split([' ', '\n', ',']).next());
            for option in options.filter(|option| *option != "help") {
                assert!(
                    page.contains(&format!("--{option}")),
                    "{words:?} --{option}"
                );
            }
        }
    }
}

/// The questions of shells to the program: doors and keys of the policy in place, in a mount namespace.
#[test]
fn doors_and_keys_of_the_policy_are_completed() {
    let directory = tempfile::tempdir().unwrap();
    let policy = "[door.office]\nports = [22]\n[key.yves]\nopens = [\"office\"]\n\
                  sequence = [4431, 2387, 9920]\n";
    std::fs::write(directory.path().join("policy.toml"), policy).unwrap();
    let offered = |words: &str| {
        let script = format!(
            "mkdir -p /etc/toctoc && mount --bind {} /etc/toctoc && {} -- toctoc {words} ''",
            directory.path().display(),
            env!("CARGO_BIN_EXE_toctoc")
        );
        let output = Command::new("unshare")
            .args(["--mount", "--", "sh", "-c", &script])
            .env("TOCTOC_COMPLETE", "fish")
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
        String::from_utf8(output.stdout).unwrap()
    };
    for (words, wanted) in [
        ("close", "office"),
        ("open", "office"),
        ("key new phone --opens", "office"),
        ("key revoke", "yves"),
    ] {
        let found = offered(words);
        assert!(found.lines().any(|line| line == wanted), "{words}: {found}");
    }
    assert!(!offered("knock").contains("office"));
}

/// Each shell itself, with what `toctoc completions` prints for it.
#[test]
fn shells_complete_commands_and_profiles() {
    let home = tempfile::tempdir().unwrap();
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_toctoc"));
    let path = std::env::var("PATH").unwrap_or_default();
    let run = |shell: &[&str]| {
        let output = Command::new(shell[0])
            .args(&shell[1..])
            .env("HOME", home.path())
            .env_remove("XDG_CONFIG_HOME")
            .env(
                "PATH",
                format!("{}:{path}", program.parent().unwrap().display()),
            )
            .output()
            .unwrap_or_else(|error| panic!("{}: {error}", shell[0]));
        let said = [output.stdout, output.stderr].concat();
        String::from_utf8(said).unwrap()
    };
    let add = "toctoc profile add office --host office.example --sequence 5,6,7";
    run(&["sh", "-c", add]);
    let bash = |line: &str| {
        run(&[
            "bash",
            "-c",
            &format!(
                "source <(toctoc completions bash); COMP_WORDS=({line} ''); \
                 COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _clap_complete_toctoc toctoc '' x 2>/dev/null; \
                 printf '%s\\n' \"${{COMPREPLY[@]}}\""
            ),
        ])
    };
    let fish = |line: &str| {
        run(&[
            "fish",
            "-c",
            &format!("toctoc completions fish | source; complete -C '{line} '"),
        ])
    };
    // zsh completes only for people; what its function asks is asked here.
    let zsh = |line: &str| {
        let words = line.split(' ').count();
        run(&[
            "zsh",
            "-f",
            "-c",
            &format!(
                "autoload -Uz compinit; compinit -u -D; source <(toctoc completions zsh) && \
                 whence -w _clap_dynamic_completer_toctoc >/dev/null && \
                 _CLAP_COMPLETE_INDEX={words} TOCTOC_COMPLETE=zsh toctoc -- {line} ''"
            ),
        ])
    };
    type Shell<'s> = (&'s str, &'s dyn Fn(&str) -> String);
    let shells: [Shell; 3] = [("bash", &bash), ("fish", &fish), ("zsh", &zsh)];
    for (name, complete) in shells {
        for (line, wanted, unwanted) in [
            ("toctoc", "apply", "office"),
            ("toctoc knock", "office", "apply"),
            ("toctoc connect", "office", "apply"),
            ("toctoc profile show", "office", "apply"),
            ("toctoc profile show office --as", "knockonports", "office"),
        ] {
            let offered = complete(line);
            assert!(offered.contains(wanted), "{name}: {line}: {offered}");
            assert!(!offered.contains(unwanted), "{name}: {line}: {offered}");
        }
    }
}
