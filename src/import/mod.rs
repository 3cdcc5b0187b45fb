//! Turns what people have already (knockd's configuration, scripts of iptables and nft, and others' files) into
//! a policy, with a comment for each thing that has no counterpart.
//!
//! Pure: text in, text out. A reader for each form makes a [`Draft`](draft::Draft); [`write`] makes the policy
//! of it. The readers share three things: [`shell`] reads commands, [`rule`] is a firewall rule of any program,
//! and its judgement says whether it lets a source into this host. The result is a policy to read and finish,
//! not one to apply unseen; what `check` says of it is said to the user as well.

mod chains;
mod commands;
mod csf;
mod draft;
mod drafted;
mod firewalld;
mod fwknop;
mod iptables;
mod knockd;
mod letmein;
mod nft;
mod nft_rule;
mod openwrt;
mod place;
mod ports;
mod rule;
mod saved;
mod script;
mod services;
mod shell;
mod times;
mod ufw;
mod write;

use std::fmt;

use draft::{Draft, Item};

/// Nothing that could be turned into a policy was found.
#[derive(Debug, Clone, PartialEq)]
pub struct ImportError(String);

impl fmt::Display for ImportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ImportError {}

/// A form that a file can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// knockd.conf
    Knockd,
    /// OpenWrt's /etc/config/knockd
    Openwrt,
    /// A shell script with rules of iptables or nft.
    Script,
    /// The output of `iptables-save`.
    Saved,
    /// A file for `nft -f`, or the output of `nft list ruleset`.
    Nft,
    /// csf.conf
    Csf,
    /// fwknop's access.conf
    Fwknop,
    /// letmeind.conf
    Letmein,
}

impl Form {
    /// Each form with the name that `--from` takes.
    pub const NAMES: [(&str, Form); 8] = [
        ("knockd", Form::Knockd),
        ("openwrt", Form::Openwrt),
        ("script", Form::Script),
        ("iptables-save", Form::Saved),
        ("nft", Form::Nft),
        ("csf", Form::Csf),
        ("fwknop", Form::Fwknop),
        ("letmein", Form::Letmein),
    ];
}

/// The policy that says what `text` says; its form shows in the text.
///
/// # Errors
/// The reasons why nothing of it can be turned into a policy.
pub fn import(text: &str) -> Result<String, ImportError> {
    if is_policy(text) {
        return Err(ImportError(
            "this is a policy of toctoc already: `toctoc check` reads it".to_string(),
        ));
    }
    match recognise(text) {
        Some(form) => import_as(text, form),
        None => Err(ImportError(
            "this is none of the forms that are read: they are listed in `toctoc import --help`, and \
             `--from` names one"
                .to_string(),
        )),
    }
}

/// The policy that says what `text` says in this form.
///
/// # Errors
/// The reasons why nothing of it can be turned into a policy.
pub fn import_as(text: &str, form: Form) -> Result<String, ImportError> {
    let mut draft = match form {
        Form::Knockd => knockd::read(text),
        Form::Openwrt => openwrt::read(text),
        Form::Script => script::read(text),
        Form::Saved => script::read_saved(text),
        Form::Nft => script::read_nft(text),
        Form::Csf => csf::read(text),
        Form::Fwknop => fwknop::read(text),
        Form::Letmein => letmein::read(text),
    };
    draft.settle();
    if draft.keys().next().is_some() {
        return Ok(write::write(&draft));
    }
    Err(refusal(&draft))
}

/// Returns whether a text is a policy already: it has sections of doors or keys, and their settings.
fn is_policy(text: &str) -> bool {
    let lines = || text.lines().map(str::trim_start);
    let section = |line: &str| line.starts_with("[door.") || line.starts_with("[key.");
    let setting = |line: &str| {
        let name = line.split_once('=').map(|(name, _)| name.trim_end());
        matches!(name, Some("ports" | "opens"))
    };
    lines().any(section) && lines().any(setting)
}

/// The form of a text, by what stands in it.
fn recognise(text: &str) -> Option<Form> {
    let lines = || {
        let lines = text.lines().map(str::trim);
        lines.filter(|line| !line.is_empty() && !line.starts_with('#'))
    };
    let begins = |word: &str| lines().any(|line| line.split_whitespace().next() == Some(word));
    let has = |part: &str| lines().any(|line| line.contains(part));
    let section = |line: &str| line.starts_with('[') && line.ends_with(']') && line.len() > 2;
    if begins("config") && begins("option") {
        return Some(Form::Openwrt);
    }
    if lines().any(|line| line.starts_with("PORTKNOCKING") && line.contains('=')) {
        return Some(Form::Csf);
    }
    if has("[RESOURCES]") {
        return Some(Form::Letmein);
    }
    let fwknop = |line: &str| {
        ["SOURCE ", "SOURCE\t", "SOURCE:"]
            .iter()
            .any(|s| line.starts_with(s))
    };
    if lines().any(fwknop) && (has("KEY") || has("OPEN_PORTS") || has("GPG_")) {
        return Some(Form::Fwknop);
    }
    let first = lines().next().unwrap_or_default();
    if section(first) || (lines().any(section) && has("sequence")) {
        return Some(Form::Knockd);
    }
    let in_script = text.starts_with("#!/bin") || has("tables-restore");
    if saved::is_saved(text) && !in_script {
        return Some(Form::Saved);
    }
    let table = |line: &str| line.starts_with("table ") && line.contains('{');
    let program = text.lines().next().unwrap_or_default();
    let by_nft = program.starts_with("#!") && program.contains("nft");
    if (lines().any(table) && has("chain ")) || begins("define") || by_nft {
        return Some(Form::Nft);
    }
    if begins("add") && has("add rule ") {
        return Some(Form::Nft);
    }
    let rules = [
        "-m recent",
        "iptables ",
        "ip6tables ",
        "nft ",
        "--dport",
        "-j ACCEPT",
        "=(",
    ];
    rules.into_iter().any(has).then_some(Form::Script)
}

/// The error when there is no key: the reason of each section.
fn refusal(draft: &Draft) -> ImportError {
    let reasons = draft.items.iter().filter_map(|item| match item {
        Item::LeftOut { name, reason } => Some(write::harmless(&format!("{name}: {reason}"))),
        _ => None,
    });
    let reasons: Vec<String> = reasons.take(100).collect();
    ImportError(match reasons.is_empty() {
        true => format!(
            "nothing in it opens a door: it was read as {}",
            draft.source
        ),
        false => format!(
            "nothing in it can be imported; it was read as {}\n  {}",
            draft.source,
            reasons.join("\n  ")
        ),
    })
}
