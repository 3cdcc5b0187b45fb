//! The passphrase of a page, from the terminal or from standard input: never from the command line.

use std::io::{self, BufRead, IsTerminal, Write};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use crate::client::page::{Passphrase, Random};

/// Asks for a new passphrase: twice on a terminal, where it is not shown; else the first line is taken.
///
/// # Errors
/// A sentence.
pub(super) fn ask() -> Result<Passphrase, String> {
    let asked = io::stdin().is_terminal();
    let first = line("passphrase for the page: ", asked)?;
    if asked && line("the same again: ", asked)? != first {
        return Err("the two are not the same".to_string());
    }
    Passphrase::new(first)
}

/// Random bytes for one page.
///
/// # Errors
/// A sentence, when there are none.
pub(super) fn random() -> Result<Random, String> {
    let mut random = Random {
        salt: [0; 16],
        nonce: [0; 12],
    };
    let filled =
        getrandom::fill(&mut random.salt).and_then(|()| getrandom::fill(&mut random.nonce));
    filled.map_err(|error| format!("no random numbers: {error}"))?;
    Ok(random)
}

fn line(question: &str, asked: bool) -> Result<Zeroizing<String>, String> {
    let failed = |error: io::Error| format!("no passphrase can be read: {error}");
    // Hidden before the question: what is typed by then would be lost.
    let hidden = asked.then(Hidden::begin).transpose().map_err(failed)?;
    if asked {
        let mut terminal = io::stderr();
        let _ = write!(terminal, "{question}").and_then(|()| terminal.flush());
    }
    let mut line = Zeroizing::new(String::with_capacity(1024));
    io::stdin().lock().read_line(&mut line).map_err(failed)?;
    drop(hidden);
    Ok(Zeroizing::new(
        line.trim_end_matches(['\r', '\n']).to_string(),
    ))
}

/// A terminal that does not show what is typed, until this is dropped.
struct Hidden(Termios);

impl Hidden {
    fn begin() -> io::Result<Hidden> {
        let before = tcgetattr(io::stdin())?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(io::stdin(), OptionalActions::Flush, &silent)?;
        Ok(Hidden(before))
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &self.0);
        eprintln!();
    }
}
