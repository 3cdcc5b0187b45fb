//! `toctoc explain`

use std::io::{self, BufRead, IsTerminal};
use std::time::Duration;

use super::{Answer, PolicyAlone, complain, heard, now, policy, say};
use crate::automaton::Automaton;
use crate::trace::explain;
use crate::trace::parse_line;
use crate::trace::run::Run;

/// Longer lines are no traces.
const LONGEST_LINE: usize = 1000;

/// A trace that begins later than this counts from 1970, as captures do; others begin now.
const SINCE_1970: Duration = Duration::from_secs(100_000_000);

pub(super) fn run(file: &PolicyAlone) -> Answer {
    let policy = match policy(&file.as_written()) {
        Ok(policy) => policy,
        Err(answer) => return answer,
    };
    let automaton = Automaton::build(policy.sequences());
    let mut run = Run::new(&policy, &automaton, now());
    let mut first = true;
    if io::stdin().is_terminal() {
        complain("reading lines of `seconds source port[/udp]` until end of input (Ctrl-D)");
    }
    let mut at = Duration::ZERO;
    for (number, line) in io::stdin().lock().lines().enumerate() {
        let line = match line {
            Ok(line) if line.len() <= LONGEST_LINE => line,
            Ok(_) => return wrong(number, "", 0, "this line is too long for a trace"),
            Err(error) => return wrong(number, "", 0, &format!("cannot be read: {error}")),
        };
        let packet = match parse_line(&line) {
            Ok(Some(packet)) => packet,
            Ok(None) => continue,
            Err(error) => return wrong(number, &line, error.column, &error.message),
        };
        if packet.at < at {
            return wrong(
                number,
                &line,
                0,
                "time goes back here; lines are in the order of time",
            );
        }
        if std::mem::take(&mut first) && packet.at >= SINCE_1970 {
            run = Run::new(&policy, &automaton, 0);
        }
        at = packet.at;
        let meaning = run.packet(packet);
        let sentence = explain::sentence(&policy, &automaton, &packet, &meaning);
        if !heard(&format!("{sentence}\n")) {
            return Answer::Yes;
        }
    }
    say(&explain::grants(&policy, &run, at));
    Answer::Yes
}

fn wrong(number: usize, line: &str, column: usize, message: &str) -> Answer {
    let mut text = format!("standard input, line {}: {message}", number + 1);
    if !line.is_empty() {
        let shown: String = line
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        let before = line.get(..column).unwrap_or_default().chars().count();
        text.push_str(&format!("\n  {shown}\n  {}^", " ".repeat(before)));
    }
    complain(&text);
    Answer::CouldNot
}
