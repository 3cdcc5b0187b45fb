//! The questions of `toctoc init`. Nothing is written before the last one is answered.

use std::env;
use std::io::{self, BufRead};

use super::super::client_host::{is_for_others, outward, own_name, reached_by};
use super::super::key::{length, name};
use super::super::{Answer, complain, say};
use super::{Arguments, KNOCKS, Plan};
use crate::cli::knock::knock;
use crate::enrol::Kind;
use crate::firewall::caller::Connection;
use crate::firewall::listening::Service;
use crate::first::{door, door_name, is_private};
use crate::knock::{Knock, Protocol};
use crate::policy::{Backend, Name, show};

/// More services than this are counted.
const SHOWN: usize = 12;

/// Asks for what the options do not say.
pub(super) fn plan(
    arguments: &Arguments,
    services: &[Service],
    connection: Option<Connection>,
) -> Result<Plan, Answer> {
    // Before anything is asked.
    let given_key = arguments.key.clone().map(|key| free(arguments, key));
    let given_key = given_key.transpose().map_err(|why| refuse(&why))?;
    let given_host = arguments.host.as_deref().map(reached_by);
    let given_host = given_host.transpose().map_err(|why| refuse(&why))?;
    if !arguments.yes {
        say(
            "The first door of this host. Enter takes the answer in [brackets].\n\
             Nothing is written before the last question; Ctrl-C ends this.\n",
        );
    }
    let ports = match arguments.door.as_slice() {
        [] => ports(arguments, services, connection)?,
        given => each_once(given.to_vec()),
    };
    let key = match given_key {
        Some(key) => key,
        None => key(arguments)?,
    };
    let host = match given_host {
        Some(host) => host,
        None => host(arguments, connection)?,
    };
    let plan = Plan {
        door: door_name(services, &ports, connection),
        ports,
        key,
        server: host,
        kind: kind(arguments)?,
    };
    if !arguments.yes {
        consent(arguments, services, &plan)?;
    }
    Ok(plan)
}

fn ports(
    arguments: &Arguments,
    services: &[Service],
    connection: Option<Connection>,
) -> Result<Vec<Knock>, Answer> {
    let proposal = door(services, connection);
    if arguments.yes {
        return proposal.ok_or_else(|| missing("which port to hide is not clear", "--door PORT"));
    }
    say(&reachable(services, connection));
    let proposal = proposal.map(|ports| listed(&ports));
    ask(
        "\nWhich port shall be hidden? (Several: 22,2222)",
        proposal.as_deref(),
        |text| {
            let ports: Result<Vec<Knock>, String> =
                text.split(',').map(|port| knock(port.trim())).collect();
            Ok(each_once(ports?))
        },
    )
}

fn each_once(ports: Vec<Knock>) -> Vec<Knock> {
    let mut once = Vec::new();
    for port in ports {
        if !once.contains(&port) {
            once.push(port);
        }
    }
    once
}

/// Refuses an answer to another question.
fn no_answer(text: &str) -> Result<(), String> {
    match text.to_lowercase().as_str() {
        "yes" | "y" | "no" | "n" => Err(format!(
            "this question cannot be answered with `{text}`: Enter takes the answer in [brackets]"
        )),
        _ => Ok(()),
    }
}

/// "  22/tcp     sshd     your own connection comes in here"
fn reachable(services: &[Service], connection: Option<Connection>) -> String {
    if services.is_empty() {
        return "\nNo program on this host can be reached from outside over TCP.\n".to_string();
    }
    let mut text = "\nPorts on this host that other hosts reach:\n".to_string();
    for service in services.iter().take(SHOWN) {
        let port = service.port.to_string();
        let program = service.program.as_deref().unwrap_or("(not known)");
        let own = connection.is_some_and(|there| there.to.port() == service.port.port.get());
        let own = if own { "you are connected here" } else { "" };
        let line = format!("  {port:<10} {program:<16} {own}");
        text += &format!("{}\n", line.trim_end());
    }
    if services.len() > SHOWN {
        text += &format!("  and {} more\n", services.len() - SHOWN);
    }
    text
}

