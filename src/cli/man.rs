//! `toctoc man`: the manual pages, from the same definitions as `--help` and the reader of policies.

mod pages;

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Arg, Args, Command};
use roff::{Inline, Roff, bold, italic, roman};

use super::help::GROUPS;
use super::{Answer, complain, say};

#[derive(Args)]
pub(super) struct Arguments {
    /// A command, `toctoc` for the overview, or `policy` for the policy file.
    #[arg(default_value = OVERVIEW)]
    page: String,
    /// Write all pages into `man1` and `man5` below this directory.
    #[arg(long, value_name = "DIRECTORY", conflicts_with = "page")]
    into: Option<PathBuf>,
}

const OVERVIEW: &str = "toctoc";
const POLICY: &str = "policy";

pub(super) fn run(arguments: &Arguments, mut program: Command) -> Answer {
    program.build();
    if let Some(directory) = &arguments.into {
        return match write(directory, &program) {
            Ok(()) => Answer::Yes,
            Err(why) => {
                complain(&why);
                Answer::CouldNot
            }
        };
    }
    let Some(page) = of(&arguments.page, &program) else {
        let names = names_of_all(&program);
        let meant = nearest(&arguments.page, &names);
        complain(&format!(
            "there is no page {}; {}there are: {}",
            arguments.page,
            meant.map_or(String::new(), |name| format!("did you mean {name}? ")),
            names.join(", ")
        ));
        return Answer::CouldNot;
    };
    say(&page.to_roff());
    Answer::Yes
}

#[cfg(feature = "server")]
use crate::policy::nearest;

/// A client alone has no reader of policies, and looks for nothing alike.
#[cfg(not(feature = "server"))]
fn nearest<'c>(_found: &str, _names: &[&'c str]) -> Option<&'c str> {
    None
}

/// All pages, the overview first.
fn names_of_all(program: &Command) -> Vec<&str> {
    let policy = cfg!(feature = "server").then_some(POLICY);
    let commands = program.get_subcommands().map(Command::get_name);
    let commands = commands.filter(|name| *name != "help");
    [OVERVIEW]
        .into_iter()
        .chain(policy)
        .chain(commands)
        .collect()
}

fn of(name: &str, program: &Command) -> Option<Roff> {
    match name {
        OVERVIEW => Some(toctoc(program)),
        #[cfg(feature = "server")]
        POLICY => Some(policy()),
        "help" => None,
        name => program.find_subcommand(name).map(command),
    }
}

/// Writes `man1/toctoc.1`, `man1/toctoc-apply.1`, `man5/toctoc-policy.5` and the others.
fn write(directory: &Path, program: &Command) -> Result<(), String> {
    for name in names_of_all(program) {
        let file = match name {
            OVERVIEW => "man1/toctoc.1".to_string(),
            POLICY => "man5/toctoc-policy.5".to_string(),
            name => format!("man1/toctoc-{name}.1"),
        };
        let path = directory.join(file);
        let page = of(name, program).map_or(String::new(), |page| page.to_roff());
        let made = path.parent().map_or(Ok(()), fs::create_dir_all);
        made.and_then(|()| fs::write(&path, page))
            .map_err(|error| format!("{} cannot be written: {error}", path.display()))?;
    }
    Ok(())
}

fn page(name: &str, section: &str, what: &str) -> Roff {
    let mut page = Roff::new();
    let version = concat!("toctoc ", env!("CARGO_PKG_VERSION"));
    page.control("TH", [name, section, "", version, ""]);
    // To the left, and no word in two: `toctoc-apply` would become two commands.
    page.control("ad", ["l"]);
    page.control("nh", []);
    page.control("SH", ["NAME"]);
    page.text([roman(format!("{} - {what}", name.to_lowercase()))]);
    page
}

/// toctoc(1)
fn toctoc(program: &Command) -> Roff {
    let what = styled(program.get_about());
    let mut page = page("TOCTOC", "1", &what);
    page.control("SH", ["SYNOPSIS"]);
    page.text([bold("toctoc"), roman(" [COMMAND]")]);
    page.control("SH", ["DESCRIPTION"]);
    page.text([roman(
        "A policy file says which ports are doors and what opens them; toctoc compiles it into the \
         kernel's own firewall. Nothing of it runs afterwards. On the client it knocks, and connects.",
    )]);
    page.control("PP", []);
    page.text([
        roman("To begin: "),
        bold("toctoc init"),
        roman(". Where a "),
        italic("POLICY"),
        roman(" can be named it is /etc/toctoc/policy.toml otherwise. Without a command: "),
        bold("toctoc status"),
        roman(". Each command has a page of its own, such as "),
        bold("toctoc-apply"),
        roman("(1)."),
    ]);
    page.control("SH", ["EXAMPLES"]);
    for (line, meaning) in [
        (
            "toctoc init",
            "On the server: hides the ssh port, on trial, and says what comes next.",
        ),
        (
            "toctoc confirm",
            "On the server, when the new connection works: keeps it.",
        ),
        (
            "toctoc profile import FILE home",
            "On the client: keeps what init has made for it.",
        ),
        (
            "toctoc knock home && ssh HOST",
            "On the client: knocks, and connects.",
        ),
    ] {
        item(&mut page, vec![bold(line)], meaning);
    }
    page.control("SH", ["COMMANDS"]);
    for (group, names) in GROUPS {
        let there: Vec<&Command> = names
            .iter()
            .filter_map(|name| program.find_subcommand(name))
            .collect();
        let there: Vec<&Command> = there
            .into_iter()
            .filter(|c| c.get_name() != "help")
            .collect();
        if !there.is_empty() {
            page.control("SS", [group]);
        }
        for command in there {
            let name = vec![bold(format!("toctoc-{}", command.get_name())), roman("(1)")];
            item(&mut page, name, &sentence(&styled(command.get_about())));
        }
    }
    exit_status(&mut page);
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

fn exit_status(page: &mut Roff) {
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
        item(page, vec![bold(status)], meaning);
    }
}

