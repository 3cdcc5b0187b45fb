//! What each reader promises for any input at all, beyond not to panic. The fuzzer calls these by way of
//! `fuzz_targets/`; `tests/corpora.rs` runs the kept inputs through them. `fleet.rs` has the promise of the fleet.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;
use std::sync::LazyLock;
use std::time::Duration;

use toctoc::automaton::Automaton;
use toctoc::client::Profile;
use toctoc::firewall::nf_tables;
use toctoc::import::import;
use toctoc::policy::{Backend, Host, Policy, read, read_for};
use toctoc::ruleset::Family;
use toctoc::ruleset::iptables::{
    self, Clock, Lists, Saved, Wanted, lists_of, opened_count, parse_list,
};
use toctoc::ruleset::nftables::{self, Listing, TABLE};
use toctoc::single_use::journal::{Clocks, Found};
use toctoc::single_use::plan::{Plan, Source, reaches, rest, samples, whole};
use toctoc::single_use::{Journal, Secret, Token, Window};
use toctoc::trace::run::{Effect, Meaning, Run};
use toctoc::trace::{Packet, explain, parse_line};

/// A promise, checked for one input.
pub struct Target {
    /// Its inputs are in `fuzz/corpus/NAME`.
    pub name: &'static str,
    pub holds: fn(&[u8]),
    /// Other directories with inputs.
    pub more: &'static [&'static str],
}

/// All of them, for the corpora.
pub const ALL: [Target; 9] = [
    target(
        "policy",
        policy,
        &["tests/golden/broken", "tests/golden/scripts"],
    ),
    target("nft_listing", nft_listing, &["tests/golden/readers"]),
    target("kernel_messages", kernel_messages, &[]),
    target("xt_recent", xt_recent, &["tests/golden/readers"]),
    target("iptables_save", iptables_save, &["tests/golden/readers"]),
    target("knockd", knockd, &["tests/golden/import"]),
    target("explain", explain_input, &[]),
    target("state_file", state_file, &[]),
    target("profile", profile, &[]),
];