fn key(arguments: &Arguments) -> Result<Name, Answer> {
    // Who has become root by sudo, or is called otherwise.
    let users = ["SUDO_USER", "LOGNAME", "USER"].map(|variable| env::var(variable).ok());
    let mut users = users.into_iter().flatten().filter(|user| user != "root");
    let user = users.find_map(|user| Name::new(&user));
    let proposal = user.map_or("admin".to_string(), |user| user.to_string());
    match arguments.yes {
        true => {
            let key = name(&proposal).map_err(|why| missing(&why, "--key NAME"))?;
            free(arguments, key).map_err(|why| refuse(&why))
        }
        false => ask(
            "\nWho gets the first key? A name for a person or a device.",
            Some(&proposal),
            |text| {
                no_answer(text)?;
                free(arguments, name(text)?)
            },
        ),
    }
}

/// A name whose files beside the policy are not there yet.
fn free(arguments: &Arguments, key: Name) -> Result<Name, String> {
    for ending in ["profile.toml", "secret"] {
        let file = arguments
            .policy
            .path
            .with_file_name(format!("{key}.{ending}"));
        if file.symlink_metadata().is_ok() {
            return Err(format!(
                "{} is there already, and init overwrites nothing: move it away, or take another name",
                file.display()
            ));
        }
    }
    Ok(key)
}

fn host(arguments: &Arguments, connection: Option<Connection>) -> Result<String, Answer> {
    let own = connection.map(|there| there.to.ip());
    let own = own.filter(|own| is_for_others(*own));
    let own_name = || own.is_none().then(|| own_name().ok()).flatten();
    let (named, own) = (own_name(), own.or_else(outward));
    let proposal = named.or_else(|| own.map(|own| own.to_string()));
    if let Some(own) = own.filter(|own| is_private(*own) && proposal == Some(own.to_string())) {
        say(&format!(
            "\n{own} is a private address: clients elsewhere need another one, or a name{}.\n",
            if arguments.yes { " (--host)" } else { "" }
        ));
    }
    if arguments.yes {
        return proposal.ok_or_else(|| {
            missing(
                "by which name or address clients reach this host is not known",
                "--host HOST",
            )
        });
    }
    ask(
        "\nBy which name or address do clients reach this host?",
        proposal.as_deref(),
        |text| {
            no_answer(text)?;
            reached_by(text)
        },
    )
}

fn kind(arguments: &Arguments) -> Result<Kind, Answer> {
    match (arguments.token, arguments.sequence) {
        (true, _) => return Ok(Kind::Token),
        _ if arguments.signed => return Ok(Kind::Signed),
        (_, Some(number)) => return Ok(Kind::Sequence(number)),
        _ => {}
    }
    if arguments.yes || arguments.policy.backend == Some(Backend::Iptables) {
        return Ok(Kind::Sequence(KNOCKS));
    }
    say("\nHow does the key open?\n  \
         sequence  Knocks at five secret ports. Any tool can knock, such as nmap or nc.\n            \
         Anybody who records the knocks can repeat them.\n  \
         token     One secret packet, which opens once. The client needs toctoc and\n            \
         a clock that is right.\n  \
         signed    The same, and it opens from the client's own address alone.\n            \
         Needs BPF on this host. Behind NAT the client asks a STUN server\n            \
         (docs/signed.md).\n");
    ask(
        "Sequence, token or signed?",
        Some("sequence"),
        |text| match text.to_lowercase().as_str() {
            "sequence" | "s" => Ok(Kind::Sequence(KNOCKS)),
            "token" | "t" => Ok(Kind::Token),
            "signed" => Ok(Kind::Signed),
            other => length(other)
                .map(Kind::Sequence)
                .map_err(|_| format!("`{other}` is not one of `sequence`, `token`, `signed`")),
        },
    )
}