/// The page of a command: toctoc-apply(1)
fn command(command: &Command) -> Roff {
    let name = command.get_name();
    let what = styled(command.get_about());
    let mut page = page(
        &format!("TOCTOC-{}", name.to_uppercase()),
        "1",
        what.trim_end_matches('.'),
    );
    let told = pages::of(name);
    let inner = inner_of(command);
    page.control("SH", ["SYNOPSIS"]);
    if inner.is_empty() {
        page.text([roman(usage(command))]);
    }
    for (index, one) in inner.iter().enumerate() {
        if index > 0 {
            page.control("br", []);
        }
        page.text([roman(usage(one))]);
    }
    page.control("SH", ["DESCRIPTION"]);
    page.text([roman(sentence(&what))]);
    if let Some(told) = told {
        page.control("PP", []);
        page.text([roman(told.text)]);
    }
    if let Some(after) = command.get_after_help() {
        page.control("PP", []);
        page.text([roman(styled(Some(after)))]);
    }
    if !inner.is_empty() {
        page.control("SH", ["COMMANDS"]);
    }
    for one in inner {
        page.control("SS", [usage(one).as_str()]);
        page.text([roman(sentence(&styled(one.get_about())))]);
        options(&mut page, one);
    }
    if command.get_arguments().any(is_told) {
        page.control("SH", ["OPTIONS"]);
        options(&mut page, command);
    }
    page.control("SH", ["EXAMPLES"]);
    for (line, meaning) in told.map_or(&[][..], |told| told.examples) {
        item(&mut page, vec![bold(*line)], meaning);
    }
    exit_status(&mut page);
    page.control("SH", ["SEE ALSO"]);
    page.text([roman("toctoc(1), toctoc-policy(5)")]);
    page
}

fn inner_of(command: &Command) -> Vec<&Command> {
    let inner = command.get_subcommands();
    inner
        .filter(|c| c.get_name() != "help" && !c.is_hide_set())
        .collect()
}

fn usage(command: &Command) -> String {
    let usage = command.clone().render_usage().to_string();
    usage.trim_start_matches("Usage:").trim().to_string()
}

/// Returns whether an argument is worth a line.
fn is_told(argument: &Arg) -> bool {
    let everywhere = ["help", "version"];
    !argument.is_hide_set() && !everywhere.iter().any(|known| argument.get_id() == known)
}

fn options(page: &mut Roff, command: &Command) {
    for argument in command.get_arguments().filter(|argument| is_told(argument)) {
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
        help.push_str(&format!(" [default: {default}]"));
    }
    help
}

fn styled(text: Option<&clap::builder::StyledStr>) -> String {
    let text = text.map(ToString::to_string).unwrap_or_default();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// clap takes the full stop from the end of a line of help. A default stands behind it.
fn sentence(text: &str) -> String {
    let (text, default) = text.split_at(text.find(DEFAULT).unwrap_or(text.len()));
    match text.ends_with(['.', '?']) || text.ends_with(".)") || text.is_empty() {
        true => format!("{text}{default}"),
        false => format!("{text}.{default}"),
    }
}

/// The form of defaults, in help and manual.
const DEFAULT: &str = " [default";

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
                default => format!(" [default: {default}]"),
            };
            let name = vec![bold(setting.name), roman(" = "), italic(setting.value)];
            item(&mut page, name, &format!("{}{default}", setting.text));
        }
    }
    page.control("SH", ["SERVICES"]);
    let names = crate::services::SERVICES.iter();
    let names: Vec<String> = names.map(|service| service.words()).collect();
    page.text([roman(format!(
        "Wherever a port stands, the name of a service may stand for its number, with the protocol as for a number. \
         toctoc knows these names, after IANA's registry, and does not read /etc/services, so that a policy means the \
         same on each machine: {}.",
        names.join(", ")
    ))]);
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
    page.text([roman("toctoc(1), toctoc-check(1), toctoc-apply(1)")]);
    page
}
