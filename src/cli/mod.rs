//! The command line: one file for each command. Commands read arguments, call the library and print;
//! they decide nothing.

mod apply;
mod by_hand;
mod check;
mod code;
mod demo;
mod explain;
mod import;
mod key;
mod knock;
mod profile;
mod refill;
mod remove;
mod render;
mod status;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::{Args, Parser, Subcommand};

use crate::firewall::list_size;
use crate::policy::diagnostic::Style;
use crate::policy::load::{LoadError, exposed, load};
use crate::policy::{Backend, Host, Name, Policy};

/// Knock, and the door opens: port knocking in the kernel's own firewall, with nothing left running.
#[derive(Parser)]
#[command(
    name = "toctoc",
    version,
    after_help = "Exit status: 0 yes, 1 no (policy has errors, kernel differs, door shut), 2 could not."
)]
struct Cli {
    /// Without a command: status.
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Check a policy file.
    Check(PolicyPath),
    /// Print the ruleset of a policy.
    Render(render::Arguments),
    /// Say what each knock of a trace means (lines `seconds source port[/udp]` on standard input).
    Explain(PolicyPath),
    /// Turn a knockd.conf or the classic iptables script into a policy.
    Import(import::Arguments),
    /// Put a policy into the running firewall, keeping live grants.
    Apply(PolicyPath),
    /// Make, list and revoke keys.
    Key(key::Arguments),
    /// Load the tokens of the coming hours (a timer does, every quarter of an hour).
    Refill(refill::Arguments),
    /// Show doors, grants and progress, and whether the kernel holds what the policy says.
    Status(status::Arguments),
    /// Grant a source a door by hand.
    Open(by_hand::Open),
    /// End grants: all, of one door, of one source.
    Close(by_hand::Close),
    /// Take our rules out of the firewall. The doors are then open to everyone.
    Remove(remove::Arguments),
    /// Knock at a host, and see whether the door opened.
    Knock(knock::Arguments),
    /// Take in what a client needs to know.
    Profile(profile::Arguments),
    /// Print a token of this minute in hexadecimal, for any tool that sends bytes.
    Code(code::Arguments),
    /// Watch it work: two hosts in namespaces, a real door, a real listener.
    Demo(demo::Arguments),
}

#[derive(Args)]
struct PolicyPath {
    /// The policy file.
    #[arg(value_name = "POLICY", default_value = "/etc/toctoc/policy.toml")]
    path: PathBuf,
    /// `nftables` or `iptables`, instead of what the policy says.
    #[arg(long, value_name = "BACKEND", value_parser = backend)]
    backend: Option<Backend>,
}

fn backend(text: &str) -> Result<Backend, String> {
    let known = [Backend::Nftables, Backend::Iptables];
    let named = known.into_iter().find(|backend| backend.name() == text);
    named.ok_or_else(|| format!("`{text}` is no backend: nftables and iptables are"))
}

/// What a command's exit status says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    Yes,
    No,
    CouldNot,
}

impl From<Answer> for ExitCode {
    fn from(answer: Answer) -> ExitCode {
        ExitCode::from(match answer {
            Answer::Yes => 0,
            Answer::No => 1,
            Answer::CouldNot => 2,
        })
    }
}

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    let command = Cli::parse().command;
    let command = command.unwrap_or_else(|| Command::Status(status::Arguments::default()));
    let answer = match command {
        Command::Check(policy) => check::run(&policy),
        Command::Render(policy) => render::run(&policy),
        Command::Explain(policy) => explain::run(&policy),
        Command::Import(arguments) => import::run(&arguments),
        Command::Apply(policy) => apply::run(&policy),
        Command::Refill(arguments) => refill::run(&arguments),
        Command::Status(arguments) => status::run(&arguments),
        Command::Open(arguments) => by_hand::open(&arguments),
        Command::Close(arguments) => by_hand::close(&arguments),
        Command::Remove(arguments) => remove::run(&arguments),
        Command::Knock(arguments) => knock::run(&arguments),
        Command::Key(arguments) => key::run(&arguments),
        Command::Profile(arguments) => profile::run(&arguments),
        Command::Code(arguments) => code::run(&arguments),
        Command::Demo(arguments) => demo::run(&arguments),
    };
    answer.into()
}

/// Reads the policy, or says on standard error why not.
fn policy(path: &PolicyPath) -> Result<Policy, Answer> {
    policy_for(path, None)
}

/// What a key or a profile is called.
fn name(text: &str) -> Result<Name, String> {
    Name::new(text).ok_or_else(|| {
        format!(
            "`{text}` is no name: 1 to {} letters (a-z), digits, `-`, `_` or `.`, the first a letter or \
             digit",
            Name::LONGEST
        )
    })
}

/// The same; `default` is the backend where neither the file nor the command line names one.
fn policy_for(path: &PolicyPath, default: Option<Backend>) -> Result<Policy, Answer> {
    load(&path.path, &host(path, default)).map_err(could_not_read)
}

/// What a policy is read for.
fn host(path: &PolicyPath, default: Option<Backend>) -> Host<'static> {
    Host {
        backend: path.backend,
        default,
        ip_list_tot: list_size(),
        ..Host::default()
    }
}

/// Warns when others can read or change a policy that holds sequences.
fn warn_of_readers(path: &PolicyPath, policy: &Policy) {
    if let Some(warning) = exposed(&path.path, policy) {
        complain(&warning);
    }
}

/// Says why there is no policy.
fn could_not_read(error: LoadError) -> Answer {
    match error {
        LoadError::Unreadable(message) => {
            complain(&message);
            Answer::CouldNot
        }
        LoadError::Wrong(report) => {
            let mut stderr = anstream::stderr();
            let _ = writeln!(stderr, "{}", report.render(Style::Coloured));
            Answer::No
        }
    }
}

/// Prints to standard output. When nobody reads it any more, that is no error and changes no answer.
fn say(text: &str) {
    let _ = heard(text);
}

/// Prints to standard output. Returns whether somebody still reads it.
fn heard(text: &str) -> bool {
    match print(text) {
        Ok(()) => true,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => false,
        Err(error) => {
            complain(&format!("cannot write: {error}"));
            std::process::exit(2);
        }
    }
}

/// Prints what was done to the firewall. Returns whether it could be written; when nobody reads it any
/// more, that is no error.
fn report(text: &str) -> bool {
    match print(text) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            complain(&format!(
                "cannot write: {error}\nthe running firewall was changed; only the report could not be \
                 written"
            ));
            false
        }
        _ => true,
    }
}

/// The answer of a command that has nothing more to say than its report.
fn reported(text: &str) -> Answer {
    if report(text) {
        Answer::Yes
    } else {
        Answer::CouldNot
    }
}

fn print(text: &str) -> io::Result<()> {
    let mut stdout = anstream::stdout();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// Prints an error.
fn complain(message: &str) {
    let _ = writeln!(anstream::stderr(), "toctoc: {message}");
}

/// The time in seconds since 1970.
fn now() -> i64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH);
    elapsed.map_or(0, |d| i64::try_from(d.as_secs()).unwrap_or(i64::MAX))
}

/// "1 door", "2 doors"
fn count(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}