const fn target(name: &'static str, holds: fn(&[u8]), more: &'static [&'static str]) -> Target {
    Target { name, holds, more }
}

/// A policy is accepted or refused with a report. One that is accepted can be compiled for each backend
/// that takes it, and every key of it that has not expired opens.
pub fn policy(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    for backend in [Backend::Nftables, Backend::Iptables] {
        let host = Host {
            backend: Some(backend),
            ..Host::default()
        };
        let policy = match read_for("policy.toml", text, &host) {
            Ok(policy) => policy,
            Err(report) => {
                assert!(!report.diagnostics().is_empty() && !report.to_string().is_empty());
                continue;
            }
        };
        let automaton = Automaton::build(policy.sequences());
        each_key_opens(&policy, &automaton);
        match backend {
            Backend::Nftables => {
                only_our_table(&nftables::render(&policy, &automaton).standalone())
            }
            Backend::Iptables => {
                for family in Family::BOTH {
                    let script = iptables::render(&policy, &automaton, family, &[]);
                    let wanted = Wanted::script(&script, &Saved::default());
                    only_our_chains(&iptables::change(&Saved::default(), &wanted));
                }
            }
        }
    }
}

fn each_key_opens(policy: &Policy, automaton: &Automaton) {
    for (index, key) in policy.keys.iter().enumerate() {
        let mut run = Run::new(policy, automaton, 0);
        let mut last = None;
        for &to in key.sequences().iter().flatten() {
            let packet = Packet {
                at: Duration::ZERO,
                source: [192, 0, 2, 7].into(),
                host: None,
                to,
            };
            last = Some(run.packet(packet));
        }
        let opens = matches!(
            last,
            Some(Meaning::Knock { effect: Effect::Opens(opened) | Effect::Expired(opened), .. })
                if opened.0 == index
        );
        assert!(opens, "{}: {last:?}", key.name);
    }
}

/// Whatever nft prints is read or refused, and the transactions made of it touch our table alone.
pub fn nft_listing(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let Ok(listing) = Listing::parse(text) else {
        return;
    };
    let (policy, automaton) = &*FIXED;
    let script = nftables::render(policy, automaton);
    let _ = (listing.progress(), listing.opened());
    let _ = (
        nftables::spent_and_life(&listing),
        nftables::burnt(&listing),
    );
    let loaded = nftables::loaded(&listing).unwrap_or_default();
    let held = loaded.iter();
    let again = Plan {
        anew: true,
        add: held
            .map(|(token, loaded)| (*token, (loaded.id, Duration::from_secs(60))))
            .collect(),
    };
    only_our_table(&nftables::change_tokens(&again, None, 7).to_string());
    let mut drift = nftables::compare(&listing, &listing);
    assert!(drift.is_empty(), "{drift:?}");
    drift.extend(nftables::compare_outline(&script, &listing));
    drift.extend(nftables::strange(policy, &listing));
    let mut told = String::new();
    drift.iter().for_each(|drift| {
        let _ = write!(told, "{drift}");
    });
    let late = Duration::from_secs(1);
    only_our_table(
        &nftables::transaction(policy, &script, Some(&listing), late)
            .transaction
            .to_string(),
    );
    for change in [
        nftables::carry(policy, &listing.grants(), late),
        nftables::leftovers(policy, &listing, None),
        nftables::close(&listing, None, None),
    ] {
        only_our_table(&change.transaction.to_string());
    }
}

/// Whatever the kernel says is read or passed over, and what is made of it touches our table alone. A fingerprint is the
/// same for the same.
pub fn kernel_messages(data: &[u8]) {
    let Ok((listing, parts)) = nf_tables::told(data) else {
        return;
    };
    let (policy, automaton) = &*FIXED;
    let _ = (
        listing.progress(),
        listing.opened(),
        listing.elsewhere(),
        listing.closed(),
    );
    let _ = (
        nftables::spent_and_life(&listing),
        nftables::burnt(&listing),
        listing.terms(),
    );
    let _ = (
        parts.fixed_sets(),
        parts.marks().listing(),
        parts.count_as(&nftables::render(policy, automaton)),
    );
    let whole = parts.digest();
    assert_eq!(
        nf_tables::told(data).map(|(_, parts)| parts.digest()).ok(),
        Some(whole)
    );
    for change in [
        nftables::leftovers(policy, &listing, None),
        nftables::close(&listing, None, None),
    ] {
        only_our_table(&change.transaction.to_string());
    }
}

/// Every command of a script is about our table. What stands inside braces belongs to a command.
fn only_our_table(script: &str) {
    let mut depth = 0i32;
    for line in script.lines() {
        let line = line.trim();
        if depth == 0 && !line.is_empty() && !line.starts_with('#') {
            let words: Vec<&str> = line.split(' ').collect();
            let verb = ["add", "delete", "flush", "table", "destroy", "create"];
            assert!(verb.contains(&words[0]), "{line}");
            assert!(line.contains(TABLE), "{line}");
        }
        let count = |brace| line.chars().filter(|&c| c == brace).count() as i32;
        if !line.starts_with('#') {
            depth += count('{') - count('}');
        }
    }
    assert_eq!(depth, 0, "{script}");
}

/// Lists as the kernel prints them, each after a line `== NAME`, and `/proc/timer_list` among them.
pub fn xt_recent(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let parts = text.trim_start_matches("== ").split("\n== ");
    let named = parts.map(|part| part.split_once('\n').unwrap_or((part, "")));
    let clock = Clock::parse(text);
    let entries: BTreeMap<String, _> = named
        .map(|(name, list)| (name.to_string(), parse_list(list)))
        .collect();
    let newest = entries
        .values()
        .flatten()
        .map(|entry| entry.last_seen)
        .max();
    let guess = || Clock::guess(newest.unwrap_or(0), Duration::from_secs(1000));
    let Some(clock) = clock.or_else(guess) else {
        return;
    };
    let lists = Lists { entries, clock };
    let (policy, automaton) = &*FIXED;
    let (held, grants) = (lists.memberships(), lists.grants());
    assert!(grants.len() <= held.len());
    let _ = lists.progress(policy, automaton);
}

/// Whatever iptables-save prints is read or refused, and the way from there touches our chains alone.
pub fn iptables_save(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let Ok(saved) = Saved::parse(text) else {
        return;
    };
    let (policy, automaton) = &*FIXED;
    for key in &policy.keys {
        let _ = opened_count(&saved, &key.name);
    }
    let lists: Vec<_> = lists_of(&saved).into_iter().collect();
    let _ = iptables::doors(&saved);
    for ports in policy.guarded() {
        let _ = saved.guards(ports);
    }
    assert!(saved.same_rules(&saved));
    for family in Family::BOTH {
        assert!(
            iptables::compare(family, &saved, &saved)
                .iter()
                .all(|drift| !drift.to_string().is_empty())
        );
        let script = iptables::render(policy, automaton, family, &lists);
        let wanted = Wanted::script(&script, &saved);
        let _ = iptables::compare(family, &Saved::default(), &saved);
        only_our_chains(&iptables::change(&saved, &wanted));
        only_our_chains(&iptables::change(&saved, &wanted.without_progress()));
    }
    only_our_chains(&iptables::change(&saved, &Wanted::default()));
}

/// Chains that are declared, filled or deleted are ours; in those of others stands a jump to ours.
fn only_our_chains(text: &str) {
    let ours = |chain: &str| chain == "toctoc" || chain.starts_with("toctoc-");
    for line in text.lines() {
        let line = match line
            .strip_prefix('[')
            .and_then(|counted| counted.split_once("] "))
        {
            Some((_, rule)) => rule,
            None => line,
        };
        let words: Vec<&str> = line.split(' ').collect();
        match words[0] {
            "COMMIT" => {}
            "-A" | "-X" => assert!(ours(words[1]), "{line}"),
            "-I" | "-D" => assert!(words.iter().any(|word| ours(word)), "{line}"),
            table if table.starts_with('*') => {}
            chain if chain.starts_with(':') => assert!(ours(&chain[1..]), "{line}"),
            _ => assert!(line.is_empty() || line.starts_with('#'), "{line}"),
        }
    }
}

/// What becomes of a file of another program is TOML, whatever the check says to it.
pub fn knockd(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(policy) = import(&text) {
        let table = policy.parse::<toml::Table>();
        assert!(table.is_ok(), "{table:?}\n{policy}");
    }
}

/// Every line is a packet or an error that points into it, and every packet has its sentence.
pub fn explain_input(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let (policy, automaton) = &*FIXED;
    let mut run = Run::new(policy, automaton, 0);
    let mut at = Duration::ZERO;
    for line in text.lines() {
        match parse_line(line) {
            Ok(None) => {}
            Err(error) => {
                assert!(error.column <= line.len() && line.is_char_boundary(error.column));
            }
            Ok(Some(packet)) => {
                let again = parse_line(&packet.to_string()).unwrap().unwrap();
                assert_eq!((again.source, again.to), (packet.source, packet.to));
                if packet.at < at {
                    continue;
                }
                at = packet.at;
                let meaning = run.packet(packet);
                assert!(!explain::sentence(policy, automaton, &packet, &meaning).contains('\n'));
            }
        }
    }
    assert!(explain::grants(policy, &run, at).ends_with('\n'));
}

/// Whatever a state file says, it is gone on with. What it names as spent is not loaded for a week, and
/// after an unclean stop nothing is that clients could have used.
pub fn state_file(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let Some(journal) = Journal::parse(text) else {
        return;
    };
    let written = serde_json::to_string(&journal).unwrap();
    assert_eq!(Journal::parse(&written).as_ref(), Some(&journal));
    let next_life = journal.life.wrapping_add(1);
    let times = [journal.saved, journal.saved.saturating_add(3600), NOW];
    for life in [None, Some(journal.life), Some(next_life)] {
        for now in times {
            let clocks = Clocks {
                now,
                since_start: Duration::from_secs(100),
                awake: Duration::from_secs(100),
            };
            let (mut next, found) = Journal::go_on(Some(journal.clone()), life, next_life, clocks);
            assert!(!next.clean && next.saved == now);
            let spent: HashSet<Token> = next.spent().collect();
            for (token, seen) in &journal.spent {
                let token = Token::from_hex(token).unwrap();
                let old = now.saturating_sub(*seen) >= 7 * 86_400;
                assert!(old || spent.contains(&token));
            }
            let barred = next.barred_for(TOKENS.id());
            let new = next.known.contains(&TOKENS.id());
            if found == Found::AfterUncleanStop && !new {
                assert!(barred > Some(Window::at(now)));
            }
            let source = Source {
                secret: &TOKENS,
                expires: None,
                barred,
            };
            let horizon = Duration::from_secs(240);
            let whole = whole(&[source], &spent, now, horizon);
            let known = samples(&[source], &next.loaded, &spent, now);
            let rest = rest(&[source], &next.loaded, &spent, now, horizon);
            let loaded = whole
                .add
                .keys()
                .chain(rest.iter().flat_map(|plan| plan.add.keys()));
            assert!(
                loaded
                    .chain(known.iter().flatten())
                    .all(|token| !spent.contains(token))
            );
            assert!(reaches(&[source], now, horizon).contains_key(&TOKENS.id()));
        }
    }
}

/// Some moment, in seconds since 1970. Seeds hold tokens of the minutes around it.
const NOW: i64 = 1_783_350_030;

static TOKENS: LazyLock<Secret> =
    LazyLock::new(|| Secret::new(std::array::from_fn(|i| i as u8).into()));

/// As `profile import` takes it, a file or a link. What is taken is the same when it is read again as
/// the file that is written of it, and as its link.
pub fn profile(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let parsed = match text.trim_start().starts_with("toctoc://") {
        true => Profile::parse_link(text),
        false => Profile::parse(text),
    };
    match parsed {
        Ok(profile) => {
            assert_eq!(Profile::parse(&profile.text()).as_ref(), Ok(&profile));
            assert_eq!(Profile::parse_link(&profile.link()).as_ref(), Ok(&profile));
        }
        Err(error) => assert!(!error.is_empty()),
    }
}

/// A policy with a bit of everything.
static FIXED: LazyLock<(Policy, Automaton)> = LazyLock::new(|| {
    let text = r#"
ignore = [80]
[grant]
prefix4 = 24
prefix6 = 64
[door.ssh]
ports = [22]
[door.vpn]
ports = ["51820/udp", 1194]
open_for = "1h"
[key.yves]
opens = ["ssh"]
sequence = [443, 2387, 920, 18357, 50]
[key.anna]
opens = ["ssh", "vpn"]
sequence = [443, 2387, 1111, "53/udp"]
once = true
[key.old]
opens = ["vpn"]
sequence = [18357, 50, 443]
expires = 1980-01-31
"#;
    let policy = read("fixed", text).expect("a valid policy");
    let automaton = Automaton::build(policy.sequences());
    (policy, automaton)
});
