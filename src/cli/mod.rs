//! The command line: one file for each command. Commands read arguments, call the library and print;
//! they decide nothing.

mod code;
mod completions;
mod connect;
mod help;
mod knock;
mod man;
mod passphrase;
mod profile;
mod qr;
#[cfg(feature = "server")]
mod server;

// What the program of the fleet has in common with this one.
#[cfg(feature = "server")]
pub use server::{POLICY, fleet, policy_at};

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::errno::without_numbers;

/// Port knocking in the kernel's own firewall, with nothing left running.
#[derive(Parser)]
#[command(
    name = "toctoc",
    version,
    after_help = "Exit status: 0 yes, 1 no (errors, a difference, a shut door), 2 could not."
)]
struct Cli {
    // Without a command: status.
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    #[cfg(feature = "server")]
    #[command(flatten)]
    Server(server::Command),
    /// Knock at a host, and see whether the door opened.
    Knock(knock::Arguments),
    /// Knock, then pass on bytes through the door (ProxyCommand of ssh).
    Connect(connect::Arguments),
    /// Keep what a client needs to know: host, door, and how it opens.
    Profile(profile::Arguments),
    /// Print a token or signed datagram in hexadecimal, for other tools.
    Code(code::Arguments),
    /// Print a manual page: `toctoc man | man -l -`.
    Man(man::Arguments),
    /// Print the completions of a shell.
    Completions(completions::Arguments),
}

/// The meaning of an exit status.
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

/// The command where none is named.
#[cfg(feature = "server")]
fn without() -> Command {
    Command::Server(server::without())
}

#[cfg(not(feature = "server"))]
fn without() -> Command {
    Cli::command()
        .error(
            clap::error::ErrorKind::MissingSubcommand,
            "a command is needed",
        )
        .exit()
}

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    completions::answer_shell();
    let matches = help::grouped(Cli::command()).get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let command = cli.command.unwrap_or_else(without);
    let answer = match command {
        #[cfg(feature = "server")]
        Command::Server(command) => server::run(&command),
        Command::Knock(arguments) => knock::run(&arguments),
        Command::Connect(arguments) => connect::run(&arguments),
        Command::Profile(arguments) => profile::run(&arguments),
        Command::Code(arguments) => code::run(&arguments),
        Command::Man(arguments) => man::run(&arguments, Cli::command()),
        Command::Completions(arguments) => completions::run(&arguments),
    };
    answer.into()
}

/// Prints to standard output. When nobody reads it any more, that is no error and changes no answer.
pub fn say(text: &str) {
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
pub fn complain(message: &str) {
    // It may repeat what somebody else wrote.
    let harmless = |c: char| if c.is_control() && c != '\n' { '?' } else { c };
    let message: String = without_numbers(message).chars().map(harmless).collect();
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