/// The last question.
fn consent(arguments: &Arguments, services: &[Service], plan: &Plan) -> Result<(), Answer> {
    let (path, lasting) = (arguments.policy.path.display(), show(arguments.confirm));
    let (ports, key, server) = (named(&plan.ports), &plan.key, &plan.server);
    let opens = match plan.kind {
        Kind::Sequence(knocks) => format!("{knocks} secret knocks"),
        Kind::Signed => "signed datagrams".to_string(),
        Kind::Token | Kind::Scratch(_) => "tokens".to_string(),
    };
    let silent: Vec<Knock> = plan
        .ports
        .iter()
        .copied()
        .filter(|port| is_silent(services, *port))
        .collect();
    let silent = match silent.as_slice() {
        [] => String::new(),
        silent => format!("\nNothing listens at {} on this host.\n", named(silent)),
    };
    let take = if plan.ports.len() == 1 {
        "takes"
    } else {
        "take"
    };
    say(&format!(
        "{silent}\nThis happens now:\n  \
         - {path} is written.\n  \
         - {key} gets a key: {opens}, to be sent to {server}.\n  \
         - The policy is rehearsed, on two hosts that exist only for that.\n  \
         - It goes on trial for {lasting}: {ports} {take} no new connection\n    \
         without a knock. Open connections stay open. Unless you confirm in time,\n    \
         everything goes back by itself.\n"
    ));
    let go_on = ask("Go on? yes or no", Some("yes"), |text| {
        match text.to_lowercase().as_str() {
            "yes" | "y" => Ok(true),
            "no" | "n" => Ok(false),
            other => Err(format!("`{other}` is neither `yes` nor `no`")),
        }
    })?;
    match go_on {
        true => {
            say("\n");
            Ok(())
        }
        false => Err(Answer::No),
    }
}

/// Returns whether no program that other hosts reach is at a port. Of UDP nothing is known here.
fn is_silent(services: &[Service], port: Knock) -> bool {
    port.protocol == Protocol::Tcp && services.iter().all(|service| service.port != port)
}

/// Asks until there is an answer that can be used. Enter takes the proposal.
fn ask<T>(
    question: &str,
    proposal: Option<&str>,
    read: impl Fn(&str) -> Result<T, String>,
) -> Result<T, Answer> {
    loop {
        let shown = proposal.map_or(String::new(), |proposal| format!(" [{proposal}]"));
        say(&format!("{question}{shown} "));
        let mut line = Vec::new();
        let ended = match io::stdin().lock().read_until(b'\n', &mut line) {
            Ok(0) => Some("the input ended before the last question".to_string()),
            Ok(_) => None,
            Err(error) => Some(format!("the answer cannot be read: {error}")),
        };
        if let Some(why) = ended {
            say("\n");
            complain(&why);
            return Err(Answer::CouldNot);
        }
        let line = String::from_utf8_lossy(&line);
        let answer = match (line.trim(), proposal) {
            ("", Some(proposal)) => proposal,
            ("", None) => continue,
            (given, _) => given,
        };
        match read(answer) {
            Ok(answer) => return Ok(answer),
            Err(why) => {
                let harmless = |c: char| if c.is_control() { '?' } else { c };
                say(&format!(
                    "{}\n",
                    why.chars().map(harmless).collect::<String>()
                ));
            }
        }
    }
}

fn refuse(why: &str) -> Answer {
    complain(why);
    Answer::CouldNot
}

fn missing(what: &str, option: &str) -> Answer {
    complain(&format!("{what}\nnext: say it with `{option}`"));
    Answer::CouldNot
}

/// "port 22", "ports 22,2222"
fn named(ports: &[Knock]) -> String {
    let plural = if ports.len() == 1 { "" } else { "s" };
    format!("port{plural} {}", listed(ports))
}

/// "22,2222,51820/udp"
fn listed(ports: &[Knock]) -> String {
    let shown = |port: &Knock| port.to_string().trim_end_matches("/tcp").to_string();
    ports.iter().map(shown).collect::<Vec<_>>().join(",")
}
