//! `toctoc man`: the manual pages, from the same definitions as `--help` and the reader of policies.

use clap::{Arg, Args, Command};
use roff::{Inline, Roff, bold, italic, roman};

use super::{Answer, say};

#[derive(Args)]
pub(super) struct Arguments {
    /// `toctoc`, the program, or `policy`, its file.
    #[arg(default_value = "toctoc", value_parser = clap::builder::PossibleValuesParser::new(PAGES))]
    page: String,
}

#[cfg(feature = "server")]
const PAGES: &[&str] = &["toctoc", "policy"];
#[cfg(not(feature = "server"))]
const PAGES: &[&str] = &["toctoc"];

pub(super) fn run(arguments: &Arguments, program: Command) -> Answer {
    let page = match arguments.page.as_str() {
        #[cfg(feature = "server")]
        "policy" => policy(),
        _ => toctoc(program),
    };
    say(&page.to_roff());
    Answer::Yes
}

fn page(name: &str, section: &str, what: &str) -> Roff {
    let mut page = Roff::new();
    let version = concat!("toctoc ", env!("CARGO_PKG_VERSION"));
    page.control("TH", [name, section, "", version, ""]);
    page.control("SH", ["NAME"]);
    page.text([roman(format!("{} - {what}", name.to_lowercase()))]);
    page
}

/// toctoc(1)
fn toctoc(mut program: Command) -> Roff {
    program.build();
    let what = styled(program.get_about());
    let mut page = page("TOCTOC", "1", &what);
    page.control("SH", ["SYNOPSIS"]);
    page.text([bold("toctoc"), roman(" [COMMAND]")]);
    page.control("SH", ["DESCRIPTION"]);
    page.text([roman(
        "A policy file says which ports are doors and what opens them; toctoc compiles it into the \
         kernel's own firewall. Nothing of it runs afterwards. On the client it knocks, and connects.",
    )]);
    page.control("SH", ["COMMANDS"]);
    page.text([
        roman("Where a "),
        italic("POLICY"),
        roman(" can be named it is /etc/toctoc/policy.toml otherwise, and "),
        bold("--backend"),
        roman(" (nftables or iptables) goes before what it says. Without a command: "),
        bold("toctoc status"),
        roman("."),
    ]);
    let commands = program.get_subcommands().filter(|c| c.get_name() != "help");
    for command in commands {
        describe(
            &mut page,
            &format!("toctoc {}", command.get_name()),
            command,
        );
    }
    page.control("SH", ["EXIT STATUS"]);
    for (status, meaning) in [
        ("0", "Yes: it was done, or is so."),
        (
            "1",
            "No: the policy has errors, the kernel differs, this host takes no part in its fleet, the door is \
             shut.",
        ),
        ("2", "It could not be done, or not be found out."),
    ] {
        item(&mut page, vec![bold(status)], meaning);
    }
    page.control("SH", ["FILES"]);
    for (file, meaning) in [
        (
            "/etc/toctoc/policy.toml",
            "The policy, see toctoc-policy(5).",
        ),
        (
            "/var/lib/toctoc/state.json",
            "Which tokens and scratch sequences were used up. $STATE_DIRECTORY counts.",
        ),
        (
            "/var/lib/toctoc/applied.json",
            "What was applied last, with its text, and what is on trial. There too.",
        ),
        (
            "~/.config/toctoc/NAME.toml",
            "Profiles of the client. $XDG_CONFIG_HOME counts.",
        ),
        (
            "~/.cache/toctoc/round-trip/HOST",
            "How long the last connection to a host took to be answered. $XDG_CACHE_HOME counts.",
        ),
    ] {
        item(&mut page, vec![italic(file)], meaning);
    }
    page.control("SH", ["ENVIRONMENT"]);
    item(
        &mut page,
        vec![bold("NO_COLOR")],
        "When set, nothing is coloured.",
    );
    page.control("SH", ["SEE ALSO"]);
    page.text([roman("toctoc-policy(5), nft(8), ssh_config(5)")]);
    page
}

