//! Golden scripts: one named policy each, and what it is compiled to for nft, iptables and ip6tables.
//! These take every one of them.
//!
//! `SNAPSHOTS=overwrite cargo test --test scripts` writes the scripts anew; read them then.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use toctoc::automaton::Automaton;
use toctoc::firewall::run;
use toctoc::lab::Host;
use toctoc::policy::{Backend, Host as ReadFor, Policy, Secrets, read_for};
use toctoc::ruleset::nftables::render;
use toctoc::ruleset::{Family, iptables};
use toctoc::single_use::Secret;

fn policies(directory: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap();
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "toml"))
        .collect();
    files.sort();
    files
}

/// `None` when the backend cannot express the policy.
fn read(path: &Path, backend: Backend) -> Option<Policy> {
    // A secret of the tests is no secret, and git keeps no modes.
    let directory = path.parent().unwrap();
    let secret = |name: &str| {
        let text = fs::read_to_string(directory.join(name)).map_err(|e| e.to_string())?;
        Secret::parse(&text).map_err(|e| e.to_string())
    };
    let host = ReadFor {
        backend: Some(backend),
        secrets: Secrets(Some(&secret)),
        ..ReadFor::default()
    };
    let text = fs::read_to_string(path).unwrap();
    match read_for(&path.display().to_string(), &text, &host) {
        Ok(policy) => Some(policy),
        Err(error) if backend == Backend::Iptables => {
            assert!(error.to_string().contains("iptables"), "{error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

fn script(path: &Path) -> String {
    let policy = read(path, Backend::Nftables).unwrap();
    render(&policy, &Automaton::build(policy.sequences())).standalone()
}

fn iptables_script(path: &Path, family: Family) -> Option<String> {
    let policy = read(path, Backend::Iptables)?;
    let automaton = Automaton::build(policy.sequences());
    Some(iptables::render(&policy, &automaton, family, &[]).to_string())
}

const IPTABLES: [(Family, &str); 2] = [(Family::V4, "iptables"), (Family::V6, "ip6tables")];

#[test]
fn policies_are_compiled_to_their_scripts() {
    let policies = policies("tests/golden/scripts");
    assert!(policies.len() >= 8);
    let mut expressed = 0;
    for path in policies {
        golden(&path.with_extension("nft"), script(&path));
        for (family, extension) in IPTABLES {
            if let Some(script) = iptables_script(&path, family) {
                golden(&path.with_extension(extension), script);
                expressed += 1;
            }
        }
    }
    assert!(expressed >= 14, "only {expressed}");
}

fn golden(path: &Path, script: String) {
    let expected = snapbox::Data::read_from(path, None).raw();
    snapbox::Assert::new()
        .action_env("SNAPSHOTS")
        .normalize_paths(false)
        .eq(script, expected);
}

/// Both variants of iptables, each with a host of its own.
#[test]
fn iptables_takes_every_script_without_a_word() {
    let golden = policies("tests/golden/scripts");
    let mut taken = 0;
    for path in golden.into_iter().chain(policies("examples")) {
        for (family, stem) in IPTABLES {
            let Some(script) = iptables_script(&path, family) else {
                continue;
            };
            for variant in ["legacy", "nft"] {
                let host = Host::new().expect("needs root");
                let program = format!("{stem}-{variant}-restore");
                let ended = host.inside(|| run(&[&program, "--noflush"], &script));
                let ended = ended.unwrap().unwrap();
                let said = format!("{}{}", ended.stdout, ended.stderr);
                let shown = path.display();
                assert_eq!(
                    (ended.code, said.as_str()),
                    (Some(0), ""),
                    "{program} {shown}"
                );
                taken += 1;
            }
        }
    }
    assert!(taken >= 28, "only {taken}");
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
    assert_eq!((chains, rules), (1, 3));
    assert_eq!(with_keys(100), (100, 300, shared));
}

/// Each opening is logged once for each door, however many rules that takes.
#[test]
fn forty_doors_are_logged_each() {
    let names: Vec<String> = (0..40).map(|door| format!("d{door}")).collect();
    let doors = names.iter().zip(1000..);
    let doors: String = doors
        .map(|(name, port)| format!("[door.{name}]\nports = [{port}]\n"))
        .collect();
    let key = format!("[key.all]\nopens = {names:?}\nsequence = [443, 2387, 920]\n");
    for (log, times) in [("kernel", 1), ("off", 0)] {
        let text = format!("log = \"{log}\"\n{doors}{key}");
        let policy = toctoc::policy::read("p", &text).unwrap();
        let script = render(&policy, &Automaton::build(policy.sequences())).to_string();
        for name in &names {
            let logged = script.matches(&format!("door={name} ")).count();
            assert_eq!(logged, times, "{name}");
        }
    }
}

/// Many ports are found by range: each port's own rule stands below a range with it in.
#[test]
fn each_port_stands_in_its_range() {
    let mut text = String::from("[door.ssh]\nports = [22]\n");
    for key in 0..150 {
        let (a, b) = (1000 + key * 7, 60_000 - key * 3);
        text += &format!("[key.k{key}]\nopens = [\"ssh\"]\nsequence = [{a}, {b}, 7, 5]\n");
    }
    let policy = toctoc::policy::read("p", &text).unwrap();
    let automaton = Automaton::build(policy.sequences());
    let script = iptables::render(&policy, &automaton, Family::V4, &[]);
    let raw = script.tables.iter().find(|table| table.name == "raw");
    let chains: BTreeMap<_, _> = raw.unwrap().chains().into_iter().collect();
    let word = |rule: &str, name: &str| {
        let mut words = rule.split(' ').skip_while(|word| *word != name);
        words.nth(1).map(str::to_string)
    };
    let mut found = 0;
    let mut open = vec![("toctoc-ports".to_string(), 1, u16::MAX)];
    while let Some((chain, low, high)) = open.pop() {
        for rule in &chains[chain.as_str()] {
            let Some(ports) = word(rule, "--dport") else {
                assert_eq!(*rule, "-g toctoc-wrong");
                continue;
            };
            let (first, last) = ports.split_once(':').unwrap_or((&ports, &ports));
            let (first, last): (u16, u16) = (first.parse().unwrap(), last.parse().unwrap());
            assert!(
                low <= first && first <= last && last <= high,
                "{chain}: {rule}"
            );
            match ports.contains(':') {
                true => open.push((word(rule, "-g").unwrap(), first, last)),
                false => found += 1,
            }
        }
    }
    // Two for each key, the two they share, and the door.
    assert_eq!(found, 303);
}

/// nft 0.9.8 takes no word of its own language for the name of a set, map, counter or chain, even where later ones do.
#[test]
fn no_name_is_a_word_of_nft() {
    const WORDS: &str = "accept add all arp at bridge burst bypass chain chains comment constant continue count counter \
        counters ct daddr day delete device dnat dport drop dup element elements expires export fanout fib flags flow \
        flowtable flush fwd get goto group handle helper hook hour icmp icmpv6 iif iifname import index inet insert \
        interval ip ip6 jhash jump label last length level limit list log map maps mark masquerade memory meta minute \
        mod monitor netdev num numgen nfproto offset oif oifname over performance persistent policy position prefix \
        priority protocol queue quota random rate redirect reject rename reset return rt rule ruleset rules saddr second \
        seed set sets size snaplen snat socket sport state stateless status symhash table tables tcp timeout to \
        transparent type typeof udp until update used version vlan week with";
    let words: Vec<&str> = WORDS.split_whitespace().collect();
    let mut named = 0;
    for policy in policies("tests/golden/scripts") {
        let script = fs::read_to_string(policy.with_extension("nft")).unwrap();
        for line in script.lines().map(str::trim) {
            let Some(("set" | "map" | "counter" | "chain", rest)) = line.split_once(' ') else {
                continue;
            };
            if let Some(name) = rest.strip_suffix(" {") {
                named += 1;
                assert!(!words.contains(&name), "{}: {name}", policy.display());
            }
        }
    }
    assert!(named > 500, "{named}");
}
