//! Golden scripts: one named policy each, and the nft script it is compiled to. nft takes every one
//! of them.
//!
//! `SNAPSHOTS=overwrite cargo test --test scripts` writes the scripts anew; read them then.

use std::fs;
use std::path::{Path, PathBuf};

use toctoc::automaton::Automaton;
use toctoc::firewall::run;
use toctoc::lab::Host;
use toctoc::policy::load::load;
use toctoc::ruleset::nftables::render;

fn policies(directory: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap();
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "toml"))
        .collect();
    files.sort();
    files
}

fn script(path: &Path) -> String {
    let policy = load(path, &toctoc::policy::Host::default()).unwrap();
    render(&policy, &Automaton::build(policy.sequences())).standalone()
}

#[test]
fn policies_are_compiled_to_their_scripts() {
    let policies = policies("tests/golden/scripts");
    assert!(policies.len() >= 8);
    for path in policies {
        let expected = snapbox::Data::read_from(&path.with_extension("nft"), None).raw();
        snapbox::Assert::new()
            .action_env("SNAPSHOTS")
            .normalize_paths(false)
            .eq(script(&path), expected);
    }
}

#[test]
fn nft_takes_every_script_without_a_word() {
    let host = Host::new().expect("needs root, or: unshare --user --map-root-user -- cargo test");
    let golden = policies("tests/golden/scripts");
    for path in golden.into_iter().chain(policies("examples")) {
        let script = script(&path);
        for arguments in [&["nft", "-c", "-f", "-"][..], &["nft", "-f", "-"]] {
            let ended = host.inside(|| run(arguments, &script)).unwrap().unwrap();
            let said = format!("{}{}", ended.stdout, ended.stderr);
            assert_eq!(
                (ended.code, said.as_str()),
                (Some(0), ""),
                "{}",
                path.display()
            );
        }
    }
}

/// Rules do not grow with the keys, but for each key's own chain.
#[test]
fn only_the_chains_of_keys_grow_with_the_keys() {
    let with_keys = |keys: usize| {
        let mut text = String::from("[door.ssh]\nports = [22]\n");
        for key in 0..keys {
            let (a, b) = (1000 + key * 2, 60_000 - key * 3);
            text.push_str(&format!(
                "[key.k{key}]\nopens = [\"ssh\"]\nsequence = [{a}, {b}, 7, 5]\n"
            ));
        }
        let policy = toctoc::policy::read("p", &text).unwrap();
        let script = render(&policy, &Automaton::build(policy.sequences()));
        let own = script.chains.iter().filter(|c| c.name.starts_with("key-"));
        let (mut own_rules, mut shared_rules) = (0, 0);
        let mut own_chains = 0;
        for chain in own {
            own_chains += 1;
            own_rules += chain.rules().count();
        }
        for chain in script.chains.iter().filter(|c| !c.name.starts_with("key-")) {
            shared_rules += chain.rules().count();
        }
        (own_chains, own_rules, shared_rules)
    };
    let (chains, rules, shared) = with_keys(1);
    assert_eq!((chains, rules), (1, 2));
    assert_eq!(with_keys(100), (100, 200, shared));
}