fn describe(page: &mut Roff, name: &str, command: &Command) {
    if command.is_hide_set() {
        return;
    }
    let inner = command.get_subcommands().filter(|c| c.get_name() != "help");
    let inner: Vec<&Command> = inner.collect();
    if !inner.is_empty() {
        for command in inner {
            describe(page, &format!("{name} {}", command.get_name()), command);
        }
        return;
    }
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage:").trim();
    page.control("SS", [usage]);
    page.text([roman(sentence(&styled(command.get_about())))]);
    for argument in command.get_arguments() {
        let name = argument.get_id();
        let everywhere = ["help", "version", "path", "backend"];
        if argument.is_hide_set() || everywhere.iter().any(|known| name == known) {
            continue;
        }
        item(page, names(argument), &help(argument));
    }
}

fn names(argument: &Arg) -> Vec<Inline> {
    let mut names = Vec::new();
    let short = argument.get_short().map(|short| format!("-{short}"));
    let long = argument.get_long().map(|long| format!("--{long}"));
    for name in short.into_iter().chain(long) {
        if !names.is_empty() {
            names.push(roman(", "));
        }
        names.push(bold(name));
    }
    if argument.get_action().takes_values() {
        let values = argument.get_value_names().unwrap_or_default().join(" ");
        if !names.is_empty() {
            names.push(roman(" "));
        }
        names.push(italic(values));
    }
    names
}

fn help(argument: &Arg) -> String {
    let mut help = sentence(&styled(argument.get_help()));
    let defaults = argument.get_default_values();
    if argument.get_action().takes_values()
        && let Some(default) = defaults.first().and_then(|default| default.to_str())
    {
        help.push_str(&format!(" (Default: {default}.)"));
    }
    help
}

fn styled(text: Option<&clap::builder::StyledStr>) -> String {
    let text = text.map(ToString::to_string).unwrap_or_default();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// clap takes the full stop from the end of a line of help.
fn sentence(text: &str) -> String {
    match text.ends_with(['.', ')', '?']) || text.is_empty() {
        true => text.to_string(),
        false => format!("{text}."),
    }
}

fn item(page: &mut Roff, name: Vec<Inline>, text: &str) {
    page.control("TP", []);
    page.text(name);
    page.text([roman(text)]);
}

/// toctoc-policy(5)
#[cfg(feature = "server")]
fn policy() -> Roff {
    use crate::policy::manual::PARTS;
    let mut page = page(
        "TOCTOC-POLICY",
        "5",
        "what toctoc(1) compiles into the firewall",
    );
    page.control("SH", ["DESCRIPTION"]);
    page.text([roman(
        "A text in TOML. Ports are written 443 or \"443/tcp\" for TCP and \"53/udp\" for UDP, times 500ms, \
         10s, 5m or 6h in quotes. Names are letters (a-z), digits, `-`, `_` and `.`. `toctoc check` says \
         what is wrong, and where.",
    )]);
    for part in PARTS {
        let header = match part.header {
            "" => "AT THE TOP",
            header => header,
        };
        page.control("SH", [header]);
        page.text([roman(part.text)]);
        for setting in part.settings {
            let default = match setting.default {
                "" => String::new(),
                default => format!(" (Default: {default}.)"),
            };
            let name = vec![bold(setting.name), roman(" = "), italic(setting.value)];
            item(&mut page, name, &format!("{}{default}", setting.text));
        }
    }
    page.control("SH", ["WARNINGS"]);
    page.text([roman(
        "`toctoc check` warns of what is allowed and not wise. The setting `silence` takes these names.",
    )]);
    for rule in crate::policy::lint::RULES {
        item(&mut page, vec![bold(rule.name)], rule.reason);
    }
    page.control("SH", ["EXAMPLE"]);
    page.control("nf", []);
    for line in include_str!("../../examples/everything.toml").lines() {
        page.text([roman(line)]);
    }
    page.control("fi", []);
    page.control("SH", ["SEE ALSO"]);
    page.text([roman("toctoc(1)")]);
    page
}
