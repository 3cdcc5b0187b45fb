//! Listings that are read back from a kernel, and the transactions made of them. Pure: the listings were recorded
//! once, by real programs from real kernels, after real knocks.
//!
//! `golden/readers/NAME.toml` was applied, then its guests knocked, came and waited, and everything
//! was listed: `NAME.nft-RELEASE.json`, `NAME.iptables-RELEASE.save`, `NAME.lists` (the kernel's own
//! lists of addresses, and its clock). Where a listing was only taken for how its release writes
//! sets, its rules are left out and its map of steps is cut short; all have one object on a line.
//! `tokens.nft-RELEASE.json` is what is listed of single-use keys.
//!
//! `SNAPSHOTS=overwrite cargo test --test readers` writes what is expected anew; read it then.

mod iptables;
mod nftables;
mod tokens;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Mutex;

use toctoc::held::{Drift, Grant, Opened, Progress};
use toctoc::policy::{Backend, Host, Name, Policy};

fn path(name: &str) -> PathBuf {
    PathBuf::from("tests/golden/readers").join(name)
}

fn recorded(name: &str) -> String {
    std::fs::read_to_string(path(name)).unwrap()
}

fn golden(name: &str, text: String) {
    let expected = snapbox::Data::read_from(&path(name), None).raw();
    snapbox::Assert::new()
        .action_env("SNAPSHOTS")
        .normalize_paths(false)
        .eq(text, expected);
}

/// Each policy is checked once: that includes sweeps of all ports.
fn read(text: &str, backend: Backend) -> Policy {
    static READ: Mutex<BTreeMap<(String, &str), Policy>> = Mutex::new(BTreeMap::new());
    let place = (text.to_string(), backend.name());
    let mut known = READ.lock().unwrap_or_else(|error| error.into_inner());
    let check = || {
        let host = Host {
            backend: Some(backend),
            ..Host::default()
        };
        toctoc::policy::read_for("p", text, &host).unwrap_or_else(|report| panic!("{report}"))
    };
    known.entry(place).or_insert_with(check).clone()
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

/// The names of doors and keys for their numbers.
fn named(id: u32) -> String {
    let names = ["ssh", "vpn", "yves", "anna", "bob"];
    let found = names.iter().find(|text| name(text).id() == id);
    found.map_or_else(|| id.to_string(), |name| name.to_string())
}

fn opened(opened: &Opened) -> String {
    let by = match opened.by_hand() {
        true => "hand".to_string(),
        false => named(opened.key.0),
    };
    let (source, door, left) = (opened.source, named(opened.door.0), opened.expires_in);
    format!("{door} by {by} for {source}, {left:.1?} left")
}

/// Everything that a backend says of its guests, line by line.
fn reading(grants: &[Grant], progress: &[Progress]) -> String {
    let mut text = String::new();
    for grant in grants {
        let (source, door, left) = (grant.source, named(grant.door.0), grant.expires_in);
        let once = if grant.once { " once" } else { "" };
        let _ = write!(text, "grant{once}: {door} to {source}, {left:.1?} left");
        let by = grant.opened_by.as_ref().map(opened);
        let _ = writeln!(text, "; opened: {}", by.as_deref().unwrap_or("by nobody"));
    }
    for Progress {
        source,
        state,
        expires_in,
    } in progress
    {
        let _ = writeln!(
            text,
            "midway: {source} in state {state}, {expires_in:.1?} left"
        );
    }
    text
}

fn sentences(drifts: &[Drift]) -> Vec<String> {
    drifts.iter().map(Drift::to_string).collect()
}
