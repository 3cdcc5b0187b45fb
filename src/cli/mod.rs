//! The command line: one file for each command. Commands read arguments, call the library and print;
//! they decide nothing.

#[cfg(feature = "server")]
mod apply;
#[cfg(feature = "server")]
mod by_hand;
#[cfg(feature = "server")]
mod check;
mod code;
mod completions;
mod connect;
#[cfg(feature = "server")]
mod demo;
#[cfg(feature = "server")]
mod draw;
#[cfg(feature = "server")]
mod explain;
#[cfg(feature = "server")]
mod import;
#[cfg(feature = "server")]
mod key;
mod knock;
mod man;
mod profile;
mod qr;
#[cfg(feature = "server")]
mod refill;
#[cfg(feature = "server")]
mod remove;
#[cfg(feature = "server")]
mod render;
#[cfg(feature = "server")]
mod server;
#[cfg(feature = "server")]
mod status;

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::{Parser, Subcommand};

#[cfg(feature = "server")]
use server::{
    PolicyPath, backend, could_not_read, host, policy, policy_for, report, reported,
    warn_of_readers,
};

/// Knock, and the door opens: port knocking in the kernel's own firewall, with nothing left running.
#[derive(Parser)]
#[command(
    name = "toctoc",
    version,
    after_help = "Exit status: 0 yes, 1 no (policy has errors, kernel differs, door shut), 2 could not."
)]
struct Cli {
    // Without a command: status.
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Check a policy file, and warn of what is not wise.
    #[cfg(feature = "server")]
    Check(check::Arguments),
    /// Print the ruleset of a policy.
    #[cfg(feature = "server")]
    Render(render::Arguments),
    /// Draw a policy with its sequences: which knocks make which key, and what it opens.
    #[cfg(feature = "server")]
    Draw(draw::Arguments),
    /// Say what each knock of a trace on standard input means.
    #[cfg(feature = "server")]
    Explain(PolicyPath),
    /// Turn a knockd.conf or the classic iptables script into a policy.
    #[cfg(feature = "server")]
    Import(import::Arguments),
    /// Put a policy into the running firewall, keeping live grants.
    #[cfg(feature = "server")]
    Apply(PolicyPath),
    /// Make, list and revoke keys.
    #[cfg(feature = "server")]
    Key(key::Arguments),
    /// Load the tokens of the coming hours (a timer does, every quarter of an hour).
    #[cfg(feature = "server")]
    Refill(refill::Arguments),
    /// Show doors, grants and progress, and whether the kernel holds what the policy says.
    #[cfg(feature = "server")]
    Status(status::Arguments),
    /// Grant a source a door by hand.
    #[cfg(feature = "server")]
    Open(by_hand::Open),
    /// End grants: all, of one door, of one source.
    #[cfg(feature = "server")]
    Close(by_hand::Close),
    /// Take our rules out of the firewall. The doors are then open to everyone.
    #[cfg(feature = "server")]
    Remove(remove::Arguments),
    /// Knock at a host, and see whether the door opened.
    Knock(knock::Arguments),
    /// Knock at a door, then pass on bytes through it: the ProxyCommand of ssh.
    Connect(connect::Arguments),
    /// Keep what a client needs to know: host, door, and how it opens.
    Profile(profile::Arguments),
    /// Print a token of this minute in hexadecimal, for any tool that sends bytes.
    Code(code::Arguments),
    /// Print a manual page: `toctoc man | man -l -`.
    Man(man::Arguments),
    /// Print what makes a shell complete commands, profiles, doors and keys.
    Completions(completions::Arguments),
    /// Watch it work: two hosts in namespaces, a real door, a real listener.
    #[cfg(feature = "server")]
    Demo(demo::Arguments),
}

/// What a command's exit status says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
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

/// What is done without a command.
#[cfg(feature = "server")]
fn without() -> Command {
    Command::Status(status::Arguments::default())
}

#[cfg(not(feature = "server"))]
fn without() -> Command {
    <Cli as clap::CommandFactory>::command()
        .error(
            clap::error::ErrorKind::MissingSubcommand,
            "a command is needed",
        )
        .exit()
}

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    completions::answer_shell();
    let command = Cli::parse().command.unwrap_or_else(without);
    let answer = match command {
        #[cfg(feature = "server")]
        Command::Check(policy) => check::run(&policy),
        #[cfg(feature = "server")]
        Command::Render(policy) => render::run(&policy),
        #[cfg(feature = "server")]
        Command::Draw(arguments) => draw::run(&arguments),
        #[cfg(feature = "server")]
        Command::Explain(policy) => explain::run(&policy),
        #[cfg(feature = "server")]
        Command::Import(arguments) => import::run(&arguments),
        #[cfg(feature = "server")]
        Command::Apply(policy) => apply::run(&policy),
        #[cfg(feature = "server")]
        Command::Refill(arguments) => refill::run(&arguments),
        #[cfg(feature = "server")]
        Command::Status(arguments) => status::run(&arguments),
        #[cfg(feature = "server")]
        Command::Open(arguments) => by_hand::open(&arguments),
        #[cfg(feature = "server")]
        Command::Close(arguments) => by_hand::close(&arguments),
        #[cfg(feature = "server")]
        Command::Remove(arguments) => remove::run(&arguments),
        Command::Knock(arguments) => knock::run(&arguments),
        Command::Connect(arguments) => connect::run(&arguments),
        #[cfg(feature = "server")]
        Command::Key(arguments) => key::run(&arguments),
        Command::Profile(arguments) => profile::run(&arguments),
        Command::Code(arguments) => code::run(&arguments),
        Command::Man(arguments) => man::run(&arguments, <Cli as clap::CommandFactory>::command()),
        Command::Completions(arguments) => completions::run(&arguments),
        #[cfg(feature = "server")]
        Command::Demo(arguments) => demo::run(&arguments),
    };
    answer.into()
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

fn print(text: &str) -> io::Result<()> {
    let mut stdout = anstream::stdout();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// Prints an error.
fn complain(message: &str) {
    // It may repeat what somebody else wrote.
    let harmless = |c: char| if c.is_control() && c != '\n' { '?' } else { c };
    let message: String = message.chars().map(harmless).collect();
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
